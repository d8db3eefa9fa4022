%% @doc A process that holds a context: for a supervisor, and for many callers.
%%
%% ```
%% Init = <<"import model; m = model.load()">>,
%% Children = [py_context:child_spec(#{name => {local, scorer}, init => [Init]})],
%% ...
%% {ok, Score} = py_context:call(scorer, '__main__', 'm.score', [Features]).
%% '''
%%
%% The context belongs to the process, and the calls go from their callers to its worker, one after the
%% other. When the context ends, whatever the cause, the process ends with `{context_ended, Reason}', and its
%% supervisor starts it anew, with a new context and the same `init'.
-module(py_context).
-behaviour(gen_server).

-export([start_link/1, child_spec/1, context/1, call/4, call/5, call/6, eval/2, eval/3, eval/4, exec/2, exec/3,
         exec/4, run/2, run/3, run/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([options/0, step/0, server/0]).

-include("py_call.hrl").

-type server() :: pid() | atom() | {global, term()} | {via, module(), term()}.
%% The process, as `gen_server' knows it. It is one of this node.

-type step() :: py:code() | {py:name(), py:name(), py:args()} | {py:name(), py:name(), py:args(), py:kwargs()}.
%% Statements, or the call of a function.

-type options() :: #{name => {local, atom()} | {global, term()} | {via, module(), term()},
                     init => [step()], init_timeout => timeout(), terminate => [step()],
                     terminate_timeout => timeout(), pool => py_pool:name(), wait => timeout()}.
%% `name': the process is registered by it. `init': what runs in the context before the process has
%% started, in this order. `init_timeout': milliseconds for all of that; default: 60000. `terminate': what runs
%% when the supervisor stops the process, and the context is still there; `terminate_timeout': milliseconds
%% for all of that; default: 2000. `pool' and `wait': as those of {@link py:bind/2}; the default of `wait' is
%% 5000.

-define(DEFAULTS, #{init => [], init_timeout => 60000, terminate => [], terminate_timeout => 2000,
                    pool => default, wait => 5000}).

-record(state, {context :: py:context(), monitor :: reference(), terminate :: [py_nif:source()],
                terminate_timeout :: timeout()}).

%% @doc Starts the process, and returns when its `init' has run.
%%
%% An error of the start is `no_workers_available', `{no_such_pool, Name}', or `{init_failed, Reason}' with the reason that
%% the step has returned, `timeout' among them, or `context_not_bound' if the context has ended
%% meanwhile. Raises `badarg' for options that are wrong.
-spec start_link(options()) -> gen_server:start_ret().
start_link(Options) ->
    Checked = checked(Options),
    case maps:take(name, Checked) of
        {Name, Rest} -> gen_server:start_link(Name, ?MODULE, Rest, [{timeout, infinity}]);
        error -> gen_server:start_link(?MODULE, Checked, [{timeout, infinity}])
    end.

%% @doc Returns the specification of a child, for a supervisor: `id' is the name, or `py_context', `restart'
%% `permanent', and `shutdown' the time of `terminate' and a second.
-spec child_spec(options()) -> supervisor:child_spec().
child_spec(Options) ->
    #{terminate_timeout := Timeout} = checked(Options),
    Shutdown = case Timeout of infinity -> infinity; _ -> Timeout + 1000 end,
    #{id => maps:get(name, Options, ?MODULE), start => {?MODULE, start_link, [Options]}, shutdown => Shutdown}.

%% @doc Returns the context of the process, for the `ctx_' functions of `py'. Waits while the process prepares.
%% Exits as `gen_server:call/2' does if there is no such process.
-spec context(server()) -> py:context().
context(Server) ->
    gen_server:call(Server, context, infinity).

%% Calls Fun with the context, and with what is left of the time then.
within(Server, Options, Fun) ->
    Timeout = case Options of
        #{timeout := Given} -> Given;
        #{} -> ?DEFAULT;
        _ -> Options
    end,
    Timeout =:= ?DEFAULT orelse is_timeout(Timeout) orelse error(badarg),
    Deadline = py_call:deadline(erlang:monotonic_time(millisecond), Timeout),
    try gen_server:call(Server, context, py_call:remaining(Deadline)) of
        Context when is_map(Options) -> Fun(Context, Options#{timeout => py_call:remaining(Deadline)});
        Context -> Fun(Context, py_call:remaining(Deadline))
    catch
        exit:{timeout, {gen_server, call, _}} -> {error, timeout}
    end.

%% @equiv call(Server, Module, Function, Args, #{})
-spec call(server(), py:callee(), py:name(), py:args()) -> py:result().
call(Server, Module, Function, Args) ->
    within(Server, ?DEFAULT, fun(Ctx, Left) -> py:ctx_call(Ctx, Module, Function, Args, #{}, Left) end).

%% @equiv call(Server, Module, Function, Args, Kwargs, DefaultTimeout)
-spec call(server(), py:callee(), py:name(), py:args(), py:kwargs()) -> py:result().
call(Server, Module, Function, Args, Kwargs) ->
    within(Server, ?DEFAULT, fun(Ctx, Left) -> py:ctx_call(Ctx, Module, Function, Args, Kwargs, Left) end).

%% @doc Calls a function in the context of the process, as {@link py:ctx_call/6}. The timeout counts while the
%% process prepares, too. Raises
%% `context_not_bound' when the context ends under the call.
-spec call(server(), py:callee(), py:name(), py:args(), py:kwargs(), py:call_options()) -> py:result().
call(Server, Module, Function, Args, Kwargs, Timeout) ->
    within(Server, Timeout, fun(Ctx, Left) -> py:ctx_call(Ctx, Module, Function, Args, Kwargs, Left) end).

