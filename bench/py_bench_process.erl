%% @private
%% The costs of a worker in a child process: beside two processes that do nothing but pass bytes to and fro,
%% beside a python3 behind a port, and beside the workers that are threads.
-module(py_bench_process).

-export([rows/0]).

-define(WORKERS, 8).
-define(ROUNDS, 6).
-define(BIG, (64 bsl 20)).
-define(TIMEOUT, 60000).
%% Milliseconds of a batch of many callers.
-define(BATCH, 1000).
%% Round trips of a pair, for one pair and for each of eight.
-define(TRIPS, 20000).
%% Children that end, one after the other.
-define(ENDS, 20).

-spec rows() -> [py_bench_row:row()].
rows() ->
    ok = py_bench:start(?WORKERS),
    ok = py_pool:start(children, #{level => process, num_workers => ?WORKERS, spares => 1}),
    call_rows() ++ crowd_rows() ++ compute_rows() ++ value_rows() ++ lease_rows() ++ start_rows() ++ memory_rows().

%% The floors are other programs, which run in turns with the calls.
call_rows() ->
    {ok, Child} = py:bind(new, #{pool => children}),
    {ok, Thread} = py:bind(new),
    Port = py_bench_port:open_peer(),
    Eval = fun(Context) -> fun() -> {ok, 2} = py:ctx_eval(Context, <<"1+1">>) end end,
    {Pairs, Stats} = lists:unzip([{{pair("block", 1), pair("spin", 1)}, py_bench_stat:together([
        {child, Eval(Child)}, {thread, Eval(Thread)},
        {port, fun() -> 2 = py_bench_port:ask(Port, {eval, <<"1+1">>}) end}
    ], #{batches => 4, each => 500, warm_up => 1000})} || _ <- lists:seq(1, ?ROUNDS)]),
    ok = py_bench_port:close(Port),
    [ok = py:unbind(Context) || Context <- [Child, Thread]],
    Median = fun(Values) -> maps:get(p50, py_bench_stat:stats(Values)) end,
    Block = Median([P50 || {{P50, _}, _} <- Pairs]),
    Spin = Median([P50 || {_, {P50, _}} <- Pairs]),
    Of = fun(Key) -> [maps:get(Key, Run) || Run <- Stats] end,
    Row = fun(Floor, Target) ->
        py_bench_row:row(#{name => "bound eval 1+1 in a child", unit => us, stats => merged(Of(child)),
                           floor => Floor, target => Target})
    end,
    PortP50 = Median([P50 || #{p50 := P50} <- Of(port)]),
    ThreadP50 = Median([P50 || #{p50 := P50} <- Of(thread)]),
    [py_bench_row:row(#{name => "floor: socketpair, peers that block", unit => us,
                        stats => py_bench_stat:figure(Block, ?ROUNDS * ?TRIPS)}),
     py_bench_row:row(#{name => "floor: socketpair, peers that spin", unit => us,
                        stats => py_bench_stat:figure(Spin, ?ROUNDS * ?TRIPS)}),
     Row({"socketpair, peers that block", Block}, {ratio, 2.5}),
     Row({"python3 behind a port", PortP50}, none), Row({"in a thread", ThreadP50}, none)].

%% Returns the figures of runs as one: the median of the runs for each.
merged(Runs) ->
    Median = fun(Key) -> maps:get(p50, py_bench_stat:stats([maps:get(Key, Run) || Run <- Runs])) end,
    #{n => lists:sum([N || #{n := N} <- Runs]), p50 => Median(p50), p99 => Median(p99),
      p999 => Median(p999), max => lists:max([Max || #{max := Max} <- Runs])}.

%% Returns the median of a round trip, in nanoseconds, and the round trips of all pairs a second.
pair(Kind, Pairs) ->
    Program = filename:join(filename:dirname(code:which(?MODULE)), "py_bench_pair"),
    Line = os:cmd(lists:flatten(io_lib:format("~ts ~ts ~b ~b", [Program, Kind, Pairs, ?TRIPS]))),
    {ok, [Median, Rate], []} = io_lib:fread("~d ~d", Line),
    {Median, Rate}.

crowd_rows() ->
    Bind = fun(Pool) -> fun() -> ok = py:bind(#{pool => Pool}) end end,
    Eval = fun() -> {ok, 2} = py:eval(<<"1+1">>) end,
    {Pairs, Children, Threads} = lists:unzip3([
        {element(2, pair("block", ?WORKERS)), py_bench_crowd:run(?WORKERS, ?BATCH, Bind(children), Eval),
         py_bench_crowd:run(?WORKERS, ?BATCH, Bind(default), Eval)} || _ <- lists:seq(1, 3)]),
    Calls = py_bench_crowd:calls(Children),
    Row = fun(Floor, Target) ->
        py_bench_row:row(#{name => "8 bound in children, eval 1+1", unit => {as, <<"calls/s">>},
                           stats => py_bench_stat:figure(py_bench_crowd:rate(Children), Calls),
                           floor => Floor, target => Target})
    end,
    [Row({"8 socketpairs, peers that block", lists:nth(2, lists:sort(Pairs))}, {least, 120000}),
     Row({"8 bound in threads", py_bench_crowd:rate(Threads)}, none)].

%% How much faster two contexts compute at once than one after the other.
compute_rows() ->
    Code = <<"def f():\n  s = 0\n  for i in range(3000000): s += i\n  return s">>,
    Faster = fun(Pool) ->
        Contexts = [element(2, py:bind(new, #{pool => Pool})) || _ <- [1, 2]],
        [ok = py:ctx_exec(Context, Code) || Context <- Contexts],
        Run = fun(Context) -> {ok, _} = py:ctx_eval(Context, <<"f()">>, #{}, ?TIMEOUT) end,
        #{turns := #{p50 := Turns}, once := #{p50 := Once}} = py_bench_stat:together([
            {turns, fun() -> lists:foreach(Run, Contexts) end},
            {once, fun() -> at_once(Run, Contexts) end}
        ], #{batches => 5, each => 1, warm_up => 1}),
        [ok = py:unbind(Context) || Context <- Contexts],
        Turns / Once
    end,
    {Threads, Children} = {Faster(default), Faster(children)},
    [py_bench_row:row(#{name => "two children compute, times faster", unit => {as, <<"x">>},
                        stats => py_bench_stat:figure(Children, 5), floor => {"two threads", Threads},
                        target => {least, 1.95}})].

at_once(Run, Contexts) ->
    Monitors = [element(2, spawn_monitor(fun() -> Run(Context) end)) || Context <- Contexts],
    %% Cannot hang: a call has a timeout.
    [receive {'DOWN', Monitor, process, _, Reason} -> normal = Reason end || Monitor <- Monitors].

value_rows() ->
    {ok, Child} = py:bind(new, #{pool => children}),
    {ok, Thread} = py:bind(new),
    [ok = py:ctx_exec(Context, <<"identity = lambda x: x\ndata = b'\\xff' * size">>, #{size => ?BIG})
     || Context <- [Child, Thread]],
    Ints = lists:seq(1, 100000),
    Same = fun(Context) -> fun() -> {ok, _} = py:ctx_call(Context, '__main__', identity, [Ints]) end end,
    Numbers = py_bench_stat:together([{child, Same(Child)}, {thread, Same(Thread)}],
                                     #{each => 6, warm_up => 5, before => fun garbage_collect/0}),
    Bytes = <<255, (binary:copy(<<"a">>, ?BIG - 1))/binary>>,
    Big = py_bench_stat:together([
        {fresh, own, fun() -> py_bench_floor:copy(Bytes, false) end},
        {in, fun() -> {ok, ?BIG} = py:ctx_call(Child, builtins, len, [{bytes, Bytes}], #{}, ?TIMEOUT) end},
        {back, fun() -> {ok, B} = py:ctx_eval(Child, <<"data">>, #{}, ?TIMEOUT), ?BIG = byte_size(B) end}
    ], #{batches => 5, each => 6, warm_up => 2, before => fun garbage_collect/0}),
    [ok = py:unbind(Context) || Context <- [Child, Thread]],
    #{child := InChild, thread := #{p50 := InThread}} = Numbers,
    #{fresh := #{p50 := Fresh}, in := In, back := Back} = Big,
    Copy = {"memcpy, new memory", Fresh},
    [py_bench_row:row(#{name => "100k ints and back, in a child", unit => {per_element, 100000},
                        stats => InChild, floor => {"in a thread", InThread}, target => {ratio, 1.5}}),
     py_bench_row:row(#{name => "{bytes, 64 MiB} to a child", unit => us, stats => In, floor => Copy,
                        target => {ratio, 1.2}}),
     py_bench_row:row(#{name => "bytes of 64 MiB from a child", unit => us, stats => Back, floor => Copy,
                        target => {ratio, 1.2}})].

lease_rows() ->
    Pair = fun(Pool) -> fun() -> ok = py:bind(#{pool => Pool}), ok = py:unbind() end end,
    #{child := Child, thread := #{p50 := Thread}} = py_bench_stat:together([
        {child, Pair(children)}, {thread, Pair(default)}], #{each => 1000}),
    [py_bench_row:row(#{name => "bind() and unbind(), child", unit => us, stats => Child,
                        floor => {"the same, thread", Thread}, target => {ratio, 2}})].

%% The time from the end of the only child of a pool to the first answer of another, with a spare and without.
start_rows() ->
    Times = [after_end(Spares) || Spares <- [1, 0]],
    [py_bench_row:row(#{name => Name, unit => ms, stats => Stats, target => Target})
     || {Name, Stats, Target} <- lists:zip3(["next child, a spare that is warm", "next child, without a spare"],
                                            Times, [{most, 2}, none])].

after_end(Spares) ->
    ok = py_pool:start(ending, #{level => process, num_workers => 1, spares => Spares}),
    Call = fun(Code) -> py:eval(Code, #{}, #{pool => ending, timeout => ?TIMEOUT}) end,
    #{ending := Stats} = py_bench_stat:together([{ending, fun() -> {ok, 2} = Call(<<"1+1">>) end}],
        #{batches => 1, each => ?ENDS, warm_up => 1, before => fun() ->
            %% The next spare is warm by then.
            ok = timer:sleep(500),
            {error, {worker_exited, _}} = Call(<<"__import__('os')._exit(0)">>)
        end}),
    ok = py_pool:stop(ending),
    Stats.

%% The memory that a child alone has, and that with its share of what others have, too.
memory_rows() ->
    {ok, Context} = py:bind(new, #{pool => children}),
    {ok, Pid} = py:ctx_eval(Context, <<"__import__('os').getpid()">>),
    {ok, Rollup} = file:read_file(io_lib:format("/proc/~b/smaps_rollup", [Pid])),
    Of = fun(Key) ->
        {match, [KiB]} = re:run(Rollup, Key ++ ":\\s+(\\d+) kB", [{capture, [1], binary}]),
        binary_to_integer(KiB)
    end,
    ok = py:unbind(Context),
    [py_bench_row:row(#{name => "memory of a child, its own", unit => {as, <<"KiB">>},
                        stats => py_bench_stat:figure(Of("Private_Dirty") + Of("Private_Clean"), 1)}),
     py_bench_row:row(#{name => "   with its share of others'", unit => {as, <<"KiB">>},
                        stats => py_bench_stat:figure(Of("Pss"), 1)})].
