"""Many structures as a few flat arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ase import Atoms

    from mlipbench.typing import AnyArray, BoolArray, FloatArray, IntArray, StrArray

PER_ATOM: Final = ("numbers", "positions", "tags", "fixed")
PER_STRUCTURE: Final = ("cell", "pbc", "charge", "spin", "id")
_DTYPES: Final = {
    "numbers": np.int64,
    "positions": np.float64,
    "cell": np.float64,
    "pbc": np.bool_,
    "offsets": np.int64,
    "tags": np.int64,
    "fixed": np.bool_,
    "charge": np.float64,
    "spin": np.float64,
    "id": np.str_,
}


@dataclass(frozen=True, slots=True, eq=False)
class StructureBatch:
    """Structures stored one after the other in columns.

    Attributes:
        numbers: Shape (n_atoms,), atomic numbers; 0 stands for an unknown element.
        positions: Shape (n_atoms, 3), Å, as given (not wrapped into the cell).
        cell: Shape (n_structures, 3, 3), Å; rows are lattice vectors, zero where there is no cell.
        pbc: Shape (n_structures, 3), whether each lattice direction is periodic.
        offsets: Shape (n_structures + 1,); structure ``i`` owns atoms ``offsets[i]:offsets[i + 1]``.
        tags: Shape (n_atoms,) or None; OC20's 0 subsurface, 1 surface, 2 adsorbate.
        fixed: Shape (n_atoms,) or None; True where an atom is held by a ``FixAtoms`` constraint.
        charge: Shape (n_structures,) or None, total charge in units of the elementary charge.
        spin: Shape (n_structures,) or None, spin multiplicity 2S + 1.
        id: Shape (n_structures,) or None, names of the structures.
    """

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    pbc: BoolArray
    offsets: IntArray
    tags: IntArray | None = None
    fixed: BoolArray | None = None
    charge: FloatArray | None = None
    spin: FloatArray | None = None
    id: StrArray | None = None

    def __post_init__(self) -> None:
        """Cast the columns to their types and check that their shapes fit.

        Raises:
            ValueError: A column has the wrong shape, or the offsets do not partition the atoms.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, np.asarray(value, dtype=_DTYPES[field.name]))
        self._check_offsets()
        n_atoms, n_structures = self.n_atoms, self.n_structures
        tails = {"positions": (3,), "cell": (3, 3), "pbc": (3,)}
        for name in (*PER_ATOM, *PER_STRUCTURE):
            column = getattr(self, name)
            rows = n_atoms if name in PER_ATOM else n_structures
            expected = (rows, *tails.get(name, ()))
            if column is not None and column.shape != expected:
                raise ValueError(f"{name} has shape {column.shape}, expected {expected}")

    def _check_offsets(self) -> None:
        offsets = self.offsets
        if offsets.ndim != 1 or offsets.size == 0 or offsets[0] != 0 or offsets[-1] != len(self.numbers):
            raise ValueError("offsets must start at 0 and end at the number of atoms")
        if np.any(np.diff(offsets) < 0):
            raise ValueError("offsets must not decrease")

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return len(self.offsets) - 1

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all structures together."""
        return len(self.numbers)

    @property
    def counts(self) -> IntArray:
        """Shape (n_structures,), atoms of each structure."""
        return np.diff(self.offsets)

    @property
    def structure_index(self) -> IntArray:
        """Shape (n_atoms,), the structure each atom belongs to."""
        return np.repeat(np.arange(self.n_structures), self.counts)

    def __len__(self) -> int:
        """Return the number of structures."""
        return self.n_structures

    def columns(self) -> dict[str, AnyArray]:
        """Return the columns that are present, by name."""
        present = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in present.items() if column is not None}

    def moved(self, positions: FloatArray) -> StructureBatch:
        """Return the same structures with other positions; nothing else is looked at again.

        Args:
            positions: Shape (n_atoms, 3), Å, float64.

        Raises:
            ValueError: The shape is another one.
        """
        if positions.shape != self.positions.shape:
            raise ValueError(f"positions have shape {positions.shape}, expected {self.positions.shape}")
        made = object.__new__(StructureBatch)
        for field in _FIELDS:
            object.__setattr__(made, field, getattr(self, field))
        object.__setattr__(made, "positions", positions)
        return made

    def slice(self, start: int, stop: int) -> StructureBatch:
        """Return structures ``start`` to ``stop`` (exclusive); the columns are views.

        Raises:
            IndexError: The range does not lie inside the batch.
        """
        if not 0 <= start <= stop <= self.n_structures:
            raise IndexError(f"structures {start}:{stop} of {self.n_structures}")
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        taken: dict[str, Any] = {"offsets": self.offsets[start : stop + 1] - first}
        for name, column in self.columns().items():
            if name in PER_ATOM:
                taken[name] = column[first:last]
            elif name in PER_STRUCTURE:
                taken[name] = column[start:stop]
        return StructureBatch(**taken)

    def select(self, indices: Sequence[int] | IntArray | BoolArray) -> StructureBatch:
        """Return the structures at `indices`, in that order; a boolean mask selects where it is True.

        Raises:
            IndexError: An index lies outside the batch.
        """
        chosen = np.arange(self.n_structures)[np.asarray(indices)] if len(indices) else np.zeros(0, dtype=np.int64)
        counts = self.counts[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        atoms = np.repeat(self.offsets[chosen] - offsets[:-1], counts) + np.arange(offsets[-1])
        taken: dict[str, Any] = {"offsets": offsets}
        for name, column in self.columns().items():
            if name in PER_ATOM:
                taken[name] = column[atoms]
            elif name in PER_STRUCTURE:
                taken[name] = column[chosen]
        return StructureBatch(**taken)

    def __iter__(self) -> Iterator[StructureBatch]:
        """Iterate over batches of one structure."""
        return (self.slice(i, i + 1) for i in range(self.n_structures))

    @classmethod
    def from_atoms(cls, frames: Sequence[Atoms]) -> StructureBatch:
        """Build a batch from ASE structures.

        ``info["charge"]``, ``info["spin"]`` and ``info["id"]`` are taken where every frame has them; tags where
        any frame has a non-zero one; `fixed` where any frame has a ``FixAtoms`` constraint.

        Raises:
            ValueError: Some frames carry one of the ``info`` entries and others do not.
        """
        counts = [len(atoms) for atoms in frames]
        tags = [atoms.get_tags() for atoms in frames]
        fixed = [_fixed_mask(atoms) for atoms in frames]
        return cls(
            numbers=_stack([atoms.numbers for atoms in frames], (0,)),
            positions=_stack([atoms.positions for atoms in frames], (0, 3)),
            cell=np.asarray([atoms.cell.array for atoms in frames]).reshape(-1, 3, 3),
            pbc=np.asarray([atoms.pbc for atoms in frames]).reshape(-1, 3),
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            tags=_stack(tags, (0,)) if any(atoms.has("tags") for atoms in frames) else None,
            fixed=_stack(fixed, (0,)) if any(atoms.constraints for atoms in frames) else None,
            **{name: _info_column(frames, name) for name in ("charge", "spin", "id")},
        )

    def to_atoms(self) -> list[Atoms]:
        """Return the structures as ASE ``Atoms``, with tags, ``FixAtoms``, and charge, spin and id in ``info``."""
        from ase import Atoms
        from ase.constraints import FixAtoms

        frames = []
        for i in range(self.n_structures):
            atoms_range = slice(self.offsets[i], self.offsets[i + 1])
            atoms = Atoms(
                numbers=self.numbers[atoms_range],
                positions=self.positions[atoms_range],
                cell=self.cell[i],
                pbc=self.pbc[i],
                tags=None if self.tags is None else self.tags[atoms_range],
            )
            if self.fixed is not None and self.fixed[atoms_range].any():
                atoms.set_constraint(FixAtoms(mask=self.fixed[atoms_range]))
            for name in ("charge", "spin", "id"):
                column = getattr(self, name)
                if column is not None:
                    atoms.info[name] = column[i].item()
            frames.append(atoms)
        return frames


_FIELDS = tuple(field.name for field in fields(StructureBatch))


def concatenate(batches: Sequence[StructureBatch]) -> StructureBatch:
    """Join batches one after the other.

    An optional column must be present in all of them or in none.

    Raises:
        ValueError: No batch is given, or an optional column is present in some batches only.
    """
    if not batches:
        raise ValueError("nothing to concatenate")
    names = set(batches[0].columns())
    for batch in batches[1:]:
        if set(batch.columns()) != names:
            odd = ", ".join(sorted(names ^ set(batch.columns())))
            raise ValueError(f"optional columns present in some batches only: {odd}")
    ends = np.cumsum([0] + [batch.n_atoms for batch in batches])
    offsets = [batch.offsets[1:] + end for batch, end in zip(batches, ends[:-1], strict=True)]
    joined: dict[str, Any] = {"offsets": np.concatenate([np.zeros(1, dtype=np.int64), *offsets])}
    for name in names - {"offsets"}:
        joined[name] = np.concatenate([getattr(batch, name) for batch in batches])
    return StructureBatch(**joined)


def _stack(columns: Sequence[AnyArray], empty: tuple[int, ...]) -> AnyArray:
    return np.concatenate(columns) if columns else np.zeros(empty)


def _fixed_mask(atoms: Atoms) -> BoolArray:
    from ase.constraints import FixAtoms

    mask = np.zeros(len(atoms), dtype=np.bool_)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            mask[constraint.index] = True
    return mask


def _info_column(frames: Sequence[Atoms], name: str) -> AnyArray | None:
    present = [name in atoms.info for atoms in frames]
    if not any(present):
        return None
    if not all(present):
        raise ValueError(f"info[{name!r}] is given for {sum(present)} of {len(frames)} frames")
    return np.asarray([atoms.info[name] for atoms in frames], dtype=_DTYPES[name])
