%% @doc Pools: sets of workers. The pool `default', of threads in the VM, starts with the application;
%% {@link start/2} and the environment key `pools' start more, also of child processes.
%%
%% The functions that have no documentation serve the module `py'. They run in the calling process.
-module(py_pool).

-export([get_stats/0, get_stats/1, start/2, stop/1, list/0]).
%% Internal.
-export([create_table/0, publish/2, retract/1, retract_named/0, native/0, find/0, find/1, binding/1,
         bind/3, lease/2, unbind/1]).

-export_type([stats/0, pool_stats/0, totals/0, name/0, options/0, limits/0, start_error/0]).

-include("py_pool.hrl").

-type name() :: atom().
%% The name of a pool.

-type stats() :: #{num_workers := non_neg_integer(), available_workers := non_neg_integer(),
                   checked_out := non_neg_integer(), pending_requests := non_neg_integer(),
                   abandoned := non_neg_integer(), left_threads := non_neg_integer(), totals := totals(),
                   resources := #{jobs := non_neg_integer(), contexts := non_neg_integer(),
                                  objects := non_neg_integer(), callbacks := non_neg_integer(),
                                  streams := non_neg_integer()}}.
%% The state of the pool: `num_workers', the worker threads; `available_workers', the workers that
%% no context has; `checked_out', the workers that a context has; `pending_requests', the jobs
%% accepted and not yet replied. `abandoned': threads that could not be stopped and have not ended,
%% in the whole VM; they are not among the workers. `left_threads': how many threads Python code has
%% left running after its context, since the pool started. `totals': what has happened so far. `resources': the native objects that are
%% alive in the whole VM, garbage that was not collected yet included: jobs, contexts, Python
%% objects that Erlang holds, calls of Erlang functions by Python code, and streams.

-type pool_stats() :: #{level := thread | process, num_workers := non_neg_integer(),
                        available_workers := non_neg_integer(), checked_out := non_neg_integer(),
                        pending_requests := non_neg_integer(), left_threads := non_neg_integer(),
                        totals := totals()}.
%% The state of one pool, as in {@type stats()}. `num_workers' of a pool of child processes is smaller
%% than was asked for while children do not start.

-type totals() :: #{jobs := #{accepted := non_neg_integer(), replied := non_neg_integer(),
                              failed := non_neg_integer(), cancelled := non_neg_integer()},
                    leases := #{checked_out := non_neg_integer(), checked_in := non_neg_integer()},
                    workers := #{abandoned := non_neg_integer(), exited := non_neg_integer(),
                                 replaced := non_neg_integer()}}.
%% How often something has happened since the pool started; each number only grows. `jobs': calls of every kind, and
%% demands of streams, that were accepted; those that have a reply; those of them whose reply is an error; those
%% whose caller did not wait for it: its timeout was over, or it has died. `leases': bindings and contexts, begun and
%% ended. `workers': threads that were abandoned; threads that crashed, and child processes that exited or were
%% killed, but not those that were told to end; workers that have the place of another.

-type limits() :: #{memory => pos_integer(), cpu_seconds => pos_integer(), open_files => pos_integer(),
                    file_size => pos_integer(), processes => pos_integer()}.
