"""One check of the loaded adapter, beside the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.conformance.catalogue import CHECKS, run_check
from mlipbench.conformance.exchange import Examination
from mlipbench.conformance.subject import Subject
from mlipbench.protocol import Message, MessageKind, ProtocolError, batch_from_arrays

if TYPE_CHECKING:
    from mlipbench.worker.session import Session


def examine(session: Session, message: Message) -> Message:
    """Answer an ``examine`` request: make one check, and say now and then that the worker is alive.

    Raises:
        ProtocolError: The request does not name a check, or what it is made with.
    """
    header = message.header
    try:
        name = header["check"]
        found = Examination.unpack(header, batch_from_arrays(message.arrays))
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"a request to examine is incomplete: {error}") from error
    if name not in CHECKS:
        raise ProtocolError(f"there is no check {name!r}")
    subject = Subject(
        adapter=session.adapter,
        capabilities=found.capabilities,
        samples=found.samples,
        dtype="float32" if session.request is None else session.request.dtype,
        references=found.references,
        threads=header["threads"],
        alive=lambda: session.send(Message(MessageKind.ALIVE)),
    )
    return Message(MessageKind.EXAMINED, run_check(name, subject).header())
