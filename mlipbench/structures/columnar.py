"""Splits as columns on disk: one memory-mapped ``.npy`` file a column and ``meta.json`` beside them."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.errors import DatasetError
from mlipbench.structures.batch import StructureBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from mlipbench.typing import AnyArray, FloatArray, HashArray, IntArray, StrArray

FORMAT: Final = 2
META: Final = "meta.json"
CHUNK_ATOMS: Final = 200_000  # about 10 MB of positions and forces
DTYPES: Final = {
    "numbers": "|u1",
    "positions": "<f8",
    "tags": "|i1",
    "fixed": "|b1",
    "cell": "<f8",
    "pbc": "|b1",
    "offsets": "<i8",
    "charge": "<f8",
    "spin": "<f8",
    "energy": "<f8",
    "forces": "<f8",
    "stress": "<f8",
    "relaxed_energy": "<f8",
    "relaxed_positions": "<f8",
    "clusters": "<i8",
    "hashes": "<u8",
}
TAILS: Final = {
    "positions": (3,),
    "cell": (3, 3),
    "pbc": (3,),
    "forces": (3,),
    "stress": (6,),
    "relaxed_positions": (3,),
    "hashes": (4,),
}
LABELS: Final = ("energy", "forces", "stress", "relaxed_energy", "relaxed_positions")
ATOM_LABELS: Final = ("forces", "relaxed_positions")
ATOM_COLUMNS: Final = frozenset({"numbers", "positions", "tags", "fixed", *ATOM_LABELS})
# names are left out of the content hash: equal structures read from two containers are the same data; hashes of
# structures follow from the other columns
LEFT_OUT: Final = ("ids", "cluster_names", "hashes")


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Reference labels of consecutive structures; None where the data have none.

    Attributes:
        energy: Shape (n_structures,), eV.
        forces: Shape (n_atoms, 3), eV/Å, those of fixed atoms as computed.
        stress: Shape (n_structures, 6), eV/Å³, Voigt xx yy zz yz xz xy in ASE's sign.
        relaxed_energy: Shape (n_structures,), eV, of the structures that the relaxations ended in.
        relaxed_positions: Shape (n_atoms, 3), Å, of these structures; they have the same cells.
    """

    energy: FloatArray | None = None
    forces: FloatArray | None = None
    stress: FloatArray | None = None
    relaxed_energy: FloatArray | None = None
    relaxed_positions: FloatArray | None = None


