"""The event loop of a context, and coroutines in it.

A context has one loop of the standard library from its first coroutine to its end, so that objects
that are bound to a loop stay valid from call to call. The loop is the current one of the worker's
thread, and ``close_context_loop`` closes it. Code may run other loops, on other threads: ``acall``
works in any loop.

Every function runs attached. The functions for the context are called by Rust on the worker of the
context; ``acall`` and the patches by code of a program, on any thread.
"""

import asyncio
import contextvars
import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine

#: ``loop``: the loop of the context; ``serving``: the same loop while the worker runs it between
#: jobs; ``awaited``: the task that a blocking call waits for, and ``result``: the future that ends
#: the wait; ``must_stop``: whether an interrupt ends the wait; ``was_interrupted``: whether an
#: interrupt has hit a callback of the loop, so that its tasks may never end.
_local = threading.local()
#: The host of the job whose task runs: a ``TaskHost``.
_host = contextvars.ContextVar("erlang_job", default=None)
#: The ``LoopWaker`` of each loop that has one.
_wakers = weakref.WeakKeyDictionary()
#: Calls of Erlang that coroutines await, in any loop, by their ids.
_pending = weakref.WeakValueDictionary()


class _Call:
    """A call of Erlang, and the future that its answer completes."""

    __slots__ = ("__weakref__", "context", "future", "native")

    def __init__(self, native: object, future: asyncio.Future):
        """Registers the call. Only the coroutine that awaits the call holds a reference to it."""
        self.native = native
        self.future = future
        self.context = contextvars.copy_context()
        _pending[native.number] = self

    def end(self) -> None:
        """Ends the call, when its coroutine has the answer or does not wait for it any more."""
        del _pending[self.native.number]
        self.native.end(self.future.done() and not self.future.cancelled())
        # An exception of the future refers to the frame that awaited it.
        self.future = None


def loop() -> asyncio.AbstractEventLoop:
    """Returns the loop of the calling thread; makes one if there is none."""
    found = getattr(_local, "loop", None)
    if found is None or found.is_closed():
        # Code has closed the loop: its tasks never end.
        _local.was_interrupted = found is not None
        found = _local.loop = _Loop()
        asyncio.set_event_loop(found)
    return found


class _Loop(asyncio.SelectorEventLoop):
    """The loop of a context, whatever the policy is: a loop that a waker can wake.

    The loop runs masked, and its callbacks do not: see ``loop_mask.rs``.
    """

    def _call_soon(self, callback: Callable, args: tuple, context: object) -> asyncio.Handle:
        return super()._call_soon(_unmasked, (callback, *args), context)

    def call_at(
        self, when: float, callback: Callable, *args: object, context: object = None
    ) -> asyncio.TimerHandle:
        return super().call_at(when, _unmasked, callback, *args, context=context)

    def _add_reader(self, fd: object, callback: Callable, *args: object) -> object:
        return super()._add_reader(fd, _unmasked, callback, *args)

    def _add_writer(self, fd: object, callback: Callable, *args: object) -> object:
        return super()._add_writer(fd, _unmasked, callback, *args)

    def add_waker(self, waker: object) -> None:
        """Makes the loop call ``_on_wake``, masked, when the waker wakes it."""
        super()._add_reader(waker.fileno(), _on_wake, self, waker)

    def call_exception_handler(self, context: dict) -> None:
        """Called by the loop for an error in a callback.

        An interrupt that was raised in a callback leaves the loop broken: it is stopped, and
        ``run_until_woken`` raises.
        """
        if not isinstance(context.get("exception"), _Interrupted):
            super().call_exception_handler(context)
        elif getattr(_local, "loop", None) is self:
            _local.was_interrupted = True
            if getattr(_local, "serving", None) is self:
                self.stop()


def close_context_loop() -> None:
    """Closes the loop of the context that ends on the calling thread."""
    left = getattr(_local, "loop", None)
    _local.__dict__.clear()
    if left is not None:
        # ``cleanup.close_loop`` misses a loop that is no longer the current one: ``asyncio.run``
        # leaves the thread without a current loop.
        _close(left)


