"""Variants of one model compared by the command line: do they predict the same, and how much faster is one?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from integration_helpers import Workspace, make_frames, one_error

if TYPE_CHECKING:
    from pathlib import Path

N_TEST = 6
FRAMES = make_frames(N_TEST, seed=2)
TASK = {"structures": N_TEST, "rounds": 8, "calls": 2, "seconds": 20, "batch": 2, "reference": "toy-model"}
PARITY = ("parity_energy", "parity_forces", "conservation_error", "speed_up")
CAPABILITIES = {"dtypes": ["float32", "float64"]}


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(tmp_path)
    made.write_frames("train", make_frames(4, seed=1))
    made.write_frames("test", FRAMES)
    made.entry()
    return made


def run(workspace, models, **task):
    suite = workspace.suite(models, tasks={"efficiency": TASK | {"parity": {}} | task})
    return workspace.cli("run", suite, "--trust", "--display", "none")


def found(workspace) -> tuple[dict[str, Path], dict[str, dict]]:
    """Return the folder and the numbers of every variant."""
    folders, numbers = {}, {}
    for path in workspace.results.glob("runs/toys/*/*/manifest.json"):
        variant = json.loads(path.read_text())["variant"]["name"]
        assert variant not in folders
        folders[variant] = path.parent
        records = json.loads((path.parent / "metrics.json").read_text())["metrics"]
        numbers[variant] = {record["metric"]: record for record in records}
    return folders, numbers


def springs() -> tuple[np.ndarray, list[np.ndarray]]:
    """Return energy, eV, and forces, eV/Å, of springs of 1 eV/Å² to the centroid."""
    arms = [frame.positions - frame.positions.mean(axis=0) for frame in FRAMES]
    return np.asarray([0.5 * np.sum(arm**2) for arm in arms]), [-arm for arm in arms]


def test_variants_that_predict_the_same_are_told_apart_by_speed_alone(workspace):
    card = workspace.card("toy-model", "ApproximateAdapter", kwargs={"seconds": 0.06}, capabilities=CAPABILITIES)
    models = [
        {"name": card, "variant": "fp32", "precision": "float32"},
        {"name": card, "variant": "fp64", "precision": "float64"},
        {"name": card, "variant": "fast", "precision": "float64", "settings": {"seconds": 0.03, "off": 1e-6}},
    ]
    done = run(workspace, models)
    assert done.returncode == 0, done.stderr
    folders, numbers = found(workspace)

    energies, forces = springs()
    sizes = np.asarray([len(frame.symbols) for frame in FRAMES])
    rounded = np.abs(energies.astype(np.float32) - energies) / sizes
    longest = max(np.linalg.norm(one, axis=1).max() for one in forces)
    assert numbers["fp32"]["parity_energy"]["value"] == pytest.approx(rounded.max(), rel=1e-6)
    assert 0 < numbers["fp32"]["parity_forces"]["value"] < longest * 2**-23
    assert numbers["fast"]["parity_energy"]["value"] == 0
    assert numbers["fast"]["parity_forces"]["value"] == pytest.approx(1e-6 * longest, rel=1e-6)
    assert numbers["fast"]["parity_forces"]["reason"] == "largest difference from the variant fp64"
    assert numbers["fp64"]["parity_forces"]["value"] is None
    assert numbers["fp64"]["parity_forces"]["reason"] == "the others are compared with it"

    # a central difference of a square is exact: what is left is rounding, and the forces that are off
    assert numbers["fp64"]["conservation_error"]["value"] < 1e-9
    most = 1e-6 * max(np.linalg.norm(one) for one in forces)
    assert 1e-9 < numbers["fast"]["conservation_error"]["value"] < most
    assert numbers["fast"]["conservation_error"]["reason"] == "4 structures, central differences of 0.0001 Å"
    assert "of 0.01 Å" in numbers["fp32"]["conservation_error"]["reason"]

    assert numbers["fast"]["speed_up"]["value"] == pytest.approx(2.0, abs=0.3)  # it sleeps half as long
    assert numbers["fast"]["speed_up"]["ci_low"] > 1
    assert numbers["fp64"]["speed_up"]["value"] == 1
    assert "over the variant fp64" in numbers["fast"]["speed_up"]["reason"]

    workspace.ok("score", folders["fast"], "--json")
    assert found(workspace)[1] == numbers


def test_a_variant_beyond_the_tolerance_fails_and_keeps_its_numbers(workspace):
    card = workspace.card("toy-model", "ApproximateAdapter", kwargs={"seconds": 0.01}, capabilities=CAPABILITIES)
    models = [
        {"name": card, "variant": "fp64", "precision": "float64"},
        {"name": card, "variant": "fast", "precision": "float64", "settings": {"off": 0.01}},
    ]
    done = run(workspace, models, parity={"forces": 0.005}, rounds=2)
    assert done.returncode == 3
    longest = max(np.linalg.norm(one, axis=1).max() for one in springs()[1])
    reason = (
        f"against the variant fp64: parity_forces of {0.01 * longest:.3g} eV/Å is beyond the tolerance of 0.005 eV/Å"
    )
    line = f"mlipbench: toy-model fast: toy/test: partial: {reason}"
    assert [one for one in done.stderr.splitlines() if one.startswith("mlipbench:")] == [line]
    _, numbers = found(workspace)
    for metric in ("latency_p50", "parity_forces", "speed_up"):
        record = numbers["fast"][metric]
        assert record["value"] > 0
        assert record["status"] == "partial"
        assert reason in record["reason"]
    assert numbers["fp64"]["latency_p50"]["status"] == "ok"
    table = (workspace.results / "runs" / "toys" / "leaderboard.md").read_text()
    assert "partial, not ranked" in table
    assert "0 failed" not in table
    assert run(workspace, models, parity={"forces": 0.005}, rounds=2).returncode == 3  # reported once more


def test_without_float64_it_is_one_structure_a_call_with_one_thread(workspace):
    card = workspace.card(
        "toy-model", "CircumstancesAdapter", capabilities={"dtypes": ["float32"]}, batch={"structures": N_TEST}
    )
    models = [{"name": card, "variant": "plain"}, {"name": card, "variant": "fast", "settings": {"stiffness": 1.0}}]
    workspace.env["OMP_NUM_THREADS"] = "2"
    done = run(workspace, models, rounds=2)
    assert done.returncode == 3
    against = "the card's own settings in float32 (it offers no float64), one structure a call, one thread"
    lines = [one for one in done.stderr.splitlines() if one.startswith("mlipbench:")]
    assert len(lines) == 2
    assert all(f"against {against}: parity_energy" in line for line in lines)
    _, numbers = found(workspace)
    smallest = min(len(frame.symbols) for frame in FRAMES)
    for variant in ("plain", "fast"):
        record = numbers[variant]["parity_energy"]
        assert record["value"] == pytest.approx((N_TEST - 1 + 1) / smallest)  # 5 structures and 1 thread more
        assert f"largest difference from {against}" in record["reason"]
        assert "over the variant plain" in numbers[variant]["speed_up"]["reason"]


def test_a_variant_added_later_is_compared_with_the_one_that_is_there(workspace):
    card = workspace.card("toy-model", "ApproximateAdapter", kwargs={"seconds": 0.01}, capabilities=CAPABILITIES)
    models = [{"name": card, "variant": "fp64", "precision": "float64"}]
    assert run(workspace, models, rounds=2).returncode == 0
    _, numbers = found(workspace)
    assert numbers["fp64"]["parity_forces"]["reason"].startswith("nothing was compared")
    assert numbers["fp64"]["speed_up"]["value"] is None
    models.append({"name": card, "variant": "fast", "precision": "float64", "settings": {"off": 1e-5}})
    assert run(workspace, models, rounds=2).returncode == 0
    _, numbers = found(workspace)
    assert numbers["fast"]["parity_forces"]["reason"] == "largest difference from the variant fp64"
    assert numbers["fast"]["speed_up"]["value"] > 0


def test_nothing_is_compared_unless_the_suite_says_so(workspace):
    card = workspace.card("toy-model", "ApproximateAdapter", kwargs={"seconds": 0.01}, capabilities=CAPABILITIES)
    models = [
        {"name": card, "variant": "fp64", "precision": "float64"},
        {"name": card, "variant": "fast", "precision": "float64", "settings": {"off": 1.0}},
    ]
    assert run(workspace, models, parity=None, rounds=2).returncode == 0
    _, numbers = found(workspace)
    assert not set(PARITY) & set(numbers["fast"])


def test_tolerances_that_make_no_sense_are_refused(workspace):
    card = workspace.card("toy-model", "ApproximateAdapter", capabilities=CAPABILITIES)
    assert "tasks.efficiency.parity.forces" in one_error(run(workspace, [card], parity={"forces": 0}), 2)
