"""Scoring of run directories that are made by hand, against loops over the same numbers."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase.constraints import FixAtoms
from fake_runs import Fake, make_run
from plan_world import crystals

from mlipbench.errors import DatasetError, ResultsError
from mlipbench.scoring import score_run
from mlipbench.status import Status
from mlipbench.store.distributions import read_distributions

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms
    from plan_world import World

    from mlipbench.store.records import MetricRecord


def metric(records: list[MetricRecord], name: str, split: str = "val") -> MetricRecord:
    (found,) = [record for record in records if (record.metric, record.split) == (name, split)]
    return found


@pytest.fixture
def model(world: World) -> World:
    world.use_card()
    return world


def test_energy_errors_are_averaged_as_by_hand(model: World) -> None:
    run = make_run(model, Fake(energy={"val": [0.1, -0.2, 0.3, 0.0, -0.5]}))
    records = score_run(run, model.location)
    assert metric(records, "energy_mae").value == pytest.approx(1.1 / 5)
    assert metric(records, "energy_rmse").value == pytest.approx(np.sqrt((0.01 + 0.04 + 0.09 + 0.25) / 5))
    assert metric(records, "energy_per_atom_mae").value == pytest.approx(1.1 / 10)
    assert metric(records, "forces_mae").value == pytest.approx(0.25, abs=1e-6)
    found = metric(records, "energy_mae")
    assert (found.n, found.n_failed, found.status, found.unit) == (5, 0, Status.OK, "eV")


@pytest.mark.parametrize("free_only", [True, False])
def test_force_errors_of_free_atoms_are_those_of_a_loop(model: World, *, free_only: bool) -> None:
    model.entry["free_atoms_only"] = free_only
    frames: list[Atoms] = crystals(9, seed=4, symbols="MgO2")
    for i, atoms in enumerate(frames[:-1]):
        atoms.set_constraint(FixAtoms(indices=sorted({i % 3, 2})))
    model.write("val", frames)
    run = make_run(model, Fake(forces=0.5))
    stored = pq.read_table(run / "predictions/s2ef/toy/val.parquet")["forces"].to_pylist()
    total, count, magnitudes = 0.0, 0, []
    for atoms, flat in zip(frames, stored, strict=True):
        labels = np.round(atoms.calc.results["forces"], 8)  # as extxyz writes them
        fixed = set(atoms.constraints[0].index) if atoms.constraints and free_only else set()
        for atom in range(3):
            if atom not in fixed:
                predicted = np.array(flat[3 * atom : 3 * atom + 3])
                total += float(np.abs(predicted - labels[atom]).sum())
                count += 3
                magnitudes.append(abs(np.linalg.norm(predicted) - np.linalg.norm(labels[atom])))
    records = score_run(run, model.location)
    assert metric(records, "forces_mae").value == pytest.approx(total / count, abs=1e-6)
    assert metric(records, "forces_magnitude_error").value == pytest.approx(np.mean(magnitudes), abs=1e-6)
    scores = pq.read_table(run / "scores/s2ef/toy/val.parquet")
    assert sum(scores["n_free"].to_pylist()) * 3 == count


def test_components_of_free_atoms_with_a_prediction_are_kept_for_plots(model: World) -> None:
    model.entry["free_atoms_only"] = True
    frames = labelled(crystals(4, seed=4))
    values = [[0.0, 0.0, 60.0], [1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]
    for atoms, forces in zip(frames, [*values, *values], strict=True):
        atoms.calc.results["forces"] = np.array(forces)
        atoms.set_constraint(FixAtoms(indices=[1]))
    model.write("val", frames)
    run = make_run(model, Fake(forces=49.99, failed={"val": {0: "worker died"}}))
    score_run(run, model.location)
    path = run / "scores/s2ef/toy/val.distributions.json"
    found = read_distributions(path).forces
    assert found is not None
    middle, last = found.bins // 2, found.bins - 1
    # by hand: structure 0 failed; 1 and 3 have three zeros each, 2 two and one component beyond the range
    assert (found.cells, found.counts) == ([middle * found.bins + last], [8])
    assert (found.reference_beyond, found.predicted_beyond) == (1, 0)
    assert json.loads(path.read_text())["schema_version"] == 1


def test_failed_and_declined_structures_are_counted_apart(model: World) -> None:
    fake = Fake({"val": [1.0, 2.0, 3.0, 4.0, 5.0]}, failed={"val": {1: "worker died"}}, declined={"val": {4: "no Xe"}})
    records = score_run(make_run(model, fake), model.location)
    found = metric(records, "energy_mae")
    assert found.value == pytest.approx((1 + 3 + 4) / 3)
    assert (found.n, found.n_failed, found.status) == (3, 1, Status.PARTIAL)
    assert found.reason is not None
    assert "1 of 5 structures failed: worker died" in found.reason
    assert "not applicable to 1 structures: no Xe" in found.reason


def test_declined_structures_alone_are_no_failure(model: World) -> None:
    records = score_run(make_run(model, Fake(declined={"val": {0: "no Xe", 2: "no Xe"}})), model.location)
    found = metric(records, "forces_mae")
    assert (found.n, found.n_failed, found.status) == (3, 0, Status.OK)
    assert found.reason is not None
    assert "not applicable to 2 structures: no Xe" in found.reason


def test_energies_within_clusters_know_no_reference(model: World) -> None:
    frames = crystals(9, seed=8) + crystals(2, seed=9, symbols="MgO2")
    for number, atoms in enumerate(frames):
        atoms.info["sid"] = "abbccddddbb"[number]
    model.write("val", frames)
    model.entry["cluster"] = "key"
    model.entry["splits"] = {"val": {"files": ["val.xyz"]}}
    model.entry["fit_split"] = None
    model.entry["keys"] = {"energy": "energy", "forces": "forces", "cluster": "sid"}
    model.card["capabilities"]["energy_reference"] = "adsorption"  # the energies themselves are not comparable
    #        a    b          c          d                       b, of another composition
    errors = [9.0, 5.0, 5.5, -3.0, 1.0, 0.0, 0.5, 1.0, 40.0, 7.0, 7.25]
    fake = Fake(energy={"val": errors}, failed={"val": {8: "worker died"}})
    records = score_run(make_run(model, fake), model.location)
    assert metric(records, "energy_mae").status is Status.NOT_APPLICABLE
    found = metric(records, "relative_energy_mae")
    # by hand: b 0.25 twice, c 2 twice, d 0.5, 0 and 0.5 about the mean of three, b of MgO2 0.125 twice; a has no other
    assert found.value == pytest.approx((2 * 0.25 + 2 * 2.0 + 2 * 0.5 + 2 * 0.125) / 9)
    assert (found.n, found.status) == (9, Status.PARTIAL)


def test_without_clusters_no_energies_are_relative(model: World) -> None:
    model.suite["tasks"]["s2ef"]["metrics"] = ["relative_energy_mae"]
    found = metric(score_run(make_run(model, Fake()), model.location), "relative_energy_mae")
    assert found.reason == "the structures hold no cluster names"


def test_a_gap_is_the_mean_of_the_other_splits_minus_the_base(model: World) -> None:
    model.write("val", crystals(9, seed=8))
    model.write("refs", crystals(10, seed=9))
    model.entry["gap"] = {"base": "val", "others": ["refs"]}
    model.suite["datasets"]["toy"]["splits"] = ["val", "refs"]
    errors = {"val": [0.1, -0.3] * 4 + [0.2], "refs": [0.5, -0.7] * 5}
    records = score_run(make_run(model, Fake(errors, failed={"refs": {9: "worker died"}})), model.location)
    found, base, other = (metric(records, "energy_mae", split) for split in ("gap", "val", "refs"))
    assert found.value == pytest.approx((5 * 0.5 + 4 * 0.7) / 9 - 1.8 / 9)
    assert (found.n, found.n_clusters, found.n_failed) == (18, 18, 1)
    assert (found.status, found.reason) == (Status.PARTIAL, f"refs: {other.reason}")
    below = np.hypot(other.value - other.ci_low, base.ci_high - base.value)
    above = np.hypot(other.ci_high - other.value, base.value - base.ci_low)
    assert (found.ci_low, found.ci_high) == pytest.approx((found.value - below, found.value + above))
    assert found.comparability_key not in {base.comparability_key, other.comparability_key}


def test_a_gap_without_one_of_its_splits_says_why(model: World) -> None:
    model.entry["gap"] = {"base": "val", "others": ["refs"]}
    model.suite["datasets"]["toy"]["splits"] = ["val", "refs"]
    declined = {"refs": {0: "no Xe", 1: "no Xe"}}
    found = metric(score_run(make_run(model, Fake(declined=declined)), model.location), "forces_mae", "gap")
    assert (found.value, found.status) == (None, Status.NOT_APPLICABLE)
    assert found.reason is not None
    assert found.reason.startswith("refs: no structure has what forces_mae needs")


def test_a_suite_without_all_splits_of_a_gap_has_none(model: World) -> None:
    model.entry["gap"] = {"base": "val", "others": ["refs"]}
    assert {record.split for record in score_run(make_run(model, Fake()), model.location)} == {"val"}


def test_scoring_twice_gives_the_same_bytes(model: World) -> None:
    model.write("val", crystals(12, seed=8))
    run = make_run(model, Fake({"val": list(np.linspace(-1, 2, 12))}))
    first = score_run(run, model.location)
    scores = run / "scores/s2ef/toy"
    files = [run / "metrics.json", scores / "val.parquet", scores / "val.distributions.json"]
    before = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    assert score_run(run, model.location) == first
    assert [path.read_bytes() for path in files] == before
    found = metric(first, "energy_mae")
    assert found.ci_low is not None
    assert found.value is not None
    assert found.ci_high is not None
    assert found.ci_low < found.value < found.ci_high


def test_shift_is_fitted_on_its_split_and_added_to_predictions(model: World) -> None:
    model.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    # every structure is MgO; errors of 3 + -1 on the fit split have the mean 2, which is taken off everywhere
    fake = Fake({"train": [3.0, 1.0, 3.0, 1.0, 3.0, 1.0], "val": [2.0, 2.0, 2.5, 2.0, 2.0]})
    run = make_run(model, fake)
    records = score_run(run, model.location)
    assert metric(records, "energy_mae").value == pytest.approx(0.1)
    assert metric(records, "energy_mae").conversion == "per-element shift fitted on train"
    stored = json.loads((run / "conversions/toy.json").read_text())
    assert stored["ev_per_atom"] == pytest.approx({"O": -1.0, "Mg": -1.0})
    assert (stored["n_structures"], stored["rmse_ev"]) == (6, pytest.approx(1.0))


def test_compositions_outside_the_fitted_span_are_left_out_and_said(model: World) -> None:
    model.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    model.write("val", [*crystals(3, seed=1), *crystals(2, seed=2, symbols="MgO2")])
    records = score_run(make_run(model, Fake({"val": [1.0, 1.0, 1.0, 50.0, 50.0]})), model.location)
    found = metric(records, "energy_mae")
    assert (found.value, found.n) == (pytest.approx(1.0), 3)
    assert found.reason is not None
    assert "the energy shift is not determined for 2 structures, which are left out" in found.reason
    assert metric(records, "forces_mae").n == 5


def test_limited_run_is_scored_on_what_it_took(model: World) -> None:
    # the sample starts 0.637 of a step of 5 / 2 in, so that it takes the second and the last structure
    run = make_run(model, Fake({"val": [100.0, 1.0, 100.0, 100.0, 3.0]}), limit=2)
    assert metric(score_run(run, model.location), "energy_mae").value == pytest.approx(2.0)


def with_references(world: World) -> None:
    """Let every structure of val refer to both structures of refs, with the coefficients 1 and 0.5."""
    world.entry["references"] = {"split": "refs", "map": "refs.json"}
    world.entry["cluster"] = "key"
    world.entry["keys"] |= {"id": "name", "cluster": "system"}
    for split, count in (("train", 6), ("val", 3), ("refs", 2)):
        frames = crystals(count, seed=count)
        for i, atoms in enumerate(frames):
            atoms.info |= {"name": f"{split}{i}", "system": f"sys{i}"}
        world.write(split, frames)
    systems = {f"sys{i}": {"refs0": 1.0, "refs1": 0.5} for i in range(3)}
    (world.folder / "data/refs.json").write_text(json.dumps({"systems": systems}))


def test_adsorption_energies_are_formed_from_the_model_s_own_references(model: World) -> None:
    with_references(model)
    fake = Fake({"val": [0.5, 0.6, 1.0], "refs": [0.2, 0.4]})  # 0.5 - 0.2 - 0.2 and so on
    records = score_run(make_run(model, fake), model.location)
    found = metric(records, "adsorption_energy_mae_self")
    assert found.value == pytest.approx((0.1 + 0.2 + 0.6) / 3)
    assert (found.n, found.status) == (3, Status.OK)


def test_adsorption_energies_of_a_sample_use_the_references_of_its_structures(model: World) -> None:
    with_references(model)
    systems = {"sys0": {"refs0": 1.0}, "sys1": {"refs0": 100.0}, "sys2": {"refs1": 1.0}}
    (model.folder / "data/refs.json").write_text(json.dumps({"systems": systems}))
    fake = Fake({"val": [0.5, 99.0, 1.0], "refs": [0.2, 0.4]})
    # the first and the last, 0.637 and 1.637 steps of 3 / 2
    found = metric(score_run(make_run(model, fake, limit=2), model.location), "adsorption_energy_mae_self")
    assert (found.value, found.n) == (pytest.approx((0.3 + 0.6) / 2), 2)


def test_failed_reference_leaves_no_adsorption_energy_and_says_so(model: World) -> None:
    with_references(model)
    records = score_run(make_run(model, Fake(failed={"refs": {1: "crash"}})), model.location)
    found = metric(records, "adsorption_energy_mae_self")
    assert (found.value, found.n, found.status) == (None, 0, Status.FAILED)
    assert found.reason is not None
    assert "3 structures have no adsorption energy, because a reference has no prediction" in found.reason
    assert metric(records, "energy_mae").status is Status.OK


def test_declined_reference_is_no_failure(model: World) -> None:
    with_references(model)
    records = score_run(make_run(model, Fake(declined={"refs": {1: "no Xe"}})), model.location)
    assert metric(records, "adsorption_energy_mae_self").status is Status.NOT_APPLICABLE


def test_unfinished_run_is_refused(model: World) -> None:
    run = make_run(model, Fake(), status=Status.RUNNING)
    with pytest.raises(ResultsError, match="this run is not finished; give the command that began it again"):
        score_run(run, model.location)


def test_other_data_are_refused(model: World) -> None:
    run = make_run(model, Fake())
    model.write("val", crystals(5, seed=55))
    with pytest.raises(ResultsError, match="the data of toy/val are not those this run was made with"):
        score_run(run, model.location)


def test_another_map_of_references_is_refused(model: World) -> None:
    with_references(model)
    run = make_run(model, Fake())
    path = model.folder / "data/refs.json"
    path.write_text(path.read_text().replace("0.5", "0.25"))
    with pytest.raises(ResultsError, match="the data of toy's references are not those this run was made with"):
        score_run(run, model.location)


def test_predictions_of_other_structures_are_refused(model: World) -> None:
    run = make_run(model, Fake())
    path = run / "predictions/s2ef/toy/val.parquet"
    pq.write_table(pq.read_table(path).slice(0, 4), path)
    with pytest.raises(ResultsError, match="predictions of 4 structures, expected 5"):
        score_run(run, model.location)


def test_missing_predictions_are_refused(model: World) -> None:
    run = make_run(model, Fake())
    (run / "predictions/s2ef/toy/val.parquet").unlink()
    with pytest.raises(ResultsError, match="there is no such file"):
        score_run(run, model.location)


@pytest.mark.chgnet
@pytest.mark.filterwarnings("ignore")
def test_mp2020_correction_is_the_published_one(model: World) -> None:
    pytest.importorskip("pymatgen", reason="pymatgen is not installed")
    from ase.build import bulk

    from mlipbench.scoring.corrections import mp2020_correction

    # Wang et al., Sci. Rep. 11, 15496 (2021): O in oxides -0.687 eV, Fe with a U -2.256 eV; copper is not corrected
    model.write("val", labelled([bulk("MgO", "rocksalt", a=4.2), bulk("FeO", "rocksalt", a=4.3), bulk("Cu")]))
    split = model.plan().datasets["toy"].splits["val"]
    assert mp2020_correction(split, 3) == pytest.approx([-0.687, -0.687 - 2.256, 0.0], abs=1e-6)
    assert mp2020_correction(split, 1) == pytest.approx([-0.687], abs=1e-6)


@pytest.mark.chgnet
@pytest.mark.filterwarnings("ignore")
def test_structure_that_mp2020_does_not_cover_is_named(model: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymatgen", reason="pymatgen is not installed")
    from ase.build import bulk
    from pymatgen.entries import compatibility

    from mlipbench.scoring.corrections import mp2020_correction

    def refuse(*_: object) -> None:
        raise compatibility.CompatibilityError("no such thing")

    monkeypatch.setattr(compatibility.MaterialsProject2020Compatibility, "get_adjustments", refuse)
    model.write("val", labelled([bulk("Cu")]))
    with pytest.raises(DatasetError, match="structure 0: the mp2020 correction does not cover this structure"):
        mp2020_correction(model.plan().datasets["toy"].splits["val"], 1)


def labelled(frames: list[Atoms]) -> list[Atoms]:
    from ase.calculators.singlepoint import SinglePointCalculator

    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=-5.0, forces=np.zeros((len(atoms), 3)))
    return frames


def crossed(model: World, levels: int = 8) -> list[float]:
    """Give the world one frame for each pair of levels, and return energy errors that the first level decides."""
    frames = crystals(levels**2, seed=3)
    for i, atoms in enumerate(frames):
        atoms.info["sid"] = f"s{i}"
    model.write("val", frames)
    model.entry["cluster"] = "key"
    model.entry["splits"] = {"val": {"files": ["val.xyz"]}}
    model.entry["fit_split"] = None
    model.entry["keys"] = {"energy": "energy", "forces": "forces", "cluster": "sid"}
    model.entry["factors"] = {
        "file": "map.pkl",
        "prefix": "random",
        "fields": ["ads_id", "bulk_mpid"],
        "words": "things",
    }
    return [0.1 * (1 + i // levels) for i in range(levels**2)]


def put_map(model: World, levels: int = 8) -> Path:
    systems = {f"randoms{i}": {"ads_id": i // levels, "bulk_mpid": f"mp-{i % levels}"} for i in range(levels**2)}
    path = model.folder / "data/map.pkl"
    path.write_bytes(pickle.dumps(systems))
    return path


def test_an_interval_over_both_factors_stands_beside_the_plain_one(model: World) -> None:
    errors = crossed(model)
    put_map(model)
    found = metric(score_run(make_run(model, Fake(energy={"val": errors})), model.location), "energy_mae")
    assert found.value == pytest.approx(0.45)
    assert found.two_way_low is not None
    # the mean of 8 of the values 0.1 to 0.8, drawn with replacement: 2.5 % and 97.5 % of 200,000 such means
    draws = np.random.default_rng(0).integers(1, 9, (200_000, 8)).mean(axis=1) / 10
    expected = np.quantile(draws, [0.025, 0.975])
    assert [found.two_way_low, found.two_way_high] == pytest.approx(expected, abs=0.02)
    assert found.ci_high - found.ci_low < 0.6 * (found.two_way_high - found.two_way_low)


def test_without_the_map_there_is_the_plain_interval_alone(model: World) -> None:
    errors = crossed(model)
    plain = metric(score_run(make_run(model, Fake(energy={"val": errors})), model.location), "energy_mae")
    assert (plain.two_way_low, plain.two_way_high) == (None, None)
    assert plain.ci_low is not None


def test_few_levels_give_no_interval_over_both(model: World) -> None:
    errors = crossed(model, levels=7)
    put_map(model, levels=7)
    found = metric(score_run(make_run(model, Fake(energy={"val": errors})), model.location), "energy_mae")
    assert (found.two_way_low, found.two_way_high) == (None, None)


def test_a_map_that_is_gone_is_named(model: World) -> None:
    errors = crossed(model)
    path = put_map(model)
    run = make_run(model, Fake(energy={"val": errors}))
    path.unlink()
    with pytest.raises(ResultsError, match="the data of toy's factors are not those this run was made with"):
        score_run(run, model.location)
