"""Erlang, for Python code that runs inside the BEAM.

``call`` calls a function that Erlang has registered; each such function is an attribute of this
module as well. ``send`` sends a message, ``self`` returns the process that the code runs for.
"""

import functools
import operator


class ErlangError(Exception):
    """An Erlang function has failed.

    ``cls`` is ``'error'``, ``'exit'`` or ``'throw'``, ``reason`` the term it failed with,
    ``stacktrace`` the list of its frames. If no Python code catches the error, the Erlang caller of
    the Python code gets all three unchanged.
    """

    def __init__(self, cls: str, reason: object, stacktrace: object = (), _term: object = None):
        """Called by the engine, or by code that raises an error of its own without ``_term``."""
        super().__init__(cls, reason)
        self.cls = cls
        self.reason = reason
        self.stacktrace = stacktrace
        self._term = _term

    def __str__(self) -> str:
        """Class and reason."""
        return f"{self.cls}: {self.reason!r}"

    def __reduce__(self) -> tuple:
        """Pickles the class, the reason and the stack trace as Python objects.

        The Erlang term itself cannot leave the VM.
        """
        make, args, *_ = super().__reduce__()
        state = {name: value for name, value in vars(self).items() if name != "_term"}
        return make, args, state

    def __copy__(self) -> "ErlangError":
        """Copies the error with its Erlang term, which ``__reduce__`` leaves out."""
        make, args, _ = self.__reduce__()
        copied = make(*args)
        vars(copied).update(vars(self))
        return copied


class NotRegistered(LookupError, AttributeError):
    """No function, or no process, is registered by this name."""


class Overloaded(RuntimeError):
    """Too many messages to another node wait: the node is slow, or does not answer."""


class Monitor:
    """A monitored process. The monitor ends with ``demonitor``, or when this object is dropped."""

    def __init__(self, process: object):
        """Monitors a pid, a registered name, or a (name, node)."""
        self._process = process
        self._watch = _watch(process)
        # Returns when the monitor is set.
        _wait_down(())

    def __repr__(self) -> str:
        """Shows the process, and the reason for its end if it is down."""
        state = "watched" if self.reason is None else f"down: {self.reason!r}"
        return f"<erlang.Monitor of {self._process!r}, {state}>"

    @property
    def is_down(self) -> bool:
        """Whether the process has ended, or the connection to its node is lost."""
        return self._watch is not None and self._watch.reason() is not None

    @property
    def reason(self) -> object:
        """The reason for the end of the process; ``None`` before that, and after ``demonitor``."""
        return self._watch.reason()[0] if self.is_down else None

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the process is down, at most ``timeout`` seconds; returns ``is_down``."""
        watch = self._watch
        if watch is None:
            raise ValueError("the monitor has ended")
        if not self.is_down:
            _wait_down((watch.id, None if timeout is None else max(0, int(timeout * 1000))))
        return self.is_down


def monitor(process: object, /) -> Monitor:
    """Monitors a pid, a registered name, or a (name, node): see ``Monitor``.

    A dead process is down at once; a local name that no process has raises ``NotRegistered``.
    """
    return Monitor(process)


def demonitor(watched: Monitor, /) -> None:
    """Ends a monitor; does nothing if it has ended already."""
    watched._watch = None


async def acall(name: str, /, *args: object) -> object:
    """Calls an Erlang function like ``call``, while the event loop runs other tasks."""
    return await _event_loop().acall(name, args)


def _getattr(value: object, name: str) -> object:
    """Returns an attribute of a value; ``name`` may be dotted. For ``py:getattr``."""
    return operator.attrgetter(name)(value)


def _type_name(value: object) -> str:
    """Returns the name of the class of a value, with its module. For ``py:type``."""
    cls = type(value)
    name = cls.__qualname__
    return name if cls.__module__ == "builtins" else f"{cls.__module__}.{name}"


def __getattr__(name: str) -> object:
    """Returns a registered function; called for a name that the module itself does not have."""
    if not _is_registered(name):
        raise NotRegistered(f"no Erlang function is registered as {name!r}")
    return functools.partial(call, name)


def __dir__() -> list:
    """Lists the public names of the module, and the names of registered functions."""
    return sorted({name for name in globals() if not name.startswith("_")} | set(_registered()))
