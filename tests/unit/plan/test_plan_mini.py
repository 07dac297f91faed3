"""Suites on the embedded datasets that stand in for their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlipbench.errors import ConfigError
from mlipbench.plan import Selection, build_plan
from mlipbench.plan.mini import on_mini_data
from mlipbench.suite import load_suite, suite_names

if TYPE_CHECKING:
    from plan_world import World

MINI = {"dataset": "mini-slabs", "splits": {"train": "train", "val": "val_id"}}


def test_datasets_and_splits_are_replaced_and_what_has_no_counterpart_is_left_out(world: World) -> None:
    world.entry["mini"] = MINI
    world.suite["models"] = [{"name": "leignn", "recipe": "quickstart"}]
    world.suite["datasets"]["toy"] |= {"splits": ["val", "refs"], "fit": "train"}
    world.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element", "fit": "train"}]
    world.suite["datasets"]["without"] = {"splits": ["val"], "entry": "toy.yaml", "overrides": {"mini": None}}
    world.plan()  # writes the files
    suite, lines = on_mini_data(load_suite(str(world.folder / "suite.yaml")))
    assert lines == (
        "toy: mini-slabs stands in for it, without refs",
        "without: left out, because no embedded dataset stands in for it",
    )
    assert suite.suite == "mine-mini"
    assert suite.models[0].recipe is None
    assert list(suite.datasets) == ["mini-slabs"]
    chosen = suite.datasets["mini-slabs"]
    assert (chosen.splits, chosen.fit, chosen.energy[0].fit) == (("val_id",), "train", "train")
    plan = build_plan(suite, Selection(threads=1), world.location)
    note = plan.datasets["mini-slabs"].entry.membership
    assert note.startswith("Embedded, in place of Toy (--data mini): no number of this table is one of that dataset.")


def test_one_counterpart_stands_in_once(world: World) -> None:
    world.entry["mini"] = MINI
    world.suite["datasets"]["toy2"] = {"splits": ["val"], "entry": "toy.yaml"}
    world.plan()
    suite, lines = on_mini_data(load_suite(str(world.folder / "suite.yaml")))
    assert list(suite.datasets) == ["mini-slabs"]
    assert lines[1] == "toy2: left out, because mini-slabs stands in for another dataset already"


def test_embedded_datasets_stay(world: World) -> None:
    world.plan()
    suite = load_suite("quickstart")
    assert on_mini_data(suite) == (suite, ())


def test_a_suite_without_any_counterpart_is_refused(world: World) -> None:
    world.plan()
    with pytest.raises(ConfigError, match="suite mine: no embedded dataset stands in for one of its datasets"):
        on_mini_data(load_suite(str(world.folder / "suite.yaml")))


@pytest.mark.parametrize("name", ["oc20", "md17", "rmd17", "iso17", "lips", "3bpa"])
def test_the_suites_of_the_benchmarks_have_counterparts(name: str) -> None:
    assert name in suite_names()
    suite, _ = on_mini_data(load_suite(name))
    assert all(dataset.startswith("mini-") for dataset in suite.datasets)
