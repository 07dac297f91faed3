"""The state of an unfinished training on disk: one safetensors file, replaced as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mlipbench.checkpoint import Evaluation, StepTimes
from mlipbench.errors import ConfigError
from mlipbench.training.files import replace_file
from mlipbench.training.optim import PlateauState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

STATE_FILE: Final = "state.safetensors"
_KEY: Final = "progress"


class Progress(BaseModel):
    """How far the training at one learning rate has come; with the tensors beside it, all that its future depends on.

    Attributes:
        identity: Of the job.
        code: Versions of the code that took part.
        step: Optimiser steps done.
        seconds: Wall time spent.
        loss_sum: Sum of the losses of the steps since the last evaluation.
        loss_steps: Their number.
        plateau: State of the plateau schedule.
        best: The evaluation whose weights are kept.
        stale: Evaluations since.
        curve: All evaluations.
        step_times: How long the steps took, in the process that did most of them.
        ended: Whether there is nothing left to do.
        lost: Why this learning rate came to nothing; None where it did not.
    """

    model_config = ConfigDict(extra="forbid")

    identity: str
    code: tuple[str, ...]
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    plateau: PlateauState
    best: Evaluation | None = None
    stale: int = 0
    curve: list[Evaluation] = []
    step_times: StepTimes | None = None
    ended: bool = False
    lost: str | None = None


def save_state(folder: Path, progress: Progress, tensors: Mapping[str, Tensor]) -> None:
    """Replace the state in a folder by another; a reader sees the one or the other.

    Args:
        folder: Of the training.
        progress: How far it has come.
        tensors: Weights, averages, moments and best weights by name, in host memory.
    """
    from safetensors.torch import save

    # not its `save_file`: an error of the disk would come as one of the format
    content = save(dict(tensors), {_KEY: progress.model_dump_json()})
    replace_file(folder / STATE_FILE, lambda path: path.write_bytes(content))


def load_state(folder: Path, identity: str) -> tuple[Progress, dict[str, Tensor]] | None:
    """Return the state in a folder, None where there is none.

    Args:
        folder: Of the training.
        identity: Of the job it must belong to.

    Raises:
        ConfigError: The file is damaged or belongs to another job.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / STATE_FILE
    remedy = "delete the folder to start anew"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress.model_validate_json(file.metadata()[_KEY])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValidationError, KeyError, TypeError, OSError):
        raise ConfigError("the state of the training is damaged", file=path, remedy=remedy) from None
    if progress.identity != identity:
        raise ConfigError("the state belongs to another training", file=path, remedy=remedy)
    return progress, tensors
