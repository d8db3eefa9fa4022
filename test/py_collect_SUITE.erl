%% Are all items of an iterator collected, as a list?
-module(py_collect_SUITE).
-compile([export_all, nowarn_export_all]).

-import(py_stream_SUITE, [next/2]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [items_are_collected, locals_are_seen, asynchronous_items_are_collected,
     a_coroutine_is_awaited_for_its_items, collecting_may_fail].

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

items_are_collected(_Config) ->
    {ok, [0, 1, 2]} = py:stream(builtins, range, [3]),
    {ok, [{0, <<"a">>}]} = py:stream(builtins, enumerate, [<<"a">>], #{start => 0}),
    {ok, [0, 1, 4]} = py:stream_eval(<<"(x * x for x in range(3))">>),
    ok = py:bind(),
    ok = py:exec(<<"n = 2">>),
    {ok, [0, 1]} = py:stream_eval(<<"range(n)">>),
    Big = [integer_to_binary(N) || N <- lists:seq(0, 9999)],
    {ok, Big} = py:stream_eval(<<"(str(x) for x in range(10000))">>).

locals_are_seen(_Config) ->
    {ok, [2, 4]} = py:stream_eval(<<"(x * k for x in xs)">>, #{xs => [1, 2], k => 2}).

asynchronous_items_are_collected(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"
import asyncio
async def gen(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i
">>),
    {ok, [0, 1, 2]} = py:stream('__main__', gen, [3]),
    {ok, [0, 1]} = py:stream_eval(<<"gen(2)">>).

%% A coroutine is awaited for its items by `stream_start', too.
a_coroutine_is_awaited_for_its_items(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"async def later(items): return items">>),
    {ok, S} = py:stream_start('__main__', later, [[1, 2]]),
    {items, [1, 2]} = next(S, 3),
    ok = py:stream_close(S),
    {ok, [1, 2]} = py:stream('__main__', later, [[1, 2]]),
    {ok, [3]} = py:stream_eval(<<"later([3])">>).

collecting_may_fail(_Config) ->
    {error, {'ZeroDivisionError', _}} = py:stream_eval(<<"(1 // x for x in (1, 0))">>),
    {error, {'TypeError', _}} = py:stream_eval(<<"1">>),
    {error, {'TypeError', _}} =
        py:stream_eval(<<"type('A', (), {'__aiter__': lambda self: 5})()">>),
    {error, {'SyntaxError', _}} = py:stream_eval(<<"(">>).
