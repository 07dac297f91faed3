"""Run directories made of nothing but numbers, as `report` reads them."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlipbench.metrics.catalogue import TASK_METRICS
from mlipbench.metrics.definition import evaluate
from mlipbench.metrics.relaxation import RelaxationErrors
from mlipbench.metrics.values import StructureErrors
from mlipbench.status import Task

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.typing import FloatArray

N = 40
PUBLISHED = """\
publication: doe
citation: Doe, Of nets, 2024
url: https://example.org/nets
tables:
  - name: main
    place: Table 2
    training: zero-shot
    protocol: {dataset: toys, description: Toys as they are.}
    columns: [{task: s2ef, split: test, metric: forces_mae, unit: meV/Å}]
    rows: [{name: PaperNet, model: paper-net, values: "42.50"}]
"""
"""A file of published rows of one number."""


@dataclass
class Run:
    """One synthetic run: every structure has one atom, its own cluster, and errors of a given size (eV/Å, or Å).

    `sizes` gives each structure its own error; the last `failed` structures have no prediction.
    """

    model: str
    error: float = 0.05
    noise: float = 0.01
    seed: int = 0
    draw: int = 1
    key: str = "k"
    plan: str = "plan"
    started: str = "2026-01-02T03:04:05Z"
    split: str = "test"
    dataset: str = "toys"
    task: Task = Task.S2EF
    metrics: tuple[str, ...] = ("forces_mae",)
    record: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    scores: bool = True
    sizes: FloatArray | None = None
    failed: int = 0

    def write(self, results: Path) -> Path:
        """Write the run and return its directory."""
        run_id = f"{self.started.replace(':', '')}-{self.plan}-{zlib.crc32(self.model.encode()):08x}-{self.seed}"
        directory = results / "runs" / "synthetic" / self.model.replace("/", "_") / run_id
        directory.mkdir(parents=True)
        errors = self._errors()
        if self.scores:
            path = directory / "scores" / self.task / self.dataset / f"{self.split}.parquet"
            _write_scores(path, errors, self._n - self.failed)
        records = [self._record(metric, errors) for metric in self.metrics]
        _dump(directory / "metrics.json", {"schema_version": 1, "metrics": records})
        _dump(directory / "manifest.json", self._manifest(run_id) | self.manifest)
        return directory

    def _errors(self) -> StructureErrors | RelaxationErrors:
        rng = np.random.default_rng(self.draw)
        drawn = np.abs(self.error + self.noise * rng.standard_normal(N))
        size = 3.0 * (drawn if self.sizes is None else self.sizes)
        size[len(size) - self.failed :] = np.nan
        ones = np.ones(len(size), dtype=np.int64)
        nothing = np.full(len(size), np.nan)
        if self.task is Task.RELAXATION:
            return RelaxationErrors(ones, ones, size, size, size, 100 * size, 1.0 * ones, size)
        return StructureErrors(
            n_atoms=ones,
            n_free=ones,
            energy_error=size,
            force_abs_sum=size,
            force_sq_sum=size**2,
            force_max=size,
            force_cosine_sum=np.clip(1.0 - size, -1.0, 1.0),
            force_magnitude_sum=size,
            stress_abs_sum=nothing,
            stress_n=0 * ones,
        )

    @property
    def _n(self) -> int:
        return N if self.sizes is None else len(self.sizes)

    def _record(self, metric: str, errors: StructureErrors | RelaxationErrors) -> dict[str, Any]:
        value = evaluate(TASK_METRICS[self.task].definitions[metric], errors, np.arange(len(errors.n_atoms)))
        own = {
            "dataset": self.dataset,
            "split": self.split,
            "task": self.task,
            "metric": metric,
            "status": "ok",
            "comparability_key": f"{self.key}-{metric}",
            "n_failed": self.failed,
        }
        fields = {key: part for key, part in value.to_dict().items() if key != "name"}
        return fields | own | self.record

    def _manifest(self, run_id: str) -> dict[str, Any]:
        return {
            "run_id": run_id,
            "plan_sha256": self.plan,
            "status": "ok",
            "suite": {"name": "synthetic", "version": 3, "sha256": "0" * 64},
            "model": {"name": self.model, "card": self.card, "card_sha256": "0" * 64},
            "variant": {"name": "float64", "precision": "float64", "device": "cpu", "batch": {"structures": 4}},
            "seed": self.seed,
            "threads": 2,
            "code_version": "0.1.0+abc",
            "started": self.started,
            "finished": self.started,
            "datasets": [
                {
                    "name": self.dataset,
                    "title": "Toy structures",
                    "level_of_theory": "PBE",
                    "energy_reference": "total",
                    "splits": {self.split: "0" * 64},
                    "entry": {},
                    "note": "Made for tests.",
                }
            ],
            "splits": [
                {
                    "task": self.task,
                    "dataset": self.dataset,
                    "split": self.split,
                    "role": "evaluate",
                    "status": "ok",
                    "n_expected": self._n,
                    "n_predicted": self._n - self.failed,
                    "n_failed": self.failed,
                    "selection": "first 40",
                }
            ],
            "hardware": {"parent": {"processor": "Abacus 9000", "cores": 2}},
        }


def _write_scores(path: Path, errors: StructureErrors | RelaxationErrors, predicted: int) -> None:
    path.parent.mkdir(parents=True)
    n = len(errors.n_atoms)
    columns: dict[str, Any] = {
        "index": np.arange(n),
        "id": [f"s{i}" for i in range(n)],
        "cluster": np.arange(n),
        "ok": np.arange(n) < predicted,
        "energy_applicable": np.ones(n, dtype=bool),
    }
    for name in errors.__dataclass_fields__:
        column = getattr(errors, name)
        columns[name] = pa.nulls(n, pa.float64()) if column is None else pa.array(column, from_pandas=True)
    pq.write_table(pa.table(columns), path)


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
