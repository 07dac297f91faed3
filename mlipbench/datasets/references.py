"""Which reference structures an adsorption energy is formed from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.datasets.prepare import DataLocation, open_split, root_of
from mlipbench.errors import DatasetError, PrerequisiteError

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.typing import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceMap:
    """For each structure, reference structures and coefficients: E_ads = E - sum of coefficient times E_reference.

    Attributes:
        split: Name of the split that holds the reference structures.
        offsets: Shape (n_structures + 1,); structure ``i`` owns terms ``offsets[i]:offsets[i + 1]``.
        index: Shape (n_terms,), place of the reference structure in `split`.
        coefficient: Shape (n_terms,).
    """

    split: str
    offsets: IntArray
    index: IntArray
    coefficient: FloatArray

    def subset(self, places: IntArray) -> ReferenceMap:
        """Return the terms of some structures.

        Args:
            places: Shape (n_selected,), which structures.
        """
        counts = np.diff(self.offsets)[places]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        terms = np.repeat(self.offsets[places] - offsets[:-1], counts) + np.arange(offsets[-1])
        return ReferenceMap(self.split, offsets, self.index[terms], self.coefficient[terms])

    def reference_energy(self, energy: FloatArray) -> FloatArray:
        """Return what is to be subtracted from each structure's energy.

        Args:
            energy: Shape (n_references,), energies of the reference structures.

        Returns:
            Shape (n_structures,), in the unit of `energy`.
        """
        owner = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        terms = self.coefficient * energy[self.index]
        return np.bincount(owner, weights=terms, minlength=len(self.offsets) - 1).astype(np.float64)


def reference_map(entry: DatasetEntry, split: str, location: DataLocation) -> ReferenceMap | None:
    """Return the reference terms of every structure of a split, by the name of its cluster.

    Returns:
        None where the entry has no references, or `split` is the one that holds them.

    Raises:
        DatasetError: The map is invalid, does not know a cluster, or names an unknown reference structure.
        PrerequisiteError: A file is missing.
    """
    if entry.references is None or split == entry.references.split:
        return None
    path = root_of(entry, location) / entry.references.map
    systems = _read_map(path)
    opened = open_split(entry, split, location)
    references = open_split(entry, entry.references.split, location)
    place = {str(name): index for index, name in enumerate(references.ids)}
    terms = [_terms(systems, str(cluster), place, path) for cluster in opened.cluster_names]
    sizes = np.asarray([len(indices) for indices, _ in terms], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    counts = sizes[opened.clusters]
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    gather = np.repeat(starts[opened.clusters] - offsets[:-1], counts) + np.arange(offsets[-1])
    index = np.concatenate([np.asarray(indices, dtype=np.int64) for indices, _ in terms])
    coefficient = np.concatenate([np.asarray(values, dtype=np.float64) for _, values in terms])
    return ReferenceMap(entry.references.split, offsets, index[gather], coefficient[gather])


def _read_map(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        remedy = "the file belongs to the dataset"
        raise PrerequisiteError(f"cannot be read ({error.strerror})", file=path, remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"not valid JSON ({error})", file=path) from None
    systems = data.get("systems") if isinstance(data, dict) else None
    if not isinstance(systems, dict):
        raise DatasetError("there is no mapping `systems`", file=path)
    return systems


def _terms(systems: dict[str, Any], cluster: str, place: dict[str, int], path: Path) -> tuple[list[int], list[float]]:
    terms = systems.get(cluster)
    where = f"systems.{cluster}"
    if not isinstance(terms, dict) or not terms:
        raise DatasetError("there are no references for this system", file=path, where=where)
    for name, value in terms.items():
        if name not in place:
            raise DatasetError(f"{name!r} is not in the references split", file=path, where=where)
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise DatasetError(f"the coefficient of {name!r} is not a finite number", file=path, where=where)
    return [place[name] for name in terms], [float(value) for value in terms.values()]
