%% @private
%% The costs of a context that lives for one call: to get it, to give it back, and to have it clean.
-module(py_bench_lease).

-export([rows/0]).

-define(EACH, 1000).
-define(ROUNDS, 20).
%% Rounds before the measurement, in which the threads find their cores.
-define(WARM_UP, 5000).

-spec rows() -> [py_bench_row:row()].
rows() ->
    pair_rows() ++ clean_rows().

pair_rows() ->
    ok = py_bench:start(8),
    #{server := #{p50 := Server} = Floor, bind := Bind, new := New} = py_bench_stat:together([
        {server, py_bench_floor:server()},
        {bind, fun pair/0},
        {new, fun() -> {ok, Context} = py:bind(new), ok = py:unbind(Context) end}
    ], #{each => ?EACH}),
    Row = fun(Name, Stats) ->
        %% A bind and an unbind take three floors each.
        py_bench_row:row(#{name => Name, unit => us, stats => Stats,
                           floor => {"gen_server call", Server}, target => {ratio, 6}})
    end,
    [py_bench_row:row(#{name => "floor: gen_server call", unit => us, stats => Floor}),
     Row("bind() and unbind()", Bind), Row("bind(new) and unbind(Context)", New)].

pair() ->
    ok = py:bind(),
    ok = py:unbind().

%% Measures with one free worker, so that a lease waits until the one before it is clean: another
%% worker would hide that time. The cleaning that goes on while the owner still leaves is not seen,
%% nor waited for.
clean_rows() ->
    ok = py_bench:start(2),
    {ok, Context} = py:bind(new),
    Hundred = <<"vars().update({f'v{n}': [n] for n in range(100)})">>,
    %% Objects that a collection of garbage alone frees.
    Cycle = <<"class C: pass\nc = C()\nc.me = c">>,
    Stats = py_bench_stat:together([
        {pair, fun pair/0},
        {eval, fun() -> {ok, 2} = py:ctx_eval(Context, <<"1+1">>) end},
        {lease, fun() -> ok = py:bind(), {ok, 2} = py:eval(<<"1+1">>), ok = py:unbind() end},
        {hundred, fun() -> ok = py:bind(), ok = py:exec(Hundred), ok = py:unbind() end},
        {cycle, fun() -> ok = py:bind(), ok = py:exec(Cycle), ok = py:unbind() end},
        {server, py_bench_floor:server()}
    ], #{batches => ?ROUNDS, each => ?EACH, warm_up => ?WARM_UP, guide => eval}),
    #{lease := Lease, hundred := HundredStats, cycle := CycleStats, server := #{p50 := Server}} = Stats,
    [Pair, Eval] = [maps:get(p50, maps:get(Key, Stats)) || Key <- [pair, eval]],
    CleanUp = py_bench_stat:figure(maps:get(p50, Lease) - Pair - Eval, maps:get(n, Lease)),
    [py_bench_row:row(#{name => "lease with one eval", unit => us, stats => Lease,
                        floor => {"pair and eval apart", Pair + Eval}}),
     py_bench_row:row(#{name => "its clean-up, one worker", unit => us, stats => CleanUp,
                        floor => {"gen_server call", Server}, target => {most, 20}}),
     py_bench_row:row(#{name => "lease with 100 variables", unit => us, stats => HundredStats,
                        floor => {"pair and eval apart", Pair + Eval}}),
     py_bench_row:row(#{name => "lease with a class and a cycle", unit => us, stats => CycleStats,
                        floor => {"pair and eval apart", Pair + Eval}})].
