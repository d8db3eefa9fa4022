%% @private
%% The server of one pool: its leases, their owners, the processes that wait for a worker, and, at the
%% level `process', the child processes.
-module(py_pool_server).
-behaviour(gen_server).

-export([start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-include_lib("kernel/include/logger.hrl").
-include("py_pool.hrl").

-type kind() :: implicit | explicit.
%% A lease that is checked out.
-record(lease, {handle :: py_nif:lease(), owner :: pid(), monitor :: reference(), kind :: kind(),
                %% Processes that are told when the lease ends, see `py_monitor'.
                watchers = [] :: [pid()]}).
%% A `bind' that waits for a worker.
-record(waiter, {from :: gen_server:from(), kind :: kind(), monitor :: reference()}).

-record(state, {
    name :: py_pool:name(),
    native :: py_nif:pool(),
    %% The children of a pool of the level `process'.
    children = none :: py_children:children() | none,
    totals :: py_totals:totals(),
    leases = #{} :: #{Id :: pos_integer() => #lease{}},
    waiters = py_waiters:new() :: py_waiters:waiters(py_claim:claim(), #waiter{})
}).

%% The bindings of all pools, see `py_pool'.
-define(TABLE, py_bindings).

%% @doc Starts a pool. Returns when all its workers are ready. Only the pool `default' has a registered
%% name.
-spec start_link(py_pool:name(), py_pool_options:options()) -> gen_server:start_ret().
start_link(default, Options) ->
    gen_server:start_link({local, py_pool}, ?MODULE, {default, Options}, []);
start_link(Name, Options) ->
    gen_server:start_link(?MODULE, {Name, Options}, [{timeout, infinity}]).

