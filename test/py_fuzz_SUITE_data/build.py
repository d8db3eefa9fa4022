"""Builds Python objects from bytes, which are opcodes of a small stack machine.

A program reads as text: `i50i60l2` is a list of the integers 5 and 6. Every byte string is a
program, and so is every mutation of one. The suite runs this file in a context, and oracle.py
after it in the same namespace.
"""

import collections
import math
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Bits of the largest integer of the BEAM.
_MAX_BITS = 4194240
# Most elements of the objects of one program; a shared object counts at each of its uses.
_MAX_SIZE = 50_000
_CHARS = "aZ0 \0\n\x7f\x80\xff\u0100\u65e5\uffff\U0001f600\U0010ffff\ud800\udfff"
_FLOATS = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 5e-324, 1.7e308, 2.0**53, 2.0**64)


class _State:
    """The state that the calls for one input share."""

    # Whether hostile objects raise: not while the containers around them are built.
    armed = False
    # How many instances of _Odd are alive: none may be left after `forget`.
    alive = 0
    # The object of the last program, and its exact form after the way to Erlang and back.
    last: Any = None
    wanted: Any = None


def _raise_if_armed() -> None:
    """Raise, once the containers are built."""
    if _State.armed:
        raise RuntimeError("not asked")


class _Hostile:
    """Methods that a conversion through the C level must never call."""

    def __iter__(self) -> Iterator[Any]:
        _raise_if_armed()
        return iter(())

    def __len__(self) -> int:
        _raise_if_armed()
        return 0

    def __hash__(self) -> int:
        _raise_if_armed()
        return 7

    def __eq__(self, other: object) -> bool:
        _raise_if_armed()
        return self is other

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def items(self) -> Any:
        """Shadow `dict.items`."""
        raise RuntimeError("items")

    keys = values = tobytes = bit_length = to_bytes = __abs__ = __index__ = items


_BASES = (str, int, float, bytes, bytearray, list, tuple, dict, set, frozenset)
_HOSTILE = {base: type(f"_{base.__name__}", (_Hostile, base), {}) for base in _BASES}
# A class name that is not UTF-8, which the text of an error would contain.
_HOSTILE[list] = type("_list", (_Hostile, list), {"__qualname__": "\ud800"})
_Pair = collections.namedtuple("_Pair", "a b")


class _Odd:
    """An object without an Erlang form; `kind` selects how it misbehaves."""

    def __init__(self, kind: int) -> None:
        self.kind = kind % 6
        self.me = self if self.kind == 5 else None
        _State.alive += 1

    def __del__(self, state: type[_State] = _State) -> None:
        state.alive -= 1

    def __hash__(self) -> int:
        if self.kind == 1:
            _raise_if_armed()
        return (id(self) >> 4, 7, 1, 7, -2, 2**61)[self.kind]

    def __eq__(self, other: object) -> bool:
        if self.kind == 3:
            _raise_if_armed()
        return self is other or self.kind == 2

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    __iter__ = __repr__ = __str__ = __len__

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return str if self.kind == 4 else _Odd


def _view(data: bytes, kind: int) -> memoryview:
    """A memoryview: plain, with a stride, reversed, of words, or released."""
    view = memoryview(bytearray(data) if kind & 1 else data)
    if kind % 6 == 2:
        view = view[::2]
    elif kind % 6 == 3:
        view = view[::-1]
    elif kind % 6 == 4 and len(data) % 4 == 0 and data:
        view = view.cast("I")
    elif kind % 6 == 5:
        view.release()
    return view


def _misc(kind: int) -> Any:
    """An object of the standard library without an Erlang form, or with that of its base class."""
    choices: tuple[Callable[[], Any], ...] = (
        object, lambda: ..., lambda: sys, lambda: _view, lambda: type, lambda: range(3),
        lambda: 1j, lambda: iter([1]), lambda: ValueError("no"), lambda: (n for n in ()),
        lambda: {}.keys(), lambda: collections.deque([1]), lambda: collections.Counter("aab"),
        lambda: collections.OrderedDict(a=1), lambda: _Pair(1, [2]), lambda: slice(1),
    )
    return choices[kind % len(choices)]()


