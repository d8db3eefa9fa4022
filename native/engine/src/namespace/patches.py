"""Replaces functions of the standard library while Python runs inside the BEAM.

The public functions are called once, on Python's main thread, before any code of a program runs.
The replacements are called by code of a program, on any thread.
"""

import _thread
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable


def watch_changes(note_change: Callable[[], None], note_traced: Callable[[], None]) -> None:
    """Makes functions that change a thread call ``note_change`` before they do.

    The functions that set the trace functions of all threads call ``note_traced``. Python raises no
    audit event for these functions.
    """

    def noted(function: Callable, note: Callable[[], None]) -> Callable:
        @functools.wraps(function)
        def noted_function(*args: object, **kwargs: object) -> object:
            note()
            return function(*args, **kwargs)

        return noted_function

    changing = ["nice", "pthread_sigmask", "sched_setaffinity", "sched_setparam"]
    changing += ["sched_setscheduler", "set_coroutine_origin_tracking_depth", "set_name"]
    changing += ["setpriority"]
    notes = dict.fromkeys(changing, note_change)
    notes |= dict.fromkeys(["_settraceallthreads", "_setprofileallthreads"], note_traced)
    made = {}
    # `signal` calls the functions of `_signal`.
    for module in (sys.modules[name] for name in ("sys", "posix", "os", "_signal", "_thread")):
        for name, note in notes.items():
            function = getattr(module, name, None)
            if function is not None:
                # `posix` and `os` get the same object, as before.
                made[name] = made.get(name) or noted(function, note)
                setattr(module, name, made[name])


class _Hook:
    """An audit hook of a context. The namespace of the context holds the only reference."""

    __slots__ = ("__weakref__", "hook")

    def __init__(self, hook: Callable):
        """Called by ``addaudithook``."""
        self.hook = hook


def end_audit_hooks(current: object) -> None:
    """Makes the audit hooks that code of a context adds end with the context.

    Python never removes an audit hook: it would be called for all contexts, without the variables
    of its own. ``current.module`` is the ``__main__`` of the context.
    """
    add = sys.addaudithook

    @functools.wraps(add)
    def addaudithook(hook: Callable) -> None:
        namespace = sys._getframe(1).f_globals
        module = getattr(current, "module", None)
        if module is None or object.__getattribute__(module, "__dict__") is not namespace:
            # The caller is code of an imported module, which outlives the context.
            return add(hook)
        kept = _Hook(hook)
        find = weakref.ref(kept)

        def guarded(event: str, args: tuple) -> None:
            found = find()
            if found is not None:
                found.hook(event, args)

        if getattr(hook, "__cantrace__", False):
            guarded.__cantrace__ = True
        hooks = namespace.get("__audit_hooks__", ())
        namespace["__audit_hooks__"] = (*hooks, kept)
        add(guarded)

    sys.addaudithook = addaudithook


def watch_threads(started: type, mask: Callable[[bool], None]) -> None:
    """Makes each thread that Python code starts run an instance of ``started``.

    ``mask`` masks or unmasks interrupts in the calling thread, which is masked while it starts
    another one.
    """

    def launch(function: object, args: object, kwargs: object, start: Callable) -> object:
        body = started(function, args, kwargs)
        mask(True)
        try:
            thread = start(body)
            # COMPAT(3.11): until the thread has begun, its state has the identity of this one.
            if sys.version_info < (3, 12):
                body.wait_until_begun()
            return thread
        except BaseException:
            body.forget()
            raise
        finally:
            mask(False)

    start_new = _thread.start_new_thread

    @functools.wraps(start_new)
    def start_new_thread(function: Callable, args: tuple, kwargs: object = None, /) -> int:
        return launch(function, args, kwargs, lambda body: start_new(body, ()))

    # `start_new` is an older name of the same function.
    functions = {"start_new_thread": start_new_thread, "start_new": start_new_thread}
    start_joinable = getattr(_thread, "start_joinable_thread", None)
    if start_joinable is not None:

        @functools.wraps(start_joinable)
        def start_joinable_thread(function: Callable, *args: object, **kwargs: object) -> object:
            return launch(function, (), None, lambda body: start_joinable(body, *args, **kwargs))

        functions["start_joinable_thread"] = start_joinable_thread
    for name, function in functions.items():
        setattr(_thread, name, function)
        if hasattr(threading, "_" + name):
            setattr(threading, "_" + name, function)


def limit(depth: int, stack_size: int, note_interval: Callable[[int], None]) -> None:
    """Bounds the recursion limit, the switch interval, and the stacks of new threads.

    ``note_interval`` is called with the switch interval in microseconds.
    """
    set_limit = sys.setrecursionlimit

    def setrecursionlimit(limit: int, /) -> None:
        """Set the maximum depth of the Python interpreter stack, up to what a thread can carry."""
        set_limit(min(limit, depth))

    set_interval = sys.setswitchinterval
    chosen = sys.getswitchinterval()

    def setswitchinterval(interval: float, /) -> None:
        """Set the ideal thread switching delay, up to a tenth of a second."""
        nonlocal chosen
        set_interval(min(interval, 0.1))
        chosen = min(interval, 0.1)
        note_interval(max(1, int(chosen * 1e6)))

    def getswitchinterval() -> float:
        """Return the ideal thread switching delay, in seconds."""
        return chosen

    sys.setrecursionlimit = setrecursionlimit
    # With a long interval no other thread gets the GIL from a loop, not even the interrupter.
    sys.setswitchinterval = setswitchinterval
    # COMPAT(3.11): the true interval is shorter for a moment, when a worker waits for the GIL.
    sys.getswitchinterval = getswitchinterval
    threading.stack_size(stack_size)


def refuse_signals(reason: str) -> None:
    """Makes functions raise by which code would signal the VM without an audit event."""

    def refused(*_args: object) -> None:
        """Raises: the signal would hit the VM."""
        raise RuntimeError(reason)

    send = getattr(sys.modules["_signal"], "pidfd_send_signal", None)

    def pidfd_send_signal(pidfd: int, sig: int, *rest: object) -> None:
        """Send a signal to another process than this one."""
        with open(f"/proc/self/fdinfo/{int(pidfd)}", encoding="ascii") as lines:
            target = dict(line.split(":", 1) for line in lines).get("Pid", "")
        if target.strip() == str(os.getpid()) and sig:
            refused()
        send(pidfd, sig, *rest)

    functions = {"raise_signal": refused, "alarm": refused, "setitimer": refused}
    functions["pidfd_send_signal"] = pidfd_send_signal
    # `signal` takes its functions from `_signal` when it is imported.
    for module in (sys.modules[name] for name in ("_signal", "signal") if name in sys.modules):
        for name, function in functions.items():
            if hasattr(module, name):
                setattr(module, name, function)