def watch_loops() -> None:
    """Makes each loop register its waker, by which an interrupt of its thread wakes it.

    The signal of an interrupt breaks the system call of a loop, but the loop repeats the call (PEP
    475) without a look for a pending exception.
    """
    run_forever = asyncio.BaseEventLoop.run_forever

    @functools.wraps(run_forever)
    def watched_run_forever(self: asyncio.BaseEventLoop) -> None:
        try:
            found = loop_waker(self)
        except NotImplementedError:
            # A loop of another implementation, without readers: it cannot be woken.
            return run_forever(self)
        before = _set_running_waker(found)
        try:
            run_forever(self)
        finally:
            _set_running_waker(before)

    asyncio.BaseEventLoop.run_forever = watched_run_forever


def provide_context_loops(has_context: Callable[[], bool]) -> None:
    """Makes ``asyncio.get_event_loop`` return the loop of a context on its worker.

    The function makes a loop on Python's main thread only. COMPAT(3.13): from 3.14 on it raises on
    every thread without a loop.
    """
    policy = getattr(asyncio.events, "BaseDefaultEventLoopPolicy", None)
    if policy is None or sys.version_info >= (3, 14):
        return
    get_event_loop = policy.get_event_loop

    @functools.wraps(get_event_loop)
    def get_context_loop(self: asyncio.AbstractEventLoopPolicy) -> asyncio.AbstractEventLoop:
        local = self._local
        if local._loop is None and not local._set_called and has_context():
            loop()
        return get_event_loop(self)

    policy.get_event_loop = get_context_loop


def loop_waker(of: asyncio.AbstractEventLoop | None = None) -> object:
    """Returns the waker of a loop, by default of the loop of the calling thread."""
    of = of or loop()
    found = _wakers.get(of)
    if found is None:
        made = _LoopWaker()
        if isinstance(of, _Loop):
            of.add_waker(made)
        else:
            of.add_reader(made.fileno(), _on_wake, of, made)
        # Registered only once the reader is installed, or wake-ups would be lost.
        found = _wakers[of] = made
    return found


def _on_wake(of: asyncio.AbstractEventLoop, waker: object) -> None:
    """Called by the loop when its waker is readable.

    ``waker.after`` undoes the wake-ups when no callback is ready any more. All other causes of a
    wake-up are looked at after that: one that comes later makes the waker readable again.
    """
    number = waker.first()
    while number is not None:
        call = _pending.get(number)
        if call is not None:
            call.context.run(call.native.deliver, call.future)
        number = waker.after(number)
    is_interrupted = _take_interrupt()
    if getattr(_local, "serving", None) is of:
        # The worker cancels what must stop.
        of.stop()
    elif _cancel_unwanted() and getattr(_local, "result", None) is not None:
        # A blocking call runs the loop and must stop. Other tasks make progress meanwhile.
        awaited = getattr(_local, "awaited", None)
        if awaited is not None and awaited.get_loop() is of:
            _local.awaited = None
            awaited.cancel()
        elif is_interrupted:
            _local.must_stop = True
            of.stop()


def complete(awaitable: Awaitable) -> object:
    """Runs the loop of the calling thread until the awaitable is done, and returns its result."""
    running = asyncio._get_running_loop()
    if running is None:
        return _masked(_run_in_context, awaitable)
    # A coroutine has called Erlang by a blocking call, whose process runs this job. The loop of the
    # coroutine cannot run here.
    return outside(running, _run_nested, awaitable)


def _run_in_context(awaitable: Awaitable) -> object:
    return _run(loop(), awaitable)


def _run_nested(awaitable: Awaitable) -> object:
    nested = asyncio.new_event_loop()
    try:
        return _run(nested, awaitable)
    finally:
        _close(nested)


