%% @private
%% Processes that do the same thing together for a fixed time. Each has a counter of its own: a
%% shared one would be on the path that is measured.
-module(py_bench_crowd).

-export([run/3, run/4, rate/1, calls/1, longest/1, waits/1, stop/1]).

-export_type([run/0]).

-type run() :: {Nanoseconds :: pos_integer(), [member()]}.
-type member() :: #{calls := non_neg_integer(), longest := non_neg_integer(),
                    waits := py_bench_stat:recorder() | none}.

%% The number of calls that one process can make in a run, at most.
-define(MOST_CALLS, 1000000).
-define(TIMEOUT, 60000).

%% @doc Returns the number of calls that Count processes made in Time milliseconds.
-spec run(Count :: pos_integer(), Time :: pos_integer(), Fun :: fun(() -> term())) -> run().
run(Count, Time, Fun) ->
    crowd(Count, Time, fun() -> none end, Fun).

%% @doc Runs as `run/3' does, and keeps the time of each wait. Prepare runs in each process before
%% all begin.
-spec run(pos_integer(), pos_integer(), Prepare :: fun(() -> ok), fun(() -> term())) -> run().
run(Count, Time, Prepare, Fun) ->
    crowd(Count, Time, fun() -> ok = Prepare(), py_bench_stat:recorder(?MOST_CALLS) end, Fun).

crowd(Count, Time, Prepare, Fun) ->
    Self = self(),
    Ref = make_ref(),
    Pids = [spawn_link(fun() -> member(Self, Ref, Time, Prepare, Fun) end)
            || _ <- lists:seq(1, Count)],
    ok = lists:foreach(fun(Pid) ->
        receive {Ref, Pid, ready} -> ok after ?TIMEOUT -> error(timeout) end
    end, Pids),
    Start = erlang:monotonic_time(nanosecond),
    lists:foreach(fun(Pid) -> Pid ! {Ref, go} end, Pids),
    Members = [receive {Ref, Pid, Member} -> Member after ?TIMEOUT -> error(timeout) end
               || Pid <- Pids],
    {erlang:monotonic_time(nanosecond) - Start, Members}.

member(Crowd, Ref, Time, Prepare, Fun) ->
    Waits = Prepare(),
    Crowd ! {Ref, self(), ready},
    receive {Ref, go} -> ok after ?TIMEOUT -> error(timeout) end,
    End = erlang:monotonic_time(nanosecond) + Time * 1000000,
    Crowd ! {Ref, self(), loop(Fun, Waits, End, 0, 0)}.

loop(Fun, Waits, End, Calls, Longest) ->
    Start = erlang:monotonic_time(nanosecond),
    case Start < End of
        true ->
            _ = Fun(),
            Wait = erlang:monotonic_time(nanosecond) - Start,
            ok = keep(Waits, Calls + 1, Wait),
            loop(Fun, Waits, End, Calls + 1, max(Longest, Wait));
        false ->
            #{calls => Calls, longest => Longest, waits => Waits}
    end.

keep(none, _Index, _Wait) -> ok;
keep(Waits, Index, Wait) -> py_bench_stat:record(Waits, Index, Wait).

%% @doc Returns the calls per second.
-spec rate([run()]) -> float().
rate(Runs) ->
    calls(Runs) * 1.0e9 / lists:sum([Time || {Time, _} <- Runs]).

-spec calls([run()]) -> non_neg_integer().
calls(Runs) ->
    lists:sum([Calls || {_, Members} <- Runs, #{calls := Calls} <- Members]).

%% @doc Returns the longest wait of any call.
-spec longest([run()]) -> non_neg_integer().
longest(Runs) ->
    lists:max([Longest || {_, Members} <- Runs, #{longest := Longest} <- Members]).

%% @doc Returns the waits of all processes.
-spec waits([run()]) -> py_bench_stat:stats().
waits(Runs) ->
    Times = [py_bench_stat:times(Waits, Calls)
             || {_, Members} <- Runs, #{waits := Waits, calls := Calls} <- Members],
    py_bench_stat:stats(lists:append(Times)).

%% @doc Returns `ok' when a process that this one has linked is gone.
-spec stop(pid()) -> ok.
stop(Pid) ->
    true = unlink(Pid),
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    %% Cannot hang: no process survives that.
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.
