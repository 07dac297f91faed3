"""Readers of LMDB files: pickled samples of OC20 and MDSim (``.lmdb``), and ASE's rows in LMDB (``.aselmdb``).

The reading maps the file into memory: a damaged file can end the process by a signal, so it happens in a child process.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import ChainMap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.pickles import PickleError
from mlipbench.datasets.records import Frame
from mlipbench.datasets.tensor_pickle import decode
from mlipbench.errors import DatasetError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from pathlib import Path

    from mlipbench.datasets.records import Reading
    from mlipbench.typing import AnyArray

_AGAIN: Final = "get the file again"
_LENGTH: Final = "length"
_LARGEST_ROW: Final = 1 << 28
_LARGEST_WHOLE: Final = 1 << 31
_RESULTS: Final = ("energy", "free_energy", "forces", "stress", "charge", "magmom")
_DTYPE: Final = re.compile(r"(float|u?int)(8|16|32|64)|bool")


def read_lmdb(path: Path, reading: Reading) -> Iterator[Frame]:
    """Read pickled samples in the order of their numbers; stored graphs are passed over.

    ``keys.positions``, ``numbers``, ``cell`` and ``pbc`` default to OC20's ``pos``, ``atomic_numbers``, ``cell`` and
    ``pbc``. The key ``length`` may give the number of samples or the last of their numbers, as MDSim writes it.

    Raises:
        DatasetError: The file is cut short, a sample is missing, or one is not decoded or not valid.
        PrerequisiteError: lmdb is not installed.
    """
    if not isinstance(reading.keys.get("cell"), str | None):
        raise DatasetError("`keys.cell` names two values", remedy="name the one of lattice vectors")
    with _opened(path) as transaction:
        numbers, others = _keys(transaction, {_LENGTH})
        for expected, number in enumerate(numbers):
            if number != expected:
                raise DatasetError(f"there is no sample {expected}, but {number}", remedy=_AGAIN)
        if _LENGTH in others:
            length = _decoded(transaction, _LENGTH)
            if _single(length) not in (len(numbers), len(numbers) - 1):
                problem = f"says {_single(length)}, but there are {len(numbers)} samples"
                raise DatasetError(problem, where="key length", remedy=_AGAIN)
        for number in numbers:
            fields = _decoded(transaction, str(number))
            if not isinstance(fields, dict):
                raise DatasetError("holds neither a Data nor a dictionary", where=f"key {number}")
            yield _sample(f"key {number}", fields, reading)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Return a transaction for reading; no lock file is made, nothing is written."""
    try:
        import lmdb
    except ModuleNotFoundError:
        remedy = "pip install 'mlipbench[readers]'"
        raise PrerequisiteError("the package lmdb, which reads this file, is not installed", remedy=remedy) from None
    size = path.stat().st_size
    # mapped at its own size: the converter's limit on address space counts just that on top
    environment = lmdb.open(str(path), map_size=size, subdir=False, readonly=True, create=False, lock=False)
    with environment:
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if needed > size:  # a page behind the end of the file would end the process
            raise DatasetError(f"the file is cut short ({size} of {needed} bytes)", remedy=_AGAIN)
        with environment.begin() as transaction:
            yield transaction


def _keys(transaction: Any, known: Container[str]) -> tuple[list[int], set[str]]:
    """Return the numbers among the keys in order, and the other ones; the file holds them in the order of their bytes.

    Raises:
        DatasetError: A key is not known, or the keys are out of order.
    """
    numbers: list[int] = []
    others: set[str] = set()
    last = None
    for key in transaction.cursor().iternext(keys=True, values=False):
        if last is not None and key <= last:  # pages that lead to each other would never end
            raise DatasetError("its keys are out of order", remedy=_AGAIN)
        last = key
        text = key.decode("ascii", "replace")
        if key.isdigit() and (len(text) == 1 or text[0] != "0"):
            numbers.append(int(text))
        elif text in known:
            others.add(text)
        else:
            raise DatasetError(f"the key {text[:40]!r} is neither a number nor known", remedy=_AGAIN)
    return sorted(numbers), others


