"""Models that fail: rows with reasons, the next model, exit code 3, and no trace in the numbers of others."""

from __future__ import annotations

import json

import numpy as np
import pytest
from integration_helpers import Workspace, fingerprints, make_frames, predictions

from mlipbench.datasets.prepare import DataLocation
from mlipbench.errors import ExitCode
from mlipbench.plan import Selection, build_plan
from mlipbench.progress import SilentDisplay
from mlipbench.runner import RunSettings, run_plan
from mlipbench.suite import load_suite

N_TEST = 60
ODD = (7, 33)  # structures of the test split that hold the odd element
ELEMENT = 54


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(tmp_path)
    made.write_frames("train", make_frames(40, seed=1))
    made.write_frames("test", make_frames(N_TEST, seed=2, odd=ODD))
    made.entry()
    return made


LIARS = {
    "crasher": ("CrashAdapter", {"element": ELEMENT}, "worker killed by SIGSEGV"),
    "leaver": ("CrashAdapter", {"element": ELEMENT, "how": "exit"}, "worker exited with code 7"),
    "raiser": ("RaiseAdapter", {"element": ELEMENT}, "RuntimeError: no parameters for element 54"),
    "nan": ("NaNAdapter", {"element": ELEMENT}, "non-finite forces"),
    "shape": ("WrongShapeAdapter", {"element": ELEMENT}, "forces have shape (3,), expected"),
}
WHOLLY = {
    "order": ("WrongOrderAdapter", {}, "not attempted: structure 0 alone and in a batch of 4 differ"),
    "mates": ("BatchMatesAdapter", {}, "not attempted: structure 0 alone and in a batch of 4 differ"),
    "never": ("RaiseAdapter", {"error": "exit"}, "20 structures failed in a row"),
}


def cards(workspace, liars):
    return {name: workspace.card(name, adapter, kwargs=kwargs) for name, (adapter, kwargs, _) in liars.items()}


def test_every_liar_fails_alone_and_leaves_the_others_bit_identical(workspace):
    good = workspace.card("good", "NoisyAdapter")
    workspace.ok("run", workspace.suite([good, "composition"]), "--trust", "--results", "alone")
    alone = {name: fingerprints(run) for name, run in workspace.runs(results=workspace.root / "alone").items()}

    liars = cards(workspace, LIARS | WHOLLY)
    order = [*list(liars.values())[:4], good, *list(liars.values())[4:], "composition"]
    done = workspace.cli("run", workspace.suite(order), "--trust", "--display", "none")
    assert done.returncode == 3
    runs = workspace.runs()
    assert set(runs) == {*liars, "good", "composition"}

    assert {name: fingerprints(runs[name]) for name in alone} == alone

    told = done.stderr.splitlines()
    assert "Traceback" not in done.stdout + done.stderr
    assert [line.split(": ")[1] for line in told] == [*LIARS, *WHOLLY]
    assert all(line.startswith(f"mlipbench: {line.split(': ')[1]}: toy/test: ") for line in told)

    expected = predictions(runs["good"])
    for name, (_, _, reason) in LIARS.items():
        rows = predictions(runs[name])
        assert [i for i, state in enumerate(rows["state"]) if state == "failed"] == list(ODD)
        assert all(reason in rows["reason"][i] for i in ODD)
        assert all(rows[column][i] is None for i in ODD for column in ("energy", "forces"))
        kept = [i for i in range(N_TEST) if i not in ODD]
        for column in ("energy", "forces"):
            assert [rows[column][i] for i in kept] == [expected[column][i] for i in kept]
        assert manifest(runs[name])["splits"][0]["status"] == "partial"
        assert manifest(runs[name])["splits"][0]["n_failed"] == len(ODD)
        assert {metric["n_failed"] for metric in metrics(runs[name])} == {len(ODD)}

    for name, (_, _, reason) in WHOLLY.items():
        record = manifest(runs[name])["splits"][0]
        assert (record["status"], record["n_failed"]) == ("failed", N_TEST)
        assert reason in " ".join([record["reason"], *predicted_reasons(runs[name])])
        assert all(metric["value"] is None for metric in metrics(runs[name]))

    text = (workspace.results / "runs/toys/leaderboard.md").read_text()
    for name in runs:
        assert f"| {name}" in text  # failures stay in the table


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


