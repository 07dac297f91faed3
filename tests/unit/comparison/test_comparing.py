"""Verdicts between stored runs: each kind of them, each reason why numbers are not compared, and who changed most."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlipbench.comparison.collect import single_run
from mlipbench.comparison.comparing import Comparison, Verdict, compare
from mlipbench.comparison.scores import ScoreReader
from mlipbench.cost import Call, Stage
from mlipbench.errors import ResultsError
from mlipbench.metrics.catalogue import TASK_METRICS
from mlipbench.status import Task
from mlipbench.store.timings import write_timings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    Make: TypeAlias = Callable[..., Path]

N = 40


def compared(a: Path, b: Path, worst: int = 5) -> Comparison:
    return compare(single_run(a), single_run(b), ScoreReader(), worst)


def edit_scores(run: Path, **columns: Any) -> None:
    """Replace columns of the run's only file of scores."""
    path = next(run.glob("scores/*/*/*.parquet"))
    table = pq.read_table(path)
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(column))
    pq.write_table(table, path)


def edit_manifest(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = run / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_metrics(run: Path, **fields: Any) -> None:
    path = run / "metrics.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metrics"] = [record | fields for record in content["metrics"]]
    path.write_text(json.dumps(content), encoding="utf-8")


def test_the_difference_is_that_of_the_means(make_run: Make) -> None:
    a, b = make_run("a", error=0.2), make_run("b", error=0.1, draw=2)
    forces = [np.asarray(pq.read_table(next(run.glob("scores/**/*.parquet")))["force_abs_sum"]) for run in (a, b)]
    means = [float(np.mean(force / 3)) for force in forces]
    found = compared(a, b)
    (row,) = found.metrics
    assert row.change is not None
    assert row.change.difference is not None
    assert row.change.relative is not None
    assert (row.change.a, row.change.b) == (pytest.approx(means[0]), pytest.approx(means[1]))
    assert row.change.difference.value == pytest.approx(means[1] - means[0])
    assert row.change.relative.value == pytest.approx(means[1] / means[0] - 1)
    assert row.change.difference.high is not None
    assert row.change.difference.high < 0
    assert (row.verdict, row.change.n, row.change.n_clusters) == (Verdict.BETTER, N, N)
    assert compared(b, a).metrics[0].verdict is Verdict.WORSE


def test_a_metric_that_rises_is_better_higher(make_run: Make) -> None:
    a, b = (
        make_run(name, error=error, metrics=("forces_cosine_similarity",)) for name, error in (("a", 0.2), ("b", 0.1))
    )
    assert compared(a, b).metrics[0].verdict is Verdict.BETTER


def test_equal_models_are_not_told_apart_and_do_not_change(make_run: Make) -> None:
    found = compared(make_run("a"), make_run("b"))
    assert found.metrics[0].verdict is Verdict.NOT_DISTINGUISHABLE
    assert found.metrics[0].p_adjusted == 1.0
    assert found.largest == ()


def test_verdicts_are_corrected_for_the_number_of_metrics(make_run: Make) -> None:
    """One p-value between 1 and 5 %: alone it tells the models apart, among five metrics it does not.

    `energy_mae` has it; the other four are of equal models. Holm multiplies the smallest of five by five.
    """
    names = ("energy_mae", "forces_mae", "forces_rmse", "forces_cosine_similarity", "forces_magnitude_error")
    sizes = np.full(N, 1.0)
    other = np.where(np.arange(N) % 20 < 13, 1.2, 0.8) * 1.0
    alone = [make_run(model, metrics=names[:1], plan=f"{model}1") for model in "ab"]
    among = [make_run(model, metrics=names, plan=f"{model}5") for model in "ab"]
    for one, second in (alone, among):
        edit_scores(one, energy_error=sizes)
        edit_scores(second, energy_error=other)
    (row,) = compared(*alone).metrics
    found = compared(*among)
    corrected = next(row for row in found.metrics if row.place.metric == "energy_mae")
    assert row.change is not None
    assert row.change.p is not None
    assert 0.01 < row.change.p < 0.05
    assert row.verdict is Verdict.WORSE
    assert found.family == 5
    assert corrected.verdict is Verdict.NOT_DISTINGUISHABLE
    assert corrected.change is not None
    assert corrected.p_adjusted == pytest.approx(5 * float(corrected.change.p or 0))
    assert corrected.change.difference is not None
    assert (corrected.change.difference.low or 0) > 0  # the interval is not corrected


