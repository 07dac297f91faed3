"""Pickled samples of LMDB files (PyTorch Geometric's ``Data`` or dictionaries of tensors), decoded without torch.

Every class and function that such a pickle may name has a decoder of our own; tensors become numpy arrays that view
the bytes of the file. The bytes that ``torch.storage._load_from_bytes`` takes are a pickle themselves: torch would read
them without any restriction, here they go through the same machine.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.numpy_pickle import NUMPY_NAMES, PickledArray, whole, wholes
from mlipbench.datasets.pickles import Buildable, Name, PickleError, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.datasets.pickles import Names
    from mlipbench.typing import AnyArray

_MAGIC: Final = 0x1950A86A20F9469CFC6C  # torch's older file format: this number, the version, and four more pickles
_VERSION: Final = 1001
_DEEPEST: Final = 3
_STORAGES: Final[Mapping[str, str]] = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


def decode(data: bytes) -> Any:
    """Return what a pickle holds as plain values, numpy arrays, and dictionaries for ``Data``.

    Args:
        data: The pickle; a ``Data`` may have the layout since PyTorch Geometric 2.0 or the older one.

    Raises:
        PickleError: It is damaged, or names something that is not decoded.
    """
    stream = io.BytesIO(data)
    value = run(stream, _Nested(2 * len(data)).names())
    if stream.read(1):
        raise PickleError("not a valid pickle (more bytes follow it)")
    if isinstance(value, _Object):
        value = value.fields()
    if type(value) is dict:
        return {str(name): _plain(item, len(data)) for name, item in value.items()}
    return _plain(value, len(data))


class Undecoded:
    """Stands for a value that is neither a number, a text nor an array of numbers."""


class _Object(Buildable):
    """A ``Data`` or the storage inside it."""

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {}

    def build(self, state: Any) -> None:
        if type(state) is not dict:
            raise PickleError("the state of a Data is no dictionary")
        self.state |= state

    def fields(self) -> dict[Any, Any]:
        """Return the attributes that were set."""
        if "_store" not in self.state:  # before PyTorch Geometric 2.0 the attributes lie in the object itself
            return {name: value for name, value in self.state.items() if not str(name).startswith("_")}
        store = self.state["_store"]
        mapping = store.state.get("_mapping") if isinstance(store, _Object) else None
        if type(mapping) is not dict:
            raise PickleError("a Data without its mapping")
        return mapping


class _Storage:
    """The numbers of tensors; `raw` is None until they have been read."""

    def __init__(self, dtype: str, size: int) -> None:
        self.dtype = np.dtype(dtype)
        self.size = size
        self.raw: bytes | None = None


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> AnyArray:
    """Stand for ``torch._utils._rebuild_tensor_v2``; what follows the stride concerns gradients."""
    if not isinstance(storage, _Storage) or storage.raw is None:
        raise PickleError("a tensor without its storage")
    start = whole(offset, "the offset of a tensor")
    shape, steps = wholes(size, "the size of a tensor"), wholes(stride, "the stride of a tensor")
    if len(shape) != len(steps):
        raise PickleError("size and stride of a tensor do not fit")
    count = math.prod(shape)
    if not count:
        return np.zeros(shape, dtype=storage.dtype)
    last = start + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if last >= storage.size or count > storage.size:
        raise PickleError(f"a tensor reaches beyond the {storage.size} numbers of its storage")
    width = storage.dtype.itemsize
    return np.ndarray(shape, storage.dtype, storage.raw, start * width, [step * width for step in steps])


def _ordered(*arguments: Any) -> dict[Any, Any]:
    if arguments:
        raise PickleError("an OrderedDict with arguments")
    return {}


def _names() -> dict[tuple[str, str], Name]:
    names: dict[tuple[str, str], Name] = {**NUMPY_NAMES}

    def add(module: str, name: str, **decoders: Any) -> None:
        names[module, name] = Name(f"{module}.{name}", **decoders)

    add("collections", "OrderedDict", call=_ordered)
    add("torch._utils", "_rebuild_tensor_v2", call=_tensor)
    add("torch_geometric.data.data", "Data", make=_Object)
    add("torch_geometric.data.storage", "GlobalStorage", make=_Object)
    for inert in ("data.DataEdgeAttr", "data.DataTensorAttr", "feature_store.TensorAttr", "graph_store.EdgeAttr"):
        module, _, name = inert.partition(".")  # classes that a Data remembers; nothing is made of them
        add(f"torch_geometric.data.{module}", name)
    return names


_NAMES: Final[Names] = _names()
_STORAGE_NAMES: Final[Names] = {("torch", name): Name(f"torch.{name}") for name in _STORAGES}


class _Nested:
    """Reads the torch files inside one pickle.

    Together they are shorter than the pickle, unless it has one of them read again and again. In the zip format a file
    counts twice: itself, and its members.
    """

    def __init__(self, budget: int) -> None:
        self._left = budget

    def names(self) -> Names:
        load = Name("torch.storage._load_from_bytes", call=self._load)
        return {**_NAMES, ("torch.storage", "_load_from_bytes"): load}

    def _spend(self, n: int) -> None:
        self._left -= n
        if self._left < 0:
            raise PickleError("its storages are longer than the pickle")

    def _load(self, data: Any) -> _Storage:
        if type(data) is not bytes:
            raise PickleError("a storage that is no bytes")
        self._spend(len(data))
        storages: dict[str, _Storage] = {}
        found = self._zipped(data, storages) if data.startswith(b"PK") else _legacy(data, storages)
        if not isinstance(found, _Storage):
            raise PickleError("a torch file that holds no storage")
        return found

    def _zipped(self, data: bytes, storages: dict[str, _Storage]) -> Any:
        """Read the format that torch writes since 1.6: members of a zip archive, none of them compressed."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
                if "byteorder" in members and self._member(archive, members["byteorder"]) != b"little":
                    raise PickleError("a tensor from a machine of another byte order")
                head = io.BytesIO(self._member(archive, members["data.pkl"]))
                found = run(head, _STORAGE_NAMES, lambda pid: _refer(pid, storages))
                for key, storage in storages.items():
                    _fill(storage, self._member(archive, members[f"data/{key}"]))
        except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise PickleError(f"a torch file that is no valid archive ({type(error).__name__})") from None
        return found

    def _member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        if info.compress_type != zipfile.ZIP_STORED:
            raise PickleError("a torch file whose members are compressed")
        self._spend(info.file_size)
        return archive.read(info)


