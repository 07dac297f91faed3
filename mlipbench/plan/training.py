"""Trainings that a suite needs: which checkpoint they make, whether it is there, and how long they may take."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.checkpoint import RECORD_FILE, CheckpointRecord, is_checkpoint, read_checkpoint
from mlipbench.errors import ConfigError, MlipbenchError
from mlipbench.recipe import Recipe, TrainedOn, Trainer, TrainingJob, as_json
from mlipbench.structures.duplicates import found_in
from mlipbench.trainers import check_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.environments import Environment
    from mlipbench.models.card import ModelCard
    from mlipbench.recipe import Subset
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import IntArray

TRAINING_VERSION: Final = 1
"""Raised whenever the same recipe would give another checkpoint."""
_SHOWN: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class PlannedTraining:
    """A checkpoint that a recipe makes.

    Attributes:
        job: What the training process is given.
        folder: Where the checkpoint is, or will be.
        elements: Atomic numbers of the training structures.
        environment: What it is trained in.
        record: The record of the checkpoint, None while it is not there.
        seconds: Wall time the training may take, estimated from trainings of the same network on this machine; None
            where there was none.
    """

    job: TrainingJob
    folder: Path
    elements: frozenset[int]
    environment: Environment
    record: CheckpointRecord | None
    seconds: float | None

    @property
    def done(self) -> bool:
        """Whether the checkpoint is there."""
        return self.record is not None

    def describe(self) -> str:
        """Return what is to be trained, and how long it may take, in one line."""
        recipe, data = self.job.recipe, self.job.data
        rates = len(recipe.learning_rates)
        length = f"{recipe.steps} steps" if recipe.steps is not None else f"{recipe.seconds:g} s"
        grid = f"{rates} learning rates, {length} each" if rates > 1 else length
        what = f"recipe {recipe.recipe} on {data.dataset}/{recipe.train.split} ({data.n_train} structures), {grid}"
        if self.done:
            return f"{what}: trained, in {self.folder}"
        if self.seconds is None:
            return f"{what}: to be trained; how long that takes is not known before the first training of this network"
        return f"{what}: to be trained, about {_duration(self.seconds)}"


def plan_training(
    card: ModelCard, recipe: Recipe, entry: DatasetEntry, splits: Mapping[str, Split], place: TrainingPlace
) -> PlannedTraining:
    """Decide what a training will do.

    Args:
        card: The model, which names its trainer.
        recipe: The recipe, its seed final.
        entry: The dataset.
        splits: The splits that the recipe names, opened.
        place: Where and on what it is trained.

    Raises:
        ConfigError: Recipes do not train the model, or its trainer cannot honour this one.
        ConfigError: A subset is empty, or the subsets overlap.
        ConfigError: A checkpoint of this content address is there and damaged.
    """
    if card.trainer is None:
        raise ConfigError(f"model {card.name!r} is not trained by recipes", remedy="see `mlipbench list models`")
    check_recipe(card.trainer, recipe)
    train, validation = splits[recipe.train.split], splits[recipe.validation.split]
    chosen = _chosen(recipe, recipe.train, train), _chosen(recipe, recipe.validation, validation)
    _check_overlap(recipe, train, validation, chosen)
    data = TrainedOn(
        dataset=entry.name,
        title=entry.title,
        level_of_theory=entry.level_of_theory,
        energy_reference=entry.energy_reference.value,
        free_atoms_only=entry.free_atoms_only,
        drawn_from=entry.drawn_from,
        n_train=len(chosen[0]),
        n_validation=len(chosen[1]),
        mean_atoms=float(train.counts[chosen[0]].mean()),
        train_hash=train.content_hash,
        validation_hash=validation.content_hash,
    )
    identity = _identity(card, recipe, data)
    job = TrainingJob(
        name=f"{card.name}-{recipe.recipe}",
        net=card.name,
        trainer=card.trainer,
        recipe=recipe,
        data=data,
        train_columns=train.directory.resolve(),
        validation_columns=validation.directory.resolve(),
        device=place.device,
        threads=place.threads,
        identity=identity,
    )
    folder = (place.folder or place.cache / "checkpoints" / f"{job.name}-{identity[:_SHOWN]}").resolve()
    record = read_checkpoint(folder) if is_checkpoint(folder) else None
    if record is not None and record.identity != identity:
        raise ConfigError(
            "the folder holds a checkpoint of another training", file=folder, remedy="give another folder, or empty it"
        )
    seconds = None if record is not None else _estimate(job, place.cache)
    return PlannedTraining(job, folder, _elements(train, chosen[0]), place.environment, record, seconds)


@dataclass(frozen=True, slots=True)
class TrainingPlace:
    """Where and on what a network is trained.

    Attributes:
        cache: The cache, in whose ``checkpoints`` a folder named by the content address is made.
        environment: What it is trained in.
        device: Device type.
        threads: Threads of a process.
        folder: A folder in place of the one in the cache.
    """

    cache: Path
    environment: Environment
    device: str
    threads: int
    folder: Path | None = None


def _chosen(recipe: Recipe, subset: Subset, split: Split) -> IntArray:
    indices = subset.indices(split.clusters)
    if not len(indices):
        raise ConfigError(
            f"the slice {list(subset.slice or ())} takes nothing of the {len(split)} structures of {subset.split}",
            where=f"recipe {recipe.recipe}",
        )
    return indices


def _check_overlap(recipe: Recipe, train: Split, validation: Split, chosen: tuple[IntArray, IntArray]) -> None:
    """Refuse structures that are in both subsets, by index where both are of one split, else by content."""
    if train.content_hash == validation.content_hash:
        shared = np.intersect1d(*chosen).tolist()
    else:
        shared = chosen[1][found_in(validation, train, chosen[0])[chosen[1]]].tolist()
    if shared:
        first = str(validation.names(shared[0], shared[0] + 1)[0])
        raise ConfigError(
            f"{len(shared)} of the validation structures are training structures too, the first is {first!r}",
            where=f"recipe {recipe.recipe}: train, validation",
            remedy="use one shuffle_seed and slices that do not overlap, or other splits",
        )


def _elements(split: Split, indices: IntArray) -> frozenset[int]:
    elements = sorted(split.elements)
    atoms = split.composition(elements)[indices].sum(axis=0)
    return frozenset(element for element, count in zip(elements, atoms.tolist(), strict=True) if count)


def _identity(card: ModelCard, recipe: Recipe, data: TrainedOn) -> str:
    parts = {
        "version": TRAINING_VERSION,
        "net": card.name,
        "recipe": {key: value for key, value in as_json(recipe).items() if key not in {"model", "description"}},
        "data": [data.train_hash, data.validation_hash, data.free_atoms_only, data.energy_reference],
    }
    if card.trainer is not Trainer.NETS:
        parts["trainer"] = card.trainer
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _estimate(job: TrainingJob, cache: Path) -> float | None:
    """Return the seconds a training may take, at the rate of earlier ones of the same network, device and threads."""
    recipe = job.recipe
    if recipe.seconds is not None:
        return recipe.seconds * len(recipe.learning_rates)
    atoms = seconds = 0.0
    for path in sorted((cache / "checkpoints").glob(f"{job.net}-*/{RECORD_FILE}")):
        try:
            record = read_checkpoint(path.parent)
        except MlipbenchError:  # not ours to judge here
            continue
        like = (record.net, record.recipe.preset, record.recipe.precision, record.device, record.threads)
        if like == (job.net, recipe.preset, recipe.precision, job.device, job.threads):
            steps = sum(candidate.steps for candidate in record.candidates)
            atoms += steps * min(record.recipe.batch, record.data.n_train) * record.data.mean_atoms
            seconds += sum(candidate.seconds for candidate in record.candidates)
    if not atoms or recipe.steps is None:
        return None
    work = recipe.steps * len(recipe.learning_rates) * min(recipe.batch, job.data.n_train) * job.data.mean_atoms
    return seconds * work / atoms


def _duration(seconds: float) -> str:
    if seconds < 90:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004
