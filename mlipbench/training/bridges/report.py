"""What the trainer of a package says of its progress, checked, kept and passed on."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mlipbench.checkpoint import LOG_FILE, Evaluation, StepTimes
from mlipbench.errors import ConfigError
from mlipbench.recipe import Event, EventKind
from mlipbench.training.curve import DivergedError, criterion, errors_text, write_log
from mlipbench.training.files import replace_file
from mlipbench.training.steps import StepClock
from mlipbench.version import code_version

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.recipe import TrainingJob
    from mlipbench.training.events import EventLog

PROGRESS_FILE: Final = "progress.json"
_BETWEEN_EVENTS: Final = 0.2


class Progress(BaseModel):
    """How far the training at one learning rate has come, sessions before this one included.

    Attributes:
        identity: Of the job.
        code: Versions of the code that took part.
        step: Optimiser steps done at the last validation.
        seconds: Wall time spent until then.
        curve: All validations.
        step_times: How long the steps took, in the process that did most of them.
        lost: Why this learning rate came to nothing; None where it did not.
    """

    model_config = ConfigDict(extra="forbid")

    identity: str
    code: tuple[str, ...] = ()
    step: int = 0
    seconds: float = 0.0
    curve: list[Evaluation] = []
    step_times: StepTimes | None = None
    lost: str | None = None


class Report:
    """Takes what a trainer says, refuses numbers that are none, and tells whoever follows the training.

    Attributes:
        learning_rate: The learning rate of the grid.
        progress: How far it has come.
        clock: Takes the times of optimiser steps, from where the bridge sees them begin and end.

    Args:
        folder: Where progress is kept; made if it is missing.
        job: What is trained.
        learning_rate: The learning rate.
        lengths: Optimiser steps of the training, and of an epoch.
        events: Where to say what happens.

    Raises:
        ConfigError: The folder holds the progress of another training.
    """

    def __init__(
        self, folder: Path, job: TrainingJob, learning_rate: float, lengths: tuple[int, int], events: EventLog
    ) -> None:
        """Read what an earlier process kept."""
        self._folder = folder
        self.learning_rate = learning_rate
        self._steps, self._per_epoch = lengths
        self._events = events
        folder.mkdir(parents=True, exist_ok=True)
        self.progress = _read(folder / PROGRESS_FILE, job.identity)
        self.clock = StepClock(job, self.progress.step_times)
        self._step = self.progress.step
        self._losses: list[float] = []
        self._told = self._began = time.monotonic()

    def begin(self, step: int = 0) -> None:
        """Say that the training begins, or goes on where the package could resume it.

        Args:
            step: Optimiser steps that are done already.
        """
        progress = self.progress
        progress.curve = [point for point in progress.curve if point.step <= step]
        progress.step = self._step = step
        if code_version() not in progress.code:
            progress.code = (*progress.code, code_version())
        self._losses = []
        self._began = time.monotonic() - progress.seconds
        self._tell(EventKind.BEGIN, f"goes on at step {step}" if step else "")

    def step(self, step: int, loss: float) -> None:
        """Take the loss of an optimiser step.

        Args:
            step: Steps done.
            loss: The loss, in the package's definition.

        Raises:
            DivergedError: It is not finite.
        """
        self._step = step
        if not math.isfinite(loss):
            raise self.diverged("the loss is NaN or infinite")
        self._losses.append(loss)
        if time.monotonic() - self._told > _BETWEEN_EVENTS:
            self._tell(EventKind.STEPS)

    def evaluation(self, step: int, learning_rate: float, errors: tuple[float, float | None]) -> None:
        """Take a validation, as the package reports it.

        Args:
            step: Steps done.
            learning_rate: The learning rate now.
            errors: Energy MAE in eV per structure, and force MAE in eV/Å or None.

        Raises:
            DivergedError: They are not finite.
        """
        self._step = step
        progress = self.progress
        progress.step, progress.seconds = step, time.monotonic() - self._began
        point = Evaluation(
            step=step,
            seconds=progress.seconds,
            learning_rate=learning_rate,
            loss=math.fsum(self._losses) / max(len(self._losses), 1),
            energy_mae=errors[0],
            forces_mae=errors[1],
        )
        if not math.isfinite(point.energy_mae) or not math.isfinite(criterion(point)):
            raise self.diverged("errors on the validation structures are NaN or infinite")
        self._losses = []
        progress.curve.append(point)
        progress.step_times = self.clock.times()
        self._save()
        replace_file(self._folder / LOG_FILE, lambda path: write_log(path, progress.curve, self._per_epoch))
        self._tell(EventKind.EVALUATION, errors_text(point))

    def end(self, text: str) -> None:
        """Say that the training is over."""
        self.progress.seconds = time.monotonic() - self._began
        self._save()
        self._tell(EventKind.END, text)

    def lose(self, error: DivergedError) -> None:
        """Keep and say that this learning rate came to nothing."""
        self.progress.lost = str(error)
        self._save()
        self._tell(EventKind.END, f"lost: {error}", error.exit_code)

    def diverged(self, problem: str) -> DivergedError:
        """Return the error of a training whose numbers are none."""
        return DivergedError(
            f"learning rate {self.learning_rate:g}, step {self._step}: {problem}", remedy="lower the learning rate"
        )

    def _save(self) -> None:
        text = self.progress.model_dump_json(indent=2) + "\n"
        replace_file(self._folder / PROGRESS_FILE, lambda path: path.write_text(text, encoding="utf-8"))

    def _tell(self, kind: EventKind, text: str = "", exit_code: int = 0) -> None:
        self._told = time.monotonic()
        self._events.write(
            Event(
                kind=kind,
                learning_rate=self.learning_rate,
                step=self._step,
                steps=self._steps,
                seconds=self._told - self._began,
                text=text,
                exit_code=exit_code,
            )
        )


def _read(path: Path, identity: str) -> Progress:
    if not path.is_file():
        return Progress(identity=identity)
    remedy = "delete the folder to start anew"
    try:
        progress = Progress.model_validate_json(path.read_bytes())
    except ValidationError:
        raise ConfigError("the state of the training is damaged", file=path, remedy=remedy) from None
    if progress.identity != identity:
        raise ConfigError("the state belongs to another training", file=path, remedy=remedy)
    return progress
