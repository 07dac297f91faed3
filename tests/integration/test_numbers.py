"""The numbers of whole runs against the same numbers computed here, from predictions and labels alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from integration_helpers import Frame, Workspace, fingerprints, make_frames, predictions

ADSORBATE = {"O": "gas_O", "H": "gas_H"}
N_SYSTEMS, N_TRAINING = 26, 10


def slab_data():
    """Return training and test frames, references, and which references each system uses.

    The frames are slabs with an adsorbate, and for training clean slabs too, so that every element's energy is
    determined. The two lower layers are fixed, and their forces are large: whoever counts them sees it.
    """
    rng = np.random.default_rng(21)
    layers = [np.array([[1.0, 1.0, z], [4.0, 1.0, z], [1.0, 4.0, z], [4.0, 4.0, z]]) for z in (1.0, 3.5, 6.0)]
    slab_positions = np.concatenate(layers)
    training, test, references, systems = [], [], [], {}
    for adsorbate, gas in ADSORBATE.items():
        positions = np.full((1, 3), 6.0)
        references.append(Frame([adsorbate], positions, float(rng.normal(-3, 1)), np.zeros((1, 3)), info={"sid": gas}))
    for system in range(N_SYSTEMS):
        metals = [str(metal) for metal in rng.choice(["Cu", "Pd"], 12)]
        positions = slab_positions + rng.normal(0, 0.1, (12, 3))
        energy = float(rng.normal(-40, 2))
        clean = Frame(metals, positions, energy, rng.normal(0, 1, (12, 3)), info={"sid": f"slab{system}"})
        references.append(clean)
        if system < N_TRAINING:
            info = {"sid": f"sys{system}", "fid": 9}
            training.append(Frame(metals, positions, energy + 0.1, rng.normal(0, 1, (12, 3)), info=info))
        adsorbate = str(rng.choice(sorted(ADSORBATE)))
        systems[f"sys{system}"] = {f"slab{system}": 1.0, ADSORBATE[adsorbate]: 0.5}
        for frame in range(2):
            shaken = np.concatenate([positions, [[2.5, 2.5, 7.5]]]) + rng.normal(0, 0.05, (13, 3))
            forces = rng.normal(0, 0.5, (13, 3))
            movable = np.arange(13) >= 8
            forces[~movable] *= 100
            info = {"sid": f"sys{system}", "fid": frame}
            total = energy + float(rng.normal(-4, 0.5))
            made = Frame([*metals, adsorbate], shaken, total, forces, movable, info)
            (training if system < N_TRAINING else test).append(made)
    return training, test, references, systems


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of three models over slabs, with a shift and own references."""
    workspace = Workspace(tmp_path_factory.mktemp("slabs"))
    training, test, references, systems = slab_data()
    workspace.write_frames("train", training)
    workspace.write_frames("test", test)
    workspace.write_frames("references", references)
    (workspace.data / "map.json").write_text(json.dumps({"systems": systems}))
    keys = {"energy": "energy", "forces": "forces", "cluster": "sid"}
    splits = {name: {"files": [f"{name}.extxyz"], "keys": {**keys, "id": ["sid", "fid"]}} for name in ("train", "test")}
    splits["references"] = {"files": ["references.extxyz"], "keys": {**keys, "id": "sid"}}
    workspace.entry(
        keys=keys, splits=splits, free_atoms_only=True, references={"split": "references", "map": "map.json"}
    )
    spring = workspace.card("spring", "SpringAdapter", kwargs={"stiffness": 0.3}, capabilities={"stress": True})
    energy = [{"shift": "per_element", "fit": "train"}]
    suite = workspace.suite([spring, "composition", "lj"], dataset={"energy": energy})
    workspace.ok("run", suite, "--trust")
    return workspace, training, test, references, systems


MODELS = ["spring", "composition", "lj"]


def values_of(workspace, model):
    path = workspace.runs()[model] / "metrics.json"
    return {record["metric"]: record for record in json.loads(path.read_text())["metrics"]}


def composition_of(frames):
    elements = sorted({symbol for frame in frames for symbol in frame.symbols})
    return np.array([[frame.symbols.count(element) for element in elements] for frame in frames], dtype=float)


