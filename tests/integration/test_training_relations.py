"""What commands say of models that have seen the structures they are evaluated on."""

from __future__ import annotations

import csv
import json

import pytest
from integration_helpers import make_frames

LEAK = "fitted on toy/train; 1 of 100 structures also stand there"


@pytest.fixture
def suite(workspace):
    """A floor whose training split holds one test structure, and models that were trained on other or on these data."""
    test = make_frames(100, seed=2)
    workspace.write_frames("test", test)
    workspace.write_frames("train", [*make_frames(40, seed=1), test[7]])
    workspace.entry(drawn_from=["Collection"])
    cards = [
        workspace.card("elsewhere", "SpringAdapter", training_data=["Other"]),
        workspace.card("seen", "SpringAdapter", training_data=["Collection"]),
        workspace.card("physics", "SpringAdapter", training_data=[]),
    ]
    return workspace.suite(["composition", *cards])


def test_the_plan_says_how_training_data_relate_to_a_split(workspace, suite):
    text = workspace.ok("plan", suite, "--trust").stdout
    assert f"  training data: toy/test: trained-on-split ({LEAK})\n" in text
    assert "  training data: toy/test: zero-shot-other-level\n" in text
    assert "  training data: toy/test: contaminated (these structures are drawn from Collection" in text
    assert "  training data: toy/test: classical\n" in text


def test_a_run_keeps_it_and_the_table_shows_it(workspace, suite):
    shown = workspace.ok("run", suite, "--trust", "--display", "none").stdout
    assert LEAK in shown
    folder = workspace.results / "runs/toys"
    (manifest,) = [json.loads(path.read_text()) for path in folder.glob("composition/*/manifest.json")]
    (split,) = manifest["splits"]
    assert (split["relation"], split["n_in_training"], split["n_in_validation"]) == ("trained-on-split", 1, None)
    with (folder / "leaderboard.csv").open(encoding="utf-8") as file:
        training = {row["model"]: row["training"] for row in csv.DictReader(file)}
    assert training == {
        "composition": "trained-on-split",
        "elsewhere": "zero-shot-other-level",
        "physics": "classical",
        "seen": "contaminated",
    }
    page = (folder / "leaderboard.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|") and "classical" in line]
    assert rows
    assert "**" not in "".join(rows)  # alone of its kind
    assert LEAK in page


def test_repeated_structures_are_a_line_of_data_verify(workspace):
    frames = make_frames(10, seed=3)
    workspace.write_frames("test", [*frames, frames[4], frames[4]])
    done = workspace.ok("data", "verify", "toy.yaml")
    assert done.stdout.splitlines()[-1] == "toy/test: 3 of 12 structures stand there more than once"
    rows = json.loads(workspace.ok("data", "verify", "toy.yaml", "--json").stdout)
    assert {row["split"]: row["repeated"] for row in rows} == {"train": 0, "test": 3}
