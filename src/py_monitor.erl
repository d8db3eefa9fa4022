%% @private
%% Monitors of contexts: a process for each, which its pool tells of the end of the lease, and which then
%% exits with the reason. So the monitor of that process is the monitor of the context.
-module(py_monitor).

-export([create_table/0, start/1, stop/1]).

%% Maps the reference of a monitor to its process. Written by the processes, owned by the supervisor.
-define(TABLE, py_monitors).

-spec create_table() -> ok.
create_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, set, {write_concurrency, true}]),
    ok.

%% @doc Returns the reference of a new monitor. Raises `badarg' for a term that is no context.
-spec start(py:context()) -> reference().
start(Context) ->
    %% Looked up here: the process must not hold the context alive.
    {Id, Manager} = {py_nif:lease_id(Context), py_nif:lease_manager(Context)},
    Owner = self(),
    {Pid, Monitor} = spawn_monitor(fun() -> begin_watch(Owner, Id, Manager) end),
    Pid ! {monitor, Monitor},
    %% Cannot hang: the process answers when the pool has, or when that has ended.
    receive {Pid, watching} -> Monitor end.

%% @doc Ends a monitor of the calling process, and its process.
-spec stop(reference()) -> ok.
stop(Monitor) ->
    true = demonitor(Monitor, [flush]),
    try ets:lookup(?TABLE, Monitor) of
        [{_, Pid}] -> Pid ! stop, ok;
        [] -> ok
    catch
        %% The application does not run, and so there is no context.
        error:badarg -> ok
    end.

begin_watch(Owner, Id, Manager) ->
    OwnerMonitor = monitor(process, Owner),
    ManagerMonitor = monitor(process, Manager),
    Watched = try
        gen_server:call(Manager, {watch, Id}, infinity)
    catch
        exit:_ -> noproc
    end,
    %% Cannot hang: the owner has sent it, or dies.
    Monitor = receive
        {monitor, Reference} -> Reference;
        {'DOWN', OwnerMonitor, process, _, _} -> none
    end,
    Known = Watched =:= ok andalso insert({Monitor, self()}),
    Owner ! {self(), watching},
    Known orelse exit(noproc),
    Why = watch(OwnerMonitor, Id, Manager, ManagerMonitor),
    _ = delete(Monitor),
    %% The reason of the process is that of the context; nobody wants to know it else.
    Why =:= unwanted orelse exit(Why),
    ok.

%% Ends: with the lease, its pool, or the process that wants to know.
watch(OwnerMonitor, Id, Manager, ManagerMonitor) ->
    receive
        {py_lease_down, Id, Why} ->
            Why;
        {'DOWN', ManagerMonitor, process, _, _} ->
            pool_down;
        {'DOWN', OwnerMonitor, process, _, _} ->
            gen_server:cast(Manager, {unwatch, Id, self()}),
            unwanted;
        stop ->
            gen_server:cast(Manager, {unwatch, Id, self()}),
            unwanted
    end.

%% The table goes with the application.
insert(Entry) ->
    try ets:insert(?TABLE, Entry) catch error:badarg -> false end.

delete(Monitor) ->
    try ets:delete(?TABLE, Monitor) catch error:badarg -> false end.
