"""Tensors and samples out of pickles, without torch."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pickle_helpers import (
    MAGIC,
    Raw,
    call,
    data,
    done,
    instance,
    mapping,
    name,
    old_data,
    raw,
    storage,
    storage_file,
    tensor,
    text,
    tup,
    value,
    view,
    whole,
)

from mlipbench.datasets.pickles import PickleError
from mlipbench.datasets.tensor_pickle import Undecoded, decode

if TYPE_CHECKING:
    from pathlib import Path

POSITIONS = np.arange(12, dtype=np.float32).reshape(4, 3)
LITTLE = text("little_endian") + b"\x88"


def refused(body: bytes) -> str:
    with pytest.raises(PickleError) as caught:
        decode(done(body))
    return str(caught.value)


@pytest.mark.parametrize("layout", [data, old_data, mapping])
def test_every_layout_gives_its_fields(layout: Any) -> None:
    fields = decode(done(layout({"pos": POSITIONS, "y": -1.5, "sid": 17, "name": "a", "flag": True, "none": None})))
    np.testing.assert_array_equal(fields["pos"], POSITIONS)
    assert fields["pos"].dtype == np.float32
    assert {key: fields[key] for key in ("y", "sid", "name", "flag", "none")} == {
        "y": -1.5,
        "sid": 17,
        "name": "a",
        "flag": True,
        "none": None,
    }
    assert not any(key.startswith("_") for key in fields)


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"])
def test_every_type_of_storage(kind: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(kind)
    back = decode(done(tensor(array)))
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


def test_views_into_a_storage() -> None:
    shared = storage(storage_file(np.arange(24.0)))
    back = decode(done(view(shared, 1, (2, 3), (8, 2))))
    np.testing.assert_array_equal(back, [[1, 3, 5], [9, 11, 13]])
    np.testing.assert_array_equal(decode(done(view(shared, 0, (4, 6), (1, 4)))), np.arange(24.0).reshape(6, 4).T)
    assert decode(done(view(shared, 23, (), ()))) == 23
    assert decode(done(view(shared, 0, (2, 0), (1, 1)))).shape == (2, 0)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (25,), (1,)),
        (1, (24,), (1,)),
        (0, (2, 12), (13, 1)),
        (24, (1,), (1,)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (23, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (1 << 40, 3), (0, 0)),
        (0, (1 << 61, 1 << 61), (0, 0)),
        (0, (1,) * 9, (1,) * 9),
    ],
)
def test_views_beyond_a_storage_are_refused(offset: int, size: Any, stride: Any) -> None:
    assert "tensor" in refused(view(storage(storage_file(np.arange(24.0))), offset, size, stride))


def zipped(array: np.ndarray, *, compression: int = zipfile.ZIP_STORED, **changes: bytes | None) -> bytes:
    reference = tup(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), whole(array.size)) + b"Q"
    members = {"data.pkl": done(reference), "byteorder": b"little", "data/0": array.tobytes(), "version": b"3\n"}
    members |= {key.replace("_", "/"): item for key, item in changes.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for member, content in members.items():
            if content is not None:
                archive.writestr(f"archive/{member}", content)
    return file.getvalue()


def test_storages_in_the_zip_format() -> None:
    np.testing.assert_array_equal(decode(done(view(storage(zipped(POSITIONS)), 0, (4, 3), (3, 1)))), POSITIONS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (zipped(POSITIONS, compression=zipfile.ZIP_DEFLATED), "whose members are compressed"),
        (zipped(POSITIONS, byteorder=b"big"), "another byte order"),
        (zipped(POSITIONS, data_0=b"short"), "cut short or of another size"),
        (zipped(POSITIONS, data_0=None), "no valid archive (KeyError)"),
        (zipped(POSITIONS)[:200], "no valid archive (BadZipFile)"),
        (b"PK", "no valid archive (BadZipFile)"),
        (b"", "not a valid pickle"),
        (storage_file(POSITIONS)[:-1], "cut short or of another size"),
        (storage_file(POSITIONS, n=1 << 50), "cut short or of another size"),
        (storage_file(POSITIONS, n=-1), "the storage of a tensor is not valid"),
        (storage_file(POSITIONS, magic=done(whole(7))), "unknown format"),
        (storage_file(POSITIONS, kind="QInt8Storage"), "names torch.QInt8Storage, which is not decoded"),
        (
            storage_file(POSITIONS).replace(text("little_endian") + b"\x88", text("little_endian") + b"\x89"),
            "byte order",
        ),
        (storage_file(POSITIONS).replace(text("storage"), text("elsewhr")), "refers to something unknown"),
        (storage_file(POSITIONS).replace(b"]" + text("94") + b"a", b"]"), "without its list of storages"),
        (
            MAGIC + done(whole(1001)) + done(b"}" + text("little_endian") + b"\x88s") + done(b"N") + done(b"]"),
            "no storage",
        ),
    ],
)
def test_damaged_storages_are_refused(content: bytes, expected: str) -> None:
    assert expected in refused(view(storage(content), 0, (1,), (1,)))


def test_a_storage_may_not_be_read_again_and_again() -> None:
    """Otherwise a file of a megabyte could ask for terabytes."""
    load, content = name("torch.storage", "_load_from_bytes"), raw(storage_file(POSITIONS))
    body = b"](" + content + b"q\x00" + (load + b"h\x00\x85R") * 1000 + b"e"
    assert "longer than the pickle" in refused(body)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "item",
    [
        np.float64(-359.25),
        np.float32(0.1),
        np.int64(-3),
        np.bool_(True),
        np.str_("häß"),
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6).astype(">i4"),
        np.array(["a", "bcd"]),
        np.zeros((0, 3)),
    ],
)
def test_numpy_values_of_every_protocol(item: Any, protocol: int) -> None:
    back = decode(pickle.dumps({"a": item, "b": [1, 2.5, "x"]}, protocol))
    np.testing.assert_array_equal(back["a"], item)
    assert np.asarray(back["a"]).dtype == item.dtype
    assert back["b"] == [1, 2.5, "x"]


def test_the_names_of_numpy_1_and_2() -> None:
    new = pickle.dumps({"a": np.float64(2.5), "b": np.arange(3.0)}, 3)
    assert b"numpy._core" in new
    for content in (new, new.replace(b"numpy._core", b"numpy.core")):
        assert decode(content)["a"] == 2.5
        assert decode(content)["b"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "item",
    [np.array([{}], dtype=object), np.zeros(2, dtype=[("a", "f8")]), np.datetime64("2020-01-01"), np.complex128(1j)],
)
def test_other_numpy_types_are_refused(item: Any) -> None:
    with pytest.raises(PickleError, match="a numpy type that is not of numbers or text"):
        decode(pickle.dumps(item))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"K\x03\x85", b"K\x04\x85", "does not have the bytes of its shape"),
        (b"K\x03\x85", b"J\xff\xff\xff\xff\x85", "the shape of a numpy array is not valid"),
        (b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00!", "unknown byte order"),
    ],
)
def test_damaged_numpy_arrays_are_refused(old: bytes, new: bytes, expected: str) -> None:
    content = pickle.dumps(np.arange(3.0), 3)
    assert old in content
    with pytest.raises(PickleError, match=expected):
        decode(content.replace(old, new))


def test_no_code_runs_inside_a_storage(tmp_path: Path) -> None:
    """The real function reads its bytes by an unrestricted unpickler."""
    canary = tmp_path / "canary"
    evil = done(call(name("builtins", "exec"), text(f"open({str(canary)!r}, 'w').close()")))
    for content in (evil, MAGIC + evil, MAGIC + done(whole(1001)) + evil, zipped(POSITIONS, **{"data.pkl": evil})):
        assert "names builtins.exec, which is not decoded" in refused(storage(content))
    assert not canary.exists()
    pickle.loads(evil)  # noqa: S301 (our own: the canary can sing)
    assert canary.exists()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (call(name("torch", "load"), text("x")), "names torch.load, which is not decoded"),
        (call(name("torch._utils", "_rebuild_parameter")), "names torch._utils._rebuild_parameter"),
        (instance("ase.atoms", "Atoms", b"}"), "names ase.atoms.Atoms, which is not decoded"),
        (name("torch_geometric.data.data", "Data") + b")\x81N" + b"b", "the state of a Data is no dictionary"),
        (instance("torch_geometric.data.data", "Data", mapping({"_store": None})), "a Data without its mapping"),
        (call(name("torch.storage", "_load_from_bytes"), text("x")), "a storage that is no bytes"),
        (view(b"N", 0, (1,), (1,)), "a tensor without its storage"),
        (call(name("torch._utils", "_rebuild_tensor_v2")), "not a valid pickle (TypeError"),
        (call(name("collections", "OrderedDict"), b"]"), "an OrderedDict with arguments"),
        (call(name("__builtin__", "bytes"), whole(1 << 30)), "bytes with arguments"),
        (call(name("_codecs", "encode"), text("x"), text("rot13")), "bytes in an unknown encoding"),
        (call(name("torch_geometric.data.data", "DataEdgeAttr")), "calls what cannot be called"),
        (call(name("numpy", "dtype"), text("O")), "a numpy type that is not of numbers"),
        (call(name("numpy", "dtype"), text("S99999999")), "a numpy type that is not of numbers"),
        (tensor(POSITIONS) + b"}b", "gives a state to what has none"),
        (b"N.N", "more bytes follow"),
    ],
)
def test_everything_else_is_refused_in_one_line(body: bytes, expected: str) -> None:
    assert expected in refused(body)


def test_lists_that_unfold_without_end_are_not_unfolded() -> None:
    """Numpy would walk 100 ** 3 elements of this one, and 2 ** 60 of the next."""
    wide = b"](" + whole(1) * 100 + b"e" + b"q\x00" + b"](" + b"h\x00" * 100 + b"eq\x01" + b"](" + b"h\x01" * 100 + b"e"
    deep = b")" + b"q\x00h\x00\x86" * 60
    fields = decode(done(b"}(" + text("a") + tup(wide) + text("b") + deep + text("c") + value([[1, 2], [3, 4]]) + b"u"))
    assert isinstance(fields["a"], Undecoded)
    assert isinstance(fields["b"], Undecoded)
    assert fields["c"] == [[1, 2], [3, 4]]


ORIGINAL = done(data({"pos": POSITIONS, "y": 1.0, "sid": Raw(storage(zipped(POSITIONS))), "cell": np.eye(3)[None]}))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(ORIGINAL) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    kept=st.one_of(st.just(len(ORIGINAL)), st.integers(0, len(ORIGINAL))),
)
def test_changed_bytes_give_a_value_or_one_line(edits: Any, kept: int) -> None:
    content = bytearray(ORIGINAL)
    for place, byte in edits:
        content[place] = byte
    try:
        decode(bytes(content[:kept]))
    except PickleError as error:
        line = str(error)
        assert "\n" not in line
        assert len(line) < 300


def test_the_original_is_whole() -> None:
    assert set(decode(ORIGINAL)) == {"pos", "y", "sid", "cell"}
    assert struct.unpack("<f", decode(ORIGINAL)["pos"][0, 1].tobytes()) == (1.0,)
