"""Frames over two non-blocking pipes: one thread that reads while it writes, so that no two sides can dead-lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from collections import deque
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.protocol import PREFIX_SIZE, Message, decode, encode, frame_length

if TYPE_CHECKING:
    from mlipbench.execution.process import Pipes

_PIPE_SIZE: Final = 2**20
_MAX_BUFFERS: Final = 512  # one system call takes at most 1024


class Channel:
    """The parent's ends of the pipes to one worker."""

    def __init__(self, pipes: Pipes) -> None:
        """Take over the two descriptors."""
        self._requests = pipes.requests
        self._replies = pipes.replies
        self._outgoing: deque[memoryview] = deque()
        self._prefix = memoryview(bytearray(PREFIX_SIZE))
        self._target = self._prefix
        self._filled = 0
        self._open = True
        for fd in (pipes.requests, pipes.replies):
            os.set_blocking(fd, False)
            _enlarge(fd)
        self._readable = select.poll()
        self._readable.register(self._replies, select.POLLIN)
        self._both = select.poll()
        self._both.register(self._replies, select.POLLIN)
        self._both.register(self._requests, select.POLLOUT)

    def send(self, message: Message) -> None:
        """Queue `message` and write what the pipe takes at once."""
        self._outgoing.extend(memoryview(buffer) for buffer in encode(message))
        self.flush()

    def flush(self) -> None:
        """Write what the pipe takes; what a dead worker can no longer read is dropped."""
        while self._outgoing:
            buffers = [self._outgoing[i] for i in range(min(len(self._outgoing), _MAX_BUFFERS))]
            try:
                written = os.writev(self._requests, buffers)
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._outgoing.clear()
                return
            while self._outgoing and written >= len(self._outgoing[0]):
                written -= len(self._outgoing.popleft())
            if written:
                self._outgoing[0] = self._outgoing[0][written:]

    def receive(self) -> Message | None:
        """Return the next message, or None if it is not complete yet.

        Raises:
            EOFError: The worker closed its end.
            ProtocolError: What came is not a frame.
        """
        while True:
            try:
                count = os.readv(self._replies, [self._target[self._filled :]])
            except BlockingIOError:
                return None
            if not count:
                raise EOFError
            self._filled += count
            if self._filled < len(self._target):
                continue
            if self._target is not self._prefix:
                frame, self._target, self._filled = self._target, self._prefix, 0
                return decode(frame)
            self._target = np.empty(frame_length(self._prefix), dtype=np.uint8).data
            self._target[:PREFIX_SIZE] = self._prefix
            if len(self._target) == PREFIX_SIZE:
                return decode(self._target)

    def wait(self, seconds: float) -> None:
        """Sleep until something can be read or, with something to write, written; at most `seconds`."""
        (self._both if self._outgoing else self._readable).poll(max(0.0, seconds) * 1000)

    def close_requests(self) -> None:
        """Close the writing end: the worker reads the end of its requests."""
        if self._requests >= 0:
            os.close(self._requests)
            self._requests = -1
            self._outgoing.clear()

    def close(self) -> None:
        """Close both ends."""
        self.close_requests()
        if self._replies >= 0:
            os.close(self._replies)
            self._replies = -1


def _enlarge(fd: int) -> None:
    """Let a pipe hold a whole batch, where the system allows it."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
