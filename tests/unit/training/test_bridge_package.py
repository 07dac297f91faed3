"""Running a package's command, and what is told of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlipbench.errors import WorkerError
from mlipbench.training.bridges.package import Command, follow

WRITES = """
import json, sys, time
with open("progress.txt", "a") as file:
    for step in range(int(sys.argv[1])):
        file.write(json.dumps({"step": step, "loss": float("nan") if step == 2 else 1.0}) + "\\n")
        file.flush()
        time.sleep(0.02)
    file.write('{"torn":')
"""
FAILS = """
print("all is well", flush=True)
raise SystemExit("something\\twent wrong")
"""
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
WAITS = """
import os, time
open("pid", "w").write(str(os.getpid()))
time.sleep(600)
"""


def command(folder: Path, name: str, text: str, *arguments: str) -> Command:
    (folder / f"{name}.py").write_text(text)
    return Command(name, arguments, folder, folder / "package.log")


def test_lines_are_yielded_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "progress.txt").write_text('{"old": 1}\n')
    lines = list(follow(command(tmp_path, "writes", WRITES, "5"), tmp_path / "progress.txt"))
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[2]["loss"] != lines[2]["loss"]


def test_a_command_that_fails_says_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(WorkerError) as caught:
        list(follow(command(tmp_path, "fails", FAILS), tmp_path / "none"))
    assert str(caught.value) == "fails ended with status 1: something went wrong"


def test_a_command_that_is_killed_is_told_with_its_signal(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"dies was ended by signal 11: "):
        list(follow(command(tmp_path, "dies", DIES), tmp_path / "none"))


def test_a_command_ends_with_who_listens(tmp_path: Path) -> None:
    lines = follow(command(tmp_path, "writes", WRITES, "100000"), tmp_path / "progress.txt")
    next(lines)
    lines.close()
    size = (tmp_path / "progress.txt").stat().st_size
    time.sleep(0.3)
    assert (tmp_path / "progress.txt").stat().st_size == size


def test_a_command_does_not_outlive_a_training_that_is_killed(tmp_path: Path) -> None:
    command(tmp_path, "waits", WAITS)
    code = (
        "from pathlib import Path\n"
        "from mlipbench.training.bridges.package import Command, follow\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "list(follow(Command('waits', (), folder, folder / 'log'), folder / 'none'))\n"
    )
    training = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while not (pid := tmp_path / "pid").exists() or not pid.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int(pid.read_text())
    training.send_signal(signal.SIGKILL)
    training.wait()
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        os.kill(process, 0)
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return False
