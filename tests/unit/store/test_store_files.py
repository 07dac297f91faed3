from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlipbench.errors import MlipbenchError, PrerequisiteError
from mlipbench.store.files import replacing, write_atomically


def test_file_and_its_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a/b/c.json", b"new")
    assert (tmp_path / "a/b/c.json").read_bytes() == b"new"


def test_content_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"old and longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_old_content_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"old")

    def full(temporary: Path, content: bytes) -> int:
        with temporary.open("wb") as file:
            file.write(content[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PrerequisiteError, match=r"c\.json: no space left") as caught:
        write_atomically(path, b"new")
    assert caught.value.exit_code == 4
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_old_content_survives_a_failing_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(MlipbenchError, match=r"c\.json: Input/output error"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_old_content_survives_an_exception_of_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MlipbenchError, match=r"file/c\.json: "):
        write_atomically(tmp_path / "file/c.json", b"new")


def test_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert temporary.parent == path.parent  # a rename across file systems would not be atomic
    assert path.read_bytes() == b"new"


def test_what_a_killed_process_left_beside_a_file_goes_with_the_next_write(tmp_path):
    path = tmp_path / "board.csv"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".board.csv.{dead.pid}.tmp").write_text("half")
    alive = tmp_path / f".board.csv.{os.getppid()}.tmp"
    alive.write_text("in progress")
    write_atomically(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert sorted(tmp_path.iterdir()) == sorted([alive, path])
