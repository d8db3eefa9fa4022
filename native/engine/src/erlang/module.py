"""Erlang, for Python code that runs inside the BEAM.

``call`` calls a function that Erlang has registered; each such function is an attribute of this
module as well. ``send`` sends a message, ``self`` is the process that the code runs for.
"""

import functools


class ErlangError(Exception):
    """An Erlang function has failed.

    ``cls`` is ``'error'``, ``'exit'`` or ``'throw'``, ``reason`` the term it failed with,
    ``stacktrace`` the list of its frames. If nothing catches it, the Erlang caller of the Python
    code gets the three of them as they were.
    """

    def __init__(self, cls: str, reason: object, stacktrace: object = (), _term: object = None):
        """An error of one of the three classes."""
        super().__init__(cls, reason)
        self.cls = cls
        self.reason = reason
        self.stacktrace = stacktrace
        self._term = _term

    def __str__(self) -> str:
        """Class and reason."""
        return f"{self.cls}: {self.reason!r}"

    def __reduce__(self) -> tuple:
        """For pickle: what the function failed with, as Python sees it.

        The Erlang term itself cannot leave the VM.
        """
        make, args, *_ = super().__reduce__()
        state = {name: value for name, value in vars(self).items() if name != "_term"}
        return make, args, state

    def __copy__(self) -> "ErlangError":
        """The same, with its Erlang term."""
        make, args, _ = self.__reduce__()
        copied = make(*args)
        vars(copied).update(vars(self))
        return copied


class NotRegistered(LookupError, AttributeError):
    """No function, or no process, is registered by this name."""


class Overloaded(RuntimeError):
    """Too many messages to another node wait: it is slow, or does not answer."""


class Monitor:
    """A process that is watched for Python code, until ``demonitor``, or as long as this lives."""

    def __init__(self, process: object):
        """Watches a pid, a registered name, or a (name, node)."""
        self._process = process
        self._watch = _watch(process)
        # The monitor is set when this returns.
        _wait_down(())

    def __repr__(self) -> str:
        """What is known."""
        state = "watched" if self.reason is None else f"down: {self.reason!r}"
        return f"<erlang.Monitor of {self._process!r}, {state}>"

    @property
    def is_down(self) -> bool:
        """Whether the process has ended, or its node is gone."""
        return self._watch is not None and self._watch.reason() is not None

    @property
    def reason(self) -> object:
        """Why it is down, or ``None`` while it is not, and after ``demonitor``."""
        return self._watch.reason()[0] if self.is_down else None

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the process is down, so many seconds at most; tells whether it is."""
        watch = self._watch
        if watch is None:
            raise ValueError("the monitor has ended")
        if not self.is_down:
            _wait_down((watch.id, None if timeout is None else max(0, int(timeout * 1000))))
        return self.is_down


def monitor(process: object, /) -> Monitor:
    """Watches a pid, a registered name, or a (name, node): see ``Monitor``.

    A process that is dead is down at once; a local name that nobody has raises ``NotRegistered``.
    """
    return Monitor(process)


def demonitor(watched: Monitor, /) -> None:
    """Ends a monitor. It may have ended already."""
    watched._watch = None


async def acall(name: str, /, *args: object) -> object:
    """As ``call``, for coroutines: the event loop goes on meanwhile."""
    return await _event_loop().acall(name, args)


def __getattr__(name: str) -> object:
    """A registered function."""
    if not _is_registered(name):
        raise NotRegistered(f"no Erlang function is registered as {name!r}")
    return functools.partial(call, name)


def __dir__() -> list:
    """What the module has, and the names of registered functions."""
    return sorted({name for name in globals() if not name.startswith("_")} | set(_registered()))
