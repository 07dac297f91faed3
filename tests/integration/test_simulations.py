"""Simulations from suite to table: known collapses, kills, a full disk, liars, and what cannot begin."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase import Atoms, units
from ase.io import read, write
from integration_helpers import Workspace, fingerprints, ledger_batches, one_error
from test_full_disk import SCRIPT, namespace

LENGTH = 1.0  # Å, of the bond in the reference on average
STRETCH = 0.5  # Å
PARAMETERS = {
    "integrator": "velocity_verlet", "timestep": 1.0, "temperature": 500, "steps": 60, "save_interval": 2,
    "checkpoint_interval": 5, "seeds": [3, 1, 2], "reference": "train", "distribution": "distances", "range": 10.0,
    "bins": 100, "stability": {"criterion": "bonds", "threshold": STRETCH},
}  # fmt: skip


def dimers(n, *, symbols="H2", seed=0):
    """Return dimers whose lengths are 1 Å on average."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(-0.05, 0.05, n)
    made = []
    for number, length in enumerate(LENGTH + spread - spread.mean()):
        atoms = Atoms(symbols, [[0, 0, 0], [length, 0, 0]])
        atoms.info = {"energy": 0.0, "sid": f"s{number}"}
        atoms.arrays["forces"] = np.zeros((2, 3))
        made.append(atoms)
    return made


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(tmp_path)
    write(made.data / "train.extxyz", dimers(40))
    write(made.data / "test.extxyz", dimers(6, seed=1))
    made.entry(pbc=[False] * 3, frame_interval_fs=2.0)
    return made


def suite_of(workspace, models, **changes):
    task = PARAMETERS | changes.pop("task", {})
    return workspace.suite(models, tasks={"md": {name: value for name, value in task.items() if value is not None}})


def simulated(workspace, *models, task=None, code=0):
    """Run a suite and return the directories of the runs by model."""
    suite = suite_of(workspace, list(models), task=task or {})
    done = workspace.cli("run", suite, "--trust", "--display", "none")
    assert done.returncode == code, done.stderr
    return workspace.runs()


def rows_of(run):
    return pq.read_table(run / "predictions/md/toy/test.parquet").to_pydict()


def metrics_of(run):
    return {record["metric"]: record for record in json.loads((run / "metrics.json").read_text())["metrics"]}


def trajectory(run, seed):
    return read(run / f"trajectories/toy/test/seed-{seed}.traj", ":")


def test_without_forces_bonds_break_when_the_first_velocities_say(workspace):
    """Atoms fly straight: |r + v t| is known at every frame, and MDSim's time of stability with it."""
    run = simulated(workspace, workspace.card("null", "NullAdapter"))["null"]
    scores = pq.read_table(run / "scores/md/toy/test.parquet").to_pydict()
    stable = []
    for place, seed in enumerate(PARAMETERS["seeds"]):
        frames = trajectory(run, seed)
        apart = frames[0].positions[1] - frames[0].positions[0]
        speed = frames[0].get_velocities()[1] - frames[0].get_velocities()[0]
        times = np.arange(0, 61, 2) * units.fs
        lengths = np.linalg.norm(apart + np.outer(times, speed), axis=1)
        broken = np.flatnonzero(np.abs(lengths - LENGTH) > STRETCH)
        assert broken.size
        stable.append(broken[0] * 2 / 1000)
        assert len(frames) == broken[0] + 1
        assert scores["stable"][place] == pytest.approx(stable[-1])
        assert scores["failed"][place] == 1
    assert metrics_of(run)["stability"]["value"] == pytest.approx(np.mean(stable))
    assert metrics_of(run)["survived"]["value"] == 0
    rows = rows_of(run)
    assert rows["seed"] == PARAMETERS["seeds"]
    assert all("Å long" in reason for reason in rows["reason"])
    assert "rdf_mae" in metrics_of(run)
    (kept,) = json.loads((run / "scores/md/toy/test.distributions.json").read_text())["pairs"]
    bins = np.linspace(1e-6, 10, 101)
    curves = [
        np.histogram([atoms.get_distance(0, 1) for atoms in trajectory(run, seed)], bins, density=True)[0]
        for seed in PARAMETERS["seeds"]
    ]
    for name, expected in {
        "mean": np.mean(curves, axis=0),
        "low": np.min(curves, 0),
        "high": np.max(curves, 0),
    }.items():
        assert kept[name] == pytest.approx(expected, rel=1e-4, abs=1e-9)
    known = np.histogram([atoms.get_distance(0, 1) for atoms in dimers(40)], bins, density=True)[0]
    assert kept["reference"] == pytest.approx(known, rel=1e-4, abs=1e-9)
    assert (kept["pairs"], kept["distribution"], kept["limit"], kept["n_replicas"]) == ("all", "distances", 10.0, 3)


