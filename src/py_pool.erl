%% @doc The pool: all workers, and who has which.
%%
%% Users call {@link get_stats/0}; everything else here serves the module `py'.
-module(py_pool).
-behaviour(gen_server).

-export([get_stats/0]).
%% Internal.
-export([create_table/0, start_link/0, native/0, binding/1, bind/2, lease/1, unbind/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([stats/0]).

-include_lib("kernel/include/logger.hrl").

-type stats() :: #{num_workers := non_neg_integer(), available_workers := non_neg_integer(),
                   checked_out := non_neg_integer(), pending_requests := non_neg_integer(),
                   abandoned := non_neg_integer(), left_threads := non_neg_integer(),
                   resources := #{jobs := non_neg_integer(), contexts := non_neg_integer(),
                                  objects := non_neg_integer(),
                                  callbacks := non_neg_integer(),
                                  streams := non_neg_integer()}}.
%% The state of the pool:
%% `num_workers', the worker threads; `available_workers', those that no context has;
%% `checked_out', those that one has; `pending_requests', the jobs accepted and not yet replied.
%% `abandoned': threads that could not be stopped and have not ended, in the whole VM; they are
%% not among the workers. `left_threads': how often Python code has left a `threading.Thread' of
%% its own running, since the pool started. `resources': what is alive natively, in the whole
%% VM, garbage that was not collected yet included: jobs, contexts, Python objects that Erlang
%% holds, calls of Erlang functions by Python code, and streams.

-type kind() :: implicit | explicit.
%% The binding of a process, or a handle.

%% One context that is checked out.
-record(lease, {handle :: py_nif:lease(), owner :: pid(), monitor :: reference(),
                kind :: kind()}).
%% One `bind' that waits for a worker.
-record(waiter, {from :: gen_server:from(), kind :: kind(), monitor :: reference(),
                 timer :: reference() | none}).

