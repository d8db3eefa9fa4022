%% @private
%% A node that has nothing to do: the cost of the first call after a silence, and of the silence
%% itself.
-module(py_bench_wake).

-export([rows/0, ticks/2]).

-define(SILENCE, 1000).
-define(IDLE, 10000).
%% Samples of a batch: a sample takes a second, so there are few, often in turns.
-define(BATCHES, 10).
-define(EACH, 2).

-spec rows() -> [py_bench_row:row()].
rows() ->
    idle_rows() ++ wake_rows().

wake_rows() ->
    ok = py_bench:start(8),
    {ok, Context} = py:bind(new),
    Eval = fun() -> {ok, 2} = py:ctx_eval(Context, <<"1+1">>) end,
    %% The code is compiled and the thread has run: the silence alone is new.
    ok = lists:foreach(fun(_) -> Eval() end, lists:seq(1, 100)),
    #{parked := #{p50 := Parked} = Floor, empty := Empty, eval := First} =
        py_bench_stat:together([{parked, fun py_bench_floor:parked/0},
                                {empty, fun() -> py_bench_floor:empty(Context) end},
                                {eval, Eval}],
                               #{batches => ?BATCHES, each => ?EACH, warm_up => 1,
                                 before => fun() -> timer:sleep(?SILENCE) end}),
    [py_bench_row:row(#{name => "floor: parked thread, after 1 s of silence", unit => us,
                        stats => Floor}),
     py_bench_row:row(#{name => "empty job, after 1 s of silence", unit => us,
                        stats => Empty, floor => {"parked thread, after silence", Parked}}),
     py_bench_row:row(#{name => "ctx_eval 1+1, after 1 s of silence", unit => us,
                        stats => First, floor => {"parked thread, after silence", Parked},
                        target => {ratio, 1.2}})].

%% Measures two nodes at the same time: a disturbance of one of them disturbs the other.
idle_rows() ->
    Nodes = [py_bench_node:start(), py_bench_node:start()],
    [Without, With] = Nodes,
    ok = py_bench_node:call(With, py_bench, start, [8]),
    Self = self(),
    Ticks = [begin
        Ref = make_ref(),
        _ = spawn_link(fun() ->
            Self ! {Ref, py_bench_node:call(Node, ?MODULE, ticks, [?SILENCE, ?IDLE])}
        end),
        Ref
    end || Node <- [Without, With]],
    %% Cannot hang: a process that fails takes this one with it, and a call has a deadline.
    [Floor, Value] = [receive {Ref, Count} -> Count end || Ref <- Ticks],
    ok = lists:foreach(fun py_bench_node:stop/1, Nodes),
    [py_bench_row:row(#{name => "CPU of 10 s of silence, 8 workers", unit => {as, <<"ticks">>},
                        stats => py_bench_stat:figure(Value, 1),
                        floor => {"the VM without the application", Floor},
                        target => {most, Floor}})].

%% @doc Returns how many ticks of 10 ms this VM uses while it gets no requests.
-spec ticks(Settle :: non_neg_integer(), Idle :: non_neg_integer()) -> non_neg_integer().
ticks(Settle, Idle) ->
    %% The work that a start leaves behind is not silence.
    ok = timer:sleep(Settle),
    Before = used(),
    ok = timer:sleep(Idle),
    used() - Before.

%% Parses the line. The name of the command may hold spaces, so fields count from behind it; utime
%% is the 14th.
used() ->
    {ok, Stat} = file:read_file("/proc/self/stat"),
    [_, Rest] = binary:split(Stat, <<") ">>),
    Fields = binary:split(Rest, <<" ">>, [global]),
    binary_to_integer(lists:nth(12, Fields)) + binary_to_integer(lists:nth(13, Fields)).
