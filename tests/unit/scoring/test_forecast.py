"""What earlier runs say of a plan."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fake_runs import Fake, make_run
from plan_world import crystals

from mlipbench.comparison.collect import RunRecord, collect
from mlipbench.comparison.comparing import compare
from mlipbench.comparison.forecast import Pace, detectable, pace_of
from mlipbench.comparison.scores import ScoreReader
from mlipbench.scoring import score_run
from mlipbench.store.rundir import RunDirectory

if TYPE_CHECKING:
    from plan_world import World

N = 40


@pytest.fixture
def two_runs(world: World) -> tuple[World, tuple[RunRecord, ...]]:
    """A world in which two models have run."""
    world.write("val", crystals(N, seed=5))
    rng = np.random.default_rng(1)
    for name in ("one", "other"):
        world.card["name"] = name
        world.use_card()
        run = make_run(world, Fake({"val": rng.normal(size=N).tolist()}))
        directory = RunDirectory(run)
        finished = directory.manifest().model_copy(update={"finished": "2020-01-02T00:00:00+00:00", "run_id": name})
        directory.write_manifest(finished)
        score_run(run, world.location)
        run.rename(world.folder / f"run-{name}")
    return world, collect([world.folder / "run-one", world.folder / "run-other"])


def test_the_whole_split_finds_what_a_comparison_says(two_runs: tuple[World, tuple[RunRecord, ...]]) -> None:
    world, records = two_runs
    (found,) = [one for one in detectable(world.plan(), records, ScoreReader()) if one.metric == "energy_mae"]
    assert (found.dataset, found.split, found.n_pairs) == ("toy", "val", 1)
    rows = compare(records[0], records[1], ScoreReader()).metrics
    (row,) = [row for row in rows if row.place.metric == "energy_mae"]
    assert row.change is not None
    assert row.change.detectable is not None
    assert row.change.a is not None
    assert found.least == found.most == pytest.approx(row.change.detectable / row.change.a)


def test_a_sample_finds_less_as_the_root_of_its_clusters(two_runs: tuple[World, tuple[RunRecord, ...]]) -> None:
    world, records = two_runs

    def reach(**selection: int) -> float:
        plan = world.plan(**selection)
        return next(one.least for one in detectable(plan, records, ScoreReader()) if one.metric == "energy_mae")

    assert math.log1p(reach(limit=10)) == pytest.approx(2 * math.log1p(reach()))  # every structure is a cluster


def test_nothing_is_known_before_two_models_have_run_on_these_data(
    two_runs: tuple[World, tuple[RunRecord, ...]],
) -> None:
    world, records = two_runs
    assert list(detectable(world.plan(), records[:1], ScoreReader())) == []
    world.write("val", crystals(N, seed=6))
    assert list(detectable(world.plan(), records, ScoreReader())) == []


def test_the_pace_is_that_of_the_newest_run_with_the_same_settings(
    two_runs: tuple[World, tuple[RunRecord, ...]],
) -> None:
    world, records = two_runs
    (run,) = world.plan().runs
    assert pace_of(run, records) is None
    (own,) = [record for record in records if record.model == run.model]
    rate = own.metrics[0].model_copy(update={"metric": "atom_throughput", "value": 50.0})
    assert own.manifest is not None

    def measured(value: float, started: str, **variant: str) -> RunRecord:
        assert own.manifest is not None
        settings = own.manifest.variant.model_copy(update=variant)
        manifest = own.manifest.model_copy(update={"started": started, "variant": settings})
        slow, fast = rate.model_copy(update={"value": value}), rate.model_copy(update={"value": 2 * value})
        return replace(own, metrics=(fast, slow), manifest=manifest)

    known = [measured(50.0, "2020"), measured(80.0, "2021"), measured(1.0, "2022", precision="float16")]
    found = pace_of(run, known)
    assert found == Pace(80.0, str(own.directory))
    assert found.hours(80 * 3600 * 5) == pytest.approx(5.0)
    assert pace_of(run, [replace(known[0], model="another")]) is None