def test_every_model_starts_from_the_same_structures_with_the_same_velocities(workspace):
    runs = simulated(workspace, workspace.card("null", "NullAdapter"), workspace.card("spring", "SpringAdapter"))
    starts = [json.loads((run / "manifest.json").read_text())["splits"][0]["places"] for run in runs.values()]
    assert starts[0] == starts[1]
    assert len(set(starts[0])) == 3
    labelled = read(workspace.data / "test.extxyz", ":")
    for seed, place in zip(PARAMETERS["seeds"], starts[0], strict=True):
        first, second = (trajectory(run, seed)[0] for run in runs.values())
        np.testing.assert_array_equal(first.positions, labelled[place].positions)
        np.testing.assert_array_equal(first.get_velocities(), second.get_velocities())


def test_energies_are_kept_by_a_conservative_model_and_by_no_other(workspace):
    """Springs of 0.2 eV/Å² and a swirl of a quarter of that, which gives energy at every turn."""
    kwargs = {"stiffness": 0.2, "swirl": 0.05}
    models = [workspace.card("honest", "SpringAdapter", kwargs={"stiffness": 0.2})]
    models.append(workspace.card("swirling", "DirectForcesAdapter", kwargs=kwargs))
    task = {"steps": 2000, "save_interval": 10, "timestep": 0.5, "stability": None}
    runs = simulated(workspace, *models, task=task)
    drift = {name: metrics_of(run)["energy_drift"]["value"] for name, run in runs.items()}
    assert drift["honest"] < 0.05
    assert drift["swirling"] > 20 * drift["honest"]
    frames = trajectory(runs["honest"], 1)
    for atoms in frames[::50]:
        arms = atoms.positions - atoms.positions.mean(axis=0)
        assert atoms.get_potential_energy() == pytest.approx(0.1 * float((arms**2).sum()), rel=1e-12)
    assert {"temperature", "stability", "diffusivity"}.isdisjoint(metrics_of(runs["honest"]))  # nobody asks for them


def test_metrics_that_are_asked_for_in_vain_say_why(workspace):
    task = {"metrics": ["temperature", "stability", "diffusivity", "element_rdf_mae"], "stability": None}
    found = metrics_of(simulated(workspace, workspace.card("spring", "SpringAdapter"), task=task, code=5)["spring"])
    assert {name: record["reason"] for name, record in found.items()} == {
        "temperature": "nothing holds the temperature",
        "stability": "the suite names no criterion of stability",
        "diffusivity": "the suite asks for no diffusivity",
        "element_rdf_mae": "radial distributions of pairs of elements are for periodic systems",
    }


SLOW = {"steps": 200, "save_interval": 2, "stability": None}


def killed(workspace, suite, at_least):
    """Give the command, and kill all it started once so many blocks are stored."""
    process = workspace.start("run", suite, "--trust", "--display", "none")
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline and process.poll() is None:
            found = list(workspace.results.glob("runs/toys/*/*/trajectories/toy/test/batch-0.ledger"))
            if found and ledger_batches(found[0]) >= at_least:
                break
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("integrator", ["nose_hoover", "langevin"])
def test_a_killed_simulation_ends_in_the_same_bytes(tmp_path, integrator):
    kept = []
    for name, kills in (("whole", ()), ("killed", (2, 7, 13))):
        workspace = Workspace(tmp_path / name)
        write(workspace.data / "train.extxyz", dimers(40))
        write(workspace.data / "test.extxyz", dimers(6, seed=1))
        workspace.entry(pbc=[False] * 3)
        card = workspace.card("slow", "SlowAdapter", kwargs={"seconds": 0.01, "stiffness": 0.5})
        suite = suite_of(workspace, [card], task=SLOW | {"integrator": integrator})
        for blocks in kills:
            killed(workspace, suite, blocks)
            left = list(workspace.results.glob("runs/toys/*/*/trajectories/toy/test/batch-0.ledger"))
            assert ledger_batches(left[0]) >= blocks
        workspace.ok("run", suite, "--trust", "--display", "none")
        run = workspace.runs()["slow"]
        assert not list(run.glob("trajectories/**/*.ledger"))
        kept.append(fingerprints(run, "predictions/**/*", "trajectories/**/*"))
    assert kept[0] == kept[1]
    assert len([name for name in kept[0] if name.endswith(".traj")]) == 3


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_simulated(tmp_path):
    unshare = namespace()
    if unshare is None:
        pytest.skip("needs unshare with mount namespaces, to mount a small tmpfs")
    workspace = Workspace(tmp_path)
    write(workspace.data / "train.extxyz", dimers(40))
    write(workspace.data / "test.extxyz", dimers(6, seed=1))
    workspace.entry(pbc=[False] * 3)
    card = workspace.card("spring", "SpringAdapter", kwargs={"stiffness": 0.5})
    suite = suite_of(workspace, [card], task={"steps": 4000, "save_interval": 2, "stability": None})
    command = ["run", suite, "--trust", "--display", "none"]
    workspace.ok(*command)
    expected = fingerprints(workspace.runs()["spring"], "trajectories/**/*")
    results = tmp_path / "small"
    results.mkdir()
    shown = shlex.join(workspace.command(*command, "--results", results))
    script = SCRIPT.format(size=300, results=shlex.quote(str(results)), command=shown)
    subprocess.run([*unshare, "sh", "-c", script], cwd=tmp_path, env=workspace.env, check=True, timeout=240)
    assert (tmp_path / "code1").read_text().strip() == "3"
    told = (tmp_path / "err1").read_text().splitlines()
    assert len(told) == 1
    assert "no space left on the device; what was simulated up to step" in told[0]
    assert "free some space and give the same command again" in told[0]
    assert (tmp_path / "code2").read_text().strip() == "0"
    again = next((tmp_path / "kept").glob("runs/toys/spring/*"))
    assert fingerprints(again, "trajectories/**/*") == expected


