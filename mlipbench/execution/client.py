"""The harness's end of one worker process."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from mlipbench.errors import WorkerError
from mlipbench.execution.channel import Channel
from mlipbench.execution.failures import (
    HandshakeRefused,
    WorkerDied,
    WorkerLostError,
    WorkerProtocol,
    WorkerTimeout,
    as_error,
)
from mlipbench.execution.process import WorkerSpec, end_process, launch, link_package, log_tail
from mlipbench.execution.requests import Hello, Loaded, LoadModel, load_message
from mlipbench.execution.watch import TICK, Deadline, MemoryWatch
from mlipbench.protocol import PROTOCOL_VERSION, Message, MessageKind, ProtocolError
from mlipbench.version import code_version

if TYPE_CHECKING:
    import subprocess
    from types import TracebackType

__all__ = ["WorkerClient", "WorkerSpec", "loaded_client"]

_PATIENCE = (2.0, 2.0)  # seconds before SIGTERM, and then before SIGKILL
_NO_PATIENCE = (0.0, 2.0)


class WorkerClient:
    """Starts one worker, talks to it, watches it and ends it.

    Requests are answered in the order they were sent; several may be in flight. After a `WorkerLostError` the
    process is gone and the client can only be closed.

    Attributes:
        last_sign: The last sign of life since a request was sent, which may hold more than that; None before the first.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        """Keep `spec`; nothing is started."""
        self.spec = spec
        self.in_flight = 0
        self._cleanup = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._memory: MemoryWatch | None = None
        self._deadline = Deadline()
        self.last_sign: Message | None = None

    def __enter__(self) -> Self:
        """Start the worker, if it does not run yet."""
        if self._process is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the worker."""
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None when there is none."""
        return None if self._process is None else self._process.pid

    def resident(self) -> int:
        """Return the bytes that the worker holds; 0 when there is none."""
        return 0 if self._memory is None else self._memory.resident()

    def limit_memory(self, limit: int) -> None:
        """Hold the worker to another limit than the spec's, where that one is not lower, in bytes."""
        if self._memory is not None:
            self._memory.limit = min(limit, self.spec.memory_limit or limit)

    def start(self) -> Hello:
        """Start the worker and return its greeting.

        Raises:
            PrerequisiteError: The interpreter cannot be started.
            HandshakeRefused: The worker runs another version of the protocol or of the code.
            WorkerLostError: It died or did not greet in time.
        """
        if self._process is not None:
            raise WorkerError("this worker is running already")
        directory = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mlipbench-"))
        try:
            self._process, pipes = launch(self.spec, link_package(Path(directory), self.spec.package))
            self._channel = Channel(pipes)
            self._memory = MemoryWatch(self._process.pid, self.spec.memory_limit)
            self._deadline.restart()
            self.in_flight = 1
            return _check_hello(self.receive(self.spec.start_timeout), self.spec.package)
        except BaseException:
            self.close()
            raise

    def load(self, model: LoadModel, timeout: float | None = None) -> Loaded:
        """Load a model into the worker.

        Args:
            model: The model.
            timeout: Seconds; None takes the spec's for loading, which may mean importing a large package.

        Raises:
            MlipbenchError: The adapter refused, with what it said.
            WorkerLostError: The worker died or did not answer in time.
        """
        reply = self.request(load_message(model), self.spec.load_timeout if timeout is None else timeout)
        if reply.kind == MessageKind.FAILED:
            raise as_error(reply)
        return Loaded(**{name: reply.header[name] for name in Loaded.__dataclass_fields__})

    def request(self, message: Message, timeout: float | None = None) -> Message:
        """Send `message` and return its reply, which may be a ``failed`` one.

        Args:
            message: A request; no other may be in flight.
            timeout: Seconds; None takes the spec's.

        Raises:
            WorkerLostError: The worker died, used too much memory or did not answer in time.
        """
        if self.in_flight:
            raise WorkerError(f"{self.in_flight} requests are in flight")
        self.send(message)
        return self.receive(timeout)

    def send(self, message: Message) -> None:
        """Send `message` without waiting for its reply; a dead worker shows in `receive`.

        The arrays of `message` must not change until its reply came.
        """
        if self.in_flight == 0:
            self._deadline.restart()
        self.in_flight += 1
        self.last_sign = None
        self._open_channel().send(message)

    def receive(self, timeout: float | None = None) -> Message:
        """Return the reply to the oldest request in flight.

        Args:
            timeout: Seconds since that request was sent, the one before it was answered, or the worker last said that
                it is alive; None takes the spec's.

        Raises:
            WorkerLostError: The worker died, used too much memory or did not answer in time.
        """
        seconds = self.spec.request_timeout if timeout is None else timeout
        if not self.in_flight:
            raise WorkerError("no request is in flight")
        channel = self._open_channel()
        try:
            message = self._await(channel, seconds)
        except EOFError:
            self._lost()
        except ProtocolError as error:
            self._lost(WorkerProtocol(f"worker broke the protocol: {error}"))
        except WorkerLostError as error:
            self._lost(error)
        self.in_flight -= 1
        self._deadline.restart()
        return message

    def close(self) -> None:
        """End the worker: ask, then SIGTERM, then SIGKILL; its whole process group, without a trace left behind."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        idle = self.in_flight == 0
        if channel is not None:
            if idle:
                channel.send(Message(MessageKind.SHUTDOWN))
            channel.close()
        if process is not None:
            end_process(process, _PATIENCE if idle else _NO_PATIENCE)
        self.in_flight = 0
        self._cleanup.close()

    def _open_channel(self) -> Channel:
        if self._channel is None:
            raise WorkerError("this worker is not running")
        return self._channel

    def _await(self, channel: Channel, seconds: float) -> Message:
        """Write and read until a reply is complete, and look after the worker meanwhile."""
        ended = False
        while (message := channel.receive()) is None or message.kind == MessageKind.ALIVE:
            if message is not None:
                self._deadline.restart()
                self.last_sign = message
                continue
            if ended:  # it is gone, and nothing is left to read though a child of it may hold the pipe open
                raise EOFError
            channel.flush()
            ended = self._process is None or self._process.poll() is not None
            if self._memory is not None:
                self._memory.check()
            remaining = self._deadline.remaining(seconds)
            if remaining <= 0:
                raise WorkerTimeout(f"worker did not answer within {seconds:g} s")
            if not ended:
                channel.wait(min(TICK, remaining))
        return message

    def _lost(self, error: WorkerLostError | None = None) -> NoReturn:
        """End the worker and raise `error`, or what its exit status says."""
        process = self._process
        self._process = None
        status = 0
        if process is not None:
            status = end_process(process, (1.0, 2.0) if error is None else (0.0, 0.0))
        self.close()
        detail = log_tail(self.spec.log)
        if error is None:
            raise WorkerDied(status, detail=detail)
        error.detail = detail
        raise error


def _check_hello(message: Message, package: Path) -> Hello:
    header = message.header
    if message.kind != MessageKind.HELLO:
        raise HandshakeRefused(f"worker greeted with {message.kind!r}")
    if header.get("protocol") != PROTOCOL_VERSION:
        raise HandshakeRefused(f"worker speaks protocol {header.get('protocol')}, expected {PROTOCOL_VERSION}")
    if header.get("code") != code_version(package):
        raise HandshakeRefused(
            f"worker runs mlipbench {header.get('code')}, expected {code_version(package)}",
            remedy="the package changed while it ran; give --again to start another run",
        )
    return Hello(**{name: header[name] for name in Hello.__dataclass_fields__})


def loaded_client(spec: WorkerSpec, model: LoadModel, load_timeout: float | None = None) -> WorkerClient:
    """Start a worker and load `model` into it.

    Raises:
        MlipbenchError: It cannot be started, or the adapter refused.
    """
    client = WorkerClient(spec)
    client.start()
    try:
        client.load(model, load_timeout)
    except BaseException:
        client.close()
        raise
    return client
