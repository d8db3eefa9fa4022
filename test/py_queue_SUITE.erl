%% Does a call that was given up while it waited leave anything in its queue?
-module(py_queue_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 2).
-define(MAX_PENDING, 100).
%% The number of calls, more than any queue here holds.
-define(MANY, 300).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [timed_out_calls_give_back_their_places_in_a_context,
     timed_out_calls_give_back_their_places_in_the_pool,
     timed_out_calls_give_back_their_places_in_a_callback,
     dead_callers_give_back_their_places_in_a_context,
     dead_callers_give_back_their_places_in_the_pool,
     demands_of_dead_processes_give_back_their_places,
     closed_streams_give_back_the_places_of_their_demands,
     contexts_that_no_worker_came_to_give_back_their_places].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {max_pending, ?MAX_PENDING}]),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py_test:wait_until(fun() -> jobs() =:= 0 orelse jobs() end),
    py_test:end_case(?WORKERS).

%%% Timeouts

timed_out_calls_give_back_their_places_in_a_context(_Config) ->
    {Ctx, Gate, Blocker} = py_test:blocked_context(),
    Call = fun() -> py:ctx_eval(Ctx, <<"x">>, #{x => lists:seq(1, 1000)}, 0) end,
    [{error, timeout} = Call() || _ <- lists:seq(1, ?MANY)],
    %% The job that is left is that of the blocker.
    1 = jobs(),
    #{pending_requests := 1} = py_pool:get_stats(),
    ok = py_test:open_gate(Gate, Blocker),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx).

