"""Relaxations from suite to table, on springs whose relaxed state is known: honest models, liars and kills."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase import Atoms, optimize
from ase.build import add_adsorbate, fcc100, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import write
from integration_helpers import BOX, Workspace, fingerprints, ledger_batches

N_TEST = 16
ODD = (3, 9)  # structures that hold xenon, at which liars lie
XENON = 54
SHIFTS = (0.0, 0.1005, 0.2005, 0.3005)  # Å, of the reference from the true relaxed place
ABOVE = (490, 399, 299, 199)  # thresholds of 0.010, 0.011 ... 0.499 above these
ENERGY_ERRORS = (0.015, -0.03)  # eV, of the true relaxed energy from the reference
PARAMETERS = {"fmax": 1e-5, "steps": 60, "maxstep": 0.5}


def relaxed_state(atoms: Atoms) -> tuple[np.ndarray, float]:
    """Return where springs to the centroid pull the free atoms to, and the energy there, for k = 1 eV/Å².

    E = 1/2 Σ|r - mean(r)|² is smallest where every free atom is at the mean of the fixed ones, and then their own
    scatter is left.
    """
    fixed = atoms.positions[atoms.constraints[0].index]
    places = np.array(atoms.positions)
    places[[i for i in range(len(atoms)) if i not in atoms.constraints[0].index]] = fixed.mean(axis=0)
    return places, 0.5 * float(((fixed - fixed.mean(axis=0)) ** 2).sum())


def frames() -> list[Atoms]:
    """Return structures of four to six atoms, two of them fixed, with a reference off by known amounts."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(N_TEST):
        size = int(rng.integers(4, 7))
        symbols = ["Xe" if number in ODD else "Cu", *rng.choice(["Cu", "O"], size - 1)]
        atoms = Atoms(symbols, positions=rng.uniform(4, 8, (size, 3)).round(6), cell=np.eye(3) * BOX, pbc=True)
        atoms.set_constraint(FixAtoms(indices=[1, 3]))
        places, energy = relaxed_state(atoms)
        free = [i for i in range(size) if i not in (1, 3)]
        places[free] += [SHIFTS[number % 4], 0.0, 0.0]
        places[free[0]] += [BOX, 0.0, -BOX]  # a reference may be wrapped into the cell differently
        atoms.arrays["relaxed"] = places
        arms = atoms.positions - atoms.positions.mean(axis=0)
        atoms.info = {"sid": f"s{number}", "energy": 0.5 * float((arms**2).sum())}
        atoms.info["relaxed_energy"] = energy - ENERGY_ERRORS[number % 2]
        made.append(atoms)
    return made


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(tmp_path)
    write(made.data / "test.extxyz", frames(), columns=["symbols", "positions", "relaxed", "move_mask"])
    write(made.data / "train.extxyz", frames()[:8], columns=["symbols", "positions", "relaxed", "move_mask"])
    keys = {"energy": "energy", "forces": None, "cluster": "sid", "id": "sid"}
    keys |= {"relaxed_energy": "relaxed_energy", "relaxed_positions": "relaxed"}
    made.entry(level_of_theory="springs", keys=keys)
    return made


def suite_of(workspace, models, **changes):
    return workspace.suite(models, tasks={"relaxation": PARAMETERS | changes.pop("task", {})}, **changes)


def rows_of(run, split="test"):
    return pq.read_table(run / f"predictions/relaxation/toy/{split}.parquet").to_pydict()


def metrics_of(run):
    found = json.loads((run / "metrics.json").read_text())["metrics"]
    return {metric["metric"]: metric for metric in found}


def test_springs_end_where_they_must_and_every_metric_is_that_of_a_hand_computation(workspace):
    suite = suite_of(workspace, [workspace.card("spring", "SpringAdapter")])
    done = workspace.ok("run", suite, "--trust", "--display", "none")
    run = workspace.runs()["spring"]
    rows = rows_of(run)
    assert rows["converged"] == [True] * N_TEST
    assert all(0 < steps <= 60 for steps in rows["steps"])
    assert all(fmax < 1e-5 for fmax in rows["fmax"])
    for atoms, positions, energy in zip(frames(), rows["positions"], rows["energy"], strict=True):
        places, lowest = relaxed_state(atoms)
        np.testing.assert_allclose(np.reshape(positions, (-1, 3)), places, rtol=0, atol=1e-4)
        assert energy == pytest.approx(lowest, abs=1e-8)
    found = metrics_of(run)
    assert found["energy_mae"]["value"] == pytest.approx(np.mean(np.abs(ENERGY_ERRORS)), abs=1e-6)
    assert found["energy_mse"]["value"] == pytest.approx(np.mean(np.square(ENERGY_ERRORS)), abs=1e-6)
    assert found["energy_within_threshold"]["value"] == 0.5
    assert found["average_distance_within_threshold"]["value"] == pytest.approx(np.mean(ABOVE) / 490, abs=1e-12)
    assert found["positions_mae"]["value"] == pytest.approx(expected_positions_mae(), abs=1e-4)
    assert found["converged"]["value"] == 1.0
    assert found["steps"]["value"] == pytest.approx(np.mean(rows["steps"]))
    for name in ("energy_mae", "average_distance_within_threshold", "positions_mae", "steps"):
        assert found[name]["ci_low"] <= found[name]["value"] <= found[name]["ci_high"]
        assert (found[name]["n"], found[name]["n_clusters"]) == (N_TEST, N_TEST)
    assert "ADwT" in done.stdout
    assert "toy: relaxation" in done.stdout

    metrics = (run / "metrics.json").read_bytes()
    scores = (run / "scores/relaxation/toy/test.parquet").read_bytes()
    (run / "metrics.json").unlink()
    workspace.ok("score", run)
    assert (run / "metrics.json").read_bytes() == metrics
    assert (run / "scores/relaxation/toy/test.parquet").read_bytes() == scores


