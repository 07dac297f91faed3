"""Readers of arrays over frames: MD17-like ``.npz`` archives, and dictionaries in ``.npy`` files as MDSim has them."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.datasets.numpy_pickle import OBJECT_NAMES, PickledArray
from mlipbench.datasets.pickles import PickleError, run
from mlipbench.datasets.records import Frame
from mlipbench.errors import DatasetError
from mlipbench.structures.columnar import LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from mlipbench.datasets.records import Reading
    from mlipbench.typing import AnyArray

    ArrayOf = Callable[[str], AnyArray]


def read_npz(path: Path, reading: Reading) -> Iterator[Frame]:
    """Read an MD17-like archive: one set of atoms, arrays over frames. Nothing is ever unpickled.

    Raises:
        DatasetError: An array is missing, holds Python objects, or has the wrong shape.
    """
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DatasetError("not an .npz archive")
    with archive:
        arrays = _Arrays(lambda name: _npz_array(archive, name), reading.keys)
    yield from arrays.frames()


def read_npy(path: Path, reading: Reading) -> Iterator[Frame]:
    """Read a dictionary of such arrays that ``numpy.save`` pickled; no code in it runs.

    Raises:
        DatasetError: The file holds something else, an array is missing or has the wrong shape.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        fields = _pickled(content)
    yield from _Arrays(lambda name: _npy_array(fields, name), reading.keys).frames()


class _Arrays:
    """All arrays that are to be read, so that a file can be closed behind it."""

    def __init__(self, array_of: ArrayOf, keys: Mapping[str, Any]) -> None:
        names = [keys.get(name) for name in (*LABELS, "reference_energy", "charge", "spin", "cluster")]
        names += [keys["id"]] if isinstance(keys.get("id"), str) else list(keys.get("id") or ())
        self.values = {name: array_of(name) for name in names if name}
        self.numbers = array_of(_needed(keys, "numbers"))
        self.positions = array_of(_needed(keys, "positions"))
        self.cell = _cells(array_of, keys.get("cell"))
        self.pbc = array_of(keys["pbc"]) if keys.get("pbc") else np.zeros(3, dtype=np.bool_)
        n_atoms = self.numbers.shape[-1] if self.numbers.ndim else 0
        if self.positions.ndim != 3 or self.positions.shape[1:] != (n_atoms, 3):  # noqa: PLR2004
            raise DatasetError(f"shape {self.positions.shape} does not fit the atoms", where=keys["positions"])
        for name, array in self.values.items():
            if array.ndim == 0 or len(array) != len(self.positions):
                raise DatasetError(f"shape {array.shape} does not fit {len(self.positions)} frames", where=name)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in their order."""
        for index, positions in enumerate(self.positions):
            yield Frame(
                where=f"frame {index}",
                numbers=self.numbers if self.numbers.ndim == 1 else self.numbers[index],
                positions=positions,
                cell=self.cell if self.cell.ndim == 2 else self.cell[index],  # noqa: PLR2004
                pbc=self.pbc if self.pbc.ndim == 1 else self.pbc[index],
                values={name: array[index] for name, array in self.values.items()},
            )


def _needed(keys: Mapping[str, Any], name: str) -> str:
    if not keys.get(name):
        raise DatasetError(f"arrays are read with `keys.{name}`", remedy="declare it in the entry")
    return str(keys[name])


def _cells(array_of: ArrayOf, name: Any) -> AnyArray:
    """Return lattice vectors of shape (3, 3) or (n_frames, 3, 3)."""
    if name is None:
        return np.zeros((3, 3))
    if isinstance(name, str):
        return array_of(name)
    lengths, angles = (array_of(part) for part in name)
    for part, array in zip(name, (lengths, angles), strict=True):
        if array.ndim not in {1, 2} or array.shape[-1] != 3 or array.dtype.kind not in "iuf":  # noqa: PLR2004
            raise DatasetError(f"shape {array.shape} is not three numbers a frame", where=part)
    if lengths.ndim == angles.ndim == 2 and len(lengths) != len(angles):  # noqa: PLR2004
        raise DatasetError(f"{len(lengths)} frames, but {len(angles)} of the angles", where=name[0])
    rows = np.concatenate(np.broadcast_arrays(np.atleast_2d(lengths), np.atleast_2d(angles)), axis=1)
    cells = _vectors(rows, name[0])
    return cells[0] if lengths.ndim == angles.ndim == 1 else cells


def _vectors(rows: AnyArray, name: str) -> AnyArray:
    """Return the lattice vectors of three lengths and three angles in degrees, rows of shape (n_frames, 6)."""
    from ase.geometry import cellpar_to_cell

    different, places = np.unique(rows, axis=0, return_inverse=True)
    try:
        cells = np.array([cellpar_to_cell(row) for row in different]).reshape(-1, 3, 3)
    except AssertionError:
        cells = np.array([[[np.nan]]])
    if not np.isfinite(cells).all():
        raise DatasetError("lengths and angles of no cell", where=name, remedy="angles are in degrees")
    return cells[places.reshape(-1)]


def _npz_array(archive: Any, name: str) -> AnyArray:
    if name not in archive.files:
        raise _absent(name, archive.files)
    try:
        array: AnyArray = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DatasetError(
            "holds Python objects, which are not unpickled", where=name, remedy="save it as a plain numeric array"
        ) from None
    return _numeric(array, name)


def _npy_array(fields: Mapping[Any, Any], name: str) -> AnyArray:
    if name not in fields:
        raise _absent(name, [str(key) for key in fields])
    found = fields[name]
    if isinstance(found, PickledArray) and found.objects is None:
        found = found.array
    if not isinstance(found, np.ndarray):
        raise DatasetError("is no array of numbers", where=name, remedy="save it as a plain numeric array")
    return _numeric(found, name)


def _absent(name: str, present: list[str]) -> DatasetError:
    shown = ", ".join(present)[:200]
    return DatasetError(f"no array {name!r}", remedy=f"name the right key in the entry (present: {shown})")


def _numeric(array: AnyArray, name: str) -> AnyArray:
    if array.dtype.kind not in "biufSU":
        raise DatasetError(f"type {array.dtype} is not numeric", where=name)
    return array


def _pickled(content: Any) -> dict[Any, Any]:
    """Return the dictionary that a file of numpy's holds as its only object.

    Raises:
        DatasetError: It holds something else, or what is not decoded.
    """
    if np.lib.format.read_magic(content) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(content)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(content)
    if shape != () or not dtype.hasobject:
        raise DatasetError("holds one array, not a dictionary of arrays", remedy="an .npz file is read, too")
    try:
        found = run(content, OBJECT_NAMES)
    except PickleError as error:
        raise DatasetError(str(error), remedy="get the file again, or make an .npz file of it") from None
    held = found.objects if isinstance(found, PickledArray) else None
    if held is None or len(held) != 1 or type(held[0]) is not dict:
        raise DatasetError("holds no dictionary of arrays", remedy="make an .npz file of it")
    return held[0]
