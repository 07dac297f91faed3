"""An append-only file of checksummed frames that survives a kill at any byte.

A frame is the magic ``MLED``, the CRC-32 of the payload, its length, and the payload: one encoded message. On opening,
frames are read up to the first that is torn or damaged; what follows is dropped.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import zlib
from typing import TYPE_CHECKING, Final, Self

from mlipbench.errors import from_os_error
from mlipbench.protocol import Message, ProtocolError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

_HEAD: Final = struct.Struct("<4sIQ")
_MAGIC: Final = b"MLED"
SYNC_SECONDS: Final = 1.0
_CLOSED: Final = -1


class Ledger:
    """The ledger of one shard.

    Every message is handed to the operating system at once, so that it survives the death of this process, and synced
    to disk at most once a second.

    Args:
        path: File of the ledger; created where it is missing.

    Raises:
        MlipbenchError: The file cannot be written, for instance because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        """Open the ledger and drop a torn tail."""
        self.path = path
        self._file = _CLOSED
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._end = self._valid_end()
            os.ftruncate(self._file, self._end)
        except OSError as error:
            self._release()
            raise from_os_error(error, path) from error
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        """Return the ledger."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Sync and close."""
        self.close()

    def append(self, message: Message) -> None:
        """Add a message.

        A write that fails leaves no partial frame behind.

        Raises:
            MlipbenchError: The disk is full or the file cannot be written.
        """
        parts = encode(message)
        checksum, length = 0, 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
            length += memoryview(part).nbytes
        buffers = [_HEAD.pack(_MAGIC, checksum, length), *parts]
        try:
            self._write(buffers, _HEAD.size + length)
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                self.sync()
        except OSError as error:
            with contextlib.suppress(OSError):  # a tail that stays is dropped on opening
                os.ftruncate(self._file, self._end)
            raise from_os_error(error, self.path) from error

    def messages(self) -> Iterator[tuple[int, Message]]:
        """Iterate over (position, message) from the first to the last."""
        position = 0
        while position < self._end:
            payload = self._frame(position)
            if payload is None:
                return
            yield position, decode(payload)
            position += _HEAD.size + len(payload)

    def read(self, position: int) -> Message:
        """Return the message at a position that `messages` named.

        Raises:
            ProtocolError: The file changed underneath.
        """
        payload = self._frame(position)
        if payload is None:
            raise ProtocolError(f"{self.path}: no intact frame at byte {position}")
        return decode(payload)

    @property
    def end(self) -> int:
        """Position at which the next message will stand."""
        return self._end

    def sync(self) -> None:
        """Flush to disk.

        Raises:
            OSError: The operating system refuses.
        """
        os.fsync(self._file)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close the file; a second call does nothing.

        Raises:
            MlipbenchError: The last write cannot reach the disk.
        """
        if self._file == _CLOSED:
            return
        try:
            self.sync()
        except OSError as error:
            raise from_os_error(error, self.path) from error
        finally:
            self._release()

    def _release(self) -> None:
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def _write(self, buffers: list[bytes | memoryview], total: int) -> None:
        written = os.pwritev(self._file, buffers, self._end)
        if written < total:
            rest = memoryview(b"".join(buffers))[written:]
            while rest:
                step = os.pwrite(self._file, rest, self._end + total - len(rest))
                rest = rest[step:]
        self._end += total

    def _frame(self, position: int) -> bytes | None:
        """Return the payload at `position`, or None where there is no intact frame."""
        head = os.pread(self._file, _HEAD.size, position)
        if len(head) < _HEAD.size:
            return None
        magic, checksum, length = _HEAD.unpack(head)
        size = os.fstat(self._file).st_size
        if magic != _MAGIC or position + _HEAD.size + length > size:
            return None
        payload = _read_exactly(self._file, length, position + _HEAD.size)
        return payload if zlib.crc32(payload) == checksum else None

    def _valid_end(self) -> int:
        position = 0
        while (payload := self._frame(position)) is not None:
            position += _HEAD.size + len(payload)
        return position


def _read_exactly(file: int, length: int, position: int) -> bytes:
    """Read `length` bytes; one call of the system returns at most 2 GiB."""
    parts = []
    while length and (part := os.pread(file, length, position)):
        parts.append(part)
        position += len(part)
        length -= len(part)
    return b"".join(parts)
