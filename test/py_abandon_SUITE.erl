%% Does the pool survive code that cannot be stopped, and get its workers back?
-module(py_abandon_SUITE).
-compile([export_all, nowarn_export_all]).

%% Milliseconds; less time than this may pass before code on a busy machine gets its first exception.
-define(GRACE, 1000).
%% The lock of `py_test:free_stuck/1', held.
-define(LOCK, "
import sys, threading
lock = vars(sys).setdefault('py_test_lock', threading.Lock())
lock.acquire(False)
").

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
     the_thread_touches_nothing_when_it_returns,
     a_vm_that_was_stopped_gives_up_nothing,
     a_vm_that_was_stopped_kills_no_child].

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
    ok = py_test:time_out_stuck(Ctx),
    ok = py_test:wait_for_abandoned(1),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok = py_test:wait_available(4),
    %% Leases four new contexts, one of them on the new worker.
    Contexts = [begin {ok, New} = py:bind(new), New end || _ <- lists:seq(1, 4)],
    [{ok, 1} = py:ctx_eval(New, <<"1">>) || New <- Contexts],
    [ok = py:unbind(New) || New <- Contexts],
    ok = py:unbind(Ctx),
    ok = py_test:free_stuck(0).

a_stuck_unbound_call_is_given_up(_Config) ->
    [ok = py_test:time_out_stuck(none) || _ <- lists:seq(1, 4)],
    ok = py_test:wait_for_abandoned(4),
    %% A thread counts as abandoned just before another one takes its place.
    ok = py_test:wait_available(4),
    {ok, 1} = py:eval(<<"1">>),
    ok = py_test:free_stuck(0).

a_stuck_binding_is_given_up(_Config) ->
    ok = py:bind(),
    Call = py_test:stuck_call(none),
    true = py:is_bound(),
    {error, timeout} = py:await(Call, 0),
    ok = py_test:wait_for_abandoned(1),
    ok = py_test:wait_until(fun() -> not py:is_bound() end),
    ok = py_test:wait_until(fun() -> ets:tab2list(py_bindings) =:= [] end),
    ok = py:bind(),
    {ok, 1} = py:eval(<<"1">>),
    ok = py_test:free_stuck(0).

an_interrupted_caller_is_told_in_time(_Config) ->
    {ok, Ctx} = py:bind(new),
    Self = self(),
    Callers = [py_test:start_call(fun() ->
                   Call = py_test:stuck_call(Target),
                   Self ! {stuck, self()},
                   py:await(Call, infinity)
               end) || Target <- [Ctx, none]],
    [receive {stuck, Caller} -> ok end || Caller <- Callers],
    [ok = py:interrupt(Caller) || Caller <- Callers],
    [{error, interrupted} = py_test:result(Caller) || Caller <- Callers],
    %% The caller was told at once, and the code went on.
    2 = py_test:abandoned(),
    ok = py_test:free_stuck(0).

callers_that_wait_behind_it_are_told(_Config) ->
    {ok, Ctx} = py:bind(new),
    Stuck = py_test:stuck_call(Ctx),
    Waiting = [py_test:start_call(fun() -> py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end) end)
               || _ <- lists:seq(1, 5)],
    ok = py_test:wait_pending(6),
    {error, timeout} = py:await(Stuck, 0),
    [{raised, context_not_bound} = py_test:result(Caller) || Caller <- Waiting],
    ok = py_test:free_stuck(0).

a_lock_is_given_up(_Config) ->
    ok = py:exec(<<"import sys, threading\nsys._py_lock = threading.Lock()\nsys._py_lock.acquire()">>),
    Stuck = py_test:stuck_call(none, <<"sys._py_lock.acquire">>),
    {error, timeout} = py:await(Stuck, 0),
    ok = py_test:wait_for_abandoned(1),
    ok = py:exec(<<"import sys; sys._py_lock.release(); del sys._py_lock">>),
    ok = py_test:wait_for_abandoned(0).

an_endless_swallower_is_given_up(_Config) ->
    ok = py:exec(<<"import sys; sys._py_interrupt_stop = False">>),
    Swallower = py:call_async(builtins, exec, [<<"
import sys
sys.py_test_mark = 1
while not sys._py_interrupt_stop:
    try:
        x = 0
        while not sys._py_interrupt_stop: x = 1
    except BaseException:
        pass
">>, #{}]),
    ok = py_test:wait_for_mark(),
    {error, timeout} = py:await(Swallower, 0),
    %% The exception may end the code before, if it is raised outside of its `try'.
    ok = py_test:wait_available(4),
    {ok, 1} = py:eval(<<"1">>),
    ok = py:exec(<<"import sys; sys._py_interrupt_stop = True">>),
    ok = py_test:wait_until(fun() -> jobs() =:= 0 orelse jobs() end),
    0 = py_test:abandoned().

