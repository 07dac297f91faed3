"""LMDB files put together by hand, and a process that may crash while it reads them."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import zlib
from typing import TYPE_CHECKING, Any

import lmdb
import numpy as np
from ase.constraints import FixAtoms
from ase.io.jsonio import encode
from pickle_helpers import data, done, whole

from mlipbench.datasets.readers import read
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ase import Atoms

    from mlipbench.datasets.records import Reading


def fields_of(atoms: Atoms, *, energy: str = "y", forces: str = "force", graph: bool = False) -> dict[str, Any]:
    """Return OC20's fields of a structure, in the types that its own files have."""
    fixed = np.zeros(len(atoms), dtype=np.float32)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = 1
    fields: dict[str, Any] = {
        "pos": atoms.positions.astype(np.float32),
        "cell": atoms.cell.array.astype(np.float32)[None],
        "atomic_numbers": atoms.numbers.astype(np.float32),
        "natoms": len(atoms),
        "tags": atoms.get_tags().astype(np.int64),
        "fixed": fixed,
        energy: float(atoms.calc.results["energy"]),
        forces: atoms.calc.results["forces"].astype(np.float32),
        "sid": str(atoms.info.get("sid", 0)),
        "fid": int(atoms.info.get("fid", 0)),
    }
    if graph:
        fields |= {"edge_index": np.zeros((2, 5), dtype=np.int64), "cell_offsets": np.zeros((5, 3), dtype=np.int64)}
    return fields


def write_lmdb(path: Path, items: Mapping[bytes | str, bytes]) -> Path:
    with (
        lmdb.open(str(path), map_size=1 << 26, subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, item in items.items():
            transaction.put(key if isinstance(key, bytes) else key.encode(), item)
    return path


def save_lmdb(path: Path, frames: list[Atoms], *, length: int | None = None, **how: Any) -> Path:
    """Write frames as pickled samples."""
    items = {str(number): done(data(fields_of(atoms, **how))) for number, atoms in enumerate(frames)}
    return write_lmdb(path, items | ({} if length is None else {"length": done(whole(length))}))


def packed(item: Any) -> bytes:
    return zlib.compress(encode(item).encode())


def row_of(atoms: Atoms) -> dict[str, Any]:
    """Return a structure as ASE's database in LMDB keeps it."""
    return {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "tags": atoms.get_tags(),
        "constraints": [constraint.todict() for constraint in atoms.constraints],
        "unique_id": "0" * 32,
        "ctime": 1.0,
        "mtime": 1.0,
        "user": None,
        "calculator": "unknown",
        **{key: item for key, item in atoms.calc.results.items() if item is not None},
        "key_value_pairs": {"sid": atoms.info.get("sid", "0")},
        "data": {"fid": atoms.info.get("fid", 0)},
    }


def save_aselmdb(path: Path, frames: list[Atoms], **changes: Any) -> Path:
    items = {str(number): packed(row_of(atoms)) for number, atoms in enumerate(frames, start=1)}
    items |= {"nextid": packed(len(frames) + 1), "metadata": packed({"format": 1})}
    return write_lmdb(path, items | {key: packed(item) for key, item in changes.items()})


def in_child(work: Callable[[], str]) -> str:
    """Do something in a process of its own, with limits; return its line, or the signal that ended the process.

    The limits stand for the converter's, which are too high for a test: 4 GiB of addresses, 5 s of processor time
    (SIGKILL) and, for whoever waits for ever, 60 s of wall time (SIGALRM).
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            faulthandler.disable()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)
            for limit, most in ((resource.RLIMIT_AS, 4 << 30), (resource.RLIMIT_CPU, 5), (resource.RLIMIT_CORE, 0)):
                resource.setrlimit(limit, (most, most))
            os.write(writer, _outcome(work).encode(errors="replace")[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read().decode()
    _, status = os.waitpid(child, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said


def outcome(path: Path, how: Reading) -> str:
    """Read a file `in_child`; return how many structures were accepted, or the line that says why not."""

    def convert() -> str:
        n_structures = 0
        for chunk in read(path, how, "a"):
            assert np.isfinite(chunk.labels.energy).all()
            assert chunk.labels.forces is None or np.isfinite(chunk.labels.forces).all()
            assert np.isfinite(chunk.structures.positions).all()
            assert np.isin(chunk.structures.numbers, np.arange(1, 119)).all()
            n_structures += len(chunk.structures)
        return f"accepted {n_structures}"

    line = in_child(convert)
    assert line.isprintable()
    assert len(line) < 1000
    return line


def _outcome(work: Callable[[], str]) -> str:
    try:
        return work()
    except DatasetError as error:
        return f"refused {error}"
    except MemoryError:
        return "memory"
    except BaseException as error:  # noqa: BLE001 (this is what must not happen)
        return f"raised {type(error).__name__}: {error}"
