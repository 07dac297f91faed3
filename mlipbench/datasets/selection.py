"""Which of the structures of some files make up a split."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.datasets.entry import SplitSpec
    from mlipbench.datasets.rules import LeignnMdSplit, LeignnSplit, MdsimSplit
    from mlipbench.typing import AnyArray, IntArray

_MOST_BYTES: Final = 1 << 30
_LONGEST: Final = 12  # digits
_SEED: Final = 123  # MDSim's and LEIGNN's
_LEIGNN_TRAIN: Final = 0.8
_LEIGNN_MD: Final = ((0.2, 0.8), (0.1, 0.9))  # test structures and others, then validation and training structures


def selection(n: int, spec: SplitSpec, index_file: Path | None, ids: AnyArray | None = None) -> IntArray:
    """Return the indices of a split's structures in rising order.

    Args:
        n: Number of structures in the files.
        spec: The split.
        index_file: File with the numbers that `SplitSpec.indices` declares.
        ids: Shape (n,), the name of each structure, where `SplitSpec.order` goes by it.

    Raises:
        DatasetError: That file holds something else than different numbers of structures, there are too few, or the
            names are no numbers.
    """
    if spec.mdsim is not None:
        return mdsim_part(n, spec.mdsim)
    if spec.leignn is not None:
        return leignn_part(n, spec.leignn)
    if spec.leignn_md is not None:
        return leignn_md_part(n, spec.leignn_md)
    order = np.arange(n) if ids is None else np.argsort(_numbers(ids), kind="stable")
    if spec.indices is not None and index_file is not None:
        order = read_indices(index_file, n, spec.indices.first)
    if spec.shuffle_seed is not None:
        # sorted raw output of the bit generator: unlike Generator.permutation it may not change between numpy versions
        order = order[np.argsort(np.random.PCG64(spec.shuffle_seed).random_raw(len(order)), kind="stable")]
    return np.sort(order[slice(*(spec.slice or (None, None, None)))])


def _numbers(ids: AnyArray) -> IntArray:
    for index, name in enumerate(ids.tolist()):
        if not (name.isascii() and name.isdigit() and len(name) <= _LONGEST):
            raise DatasetError(
                f"{name[:20]!r} says nothing about the order of structures", where=f"structure {index}",
                remedy="name a key of whole numbers in `keys.id`, or leave out `order: id`",
            )  # fmt: skip
    return ids.astype(np.int64)


def mdsim_part(n: int, rule: MdsimSplit) -> IntArray:
    """Return the indices of a part as MDSim draws it, in rising order.

    scikit-learn's ``train_test_split`` takes the test structures from the beginning of a permutation by numpy's legacy
    generator, which never changes, and the others from behind them.

    Args:
        n: Number of structures.
        rule: The part, and the sizes.

    Raises:
        DatasetError: There are too few structures.
    """
    n_test = n - rule.pool if rule.pool is not None else rule.test or 0
    if n_test <= 0 or n - n_test < rule.size:
        raise DatasetError(
            f"{n} structures are too few for this split", remedy="the file does not hold the whole published dataset"
        )
    order = np.random.RandomState(_SEED).permutation(n)
    if rule.part == "test":
        return np.sort(order[:n_test])
    chosen = order[n_test : n_test + rule.size]
    again = np.random.RandomState(_SEED).permutation(rule.size)
    return np.sort(chosen[again[: rule.val] if rule.part == "val" else again[rule.val :]])


def leignn_part(n: int, rule: LeignnSplit) -> IntArray:
    """Return the indices of a part as LEIGNN's code draws it, in rising order.

    Args:
        n: Number of structures.
        rule: The part, the seed and the share.
    """
    order = list(range(n))
    random.Random(rule.seed).shuffle(order)  # noqa: S311 - theirs
    taken = np.array(order[: int(n * rule.share)], dtype=np.int64)
    border = int(_LEIGNN_TRAIN * len(taken))
    return np.sort(taken[:border] if rule.part == "train" else taken[border:])


def leignn_md_part(n: int, rule: LeignnMdSplit) -> IntArray:
    """Return the indices of a part as LEIGNN's code draws it from molecular dynamics, in rising order.

    scikit-learn's ``train_test_split`` is called twice, as by MDSim, with shares in place of numbers: those of the test
    structures are rounded up and those of the others down.

    Args:
        n: Number of structures.
        rule: The part.
    """
    (test, others), (val, train) = _LEIGNN_MD
    n_test, n_others = math.ceil(test * n), math.floor(others * n)
    order = np.random.RandomState(_SEED).permutation(n)
    if rule.part == "test":
        return np.sort(order[:n_test])
    chosen = order[n_test : n_test + n_others]
    again = np.random.RandomState(_SEED).permutation(n_others)
    n_val, n_train = math.ceil(val * n_others), math.floor(train * n_others)
    return np.sort(chosen[again[:n_val] if rule.part == "val" else again[n_val : n_val + n_train]])


def read_indices(path: Path, n: int, first: int) -> IntArray:
    """Return the indices, counted from 0, that a file holds one a line.

    Args:
        path: The file.
        n: Number of structures there are.
        first: The number of the first of them.

    Raises:
        DatasetError: A line is no number of a structure, or a number stands there twice.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise DatasetError("is larger than a list of structures can be", file=path)
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        text = line.strip()
        if not text:
            continue
        if not text.isdigit() or len(text) > _LONGEST or not first <= int(text) < first + n:
            shown = text[:20].decode("ascii", "replace")
            raise DatasetError(
                f"{shown!r} is no number of a structure; there are {first} to {first + n - 1}", file=path,
                where=f"line {number}", remedy="get the file again, and the data that belong to it",
            )  # fmt: skip
        found.append(int(text) - first)
    indices = np.array(found, dtype=np.int64)
    values, counts = np.unique(indices, return_counts=True)
    if len(values) < len(indices):
        twice = int(values[np.argmax(counts)]) + first
        raise DatasetError(f"the number {twice} stands there twice", file=path, remedy="get the file again")
    return indices
