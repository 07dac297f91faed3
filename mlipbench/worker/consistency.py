"""Does a structure get the same prediction alone and in a batch?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.conformance.compare import SUMMATION, part, widest_gap
from mlipbench.protocol import Message, MessageKind, batch_from_arrays
from mlipbench.worker.s2ef import asked_properties, run

if TYPE_CHECKING:
    from mlipbench.worker.session import Session


def verify(session: Session, message: Message) -> Message:
    """Predict the batch of `message`, then each of its structures alone, and say where they differ.

    The reply is ``verified`` with ``reason`` None where they agree. Two to four unlike structures suffice.
    """
    batch, properties = batch_from_arrays(message.arrays), asked_properties(message)
    dtype = session.request.dtype if session.request is not None else "float32"
    tolerances = SUMMATION.get(dtype, SUMMATION["float32"])
    together, _ = run(session, batch, properties)
    for index in range(batch.n_structures):
        alone, _ = run(session, batch.slice(index, index + 1), properties)
        gap = widest_gap(part(batch, together, index), alone, int(batch.counts[index]), tolerances)
        if gap is not None and not gap.measured.within:
            reason = f"structure {index} alone and in a batch of {batch.n_structures} differ ({gap.describe()})"
            return Message(MessageKind.VERIFIED, {"reason": f"{reason}: wrong order or dependence on batch mates"})
    return Message(MessageKind.VERIFIED, {"reason": None})
