"""Structure to energy and forces: predictions of a batch, checked before they leave the worker."""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.conformance.contract import check_predictions
from mlipbench.models.interface import Predictions, Property
from mlipbench.protocol import Message, MessageKind, ProtocolError, batch_from_arrays
from mlipbench.worker.device import RSS_UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.structures import StructureBatch
    from mlipbench.structures.neighbors import NeighborList
    from mlipbench.typing import AnyArray, BoolArray, IntArray
    from mlipbench.worker.session import Session


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds spent in the two halves of a prediction."""

    prepare: float
    forward: float


def predict(session: Session, message: Message) -> Message:
    """Answer a ``predict`` request.

    Raises:
        WorkerError: The adapter returned something other than the predictions asked for.
    """
    batch, properties = batch_from_arrays(message.arrays), asked_properties(message)
    cold = session.warm_up.is_cold(batch)
    predictions, timing = run(session, batch, properties)
    arrays = prediction_arrays(predictions, properties)
    ok, reasons = drop_non_finite(batch, arrays)
    declined = predictions.not_applicable
    ok[list(declined)] = False
    reasons = {index: reason for index, reason in reasons.items() if index not in declined}
    header = reply_header(timing, reasons, declined, cold=cold)
    return Message(MessageKind.PREDICTED, header, {**arrays, "ok": ok})


def reply_header(
    timing: Timing, reasons: Mapping[int, str], declined: Mapping[int, str], *, cold: bool
) -> dict[str, Any]:
    """Return the header of the reply to a request that carries out a task.

    Args:
        timing: Where the time went.
        reasons: Why structures failed, by their place in the batch.
        declined: Why the model does not cover structures, likewise.
        cold: Whether the (first) call was the first at its size.
    """
    return {
        "prepare_seconds": timing.prepare,
        "forward_seconds": timing.forward,
        "cold": cold,
        "maxrss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT,
        "reasons": {str(index): reason for index, reason in reasons.items()},
        "not_applicable": {str(index): reason for index, reason in declined.items()},
    }


def run(
    session: Session, batch: StructureBatch, properties: frozenset[Property], neighbors: NeighborList | None = None
) -> tuple[Predictions, Timing]:
    """Predict `batch` with the loaded adapter, timed around synchronised work, and check the outcome.

    Args:
        session: Holds the model.
        batch: The structures.
        properties: What is asked for.
        neighbors: Their pairs, where they are known and the model takes a list; None lets the adapter find them.

    Raises:
        WorkerError: The predictions do not have the shapes and types they must have.
    """
    adapter, device = session.adapter, session.device
    start = device.mark()
    prepared = adapter.prepare(batch, neighbors)
    middle = device.mark()
    predictions = adapter.forward(prepared, properties)
    del prepared  # giving back its memory takes time, which is the model's
    end = device.mark()
    check_predictions(batch, predictions, properties)
    return predictions, Timing(device.seconds(start, middle), device.seconds(middle, end))


def prediction_arrays(predictions: Predictions, properties: frozenset[Property]) -> dict[str, AnyArray]:
    """Return the arrays of `predictions` that were asked for; the energy always."""
    arrays: dict[str, AnyArray] = {"energy": predictions.energy}
    if Property.FORCES in properties and predictions.forces is not None:
        arrays["forces"] = predictions.forces
    if Property.STRESS in properties and predictions.stress is not None:
        arrays["stress"] = predictions.stress
    return arrays


def drop_non_finite(batch: StructureBatch, arrays: dict[str, AnyArray]) -> tuple[BoolArray, dict[int, str]]:
    """Find the structures with NaN or infinity in a prediction and set all they have to NaN.

    Args:
        batch: The structures.
        arrays: Their predictions by property; replaced where anything has to be set.

    Returns:
        ok: Shape (n_structures,), where everything is finite.
        reasons: By structure that is not ok, such as ``non-finite forces``.
    """
    ok = np.ones(batch.n_structures, dtype=np.bool_)
    reasons: dict[int, str] = {}
    with np.errstate(all="ignore"):  # a sum is finite if its terms are, short of overflow; cheaper than a mask
        suspects = [name for name in Property if name in arrays and not math.isfinite(arrays[name].sum())]
    for name in suspects:
        for index in _bad_structures(batch, name, arrays[name]):
            ok[index] = False
            reasons.setdefault(int(index), f"non-finite {name}")
    if reasons:
        for column, value in arrays.items():
            rows = ~ok[batch.structure_index] if column == Property.FORCES else ~ok
            arrays[column] = np.where(rows.reshape(-1, *[1] * (value.ndim - 1)), np.nan, value)
    return ok, reasons


def _bad_structures(batch: StructureBatch, name: Property, value: AnyArray) -> IntArray:
    rows = np.isfinite(value).reshape(len(value), -1).all(axis=1)
    if name is Property.FORCES:
        return np.unique(batch.structure_index[~rows])
    return np.flatnonzero(~rows)


def asked_properties(message: Message) -> frozenset[Property]:
    """Return what a request asks for.

    Raises:
        ProtocolError: It names no known properties.
    """
    try:
        return frozenset(Property(name) for name in message.header["properties"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("a prediction request names no known properties") from error