def test_an_end_that_is_not_physical_is_censored(workspace):
    kwargs = {"stiffness": 0.01, "reach": 1.2, "how": "segv"}
    run = simulated(workspace, workspace.card("dies", "EventualAdapter", kwargs=kwargs), task={"stability": {
        "criterion": "bonds", "threshold": 50.0}})["dies"]  # fmt: skip
    rows, found = rows_of(run), metrics_of(run)
    assert rows["state"] == ["ok"] * 3
    ended = [end for end, steps in zip(rows["end"], rows["steps"], strict=True) if steps < 60]
    assert ended
    assert set(ended) == {4}
    assert any(reason and reason.startswith("worker killed by SIGSEGV after step") for reason in rows["reason"])
    assert "censored" in found["stability"]["reason"]
    assert found["survived"]["value"] == pytest.approx(1 - len(ended) / 3)
    worst = np.mean([steps / 1000 for steps in rows["steps"]])
    assert found["stability_worst_case"]["value"] == pytest.approx(worst)


def test_scoring_again_gives_the_very_same_numbers(workspace):
    run = simulated(workspace, workspace.card("spring", "SpringAdapter"))["spring"]
    before = fingerprints(run)
    workspace.ok("score", run)
    assert fingerprints(run) == before


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"timestep": 0}, "tasks.md.timestep"),
        ({"steps": 61}, "steps: must be a multiple of save_interval"),
        ({"seeds": [1, 1]}, "seeds: one is listed twice"),
        ({"reference": "nothing"}, "has no split 'nothing' to compare simulations with"),
        ({"start_frames": [0, 1, 99]}, "there is no structure 99"),
        ({"seeds": list(range(9))}, "9 replicas cannot start from 6 structures"),
        ({"stability": {"criterion": "windows", "threshold": 1.0}}, "a window goes with the criterion windows"),
        ({"diffusion": {"element": "Q", "spacing": 1, "lag": 1, "least": 1}}, "'Q' is no symbol of an element"),
    ],
)
def test_bad_parameters_are_told_in_one_line(workspace, change, line):
    suite = suite_of(workspace, [workspace.card("spring", "SpringAdapter")], task=change)
    assert line in one_error(workspace.cli("run", suite, "--trust", "--display", "none"), 2)


def test_overlapping_atoms_at_the_start_are_told_in_one_line(workspace):
    frames = dimers(6, seed=1)
    frames[4].positions[1] = [0.2, 0, 0]
    write(workspace.data / "test.extxyz", frames)
    suite = suite_of(workspace, [workspace.card("spring", "SpringAdapter")], task={"start_frames": [1, 4, 5]})
    line = one_error(workspace.cli("run", suite, "--trust", "--display", "none"), 2)
    assert "toy/test, structure 4: no simulation can start there: the atoms H 0 and H 1 are 0.20 Å apart" in line
    assert "name other structures as tasks.md.start_frames" in line


def test_models_that_cannot_simulate_are_not_applicable(workspace):
    other = workspace.card("other", "SpringAdapter", capabilities={"elements": "Cu"})
    suite = suite_of(workspace, [other, workspace.card("spring", "SpringAdapter")])
    plan = json.loads(workspace.ok("plan", suite, "--trust", "--json").stdout)
    assert plan["runs"][0]["splits"][0]["reason"] == "the model does not cover H"
    assert plan["runs"][1]["splits"][0]["trajectory_bytes"] == 31 * (6 * 48 + 3 * 600)


def test_a_model_without_forces_fails_in_one_line(workspace):
    suite = suite_of(workspace, [workspace.card("blind", "NoForcesAdapter")])
    done = workspace.cli("run", suite, "--trust", "--display", "none")
    assert done.returncode == 3
    assert "blind: toy/test: failed: forces are missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1
