"""The structures of a recipe, read into memory and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.errors import ConfigError, DatasetError
from mlipbench.structures.batch import StructureBatch, concatenate
from mlipbench.structures.columnar import Split
from mlipbench.structures.duplicates import found_in

if TYPE_CHECKING:
    from mlipbench.recipe import Subset, TrainingJob
    from mlipbench.typing import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class LabelledStructures:
    """Structures of a split with their labels, in memory.

    Attributes:
        split: Where they are from.
        indices: Shape (n_structures,), their places in the split.
        structures: The structures, without names.
        energy: Shape (n_structures,), eV.
        forces: Shape (n_atoms, 3), eV/Å, or None.
        counted: Shape (n_atoms,), whose forces count.
    """

    split: Split
    indices: IntArray
    structures: StructureBatch
    energy: FloatArray
    forces: FloatArray | None
    counted: BoolArray

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return len(self.indices)

    @property
    def clusters(self) -> IntArray:
        """Shape (n_structures,), the cluster of each structure."""
        return self.split.clusters[self.indices]

    @property
    def counted_components(self) -> IntArray:
        """Shape (n_structures,), force components that count."""
        free = np.bincount(self.structures.structure_index[self.counted], minlength=self.n_structures)
        return 3 * free

    def select(self, places: IntArray) -> LabelledStructures:
        """Return some of the structures.

        Args:
            places: Shape (n_selected,), in rising order.
        """
        taken = np.zeros(self.n_structures, dtype=np.bool_)
        taken[places] = True
        atoms = np.repeat(taken, self.structures.counts)
        return LabelledStructures(
            split=self.split,
            indices=self.indices[taken],
            structures=self.structures.select(np.flatnonzero(taken)),
            energy=self.energy[taken],
            forces=None if self.forces is None else self.forces[atoms],
            counted=self.counted[atoms],
        )


def load_data(job: TrainingJob) -> tuple[LabelledStructures, LabelledStructures]:
    """Return the training and the validation structures of a job.

    Raises:
        ConfigError: A subset is empty, the two overlap, or forces are to be fitted where there are none.
        DatasetError: Columns are missing or damaged, or a label is not finite.
    """
    recipe, free_only = job.recipe, job.data.free_atoms_only
    train_split = Split(job.train_columns, job.data.dataset, recipe.train.split)
    validation_split = Split(job.validation_columns, job.data.dataset, recipe.validation.split)
    train_indices = _chosen(recipe.train, train_split, "train")
    validation_indices = _chosen(recipe.validation, validation_split, "validation")
    if job.data.train_hash == job.data.validation_hash:
        common = np.intersect1d(train_indices, validation_indices)
    else:
        common = validation_indices[found_in(validation_split, train_split, train_indices)[validation_indices]]
    _refuse_common(common, validation_split)
    train = _gathered(train_split, train_indices, free_only=free_only)
    validation = _gathered(validation_split, validation_indices, free_only=free_only)
    for part in (train, validation):
        _check_labels(part, needs_forces=recipe.loss.forces > 0)
    return train, validation


def check_elements(elements: int, *parts: LabelledStructures) -> None:
    """Refuse structures with elements that a network has no row for.

    Args:
        elements: Atomic numbers below this are covered.
        *parts: The structures.

    Raises:
        ConfigError: There are such elements; it names them.
    """
    present = np.unique(np.concatenate([part.structures.numbers for part in parts]))
    beyond = present[present >= elements]
    if len(beyond):
        names = ", ".join(f"{SYMBOLS[number]} ({number})" for number in beyond.tolist())
        raise ConfigError(
            f"elements the network does not cover: {names}", file=parts[0].split.directory,
            remedy="choose another preset or network, or other structures",
        )  # fmt: skip


def _chosen(subset: Subset, split: Split, field: str) -> IntArray:
    indices = subset.indices(split.clusters)
    if not len(indices):
        raise ConfigError(
            f"selects none of the {len(split)} structures of split {subset.split!r}", where=f"recipe: {field}",
            remedy="change its `slice`",
        )  # fmt: skip
    return indices


def _gathered(split: Split, indices: IntArray, *, free_only: bool) -> LabelledStructures:
    structures, energies, forces = [], [], []
    for start, stop in split.chunks():
        first, last = np.searchsorted(indices, [start, stop])
        if first == last:
            continue
        chosen = indices[first:last] - start
        whole, labels = split.structures(start, stop), split.labels(start, stop)
        structures.append(replace(whole, id=None).select(chosen))
        energies.append(split.energies(start, stop)[chosen])
        if labels.forces is not None:
            taken = np.zeros(whole.n_structures, dtype=np.bool_)
            taken[chosen] = True
            forces.append(labels.forces[np.repeat(taken, whole.counts)])
    batch = concatenate(structures)
    counted = ~batch.fixed if free_only and batch.fixed is not None else np.ones(batch.n_atoms, dtype=np.bool_)
    return LabelledStructures(
        split=split,
        indices=indices,
        structures=batch,
        energy=np.concatenate(energies),
        forces=np.concatenate(forces) if forces else None,
        counted=counted,
    )


def _refuse_common(common: IntArray, split: Split) -> None:
    if not len(common):
        return
    first = int(common[0])
    raise ConfigError(
        f"the recipe's training and validation structures overlap: {len(common)} of the validation structures are "
        f"training structures too, the first is {str(split.names(first, first + 1)[0])!r}",
        file=split.directory, remedy="change `train` or `validation` of the recipe",
    )  # fmt: skip


def _check_labels(part: LabelledStructures, *, needs_forces: bool) -> None:
    if needs_forces and part.forces is None:
        raise ConfigError(
            f"split {part.split.name!r} has no forces", file=part.split.directory, where="recipe: loss.forces",
            remedy="set it to zero, or choose another dataset",
        )  # fmt: skip
    bad = ~np.isfinite(part.energy)
    if part.forces is not None:
        rows = ~np.isfinite(part.forces).all(axis=1)
        bad |= np.bincount(part.structures.structure_index, weights=rows, minlength=part.n_structures) > 0
    if bad.any():
        first = int(part.indices[np.argmax(bad)])
        raise DatasetError(
            "an energy or force is not a finite number", file=part.split.directory,
            where=f"structure {part.split.names(first, first + 1)[0]}", remedy="leave the structure out",
        )  # fmt: skip
