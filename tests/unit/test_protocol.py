import random
import struct

import numpy as np
import pytest

from mlipbench.protocol import (
    PREFIX_SIZE,
    Message,
    ProtocolError,
    batch_arrays,
    batch_from_arrays,
    decode,
    encode,
    frame_length,
)
from mlipbench.structures import StructureBatch

ARRAYS = {
    "f8": np.arange(12.0).reshape(3, 4),
    "f4": np.float32([[1.5], [np.nan]]),
    "i8": np.array([-(2**62), 2**62]),
    "i4": np.arange(3, dtype=np.int32),
    "u1": np.arange(5, dtype=np.uint8),
    "b1": np.array([True, False, True]),
    "text": np.array(["a", "Å ³", ""]),
    "scalar": np.array(3.25),
    "empty": np.zeros((0, 3)),
}


def frame(message):
    return b"".join(encode(message))


def hand_made(header, payload=b"", *, magic=b"MLB1", header_length=None, total=None):
    header += b" " * (-(len(header) + PREFIX_SIZE) % 8)
    total = PREFIX_SIZE + len(header) + len(payload) if total is None else total
    header_length = len(header) if header_length is None else header_length
    return struct.pack("<4sIQ", magic, header_length, total) + header + payload


def test_every_type_and_shape_comes_back():
    message = decode(frame(Message("any kind", {"a": [1, None, {"b": "Å"}]}, ARRAYS)))
    assert message.kind == "any kind"
    assert message.header == {"a": [1, None, {"b": "Å"}]}
    assert list(message.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert message.arrays[name].dtype == array.dtype, name
        assert message.arrays[name].shape == array.shape, name
        np.testing.assert_array_equal(message.arrays[name], array)


def test_layout_is_what_the_module_says():
    text = b'{"kind":"k","header":{},"arrays":[["x","<i4",[1]]]}'
    assert frame(Message("k", {}, {"x": np.int32([258])})) == hand_made(text, b"\x02\x01\0\0\0\0\0\0")


@pytest.mark.parametrize(
    "array",
    [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6.0)[::2], np.arange(3.0).astype(">f8")],
    ids=["fortran", "strided", "big-endian"],
)
def test_unusual_memory_is_straightened(array):
    received = decode(frame(Message("k", {}, {"x": array}))).arrays["x"]
    np.testing.assert_array_equal(received, array)
    assert received.dtype.str == "<f8"


def test_nothing_is_copied():
    array = np.arange(1000.0)
    buffers = encode(Message("k", {}, {"x": array}))
    assert np.shares_memory(np.frombuffer(buffers[1], dtype=np.uint8), array)
    joined = bytearray(b"".join(buffers))
    received = decode(joined).arrays["x"]
    assert np.shares_memory(received, np.frombuffer(joined, dtype=np.uint8))
    assert received.flags.aligned
    assert received.flags.writeable
    assert not decode(bytes(joined)).arrays["x"].flags.writeable


@pytest.mark.parametrize(
    "array", [np.array([1j]), np.array([None]), np.float16([1]), np.array([b"raw"]), np.zeros([1] * 9)]
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ProtocolError, match="array 'x' has"):
        encode(Message("k", {}, {"x": array}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"raw", {1: {2: object}}])
def test_headers_are_json_data(value):
    with pytest.raises(ProtocolError, match="not JSON data"):
        encode(Message("k", {"value": value}))


def test_numpy_scalars_and_sets_in_headers_become_plain():
    message = Message("k", {"n": np.int64(3), "set": frozenset({"b", "a"})})
    assert decode(frame(message)).header == {"n": 3, "set": ["a", "b"]}