timed_out_calls_give_back_their_places_in_the_pool(_Config) ->
    Open = block_workers(),
    Call = fun() -> py:eval(<<"x">>, #{x => lists:seq(1, 1000)}, 0) end,
    [{error, timeout} = Call() || _ <- lists:seq(1, ?MANY)],
    ?WORKERS = jobs(),
    #{pending_requests := ?WORKERS} = py_pool:get_stats(),
    ok = Open().

timed_out_calls_give_back_their_places_in_a_callback(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"
import erlang, sys, threading
sys.py_queue_gate = threading.Event()
def wait():
    return sys.py_queue_gate.wait(30)
">>),
    ok = py:register_function(give_up, fun([]) ->
        %% The thread that waits for this function is kept busy.
        Busy = py:call_async('__main__', wait, []),
        ok = py_test:wait_pending(2),
        Call = fun(N) -> py:await(py:call_async(builtins, len, [lists:seq(1, N)]), 0) end,
        [{error, timeout}] = lists:usort([Call(N) || N <- lists:seq(1, ?MANY)]),
        2 = jobs(),
        _ = spawn_link(fun open_gate/0),
        {ok, true} = py:await(Busy),
        Call(1) =:= {error, timeout} orelse Call(1)
    end),
    {ok, _} = py:eval(<<"erlang.give_up()">>),
    ok = py:unregister_function(give_up).

%%% Deaths

dead_callers_give_back_their_places_in_a_context(_Config) ->
    {Ctx, Gate, Blocker} = py_test:blocked_context(),
    ok = abandon_many(fun() -> py:ctx_call_async(Ctx, builtins, len, [lists:seq(1, 1000)]) end),
    ok = py_test:wait_until(fun() -> jobs() =:= 1 orelse jobs() end),
    {error, timeout} = py:ctx_eval(Ctx, <<"1">>, #{}, 0),
    ok = py_test:open_gate(Gate, Blocker),
    ok = py:unbind(Ctx).

dead_callers_give_back_their_places_in_the_pool(_Config) ->
    Open = block_workers(),
    ok = abandon_many(fun() -> py:call_async(builtins, len, [lists:seq(1, 1000)]) end),
    ok = py_test:wait_until(fun() -> jobs() =:= ?WORKERS orelse jobs() end),
    {error, timeout} = py:eval(<<"1">>, #{}, 0),
    ok = Open().

demands_of_dead_processes_give_back_their_places(_Config) ->
    {ok, Ctx} = py:bind(new),
    Consumers = [start_consumer(Ctx) || _ <- lists:seq(1, ?MANY)],
    Blocker = block(Ctx),
    [begin
         Monitor = monitor(process, Consumer),
         Consumer ! ask,
         receive
             {'DOWN', Monitor, process, Consumer, abandoned} -> ok
         after 5000 -> error(no_end)
         end
     end || Consumer <- Consumers],
    ok = py_test:wait_until(fun() -> jobs() =:= 1 orelse jobs() end),
    {error, timeout} = py:ctx_eval(Ctx, <<"1">>, #{}, 0),
    ok = open_gate(),
    {ok, true} = py_test:result(Blocker),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx).

%% Starts a process with a stream, which makes a demand when it is told to, and dies.
start_consumer(Ctx) ->
    Self = self(),
    Pid = spawn(fun() ->
        {ok, Stream} = py:ctx_stream(Ctx, itertools, count, []),
        Self ! {self(), started},
        receive ask -> ok end,
        ok = py:stream_next(Stream, 1),
        exit(abandoned)
    end),
    receive {Pid, started} -> Pid after 5000 -> error(not_started) end.

closed_streams_give_back_the_places_of_their_demands(_Config) ->
    {ok, Ctx} = py:bind(new),
    Streams = [Stream || _ <- lists:seq(1, 50),
                         {ok, Stream} <- [py:ctx_stream(Ctx, itertools, count, [])]],
    Blocker = block(Ctx),
    [ok = py:stream_next(Stream, 1) || Stream <- Streams],
    51 = jobs(),
    [ok = py:stream_close(Stream) || Stream <- Streams],
    1 = jobs(),
    ok = open_gate(),
    {ok, true} = py_test:result(Blocker),
    ok = py:unbind(Ctx).

%%% Contexts

contexts_that_no_worker_came_to_give_back_their_places(_Config) ->
    Open = block_workers(),
    [begin
         {ok, Ctx} = py:bind(new),
         ok = py:unbind(Ctx)
     end || _ <- lists:seq(1, ?MAX_PENDING + ?MANY)],
    #{available_workers := ?WORKERS} = py_pool:get_stats(),
    ok = py_test:wait_until(fun() ->
        true = garbage_collect(),
        true = garbage_collect(whereis(py_pool)),
        #{resources := #{contexts := Contexts}} = py_pool:get_stats(),
        Contexts =:= 0 orelse Contexts
    end),
    ok = Open().

%%% Helpers

jobs() ->
    #{resources := #{jobs := Jobs}} = py_pool:get_stats(),
    Jobs.

%% Blocks every worker by an unbound call, until the fun that is returned is called.
block_workers() ->
    Gate = spawn_link(fun() -> receive open -> ok end end),
    ok = py:register_function(wait_for_gate, fun([]) ->
        Monitor = monitor(process, Gate),
        receive {'DOWN', Monitor, process, Gate, _} -> true after 30000 -> false end
    end),
    Wait = fun() -> py:eval(<<"__import__('erlang').wait_for_gate()">>) end,
    Callers = [py_test:start_call(Wait) || _ <- lists:seq(1, ?WORKERS)],
    ok = py_test:wait_until(fun() ->
        Running = length(supervisor:which_children(py_callback)),
        Running =:= ?WORKERS orelse Running
    end),
    fun() ->
        Gate ! open,
        [{ok, true} = py_test:result(Caller) || Caller <- Callers],
        py:unregister_function(wait_for_gate)
    end.

block(Ctx) ->
    ok = py:ctx_exec(Ctx, <<"import sys, threading; sys.py_queue_gate = threading.Event()">>),
    Self = self(),
    Blocker = spawn_link(fun() -> Self ! {self(), py:ctx_eval(Ctx, <<"sys.py_queue_gate.wait(30)">>)} end),
    ok = py_test:wait_pending(1),
    Blocker.

open_gate() ->
    ok = py:exec(<<"import sys; sys.py_queue_gate.set()">>).

%% Calls Fun in processes that die right after.
abandon_many(Fun) ->
    lists:foreach(fun(_) ->
        {Pid, Monitor} = spawn_monitor(fun() -> _ = Fun(), exit(abandoned) end),
        receive {'DOWN', Monitor, process, Pid, abandoned} -> ok after 5000 -> error(no_end) end
    end, lists:seq(1, ?MANY)).
