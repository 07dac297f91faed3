"""The training at one learning rate."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from mlipbench.checkpoint import LOG_FILE, Evaluation
from mlipbench.recipe import Event, EventKind, Exponential, Plateau
from mlipbench.training.batches import Batch, ahead
from mlipbench.training.curve import DivergedError, append_log, criterion, errors_text, write_log
from mlipbench.training.evaluate import evaluate
from mlipbench.training.learner import Learner, best_of
from mlipbench.training.loss import Counts
from mlipbench.training.optim import PlateauState, after_value, cosine_learning_rate, exponential_learning_rate
from mlipbench.training.order import Order
from mlipbench.training.state import Progress, load_state, save_state
from mlipbench.training.steps import StepClock
from mlipbench.version import code_version

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from lightning_fabric import Fabric
    from torch import Tensor

    from mlipbench.recipe import TrainingJob
    from mlipbench.training.batches import BatchMaker
    from mlipbench.training.events import EventLog

SAVE_AFTER: Final = 10.0
"""Seconds since the state was last saved after which an evaluation saves it again."""
SAVE_AT_LATEST: Final = 60.0
"""Seconds since the state was last saved after which a step saves it again."""
_BETWEEN_EVENTS: Final = 0.2
_BETWEEN_LOOKS: Final = 10  # steps between two exchanges of the processes, or between two waits for a GPU


class Interruption:
    """Whether this process was asked to end: SIGTERM, which schedulers send some seconds before they kill a job."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.requested = False

    def listen(self) -> None:
        """Take the signal from now on."""
        signal.signal(signal.SIGTERM, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.requested = True


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What the trainings at all learning rates share.

    Attributes:
        job: The job.
        folder: Where states are kept.
        fabric: The processes and their device.
        train: Makes batches of the training structures.
        validation: Makes batches of the validation structures.
        events: Where to say what happens.
        interruption: Whether the training has to end, its state saved.
    """

    job: TrainingJob
    folder: Path
    fabric: Fabric
    train: BatchMaker
    validation: BatchMaker
    events: EventLog
    interruption: Interruption


class Training:
    """The training at one learning rate, from its last saved state on.

    Every step is a pure function of the recipe and its number, and networks draw no random numbers in training: on a
    processor, a training that was killed and goes on ends in the same bits as one that was not.

    Attributes:
        learning_rate: The learning rate.
        steps_per_epoch: Optimiser steps of an epoch.
        progress: How far it has come.
        best: The weights that are kept, by name, in host memory.

    Args:
        setting: What is trained on what.
        learning_rate: The learning rate.
    """

    def __init__(self, setting: Setting, learning_rate: float) -> None:
        """Load the state if there is one."""
        self._setting = setting
        self._recipe = setting.job.recipe
        self._fabric = setting.fabric
        self.learning_rate = learning_rate
        self._folder = setting.folder / repr(learning_rate)
        self._folder.mkdir(parents=True, exist_ok=True)
        data = setting.train.data
        self._order = Order(data.n_structures, self._recipe.batch, self._recipe.seed)
        self.steps_per_epoch = self._order.steps_per_epoch
        self._components = data.counted_components
        fresh = Progress(identity=setting.job.identity, code=(), plateau=PlateauState(learning_rate))
        self.progress, self._tensors = load_state(self._folder, setting.job.identity) or (fresh, {})
        self.best = best_of(self._tensors)

    def run(self) -> None:
        """Train to the end, unless that was done before; where the loss diverges, `Progress.lost` says so.

        Raises:
            KeyboardInterrupt: The process was asked to end; its state is saved.
        """
        if self.progress.ended:
            return
        self._start()
        try:
            self._loop()
        except DivergedError as error:
            self.progress.lost, self.progress.ended, self.progress.loss_sum = str(error), True, 0.0
            self._save({})
            self._tell(EventKind.END, f"lost: {error}", error.exit_code)
            return
        self.progress.ended, self.best = True, self._learner.best
        self._save()
        del self._learner
        self._tell(EventKind.END, f"best: {errors_text(self.progress.best)}" if self.progress.best else "")

    def _start(self) -> None:
        progress = self.progress
        if code_version() not in progress.code:
            progress.code = (*progress.code, code_version())
        self._learner = Learner(self._setting.job, self._fabric)
        if self._tensors:
            self._learner.restore(self._tensors)
            self._tensors = {}
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._fabric.device)
        if self._fabric.is_global_zero:
            self._loss_sum += progress.loss_sum
            write_log(self._folder / LOG_FILE, progress.curve, self.steps_per_epoch)
        alone_on_cpu = self._fabric.world_size == 1 and self._fabric.device.type == "cpu"
        self._between_looks = 1 if alone_on_cpu else _BETWEEN_LOOKS
        self._began = time.monotonic() - progress.seconds
        self._saved = self._told = time.monotonic()
        self._clock = StepClock(self._setting.job, progress.step_times, self._fabric.world_size)
        self._tell(EventKind.BEGIN, f"goes on at step {progress.step}" if progress.step else "")

    def _loop(self) -> None:
        recipe, progress = self._recipe, self.progress
        stop = recipe.steps if recipe.steps is not None else np.iinfo(np.int64).max
        looked_at = progress.step
        self._clock.start()
        for batch, counts in ahead(self._make, range(progress.step, stop)):
            self._rate = self._next_rate()
            self._loss_sum += self._learner.step(batch.to(self._fabric.device), counts, self._rate)
            progress.step += 1
            progress.loss_steps += 1
            due = progress.step % recipe.evaluate_every == 0 or progress.step == stop
            if not due and progress.step % self._between_looks:
                continue
            save, stop_now = self._look()
            # the loss was read, so that a GPU is done with all steps since the last look
            self._clock.stop(progress.step - looked_at)
            looked_at = progress.step
            if stop_now:
                self._save()
                raise KeyboardInterrupt
            over = recipe.seconds is not None and progress.seconds >= recipe.seconds
            if due or over:
                self._evaluate()
            if over or (recipe.early_stopping is not None and progress.stale >= recipe.early_stopping):
                return
            if save > SAVE_AT_LATEST or (due and save > SAVE_AFTER):
                self._save()
            if time.monotonic() - self._told > _BETWEEN_EVENTS:
                self._tell(EventKind.STEPS)
            self._clock.start()

    def _make(self, step: int) -> tuple[Batch, Counts]:
        members = self._order.members(step)
        counts = Counts(len(members), int(self._components[members].sum()))
        mine = members[self._fabric.global_rank :: self._fabric.world_size]
        # a process without a part goes along with a structure that does not count
        batch = self._setting.train.make(mine if len(mine) else members[:1], padding=not len(mine))
        return batch, counts

    def _next_rate(self) -> float:
        recipe, progress = self._recipe, self.progress
        if isinstance(recipe.schedule, Plateau):
            return progress.plateau.learning_rate
        done = (progress.step + 1) / recipe.steps if recipe.steps else progress.seconds / (recipe.seconds or math.inf)
        if isinstance(recipe.schedule, Exponential):
            return exponential_learning_rate(recipe.schedule, self.learning_rate, min(done, 1.0))
        return cosine_learning_rate(recipe.schedule, self.learning_rate, min(done, 1.0))

    def _look(self) -> tuple[float, bool]:
        """Bring sum of losses and clock up to date, the same in all processes.

        Returns:
            The age of the saved state, and whether any process was asked to end.
        """
        now, asked = time.monotonic(), float(self._setting.interruption.requested)
        seen = torch.tensor([0.0, now - self._began, now - self._saved, 0.0], dtype=torch.float64)
        if self._fabric.world_size > 1:
            seen = seen.to(self._fabric.device) * float(self._fabric.is_global_zero)
            seen[0], seen[3] = self._loss_sum, asked
            seen = self._fabric.all_reduce(seen, reduce_op="sum")
        else:
            seen[0], seen[3] = self._loss_sum, asked
        age: float
        self.progress.loss_sum, self.progress.seconds, age, asked = seen.tolist()
        if not math.isfinite(self.progress.loss_sum):
            raise self._diverged("the loss or the norm of its gradient is NaN or infinite")
        return age, asked > 0.0

    def _diverged(self, problem: str) -> DivergedError:
        return DivergedError(
            f"learning rate {self.learning_rate:g}, step {self.progress.step}: {problem}",
            remedy="lower the learning rate, or clip the gradient",
        )

    def _evaluate(self) -> None:
        progress = self.progress
        errors = evaluate(self._fabric, self._learner.averaged(), self._setting.validation, self._recipe.batch)
        point = Evaluation(
            step=progress.step,
            seconds=progress.seconds,
            learning_rate=self._rate,
            loss=progress.loss_sum / max(progress.loss_steps, 1),
            energy_mae=errors.energy_mae,
            forces_mae=errors.forces_mae,
        )
        if not math.isfinite(point.energy_mae) or not math.isfinite(criterion(point)):
            raise self._diverged("errors on the validation structures are NaN or infinite")
        progress.loss_sum, progress.loss_steps = 0.0, 0
        self._loss_sum.zero_()
        progress.curve.append(point)
        progress.step_times = self._clock.times()
        if progress.best is None or criterion(point) < criterion(progress.best):
            progress.best, progress.stale = point, 0
            self._learner.keep()
        else:
            progress.stale += 1
        if isinstance(self._recipe.schedule, Plateau):
            progress.plateau = after_value(self._recipe.schedule, progress.plateau, criterion(point))
        if self._fabric.is_global_zero:
            append_log(self._folder / LOG_FILE, point, self.steps_per_epoch)
        self._tell(EventKind.EVALUATION, errors_text(point))

    def _save(self, tensors: dict[str, Tensor] | None = None) -> None:
        if self._fabric.is_global_zero:
            save_state(self._folder, self.progress, self._learner.tensors() if tensors is None else tensors)
        self._saved = time.monotonic()

    def _tell(self, kind: EventKind, text: str = "", exit_code: int = 0) -> None:
        progress, self._told = self.progress, time.monotonic()
        self._setting.events.write(
            Event(
                kind=kind,
                learning_rate=self.learning_rate,
                step=progress.step,
                steps=self._recipe.steps,
                seconds=progress.seconds,
                text=text,
                exit_code=exit_code,
            )
        )
