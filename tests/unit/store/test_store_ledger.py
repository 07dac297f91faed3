from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlipbench.errors import MlipbenchError, PrerequisiteError
from mlipbench.protocol import Message, ProtocolError
from mlipbench.store.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync nothing: it takes most of the time here, and a test cannot see what it is for."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def message(number: int, size: int = 3) -> Message:
    return Message("batch", {"number": number}, {"x": np.arange(size) + float(number)})


def numbers(path: Path) -> list[int]:
    with Ledger(path) as ledger:
        return [found.header["number"] for _, found in ledger.messages()]


def filled(path: Path, count: int) -> list[int]:
    """Write messages 0 to count - 1 and return where each frame starts, and the end."""
    with Ledger(path) as ledger:
        starts = []
        for number in range(count):
            starts.append(ledger.end)
            ledger.append(message(number))
        return [*starts, ledger.end]


def test_messages_come_back_in_order_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/x.ledger"
    starts = filled(path, 3)
    with Ledger(path) as ledger:
        found = list(ledger.messages())
        assert [position for position, _ in found] == starts[:3]
        for number, (position, stored) in enumerate(found):
            assert stored.header == {"number": number}
            np.testing.assert_array_equal(stored.arrays["x"], [number, number + 1, number + 2])
            assert ledger.read(position).header == {"number": number}


def test_appending_after_reopening_continues(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    filled(path, 2)
    with Ledger(path) as ledger:
        ledger.append(message(7))
    assert numbers(path) == [0, 1, 7]


def test_torn_tail_is_dropped_at_every_byte_and_earlier_frames_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    starts = filled(path, 3)
    whole = path.read_bytes()
    assert len(whole) == starts[-1]
    for length in range(starts[2], len(whole)):
        path.write_bytes(whole[:length])
        assert numbers(path) == [0, 1]
        assert path.stat().st_size == starts[2]


def test_flipped_byte_drops_its_frame_and_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    starts = filled(path, 3)
    whole = path.read_bytes()
    for place in range(starts[1], starts[2]):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        assert numbers(path) == [0]
        assert path.read_bytes() == whole[: starts[1]]


def test_dropped_frame_can_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    starts = filled(path, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: starts[2] + 5])
    with Ledger(path) as ledger:
        ledger.append(message(2))
    assert path.read_bytes() == whole


@given(
    sizes=st.lists(st.integers(0, 20), max_size=6),
    garbage=st.binary(max_size=60),
    cut=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_with_any_garbage_behind_keeps_the_whole_frames(
    tmp_path: Path, sizes: list[int], garbage: bytes, cut: int
) -> None:
    path = tmp_path / "x.ledger"
    path.unlink(missing_ok=True)
    ends = []
    with Ledger(path) as ledger:
        for number, size in enumerate(sizes):
            ledger.append(message(number, size))
            ends.append(ledger.end)
    whole = path.read_bytes()
    mixed = whole[:cut] + garbage
    path.write_bytes(mixed)
    same = [one == other for one, other in zip(mixed, whole, strict=False)]
    intact = same.index(False) if False in same else len(same)
    assert numbers(path) == [number for number, end in enumerate(ends) if end <= intact]


def test_file_of_another_kind_is_an_empty_ledger(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    path.write_bytes(b"hello world" * 100)
    assert numbers(path) == []


def test_length_beyond_the_file_reads_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    path.write_bytes(b"MLED" + bytes(4) + (2**62).to_bytes(8, "little") + b"x")
    assert numbers(path) == []


def test_reading_at_a_wrong_place_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    filled(path, 1)
    with Ledger(path) as ledger, pytest.raises(ProtocolError, match="no intact frame at byte 3"):
        ledger.read(3)


def test_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.ledger"
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda file, buffers, at: real(file, [bytes(buffers[0])[:5]], at))
    filled(path, 2)
    monkeypatch.undo()
    assert numbers(path) == [0, 1]


def test_full_disk_leaves_a_valid_ledger_and_exit_code_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.ledger"
    real = os.pwritev

    def full(file: int, buffers: list[bytes], at: int) -> int:
        real(file, [bytes(buffers[0])[:7]], at)
        raise OSError(errno.ENOSPC, "No space left on device")

    with Ledger(path) as ledger:
        ledger.append(message(0))
        size = path.stat().st_size
        monkeypatch.setattr(os, "pwritev", full)
        with pytest.raises(PrerequisiteError, match=r"x\.ledger: no space left on the device; ") as caught:
            ledger.append(message(1))
        assert caught.value.exit_code == 4
        assert path.stat().st_size == size
        monkeypatch.undo()
        ledger.append(message(2))
    assert numbers(path) == [0, 2]


def test_limit_on_file_size_leaves_a_valid_ledger(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger(path) as ledger:
        ledger.append(message(0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.end + 20, hard))
        try:
            with pytest.raises(MlipbenchError, match="File too large"):
                ledger.append(message(1, 1000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.stat().st_size == ledger.end
        ledger.append(message(2))
    assert numbers(path) == [0, 2]


def test_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MlipbenchError, match=r"x\.ledger: "):
        Ledger(tmp_path / "file/x.ledger")


def test_closing_twice_closes_no_other_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x.ledger")
    ledger.close()
    with (tmp_path / "other").open("w") as other:  # gets the number of the file just closed
        ledger.close()
        other.write("x")
    assert (tmp_path / "other").read_text() == "x"


def test_committed_frames_survive_a_kill_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    script = (
        "import os, signal, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from mlipbench.protocol import Message\n"
        "from mlipbench.store.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "for number in range(5):\n"
        "    ledger.append(Message('batch', {'number': number}, {'x': np.zeros(1000)}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    assert done.returncode == -9
    assert numbers(path) == [0, 1, 2, 3, 4]
