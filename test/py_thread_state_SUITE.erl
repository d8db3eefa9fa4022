%% Does the thread of a worker come back as it was, whatever the code of a context has done to it?
%% One case for each row of the table "The thread" in docs/isolation.md.
-module(py_thread_state_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [the_signal_mask, the_name_of_the_thread, the_name_after_a_lease, processors, the_nice_value, the_scheduling_policy,
     asyncgen_hooks, the_running_loop, the_running_task, the_coroutine_origin_tracking_depth,
     trace_functions_of_all_threads, a_trace_function_of_a_finalizer,
     a_trace_function_that_an_audit_hook_keeps, the_current_thread_object,
     the_class_of_the_main_module, the_entry_of_the_main_module, the_rounding_mode,
     the_locale_of_the_thread, a_loop_that_was_set_as_running_is_closed].

init_per_suite(Config) ->
    %% The pool has one worker: the next context meets the state that one leaves there.
    ok = py_test:start_with([{num_workers, 1}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(1),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py_test:wait_available(1),
    0 = py_test:abandoned(),
    py_test:assert_empty_mailbox().

%% Returns the value of Look, which must be the same before a context, in the next one, and in an
%% unbound call after such.
unchanged(Setup, Look) ->
    {ok, Before} = py:eval(Look),
    ok = py:with_context(fun() ->
        ok = py:exec(Setup),
        {ok, Changed} = py:eval(Look),
        true = Changed =/= Before,
        ok
    end),
    {ok, Before} = py:with_context(fun() -> py:eval(Look) end),
    ok = py:exec(Setup),
    {ok, Before} = py:eval(Look),
    Before.

the_signal_mask(_Config) ->
    [] = unchanged(<<"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])">>,
                   <<"[int(s) for s in (lambda s: s.pthread_sigmask(s.SIG_BLOCK, []))(__import__('signal'))"
                     "if s in (12, 15)]">>).

-define(COMM, "open('/proc/thread-self/comm').read()").

the_name_of_the_thread(_Config) ->
    <<"py_worker_", _/binary>> =
        unchanged(<<"import ctypes; ctypes.CDLL(None).prctl(15, b'mine', 0, 0, 0)">>, <<?COMM>>).

the_name_after_a_lease(_Config) ->
    {ok, Name} = py:eval(<<?COMM>>),
    ok = py:with_context(fun() ->
        py:exec(<<"with open('/proc/thread-self/comm', 'w') as f: f.write('mine')">>)
    end),
    {ok, Name} = py:eval(<<?COMM>>).

processors(_Config) ->
    Look = <<"sorted(__import__('os').sched_getaffinity(0))">>,
    case py:eval(Look) of
        {ok, [_]} -> {skip, "there is one processor"};
        {ok, _} -> unchanged(<<"import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])">>, Look)
    end.

the_nice_value(_Config) ->
    %% The right of root is needed to lower the value again.
    case py:eval(<<"__import__('os').geteuid()">>) of
        {ok, 0} ->
            Look = <<"(lambda o: o.getpriority(o.PRIO_PROCESS, 0))(__import__('os'))">>,
            unchanged(<<"import os; os.nice(3)">>, Look),
            unchanged(<<"import os; os.setpriority(os.PRIO_PROCESS, 0, 5)">>, Look);
        {ok, _} ->
            {skip, "not root"}
    end.

the_scheduling_policy(_Config) ->
    0 = unchanged(<<"import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))">>,
                  <<"__import__('os').sched_getscheduler(0)">>).

asyncgen_hooks(_Config) ->
    true = unchanged(<<"import sys; sys.set_asyncgen_hooks(lambda g: None, lambda g: None)">>,
                     <<"tuple(__import__('sys').get_asyncgen_hooks()) == (None, None)">>).

%% From Python 3.14 on the running task belongs to the thread, not to its loop.
the_running_task(_Config) ->
    Enter = <<"
import asyncio
async def nothing(): pass
loop = asyncio.new_event_loop()
asyncio._set_running_loop(loop)
asyncio.tasks._enter_task(loop, asyncio.Task(nothing(), loop=loop))
">>,
    Look = fun() -> py:eval(<<"__import__('asyncio').run(__import__('asyncio').sleep(0, 'ran'))">>) end,
    ok = py:with_context(fun() -> py:exec(Enter) end),
    {ok, <<"ran">>} = py:with_context(Look),
    ok = py:exec(Enter),
    {ok, <<"ran">>} = Look().

the_running_loop(_Config) ->
    true = unchanged(<<"import asyncio; asyncio._set_running_loop(asyncio.new_event_loop())">>,
                     <<"__import__('asyncio')._get_running_loop() is None">>).

the_coroutine_origin_tracking_depth(_Config) ->
    0 = unchanged(<<"import sys; sys.set_coroutine_origin_tracking_depth(7)">>,
                  <<"__import__('sys').get_coroutine_origin_tracking_depth()">>).

%% Python 3.12 and later have such functions, which one thread sets for all others.
trace_functions_of_all_threads(_Config) ->
    case py:eval(<<"hasattr(__import__('threading'), 'settrace_all_threads')">>) of
        {ok, false} ->
            {skip, "this Python has no such function"};
        {ok, true} ->
            Setup = <<"
import threading
def trace(*_):
    pass
for set in threading.settrace_all_threads, threading.setprofile_all_threads:
    thread = threading.Thread(target=set, args=(trace,))
    thread.start()
    thread.join()
threading.settrace(None), threading.setprofile(None)
">>,
            true = unchanged(Setup, <<"(lambda s: s.gettrace() is s.getprofile() is None)"
                                      "(__import__('sys'))">>)
    end.

%% The finalizer sets the function while the namespace is emptied, and once more when that is taken
%% off.
a_trace_function_of_a_finalizer(_Config) ->
    Setup = <<"
import sys
def start(set, left):
    def tracing(left):
        class Tracing:
            def __del__(self):
                set(lambda *_, next=left and tracing(left - 1): None)
        return Tracing()
    return tracing(left)
last = start(sys.settrace, 5)
">>,
    ok = py:with_context(fun() -> py:exec(Setup) end),
    {ok, true} = py:with_context(fun() ->
        py:eval(<<"(lambda s: s.gettrace() is s.getprofile() is None)(__import__('sys'))">>)
    end).

%% The hook ends with its context.
a_trace_function_that_an_audit_hook_keeps(_Config) ->
    ok = py:with_context(fun() -> py:exec(<<"
import sys
def hook(event, args):
    if event == 'sys.settrace':
        raise RuntimeError('it stays')
sys.settrace(lambda *_: None)
sys.addaudithook(hook)
">>) end),
    {ok, true} = py:with_context(fun() -> py:eval(<<"__import__('sys').gettrace() is None">>) end).

the_current_thread_object(_Config) ->
    true = unchanged(<<"import threading; threading.current_thread().name = 'mine'">>,
                     <<"__import__('threading').current_thread().name != 'mine'">>).

the_class_of_the_main_module(_Config) ->
    <<"module">> = unchanged(<<"
import sys, types
class Mine(types.ModuleType):
    pass
sys.modules['__main__'].__class__ = Mine
">>, <<"__import__('__main__').__class__.__name__">>).

%% The change gets past the entry, which notes assignments.
the_entry_of_the_main_module(_Config) ->
    Setup = <<"
import sys, types
class Mine(types.ModuleType):
    pass
object.__setattr__(sys.modules['__main__'], '__class__', Mine)
">>,
    unchanged(Setup, <<"type(__import__('sys').modules['__main__']).__name__">>).

the_rounding_mode(_Config) ->
    true = unchanged(<<"import ctypes; ctypes.CDLL('libm.so.6').fesetround(0x400)">>,
                     <<"(lambda one, small: one - small == one)(1.0, 1e-30)">>).

the_locale_of_the_thread(_Config) ->
    true = unchanged(<<"
import ctypes
c = ctypes.CDLL(None)
c.newlocale.restype = c.uselocale.restype = ctypes.c_void_p
c.newlocale.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
c.uselocale.argtypes = [ctypes.c_void_p]
assert c.uselocale(c.newlocale(1, b'C', None))
">>, <<"(lambda t, c: t.CFUNCTYPE(t.c_ssize_t, t.c_void_p)(('uselocale', c))(None) == -1)"
       "(__import__('ctypes'), __import__('ctypes').CDLL(None))">>).

a_loop_that_was_set_as_running_is_closed(_Config) ->
    ok = py:exec(<<"import sys; sys.py_thread_state_notes = []">>),
    ok = py:with_context(fun() -> py:exec(<<"
import asyncio, sys
async def wait():
    try:
        await asyncio.sleep(3600)
    finally:
        sys.py_thread_state_notes.append('cancelled')
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
task = loop.create_task(wait())
loop.run_until_complete(asyncio.sleep(0))
asyncio._set_running_loop(loop)
">>) end),
    {ok, [<<"cancelled">>]} = py:with_context(fun() ->
        py:eval(<<"__import__('sys').py_thread_state_notes">>)
    end),
    ok = py:exec(<<"import sys; del sys.py_thread_state_notes">>).