@pytest.mark.parametrize("model", MODELS)
def test_force_metrics_count_free_atoms_alone(run, model):
    workspace, _, frames, _, _ = run
    rows = predictions(workspace.runs()[model])
    assert rows["state"] == ["ok"] * len(frames)
    predicted = np.concatenate([np.reshape(row, (-1, 3)) for row in rows["forces"]]).astype(float)
    labels = np.concatenate([frame.forces for frame in frames])
    free = np.concatenate([frame.movable for frame in frames])
    error = (predicted - labels)[free]
    cosines = [
        (a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)) if np.linalg.norm(a) > 0 else 0.0
        for a, b in zip(predicted[free], labels[free], strict=True)
    ]
    sizes = np.linalg.norm(predicted[free], axis=1) - np.linalg.norm(labels[free], axis=1)
    expected = {
        "forces_mae": np.abs(error).mean(),
        "forces_rmse": np.sqrt((error**2).mean()),
        "forces_cosine_similarity": np.mean(cosines),
        "forces_magnitude_error": np.abs(sizes).mean(),
    }
    found = values_of(workspace, model)
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-9, abs=1e-12), name
        assert (found[name]["n"], found[name]["status"]) == (len(frames), "ok")
        assert found[name]["n_clusters"] == len({frame.info["sid"] for frame in frames})
        assert found[name]["ci_low"] <= value <= found[name]["ci_high"]


