"""Runs cut into shards: in any order, twice, at once and after kills they end in the numbers of a plain run."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from ase.io import write
from integration_helpers import Workspace, fingerprints, ledger_batches, make_frames, one_error, predictions
from test_simulations import PARAMETERS, dimers

SCORED = ("scores/**/*", "metrics.json", "conversions/*", "fitted/*")
MODELS = ["lj", "recorded-spring"]


def workspace_at(root, python, *, n_test=38):
    made = Workspace(root, python)
    made.write_frames("train", make_frames(20, seed=11))
    made.write_frames("test", make_frames(n_test, seed=12, odd=(17,)))  # which has no parameters in lj
    made.entry()
    energy = [{"shift": "per_element", "models": ["recorded-spring"]}]
    made.suite(MODELS, dataset={"energy": energy})
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory, python_with_plugin):
    workspace = workspace_at(tmp_path_factory.mktemp("plain"), python_with_plugin)
    workspace.ok("run", "suite-toys.yaml")
    return workspace.runs()


@pytest.fixture
def workspace(tmp_path, python_with_plugin):
    return workspace_at(tmp_path / "cut", python_with_plugin)


def shard(workspace, number, count=3, code=0):
    done = workspace.cli("run", "suite-toys.yaml", "--shard", f"{number}/{count}", "--display", "none")
    assert done.returncode == code, done.stderr
    return done


def check(workspace, plain):
    """Compare all that was predicted and scored with a plain run, byte by byte."""
    for model, run in workspace.runs().items():
        assert fingerprints(run, *SCORED) == fingerprints(plain[model], *SCORED)
        for path in plain[model].glob("predictions/**/*.parquet"):
            whole, cut = pq.read_table(path), pq.read_table(run / path.relative_to(plain[model]))
            assert cut.schema == whole.schema
            assert cut.combine_chunks() == whole.combine_chunks()
        splits = json.loads((run / "manifest.json").read_text())["splits"]
        known = json.loads((plain[model] / "manifest.json").read_text())["splits"]
        assert [{**one, "shards": 1} for one in splits] == known


def test_shards_in_any_order_and_twice_give_the_numbers_of_a_plain_run(workspace, plain):
    for number in (3, 1, 3, 2):
        shard(workspace, number)
    runs = workspace.runs()
    for run in runs.values():
        assert json.loads((run / "manifest.json").read_text())["status"] == "running"
        assert not (run / "metrics.json").exists()
    folder = runs["recorded-spring"] / "predictions/s2ef/toy/test.parquet"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    # 38 structures in batches of 5: 8 batches, the borders of three shards after 2 and 5 of them
    assert [int(path.name.split("-")[0]) for path in sorted(before)] == [0, 10, 25]
    done = workspace.ok("run", "suite-toys.yaml", "--display", "plain")
    assert "toy/test: " not in done.stderr  # nothing was left to predict
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    check(workspace, plain)
    done = workspace.ok("run", "suite-toys.yaml", "--shard", "1/3", "--display", "plain")
    assert done.stderr.count("finished before, in ") == 2
    assert done.stdout == ""


def test_a_shard_says_what_it_computed(workspace):
    done = workspace.ok("run", "suite-toys.yaml", "--models", "recorded-spring", "--shard", "2/3", "--display", "none")
    assert done.stdout.splitlines()[-1] == (
        "recorded-spring: toy/test: shard 2 of 3, structures 10 to 24: 15 predicted, 0 failed"
    )
    told = json.loads(
        workspace.ok("run", "suite-toys.yaml", "--models", "recorded-spring", "--shard", "3/3", "--json").stdout
    )
    last = told["shards"][-1]
    assert (last["start"], last["stop"], last["n_predicted"], told["exit_code"]) == (25, 38, 13, 0)


def test_shards_begun_at_once_agree_on_one_run(workspace, plain):
    processes = [
        workspace.start("run", "suite-toys.yaml", "--shard", f"{number}/4", "--display", "none")
        for number in (1, 2, 3, 4)
    ]
    for process in processes:
        _, told = process.communicate(timeout=240)
        assert process.returncode == 0, told
    workspace.ok("run", "suite-toys.yaml")
    check(workspace, plain)


def test_what_is_missing_or_lost_is_computed_when_they_are_joined(workspace, plain):
    for number in (1, 3):
        shard(workspace, number)
    run = workspace.runs()["recorded-spring"]
    lost = min((run / "predictions/s2ef/toy/test.parquet").iterdir())
    lost.unlink()
    kept = max((run / "predictions/s2ef/toy/test.parquet").iterdir())
    before = kept.stat().st_mtime_ns
    workspace.ok("run", "suite-toys.yaml")
    assert kept.stat().st_mtime_ns == before
    check(workspace, plain)


def test_a_killed_shard_goes_on_where_it_was(workspace, plain, tmp_path):
    calls = tmp_path / "calls"
    arguments = ("run", "suite-toys.yaml", "--models", "recorded-spring", "--shard", "1/1", "--display", "none")
    process = workspace.start(*arguments, TOY_POTENTIALS_CALLS=str(calls))
    try:
        limit = time.monotonic() + 120
        while not (found := list(workspace.results.rglob("test.ledger"))) or ledger_batches(found[0]) < 3:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.communicate(timeout=60)
    kept = ledger_batches(found[0])
    before = len(calls.read_text().splitlines())
    workspace.ok(*arguments, TOY_POTENTIALS_CALLS=str(calls))
    # the batches that were not kept, and the check of batches alone and together
    assert len(calls.read_text().splitlines()) - before < 8 - kept + 8
    workspace.ok("run", "suite-toys.yaml")
    check(workspace, plain)


def test_two_processes_never_compute_one_shard(workspace):
    arguments = ("run", "suite-toys.yaml", "--models", "recorded-spring", "--shard", "1/2", "--display", "none")
    process = workspace.start(*arguments)
    try:
        limit = time.monotonic() + 120
        while not list(workspace.results.rglob("*.ledger")):
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        busy = workspace.cli(*arguments)
        joining = workspace.cli("run", "suite-toys.yaml", "--models", "recorded-spring", "--display", "none")
        process.send_signal(signal.SIGCONT)
        _, told = process.communicate(timeout=120)
    finally:
        end(process)
    assert process.returncode == 0, told
    assert "another mlipbench process is writing shard 000000000-" in one_error(busy, 75)
    assert "another mlipbench process is writing this run" in one_error(joining, 2)


def end(process):
    for victim in [*psutil.Process(process.pid).children(recursive=True)] if psutil.pid_exists(process.pid) else []:
        victim.kill()
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("code_version", "version of mlipbench"),
        pytest.param("plan_sha256", "plan", marks=pytest.mark.slow),
        pytest.param("lock_sha256", "lock of the environment", marks=pytest.mark.slow),
    ],
)
def test_shards_of_unlike_origin_are_refused_with_the_field(workspace, field, words):
    shard(workspace, 1)
    run = workspace.runs()["recorded-spring"]
    (path,) = run.glob("shards/s2ef/toy/test/*.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, field: "other"}))
    done = workspace.cli("run", "suite-toys.yaml", "--models", "recorded-spring", "--display", "none")
    line = one_error(done, 2)
    assert f"{path.relative_to(workspace.root)}: {field}: this shard was computed with another {words} (other)" in line
    assert "give the command again" in line


def test_another_cut_is_refused_and_a_plain_run_keeps_the_one_there_is(workspace):
    shard(workspace, 1, 3)
    line = one_error(shard(workspace, 1, 4, code=2), 2)
    assert "this run was begun with splits cut into 3 shards, not 4; give --shard I/3" in line


@pytest.mark.parametrize("text", ["4/3", ""])
def test_what_is_no_shard_is_one_line(workspace, text):
    done = workspace.cli("run", "suite-toys.yaml", f"--shard={text}")
    assert "is no shard; write I/N with I from 1 to N, such as 3/8" in one_error(done, 2)


def test_a_shard_never_begins_anew(workspace):
    done = workspace.cli("run", "suite-toys.yaml", "--shard", "1/2", "--again")
    assert "--again: a shard belongs to a run that others compute, too" in one_error(done, 2)


def test_failed_structures_are_said_by_the_shard_and_by_the_run(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.write_frames("train", make_frames(4, seed=1))
    workspace.write_frames("test", make_frames(20, seed=2, odd=(17,)))
    workspace.entry()
    suite = workspace.suite([workspace.card("crasher", "CrashAdapter", kwargs={"element": 54})])
    codes = [workspace.cli("run", suite, "--trust", "--shard", f"{number}/2").returncode for number in (1, 2)]
    assert codes == [0, 3]
    done = workspace.cli("run", suite, "--trust")
    assert done.returncode == 3
    (run,) = workspace.runs().values()
    (split,) = json.loads((run / "manifest.json").read_text())["splits"]
    assert (split["status"], split["n_predicted"], split["n_failed"]) == ("partial", 19, 1)
    assert predictions(run)["state"].count("failed") == 1


@pytest.mark.slow
def test_more_shards_than_batches_leave_the_last_ones_nothing(workspace, plain):
    for number in range(1, 13):
        shard(workspace, number, 12)
    workspace.ok("run", "suite-toys.yaml")
    check(workspace, plain)
    splits = json.loads((workspace.runs()["recorded-spring"] / "manifest.json").read_text())["splits"]
    assert [one["shards"] for one in splits] == [4, 8]  # batches of 5


@pytest.mark.slow
def test_replicas_of_a_simulation_are_cut_too(tmp_path):
    found = {}
    for name, shards in (("plain", ()), ("cut", (2, 1, 3))):
        workspace = Workspace(tmp_path / name)
        write(workspace.data / "train.extxyz", dimers(40))
        write(workspace.data / "test.extxyz", dimers(6, seed=1))
        workspace.entry(pbc=[False] * 3, frame_interval_fs=2.0)
        card = workspace.card("null", "NullAdapter", batch={"structures": 1})
        suite = workspace.suite([card], tasks={"md": dict(PARAMETERS)})
        for number in shards:
            workspace.ok("run", suite, "--trust", "--shard", f"{number}/3")
        workspace.ok("run", suite, "--trust")
        (found[name],) = workspace.runs().values()
    assert len(list(found["cut"].glob("predictions/md/toy/test.parquet/*.parquet"))) == 3
    assert fingerprints(found["cut"], "trajectories/**/*") == fingerprints(found["plain"], "trajectories/**/*")
    timed = {"steps_per_second", "speed_half"}
    columns = [pq.read_table(run / "scores/md/toy/test.parquet").to_pydict() for run in found.values()]
    for name in set(columns[0]) - timed:
        np.testing.assert_array_equal(columns[0][name], columns[1][name])


@pytest.mark.slow
def test_costs_are_left_to_the_run_that_joins(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.write_frames("train", make_frames(4, seed=1))
    workspace.write_frames("test", make_frames(10, seed=2))
    workspace.entry()
    tasks = {"s2ef": {}, "efficiency": {"structures": 2, "rounds": 2, "seconds": 1}}
    suite = workspace.suite([workspace.card("spring", "SpringAdapter")], tasks=tasks)
    for number in (1, 2):
        done = workspace.ok("run", suite, "--trust", "--shard", f"{number}/2")
        assert len(done.stdout.splitlines()) == 1
    (run,) = workspace.runs().values()
    assert not (run / "costs").exists()
    workspace.ok("run", suite, "--trust")
    assert (run / "costs/toy/test.json").exists()


def test_an_engine_hands_all_shards_out_and_the_run_ends_like_a_plain_one(workspace, plain):
    done = workspace.ok("run", "suite-toys.yaml", "--shards", "3", "--display", "plain")
    # the batches of lj are larger than its split; recorded-spring predicts the one that its shift is fitted on, too
    assert re.search(rf"^4 shards: {38 + 20 + 38} structures$", done.stderr, re.MULTILINE)
    assert re.search(rf"^4 shards: done, {38 + 20 + 38} structures in ", done.stderr, re.MULTILINE)
    check(workspace, plain)
    again = workspace.ok("run", "suite-toys.yaml", "--shards", "3")
    assert again.stderr.count("finished before, in ") == 2
    assert again.stdout == done.stdout


def test_a_killed_campaign_goes_on_with_what_is_there(workspace, plain):
    arguments = ("run", "suite-toys.yaml", "--shards", "4", "--display", "plain")
    process = workspace.start(*arguments)
    try:
        limit = time.monotonic() + 120
        while len(list(workspace.results.rglob("shards/s2ef/toy/test/*.json"))) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.01)
    finally:
        end(process)
    told = workspace.ok("status", "toys").stdout
    assert re.search(
        r"^\d of \d+ shards, \d+ of \d+ structures, about \S+ hours of one worker left", told, re.MULTILINE
    )
    left = 8 - len({path.stem for path in workspace.results.rglob("shards/s2ef/toy/test/*.json")})
    done = workspace.ok(*arguments)
    (count,) = re.findall(r"^(\d+) shards: \d+ structures$", done.stderr, re.MULTILINE)
    assert int(count) <= left + 2  # one of each model may have lacked another split
    check(workspace, plain)


def test_a_shard_that_always_fails_is_set_aside_and_the_other_models_are_finished(workspace, plain):
    shard(workspace, 2)
    (made,) = workspace.results.rglob("predictions/s2ef/toy/test.parquet/*.parquet")
    (known,) = workspace.results.rglob("runs/toys/recorded-spring/*/shards/s2ef/toy/test/*.json")
    made.unlink()
    known.unlink()
    made.with_suffix(".ledger").mkdir()  # in the way of a file
    done = workspace.cli("run", "suite-toys.yaml", "--shards", "3", "--display", "plain")
    assert done.returncode == 3
    assert done.stderr.count("recorded-spring, shard 2 of 3: mlipbench: error: ") == 3
    assert "; tried again" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "mlipbench: recorded-spring, shard 2 of 3: failed too often, the last time: mlipbench: error: "
    )
    assert last.endswith("; set aside; the same command tries it again")
    finished = {
        model: json.loads((run / "manifest.json").read_text())["status"] for model, run in workspace.runs().items()
    }
    assert finished == {"lj": "ok", "recorded-spring": "running"}
    made.with_suffix(".ledger").rmdir()
    workspace.ok("run", "suite-toys.yaml", "--shards", "3")
    check(workspace, plain)


@pytest.mark.slow
def test_again_begins_a_new_run_that_is_cut(workspace):
    workspace.ok("run", "suite-toys.yaml", "--models", "recorded-spring")
    workspace.ok("run", "suite-toys.yaml", "--models", "recorded-spring", "--shards", "2", "--again")
    old, new = sorted((workspace.results / "runs/toys/recorded-spring").glob("*/manifest.json"))
    assert [json.loads(path.read_text())["shards"] for path in (old, new)] == [1, 2]
    assert fingerprints(old.parent, *SCORED) == fingerprints(new.parent, *SCORED)


def test_status_needs_a_run(tmp_path):
    workspace = Workspace(tmp_path)
    assert "there is no run; give --results the folder that runs are in" in one_error(workspace.cli("status"), 5)


def test_plan_shows_shards_and_what_is_known_of_them(workspace):
    told = workspace.ok("plan", "suite-toys.yaml", "--shards", "3").stdout
    assert "shards: 6 over 2 splits, at most 3 of one" in told  # of recorded-spring
    assert "shards: 1 over 1 splits, at most 3 of one" in told  # of lj, which fits itself to the other one
    assert "detectable" not in told
    workspace.ok("run", "suite-toys.yaml")
    made = json.loads(workspace.ok("plan", "suite-toys.yaml", "--shards", "3", "--json").stdout)
    assert made["shards"] == 3
    found = {(one["split"], one["metric"]): one for one in made["detectable"]}
    assert found["test", "forces_mae"]["n_pairs"] == 1
    assert found["test", "forces_mae"]["least"] == found["test", "forces_mae"]["most"] > 0
