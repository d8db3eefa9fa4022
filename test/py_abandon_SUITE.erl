%% Does the pool survive code that cannot be stopped, and get its workers back?
-module(py_abandon_SUITE).
-compile([export_all, nowarn_export_all]).

-define(GRACE, 300).
%% The timeout of code that gets stuck: long enough to begin on a busy machine, or the call would time out
%% in the queue.
-define(BEGIN, 1000).
-define(MARK, "__import__('sys').py_test_mark = 1\n").
-define(STUCK(Seconds), <<?MARK, (py_test:stuck(Seconds))/binary>>).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [a_stuck_context_is_given_up,
     a_stuck_unbound_call_is_given_up,
     a_stuck_binding_is_given_up,
     an_interrupted_caller_is_told_in_time,
     callers_that_wait_behind_it_are_told,
     a_lock_is_given_up,
     an_endless_swallower_is_given_up,
     a_stuck_finalizer_costs_no_worker,
     a_stuck_finalizer_of_an_object_costs_no_other,
     a_stuck_str_of_a_coroutine_costs_no_worker,
     beyond_the_cap_the_pool_shrinks_and_recovers,
     with_no_worker_left_calls_are_refused,
     the_thread_touches_nothing_when_it_returns].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(4),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(4).

a_stuck_context_is_given_up(_Config) ->
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, ?STUCK(4), #{}, ?BEGIN),
    ok = py_test:wait_for_abandoned(1),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok = py_test:wait_available(4),
    %% Leases four new contexts, one of them on the new worker.
    Contexts = [begin {ok, New} = py:bind(new), New end || _ <- lists:seq(1, 4)],
    [{ok, 1} = py:ctx_eval(New, <<"1">>) || New <- Contexts],
    [ok = py:unbind(New) || New <- Contexts],
    ok = py:unbind(Ctx),
    ok = py_test:wait_for_abandoned(0).

