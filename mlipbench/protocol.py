"""Messages between the harness and a worker, and the frames they travel in.

A frame is, in little-endian byte order::

    magic (4 bytes) | length of the header (uint32) | length of the whole frame (uint64)
    header: UTF-8 JSON {"kind": ..., "header": {...}, "arrays": [[name, dtype, shape], ...]}, padded with blanks
    the arrays, raw and in C order, each padded with zeros to a multiple of 8 bytes

Nothing is ever pickled. Data types form a closed set and every length is checked before it is used, so that
damaged bytes raise `ProtocolError` and nothing else.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, cast

import numpy as np

from mlipbench.errors import MlipbenchError
from mlipbench.structures import StructureBatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.typing import AnyArray

    Buffer: TypeAlias = bytes | bytearray | memoryview

PROTOCOL_VERSION: Final = 1
MAX_HEADER: Final = 64 * 2**20
MAX_FRAME: Final = 16 * 2**30
MAX_ARRAYS: Final = 1024
MAX_DIMENSIONS: Final = 8

_MAGIC: Final = b"MLB1"
_PREFIX: Final = struct.Struct("<4sIQ")
PREFIX_SIZE: Final = _PREFIX.size
_ALIGNMENT: Final = 8
_DTYPES: Final = frozenset({"<f8", "<f4", "<i8", "<i4", "|u1", "|b1"})
_TEXT_DTYPE: Final = re.compile(r"<U[1-9][0-9]{0,5}", re.ASCII)
_LAST_CODE_POINT: Final = 0x10FFFF
_COLUMNS: Final = ("numbers", "positions", "cell", "pbc", "offsets", "tags", "fixed", "charge", "spin")
_REQUIRED_COLUMNS: Final = frozenset({"numbers", "positions", "cell", "pbc", "offsets"})


class ProtocolError(MlipbenchError):
    """Bytes are not a frame, or a message cannot be put into one."""


class MessageKind(StrEnum):
    """What a message asks for or answers."""

    LOAD = "load"
    FIT = "fit"
    VERIFY = "verify"
    PREDICT = "predict"
    RELAX = "relax"
    ADVANCE = "advance"
    PROBE = "probe"
    MEASURE = "measure"
    COUNT = "count"
    EXAMINE = "examine"
    SHUTDOWN = "shutdown"

    HELLO = "hello"
    LOADED = "loaded"
    FITTED = "fitted"
    VERIFIED = "verified"
    PREDICTED = "predicted"
    ADVANCED = "advanced"
    MEASURED = "measured"
    COUNTED = "counted"
    EXAMINED = "examined"
    ALIVE = "alive"  # before the reply to a request that takes many calls of the model
    FAILED = "failed"


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One request or reply.

    Attributes:
        kind: A `MessageKind`, or a name of another user of the frames.
        header: JSON data.
        arrays: Arrays by name.
    """

    kind: str
    header: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, AnyArray] = field(default_factory=dict)


def encode(message: Message) -> list[bytes | memoryview]:
    """Return the buffers which, one after the other, are the frame of `message`.

    Contiguous little-endian arrays are not copied: their buffers are views, valid while nobody changes the arrays.

    Raises:
        ProtocolError: The header is not JSON data, an array has a type outside the closed set, or a limit is passed.
    """
    described: list[tuple[str, str, tuple[int, ...]]] = []
    buffers: list[bytes | memoryview] = []
    payload = 0
    for name, given in message.arrays.items():
        array = _portable(name, given)
        described.append((name, array.dtype.str, array.shape))
        if array.nbytes:
            buffers.append(array.reshape(-1).view(np.uint8).data)
            missing = -array.nbytes % _ALIGNMENT
            if missing:
                buffers.append(bytes(missing))
            payload += array.nbytes + missing
    header = _encode_header({"kind": str(message.kind), "header": message.header, "arrays": described})
    total = PREFIX_SIZE + len(header) + payload
    if len(header) > MAX_HEADER or total > MAX_FRAME or len(described) > MAX_ARRAYS:
        raise ProtocolError(f"message {message.kind} is too large ({total} bytes, {len(described)} arrays)")
    return [_PREFIX.pack(_MAGIC, len(header), total) + header, *buffers]


def frame_length(prefix: Buffer) -> int:
    """Return the length in bytes of the frame that starts with `prefix`.

    Args:
        prefix: At least the first `PREFIX_SIZE` bytes of a frame.

    Raises:
        ProtocolError: These bytes do not start a frame.
    """
    if len(prefix) < PREFIX_SIZE:
        raise ProtocolError(f"frame is truncated: {len(prefix)} bytes")
    magic, header_length, total = _PREFIX.unpack_from(prefix)
    if magic != _MAGIC:
        raise ProtocolError(f"frame starts with {magic!r}, expected {_MAGIC!r}")
    if header_length > MAX_HEADER or total > MAX_FRAME or total < PREFIX_SIZE + header_length:
        raise ProtocolError(f"frame has impossible lengths: header {header_length}, total {total} bytes")
    return int(total)


