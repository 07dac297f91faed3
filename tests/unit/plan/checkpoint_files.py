"""Checkpoints whose weights are not needed, for tests of what their records decide."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mlipbench.checkpoint import RECORD_FILE, WEIGHTS_FILE, CheckpointRecord
from mlipbench.recipe import TrainingJob

if TYPE_CHECKING:
    from pathlib import Path

JOB: dict[str, Any] = {
    "name": "leignn-mine",
    "net": "leignn",
    "recipe": {
        "recipe": "mine",
        "version": 1,
        "preset": "small",
        "train": {"split": "train"},
        "validation": {"split": "val"},
        "energy_reference": "mean",
        "loss": {"energy": 1.0, "forces": 50.0},
        "learning_rates": [1e-3],
        "schedule": {"kind": "cosine"},
        "batch": 2,
        "steps": 100,
        "evaluate_every": 10,
    },
    "data": {
        "dataset": "toy",
        "title": "Toy",
        "level_of_theory": "PBE/PBE+U",
        "energy_reference": "total",
        "free_atoms_only": False,
        "n_train": 4,
        "n_validation": 2,
        "mean_atoms": 2.0,
        "train_hash": "0" * 64,
        "validation_hash": "1" * 64,
    },
    "train_columns": "nowhere",
    "validation_columns": "nowhere",
    "identity": "0" * 64,
}


def write_checkpoint(
    folder: Path, *, identity: str, job: TrainingJob | None = None, seconds: tuple[float, ...] = (), **changes: Any
) -> CheckpointRecord:
    job = job or TrainingJob.model_validate(JOB)
    rates = job.recipe.learning_rates
    record = CheckpointRecord.model_validate(
        {
            "name": job.name,
            "identity": identity,
            "net": job.net,
            "config": {},
            "parameters": 7,
            "elements": [8, 12],
            "energy_reference": {"kind": "mean", "offset": -1.5},
            "data": job.data,
            "recipe": job.recipe,
            "learning_rate": rates[0],
            "candidates": [
                {
                    "learning_rate": rate,
                    "forces_mae": 0.1,
                    "energy_mae": 0.2,
                    "best_step": 90,
                    "steps": 100,
                    "seconds": took,
                }
                for rate, took in zip(rates, seconds or (1.0,) * len(rates), strict=True)
            ],
            "curve": [],
            "verdict": {
                "n_structures": 2,
                "zero_forces_mae": 0.5,
                "ratio": 0.2,
                "low": None,
                "high": None,
                "trained": False,
            },
            "device": job.device,
            "threads": job.threads,
            "code": "0.0",
            "weights_sha256": hashlib.sha256(b"weights").hexdigest(),
            **changes,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(b"weights")
    (folder / RECORD_FILE).write_text(record.model_dump_json())
    return record
