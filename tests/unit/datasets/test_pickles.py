"""The pickle machine: plain data as the standard library reads them, and nothing that runs, hangs or fills memory."""

from __future__ import annotations

import io
import pickle
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.datasets.pickles import Buildable, Name, PickleError, run

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner, inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def read(data: bytes, **more: Any) -> Any:
    return run(io.BytesIO(data), **({"names": {}} | more))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(item=PLAIN, protocol=st.sampled_from([3, 4, 5]))
def test_plain_data_are_read_as_by_the_standard_library(item: Any, protocol: int) -> None:
    assert read(pickle.dumps(item, protocol)) == item


def test_shared_and_cyclic_parts_stay_so() -> None:
    shared = [1, 2]
    first, second = read(pickle.dumps([shared, shared]))
    assert first is second
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    back = read(pickle.dumps(cyclic))
    assert back[0] is back


def test_the_stream_stops_behind_the_pickle() -> None:
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps("a") + b"rest")
    assert (run(stream, {}), run(stream, {}), stream.read()) == (1, "a", b"rest")


class Box(Buildable):
    def __init__(self) -> None:
        self.state = None

    def build(self, state: Any) -> None:
        self.state = state


def test_names_stand_for_the_decoders_given() -> None:
    names = {("os", "system"): Name("os.system", call=lambda text: f"not run: {text}"), ("a", "B"): Name("B", make=Box)}
    assert read(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", names=names) == "not run: ls"
    assert read(b"\x80\x02ca\nB\n)\x81K\x07b.", names=names).state == 7
    assert read(b"\x80\x02X\x01\x00\x00\x00kQ.", persistent=lambda pid: pid * 2) == "kk"


def commands(canary: Path) -> dict[str, bytes]:
    """Return pickles that make a file when a real unpickler reads them, by the way they do it."""
    line = f"open({str(canary)!r}, 'w').close()"
    argument = b"X" + struct.pack("<I", len(line)) + line.encode()
    return {
        "GLOBAL and REDUCE": b"\x80\x02cbuiltins\nexec\n" + argument + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93" + argument + b"\x85R.",
        "INST": b"(" + argument + b"ibuiltins\nexec\n.",
        "OBJ": b"(cbuiltins\nexec\n" + argument + b"o.",
        "popped": b"\x80\x02cbuiltins\nexec\n" + argument + b"\x85R0N.",
        "NEWOBJ_EX": b"\x80\x04cbuiltins\nexec\n" + argument + b"\x85}\x92.",
    }


@pytest.mark.parametrize("way", ["GLOBAL and REDUCE", "STACK_GLOBAL", "INST", "OBJ", "popped", "NEWOBJ_EX"])
def test_no_code_runs(tmp_path: Path, way: str) -> None:
    canary = tmp_path / "canary"
    data = commands(canary)[way]
    with pytest.raises(PickleError, match=r"builtins\.exec, which is not decoded|operation INST, which is not decoded"):
        read(data)
    assert not canary.exists()
    if way != "NEWOBJ_EX":  # what is not callable that way at all would prove nothing
        pickle.loads(data)  # noqa: S301 (our own)
        assert canary.exists()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not a valid pickle"),
        (b"\x80\x04", "not a valid pickle"),
        (b"\x80\x04.", "does not end with one object"),
        (b"\x80\x04NN.", "does not end with one object"),
        (b"\x80\x04(N.", "does not end with one object"),
        (b"\x80\x04K", "not a valid pickle"),
        (b"\x80\x04h\x05.", "not a valid pickle (KeyError"),
        (b"\x80\x04t.", "not a valid pickle (IndexError"),
        (b"\x80\x04N\x86.", "lacks its operands"),
        (b"\x80\x04(N\x86.", "lacks its operands"),
        (b"\x80\x04q\x00.", "not a valid pickle (IndexError"),
        (b"\x80\x04NNa.", "appends to what is no list"),
        (b"\x80\x04]NNs.", "sets items of what is no dictionary"),
        (b"\x80\x04}(Nu.", "sets items of what is no dictionary"),
        (b"\x80\x04})Ns.", "a key of a dictionary is neither text nor a whole number"),
        (b"\x80\x04NN\x93.", "a name is no text"),
        (b"\x80\x04N)R.", "calls what cannot be called"),
        (b"\x80\x04N)\x81.", "makes an object of what is no class"),
        (b"\x80\x04]}b.", "gives a state to what has none"),
        (b"\x80\x02NQ.", "refers to something outside"),
        (b"P1\n.", "uses the pickle operation PERSID"),
        (b"\x82\x01.", "uses the pickle operation EXT1"),
        (b"\x80\x04(\x91.", "uses the pickle operation FROZENSET"),
        (b"\x80\x04X\x04\x00\x00\x00\xff\xff\xff\xff.", "not a valid pickle (UnicodeDecodeError"),
        (b"\x80\x05\x8e" + struct.pack("<Q", 1 << 62) + b"a.", "not a valid pickle (ValueError"),
        (b"\x80\x04\xff.", "not a valid pickle (no such operation)"),
    ],
)
def test_damaged_pickles_are_refused(data: bytes, expected: str) -> None:
    with pytest.raises(PickleError) as caught:
        read(data)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_in_the_memo_takes_no_room() -> None:
    """The standard library makes a table as long as the largest place: here eight GiB times two."""
    assert read(b"\x80\x04K\x07r\xff\xff\xff\x3f.") == 7


def test_nested_tuples_are_never_hashed() -> None:
    """Hashing this key would take 2**100 steps."""
    key = b")" + b"q\x00h\x00\x86" * 100
    with pytest.raises(PickleError, match="a key of a dictionary"):
        read(b"\x80\x04}" + key + b"Ns.")


def test_a_label_never_fills_a_message() -> None:
    with pytest.raises(PickleError) as caught:
        read(b"\x80\x02c" + b"m" * 5000 + b"\nn\n.")
    assert len(str(caught.value)) < 150


FRAGMENTS = [
    b"N",
    b"K\x01",
    b"]",
    b"}",
    b")",
    b"(",
    b"t",
    b"\x85",
    b"\x86",
    b"a",
    b"e",
    b"s",
    b"u",
    b"0",
    b"1",
    b"R",
    b"b",
]
FRAGMENTS += [
    b"\x81",
    b"\x94",
    b"h\x00",
    b"h\x01",
    b"X\x01\x00\x00\x00a",
    b"ca\nb\n",
    b"cos\nsystem\n",
    b"Q",
    b"\x93",
    b"2",
]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(parts=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=3), max_size=60))
def test_any_operations_give_a_value_or_one_line(parts: list[bytes]) -> None:
    names = {("a", "b"): Name("a.b", call=lambda *arguments: list(arguments), make=Box)}
    try:
        read(b"\x80\x04" + b"".join(parts) + b".", names=names)
    except PickleError as error:
        line = str(error)
        assert "\n" not in line
        assert len(line) < 300
