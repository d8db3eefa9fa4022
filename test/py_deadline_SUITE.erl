%% Does a call keep to its one timeout, and to its context, when that ends under it?
-module(py_deadline_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 2).
%% Milliseconds after which code that does not stop loses its context.
-define(GRACE, 500).
%% Milliseconds of tolerance, for a busy machine.
-define(SECOND, 1000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, ends_under_it}, {group, restarts}].

groups() ->
    [{ends_under_it, [], [a_call_that_waits_in_a_binding, a_call_that_takes_longer_than_its_timeout,
                          a_call_under_way, calls_that_are_gathered, a_collected_stream,
                          a_stream_on_demand, a_call_in_the_common_context,
                          a_binding_that_was_lost_before]},
     {restarts, [], [calls_wait_for_the_new_pool, a_call_waits_no_longer_than_its_timeout,
                     without_the_application_they_fail_at_once,
                     a_stopped_application_refuses_what_waits]}].

init_per_suite(Config) ->
    ok = start(),
    ok = logger:set_module_level(py_pool, none),
    ok = py:exec(<<"
import asyncio, functools, operator, sys, threading
lock = vars(sys).setdefault('py_test_lock', threading.Lock())
lock.acquire(False)
# No bytecode stands between the mark and the lock, so no exception is raised there.
def stick(call=operator.call, mark=functools.partial(setattr, sys, 'py_test_mark', True), lock=lock):
    list(map(call, (mark, lock.acquire)))
sys._py_stick = stick
">>),
    Config.

start() ->
    start(?GRACE).

start(Grace) ->
    py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, Grace}]).

end_per_suite(_Config) ->
    ok = logger:unset_module_level(py_pool),
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:unbind(),
    ok = py_test:free_stuck(0),
    ok = py_test:end_case(?WORKERS),
    py_test:wait_for_abandoned(0).

%% Binds the calling process to a context that is lost to a call that does not stop, when the next
%% call has waited in it for the grace.
bind_to_the_doomed() ->
    ok = py:bind(),
    doom(py:call_async(sys, '_py_stick', [])).

doom(Stuck) ->
    %% Waits until the call runs.
    ok = py_test:in_process(fun py_test:wait_for_mark/0),
    {error, timeout} = py:await(Stuck, 0),
    ok.

%% Returns the result of Call, and asserts that it comes within its timeout.
timed(Call, Timeout) ->
    Begin = erlang:monotonic_time(millisecond),
    Result = Call(Timeout),
    Took = erlang:monotonic_time(millisecond) - Begin,
    true = Took < Timeout + ?SECOND orelse {took, Took},
    Result.

%%% A context that ends under a call

