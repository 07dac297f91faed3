"""Checkpoints that recipes make: a folder with the weights in one file and everything else as JSON."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.recipe import Recipe, ReferenceKind, TrainedOn, Trainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT: Final = 1
RECORD_FILE: Final = "checkpoint.json"
WEIGHTS_FILE: Final = "model.safetensors"
PICKLED_FILE: Final = "model.pt"
"""Weights of packages whose checkpoints are pickles, which run code when they are read."""
LOG_FILE: Final = "log.csv"
TRAINED_SHARE: Final = 0.5
"""A network counts as trained where its force MAE is certainly below this share of the zero-force floor's."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EnergyReferenceValues(_Closed):
    """What was subtracted from the energies and is added to predictions, in float64.

    Attributes:
        kind: Which rule gave the values.
        offset: eV, per structure; the mean energy for ``mean``, else zero.
        per_element: eV by atomic number; empty unless the kind is ``per_element``.
    """

    kind: ReferenceKind
    offset: float = 0.0
    per_element: dict[int, float] = {}


class Evaluation(_Closed):
    """One point of a learning curve.

    Attributes:
        step: Optimiser steps done.
        seconds: Wall time of the training so far, validations included.
        learning_rate: The learning rate now.
        loss: Mean training loss since the last evaluation.
        energy_mae: eV per structure, on the validation structures.
        forces_mae: eV/Å, component mean on the validation structures; None where they have no forces.
    """

    step: int
    seconds: float
    learning_rate: float
    loss: float
    energy_mae: float
    forces_mae: float | None


class Candidate(_Closed):
    """What one learning rate of the grid came to.

    Attributes:
        learning_rate: The learning rate.
        forces_mae: eV/Å, the best validation force MAE; None where there are no forces.
        energy_mae: eV, validation energy MAE of the same weights.
        best_step: Step of these weights.
        steps: Steps done in all.
        seconds: Wall time.
    """

    learning_rate: float
    forces_mae: float | None
    energy_mae: float
    best_step: int
    steps: int
    seconds: float


class Verdict(_Closed):
    """Whether the network counts as trained, judged on the validation structures.

    Attributes:
        n_structures: Number of validation structures.
        zero_forces_mae: eV/Å, the force MAE of a model that predicts no forces; None where there are no forces.
        ratio: Force MAE over `zero_forces_mae`; None where that is nothing.
        low: Lower end of the 95 % interval of the ratio, None where there are too few clusters for one.
        high: Upper end.
        trained: Whether the ratio, interval included, is below `TRAINED_SHARE`.
    """

    n_structures: int
    zero_forces_mae: float | None
    ratio: float | None
    low: float | None
    high: float | None
    trained: bool


class StepTimes(_Closed):
    """How long the optimiser steps of a training took, whole ones, validations and saving apart.

    Attributes:
        n: Steps that were measured and count.
        skipped: Steps before these that do not count: caches, allocators and threads were still cold.
        median: Seconds of a step.
        p25: Lower quartile, seconds.
        p75: Upper quartile, seconds.
        batch: Structures of a step, over all processes.
        device: Device type, ``cpu`` or ``cuda``.
        processes: Number of processes that trained together.
        threads: Threads of each.
        processor: Name of the processor, as of `mlipbench.machine.processor`.
    """

    n: PositiveInt
    skipped: NonNegativeInt
    median: PositiveFloat
    p25: PositiveFloat
    p75: PositiveFloat
    batch: PositiveInt
    device: str
    processes: PositiveInt = 1
    threads: PositiveInt
    processor: str

    @property
    def samples_per_second(self) -> float:
        """Structures learned from in a second: a batch over the median."""
        return self.batch / self.median


