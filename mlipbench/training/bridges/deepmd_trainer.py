"""The trainer of deepmd-kit, followed step by step; imports the package."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Self

import torch
from deepmd.pt.train.training import Trainer
from deepmd.pt.utils.dataloader import DpLoaderSet
from deepmd.utils.argcheck import normalize

from mlipbench.training.curve import criterion
from mlipbench.training.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlipbench.training.bridges.report import Report


class FollowedTrainer(Trainer):
    """The trainer, which tells of its steps and is validated where it saves."""

    @classmethod
    def of(cls, told: dict[str, Any], kept: Path) -> Self:
        """Return a trainer at the last validation of an earlier process, or at the start.

        Args:
            told: deepmd's input.
            kept: What an earlier process left, if it did.
        """
        config = normalize(told)
        training = config["training"]
        data = training["training_data"]
        seed = [0, training["seed"]]  # as `dp train` does with the rank of the process
        loader = DpLoaderSet(data["systems"], data["batch_size"], config["model"]["type_map"], seed=seed)
        made = cls(config, loader, restart_model=str(kept) if kept.is_file() else None)
        made._kept = kept
        return made

    def follow(self, report: Report, errors: Callable[[], tuple[float, float]]) -> None:
        """Begin to tell.

        Args:
            report: What is told.
            errors: Gives the mean absolute errors on the validation structures, eV and eV/Å.
        """
        self._report, self._errors, self._folder = report, errors, self._kept.parent
        self._done = self._begun = self.start_step
        self.wrapper.register_forward_pre_hook(self._before)
        self.wrapper.register_forward_hook(self._after_loss)
        self.optimizer.register_step_post_hook(self._after_step)

    def save_model(self, save_path: Path, lr: float = 0.0, step: int = 0) -> None:
        """Keep the weights if none were better, tell of the validation, and keep what a later process needs.

        Averaged weights are those that are validated and kept, where there are some. The package would take up a
        training at the step it has saved after and do that once more.
        """
        del save_path
        averaged = contextlib.nullcontext() if self.model_ema is None else self.model_ema.apply_shadow(self.model)
        with averaged:
            errors = self._errors()
            if errors[1] < min(map(criterion, self._report.progress.curve), default=math.inf):
                content = {"model": self.wrapper.state_dict()}
                replace_file(self._folder / f"{self._done}.pt", lambda path: torch.save(content, path))
        self._report.evaluation(self._done, lr, errors)
        replace_file(self._kept, lambda path: super(FollowedTrainer, self).save_model(path, lr, step + 1))

    def save_ema_model(self, *_: object, **__: object) -> None:
        """Keep nothing more: `save_model` has kept the averaged weights."""

    def _before(self, *_: object) -> None:
        self._report.clock.start()

    def _after_loss(self, _: object, __: object, output: tuple[Any, Any, Any]) -> None:
        self._begun = self._done + 1
        self._report.step(self._begun, float(output[1].detach()))

    def _after_step(self, *_: object) -> None:
        if self._done < self._begun:
            self._report.clock.stop()
            self._done = self._begun
