"""`mlipbench train` and `run` with the trainer of another package."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from integration_helpers import Workspace, fingerprints, one_error

if TYPE_CHECKING:
    from collections.abc import Callable

RECIPE: dict[str, Any] = {
    "recipe": "tiny",
    "version": 1,
    "train": {"split": "train", "slice": [0, 10, None]},
    "validation": {"split": "train", "slice": [36, None, None]},
    "energy_reference": "per_element",
    "learning_rates": [1e-3],
    "batch": 1,
    "steps": 20,
    "evaluate_every": 10,
}
# the model, and what the package's recipes differ in
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chgnet": (
        "chgnet-finetuned",
        {
            # CHGNet takes no structure with an atom that has no neighbour within 6 Å
            "train": {"split": "train", "slice": [8, 12, None]},
            "validation": {"split": "train", "slice": [26, 30, None]},
            "preset": "0.3.0",
            "loss": {"kind": "l1", "energy": 1.0, "forces": 20.0},
            "schedule": {"kind": "cosine"},
        },
    ),
    "mace": (
        "mace",
        {
            "preset": "small",
            "changes": {"num_channels": 4, "max_ell": 1, "correlation": 1},
            "loss": {"kind": "mse", "energy": 1.0, "forces": 20.0},
            "schedule": {"kind": "exponential"},
            "ema_decay": 0.5,
        },
    ),
    "nequip": (
        "nequip",
        {
            "preset": "small",
            "changes": {"num_features": 4, "num_layers": 2},
            "loss": {"kind": "mse", "energy": 1.0, "forces": 20.0},
            "schedule": {"kind": "exponential"},
            "ema_decay": 0.5,
        },
    ),
    "deepmd": (
        "deepmd",
        {
            "preset": "small",
            "changes": {"neuron": [4, 8], "axis_neuron": 2, "fitting_neuron": [8, 8]},
            "loss": {"kind": "mse", "energy": 1.0, "forces": 20.0},
            "schedule": {"kind": "exponential"},
        },
    ),
    "fairchem_v1": (
        "gemnet-dt",
        {
            # GemNet takes no batch in which no atom has two neighbours within 6 Å
            "train": {"split": "train", "slice": [8, 12, None]},
            "validation": {"split": "train", "slice": [26, 30, None]},
            "preset": "small",
            "changes": {"num_blocks": 1, "emb_size_atom": 8, "emb_size_edge": 8, "emb_size_trip": 4},
            "loss": {"kind": "l1", "energy": 1.0, "forces": 20.0},
            "schedule": {"kind": "cosine"},
            "ema_decay": 0.5,
        },
    ),
    "fairchem": (
        "uma",
        {
            "preset": "small",
            "changes": {"sphere_channels": 8, "hidden_channels": 8, "edge_channels": 8, "num_layers": 1},
            "loss": {"kind": "l1", "energy": 1.0, "forces": 20.0},
            "schedule": {"kind": "cosine"},
            "ema_decay": 0.5,
        },
    ),
}
DISTRIBUTIONS = {
    "chgnet": ("chgnet", ""),
    "mace": ("mace-torch", ""),
    "nequip": ("nequip", ""),
    "deepmd": ("deepmd-kit", ""),
    "fairchem_v1": ("fairchem-core", "1."),
    "fairchem": ("fairchem-core", "2."),
}
EXACT = {"chgnet", "deepmd", "fairchem_v1", "fairchem"}  # go on at their last validation, whatever it said


pytestmark = pytest.mark.timeout(1200)  # packages that compile themselves, twice a training


@pytest.fixture(autouse=True)
def _patience(workspace: Workspace) -> None:
    workspace.patience = 900.0


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in FAMILIES])
def family(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, Any]]:
    """The package, the model, and what its recipes differ in."""
    package: str = request.param
    if not installed(*DISTRIBUTIONS[package]):
        pytest.skip(f"needs the package {package}")
    return package, *FAMILIES[package]


def installed(distribution: str, version: str) -> bool:
    try:
        return importlib.metadata.version(distribution).startswith(version)
    except importlib.metadata.PackageNotFoundError:
        return False


def recipe(workspace: Workspace, family: tuple[str, str, dict[str, Any]], **changes: Any) -> str:
    content = {**RECIPE, **family[2], **changes}
    (workspace.root / "tiny.yaml").write_text(yaml.safe_dump(content))
    return "tiny.yaml"


def line(workspace: Workspace, family: tuple[str, str, dict[str, Any]], **changes: Any) -> tuple[str, ...]:
    path = recipe(workspace, family, **changes)
    where = ("--dataset", "toy.yaml", "--output", "weights", "--display", "none", "--json")
    return ("train", path, "--model", family[1], *where)


def events(workspace: Workspace) -> list[dict[str, Any]]:
    path = workspace.root / "weights" / "events.jsonl"
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition: Callable[[], object], seconds: float = 900.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose command names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(folder) in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_training_by_the_package_leaves_a_checkpoint_that_is_a_model(
    workspace: Workspace, family: tuple[str, str, dict[str, Any]]
) -> None:
    package, model, _ = family
    made = json.loads(workspace.ok(*line(workspace, family)).stdout)
    assert (made["trainer"], made["net"], made["name"]) == (package, model, f"{model}-tiny")
    assert made["candidates"][0]["steps"] == 20
    assert made["verdict"]["n_structures"] == 4
    assert made["settings"]["conversions"]
    kinds = [event["kind"] for event in events(workspace)]
    assert kinds[0] == "begin"
    assert kinds[-2:] == ["end", "done"]
    assert kinds.count("evaluation") == len(made["curve"]) > 1

    workspace.suite(["lj"])
    workspace.ok("run", "suite-toys.yaml", "--models", "./weights", "--display", "none")
    run = workspace.runs()[f"{model}-tiny"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "ok"
    assert manifest["model"]["checkpoints"]["toy"]["trainer"] == package
    assert manifest["environment"]["parameters"] == made["parameters"]
    metrics = {row["metric"]: row for row in json.loads((run / "metrics.json").read_text())["metrics"]}
    assert metrics["energy_mae"]["status"] == "ok"  # the energies are those of the labels, and may be compared


def test_a_suite_trains_what_its_recipe_says(workspace: Workspace, family: tuple[str, str, dict[str, Any]]) -> None:
    model = family[1]
    suite = workspace.suite([{"name": model, "recipe": recipe(workspace, family)}])
    plan = workspace.ok("plan", suite).stdout
    assert "structures), 20 steps: to be trained" in plan
    workspace.ok("run", suite, "--display", "none")
    before = fingerprints(workspace.runs()[model])
    again = workspace.ok("run", suite, "--again", "--results", "second", "--display", "plain")
    assert "learning rate" not in again.stderr
    assert fingerprints(workspace.runs(results=workspace.root / "second")[model]) == before


def test_a_killed_training_ends_its_processes_and_goes_on(
    workspace: Workspace, family: tuple[str, str, dict[str, Any]]
) -> None:
    command = line(workspace, family, steps=60)
    process = workspace.start(*command)
    # a package may keep its state after it told of an evaluation; at the second one that of the first is there
    wait_for(lambda: any(event["kind"] == "evaluation" and event["step"] >= 20 for event in events(workspace)))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not processes_of(workspace.root / "weights"))
    made = json.loads(workspace.ok(*command).stdout)
    begun = [event.get("step", 0) for event in events(workspace) if event["kind"] == "begin"]
    assert len(begun) == 2
    assert begun[1] >= 10 or family[0] not in EXACT
    steps = [point["step"] for point in made["curve"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == 60


FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "field": ({"steps": None, "seconds": 5.0}, 2, "recipe tiny: seconds: the trainer of "),
    "preset": ({"preset": "smal"}, 2, "recipe tiny: preset: unknown preset 'smal'"),
    "diverges": ({"learning_rates": [1e30]}, 3, "learning rate 1e+30, step "),
    "overlap": ({"validation": {"split": "train", "slice": [9, None, None]}}, 2, "are training structures too"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_trainings_get_one_line(workspace: Workspace, family: tuple[str, str, dict[str, Any]], fault: str) -> None:
    changes, code, text = FAULTS[fault]
    done = workspace.cli(*line(workspace, family, **changes))
    assert done.returncode == code, done.stderr
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_several_processes_are_refused(workspace: Workspace, family: tuple[str, str, dict[str, Any]]) -> None:
    done = workspace.cli(*line(workspace, family), "--processes", "2")
    assert f"--processes: the trainer of {family[1]} works in one process here" in one_error(done, 2)
