"""Reading a pickled mapping of systems, such as OC20's, in the child process that converts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.pickles import PickleError, run
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COLUMNS: Final = ("names", "first", "second")
_SHOWN: Final = 60


def write_factors(file: Path, output: Path, described: Mapping[str, Any]) -> None:
    """Write the name of every system, in rising order, and its levels of the two factors as numbers.

    Args:
        file: The pickle: a dictionary of dictionaries.
        output: Folder for the columns ``names``, ``first`` and ``second``, one ``.npy`` file each.
        described: `mlipbench.datasets.entry.Factors` as plain data.

    Raises:
        DatasetError: The pickle is damaged, holds anything but plain data, or a system lacks a field.
    """
    systems = _read(file)
    prefix, fields = described["prefix"], described["fields"]
    names: list[bytes] = []
    levels: list[list[str]] = [[], []]
    for key, facts in systems.items():
        shown = str(key)[:_SHOWN]
        if type(key) is not str or not key.startswith(prefix):
            raise DatasetError(f"a name does not begin with {prefix!r}", file=file, where=shown)
        names.append(key.removeprefix(prefix).encode("utf-8", "surrogatepass"))
        for field, column in zip(fields, levels, strict=True):
            value = facts.get(field) if type(facts) is dict else None
            if type(value) not in {str, int}:
                problem = "is missing, or neither text nor a whole number"
                raise DatasetError(problem, file=file, where=f"{shown}.{field}")
            column.append(str(value))
    order = np.argsort(np.asarray(names), kind="stable")
    codes = [np.unique(np.asarray(column), return_inverse=True)[1] for column in levels]
    for name, values in zip(COLUMNS, (np.asarray(names), *codes), strict=True):
        np.save(output / f"{name}.npy", values[order], allow_pickle=False)


def _read(file: Path) -> dict[Any, Any]:
    with file.open("rb") as stream:
        try:
            systems = run(stream, {})
        except PickleError as error:
            raise DatasetError(str(error), file=file, remedy="get the file again") from None
    if type(systems) is not dict or not systems:
        raise DatasetError("holds no dictionary of systems", file=file, remedy="get the file again")
    return systems