%% What one child process may take: bytes of memory, with that of its own children and of files in memory;
%% no process may reserve more, either (`RLIMIT_AS'). Beyond that, seconds of processor time, descriptors, bytes of a file that it writes, processes of its user.

-type options() :: #{level => thread | process, num_workers => pos_integer(),
                     python => py_options:path(), paths => [py_options:path()],
                     env => #{unicode:chardata() => unicode:chardata()},
                     preload => [module() | binary()], preload_timeout => timeout(),
                     limits => limits(), spares => non_neg_integer(), max_jobs => pos_integer(),
                     max_rss => pos_integer()}.
%% `level': what a worker is; the others but `num_workers' are for the level `process' only.
%% `num_workers': default 8 threads, or as many processes as there are schedulers online. `python': the
%% interpreter or venv of the children; default: that of the VM. `paths', `env', `preload' and
%% `preload_timeout' as the environment keys of the same names. `spares': children that wait, warm, for
%% the place of one that ends; default 1. `max_jobs', `max_rss': leases and unbound calls, and bytes of
%% resident memory, after which a child is replaced between two leases.

-type start_error() :: already_started | {invalid_option, atom(), term()}
                     | {python_unavailable | python_not_prepared, Message :: binary()}.
%% `{invalid_option, Key, Value}': the option does not exist, or does not take the value, or not at this
%% level. `{python_not_prepared, Message}': the first children did not start, with what Python said.

-type kind() :: implicit | explicit.
%% A lease is the binding of a process, or a context behind a handle.

%% @doc Returns how many workers there are, how many are free, and how many jobs are under way.
%%
%% Reads counters of the pool `default', and asks no process. Raises `{not_started, erlang_python}'
%% when the application is not running.
-spec get_stats() -> stats().
get_stats() ->
    {ok, Pool} = existing(default),
    #{abandoned := Abandoned} = Info = py_nif:pool_info(Pool#pool.native),
    (counters(Info, Pool))#{abandoned => Abandoned, resources => py_nif:resources()}.

%% @doc Returns the state of one pool. Raises `badarg' if there is none of this name.
-spec get_stats(name()) -> pool_stats().
get_stats(Name) ->
    {ok, #pool{native = Native, level = Level} = Pool} = existing(Name),
    (counters(py_nif:pool_info(Native), Pool))#{level => Level}.

counters(#{size := Size, leased := Leased, pending := Pending, left_threads := LeftThreads} = Info, Pool) ->
    %% A worker that is lost under a lease leaves the pool before the lease ends.
    #{num_workers => Size, available_workers => max(0, Size - Leased), checked_out => Leased,
      pending_requests => Pending, left_threads => LeftThreads, totals => totals(Info, Pool)}.

totals(#{leases := Leases, leased := Leased} = Info, #pool{totals = Totals}) ->
    #{jobs => maps:with([accepted, replied, failed, cancelled], Info),
      leases => #{checked_out => Leases, checked_in => max(0, Leases - Leased)},
      workers => py_totals:read(Totals)}.

%% @doc Starts a pool, and returns `ok' when all its workers are ready.
%%
%% The pool belongs to the application, and ends with it or by {@link stop/1}. Raises
%% `{not_started, erlang_python}' when the application is not running, and `badarg' for a name that is
%% no atom.
-spec start(name(), options()) -> ok | {error, start_error()}.
start(Name, Options) when is_atom(Name), is_map(Options) ->
    _ = native(),
    py_pools_sup:start_pool(Name, Options);
start(_, _) ->
    error(badarg).

%% @doc Ends a pool: its contexts end, and calls in it return `{error, interrupted}'. Returns
%% `{error, not_found}' if there is none of this name; raises `badarg' for `default'.
-spec stop(name()) -> ok | {error, not_found}.
stop(Name) when is_atom(Name), Name =/= default ->
    _ = native(),
    py_pools_sup:stop_pool(Name);
stop(_) ->
    error(badarg).

%% @doc Returns the names of all pools, `default' first.
-spec list() -> [name(), ...].
list() ->
    _ = native(),
    [default | py_pools_sup:names()].

%% Maps a process to its lease. Read by every caller, written by the pools, owned by the supervisor.
-define(TABLE, py_bindings).
-define(POOL(Name), {?MODULE, Name}).

%% @private
-spec create_table() -> ok.
create_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, set, {read_concurrency, true}]),
    ok.

%% @private
%% @doc Makes a pool known. Called by its server, whose supervisor tells one start of the application
%% from another.
-spec publish(name(), #pool{}) -> ok.
publish(Name, Pool) ->
    persistent_term:put(?POOL(Name), Pool).

%% @private
-spec retract(name()) -> ok.
retract(Name) ->
    _ = persistent_term:erase(?POOL(Name)),
    ok.

%% @private
%% @doc Makes all pools but `default' unknown. Called by their supervisor at its start, which may follow
%% one that was killed, and whose servers were.
-spec retract_named() -> ok.
retract_named() ->
    lists:foreach(fun
        ({?POOL(default), _}) -> ok;
        ({?POOL(Name), _}) -> retract(Name);
        (_) -> ok
    end, persistent_term:get()).

%% @private
-spec native() -> py_nif:pool().
native() ->
    case find() of
        {ok, #pool{native = Native}} -> Native;
        none -> error({not_started, erlang_python})
    end.

%% @private
-spec find() -> {ok, #pool{}} | none.
find() -> find(default).

%% @private
-spec find(name()) -> {ok, #pool{}} | none.
find(Name) ->
    case persistent_term:get(?POOL(Name), none) of
        none -> none;
        Pool -> {ok, Pool}
    end.

existing(Name) ->
    case find(Name) of
        {ok, Pool} -> {ok, Pool};
        none when Name =:= default -> error({not_started, erlang_python});
        none -> _ = native(), error(badarg)
    end.

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
%% @doc Binds the calling process to a worker of a pool. Waits at most Wait milliseconds for one.
%%
%% The timer is the caller's own, since the pool may be busy. A claim decides between a worker that
%% comes at the last moment and a caller that gives up.
-spec bind(name(), kind(), Wait :: timeout()) ->
    {ok, py_nif:lease()} | {error, no_workers_available}.
bind(Name, Kind, Wait) ->
    {ok, #pool{server = Server}} = existing(Name),
    Claim = py_claim:new(),
    Request = gen_server:send_request(Server, {bind, Claim, Kind, Wait}),
    %% The pool answers at once a request that does not wait.
    Patience = case Wait of 0 -> infinity; _ -> Wait end,
    case gen_server:wait_response(Request, Patience) of
        timeout -> give_up(Server, Request, Claim);
        Response -> bound(Response)
    end.

give_up(Server, Request, Claim) ->
    case py_claim:give_up(Claim) of
        true ->
            ok = gen_server:cast(Server, {give_up, Claim}),
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
-spec lease(name(), Wait :: timeout()) -> {ok, py_nif:lease()} | {error, no_workers_available}.
lease(Name, Wait) ->
    bind(Name, explicit, Wait).

%% @private
-spec unbind(py_nif:lease() | py_nif:context()) -> ok.
unbind(Lease) ->
    try
        gen_server:call(py_nif:lease_manager(Lease), {unbind, py_nif:lease_id(Lease)}, infinity)
    catch
        %% The contexts of a pool end with it.
        exit:{_, {gen_server, call, _}} -> ok
    end.
