"""The Erlang side of the double of ``erlang``, for tests of Python code outside of the BEAM.

A test registers Python functions in the place of Erlang's, runs its code, and looks at the messages that the code
has sent. ``reset`` forgets all of that: call it before each test.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import erlang

#: The messages that code has sent, as pairs of the process and the message.
sent: list[tuple[Any, Any]] = []

_functions: dict[str, Callable[..., Any]] = {}
_allowed: dict[tuple[str, str], Callable[..., Any]] = {}
_processes: dict[str, "erlang.Term"] = {}
_ended: dict["erlang.Term", Any] = {}
_state: dict[tuple[Any, ...], tuple[Any, Any]] = {}


def register(name: str, function: Callable[..., Any]) -> None:
    """Has ``erlang.call(name, *args, **kwargs)`` call ``function(*args, **kwargs)``."""
    _check()
    _functions[name] = function


def allow(module: str, name: str, function: Callable[..., Any]) -> None:
    """Has ``erlang.apply(module, name, args)`` call ``function(*args)``."""
    _check()
    _allowed[module, name] = function


def process(name: str) -> "erlang.Term":
    """Returns a process that is registered by a name."""
    _check()
    import erlang

    made: erlang.Term = erlang._term(f"<{name}>")
    _ended.pop(made, None)
    _processes[name] = made
    return made


def end(ended: "erlang.Term", reason: Any = "normal") -> None:
    """Ends a process: its monitors are down, and its name is free."""
    _check()
    _ended[ended] = reason
    for name in [name for name, other in _processes.items() if other == ended]:
        del _processes[name]


def caller() -> "erlang.Term":
    """Returns the process that ``erlang.self()`` returns."""
    return _processes.get("caller") or process("caller")


def reset() -> None:
    """Forgets functions, processes, messages and the state."""
    _check()
    for kept in (sent, _functions, _allowed, _processes, _ended, _state):
        kept.clear()


def _check() -> None:
    """Refuses to work inside the BEAM, where code has the Erlang functions themselves."""
    module = sys.modules.get("erlang")
    if module is not None and not hasattr(module, "_is_double"):
        raise RuntimeError("erlang_testing is for tests outside of the BEAM; this code runs in it")
