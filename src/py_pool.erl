%% @doc The pool: the workers, their leases, and the processes that wait for one.
%%
%% Users call {@link get_stats/0}; the other functions serve the module `py'.
-module(py_pool).
-behaviour(gen_server).

-export([get_stats/0]).
%% Internal.
-export([create_table/0, start_link/0, native/0, find/0, binding/1, bind/2, lease/1, unbind/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([stats/0]).

-include_lib("kernel/include/logger.hrl").

-type stats() :: #{num_workers := non_neg_integer(), available_workers := non_neg_integer(),
                   checked_out := non_neg_integer(), pending_requests := non_neg_integer(),
                   abandoned := non_neg_integer(), left_threads := non_neg_integer(),
                   resources := #{jobs := non_neg_integer(), contexts := non_neg_integer(),
                                  objects := non_neg_integer(), callbacks := non_neg_integer(),
                                  streams := non_neg_integer()}}.
%% The state of the pool: `num_workers', the worker threads; `available_workers', the workers that
%% no context has; `checked_out', the workers that a context has; `pending_requests', the jobs
%% accepted and not yet replied. `abandoned': threads that could not be stopped and have not ended,
%% in the whole VM; they are not among the workers. `left_threads': how many threads Python code has
%% left running after its context, since the pool started. `resources': the native objects that are
%% alive in the whole VM, garbage that was not collected yet included: jobs, contexts, Python
%% objects that Erlang holds, calls of Erlang functions by Python code, and streams.

-type kind() :: implicit | explicit.
%% A lease is the binding of a process, or a context behind a handle.
%% A lease that is checked out.
-record(lease, {handle :: py_nif:lease(), owner :: pid(), monitor :: reference(), kind :: kind()}).
%% A `bind' that waits for a worker.
-record(waiter, {from :: gen_server:from(), kind :: kind(), monitor :: reference()}).

