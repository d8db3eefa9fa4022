%% Do the totals of a pool count what has happened, once each, and nothing else?
-module(py_totals_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 2).
-define(POOL, totals).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [jobs_that_end_well, jobs_that_fail, jobs_that_time_out, jobs_whose_caller_dies, refused_jobs, jobs_within_jobs,
     streams_and_coroutines, interrupted_jobs, leases, leases_that_are_refused, lost_workers, retired_workers, many_at_once,
     totals_of_a_pool_are_its_own].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

%% Returns by how much the totals of a kind have grown in Fun, when all of its jobs have ended.
grown(Kind, Fun) ->
    #{Kind := Before} = totals(),
    _ = Fun(),
    ok = py_test:wait_pending(0),
    #{Kind := After} = totals(),
    maps:map(fun(Key, Value) -> Value - maps:get(Key, Before) end, After).

totals() ->
    #{totals := Totals} = py_pool:get_stats(),
    %% Both functions read the same.
    #{totals := _} = py_pool:get_stats(default),
    Totals.

jobs_that_end_well(_Config) ->
    #{accepted := 4, replied := 4, failed := 0, cancelled := 0} = grown(jobs, fun() ->
        {ok, 2} = py:eval(<<"1 + 1">>),
        ok = py:exec(<<"x = 1">>),
        {ok, 3} = py:call(builtins, abs, [-3]),
        {ok, 4} = py:await(py:call_async(builtins, abs, [-4]))
    end).

jobs_that_fail(_Config) ->
    #{accepted := 5, replied := 5, failed := 4, cancelled := 0} = grown(jobs, fun() ->
        {error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>),
        {error, {'SyntaxError', _}} = py:exec(<<"1 +">>),
        {error, {unconvertible, _}} = py:eval(<<"10 ** 5000000">>),
        {error, {'ModuleNotFoundError', _}} = py:call(no_such_module, f, []),
        {ok, 1} = py:eval(<<"1">>)
    end).

jobs_that_time_out(_Config) ->
    #{accepted := 2, replied := 0, failed := 0, cancelled := 2} = grown(jobs, fun() ->
        {error, timeout} = py:exec(<<"while True: pass">>, #{}, 50),
        {error, timeout} = py:await(py:call_async(builtins, exec, [<<"while True: pass">>, #{}]), 20)
    end).

jobs_whose_caller_dies(_Config) ->
    #{accepted := 1, replied := 0, cancelled := 1} = grown(jobs, fun() ->
        Caller = spawn(fun() -> py:exec(<<"while True: pass">>) end),
        ok = py_test:wait_pending(1),
        exit(Caller, kill),
        ok = py_test:wait_pending(0)
    end).

%% A job that no worker may take was not accepted.
refused_jobs(_Config) ->
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, ?WORKERS)],
    #{accepted := 0, replied := 0, failed := 0, cancelled := 0} = grown(jobs, fun() ->
        {error, no_workers_available} = py:eval(<<"1">>)
    end),
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    #{accepted := 0} = grown(jobs, fun() ->
        [{raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end) || Ctx <- Contexts]
    end).

jobs_within_jobs(_Config) ->
    ok = py:register_function(totals_within, fun([N]) -> {ok, M} = py:eval(<<"n + 1">>, #{n => N}), M end),
    #{accepted := 2, replied := 2, failed := 0, cancelled := 0} = grown(jobs, fun() ->
        {ok, 2} = py:eval(<<"__import__('erlang').totals_within(1)">>)
    end),
    ok = py:unregister_function(totals_within).

%% The start of a stream, and each demand; a coroutine counts once, at its end.
streams_and_coroutines(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"async def f(n): return n\nasync def g(): raise KeyError">>),
    #{accepted := 3, replied := 3, failed := 0} = grown(jobs, fun() ->
        {ok, Stream} = py:ctx_stream(Ctx, builtins, iter, [[1, 2]]),
        ok = py:stream_next(Stream, 2),
        receive {py_stream, Stream, {items, [1, 2]}} -> ok end,
        ok = py:stream_next(Stream, 1),
        receive {py_stream, Stream, done} -> ok end
    end),
    #{accepted := 2, replied := 2, failed := 1} = grown(jobs, fun() ->
        {ok, 1} = py:async_await(py:ctx_async_call(Ctx, '__main__', f, [1])),
        {error, {'KeyError', _}} = py:async_await(py:ctx_async_call(Ctx, '__main__', g, []))
    end),
    ok = py:unbind(Ctx).

