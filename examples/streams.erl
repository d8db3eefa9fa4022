%% Items of Python generators, in the number that an Erlang process asks for.
-module(streams).

-export([main/0]).

-spec main() -> no_return().
main() ->
    ok = logger:set_primary_config(level, warning),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py:bind(),
    ok = py:exec(<<"
import csv, io

def rows(text):
    \"\"\"The rows of a table, one by one; the file is closed whatever happens.\"\"\"
    with io.StringIO(text) as file:
        yield from csv.reader(file)

async def countdown(n):
    import asyncio
    while n:
        await asyncio.sleep(0.001)
        yield n
        n -= 1
">>),
    table(),
    half_way(),
    asynchronous(),
    {ok, [0, 1, 4, 9]} = py:stream_eval(<<"(x * x for x in range(4))">>),
    ok = py:unbind(),
    ok = application:stop(erlang_python),
    io:format("Streams finished as expected.~n"),
    halt(0).

%% Takes a batch at a time, to the end.
table() ->
    Text = [[integer_to_binary(N), ",", integer_to_binary(N * N), "\n"] || N <- lists:seq(1, 10)],
    {ok, Stream} = py:stream_start('__main__', rows, [iolist_to_binary(Text)]),
    Rows = all(Stream, 4),
    10 = length(Rows),
    [<<"10">>, <<"100">>] = lists:last(Rows),
    io:format("~b rows, in batches of 4~n", [length(Rows)]),
    ok = py:stream_close(Stream).

all(Stream, Count) ->
    ok = py:stream_next(Stream, Count),
    receive
        {py_stream, Stream, {items, Items}} -> Items ++ all(Stream, Count);
        {py_stream, Stream, done} -> []
    after 5000 ->
        error(no_items)
    end.

%% Closes a stream half-way: the `finally' of the generator runs.
half_way() ->
    {ok, Stream} = py:stream_start(itertools, count, [1]),
    ok = py:stream_next(Stream, 3),
    receive {py_stream, Stream, {items, [1, 2, 3]}} -> ok after 5000 -> error(no_items) end,
    ok = py:stream_close(Stream),
    io:format("Three of endlessly many~n").

asynchronous() ->
    {ok, Stream} = py:stream_start('__main__', countdown, [3]),
    [3, 2, 1] = all(Stream, 2),
    io:format("An asynchronous generator~n").