def decode(buffer: Buffer) -> Message:
    """Return the message whose frame `buffer` is.

    The arrays are views of `buffer`, read-only where it is.

    Raises:
        ProtocolError: `buffer` is not exactly one intact frame.
    """
    view = memoryview(buffer).cast("B")
    total = frame_length(view)
    if total != len(view):
        raise ProtocolError(f"frame has {len(view)} bytes, expected {total}")
    position = PREFIX_SIZE + int(_PREFIX.unpack_from(view)[1])
    content = _decode_header(view[PREFIX_SIZE:position])
    arrays: dict[str, AnyArray] = {}
    for entry in content["arrays"]:
        name, dtype, shape = _describe(entry)
        if name in arrays:
            raise ProtocolError(f"array {name!r} stands twice in a frame")
        size = math.prod(shape) * dtype.itemsize
        if position + size > total:
            raise ProtocolError(f"array {name!r} does not fit into its frame")
        arrays[name] = _read_array(view[position : position + size], dtype, shape)
        position += size + -size % _ALIGNMENT
    if position != total:
        raise ProtocolError(f"frame has {total} bytes, its arrays end at {position}")
    return Message(content["kind"], content["header"], arrays)


def batch_arrays(batch: StructureBatch) -> dict[str, AnyArray]:
    """Return the columns of `batch` by name, without the ids."""
    columns = batch.columns()
    columns.pop("id", None)
    return columns


def batch_from_arrays(arrays: Mapping[str, AnyArray]) -> StructureBatch:
    """Return the batch whose columns stand in `arrays`; other arrays are left alone.

    Raises:
        ProtocolError: A column is missing, or the columns do not fit together.
    """
    columns: dict[str, Any] = {name: arrays[name] for name in _COLUMNS if name in arrays}
    missing = _REQUIRED_COLUMNS - columns.keys()
    if missing:
        raise ProtocolError(f"batch has no {', '.join(sorted(missing))}")
    try:
        return StructureBatch(**columns)
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"columns are not a batch: {error}") from error


def _portable(name: str, given: AnyArray) -> AnyArray:
    """Return `given` in C order and little-endian, copied only where it is not."""
    array: AnyArray = np.asarray(given, order="C")
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    if not _is_allowed(array.dtype.str):
        raise ProtocolError(f"array {name!r} has type {array.dtype}, which messages do not carry")
    if array.ndim > MAX_DIMENSIONS:
        raise ProtocolError(f"array {name!r} has {array.ndim} dimensions, at most {MAX_DIMENSIONS} are carried")
    return array


def _is_allowed(dtype: str) -> bool:
    return dtype in _DTYPES or _TEXT_DTYPE.fullmatch(dtype) is not None


def _encode_header(content: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(content, default=_plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"message header is not JSON data: {error}") from error
    return text + b" " * (-(len(text) + PREFIX_SIZE) % _ALIGNMENT)


def _plain(value: object) -> object:
    """Turn the few values that JSON does not know, but configurations hold, into ones it knows."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, frozenset | set):
        return sorted(value)
    if hasattr(value, "keys"):
        return dict(cast("Mapping[str, object]", value))
    raise TypeError(f"{type(value).__name__} is not JSON data")


def _decode_header(text: memoryview) -> dict[str, Any]:
    try:
        content = json.loads(bytes(text).decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"frame header is not JSON: {error}") from error
    if not isinstance(content, dict) or content.keys() != {"kind", "header", "arrays"}:
        raise ProtocolError("frame header does not hold kind, header and arrays")
    if not isinstance(content["kind"], str) or not isinstance(content["header"], dict):
        raise ProtocolError("frame header holds values of the wrong type")
    if not isinstance(content["arrays"], list) or len(content["arrays"]) > MAX_ARRAYS:
        raise ProtocolError("frame header has no usable list of arrays")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _describe(entry: object) -> tuple[str, np.dtype[np.generic], tuple[int, ...]]:
    """Check one entry of the list of arrays."""
    if not isinstance(entry, list) or len(entry) != len(("name", "dtype", "shape")):
        raise ProtocolError("array entry is not name, dtype and shape")
    name, dtype, shape = entry
    if not isinstance(name, str) or not isinstance(dtype, str) or not _is_allowed(dtype):
        raise ProtocolError(f"array {name!r} has unknown type {dtype!r}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise ProtocolError(f"array {name!r} has impossible shape {shape!r}")
    if any(type(length) is not int or length < 0 for length in shape):
        raise ProtocolError(f"array {name!r} has impossible shape {shape!r}")
    if math.prod(length for length in shape if length) > MAX_FRAME:
        raise ProtocolError(f"array {name!r} has impossible shape {shape!r}")
    return name, np.dtype(dtype), tuple(shape)


def _read_array(view: memoryview, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> AnyArray:
    if not len(view):
        return np.empty(shape, dtype=dtype)
    raw = np.frombuffer(view, dtype=np.uint8)
    if dtype.kind == "b" and raw.max() > 1:
        raise ProtocolError("frame holds a truth value that is neither 0 nor 1")
    if dtype.kind == "U" and raw.view("<u4").max() > _LAST_CODE_POINT:
        raise ProtocolError("frame holds a character that is none")
    array: AnyArray = raw.view(dtype).reshape(shape)
    return array
