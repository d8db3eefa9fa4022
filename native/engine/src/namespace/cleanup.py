"""What a context leaves on its thread beyond its namespace, and limits of the interpreter.

The worker calls this at the end of a context or of an unbound call, on the thread that served it.
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
        # Another thread is importing it.
        return
    policy = find()
    loop = _loop_of(policy)
    if loop is None:
        return
    policy.set_event_loop(None)
    if hasattr(policy, "_local"):
        # For the next context it is as if none had been set.
        policy._local._set_called = False
    close(loop)


def _loop_of(policy: object) -> "asyncio.AbstractEventLoop | None":
    """The loop that is set for the calling thread; none is made."""
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
        # Somebody else runs it, on another thread.
        return
    # A factory of the context may do anything.
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
    """Sets what Python keeps for the calling thread as it was at the start, but for tracing."""
    if sys.get_asyncgen_hooks() != (None, None):
        sys.set_asyncgen_hooks(None, None)
    _set_depth(0)
    events = sys.modules.get("asyncio.events")
    if hasattr(events, "_set_running_loop"):
        events._set_running_loop(None)
    # Made by `current_thread`, and with the name that code has given it.
    threading._active.pop(threading.get_ident(), None)


def names(idents: list) -> list:
    """The names of the threads with these identities."""
    threads = [threading._active.get(ident) for ident in idents]
    return ["a thread of _thread" if thread is None else str(thread.name) for thread in threads]
