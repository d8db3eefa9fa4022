%% Is anything lost when threads and child processes serve one node and everything goes wrong at once? Processes
%% call pools of both levels; children are killed or end, owners die, limits are hit, and pools come and go. Each call
%% must have one answer, a documented one, and nothing may be left.
%%
%% FULL=1 runs for an hour; CHAOS_SECONDS says another time. The seed is logged; SEED repeats it, as far as
%% threads and processes repeat anything. The deeds are in `py_chaos_deeds'.
-module(py_chaos_pools_SUITE).

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([each_deed_has_its_answer_in_each_pool/1, everything_goes_wrong_in_all_pools/1,
         a_hundred_pools_come_and_go/1]).

-define(WORKERS, 4).
-define(ACTORS, 12).
-define(MOVERS, 2).
%% Milliseconds, many times the longest timeout of a deed: a call without an answer is told as one.
-define(NO_ANSWER, 100000).

suite() ->
    [{timetrap, {hours, 2}}].

all() ->
    [each_deed_has_its_answer_in_each_pool, everything_goes_wrong_in_all_pools, a_hundred_pools_come_and_go].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 200}, {default_timeout, 3000}]),
    ok = logger:set_module_level([py_pool_server, py_children, py_callback], none),
    ok = py_chaos_SUITE:register_functions(),
    ok = py_chaos_deeds:register_functions(),
    py_chaos_deeds = ets:new(py_chaos_deeds, [named_table, public]),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = logger:unset_module_level([py_pool_server, py_children, py_callback]),
    py_test:stop(),
    py_test:assert_empty_mailbox().

%%% Deeds, one by one

%% Without chaos no pool is short of workers and no context ends by itself.
each_deed_has_its_answer_in_each_pool(_Config) ->
    ok = py_chaos_SUITE:seed(),
    Pools = start_pools(),
    true = ets:insert(py_chaos_deeds, [{1, self()}, {wait, 20000}]),
    [ok = do(Pool, Deed) || Pool <- Pools, Deed <- py_chaos_deeds:all(Pool)],
    ok = nothing_is_left(Pools, warm_traces(Pools)).

do(Pool, {What, Do}) ->
    Result = py_test:caught(Do),
    ok = py_chaos_deeds:forget(),
    ok = py:unbind(),
    ok = wait_for_all_workers(Pool),
    py_test:assert_empty_mailbox(),
    case py_chaos_deeds:is_expected(Pool, Result) andalso not is_short(Result) of
        true -> ok;
        false -> {Pool, What, Result}
    end.

is_short({all, Results}) -> lists:any(fun is_short/1, Results);
is_short({raised, _}) -> true;
is_short({error, Reason}) -> lists:member(Reason, [no_workers_available, overloaded, interrupted, function_killed]);
is_short(_) -> false.

%%% Chaos

everything_goes_wrong_in_all_pools(_Config) ->
    Seconds = py_chaos_SUITE:seconds(),
    ok = py_chaos_SUITE:seed(),
    Pools = start_pools(),
    Before = warm_traces(Pools),
    Chaos = start_chaos(?ACTORS, Pools),
    Movers = [start_actor({mover, N}, fun() -> move(N) end) || N <- lists:seq(1, ?MOVERS)],
    Demon = start_actor(demon, fun() -> demon(Pools) end),
    receive after Seconds * 1000 -> ok end,
    Comment = end_chaos([Demon | Movers] ++ Chaos),
    ok = nothing_is_left(Pools, Before),
    {comment, Comment}.

a_hundred_pools_come_and_go(_Config) ->
    ok = py_chaos_SUITE:seed(),
    Pools = start_pools(),
    Before = warm_traces(Pools),
    Chaos = start_chaos(3, [default]),
    Movers = [start_actor({mover, N}, fun() -> move(N) end) || N <- lists:seq(1, ?MOVERS)],
    ok = wait_for_starts(100),
    Comment = end_chaos(Movers ++ Chaos),
    ok = nothing_is_left(Pools, Before),
    {comment, Comment}.

wait_for_starts(Count) ->
    case ets:lookup(py_chaos_deeds, start) of
        [{start, Starts}] when Starts >= Count -> ok;
        _ -> receive after 20 -> wait_for_starts(Count) end
    end.

%% The actors call these pools, and those that come and go.
start_chaos(Count, Pools) ->
    Coming = [name(Level, N) || Level <- [thread, process], N <- lists:seq(1, ?MOVERS)],
    [start_actor(N, fun() -> act(Pools, Coming) end) || N <- lists:seq(1, Count)].

%% Waits for the actors, which end after their deed, and fails with what was not expected.
end_chaos(Actors) ->
    true = ets:insert(py_chaos_deeds, {over}),
    lists:foreach(fun await/1, Actors),
    Entries = ets:tab2list(py_chaos_deeds),
    Done = lists:sort([{What, N} || {What, N} <- Entries, is_atom(What), is_integer(N)]),
    ct:log("done: ~tp~nanswers: ~tp", [Done, lists:sort([{What, N} || {{answer, What}, N} <- Entries])]),
    Unexpected = [Entry || {{unexpected, _}, _} = Entry <- Entries],
    [ct:log("~tp", [Entry]) || Entry <- Unexpected],
    [] = Unexpected,
    io_lib:format("~b deeds", [lists:sum([N || {_, N} <- Done])]).

await({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason
    after ?NO_ANSWER ->
        Deeds = maps:from_list([{P, What} || {{now, P}, What} <- ets:tab2list(py_chaos_deeds)]),
        Alive = [{Name, maps:get(P, Deeds, none), process_info(P, [current_stacktrace, messages])}
                 || {Name, P} <- ets:tab2list(py_chaos_deeds), is_pid(P), is_process_alive(P)],
        ct:log("~tp~n~ts", [Alive, os:cmd("ps -eo pid,ppid,stat,args")]),
        error({no_answer, [{Name, What} || {Name, What, _} <- Alive]})
    end.

%% Starts an actor under a guard, which starts another one when the actor is killed. Each life has a seed of its
%% own.
start_actor(Name, Act) ->
    Seed = rand:uniform(1 bsl 50),
    spawn_monitor(fun() -> rand:seed(exsss, Seed), guard(Name, Act) end).

guard(Name, Act) ->
    Seed = rand:uniform(1 bsl 50),
    {Pid, Monitor} = spawn_monitor(fun() ->
        true = ets:insert(py_chaos_deeds, {Name, self()}),
        _ = rand:seed(exsss, Seed),
        Act()
    end),
    Reason = receive {'DOWN', Monitor, process, Pid, Why} -> Why end,
    true = ets:delete(py_chaos_deeds, {now, Pid}),
    case Reason of
        normal -> ok;
        killed -> guard(Name, Act);
        _ -> ets:insert(py_chaos_deeds, {{unexpected, Name}, {actor_died, Reason}})
    end.

is_over() ->
    ets:member(py_chaos_deeds, over).

act(Pools, Coming) ->
    case is_over() of
        true ->
            ok = py:unbind();
        false ->
            Pool = py_chaos_SUITE:any(lists:nth(min(2, rand:uniform(5)), [Coming, Pools])),
            {What, Do} = py_chaos_deeds:any(Pool),
            true = ets:insert(py_chaos_deeds, {{now, self()}, {Pool, What}}),
            Result = py_test:caught(Do),
            ok = note(Pool, What, Result),
            {_, _, {messages, []}} = {Pool, What, process_info(self(), messages)},
            %% A binding that lasts leaves no worker for the others.
            rand:uniform(3) =:= 1 andalso py:unbind(),
            act(Pools, Coming)
    end.

note(Pool, What, Result) ->
    _ = ets:update_counter(py_chaos_deeds, What, 1, {What, 0}),
    [ets:update_counter(py_chaos_deeds, Kind, 1, {Kind, 0}) || Kind <- kinds(Result)],
    py_chaos_deeds:is_expected(Pool, Result) orelse
        ets:insert(py_chaos_deeds, {{unexpected, {Pool, What}}, Result}),
    ok.

kinds({all, Results}) -> lists:append([kinds(Result) || Result <- Results]);
kinds(Result) -> [{answer, kind(Result)}].

kind({ok, _}) -> ok;
kind({Class, Reason}) when is_atom(Class), is_atom(Reason) -> {Class, Reason};
kind({Class, Reason}) when tuple_size(Reason) > 0 -> {Class, element(1, Reason)};
kind({Class, _}) -> Class;
kind(Result) -> Result.

%%% Pools that come and go

%% A name stands for one level always, since what ends a child would end the VM.
name(thread, 1) -> coming_threads_1;
name(thread, 2) -> coming_threads_2;
name(process, 1) -> coming_children_1;
name(process, 2) -> coming_children_2.

move(N) ->
    case is_over() of
        true ->
            ok;
        false ->
            Level = py_chaos_SUITE:any([thread, thread, process]),
            Options = case Level of
                thread -> #{num_workers => rand:uniform(3)};
                process -> #{level => process, num_workers => 1, spares => rand:uniform(2) - 1}
            end,
            ok = come_and_go(name(Level, N), Options),
            move(N)
    end.

come_and_go(Name, Options) ->
    Started = py_pool:start(Name, Options),
    %% The first child may have been killed.
    case Started of
        ok -> receive after rand:uniform(100) -> ok end, ok = note(Name, stop, py_pool:stop(Name));
        {error, {python_not_prepared, _}} -> {error, not_found} = py_pool:stop(Name)
    end,
    note(Name, start, Started).

%%% Kills

%% Kills actors, functions that Python code has called, and children.
demon(Pools) ->
    receive after rand:uniform(40) -> ok end,
    case is_over() of
        true ->
            ok;
        false ->
            Victim = py_chaos_deeds:other(),
            Victim =:= self() orelse exit(Victim, kill),
            exit(py_chaos_SUITE:other_function(), kill),
            rand:uniform(5) > 1 orelse signal(os_pids(py_chaos_SUITE:any(Pools))),
            demon(Pools)
    end.

signal([]) ->
    ok;
signal(Pids) ->
    Pid = integer_to_list(py_chaos_SUITE:any(Pids)),
    _ = case rand:uniform(8) of
        1 -> os:cmd("kill -TERM " ++ Pid);
        2 -> os:cmd("kill -STOP " ++ Pid ++ "; sleep 0.1; kill -CONT " ++ Pid);
        _ -> os:cmd("kill -KILL " ++ Pid)
    end,
    ok.

%% Returns the children of a pool, also those that are starting or spare. A port that is being opened has 0, which
%% `kill' takes for its own group.
os_pids(Pool) ->
    case lists:keyfind(Pool, 1, supervisor:which_children(py_pools_sup)) of
        {_, Server, _, _} when is_pid(Server) ->
            [Pid || Port <- erlang:ports(), {connected, Server} =:= erlang:port_info(Port, connected),
                    {os_pid, Pid} <- [erlang:port_info(Port, os_pid)], is_integer(Pid), Pid > 0];
        _ ->
            []
    end.

