"""Resets the thread of a context: its event loop, its hooks, its ``threading.Thread``.

The worker calls these functions at the end of a context or of an unbound call, on the thread that
has served it. Code of the context may run in ``close``.
"""

import sys
import threading


def close_loop() -> None:
    """Closes the event loop that was set for the calling thread, after cancelling its tasks."""
    asyncio = sys.modules.get("asyncio")
    events = getattr(asyncio, "events", None)
    # COMPAT(3.13): later versions warn about the public name.
    find = getattr(events, "_get_event_loop_policy", None)
    find = find or getattr(events, "get_event_loop_policy", None)
    if find is None:
        # Another thread still imports the module.
        return
    policy = find()
    loop = _loop_of(policy)
    if loop is None:
        return
    policy.set_event_loop(None)
    if hasattr(policy, "_local"):
        # The next context finds the thread as if no loop had been set.
        policy._local._set_called = False
    close(loop)


def _loop_of(policy: object) -> "asyncio.AbstractEventLoop | None":
    """Returns the loop that is set for the calling thread; makes none."""
    local = getattr(policy, "_local", None)
    if local is not None:
        return getattr(local, "_loop", None)
    try:
        return policy.get_event_loop()
    except RuntimeError:
        return None


def close(loop: "asyncio.AbstractEventLoop") -> None:
    """Closes an event loop, after cancelling its tasks."""
    asyncio = sys.modules["asyncio"]
    if loop.is_running() or loop.is_closed():
        # A loop that is running here is run by another thread.
        return
    # The task factory is code of the context, and may make no task.
    loop.set_task_factory(None)
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


_set_depth = sys.set_coroutine_origin_tracking_depth


def forget_thread() -> None:
    """Resets the state that Python keeps for the calling thread, except trace functions."""
    if sys.get_asyncgen_hooks() != (None, None):
        sys.set_asyncgen_hooks(None, None)
    _set_depth(0)
    events = sys.modules.get("asyncio.events")
    if hasattr(events, "_set_running_loop"):
        running = events._get_running_loop()
        if running is not None and sys.version_info >= (3, 14):
            # The running task belongs to the thread. COMPAT(3.13): before, to its loop.
            sys.modules["asyncio.tasks"]._swap_current_task(running, None)
        events._set_running_loop(None)
    # The object that `current_thread` has made, with the name that code has given it.
    threading._active.pop(threading.get_ident(), None)


def names(idents: list) -> list:
    """Returns the names of the threads with these identities, for a warning."""
    threads = [threading._active.get(ident) for ident in idents]
    return ["a thread of _thread" if thread is None else str(thread.name) for thread in threads]
