"""Whatever a model does to its process, the numbers of the others stay the same to the bit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from integration_helpers import Workspace, fingerprints, make_frames, one_error, predictions

ELEMENT = 54
N, ODD = 12, (7,)
# adapter, arguments of the card, and the reason in the row of the structure with the odd element
BAD: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "segfault": ("CrashAdapter", {"element": ELEMENT}, "worker killed by SIGSEGV"),
    "glutton": ("MemoryAdapter", {"element": ELEMENT}, "MiB of memory, over the limit of "),
    "meddler": ("MeddlingAdapter", {}, None),
    "noisy": ("NoisyAdapter", {}, None),
    "leaver": ("CrashAdapter", {"element": ELEMENT, "how": "exit"}, "worker exited with code 7"),
    "deadlock": ("HangAdapter", {"element": ELEMENT, "deaf": True}, "worker did not answer within "),
}


@pytest.fixture
def workspace(tmp_path: Any) -> Workspace:
    made = Workspace(tmp_path)
    made.write_frames("train", make_frames(40, seed=1))
    made.write_frames("test", make_frames(N, seed=2, odd=ODD))
    made.entry()
    return made


def check(workspace: Workspace, models: list[Any], limit: str, seconds: float) -> None:
    """Run models alone, then after and before the bad ones, and compare their predictions."""
    options = ("--trust", "--display", "none", "--timeout", str(seconds), "--memory-limit", limit)
    workspace.cli("run", workspace.suite(models), *options, "--results", "alone")
    alone = {name: fingerprints(run) for name, run in workspace.runs(results=workspace.root / "alone").items()}
    assert len(alone) == len(models)
    bad = [
        workspace.card(name, adapter, kwargs=kwargs, batch={"structures": 2})
        for name, (adapter, kwargs, _) in BAD.items()
    ]
    for place, order in enumerate(([*bad, *models], [*models, *bad])):
        results = workspace.root / f"mixed-{place}"
        done = workspace.cli("run", workspace.suite(order), *options, "--results", str(results))
        assert done.returncode == 3, done.stderr
        assert "Traceback" not in done.stderr
        runs = workspace.runs(results=results)
        assert {name: fingerprints(runs[name]) for name in alone} == alone
        for name, (_, _, reason) in BAD.items():
            rows = predictions(runs[name])
            assert rows["state"] == ["failed" if reason and i in ODD else "ok" for i in range(N)], (
                name,
                rows["reason"],
            )
            assert reason is None or reason in rows["reason"][ODD[0]]


def test_models_without_torch_keep_their_numbers(workspace: Workspace) -> None:
    spring = workspace.card("spring", "SpringAdapter")
    check(workspace, [spring, "composition", "lj"], "600MiB", 6.0)


@pytest.mark.torch
def test_networks_keep_their_numbers(workspace: Workspace) -> None:
    pytest.importorskip("torch", reason="needs torch")
    recipe = {
        "recipe": "tiny",
        "version": 1,
        "preset": "small",
        "changes": {"hidden": 8},
        "train": {"split": "train", "slice": [0, 30, None]},
        "validation": {"split": "train", "slice": [30, None, None]},
        "energy_reference": "per_element",
        "loss": {"kind": "l1", "energy": 1.0, "forces": 20.0},
        "learning_rates": [1e-3],
        "schedule": {"kind": "cosine"},
        "batch": 5,
        "steps": 10,
        "evaluate_every": 10,
    }
    (workspace.root / "tiny.yaml").write_text(json.dumps(recipe))
    networks = [{"name": name, "recipe": "tiny.yaml"} for name in ("leignn", "schnet")]
    check(workspace, networks, "1GiB", 10.0)


@pytest.mark.parametrize(
    ("size", "complaint"),
    [("lots", "'lots' is no size; write it as 8GiB or 500MB"), ("8", "'8' is less than any worker needs; give at ")],
)
def test_a_limit_that_is_none_gets_one_line(workspace: Workspace, size: str, complaint: str) -> None:
    assert complaint in one_error(workspace.cli("run", "quickstart", "--memory-limit", size), 2)