class _Machine:
    """The stack of objects, each with its size, and the opcodes that are left."""

    def __init__(self, program: bytes) -> None:
        self.tape = iter(program)
        self.stack: list[tuple[Any, int]] = []

    def run(self) -> Any:
        """Run the program; return the only object on the stack, or a list of all."""
        codes = list(_OPS)
        for code in self.tape:
            self.step(_OPS[code] if code in _OPS else _OPS[codes[code % len(codes)]])
        return self.stack[0][0] if len(self.stack) == 1 else [item for item, _ in self.stack]

    def step(self, operation: "Callable[[_Machine], None]") -> None:
        """Do one operation; undo it if the objects are too large."""
        before = list(self.stack)
        operation(self)
        if sum(size for _, size in self.stack) > _MAX_SIZE:
            self.stack = before

    def byte(self) -> int:
        """The next operand; a digit stands for its value, so that programs can be written."""
        code = next(self.tape, 0)
        return code - 48 if 48 <= code < 58 else code

    def bytes(self) -> bytes:
        """The next operand: its length, and up to 15 bytes."""
        return bytes(next(self.tape, 0) for _ in range(self.byte() % 16))

    def push(self, item: Any, size: int = 1) -> None:
        """Push an object of this size."""
        self.stack.append((item, size))

    def pop(self, count: int) -> tuple[list[Any], int]:
        """Take up to `count` objects; return them, and their size with a container around them."""
        taken = self.stack[len(self.stack) - count :] if count < len(self.stack) else self.stack
        self.stack = self.stack[: len(self.stack) - len(taken)]
        return [item for item, _ in taken], 1 + sum(size for _, size in taken)

    def collect(self, make: Callable[[Iterable[Any]], Any]) -> None:
        """Push a container of the topmost objects."""
        items, size = self.pop(self.byte() % 8)
        self.push(make(items), size)

    def big(self) -> None:
        """Push an integer near the largest one of the BEAM."""
        number = 1 << _MAX_BITS - 4 + self.byte() % 8
        self.push(-number if self.byte() & 1 else number - 1, _MAX_BITS // 1024)

    def integer(self) -> None:
        """Push an integer near a power of two."""
        number = (1 << self.byte()) + self.byte() - 2
        self.push(-number if self.byte() & 1 else number, 5)

    def wrap(self) -> None:
        """Make the topmost object an instance of a hostile subclass."""
        (item, *_), size = self.pop(1) if self.stack else ([None], 1)
        self.push(_HOSTILE[type(item)](item) if type(item) in _HOSTILE else item, size)

    def cycle(self) -> None:
        """Make the topmost list or dict contain itself, directly or in a tuple."""
        item = self.stack[-1][0] if self.stack else None
        inner = (item,) if self.byte() & 1 else item
        if isinstance(item, list):
            list.append(item, inner)
        elif isinstance(item, dict):
            dict.__setitem__(item, "self", inner)

    def nest(self) -> None:
        """Nest the topmost object in containers; the operands are hundreds, tens and ones."""
        (item, *_), size = self.pop(1) if self.stack else ([None], 1)
        kind, levels = self.byte(), self.byte() * 100 + self.byte() * 10 + self.byte()
        for _ in range(min(levels, 1100)):
            item = ([item], (item,), {"k": item})[kind % 3]
        self.push(item, size + min(levels, 1100))

    def repeat(self) -> None:
        """Repeat the topmost object in a list, in a tuple, or as the values of a dict."""
        (item, *_), size = self.pop(1) if self.stack else ([None], 1)
        kind, count = self.byte(), self.byte() * 3
        if size * count > _MAX_SIZE:
            return self.push(item, size)
        many = ([item] * count, (item,) * count, {n: item for n in range(count)})
        self.push(many[kind % 3], size * count + count + 1)

    def shuffle(self) -> None:
        """Push the topmost object again, or move the lowest one to the top."""
        if self.stack:
            self.stack.append(self.stack[-1] if self.byte() & 1 else self.stack.pop(0))


def _set(items: Iterable[Any]) -> set[Any]:
    """A set of the items that are hashable."""
    found: set[Any] = set()
    for item in items:
        try:
            found.add(item)
        except Exception:
            pass
    return found


def _dict(items: Iterable[Any]) -> dict[Any, Any]:
    """A dict of keys and values in turn, without the keys that are not hashable."""
    found: dict[Any, Any] = {}
    pairs = iter(items)
    for key, value in zip(pairs, pairs):
        try:
            found[key] = value
        except Exception:
            pass
    return found


_OPS: dict[int, Callable[[_Machine], None]] = {
    ord(code): operation
    for code, operation in {
        "i": lambda m: m.push(m.byte() - (256 if m.byte() & 1 else 0)),
        "I": _Machine.integer,
        "G": _Machine.big,
        "f": lambda m: m.push(struct.unpack("d", m.bytes()[:8].ljust(8, b"\0"))[0]),
        "F": lambda m: m.push(_FLOATS[m.byte() % len(_FLOATS)]),
        "s": lambda m: m.push("".join(_CHARS[c % len(_CHARS)] for c in m.bytes())),
        "q": lambda m: m.push(m.bytes().decode("latin-1")),
        "b": lambda m: m.push(m.bytes()),
        "a": lambda m: m.push(bytearray(m.bytes())),
        "m": lambda m: m.push(_view(m.bytes(), m.byte())),
        "n": lambda m: m.push(None),
        "y": lambda m: m.push(True),
        "z": lambda m: m.push(False),
        "t": lambda m: m.collect(tuple),
        "l": lambda m: m.collect(list),
        "S": lambda m: m.collect(_set),
        "Z": lambda m: m.collect(lambda items: frozenset(_set(items))),
        "d": lambda m: m.collect(_dict),
        "u": _Machine.wrap,
        "c": _Machine.cycle,
        "e": _Machine.nest,
        "r": _Machine.repeat,
        "x": _Machine.shuffle,
        "o": lambda m: m.push(_Odd(m.byte())),
        "O": lambda m: m.push(_misc(m.byte())),
    }.items()
}