class Split:
    """A split opened for reading; columns are mapped, not loaded.

    Attributes:
        directory: Where the columns lie.
        entry: Name of the dataset entry.
        name: Name of the split.
        n_structures: Number of structures.
        n_atoms: Number of atoms of all structures.
        content_hash: SHA-256 (hex) of the columns but for names; equal for equal data, wherever they were read from.
        elements: Atomic numbers that occur.
        has_labels: Whether there are labels of any kind; public test sets hide theirs.
        has_forces: Whether there are forces.
        has_stress: Whether there are stresses.
        has_periodic: Whether any structure is periodic in at least one direction.
        has_molecules: Whether any structure is periodic in no direction.
        has_cluster_names: Whether clusters have names of their own; without, each structure is its own cluster.
    """

    def __init__(self, directory: Path, entry: str = "", name: str = "") -> None:
        """Map the columns in `directory`.

        Raises:
            DatasetError: The columns are missing, damaged or of another version.
        """
        self.directory = directory
        self.entry = entry
        self.name = name
        meta = read_meta(directory)
        self._columns = {column: _map_column(directory, column, meta) for column in meta["columns"]}
        self.n_structures: int = meta["n_structures"]
        self.n_atoms: int = meta["n_atoms"]
        self.content_hash: str = meta["content_hash"]
        self.elements: frozenset[int] = frozenset(meta["elements"])
        self.has_periodic: bool = meta["has_periodic"]
        self.has_molecules: bool = meta["has_molecules"]
        self.has_labels = any(label in self._columns for label in LABELS)
        self.has_forces = "forces" in self._columns
        self.has_stress = "stress" in self._columns
        self.has_cluster_names = "cluster_names" in self._columns
        if int(self._columns["offsets"][-1]) != self.n_atoms:
            raise _damaged(directory, "offsets")

    def __len__(self) -> int:
        """Return the number of structures."""
        return self.n_structures

    @property
    def column_names(self) -> frozenset[str]:
        """The columns that are present."""
        return frozenset(self._columns)

    @property
    def offsets(self) -> IntArray:
        """Shape (n_structures + 1,); structure ``i`` owns atoms ``offsets[i]:offsets[i + 1]``."""
        offsets: IntArray = self._columns["offsets"]
        return offsets

    @property
    def counts(self) -> IntArray:
        """Shape (n_structures,), atoms of each structure."""
        return np.diff(self.offsets)

    @property
    def clusters(self) -> IntArray:
        """Shape (n_structures,), code of the cluster each structure belongs to, counted from 0 as they appear."""
        clusters: IntArray = self._columns["clusters"][:]
        return clusters

    @property
    def hashes(self) -> HashArray:
        """Shape (n_structures, 4), what `mlipbench.structures.duplicates` finds equal structures by."""
        hashes: HashArray = self._columns["hashes"][:]
        return hashes

    @property
    def cluster_names(self) -> StrArray:
        """Shape (n_clusters,), the name of each cluster; the structures' ids where each is its own cluster."""
        return _decode(self._columns["cluster_names"]) if self.has_cluster_names else self.ids

    @property
    def ids(self) -> StrArray:
        """Shape (n_structures,), the names of the structures."""
        return self.names(0, self.n_structures)

    def structures(self, start: int, stop: int) -> StructureBatch:
        """Return structures ``start`` to ``stop`` (exclusive) with their ids; no other part is read.

        Raises:
            IndexError: The range does not lie inside the split.
        """
        atoms = self._atoms(start, stop)
        columns: dict[str, Any] = {name: self._columns[name][start:stop] for name in ("cell", "pbc")}
        columns |= {name: self._columns[name][start:stop] for name in ("charge", "spin") if name in self._columns}
        columns |= {
            name: self._columns[name][atoms]
            for name in ("numbers", "positions", "tags", "fixed")
            if name in self._columns
        }
        offsets = self.offsets[start : stop + 1] - self.offsets[start]
        return StructureBatch(offsets=offsets, id=self.names(start, stop), **columns)

    def select(self, indices: IntArray) -> StructureBatch:
        """Return numbers, positions, cells and periodicity of some structures, in the order given; no other is read.

        Args:
            indices: Shape (n_selected,).
        """
        counts = self.offsets[indices + 1] - self.offsets[indices]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        atoms = np.repeat(self.offsets[indices] - offsets[:-1], counts) + np.arange(offsets[-1])
        columns = {name: self._columns[name][atoms] for name in ("numbers", "positions")}
        columns |= {name: self._columns[name][indices] for name in ("cell", "pbc")}
        return StructureBatch(offsets=offsets, **columns)

    def subset(self, places: IntArray) -> Split:
        """Return some structures as a split of its own; their columns are looked up when they are asked for.

        Content hash, elements and names of clusters stay those of the whole.

        Args:
            places: Shape (n_selected,), which structures, in the order they are to have.
        """
        found = copy.copy(self)
        counts = self.counts[places]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        atoms = np.repeat(self.offsets[places] - offsets[:-1], counts) + np.arange(offsets[-1])
        whole = {"ids": np.arange(self.n_structures).astype(np.bytes_), **self._columns}
        found._columns = {  # noqa: SLF001 - a copy of this
            name: column if name == "cluster_names" else _Rows(column, atoms if name in ATOM_COLUMNS else places)
            for name, column in whole.items()
        }
        found._columns["offsets"] = offsets  # noqa: SLF001
        if not self.has_cluster_names:
            found._columns["clusters"] = np.arange(len(places))  # noqa: SLF001
        found.n_structures, found.n_atoms = len(places), int(offsets[-1])
        return found

    def frames(self) -> FloatArray:
        """Return the positions of a trajectory, shape (n_structures, n_atoms, 3), Å.

        Raises:
            ValueError: The structures have unequal numbers of atoms.
        """
        positions: FloatArray = self._columns["positions"][:].astype(np.float64, copy=False)
        return positions.reshape(self.n_structures, -1, 3)

    def labels(self, start: int, stop: int) -> Labels:
        """Return the labels of structures ``start`` to ``stop`` (exclusive); no other part is read.

        Raises:
            IndexError: The range does not lie inside the split.
        """
        atoms = self._atoms(start, stop)
        rows = {name: slice(start, stop) for name in LABELS} | dict.fromkeys(ATOM_LABELS, atoms)
        return Labels(**{name: self._columns[name][part] for name, part in rows.items() if name in self._columns})

    def energies(self, start: int, stop: int) -> FloatArray:
        """Return the energies of structures ``start`` to ``stop`` (exclusive), in eV.

        Raises:
            DatasetError: The split has none.
        """
        energies = self.labels(start, stop).energy
        if energies is None:
            remedy = "name a split whose files hold energies"
            raise DatasetError("the structures have no energies", where=f"{self.entry}/{self.name}", remedy=remedy)
        return energies

    def chunks(self, max_atoms: int = CHUNK_ATOMS) -> Iterator[tuple[int, int]]:
        """Cut the split into ranges of structures with at most `max_atoms` atoms, or one structure."""
        return cut(self.offsets, max_atoms)

    def composition(self, elements: Sequence[int]) -> npt.NDArray[np.int32]:
        """Return how many atoms of each element the structures have.

        Args:
            elements: Atomic numbers; atoms of others are not counted.

        Returns:
            Shape (n_structures, len(elements)).
        """
        width = len(elements)
        place = np.full(256, width)
        place[np.asarray(elements, dtype=np.int64)] = np.arange(width)
        counts = np.zeros((self.n_structures, width), dtype=np.int32)
        for start, stop in self.chunks():
            numbers = self._columns["numbers"][self._atoms(start, stop)]
            row = np.repeat(np.arange(stop - start), np.diff(self.offsets[start : stop + 1]))
            flat = np.bincount(row * (width + 1) + place[numbers], minlength=(stop - start) * (width + 1))
            counts[start:stop] = flat.reshape(stop - start, width + 1)[:, :width]
        return counts

    def damaged_columns(self) -> list[str]:
        """Hash every column again and return the names of those that differ from what was written."""
        recorded = read_meta(self.directory)["columns"]
        return [name for name, column in self._columns.items() if _digest(column) != recorded[name]["sha256"]]

    def _atoms(self, start: int, stop: int) -> slice:
        if not 0 <= start <= stop <= self.n_structures:
            raise IndexError(f"structures {start}:{stop} of {self.n_structures}")
        return slice(int(self.offsets[start]), int(self.offsets[stop]))

    def names(self, start: int, stop: int) -> StrArray:
        """Return the names of structures ``start`` to ``stop`` (exclusive)."""
        if "ids" in self._columns:
            return _decode(self._columns["ids"][start:stop])
        return np.arange(start, stop).astype(np.str_)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Some rows of a column, looked up when they are asked for.

    Attributes:
        column: The column.
        rows: Shape (n_rows,), places in it.
    """

    column: Any
    rows: IntArray

    def __getitem__(self, key: Any) -> Any:
        """Return what a column of these rows alone would."""
        return self.column[self.rows[key]]


def cut(offsets: IntArray, max_atoms: int = CHUNK_ATOMS) -> Iterator[tuple[int, int]]:
    """Cut structures into ranges with at most `max_atoms` atoms, or one structure.

    Args:
        offsets: Shape (n_structures + 1,); structure ``i`` owns atoms ``offsets[i]:offsets[i + 1]``.
        max_atoms: Most atoms of a range.
    """
    start = 0
    while start < len(offsets) - 1:
        limit = offsets[start] + max_atoms
        stop = max(int(np.searchsorted(offsets, limit, side="right")) - 1, start + 1)
        yield start, stop
        start = stop


def content_hash(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the SHA-256 (hex) over names, types, shapes and byte hashes of all columns but those in `LEFT_OUT`.

    Args:
        columns: By name, each with ``dtype``, ``shape`` and ``sha256``.
    """
    lines = [
        f"{name} {column['dtype']} {'x'.join(str(size) for size in column['shape'])} {column['sha256']}"
        for name, column in sorted(columns.items())
        if name not in LEFT_OUT
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_meta(directory: Path) -> dict[str, Any]:
    """Return the description of the columns in `directory`.

    Raises:
        DatasetError: It is missing, damaged or of another version.
    """
    try:
        meta = json.loads((directory / META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise _damaged(directory, META) from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise _damaged(directory, META)
    return meta


def _map_column(directory: Path, name: str, meta: Mapping[str, Any]) -> Any:
    path = directory / f"{name}.npy"
    described = meta["columns"][name]
    try:
        column = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise _damaged(directory, path.name) from None
    if column.dtype.str != described["dtype"] or list(column.shape) != described["shape"]:
        raise _damaged(directory, path.name)
    return column.view(np.ndarray)


def _damaged(directory: Path, part: str) -> DatasetError:
    remedy = "delete the folder; it is made again from the source files"
    return DatasetError("the cached columns are missing or damaged", file=directory, where=part, remedy=remedy)


def _decode(names: npt.NDArray[np.bytes_]) -> StrArray:
    return np.char.decode(names, "utf-8") if names.size else np.zeros(0, dtype=np.str_)


def _digest(column: AnyArray) -> str:
    digest = hashlib.sha256()
    rows = max(1, (8 << 20) // max(1, column[:1].nbytes))
    for start in range(0, len(column), rows):
        digest.update(np.ascontiguousarray(column[start : start + rows]).data)
    return digest.hexdigest()
