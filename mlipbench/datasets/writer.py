"""Writing columns piece by piece, so that a split of any size needs little memory."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from mlipbench.structures.columnar import ATOM_LABELS, DTYPES, FORMAT, LABELS, META, TAILS, Labels, content_hash
from mlipbench.structures.duplicates import content_hashes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray, BoolArray, FloatArray, StrArray

_LAZY = ("tags", "fixed")  # written only once a value differs from zero, so that equal data give equal columns


class ColumnarWriter:
    """Writes a split; use as a context manager, `append` pieces, and open the folder with `Split` afterwards.

    Columns go to disk as they come and are hashed on the way. The folder is complete once the block ends without an
    error: ``meta.json`` is written last.
    """

    def __init__(self, directory: Path, source: Mapping[str, Any] | None = None) -> None:
        """Make the folder.

        Args:
            directory: A folder that does not exist, or is empty.
            source: What the columns were made from, kept in ``meta.json``.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._source = dict(source or {})
        self._columns: dict[str, _Column] = {}
        self._optional: frozenset[str] | None = None
        self._ids: list[AnyArray] = []
        self._codes: dict[str, int] = {}
        self._named: bool | None = None
        self._elements = np.zeros(256, dtype=np.bool_)
        self._any_pbc = [False, False]
        self.n_structures = 0
        self.n_atoms = 0

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Complete the folder, or leave it incomplete after an error."""
        if kind is None:
            self._finish()
        else:
            for column in self._columns.values():
                column.close()

    def append(
        self, structures: StructureBatch, labels: Labels, clusters: Sequence[str] | StrArray | None = None
    ) -> None:
        """Add structures at the end.

        Args:
            structures: The structures; ids, charge and spin must be given every time or never.
            labels: Their labels; each kind must be given every time or never.
            clusters: Shape (n_structures,), the name of the cluster each structure belongs to; None (every time or
                never) makes each its own cluster.

        Raises:
            ValueError: Shapes do not fit, an atomic number is not one of 1..118, or a column is given for some only.
        """
        self._check(structures, labels, clusters)
        if structures.n_structures == 0:
            return
        if not self._columns:
            self._put("offsets", np.zeros(1))
        for name in _LAZY:
            self._put_lazily(name, getattr(structures, name), structures.n_atoms)
        values: dict[str, Any] = {name: getattr(structures, name) for name in ("numbers", "positions", "cell", "pbc")}
        values["offsets"] = structures.offsets[1:] + self.n_atoms
        values |= {name: getattr(structures, name) for name in ("charge", "spin")}
        values |= {name: getattr(labels, name) for name in LABELS}
        values["clusters"] = self._code(clusters, structures.n_structures)
        values["hashes"] = content_hashes(structures)
        for name, value in values.items():
            if value is not None:
                self._put(name, value)
        if structures.id is not None:
            self._ids.append(np.char.encode(structures.id, "utf-8"))
        self._elements[structures.numbers] = True
        self._note_pbc(structures.pbc)
        self.n_structures += structures.n_structures
        self.n_atoms += structures.n_atoms

    def _check(self, structures: StructureBatch, labels: Labels, clusters: Sequence[str] | StrArray | None) -> None:
        numbers = structures.numbers
        if numbers.size and not 1 <= int(numbers.min()) <= int(numbers.max()) <= 118:  # noqa: PLR2004
            raise ValueError("atomic numbers must lie between 1 and 118")
        given: dict[str, Any] = {name: getattr(structures, name) for name in ("charge", "spin", "id")}
        given |= {name: getattr(labels, name) for name in LABELS}
        given["clusters"] = clusters
        present = frozenset(name for name, value in given.items() if value is not None)
        if self._optional is None:
            self._optional = present
        elif present != self._optional:
            odd = ", ".join(sorted(present ^ self._optional))
            raise ValueError(f"given for some structures only: {odd}")
        for name in LABELS:
            n_rows = structures.n_atoms if name in ATOM_LABELS else structures.n_structures
            value: FloatArray | None = getattr(labels, name)
            if value is not None and np.shape(value) != (n_rows, *TAILS.get(name, ())):
                raise ValueError(f"{name} has shape {np.shape(value)}, expected {(n_rows, *TAILS.get(name, ()))}")
        if clusters is not None and len(clusters) != structures.n_structures:
            raise ValueError(f"{len(clusters)} cluster names for {structures.n_structures} structures")

    def _put(self, name: str, value: AnyArray) -> None:
        if name not in self._columns:
            self._columns[name] = _Column(self._directory / f"{name}.npy", DTYPES[name], TAILS.get(name, ()))
        self._columns[name].write(value)

    def _put_lazily(self, name: str, value: AnyArray | None, rows: int) -> None:
        if name in self._columns:
            self._put(name, np.zeros(rows) if value is None else value)
        elif value is not None and np.any(value):
            for start in range(0, self.n_atoms, 1 << 20):
                self._put(name, np.zeros(min(1 << 20, self.n_atoms - start)))
            self._put(name, value)

    def _code(self, clusters: Sequence[str] | StrArray | None, n: int) -> AnyArray:
        if clusters is None:
            return np.arange(self.n_structures, self.n_structures + n)
        return np.asarray([self._codes.setdefault(str(name), len(self._codes)) for name in clusters])

    def _note_pbc(self, pbc: BoolArray) -> None:
        periodic = pbc.any(axis=1)
        self._any_pbc[0] |= bool(periodic.any())
        self._any_pbc[1] |= not periodic.all()

    def _finish(self) -> None:
        if not self.n_structures:
            raise ValueError("no structure was written")
        self._put_names("ids", self._ids)
        if self._codes:
            self._put_names("cluster_names", [np.char.encode(np.asarray(list(self._codes)), "utf-8")])
        columns = {name: column.finish() for name, column in sorted(self._columns.items())}
        meta = {
            "format": FORMAT,
            "n_structures": self.n_structures,
            "n_atoms": self.n_atoms,
            "content_hash": content_hash(columns),
            "elements": np.flatnonzero(self._elements).tolist(),
            "has_periodic": self._any_pbc[0],
            "has_molecules": self._any_pbc[1],
            "columns": columns,
            "source": self._source,
        }
        (self._directory / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def _put_names(self, name: str, pieces: list[AnyArray]) -> None:
        if pieces:
            width = max(1, *(piece.dtype.itemsize for piece in pieces))
            column = self._columns[name] = _Column(self._directory / f"{name}.npy", f"|S{width}", ())
            for piece in pieces:
                column.write(piece)


class _Column:
    """One ``.npy`` file that grows; its header has room for the final length (numpy pads it for this purpose)."""

    def __init__(self, path: Path, dtype: str, tail: tuple[int, ...]) -> None:
        self._dtype = np.dtype(dtype)
        self._tail = tail
        self._rows = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO = path.open("wb")
        self._header()
        self._start = self._file.tell()

    def write(self, values: AnyArray) -> None:
        """Add rows at the end."""
        rows = np.ascontiguousarray(values, dtype=self._dtype)
        if rows.size:
            self._file.write(rows.data)
            self._digest.update(rows.data)
            self._rows += len(rows)

    def finish(self) -> dict[str, Any]:
        """Write the final header and return what the column holds."""
        self._file.seek(0)
        self._header()
        if self._file.tell() != self._start:
            raise AssertionError("the header has outgrown its room")
        self.close()
        shape = [self._rows, *self._tail]
        return {"dtype": self._dtype.str, "shape": shape, "sha256": self._digest.hexdigest()}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _header(self) -> None:
        described = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._rows, *self._tail)}
        np.lib.format.write_array_header_1_0(self._file, described)
