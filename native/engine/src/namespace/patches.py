"""What is replaced in the standard library while Python runs inside the BEAM.

Called once, when Python has started, before any code of a program runs.
"""

import _thread
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable


def watch_changes(note_change: Callable[[], None], note_traced: Callable[[], None]) -> None:
    """Has noted what changes the calling thread, or the trace functions of all, before it does.

    No audit event tells of these functions.
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
                # One and the same in `posix` and `os`.
                made[name] = made.get(name) or noted(function, note)
                setattr(module, name, made[name])


class _Hook:
    """An audit hook of a context, kept in its namespace, and so as long as that."""

    __slots__ = ("__weakref__", "hook")

    def __init__(self, hook: Callable):
        """Kept by the context only."""
        self.hook = hook


def end_audit_hooks(current: object) -> None:
    """Has the audit hooks that code of a context adds end with the context.

    Python never takes one off: it would go on without the variables of its context, for all.
    ``current.module`` is the ``__main__`` of the context.
    """
    add = sys.addaudithook

    @functools.wraps(add)
    def addaudithook(hook: Callable) -> None:
        namespace = sys._getframe(1).f_globals
        module = getattr(current, "module", None)
        if module is None or object.__getattribute__(module, "__dict__") is not namespace:
            # Of a module, which stays.
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


def watch_threads(started: type, hold: Callable[[bool], None]) -> None:
    """Has each thread that is started noted, and keeps interruptions away meanwhile.

    ``started`` is what the thread runs.
    """

    def launch(function: object, args: object, kwargs: object, start: Callable) -> object:
        body = started(function, args, kwargs)
        hold(True)
        try:
            thread = start(body)
            # COMPAT(3.11): until the thread has begun it bears the identity of this one.
            if sys.version_info < (3, 12):
                body.wait_until_begun()
            return thread
        except BaseException:
            body.forget()
            raise
        finally:
            hold(False)

    start_new = _thread.start_new_thread

    @functools.wraps(start_new)
    def start_new_thread(function: Callable, args: tuple, kwargs: object = None, /) -> int:
        return launch(function, args, kwargs, lambda body: start_new(body, ()))

    # By an older name as well.
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
    """Keeps recursion within what the stack of a thread can carry."""
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
    # With a long one nobody else gets the GIL from a loop, the interrupter included.
    sys.setswitchinterval = setswitchinterval
    # It is another for a moment, when a worker waits for the GIL.
    sys.getswitchinterval = getswitchinterval
    threading.stack_size(stack_size)


def refuse_signals(reason: str) -> None:
    """Refuses the ways to signal one's own process that no audit hook sees."""

    def refused(*_args: object) -> None:
        """Refused: the signal would hit the VM."""
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
