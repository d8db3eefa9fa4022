%% @private
%% What Python code writes: takes it from the native side, and has it written to the group leader of the
%% process that the code runs for, or to `logger'.
%%
%% A process for each group leader writes, one batch at a time, so that a group leader that hangs holds up
%% no other. What waits for one process is bounded by the native side, which counts it until `written'.
-module(py_output).
-behaviour(gen_server).

-export([start_link/0, sync/0, capture/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% Milliseconds for which a caller waits until the output of its call is written, and for which a stop of
%% the application waits.
-define(PATIENCE, 1000).

-type leader() :: pid() | logger.
-type item() :: {none | pid(), stdout | stderr | py_nif:log_place(), binary(), Cost :: pos_integer()}
              | {sync, gen_server:from()}.

-record(writer, {
    pid :: pid(),
    %% What the process writes, and the callers that wait for it.
    batch :: [item()],
    %% What comes next, the last item first.
    next = [] :: [item()],
    %% A caller has waited for the process in vain.
    is_stuck = false :: boolean()
}).

-record(state, {
    stdio :: group_leader | logger | inherit,
    writers = #{} :: #{leader() => #writer{}},
    leaders = #{} :: #{pid() => leader()}
}).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%% @doc Returns when the output so far of the calling process's code is written, or when its group leader
%% has taken too long. Called after a call whose code has written something.
-spec sync() -> ok.
sync() ->
    case group_leader() of
        %% Waits for this call, and so cannot write.
        Self when Self =:= self() ->
            ok;
        Leader ->
            try
                gen_server:call(?MODULE, {sync, Leader}, 5 * ?PATIENCE)
            catch
                %% The application stops, or has not started yet: a preload has written.
                exit:_ -> ok
            end
    end.

%% @doc Runs Fun with a group leader that keeps what is written; returns the result, and the text.
-spec capture(fun(() -> Result)) -> {Result, binary()}.
capture(Fun) ->
    Leader = group_leader(),
    %% What was written before goes where it belongs.
    ok = sync(),
    Owner = self(),
    {Capture, Monitor} = spawn_monitor(fun() -> py_capture:run(Owner, Leader) end),
    true = group_leader(Capture, self()),
    try Fun() of
        Result ->
            ok = sync(),
            {Result, py_capture:text(Capture, Monitor)}
    after
        true = group_leader(Leader, self()),
        true = demonitor(Monitor, [flush]),
        true = exit(Capture, kill)
    end.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, Stdio} = application:get_env(erlang_python, stdio),
    %% Text may wait since the preload, or since a crash of this process.
    _ = py_nif:serve_output(Stdio =:= inherit) andalso (self() ! {py_output, ready}),
    {ok, #state{stdio = Stdio}}.

-spec handle_call({sync, pid()}, gen_server:from(), #state{}) ->
    {noreply, #state{}} | {reply, ok, #state{}} | {reply, {error, unknown_call}, #state{}}.
handle_call({sync, _Leader}, _From, #state{stdio = logger} = State) ->
    %% A handler of `logger' that calls Python would wait for itself.
    {reply, ok, State};
handle_call({sync, Leader}, From, State0) ->
    #state{writers = Writers} = State = take_all(State0),
    case Writers of
        #{Leader := #writer{is_stuck = false}} ->
            _ = erlang:send_after(?PATIENCE, self(), {late, Leader, From}),
            {noreply, add(Leader, {sync, From}, State)};
        _ ->
            {reply, ok, State}
    end;
handle_call(_, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({py_output, ready}, State0) ->
    case take(State0) of
        {more, State} ->
            %% Other messages have their turn in between.
            self() ! {py_output, ready},
            {noreply, State};
        {done, State} ->
            {noreply, State}
    end;
handle_info({'EXIT', Pid, _Reason}, #state{leaders = Leaders} = State) ->
    case Leaders of
        #{Pid := Leader} -> {noreply, written(Leader, State#state{leaders = maps:remove(Pid, Leaders)})};
        _ -> {noreply, State}
    end;
handle_info({late, Leader, From}, #state{writers = Writers} = State) ->
    case Writers of
        #{Leader := #writer{batch = Batch, next = Next} = Writer} ->
            case lists:member({sync, From}, Batch ++ Next) of
                true -> {noreply, State#state{writers = Writers#{Leader := stuck(Writer)}}};
                %% Its text is written.
                false -> {noreply, State}
            end;
        _ ->
            {noreply, State}
    end;
handle_info(_, State) ->
    {noreply, State}.

%% The last lines of a program are not lost.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State) ->
    wait_for_writers(take_all(State), py_call:deadline(erlang:monotonic_time(millisecond), ?PATIENCE)).

wait_for_writers(#state{leaders = Leaders}, _Deadline) when map_size(Leaders) =:= 0 ->
    ok;
wait_for_writers(State0, Deadline) ->
    receive
        {'EXIT', _, _} = Exit ->
            {noreply, State} = handle_info(Exit, State0),
            wait_for_writers(State, Deadline)
    after py_call:remaining(Deadline) ->
        ok
    end.

%% Nobody waits for a group leader that takes longer.
stuck(#writer{batch = Batch, next = Next} = Writer) ->
    _ = [gen_server:reply(From, ok) || {sync, From} <- Batch ++ Next],
    Writer#writer{batch = [Item || Item <- Batch, not is_sync(Item)],
                  next = [Item || Item <- Next, not is_sync(Item)], is_stuck = true}.

is_sync({sync, _}) -> true;
is_sync(_) -> false.

take_all(State0) ->
    case take(State0) of
        {more, State} -> take_all(State);
        {done, State} -> State
    end.

take(State) ->
    case py_nif:take_output() of
        [] -> {done, State};
        Entries -> {more, lists:foldl(fun dispatch/2, State, Entries)}
    end.

dispatch({_, {log, _, _, _, _, _, _}, _, _} = Entry, State) ->
    add(logger, Entry, State);
dispatch({Caller, _, _, _} = Entry, #state{stdio = Stdio} = State) ->
    case leader(Caller, Stdio) of
        undefined ->
            ok = count([Entry]),
            State;
        Leader ->
            add(Leader, Entry, State)
    end.

%% Text of a process that has ended, or of no process, goes to `user'.
leader(_Caller, logger) ->
    logger;
leader(Caller, _) when is_pid(Caller) ->
    case process_info(Caller, group_leader) of
        {group_leader, Leader} -> Leader;
        undefined -> whereis(user)
    end;
leader(none, _) ->
    whereis(user).

add(Leader, Item, #state{writers = Writers} = State) ->
    case Writers of
        #{Leader := #writer{next = Next} = Writer} ->
            State#state{writers = Writers#{Leader := Writer#writer{next = [Item | Next]}}};
        _ ->
            start(Leader, [Item], State)
    end.

start(Leader, Batch, #state{writers = Writers, leaders = Leaders} = State) ->
    Pid = spawn_link(fun() -> write(Leader, Batch) end),
    State#state{writers = Writers#{Leader => #writer{pid = Pid, batch = Batch}},
                leaders = Leaders#{Pid => Leader}}.

%% The process of a group leader has written its batch, or has failed.
written(Leader, #state{writers = Writers} = State) ->
    #{Leader := #writer{batch = Batch, next = Next}} = Writers,
    _ = [gen_server:reply(From, ok) || {sync, From} <- Batch],
    ok = count(Batch),
    Rest = State#state{writers = maps:remove(Leader, Writers)},
    case lists:reverse(Next) of
        [] -> Rest;
        Items -> start(Leader, Items, Rest)
    end.

count(Batch) ->
    lists:foreach(fun({Caller, _, _, Cost}) ->
                          _ = py_nif:output_written(Caller, Cost) andalso (self() ! {py_output, ready});
                     ({sync, _}) -> ok
                  end, Batch).

write(logger, Batch) ->
    lists:foreach(fun({Caller, Kind, Text, _}) -> py_logging:log({Caller, Kind, Text}) end,
                  [Item || Item <- Batch, not is_sync(Item)]);
write(Leader, Batch) ->
    case [Text || {_, _, Text, _} <- Batch] of
        [] -> ok;
        Texts -> put_chars(Leader, Texts)
    end.

put_chars(Leader, Texts) ->
    try
        ok = io:put_chars(Leader, Texts)
    catch
        %% The group leader has ended, or its node.
        error:_ when Leader =/= user -> put_chars(user, Texts);
        error:_ -> ok
    end.
