"""From what a file says of one structure to checked columns in eV and Å."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.datasets.connectivity import molecule_names
from mlipbench.elements import format_formula, parse_formula
from mlipbench.errors import DatasetError
from mlipbench.structures import StructureBatch
from mlipbench.structures.columnar import ATOM_LABELS, Labels
from mlipbench.units import energy_factor, forces_factor, length_factor, stress_factor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlipbench.typing import AnyArray, BoolArray, FloatArray, IntArray

MAX_NAME_BYTES: Final = 256
_CHUNK_ATOMS: Final = 20_000
_SMALLEST_VOLUME: Final = 1e-3  # Å³
_SYMMETRIC: Final = 1e-4  # relative to the largest component


@dataclass(frozen=True, slots=True)
class Reading:
    """The part of a dataset entry that decides what is read from a file.

    Attributes:
        units: ``energy``, ``forces``, ``length`` and perhaps ``stress``, see `mlipbench.units`.
        keys: Name in the file of each quantity, None where it is not to be read.
        pbc: The truth about periodicity, None to believe the file.
        cluster: ``key``, ``file``, ``molecule`` or ``structure``.
        sidecar: `mlipbench.datasets.entry.Sidecar` as plain data, None where there is none.
        formula: What every structure must hold, None where that is not declared.
    """

    units: Mapping[str, str | None]
    keys: Mapping[str, Any]
    pbc: tuple[bool, bool, bool] | None
    cluster: str
    sidecar: Mapping[str, Any] | None = None
    formula: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` takes; what is only checked is left out where it is not declared."""
        return {name: value for name, value in asdict(self).items() if name != "formula" or value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build from what `to_json` returned."""
        pbc = None if data["pbc"] is None else (data["pbc"][0], data["pbc"][1], data["pbc"][2])
        return cls(data["units"], data["keys"], pbc, data["cluster"], data.get("sidecar"), data.get("formula"))


@dataclass(frozen=True, slots=True)
class Frame:
    """One structure as a reader found it, in the units of the file.

    Attributes:
        where: What names it in messages, such as ``frame 17`` (counted from 0).
        numbers: Shape (n_atoms,), atomic numbers.
        positions: Shape (n_atoms, 3).
        cell: Shape (3, 3), rows are lattice vectors.
        pbc: Shape (3,).
        values: Everything else the file says of the structure, by key.
        tags: Shape (n_atoms,) or None.
        fixed: Shape (n_atoms,) or None, True for atoms held by ``FixAtoms``.
    """

    where: str
    numbers: AnyArray
    positions: AnyArray
    cell: AnyArray
    pbc: AnyArray
    values: Mapping[str, Any]
    tags: AnyArray | None = None
    fixed: AnyArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some structures of a file, checked and converted.

    Attributes:
        structures: The structures, with ids.
        labels: Their labels.
        clusters: The name of the cluster of each, None where each is its own.
    """

    structures: StructureBatch
    labels: Labels
    clusters: list[str] | None


def chunks(frames: Iterable[Frame], reading: Reading, label: str) -> Iterator[Chunk]:
    """Check and convert frames, some at a time.

    Args:
        frames: What a reader found.
        reading: What to read.
        label: Name of the file below the data root without its suffix; names clusters and structures.

    Raises:
        DatasetError: A frame lacks a value or holds an invalid one.
    """
    pending: list[Frame] = []
    atoms = n_frames = 0
    for frame in frames:
        pending.append(frame)
        atoms += len(frame.numbers)
        n_frames += 1
        if atoms >= _CHUNK_ATOMS:
            yield _chunk(pending, reading, label, n_frames - len(pending))
            pending, atoms = [], 0
    if pending:
        yield _chunk(pending, reading, label, n_frames - len(pending))
    if not n_frames:
        raise DatasetError("holds no structure", remedy="remove the file from the dataset's folder")


def _chunk(frames: list[Frame], reading: Reading, label: str, first: int) -> Chunk:
    keys = reading.keys
    structures = _structures(frames, reading, [f"{label}:{first + i}" for i in range(len(frames))])
    clusters = None
    if reading.cluster == "file":
        clusters = [_short(label, frames[0])] * len(frames)
    elif reading.cluster == "key":
        clusters = [_text(frame, keys["cluster"]) for frame in frames]
    elif reading.cluster == "molecule":
        clusters = molecule_names(structures).tolist()
    return Chunk(structures, _labels(frames, reading, structures.structure_index), clusters)


def _labels(frames: list[Frame], reading: Reading, owner: IntArray) -> Labels:
    """Return what the files hold of the labels that `reading` names, in eV and Å."""
    keys, units = reading.keys, reading.units
    found: dict[str, FloatArray] = {}
    for name in ("energy", "relaxed_energy"):
        if keys.get(name):
            energies = [_scalar(frame, keys[name]) - _reference(frame, keys) for frame in frames]
            found[name] = np.asarray(energies) * energy_factor(str(units["energy"]))
    if keys.get("stress"):
        stresses = [_stress(frame, keys["stress"]) for frame in frames]
        found["stress"] = np.asarray(stresses) * stress_factor(str(units["stress"]))
    factors = {"forces": (forces_factor, "forces"), "relaxed_positions": (length_factor, "length")}
    for name, (factor, unit) in factors.items():
        if keys.get(name):
            rows = np.concatenate([_per_atom(frame, keys[name]) for frame in frames])
            found[name] = rows * factor(str(units[unit]))
    for name, values in found.items():
        _check_finite(frames, owner if name in ATOM_LABELS else None, values, keys[name])
    return Labels(**{name: values + 0.0 for name, values in found.items()})  # + 0.0 turns -0.0 into 0.0


def _structures(frames: list[Frame], reading: Reading, names: list[str]) -> StructureBatch:
    keys = reading.keys
    scale = length_factor(str(reading.units["length"]))
    for frame in frames:
        _check_atoms(frame)
    if reading.formula is not None:
        _check_formula(frames, reading.formula)
    pbc = np.asarray([frame.pbc if reading.pbc is None else reading.pbc for frame in frames], dtype=np.bool_)
    cell = np.asarray([frame.cell for frame in frames], dtype=np.float64) * scale + 0.0
    _check_finite(frames, None, cell, "the cell")
    cell[~pbc.any(axis=1)] = 0.0  # without periodicity a cell means nothing, and containers disagree about it
    _check_cells(frames, cell, pbc)
    positions = np.concatenate([np.asarray(frame.positions, dtype=np.float64) for frame in frames]) * scale + 0.0
    counts = [len(frame.numbers) for frame in frames]
    _check_finite(frames, np.repeat(np.arange(len(frames)), counts), positions, "positions")
    if keys.get("id"):
        key_names = [keys["id"]] if isinstance(keys["id"], str) else keys["id"]
        names = ["_".join(_text(frame, key) for key in key_names) for frame in frames]
    ids = [_short(name, frame) for name, frame in zip(names, frames, strict=True)]
    scalars = {
        name: np.asarray([_scalar(frame, keys[name]) for frame in frames])
        for name in ("charge", "spin")
        if keys.get(name)
    }
    for name, column in scalars.items():
        _check_finite(frames, None, column, keys[name])
    fixed = _optional(frames, "fixed")
    return StructureBatch(
        numbers=np.concatenate([frame.numbers for frame in frames]),
        positions=positions,
        cell=cell,
        pbc=pbc,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        tags=_optional(frames, "tags"),
        fixed=None if fixed is None else fixed.astype(np.bool_),
        id=np.asarray(ids),
        **scalars,
    )


def _optional(frames: list[Frame], name: str) -> IntArray | None:
    columns = [getattr(frame, name) for frame in frames]
    if all(column is None for column in columns):
        return None
    filled = [
        np.zeros(len(frame.numbers)) if column is None else column
        for frame, column in zip(frames, columns, strict=True)
    ]
    for frame, column in zip(frames, filled, strict=True):
        if np.shape(column) != np.shape(frame.numbers) or np.any(np.abs(column) > 127):  # noqa: PLR2004 (one byte)
            raise DatasetError(f"{name} must hold one small integer an atom", where=frame.where)
    return np.concatenate(filled).astype(np.int64)


def _check_atoms(frame: Frame) -> None:
    numbers = np.asarray(frame.numbers)
    if numbers.ndim != 1 or not numbers.size:
        raise DatasetError("holds no atoms", where=frame.where)
    if numbers.dtype.kind not in "iu" or numbers.min() < 1 or numbers.max() > 118:  # noqa: PLR2004
        raise DatasetError("an atomic number is not one of 1 to 118", where=frame.where)
    shapes = {"positions": (len(numbers), 3), "cell": (3, 3), "pbc": (3,)}
    for name, shape in shapes.items():
        value = np.asarray(getattr(frame, name))
        if value.shape != shape or value.dtype.kind not in "biuf":
            raise DatasetError(f"{name} is not a numeric array of shape {shape}", where=frame.where)


def _check_formula(frames: list[Frame], formula: str) -> None:
    wanted = parse_formula(formula)
    expected = np.repeat(sorted(wanted), [wanted[number] for number in sorted(wanted)])
    for frame in frames:
        if not np.array_equal(np.sort(frame.numbers), expected):
            found = format_formula(Counter(np.asarray(frame.numbers).tolist()))
            raise DatasetError(
                f"holds {found}, but the entry says `formula: {formula}`",
                where=frame.where,
                remedy="put the file that the entry describes in its place, or correct the entry",
            )


def _check_cells(frames: list[Frame], cell: FloatArray, pbc: BoolArray) -> None:
    zero = (pbc & (np.abs(cell).sum(axis=2) == 0)).any(axis=1)
    flat = zero | (pbc.all(axis=1) & (np.abs(np.linalg.det(cell)) < _SMALLEST_VOLUME))
    if flat.any():
        frame = frames[int(np.flatnonzero(flat)[0])]
        raise DatasetError(
            "periodic, but the cell has no volume", where=frame.where, remedy="override `pbc` in the entry"
        )


def _check_finite(frames: list[Frame], owner: IntArray | None, values: FloatArray, name: str) -> None:
    if np.isfinite(values).all():
        return
    bad = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
    frame = frames[bad if owner is None else int(owner[bad])]
    raise DatasetError(f"{name} is not finite", where=frame.where, remedy="remove or repair this structure")


def _value(frame: Frame, key: str) -> Any:
    if key not in frame.values:
        present = sorted(str(name) for name in frame.values)
        close = difflib.get_close_matches(key.lower(), [name.lower() for name in present], n=1)
        meant = [name for name in present if close and name.lower() == close[0]]
        hint = f"did the file mean {meant[0]!r}?" if meant else f"present: {', '.join(present)[:200] or 'nothing'}"
        raise DatasetError(f"no {key!r}", where=frame.where, remedy=f"name the right key in the entry ({hint})")
    return frame.values[key]


def _numeric(frame: Frame, key: str) -> FloatArray:
    value = _value(frame, key)
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise DatasetError(f"{key} is not numeric", where=frame.where)
    return array.astype(np.float64)


def _scalar(frame: Frame, key: str) -> float:
    array = _numeric(frame, key)
    if array.size != 1:
        raise DatasetError(f"{key} holds {array.size} numbers instead of one", where=frame.where)
    return float(array.reshape(()))


def _reference(frame: Frame, keys: Mapping[str, Any]) -> float:
    return _scalar(frame, keys["reference_energy"]) if keys.get("reference_energy") else 0.0


def _per_atom(frame: Frame, key: str) -> FloatArray:
    array = _numeric(frame, key)
    if array.shape != (len(frame.numbers), 3):
        raise DatasetError(f"{key} has shape {array.shape} for {len(frame.numbers)} atoms", where=frame.where)
    return array


def _stress(frame: Frame, key: str) -> FloatArray:
    array = _numeric(frame, key)
    if array.size == 6:  # noqa: PLR2004
        return array.reshape(6)
    if array.size != 9:  # noqa: PLR2004
        raise DatasetError(f"{key} holds {array.size} numbers instead of 6 or 9", where=frame.where)
    full = array.reshape(3, 3)
    tolerance = _SYMMETRIC * max(float(np.abs(full).max()), 1e-6)
    if np.isfinite(full).all() and np.abs(full - full.T).max() > tolerance:
        raise DatasetError(f"{key} is not symmetric", where=frame.where)
    half = (full + full.T) / 2
    return half[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def _text(frame: Frame, key: str) -> str:
    value = _value(frame, key)
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(()).item()
    if not isinstance(value, str | int | float | bool | np.generic):
        raise DatasetError(f"{key} is not a single name or number", where=frame.where)
    return _short(str(value), frame)


def _short(name: str, frame: Frame) -> str:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_NAME_BYTES or "\0" in name or not name.isprintable():
        raise DatasetError(f"the name {name[:40]!r} is not 1 to {MAX_NAME_BYTES} printable bytes", where=frame.where)
    return name
