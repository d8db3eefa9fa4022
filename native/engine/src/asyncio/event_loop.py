"""The event loop of a context, and coroutines in it.

A context has one loop of the standard library from its first coroutine to its end, so that what is
bound to a loop stays valid from call to call. It is the current loop of the worker's thread, which
``cleanup`` closes. Code may run loops of its own, on other threads: ``acall`` works in any.
"""

import asyncio
import contextvars
import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine

#: ``loop``: the loop of the context; ``pumping``: the same while the worker waits in it; ``waiting``:
#: the task that a call waits for; ``was_hit``: whether what is in flight may never land.
_here = threading.local()
#: The job that a task belongs to.
_job = contextvars.ContextVar("erlang_job", default=None)
#: What wakes a loop: one bell each.
_wakers = weakref.WeakKeyDictionary()
#: Calls of Erlang that some loop waits for, by their numbers: as long as they are awaited.
_pending = weakref.WeakValueDictionary()


class _Call:
    """A call of Erlang, and the future that gets its answer."""

    __slots__ = ("__weakref__", "context", "future", "native")

    def __init__(self, native: object, future: asyncio.Future):
        """Kept by the coroutine that awaits it only."""
        self.native = native
        self.future = future
        self.context = contextvars.copy_context()
        _pending[native.number] = self

    def end(self) -> None:
        """Nobody awaits it any more."""
        del _pending[self.native.number]
        self.native.end(self.future.done() and not self.future.cancelled())
        # An exception of the future refers to the frame that awaited it.
        self.future = None


def loop() -> asyncio.AbstractEventLoop:
    """The loop of the calling thread, made if there is none."""
    found = getattr(_here, "loop", None)
    if found is None or found.is_closed():
        # Code has closed it: what was in flight there never lands.
        _here.was_hit = found is not None
        found = _here.loop = _Loop()
        asyncio.set_event_loop(found)
    return found


class _Loop(asyncio.SelectorEventLoop):
    """The loop of a context, whatever the policy says: one that can be woken to be interrupted."""

    def call_exception_handler(self, context: dict) -> None:
        """Called for an error in a callback of the loop. What an interruption has hit is lost."""
        if not isinstance(context.get("exception"), _Interrupted):
            super().call_exception_handler(context)
        elif getattr(_here, "loop", None) is self:
            _here.was_hit = True
            if getattr(_here, "pumping", None) is self:
                self.stop()


def forget() -> None:
    """The context ends: the next one here has a loop of its own, whatever became of this one."""
    left = getattr(_here, "loop", None)
    _here.__dict__.clear()
    if left is not None:
        # It may be set for nobody any more: ``asyncio.run`` leaves none.
        _close(left)


def watch_loops() -> None:
    """Has the bell of each loop rung when its thread is to be interrupted.

    An interruption breaks system calls, but a loop goes back to waiting for its descriptors (PEP
    475), and never looks whether an exception is pending.
    """
    run_forever = asyncio.BaseEventLoop.run_forever

    @functools.wraps(run_forever)
    def watched_run_forever(self: asyncio.BaseEventLoop) -> None:
        try:
            found = loop_waker(self)
        except NotImplementedError:
            # A loop of somebody's own, which watches nothing.
            return run_forever(self)
        before = _run_loop(found)
        try:
            run_forever(self)
        finally:
            _run_loop(before)

    asyncio.BaseEventLoop.run_forever = watched_run_forever


