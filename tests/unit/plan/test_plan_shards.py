"""How splits are cut into shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlipbench.errors import ConfigError
from mlipbench.plan.shards import ShardChoice, cut_shards, n_shards

if TYPE_CHECKING:
    from plan_world import World


@pytest.fixture
def cuttable(world: World) -> World:
    """A split of five structures, each a batch of its own."""
    world.suite["models"] = [{"name": "lj", "batch": {"structures": 1}}]
    return world


def evaluated(world: World, **selection: object):
    run = world.plan(**selection).runs[0]
    return run, next(split for split in run.splits if split.split == "val")


@pytest.mark.parametrize(
    ("wanted", "borders"),
    [
        (1, [0, 5]),
        (2, [0, 2, 5]),
        (3, [0, 1, 3, 5]),
        (5, [0, 1, 2, 3, 4, 5]),
        (100, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_shards_are_cut_on_the_borders_of_batches(cuttable: World, wanted: int, borders: list[int]) -> None:
    run, split = evaluated(cuttable)
    shards = cut_shards(run, split, wanted)
    assert [shard.start for shard in shards] + [shards[-1].stop] == borders
    assert [shard.number for shard in shards] == list(range(1, len(borders)))
    assert {shard.count for shard in shards} == {len(borders) - 1}
    assert len(shards) == n_shards(split, wanted)
    assert [batch for shard in shards for batch in shard.batches] == [0, 1, 2, 3, 4]


def test_names_sort_and_say_what_decides_the_content(cuttable: World) -> None:
    run, split = evaluated(cuttable)
    names = [shard.name for shard in cut_shards(run, split, 3)]
    assert [name.split("-")[0] for name in names] == ["000000000", "000000001", "000000003"]
    assert names == sorted(names)
    assert [shard.name for shard in cut_shards(*evaluated(cuttable), 3)] == names
    # the middle shard of three is not the same as one that only starts there
    assert cut_shards(run, split, 5)[1].name != names[1]
    other = cut_shards(*evaluated(cuttable, threads=7), 3)
    assert not {shard.name for shard in other} & set(names)


def test_a_whole_split_is_one_shard(cuttable: World) -> None:
    (shard,) = cut_shards(*evaluated(cuttable), 1)
    assert shard.alone
    assert not any(one.alone for one in cut_shards(*evaluated(cuttable), 2))


def test_a_shard_is_chosen_by_two_numbers() -> None:
    assert ShardChoice.parse("3/8") == ShardChoice(3, 8)
    for text in ("", "3", "0/8", "9/8", "3/", "/8", "3/8/2", "x/8", "³/8"):
        with pytest.raises(ConfigError, match="is no shard; write I/N with I from 1 to N"):
            ShardChoice.parse(text)
