"""Means over training seeds: which runs belong together, Student's interval by hand, and how tables show them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from mlipbench.comparison.collect import collect
from mlipbench.metrics.seeds import over_seeds
from mlipbench.metrics.values import Kind
from mlipbench.report.markdown import to_markdown
from mlipbench.report.rows import leaderboard_rows
from mlipbench.report.seeds import seed_means
from mlipbench.report.table import build_tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    Make: TypeAlias = Callable[..., Path]

T_2 = 4.302653  # 97.5 % quantile of Student's t with two degrees of freedom, from tables
SAID = "mean over the training seeds 10, 11, 12; interval: Student's over these, structures fixed"


def facts(seed: int, **changes: object) -> dict[str, Any]:
    known = {
        "net": "toy", "trainer": "own", "preset": "small", "recipe": "toys version 1", "dataset": "toys", "n_train": 8,
        "code": "c", "seed": seed, "parameters": 3, "steps": 5, "learning_rate": 0.01, "verdict": {"trained": True},
    }  # fmt: skip
    return known | changes


def trained(make_run: Make, seed: int, value: float, **changes: object) -> Path:
    """Write a run of a network trained with the seed 10 + seed, whose force MAE is `value`."""
    model = {"name": "net", "card": {}, "card_sha256": "0" * 64}
    return make_run(
        "net",
        seed=seed,
        draw=seed + 1,
        plan=f"plan-{seed}",
        record={"value": value, "ci_low": value - 0.01, "ci_high": value + 0.01},
        manifest={"model": model | {"checkpoints": {"toys": facts(10 + seed, **changes)}}},
    )


def test_the_interval_is_students() -> None:
    # 1, 2, 3: mean 2, standard deviation 1.
    found = over_seeds([10.0, 20.0, 30.0], Kind.REAL)
    half = T_2 * 10 / math.sqrt(3)
    assert found is not None
    assert found.value == 20.0
    assert (found.low, found.high) == (pytest.approx(20 - half, rel=1e-6), pytest.approx(20 + half, rel=1e-6))
    assert over_seeds([1.0, 2.0], Kind.REAL) is None


@pytest.mark.parametrize(
    ("kind", "values", "ends"),
    [(Kind.POSITIVE, [0.1, 2.0, 4.0], (0.0, None)), (Kind.FRACTION, [0.1, 0.9, 0.5], (0.0, 1.0)),
     (Kind.BOUNDED, [-0.9, 0.9, 0.0], (-1.0, 1.0))],
)  # fmt: skip
def test_the_interval_stays_in_the_range(kind: Kind, values: list[float], ends: tuple[float, float | None]) -> None:
    found = over_seeds(values, kind)
    assert found is not None
    assert found.low == ends[0]
    assert ends[1] is None or found.high == ends[1]


def test_three_seeds_have_a_row_of_their_own_beside_the_runs(make_run: Make, tmp_path: Path) -> None:
    for seed, value in enumerate((0.10, 0.12, 0.17)):
        trained(make_run, seed, value)
    make_run("other", error=0.3, draw=9)
    records = collect([tmp_path / "results"])
    (table,) = build_tables(records)
    rows = {row.variant: row for row in table.rows if row.model == "net"}
    assert set(rows) == {*(f"float64, seed {seed}" for seed in range(3)), "float64, mean of 3 seeds"}
    (cell,) = rows["float64, mean of 3 seeds"].cells
    half = T_2 * math.sqrt(0.0013) / math.sqrt(3)  # squared deviations 0.0009, 0.0001 and 0.0016 over 2
    assert cell.record is not None
    assert cell.record.value == pytest.approx(0.13)
    assert cell.record.ci_high == pytest.approx(0.13 + half, rel=1e-6)
    assert (cell.rank, cell.record.design_effect) == (None, None)
    assert [table.footnotes[number - 1] for number in cell.notes] == [SAID]
    assert all(rows[f"float64, seed {seed}"].cells[0].rank is not None for seed in range(3))
    (row,) = [row.as_dict() for row in leaderboard_rows(records, (table,)) if row.source.value == "averaged"]
    assert (row["variant"], row["seed"], row["run_id"]) == ("float64, mean of 3 seeds", None, "")
    assert row["value"] == pytest.approx(0.13)
    assert SAID in to_markdown(records)


def test_two_seeds_have_no_mean(make_run: Make, tmp_path: Path) -> None:
    for seed in range(2):
        trained(make_run, seed, 0.1)
    assert seed_means(collect([tmp_path / "results"])) == ()


@pytest.mark.parametrize("changes", [{"recipe": "toys version 2"}, {"n_train": 9}, {"preset": "large"}, {"code": "d"}])
def test_trainings_that_differ_in_more_than_their_seed_are_not_averaged(
    make_run: Make, tmp_path: Path, changes: dict[str, object]
) -> None:
    trained(make_run, 0, 0.1)
    trained(make_run, 1, 0.1)
    trained(make_run, 2, 0.1, **changes)
    assert seed_means(collect([tmp_path / "results"])) == ()


def test_one_seed_twice_is_no_third_seed(make_run: Make, tmp_path: Path) -> None:
    paths = [trained(make_run, seed, 0.1) / "manifest.json" for seed in range(3)]
    content = json.loads(paths[2].read_text(encoding="utf-8"))
    content["model"]["checkpoints"]["toys"]["seed"] = 11
    paths[2].write_text(json.dumps(content), encoding="utf-8")
    assert seed_means(collect([tmp_path / "results"])) == ()


def test_models_that_were_not_trained_by_a_seed_have_no_mean(make_run: Make, tmp_path: Path) -> None:
    for seed in range(3):
        make_run("pretrained", seed=seed, plan=f"plan-{seed}")
    assert seed_means(collect([tmp_path / "results"])) == ()


@pytest.mark.parametrize("change", [{"status": "partial", "reason": "1 failed"}, {"comparability_key": "other"}])
def test_numbers_that_are_incomplete_or_of_something_else_are_not_averaged(
    make_run: Make, tmp_path: Path, change: dict[str, str]
) -> None:
    paths = [trained(make_run, seed, 0.1) / "metrics.json" for seed in range(3)]
    content = json.loads(paths[2].read_text(encoding="utf-8"))
    content["metrics"][0] |= change
    paths[2].write_text(json.dumps(content), encoding="utf-8")
    assert seed_means(collect([tmp_path / "results"])) == ()


def test_untrained_networks_are_counted(make_run: Make, tmp_path: Path) -> None:
    for seed in range(3):
        trained(make_run, seed, 0.1 + 0.01 * seed, verdict={"trained": seed > 0, "ratio": None, "high": None})
    (mean,) = seed_means(collect([tmp_path / "results"]))
    assert mean.metrics[0].reason == f"{SAID}; 1 of 3 count as untrained"