a_stuck_unbound_call_is_given_up(_Config) ->
    [{error, timeout} = py:exec(?STUCK(10), #{}, ?BEGIN) || _ <- lists:seq(1, 4)],
    ok = py_test:wait_for_abandoned(4),
    #{num_workers := 4} = py_pool:get_stats(),
    {ok, 1} = py:eval(<<"1">>),
    ok = py_test:wait_for_abandoned(0).

a_stuck_binding_is_given_up(_Config) ->
    ok = py:bind(),
    {error, timeout} = py:exec(?STUCK(4), #{}, ?BEGIN),
    true = py:is_bound(),
    ok = py_test:wait_for_abandoned(1),
    ok = py_test:wait_until(fun() -> not py:is_bound() end),
    ok = py_test:wait_until(fun() -> ets:tab2list(py_bindings) =:= [] end),
    ok = py:bind(),
    {ok, 1} = py:eval(<<"1">>),
    ok = py_test:wait_for_abandoned(0).

an_interrupted_caller_is_told_in_time(_Config) ->
    {ok, Ctx} = py:bind(new),
    Callers = [py_test:start_call(fun() -> py:ctx_exec(Ctx, ?STUCK(3), #{}, infinity) end),
               py_test:start_call(fun() -> py:exec(?STUCK(3), #{}, infinity) end)],
    ok = py_test:wait_pending(2),
    [ok = py_test:wait_until(fun() -> ok =:= py:interrupt(Caller) end) || Caller <- Callers],
    [{error, interrupted} = py_test:result(Caller) || Caller <- Callers],
    %% The caller was told at once, and the code went on.
    2 = py_test:abandoned(),
    ok = py_test:wait_for_abandoned(0).

callers_that_wait_behind_it_are_told(_Config) ->
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, ?STUCK(4), #{}, ?BEGIN),
    Waiting = [py_test:start_call(fun() -> py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end) end)
               || _ <- lists:seq(1, 5)],
    [{raised, context_not_bound} = py_test:result(Caller) || Caller <- Waiting],
    ok = py_test:wait_for_abandoned(0).

a_lock_is_given_up(_Config) ->
    ok = py:exec(<<"import sys, threading; sys._py_interrupt_lock = threading.Lock()">>),
    {error, timeout} =
        py:exec(<<"import sys\nlock = sys._py_interrupt_lock\nlock.acquire()\nlock.acquire()">>,
                #{}, ?BEGIN),
    ok = py_test:wait_for_abandoned(1),
    ok = py:exec(<<"import sys; sys._py_interrupt_lock.release()">>),
    ok = py_test:wait_for_abandoned(0).

an_endless_swallower_is_given_up(_Config) ->
    ok = py:exec(<<"import sys; sys._py_interrupt_stop = False">>),
    {error, timeout} = py:exec(<<?MARK "
import sys
while not sys._py_interrupt_stop:
    try:
        x = 0
        while not sys._py_interrupt_stop: x = 1
    except BaseException:
        pass
">>, #{}, ?BEGIN),
    py_test:wait_for_mark(),
    %% The exception may end the code before, if it is raised outside of its `try'.
    ok = py_test:wait_available(4),
    {ok, 1} = py:eval(<<"1">>),
    ok = py:exec(<<"import sys; sys._py_interrupt_stop = True">>),
    ok = py_test:wait_until(fun() ->
        maps:get(jobs, maps:get(resources, py_pool:get_stats())) =:= 0
    end),
    ok = py_test:wait_for_abandoned(0).

a_stuck_finalizer_costs_no_worker(_Config) ->
    ok = py:with_context(fun() ->
        py:exec(<<"
class Stuck:
    def __del__(self):
        ", (py_test:stuck(3))/binary, "
stuck = Stuck()
">>)
    end),
    ok = py_test:wait_for_abandoned(1),
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, 4)],
    [{ok, 1} = py:ctx_eval(Ctx, <<"1">>) || Ctx <- Contexts],
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    ok = py_test:wait_for_abandoned(0).

%% Objects are released on a thread of their own, which is replaced as well.
a_stuck_finalizer_of_an_object_costs_no_other(_Config) ->
    ok = py:exec(<<"
import sys
class Stuck:
    def __del__(self):
        ", (py_test:stuck(3))/binary, "
class Quick:
    def __del__(self):
        sys.py_test_mark = 1
sys._py_interrupt_classes = (Stuck, Quick)
">>),
    Make = fun(N) ->
        {ok, _} = py:eval(<<"__import__('sys')._py_interrupt_classes[n]()">>, #{n => N})
    end,
    py_test:in_process(fun() -> Make(0), ok end),
    ok = py_test:wait_for_abandoned(1),
    py_test:in_process(fun() -> Make(1), ok end),
    py_test:wait_for_mark(),
    ok = py:exec(<<"import sys; del sys._py_interrupt_classes">>),
    ok = py_test:wait_for_abandoned(0).

%% The exception of a task is captured when the task has ended: the lease is left all the same.
a_stuck_str_of_a_coroutine_costs_no_worker(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys
class Stuck(Exception):
    def __str__(self):
        sys.py_test_mark = 1
        ", (py_test:stuck(6))/binary, "
async def fails():
    raise Stuck()
">>),
    Ref = py:ctx_async_call(Ctx, '__main__', fails, []),
    ok = py_test:wait_for_mark(),
    {error, timeout} = py:async_await(Ref, 0),
    ok = py_test:wait_for_abandoned(1),
    ok = py_test:wait_available(4),
    %% The watchdog does not wait for the thread either.
    {error, timeout} = py:exec(<<"while True: pass">>, #{}, 200),
    ok = py_test:wait_available(4),
    1 = py_test:abandoned(),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok = py_test:wait_for_abandoned(0).

beyond_the_cap_the_pool_shrinks_and_recovers(_Config) ->
    Env = [{num_workers, 3}, {interrupt_grace, 100}, {max_abandoned, 1}],
    ok = py_test:start_with(Env),
    {error, timeout} = py:exec(?STUCK(6), #{}, ?BEGIN),
    ok = py_test:wait_for_abandoned(1),
    #{num_workers := 3} = py_pool:get_stats(),
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, ?STUCK(9), #{}, ?BEGIN),
    ok = py_test:wait_for_abandoned(2),
    ok = py_test:wait_until(fun() ->
        #{num_workers := Workers, available_workers := Free} = py_pool:get_stats(),
        {Workers, Free} =:= {2, 2} orelse {Workers, Free}
    end),
    {ok, 1} = py:eval(<<"1">>),
    %% The end of an abandoned thread makes room for another worker.
    ok = py_test:wait_for_abandoned(1),
    ok = py_test:wait_available(3),
    #{num_workers := 3} = py_pool:get_stats(),
    ok = py_test:wait_for_abandoned(0),
    #{num_workers := 3, available_workers := 3} = py_pool:get_stats(),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]).

with_no_worker_left_calls_are_refused(_Config) ->
    ok = py_test:start_with([{num_workers, 1}, {interrupt_grace, 50}, {max_abandoned, 0}]),
    {error, timeout} = py:exec(?STUCK(5), #{}, ?BEGIN),
    Queued = py_test:start_call(fun() -> py:eval(<<"1">>, #{}, infinity) end),
    {error, no_workers_available} = py_test:result(Queued),
    #{num_workers := 0, available_workers := 0} = py_pool:get_stats(),
    {error, no_workers_available} = py:eval(<<"1">>),
    {error, no_workers_available} = py:bind(),
    {error, no_workers_available} = py:bind(new),
    Waiter = py_test:start_call(fun() -> py:bind(#{wait => infinity}) end),
    ok = py_test:result(Waiter),
    ok = py_test:wait_available(1),
    {ok, 1} = py:eval(<<"1">>),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]).

the_thread_touches_nothing_when_it_returns(_Config) ->
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, <<?MARK, "for _ in range(3):\n  try:\n    ",
                                   (py_test:stuck(1.5))/binary, "\n  except BaseException: pass">>,
                                   #{}, ?BEGIN),
    py_test:wait_for_mark(),
    ok = py_test:wait_for_abandoned(1),
    All = [begin {ok, New} = py:bind(new), New end || _ <- lists:seq(1, 4)],
    ok = py_test:wait_for_abandoned(0),
    #{available_workers := 0, checked_out := 4, num_workers := 4} = py_pool:get_stats(),
    [{ok, 1} = py:ctx_eval(New, <<"1">>) || New <- All],
    [ok = py:unbind(New) || New <- All],
    ok = py_test:wait_available(4).
