"""The form that predictions must have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlipbench.errors import WorkerError
from mlipbench.models.interface import Predictions, Property

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch


def check_predictions(batch: StructureBatch, predictions: Predictions, properties: frozenset[Property]) -> None:
    """Check that `predictions` hold `properties` of every structure of `batch` as float64 arrays.

    Raises:
        WorkerError: A property is missing, or has the wrong shape or type.
    """
    if not isinstance(predictions, Predictions):
        raise WorkerError(f"the adapter returned {type(predictions).__name__}, expected Predictions")
    shapes = {
        Property.ENERGY: (batch.n_structures,),
        Property.FORCES: (batch.n_atoms, 3),
        Property.STRESS: (batch.n_structures, 6),
    }
    for name, expected in shapes.items():
        if name not in properties and name is not Property.ENERGY:
            continue
        value = getattr(predictions, name)
        have, are = ("have", "are") if name is Property.FORCES else ("has", "is")
        if value is None:
            raise WorkerError(f"{name} {are} missing")
        if not isinstance(value, np.ndarray):
            raise WorkerError(f"{name} {are} a {type(value).__name__}, expected a numpy array")
        if value.shape != expected:
            raise WorkerError(f"{name} {have} shape {value.shape}, expected {expected}")
        if value.dtype != np.float64:
            raise WorkerError(f"{name} {have} dtype {value.dtype}, expected float64")