-spec init({py_pool:name(), py_pool_options:options()}) -> {ok, #state{}} | {stop, term()}.
init({Name, #{level := Level} = Options}) ->
    process_flag(trap_exit, true),
    Totals = py_totals:new(),
    case open(Name, Level, Options, Totals) of
        {ok, Native, Children} ->
            forget_bindings(),
            ok = py_pool:publish(Name, #pool{native = Native, level = Level, server = self(), totals = Totals,
                                             supervisor = whereis(erlang_python_sup)}),
            {ok, #state{name = Name, native = Native, children = Children, totals = Totals}};
        {error, Reason} ->
            %% A reason for the one who starts the pool, not for a crash report.
            {stop, {shutdown, Reason}}
    end.

%% The leases of a server that was killed have ended with it.
forget_bindings() ->
    Ended = [Entry || {_, Lease} = Entry <- ets:tab2list(?TABLE), not py_nif:is_leased(Lease)],
    lists:foreach(fun(Entry) -> true = ets:delete_object(?TABLE, Entry) end, Ended).

open(Name, thread, #{num_workers := Size}, _Totals) ->
    Native = py_nif:open_pool(Name, Size, env(max_pending), env(interrupt_grace), env(import_grace),
                              env(max_abandoned)),
    lists:foreach(fun(Id) -> ok = py_nif:start_worker(Native, Id) end, lists:seq(1, Size)),
    {ok, Native, none};
open(Name, process, #{num_workers := Size, max_jobs := MaxJobs, max_rss := MaxRss, limits := Limits} = Options, Totals) ->
    Graces = {env(interrupt_grace), env(import_grace)},
    Bounds = {MaxJobs, MaxRss, maps:get(memory, Limits, 0)},
    case py_nif:open_process_pool(Name, Size, env(max_pending), Graces, Bounds) of
        {ok, {Native, Group}} ->
            case py_children:start(Native, Group, Options, Totals) of
                {ok, Children} -> {ok, Native, Children};
                {error, Reason} -> ok = py_nif:close_pool(Native), {error, Reason}
            end;
        {error, Text} ->
            {error, {python_unavailable, Text}}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call({bind, Claim, Kind, Wait}, {Pid, _} = From, #state{native = Native} = State) ->
    case py_waiters:size(State#state.waiters) =:= 0 andalso py_nif:lease(Native, Kind, Pid) of
        {ok, Handle} -> {noreply, grant(Claim, From, Kind, Handle, State)};
        _ when Wait =:= 0 -> {reply, {error, no_workers_available}, State};
        _ -> {noreply, enqueue(Claim, From, Kind, State)}
    end;
handle_call({unbind, Id}, _From, State) ->
    {reply, ok, serve_waiters(check_in(Id, unbound, State))};
handle_call({watch, Id}, {Pid, _}, #state{leases = Leases} = State) ->
    case Leases of
        #{Id := #lease{watchers = Watchers} = Lease} ->
            {reply, ok, State#state{leases = Leases#{Id := Lease#lease{watchers = [Pid | Watchers]}}}};
        _ ->
            {reply, noproc, State}
    end;
%% An unknown request must not end the pool, and every context with it.
handle_call(_Request, _From, State) ->
    {reply, {error, not_supported}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({unwatch, Id, Pid}, #state{leases = Leases} = State) ->
    case Leases of
        #{Id := #lease{watchers = Watchers} = Lease} ->
            Rest = Lease#lease{watchers = lists:delete(Pid, Watchers)},
            {noreply, State#state{leases = Leases#{Id := Rest}}};
        _ ->
            {noreply, State}
    end;
handle_cast({give_up, Claim}, State) ->
    {noreply, forget_waiter(Claim, State)};
handle_cast(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_cast, message => Message}),
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({py_lease, Id, ended}, State) ->
    %% A lease that was checked in before ends here, too: its worker is free only now.
    {noreply, serve_waiters(check_in(Id, ended, State))};
handle_info({py_worker, Id, lost}, State) ->
    %% The lost worker could not be replaced: a new pool has its full size, or fails with
    %% the reason.
    {stop, {worker_lost, Id}, State};
handle_info({py_worker, Id, Fate}, State) ->
    ok = count_fate(Fate, State#state.totals),
    log_fate(Id, Fate),
    %% The pool may have one more worker than before.
    {noreply, serve_waiters(State)};
handle_info({py_threads, Lease, Names}, State) ->
    ?LOG_WARNING(#{what => threads_left_running, context => Lease, names => Names}),
    {noreply, State};
handle_info({{owner_down, Id}, _Monitor, process, _Pid, _Reason}, State) ->
    {noreply, serve_waiters(check_in(Id, owner_down, State))};
handle_info({{waiter_down, Claim}, _Monitor, process, _Pid, _Reason}, State) ->
    {noreply, forget_waiter(Claim, State)};
handle_info(Message, #state{children = none} = State) ->
    unexpected(Message),
    {noreply, State};
handle_info(Message, #state{children = Children0} = State) ->
    case py_children:handle(Message, Children0) of
        {ok, Children} -> {noreply, serve_waiters(State#state{children = Children})};
        unknown -> unexpected(Message), {noreply, State}
    end.

unexpected({'EXIT', _Port, normal}) ->
    ok;
unexpected(Message) ->
    ?LOG_WARNING(#{what => unexpected_message, message => Message}).

-spec terminate(term(), #state{}) -> ok.
terminate(Reason, #state{name = Name, native = Native, waiters = Waiters, leases = Leases}) ->
    lists:foreach(fun({_Claim, #waiter{from = From}}) ->
        gen_server:reply(From, {error, no_workers_available})
    end, py_waiters:to_list(Waiters)),
    maps:foreach(fun(_Id, #lease{owner = Pid, handle = Handle}) ->
        ets:delete_object(?TABLE, {Pid, Handle})
    end, Leases),
    %% After a crash callers wait for the successor, see `py_restart'.
    is_crash(Reason) andalso Name =/= default orelse py_pool:retract(Name),
    py_nif:close_pool(Native).

is_crash(normal) -> false;
is_crash(shutdown) -> false;
is_crash({shutdown, _}) -> false;
is_crash(_) -> true.

%% A worker that crashed or was abandoned has a successor when this is told.
count_fate(crashed, Totals) -> count([exited, replaced], Totals);
count_fate(abandoned, Totals) -> count([abandoned, replaced], Totals);
count_fate(not_replaced, Totals) -> count([abandoned], Totals);
count_fate(replaced, Totals) -> count([replaced], Totals).

count(Events, Totals) ->
    lists:foreach(fun(Event) -> ok = py_totals:count(Totals, Event) end, Events).

log_fate(Id, crashed) ->
    %% The successor of the worker runs already.
    ?LOG_ERROR(#{what => worker_crashed, worker => Id});
log_fate(Id, abandoned) ->
    ?LOG_WARNING(#{what => worker_abandoned, worker => Id,
                   why => "its code could not be interrupted; another worker has its place"});
log_fate(Id, not_replaced) ->
    ?LOG_ERROR(#{what => worker_not_replaced, worker => Id,
                 why => "its code could not be interrupted, and max_abandoned threads of this "
                        "kind run already; the pool is smaller until one of them ends"});
log_fate(Id, replaced) ->
    ?LOG_NOTICE(#{what => worker_replaced, worker => Id,
                  why => "an abandoned thread has ended"}).

%% Ends a lease. Idempotent: a lease may end by its owner and by its worker in the same instant.
check_in(Id, Why, #state{leases = Leases0} = State) ->
    case maps:take(Id, Leases0) of
        {#lease{handle = Handle, owner = Pid, monitor = Monitor, kind = Kind, watchers = Watchers}, Leases} ->
            true = demonitor(Monitor, [flush]),
            lists:foreach(fun(Watcher) -> Watcher ! {py_lease_down, Id, Why} end, Watchers),
            Kind =:= implicit andalso ets:delete_object(?TABLE, {Pid, Handle}),
            _Already = py_nif:end_lease(Handle),
            State#state{leases = Leases};
        error ->
            State
    end.

enqueue(Claim, {Pid, _} = From, Kind, #state{waiters = Waiters} = State) ->
    Waiter = #waiter{from = From, kind = Kind, monitor = watch(Pid, {waiter_down, Claim})},
    State#state{waiters = py_waiters:in(Claim, Waiter, Waiters)}.

%% Grants leases to those that wait, first come, first served, as long as there are workers.
serve_waiters(#state{native = Native, waiters = Waiters} = State) ->
    case py_waiters:first(Waiters) of
        none ->
            State;
        {Claim, #waiter{from = {Pid, _} = From, kind = Kind}} ->
            case py_nif:lease(Native, Kind, Pid) of
                {ok, Handle} ->
                    State1 = forget_waiter(Claim, State),
                    serve_waiters(grant(Claim, From, Kind, Handle, State1));
                {error, _} ->
                    State
            end
    end.

%% Gives a lease to the caller of a request, or back to the pool if the caller has given up.
grant(Claim, {Pid, _} = From, Kind, Handle, State) ->
    case py_claim:grant(Claim) of
        true ->
            Id = py_nif:lease_id(Handle),
            Lease = #lease{handle = Handle, owner = Pid, monitor = watch(Pid, {owner_down, Id}),
                           kind = Kind},
            Kind =:= implicit andalso ets:insert(?TABLE, {Pid, Handle}),
            gen_server:reply(From, {ok, Handle}),
            State#state{leases = (State#state.leases)#{Id => Lease}};
        false ->
            _ = py_nif:end_lease(Handle),
            State
    end.

%% Removes a request that is granted, or whose caller has given up or died.
forget_waiter(Claim, #state{waiters = Waiters0} = State) ->
    case py_waiters:take(Claim, Waiters0) of
        {#waiter{monitor = Monitor}, Waiters} ->
            true = demonitor(Monitor, [flush]),
            State#state{waiters = Waiters};
        error ->
            State
    end.

%% Monitors a process. The tag of the `DOWN' message says why.
watch(Pid, Tag) ->
    monitor(process, Pid, [{tag, Tag}]).

env(Key) ->
    {ok, Value} = application:get_env(erlang_python, Key),
    Value.
