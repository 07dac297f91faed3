"""`mlipbench train`, and suites that name recipes."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from integration_helpers import Workspace, fingerprints, one_error

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

RECIPE: dict[str, Any] = {
    "recipe": "tiny",
    "version": 1,
    "preset": "small",
    "changes": {"hidden": 8, "layers": 1, "radial": 8},
    "train": {"split": "train", "slice": [0, 30, None], "whole_clusters": False},
    "validation": {"split": "train", "slice": [30, None, None]},
    "energy_reference": "per_element",
    "loss": {"energy": 1.0, "forces": 1.0},
    "learning_rates": [3e-3, 1e-3],
    "schedule": {"kind": "cosine"},
    "ema_decay": 0.9,
    "batch": 10,
    "steps": 6,
    "evaluate_every": 3,
}


LONG = ("--model", "vanilla-nmu", "--dataset", "toy.yaml", "--output", "weights", "--display", "none")


def recipe(workspace: Workspace, name: str = "tiny", **changes: Any) -> Path:
    path = workspace.root / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "recipe": name, **changes}))
    return path


def train(workspace: Workspace, *more: str | Path) -> dict[str, Any]:
    line = ("train", *more, "--dataset", "toy.yaml", "--display", "none", "--json")
    answer: dict[str, Any] = json.loads(workspace.ok(*line).stdout)
    return answer


def test_a_training_leaves_a_checkpoint_that_is_a_model(workspace: Workspace) -> None:
    made = train(workspace, recipe(workspace), "--model", "painn", "--output", "weights")
    folder = workspace.root / "weights"
    assert {"checkpoint.json", "model.safetensors", "log.csv"} <= {path.name for path in folder.iterdir()}
    assert [candidate["learning_rate"] for candidate in made["candidates"]] == [3e-3, 1e-3]
    best = min(made["candidates"], key=lambda candidate: candidate["forces_mae"])
    assert made["learning_rate"] == best["learning_rate"]
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [3, 6]
    assert min(float(row["forces_mae"]) for row in rows) == best["forces_mae"]

    workspace.suite(["lj"])
    workspace.ok("run", "suite-toys.yaml", "--models", "./weights", "--display", "none")
    manifest = json.loads((workspace.runs()["painn-tiny"] / "manifest.json").read_text())
    assert manifest["status"] == "ok"
    facts = manifest["model"]["checkpoints"]["toy"]
    assert facts["recipe"] == "tiny version 1"
    assert not facts["verdict"]["trained"]
    table = (workspace.results / "runs" / "toys" / "leaderboard.md").read_text()
    assert "untrained" in table


def test_a_suite_trains_what_its_recipe_says_and_then_evaluates(workspace: Workspace) -> None:
    recipe(workspace)
    suite = workspace.suite(["composition", {"name": "vanilla-nmu", "recipe": "tiny.yaml"}])
    plan = workspace.ok("plan", suite).stdout
    assert "recipe tiny on toy/train (30 structures), 2 learning rates, 6 steps each: to be trained" in plan
    workspace.ok("run", suite, "--display", "plain")
    manifest = json.loads((workspace.runs()["vanilla-nmu"] / "manifest.json").read_text())
    assert manifest["status"] == "ok"
    assert manifest["environment"]["parameters"] == manifest["model"]["checkpoints"]["toy"]["parameters"]
    again = workspace.ok("plan", suite).stdout
    assert ": trained, in " in again
    before = fingerprints(workspace.runs()["vanilla-nmu"])
    second = workspace.ok("run", suite, "--again", "--results", "second")
    assert "learning rate" not in second.stderr  # nothing is trained twice
    assert fingerprints(workspace.runs(results=workspace.root / "second")["vanilla-nmu"]) == before


def test_a_killed_training_ends_its_process_and_goes_on(workspace: Workspace) -> None:
    path = recipe(workspace, steps=400_000, evaluate_every=20, learning_rates=[1e-3])
    line = ("train", path, *LONG)
    process = workspace.start(*line)
    events = workspace.root / "weights" / "events.jsonl"
    wait_for(lambda: events.exists() and "evaluation" in events.read_text())
    child = training_processes(workspace.root)
    assert child
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not training_processes(workspace.root))
    again = workspace.start(*line)
    wait_for(lambda: events.read_text().count('"begin"') >= 2)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert again.returncode == 130
    wait_for(lambda: not training_processes(workspace.root))


def test_two_trainings_of_one_checkpoint_do_not_mix(workspace: Workspace) -> None:
    path = recipe(workspace, steps=400_000, evaluate_every=20, learning_rates=[1e-3])
    line = ("train", path, *LONG)
    first = workspace.start(*line)
    wait_for((workspace.root / "weights" / "events.jsonl").exists)
    assert "another process trains this checkpoint now" in one_error(workspace.cli(*line), 2)
    first.kill()
    first.communicate()


FAULTS = {
    "overlap": ({"validation": {"split": "train", "slice": [29, None, None]}}, 2, "are training structures too"),
    "change": ({"changes": {"hiden": 8}}, 2, "unknown field 'hiden'"),
    "preset": ({"preset": "smal"}, 2, "unknown preset 'smal'"),
    "diverges": ({"learning_rates": [1e30], "clip": None}, 3, "lower the learning rate"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_trainings_get_one_line(workspace: Workspace, fault: str) -> None:
    changes, code, text = FAULTS[fault]
    path = recipe(workspace, **changes)
    done = workspace.cli("train", path, "--model", "vanilla", "--dataset", "toy.yaml", "--display", "none")
    assert done.returncode == code, done.stderr
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_suite_goes_on_after_a_training_that_diverged(workspace: Workspace) -> None:
    recipe(workspace, learning_rates=[1e30], clip=None)
    suite = workspace.suite([{"name": "vanilla", "recipe": "tiny.yaml"}, "composition"])
    done = workspace.cli("run", suite, "--display", "none")
    assert done.returncode == 3
    assert "vanilla: " in done.stderr
    assert "lower the learning rate" in done.stderr
    manifest = json.loads((workspace.runs()["composition"] / "manifest.json").read_text())
    assert manifest["status"] == "ok"


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def training_processes(root: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"mlipbench.training" in line and any(part.startswith(os.fsencode(root)) for part in line):
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_a_training_of_two_processes_survives_the_loss_of_one(workspace: Workspace) -> None:
    path = recipe(workspace, steps=1500, evaluate_every=100, learning_rates=[1e-3])
    line = ("train", path, *LONG[:-1], "plain", "--processes", "2")
    process = workspace.start(*line)
    events = workspace.root / "weights" / "events.jsonl"
    wait_for(lambda: events.exists() and "evaluation" in events.read_text())
    (rank,) = ranks(workspace.root, 1)
    os.kill(rank, signal.SIGKILL)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert told.count("tiny") >= 1
    assert "lost one of 2 processes; they go on from the last saved state" in told
    assert events.read_text().count('"begin"') == 2
    assert json.loads((workspace.root / "weights" / "checkpoint.json").read_text())["processes"] == 2


def ranks(folder: Path, number: int) -> list[int]:
    """Return the ids of the processes of one rank of the training in a folder."""
    found = []
    for pid in training_processes(folder):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"RANK={number}".encode() in environment:
            found.append(pid)
    return found
