"""Placeholder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.report.collect import RunRecord
    from mlipbench.report.plots.figure import Figure
    from mlipbench.report.table import Table


def figures(records: Sequence[RunRecord], tables: Sequence[Table]) -> Iterator[Figure]:  # noqa: ARG001
    """Yield nothing."""
    yield from ()
