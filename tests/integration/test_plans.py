"""What `plan` says before anything runs."""

from __future__ import annotations

import json

import pytest
from integration_helpers import make_frames


@pytest.fixture
def suite(workspace):
    narrow = workspace.card("narrow", "SpringAdapter", capabilities={"elements": "H, O"})
    other = workspace.card("other", "SpringAdapter", capabilities={"energy_reference": "adsorption"})
    needy = workspace.card("needy", "SpringAdapter", capabilities={"needs": ["charge"]})
    fits = workspace.card("fits", "SpringAdapter", capabilities={"level_of_theory": "toy"})
    return workspace.suite([narrow, other, needy, fits])


REASONS = {
    "narrow": "the model does not cover Cu",
    "needy": "the model needs charge, which the split does not hold",
}
ENERGY = "the model's energies are adsorption, the labels' total; the suite declares no conversion"


def test_a_plan_says_what_is_not_applicable_and_why(workspace, suite):
    done = workspace.ok("plan", suite, "--trust")
    assert done.stderr == ""
    text = {part.split(":")[0]: part for part in done.stdout.split("\n\n")}
    for model, reason in REASONS.items():
        assert f"  not applicable: toy/test: {reason}" in text[model]
    assert f"energy_forces_within_threshold: {ENERGY}" in text["other"]
    assert "forces_mae" not in text["other"]
    assert "not applicable" not in text["fits"]
    assert "4 runs, 120 structures, 24 batches" in done.stdout
    assert not workspace.results.exists()


def test_a_plan_as_json_holds_every_cell_with_its_reason(workspace, suite):
    content = json.loads(workspace.ok("plan", suite, "--trust", "--json").stdout)
    runs = {run["model"]: run for run in content["runs"]}
    for model, reason in REASONS.items():
        assert {(cell["status"], cell["reason"]) for cell in runs[model]["cells"]} == {("not_applicable", reason)}
    cells = {cell["metric"]: (cell["status"], cell["reason"]) for cell in runs["other"]["cells"]}
    assert cells["energy_mae"] == ("not_applicable", ENERGY)
    assert cells["forces_mae"] == ("ok", None)
    assert {cell["status"] for cell in runs["fits"]["cells"]} == {"ok"}
    assert [split["n_batches"] for split in runs["fits"]["splits"]] == [12]  # 60 structures, five a batch


def test_what_is_not_applicable_stands_in_the_table_and_is_no_failure(workspace, suite):
    done = workspace.ok("run", suite, "--trust", "--json", "--display", "none")
    runs = {run["model"]: run for run in json.loads(done.stdout)["runs"]}
    assert {model: run["status"] for model, run in runs.items()} == {
        "narrow": "not_applicable",
        "needy": "not_applicable",
        "other": "ok",
        "fits": "ok",
    }
    for model, reason in REASONS.items():
        assert {(metric["value"], metric["reason"]) for metric in runs[model]["metrics"]} == {(None, reason)}
    text = (workspace.results / "runs/toys/leaderboard.md").read_text()
    assert all(f"not applicable: {reason}" in text for reason in REASONS.values())
    assert done.stderr == ""


def test_a_run_of_models_that_are_all_not_applicable_measures_nothing(workspace):
    narrow = workspace.card("narrow", "SpringAdapter", capabilities={"elements": "H, O"})
    done = workspace.cli("run", workspace.suite([narrow]), "--trust", "--display", "none")
    assert done.returncode == 5
    assert "n/a" in done.stdout


def test_missing_data_are_named_and_what_is_there_is_run(workspace):
    entry = (workspace.root / "toy.yaml").read_text().replace("name: toy", "name: more")
    (workspace.root / "more.yaml").write_text(entry.replace("test.extxyz", "more.extxyz"))
    datasets = {name: {"splits": ["test"], "entry": f"{name}.yaml"} for name in ("toy", "more")}
    suite = workspace.suite(["composition"], datasets=datasets)
    missing = f"{workspace.data / 'more.extxyz'}: dataset more, split test: no such file"
    plan = workspace.ok("plan", suite)
    assert f"missing: {missing}; " in plan.stdout
    done = workspace.cli("run", suite, "--display", "none")
    assert done.returncode == 4
    assert done.stderr.startswith(f"mlipbench: {missing}; put the file there, or give its folder with --data-root")
    assert done.stderr.count("\n") == 1
    assert set(workspace.runs()) == {"composition"}
    workspace.write_frames("more", make_frames(10, seed=5))
    (again,) = json.loads(workspace.ok("run", suite, "--json").stdout)["runs"]
    assert {metric["dataset"] for metric in again["metrics"]} == {"toy", "more"}


@pytest.mark.parametrize("kind", ["models", "suites", "datasets", "metrics", "environments"])
def test_lists_are_json_and_text_of_the_same_names(workspace, kind):
    rows = json.loads(workspace.ok("list", kind, "--json").stdout)
    lines = workspace.ok("list", kind).stdout.splitlines()
    assert len(lines) == len(rows) + 1
    assert [line.split()[0] for line in lines[1:]] == [row["name"] for row in rows]
