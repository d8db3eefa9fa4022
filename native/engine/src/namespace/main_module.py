"""What ``sys.modules['__main__']`` is while Python runs inside the BEAM.

Every context has a ``__main__`` module of its own, but an interpreter has one table of modules.
So the entry there shows each worker thread the module of the context that it serves: pickle
finds the classes of that context, and ``import __main__`` its variables. So does a thread that the
code of a context has started, or such a thread. Any other thread sees an empty module.
"""

import _thread
import sys
import types

#: ``_current.module`` is set by the worker, and where a thread begins, without running Python code.
_current = _thread._local()
_ModuleType = types.ModuleType


class _Main(_ModuleType):
    """A module whose attributes are those of the asking thread's ``__main__``."""

    def __getattribute__(self, name: str) -> object:
        """The attribute of the thread's own module."""
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
        """The names in the thread's own module."""
        module = getattr(_current, "module", None)
        return [] if module is None else dir(module)


class Loader:
    """The ``__loader__`` of a namespace, which empties it when it is collected as garbage.

    A collection finalizes the oldest object first, which is this one. So files, which may be among
    the garbage, are closed by the end of their last reference, from the outermost object to the
    innermost, and not in any order, in which they would lose what they have buffered.
    """

    __slots__ = ("_namespace",)

    def __init__(self, namespace: dict):
        """Called when the namespace is made."""
        self._namespace = namespace

    def __del__(self):
        """Drops the youngest entries first.

        Does nothing if code has put another ``__loader__`` into the namespace, which is in use.
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
        """Asked by ``linecache``: there is none."""


#: The descriptor, past what a class of somebody's own makes of the attribute.
_class = object.__dict__["__class__"]


def install() -> _Main:
    """Puts the entry into the table of modules."""
    entry = sys.modules["__main__"] = _Main("__main__")
    return entry


def reset(entry: types.ModuleType) -> None:
    """Gives the entry its class again: code has assigned another."""
    _class.__set__(entry, _Main)
