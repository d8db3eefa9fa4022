%% Are calls under way awaited by the processes that made them only, and in any number?
-module(py_await_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [an_await_by_another_process_is_badarg, {group, bound}, {group, unbound}, {group, context},
     a_full_context_is_overloaded, a_second_await_does_not_wait, calls_awaited_before_are_badarg_in_a_moment].

groups() ->
    Cases = [more_than_a_queue_holds_are_gathered, more_than_the_pool_takes_are_gathered,
             an_error_gives_up_the_rest, what_cannot_start_gives_up_the_rest,
             one_timeout_is_for_all, a_call_may_be_given_twice],
    [{Place, [], Cases} || Place <- [bound, unbound, context]].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    [{place, Group} | Config].

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

%% Regression: another process waited for ever for a result that was sent to the owner. The owner
%% must not lose the result either.
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
         {raised, badarg} = py_test:in_process(fun() ->
             Raised = py_test:caught(Way),
             ok = py_test:assert_empty_mailbox(),
             Raised
         end)
     end || Way <- Ways].

%%% Many at once

-define(MANY, 2000).

%% The items that the gather has to start; in a context there are calls under way as well.
with_calls(Config, Fun) ->
    case proplists:get_value(place, Config) of
        bound ->
            ok = py:bind(),
            Fun([]);
        unbound ->
            Fun([]);
        context ->
            py:with_context(fun(Ctx) ->
                Fun([py:ctx_async_call(Ctx, asyncio, sleep, [0.001, N]) || N <- lists:seq(1, 100)])
            end)
    end.

naps(Numbers) ->
    [{asyncio, sleep, [0.001, N]} || N <- Numbers].

%% Regression: the result was always `overloaded', since the queue of a context holds 256.
more_than_a_queue_holds_are_gathered(Config) ->
    with_calls(Config, fun(Given) ->
        Expected = lists:seq(1, ?MANY),
        {ok, Expected} = py:async_gather(Given ++ naps(lists:nthtail(length(Given), Expected)))
    end).

more_than_the_pool_takes_are_gathered(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {max_pending, 150}]),
    ok = with_calls(Config, fun(Given) ->
        Expected = lists:seq(1, ?MANY),
        {ok, Expected} = py:async_gather(Given ++ naps(lists:nthtail(length(Given), Expected))),
        ok
    end),
    ok = py:unbind(),
    init_per_suite(Config).

an_error_gives_up_the_rest(Config) ->
    with_calls(Config, fun(Given) ->
        Naps = naps(lists:seq(1, ?MANY)),
        Calls = Given ++ Naps ++ [{math, sqrt, [-1]}] ++ Naps,
        {error, {'ValueError', _}} = py:async_gather(Calls),
        ok = wait_for_room(),
        %% A call that was given ends the gather as well, before all are started.
        {error, {'TypeError', _}} = py:async_gather(Naps ++ [py:async_call(math, sqrt, [x])]),
        ok = wait_for_room()
    end).

%% A call that was given up is in the queue until the worker has come to it.
wait_for_room() ->
    py_test:wait_until(fun() ->
        Result = py:async_await(py:async_call(math, sqrt, [4])),
        Result =:= {ok, 2.0} orelse Result
    end).

what_cannot_start_gives_up_the_rest(Config) ->
    Naps = naps(lists:seq(1, ?MANY)),
    [with_calls(Config, fun(Given) ->
         {raised, badarg} = py_test:caught(fun() -> py:async_gather(Given ++ Naps ++ Bad) end),
         ok = py_test:wait_pending(0),
         ok = wait_for_room(),
         ok = py_test:assert_empty_mailbox()
     end) || Bad <- [[x], [{math, sqrt, x}], [{math, sqrt, x, #{}}], [{math, sqrt, [4], x}]]],
    {raised, badarg} = py_test:caught(fun() -> py:async_gather([hd(Naps) | x]) end),
    ok.

%% Regression: each await took a second, in which the reply might have come. A call that timed out
%% is over, too.
a_second_await_does_not_wait(_Config) ->
    Replied = py:call_async(math, sqrt, [4]),
    {ok, 2.0} = py:await(Replied),
    TimedOut = py:call_async(time, sleep, [30]),
    {error, timeout} = py:await(TimedOut, 0),
    Gathered = py:call_async(math, sqrt, [9]),
    {ok, [3.0, 3.0]} = py:async_gather([Gathered, Gathered]),
    Start = erlang:monotonic_time(millisecond),
    [{raised, badarg} = py_test:caught(fun() -> Await(Call) end)
     || Call <- [Replied, TimedOut, Gathered],
        Await <- [fun py:await/1, fun(C) -> py:await(C, infinity) end,
                  fun(C) -> py:async_gather([C]) end,
                  fun(C) -> py:async_gather([{math, sqrt, [4]}, C]) end]],
    Took = erlang:monotonic_time(millisecond) - Start,
    ct:log("~b ms", [Took]),
    true = Took < 5000.

%% Regression: each call was waited for, a second: the timetrap fails the case.
calls_awaited_before_are_badarg_in_a_moment(_Config) ->
    Calls = [py:call_async(math, sqrt, [4]) || _ <- lists:seq(1, 100)],
    [{ok, 2.0} = py:await(Call) || Call <- Calls],
    {raised, badarg} = py_test:caught(fun() -> py:async_gather(Calls) end),
    ok.

%% A wait for each of the calls would be longer than the timetrap.
one_timeout_is_for_all(Config) ->
    with_calls(Config, fun(Given) ->
        Naps = [{asyncio, sleep, [30]} || _ <- lists:seq(1, ?MANY)],
        {error, timeout} = py:async_gather(Given ++ [{time, sleep, [2]} | Naps], 200),
        ok
    end).

a_call_may_be_given_twice(Config) ->
    with_calls(Config, fun(Given) ->
        Nap = py:async_call(asyncio, sleep, [0, nap]),
        Numbers = lists:seq(1, ?MANY),
        {ok, Values} = py:async_gather(Given ++ [Nap | naps(Numbers)] ++ [Nap]),
        Expected = [<<"nap">> | Numbers] ++ [<<"nap">>],
        Expected = lists:nthtail(length(Given), Values)
    end).

%% A gather without a call of its own under way would wait for calls of others.
a_full_context_is_overloaded(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"
import sys, threading
gate = threading.Event()
def block():
    sys.py_test_mark = True
    gate.wait(30)
">>),
    {ok, Gate} = py:eval(<<"gate">>),
    Block = py:call_async('__main__', block, []),
    ok = py_test:in_process(fun py_test:wait_for_mark/0),
    Roots = [py:call_async(math, sqrt, [4]) || _ <- lists:seq(1, 256)],
    Refused = py:call_async(math, sqrt, [4]),
    {error, overloaded} = py:async_gather([{asyncio, sleep, [0]}]),
    {error, overloaded} = py:async_gather([hd(Roots), Refused]),
    ok = py_test:in_process(fun() -> py:exec(<<"gate.set()">>, #{gate => Gate}) end),
    [{ok, _} = py:await(Call) || Call <- [Block | tl(Roots)]],
    {ok, [none]} = py:async_gather([{asyncio, sleep, [0]}]).
