"""Readers of foreign files: extended XYZ, ASE's ``.traj`` and ``.db``; by their names, those of other formats.

They run in the child process that `mlipbench.datasets.convert` is; ASE is imported where it is used. Reference forces
are taken as the file holds them: no constraint is ever applied.
"""

from __future__ import annotations

import re
from collections import ChainMap
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.array_files import read_npy, read_npz
from mlipbench.datasets.lmdb_files import read_aselmdb, read_lmdb
from mlipbench.datasets.records import Frame, Reading, chunks
from mlipbench.datasets.sidecar import sidecar_of, with_sidecar
from mlipbench.datasets.textfiles import next_line, open_text
from mlipbench.datasets.vasp_files import read_vasprun
from mlipbench.elements import SYMBOLS
from mlipbench.errors import DatasetError, MlipbenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from mlipbench.datasets.records import Chunk
    from mlipbench.typing import AnyArray

_NUMBER_OF: Final = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}


class Format(StrEnum):
    """File formats, each by the ending of the name."""

    EXTXYZ = ".extxyz"
    XYZ = ".xyz"
    EXTXYZ_XZ = ".extxyz.xz"
    XYZ_XZ = ".xyz.xz"
    TRAJ = ".traj"
    DB = ".db"
    NPZ = ".npz"
    NPY = ".npy"
    XML = ".xml"
    LMDB = ".lmdb"
    ASELMDB = ".aselmdb"


def file_format(path: Path) -> Format:
    """Return the format of a file by its name.

    Raises:
        DatasetError: The ending is not known.
    """
    for known in Format:
        if path.name.endswith(known):
            return known
    endings = ", ".join(Format)
    raise DatasetError(f"unknown file type {path.suffix!r}", file=path, remedy=f"known endings: {endings}")


def read(path: Path, reading: Reading, label: str) -> Iterator[Chunk]:
    """Read a file, checked and converted, some structures at a time.

    Args:
        path: The file.
        reading: What to read.
        label: Name of the file for clusters and ids.

    Raises:
        DatasetError: The file is damaged or does not hold what `reading` declares.
        PrerequisiteError: A package the format needs is not installed.
    """
    yield from _guarded(path, lambda: chunks(_frames(path, reading), reading, label))


def _frames(path: Path, reading: Reading) -> Iterator[Frame]:
    beside = sidecar_of(path, reading.sidecar)
    frames = _READERS[file_format(path)](path, reading)
    return frames if beside is None else with_sidecar(frames, beside, reading)