ENTRY = b'{"kind":"k","header":{},"arrays":[%s]}'
BAD_FRAMES = {
    "nothing": (b"", "truncated"),
    "only a prefix": (hand_made(b"{}")[:PREFIX_SIZE], "expected"),
    "bad magic": (hand_made(b"{}", magic=b"PK\3\4"), "starts with"),
    "last byte missing": (frame(Message("k", {}, ARRAYS))[:-1], "expected"),
    "one byte too many": (frame(Message("k", {}, ARRAYS)) + b"\0", "expected"),
    "payload nobody claims": (hand_made(ENTRY % b"", bytes(8)), "arrays end at"),
    "header past the end": (hand_made(b"{}", header_length=2**20), "impossible lengths"),
    "huge total": (hand_made(b"{}", total=2**60), "impossible lengths"),
    "no json": (hand_made(b"{'kind'}"), "not JSON"),
    "deep json": (hand_made(b"[" * 100_000), "not JSON"),
    "no utf-8": (hand_made(b'{"kind":"\xff"}'), "not JSON"),
    "NaN": (hand_made(b'{"kind":"k","header":{"a":NaN},"arrays":[]}'), "not JSON"),
    "a list": (hand_made(b"[]"), "does not hold"),
    "a further key": (hand_made(b'{"kind":"k","header":{},"arrays":[],"more":1}'), "does not hold"),
    "kind is a number": (hand_made(b'{"kind":1,"header":{},"arrays":[]}'), "wrong type"),
    "arrays are no list": (hand_made(b'{"kind":"k","header":{},"arrays":{}}'), "list of arrays"),
    "entry is short": (hand_made(ENTRY % b'["x","<f8"]', bytes(8)), "name, dtype and shape"),
    "object dtype": (hand_made(ENTRY % b'["x","|O",[1]]', bytes(8)), "unknown type"),
    "void dtype": (hand_made(ENTRY % b'["x","V8",[1]]', bytes(8)), "unknown type"),
    "big-endian": (hand_made(ENTRY % b'["x",">f8",[1]]', bytes(8)), "unknown type"),
    "empty text": (hand_made(ENTRY % b'["x","<U0",[1]]', bytes(8)), "unknown type"),
    "negative shape": (hand_made(ENTRY % b'["x","<f8",[-1]]', bytes(8)), "impossible shape"),
    "fractional shape": (hand_made(ENTRY % b'["x","<f8",[1.0]]', bytes(8)), "impossible shape"),
    "true as shape": (hand_made(ENTRY % b'["x","<f8",[true]]', bytes(8)), "impossible shape"),
    "shape is a number": (hand_made(ENTRY % b'["x","<f8",1]', bytes(8)), "impossible shape"),
    "shape overflows": (hand_made(ENTRY % b'["x","<f8",[0,%d,%d]]' % (2**62, 2**62)), "impossible shape"),
    "array past the end": (hand_made(ENTRY % b'["x","<f8",[2]]', bytes(8)), "does not fit"),
    "two of a name": (hand_made(ENTRY % b'["x","<f8",[1]],["x","<f8",[1]]', bytes(16)), "twice"),
    "no truth value": (hand_made(ENTRY % b'["x","|b1",[8]]', b"\2" * 8), "truth value"),
    "no character": (hand_made(ENTRY % b'["x","<U2",[1]]', b"\xff" * 8), "character"),
}


@pytest.mark.parametrize(("data", "match"), BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_damaged_frames_are_refused(data, match):
    with pytest.raises(ProtocolError, match=match):
        decode(data)


def test_ten_thousand_mutations_raise_nothing_but_protocol_errors():
    rng = random.Random(20240229)  # noqa: S311 - damage, no secrets
    small = {name: array for name, array in ARRAYS.items() if name != "f8"}
    good = frame(Message("predict", {"id": 3, "properties": ["energy"]}, small))
    refused = 0
    for _ in range(10_000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            where = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0:
                data[where] = rng.randrange(256)
            elif kind == 1:
                del data[where : where + rng.randint(1, 16)]
            else:
                data[where:where] = rng.randbytes(rng.randint(1, 16))
        if rng.random() < 0.5 and len(data) >= PREFIX_SIZE:  # let the damage get past the check of the length
            data[8:16] = struct.pack("<Q", len(data))
        try:
            message = decode(data)
            [str(array.tolist()) for array in message.arrays.values()]  # whatever passes can be read
        except ProtocolError:
            refused += 1
    assert 5_000 < refused < 10_000


def test_length_is_known_from_the_prefix():
    data = frame(Message("k", {}, ARRAYS))
    assert frame_length(data[:PREFIX_SIZE]) == len(data)


def full_batch():
    rng = np.random.default_rng(0)
    return StructureBatch(
        numbers=np.array([1, 8, 1, 29]),
        positions=rng.normal(size=(4, 3)),
        cell=rng.normal(size=(2, 3, 3)),
        pbc=[[True, True, False], [False] * 3],
        offsets=[0, 3, 4],
        tags=[0, 1, 2, 0],
        fixed=[True, False, False, True],
        charge=[0, -1],
        spin=[1, 2],
        id=["a", "b"],
    )


def test_batches_come_back_without_their_ids():
    batch = full_batch()
    arrays = decode(frame(Message("k", {}, {**batch_arrays(batch), "energy": np.zeros(2)}))).arrays
    received = batch_from_arrays(arrays)
    assert received.id is None
    for name, column in batch_arrays(batch).items():
        np.testing.assert_array_equal(getattr(received, name), column)


def test_what_is_no_batch_is_refused():
    arrays = batch_arrays(full_batch())
    with pytest.raises(ProtocolError, match="batch has no cell"):
        batch_from_arrays({name: array for name, array in arrays.items() if name != "cell"})
    with pytest.raises(ProtocolError, match="columns are not a batch: positions has shape"):
        batch_from_arrays({**arrays, "positions": np.zeros((3, 3))})
    with pytest.raises(ProtocolError, match="columns are not a batch"):
        batch_from_arrays({**arrays, "positions": np.array(["a"])})
