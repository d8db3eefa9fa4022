%% Two cores at once: work with numpy, in threads of the VM and in child processes. Needs numpy in the Python that
%% runs, or in the venv that VIRTUAL_ENV names. Run it with: scripts/example pools
-module(pools).

-export([main/0]).

%% Steps over small arrays, as a simulation makes them: most of the time is spent in Python's own loop, with
%% the GIL held.
-define(WORK, <<"
import numpy

def simulate(seed, steps):
    state = numpy.random.default_rng(seed).random(200)
    for _ in range(steps):
        state = numpy.cos(state) + 0.1 * numpy.roll(state, 1)
    return float(state.sum())
">>).

-spec main() -> no_return().
main() ->
    ok = logger:set_primary_config(level, error),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py_pool:start(cores, #{level => process, num_workers => 2, spares => 0, preload => [numpy]}),
    {Threads, Sums} = timer:tc(fun() -> in_parallel(#{}) end),
    {Processes, Sums} = timer:tc(fun() -> in_parallel(#{pool => cores, wait => 60000}) end),
    io:format("threads ~b ms, processes ~b ms~n", [Threads div 1000, Processes div 1000]),
    %% A million doubles there, and a million sorted ones back: each way one copy, into memory that both share.
    Doubles = << <<(rand:uniform())/float-native>> || _ <- lists:seq(1, 1000000) >>,
    {ok, Sorted} = py:eval(<<"__import__('numpy').sort(__import__('numpy').frombuffer(b)).tobytes()">>,
                           #{b => {bytes, Doubles}}, #{pool => cores, timeout => 60000}),
    true = lists:sort([D || <<D/float-native>> <= Doubles]) =:= [D || <<D/float-native>> <= Sorted],
    %% A crash ends one call, and nothing else.
    {error, {worker_exited, #{signal := 6}}} = py:exec(<<"import os; os.abort()">>, #{}, #{pool => cores}),
    {ok, 4} = py:eval(<<"2 + 2">>, #{}, #{pool => cores}),
    ok = py_pool:stop(cores),
    halt().

%% Runs the work four times, in a context each.
in_parallel(Options) ->
    Self = self(),
    Pids = [spawn_link(fun() ->
        Sum = py:with_context(Options, fun() ->
            ok = py:exec(?WORK),
            {ok, Sum} = py:call('__main__', simulate, [Seed, 20000], #{}, 60000),
            Sum
        end),
        Self ! {self(), Sum}
    end) || Seed <- lists:seq(1, 4)],
    [receive {Pid, Sum} -> Sum end || Pid <- Pids].