a_stuck_finalizer_costs_no_worker(_Config) ->
    ok = py:with_context(fun() ->
        py:exec(<<?LOCK "
class Stuck:
    def __del__(self, lock=lock):
        lock.acquire()
stuck = Stuck()
">>)
    end),
    ok = py_test:wait_for_abandoned(1),
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, 4)],
    [{ok, 1} = py:ctx_eval(Ctx, <<"1">>) || Ctx <- Contexts],
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    ok = py_test:free_stuck(0).

%% Objects are released on a thread of their own, which is replaced as well.
a_stuck_finalizer_of_an_object_costs_no_other(_Config) ->
    ok = py:exec(<<?LOCK "
class Stuck:
    def __del__(self, lock=lock):
        lock.acquire()
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
    ok = py_test:wait_for_mark(),
    ok = py:exec(<<"import sys; del sys._py_interrupt_classes">>),
    ok = py_test:free_stuck(0).

jobs() ->
    #{resources := #{jobs := Jobs}} = py_pool:get_stats(),
    Jobs.

%% The exception of a task is captured when the task has ended: the lease is left all the same.
a_stuck_str_of_a_coroutine_costs_no_worker(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?LOCK "
class Stuck(Exception):
    def __str__(self):
        sys.py_test_mark = 1
        lock.acquire()
async def fails():
    raise Stuck()
">>),
    Ref = py:ctx_async_call(Ctx, '__main__', fails, []),
    ok = py_test:wait_for_mark(),
    {error, timeout} = py:async_await(Ref, 0),
    ok = py_test:wait_for_abandoned(1),
    ok = py_test:wait_available(4),
    %% The watchdog does not wait for the thread either.
    Loop = py:call_async(builtins, exec, [<<"import sys\nsys.py_test_mark = 1\nwhile True: pass">>, #{}]),
    ok = py_test:wait_for_mark(),
    {error, timeout} = py:await(Loop, 0),
    ok = py_test:wait_until(fun() -> jobs() =:= 1 orelse jobs() end),
    ok = py_test:wait_available(4),
    1 = py_test:abandoned(),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok = py_test:free_stuck(0).

beyond_the_cap_the_pool_shrinks_and_recovers(_Config) ->
    Env = [{num_workers, 3}, {interrupt_grace, 100}, {max_abandoned, 1}],
    ok = py_test:start_with(Env),
    ok = py_test:time_out_stuck(none),
    ok = py_test:wait_for_abandoned(1),
    ok = py_test:wait_available(3),
    {ok, Ctx} = py:bind(new),
    ok = py_test:time_out_stuck(Ctx),
    ok = py_test:wait_for_abandoned(2),
    ok = py_test:wait_until(fun() ->
        #{num_workers := Workers, available_workers := Free} = py_pool:get_stats(),
        {Workers, Free} =:= {2, 2} orelse {Workers, Free}
    end),
    {ok, 1} = py:eval(<<"1">>),
    %% The end of an abandoned thread makes room for another worker.
    ok = py_test:free_stuck(1),
    ok = py_test:wait_available(3),
    #{num_workers := 3} = py_pool:get_stats(),
    ok = py_test:free_stuck(0),
    #{num_workers := 3, available_workers := 3} = py_pool:get_stats(),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]).

with_no_worker_left_calls_are_refused(_Config) ->
    ok = py_test:start_with([{num_workers, 1}, {interrupt_grace, 50}, {max_abandoned, 0}]),
    %% No worker is left that could release a lock.
    Stuck = py_test:stuck_call(none, <<"functools.partial(__import__('time').sleep, 5)">>),
    Queued = py_test:start_call(fun() -> py:eval(<<"1">>, #{}, infinity) end),
    ok = py_test:wait_pending(2),
    {error, timeout} = py:await(Stuck, 0),
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
    Swallower = py:ctx_call_async(Ctx, builtins, exec, [<<"
import sys, time
sys._py_interrupt_stop = False
def swallow():
    while not sys._py_interrupt_stop:
        try:
            sys.py_test_mark = 1
            time.sleep(0.5)
        except BaseException:
            pass
swallow()
">>, #{}]),
    ok = py_test:wait_for_mark(),
    {error, timeout} = py:await(Swallower, 0),
    ok = py_test:wait_for_abandoned(1),
    All = [begin {ok, New} = py:bind(new), New end || _ <- lists:seq(1, 4)],
    ok = py:ctx_exec(hd(All), <<"import sys; sys._py_interrupt_stop = True">>),
    ok = py_test:wait_for_abandoned(0),
    #{available_workers := 0, checked_out := 4, num_workers := 4} = py_pool:get_stats(),
    [{ok, 1} = py:ctx_eval(New, <<"1">>) || New <- All],
    [ok = py:unbind(New) || New <- All],
    ok = py_test:wait_available(4).

%% Regression: code that had to stop was given up for the time for which the whole VM, or the machine, stood still.
a_vm_that_was_stopped_gives_up_nothing(Config) ->
    {ok, Ctx} = py:bind(new),
    ok = outlasts_a_stop(Ctx, filename:join(proplists:get_value(priv_dir, Config), "thread")),
    0 = py_test:abandoned(),
    ok = py:unbind(Ctx).

a_vm_that_was_stopped_kills_no_child(Config) ->
    ok = py_pool:start(stopped, #{level => process, num_workers => 1}),
    {ok, Ctx} = py:bind(new, #{pool => stopped}),
    ok = outlasts_a_stop(Ctx, filename:join(proplists:get_value(priv_dir, Config), "process")),
    ok = py:unbind(Ctx),
    ok = py_pool:stop(stopped).

%% Stops the VM, and the process of the context, in the middle of code that has to stop, for longer than the grace.
outlasts_a_stop(Ctx, Mark) ->
    {ok, Child} = py:ctx_eval(Ctx, <<"__import__('os').getpid()">>),
    Script = "while ! test -e $0; do sleep 0.05; done; kill -STOP $@; sleep 2; kill -CONT $@",
    Args = ["-c", Script, Mark, os:getpid(), integer_to_list(Child)],
    Port = open_port({spawn_executable, "/bin/sh"}, [exit_status, {args, Args}]),
    ok = py:ctx_exec(Ctx, <<"
import time
hits, is_marked, end, last = 0, False, None, time.monotonic()
def go_on(mark):
    global is_marked, end, last
    while end is None or last < end:
        now = time.monotonic()
        if now - last > 1: end = now + 0.2
        last = now
        if hits and not is_marked:
            is_marked = True
            open(mark, 'w').close()
def outlasts_the_stop(mark):
    # COMPAT(3.13): an exception at the end of a turn of a loop is not caught by a `try' around the loop in the
    # same function.
    global hits
    while True:
        try:
            return go_on(mark)
        except BaseException:
            hits += 1
">>),
    Call = [unicode:characters_to_binary(Mark)],
    {error, timeout} = py:ctx_call(Ctx, '__main__', outlasts_the_stop, Call, #{}, 50),
    receive {Port, {exit_status, 0}} -> ok end,
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok.
