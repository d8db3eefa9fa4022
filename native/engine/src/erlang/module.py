"""Erlang, for Python code that runs inside the BEAM.

``call`` calls a function that Erlang has registered; each such function is an attribute of this
module as well. ``send`` sends a message, ``self`` returns the process that the code runs for,
``state`` is a mapping that all code shares with Erlang.
"""

import functools as _functools
import importlib as _importlib
import operator as _operator
import sys as _sys
from collections.abc import Iterator as _Iterator, MutableMapping as _MutableMapping


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


class NotAllowed(PermissionError):
    """The environment of the application does not allow ``apply`` to call the function."""


class StateFull(RuntimeError):
    """The shared state has no room for the value: see the key ``max_state`` of the environment."""


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


async def acall(name: str, /, *args: object, **kwargs: object) -> object:
    """Calls an Erlang function like ``call``, while the event loop runs other tasks."""
    return await _event_loop().acall(name, args, kwargs)


def apply(module: object, function: object, args: list | tuple = (), /) -> object:
    """Calls ``module:function`` with these arguments, and returns its value.

    Raises ``NotAllowed`` unless the key ``callable`` of the application's environment names the
    function, and ``ErlangError`` if the function fails.
    """
    for name in (module, function):
        if not isinstance(name, (str, Term)):
            raise TypeError(f"a name is a str or an erlang.atom, not {type(name).__name__}")
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"the arguments are a list or a tuple, not {type(args).__name__}")
    found = _apply(module, function, list(args))
    if not isinstance(found, list):
        raise NotAllowed(
            f"erlang.apply may not call {module}:{function}/{len(args)}: "
            "the key 'callable' of erlang_python's environment does not name it"
        )
    return found[0]


def _reload(name: str) -> None:
    """Loads a module anew, or for the first time. Called for ``py:reload``.

    If that fails, the module is what it was.
    """
    if name in ("erlang", "__main__"):
        raise ImportError(f"the module {name} has no source that could be loaded anew")
    _importlib.invalidate_caches()
    module = _sys.modules.get(name)
    if module is None:
        _importlib.import_module(name)
        return
    namespace = vars(module)
    old = namespace.copy()
    try:
        _importlib.reload(module)
    except BaseException:
        namespace.update(old)
        for added in namespace.keys() - old.keys():
            namespace.pop(added, None)
        raise


def _reload_loaded(names: list) -> None:
    """Loads those of the modules anew that this process has. Called in a child process, before a job.

    A failure is printed: the job that follows is not to blame.
    """
    for name in names:
        if name in _sys.modules:
            try:
                _reload(name)
            except Exception as error:
                text = f"erlang_python: the module {name} was not reloaded in this process, and is what it was: "
                print(f"{text}{type(error).__name__}: {error}", file=_sys.stderr)


class _State(_MutableMapping):
    """The state that all Python code and Erlang share: a mapping of keys to values.

    Each operation is atomic, also between processes. Keys and values are Erlang terms: a value is
    converted when it is stored, and what ``[]`` returns is a new object each time, so a change of
    it changes nothing that is stored.

    A key is text, a number, ``None``, an ``erlang.Term``, or a list, tuple or dict of keys. Other
    objects have no value that Erlang could compare, and raise ``TypeError``.
    """

    def __repr__(self) -> str:
        """Says how many keys there are; their values may be big."""
        return f"<erlang.state with {len(self)} keys>"

    def __getitem__(self, key: object) -> object:
        """Returns the value of a key, or raises ``KeyError``."""
        return _found(key, _state("fetch", _key(key)))

    def __setitem__(self, key: object, value: object) -> None:
        """Stores a value. Raises ``StateFull``, and keeps the old value, if there is no room."""
        if not _state("store", _key(key), value):
            raise _full(key)

    def __delitem__(self, key: object) -> None:
        """Removes a key, or raises ``KeyError``."""
        if not _state("remove", _key(key)):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """Whether the key has a value."""
        return _state("has", _key(key))

    def __iter__(self) -> _Iterator:
        """Iterates over the keys that there are now."""
        return iter(_state("keys"))

    def __len__(self) -> int:
        """The number of keys."""
        return _state("size")

    def clear(self) -> None:
        """Removes all keys."""
        _state("clear")

    def pop(self, key: object, /, *default: object) -> object:
        """Removes a key and returns its value, or the default."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        # A value without a form in Python raises here, and stays.
        taken = _state("fetch", _key(key)) and _state("take", key)
        return default[0] if default and not taken else _found(key, taken)

    def popitem(self) -> tuple:
        """Removes some key, and returns it with its value; raises ``KeyError`` if there is none."""
        for key in self:
            try:
                return key, self.pop(key)
            except KeyError:
                # Other code has removed the key.
                continue
        raise KeyError("erlang.state is empty")

    def setdefault(self, key: object, default: object = None, /) -> object:
        """Returns the value of a key, which is stored now if there is none."""
        value = _state("store_new", _key(key), default)
        if not value:
            raise _full(key)
        return value[0]

    def incr(self, key: object, amount: int = 1, /) -> int:
        """Adds to the integer of a key, 0 if there is none, and returns the new one."""
        if not isinstance(amount, int):
            raise TypeError(f"the amount is an int, not {type(amount).__name__}")
        value = _state("incr", _key(key), int(amount))
        if value == "state_full":
            raise _full(key)
        if value == "not_an_integer":
            raise TypeError(f"the value of {key!r} is no integer")
        return value


def _key(key: object) -> object:
    """Returns a key that Erlang can compare."""
    if isinstance(key, (list, tuple)):
        parts = key
    elif isinstance(key, dict):
        parts = (*key.keys(), *key.values())
    elif key is None or isinstance(key, (str, bytes, bytearray, int, float, Term)):
        parts = ()
    else:
        raise TypeError(f"{type(key).__name__} cannot be a key of erlang.state, nor in one")
    for part in parts:
        _key(part)
    return key


def _found(key: object, found: list) -> object:
    """Returns the only item of a list; the key is missing if there is none."""
    if not found:
        raise KeyError(key)
    return found[0]


def _full(key: object) -> StateFull:
    return StateFull(f"erlang.state has no room for the value of {key!r}: see the key 'max_state'")


state = _State()


def _getattr(value: object, name: str) -> object:
    """Returns an attribute of a value; ``name`` may be dotted. For ``py:getattr``."""
    return _operator.attrgetter(name)(value)


def _type_name(value: object) -> str:
    """Returns the name of the class of a value, with its module. For ``py:type``."""
    cls = type(value)
    name = cls.__qualname__
    return name if cls.__module__ == "builtins" else f"{cls.__module__}.{name}"


def __getattr__(name: str) -> object:
    """Returns a registered function; called for a name that the module itself does not have."""
    if not _is_registered(name):
        raise NotRegistered(f"no Erlang function is registered as {name!r}")
    return _functools.partial(call, name)


def __dir__() -> list:
    """Lists the public names of the module, and the names of registered functions."""
    return sorted({name for name in globals() if not name.startswith("_")} | set(_registered()))
