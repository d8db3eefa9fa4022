"""The class of ``sys.modules['__main__']`` while Python runs inside the BEAM.

Every context has a ``__main__`` module of its own, but an interpreter has one table of modules.
So the entry there shows each worker the module of the context that the worker serves: pickle finds
the classes of that context, and ``import __main__`` its variables. A thread that the code of a
context has started, directly or not, sees the module of that context. Any other thread sees an
empty module. Code of a program reads the entry on any thread, attached.
"""

import _thread
import sys
import types

#: ``_current.module`` is set by the worker, and where a thread begins, without running Python code.
_current = _thread._local()
_ModuleType = types.ModuleType


class _Main(_ModuleType):
    """A module whose attributes are those of the calling thread's ``__main__``."""

    def __getattribute__(self, name: str) -> object:
        """Returns an attribute of the thread's own module."""
        module = getattr(_current, "module", None)
        if module is None:
            return _ModuleType.__getattribute__(self, name)
        return getattr(module, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Assigns in the thread's own module."""
        module = getattr(_current, "module", None)
        if module is None:
            if name == "__class__":
                raise TypeError("the class of this entry shows each thread its own __main__")
            _ModuleType.__setattr__(self, name, value)
        else:
            setattr(module, name, value)

    def __delattr__(self, name: str) -> None:
        """Deletes from the thread's own module."""
        module = getattr(_current, "module", None)
        if module is None:
            _ModuleType.__delattr__(self, name)
        else:
            delattr(module, name)

    def __dir__(self) -> list:
        """Lists the names in the thread's own module."""
        module = getattr(_current, "module", None)
        return [] if module is None else dir(module)


class Loader:
    """The ``__loader__`` of a namespace, which empties it when it is collected as garbage.

    A collection finalizes the oldest object first, and the loader is older than the objects that
    code of the context makes. So files in the namespace are closed when their last reference is
    dropped, the outermost object first: in any other order a file may be closed before the buffer
    over it is written.
    """

    __slots__ = ("_namespace",)

    def __init__(self, namespace: dict):
        """Called by the engine when it makes the namespace."""
        self._namespace = namespace

    def __del__(self):
        """Drops the youngest entries first.

        Does nothing if code has replaced ``__loader__``: the namespace may be in use then.
        """
        namespace = self._namespace
        if namespace.get("__loader__") is not self:
            return
        for _ in range(len(namespace)):
            try:
                namespace.popitem()
            except KeyError:
                return

    def get_source(self, _name: str) -> None:
        """Called by ``linecache``; returns ``None``, since there is no source file."""


#: The descriptor of ``__class__``, which a class may override.
_class = object.__dict__["__class__"]


def install() -> _Main:
    """Puts the entry into ``sys.modules``, and returns it. Called once, by the engine."""
    entry = sys.modules["__main__"] = _Main("__main__")
    return entry


def reset(entry: types.ModuleType) -> None:
    """Gives the entry its class again, after code has assigned another."""
    _class.__set__(entry, _Main)