class CheckpointRecord(_Closed):
    """Everything about a checkpoint but its weights.

    Attributes:
        format: Version of this schema.
        name: Name of the checkpoint as a model.
        identity: Content address: network, recipe and data decide it.
        net: Name of the model's card.
        trainer: Who trained it.
        config: Its configuration as plain data.
        parameters: Number of its parameters.
        elements: Atomic numbers it has seen and covers.
        energy_reference: What was subtracted from the energies.
        data: The data it was trained on.
        recipe: How it was trained.
        learning_rate: The learning rate that was chosen.
        candidates: What each learning rate came to.
        curve: The learning curve at the learning rate chosen.
        verdict: Whether it counts as trained.
        device: Device type it was trained on.
        processes: Number of processes that trained together.
        threads: Threads of each.
        hardware: What is known of the machine.
        packages: Versions of packages.
        code: `mlipbench.version.code_version` of the code that trained it.
        settings: What another package's trainer was told, and how the recipe was put into its terms; empty for ours.
        step_times: How long its optimiser steps took at the learning rate chosen; None where that was not measured.
        weights_file: Name of the file of the weights.
        weights_sha256: Its checksum.
    """

    format: Literal[1] = FORMAT
    name: str
    identity: str
    net: str
    trainer: Trainer = Trainer.NETS
    config: dict[str, Any]
    parameters: int
    elements: tuple[PositiveInt, ...]
    energy_reference: EnergyReferenceValues
    data: TrainedOn
    recipe: Recipe
    learning_rate: float
    candidates: tuple[Candidate, ...]
    curve: tuple[Evaluation, ...]
    verdict: Verdict
    device: str
    processes: int = 1
    threads: int = 1
    hardware: dict[str, Any] = {}
    packages: dict[str, str] = {}
    code: str
    settings: dict[str, Any] = {}
    step_times: StepTimes | None = None
    weights_file: Literal["model.safetensors", "model.pt"] = WEIGHTS_FILE
    weights_sha256: str

    @model_validator(mode="after")
    def _chosen(self) -> Self:
        if self.learning_rate not in {candidate.learning_rate for candidate in self.candidates}:
            raise ValueError("learning_rate is none of the candidates'")
        return self

    @property
    def pickled(self) -> bool:
        """Whether reading the weights can run code."""
        return self.weights_file == PICKLED_FILE


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder holds a finished checkpoint of ours; its content is not checked."""
    return (folder / RECORD_FILE).is_file()


def read_checkpoint(folder: Path) -> CheckpointRecord:
    """Return the record of a checkpoint whose weights are what it says.

    Args:
        folder: Its folder.

    Raises:
        ConfigError: The record is invalid, or the weights are other ones.
        PrerequisiteError: A file is missing or cannot be read.
    """
    path = folder / RECORD_FILE
    try:
        record = CheckpointRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PrerequisiteError(f"the checkpoint cannot be read ({error.strerror})", file=path) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where_in = ".".join(str(part) for part in first["loc"]) or None
        raise ConfigError(
            f"not a checkpoint record of this version: {first['msg']}", file=path, where=where_in,
            remedy="train it again, or use the version of mlipbench that wrote it",
        ) from None  # fmt: skip
    weights = folder / record.weights_file
    try:
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PrerequisiteError(f"the checkpoint cannot be read ({error.strerror})", file=weights) from None
    if record.weights_sha256 != found:
        raise ConfigError(
            f"the weights have sha256 {found}, the record says {record.weights_sha256}", file=weights,
            remedy="the file is truncated or changed; copy it again or train it again",
        )  # fmt: skip
    return record


def step_times_of(facts: Mapping[str, Any]) -> StepTimes | None:
    """Return how long the steps of a training took, None where that was not measured.

    Args:
        facts: What a manifest keeps of a checkpoint, as of `mlipbench.runner.training.checkpoint_facts`; empty, or
            without step times, for other models and for checkpoints of earlier versions.

    Raises:
        ConfigError: What is kept is no `StepTimes`.
    """
    found = facts.get("step_times")
    if found is None:
        return None
    try:
        return StepTimes.model_validate(found)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"not step times of this version: {problem}", where="step_times") from None


def checkpoint_sha256(folder: Path) -> str:
    """Return the checksum of a checkpoint: that of its record, which names that of the weights.

    Raises:
        ConfigError: The weights are other ones.
        PrerequisiteError: A file is missing.
    """
    read_checkpoint(folder)
    return hashlib.sha256((folder / RECORD_FILE).read_bytes()).hexdigest()
