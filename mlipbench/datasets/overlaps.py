"""How many structures of one split stand in another, remembered beside the first."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.structures.columnar import FORMAT
from mlipbench.structures.duplicates import found_in

if TYPE_CHECKING:
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import AnyArray, IntArray


def overlap(split: Split, places: IntArray | None, other: Split, among: IntArray | None = None) -> int:
    """Return how many structures of a split also stand in another one.

    Which do is kept in the folder of the split's columns and goes with these.

    Args:
        split: The split.
        places: Indices of its structures that count; None takes all.
        other: The other split.
        among: Indices of the structures of `other` that count; None takes all.
    """
    chosen = b"" if among is None else among.tobytes()
    parts = (str(FORMAT), split.content_hash, other.content_hash, hashlib.sha256(chosen).hexdigest())
    path = split.directory / f"found-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}.npy"
    bits = _remembered(path, len(split))
    if bits is None:
        bits = np.packbits(found_in(split, other, among))
        _remember(path, bits)
    found = np.unpackbits(bits, count=len(split))
    return int((found if places is None else found[places]).sum())


def _remembered(path: Path, n: int) -> AnyArray | None:
    try:
        bits: AnyArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return bits if bits.dtype == np.uint8 and bits.shape == (-(-n // 8),) else None


def _remember(path: Path, bits: AnyArray) -> None:
    with suppress(OSError):  # a cache that cannot be written costs time and nothing else
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}", delete=False) as file:
            np.save(file, bits, allow_pickle=False)
        Path(file.name).replace(path)
