"""Shards handed to an engine that fails as it is told to."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

import pytest

from mlipbench.execution.engines import CommandEnd, EngineCommand
from mlipbench.plan.shards import ShardChoice
from mlipbench.progress import SilentDisplay
from mlipbench.runner.campaign import LOSSES, NOT_SHARED, PAUSE, Campaign, ShardTask


@dataclass
class FakeEngine:
    """Ends one command at a time, the oldest first, with what stands in a list for its title."""

    ends: dict[str, list[int | None]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    submitted: deque[EngineCommand] = field(default_factory=deque)
    lost: dict[str, int] = field(default_factory=dict)
    done: int = 0

    def submit(self, command: EngineCommand) -> None:
        self.submitted.append(command)

    def wait(self) -> list[CommandEnd]:
        if not self.submitted:
            return []
        command = self.submitted.popleft()
        self.order.append(command.title)
        status = self.ends[command.title].pop(0) if self.ends.get(command.title) else 0
        self.done += status in {0, 3}
        return [CommandEnd(command, status, f"said by {command.title}")]

    def close(self) -> None:
        self.submitted.clear()


@dataclass
class FakeWork:
    """Shards whose results cannot be found as often as stands in a dictionary."""

    lost: dict[str, int]

    def command(self, task: ShardTask) -> EngineCommand:
        return EngineCommand(task.title, (), {})

    def is_there(self, task: ShardTask) -> bool:
        left = self.lost.get(task.title, 0)
        self.lost[task.title] = left - 1
        return left <= 0


def tasks(model: str, count: int, *, trains: bool = False) -> dict[str, list[ShardTask]]:
    return {model: [ShardTask(model, ShardChoice(n, count), trains and n > 1) for n in range(1, count + 1)]}


def run(engine: FakeEngine, found: dict[str, list[ShardTask]]):
    return Campaign(found, FakeWork(engine.lost), engine, SilentDisplay()).run()


def test_all_shards_are_done_once() -> None:
    engine = FakeEngine()
    outcome = run(engine, tasks("a", 3) | tasks("b", 2))
    assert engine.order == [
        "a, shard 1 of 3",
        "a, shard 2 of 3",
        "a, shard 3 of 3",
        "b, shard 1 of 2",
        "b, shard 2 of 2",
    ]
    assert (engine.done, outcome.aside, outcome.models) == (5, {}, set())


def test_what_ended_well_and_is_not_there_is_a_failure() -> None:
    engine = FakeEngine(lost={"a, shard 1 of 1": 2})
    assert run(engine, tasks("a", 1)).aside == {}
    assert len(engine.order) == 3
    outcome = run(FakeEngine(lost={"a, shard 1 of 1": 9}), tasks("a", 1))
    assert outcome.aside == {"a, shard 1 of 1": NOT_SHARED}


def test_a_shard_may_be_lost_with_its_job_more_often_than_it_may_fail() -> None:
    lost: list[int | None] = [None, *[130] * (LOSSES - 2)]
    engine = FakeEngine({"a, shard 1 of 1": [*lost, 1, 1]})
    assert (run(engine, tasks("a", 1)).aside, engine.done) == ({}, 1)
    outcome = run(FakeEngine({"a, shard 1 of 1": [*lost, None]}), tasks("a", 1))
    assert list(outcome.aside) == ["a, shard 1 of 1"]


@pytest.mark.parametrize("status", [1, 2, 4, -9, None])
def test_a_shard_that_fails_is_tried_again_behind_the_others(status: int | None) -> None:
    engine = FakeEngine({"a, shard 1 of 2": [status, status]})
    outcome = run(engine, tasks("a", 2))
    first, second = "a, shard 1 of 2", "a, shard 2 of 2"
    assert engine.order == [first, second, first, first]
    assert (engine.done, outcome.aside) == (2, {})


def test_failed_structures_are_a_result() -> None:
    engine = FakeEngine({"a, shard 1 of 1": [3]})
    assert run(engine, tasks("a", 1)).aside == {}
    assert len(engine.order) == 1


def test_after_three_failures_a_shard_is_set_aside_and_the_others_are_done() -> None:
    engine = FakeEngine({"a, shard 2 of 3": [1] * 9})
    outcome = run(engine, tasks("a", 3))
    assert engine.order.count("a, shard 2 of 3") == 3
    assert engine.done == 2
    assert outcome.aside == {"a, shard 2 of 3": "said by a, shard 2 of 3"}
    assert outcome.models == {"a"}


def test_what_is_to_come_later_is_no_failure_and_waits_a_while() -> None:
    engine = FakeEngine({"a, shard 1 of 2": [75] * 7})
    ticks = itertools.count(step=PAUSE / 4)
    outcome = Campaign(tasks("a", 2), FakeWork({}), engine, SilentDisplay(), clock=lambda: next(ticks)).run()
    assert (engine.order[:2], engine.done, outcome.aside) == (["a, shard 1 of 2", "a, shard 2 of 2"], 2, {})
    assert engine.order.count("a, shard 1 of 2") == 8
    assert next(ticks) >= 7 * PAUSE


def test_other_shards_wait_for_the_one_that_trains() -> None:
    engine = FakeEngine({"a, shard 1 of 3": [-9]})
    run(engine, tasks("a", 3, trains=True) | tasks("b", 1))
    assert engine.order == [
        "a, shard 1 of 3",
        "b, shard 1 of 1",
        "a, shard 1 of 3",
        "a, shard 2 of 3",
        "a, shard 3 of 3",
    ]
    assert engine.done == 4


def test_where_the_training_fails_what_waits_for_it_is_left() -> None:
    engine = FakeEngine({"a, shard 1 of 3": [1] * 3})
    outcome = run(engine, tasks("a", 3, trains=True) | tasks("b", 1))
    assert (engine.done, list(outcome.aside), outcome.models) == (1, ["a, shard 1 of 3"], {"a"})
    assert "a, shard 2 of 3" not in engine.order