def test_few_clusters(make_run: Make) -> None:
    a, b = make_run("a", error=0.2), make_run("b", error=0.1)
    for run in (a, b):
        edit_scores(run, cluster=np.arange(N) % 7)
    (row,) = compared(a, b).metrics
    assert row.verdict is Verdict.TOO_FEW_CLUSTERS
    assert row.change is not None
    assert row.change.difference is not None
    assert row.change.difference.low is None
    assert row.notes == ("7 clusters: fewer than the 8 an interval needs",)


def test_what_failed_in_either_is_left_out_and_counted(make_run: Make) -> None:
    a, b = make_run("a", error=0.2), make_run("b", error=0.1)
    edit_scores(a, ok=np.arange(N) >= 2)
    edit_scores(b, ok=np.arange(N) != 39)
    (row,) = compared(a, b).metrics
    assert row.change is not None
    assert row.change.n == N - 3
    assert row.notes == ("3 of 40 left out (2 without a prediction of A, 1 without a prediction of B)",)


def test_structures_are_paired_by_place_not_by_row(make_run: Make) -> None:
    a, b = make_run("a"), make_run("b")
    path = next(b.glob("scores/*/*/*.parquet"))
    pq.write_table(pq.read_table(path).take(np.arange(N)[::-1]), path)
    assert compared(a, b).largest == ()


def test_the_largest_changes_of_each_kind(make_run: Make) -> None:
    metrics = ("energy_mae", "energy_rmse", "forces_mae", "energy_forces_within_threshold")
    a, b = make_run("a", metrics=metrics), make_run("b", metrics=metrics)
    energy = np.full(N, 1.0)
    edit_scores(a, energy_error=energy)
    energy[[7, 3, 11]] = [-9.0, 4.0, 0.5]
    edit_scores(b, energy_error=energy)
    (found,) = compared(a, b, worst=2).largest  # forces are the same
    assert (found.family, found.metric, found.unit) == ("energy", "energy_mae", "eV")
    assert [(one.id, one.cluster, one.a, one.b, one.change) for one in found.structures] == [
        ("s7", 7, 1.0, 9.0, 8.0),
        ("s3", 3, 1.0, 4.0, 3.0),
    ]
    assert compared(a, b, worst=0).largest == ()


def test_a_number_that_one_has_not_is_missing_with_its_reason(make_run: Make) -> None:
    a, b = make_run("a", metrics=("forces_mae", "energy_mae")), make_run("b")
    edit_metrics(b, value=None, ci_low=None, ci_high=None, status="failed", reason="it crashed")
    rows = compared(a, b).metrics
    assert {row.verdict for row in rows} == {Verdict.MISSING}
    assert [row.notes for row in rows] == [("B: failed: it crashed",), ("B: holds no such number",)]
    bare = compared(make_run("c"), make_run("d", scores=False)).metrics[0]
    assert bare.verdict is Verdict.MISSING
    assert bare.notes == ("there are no scores of B; rebuild them with `mlipbench score`",)