def _stored(transaction: Any, key: str) -> bytes:
    value = transaction.get(key.encode("ascii"))
    if value is None:
        raise DatasetError("is listed, but cannot be found", where=f"key {key}", remedy=_AGAIN)
    return bytes(value)


def _decoded(transaction: Any, key: str) -> Any:
    try:
        return decode(_stored(transaction, key))
    except PickleError as error:
        raise DatasetError(str(error), where=f"key {key}", remedy=_AGAIN) from None


def _single(value: Any) -> int | None:
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.reshape(()).item()
    return value if type(value) is int else None


def _sample(where: str, fields: Mapping[str, Any], reading: Reading) -> Frame:
    keys = reading.keys
    numbers = _whole(where, fields, keys.get("numbers") or "atomic_numbers")
    if "natoms" in fields and _whole(where, fields, "natoms").tolist() not in ([len(numbers)], len(numbers)):
        raise DatasetError(f"natoms is not the number of atoms, {len(numbers)}", where=where)
    cell_key, pbc_key = keys.get("cell") or "cell", keys.get("pbc") or "pbc"
    cell = _array_of(where, fields, cell_key) if cell_key in fields else np.zeros((3, 3))
    pbc: AnyArray = np.zeros(3, dtype=np.bool_)
    if pbc_key in fields:
        pbc = _whole(where, fields, pbc_key)
    elif reading.pbc is None:
        remedy = "declare `pbc` in the entry"
        raise DatasetError(f"no {pbc_key!r}: the file does not say where it is periodic", where=where, remedy=remedy)
    fixed = _whole(where, fields, "fixed") if "fixed" in fields else None
    if fixed is not None and not np.isin(fixed, (0, 1)).all():
        raise DatasetError("fixed holds something other than 0 and 1", where=where)
    return Frame(
        where=where,
        numbers=numbers,
        positions=_array_of(where, fields, keys.get("positions") or "pos"),
        cell=cell.reshape(3, 3) if cell.shape == (1, 3, 3) else cell,
        pbc=pbc.reshape(3) if pbc.shape == (1, 3) else pbc,
        values=fields,
        tags=_whole(where, fields, "tags") if "tags" in fields else None,
        fixed=None if fixed is None else fixed.astype(np.bool_),
    )


def _array_of(where: str, fields: Mapping[str, Any], name: str) -> AnyArray:
    if name not in fields:
        present = ", ".join(sorted(fields))[:200] or "nothing"
        raise DatasetError(f"no {name!r}", where=where, remedy=f"name the right key in the entry (present: {present})")
    try:
        return np.asarray(fields[name])
    except ValueError:
        raise DatasetError(f"{name} is not an array of numbers", where=where) from None


def _whole(where: str, fields: Mapping[str, Any], name: str) -> AnyArray:
    """Return whole numbers, which some writers keep as floating-point ones."""
    array = np.atleast_1d(_array_of(where, fields, name))
    if array.dtype.kind == "f" and (array == np.rint(array)).all() and (np.abs(array) < _LARGEST_WHOLE).all():
        return array.astype(np.int64)
    if array.dtype.kind not in "biu":
        raise DatasetError(f"{name} does not hold whole numbers", where=where)
    return array


def read_aselmdb(path: Path, reading: Reading) -> Iterator[Frame]:
    """Read ASE's rows from LMDB; a key is looked up in the results, then ``key_value_pairs``, then ``data``.

    Raises:
        DatasetError: The file is cut short, a row is missing that was not deleted, or one is not valid.
        PrerequisiteError: lmdb is not installed.
    """
    del reading
    with _opened(path) as transaction:
        numbers, others = _keys(transaction, {"nextid", "deleted_ids", "metadata"})
        if "nextid" not in others:
            raise DatasetError("there is no key 'nextid': not an ASE database", remedy=_AGAIN)
        _check_ids(numbers, *(_json(transaction, key) if key in others else [] for key in ("nextid", "deleted_ids")))
        for number in numbers:
            yield _row(number, _json(transaction, str(number)))


