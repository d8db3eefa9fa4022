%% Are calls under way awaited by those who made them only, and as many as they like?
-module(py_await_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [an_await_by_another_process_is_badarg].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

%% It waited for ever for a result that came to the owner, who must not lose it either.
an_await_by_another_process_is_badarg(_Config) ->
    Starts = [fun() -> py:call_async(time, sleep, [0.3]) end,
              fun() -> py:async_call(asyncio, sleep, [0.3]) end],
    [begin
         Call = Start(),
         elsewhere_is_badarg(Call),
         {ok, none} = py:await(Call),
         elsewhere_is_badarg(Call)
     end || Start <- Starts],
    ok = py_test:wait_available(?WORKERS),
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, ?WORKERS)],
    Refused = py:call_async(time, sleep, [0]),
    elsewhere_is_badarg(Refused),
    {error, no_workers_available} = py:await(Refused),
    [ok = py:unbind(Ctx) || Ctx <- Contexts].

elsewhere_is_badarg(Call) ->
    Ways = [fun() -> py:await(Call, 500) end, fun() -> py:await(Call) end,
            fun() -> py:await(Call, infinity) end, fun() -> py:async_await(Call, 0) end,
            fun() -> py:async_gather([Call], 500) end,
            fun() -> py:async_gather([{math, sqrt, [4]}, Call]) end],
    [begin
         {'EXIT', {badarg, _}} = py_test:in_process(fun() ->
             Raised = (catch Way()),
             ok = py_test:assert_empty_mailbox(),
             Raised
         end)
     end || Way <- Ways].