def _guarded(path: Path, make: Callable[[], Iterator[Chunk]]) -> Iterator[Chunk]:
    """Turn whatever a foreign reader raises into one line; the only place of the package that catches everything."""
    n_read = 0
    try:
        for chunk in make():
            yield chunk
            n_read += chunk.structures.n_structures
    except MlipbenchError as error:
        error.file = error.file or path  # a problem may lie in the sidecar
        error.problem, error.remedy = _printable(error.problem), _printable(error.remedy or "")
        raise
    except (MemoryError, ModuleNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 (foreign readers raise anything)
        text = _printable(" ".join(str(error).split())[:200]) or "no message"
        problem = f"not a valid {file_format(path)} file ({type(error).__name__}: {text})"
        remedy = "get the file again or repair it"
        raise DatasetError(
            problem, file=path, where=f"after frame {n_read - 1}" if n_read else None, remedy=remedy
        ) from None


def _printable(text: str) -> str:
    """Replace control characters, which a file could send to the terminal through a message."""
    return "".join(character if character.isprintable() else "?" for character in text)


def read_extxyz(path: Path, reading: Reading) -> Iterator[Frame]:
    """Read extended XYZ, plain or compressed with xz; the comment line is parsed by ASE.

    Raises:
        DatasetError: A frame is cut short or malformed, or the file does not end with a newline (then its last number
            may be cut).
    """
    with open_text(path) as file:
        index = line_number = 0
        while True:
            where = f"frame {index}"
            head = next_line(file, where)
            if not head.strip():
                break
            if not head.strip().isdecimal() or not 0 < int(head) < 10**8:
                text = head.strip()[:30]
                raise DatasetError(f"line {line_number + 1} should hold the number of atoms, not {text!r}", where=where)
            n_atoms = int(head)
            comment = next_line(file, where)
            rows = [row for row in (next_line(file, where) for _ in range(n_atoms)) if row]
            if not comment or len(rows) < n_atoms or not rows[-1].endswith("\n"):
                raise DatasetError(
                    f"the file ends inside this frame ({len(rows)} of {n_atoms} atom lines, or no newline at the end)",
                    where=where,
                    remedy="get the file again; the frames before this one are complete",
                )
            yield _extxyz_frame(where, comment, rows, reading.keys)
            index += 1
            line_number += n_atoms + 2
        if head and any(line.strip() for line in iter(lambda: next_line(file, where), "")):
            raise DatasetError("an empty line is followed by more text", where=where)


def _extxyz_frame(where: str, comment: str, rows: list[str], keys: Mapping[str, Any]) -> Frame:
    from ase.io.extxyz import key_val_str_to_dict

    single = (keys.get(name) for name in ("energy", "reference_energy", "relaxed_energy", "stress"))
    for key in {str(key) for key in single if key}:
        if len(re.findall(rf"(?:^|\s){re.escape(key)}\s*=", comment)) > 1:
            raise DatasetError(f"{key!r} is given twice", where=where)
    # ASE insists on nine numbers for these two names; six are as good
    shielded = re.sub(r"(^|\s)(stress|virial)(\s*=)", r"\1_shielded_\2\3", comment)
    try:
        parsed = key_val_str_to_dict(shielded)
    except (ValueError, IndexError) as error:
        raise DatasetError(f"the comment line cannot be read ({error})", where=where) from None
    info = {key.removeprefix("_shielded_"): value for key, value in parsed.items()}
    lattice = info.pop("Lattice", None)
    if isinstance(lattice, np.ndarray) and lattice.dtype.kind in "if":
        lattice = lattice.T  # ASE returns lattice vectors as columns
    elif lattice is not None:
        raise DatasetError("Lattice does not hold nine numbers", where=where)
    arrays = _extxyz_columns(where, str(info.pop("Properties", "species:S:1:pos:R:3")), rows)
    pbc = np.asarray(info.pop("pbc", [lattice is not None] * 3))  # the convention of the format
    if pbc.shape != (3,) or pbc.dtype.kind not in "bi":
        raise DatasetError("pbc does not hold three logical values", where=where)
    mask = arrays.pop("move_mask", None)
    fixed = None if mask is None else np.logical_not(mask.reshape(len(mask), -1).any(axis=1))
    return Frame(
        where=where,
        numbers=_numbers(where, arrays),
        positions=arrays["pos"],
        cell=np.zeros((3, 3)) if lattice is None else lattice,
        pbc=pbc,
        values=ChainMap(arrays, info),
        tags=arrays.get("tags"),
        fixed=fixed,
    )


def _extxyz_columns(where: str, properties: str, rows: list[str]) -> dict[str, AnyArray]:
    fields = properties.split(":")
    layout = list(zip(fields[::3], fields[1::3], fields[2::3], strict=False))
    if len(fields) % 3 or not all(kind in "RISL" and width.isdecimal() and int(width) for _, kind, width in layout):
        raise DatasetError(f"Properties={properties[:60]!r} cannot be read", where=where)
    names = [name for name, _, _ in layout]
    if len(set(names)) < len(names) or "pos" not in names:
        raise DatasetError("Properties names a column twice, or no pos", where=where)
    width = sum(int(size) for _, _, size in layout)
    cells = [row.split() for row in rows]
    for number, row in enumerate(cells):
        if len(row) != width:
            raise DatasetError(f"atom {number} has {len(row)} columns instead of {width}", where=where)
    table = np.array(cells, dtype=object)
    arrays: dict[str, AnyArray] = {}
    start = 0
    for name, kind, size in layout:
        columns = table[:, start : start + int(size)]
        start += int(size)
        values = _typed(where, name, kind, columns)
        arrays[name] = values[:, 0] if int(size) == 1 else values
    return arrays


def _typed(where: str, name: str, kind: str, columns: Any) -> AnyArray:
    try:
        if kind == "L":
            logical = {"T": True, "F": False, "True": True, "False": False, "1": True, "0": False}
            return np.asarray([[logical[text] for text in row] for row in columns])
        if kind == "S":
            return np.asarray(columns.astype(str))
        return np.asarray(columns.astype(np.float64 if kind == "R" else np.int64))
    except (ValueError, KeyError, OverflowError) as error:
        raise DatasetError(f"a value of {name!r} cannot be read ({error})", where=where) from None


def _numbers(where: str, arrays: Mapping[str, AnyArray]) -> AnyArray:
    if "Z" in arrays:
        return arrays["Z"]
    if "species" not in arrays:
        raise DatasetError("Properties names neither species nor Z", where=where)
    try:
        return np.asarray([_NUMBER_OF[symbol] for symbol in arrays["species"].tolist()])
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{error} is not a chemical symbol", where=where) from None


def read_traj(path: Path, reading: Reading) -> Iterator[Frame]:
    """Read an ASE trajectory; labels come from the stored calculator results, never through constraints.

    Raises:
        DatasetError: A frame has no stored results.
    """
    from ase.io.trajectory import TrajectoryReader

    del reading
    with path.open("rb") as file:
        trajectory = TrajectoryReader(file)
        for index in range(len(trajectory)):
            atoms = trajectory[index]
            results = dict(getattr(atoms.calc, "results", {}))
            yield Frame(
                where=f"frame {index}",
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=atoms.cell.array,
                pbc=atoms.pbc,
                values=ChainMap(results, atoms.info, atoms.arrays),
                tags=atoms.arrays.get("tags"),
                fixed=_fixed(atoms.constraints, len(atoms)),
            )


def read_db(path: Path, reading: Reading) -> Iterator[Frame]:
    """Read an ASE database; a key is looked up in the results, then ``key_value_pairs``, then ``data``."""
    from ase.db import connect

    del reading
    with path.open("rb") as file:
        if not file.read(16).startswith(b"SQLite format 3"):
            raise DatasetError("not an SQLite database", remedy="get the file again")
    database = connect(path, type="db", create_indices=False, use_lock_file=False)
    for row in database.select(include_data=True):
        results = {key: row.get(key) for key in ("energy", "free_energy", "forces", "stress", "charge", "magmom")}
        stored = {key: value for key, value in results.items() if value is not None}
        yield Frame(
            where=f"row id {row.id}",
            numbers=row.numbers,
            positions=row.positions,
            cell=row.cell,
            pbc=row.pbc,
            values=ChainMap(stored, dict(row.key_value_pairs), dict(row.data), {"row_id": row.id}),
            tags=row.get("tags"),
            fixed=_fixed(row.constraints, len(row.numbers)),
        )


def _fixed(constraints: list[Any], n_atoms: int) -> AnyArray | None:
    from ase.constraints import FixAtoms, dict2constraint

    mask = None
    for constraint in constraints:
        made = dict2constraint(constraint) if isinstance(constraint, dict) else constraint
        if isinstance(made, FixAtoms):
            mask = np.zeros(n_atoms, dtype=np.bool_) if mask is None else mask
            mask[made.index] = True
    return mask


_READERS: Final[dict[Format, Callable[[Path, Reading], Iterator[Frame]]]] = {
    Format.EXTXYZ: read_extxyz,
    Format.XYZ: read_extxyz,
    Format.EXTXYZ_XZ: read_extxyz,
    Format.XYZ_XZ: read_extxyz,
    Format.TRAJ: read_traj,
    Format.DB: read_db,
    Format.NPZ: read_npz,
    Format.NPY: read_npy,
    Format.XML: read_vasprun,
    Format.LMDB: read_lmdb,
    Format.ASELMDB: read_aselmdb,
}
