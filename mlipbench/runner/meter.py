"""How many structures of a plan were done since somebody last looked, by whomever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.store.records import ShardRecord, read_record
from mlipbench.store.rundir import find_run
from mlipbench.version import code_version

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.plan import Plan


class Meter:
    """Follows the records of shards, each of which is read once.

    Attributes:
        total: Structures that are not done yet.

    Args:
        plan: The plan, whose runs have begun.
        results: Folder of the results.
    """

    def __init__(self, plan: Plan, results: Path) -> None:
        """Look at what is there.

        Raises:
            ResultsError: A record is damaged.
        """
        self._folders: list[Path] = []
        self._seen: set[Path] = set()
        self.total = 0
        for run in plan.runs:
            known = find_run(results / "runs" / plan.suite.suite / run.model, run.sha256, code_version())
            if known is not None and known.unfinished:
                self._folders += [known.shards(*split.key) for split in run.sharded]
                self.total += sum(split.n_structures for split in run.sharded)
        self.total -= self.news()[0]

    def news(self) -> tuple[int, int]:
        """Return how many structures were done since the last call, and how many of them failed.

        Raises:
            ResultsError: A record is damaged.
        """
        fresh = [path for folder in self._folders for path in folder.glob("*.json") if path not in self._seen]
        self._seen.update(fresh)
        records = [read_record(path, ShardRecord) for path in fresh]
        return sum(one.stop - one.start for one in records), sum(one.n_failed for one in records)
