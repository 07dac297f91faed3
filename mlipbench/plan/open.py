"""Opening the datasets of a suite."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlipbench.datasets.entry import DatasetEntry, load_entry
from mlipbench.datasets.factors import open_factors
from mlipbench.datasets.prepare import open_split, root_of
from mlipbench.errors import PrerequisiteError
from mlipbench.plan.dynamics import reference_split
from mlipbench.plan.plan import PlannedDataset
from mlipbench.yamlfile import merged, validate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.recipe import Recipe
    from mlipbench.structures.columnar import Split
    from mlipbench.suite.schema import DatasetChoice, Suite


def open_datasets(
    suite: Suite, location: DataLocation, *, fitted: bool, recipes: Sequence[Recipe] = ()
) -> tuple[dict[str, PlannedDataset], tuple[str, ...]]:
    """Open every split that a suite evaluates, fits or trains on, or refers to.

    Args:
        suite: The suite.
        location: Where data are.
        fitted: Whether any model is fitted to the data; if none is, no data are needed to fit one.
        recipes: The recipes that train networks.

    Returns:
        The datasets whose data are present, and one line for each that is missing.

    Raises:
        ConfigError: An entry or a name is invalid.
        DatasetError: A data file is invalid.
    """
    datasets: dict[str, PlannedDataset] = {}
    missing: list[str] = []
    for name, choice in suite.datasets.items():
        entry = read_entry(name, choice, suite.folder)
        try:
            needed = _needed(entry, choice, recipes, fitted=fitted)
            if suite.tasks.md is not None:
                needed.append(reference_split(suite.tasks.md, entry, name))
            opened = _open(entry, choice, location, missing, needed)
        except PrerequisiteError as error:
            missing.append(str(error))
            continue
        if opened.evaluated:
            datasets[name] = opened
    return datasets, tuple(missing)


def read_entry(name: str, choice: DatasetChoice, folder: Path) -> DatasetEntry:
    """Return the entry of one dataset of a suite, the suite's overrides applied.

    Args:
        name: Name of the dataset.
        choice: What the suite says of it.
        folder: The folder at which the path of an entry starts.

    Raises:
        ConfigError: The entry is unknown or invalid, or an override does not fit.
    """
    entry = load_entry(choice.entry or name, base=folder)
    if not choice.overrides:
        return entry
    content = merged(entry.model_dump(mode="json"), choice.overrides)
    return validate(DatasetEntry, content, f"datasets.{name}.overrides")


def _needed(entry: DatasetEntry, choice: DatasetChoice, recipes: Sequence[Recipe], *, fitted: bool) -> list[str]:
    """Return the splits that are needed beside those that are evaluated."""
    fit = choice.fit or entry.fit_split
    shifts = [step.fit or fit for step in choice.energy if step.shift is not None]
    references = [entry.references.split] if entry.references else []
    here = [recipe for recipe in recipes if recipe.dataset in {None, entry.name}]
    trained = [subset.split for recipe in here for subset in (recipe.train, recipe.validation)]
    return list(dict.fromkeys(filter(None, [fit if fitted else None, *shifts, *references, *trained])))


def _open(
    entry: DatasetEntry, choice: DatasetChoice, location: DataLocation, missing: list[str], needed: list[str]
) -> PlannedDataset:
    """Open one dataset; evaluated splits whose files are missing are left out and named in `missing`."""
    splits: dict[str, Split] = {}
    for name in choice.splits:
        try:
            splits[name] = open_split(entry, name, location)
        except PrerequisiteError as error:
            missing.append(str(error))
    evaluated = tuple(splits)
    fit = choice.fit or entry.fit_split
    if evaluated:
        for name in needed:
            splits.setdefault(name, open_split(entry, name, location))
    references, factors = references_sha256(entry, location), open_factors(entry, location)
    return PlannedDataset(
        entry, MappingProxyType(splits), evaluated, fit, references, factors.sha256 if factors else None
    )


def references_sha256(entry: DatasetEntry, location: DataLocation) -> str | None:
    """Return the checksum of the file that says which references each structure uses; None where there is none.

    Raises:
        PrerequisiteError: The file is missing.
    """
    if entry.references is None:
        return None
    path = root_of(entry, location) / entry.references.map
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        remedy = "the file belongs to the dataset"
        raise PrerequisiteError(f"cannot be read ({error.strerror})", file=path, remedy=remedy) from None
