"""Pickles put together by hand, so that no test of the core needs torch."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

STORAGES = {"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "i4": "Int", "i2": "Short"}
STORAGES |= {"i1": "Char", "u1": "Byte", "b1": "Bool"}
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def whole(number: int) -> bytes:
    if -(2**31) <= number < 2**31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x09" + number.to_bytes(9, "little", signed=True)


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def raw(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def name(module: str, what: str) -> bytes:
    return f"c{module}\n{what}\n".encode()


def tup(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + tup(*arguments) + b"R"


def mapping(fields: Mapping[str, Any]) -> bytes:
    return b"}(" + b"".join(text(key) + value(item) for key, item in fields.items()) + b"u"


def instance(module: str, what: str, state: bytes) -> bytes:
    return name(module, what) + b")\x81" + state + b"b"


class Raw(bytes):
    """Operations that stand as they are."""


def value(item: Any) -> bytes:
    if isinstance(item, list):
        return b"](" + b"".join(value(part) for part in item) + b"e"
    writers = {Raw: bytes, type(None): lambda _: b"N", bool: lambda yes: b"\x88" if yes else b"\x89", int: whole}
    writers |= {float: lambda x: b"G" + struct.pack(">d", x), str: text, np.ndarray: tensor, dict: mapping}
    return writers[type(item)](item)


def done(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


def storage_file(array: np.ndarray, *, n: int | None = None, magic: bytes = MAGIC, kind: str | None = None) -> bytes:
    """Return what torch's older format makes of a storage of these numbers."""
    flat = np.ascontiguousarray(array).reshape(-1)
    n = flat.size if n is None else n
    kind = kind or f"{STORAGES[flat.dtype.str[1:]]}Storage"
    system = done(mapping({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}))
    reference = tup(text("storage"), name("torch", kind), text("94"), text("cpu"), whole(n), b"N") + b"Q"
    keys = done(b"]" + text("94") + b"a")
    return b"".join([magic, done(whole(1001)), system, done(reference), keys, struct.pack("<q", n), flat.tobytes()])


def storage(data: bytes) -> bytes:
    return call(name("torch.storage", "_load_from_bytes"), raw(data))


def tensor(array: np.ndarray) -> bytes:
    flat = np.ascontiguousarray(array)
    return view(
        storage(storage_file(flat)), 0, array.shape, [step // flat.itemsize for step in flat.strides[: array.ndim]]
    )


def view(of: bytes, offset: int, size: Any, stride: Any) -> bytes:
    hooks = call(name("collections", "OrderedDict"))
    sizes, strides = (tup(*(whole(int(n)) for n in numbers)) for numbers in (size, stride))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, of, whole(offset), sizes, strides, b"\x89", hooks)


def data(fields: Mapping[str, Any]) -> bytes:
    """Return a ``Data`` as PyTorch Geometric pickles it since 2.0, with a few classes that newer ones remember."""
    store = instance("torch_geometric.data.storage", "GlobalStorage", mapping({"_mapping": dict(fields)}))
    remembered = {"_edge_attr_cls": Raw(name("torch_geometric.data.data", "DataEdgeAttr"))}
    return instance("torch_geometric.data.data", "Data", mapping({**remembered, "_store": Raw(store)}))


def old_data(fields: Mapping[str, Any]) -> bytes:
    """Return a ``Data`` as PyTorch Geometric pickled it before 2.0."""
    state = {"x": None, "edge_attr": None, "normal": None, **fields, "__num_nodes__": len(fields["pos"])}
    return instance("torch_geometric.data.data", "Data", mapping(state))