-record(state, {
    native :: py_nif:pool(),
    leases = #{} :: #{Id :: pos_integer() => #lease{}},
    %% In order of arrival.
    waiters = queue:new() :: queue:queue(#waiter{})
}).

%% process -> lease. Read by every caller, written by the pool, owned by the supervisor.
-define(TABLE, py_bindings).
-define(NATIVE, {?MODULE, native}).

%% @doc How many workers there are, how many are free, and how many jobs are under way.
%%
%% Reads counters; asks no process. Raises `{not_started, erlang_python}' when the application
%% is not running.
-spec get_stats() -> stats().
get_stats() ->
    {Size, Leased, Pending, Abandoned, LeftThreads} = py_nif:pool_info(native()),
    {Jobs, Contexts, Objects, Callbacks, Streams} = py_nif:resources(),
    %% A worker that is lost under a lease leaves the pool before the lease ends.
    #{num_workers => Size, available_workers => max(0, Size - Leased), checked_out => Leased,
      pending_requests => Pending, abandoned => Abandoned, left_threads => LeftThreads,
      resources => #{jobs => Jobs, contexts => Contexts, objects => Objects,
                     callbacks => Callbacks, streams => Streams}}.

%% @private
-spec create_table() -> ok.
create_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, set, {read_concurrency, true}]),
    ok.

%% @private
-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @private
-spec native() -> py_nif:pool().
native() ->
    case persistent_term:get(?NATIVE, none) of
        none -> error({not_started, erlang_python});
        Native -> Native
    end.

%% @private
%% @doc The lease that a process is bound to.
-spec binding(pid()) -> {ok, py_nif:lease()} | none.
binding(Pid) ->
    try ets:lookup(?TABLE, Pid) of
        [{_, Lease}] -> {ok, Lease};
        [] -> none
    catch
        error:badarg -> error({not_started, erlang_python})
    end.

%% @private
%% @doc Binds the calling process. Waits at most Wait milliseconds for a worker.
-spec bind(kind(), Wait :: timeout()) -> {ok, py_nif:lease()} | {error, no_workers_available}.
bind(Kind, Wait) ->
    try
        %% The server answers at once, except to those who wait for a worker: these it times.
        gen_server:call(?MODULE, {bind, Kind, Wait}, infinity)
    catch
        exit:{_, {gen_server, call, _}} -> error({not_started, erlang_python})
    end.

%% @private
%% @doc A lease for an explicit context of the calling process.
-spec lease(Wait :: timeout()) -> {ok, py_nif:lease()} | {error, no_workers_available}.
lease(Wait) ->
    bind(explicit, Wait).

%% @private
-spec unbind(Id :: pos_integer()) -> ok.
unbind(Id) ->
    try
        gen_server:call(?MODULE, {unbind, Id}, infinity)
    catch
        %% Its contexts ended with the pool.
        exit:{_, {gen_server, call, _}} -> ok
    end.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    %% Contexts of an earlier life ended with it.
    true = ets:delete_all_objects(?TABLE),
    Size = num_workers(),
    Native = py_nif:open_pool(Size, env(max_pending), env(interrupt_grace), env(import_grace),
                              env(max_abandoned)),
    ok = start_workers(Native, lists:seq(1, Size)),
    persistent_term:put(?NATIVE, Native),
    {ok, #state{native = Native}}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call({bind, Kind, Wait}, {Pid, _} = From, State) ->
    case queue:is_empty(State#state.waiters) andalso check_out(Pid, Kind, State) of
        {ok, Lease, State1} -> {reply, {ok, Lease}, State1};
        _ when Wait =:= 0 -> {reply, {error, no_workers_available}, State};
        _ -> {noreply, enqueue(From, Kind, Wait, State)}
    end;
handle_call({unbind, Id}, _From, State) ->
    {reply, ok, serve_waiters(check_in(Id, State))}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_cast, message => Message}),
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({py_lease, Id, ended}, State) ->
    %% Also for leases that were checked in before: their worker is free only now.
    {noreply, serve_waiters(check_in(Id, State))};
handle_info({py_worker, Id, lost}, State) ->
    %% No thread could be started in its place: a new pool has its full size, or says why not.
    {stop, {worker_lost, Id}, State};
handle_info({py_worker, Id, Fate}, State) ->
    log_fate(Id, Fate),
    %% There may be one more than before.
    {noreply, serve_waiters(State)};
handle_info({py_threads, Lease, Names}, State) ->
    ?LOG_WARNING(#{what => threads_left_running, context => Lease, names => Names}),
    {noreply, State};
handle_info({'DOWN', Monitor, process, _Pid, _Reason}, State) ->
    {noreply, serve_waiters(forget_process(Monitor, State))};
handle_info({timeout, Timer, no_worker}, State) ->
    %% A lease that was garbage collected before a worker came to it is free, but nobody could
    %% say so: a destructor cannot send.
    {noreply, give_up(Timer, serve_waiters(State))};
handle_info({'EXIT', _Port, normal}, State) ->
    {noreply, State};
handle_info(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_message, message => Message}),
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{native = Native, waiters = Waiters}) ->
    lists:foreach(fun(#waiter{from = From}) ->
        gen_server:reply(From, {error, no_workers_available})
    end, queue:to_list(Waiters)),
    true = ets:delete_all_objects(?TABLE),
    _ = persistent_term:erase(?NATIVE),
    py_nif:close_pool(Native).

log_fate(Id, crashed) ->
    %% Its successor runs already.
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

start_workers(Native, Ids) ->
    lists:foreach(fun(Id) -> ok = py_nif:start_worker(Native, Id) end, Ids).

check_out(Pid, Kind, State) ->
    case py_nif:lease(State#state.native) of
        {ok, Handle} ->
            Monitor = monitor(process, Pid),
            Lease = #lease{handle = Handle, owner = Pid, monitor = Monitor, kind = Kind},
            Kind =:= implicit andalso ets:insert(?TABLE, {Pid, Handle}),
            Leases = (State#state.leases)#{py_nif:lease_id(Handle) => Lease},
            {ok, Handle, State#state{leases = Leases}};
        {error, Reason} ->
            {error, Reason}
    end.

%% Idempotent: a lease may end by its owner and by its worker in the same instant.
check_in(Id, #state{leases = Leases0} = State) ->
    case maps:take(Id, Leases0) of
        {#lease{handle = Handle, owner = Pid, monitor = Monitor, kind = Kind}, Leases} ->
            true = demonitor(Monitor, [flush]),
            Kind =:= implicit andalso ets:delete_object(?TABLE, {Pid, Handle}),
            _Already = py_nif:end_lease(Handle),
            State#state{leases = Leases};
        error ->
            State
    end.

enqueue({Pid, _} = From, Kind, Wait, #state{waiters = Waiters} = State) ->
    Timer = case Wait of
        infinity -> none;
        _ -> erlang:start_timer(Wait, self(), no_worker)
    end,
    Waiter = #waiter{from = From, kind = Kind, monitor = monitor(process, Pid), timer = Timer},
    State#state{waiters = queue:in(Waiter, Waiters)}.

serve_waiters(#state{waiters = Waiters0} = State0) ->
    case queue:out(Waiters0) of
        {empty, _} ->
            State0;
        {{value, #waiter{from = {Pid, _} = From, kind = Kind} = Waiter}, Waiters} ->
            case check_out(Pid, Kind, State0) of
                {ok, Lease, State} ->
                    dismiss(Waiter),
                    gen_server:reply(From, {ok, Lease}),
                    serve_waiters(State#state{waiters = Waiters});
                {error, _} ->
                    State0
            end
    end.

dismiss(#waiter{monitor = Monitor, timer = none}) ->
    true = demonitor(Monitor, [flush]),
    ok;
dismiss(#waiter{timer = Timer} = Waiter) ->
    %% Too late: the message is in the mailbox already.
    case erlang:cancel_timer(Timer) of
        false -> receive {timeout, Timer, no_worker} -> ok after 0 -> ok end;
        _Left -> ok
    end,
    dismiss(Waiter#waiter{timer = none}).

give_up(Timer, #state{waiters = Waiters0} = State) ->
    IsLate = fun(#waiter{timer = T}) -> T =:= Timer end,
    {Late, Waiters} = lists:partition(IsLate, queue:to_list(Waiters0)),
    lists:foreach(fun(#waiter{from = From} = Waiter) ->
        dismiss(Waiter),
        gen_server:reply(From, {error, no_workers_available})
    end, Late),
    State#state{waiters = queue:from_list(Waiters)}.

%% The owner of a lease, or one who waits for it, has died.
forget_process(Monitor, #state{leases = Leases, waiters = Waiters0} = State) ->
    case [Id || {Id, #lease{monitor = M}} <- maps:to_list(Leases), M =:= Monitor] of
        [Id] ->
            check_in(Id, State);
        [] ->
            IsDead = fun(#waiter{monitor = M}) -> M =:= Monitor end,
            {Dead, Waiters} = lists:partition(IsDead, queue:to_list(Waiters0)),
            lists:foreach(fun dismiss/1, Dead),
            State#state{waiters = queue:from_list(Waiters)}
    end.

num_workers() ->
    case env(num_workers) of
        undefined -> max(8, 2 * erlang:system_info(schedulers_online));
        Size -> Size
    end.

env(Key) ->
    {ok, Value} = application:get_env(erlang_python, Key),
    Value.
