"""Killed and interrupted runs: the same command resumes, redoes little, and ends in the same bytes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from integration_helpers import Workspace, fingerprints, ledger_batches, make_frames

N_TRAIN, N_TEST, BATCH = 60, 150, 5
IN_FLIGHT = 2
MODELS = ["lj", "recorded-spring"]


def workspace_at(root, python):
    made = Workspace(root, python)
    made.write_frames("train", make_frames(N_TRAIN, seed=11))
    made.write_frames("test", make_frames(N_TEST, seed=12))
    made.entry()
    return made


def suite_of(workspace):
    return workspace.suite(MODELS, dataset={"energy": [{"shift": "per_element", "models": ["recorded-spring"]}]})


def command_of(workspace):
    return ["run", suite_of(workspace), "--display", "plain"]


@dataclass
class Reference:
    """An uninterrupted run."""

    seconds: float
    files: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, python_with_plugin):
    workspace = workspace_at(tmp_path_factory.mktemp("uninterrupted"), python_with_plugin)
    start = time.monotonic()
    workspace.ok(*command_of(workspace))
    seconds = time.monotonic() - start
    files = {model: fingerprints(run) for model, run in workspace.runs().items()}
    assert set(files) == set(MODELS)
    assert "predictions/s2ef/toy/train.parquet" in files["recorded-spring"]
    assert all("predictions/s2ef/toy/test.parquet" in files[model] for model in MODELS)
    return Reference(seconds, files)


@dataclass
class Assault:
    """Gives one command again and again and kills what it started.

    Attributes:
        kills: Kills so far.
        told: What the attempts said on stderr.
    """

    workspace: Workspace
    rng: np.random.Generator
    calls: Path
    kills: int = 0
    told: list[str] = field(default_factory=list)

    def attempt(self, how: str | None, within: float) -> int:
        """Give the command once, and kill at a random moment within some seconds; return the exit status."""
        committed = self.committed()
        process = self.workspace.start(*command_of(self.workspace), TOY_POTENTIALS_CALLS=str(self.calls))
        try:
            if how is not None:
                time.sleep(self.rng.uniform(0, within))
                self.kills += self.kill(process, how)
            _, told = process.communicate(timeout=240)
        finally:
            end(process)
        assert "Traceback" not in told
        self.told.append(told)
        for split, count in committed.items():
            said = re.search(rf"^recorded-spring: toy/{split}: (\d+) structures$", told, re.MULTILINE)
            if said:  # what a resumed run sets out to do is what had not been committed
                assert int(said[1]) == {"train": N_TRAIN, "test": N_TEST}[split] - BATCH * count
        return process.returncode

    def kill(self, process, how):
        if how == "worker":
            return sum(killed(victim) for victim in workers(process.pid))
        if process.poll() is not None:
            return 0
        if how == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        return 1

    def committed(self):
        """Return how many batches stand in the ledgers of the slow model."""
        found = self.workspace.results.glob("runs/toys/recorded-spring/*/predictions/s2ef/toy/*.ledger")
        return {path.stem: ledger_batches(path) for path in found}

    def check(self, reference):
        """Compare with the uninterrupted run, and count what was computed twice."""
        runs = self.workspace.runs()
        assert {model: fingerprints(run) for model, run in runs.items()} == reference.files
        assert not list(self.workspace.results.rglob("*.ledger"))
        assert not list(self.workspace.results.rglob("*.tmp"))
        lines = [line.split() for line in self.calls.read_text().splitlines()]
        computed = Counter(name for size, name in lines if int(size) == BATCH)
        assert len(computed) == (N_TRAIN + N_TEST) // BATCH
        assert sum(computed.values()) - len(computed) <= IN_FLIGHT * self.kills


def workers(pid):
    try:
        children = psutil.Process(pid).children()
        return [child for child in children if "mlipbench.worker" in child.cmdline()]
    except psutil.Error:
        return []


def killed(victim):
    """Kill a process; return whether it was there to be killed."""
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def end(process):
    """Kill a command that a failed test left behind."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def assault(tmp_path, python_with_plugin):
    def begin(seed, name="killed"):
        root = tmp_path / name
        root.mkdir()
        calls = root / "calls.txt"
        calls.touch()
        return Assault(workspace_at(root, python_with_plugin), np.random.default_rng(seed), calls)

    return begin


def test_a_run_killed_at_random_moments_resumes_and_ends_in_the_same_bytes(reference, assault):
    attacked = assault(1)
    for how in ("parent", "group", "parent", "group"):
        attacked.attempt(how, 0.8 * reference.seconds)
    assert attacked.kills
    assert attacked.attempt(None, 0) == 0
    attacked.check(reference)


def test_killed_workers_are_replaced_and_leave_no_trace(reference, assault):
    attacked = assault(3)
    process = attacked.workspace.start(*command_of(attacked.workspace), TOY_POTENTIALS_CALLS=str(attacked.calls))
    try:
        for calls in (10, 20, 30, 40):  # a batch whose worker dies twice is taken to be the cause, and is halved
            wait_for(lambda calls=calls: len(attacked.calls.read_text().splitlines()) >= calls, process)
            time.sleep(attacked.rng.uniform(0, 0.05))
            attacked.kills += attacked.kill(process, "worker")
        stdout, stderr = process.communicate(timeout=120)
    finally:
        end(process)
    assert process.returncode == 0, stderr
    assert attacked.kills == 4
    assert "Traceback" not in stdout + stderr
    attacked.check(reference)


