"""Runs made of nothing but numbers, in memory, for what is drawn and shown of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synthetic_runs import Run

from mlipbench.comparison.collect import RunRecord
from mlipbench.comparison.published import Publication, Reference
from mlipbench.status import Source
from mlipbench.store.records import Manifest, MetricRecord

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "a|b",
    "=1+1",
    r"\input{x}",
    "$%&_#{}~^\\",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x1b[0m",
    "'\" onmouseover=alert(3) x='",
)


def number(metric: str, value: float | None, **fields: Any) -> MetricRecord:
    """Return a number on the split ``test`` of ``toys``; the interval is a tenth of the value to either side."""
    known = {
        "dataset": "toys", "split": "test", "task": "s2ef", "unit": "eV", "direction": "lower", "status": "ok",
        "relation": "zero-shot", "n": 40, "n_clusters": 40, "comparability_key": f"k-{metric}",
    }  # fmt: skip
    if value is not None:
        known |= {"ci_low": round(0.9 * value, 12), "ci_high": round(1.1 * value, 12)}
    return MetricRecord.model_validate(known | {"metric": metric, "value": value} | fields)


def run(model: str, *numbers: MetricRecord, directory: Path | None = None, **manifest: Any) -> RunRecord:
    """Return a run, with scores if these lie in a directory; without them it is not ranked."""
    run_id = f"20260102T030405Z-{model}"
    splits = [
        {"task": one.task, "dataset": one.dataset, "split": one.split, "role": "evaluate", "status": "ok",
         "n_expected": 40, "n_predicted": 40}
        for one in numbers[:1]
    ]  # fmt: skip
    content = Run(model)._manifest(run_id) | {"splits": splits} | manifest
    return RunRecord(
        model=model,
        variant="default",
        seed=0,
        source=Source.MEASURED,
        metrics=numbers,
        run_id=run_id,
        directory=directory,
        manifest=Manifest.model_validate(content),
    )


def published(name: str, printed: str, metric: str = "energy_mae") -> RunRecord:
    """Return a model of a publication with one number on the split ``test`` of ``toys``, printed in meV."""
    content = {
        "publication": "Doe 2024",
        "citation": "J. Doe, Toys",
        "url": "https://example.org/toys",
        "tables": [
            {
                "name": "toys",
                "place": "table 2",
                "protocol": {"dataset": "toys", "description": "as it was done"},
                "training": "trained-on-split",
                "columns": [{"task": "s2ef", "split": "test", "metric": metric, "unit": "meV"}],
                "rows": [{"name": name, "values": printed}],
            }
        ],
    }
    publication = Publication.model_validate(content)
    (table,) = publication.tables
    reference = Reference(publication, table, table.rows[0])
    return RunRecord(name, "", None, Source.PUBLISHED, reference.metrics, reference=reference)


def large(models: int, splits: int) -> list[RunRecord]:
    """Return many runs with ten numbers on each of some splits, and a hundred packages."""
    metrics = (
        "energy_mae", "energy_rmse", "energy_mse", "energy_per_atom_mae", "energy_per_atom_mse", "forces_mae",
        "forces_rmse", "forces_mse", "forces_cosine_similarity", "energy_forces_within_threshold",
    )  # fmt: skip
    packages = {f"package-{place}": f"1.{place}.0" for place in range(100)}
    return [
        run(
            f"model-{place:02}",
            *(
                number(
                    metric,
                    0.0123456789 * (place + 1) * (column + 1),
                    split=f"split-{split}",
                    reason="an interval over replicas is not given where fewer than eight are independent",
                    conversion="per-element shift fitted on fit",
                )
                for split in range(splits)
                for column, metric in enumerate(metrics)
            ),
            environment={"name": "e", "parameters": 1000 * (place + 1), "packages": packages},
        )
        for place in range(models)
    ]
