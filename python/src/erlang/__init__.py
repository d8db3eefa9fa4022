"""A double of the module ``erlang``, for tests outside of the BEAM: see ``erlang_testing``.

Inside the BEAM the module of this name is built in, and found before this one.
"""

import copy as _copy
import functools as _functools
from collections.abc import Callable as _Callable
from collections.abc import Iterator as _Iterator
from collections.abc import MutableMapping as _MutableMapping

import erlang_testing as _testing

_is_double = True


class ErlangError(Exception):
    """An Erlang function has failed."""

    def __init__(self, cls: str, reason: object, stacktrace: object = (), _term: object = None) -> None:
        super().__init__(cls, reason)
        self.cls = cls
        self.reason = reason
        self.stacktrace = stacktrace
        self._term = _term

    def __str__(self) -> str:
        return f"{self.cls}: {self.reason!r}"

    def __copy__(self) -> "ErlangError":
        return type(self)(self.cls, self.reason, self.stacktrace, self._term)


class NotRegistered(LookupError, AttributeError):
    """No function, or no process, is registered by this name."""


class NotAllowed(PermissionError):
    """``erlang_testing.allow`` does not name the function."""


class StateFull(RuntimeError):
    """The shared state has no room for the value. Never raised here."""


class Overloaded(RuntimeError):
    """Too many messages to another node wait. Never raised here."""


class Interrupted(BaseException):
    """The call has to stop. Never raised here."""


@_functools.total_ordering
class Term:
    """An atom or a process. Made by ``atom`` and by ``erlang_testing.process``."""

    _text = ""

    def __repr__(self) -> str:
        return f"<erlang.Term {self._text}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Term) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __lt__(self, other: "Term") -> bool:
        return self._text < other._text


def _term(text: str) -> Term:
    """Makes a term that is shown as this text."""
    term = Term()
    term._text = text
    return term


class Monitor:
    """A monitored process."""

    def __init__(self, process: object) -> None:
        self._process: Term | None = _process(process)

    @property
    def is_down(self) -> bool:
        """Whether ``erlang_testing.end`` has ended the process."""
        return self._process is not None and self._process in _testing._ended

    @property
    def reason(self) -> object:
        """The reason that ``erlang_testing.end`` was given; ``None`` before that."""
        return _testing._ended.get(self._process) if self._process is not None else None

    def wait(self, timeout: float | None = None) -> bool:
        """Returns ``is_down``; nothing ends while a test waits."""
        if self._process is None:
            raise ValueError("the monitor has ended")
        if timeout is None and not self.is_down:
            raise RuntimeError("the process never ends: call erlang_testing.end first")
        return self.is_down


class _State(_MutableMapping):
    """A mapping that copies its values, as the one in the BEAM does."""

    def __getitem__(self, key: object) -> object:
        return _copy.deepcopy(_testing._state[_frozen(key)][1])

    def __setitem__(self, key: object, value: object) -> None:
        _testing._state[_frozen(key)] = _copy.deepcopy((key, value))

    def __delitem__(self, key: object) -> None:
        if _testing._state.pop(_frozen(key), None) is None:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return _frozen(key) in _testing._state

    def __iter__(self) -> _Iterator:
        return iter([_copy.deepcopy(key) for key, _ in _testing._state.values()])

    def __len__(self) -> int:
        return len(_testing._state)

    def pop(self, key: object, /, *default: object) -> object:
        return super().pop(key, *default)

    def setdefault(self, key: object, default: object = None, /) -> object:
        return super().setdefault(key, default)

    def incr(self, key: object, amount: int = 1, /) -> int:
        """Adds to the integer of a key, 0 if there is none, and returns the new one."""
        value = self.get(key, 0)
        if type(value) is not int or not isinstance(amount, int):
            raise TypeError("the value or the amount is no integer")
        self[key] = value + int(amount)
        return value + int(amount)