def test_workers_killed_while_they_fit_and_while_they_start_are_replaced(reference, assault):
    attacked = assault(4)
    process = attacked.workspace.start(*command_of(attacked.workspace), TOY_POTENTIALS_CALLS=str(attacked.calls))
    try:
        for model in MODELS:  # the first worker of one fits, that of the other loads
            begun = attacked.workspace.results / "runs/toys" / model
            wait_for(lambda begun=begun: list(begun.glob("*/manifest.json")) and workers(process.pid), process)
            attacked.kills += attacked.kill(process, "worker")
        _, stderr = process.communicate(timeout=120)
    finally:
        end(process)
    assert process.returncode == 0, stderr
    assert attacked.kills == 2
    attacked.check(reference)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sixty_kills_leave_no_trace(reference, assault):
    kills, round_number = 0, 0
    while kills < 60:
        attacked = assault(1000 + round_number, f"round{round_number}")
        for _ in range(int(attacked.rng.integers(3, 15))):
            attacked.attempt(str(attacked.rng.choice(["parent", "group"])), reference.seconds)
        assert attacked.attempt(None, 0) == 0
        attacked.check(reference)
        kills += attacked.kills
        round_number += 1


def test_an_interrupt_ends_with_130_and_one_line_and_the_same_command_resumes(reference, assault):
    attacked = assault(5)
    command = command_of(attacked.workspace)
    command[-1] = "none"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    process = attacked.workspace.start(*command, TOY_POTENTIALS_CALLS=str(attacked.calls))
    try:
        wait_for(lambda: attacked.committed().get("test", 0) > 3, process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
        end(process)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr == "mlipbench: interrupted; the same command resumes\n"
    attacked.kills = 1
    assert attacked.attempt(None, 0) == 0
    assert re.search(r"^recorded-spring: resuming \S+$", attacked.told[-1], re.MULTILINE)
    assert attacked.told[-1].count("finished before") == 1  # lj
    attacked.check(reference)


def test_a_torn_ledger_is_taken_up_where_it_is_intact(reference, assault):
    attacked = assault(6)
    process = attacked.workspace.start(*command_of(attacked.workspace), TOY_POTENTIALS_CALLS=str(attacked.calls))
    try:
        wait_for(lambda: attacked.committed().get("test", 0) > 4, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    finally:
        end(process)
    (ledger,) = attacked.workspace.results.rglob("test.ledger")
    whole = ledger_batches(ledger)
    with ledger.open("r+b") as file:
        file.truncate(ledger.stat().st_size - 7)
    assert ledger_batches(ledger) == whole - 1
    attacked.kills = 2  # the torn batch is one more
    assert attacked.attempt(None, 0) == 0
    attacked.check(reference)


def test_a_second_process_is_kept_out_of_a_run(reference, assault):
    attacked = assault(7)
    command = command_of(attacked.workspace)
    process = attacked.workspace.start(*command)
    try:
        wait_for(lambda: attacked.committed().get("test", 0) > 1, process)
        process.send_signal(signal.SIGSTOP)  # or it might end before the other one begins
        done = attacked.workspace.cli(*command[:-1], "none")
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=120)
    finally:
        end(process)
    assert done.returncode == 2
    assert re.search(r"another mlipbench process is writing this run; wait for it, or stop it\n$", done.stderr)
    assert process.returncode == 0
    runs = attacked.workspace.runs()
    assert {model: fingerprints(run) for model, run in runs.items()} == reference.files


def wait_for(condition, process, seconds=180.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_two_runs_in_two_places_give_the_same_bytes(reference, tmp_path, python_with_plugin):
    workspace = workspace_at(tmp_path / "elsewhere", python_with_plugin)
    workspace.ok(*command_of(workspace), "--results", "other")
    runs = workspace.runs(results=workspace.root / "other")
    assert {model: fingerprints(run) for model, run in runs.items()} == reference.files


def test_the_same_command_reports_a_finished_run_and_again_starts_another(tmp_path, python_with_plugin):
    workspace = workspace_at(tmp_path / "twice", python_with_plugin)
    suite = workspace.suite(["composition"])
    first = workspace.ok("run", suite)
    second = workspace.ok("run", suite)
    assert "composition: finished before, in " in second.stderr
    assert second.stdout == first.stdout
    (run,) = workspace.runs().values()
    workspace.ok("run", suite, "--again")
    other = next(path for path in run.parent.iterdir() if path != run)
    assert fingerprints(other) == fingerprints(run)


def test_python_of_the_plugin_is_another_interpreter(python_with_plugin):
    code = "import sys, mlipbench, toy_potentials; print(sys.prefix)"
    done = subprocess.run([python_with_plugin, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == python_with_plugin.parents[1]
