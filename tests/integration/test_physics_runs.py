"""Physics from suite to table, on springs to the centroid and on springs with a swirl, whose numbers are known."""

from __future__ import annotations

import csv
import json
import math
import signal
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from integration_helpers import Workspace, fingerprints

PARAMETERS = {"directions": 64, "nve": {"steps": 40}}
SWIRL = 0.1


def frames() -> list[Atoms]:
    """Return a dimer, a molecule, a crystal and a lone atom."""
    made = [molecule("CO"), molecule("CH3OH"), bulk("Cu", cubic=True), Atoms("Cu")]
    rng = np.random.default_rng(3)
    for number, atoms in enumerate(made):
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        atoms.info = {"sid": f"s{number}"}
    return made


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(tmp_path)
    write(made.data / "test.extxyz", frames())
    keys = {"energy": None, "forces": None, "cluster": "sid", "id": "sid"}
    made.entry(keys=keys, splits={"test": {"files": ["test.extxyz"]}}, fit_split=None)
    return made


def suite_of(workspace, models, **task):
    return workspace.suite(models, tasks={"physics": PARAMETERS | task})


def metrics_of(run):
    return {metric["metric"]: metric for metric in json.loads((run / "metrics.json").read_text())["metrics"]}


def test_springs_and_a_swirl(workspace):
    cards = [
        workspace.card("spring", "SpringAdapter"),
        workspace.card("swirl", "DirectForcesAdapter", capabilities={"forces": "direct"}),
        workspace.card("liar", "DirectForcesAdapter"),
    ]
    done = workspace.ok("run", suite_of(workspace, cards), "--trust", "--display", "none")
    runs = workspace.runs()
    spring, swirl = metrics_of(runs["spring"]), metrics_of(runs["swirl"])
    assert spring["force_gradient_rmse"]["value"] < 1e-9
    assert spring["jacobian_asymmetry"]["value"] < 1e-6
    assert spring["net_force"]["value"] < 1e-12
    assert spring["rotation_forces_mae"]["value"] < 1e-9
    # J = -k P + w W P with P the projection on what moves no centroid: λ² = 2 w² / (3 k² + 2 w²)
    expected = math.sqrt(2 * SWIRL**2 / (3 + 2 * SWIRL**2))
    assert swirl["jacobian_asymmetry"]["value"] == pytest.approx(expected, rel=1e-6)
    arms = [atoms.positions - atoms.positions.mean(axis=0) for atoms in frames()[:3]]
    squares = [SWIRL**2 * np.sum(arm[:, :2] ** 2) / arm.size for arm in arms]
    assert swirl["force_gradient_rmse"]["value"] == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-6)
    assert (swirl["force_gradient_rmse"]["n"], swirl["net_torque"]["n"], swirl["atom_finite"]["n"]) == (3, 2, 1)
    # the card is offered in one precision
    assert swirl["precision_energy"]["status"] == "not_applicable"
    assert swirl["precision_energy"]["reason"] == "the model is offered in float64 only"
    assert "F + ∇E" in done.stdout

    (table,) = workspace.results.rglob("leaderboard.csv")
    with table.open() as file:
        rows = {(row["model"], row["metric"]): row for row in csv.DictReader(file)}
    passes = {model: rows[model, "jacobian_asymmetry"]["passes"] for model in ("spring", "swirl", "liar")}
    assert passes == {"spring": "true", "swirl": "", "liar": "false"}
    assert rows["swirl", "net_force"]["passes"] == "true"
    assert rows["swirl", "jacobian_asymmetry"]["threshold"] == "0.004"
    board = table.with_suffix(".md").read_text()
    assert "no verdict: the model declares direct forces and does not claim this" in board
    assert "✓ keeps to the threshold" in board

    before = (runs["swirl"] / "metrics.json").read_bytes()
    (runs["swirl"] / "metrics.json").unlink()
    workspace.ok("score", runs["swirl"])
    assert (runs["swirl"] / "metrics.json").read_bytes() == before


def test_structures_of_other_elements_are_left_out_and_said(workspace):
    card = workspace.card("spring", "SpringAdapter", capabilities={"elements": "H, C, O"})
    workspace.ok("run", suite_of(workspace, [card], probes=["net_force", "volumes"]), "--trust", "--display", "none")
    run = workspace.runs()["spring"]
    rows = pq.read_table(run / "predictions/physics/toy/test.parquet").to_pydict()
    assert rows["state"] == ["ok", "ok", "not_applicable", "not_applicable"]
    assert rows["reason"][2] == "the model does not cover Cu"
    found = metrics_of(run)
    assert set(found) == {"net_force", "volume_flips", "volume_tortuosity", "volume_compression", "volume_expansion"}
    assert found["net_force"]["n"] == 2
    assert found["volume_flips"]["value"] is None
    assert "no structure has what volume_flips needs" in found["volume_flips"]["reason"]


def test_a_model_that_knows_none_of_the_elements_is_refused(workspace):
    card = workspace.card("spring", "SpringAdapter", capabilities={"elements": "Xe"})
    done = workspace.cli("run", suite_of(workspace, [card]), "--trust", "--display", "none")
    assert done.returncode == 5, done.stderr
    assert "the model does not cover" in done.stdout + done.stderr


def test_a_model_that_takes_its_process_down_costs_its_structure(workspace):
    card = workspace.card("crasher", "CrashAdapter", kwargs={"element": 6})
    done = workspace.cli("run", suite_of(workspace, [card], probes=["net_force"]), "--trust", "--display", "none")
    assert done.returncode == 3, done.stderr
    rows = pq.read_table(workspace.runs()["crasher"] / "predictions/physics/toy/test.parquet").to_pydict()
    assert rows["state"] == ["failed", "failed", "ok", "ok"]
    assert "killed by" in rows["reason"][0]
    assert rows["net_force"][2] == pytest.approx(0.0, abs=1e-12)


def test_a_killed_run_ends_as_one_that_was_not(workspace):
    card = workspace.card("slow", "SlowAdapter", kwargs={"seconds": 0.005})
    suite = suite_of(workspace, [card])
    whole = workspace.root / "whole"
    workspace.ok("run", suite, "--trust", "--display", "none", "--results", whole)
    process = workspace.start("run", suite, "--trust", "--display", "none")
    deadline = time.monotonic() + 60
    ledger = None
    while time.monotonic() < deadline and process.poll() is None:
        ledger = next(workspace.results.rglob("test.ledger"), None)
        if ledger is not None and ledger.stat().st_size > 2000:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert ledger is not None
    workspace.ok("run", suite, "--trust", "--display", "none")
    first, second = (next(home.rglob("manifest.json")).parent for home in (whole, workspace.results))
    assert fingerprints(first) == fingerprints(second)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"probes": ["net_farce"]}, "probes"),
        ({"probes": ["net_force"], "metrics": ["net_torque"]}, "is taken from the probe 'net_torque'"),
        ({"metrics": ["net_farce"]}, "did you mean net_force"),
        ({"directions": 1}, "directions"),
        ({"nve": {"steps": 3}}, "nve.steps"),
    ],
)
def test_bad_parameters_are_one_line(workspace, task, said):
    card = workspace.card("spring", "SpringAdapter")
    done = workspace.cli("run", suite_of(workspace, [card], **task), "--trust")
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
