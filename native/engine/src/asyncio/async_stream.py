"""The asynchronous iterators behind streams.

``_event_loop`` is the module of ``event_loop.py``, which is loaded before this one.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable


class Stream:
    """An asynchronous iterator whose items are taken on demand, in one task and one context.

    As in an ``async for``: a timeout around a ``yield`` fires, and a context variable that was set
    before an item can be reset after it.
    """

    def __init__(self, iterator: object):
        """Makes the stream, which has no task until the first demand."""
        self._iterator = iterator
        self._task = None
        self._context = None
        #: The next piece of work of the task, and the future of its result.
        self._demand = None
        #: The future that the task waits for while there is no demand.
        self._waiter = None
        #: The loop for demands of jobs that run in the middle of a coroutine.
        self._private_loop = None
        self._is_over = False

    def next_items(self, items: list, count: int) -> bool:
        """Appends ``count`` items, or fewer at the end; returns ``True`` at the end."""
        return self._request(lambda error: self._collect(items, count, error))

    def close(self) -> None:
        """Closes a generator, whose ``finally`` runs, and ends the task. Called between demands."""
        self._is_over = True
        if hasattr(self._iterator, "aclose"):
            self._request(lambda _: self._iterator.aclose())
        elif self._task is not None and not self._task.get_loop().is_closed():
            self._task.cancel()
        self._close_private_loop()

    def _close_private_loop(self) -> None:
        private, self._private_loop = self._private_loop, None
        if private is not None:
            _event_loop._close(private)

    def _request(self, work: Callable[[object], Awaitable]) -> object:
        running = asyncio._get_running_loop()
        if running is None:
            return _event_loop._masked(self._request_in_context, work)
        # A coroutine of the thread has called Erlang by a blocking call, so its loop cannot run.
        return _event_loop.outside(running, self._request_in_private_loop, work)

    def _request_in_context(self, work: Callable[[object], Awaitable]) -> object:
        return self._request_in(_event_loop.loop(), work)

    def _request_in_private_loop(self, work: Callable[[object], Awaitable]) -> object:
        """Makes the request in a loop of the stream itself.

        That loop stays open as long as the task lives, since the end of a loop closes the
        generators that were begun in it.
        """
        self._private_loop = self._private_loop or asyncio.new_event_loop()
        try:
            return self._request_in(self._private_loop, work)
        finally:
            if self._task is None or self._task.done():
                self._close_private_loop()

    def _request_in(self, where: asyncio.AbstractEventLoop, work: Callable) -> object:
        if self._task is None or self._task.done() or self._task.get_loop() is not where:
            if self._task is not None:
                # Code has closed the loop of the task, which never ends.
                self._task._log_destroy_pending = False
                self._waiter = None
            self._context = self._context or contextvars.copy_context()
            self._task = self._context.run(asyncio.Task, self._serve(), loop=where)
        self._demand = (work, where.create_future())
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return _event_loop._run_until(where, self._task, self._demand[1])

    async def _serve(self) -> None:
        error = None
        while True:
            while self._demand is None:
                waiter = self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await waiter
                except asyncio.CancelledError as cancelled:
                    # A timeout that the iterator has set: raised in the iterator at its ``yield``.
                    error = cancelled
                    if self._is_over:
                        return
                finally:
                    if self._waiter is waiter:
                        self._waiter = None
            if not await self._answer(error) or self._is_over:
                return
            error = None

    async def _answer(self, error: object) -> bool:
        """Does the work of a demand, and completes its future; ``False`` if the work has failed.

        Keeps no reference to the demand, whose items the caller owns.
        """
        (work, future), self._demand = self._demand, None
        try:
            result = await work(error)
        except BaseException as raised:
            if not future.done():
                future.set_exception(raised)
            return False
        if not future.done():
            future.set_result(result)
        return True

    async def _collect(self, items: list, count: int, error: object) -> bool:
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
