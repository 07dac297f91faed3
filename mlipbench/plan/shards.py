"""Cutting the splits of a run into shards, each of which can be computed by itself, on whatever machine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlipbench.errors import ConfigError
from mlipbench.status import Task

if TYPE_CHECKING:
    from mlipbench.plan.plan import PlannedSplit, RunPlan


@dataclass(frozen=True, slots=True)
class ShardChoice:
    """Which part of a suite one process computes: of every split its `number`-th of `count` shards.

    Attributes:
        number: From 1 to `count`.
        count: Into how many shards splits are cut, as far as they have batches.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> ShardChoice:
        """Read ``I/N``.

        Raises:
            ConfigError: It is none.
        """
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise ConfigError(f"{text!r} is no shard", where="--shard", remedy="write I/N with I from 1 to N, such as 3/8")


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive batches of one split, computed and stored as one unit.

    Attributes:
        number: From 1 to `count`.
        count: Shards of the split.
        batches: The batches.
        start: Place of the first structure.
        stop: Place behind the last one.
        name: Place of the first structure, so that names sort, and the hash of all that decides the content.
    """

    number: int
    count: int
    batches: range
    start: int
    stop: int
    name: str

    @property
    def alone(self) -> bool:
        """Whether it is the whole split."""
        return self.count == 1


def n_shards(split: PlannedSplit, wanted: int) -> int:
    """Return into how many shards a split is cut where so many are wanted: one at least, no more than batches."""
    return 1 if split.task is Task.EFFICIENCY else max(1, min(wanted, split.n_batches))


def shard_at(run: RunPlan, split: PlannedSplit, choice: ShardChoice) -> Shard | None:
    """Return one shard of a split; None where the split has fewer.

    Shards end on the borders of batches, which cost about the same each.

    Args:
        run: The run.
        split: The split.
        choice: Which, and how many there are to be, where there are as many batches.
    """
    count = n_shards(split, choice.count)
    if choice.number > count:
        return None
    first, last = ((choice.number - part) * split.n_batches // count for part in (1, 0))
    start, stop = int(split.bounds[first]), int(split.bounds[last])
    identity = json.dumps([run.sha256, *split.key, start, stop])
    name = f"{start:09d}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    return Shard(choice.number, count, range(first, last), start, stop, name)


def cut_shards(run: RunPlan, split: PlannedSplit, wanted: int) -> list[Shard]:
    """Return all shards of a split, in order.

    Args:
        run: The run.
        split: The split.
        wanted: How many shards there are to be, where there are as many batches.
    """
    choices = (ShardChoice(number, wanted) for number in range(1, wanted + 1))
    return [shard for shard in (shard_at(run, split, choice) for choice in choices) if shard is not None]
