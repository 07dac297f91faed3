"""How the times of optimiser steps become a few numbers, and how these come into a checkpoint and back out of it."""

from __future__ import annotations

import json
from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from bridge_toys import job_for, save, springs

from mlipbench.checkpoint import RECORD_FILE, StepTimes, read_checkpoint, step_times_of
from mlipbench.errors import ConfigError
from mlipbench.machine import processor
from mlipbench.runner.training import checkpoint_facts
from mlipbench.training import steps
from mlipbench.training.bridges.drive import train_bridged
from mlipbench.training.steps import StepClock, warm_up

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.recipe import TrainingJob

MEASURED = {
    "n": 5,
    "skipped": 2,
    "median": 0.5,
    "p25": 0.4,
    "p75": 0.6,
    "batch": 4,
    "device": "cpu",
    "threads": 2,
    "processor": "abacus",
}


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    return job_for(save(tmp_path / "columns"))  # batches of three


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


@pytest.mark.parametrize(("n", "skipped"), [(0, 2), (3, 2), (20, 2), (21, 3), (100, 10), (200, 20), (100_000, 20)])
def test_the_first_tenth_does_not_count_but_two_steps_at_least_and_twenty_at_most(n: int, skipped: int) -> None:
    assert warm_up(n) == skipped


def test_quartiles_of_the_steps_that_count(job: TrainingJob) -> None:
    clock = StepClock(job.model_copy(update={"threads": 2}), processes=4)
    for seconds in (90.0, 80.0, *range(10, 0, -1)):
        clock.add(seconds)
    found = clock.times()
    # by hand, between neighbours: places 2.25, 4.5 and 6.75 of 1, 2, ... 10
    assert found == StepTimes(
        n=10, skipped=2, median=5.5, p25=3.25, p75=7.75,
        batch=3, device="cpu", processes=4, threads=2, processor=processor(),
    )  # fmt: skip
    assert found is not None
    assert found.samples_per_second == pytest.approx(3 / 5.5)


def test_what_lies_between_stop_and_start_is_no_step(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    # two cold steps, four of 2 s apart from which 100 s go by, and two of 3 s that end together
    gaps = [0, 0, 9, 0, 9, *([100, 2] * 4), 100, 6]
    times = accumulate(gaps)
    monkeypatch.setattr(steps, "time", SimpleNamespace(perf_counter=lambda: float(next(times))))
    clock = StepClock(job)
    for _ in range(6):
        clock.start()
        clock.stop()
    clock.start()
    clock.stop(2)
    found = clock.times()
    assert found is not None
    assert (found.n, found.p25, found.median, found.p75) == (6, 2.0, 2.0, 2.75)


def test_too_few_steps_to_count_are_no_measure(job: TrainingJob) -> None:
    clock = StepClock(job)
    for _ in range(2):
        clock.add(1.0)
        assert clock.times() is None
    clock.add(1.0)
    assert clock.times() is not None


def test_the_process_with_most_steps_is_kept(job: TrainingJob) -> None:
    before = StepTimes.model_validate(MEASURED)
    clock = StepClock(job, before)
    for _ in range(7):
        clock.add(1.0)
        assert clock.times() == before
    clock.add(1.0)
    found = clock.times()
    assert found is not None
    assert (found.n, found.median) == (6, 1.0)


def test_a_batch_is_no_larger_than_the_training_set(job: TrainingJob) -> None:
    recipe = job.recipe.model_copy(update={"batch": 1000})
    clock = StepClock(job.model_copy(update={"recipe": recipe}))
    for _ in range(3):
        clock.add(1.0)
    found = clock.times()
    assert found is not None
    assert found.batch == 9


def test_times_that_a_bridge_tells_are_in_the_checkpoint_and_in_what_a_manifest_keeps(
    job: TrainingJob, folder: Path
) -> None:
    record = train_bridged(job, folder, springs())
    found = step_times_of(checkpoint_facts(folder))
    assert found == record.step_times == read_checkpoint(folder).step_times
    assert found is not None
    # the toy says that step k took k ms; by hand, of 7, 8, ... 60 ms
    assert (found.n, found.skipped) == (54, 6)
    assert [found.p25, found.median, found.p75] == pytest.approx([0.02025, 0.0335, 0.04675])
    assert json.loads(json.dumps(checkpoint_facts(folder)))["step_times"] == found.model_dump()


def test_a_resumed_training_keeps_what_the_process_with_most_steps_measured(job: TrainingJob, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_bridged(job, folder, springs(stop_at=50))
    record = train_bridged(job, folder, springs())
    assert record.step_times is not None
    assert (record.step_times.n, record.step_times.skipped) == (36, 4)  # 40 of the steps 1 to 50 were kept


def test_checkpoints_without_times_stay_readable(job: TrainingJob, folder: Path) -> None:
    train_bridged(job, folder, springs())
    text = json.loads((folder / RECORD_FILE).read_text())
    del text["step_times"]
    (folder / RECORD_FILE).write_text(json.dumps(text))
    assert read_checkpoint(folder).step_times is None
    assert step_times_of(checkpoint_facts(folder)) is None


@pytest.mark.parametrize("facts", [{}, {"verdict": {"trained": True}}, {"step_times": None}])
def test_models_that_were_not_trained_here_have_no_times(facts: dict[str, Any]) -> None:
    assert step_times_of(facts) is None


@pytest.mark.parametrize("change", [{"median": -1.0}, {"n": "many"}, {"mean": 1.0}])
def test_times_of_another_kind_are_refused(change: dict[str, Any]) -> None:
    assert step_times_of({"step_times": MEASURED}) == StepTimes.model_validate(MEASURED)
    with pytest.raises(ConfigError, match="step_times: not step times of this version"):
        step_times_of({"step_times": MEASURED | change})
