%% @private
%% The costs of a small call in a context, beside those of the way that it goes and of Erlang
%% itself.
-module(py_bench_calls).

-export([rows/0]).

-define(ROUNDS, 40).
-define(EACH, 1000).
%% Rounds before the measurement, in which the threads find their cores.
-define(WARM_UP, 5000).

-spec rows() -> [py_bench_row:row()].
rows() ->
    ok = py_bench:start(8),
    ok = py:bind(),
    {ok, Context} = py:bind(new),
    ok = remember(500),
    Ours = maps:merge(others(), ours(Context)),
    Unbound = unbound(),
    Alone = alone(),
    Ported = ported(),
    floor_rows(Ours, Alone) ++ eval_rows("bound eval 1+1", eval, Ours)
        ++ eval_rows("ctx_eval 1+1", ctx_eval, Ours)
        ++ [row("bound call math.sqrt(16)", call, empty, Ours, 1.6), error_row(Ours)]
        ++ unbound_rows(Unbound) ++ port_rows(Ours, Ported).

%% Measured apart, because these put threads to sleep that the calls keep awake.
others() ->
    py_bench_stat:together([
        {server, py_bench_floor:server()},
        {dirty, fun py_bench_floor:nothing/0},
        {parked, fun py_bench_floor:parked/0}
    ], #{each => ?EACH}).

ours(Context) ->
    py_bench_stat:together([
        {ping_pong, py_bench_floor:ping_pong()},
        {empty, fun() -> py_bench_floor:empty(Context) end},
        {eval, fun() -> {ok, 2} = py:eval(<<"1+1">>) end},
        {ctx_eval, fun() -> {ok, 2} = py:ctx_eval(Context, <<"1+1">>) end},
        {call, fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end},
        {raising, fun() -> {error, {'ZeroDivisionError', _}} = py:eval(<<"1/0">>) end}
    ], options()).

%% Has Count snippets remembered, as many as a big program has: an error looks for its source among
%% them.
remember(Count) ->
    lists:foreach(fun(N) ->
        {ok, N} = py:eval(iolist_to_binary(["(lambda: ", integer_to_list(N), ")()"]))
    end, lists:seq(1, Count)).

options() ->
    #{batches => ?ROUNDS, each => ?EACH, warm_up => ?WARM_UP, guide => empty}.

%% Runs Fun in a process without a binding.
unbound() ->
    Self = self(),
    Ref = make_ref(),
    _ = spawn_link(fun() ->
        Self ! {Ref, py_bench_stat:together([
            {empty, fun() -> py_bench_floor:empty(py_pool:native()) end},
            {eval, fun() -> {ok, 2} = py:eval(<<"1+1">>) end}
        ], options())}
    end),
    %% Cannot hang: that process answers, or takes this one with it.
    receive {Ref, Stats} -> Stats end.

%% Takes each sample as the mean of a thousand runs: one run is shorter than reading the clock.
alone() ->
    Port = py_bench_port:open_floor(),
    Alone = [{Work, py_bench_stat:stats(py_bench_port:times(Port, Work, 300, 1000))}
             || Work <- [eval, sqrt]],
    ok = py_bench_port:close(Port),
    maps:from_list(Alone).

%% Measures call by call in turns: each finds the threads of the other asleep, as a rare call does.
ported() ->
    Port = py_bench_port:open_peer(),
    Ported = py_bench_stat:together([
        {eval, fun() -> {ok, 2} = py:eval(<<"1+1">>) end},
        {port_eval, fun() -> 2 = py_bench_port:ask(Port, {eval, <<"1+1">>}) end},
        {call, fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end},
        {port_call, fun() -> 4.0 = py_bench_port:ask(Port, {call, math, sqrt, [16]}) end}
    ], #{batches => 5000, each => 1, warm_up => 200}),
    ok = py_bench_port:close(Port),
    Ported.

floor_rows(Ours, Alone) ->
    [plain(Name, us, maps:get(Key, Ours)) || {Name, Key} <-
        [{"floor: ping and pong of two processes", ping_pong}, {"floor: gen_server call", server},
         {"floor: dirty NIF that does nothing", dirty}, {"floor: parked thread, hot", parked},
         {"floor: empty job", empty}]]
    ++ [plain(Name, us, maps:get(Key, Alone)) || {Name, Key} <-
        [{"floor: eval of compiled 1+1, Python alone", eval},
         {"floor: math.sqrt(16), Python alone", sqrt}]].

plain(Name, Unit, Stats) ->
    py_bench_row:row(#{name => Name, unit => Unit, stats => Stats}).

eval_rows(Name, Key, Ours) ->
    #{Key := #{p50 := P50} = Stats} = Ours,
    [row(Name, Key, empty, Ours, 1.5),
     row(Name ++ ", beside Erlang", Key, ping_pong, Ours, 6),
     py_bench_row:row(#{name => Name ++ ", p99", unit => us, stats => Stats, judge => p99,
                        floor => {"its p50", P50}, target => {ratio, 4}})].

row(Name, Key, Floor, Ours, Limit) ->
    #{Key := Stats, Floor := #{p50 := FloorP50}} = Ours,
    py_bench_row:row(#{name => Name, unit => us, stats => Stats,
                       floor => {floor_name(Floor), FloorP50}, target => {ratio, Limit}}).

error_row(#{raising := Raising, eval := #{p50 := Eval}}) ->
    py_bench_row:row(#{name => "bound eval 1/0, an error", unit => us, stats => Raising,
                       floor => {"bound eval 1+1", Eval}}).

floor_name(empty) -> "empty job";
floor_name(ping_pong) -> "ping and pong".

unbound_rows(#{eval := Eval, empty := #{p50 := Empty}}) ->
    [py_bench_row:row(#{name => "unbound eval 1+1", unit => us, stats => Eval,
                        floor => {"empty job, unbound", Empty}})].

%% Rows of calls that were measured in turns, and one after the other as the rows above.
port_rows(#{eval := HotEval, call := HotCall},
          #{eval := Eval, port_eval := PortEval, call := Call, port_call := PortCall}) ->
    [py_bench_row:row(#{name => Name, unit => us, stats => Stats,
                        floor => {"python3 behind a port", maps:get(p50, Port)}})
     || {Name, Stats, Port} <- [{"bound eval 1+1, beside a port", HotEval, PortEval},
                                {"   in turns with the port", Eval, PortEval},
                                {"bound math.sqrt(16), beside a port", HotCall, PortCall},
                                {"   in turns with the port, sqrt", Call, PortCall}]].
