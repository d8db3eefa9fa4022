%% @private
%% Many callers at once: the throughput, the longest wait, and the effect of Python code that
%% computes or sleeps on others.
-module(py_bench_load).

-export([rows/0]).

-define(WORKERS, 8).
-define(BATCHES, 3).
-define(BATCH, 1000).
%% Milliseconds for the floor, which needs less: it says how fast the way is, not how evenly it is
%% shared.
-define(FLOOR_BATCH, 500).
-define(WATCH, 5000).
%% Milliseconds until the calls that were started are well under way.
-define(SETTLE, 300).
-define(TIMEOUT, 60000).

-spec rows() -> [py_bench_row:row()].
rows() ->
    unbound_rows() ++ bound_rows() ++ behind_rows() ++ ticker_rows().

%% The throughput of the last count of callers is judged beside that of the second.
unbound_rows() ->
    ok = py_bench:start(?WORKERS),
    Runs = [{Count, throughput(Count)} || Count <- [1, 8, 64, 1000]],
    {8, {#{p50 := Eight}, _, _}} = lists:keyfind(8, 1, Runs),
    lists:append([unbound_rows(Count, Run, Eight) || {Count, Run} <- Runs]).

unbound_rows(Count, {Rate, Longest, FloorRate}, Eight) ->
    Empty = {"empty jobs, as many processes", FloorRate},
    {Floor, Target} = case Count of
        1 -> {Empty, none};
        1000 -> {{"evals, 8 at once", Eight}, {least_ratio, 0.85}};
        _ -> {Empty, {least, 400000}}
    end,
    Crowd = integer_to_list(Count) ++ " at once",
    [py_bench_row:row(#{name => "unbound eval 1+1, " ++ Crowd, unit => {as, <<"calls/s">>},
                        stats => Rate, floor => Floor, target => Target}),
     py_bench_row:row(#{name => "   longest wait, " ++ Crowd, unit => ms, stats => Longest,
                        target => {most, 1000}})].

throughput(Count) ->
    Native = py_pool:native(),
    Eval = fun() -> {ok, 2} = py:eval(<<"1+1">>) end,
    Empty = fun() -> py_bench_floor:empty(Native) end,
    _WarmUp = py_bench_crowd:run(Count, 200, Eval),
    Batches = [{py_bench_crowd:run(Count, ?BATCH, Eval),
                py_bench_crowd:run(Count, ?FLOOR_BATCH, Empty)} || _ <- lists:seq(1, ?BATCHES)],
    Rate = py_bench_crowd:rate([Run || {Run, _} <- Batches]),
    FloorRate = py_bench_crowd:rate([Run || {_, Run} <- Batches]),
    Calls = py_bench_crowd:calls([Run || {Run, _} <- Batches]),
    Longest = py_bench_crowd:longest([Run || {Run, _} <- Batches]),
    {py_bench_stat:figure(Rate, Calls), py_bench_stat:figure(Longest, Calls), FloorRate}.

bound_rows() ->
    ok = py_bench:start(?WORKERS),
    Bind = fun() -> ok = py:bind() end,
    Eval = fun() -> {ok, 2} = py:eval(<<"1+1">>) end,
    Empty = fun() ->
        {ok, Lease} = py_pool:binding(self()),
        py_bench_floor:empty(Lease)
    end,
    {Floors, Runs} = lists:unzip([{py_bench_crowd:run(?WORKERS, ?FLOOR_BATCH, Bind, Empty),
                                   py_bench_crowd:run(?WORKERS, ?BATCH, Bind, Eval)}
                                  || _ <- lists:seq(1, ?BATCHES)]),
    Waits = #{n := N, p50 := P50} = py_bench_crowd:waits(Runs),
    Rate = py_bench_stat:figure(py_bench_crowd:rate(Runs), N),
    Wait = fun(Name, Judge, Target) ->
        py_bench_row:row(#{name => Name, unit => us, stats => Waits, judge => Judge,
                           floor => {"median wait", P50}, target => Target})
    end,
    [py_bench_row:row(#{name => "8 bound processes, eval 1+1", unit => {as, <<"calls/s">>},
                        stats => Rate,
                        floor => {"empty jobs, as many processes", py_bench_crowd:rate(Floors)},
                        target => {least, 300000}}),
     Wait("   wait of 8 bound, p99", p99, none), Wait("   wait of 8 bound, p99.9", p999, none),
     Wait("   longest wait of 8 bound", max, {ratio, 20})].