def expected_positions_mae():
    free = [len(atoms) - 2 for atoms in frames()]
    moved = sum(SHIFTS[number % 4] * count for number, count in enumerate(free))
    return moved / (3 * sum(free))


def test_steps_that_run_out_are_rows_and_lower_the_share_that_converged(workspace):
    suite = suite_of(workspace, [workspace.card("spring", "SpringAdapter")], task={"steps": 3, "maxstep": 0.01})
    workspace.ok("run", suite, "--trust", "--display", "none")
    run = workspace.runs()["spring"]
    rows = rows_of(run)
    assert (rows["state"], rows["converged"]) == (["ok"] * N_TEST, [False] * N_TEST)
    assert rows["steps"] == [3] * N_TEST
    found = metrics_of(run)
    assert (found["converged"]["value"], found["converged"]["n"]) == (0.0, N_TEST)
    assert found["energy_mae"]["n"] == N_TEST


LIARS = {
    "nan": ("NaNAdapter", {}, "non-finite forces"),
    "crasher": ("CrashAdapter", {}, "worker killed by SIGSEGV"),
    "raiser": ("RaiseAdapter", {}, f"RuntimeError: no parameters for element {XENON}"),
}


def test_liars_fail_at_the_structures_to_blame_and_nowhere_else(workspace):
    cards = {name: workspace.card(name, adapter, kwargs={"element": XENON}) for name, (adapter, _, _) in LIARS.items()}
    order = workspace.card("order", "WrongOrderAdapter")
    done = workspace.cli(
        "run", suite_of(workspace, [*cards.values(), order, workspace.card("good", "SpringAdapter")]), "--trust"
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stdout + done.stderr
    runs = workspace.runs()
    good = rows_of(runs["good"])
    for name, (_, _, reason) in LIARS.items():
        rows = rows_of(runs[name])
        assert [i for i, state in enumerate(rows["state"]) if state == "failed"] == list(ODD)
        assert [rows["reason"][i] for i in ODD] == [reason, reason]
        for column in ("energy", "positions", "steps", "converged", "fmax"):
            assert [rows[column][i] for i in ODD] == [None, None]
        for i in (i for i in range(N_TEST) if i not in ODD):
            np.testing.assert_allclose(rows["positions"][i], good["positions"][i], rtol=0, atol=1e-9)
        found = metrics_of(runs[name])
        assert {(metric["status"], metric["n"], metric["n_failed"]) for metric in found.values()} == {
            ("partial", N_TEST - len(ODD), len(ODD))
        }
    assert rows_of(runs["order"])["state"] == ["failed"] * N_TEST
    assert "alone and in a batch" in rows_of(runs["order"])["reason"][0]


def test_what_cannot_be_compared_says_why(workspace):
    other = {"level_of_theory": "PBE"}
    adsorption = {"energy_reference": "adsorption"}
    cards = [
        workspace.card("other", "SpringAdapter", capabilities=other),
        workspace.card("adsorption", "SpringAdapter", capabilities=adsorption),
    ]
    workspace.ok("run", suite_of(workspace, cards), "--trust", "--display", "none")
    runs = workspace.runs()
    for name, words in (("other", "energies are at PBE"), ("adsorption", "energies are adsorption, the labels' total")):
        found = metrics_of(runs[name])
        for metric in ("energy_mae", "energy_mse", "energy_within_threshold"):
            assert (found[metric]["status"], found[metric]["value"]) == ("not_applicable", None)
            assert words in found[metric]["reason"]
        assert found["average_distance_within_threshold"]["value"] == pytest.approx(np.mean(ABOVE) / 490)


def test_the_floor_moves_nothing(workspace):
    workspace.ok("run", suite_of(workspace, ["composition"]), "--display", "none")
    run = workspace.runs()["composition"]
    assert rows_of(run)["steps"] == [0] * N_TEST
    for atoms, positions in zip(frames(), rows_of(run)["positions"], strict=True):
        np.testing.assert_allclose(np.reshape(positions, (-1, 3)), atoms.positions, rtol=0, atol=1e-12)


def test_a_shift_is_fitted_on_structures_as_they_are_and_added_to_relaxed_energies(workspace):
    card = workspace.card("off", "SpringAdapter", capabilities={"level_of_theory": "PBE"})
    suite = suite_of(workspace, [card], dataset={"energy": [{"shift": "per_element"}]})
    workspace.ok("run", suite, "--trust", "--display", "none")
    run = workspace.runs()["off"]
    assert (run / "predictions/s2ef/toy/train.parquet").exists()
    found = metrics_of(run)["energy_mae"]
    # the labels of the fit are the very energies of the springs, so that the shift is zero
    assert found["value"] == pytest.approx(np.mean(np.abs(ENERGY_ERRORS)), abs=1e-6)
    assert found["conversion"] == "per-element shift fitted on train"


def test_a_killed_run_resumes_and_ends_in_the_same_bytes(workspace):
    suite = suite_of(workspace, [workspace.card("slow", "SlowAdapter", kwargs={"seconds": 0.05})])
    command = ["run", suite, "--trust", "--display", "none"]
    workspace.ok(*command, "--results", "whole")
    expected = fingerprints(workspace.runs(results=workspace.root / "whole")["slow"])
    process = workspace.start(*command)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ledgers = list(workspace.results.rglob("*.ledger"))
        if ledgers and ledger_batches(ledgers[0]) >= 1:
            break
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(workspace.results.rglob("*.ledger"))
    workspace.ok(*command)
    assert fingerprints(workspace.runs()["slow"]) == expected


def test_both_tasks_stand_in_tables_of_their_own(workspace):
    tasks = {"s2ef": {"metrics": ["energy_mae"]}, "relaxation": PARAMETERS | {"metrics": ["energy_mae", "steps"]}}
    cards = [workspace.card("spring", "SpringAdapter"), workspace.card("nan", "NaNAdapter", kwargs={"element": XENON})]
    done = workspace.cli("run", workspace.suite(cards, tasks=tasks), "--trust", "--display", "none")
    assert done.returncode == 3
    # without labels of forces s2ef asks for energies alone, which this liar tells
    assert done.stderr == "mlipbench: nan: toy/test (relaxation): partial: non-finite forces\n"
    run = workspace.runs()["spring"]
    found = {
        (metric["task"], metric["metric"]): metric
        for metric in json.loads((run / "metrics.json").read_text())["metrics"]
    }
    assert found["s2ef", "energy_mae"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert found["relaxation", "energy_mae"]["value"] == pytest.approx(np.mean(np.abs(ENERGY_ERRORS)), abs=1e-6)
    assert len({metric["comparability_key"] for metric in found.values()}) == 3
    assert "toy: s2ef" in done.stdout
    assert "toy: relaxation" in done.stdout
    timings = pq.read_table(run / "timings.parquet").to_pydict()
    assert sorted(set(timings["task"])) == ["relaxation", "s2ef"]


def test_other_parameters_give_other_keys(workspace):
    keys = []
    for fmax in (1e-5, 1e-4):
        suite = suite_of(workspace, [workspace.card("spring", "SpringAdapter")], task={"fmax": fmax})
        workspace.ok("run", suite, "--trust", "--display", "none", "--results", str(fmax))
        (run,) = workspace.runs(results=workspace.root / str(fmax)).values()
        keys.append(metrics_of(run)["average_distance_within_threshold"]["comparability_key"])
    assert keys[0] != keys[1]


def test_the_shipped_suite_does_with_emt_what_a_few_lines_of_ase_do(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.ok("run", "relaxation", "--models", "emt", "--display", "none")
    (run,) = workspace.runs("relaxation").values()
    rows = pq.read_table(run / "predictions/relaxation/mini-slabs/co_cu100.parquet").to_pylist()
    slab = fcc100("Cu", (3, 3, 3), vacuum=8, periodic=True)
    add_adsorbate(slab, molecule("CO"), 2.0, "bridge")
    slab.calc = EMT()
    optimizer = optimize.LBFGS(slab, logfile=None)
    assert optimizer.run(0.05, 100)
    assert [(row["steps"], row["converged"]) for row in rows] == [(optimizer.nsteps, True)]
    np.testing.assert_allclose(np.reshape(rows[0]["positions"], (-1, 3)), slab.positions, rtol=0, atol=1e-6)
    assert rows[0]["energy"] == pytest.approx(slab.get_potential_energy(), abs=1e-6)
    found = metrics_of(run)
    assert set(found) == {"converged", "steps", "adsorbate_height"}
    height = slab.positions[28, 2] - slab.positions[18:27, 2].mean()  # carbon above the top layer
    assert found["adsorbate_height"]["value"] == pytest.approx(height, abs=1e-6)
