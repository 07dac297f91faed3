"""Names for the completion of the shell, from file names only."""

from __future__ import annotations

from mlipbench.errors import MlipbenchError


def suites(incomplete: str) -> list[str]:
    """Return the shipped suites that begin so."""
    from mlipbench.suite import suite_names

    return [name for name in suite_names() if name.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    """Return lists of models, separated by commas, whose last one begins so."""
    from mlipbench.models.registry import card_names

    head, comma, last = incomplete.rpartition(",")
    try:
        return [f"{head}{comma}{name}" for name in card_names() if name.startswith(last)]
    except MlipbenchError:  # a broken plugin must not write into the user's command line
        return []


def datasets(incomplete: str) -> list[str]:
    """Return the shipped datasets that begin so."""
    from mlipbench.datasets.names import entry_names

    return [name for name in entry_names() if name.startswith(incomplete)]


def environments(incomplete: str) -> list[str]:
    """Return the environments that begin so."""
    from mlipbench.environments.families import environment_names

    return [name for name in environment_names() if name.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """Return the shipped recipes that begin so."""
    from mlipbench.recipes import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]
