%% @private
%% Monitors of contexts: a process for each, which its pool tells of the end of the lease, and which then
%% exits with the reason. So the monitor of that process is the monitor of the context.
-module(py_monitor).

-export([start/1]).

%% @doc Returns the reference of a new monitor. Raises `badarg' for a term that is no context.
-spec start(py:context()) -> reference().
start(Context) ->
    %% Looked up here: the process must not hold the context alive.
    {Id, Manager} = {py_nif:lease_id(Context), py_nif:lease_manager(Context)},
    Owner = self(),
    {Pid, Monitor} = spawn_monitor(fun() -> watch(Owner, Id, Manager) end),
    %% Cannot hang: the process answers when the pool has, or when that has ended.
    receive {Pid, watching} -> Monitor end.

watch(Owner, Id, Manager) ->
    OwnerMonitor = monitor(process, Owner),
    ManagerMonitor = monitor(process, Manager),
    Watched = try
        gen_server:call(Manager, {watch, Id}, infinity)
    catch
        exit:_ -> noproc
    end,
    Owner ! {self(), watching},
    Watched =:= ok orelse exit(noproc),
    %% Ends: with the lease, its pool, or the process that wants to know.
    receive
        {py_lease_down, Id, Why} -> exit(Why);
        {'DOWN', ManagerMonitor, process, _, _} -> exit(pool_down);
        {'DOWN', OwnerMonitor, process, _, _} -> gen_server:cast(Manager, {unwatch, Id, self()})
    end.
