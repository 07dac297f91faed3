"""What a bridge to a package's trainer has to do."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from mlipbench.adapters.trained import TrainedAdapter
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.recipe import Trainer
from mlipbench.training.data import load_data
from mlipbench.training.reference import fit_reference, reference_energies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlipbench.checkpoint import EnergyReferenceValues
    from mlipbench.models.interface import Adapter
    from mlipbench.recipe import Recipe, TrainingJob
    from mlipbench.training.bridges.report import Report
    from mlipbench.training.data import LabelledStructures
    from mlipbench.typing import FloatArray

BRIDGES: Final[Mapping[Trainer, str]] = MappingProxyType(
    {
        Trainer.CHGNET: "mlipbench.training.bridges.chgnet:ChgnetBridge",
        Trainer.FAIRCHEM: "mlipbench.training.bridges.fairchem:FairchemBridge",
        Trainer.FAIRCHEM_V1: "mlipbench.training.bridges.fairchem_v1:FairchemV1Bridge",
        Trainer.MACE: "mlipbench.training.bridges.mace:MaceBridge",
        Trainer.NEQUIP: "mlipbench.training.bridges.nequip:NequipBridge",
        Trainer.DEEPMD: "mlipbench.training.bridges.deepmd:DeepmdBridge",
    }
)
FORCE_SHARE: Final = 0.5
"""Mean absolute component of a vector over its length, where vectors point in all directions alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What is learned from, and what chooses among weights.

    Attributes:
        train: The training structures.
        validation: The validation structures.
        reference: What is subtracted from energies.
        train_targets: Shape (n_structures,), eV, float64, energies without reference.
        validation_targets: Likewise.
    """

    train: LabelledStructures
    validation: LabelledStructures
    reference: EnergyReferenceValues
    train_targets: FloatArray
    validation_targets: FloatArray

    @classmethod
    def of(cls, job: TrainingJob) -> Material:
        """Read what a job names.

        Raises:
            ConfigError: The recipe does not fit the data.
            DatasetError: The data cannot be used.
        """
        train, validation = load_data(job)
        reference = fit_reference(job.recipe.energy_reference, train.structures, train.energy)
        targets = [part.energy - reference_energies(reference, part.structures) for part in (train, validation)]
        return cls(train, validation, reference, *targets)


@dataclass(frozen=True, slots=True)
class Made:
    """What a package's trainer left.

    Attributes:
        weights: File of the weights of the best validation, by the package's own judgement.
        config: Configuration of the network as plain data.
        settings: What the trainer was told, and how the recipe was put into its terms.
        best_step: Step of these weights.
    """

    weights: Path
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    best_step: int


class Bridge(ABC):
    """Drives the trainer of a package.

    Attributes:
        job: What is trained.
        material: The data.
        weights_file: Name that the file of the weights gets in a checkpoint.
        adapter: What predicts with the checkpoint, and whose predictions the weights are judged by.
        needs_forces: Whether the package fits forces whatever their weight.
    """

    weights_file: Literal["model.safetensors", "model.pt"] = "model.pt"
    adapter: type[Adapter] = TrainedAdapter
    needs_forces: bool = False

    def __init__(self, job: TrainingJob, material: Material) -> None:
        """Keep the arguments; subclasses refuse what they cannot do.

        Raises:
            ConfigError: The preset, the changes or the labels do not fit.
        """
        self.job = job
        self.material = material
        for part in (material.train, material.validation):
            if self.needs_forces and part.forces is None:
                raise ConfigError(
                    f"split {part.split.name!r} has no forces, and the trainer {job.trainer} needs them",
                    where=f"recipe {job.recipe.recipe}", remedy="choose another dataset or model",
                )  # fmt: skip

    @property
    @abstractmethod
    def steps(self) -> int:
        """Optimiser steps of a training, which may differ from the recipe's where the package counts epochs."""

    @abstractmethod
    def train(self, folder: Path, learning_rate: float, report: Report) -> Made:
        """Train at one learning rate; a training that was killed goes on where the package can.

        Args:
            folder: The folder to work in; what an earlier process left is there.
            learning_rate: The learning rate.
            report: Told of every step and every validation.

        Raises:
            DivergedError: The loss is no longer a finite number.
            WorkerError: The trainer died.
        """


def bridge_class(trainer: Trainer) -> type[Bridge]:
    """Return the bridge to a package's trainer.

    Raises:
        PrerequisiteError: The package is not installed.
    """
    module, _, name = BRIDGES[trainer].partition(":")
    try:
        found: type[Bridge] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise PrerequisiteError(
            f"training by {trainer} needs the module {error.name}", remedy=f"install the environment of {trainer}"
        ) from None
    return found


def configuration(recipe: Recipe, presets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields of a recipe's preset with the recipe's changes.

    Args:
        recipe: The recipe.
        presets: Fields by name of the preset; changes are of these fields.

    Raises:
        ConfigError: There is no such preset, or no such field.
    """
    where = f"recipe {recipe.recipe}"
    if recipe.preset not in presets:
        raise ConfigError(
            f"unknown preset {recipe.preset!r}", where=f"{where}: preset", remedy=f"known: {', '.join(presets)}"
        )
    preset = presets[recipe.preset]
    unknown = sorted(set(recipe.changes) - set(preset))
    if unknown:
        raise ConfigError(
            f"unknown field {unknown[0]!r}", where=f"{where}: changes", remedy=f"known: {', '.join(preset)}"
        )
    return {**preset, **recipe.changes}
