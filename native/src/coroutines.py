"""The event loop of a context, and coroutines in it.

A context has one loop of the standard library from its first coroutine to its end, so that what is
bound to a loop stays valid from call to call. It is the current loop of the worker's thread, which
``tidy`` closes.
"""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Coroutine


_here = threading.local()


def loop() -> asyncio.AbstractEventLoop:
    """The loop of the calling thread, made if there is none."""
    found = getattr(_here, "loop", None)
    if found is None or found.is_closed():
        found = _here.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(found)
    return found


async def _await(awaitable: Awaitable) -> object:
    return await awaitable


def complete(awaitable: Awaitable) -> object:
    """The result of an awaitable, once it has run to its end."""
    running = asyncio._get_running_loop()
    if running is None:
        return _run(loop(), awaitable)
    # In the middle of a coroutine, that has called Erlang and waits for it: its loop goes on after.
    asyncio._set_running_loop(None)
    own = asyncio.new_event_loop()
    try:
        return _run(own, awaitable)
    finally:
        own.close()
        asyncio._set_running_loop(running)


def _run(where: asyncio.AbstractEventLoop, awaitable: Awaitable) -> object:
    coroutine = awaitable if inspect.iscoroutine(awaitable) else _await(awaitable)
    task = where.create_task(coroutine)
    try:
        return where.run_until_complete(task)
    except BaseException:
        if not task.done():
            # Interrupted: what it has to undo is undone.
            task.cancel()
            where.run_until_complete(asyncio.gather(task, return_exceptions=True))
        raise


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
