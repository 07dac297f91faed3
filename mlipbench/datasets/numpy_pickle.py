"""Decoders of numpy's arrays, types and scalars for pickles: `mlipbench.datasets.pickles` runs nothing else."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.pickles import Buildable, Name, PickleError

if TYPE_CHECKING:
    from mlipbench.datasets.pickles import Names
    from mlipbench.typing import AnyArray

_MOST_AXES: Final = 8
_DTYPE: Final = re.compile(r"f[248]|[iu][1248]|b1|[SU]\d{1,4}")


def whole(value: Any, name: str) -> int:
    """Return a whole number that is not negative.

    Raises:
        PickleError: It is something else.
    """
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise PickleError(f"{name} is not valid")
    return value


def wholes(values: Any, name: str) -> list[int]:
    """Return such numbers, one an axis.

    Raises:
        PickleError: They are something else.
    """
    if type(values) is not tuple or len(values) > _MOST_AXES:
        raise PickleError(f"{name} is not valid")
    return [whole(value, name) for value in values]


class PickledArray(Buildable):
    """A numpy array, whose shape and content come after it.

    Attributes:
        array: The array, where it is one of numbers or text.
        objects: What it holds, where it is one of Python objects; None otherwise.
    """

    def __init__(self) -> None:
        """Make an empty one."""
        self.array: AnyArray = np.zeros(0)
        self.objects: list[Any] | None = None

    def build(self, state: Any) -> None:
        """Take version, shape, type, order and content."""
        if type(state) is not tuple or len(state) != 5:  # noqa: PLR2004
            raise PickleError("the state of a numpy array is not valid")
        _, shape, dtype, fortran, content = state
        if isinstance(dtype, _Dtype) and dtype.dtype.hasobject:
            if type(content) is not list or len(content) != math.prod(wholes(shape, "the shape of a numpy array")):
                raise PickleError("a numpy array does not have the objects of its shape")
            self.objects = content
        else:
            self.array = _from_buffer(content, dtype, shape, "F" if fortran is True else "C")


class _Dtype(Buildable):
    """A numpy type, whose byte order comes after it."""

    def __init__(self, code: Any, *_: Any) -> None:
        if type(code) is not str or not _DTYPE.fullmatch(code):
            raise PickleError("a numpy type that is not of numbers or text")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 5 or any(part is not None for part in state[2:5]):  # noqa: PLR2004
            raise PickleError("a numpy type that is not of numbers or text")
        if state[1] not in ("<", ">", "=", "|"):
            raise PickleError("a numpy type of unknown byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class _AnyDtype(_Dtype):
    """Also the type of Python objects."""

    def __init__(self, code: Any, *more: Any) -> None:
        if code == "O8":
            self.dtype = np.dtype("O")
        else:
            super().__init__(code, *more)


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> AnyArray:
    known = isinstance(dtype, _Dtype) and not dtype.dtype.hasobject
    if type(raw) not in {bytes, bytearray} or not known or order not in ("C", "F"):
        raise PickleError("a numpy array that is not of numbers or text")
    sizes = wholes(shape, "the shape of a numpy array")
    if math.prod(sizes) * dtype.dtype.itemsize != len(raw):
        raise PickleError("a numpy array does not have the bytes of its shape")
    return np.frombuffer(raw, dtype.dtype).reshape(sizes, order=order)


def _scalar(dtype: Any, raw: Any) -> Any:
    return _from_buffer(raw, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand for ``_codecs.encode``, by which Python 3 writes bytes in the older pickle protocols."""
    if type(text) is not str or encoding != "latin1":
        raise PickleError("bytes in an unknown encoding")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    """Stand for ``bytes``, as which Python 3 writes no bytes at all in protocol 2."""
    if arguments:
        raise PickleError("bytes with arguments")
    return b""


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _names() -> Names:
    names: dict[tuple[str, str], Name] = {}

    def add(module: str, name: str, **decoders: Any) -> None:
        names[module, name] = Name(f"{module}.{name}", **decoders)

    add("_codecs", "encode", call=_encode)
    add("__builtin__", "bytes", call=_no_bytes)
    add("numpy", "dtype", call=_Dtype)
    add("numpy", "ndarray")
    for core in ("numpy.core", "numpy._core"):  # before and since numpy 2
        add(f"{core}.multiarray", "scalar", call=_scalar)
        add(f"{core}.multiarray", "_reconstruct", call=_reconstruct)
        add(f"{core}.numeric", "_frombuffer", call=_from_buffer)
    return names


NUMPY_NAMES: Final[Names] = _names()
"""All that a pickle of numpy's arrays of numbers and text names, by module and name."""
OBJECT_NAMES: Final[Names] = {**NUMPY_NAMES, ("numpy", "dtype"): Name("numpy.dtype", call=_AnyDtype)}
"""The same where arrays may hold Python objects, which are of these kinds again."""
