"""A machine for pickles that builds plain data: it imports nothing and calls nothing but decoders given to it.

The standard unpickler makes room for as much as a number in the file asks for, hashes nested tuples without end, and
calls methods of whatever a decoder returns. This machine knows thirty-odd operations on lists, dictionaries, tuples,
texts and numbers; the parsing of their arguments is that of `pickletools`.
"""

from __future__ import annotations

import pickletools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SHOWN: Final = 80


class PickleError(ValueError):
    """A pickle is damaged, or needs something that is not decoded."""


class Buildable(ABC):
    """An object whose state a pickle gives after making it."""

    @abstractmethod
    def build(self, state: Any) -> None:
        """Take the state.

        Raises:
            PickleError: The state is not one of this kind of object.
        """


@dataclass(frozen=True, slots=True)
class Name:
    """What stands here for a class or function that a pickle names.

    Attributes:
        label: The dotted name.
        call: Takes the arguments of a call; None where it is not to be called.
        make: Makes an object without arguments; None where there are no objects of it.
    """

    label: str
    call: Callable[..., Any] | None = None
    make: Callable[[], Any] | None = None


Names: TypeAlias = "Mapping[tuple[str, str], Name]"
Persistent: TypeAlias = "Callable[[Any], Any]"


def run(stream: IO[bytes], names: Names, persistent: Persistent | None = None) -> Any:
    """Read one pickle and leave the stream right behind it.

    Args:
        stream: The bytes, in memory.
        names: Everything that the pickle may name, by module and name.
        persistent: Returns what a persistent id stands for; None where there may be none.

    Returns:
        Lists, dictionaries with text or whole numbers as keys, tuples, plain values, and what the decoders returned.
        Parts may be shared, and lists may hold themselves.

    Raises:
        PickleError: The pickle is damaged, names something else, or uses an operation that is not known here.
    """
    machine = _Machine(names, persistent)
    try:
        while (code := stream.read(1)) != _STOP:
            step, argument = _operation(code)
            step(machine, None if argument is None else argument(stream))
        return machine.result()
    except PickleError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        text = " ".join(str(error).split())[:_SHOWN]
        raise PickleError(f"not a valid pickle ({type(error).__name__}: {text})") from None


def _operation(code: bytes) -> tuple[_Step, _Argument | None]:
    if code in _OPERATIONS:
        return _OPERATIONS[code]
    if code in _NAMES:
        raise PickleError(f"uses the pickle operation {_NAMES[code]}, which is not decoded")
    raise PickleError("not a valid pickle (it is cut short)" if not code else "not a valid pickle (no such operation)")


class _Machine:
    def __init__(self, names: Names, persistent: Persistent | None) -> None:
        self.names = names
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if self.marked or len(self.stack) != 1:
            raise PickleError("not a valid pickle (it does not end with one object)")
        return self.stack[0]

    def since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def take(self, n: int) -> tuple[Any, ...]:
        if len(self.stack) < n:
            raise PickleError("not a valid pickle (an operation lacks its operands)")
        taken = tuple(self.stack[-n:])
        del self.stack[-n:]
        return taken


def _push(machine: _Machine, argument: Any) -> None:
    machine.stack.append(argument)


def _nothing(machine: _Machine, argument: Any) -> None:
    del machine, argument


def _mark(machine: _Machine, argument: Any) -> None:
    del argument
    machine.marked.append(machine.stack)
    machine.stack = []


def _pop(machine: _Machine, argument: Any) -> None:
    del argument
    machine.take(1)


def _pop_mark(machine: _Machine, argument: Any) -> None:
    del argument
    machine.since_mark()


def _tuple(machine: _Machine, argument: Any) -> None:
    del argument
    items = tuple(machine.since_mark())
    machine.stack.append(items)


def _tuple_of(n: int) -> _Step:
    def step(machine: _Machine, argument: Any) -> None:
        del argument
        machine.stack.append(machine.take(n))

    return step


