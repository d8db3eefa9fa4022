%% @private
%% The supervisor of the servers, and the owner of their tables.
-module(erlang_python_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    %% A table outlives its writer: a lookup between a crash of `py_pool' and its restart finds a
    %% table.
    ok = py_pool:create_table(),
    ok = py_callback:create_table(),
    ok = py_monitor:create_table(),
    ok = py_state:create_table(),
    ok = py_apply:create_table(),
    %% The children need no state of each other, and start without one, so a restart mends a broken
    %% child; ten crashes in ten seconds are a fault that restarts do not mend.
    Flags = #{strategy => one_for_one, intensity => 10, period => 10},
    Pool = (py_pools_sup:checked(default, py_pool_options:default()))#{id := py_pool},
    Pools = #{id => py_pools_sup, start => {py_pools_sup, start_link, []}, type => supervisor},
    %% `py_callback' gives the processes that run callbacks 5 seconds to end.
    Callback = #{id => py_callback, start => {py_callback, start_link, []}, type => supervisor,
                 shutdown => 6000},
    State = #{id => py_state, start => {py_state, start_link, []}},
    Async = #{id => py_async, start => {py_async, start_link, []}},
    %% The first to start and the last to stop: code of the others may write.
    Output = #{id => py_output, start => {py_output, start_link, []}},
    {ok, {Flags, [Output, State, Pool, Callback, Async, Pools]}}.