%% @equiv eval(Server, Code, #{})
-spec eval(server(), py:code()) -> py:result().
eval(Server, Code) ->
    within(Server, ?DEFAULT, fun(Ctx, Left) -> py:ctx_eval(Ctx, Code, #{}, Left) end).

%% @equiv eval(Server, Code, Locals, DefaultTimeout)
-spec eval(server(), py:code(), py:locals()) -> py:result().
eval(Server, Code, Locals) ->
    within(Server, ?DEFAULT, fun(Ctx, Left) -> py:ctx_eval(Ctx, Code, Locals, Left) end).

%% @doc Evaluates in the context of the process, as {@link py:ctx_eval/4}.
-spec eval(server(), py:code(), py:locals(), py:call_options()) -> py:result().
eval(Server, Code, Locals, Timeout) ->
    within(Server, Timeout, fun(Ctx, Left) -> py:ctx_eval(Ctx, Code, Locals, Left) end).

%% @equiv exec(Server, Code, #{})
-spec exec(server(), py:code()) -> ok | {error, py:error_reason()}.
exec(Server, Code) ->
    within(Server, ?DEFAULT, fun(Ctx, Left) -> py:ctx_exec(Ctx, Code, #{}, Left) end).

%% @equiv exec(Server, Code, Locals, DefaultTimeout)
-spec exec(server(), py:code(), py:locals()) -> ok | {error, py:error_reason()}.
exec(Server, Code, Locals) ->
    within(Server, ?DEFAULT, fun(Ctx, Left) -> py:ctx_exec(Ctx, Code, Locals, Left) end).

%% @doc Executes in the context of the process, as {@link py:ctx_exec/4}.
-spec exec(server(), py:code(), py:locals(), py:call_options()) -> ok | {error, py:error_reason()}.
exec(Server, Code, Locals, Timeout) ->
    within(Server, Timeout, fun(Ctx, Left) -> py:ctx_exec(Ctx, Code, Locals, Left) end).

%% @equiv run(Server, Code, #{})
-spec run(server(), py:code()) -> py:result().
run(Server, Code) ->
    within(Server, ?DEFAULT, fun(Ctx, Left) -> py:ctx_run(Ctx, Code, #{}, Left) end).

%% @equiv run(Server, Code, Locals, DefaultTimeout)
-spec run(server(), py:code(), py:locals()) -> py:result().
run(Server, Code, Locals) ->
    within(Server, ?DEFAULT, fun(Ctx, Left) -> py:ctx_run(Ctx, Code, Locals, Left) end).

%% @doc Runs a block in the context of the process, as {@link py:ctx_run/4}.
-spec run(server(), py:code(), py:locals(), py:call_options()) -> py:result().
run(Server, Code, Locals, Timeout) ->
    within(Server, Timeout, fun(Ctx, Left) -> py:ctx_run(Ctx, Code, Locals, Left) end).

%%% The process

-spec init(map()) -> {ok, #state{}} | {stop, term()}.
init(#{pool := Pool, wait := Wait} = Options) ->
    %% The supervisor's exit signal becomes a call of `terminate'.
    process_flag(trap_exit, true),
    try py:bind(new, #{pool => Pool, wait => Wait}) of
        {ok, Context} -> prepare(Context, Options);
        {error, Reason} -> {stop, Reason}
    catch
        error:badarg -> {stop, {no_such_pool, Pool}}
    end.

prepare(Context, #{init := Init, init_timeout := InitTimeout, terminate := Terminate,
                   terminate_timeout := TerminateTimeout}) ->
    Monitor = py:monitor(Context),
    case steps(Context, Init, deadline(InitTimeout)) of
        ok ->
            {ok, #state{context = Context, monitor = Monitor, terminate = Terminate,
                        terminate_timeout = TerminateTimeout}};
        {error, Reason} ->
            ok = py:unbind(Context),
            {stop, {init_failed, Reason}}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(context, _From, #state{context = Context} = State) ->
    {reply, Context, State};
handle_call(_Request, _From, State) ->
    {reply, {error, not_supported}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, {context_ended, term()}, #state{}}.
handle_info({'DOWN', Monitor, process, _, Reason}, #state{monitor = Monitor} = State) ->
    {stop, {context_ended, Reason}, State};
handle_info(_Message, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate({context_ended, _}, _State) ->
    ok;
terminate(_Reason, #state{context = Context, terminate = Steps, terminate_timeout = Timeout}) ->
    case steps(Context, Steps, deadline(Timeout)) of
        ok -> ok;
        {error, Reason} -> log(Reason)
    end,
    py:unbind(Context).

log(Reason) ->
    logger:warning(#{what => context_not_terminated, reason => Reason}, #{domain => [python]}).

deadline(Timeout) ->
    py_call:deadline(erlang:monotonic_time(millisecond), Timeout).

%% Runs steps one after the other.
steps(_Context, [], _Deadline) ->
    ok;
steps(Context, [Step | Steps], Deadline) ->
    try py_call:run_in(Context, Step, py_call:remaining(Deadline)) of
        {error, Reason} -> {error, Reason};
        _ -> steps(Context, Steps, Deadline)
    catch
        %% `badarg': a name of a keyword argument that is none.
        error:Reason when Reason =:= context_not_bound; Reason =:= badarg -> {error, Reason}
    end.

%% Returns the options with their defaults, and the steps as requests; raises `badarg'.
checked(#{} = Options) ->
    All = maps:merge(?DEFAULTS, Options),
    Known = [name | maps:keys(?DEFAULTS)],
    maps:without(Known, All) =:= #{} orelse error(badarg),
    #{init := Init, init_timeout := InitTimeout, terminate := Terminate, terminate_timeout := TerminateTimeout,
      pool := Pool, wait := Wait} = All,
    lists:all(fun is_timeout/1, [InitTimeout, TerminateTimeout, Wait]) andalso is_atom(Pool)
        andalso is_name(maps:get(name, All, {local, x})) andalso is_list(Init) andalso is_list(Terminate)
        orelse error(badarg),
    All#{init := [step(Step) || Step <- Init], terminate := [step(Step) || Step <- Terminate]};
checked(_) ->
    error(badarg).

is_timeout(Timeout) -> ?IS_TIMEOUT(Timeout).

is_name({local, Name}) -> is_atom(Name);
is_name({global, _}) -> true;
is_name({via, Module, _}) -> is_atom(Module);
is_name(_) -> false.

step({Module, Function, Args}) when is_list(Args) -> py_call:job(Module, Function, Args, #{});
step({Module, Function, Args, Kwargs}) when is_list(Args), is_map(Kwargs) orelse is_list(Kwargs) ->
    py_call:job(Module, Function, Args, Kwargs);
step(Step) when is_tuple(Step) -> error(badarg);
step(Code) -> py_call:code_job(exec, Code, #{}).