def _new(make: Callable[[], Any]) -> _Step:
    def step(machine: _Machine, argument: Any) -> None:
        del argument
        machine.stack.append(make())

    return step


def _put(machine: _Machine, argument: Any) -> None:
    machine.memo[len(machine.memo) if argument is None else argument] = machine.stack[-1]


def _get(machine: _Machine, argument: Any) -> None:
    machine.stack.append(machine.memo[argument])


def _append(machine: _Machine, argument: Any) -> None:
    del argument
    _extend(machine, list(machine.take(1)))


def _appends(machine: _Machine, argument: Any) -> None:
    del argument
    _extend(machine, machine.since_mark())


def _extend(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not list:
        raise PickleError("not a valid pickle (it appends to what is no list)")
    target.extend(items)


def _set_item(machine: _Machine, argument: Any) -> None:
    del argument
    _update(machine, list(machine.take(2)))


def _set_items(machine: _Machine, argument: Any) -> None:
    del argument
    _update(machine, machine.since_mark())


def _update(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not dict or len(items) % 2:
        raise PickleError("not a valid pickle (it sets items of what is no dictionary)")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in {str, int}:  # hashing a tuple of tuples of tuples may take for ever
            raise PickleError("a key of a dictionary is neither text nor a whole number")
        target[key] = value


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(_named(machine, module, name))


def _stack_global(machine: _Machine, argument: Any) -> None:
    del argument
    module, name = machine.take(2)
    machine.stack.append(_named(machine, module, name))


def _named(machine: _Machine, module: Any, name: Any) -> Name:
    if type(module) is not str or type(name) is not str:
        raise PickleError("not a valid pickle (a name is no text)")
    try:
        return machine.names[module, name]
    except KeyError:
        raise PickleError(f"names {f'{module}.{name}'[:_SHOWN]}, which is not decoded") from None


def _reduce(machine: _Machine, argument: Any) -> None:
    del argument
    target, arguments = machine.take(2)
    if type(target) is not Name or target.call is None or type(arguments) is not tuple:
        raise PickleError("not a valid pickle (it calls what cannot be called)")
    machine.stack.append(target.call(*arguments))


def _new_object(machine: _Machine, argument: Any) -> None:
    del argument
    target, arguments = machine.take(2)
    if type(target) is not Name or target.make is None or type(arguments) is not tuple or arguments:
        raise PickleError("not a valid pickle (it makes an object of what is no class)")
    machine.stack.append(target.make())


def _build(machine: _Machine, argument: Any) -> None:
    del argument
    (state,) = machine.take(1)
    target = machine.stack[-1]
    if not isinstance(target, Buildable):
        raise PickleError("not a valid pickle (it gives a state to what has none)")
    target.build(state)


def _persistent_id(machine: _Machine, argument: Any) -> None:
    del argument
    (pid,) = machine.take(1)
    if machine.persistent is None:
        raise PickleError("refers to something outside of the pickle")
    machine.stack.append(machine.persistent(pid))


_Argument: TypeAlias = "Callable[[IO[bytes]], Any]"
_Step: TypeAlias = "Callable[[_Machine, Any], None]"
_STEPS: Final[Mapping[str, _Step]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _push),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), _push),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _get),
    "NONE": _new(lambda: None),
    "NEWTRUE": _new(lambda: True),
    "NEWFALSE": _new(lambda: False),
    "EMPTY_TUPLE": _new(tuple),
    "EMPTY_LIST": _new(list),
    "EMPTY_DICT": _new(dict),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "TUPLE": _tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "BUILD": _build,
    "BINPERSID": _persistent_id,
}
_STOP: Final = b"."
_NAMES: Final = {known.code.encode("latin-1"): known.name for known in pickletools.opcodes}
_OPERATIONS: Final[Mapping[bytes, tuple[_Step, _Argument | None]]] = {
    known.code.encode("latin-1"): (_STEPS[known.name], None if known.arg is None else known.arg.reader)
    for known in pickletools.opcodes
    if known.name in _STEPS
}