def _check_ids(numbers: list[int], next_id: Any, deleted: Any) -> None:
    if type(next_id) is not int or not isinstance(deleted, list) or any(type(number) is not int for number in deleted):
        raise DatasetError("nextid and deleted_ids are not whole numbers", remedy=_AGAIN)
    known = sorted({*numbers, *deleted})
    for expected, number in enumerate(known, start=1):
        if number != expected:
            raise DatasetError(f"there is no row {expected}, and it was not deleted", remedy=_AGAIN)
    if len(known) != next_id - 1:
        raise DatasetError(f"the last row is {len(known)}, but the next one is to be {next_id}", remedy=_AGAIN)


def _json(transaction: Any, key: str) -> Any:
    """Return a row: JSON compressed by zlib, with arrays as ASE writes them."""
    stream = zlib.decompressobj()
    where = f"key {key}"
    try:
        text = stream.decompress(_stored(transaction, key), _LARGEST_ROW)
        if not stream.eof or stream.unused_data:
            raise DatasetError("is cut short, followed by more, or larger than 256 MiB", where=where, remedy=_AGAIN)
        return json.loads(text, object_hook=_array)
    except zlib.error:
        raise DatasetError("the compressed data are damaged", where=where, remedy=_AGAIN) from None
    except (ValueError, TypeError, RecursionError) as error:
        text_of = " ".join(str(error).split())[:80]
        raise DatasetError(f"not valid JSON ({text_of})", where=where, remedy=_AGAIN) from None


def _array(found: dict[str, Any]) -> Any:
    """Return the array that ``{"__ndarray__": [shape, type, flat values]}`` stands for, or another object as it is."""
    if set(found) != {"__ndarray__"}:
        return found
    shape, dtype, values = found["__ndarray__"]
    return np.asarray(values, dtype=dtype if _DTYPE.fullmatch(dtype) else None).reshape(shape)


def _row(number: int, row: Any) -> Frame:
    where = f"row id {number}"
    if not isinstance(row, dict):
        raise DatasetError("is no row of an ASE database", where=where)
    row = {"cell": np.zeros((3, 3)), "pbc": np.zeros(3, dtype=np.bool_)} | row
    numbers = _whole(where, row, "numbers")
    results = {name: row[name] for name in _RESULTS if row.get(name) is not None}
    more = [row.get(name) or {} for name in ("key_value_pairs", "data")]
    if not all(isinstance(part, dict) for part in more):
        raise DatasetError("key_value_pairs or data is no dictionary", where=where)
    return Frame(
        where=where,
        numbers=numbers,
        positions=_array_of(where, row, "positions"),
        cell=_array_of(where, row, "cell"),
        pbc=_array_of(where, row, "pbc"),
        values=ChainMap(results, *more, {"row_id": number}),
        tags=None if row.get("tags") is None else _whole(where, row, "tags"),
        fixed=_fixed(where, row.get("constraints"), len(numbers)),
    )


def _fixed(where: str, constraints: Any, n_atoms: int) -> AnyArray | None:
    mask = None
    if not isinstance(constraints, list | None):
        raise DatasetError("constraints cannot be read", where=where)
    for constraint in constraints or []:
        if not isinstance(constraint, dict) or not isinstance(constraint.get("kwargs", {}), dict):
            raise DatasetError("constraints cannot be read", where=where)
        if constraint.get("name") == "FixAtoms":
            indices = _whole(where, constraint.get("kwargs", {}), "indices")
            if indices.size and not 0 <= indices.min() <= indices.max() < n_atoms:
                raise DatasetError("FixAtoms names an atom that is not there", where=where)
            mask = np.zeros(n_atoms, dtype=np.bool_) if mask is None else mask
            mask[indices] = True
    return mask