def _dataset(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["datasets"][0].update({field: value})


def _split(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["splits"][0].update({field: value})


@pytest.mark.parametrize(
    ("metric", "change", "differs"),
    [
        ("forces_mae", _dataset("splits", {"test": "f" * 64}), ("content of the split", "0" * 64, "f" * 64)),
        ("forces_mae", _split("selection", "all"), ("selection", "first 40", "all")),
        ("forces_mae", _split("parameters", {"steps": 5}), ("parameter steps", "none", "5")),
        ("forces_mae", _dataset("entry", {"free_atoms_only": True}), ("free_atoms_only", "False", "True")),
        ("forces_mae", lambda m: m.update(code_version="9"), ("version of the metric, by mlipbench", "0.1.0+abc", "9")),
        ("forces_mae", lambda _: None, ("comparability key", "k-forces_mae", "other")),
        (
            "energy_mae",
            lambda m: m.update(routes=[{"dataset": "toys", "fit": "test"}]),
            ("content of the split that the shift is fitted on", "none", "0" * 64),
        ),
        (
            "adsorption_energy_mae_self",
            _dataset("references_sha256", "abc"),
            ("map of the references", "none", "abc"),
        ),
    ],
)  # fmt: skip
def test_the_part_of_the_key_that_differs_is_named(
    metric: str, change: Callable[[dict[str, Any]], None], differs: tuple[str, str, str], make_run: Make
) -> None:
    a, b = (make_run(name, metrics=("forces_mae",)) for name in "ab")
    for run in (a, b):
        edit_metrics(run, metric=metric, value=0.1, ci_low=0.05, ci_high=0.2, reason=None)
    edit_manifest(b, change)
    edit_metrics(b, comparability_key="other")
    found = compared(a, b)
    (row,) = found.metrics
    assert row.verdict is Verdict.NOT_COMPARABLE
    assert row.change is None
    assert [(one.field, one.a, one.b) for one in row.differs] == [differs]
    assert row.notes == (f"{differs[0]}: {differs[1]} against {differs[2]}",)
    assert not found.compared


def test_a_conversion_that_differs(make_run: Make) -> None:
    a, b = (make_run(name, metrics=("energy_mae",)) for name in "ab")
    edit_metrics(b, comparability_key="other", conversion="shift by element")
    (row,) = compared(a, b).metrics
    assert [str(one) for one in row.differs] == ["conversion of energies: none against shift by element"]


def test_other_content_is_refused_even_under_one_key(make_run: Make) -> None:
    a, b = make_run("a"), make_run("b")
    edit_manifest(b, _dataset("splits", {"test": "f" * 64}))
    assert compared(a, b).metrics[0].verdict is Verdict.NOT_COMPARABLE


def test_the_reference_trajectory_that_differs(make_run: Make) -> None:
    runs = [make_run(name) for name in "ab"]
    for run, content in zip(runs, ("aaa", "bbb"), strict=True):
        edit_metrics(run, task="md", metric="stability", comparability_key=content)
        edit_manifest(run, lambda m: m["splits"][0].update(task="md", parameters={"reference": "long"}))
        edit_manifest(run, _dataset("splits", {"test": "0", "long": content}))
    (row,) = compared(*runs).metrics
    assert [str(one) for one in row.differs] == ["content of the reference trajectory: aaa against bbb"]


def test_unlike_training_is_said(make_run: Make) -> None:
    a, b = make_run("a", error=0.2), make_run("b", error=0.1)
    edit_metrics(b, relation="contaminated")
    (row,) = compared(a, b).metrics
    assert row.notes == ("training: A unknown, B contaminated",)


def test_the_gap_between_splits(make_run: Make) -> None:
    """Errors of B are 0.01 larger on the first split and 0.05 on the second: its gap is 0.04 larger."""
    runs = []
    for name, sizes in (("a", (0.1, 0.2)), ("b", (0.11, 0.25))):
        run = make_run(name, split="near")
        _second_split(run, sizes)
        runs.append(run)
    found = compared(*runs)
    row = next(row for row in found.metrics if row.place.split == "gap")
    assert row.change is not None
    assert row.change.difference is not None
    assert row.change.difference.value == pytest.approx(0.04)
    assert row.verdict is Verdict.WORSE
    assert row.change.n == 2 * N
    for run in runs:
        edit_manifest(run, _dataset("entry", {}))
    row = next(row for row in compared(*runs).metrics if row.place.split == "gap")
    assert row.verdict is Verdict.MISSING


def _second_split(run: Path, sizes: tuple[float, float]) -> None:
    """Add a split `far` and the gap from `near`, with errors about the sizes given."""
    noise = 0.001 * np.random.default_rng(0).standard_normal(N)
    noise -= noise.mean()
    near = next(run.glob("scores/*/*/near.parquet"))
    table = pq.read_table(near)
    place = table.column_names.index("force_abs_sum")
    for name, size in zip(("near", "far"), sizes, strict=True):
        column = pa.array(3 * size * (1 + noise))
        pq.write_table(table.set_column(place, "force_abs_sum", column), near.with_name(f"{name}.parquet"))
    path = run / "metrics.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    (record,) = content["metrics"]
    content["metrics"] = [record | {"split": split} for split in ("near", "far", "gap")]
    path.write_text(json.dumps(content), encoding="utf-8")
    edit_manifest(run, _dataset("entry", {"gap": {"base": "near", "others": ["far"]}}))


COSTS = {"parameters": 100.0, "latency_p50": 1000.0, "latency_p90": 1100.0, "latency_ratio": 10.0, "peak_memory": 50.0}


def costly(run: Path, factor: float, beside: float | None) -> None:
    """Give a run costs, and eight timed calls beside a reference that took some time; None keeps no calls."""
    records = [
        {
            "dataset": "toys", "split": "test", "task": "efficiency", "metric": metric, "value": factor * value,
            "unit": TASK_METRICS[Task.EFFICIENCY].definitions[metric].unit, "n": 8, "status": "ok",
            "direction": TASK_METRICS[Task.EFFICIENCY].definitions[metric].direction,
            "comparability_key": f"c-{metric}", "reason": "measured", "ci_low": 0.95 * factor * value,
            "ci_high": 1.05 * factor * value,
        }
        for metric, value in COSTS.items()
    ]  # fmt: skip
    (run / "metrics.json").write_text(json.dumps({"schema_version": 1, "metrics": records}), encoding="utf-8")
    if beside is None:
        return
    place = {"task": "efficiency", "dataset": "toys", "split": "test"}
    rows = [
        Call(
            Stage.LATENCY,
            number,
            0,
            0,
            0,
            1,
            8,
            0.1,
            factor * (1 + 0.01 * number),
            1.0,
            0,
            0.0,
            beside + number,
            None,
            None,
            9,
        )
        for number in range(8)
    ]
    columns = Call.__dataclass_fields__
    write_timings(run / "timings.parquet", [place | {name: getattr(row, name) for name in columns} for row in rows])


def verdicts(a: Path, b: Path) -> dict[str, Verdict]:
    return {row.place.metric: row.verdict for row in compared(a, b).metrics}


def test_costs_in_the_same_rounds(make_run: Make) -> None:
    a, b = (make_run(name, scores=False) for name in "ab")
    costly(a, 1.0, 0.5)
    costly(b, 2.0, 0.5)
    assert verdicts(a, b) == {
        "parameters": Verdict.WORSE,
        "latency_p50": Verdict.WORSE,
        "latency_p90": Verdict.NO_INTERVAL,
        "latency_ratio": Verdict.WORSE,
        "peak_memory": Verdict.NO_INTERVAL,
    }
    rows = {row.place.metric: row for row in compared(a, b).metrics}
    counted, timed = rows["parameters"].change, rows["latency_p50"].change
    assert counted is not None
    assert timed is not None
    assert (counted.difference, counted.p) == ((100.0, None, None), None)
    assert timed.p == pytest.approx(2 / 2**8)  # all eight rounds on one side
    assert timed.relative is not None
    assert timed.relative.low is not None
    assert timed.relative.low > 0.5
    assert verdicts(b, a)["parameters"] is Verdict.BETTER
    assert verdicts(b, a)["latency_p50"] is Verdict.BETTER


@pytest.mark.parametrize("beside", [0.6, None])
def test_times_of_different_rounds_are_not_compared_but_for_their_ratio_to_the_reference(
    beside: float | None, make_run: Make
) -> None:
    a, b = (make_run(name, scores=False) for name in "ab")
    costly(a, 1.0, 0.5)
    costly(b, 1.0, beside)
    rows = {row.place.metric: row for row in compared(a, b).metrics}
    assert rows["parameters"].verdict is Verdict.EQUAL
    assert rows["latency_p50"].verdict is Verdict.NOT_COMPARABLE
    assert rows["latency_p50"].notes == ("measured in different rounds, or nothing tells; compare latency_ratio",)
    assert rows["latency_ratio"].verdict is Verdict.NOT_DISTINGUISHABLE


def test_times_on_other_machines_are_not_compared(make_run: Make) -> None:
    a, b = (make_run(name, scores=False) for name in "ab")
    for run, gpu in ((a, "Loom 200"), (b, "Loom 300")):
        costly(run, 1.0, 0.5)
        edit_manifest(run, lambda m, gpu=gpu: m["hardware"].update(worker={"gpu": gpu}))
        edit_manifest(run, lambda m: m["variant"].update(device="cuda"))
    rows = {row.place.metric: row for row in compared(a, b).metrics}
    assert [str(one) for one in rows["latency_ratio"].differs] == ["GPU: Loom 200 against Loom 300"]
    assert rows["parameters"].verdict is Verdict.EQUAL
    edit_manifest(b, lambda m: m["variant"].update(device="cpu"))
    edit_manifest(b, lambda m: m.update(threads=7))
    edit_metrics(b, comparability_key="other")
    rows = {row.place.metric: row for row in compared(a, b).metrics}
    assert [str(one) for one in rows["latency_p50"].differs][:2] == ["device: cuda against cpu", "threads: 2 against 7"]


def test_damaged_scores_are_named(make_run: Make) -> None:
    a, b = make_run("a"), make_run("b")
    edit_scores(b, force_abs_sum=np.full(N, -1.0))
    with pytest.raises(ResultsError, match="damaged scores: structure 0"):
        compared(a, b)
    next(b.glob("scores/*/*/*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(ResultsError, match=r"test\.parquet: damaged scores"):
        compared(a, b)