a_call_that_waits_in_a_binding(_Config) ->
    ok = bind_to_the_doomed(),
    Code = <<"__import__('sys').py_test_mark = __import__('time').sleep(6)">>,
    {error, interrupted} = timed(fun(T) -> py:exec(Code, #{}, T) end, 1500),
    false = py:is_bound(),
    %% The code has not run, and the next call runs without the binding.
    {ok, false} = py:eval(<<"hasattr(__import__('sys'), 'py_test_mark')">>).

a_call_that_takes_longer_than_its_timeout(_Config) ->
    %% The context outlives the timeout, also on a busy machine.
    ok = start(60000),
    ok = bind_to_the_doomed(),
    {error, timeout} = timed(fun(T) -> py:eval(<<"1">>, #{}, T) end, 100),
    ok = py_test:in_process(fun() -> py:exec(<<"import sys; sys.py_test_lock.release()">>) end),
    ok = py:unbind(),
    ok = start().

a_call_under_way(_Config) ->
    ok = bind_to_the_doomed(),
    Pending = py:call_async(math, sqrt, [4]),
    {error, interrupted} = timed(fun(T) -> py:await(Pending, T) end, 10000).

calls_that_are_gathered(_Config) ->
    ok = bind_to_the_doomed(),
    Calls = [{asyncio, sleep, [0.001]}, {math, sqrt, [4]}],
    {error, interrupted} = timed(fun(T) -> py:async_gather(Calls, T) end, 10000).

a_collected_stream(_Config) ->
    ok = bind_to_the_doomed(),
    {error, interrupted} = py:stream_eval(<<"range(3)">>).

a_stream_on_demand(_Config) ->
    ok = bind_to_the_doomed(),
    {error, interrupted} = py:stream_start(builtins, range, [3]).

a_call_in_the_common_context(_Config) ->
    ok = doom(py:async_call(sys, '_py_stick', [])),
    Pending = py:async_call(math, sqrt, [4]),
    {error, interrupted} = timed(fun(T) -> py:async_await(Pending, T) end, 10000).

a_binding_that_was_lost_before(_Config) ->
    ok = bind_to_the_doomed(),
    ok = py_test:wait_until(fun() -> not py:is_bound() end),
    {ok, 1} = py:eval(<<"1">>, #{}, 5000),
    {ok, 2.0} = py:await(py:call_async(math, sqrt, [4]), 5000),
    {ok, [0, 1]} = py:stream_eval(<<"range(2)">>),
    {ok, [2.0]} = py:async_gather([{math, sqrt, [4]}], 5000),
    {ok, Stream} = py:stream_start(builtins, range, [3]),
    ok = py:stream_close(Stream).

%%% A pool that restarts

%% The pool is ended eight times: the supervisor gives up at more than ten ends in ten seconds.
calls_wait_for_the_new_pool(_Config) ->
    Self = self(),
    Callers = [spawn_link(fun() -> Self ! {self(), call_until_stopped(Call)} end)
               || Call <- [fun() -> py:eval(<<"1">>, #{}, 5000) end,
                           fun() -> py:exec(<<"1">>, #{}, 5000) end,
                           fun() -> py:stream_eval(<<"range(2)">>) end,
                           fun() -> py:call(math, sqrt, [4], #{}, infinity) end]],
    [ok = restart(End) || End <- [fun(Pool) -> exit(Pool, kill) end,
                                  fun(Pool) -> sys:terminate(Pool, killed) end],
                          _ <- lists:seq(1, 4)],
    [Caller ! stop || Caller <- Callers],
    [receive {Caller, Failures} -> [] = Failures -- [{error, interrupted}] end
     || Caller <- Callers].

%% Returns the failures, each once.
call_until_stopped(Call) ->
    call_until_stopped(Call, []).

call_until_stopped(Call, Failures) ->
    receive
        stop -> Failures
    after 0 ->
        case Call() of
            {error, _} = Failure -> call_until_stopped(Call, lists:umerge([Failure], Failures));
            _ -> call_until_stopped(Call, Failures)
        end
    end.

restart(End) ->
    Pool = whereis(py_pool),
    _ = End(Pool),
    ok = py_test:wait_until(fun() -> not lists:member(whereis(py_pool), [undefined, Pool]) end),
    %% The new pool serves calls.
    _ = sys:get_state(py_pool),
    ok.

a_call_waits_no_longer_than_its_timeout(_Config) ->
    ok = sys:suspend(erlang_python_sup),
    Pool = whereis(py_pool),
    Monitor = monitor(process, Pool),
    exit(Pool, kill),
    receive {'DOWN', Monitor, process, Pool, killed} -> ok after 5000 -> error(alive) end,
    {error, timeout} = timed(fun(T) -> py:eval(<<"1">>, #{}, T) end, 50),
    ok = sys:resume(erlang_python_sup),
    {ok, 2.0} = py:await(py:call_async(math, sqrt, [4]), 5000).

without_the_application_they_fail_at_once(_Config) ->
    ok = py_test:stop(),
    [{raised, {not_started, erlang_python}} = py_test:caught(Call)
     || Call <- [fun() -> py:eval(<<"1">>, #{}, infinity) end,
                 fun() -> py:call_async(math, sqrt, [4]) end]],
    ok = start().

%% The next start of the application is no successor of the pool: it may be much later, with other
%% workers.
a_stopped_application_refuses_what_waits(_Config) ->
    ok = py_test:start_with([{num_workers, 1}, {interrupt_grace, 100}]),
    Spin = <<"import erlang\nerlang.send(test, 'runs')\nwhile True: pass">>,
    Self = self(),
    Busy = py_test:start_call(fun() -> py:exec(Spin, #{test => Self}, infinity) end),
    %% A call that no worker has taken would be refused as well.
    receive <<"runs">> -> ok after 20000 -> error(does_not_run) end,
    Waits = [py_test:start_call(fun() -> py:eval(<<"1">>, #{}, infinity) end)
             || _ <- lists:seq(1, 20)],
    ok = py_test:wait_pending(21),
    ok = py_test:start_with([{num_workers, 1}]),
    {error, interrupted} = py_test:result(Busy),
    [{error, no_workers_available}] = lists:usort([py_test:result(Call) || Call <- Waits]),
    ok = start().
