"""Shards handed to an engine that fails as it is told to."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest

from mlipbench.execution.engines import CommandEnd, EngineCommand
from mlipbench.plan.shards import ShardChoice
from mlipbench.progress import SilentDisplay
from mlipbench.runner.campaign import Campaign, ShardTask


@dataclass
class FakeEngine:
    """Ends one command at a time, the oldest first, with what stands in a list for its title."""

    ends: dict[str, list[tuple[int | None, bool]]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    submitted: deque[EngineCommand] = field(default_factory=deque)

    def submit(self, command: EngineCommand) -> None:
        self.submitted.append(command)

    def wait(self) -> list[CommandEnd]:
        command = self.submitted.popleft()
        self.order.append(command.title)
        status, begun = self.ends[command.title].pop(0) if self.ends.get(command.title) else (0, True)
        return [CommandEnd(command, status, f"said by {command.title}", begun)]

    def close(self) -> None:
        self.submitted.clear()


def tasks(model: str, count: int, *, trains: bool = False) -> dict[str, list[ShardTask]]:
    return {model: [ShardTask(model, ShardChoice(n, count), trains and n > 1) for n in range(1, count + 1)]}


def run(engine: FakeEngine, found: dict[str, list[ShardTask]]):
    return Campaign(found, lambda task: EngineCommand(task.title, (), {}), engine, SilentDisplay()).run()


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
    assert (outcome.n_done, outcome.aside, outcome.models) == (5, {}, set())


@pytest.mark.parametrize("status", [1, 2, 4, -9, None])
def test_a_shard_that_fails_is_tried_again_behind_the_others(status: int | None) -> None:
    engine = FakeEngine({"a, shard 1 of 2": [(status, True), (status, True)]})
    outcome = run(engine, tasks("a", 2))
    first, second = "a, shard 1 of 2", "a, shard 2 of 2"
    assert engine.order == [first, second, first, first]
    assert (outcome.n_done, outcome.aside) == (2, {})


def test_failed_structures_are_a_result() -> None:
    engine = FakeEngine({"a, shard 1 of 1": [(3, True)]})
    assert run(engine, tasks("a", 1)).n_done == 1
    assert len(engine.order) == 1


def test_after_three_failures_a_shard_is_set_aside_and_the_others_are_done() -> None:
    engine = FakeEngine({"a, shard 2 of 3": [(1, True)] * 9})
    outcome = run(engine, tasks("a", 3))
    assert engine.order.count("a, shard 2 of 3") == 3
    assert outcome.n_done == 2
    assert outcome.aside == {"a, shard 2 of 3": "said by a, shard 2 of 3"}
    assert outcome.models == {"a"}


def test_what_was_not_begun_for_lack_of_time_is_no_failure() -> None:
    engine = FakeEngine({"a, shard 1 of 1": [(None, False)] * 7})
    outcome = run(engine, tasks("a", 1))
    assert (len(engine.order), outcome.n_done, outcome.aside) == (8, 1, {})


def test_other_shards_wait_for_the_one_that_trains() -> None:
    engine = FakeEngine({"a, shard 1 of 3": [(-9, True)]})
    outcome = run(engine, tasks("a", 3, trains=True) | tasks("b", 1))
    assert engine.order == [
        "a, shard 1 of 3",
        "b, shard 1 of 1",
        "a, shard 1 of 3",
        "a, shard 2 of 3",
        "a, shard 3 of 3",
    ]
    assert outcome.n_done == 4


def test_where_the_training_fails_what_waits_for_it_is_left() -> None:
    engine = FakeEngine({"a, shard 1 of 3": [(1, True)] * 3})
    outcome = run(engine, tasks("a", 3, trains=True) | tasks("b", 1))
    assert (outcome.n_done, list(outcome.aside), outcome.models) == (1, ["a, shard 1 of 3"], {"a"})
    assert "a, shard 2 of 3" not in engine.order
