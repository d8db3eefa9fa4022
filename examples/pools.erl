%% Two cores at once: the work of a loop in pure Python, in threads of the VM and in child processes.
%% Run it with: scripts/example pools
-module(pools).

-export([main/0]).

-define(WORK, <<"sum(i * i for i in range(n))">>).

-spec main() -> no_return().
main() ->
    ok = logger:set_primary_config(level, error),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py_pool:start(cores, #{level => process, num_workers => 2, spares => 0}),
    Expected = lists:duplicate(4, 333332833333500000),
    {Threads, Expected} = timer:tc(fun() -> in_parallel(#{}) end),
    {Processes, Expected} = timer:tc(fun() -> in_parallel(#{pool => cores, wait => 60000}) end),
    io:format("threads ~b ms, processes ~b ms~n", [Threads div 1000, Processes div 1000]),
    %% A crash ends one call, and nothing else.
    {error, {worker_exited, #{signal := 6}}} = py:exec(<<"import os; os.abort()">>, #{}, #{pool => cores}),
    {ok, 4} = py:eval(<<"2 + 2">>, #{}, #{pool => cores}),
    ok = py_pool:stop(cores),
    halt().

%% Runs the work four times, in a context each.
in_parallel(Options) ->
    Self = self(),
    Pids = [spawn_link(fun() ->
        {ok, Sum} = py:with_context(Options, fun() -> py:eval(?WORK, #{n => 1000000}) end),
        Self ! {self(), Sum}
    end) || _ <- lists:seq(1, 4)],
    [receive {Pid, Sum} -> Sum end || Pid <- Pids].
