"""Where on the page runs and their numbers stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.report.text import slug

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.store.records import MetricRecord


class Anchors:
    """Gives every part of the page a name of its own, made of ASCII letters, digits and hyphens.

    Args:
        records: The runs of the page.
    """

    def __init__(self, records: Sequence[RunRecord]) -> None:
        """Name the runs and their numbers."""
        self._taken: set[str] = set()
        self._runs: list[tuple[RunRecord, str]] = []
        self._numbers: dict[tuple[str, str, str, str, str], str] = {}
        for run in records:
            anchor = self.take("run", run.run_id or run.model)
            self._runs.append((run, anchor))
            for position, record in enumerate(run.metrics, start=1):
                self._numbers[(anchor, *_place(record))] = f"{anchor}-{position}"

    def take(self, kind: str, name: str) -> str:
        """Return a name that nothing has yet.

        Args:
            kind: What it is the name of.
            name: What it is called.
        """
        base = slug(kind, name)
        anchor, number = base, 1
        while anchor in self._taken:
            number += 1
            anchor = f"{base}-{number}"
        self._taken.add(anchor)
        return anchor

    def run(self, run: RunRecord) -> str:
        """Return the name of a run's section."""
        return next(anchor for own, anchor in self._runs if own is run)

    def number(self, run: RunRecord, record: MetricRecord) -> str:
        """Return the name of a number's row in the section of its run."""
        return self._numbers[(self.run(run), *_place(record))]


def _place(record: MetricRecord) -> tuple[str, str, str, str]:
    return record.task, record.dataset, record.split, record.metric