%% Rows of one quick call at a time, while others keep workers or the GIL.
behind_rows() ->
    ok = py_bench:start(?WORKERS),
    {ok, Switch} = py:eval(<<"__import__('sys').getswitchinterval()">>),
    Alone = quick(),
    Sleeping = behind(4, fun() -> {ok, none} = py:call(time, sleep, [0.5]) end),
    ok = py_bench:start(?WORKERS),
    Loop = <<"import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass">>,
    Computing = behind(2, fun() -> ok = py:exec(Loop) end),
    [py_bench_row:row(#{name => "unbound eval, every ms", unit => ms, stats => Alone}),
     py_bench_row:row(#{name => "unbound eval, while 4 others sleep", unit => ms, stats => Sleeping,
                        judge => p99, floor => {"p99 of one caller alone", maps:get(p99, Alone)},
                        target => {most, 1}}),
     py_bench_row:row(#{name => "unbound eval, while 2 others compute", unit => ms,
                        stats => Computing, judge => p99,
                        floor => {"sys.getswitchinterval()", Switch * 1.0e9},
                        target => {ratio, 2}})].

behind(Count, Fun) ->
    Others = [busy(Fun) || _ <- lists:seq(1, Count)],
    ok = timer:sleep(?SETTLE),
    Stats = quick(),
    ok = lists:foreach(fun py_bench_crowd:stop/1, Others),
    Stats.

busy(Fun) ->
    spawn_link(fun Loop() -> Fun(), Loop() end).

%% Calls at a fixed pace: calls one after the other would leave out most of the time in which one of
%% them waits.
quick() ->
    Recorder = py_bench_stat:recorder(?WATCH),
    Count = quick(Recorder, 1, erlang:monotonic_time(millisecond) + ?WATCH),
    py_bench_stat:stats(py_bench_stat:times(Recorder, Count)).

quick(Recorder, Index, End) ->
    Start = erlang:monotonic_time(nanosecond),
    {ok, 2} = py:eval(<<"1+1">>),
    ok = py_bench_stat:record(Recorder, Index, erlang:monotonic_time(nanosecond) - Start),
    ok = timer:sleep(1),
    case erlang:monotonic_time(millisecond) < End of
        true -> quick(Recorder, Index + 1, End);
        false -> Index
    end.

%% Rows of Erlang beside four contexts that compute, which should not be on its schedulers.
ticker_rows() ->
    ok = py_bench:start(?WORKERS),
    Loop = <<"import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass">>,
    Batches = [{gaps(), gaps_beside(4, Loop)} || _ <- lists:seq(1, ?BATCHES)],
    Without = py_bench_stat:stats(lists:append([Gaps || {Gaps, _} <- Batches])),
    With = py_bench_stat:stats(lists:append([Gaps || {_, Gaps} <- Batches])),
    [py_bench_row:row(#{name => "largest gap of a 1 ms ticker", unit => ms, stats => Without,
                        judge => max}),
     py_bench_row:row(#{name => "   the same, while 4 contexts compute", unit => ms, stats => With,
                        judge => max, floor => {"without Python", maps:get(max, Without)},
                        target => {ratio, 2}})].

gaps_beside(Count, Code) ->
    Others = [busy(fun() ->
        py:with_context(fun(Context) -> ok = py:ctx_exec(Context, Code, #{}, ?TIMEOUT) end)
    end) || _ <- lists:seq(1, Count)],
    ok = timer:sleep(?SETTLE),
    Gaps = gaps(),
    ok = lists:foreach(fun py_bench_crowd:stop/1, Others),
    %% The code of this batch has a moment to stop in, which is not part of the next batch.
    ok = timer:sleep(?SETTLE),
    Gaps.

gaps() ->
    Recorder = py_bench_stat:recorder(?BATCH + 1),
    Count = tick(Recorder, 1, erlang:monotonic_time(nanosecond),
                 erlang:monotonic_time(millisecond) + ?BATCH),
    py_bench_stat:times(Recorder, Count).

tick(Recorder, Index, Last, End) ->
    receive after 1 -> ok end,
    Now = erlang:monotonic_time(nanosecond),
    ok = py_bench_stat:record(Recorder, Index, Now - Last),
    case erlang:monotonic_time(millisecond) < End of
        true -> tick(Recorder, Index + 1, Now, End);
        false -> Index
    end.
