%% @private
%% The costs of Python calling Erlang, beside those of a call of Python.
-module(py_bench_talk).

-export([rows/0]).

-define(ROUNDS, 40).
-define(EACH, 500).
-define(WARM_UP, 5000).

-spec rows() -> [py_bench_row:row()].
rows() ->
    ok = py_bench:start(8),
    ok = py:bind(),
    callback_rows() ++ stream_rows() ++ async_rows().

%% Rows of the same expression calling a function of Python, and one of Erlang.
callback_rows() ->
    ok = py:register_function(nothing, fun([]) -> 1 end),
    ok = py:register_function(nested, fun([]) -> {ok, 1} = py:eval(<<"p()">>), 1 end),
    ok = py:exec(<<"from erlang import nothing as f, nested as g\ndef p(): return 1">>),
    Stats = py_bench_stat:together([
        {plain, fun() -> {ok, 1} = py:eval(<<"p()">>) end},
        {callback, fun() -> {ok, 1} = py:eval(<<"f()">>) end},
        {nested, fun() -> {ok, 1} = py:eval(<<"g()">>) end}
    ], #{batches => ?ROUNDS, each => ?EACH, warm_up => ?WARM_UP, guide => plain}),
    [row("bound eval that calls Erlang once", callback, Stats, {ratio, 3}),
     row("   and is called back by it", nested, Stats, none)].

%% Rows of a hundred items in a demand, beside a job that does nothing: a message for each would
%% cost as much.
stream_rows() ->
    {ok, Context} = py:bind(new),
    {ok, Stream} = py:ctx_stream(Context, itertools, count, [1]),
    Stats = py_bench_stat:together([
        {empty, fun() -> py_bench_floor:empty(Context) end},
        {stream, fun() -> demand(Stream, 100) end}
    ], #{batches => ?ROUNDS, each => ?EACH, warm_up => ?WARM_UP, guide => empty}),
    ok = py:unbind(Context),
    #{empty := #{p50 := Empty}, stream := Items} = Stats,
    [py_bench_row:row(#{name => "item of a stream, 100 a demand", unit => {per_element, 100},
                        stats => Items, floor => {"empty job", 100 * Empty},
                        target => {ratio, 0.2}})].

demand(Stream, Count) ->
    ok = py:stream_next(Stream, Count),
    %% Cannot hang: the items are there.
    receive {py_stream, Stream, {items, _}} -> ok end.

%% Rows of a hundred coroutines at once, beside calls of the same one after the other.
async_rows() ->
    ok = py:exec(<<"async def nothing(): return 1">>),
    Calls = lists:duplicate(100, {'__main__', nothing, []}),
    Stats = py_bench_stat:together([
        {call, fun() -> {ok, 1} = py:call('__main__', nothing, []) end},
        {gather, fun() -> {ok, [1 | _]} = py:async_gather(Calls) end}
    ], #{batches => ?ROUNDS, each => 20, warm_up => 500, guide => call}),
    #{call := #{p50 := Call} = Alone, gather := Together} = Stats,
    [py_bench_row:row(#{name => "bound call of a coroutine", unit => us, stats => Alone}),
     py_bench_row:row(#{name => "one of 100 in flight at once", unit => {per_element, 100},
                        stats => Together, floor => {"the call alone", 100 * Call}})].

row(Name, Key, Stats, Target) ->
    #{Key := Own, plain := #{p50 := Floor}} = Stats,
    py_bench_row:row(#{name => Name, unit => us, stats => Own,
                       floor => {"bound eval", Floor}, target => Target}).
