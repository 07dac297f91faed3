"""How the data that a model learnt from relate to the structures that it is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.checkpoint import CheckpointRecord, is_checkpoint, read_checkpoint
from mlipbench.datasets.overlaps import overlap
from mlipbench.datasets.prepare import open_split
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.plan.applicability import CORRECTED_LEVEL
from mlipbench.plan.training import PlannedTraining
from mlipbench.status import Training

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.models.card import ModelCard
    from mlipbench.plan.plan import PlannedDataset
    from mlipbench.recipe import Recipe, Subset, TrainedOn
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import IntArray

LEAK: Final = 0.01
"""A model that was trained on a larger share of the structures is not tested by them; a smaller one can lower a mean
error by that share at most."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a model has seen of a split that it is evaluated on.

    Attributes:
        relation: How its training data relate to the split.
        note: What a reader of its numbers must know of that, or None.
        n_trained: Structures of the selected part that also stand among those it was trained on; None where these are
            not at hand.
        n_validated: Likewise, among those that the training was validated on.
    """

    relation: Training
    note: str | None = None
    n_trained: int | None = None
    n_validated: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Structures of a split that a model learnt from.

    Attributes:
        split: The split.
        indices: Which of them, or None for all.
    """

    split: Split
    indices: IntArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What a model learnt from, seen from one dataset.

    Attributes:
        relation: How that relates to the dataset's structures in general.
        entry: The dataset.
        foreign: Data that the weights were trained on elsewhere, as the card names them.
        perhaps: Data that some of the training structures belong to.
        words: How and on what it was trained here, or None.
        train: Structures of the dataset it was trained on, None where they are not at hand.
        validation: Structures of the dataset that the training was validated on, likewise.
    """

    relation: Training
    entry: DatasetEntry
    foreign: frozenset[str] = frozenset()
    perhaps: frozenset[str] = frozenset()
    words: str | None = None
    train: Part | None = None
    validation: Part | None = None


def learnt_from(
    card: ModelCard,
    name: str,
    dataset: PlannedDataset,
    weights: PlannedTraining | CheckpointRecord | str | None,
    location: DataLocation,
) -> Learnt:
    """Return what a model learnt from, seen from one dataset.

    Args:
        card: The model's card.
        name: Name of the dataset in the suite.
        dataset: The dataset.
        weights: As of `mlipbench.plan.splits.SplitQuestion`.
        location: Where data are.

    Raises:
        DatasetError: A data file is invalid.
    """
    entry, fit = dataset.entry, dataset.fit_split
    if isinstance(weights, str) or (card.fitted and fit is None):
        return Learnt(Training.UNKNOWN, entry)
    if card.fitted and fit is not None:
        return Learnt(Training.SPLIT, entry, words=f"fitted on {name}/{fit}", train=Part(dataset.splits[fit]))
    training = _training(card, weights)
    foreign = frozenset(card.training_data or ())
    if training is None:
        return Learnt(_relation(card, entry), entry, foreign)
    data, recipe = training
    foreign -= {data.dataset}
    if data.dataset != entry.name:
        relation = _by_level(data.level_of_theory, entry)
        return Learnt(relation, entry, foreign, perhaps=frozenset(data.drawn_from))
    return Learnt(
        relation=Training.FINE_TUNED if foreign else Training.SPLIT,
        entry=entry,
        foreign=foreign,
        words=f"{'fine-tuned' if foreign else 'trained'} on {name}/{recipe.train.split}",
        train=_part(dataset, recipe.train, data.train_hash, location),
        validation=_part(dataset, recipe.validation, data.validation_hash, location),
    )


def exposure(learnt: Learnt, split: Split, places: IntArray | None) -> Exposure:
    """Return what a model has seen of structures of a split.

    Args:
        learnt: What the model learnt from.
        split: The split.
        places: Indices of the structures; None takes all.
    """
    entry, size = learnt.entry, len(split) if places is None else len(places)
    spec = entry.split(split.name)
    origin = {*entry.drawn_from, *spec.drawn_from}
    seen = sorted(learnt.foreign & origin)
    perhaps = sorted((learnt.foreign & {*entry.perhaps_from}) | (learnt.perhaps & origin))
    n_trained, n_validated = (
        None if part is None else overlap(split, places, part.split, part.indices)
        for part in (learnt.train, learnt.validation)
    )
    relation = learnt.relation
    if seen or (n_trained or 0) > LEAK * size:
        relation = Training.CONTAMINATED
    elif perhaps:
        relation = Training.UNKNOWN
    said = list(_sentences(learnt, size, n_trained, n_validated))
    if seen:
        said.append(f"these structures are drawn from {', '.join(seen)}, which the model was trained on")
    elif perhaps:
        said.append(f"these structures may belong to {', '.join(perhaps)}, which the model was trained on")
    return Exposure(relation, "; ".join(said) or None, n_trained, n_validated)


def _sentences(learnt: Learnt, size: int, n_trained: int | None, n_validated: int | None) -> Iterator[str]:
    if learnt.words is None:
        return
    if n_trained is None:
        yield f"{learnt.words}, which is not here or has changed: structures that stand in both could not be looked up"
    elif n_trained:
        yield f"{learnt.words}; {n_trained:,} of {size:,} structures also stand there"
    elif learnt.validation is None:
        yield learnt.words
    if n_validated:
        yield f"{n_validated:,} of {size:,} structures chose among its weights"


def _training(
    card: ModelCard, weights: PlannedTraining | CheckpointRecord | str | None
) -> tuple[TrainedOn, Recipe] | None:
    """Return the data and the recipe of weights that a recipe makes or made, None for other weights."""
    if isinstance(weights, PlannedTraining):
        return weights.job.data, weights.job.recipe
    record = weights if isinstance(weights, CheckpointRecord) else None
    place = card.checkpoint_location() if record is None and card.checkpoint and card.checkpoint.path else None
    if place is not None and is_checkpoint(Path(place)):
        record = read_checkpoint(Path(place))
    return None if record is None else (record.data, record.recipe)


def _part(dataset: PlannedDataset, subset: Subset, content_hash: str, location: DataLocation) -> Part | None:
    """Return the structures of a subset, None where the split is not here or has changed."""
    split = dataset.splits.get(subset.split)
    if split is None:
        try:
            split = open_split(dataset.entry, subset.split, location)
        except (ConfigError, PrerequisiteError):
            return None
    return Part(split, subset.indices(split.clusters)) if split.content_hash == content_hash else None


def _relation(card: ModelCard, entry: DatasetEntry) -> Training:
    """Return how the training data that a card names relate to a dataset."""
    if card.training_data is None:
        return Training.UNKNOWN
    if not card.training_data:
        return Training.CLASSICAL
    own = {entry.name, *(name for split in entry.splits.values() for name in split.drawn_from)}
    if own & set(card.training_data):
        return Training.SPLIT
    return _by_level(card.capabilities.level_of_theory, entry)


def _by_level(level: str | None, entry: DatasetEntry) -> Training:
    """Return the relation of a model that was trained on other data."""
    if level is None:
        return Training.UNKNOWN
    labels = entry.level_of_theory
    corrected = {to for (_, base), to in CORRECTED_LEVEL.items() if base == labels}
    return Training.ZERO_SHOT if level in {labels, *corrected} else Training.OTHER_LEVEL
