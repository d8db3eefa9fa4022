%% Is the pool whole after code that means it harm? Finalizers that never end run wherever Python
%% lets them: in a garbage collection, at the end of a thread, when Erlang drops an object.
-module(py_hostile_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 2).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [a_collection_hits_no_thread_of_ours, a_collection_at_the_start_of_a_context_is_watched,
     a_finalizer_at_the_end_of_a_thread_costs_no_worker,
     a_finalizer_of_compiled_code_costs_no_worker, releasers_are_not_replaced_without_end,
     a_crash_whose_cleaning_gets_stuck_is_answered, an_interrupted_loop_that_was_abandoned_ends,
     a_loop_whose_context_ended_ends, a_pool_that_shrinks_refuses_who_waits,
     a_context_that_finds_no_worker_ends, a_long_switch_interval_is_cut,
     a_stream_put_and_taken_away_leaves_nothing, a_stream_put_under_a_call_stays].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = start([]),
    Config.

%% Asserts that the stuck code ends, and nothing is left of it.
end_per_testcase(_Case, _Config) ->
    ok = py_test:wait_until(fun() -> is_let_go() end),
    ok = py_test:wait_for_abandoned(0),
    ok = py_test:wait_available(?WORKERS),
    py_test:assert_empty_mailbox().

start(Env) ->
    ok = py_test:start_with(Env ++ [{num_workers, ?WORKERS}, {interrupt_grace, 200}]),
    py:exec(<<"
import sys, time
class Stuck:
    def __init__(self, gate):
        self.gate = gate
    def __del__(self, sleep=time.sleep):
        while not self.gate:
            try:
                sleep(0.05)
            except BaseException:
                pass
sys.py_hostile_gate = []
sys.py_hostile_stuck = lambda: Stuck(sys.py_hostile_gate)
">>).

%% A collection may come up in this very call, and run the stuck finalizer.
is_let_go() ->
    py:exec(<<"import sys; sys.py_hostile_gate.append(1)">>, #{}, 300) =:= ok.

%% Makes a reference cycle that a collection alone frees, and makes a collection due.
-define(CYCLE, "
import gc, sys
gc.disable()
for _ in range(3):
    stuck = sys.py_hostile_stuck()
    stuck.me = stuck
    del stuck
sys.py_hostile_keep = [[] for _ in range(2000)]
gc.enable()
").

%% A stuck finalizer on the interrupter would keep it from interrupting ever again.
a_collection_hits_no_thread_of_ours(_Config) ->
    {error, timeout} = py:exec(<<?CYCLE "
import threading
lock = threading.Lock()
lock.acquire()
lock.acquire(True, 3)
">>, #{}, 300),
    ok = py_test:wait_until(fun() -> py_test:abandoned() > 0 end),
    ok = py_test:wait_until(fun() -> is_let_go() end),
    ok = py_test:wait_for_abandoned(0),
    {error, timeout} = py:exec(<<"while True: pass">>, #{}, 300),
    ok = py_test:wait_available(?WORKERS),
    0 = py_test:abandoned().

a_collection_at_the_start_of_a_context_is_watched(_Config) ->
    {ok, First} = py:bind(new),
    _ = py:ctx_exec(First, <<?CYCLE>>, #{}, 3000),
    {ok, Second} = py:bind(new),
    Call = py_test:start_call(fun() ->
        py_test:caught(fun() -> py:ctx_eval(Second, <<"1">>, #{}, infinity) end)
    end),
    case py_test:result(Call) of
        {ok, 1} -> ok;
        {raised, context_not_bound} -> ok
    end,
    ok = py:unbind(First),
    ok = py:unbind(Second).

a_finalizer_at_the_end_of_a_thread_costs_no_worker(_Config) ->
    {error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>),
    %% The locals of all threads are kept: one that is freed has its values freed by the thread that
    %% drops it, and then the next call would get stuck, not the end of the thread.
    Crash = fun() ->
        py:exec(<<"
import sys, threading
local = threading.local()
vars(sys).setdefault('py_hostile_locals', []).append(local)
local.x = sys.py_hostile_stuck()
raise next(c for c in BaseException.__subclasses__() if c.__name__ == 'PanicException')('boo')
">>)
    end,
    [{error, worker_crashed} = Crash() || _ <- lists:seq(1, ?WORKERS + 1)],
    ok = py_test:wait_until(fun() -> py_test:abandoned() > 0 end),
    all_workers_work().

all_workers_work() ->
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, ?WORKERS)],
    [{ok, 1} = py:ctx_eval(Ctx, <<"1">>, #{}, 5000) || Ctx <- Contexts],
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    ok.

a_finalizer_of_compiled_code_costs_no_worker(_Config) ->
    ok = py:exec(<<"
import sys, weakref
def stay(gate=sys.py_hostile_gate, sleep=__import__('time').sleep):
    while not gate:
        try:
            sleep(0.05)
        except BaseException:
            pass
sys.py_hostile_reference = weakref.finalize(sys._getframe().f_code, stay)
">>),
    %% More snippets than are kept, so that the code is driven out: the calls do not notice.
    [{ok, N} = py:eval(integer_to_binary(N)) || N <- lists:seq(1, 600)],
    ok = py_test:wait_until(fun() -> py_test:abandoned() > 0 end),
    all_workers_work().

releasers_are_not_replaced_without_end(_Config) ->
    ok = start([{max_abandoned, 2}]),
    [{ok, _} = py:eval(<<"__import__('sys').py_hostile_stuck()">>) || _ <- lists:seq(1, 20)],
    true = garbage_collect(),
    ok = py_test:wait_until(fun() -> py_test:abandoned() >= 3 end),
    %% The next object would have been lost in the time that it takes to lose a worker.
    {error, timeout} = py:exec(<<"stuck = __import__('sys').py_hostile_stuck(); del stuck">>,
                               #{}, 300),
    ok = py_test:wait_until(fun() ->
        #{num_workers := Workers} = py_pool:get_stats(),
        Workers =:= ?WORKERS - 1 orelse Workers
    end),
    4 = py_test:abandoned(),
    ok = py_test:wait_until(fun() -> is_let_go() end),
    ok = py_test:wait_until(fun() ->
        #{resources := #{objects := Objects}} = py_pool:get_stats(),
        Objects =:= 0 orelse Objects
    end).

a_crash_whose_cleaning_gets_stuck_is_answered(_Config) ->
    {error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>),
    {error, worker_crashed} = py:exec(<<"
import asyncio, sys
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
close = loop.close
def stuck(gate=sys.py_hostile_gate, sleep=__import__('time').sleep):
    while not gate:
        try:
            sleep(0.05)
        except BaseException:
            pass
    close()
loop.close = stuck
raise next(c for c in BaseException.__subclasses__() if c.__name__ == 'PanicException')('boo')
">>, #{}, infinity),
    ok = py_test:wait_until(fun() -> py_test:abandoned() > 0 end).

-define(SWALLOW(Seconds), <<"
import time
end = time.monotonic() + " Seconds "
while time.monotonic() < end:
    try:
        x = 0
        while True: x = 1
    except BaseException:
        pass
">>).

%% The caller of the call has had its reply, but the thread is interrupted still.
an_interrupted_loop_that_was_abandoned_ends(_Config) ->
    Caller = py_test:start_call(fun() -> py:exec(?SWALLOW("1"), #{}, infinity) end),
    ok = py_test:wait_until(fun() -> ok =:= py:interrupt(Caller) end),
    {error, interrupted} = py_test:result(Caller),
    ok = py_test:wait_for_abandoned(0).

a_loop_whose_context_ended_ends(_Config) ->
    {ok, Ctx} = py:bind(new),
    Caller = py_test:start_call(fun() ->
        py_test:caught(fun() -> py:ctx_exec(Ctx, ?SWALLOW("1"), #{}, infinity) end)
    end),
    ok = py_test:wait_pending(1),
    ok = py_test:wait_until(fun() -> ok =:= py:interrupt(Ctx) end),
    ok = py:unbind(Ctx),
    {error, interrupted} = py_test:result(Caller),
    ok = py_test:wait_for_abandoned(0).

a_pool_that_shrinks_refuses_who_waits(_Config) ->
    ok = start([{max_abandoned, 0}]),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 1">>),
    {error, timeout} = py:exec(py_test:stuck(2), #{}, 300),
    Waiting = py_test:start_call(fun() -> py:eval(<<"1">>, #{}, infinity) end),
    {error, no_workers_available} = py_test:result(Waiting),
    {ok, 1} = py:ctx_eval(Ctx, <<"x">>),
    ok = py:unbind(Ctx).

%% Regression: the call was promised a worker that was stuck with the end of the last context.
a_context_that_finds_no_worker_ends(_Config) ->
    ok = start([{max_abandoned, 0}]),
    {ok, Held} = py:bind(new),
    ok = py:ctx_exec(Held, <<"x = 1">>),
    {ok, Ended} = py:bind(new),
    ok = py:ctx_exec(Ended, <<"import sys; x = sys.py_hostile_stuck()">>),
    ok = py:unbind(Ended),
    {ok, Next} = py:bind(new),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Next, <<"1">>, #{}, infinity) end),
    {ok, 1} = py:ctx_eval(Held, <<"x">>),
    {ok, none} = py:ctx_eval(Held, <<"__import__('sys').py_hostile_gate.append(1)">>),
    ok = py:unbind(Held).

a_long_switch_interval_is_cut(_Config) ->
    {error, timeout} = py:exec(<<"import sys\nsys.setswitchinterval(1e6)\nwhile True: pass">>,
                               #{}, 300),
    {ok, Interval} = py:eval(<<"__import__('sys').getswitchinterval()">>, #{}, 10000),
    true = Interval =< 0.1,
    ok = py:exec(<<"import sys; sys.setswitchinterval(0.005)">>).

a_stream_put_and_taken_away_leaves_nothing(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import gc, io, sys, weakref
class Text(io.StringIO): pass
alive = weakref.WeakSet()
">>),
    [begin
         ok = py:ctx_exec(Ctx, <<"old = sys.stdout; sys.stdout = Text(); alive.add(sys.stdout)">>),
         ok = py:ctx_exec(Ctx, <<"sys.stdout = old">>)
     end || _ <- lists:seq(1, 50)],
    %% The same, one after the other.
    [ok = py:ctx_exec(Ctx, <<"sys.stdout = Text(); alive.add(sys.stdout)">>)
     || _ <- lists:seq(1, 50)],
    {ok, 1} = py:ctx_eval(Ctx, <<"len(alive)">>),
    ok = py:unbind(Ctx),
    %% The worker cleans up after it counts as free.
    Look = <<"type(__import__('sys').stdout).__name__ == 'Output'">>,
    ok = py_test:wait_until(fun() -> {ok, true} =:= py:eval(Look) end).

a_stream_put_under_a_call_stays(_Config) ->
    {ok, A} = py:bind(new),
    {ok, B} = py:bind(new),
    Call = py_test:start_call(fun() ->
        py:ctx_exec(A, <<"
import sys, time
sys.py_test_mark = 1
while not hasattr(sys, 'py_hostile_go'):
    time.sleep(0.001)
">>)
    end),
    ok = py_test:wait_until(fun() ->
        {ok, true} =:= py:ctx_eval(B, <<"hasattr(__import__('sys'), 'py_test_mark')">>)
    end),
    ok = py:ctx_exec(B, <<"import sys, io; sys.stdout = mine = io.StringIO()">>),
    ok = py:ctx_exec(B, <<"sys.py_hostile_go = 1">>),
    ok = py_test:result(Call),
    ok = py:unbind(A),
    ok = py_test:wait_until(fun() ->
        #{available_workers := Free} = py_pool:get_stats(),
        Free =:= 1 orelse Free
    end),
    {ok, 1} = py:eval(<<"1">>),
    {ok, true} = py:ctx_eval(B, <<"sys.stdout is mine">>),
    ok = py:ctx_exec(B, <<"del sys.py_hostile_go, sys.py_test_mark">>),
    ok = py:unbind(B).