def outside(running: asyncio.AbstractEventLoop, function: Callable, *args: object) -> object:
    """Calls the function as if neither a loop nor a task were running in the calling thread.

    ``running`` is the loop that is. The loop and its task are the running ones again afterwards.
    """
    # COMPAT(3.13): up to that version the running task belongs to its loop, not to the thread.
    swap = asyncio.tasks._swap_current_task if sys.version_info >= (3, 14) else None
    task = swap and swap(running, None)
    try:
        asyncio._set_running_loop(None)
        return function(*args)
    finally:
        asyncio._set_running_loop(running)
        if swap:
            swap(running, task)


def _run(where: asyncio.AbstractEventLoop, awaitable: Awaitable) -> object:
    # The loop makes no task itself: its task factory may be code of the context.
    task = asyncio.Task(_coroutine(awaitable), loop=where)
    return _run_until(where, task, task)


def _run_until(
    where: asyncio.AbstractEventLoop, task: asyncio.Task, result: asyncio.Future
) -> object:
    """Runs the loop until ``result`` is done, and returns its value.

    If the wait is interrupted before, cancels the task and waits for its end.
    """
    before = getattr(_local, "awaited", None)
    _local.awaited = task
    try:
        return _wait(where, result)
    except BaseException:
        if not result.done():
            # The ``finally`` blocks of the task run.
            task.cancel()
            _wait(where, asyncio.gather(result, return_exceptions=True))
        raise
    finally:
        _local.awaited = before


def _wait(where: asyncio.AbstractEventLoop, result: asyncio.Future) -> object:
    """Like ``run_until_complete``, whose callback may stop the next run instead of its own."""
    before = getattr(_local, "result", None)
    _local.result, _local.must_stop = result, False
    result.add_done_callback(_stop)
    try:
        while not result.done():
            try:
                where.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # Any task that raises one of these ends the loop.
                continue
            if not result.done():
                if getattr(_local, "must_stop", False):
                    raise _Interrupted
                raise RuntimeError("Event loop stopped before Future completed.")
    finally:
        result.remove_done_callback(_stop)
        _local.result, _local.must_stop = before, False
    return result.result()


def _stop(result: asyncio.Future) -> None:
    if getattr(_local, "result", None) is result:
        result.get_loop().stop()


def _coroutine(awaitable: Awaitable) -> Coroutine:
    async def wait() -> object:
        return await awaitable

    return awaitable if inspect.iscoroutine(awaitable) else wait()


def begin(coroutine: Coroutine, host: object, on_done: Callable, is_first: bool) -> asyncio.Task:
    """Starts the task of a job, and calls ``on_done`` when it is done.

    ``is_first``: the context has no other task.
    """
    where = loop()
    if is_first:
        # A loop that was closed or interrupted had no task that could be lost.
        _local.was_interrupted = False
    loop_waker(where)
    context = contextvars.copy_context()
    context.run(_host.set, host)
    # The loop makes no task itself: its task factory may run code, and interrupts are masked.
    task = context.run(asyncio.Task, coroutine, loop=where)
    task.add_done_callback(on_done)
    return task


def task_host() -> object:
    """Returns the ``TaskHost`` of the running task; ``None`` if it is not the task of a job."""
    return _host.get()


def run_until_woken(once: bool) -> None:
    """Runs the loop until its waker wakes it; if ``once``, runs the callbacks that are due.

    Called by the worker between jobs, under a ``LoopMask``. Raises ``Interrupted`` if an interrupt
    has hit a callback.
    """
    where = _local.serving = loop()
    stop = where.call_soon(where.stop) if once else None
    try:
        if not _local.was_interrupted:
            where.run_forever()
    except (SystemExit, KeyboardInterrupt):
        # The exception ends the loop; it is the result of the task that has raised it as well.
        pass
    finally:
        _local.serving = None
        if stop is not None:
            stop.cancel()
    if _local.was_interrupted:
        _local.was_interrupted = False
        raise _Interrupted


async def acall(name: str, args: tuple, kwargs: dict) -> object:
    """Calls an Erlang function like ``erlang.call``, while the loop runs other tasks."""
    where = asyncio.get_running_loop()
    call = _Call(_start_call(name, args, kwargs, loop_waker(where)), where.create_future())
    try:
        return await call.future
    finally:
        call.end()
