"""The event loop of a context, and coroutines in it.

A context has one loop of the standard library from its first coroutine to its end, so that what is
bound to a loop stays valid from call to call. It is the current loop of the worker's thread, which
``tidy`` closes. Code may run loops of its own, on other threads: ``acall`` works in any.
"""

import asyncio
import contextvars
import functools
import inspect
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine

#: ``loop``: the loop of the context; ``pumping``: the same while the worker waits in it; ``waiting``:
#: the task that a call waits for; ``was_hit``: whether what is in flight may never land.
_here = threading.local()
#: The job that a task belongs to.
_job = contextvars.ContextVar("erlang_job", default=None)
#: What wakes a loop: one bell each.
_bells = weakref.WeakKeyDictionary()
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
        found = _here.loop = asyncio.new_event_loop()
        found.set_exception_handler(_hear)
        asyncio.set_event_loop(found)
    return found


def _hear(of: asyncio.AbstractEventLoop, context: dict) -> None:
    """Something came up in the loop itself: if it was an interruption, what it hit is lost."""
    if not isinstance(context.get("exception"), _Interrupted):
        of.default_exception_handler(context)
    elif getattr(_here, "loop", None) is of:
        _here.was_hit = True
        if getattr(_here, "pumping", None) is of:
            of.stop()


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
    def attended_run_forever(self: asyncio.BaseEventLoop) -> None:
        try:
            found = bell(self)
        except NotImplementedError:
            # A loop of somebody's own, which watches nothing.
            return run_forever(self)
        before = _attend(found)
        try:
            run_forever(self)
        finally:
            _attend(before)

    asyncio.BaseEventLoop.run_forever = attended_run_forever


def bell(of: asyncio.AbstractEventLoop | None = None) -> object:
    """What wakes a loop, that of the calling thread by default."""
    of = of or loop()
    found = _bells.get(of)
    if found is None:
        made = _Bell()
        of.add_reader(made.fileno(), _answer, of, made)
        # Not before: a bell that nobody watches would ring in vain.
        found = _bells[of] = made
    return found


def _answer(of: asyncio.AbstractEventLoop, rung: object) -> None:
    # First of all: whatever comes up in here, the worker looks what it was called for.
    if getattr(_here, "pumping", None) is of:
        of.stop()
    else:
        # A call waits in the loop, and whatever is in flight there goes on meanwhile.
        is_unwanted = _tend_flights()
        waiting = getattr(_here, "waiting", None)
        if is_unwanted and waiting is not None and waiting.get_loop() is of:
            _here.waiting = None
            waiting.cancel()
    number = rung.first()
    while number is not None:
        call = _pending.get(number)
        if call is not None:
            call.context.run(call.native.deliver, call.future)
        number = rung.after(number)


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
    task = where.create_task(_coroutine(awaitable))
    before = getattr(_here, "waiting", None)
    _here.waiting = task
    try:
        return _wait(where, task)
    except BaseException as error:
        if not task.done():
            if isinstance(error, _Interrupted) and where is getattr(_here, "loop", None):
                _here.was_hit = True
            # What it has to undo is undone.
            task.cancel()
            where.run_until_complete(asyncio.gather(task, return_exceptions=True))
        raise
    finally:
        _here.waiting = before


def _wait(where: asyncio.AbstractEventLoop, task: asyncio.Task) -> object:
    while True:
        try:
            return where.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):
            # A loop ends by those of any task: it may be that of another.
            if task.done():
                return task.result()


def _coroutine(awaitable: Awaitable) -> Coroutine:
    async def wait() -> object:
        return await awaitable

    return awaitable if inspect.iscoroutine(awaitable) else wait()


async def _take(iterator: object, items: list, count: int) -> bool:
    for _ in range(count):
        try:
            items.append(await iterator.__anext__())
        except StopAsyncIteration:
            return True
    return False


def next_items(iterator: object, items: list, count: int) -> bool:
    """Appends so many items of an asynchronous iterator; ``True`` at its end."""
    return complete(_take(iterator, items, count))


def begin(coroutine: Coroutine, job: object, landing: Callable, is_first: bool) -> asyncio.Task:
    """Starts a task of a job, which calls ``landing`` when it is done."""
    where = loop()
    if is_first:
        # Nothing was lost with a loop that was closed.
        _here.was_hit = False
    bell(where)
    context = contextvars.copy_context()
    context.run(_job.set, job)
    task = context.run(where.create_task, coroutine)
    task.add_done_callback(landing)
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
    call = _Call(_start_call(name, args, bell(where)), where.create_future())
    try:
        return await call.future
    finally:
        call.end()
