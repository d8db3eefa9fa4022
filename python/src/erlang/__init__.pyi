"""Types of the module ``erlang``, which Python code has inside the BEAM."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, final

class ErlangError(Exception):
    """An Erlang function has failed."""

    cls: str
    reason: Any
    stacktrace: Any
    def __init__(self, cls: str, reason: object, stacktrace: object = (), _term: object = None) -> None: ...
    def __copy__(self) -> ErlangError: ...

class NotRegistered(LookupError, AttributeError):
    """No function, or no process, is registered by this name."""

class NotAllowed(PermissionError):
    """The environment of the application does not allow ``apply`` to call the function."""

class StateFull(RuntimeError):
    """The shared state has no room for the value."""

class Overloaded(RuntimeError):
    """Too many messages to another node wait."""

class Interrupted(BaseException):
    """The call has to stop."""

@final
class Term:
    """A pid, reference, port, fun, bitstring or atom of Erlang: comparable, hashable, and not made by Python."""

    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...
    def __lt__(self, other: Term) -> bool: ...
    def __le__(self, other: Term) -> bool: ...
    def __gt__(self, other: Term) -> bool: ...
    def __ge__(self, other: Term) -> bool: ...

class Monitor:
    """A monitored process."""

    def __init__(self, process: Term | str | tuple[Term | str, Term | str]) -> None: ...
    @property
    def is_down(self) -> bool:
        """Whether the process has ended, or the connection to its node is lost."""
    @property
    def reason(self) -> Any:
        """The reason for the end of the process; ``None`` before that."""
    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the process is down, at most ``timeout`` seconds; returns ``is_down``."""

class _State(MutableMapping[Any, Any]):
    """The state that all Python code and Erlang share."""

    def __getitem__(self, key: object) -> Any: ...
    def __setitem__(self, key: object, value: object) -> None: ...
    def __delitem__(self, key: object) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def pop(self, key: object, /, *default: Any) -> Any: ...
    def setdefault(self, key: object, default: Any = None, /) -> Any: ...
    def incr(self, key: object, amount: int = 1, /) -> int:
        """Adds to the integer of a key, 0 if there is none, and returns the new one."""

state: _State

def call(name: str, /, *args: object, **kwargs: object) -> Any:
    """Calls the Erlang function that is registered as ``name``, and returns its value."""

async def acall(name: str, /, *args: object, **kwargs: object) -> Any:
    """Calls an Erlang function like ``call``, while the event loop runs other tasks."""

def apply(
    module: str | Term, function: str | Term, args: list[Any] | tuple[Any, ...] = (), /
) -> Any:
    """Calls ``module:function`` with these arguments, if the environment allows that."""

def send(dest: Term | str | tuple[Term | str, Term | str], message: object, /) -> None:
    """Sends a message to a pid, a registered name, or a (name, node)."""

def self() -> Term:
    """Returns the process that the running code works for."""

def whereis(name: str | Term, /) -> Term | None:
    """Returns the local process that is registered by this name."""

def atom(name: str, /, *, create: bool = False) -> Term:
    """Returns an atom, which must exist unless ``create`` is true."""

def monitor(process: Term | str | tuple[Term | str, Term | str], /) -> Monitor:
    """Monitors a process."""

def demonitor(watched: Monitor, /) -> None:
    """Ends a monitor."""

def encoder(class_: type, function: Callable[[Any], Any] | None, /) -> None:
    """Has objects of a class converted by a function; ``None`` removes it."""

def decoder(tag: str, function: Callable[..., Any] | None, /) -> None:
    """Has tuples whose first element is the atom ``tag`` converted by a function; ``None`` removes it."""

def __getattr__(name: str) -> Callable[..., Any]:
    """Returns a registered function."""