@pytest.mark.parametrize("model", MODELS)
def test_energies_are_compared_after_the_shift_fitted_on_the_training_split(run, model):
    workspace, training, frames, _, _ = run
    directory = workspace.runs()[model]
    fit = np.array(predictions(directory, "train")["energy"])
    shift, *_ = np.linalg.lstsq(composition_of(training), np.array([f.energy for f in training]) - fit, rcond=None)
    predicted = np.array(predictions(directory)["energy"]) + composition_of(frames) @ shift
    error = predicted - np.array([frame.energy for frame in frames])
    sizes = np.array([len(frame.symbols) for frame in frames])
    expected = {
        "energy_mae": np.abs(error).mean(),
        "energy_rmse": np.sqrt((error**2).mean()),
        "energy_per_atom_mae": np.abs(error / sizes).mean(),
    }
    found = values_of(workspace, model)
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-7), name
        assert found[name]["conversion"] == "per-element shift fitted on train"
    stored = json.loads((directory / "conversions/toy.json").read_text())
    np.testing.assert_allclose(
        [stored["ev_per_atom"][name] for name in sorted(stored["ev_per_atom"])], shift, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("model", MODELS)
def test_adsorption_energies_are_formed_from_the_models_own_references(run, model):
    workspace, _, frames, references, systems = run
    directory = workspace.runs()[model]
    rows = predictions(directory, "references")
    predicted = dict(zip(rows["id"], rows["energy"], strict=True))
    labels = {frame.info["sid"]: frame.energy for frame in references}
    assert all(energy is not None for energy in predicted.values())
    errors = []
    for frame, energy in zip(frames, predictions(directory)["energy"], strict=True):
        terms = systems[frame.info["sid"]]
        by_model = energy - sum(factor * predicted[name] for name, factor in terms.items())
        by_label = frame.energy - sum(factor * labels[name] for name, factor in terms.items())
        errors.append(abs(by_model - by_label))
    found = values_of(workspace, model)["adsorption_energy_mae_self"]
    assert found["n"] == len(errors)
    assert found["conversion"] is None
    assert found["value"] == pytest.approx(np.mean(errors), rel=1e-9)


def test_predictions_of_the_springs_are_those_of_the_formula(run):
    workspace, _, frames, _, _ = run
    rows = predictions(workspace.runs()["spring"])
    assert rows["id"] == [f"{frame.info['sid']}_{frame.info['fid']}" for frame in frames]
    for frame, energy, forces in zip(frames, rows["energy"], rows["forces"], strict=True):
        arms = frame.positions - frame.positions.mean(axis=0)
        assert energy == pytest.approx(0.15 * (arms**2).sum(), rel=1e-12)
        np.testing.assert_allclose(np.reshape(forces, (-1, 3)), -0.3 * arms, rtol=1e-6, atol=1e-7)


def test_the_composition_floor_is_least_squares_with_zero_forces(run):
    workspace, training, frames, _, _ = run
    rows = predictions(workspace.runs()["composition"])
    energies, *_ = np.linalg.lstsq(composition_of(training), np.array([f.energy for f in training]), rcond=None)
    np.testing.assert_allclose(rows["energy"], composition_of(frames) @ energies, rtol=1e-8)
    assert not any(value for forces in rows["forces"] for value in forces)


def test_without_a_list_in_the_suite_the_metrics_are_all_that_the_labels_allow(run):
    found = values_of(run[0], "spring")
    assert found.keys() == {
        "energy_mae",
        "energy_rmse",
        "energy_per_atom_mae",
        "energy_per_atom_rmse",
        "forces_mae",
        "forces_rmse",
        "forces_cosine_similarity",
        "forces_magnitude_error",
        "energy_forces_within_threshold",
        "adsorption_energy_mae_self",
        "relative_energy_mae",
    }


@pytest.mark.parametrize("model", MODELS)
def test_score_rebuilds_the_very_same_files(run, model):
    workspace = run[0]
    directory = workspace.runs()[model]
    before = fingerprints(directory)
    assert "scores/s2ef/toy/test.parquet" in before
    (directory / "metrics.json").write_text("{}")
    (directory / "scores/s2ef/toy/test.parquet").unlink()
    done = workspace.ok("score", directory, "--json")
    assert fingerprints(directory) == before
    (content,) = json.loads(done.stdout)
    assert content["metrics"] == json.loads((directory / "metrics.json").read_text())["metrics"]


def test_a_report_of_copied_records_equals_that_of_the_runs(run, tmp_path):
    workspace = run[0]
    elsewhere = Workspace(tmp_path)
    for model, directory in workspace.runs().items():
        target = tmp_path / "results/records/toys" / model / directory.name
        for source in [directory / "manifest.json", directory / "metrics.json", *directory.glob("scores/**/*.parquet")]:
            copy = target / source.relative_to(directory)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    done = elsewhere.ok("report")
    assert done.stdout.split() == [f"results/leaderboard.{kind}" for kind in ("csv", "md", "html", "tex")]
    for name in ("leaderboard.csv", "leaderboard.md"):
        own = (workspace.results / "runs/toys" / name).read_bytes()
        assert (tmp_path / "results" / name).read_bytes() == own
    again = elsewhere.ok("report", "results/records", "--output", "out", "--json")
    assert len(json.loads(again.stdout)["runs"]) == len(MODELS)
    assert (tmp_path / "out/leaderboard.md").read_bytes() == (tmp_path / "results/leaderboard.md").read_bytes()


def test_the_leaderboard_holds_the_numbers_of_the_metrics(run):
    workspace = run[0]
    text = (workspace.results / "runs/toys/leaderboard.md").read_text()
    for model in MODELS:
        value = values_of(workspace, model)["forces_mae"]["value"]
        section = text.split("### Force MAE (meV/Å)")[1].split("###")[0]
        (row,) = [line for line in section.splitlines() if line.startswith(f"| {model}")]
        assert f"{1000 * value:.0f} [" in row
    assert "metric,value" in (workspace.results / "runs/toys/leaderboard.csv").read_text().splitlines()[0]


def test_seeds_and_limits_are_runs_of_their_own(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.write_frames("train", make_frames(20, seed=1))
    workspace.write_frames("test", make_frames(20, seed=2))
    workspace.entry()
    suite = workspace.suite(["composition"], seeds=[0, 7])
    workspace.ok("run", suite)
    first, second = sorted((workspace.results / "runs/toys/composition").iterdir())
    assert fingerprints(first) == fingerprints(second)  # nothing is drawn at random
    seeds = [json.loads((run / "manifest.json").read_text())["seed"] for run in (first, second)]
    assert seeds == [0, 7]
    done = workspace.ok("run", suite, "--limit", "5", "--json")
    counts = {metric["metric"]: metric["n"] for run in json.loads(done.stdout)["runs"] for metric in run["metrics"]}
    assert counts.pop("relative_energy_mae") == 0  # no two of them have cluster and composition in common
    assert set(counts.values()) == {5}