%%% Traces

%% Starts the pools that stay, and returns their names. A kernel without what a sandbox takes says so.
start_pools() ->
    ok = py_pool:start(threads, #{num_workers => 2}),
    ok = py_pool:start(children, #{level => process, num_workers => 2}),
    ok = py_pool:start(bounded, #{level => process, num_workers => 1,
                                  limits => #{memory => 1 bsl 30, open_files => 64}}),
    case py_pool:start(sealed, #{level => process, num_workers => 1, spares => 0, sandbox => #{}}) of
        ok ->
            [default, threads, children, bounded, sealed];
        {error, {python_not_prepared, Message}} ->
            ok = py_test:contains(Message, <<"cannot enforce the sandbox">>),
            [default, threads, children, bounded]
    end.

%% Returns the traces of a node whose workers have done each thing that keeps a descriptor, as an event loop does.
%% The pools are started again.
warm_traces(Pools) ->
    Warm = <<"import asyncio, erlang, threading, ctypes, subprocess, random">>,
    Contexts = [begin {ok, C} = py:bind(new), C end || _ <- lists:seq(1, ?WORKERS)],
    [begin
         ok = py:ctx_exec(C, Warm),
         {ok, 1} = py:async_await(py:ctx_async_call(C, asyncio, sleep, [0, 1])),
         ok = py:unbind(C)
     end || C <- Contexts],
    [{ok, 1} = py:eval(<<"1">>, #{}, #{pool => Pool}) || Pool <- Pools],
    ok = stop_pools(),
    Before = traces(),
    Pools = start_pools(),
    Before.

stop_pools() ->
    [ok = py_pool:stop(Pool) || Pool <- py_pool:list(), Pool =/= default],
    py_test:wait_until(fun() -> traces_of_children() =:= {[], 0} orelse traces_of_children() end).

nothing_is_left(Pools, Before) ->
    [default | Named] = py_pool:list(),
    [] = Named -- Pools,
    lists:foreach(fun wait_for_all_workers/1, Pools),
    [{ok, 2} = py:eval(<<"1 + 1">>, #{}, #{pool => Pool}) || Pool <- Pools],
    {ok, _} = py:call(gc, collect, []),
    ok = wait_for_no_resources(),
    ok = stop_pools(),
    ok = py_test:wait_until(fun() ->
        collect_garbage(),
        After = traces(),
        %% What was there before may have gone since.
        [] =:= [Key || {Key, Count} <- maps:to_list(After), Count > maps:get(Key, Before)] orelse {Before, After}
    end),
    {ok, 2} = py:eval(<<"1 + 1">>),
    ok.

wait_for_all_workers(Pool) ->
    py_test:wait_until(fun() ->
        case py_pool:get_stats(Pool) of
            #{num_workers := Count, available_workers := Count, checked_out := 0, pending_requests := 0} = Stats ->
                Count =:= size_of(Pool) orelse Stats;
            Stats ->
                Stats
        end
    end).

size_of(default) -> ?WORKERS;
size_of(Pool) when Pool =:= threads; Pool =:= children -> 2;
size_of(_) -> 1.

wait_for_no_resources() ->
    py_test:wait_until(fun() ->
        collect_garbage(),
        case py_pool:get_stats() of
            #{abandoned := 0, resources := #{jobs := 0, contexts := 0, objects := 0, callbacks := 0, streams := 0}} ->
                ets:tab2list(py_bindings) =:= [];
            Stats ->
                Stats
        end
    end).

collect_garbage() ->
    lists:foreach(fun erlang:garbage_collect/1, processes()).

%% What pools could leave.
traces() ->
    {Children, Sockets} = traces_of_children(),
    {ok, Files} = file:list_dir("/proc/self/fd"),
    {ok, Threads} = file:list_dir("/proc/self/task"),
    #{children => length(Children), sockets => Sockets, memory => count("/proc/self/maps", "memfd:erlang_python"),
      descriptors => length(Files), threads => length(Threads), ports => length(erlang:ports()),
      processes => length(processes()), tables => length(ets:all()),
      messages => lists:sum([N || P <- processes(), {_, N} <- [process_info(P, message_queue_len)]])}.

%% The processes of children, also those that nothing has reaped, and the sockets where children connect.
traces_of_children() ->
    Vm = os:getpid(),
    Forker = string:trim(os:cmd("pgrep -P " ++ Vm ++ " erl_child_setup")),
    Processes = string:lexemes(os:cmd("ps -o pid=,stat=,args= --ppid " ++ Vm ++ "," ++ Forker), "\n"),
    Children = [P || P <- Processes,
                     re:run(P, "^ *[0-9]+ +Z|py_child", [{capture, none}]) =:= match],
    {Children, count("/proc/net/unix", "@erlang_python-" ++ Vm ++ "-")}.

count(File, Text) ->
    {ok, Content} = file:read_file(File),
    length(binary:matches(Content, list_to_binary(Text))).
