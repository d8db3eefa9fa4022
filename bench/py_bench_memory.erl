%% @private
%% The memory of workers and contexts, and the time of a start; each in fresh VMs.
-module(py_bench_memory).

-export([rows/0, start_time/1, context_bytes/2]).

-define(WORKERS, 64).
%% The number of contexts: the VM's own heaps change by some hundred KiB, in which fewer would be
%% lost.
-define(CONTEXTS, 250).
-define(EVALS, 1000).
-define(NODES, 5).

-spec rows() -> [py_bench_row:row()].
rows() ->
    start_rows() ++ context_rows().

%% Measures one worker and many in turns.
start_rows() ->
    {One, Many} = lists:unzip([{started(1), started(?WORKERS)} || _ <- lists:seq(1, ?NODES)]),
    Port = py_bench_port:open_floor(),
    [Thread] = py_bench_port:times(Port, threads, ?WORKERS - 1, 1),
    ok = py_bench_port:close(Port),
    Median = fun(Values) -> maps:get(p50, py_bench_stat:stats(Values)) end,
    OneBytes = Median([Bytes || {_, Bytes} <- One]),
    PerWorker = [(Bytes - OneBytes) / (?WORKERS - 1) / 1024 || {_, Bytes} <- Many],
    Times = fun(Starts) -> py_bench_stat:stats([Time || {Time, _} <- Starts]) end,
    [py_bench_row:row(#{name => "memory of a worker, 64 rather than 1", unit => {as, <<"KiB">>},
                        stats => py_bench_stat:stats(PerWorker),
                        floor => {"thread that waits, Python alone", Thread / 1024},
                        target => {most, 64}}),
     py_bench_row:row(#{name => "start of the application, 64 workers", unit => ms,
                        stats => Times(Many),
                        floor => {"the same, 1 worker", Median([Time || {Time, _} <- One])},
                        target => {most, 100}})].

started(Workers) ->
    Node = py_bench_node:start(),
    Time = py_bench_node:call(Node, ?MODULE, start_time, [Workers]),
    Bytes = py_bench_node:call(Node, py_bench_node, resident, []),
    ok = py_bench_node:stop(Node),
    {Time, Bytes}.

%% @doc Returns the nanoseconds of the first start of the application in this VM, which starts
%% Python too.
-spec start_time(Workers :: pos_integer()) -> non_neg_integer().
start_time(Workers) ->
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, num_workers, Workers),
    Start = erlang:monotonic_time(nanosecond),
    {ok, _} = application:ensure_all_started(erlang_python),
    erlang:monotonic_time(nanosecond) - Start.

%% Rows of the growth of the VM over the same evals, with contexts held and without.
context_rows() ->
    {Without, With} = lists:unzip([grown() || _ <- lists:seq(1, ?NODES)]),
    #{p50 := Floor} = py_bench_stat:stats(Without),
    [py_bench_row:row(#{name => "memory of a context, 250 held", unit => {as, <<"KiB">>},
                        stats => py_bench_stat:stats(With),
                        floor => {"growth with none held", Floor}, target => {most, 4}})].

grown() ->
    Node = py_bench_node:start(),
    {Without, With} = py_bench_node:call(Node, ?MODULE, context_bytes, [?CONTEXTS, ?EVALS]),
    ok = py_bench_node:stop(Node),
    {Without / ?CONTEXTS / 1024, (With - Without) / ?CONTEXTS / 1024}.

%% @doc Returns the growth of this VM over Evals unbound evals, and over the same number in Count
%% contexts that are still held.
-spec context_bytes(Count :: pos_integer(), Evals :: pos_integer()) -> {integer(), integer()}.
context_bytes(Count, Evals) ->
    ok = py_bench:start(Count),
    ok = prime(Count),
    ok = evals(Evals),
    Start = py_bench_node:resident(),
    ok = evals(Evals),
    Unbound = py_bench_node:resident(),
    Contexts = [begin {ok, Context} = py:bind(new), Context end || _ <- lists:seq(1, Count)],
    ok = lists:foreach(fun(Context) ->
        ok = lists:foreach(fun(_) -> {ok, 2} = py:ctx_eval(Context, <<"1+1">>) end,
                           lists:seq(1, Evals div Count))
    end, Contexts),
    Bound = py_bench_node:resident(),
    ok = lists:foreach(fun py:unbind/1, Contexts),
    {Unbound - Start, Bound - Unbound}.

evals(Count) ->
    lists:foreach(fun(_) -> {ok, 2} = py:eval(<<"1+1">>) end, lists:seq(1, Count)).

%% Makes every worker run Python at once, so that the memory that its thread keeps from then on, its
%% stack and Python's frames, is not counted for the context. The one namespace that each has given
%% back by then is small.
prime(Count) ->
    Pids = [spawn_monitor(fun() -> {ok, none} = py:call(time, sleep, [0.3]) end)
            || _ <- lists:seq(1, Count)],
    %% Cannot hang: a call has a timeout.
    lists:foreach(fun({Pid, Monitor}) ->
        receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason end
    end, Pids).