def _frozen(key: object) -> tuple:
    """Returns a hashable form of a key, in which 1, 1.0 and True differ, as they do in Erlang."""
    if isinstance(key, (list, tuple)):
        return ("list" if isinstance(key, list) else "tuple", *map(_frozen, key))
    if isinstance(key, dict):
        return ("dict", frozenset((_frozen(k), _frozen(v)) for k, v in key.items()))
    if key is None or isinstance(key, (str, bytes, bytearray, int, float, Term)):
        return (type(key).__name__, bytes(key) if isinstance(key, bytearray) else key)
    raise TypeError(f"{type(key).__name__} cannot be a key of erlang.state, nor in one")


state = _State()


def call(name: str, /, *args: object, **kwargs: object) -> object:
    """Calls the function that ``erlang_testing.register`` has given this name."""
    return _registered(name)(*args, **kwargs)


async def acall(name: str, /, *args: object, **kwargs: object) -> object:
    """Calls a function like ``call``."""
    return call(name, *args, **kwargs)


def apply(module: object, function: object, args: list | tuple = (), /) -> object:
    """Calls the function that ``erlang_testing.allow`` has given this name."""
    for name in (module, function):
        if not isinstance(name, (str, Term)):
            raise TypeError(f"a name is a str or an erlang.atom, not {type(name).__name__}")
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"the arguments are a list or a tuple, not {type(args).__name__}")
    found = _testing._allowed.get((_name(module), _name(function)))
    if found is None:
        raise NotAllowed(f"erlang.apply may not call {module}:{function}/{len(args)}")
    return found(*args)


def send(dest: object, message: object, /) -> None:
    """Appends the message to ``erlang_testing.sent``."""
    _testing.sent.append((_process(dest) if isinstance(dest, (str, Term)) else dest, message))


def self() -> Term:
    """Returns the process that the test runs for: ``erlang_testing.caller()``."""
    return _testing.caller()


def whereis(name: object, /) -> Term | None:
    """Returns the process that ``erlang_testing.process`` has made with this name."""
    if not isinstance(name, (str, Term)):
        raise TypeError("a name is a str or an atom")
    return _testing._processes.get(_name(name))


def atom(name: str, /, *, create: bool = False) -> Term:
    """Returns an atom, which here always exists."""
    return _term(name)


def monitor(process: object, /) -> Monitor:
    """Monitors a process."""
    return Monitor(process)


def demonitor(watched: Monitor, /) -> None:
    """Ends a monitor; does nothing if it has ended already."""
    watched._process = None


def encoder(class_: type, function: _Callable | None, /) -> None:
    """Checks the arguments: nothing is converted here."""
    if not isinstance(class_, type):
        raise TypeError("the first argument of encoder() must be a class")
    _converter(function)


def decoder(tag: str, function: _Callable | None, /) -> None:
    """Checks the arguments: nothing is converted here."""
    if not isinstance(tag, str):
        raise TypeError("the first argument of decoder() must be the name of an atom")
    _converter(function)


def _converter(function: _Callable | None) -> None:
    if function is not None and not callable(function):
        raise TypeError("the second argument must be a function, or None")


def _name(name: object) -> str:
    return name._text if isinstance(name, Term) else str(name)


def _process(process: object) -> Term:
    if isinstance(process, str):
        found = _testing._processes.get(process)
        if found is None:
            raise NotRegistered(f"no process is registered as {process!r}")
        return found
    if not isinstance(process, Term):
        raise TypeError("a process is a pid, a registered name, or a tuple of name and node")
    return process


def _registered(name: str) -> _Callable:
    found = _testing._functions.get(name)
    if found is None:
        raise NotRegistered(f"no Erlang function is registered as {name!r}")
    return found


def __getattr__(name: str) -> _Callable:
    """Returns a registered function."""
    _registered(name)
    return _functools.partial(call, name)


def __dir__() -> list:
    """Lists the public names of the module, and the names of registered functions."""
    return sorted({name for name in globals() if not name.startswith("_")} | set(_testing._functions))
