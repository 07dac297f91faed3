"""A suite of three models in environments of their own through Parsl and a real SLURM, killed in all its parts."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from integration_helpers import Workspace, fingerprints, make_frames
from slurm_place import Slurm, missing

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1500)]

MODELS = ("lj", "leignn", "chgnet")
SHARDS = 6
SITE = """
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import SlurmProvider

config = Config(
    executors=[
        HighThroughputExecutor(
            label="slurm", address="127.0.0.1", max_workers_per_node=1, encrypted=False,
            heartbeat_period=2, heartbeat_threshold=10,
            provider=SlurmProvider(
                partition={partition!r}, exclusive=False, walltime={walltime!r}, init_blocks=1, max_blocks=1,
                cmd_timeout=30, worker_init="export PATH={bin}:$PATH",
            ),
        )
    ],
    run_dir={folder!r}, strategy="simple", strategy_period=1, retries=0,
)
"""
TRAINING = {
    "recipe": "tiny",
    "version": 1,
    "model": "leignn",
    "dataset": "mini-slabs",
    "preset": "small",
    "changes": {"hidden": 16},
    "train": {"split": "fit", "whole_clusters": True, "shuffle_seed": 7, "slice": [14, None, None]},
    "validation": {"split": "fit", "whole_clusters": True, "shuffle_seed": 7, "slice": [None, 14, None]},
    "energy_reference": "per_element",
    "loss": {"energy": 1.0, "forces": 50.0},
    "learning_rates": [1.0e-3],
    "schedule": {"kind": "cosine"},
    "batch": 8,
    "steps": 600,
    "evaluate_every": 100,
}
RUN = ("run", "quickstart", "--models", ",".join(MODELS), "--isolated", "--yes", "--display", "plain")
CUT = (*RUN, "--shards", str(SHARDS), "--engine", "parsl", "--engine-config", "site.py")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if lacking := missing():
        pytest.skip(f"a SLURM of one's own needs {', '.join(lacking)}")
    made = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def workspace_at(root, slurm, *, partition="main", walltime="00:20:00"):
    made = Workspace(root)
    made.patience = 900.0
    made.env |= slurm.env | {"MLIPBENCH_CACHE": os.environ.get("MLIPBENCH_CACHE", str(root / "cache"))}
    made.env["MLIPBENCH_TEST_PLACE"] = str(root)
    text = SITE.format(
        partition=partition, walltime=walltime, bin=Path(sys.executable).parent, folder=str(root / "parsl")
    )
    (root / "site.py").write_text(text)
    return made


def workers(workspace):
    """Return the processes that hold a model for a workspace."""
    place = workspace.env["MLIPBENCH_TEST_PLACE"]
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if "mlipbench.worker" in (process.info["cmdline"] or [])
        and (process.info["environ"] or {}).get("MLIPBENCH_TEST_PLACE") == place
    ]


def wait_for(condition, process, seconds=300.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def records(workspace, model="*"):
    return len(list(workspace.results.glob(f"runs/quickstart/{model}/*/shards/s2ef/*/*/*.json")))


def test_killed_in_all_its_parts_a_campaign_ends_in_the_bytes_of_a_plain_run(slurm, tmp_path):
    plain = workspace_at(tmp_path / "plain", slurm)
    plain.ok(*RUN)
    workspace = workspace_at(tmp_path / "slurm", slurm)
    process = workspace.start(*CUT)
    try:
        wait_for(lambda: workers(workspace), process)
        victim = workers(workspace)[0]
        victim.kill()  # a worker: the shard's process starts another one
        wait_for(lambda: records(workspace) > 2 and slurm.jobs(), process)
        (job,) = slurm.jobs()
        slurm.command("scancel", job)  # the job: Parsl asks for another one
        wait_for(lambda: [one for one in slurm.jobs() if one != job], process)
        before = records(workspace)
        wait_for(lambda: records(workspace) > before, process)
        os.killpg(process.pid, signal.SIGKILL)  # the submitting process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    there = records(workspace)
    assert 0 < there < 6 * SHARDS
    told = workspace.ok("status", "quickstart").stdout
    assert "running" in told
    done = workspace.ok(*CUT)
    assert "set aside" not in done.stderr
    runs, known = workspace.runs("quickstart"), plain.runs("quickstart")
    assert set(runs) == set(known) == set(MODELS)
    for model, run in runs.items():
        scored = ("scores/**/*", "metrics.json", "conversions/*", "fitted/*")
        assert fingerprints(run, *scored) == fingerprints(known[model], *scored)
        for path in known[model].glob("predictions/**/*.parquet"):
            whole, cut = pq.read_table(path), pq.read_table(run / path.relative_to(known[model]))
            assert cut.combine_chunks() == whole.combine_chunks()
    kinds = [(run / "requirements.lock").read_text() for run in runs.values()]
    assert len(set(kinds)) == len(MODELS)


def test_a_training_is_one_job_and_goes_on_in_another(slurm, tmp_path):
    workspace = workspace_at(tmp_path, slurm)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TRAINING))
    line = ("train", "tiny.yaml", "--output", "weights", "--isolated", "--yes", *CUT[-4:], "--display", "plain")
    process = workspace.start(*line)
    try:
        events = tmp_path / "weights" / "events.jsonl"
        wait_for(lambda: events.exists() and '"evaluation"' in events.read_text(), process)
        (job,) = slurm.jobs()
        slurm.command("scancel", job)
        _, told = process.communicate(timeout=600)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, told
    assert "training of leignn-tiny: " in told
    assert "; tried again" in told
    record = json.loads((tmp_path / "weights" / "checkpoint.json").read_text())
    assert record["candidates"][0]["steps"] == TRAINING["steps"]
    assert events.read_text().count('"begin"') == 2
    again = workspace.ok(*line)
    assert "trained" in again.stdout


def test_a_job_that_ends_too_soon_begins_no_shard(slurm, tmp_path):
    """Jobs of a minute and shards of some twenty seconds: no shard is ever lost with its job."""
    workspace = workspace_at(tmp_path, slurm, walltime="00:01:00")
    workspace.write_frames("train", make_frames(4, seed=1))
    workspace.write_frames("test", make_frames(100, seed=2))
    workspace.entry()
    card = workspace.card("slow", "SlowAdapter", kwargs={"seconds": 0.9}, batch={"structures": 1})
    suite = workspace.suite([card])
    done = workspace.ok("run", suite, "--trust", "--shards", "5", *CUT[-4:], "--display", "plain")
    assert "tried again" not in done.stderr
    (run,) = workspace.runs().values()
    seconds = [json.loads(path.read_text())["seconds"] for path in run.glob("shards/s2ef/toy/test/*.json")]
    assert len(seconds) == 5
    assert min(seconds) > 18
    told = slurm.command("scontrol", "show", "jobs")
    assert told.count("TimeLimit=00:01:00") >= 3  # two shards at most have room in one of them


def test_a_partition_that_refuses_is_one_line(slurm, tmp_path):
    workspace = workspace_at(tmp_path, slurm, partition="nowhere")
    done = workspace.cli(*CUT[:3], "lj", *CUT[4:])
    assert done.returncode == 4
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mlipbench: error: site.py: the executor 'slurm' has given up: ")
    assert "Traceback" not in done.stderr
