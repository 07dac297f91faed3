"""The loop of a worker: a thread reads requests, the main thread answers them one after the other."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.errors import MlipbenchError
from mlipbench.protocol import (
    PREFIX_SIZE,
    PROTOCOL_VERSION,
    Message,
    MessageKind,
    ProtocolError,
    decode,
    frame_length,
)
from mlipbench.version import code_version
from mlipbench.worker.facts import host_facts, package_versions
from mlipbench.worker.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Handler = Callable[[Session, Message], Message]

# Who answers which request, as module:function; a module is imported when the first such request comes.
HANDLERS: Final = MappingProxyType(
    {
        MessageKind.LOAD: "mlipbench.worker.loading:load",
        MessageKind.FIT: "mlipbench.worker.loading:fit",
        MessageKind.VERIFY: "mlipbench.worker.consistency:verify",
        MessageKind.PREDICT: "mlipbench.worker.s2ef:predict",
        MessageKind.RELAX: "mlipbench.worker.relaxation:relax",
        MessageKind.ADVANCE: "mlipbench.worker.md:advance",
        MessageKind.PROBE: "mlipbench.worker.physics:probe",
        MessageKind.MEASURE: "mlipbench.worker.efficiency:measure",
        MessageKind.COUNT: "mlipbench.worker.flops:count",
        MessageKind.EXAMINE: "mlipbench.worker.conformance:examine",
    }
)
_PARENT_GONE: Final = 0
_BAD_FRAME: Final = 76
_PR_SET_PDEATHSIG: Final = 1
_MAX_LINE: Final = 500
_MAX_TRACEBACK: Final = 20_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer requests until the harness sends ``shutdown`` or closes its end of the pipe."""
    options = _parse(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the harness decides
    for fd in (options.requests, options.replies):
        os.set_inheritable(fd, False)  # noqa: FBT003 - positional by definition
    if options.die_with_parent:
        die_with_parent(options.die_with_parent)
    session = Session(reply_fd=options.replies)
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_pump, args=(options.requests, inbox), name="requests", daemon=True).start()
    session.send(_hello())
    while (message := inbox.get()).kind != MessageKind.SHUTDOWN:
        session.send(answer(session, message))


def answer(session: Session, message: Message) -> Message:
    """Return the reply to `message`; whatever the adapter raises becomes a ``failed`` reply.

    The reply carries the request's ``id``, if it has one.
    """
    try:
        reply = _find_handler(message.kind)(session, message)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - the boundary to foreign code
        reply = _failure(error)
    if reply.header.get("memory"):
        _release_memory()
    if "id" in message.header:
        return Message(reply.kind, {**reply.header, "id": message.header["id"]}, reply.arrays)
    return reply


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mlipbench.worker", description=__doc__)
    parser.add_argument("--in", dest="requests", type=int, required=True, metavar="FD")
    parser.add_argument("--out", dest="replies", type=int, required=True, metavar="FD")
    parser.add_argument("--die-with-parent", type=int, default=0, metavar="PID")
    return parser.parse_args(arguments)


def _hello() -> Message:
    header = {
        "protocol": PROTOCOL_VERSION,
        "code": code_version(),
        "python": sys.version.split()[0],
        "pid": os.getpid(),
        "packages": package_versions(),
        "device": host_facts(),
    }
    return Message(MessageKind.HELLO, header)


def _find_handler(kind: str) -> Handler:
    reference = HANDLERS.get(MessageKind(kind)) if kind in set(MessageKind) else None
    if reference is None:
        raise ProtocolError(f"a worker does not answer {kind!r}")
    module_name, _, name = reference.partition(":")
    handler: Handler = getattr(importlib.import_module(module_name), name)
    return handler


def _failure(error: BaseException) -> Message:
    if isinstance(error, MlipbenchError):
        line = str(error)
    else:
        first = (str(error).strip().splitlines() or [""])[0]
        line = f"{type(error).__name__}: {first}" if first else type(error).__name__
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="backslashreplace"))
    header = {
        "error": " ".join(line.split())[:_MAX_LINE],
        "type": type(error).__name__,
        "traceback": text[-_MAX_TRACEBACK:],
        "memory": _is_out_of_memory(error),
    }
    return Message(MessageKind.FAILED, header)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def _release_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _pump(fd: int, inbox: queue.SimpleQueue[Message]) -> None:
    """Move requests from the pipe into `inbox`; end the process when the harness is gone."""
    try:
        while (frame := _read_frame(fd)) is not None:
            message = decode(frame)
            inbox.put(message)
            if message.kind == MessageKind.SHUTDOWN:
                return
    except ProtocolError as error:
        os.write(2, f"mlipbench worker: {error}\n".encode())
        os._exit(_BAD_FRAME)
    os._exit(_PARENT_GONE)


def _read_frame(fd: int) -> memoryview | None:
    prefix = memoryview(bytearray(PREFIX_SIZE))
    if not _read_into(fd, prefix):
        return None
    frame = np.empty(frame_length(prefix), dtype=np.uint8).data
    frame[:PREFIX_SIZE] = prefix
    return frame if _read_into(fd, frame[PREFIX_SIZE:]) else None


def _read_into(fd: int, view: memoryview) -> bool:
    while len(view):
        count = os.readv(fd, [view])
        if not count:
            return False
        view = view[count:]
    return True


def die_with_parent(parent: int) -> None:
    """Ask Linux for SIGKILL when the harness dies: the pipe alone does not end code that never lets go of the GIL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(_PARENT_GONE)
