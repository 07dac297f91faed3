"""The engine of this machine."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil
import pytest

from mlipbench.errors import PrerequisiteError
from mlipbench.execution.engines import EngineCommand
from mlipbench.execution.engines.engine import last_line
from mlipbench.execution.engines.local import LocalEngine, local_slots

if TYPE_CHECKING:
    from pathlib import Path


def python(code: str, title: str = "a", **environment: str) -> EngineCommand:
    return EngineCommand(title, (sys.executable, "-c", code), environment)


def all_ends(engine: LocalEngine, n: int) -> dict:
    found: dict = {}
    limit = time.monotonic() + 60
    while len(found) < n:
        assert time.monotonic() < limit
        for end in engine.wait():
            found[end.command.title] = (end.status, end.told)
    return found


def test_statuses_and_last_lines_come_back() -> None:
    engine = LocalEngine([{}, {}])
    engine.submit(python("print('one'); print('two\\n')", "good"))
    engine.submit(python("import sys; sys.exit('no such thing')", "bad"))
    engine.submit(python("import os; os.kill(os.getpid(), 9)", "killed"))
    assert all_ends(engine, 3) == {
        "good": (0, "two"),
        "bad": (1, "no such thing"),
        "killed": (-9, "it said nothing"),
    }
    assert engine.wait() == []


def test_slots_are_never_shared_and_their_variables_arrive(tmp_path: Path) -> None:
    code = (
        "import os, time; begun = time.monotonic(); time.sleep(0.3)\n"
        "print(os.environ['SLOT'], os.environ['MINE'], begun, time.monotonic())"
    )
    engine = LocalEngine([{"SLOT": "0"}, {"SLOT": "1"}])
    for number in range(5):
        engine.submit(python(code, str(number), MINE=str(number)))
    times: dict[str, list[tuple[float, float]]] = {}
    for title, (status, told) in all_ends(engine, 5).items():
        slot, mine, begun, ended = told.split()
        assert (status, mine) == (0, title)
        times.setdefault(slot, []).append((float(begun), float(ended)))
    assert set(times) == {"0", "1"}
    for spans in times.values():
        spans.sort()
        assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))


def test_a_slow_command_does_not_hold_up_the_others() -> None:
    engine = LocalEngine([{}, {}])
    engine.submit(python("import time; time.sleep(3)", "slow"))
    for number in range(4):
        engine.submit(python("pass", str(number)))
    assert list(all_ends(engine, 5))[-1] == "slow"


def test_closing_ends_what_runs() -> None:
    engine = LocalEngine([{}])
    engine.submit(python("import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"))
    assert engine.wait() == []
    engine.close()
    assert not [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]


def test_commands_end_with_the_engine_s_process() -> None:
    code = (
        "import sys, time\nfrom mlipbench.execution.engines import EngineCommand\n"
        "from mlipbench.execution.engines.local import LocalEngine\n"
        "engine = LocalEngine([{}])\n"
        "engine.submit(EngineCommand('a', (sys.executable, '-c', 'import time; time.sleep(600)'), {}))\n"
        "engine.wait()\nprint(engine._running[0].process.pid, flush=True)\ntime.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.communicate()
    child.wait(timeout=20)


def test_what_cannot_be_started_is_one_line() -> None:
    engine = LocalEngine([{}])
    engine.submit(EngineCommand("a", ("/nowhere/python",), {}))
    with pytest.raises(PrerequisiteError, match=r"/nowhere/python: cannot start a shard: No such file"):
        engine.wait()


def test_slots_of_processors_and_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert local_slots(3, cuda=False) == [{}, {}]
    assert local_slots(16, cuda=False) == [{}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert local_slots(3, cuda=True) == [{"CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_slots(3, cuda=True) == [{}]


def test_the_last_line_is_the_last_that_says_anything() -> None:
    assert last_line("a\n b \n\n") == "b"
    assert last_line("\n") == "it said nothing"