def metrics(run):
    return json.loads((run / "metrics.json").read_text())["metrics"]


def predicted_reasons(run):
    if not (run / "predictions/s2ef/toy/test.parquet").exists():  # the model could not be loaded
        return []
    return [reason for reason in predictions(run)["reason"] if reason]


def test_a_hanging_model_is_ended_and_the_next_one_runs(workspace):
    """The limit on the time of a request is not on the command line, so this goes through the API of the runner."""
    hanger = workspace.card("hanger", "HangAdapter", kwargs={"element": ELEMENT})
    deaf = workspace.card("deaf", "HangAdapter", kwargs={"element": ELEMENT, "deaf": True})
    workspace.write_frames("test", make_frames(12, seed=2, odd=(7,)))
    suite = load_suite(workspace.suite([hanger, deaf, "composition"]))
    plan = build_plan(suite, Selection(threads=1, trust=True), DataLocation(workspace.data, workspace.root / "cache"))
    outcome = run_plan(plan, RunSettings(workspace.results, request_timeout=1.0), SilentDisplay())
    assert outcome.exit_code is ExitCode.TASKS_FAILED
    runs = workspace.runs()
    for name in ("hanger", "deaf"):
        rows = predictions(runs[name])
        assert rows["state"] == ["failed" if i == 7 else "ok" for i in range(12)]
        assert rows["reason"][7] == "worker did not answer within 1 s"
    assert outcome.problems == [
        f"{name}: toy/test: partial: worker did not answer within 1 s" for name in ("hanger", "deaf")
    ]
    assert predictions(runs["composition"])["state"].count("ok") == 11  # the odd element is not in the fit split
    rows = predictions(runs["hanger"])
    frames = make_frames(12, seed=2, odd=(7,))
    for i in (0, 6, 8, 11):
        arms = frames[i].positions - frames[i].positions.mean(axis=0)
        assert rows["energy"][i] == pytest.approx(0.5 * (arms**2).sum(), rel=1e-12)
        np.testing.assert_allclose(rows["forces"][i], -arms.ravel(), rtol=1e-6, atol=1e-6)


def test_a_model_whose_weights_are_missing_is_left_for_later(workspace):
    """One line and exit code 4, while the rest of the suite runs; nothing counts as failed or is in the table."""
    absent = workspace.card("absent", "no_such_package.models:Model")
    suite = workspace.suite([absent, "composition"])
    done = workspace.cli("run", suite, "--trust", "--display", "none")
    assert done.returncode == 4
    line = "mlipbench: absent: adapter no_such_package.models:Model needs the package no_such_package, "
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1
    runs = workspace.runs()
    assert metrics(runs["composition"])
    assert manifest(runs["absent"])["status"] == "running"
    assert "| absent" not in (workspace.results / "runs/toys/leaderboard.md").read_text()
    assert workspace.cli("run", suite, "--trust", "--display", "none").returncode == 4  # tried again, not reported


def test_a_failed_run_is_reported_again_with_its_problems_and_its_exit_code(workspace):
    suite = workspace.suite([workspace.card("nan", "NaNAdapter", kwargs={"element": ELEMENT})])
    first = workspace.cli("run", suite, "--trust", "--display", "none")
    second = workspace.cli("run", suite, "--trust", "--display", "none")
    assert (first.returncode, second.returncode) == (3, 3)
    assert second.stderr == first.stderr
    assert first.stderr == "mlipbench: nan: toy/test: partial: non-finite forces\n"


def test_a_model_that_fails_everywhere_ends_with_three_and_no_number(workspace):
    suite = workspace.suite([workspace.card("never", "RaiseAdapter")])
    done = workspace.cli("run", suite, "--trust", "--json", "--display", "none")
    assert done.returncode == 3
    content = json.loads(done.stdout)
    assert content["exit_code"] == 3
    assert [run["status"] for run in content["runs"]] == ["failed"]
    states = {metric["metric"]: (metric["status"], metric["value"]) for metric in content["runs"][0]["metrics"]}
    assert states["forces_mae"] == ("failed", None)
    assert states["energy_mae"] == ("not_applicable", None)  # of another level of theory, whatever the model does
