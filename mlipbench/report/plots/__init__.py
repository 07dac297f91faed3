"""The plots of the leaderboard, as Vega-Lite specifications made from metrics and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mlipbench.errors import ResultsError
from mlipbench.report.plots.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlipbench.errors import MlipbenchError
    from mlipbench.report.table import Table

__all__ = ["Figure", "figures", "notes"]

_Made = TypeVar("_Made")


def figures(tables: Sequence[Table], problems: list[MlipbenchError] | None = None) -> tuple[Figure, ...]:
    """Return the plots that some runs have data for, in the order of the page.

    Every kind of plot is a module here whose function of the same name takes tables and yields its figures.

    Args:
        tables: What `build_tables` made of them.
        problems: Takes what is wrong with files, after which a kind of plot goes no further; without it damaged ones
            are raised.

    Raises:
        ResultsError: A file of scores or distributions is damaged.
    """
    from mlipbench.report.plots import density, errors, gap, pareto, rdf, scaling, survival

    kinds = (pareto, errors, density, gap, survival, rdf, scaling)
    return _readable((kind.figures(tables) for kind in kinds), problems)


def notes(tables: Sequence[Table], problems: list[MlipbenchError] | None = None) -> tuple[str, ...]:
    """Say which plots are left out because runs keep nothing for them, a sentence each.

    Args:
        tables: What `build_tables` made of the runs.
        problems: Takes what is wrong with files; without it damaged ones are raised.

    Raises:
        ResultsError: A file of distributions is damaged.
    """
    from mlipbench.report.plots import density, rdf

    return _readable((kind.notes(tables) for kind in (density, rdf)), problems)


def _readable(kinds: Iterable[Iterable[_Made]], problems: list[MlipbenchError] | None) -> tuple[_Made, ...]:
    """Return what is made of each kind until a damaged file ends it."""
    made: list[_Made] = []
    for kind in kinds:
        try:
            made.extend(kind)
        except ResultsError as error:
            if problems is None:
                raise
            problems.append(error)
    return tuple(made)