%% The caller has a reply that says so.
interrupted_jobs(_Config) ->
    #{accepted := 1, replied := 1, failed := 1, cancelled := 0} = grown(jobs, fun() ->
        Caller = py_test:start_call(fun() -> py:exec(<<"while True: pass">>) end),
        ok = py_test:wait_until(fun() -> py:interrupt(Caller) =:= ok end),
        {error, interrupted} = py_test:result(Caller)
    end).

leases(_Config) ->
    #{checked_out := 3, checked_in := 3} = grown(leases, fun() ->
        ok = py:with_context(fun() -> py:exec(<<"x = 1">>) end),
        {ok, Ctx} = py:bind(new),
        ok = py:unbind(Ctx),
        ok = py_test:in_process(fun() -> py:bind() end),
        ok = py_test:wait_available(?WORKERS)
    end),
    {ok, Ctx} = py:bind(new),
    #{leases := #{checked_out := Out, checked_in := In}} = totals(),
    1 = Out - In,
    ok = py:unbind(Ctx).

leases_that_are_refused(_Config) ->
    #{checked_out := ?WORKERS, checked_in := ?WORKERS} = grown(leases, fun() ->
        Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, ?WORKERS)],
        {error, no_workers_available} = py:bind(new),
        {error, no_workers_available} = py:bind(),
        [ok = py:unbind(Ctx) || Ctx <- Contexts],
        ok = py_test:wait_available(?WORKERS)
    end).

%% A thread that is abandoned, a child that exits: each has a successor.
lost_workers(_Config) ->
    Expected = case py_test:is_on_processes() of
        true -> #{abandoned => 0, exited => 1, replaced => 1};
        false -> #{abandoned => 1, exited => 0, replaced => 1}
    end,
    Expected = grown(workers, fun() ->
        case py_test:is_on_processes() of
            true ->
                {error, {worker_exited, _}} = py:eval(<<"__import__('os')._exit(3)">>);
            false ->
                ok = py_test:time_out_stuck(none),
                ok = py_test:wait_for_abandoned(1),
                ok = py_test:free_stuck(0)
        end,
        ok = py_test:wait_until(fun() -> grown_to(replaced, 1) end)
    end).

%% The server counts when it is told.
grown_to(Key, Least) ->
    #{workers := #{Key := Count}} = totals(),
    Count >= Least.

%% A child that was told to end has not exited; its successor has its place.
retired_workers(_Config) ->
    ok = py_pool:start(?POOL, #{level => process, num_workers => 1, max_jobs => 2}),
    [{ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL}) || _ <- lists:seq(1, 6)],
    ok = py_test:wait_until(fun() ->
        #{totals := #{workers := Workers}} = py_pool:get_stats(?POOL),
        Workers =:= #{abandoned => 0, exited => 0, replaced => 3} orelse Workers
    end),
    ok = py_pool:stop(?POOL).

many_at_once(_Config) ->
    #{accepted := 2000, replied := 2000, failed := 1000, cancelled := 0} = grown(jobs, fun() ->
        Callers = [py_test:start_call(fun() ->
            [begin
                {ok, _} = py:eval(<<"1">>),
                {error, _} = py:eval(<<"1 / 0">>)
             end || _ <- lists:seq(1, 100)]
        end) || _ <- lists:seq(1, 10)],
        [_ = py_test:result(Caller) || Caller <- Callers]
    end).

totals_of_a_pool_are_its_own(_Config) ->
    ok = py_pool:start(?POOL, #{num_workers => 1}),
    #{accepted := 0} = grown(jobs, fun() -> {ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL}) end),
    #{totals := #{jobs := #{accepted := 1, replied := 1}, leases := #{checked_out := 0},
                  workers := #{abandoned := 0, exited := 0, replaced := 0}}} = py_pool:get_stats(?POOL),
    ok = py_pool:stop(?POOL),
    %% A pool of the same name begins anew.
    ok = py_pool:start(?POOL, #{num_workers => 1}),
    #{totals := #{jobs := #{accepted := 0}}} = py_pool:get_stats(?POOL),
    ok = py_pool:stop(?POOL).
