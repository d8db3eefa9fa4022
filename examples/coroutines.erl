%% Many coroutines at once on one worker, and Erlang functions that they await.
-module(coroutines).

-export([main/0]).

-spec main() -> no_return().
main() ->
    ok = logger:set_primary_config(level, warning),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py:bind(),
    ok = py:exec(<<"
import asyncio, erlang

async def fetch(n):
    \"\"\"Waits as for a server.\"\"\"
    await asyncio.sleep(0.2)
    return n * n

async def priced(names):
    \"\"\"Asks Erlang for all prices at once.\"\"\"
    prices = await asyncio.gather(*(erlang.acall('price', name) for name in names))
    return dict(zip(names, prices))
">>),
    hundred(),
    prices(),
    too_slow(),
    ok = py:unbind(),
    ok = application:stop(erlang_python),
    io:format("Coroutines finished as expected.~n"),
    halt(0).

%% Twenty seconds of sleep, all at once: one after the other they would take as long.
hundred() ->
    Start = erlang:monotonic_time(millisecond),
    {ok, Squares} = py:async_gather([{'__main__', fetch, [N]} || N <- lists:seq(1, 100)]),
    Squares = [N * N || N <- lists:seq(1, 100)],
    Elapsed = erlang:monotonic_time(millisecond) - Start,
    io:format("A hundred waits of 200 ms took ~b ms~n", [Elapsed]).

prices() ->
    ok = py:register_function(price, fun([Name]) -> 10 * byte_size(Name) end),
    {ok, Prices} = py:call('__main__', priced, [[<<"tea">>, <<"coffee">>]]),
    #{<<"tea">> := 30, <<"coffee">> := 60} = Prices,
    io:format("Prices from Erlang: ~0tp~n", [Prices]),
    ok = py:unregister_function(price).

%% A coroutine whose time is over is cancelled, and the others go on.
too_slow() ->
    Slow = py:async_call(asyncio, sleep, [60]),
    {error, timeout} = py:async_await(Slow, 50),
    {ok, 9} = py:async_await(py:async_call('__main__', fetch, [3])),
    io:format("A coroutine was cancelled~n").
