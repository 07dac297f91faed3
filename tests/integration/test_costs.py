"""Costs of models measured side by side by the command line."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from integration_helpers import Workspace, make_frames, one_error

N_TEST = 12
TASK = {"structures": 6, "rounds": 8, "calls": 2, "seconds": 20, "batch": 4, "reference": "steady"}


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(tmp_path)
    made.write_frames("train", make_frames(20, seed=1))
    made.write_frames("test", make_frames(N_TEST, seed=2))
    made.entry()
    return made


def run(workspace, models, *arguments, **task):
    suite = workspace.suite(models, tasks={"s2ef": {"metrics": ["forces_mae"]}, "efficiency": TASK | task})
    return workspace.cli("run", suite, "--trust", "--display", "none", *arguments)


def metrics(folder):
    records = json.loads((folder / "metrics.json").read_text())["metrics"]
    return {record["metric"]: record for record in records if record["task"] == "efficiency"}


def calls(folder):
    rows = pq.read_table(folder / "timings.parquet").to_pylist()
    return [row for row in rows if row["task"] == "efficiency"]


def test_models_take_turns_and_their_ratio_is_that_of_their_calls(workspace):
    steady = workspace.card("steady", "SlowAdapter", kwargs={"seconds": 0.05})
    slow = workspace.card("slow", "SlowAdapter", kwargs={"seconds": 0.1})
    done = run(workspace, [slow, steady])
    assert done.returncode == 0, done.stderr
    runs = workspace.runs()
    found = {name: metrics(folder) for name, folder in runs.items()}

    assert found["steady"]["latency_ratio"]["value"] == pytest.approx(1.0)
    ratio = found["slow"]["latency_ratio"]
    assert ratio["value"] == pytest.approx(2.0, abs=0.2)  # it sleeps twice as long
    assert ratio["ci_low"] <= ratio["value"] <= ratio["ci_high"]
    assert found["slow"]["latency_p50"]["value"] == pytest.approx(100, abs=20)
    assert found["slow"]["latency_p99"]["value"] is None
    assert "1000 would" in found["slow"]["latency_p99"]["reason"]
    # a call sleeps as long whatever its batch, so that the largest batch is the fastest
    assert found["slow"]["throughput"]["value"] == pytest.approx(4 / 0.1, rel=0.2)
    assert found["slow"]["parameters"]["reason"] == "the model is no torch module"

    slow_calls, steady_calls = (calls(runs[name]) for name in ("slow", "steady"))
    assert {row["stage"] for row in slow_calls} == {"cold", "warm_up", "latency", "energy", "throughput"}
    single = [row for row in slow_calls if row["stage"] == "latency"]
    beside = [row for row in steady_calls if row["stage"] == "latency"]
    assert len(single) == TASK["rounds"] * TASK["calls"]
    assert [row["place"] for row in single] == [row["place"] for row in beside]
    turns = {row["round"]: row["turn"] for row in single}
    assert set(turns.values()) == {0, 1}  # neither is always first
    for row, other in zip(single, beside, strict=True):
        assert row["reference_seconds"] == other["prepare_seconds"] + other["forward_seconds"]
        assert row["turn"] != other["turn"]

    table = (workspace.results / "runs" / "toys" / "leaderboard.md").read_text()
    assert "Force MAE" in table
    assert "On a GPU (cuda): not measured." in table

    assert json.loads(workspace.ok("score", runs["slow"], "--json").stdout)
    assert metrics(runs["slow"]) == found["slow"]


def test_a_model_added_later_is_measured_beside_the_reference(workspace):
    steady = workspace.card("steady", "SlowAdapter", kwargs={"seconds": 0.05})
    assert run(workspace, [steady]).returncode == 0
    before = (workspace.runs()["steady"] / "timings.parquet").read_bytes()
    slow = workspace.card("slow", "SlowAdapter", kwargs={"seconds": 0.1})
    assert run(workspace, [steady, slow]).returncode == 0
    runs = workspace.runs()
    assert metrics(runs["slow"])["latency_ratio"]["value"] == pytest.approx(2.0, abs=0.2)
    assert (runs["steady"] / "timings.parquet").read_bytes() == before


def test_what_a_model_cannot_do_is_recorded_and_the_others_are_measured(workspace):
    models = [
        workspace.card("steady", "SlowAdapter", kwargs={"seconds": 0.01}),
        workspace.card("crasher", "CrashAdapter"),
        workspace.card("forceless", "NoForcesAdapter"),
        workspace.card("hanger", "HangAdapter"),
    ]
    suite = workspace.suite(models, tasks={"efficiency": TASK | {"seconds": 3, "rounds": 3}})
    done = workspace.cli("run", suite, "--trust", "--display", "none", "--timeout", "5")
    assert done.returncode == 3
    runs = workspace.runs()
    assert metrics(runs["steady"])["latency_p50"]["value"] > 10
    for name, reason in (
        ("crasher", "worker killed by SIGSEGV"),
        ("forceless", "forces are missing"),
        ("hanger", "did not answer within"),
    ):
        record = metrics(runs[name])["latency_p50"]
        assert (record["status"], record["value"]) == ("failed", None)
        assert reason in record["reason"]
        line = next(
            line for line in done.stderr.splitlines() if line.startswith(f"mlipbench: {name}: toy/test: failed: ")
        )
        assert reason in line


def test_a_batch_that_does_not_fit_is_recorded_and_smaller_ones_count(workspace):
    glutton = workspace.card("glutton", "RaiseAdapter", kwargs={"error": "memory", "most": 2})
    suite = workspace.suite([glutton], tasks={"efficiency": TASK | {"rounds": 2}})
    workspace.ok("run", suite, "--trust", "--display", "none")
    found = metrics(workspace.runs()["glutton"])
    assert found["throughput"]["value"] > 0
    assert "nothing larger: 4 structures: MemoryError: cannot allocate the graph" in found["throughput"]["reason"]


def test_what_takes_too_long_for_its_time_is_not_measured_and_no_failure(workspace):
    models = [
        workspace.card("steady", "SlowAdapter", kwargs={"seconds": 0.01}),
        workspace.card("heavy", "SlowAdapter", kwargs={"seconds": 0.6}),  # two turns with batches are more than it has
        workspace.card("slow", "SlowAdapter", kwargs={"seconds": 1.5}),
    ]
    suite = workspace.suite(models, tasks={"efficiency": TASK | {"seconds": 3, "rounds": 3}})
    workspace.ok("run", suite, "--trust", "--display", "none")
    runs = workspace.runs()
    slow, heavy = metrics(runs["slow"]), metrics(runs["heavy"])
    assert {record["status"] for record in slow.values()} == {"not_applicable"}
    assert "a call takes 1.5" in slow["latency_p50"]["reason"]
    assert "more than a third of the 3 s that a model has here" in slow["latency_p50"]["reason"]
    assert heavy["latency_p50"]["value"] == pytest.approx(600, abs=60)
    assert "which leaves no time for batches" in heavy["throughput"]["reason"]
    assert metrics(runs["steady"])["latency_p50"]["value"] > 10


def test_what_was_too_slow_is_not_tried_on_larger_structures(workspace):
    workspace.write_frames("train", [frame for frame in make_frames(40, seed=3) if len(frame.symbols) == 3])
    workspace.write_frames("test", [frame for frame in make_frames(40, seed=4) if len(frame.symbols) == 7])
    models = [workspace.card("steady", "SlowAdapter", kwargs={"seconds": 0.01}),
              workspace.card("slow", "SlowAdapter", kwargs={"seconds": 0.8})]  # fmt: skip
    task = {"efficiency": TASK | {"seconds": 2, "rounds": 2, "splits": ["train", "test"]}}
    suite = workspace.suite(models, tasks=task, dataset={"splits": ["train", "test"]})
    workspace.ok("run", suite, "--trust", "--display", "none")
    records = json.loads((workspace.runs()["slow"] / "metrics.json").read_text())["metrics"]
    reasons = {one["split"]: one["reason"] for one in records if one["metric"] == "latency_p50"}
    assert reasons["train"].startswith("a call takes 0.8")
    assert reasons["test"].startswith("not tried: with 3 atoms a call takes 0.8")
    assert {row["split"] for row in calls(workspace.runs()["steady"])} == {"train", "test"}


def test_a_gpu_that_is_not_there_is_missing(workspace):
    card = workspace.card("steady", "SpringAdapter", capabilities={"devices": ["cpu", "cuda"]})
    done = run(workspace, [card], "--device", "cuda")
    assert done.returncode == 4
    assert "no CUDA device is here for 'cuda'" in done.stderr


def test_settings_that_make_no_sense_are_refused(workspace):
    done = run(workspace, [workspace.card("steady", "SpringAdapter")], jitter=1.0)
    assert "tasks.efficiency.jitter" in one_error(done, 2)


def test_an_interrupted_measurement_is_made_anew(workspace):
    slow = workspace.card("steady", "SlowAdapter", kwargs={"seconds": 0.2})
    suite = workspace.suite([slow], tasks={"s2ef": {"metrics": ["forces_mae"]}, "efficiency": TASK})
    process = workspace.start("run", suite, "--trust", "--display", "none")
    folder = workspace.results / "runs" / "toys" / "steady"
    while not list(folder.glob("*/predictions/s2ef/toy/test.parquet")):
        assert process.poll() is None
    process.kill()
    process.communicate()
    done = workspace.ok("run", suite, "--trust", "--display", "none")
    assert "Traceback" not in done.stderr
    assert metrics(workspace.runs()["steady"])["latency_p50"]["value"] > 200
