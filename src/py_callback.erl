%% @private
%% The server of callbacks: the registered functions, and the processes that run them.
%%
%% A call of Python code comes as a message from the thread that waits. The function runs in a
%% process of its own, linked to this server as the children of a supervisor are: no
%% `gen_server:call' stands in the way of a callback, and `supervisor:which_children/1' works.
-module(py_callback).
-behaviour(gen_server).

-export([create_table/0, start_link/0, register/2, unregister/1, current/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
%% Internal.
-export([run/5]).

-export_type([callable/0, current/0]).

-include_lib("kernel/include/logger.hrl").

-type callable() :: fun(([term()]) -> term()) | fun(([term()], #{binary() => term()}) -> term())
                  | {module(), atom()}.
%% A registered function: gets the list of arguments and, if it takes two, the keyword arguments.

-type function_name() :: binary() | {keywords, binary()} | wait_down | state | apply.
%% A registered function, the same with keyword arguments, or a function that the application has.

-type current() :: {py_nif:callback(), Lease :: pos_integer() | none}.
%% The callback that a process answers, and the lease whose code waits for it. The jobs of that
%% process run there.

%% A process that Python code monitors.
-record(watch, {id :: pos_integer(), handle :: py_nif:callback(), far :: py_far:watch(),
                %% Callbacks that wait for the end of the process.
                waiters = #{} :: #{pid() => gen_server:from()}}).

-record(state, {
    %% The processes that run callbacks.
    processes = #{} :: #{pid() => {Id :: pos_integer(), py_nif:callback()}},
    ids = #{} :: #{Id :: pos_integer() => pid() | reference()},
    watches = #{} :: #{reference() => #watch{}},
    %% The watch that a callback waits for.
    waiting = #{} :: #{pid() => reference()},
    %% Messages that wait for slow nodes.
    queues = py_far:new() :: py_far:queues()
}).

%% Maps a name to a function and the group leader of the process that has registered it. Written by
%% this server, read by the processes that run callbacks, owned by the supervisor.
-define(TABLE, py_functions).
-define(CURRENT, '$py_callback').
%% Milliseconds that a process has to end in, when its answer is not awaited any more.
-define(PATIENCE, 5000).
%% Milliseconds without a message, after which the server collects its garbage.
-define(QUIET, 100).
%% The longest timeout of `receive', 49 days.
-define(MAX_TIMEOUT, 16#ffffffff).

-spec create_table() -> ok.
create_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, set, {read_concurrency, true}]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec register(Name :: binary(), callable()) -> ok.
register(Name, Function) ->
    call({register, Name, Function, group_leader()}).

-spec unregister(Name :: binary()) -> ok.
unregister(Name) ->
    call({unregister, Name}).

call(Request) ->
    try
        gen_server:call(?MODULE, Request, infinity)
    catch
        exit:{_, {gen_server, call, _}} -> error({not_started, erlang_python})
    end.

%% @doc Returns the callback that the calling process answers.
-spec current() -> current() | undefined.
current() ->
    get(?CURRENT).

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    ok = publish(),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}, timeout()} | {noreply, #state{}, timeout()}.
handle_call({register, Name, Function, Leader}, _From, State) ->
    true = ets:insert(?TABLE, {Name, Function, Leader}),
    {reply, py_nif:add_function(Name), State, ?QUIET};
handle_call({unregister, Name}, _From, State) ->
    true = ets:delete(?TABLE, Name),
    {reply, py_nif:remove_function(Name), State, ?QUIET};
handle_call(sync, _From, State) ->
    {reply, none, State, ?QUIET};
handle_call({await_down, Id}, {Pid, _} = From, #state{ids = Ids, watches = Watches} = State) ->
    case Ids of
        #{Id := Monitor} ->
            #{Monitor := #watch{waiters = Waiters} = Watch0} = Watches,
            Watch = Watch0#watch{waiters = Waiters#{Pid => From}},
            Waiting = (State#state.waiting)#{Pid => Monitor},
            {noreply, State#state{watches = Watches#{Monitor := Watch}, waiting = Waiting}, ?QUIET};
        #{} ->
            {reply, none, State, ?QUIET}
    end;
%% The requests of `supervisor:which_children/1' and `count_children/1'.
handle_call(which_children, _From, #state{processes = Processes} = State) ->
    {reply, [{undefined, Pid, worker, [?MODULE]} || Pid <- maps:keys(Processes)], State, ?QUIET};
handle_call(count_children, _From, #state{processes = Processes} = State) ->
    Count = map_size(Processes),
    {reply, [{specs, 1}, {active, Count}, {supervisors, 0}, {workers, Count}], State, ?QUIET};
%% Other requests to a supervisor, and unknown ones: they must not end the callbacks that run.
handle_call(_Request, _From, State) ->
    {reply, {error, not_supported}, State, ?QUIET}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}, timeout()}.
handle_cast(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_cast, message => Message}),
    {noreply, State, ?QUIET}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}, timeout() | hibernate}.
handle_info({py_callback, {Id, Handle, Lease, Callers}, Name, Args}, State) ->
    #state{processes = Processes, ids = Ids} = State,
    %% The function may unlink its process; the monitor alone tells of every end.
    {Pid, _} = proc_lib:spawn_opt(?MODULE, run, [Handle, Lease, Callers, Name, Args],
                                  [link, monitor]),
    {noreply, State#state{processes = Processes#{Pid => {Id, Handle}}, ids = Ids#{Id => Pid}},
     ?QUIET};
handle_info({py_callback, Id, ended}, #state{ids = Ids} = State) ->
    case Ids of
        #{Id := Pid} when is_pid(Pid) ->
            true = exit(Pid, shutdown),
            _ = erlang:send_after(?PATIENCE, self(), {kill, Pid}),
            {noreply, State, ?QUIET};
        #{Id := Monitor} ->
            #{Monitor := #watch{far = Far}} = State#state.watches,
            ok = py_far:demonitor(Far),
            {noreply, forget_watch(Monitor, State), ?QUIET};
        #{} ->
            {noreply, State, ?QUIET}
    end;
handle_info({py_send, Dest, Message, Outgoing}, #state{queues = Queues} = State) ->
    {noreply, State#state{queues = py_far:send(Dest, Message, Outgoing, Queues)}, ?QUIET};
handle_info({py_far, Key}, #state{queues = Queues} = State) ->
    {noreply, State#state{queues = py_far:resume(Key, Queues)}, ?QUIET};
handle_info({py_monitor, Id, Handle, Process}, #state{ids = Ids, watches = Watches} = State) ->
    try py_far:monitor(Process) of
        {Monitor, Far} ->
            Watch = #watch{id = Id, handle = Handle, far = Far},
            {noreply, State#state{ids = Ids#{Id => Monitor},
                                  watches = Watches#{Monitor => Watch}}, ?QUIET}
    catch
        %% The term is no process, and no name of one.
        error:badarg ->
            ok = py_nif:answer(Handle, {ok, badarg}),
            {noreply, State, ?QUIET}
    end;
handle_info({'DOWN', Monitor, process, Pid, Reason}, #state{watches = Watches} = State) ->
    case Watches of
        #{Monitor := #watch{handle = Handle}} ->
            ok = py_nif:answer(Handle, {ok, Reason}),
            {noreply, forget_watch(Monitor, State), ?QUIET};
        #{} ->
            {noreply, forget_process(Pid, Reason, State), ?QUIET}
    end;
handle_info({kill, Pid}, #state{processes = Processes} = State) ->
    _ = is_map_key(Pid, Processes) andalso exit(Pid, kill),
    {noreply, State, ?QUIET};
handle_info({'EXIT', _Pid, _Reason}, State) ->
    %% The `DOWN' message of the monitor is the one that counts.
    {noreply, State, ?QUIET};
handle_info(timeout, State) ->
    %% The garbage of this process holds the terms of callbacks that have ended.
    {noreply, State, hibernate};
handle_info(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_message, message => Message}),
    {noreply, State, ?QUIET}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{processes = Processes}) ->
    maps:foreach(fun(Pid, _) -> exit(Pid, shutdown) end, Processes),
    Timer = erlang:start_timer(?PATIENCE, self(), kill),
    maps:foreach(fun(Pid, {_Id, Handle}) ->
        py_nif:answer(Handle, {exit, await(Pid, Timer), []})
    end, Processes).

await(Pid, Timer) ->
    receive
        {'DOWN', _Monitor, process, Pid, Reason} ->
            Reason;
        {timeout, Timer, kill} ->
            exit(Pid, kill),
            %% The time of the other processes is over, too.
            self() ! {timeout, Timer, kill},
            killed
    end.

%% Removes a watch, whose handle has been answered or is not awaited any more.
forget_watch(Monitor, #state{watches = Watches0, ids = Ids} = State) ->
    {#watch{id = Id, waiters = Waiters}, Watches} = maps:take(Monitor, Watches0),
    maps:foreach(fun(_Pid, From) -> gen_server:reply(From, none) end, Waiters),
    Waiting = maps:without(maps:keys(Waiters), State#state.waiting),
    State#state{watches = Watches, ids = maps:remove(Id, Ids), waiting = Waiting}.

%% Removes the process of a callback that has ended. Answers for a process that has not answered
%% itself, as one that hibernates and ends normally; a second answer has no effect.
forget_process(Pid, Reason, #state{processes = Processes0, ids = Ids} = State) ->
    {{Id, Handle}, Processes} = maps:take(Pid, Processes0),
    ok = py_nif:answer(Handle, {exit, Reason, []}),
    forget_waiter(Pid, State#state{processes = Processes, ids = maps:remove(Id, Ids)}).

%% Removes the process from those that wait for the end of a monitored process.
forget_waiter(Pid, #state{watches = Watches, waiting = Waiting0} = State) ->
    case maps:take(Pid, Waiting0) of
        {Monitor, Waiting} ->
            #{Monitor := #watch{waiters = Waiters} = Watch0} = Watches,
            Watch = Watch0#watch{waiters = maps:remove(Pid, Waiters)},
            State#state{watches = Watches#{Monitor := Watch}, waiting = Waiting};
        error ->
            State
    end.

%% Fills the native copy of the table, in which Python code looks names up. Each later change is
%% passed on to it.
publish() ->
    py_nif:serve_callbacks([Name || {Name, _, _} <- ets:tab2list(?TABLE)]).

%% @doc Runs a function for Python code, and answers. The entry of a process of its own.
-spec run(py_nif:callback(), Lease :: pos_integer() | none, [pid()], function_name(),
          {ok | external | child, [term()] | binary()}) -> ok.
run(Handle, Lease, Callers, Name, Args) ->
    _ = put('$callers', Callers),
    _ = put(?CURRENT, {Handle, Lease}),
    py_nif:answer(Handle, outcome(function(Name, Callers), Args)).

%% Looks a function up.
function(wait_down, _Callers) -> [{plain, fun wait_down/1, group_leader()}];
function(state, _Callers) -> [{plain, fun py_state:operate/1, group_leader()}];
function(apply, Callers) -> [{plain, fun py_apply:run/1, leader(Callers)}];
function({keywords, Name}, _Callers) -> registered(keywords, Name);
function(Name, _Callers) -> registered(plain, Name).

registered(Form, Name) ->
    [{Form, Function, Leader} || {_, Function, Leader} <- ets:lookup(?TABLE, Name)].

%% Returns the group leader of the process that the Python code runs for.
leader([Caller | _]) when node(Caller) =:= node() ->
    case process_info(Caller, group_leader) of
        {group_leader, Leader} -> Leader;
        undefined -> group_leader()
    end;
leader(_Callers) ->
    group_leader().

outcome([], _Args) ->
    not_registered;
outcome([{keywords, Function, _Leader}], _Args) when not is_function(Function, 2) ->
    no_keywords;
outcome([{Form, Function, Leader}], Args) ->
    ok = join(Leader),
    try
        {ok, apply_function(Form, Function, args(Args))}
    catch
        Class:Reason:Stacktrace -> {Class, Reason, Stacktrace}
    end.

%% Makes the calling process, and what it spawns, one of the group of the process that has
%% registered the function: both have the same output, and the end of this application, which kills
%% its group, spares the processes that the function has spawned. A group whose leader is dead has
%% no output.
join(Leader) when node(Leader) =/= node() ->
    true = group_leader(Leader, self()),
    ok;
join(Leader) ->
    _ = is_process_alive(Leader) andalso group_leader(Leader, self()),
    ok.

apply_function(keywords, Function, [Args, Kwargs]) when is_list(Args), is_map(Kwargs) -> Function(Args, Kwargs);
apply_function(plain, {Module, Function}, Args) -> Module:Function(Args);
apply_function(plain, Function, Args) when is_function(Function, 2) -> Function(Args, #{});
apply_function(plain, Function, Args) -> Function(Args).

args({ok, Args}) -> Args;
args({external, Args}) -> binary_to_term(Args);
args({child, Args}) -> binary_to_term(Args, [safe]).

%% Called by `erlang.Monitor.wait', which reads the outcome from the monitor itself.
wait_down([]) ->
    %% Returns when each monitor that was asked for before is set.
    gen_server:call(?MODULE, sync, infinity);
wait_down([Id, none]) ->
    gen_server:call(?MODULE, {await_down, Id}, infinity);
wait_down([Id, Milliseconds]) ->
    try
        gen_server:call(?MODULE, {await_down, Id}, min(Milliseconds, ?MAX_TIMEOUT))
    catch
        exit:{timeout, _} -> none
    end.