def give_loops(has_context: Callable[[], bool]) -> None:
    """Has ``asyncio.get_event_loop`` give a context its loop, as it gives Python's main thread one.

    COMPAT(3.13): from 3.14 on it raises on every thread that has none.
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
    """What wakes a loop, that of the calling thread by default."""
    of = of or loop()
    found = _wakers.get(of)
    if found is None:
        made = _LoopWaker()
        of.add_reader(made.fileno(), _woken, of, made)
        # Not before: a bell that nobody watches would ring in vain.
        found = _wakers[of] = made
    return found


def _woken(of: asyncio.AbstractEventLoop, waker: object) -> None:
    # First of all: whatever comes up in here, the worker looks what it was called for.
    if getattr(_here, "pumping", None) is of:
        of.stop()
    else:
        # A call waits in the loop, and whatever is in flight there goes on meanwhile.
        is_unwanted = _cancel_unwanted()
        waiting = getattr(_here, "waiting", None)
        if is_unwanted and waiting is not None and waiting.get_loop() is of:
            _here.waiting = None
            waiting.cancel()
    number = waker.first()
    while number is not None:
        call = _pending.get(number)
        if call is not None:
            call.context.run(call.native.deliver, call.future)
        number = waker.after(number)


def complete(awaitable: Awaitable) -> object:
    """The result of an awaitable, once it has run to its end."""
    running = asyncio._get_running_loop()
    if running is None:
        return _run(loop(), awaitable)
    # In the middle of a coroutine, which has called Erlang and waits for it: its loop goes on after,
    # whatever comes up in here.
    try:
        asyncio._set_running_loop(None)
        own = asyncio.new_event_loop()
        try:
            return _run(own, awaitable)
        finally:
            _close(own)
    finally:
        asyncio._set_running_loop(running)


def _run(where: asyncio.AbstractEventLoop, awaitable: Awaitable) -> object:
    # Not by the loop, whose factory may be code of the context.
    task = asyncio.Task(_coroutine(awaitable), loop=where)
    return _run_until(where, task, task)


def _run_until(
    where: asyncio.AbstractEventLoop, task: asyncio.Task, result: asyncio.Future
) -> object:
    """The result that a task brings; the task is cancelled if the wait ends before."""
    before = getattr(_here, "waiting", None)
    _here.waiting = task
    try:
        return _wait(where, result)
    except BaseException as error:
        if not result.done():
            if isinstance(error, _Interrupted) and where is getattr(_here, "loop", None):
                _here.was_hit = True
            # What it has to undo is undone.
            task.cancel()
            where.run_until_complete(asyncio.gather(result, return_exceptions=True))
        raise
    finally:
        _here.waiting = before


def _wait(where: asyncio.AbstractEventLoop, result: asyncio.Future) -> object:
    while True:
        try:
            return where.run_until_complete(result)
        except (SystemExit, KeyboardInterrupt):
            # A loop ends by those of any task: it may be that of another.
            if result.done():
                return result.result()


def _coroutine(awaitable: Awaitable) -> Coroutine:
    async def wait() -> object:
        return await awaitable

    return awaitable if inspect.iscoroutine(awaitable) else wait()


class Stream:
    """An asynchronous iterator that is asked on demand, in one task and one context.

    As in an ``async for``: a timeout around a ``yield`` fires, and a context variable that was set
    before an item can be reset after it.
    """

    def __init__(self, iterator: object):
        """Called on the worker that keeps the iterator."""
        self._iterator = iterator
        self._task = None
        self._context = None
        #: What the task has to do next, and the future of its result.
        self._demand = None
        #: The task waits for that.
        self._waiter = None
        #: The loop of demands that are made in the middle of a coroutine.
        self._own = None
        self._is_over = False

    def next_items(self, items: list, count: int) -> bool:
        """Appends ``count`` items, or fewer at the end; ``True`` then."""
        return self._do(lambda error: self._take(items, count, error))

    def close(self) -> None:
        """Ends a generator, whose ``finally`` runs, and the task. Called between two demands."""
        self._is_over = True
        if hasattr(self._iterator, "aclose"):
            self._do(lambda _: self._iterator.aclose())
        elif self._task is not None and not self._task.get_loop().is_closed():
            self._task.cancel()
        self._end_own()

    def _end_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            _close(own)

    def _do(self, work: Callable[[object], Awaitable]) -> object:
        running = asyncio._get_running_loop()
        if running is None:
            return self._do_in(loop(), work)
        # In the middle of a coroutine, whose loop cannot go on: in a loop of the stream's own. That
        # stays as long as the task does, since a loop closes the generators that were begun in it.
        asyncio._set_running_loop(None)
        try:
            self._own = self._own or asyncio.new_event_loop()
            try:
                return self._do_in(self._own, work)
            finally:
                if self._task is None or self._task.done():
                    self._end_own()
        finally:
            asyncio._set_running_loop(running)

    def _do_in(self, where: asyncio.AbstractEventLoop, work: Callable) -> object:
        if self._task is None or self._task.done() or self._task.get_loop() is not where:
            if self._task is not None:
                # Code has closed its loop: the task stays where it is.
                self._task._log_destroy_pending = False
                self._waiter = None
            self._context = self._context or contextvars.copy_context()
            self._task = self._context.run(asyncio.Task, self._serve(), loop=where)
        self._demand = (work, where.create_future())
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return _run_until(where, self._task, self._demand[1])

    async def _serve(self) -> None:
        error = None
        while True:
            while self._demand is None:
                waiter = self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await waiter
                except asyncio.CancelledError as cancelled:
                    # By a timeout that the iterator has set: raised in it, where it stands.
                    error = cancelled
                    if self._is_over:
                        return
                finally:
                    if self._waiter is waiter:
                        self._waiter = None
            if not await self._meet(error) or self._is_over:
                return
            error = None

    async def _meet(self, error: object) -> bool:
        """Meets a demand, and keeps nothing of it; ``False`` if the iterator has failed."""
        (work, met), self._demand = self._demand, None
        try:
            result = await work(error)
        except BaseException as raised:
            if not met.done():
                met.set_exception(raised)
            return False
        if not met.done():
            met.set_result(result)
        return True

    async def _take(self, items: list, count: int, error: object) -> bool:
        for _ in range(count):
            try:
                if error is None:
                    item = await self._iterator.__anext__()
                elif hasattr(self._iterator, "athrow"):
                    thrown, error = error, None
                    item = await self._iterator.athrow(thrown)
                else:
                    raise error
            except StopAsyncIteration:
                self._is_over = True
                return True
            items.append(item)
        return False


def begin(coroutine: Coroutine, job: object, on_done: Callable, is_first: bool) -> asyncio.Task:
    """Starts a task of a job, which calls ``on_done`` when it is done."""
    where = loop()
    if is_first:
        # Nothing was lost with a loop that was closed.
        _here.was_hit = False
    loop_waker(where)
    context = contextvars.copy_context()
    context.run(_job.set, job)
    # Not by the loop, whose factory may run code, while interrupts are masked here.
    task = context.run(asyncio.Task, coroutine, loop=where)
    task.add_done_callback(on_done)
    return task


def job() -> object:
    """The job of the running task, if it belongs to one."""
    return _job.get()


def pump(once: bool) -> None:
    """Runs the loop until its bell rings; or, ``once``, what is due in it."""
    where = _here.pumping = loop()
    stop = where.call_soon(where.stop) if once else None
    try:
        if not _here.was_hit:
            where.run_forever()
    except (SystemExit, KeyboardInterrupt):
        # A loop ends by those, but the task that has raised it has it as its result.
        pass
    finally:
        _here.pumping = None
        if stop is not None:
            stop.cancel()
    if _here.was_hit:
        _here.was_hit = False
        raise _Interrupted


async def acall(name: str, args: tuple) -> object:
    """As ``erlang.call``, while the loop goes on."""
    where = asyncio.get_running_loop()
    call = _Call(_start_call(name, args, loop_waker(where)), where.create_future())
    try:
        return await call.future
    finally:
        call.end()
