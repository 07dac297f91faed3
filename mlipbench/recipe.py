"""How a network is trained: what a recipe may hold, and the job a training process is given."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

JOB_FILE: Final = "job.json"
EVENTS_FILE: Final = "events.jsonl"


class Trainer(StrEnum):
    """Who trains a model by recipes."""

    NETS = "nets"  # mlipbench itself: the networks of `mlipbench.nets`
    CHGNET = "chgnet"  # ``chgnet.trainer.Trainer``
    MACE = "mace"  # ``mace.cli.run_train``
    FAIRCHEM_V1 = "fairchem_v1"  # ``fairchem.core.trainers`` of fairchem-core 1.10
    FAIRCHEM = "fairchem"  # ``fairchem.core.units.mlip_unit`` of fairchem-core 2
    NEQUIP = "nequip"  # ``nequip.scripts.train``
    DEEPMD = "deepmd"  # ``deepmd.pt.train.training``


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Subset(_Closed):
    """Structures of a split.

    Attributes:
        split: Name of the split.
        shuffle_seed: Seed of a permutation of the structures before `slice` is taken; subsets with one seed and slices
            that do not overlap are disjoint.
        slice: Start, stop and step, as in Python; None takes all.
        share: Start and stop as shares of the whole, 0 to 1, in place of `slice`; rounded down.
        whole_clusters: Whether clusters (relaxations, molecules) are permuted and taken in place of structures, so
            that no cluster has structures on both sides.
    """

    split: str
    shuffle_seed: Annotated[int, Field(ge=0)] | None = None
    slice: tuple[int | None, int | None, int | None] | None = None
    share: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] | None = None
    whole_clusters: bool = False

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.slice is not None and self.slice[2] == 0:
            raise ValueError("the step of `slice` is zero")
        if self.slice is not None and self.share is not None:
            raise ValueError("give either slice or share")
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not given: the checkpoints of recipes without it keep their content address."""
        fields: dict[str, Any] = write(self)
        return {name: value for name, value in fields.items() if name != "share" or value is not None}

    def indices(self, clusters: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the indices of the structures in rising order.

        Args:
            clusters: Shape (n_structures,), code of the cluster of each structure of the split, counted from 0.
        """
        n = int(clusters.max(initial=-1)) + 1 if self.whole_clusters else len(clusters)
        order = np.arange(n)
        if self.shuffle_seed is not None:
            # sorted raw output of the bit generator: unlike Generator.permutation it may not change between versions
            order = np.argsort(np.random.PCG64(self.shuffle_seed).random_raw(n), kind="stable")
        bounds = (int(share * n) for share in self.share) if self.share else self.slice or (None, None, None)
        chosen = order[slice(*bounds)]
        return np.flatnonzero(np.isin(clusters, chosen)) if self.whole_clusters else np.sort(chosen)


class ReferenceKind(StrEnum):
    """What is subtracted from energies, in float64, before a network sees them."""

    NONE = "none"
    MEAN = "mean"  # the mean energy of the training structures
    PER_ELEMENT = "per_element"  # one energy per element, minimum-norm least squares over the training structures


class Loss(_Closed):
    """The loss: ``energy * mean_structures e(ΔE) + forces * mean_components e(ΔF)``.

    Attributes:
        kind: ``l1`` takes e(x) = |x|, ``mse`` takes e(x) = x².
        energy: Weight of the energies, per eV or eV².
        forces: Weight of the force components, per eV/Å or its square. Where the dataset counts free atoms only, so
            does the loss.
    """

    kind: Literal["l1", "mse"] = "l1"
    energy: NonNegativeFloat
    forces: NonNegativeFloat

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.energy == 0 and self.forces == 0:
            raise ValueError("energy and forces cannot both have weight zero")
        return self


class Plateau(_Closed):
    """Lowers the learning rate when the validation force MAE has not improved for a while.

    Attributes:
        kind: ``plateau``.
        factor: What the learning rate is multiplied by.
        patience: Evaluations without improvement that are waited for.
        min_learning_rate: The learning rate never falls below it.
    """

    kind: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    patience: Annotated[int, Field(ge=0)] = 5
    min_learning_rate: NonNegativeFloat = 1e-6


class Cosine(_Closed):
    """Lowers the learning rate along half a cosine over the whole training.

    Attributes:
        kind: ``cosine``.
        warmup: Share of the training over which the learning rate first rises linearly from zero.
        final: Share of the learning rate that is left at the end.
    """

    kind: Literal["cosine"]
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    final: Annotated[float, Field(ge=0, le=1)] = 0.01


class Exponential(_Closed):
    """Lowers the learning rate by the same factor over equal parts of the training.

    Attributes:
        kind: ``exponential``.
        final: Share of the learning rate that is left at the end.
    """

    kind: Literal["exponential"]
    final: Annotated[float, Field(gt=0, le=1)] = 0.01


class Recipe(_Closed):
    """How a network is trained on a dataset.

    Attributes:
        recipe: Name of the recipe.
        version: Version; another one makes another checkpoint.
        description: One line for listings.
        model: The network, where the command line or the suite names none.
        dataset: The dataset, where the command line or the suite names none.
        preset: Preset of the network.
        changes: Fields of the network's configuration that differ from the preset's.
        train: Structures the weights are fitted to.
        validation: Structures that choose learning rate, schedule, early stopping and the weights that are kept. None
            of them may be among the training structures.
        energy_reference: What is subtracted from energies.
        loss: The loss.
        learning_rates: One, or a grid: each is trained in full, and the best validation force MAE decides.
        weight_decay: Decoupled weight decay of AdamW (with amsgrad).
        schedule: How the learning rate changes.
        ema_decay: Decay of the exponential moving average of the weights, which is what is validated and kept; None
            keeps the weights themselves.
        clip: Largest norm of the gradient, or None.
        batch: Structures of one optimiser step, over all processes.
        steps: Optimiser steps of one training.
        seconds: Wall time of one training, in place of `steps`; such a training cannot be repeated to the bit.
        evaluate_every: Optimiser steps between two validations.
        early_stopping: Validations without improvement that end the training, or None.
        seed: Seed of the first weights and of the order of structures.
        precision: Precision of weights and activations.
    """

    recipe: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    version: PositiveInt
    description: str = ""
    model: str | None = None
    dataset: str | None = None
    preset: str
    changes: dict[str, Any] = {}
    train: Subset
    validation: Subset
    energy_reference: ReferenceKind
    loss: Loss
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    weight_decay: NonNegativeFloat = 0.0
    schedule: Annotated[Plateau | Cosine | Exponential, Field(discriminator="kind")]
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip: PositiveFloat | None = None
    batch: PositiveInt
    steps: PositiveInt | None = None
    seconds: PositiveFloat | None = None
    evaluate_every: PositiveInt
    early_stopping: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    precision: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("give either steps or seconds")
        if len(set(self.learning_rates)) != len(self.learning_rates):
            raise ValueError("learning_rates: a value is listed twice")
        return self


class TrainedOn(_Closed):
    """The data of a training.

    Attributes:
        dataset: Name of the dataset.
        title: Its title.
        level_of_theory: Method of the labels.
        energy_reference: What the energies are measured against, as in `mlipbench.models.interface.EnergyReference`.
        free_atoms_only: Whether only the forces of free atoms count.
        drawn_from: Training sets these structures belong to, as cards name them.
        n_train: Number of training structures.
        n_validation: Number of validation structures.
        mean_atoms: Atoms of a training structure, on average.
        train_hash: Content hash of the split the training structures are from.
        validation_hash: Content hash of the split the validation structures are from.
    """

    dataset: str
    title: str
    level_of_theory: str
    energy_reference: str
    free_atoms_only: bool
    drawn_from: tuple[str, ...] = ()
    n_train: PositiveInt
    n_validation: PositiveInt
    mean_atoms: PositiveFloat
    train_hash: str
    validation_hash: str


class TrainingJob(_Closed):
    """What a training process is given, in the file `JOB_FILE` of the folder it works in.

    Attributes:
        name: Name of the checkpoint it makes.
        net: Name of the model's card; of a network of ours, also that in `mlipbench.nets.NET_NAMES`.
        trainer: Who trains it.
        recipe: The recipe; `Recipe.model` and `Recipe.dataset` have done their service.
        data: What the data are.
        train_columns: Folder of the columns of the split the training structures are from.
        validation_columns: Folder of the columns of the split the validation structures are from.
        device: Torch-style device type, ``cpu`` or ``cuda``.
        threads: Threads of each process.
        identity: Content address of the checkpoint.
    """

    name: str
    net: str
    trainer: Trainer = Trainer.NETS
    recipe: Recipe
    data: TrainedOn
    train_columns: Path
    validation_columns: Path
    device: Literal["cpu", "cuda"] = "cpu"
    threads: PositiveInt = 1
    identity: str


class EventKind(StrEnum):
    """Kinds of lines in `EVENTS_FILE`."""

    BEGIN = "begin"  # a training of one learning rate begins or goes on
    STEPS = "steps"  # some steps were done
    EVALUATION = "evaluation"
    END = "end"  # the training of one learning rate ended
    DONE = "done"  # the checkpoint is written
    ERROR = "error"


class Event(_Closed):
    """One line of `EVENTS_FILE`, written by a training process for whoever follows it.

    Attributes:
        kind: What happened.
        learning_rate: The learning rate of the grid it happened at.
        step: Steps done at this learning rate.
        steps: Steps there will be, None where wall time decides.
        seconds: Wall time spent at this learning rate, sessions before this one included.
        text: What is worth showing, one line.
        exit_code: For errors, the exit code of `mlipbench.errors.ExitCode`.
    """

    kind: EventKind
    learning_rate: float | None = None
    step: int = 0
    steps: int | None = None
    seconds: float = 0.0
    text: str = ""
    exit_code: int = 0


def as_json(model: BaseModel) -> dict[str, Any]:
    """Return a model as plain JSON data."""
    data: dict[str, Any] = model.model_dump(mode="json")
    return data
