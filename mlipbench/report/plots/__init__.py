"""The plots of the leaderboard, as Vega-Lite specifications made from metrics and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.report.plots.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.report.collect import RunRecord
    from mlipbench.report.table import Table

__all__ = ["Figure", "figures"]


def figures(records: Sequence[RunRecord], tables: Sequence[Table]) -> tuple[Figure, ...]:
    """Return the plots that some runs have data for, in the order of the page.

    Every kind of plot is a module here whose function of the same name takes the same and yields its figures.

    Args:
        records: What `collect` found.
        tables: What `build_tables` made of them.

    Raises:
        ResultsError: A file of scores is damaged.
    """
    from mlipbench.report.plots import gap, pareto, scaling

    kinds = (pareto.figures, gap.figures, scaling.figures)
    return tuple(figure for kind in kinds for figure in kind(records, tables))