def _legacy(data: bytes, storages: dict[str, _Storage]) -> Any:
    """Read torch's older format: five pickles, then the numbers of each storage behind their count."""
    stream = io.BytesIO(data)
    if run(stream, {}) != _MAGIC or run(stream, {}) != _VERSION:
        raise PickleError("a torch file of unknown format")
    system = run(stream, {})
    if type(system) is not dict or system.get("little_endian") is not True:
        raise PickleError("a tensor from a machine of another byte order")
    found = run(stream, _STORAGE_NAMES, lambda pid: _refer(pid, storages))
    keys = run(stream, {})
    if type(keys) is not list or len(keys) != len(storages):
        raise PickleError("a torch file without its list of storages")
    for key in keys:
        storage = storages.get(key) if type(key) is str else None
        head = stream.read(8)
        if storage is None or len(head) < 8 or struct.unpack("<q", head)[0] != storage.size:  # noqa: PLR2004
            raise PickleError("a storage is cut short or of another size")
        _fill(storage, stream.read(storage.size * storage.dtype.itemsize))
    return found


def _refer(pid: Any, storages: dict[str, _Storage]) -> _Storage:
    """Return the storage that ``("storage", type, key, device, number of elements[, None])`` stands for."""
    if type(pid) is not tuple or len(pid) not in {5, 6} or pid[0] != "storage" or pid[5:] not in ((), (None,)):
        raise PickleError("a torch file that refers to something unknown")
    kind, key = pid[1], pid[2]
    if type(kind) is not Name or type(key) is not str:
        raise PickleError("a torch file that refers to something unknown")
    if key not in storages:
        storages[key] = _Storage(_STORAGES[kind.label.partition(".")[2]], whole(pid[4], "the storage of a tensor"))
    return storages[key]


def _fill(storage: _Storage, raw: bytes) -> None:
    if len(raw) != storage.size * storage.dtype.itemsize:
        raise PickleError("a storage is cut short or of another size")
    storage.raw = raw


def _plain(value: Any, most: int) -> Any:
    """Return a value that numpy may be given: shared lists unfold to more numbers than memory holds."""
    if isinstance(value, PickledArray):
        return value.array
    if value is None or isinstance(value, np.ndarray | np.generic) or type(value) in {bool, int, float, str}:
        return value
    if type(value) in {list, tuple} and _count(value, most, _DEEPEST) <= most:
        return value
    return Undecoded()


def _count(items: Any, most: int, depth: int) -> int:
    """Return how many numbers and texts nested lists hold, or more than `most` where they hold anything else."""
    count = 0
    for item in items:
        if type(item) in {list, tuple} and depth > 1:
            count += 1 + _count(item, most - count, depth - 1)
        else:
            count += 1 if type(item) in {bool, int, float, str} else most + 1
        if count > most:
            break
    return count
