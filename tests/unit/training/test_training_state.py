# ruff: noqa: E402 - torch first
"""The state on disk: it comes back to the bit, and is whole or not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from mlipbench.checkpoint import Evaluation
from mlipbench.errors import ConfigError
from mlipbench.recipe import EVENTS_FILE, Event, EventKind
from mlipbench.training.events import EventLog
from mlipbench.training.files import replace_file
from mlipbench.training.optim import PlateauState
from mlipbench.training.state import STATE_FILE, Progress, load_state, save_state

if TYPE_CHECKING:
    from pathlib import Path


def progress() -> Progress:
    point = Evaluation(step=3, seconds=0.1, learning_rate=0.1, loss=1 / 3, energy_mae=1e-300, forces_mae=0.1 + 0.2)
    return Progress(
        identity="mine",
        code=("1",),
        step=7,
        loss_sum=2 / 3,
        plateau=PlateauState(1 / 7, 0.3, 2),
        best=point,
        curve=[point],
    )


def test_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    tensors = {"weights.a": torch.randn(3, 2), "best.n": torch.tensor(3, dtype=torch.int64)}
    save_state(tmp_path, progress(), tensors)
    found, back = load_state(tmp_path, "mine") or (None, {})
    assert found == progress()
    assert isinstance(found.plateau, PlateauState)
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    assert back.keys() == tensors.keys()


def test_without_a_state_and_with_one_without_tensors(tmp_path: Path) -> None:
    assert load_state(tmp_path, "mine") is None
    save_state(tmp_path, progress(), {})
    assert load_state(tmp_path, "mine") == (progress(), {})


def test_a_state_of_another_job_or_a_damaged_one(tmp_path: Path) -> None:
    save_state(tmp_path, progress(), {"weights.a": torch.zeros(4)})
    with pytest.raises(ConfigError, match="belongs to another training"):
        load_state(tmp_path, "theirs")
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="the state of the training is damaged; delete the folder"):
        load_state(tmp_path, "mine")


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, lambda fresh: fresh.write_text("old"))

    def fail(fresh: Path) -> None:
        fresh.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace_file(path, fail)
    assert path.read_text() == "old"


def test_events_are_whole_lines_even_after_a_torn_one(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.write(Event(kind=EventKind.STEPS, step=1, learning_rate=0.1))
    log.close()
    path = tmp_path / EVENTS_FILE
    path.write_bytes(path.read_bytes() + b'{"kind":"ste')
    log = EventLog(tmp_path)
    log.write(Event(kind=EventKind.ERROR, text="two\nlines", exit_code=3))
    log.close()
    EventLog(tmp_path, silent=True).write(Event(kind=EventKind.DONE))
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert Event.model_validate_json(lines[0]) == Event(kind=EventKind.STEPS, step=1, learning_rate=0.1)
    assert Event.model_validate_json(lines[2]).text == "two\nlines"
