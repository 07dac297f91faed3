"""A suite on the embedded datasets that stand in for those it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.datasets.entry import Root, load_entry
from mlipbench.errors import ConfigError
from mlipbench.plan.open import read_entry
from mlipbench.suite.schema import DatasetChoice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.suite.schema import Suite


def on_mini_data(suite: Suite) -> tuple[Suite, tuple[str, ...]]:
    """Return a suite whose datasets are replaced by their embedded counterparts, and what was left out.

    The suite gets a name of its own. Its recipes, which are made for the whole datasets, are not followed: a network
    runs with the checkpoint that its card has for the counterpart. Datasets and splits without one are left out; where
    several datasets have the same one, it stands there once, for the first.

    Args:
        suite: The suite.

    Returns:
        The suite, and one line for each dataset that was replaced or left out.

    Raises:
        ConfigError: No dataset has a counterpart.
    """
    datasets: dict[str, DatasetChoice] = {}
    lines = []
    for name, choice in suite.datasets.items():
        entry = read_entry(name, choice, suite.folder)
        if entry.root is Root.PACKAGE:
            datasets[name] = choice
            continue
        made = _counterpart(entry, choice)
        if made is None or entry.mini is None:
            lines.append(f"{name}: left out, because no embedded dataset stands in for it")
            continue
        if entry.mini.dataset in datasets:
            lines.append(f"{name}: left out, because {entry.mini.dataset} stands in for another dataset already")
            continue
        datasets[entry.mini.dataset] = made
        absent = [split for split in choice.splits if split not in entry.mini.splits]
        without = f", without {', '.join(absent)}" if absent else ""
        lines.append(f"{name}: {entry.mini.dataset} stands in for it{without}")
    if not datasets:
        raise ConfigError(
            "no embedded dataset stands in for one of its datasets", where=f"suite {suite.suite}",
            remedy="leave out --data mini",
        )  # fmt: skip
    if not lines:
        return suite, ()
    models = tuple(choice.model_copy(update={"recipe": None}) for choice in suite.models)
    changes = {"suite": f"{suite.suite}-mini", "datasets": datasets, "models": models}
    return suite.model_copy(update=changes).in_folder(suite.folder), tuple(lines)


def _counterpart(entry: DatasetEntry, choice: DatasetChoice) -> DatasetChoice | None:
    """Return the choice of the splits that stand in for those of a choice, None where none does."""
    if entry.mini is None:
        return None
    splits = entry.mini.splits
    chosen = tuple(splits[split] for split in choice.splits if split in splits)
    if not chosen:
        return None
    mini = load_entry(entry.mini.dataset)
    steps = tuple(step.model_copy(update={"fit": _renamed(splits, step.fit)}) for step in choice.energy)
    note = f"Embedded, in place of {entry.title} (--data mini): no number of this table is one of that dataset."
    overrides = {"membership": f"{note} {mini.membership}".strip()}
    return DatasetChoice(splits=chosen, overrides=overrides, fit=_renamed(splits, choice.fit), energy=steps)


def _renamed(splits: Mapping[str, str], name: str | None) -> str | None:
    """Return the counterpart of a split that is fitted on; None, the entry's own, where there is none."""
    return None if name is None else splits.get(name)