-record(state, {
    native :: py_nif:pool(),
    leases = #{} :: #{Id :: pos_integer() => #lease{}},
    waiters = py_waiters:new() :: py_waiters:waiters(py_claim:claim(), #waiter{})
}).

%% Maps a process to its lease. Read by every caller, written by the pool, owned by the supervisor.
-define(TABLE, py_bindings).
-define(NATIVE, {?MODULE, native}).

%% @doc Returns how many workers there are, how many are free, and how many jobs are under way.
%%
%% Reads counters, and asks no process. Raises `{not_started, erlang_python}' when the application
%% is not running.
-spec get_stats() -> stats().
get_stats() ->
    #{size := Size, leased := Leased, pending := Pending, abandoned := Abandoned,
      left_threads := LeftThreads} = py_nif:pool_info(native()),
    %% A worker that is lost under a lease leaves the pool before the lease ends.
    #{num_workers => Size, available_workers => max(0, Size - Leased), checked_out => Leased,
      pending_requests => Pending, abandoned => Abandoned, left_threads => LeftThreads,
      resources => py_nif:resources()}.

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
    case find() of
        {ok, Native, _Supervisor} -> Native;
        none -> error({not_started, erlang_python})
    end.

%% @private
%% @doc Returns the pool, and its supervisor, which tells one start of the application from another.
-spec find() -> {ok, py_nif:pool(), Supervisor :: pid() | undefined} | none.
find() -> persistent_term:get(?NATIVE, none).

%% @private
%% @doc Returns the lease that a process is bound to.
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
%%
%% The timer is the caller's own, since the pool may be busy. A claim decides between a worker that
%% comes at the last moment and a caller that gives up.
-spec bind(kind(), Wait :: timeout()) -> {ok, py_nif:lease()} | {error, no_workers_available}.
bind(Kind, Wait) ->
    Claim = py_claim:new(),
    Request = gen_server:send_request(?MODULE, {bind, Claim, Kind, Wait}),
    %% The pool answers at once a request that does not wait.
    Patience = case Wait of 0 -> infinity; _ -> Wait end,
    case gen_server:wait_response(Request, Patience) of
        timeout -> give_up(Request, Claim);
        Response -> bound(Response)
    end.

give_up(Request, Claim) ->
    case py_claim:give_up(Claim) of
        true ->
            ok = gen_server:cast(?MODULE, {give_up, Claim}),
            %% Drops the response, which may come later or has just come.
            _Late = gen_server:receive_response(Request, 0),
            {error, no_workers_available};
        false ->
            %% Cannot hang: the pool has granted the request, and responds in the same step.
            bound(gen_server:receive_response(Request, infinity))
    end.

bound({reply, Reply}) -> Reply;
bound({error, {_Reason, _Server}}) -> error({not_started, erlang_python}).

%% @private
%% @doc Returns a lease for an explicit context of the calling process.
-spec lease(Wait :: timeout()) -> {ok, py_nif:lease()} | {error, no_workers_available}.
lease(Wait) ->
    bind(explicit, Wait).

%% @private
-spec unbind(Id :: pos_integer()) -> ok.
unbind(Id) ->
    try
        gen_server:call(?MODULE, {unbind, Id}, infinity)
    catch
        %% The contexts of a pool end with it.
        exit:{_, {gen_server, call, _}} -> ok
    end.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    %% The leases of an earlier pool ended with it.
    true = ets:delete_all_objects(?TABLE),
    Size = num_workers(),
    Native = py_nif:open_pool(Size, env(max_pending), env(interrupt_grace), env(import_grace),
                              env(max_abandoned)),
    ok = start_workers(Native, lists:seq(1, Size)),
    persistent_term:put(?NATIVE, {ok, Native, whereis(erlang_python_sup)}),
    {ok, #state{native = Native}}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call({bind, Claim, Kind, Wait}, From, #state{native = Native} = State) ->
    case py_waiters:size(State#state.waiters) =:= 0 andalso py_nif:lease(Native) of
        {ok, Handle} -> {noreply, grant(Claim, From, Kind, Handle, State)};
        _ when Wait =:= 0 -> {reply, {error, no_workers_available}, State};
        _ -> {noreply, enqueue(Claim, From, Kind, State)}
    end;
handle_call({unbind, Id}, _From, State) ->
    {reply, ok, serve_waiters(check_in(Id, State))};
%% An unknown request must not end the pool, and every context with it.
handle_call(_Request, _From, State) ->
    {reply, {error, not_supported}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({give_up, Claim}, State) ->
    {noreply, forget_waiter(Claim, State)};
handle_cast(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_cast, message => Message}),
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({py_lease, Id, ended}, State) ->
    %% A lease that was checked in before ends here, too: its worker is free only now.
    {noreply, serve_waiters(check_in(Id, State))};
handle_info({py_worker, Id, lost}, State) ->
    %% The lost worker could not be replaced: a new pool has its full size, or fails with
    %% the reason.
    {stop, {worker_lost, Id}, State};
handle_info({py_worker, Id, Fate}, State) ->
    log_fate(Id, Fate),
    %% The pool may have one more worker than before.
    {noreply, serve_waiters(State)};
handle_info({py_threads, Lease, Names}, State) ->
    ?LOG_WARNING(#{what => threads_left_running, context => Lease, names => Names}),
    {noreply, State};
handle_info({{owner_down, Id}, _Monitor, process, _Pid, _Reason}, State) ->
    {noreply, serve_waiters(check_in(Id, State))};
handle_info({{waiter_down, Claim}, _Monitor, process, _Pid, _Reason}, State) ->
    {noreply, forget_waiter(Claim, State)};
handle_info({'EXIT', _Port, normal}, State) ->
    {noreply, State};
handle_info(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_message, message => Message}),
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{native = Native, waiters = Waiters}) ->
    lists:foreach(fun({_Claim, #waiter{from = From}}) ->
        gen_server:reply(From, {error, no_workers_available})
    end, py_waiters:to_list(Waiters)),
    true = ets:delete_all_objects(?TABLE),
    _ = persistent_term:erase(?NATIVE),
    py_nif:close_pool(Native).

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

start_workers(Native, Ids) ->
    lists:foreach(fun(Id) -> ok = py_nif:start_worker(Native, Id) end, Ids).

%% Ends a lease. Idempotent: a lease may end by its owner and by its worker in the same instant.
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

enqueue(Claim, {Pid, _} = From, Kind, #state{waiters = Waiters} = State) ->
    Waiter = #waiter{from = From, kind = Kind, monitor = watch(Pid, {waiter_down, Claim})},
    State#state{waiters = py_waiters:in(Claim, Waiter, Waiters)}.

%% Grants leases to those that wait, first come, first served, as long as there are workers.
serve_waiters(#state{native = Native, waiters = Waiters} = State) ->
    case py_waiters:first(Waiters) of
        none ->
            State;
        {Claim, #waiter{from = From, kind = Kind}} ->
            case py_nif:lease(Native) of
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

num_workers() ->
    case env(num_workers) of
        undefined -> max(8, 2 * erlang:system_info(schedulers_online));
        Size -> Size
    end.

env(Key) ->
    {ok, Value} = application:get_env(erlang_python, Key),
    Value.
