%% @private
%% What it costs that Python talks back, beside a call of Python.
-module(py_bench_talk).

-export([rows/0]).

-define(ROUNDS, 40).
-define(EACH, 500).
-define(WARM_UP, 5000).

-spec rows() -> [py_bench_row:row()].
rows() ->
    ok = py_bench:start(8),
    ok = py:bind(),
    callback_rows().

%% The same expression calls a function of Python, and one of Erlang.
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

row(Name, Key, Stats, Target) ->
    #{Key := Own, plain := #{p50 := Floor}} = Stats,
    py_bench_row:row(#{name => Name, unit => us, stats => Own,
                       floor => {"bound eval", Floor}, target => Target}).
