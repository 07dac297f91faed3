"""Checkpoint folders of models that were never trained."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from mlipbench.checkpoint import RECORD_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_folder(folder: Path, weights: bytes, *, per_element: Mapping[int, float], **changes: Any) -> None:
    """Write weights and their record, which covers the elements of the energy reference."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / changes.get("weights_file", WEIGHTS_FILE)).write_bytes(weights)
    recipe = {
        "recipe": "mine",
        "version": 1,
        "preset": "small",
        "train": {"split": "train"},
        "validation": {"split": "val"},
        "energy_reference": "per_element",
        "loss": {"energy": 1.0, "forces": 50.0},
        "learning_rates": [1e-3],
        "schedule": {"kind": "cosine"},
        "batch": 2,
        "steps": 100,
        "evaluate_every": 10,
    }
    data = {
        "dataset": "toy",
        "title": "Toy",
        "level_of_theory": "PBE",
        "energy_reference": "total",
        "free_atoms_only": False,
        "n_train": 4,
        "n_validation": 2,
        "mean_atoms": 2.0,
        "train_hash": "0" * 64,
        "validation_hash": "1" * 64,
    }
    record = {
        "name": "model-mine",
        "identity": "0" * 64,
        "net": "model",
        "config": {},
        "parameters": 7,
        "elements": sorted(per_element),
        "energy_reference": {"kind": "per_element", "per_element": per_element},
        "data": data,
        "recipe": recipe,
        "learning_rate": 1e-3,
        "candidates": [
            {
                "learning_rate": 1e-3,
                "forces_mae": 0.1,
                "energy_mae": 0.1,
                "best_step": 10,
                "steps": 100,
                "seconds": 1.0,
            }
        ],
        "curve": [],
        "verdict": {
            "n_structures": 2,
            "zero_forces_mae": 1.0,
            "ratio": 0.1,
            "low": None,
            "high": None,
            "trained": False,
        },
        "device": "cpu",
        "code": "0",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    (folder / RECORD_FILE).write_text(json.dumps(record | changes))
