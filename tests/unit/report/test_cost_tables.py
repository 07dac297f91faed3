from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mlipbench.comparison.collect import collect
from mlipbench.metrics.catalogue import TASK_METRICS
from mlipbench.report.layout import blocks
from mlipbench.report.markdown import to_markdown
from mlipbench.report.table import build_tables
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlipbench.report.table import Table

SHORT = ("parameters", "flops", "latency_p50", "latency_ratio")


def record(metric: str, value: float | None, key: str, task: Task = Task.EFFICIENCY, **more: Any) -> dict[str, Any]:
    definition = TASK_METRICS[task].definitions[metric]
    conditions = key if definition.timed or task is Task.S2EF else "any"
    return {
        "dataset": "toys",
        "split": "test",
        "task": task,
        "metric": metric,
        "value": value,
        "unit": definition.unit,
        "direction": definition.direction,
        "n": 1,
        "status": "ok" if value is not None else "not_applicable",
        "comparability_key": f"{metric}-{conditions}",
        **more,
    }


@pytest.fixture
def costly(make_run: Callable[..., Path]) -> Callable[..., None]:
    """Return a function that writes a run with costs and a force error."""

    def make(model: str, values: dict[str, float | None], *, device: str = "cpu", forces: str = "direct") -> None:
        variant = {"name": "default", "precision": "float32", "device": device, "batch": {"structures": 4}}
        hardware = {"parent": {"processor": "Abacus 9000"}, "worker": {"gpu": "Loom 200"}}
        folder = make_run(
            model,
            scores=False,
            card={"capabilities": {"forces": forces}},
            manifest={"variant": variant, "hardware": hardware},
        )
        records = [record("forces_mae", 0.05, "s", Task.S2EF, ci_low=0.04, ci_high=0.06)]
        records += [record(metric, value, device) for metric, value in values.items()]
        (folder / "metrics.json").write_text(json.dumps({"schema_version": 1, "metrics": records}))

    return make


def table(tmp_path: Path) -> Table:
    (found,) = (one for one in build_tables(collect([tmp_path / "results"])) if one.task == Task.EFFICIENCY)
    return found


def text(found: Table, model: str, metric: str, conditions: str = "") -> str:
    row = next(row for row in found.rows if row.model == model)
    at = [(column.metric, column.conditions) for column in found.columns].index((metric, conditions))
    return row.cells[at].text


def test_counts_have_all_their_digits_and_errors_stand_beside_costs(costly, tmp_path):
    costly("net", {"parameters": 18834945.0, "flops": 4.76, "latency_p50": 12.5, "latency_ratio": 1.0})
    found = table(tmp_path)
    assert text(found, "net", "parameters") == "18,834,945"
    assert text(found, "net", "forces_mae") == "50 [40, 60]"
    assert text(found, "net", "flops") == "4.76"
    assert found.columns[0].metric == "forces_mae"
    assert not found.ranked


def test_a_time_names_its_device_and_a_processor_never_fills_the_column_of_a_gpu(costly, tmp_path):
    costly("slow", {"parameters": 10.0, "latency_p50": 100.0})
    costly("fast", {"parameters": 20.0, "latency_p50": 1.0}, device="cuda:0")
    found = table(tmp_path)
    cpu, gpu = "cpu: Abacus 9000, 2 threads", "cuda:0: Loom 200"
    assert text(found, "slow", "latency_p50", cpu) == "100"
    assert text(found, "fast", "latency_p50", cpu) == "not measured"
    assert text(found, "slow", "latency_p50", gpu) == "not measured"
    assert text(found, "fast", "latency_p50", gpu) == "1.00"
    assert text(found, "fast", "parameters") == "20"
    assert not any("not measured" in sentence for sentence in found.about)
    assert cpu in to_markdown(collect([tmp_path / "results"]))


def test_without_a_gpu_the_table_says_so(costly, tmp_path):
    costly("net", {"latency_p50": 100.0})
    assert "On a GPU (cuda): not measured." in table(tmp_path).about


def test_a_percentile_that_nobody_has_stands_beside_the_others(costly, tmp_path):
    costly("net", dict.fromkeys(TASK_METRICS[Task.EFFICIENCY].definitions, 1.0) | {"latency_p99": None})
    conditions = {column.conditions for column in table(tmp_path).columns if column.metric.startswith("latency")}
    assert conditions == {"cpu: Abacus 9000, 2 threads"}


def test_kinds_of_forces_stand_beside_the_model(costly, tmp_path):
    costly("gradient", {"latency_p50": 2.0}, forces="conservative")
    costly("direct", {"latency_p50": 1.0})
    assert {row.model: row.variant for row in table(tmp_path).rows} == {
        "gradient": "default, gradient forces",
        "direct": "default, direct forces",
    }


def test_a_few_costs_stand_side_by_side_and_many_by_what_they_are_about(costly, tmp_path):
    costly("net", dict.fromkeys(SHORT, 1.0))
    (block,) = blocks(table(tmp_path), by_metric=True)
    assert block.title == "Times on cpu: Abacus 9000, 2 threads"
    assert len(block.columns) == 1 + len(SHORT)

    costly("all", dict.fromkeys(TASK_METRICS[Task.EFFICIENCY].definitions, 1.0))
    titles = [block.title for block in blocks(table(tmp_path))]
    device = "cpu: Abacus 9000, 2 threads"
    timed = ("One structure", "Batches", "Memory", "Training", "Parity")
    assert titles == ["Accuracy", "Size", "Operations", *(f"{title}, {device}" for title in timed)]
