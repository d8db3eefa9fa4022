%% @private
%% The child processes of one pool: starts them through ports, so that the VM reaps them, and replaces
%% those that end. A value in the server of the pool, which passes it the messages of ports and of the
%% native side.
%%
%% States of a child: starting, ready, retired (told to end, since it is worn). A child that has ended
%% without ever being ready is a failed start: the next one waits, longer each time.
-module(py_children).

-export([start/4, handle/2]).

-export_type([children/0]).

-include_lib("kernel/include/logger.hrl").

-record(child, {handle :: py_nif:child(), port :: port() | undefined,
                phase = starting :: starting | ready | retired,
                timer :: reference() | undefined,
                %% What the child has said of a failed start.
                said = <<>> :: binary()}).

-record(children, {
    native :: py_nif:pool(),
    group :: py_nif:group(),
    options :: py_pool_options:options(),
    totals :: py_totals:totals(),
    %% Children that have ended, or will soon, in whose place none is ready yet.
    missing = 0 :: non_neg_integer(),
    children = #{} :: #{Id :: pos_integer() => #child{}},
    ports = #{} :: #{port() => Id :: pos_integer()},
    %% Failed starts in a row, and the timer of the next attempt.
    failures = 0 :: non_neg_integer(),
    retry :: reference() | undefined
}).

-opaque children() :: #children{}.

%% Milliseconds before the second attempt to start, and at most.
-define(MIN_PAUSE, 100).
-define(MAX_PAUSE, 10000).
%% Milliseconds that a child may take beside its preload.
-define(START_TIMEOUT, 30000).

%% @doc Starts the children of a pool, and returns when as many as serve at once are ready; or the reason
%% why the first one that has failed is not.
-spec start(py_nif:pool(), py_nif:group(), py_pool_options:options(), py_totals:totals()) ->
    {ok, children()} | {error, py_pool:start_error()}.
start(Native, Group, Options, Totals) ->
    await(start_missing(#children{native = Native, group = Group, options = Options, totals = Totals})).

await(#children{options = #{num_workers := Size}} = Children) ->
    case count(ready, Children) >= Size of
        true -> {ok, resize(Children)};
        false -> receive_one(Children)
    end.

receive_one(Children0) ->
    receive
        {py_child, Id, {exited, Exited}} ->
            #children{children = #{Id := Child}} = Children0,
            close(maps:remove(Id, Children0#children.children)),
            {error, {python_not_prepared, failure(Child, Exited)}};
        {'EXIT', Pid, Reason} when is_pid(Pid) ->
            %% The supervisor has ended, or was told to.
            close(Children0#children.children),
            exit(Reason);
        Message when element(1, Message) =:= py_child; is_port(element(1, Message));
                     element(1, Message) =:= timeout; element(1, Message) =:= 'EXIT' ->
            case handle(Message, Children0) of
                {ok, Children} -> await(Children);
                unknown -> await(Children0)
            end
    end.

close(Children) ->
    maps:foreach(fun(_Id, #child{handle = Handle}) -> ok = py_nif:kill_child(Handle) end, Children).

count(Phase, #children{children = Children}) ->
    length([Id || {Id, #child{phase = P}} <- maps:to_list(Children), P =:= Phase]).

%% Starts children until there are as many as there should be. Retired ones do not count.
start_missing(#children{options = #{num_workers := Size, spares := Spares}} = Children) ->
    start_missing(Size + Spares - count(starting, Children) - count(ready, Children), Children).

start_missing(Count, #children{retry = Retry} = Children) when Count =< 0; Retry =/= undefined ->
    Children;
start_missing(Count, Children) ->
    case start_one(Children) of
        {ok, Next} -> start_missing(Count - 1, Next);
        {error, Text} -> failed(Text, Children)
    end.

start_one(#children{group = Group, options = Options} = Children) ->
    case py_nif:open_child(Group) of
        {ok, {Handle, Id, Address}} ->
            #{prepare := #{preload_timeout := Preload}} = Options,
            Timer = case Preload of
                infinity -> undefined;
                _ -> erlang:start_timer(?START_TIMEOUT + Preload, self(), {start, Id})
            end,
            Child = #child{handle = Handle, timer = Timer},
            case open(Options, Address, Handle) of
                {ok, Port} ->
                    #children{children = All, ports = Ports} = Children,
                    {ok, Children#children{children = All#{Id => Child#child{port = Port}},
                                           ports = Ports#{Port => Id}}};
                {error, Text} ->
                    cancel(Timer),
                    %% No process will tell its end.
                    ok = py_nif:child_exited(Handle, 255),
                    {error, Text}
            end;
        {error, Text} ->
            {error, Text}
    end.

%% Starts the process. Its descriptors 3 and 4 are the port; the others are those of the VM.
open(#{python := Python, prepare := #{env := Env} = Prepare, limits := Limits, sandbox := Sandbox}, Address,
     Handle) ->
    Priv = py_runtime:priv_dir(),
    Args = ["-P", filename:join(Priv, "py_child.py"), filename:join(Priv, "py_child.abi3.so")],
    Variables = [{unicode:characters_to_list(Name), unicode:characters_to_list(Value)}
                 || {Name, Value} <- maps:to_list(Env)],
    Options = [nouse_stdio, {packet, 4}, binary, exit_status, hide, {args, Args}, {env, Variables}],
    try open_port({spawn_executable, Python}, Options) of
        Port ->
            #{paths := Paths, preload := Items} = Prepare,
            [Grace, None, Stdio] = [Value || Key <- [interrupt_grace, none, stdio],
                                             {ok, Value} <- [application:get_env(erlang_python, Key)]],
            Config0 = #{paths => Paths, preload => [item(Item) || Item <- Items], limits => Limits,
                       address => unicode:characters_to_binary(Address),
                       settings => #{grace => Grace, <<"none">> => atom_to_binary(None),
                                     inherits_output => Stdio =:= inherit}},
            Config = case Sandbox of none -> Config0; _ -> Config0#{sandbox => Sandbox} end,
            true = port_command(Port, term_to_binary(Config)),
            started(Port, Handle)
    catch
        error:Reason ->
            py_discovery:message("~ts cannot be run: ~ts", [Python, file:format_error(Reason)])
    end.

%% Atoms and binaries are the same text for Python.
item(Module) when is_atom(Module) -> <<"module:", (atom_to_binary(Module))/binary>>;
item(Code) -> <<"code:", Code/binary>>.

started(Port, Handle) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, Pid} ->
            %% Fails for a process that has just ended: the port tells it.
            _ = py_nif:child_started(Handle, Pid),
            {ok, Port};
        undefined ->
            {ok, Port}
    end.

%% @doc Handles a message of a port, a timer or the native side; `unknown' for any other.
-spec handle(term(), children()) -> {ok, children()} | unknown.
handle({py_child, Id, What}, #children{children = All} = Children) ->
    case All of
        #{Id := Child} -> {ok, told(What, Id, Child, Children)};
        #{} -> {ok, Children}
    end;
handle({Port, What}, #children{ports = Ports, children = All} = Children) when is_port(Port) ->
    case Ports of
        #{Port := Id} when is_map_key(Id, All) -> {ok, port(What, Port, Id, Children)};
        #{} -> {ok, Children}
    end;
handle({'EXIT', Port, _Reason}, #children{ports = Ports} = Children) when is_port(Port) ->
    {ok, Children#children{ports = maps:remove(Port, Ports)}};
handle({timeout, _Timer, {start, Id}}, #children{children = All} = Children) ->
    case All of
        #{Id := #child{handle = Handle, phase = starting} = Child} ->
            ok = py_nif:kill_child(Handle),
            Said = <<"it was not ready in time">>,
            {ok, Children#children{children = All#{Id := Child#child{said = Said}}}};
        #{} ->
            {ok, Children}
    end;
handle({timeout, Timer, retry}, #children{retry = Timer} = Children) ->
    {ok, start_missing(Children#children{retry = undefined})};
handle(_, _) ->
    unknown.

port({exit_status, Status}, _Port, Id, #children{children = All} = Children) ->
    #{Id := #child{handle = Handle}} = All,
    %% The native side answers the calls of the child, and tells its end.
    ok = py_nif:child_exited(Handle, Status),
    Children;
port({data, Text}, _Port, Id, #children{children = All} = Children) ->
    #{Id := Child} = All,
    Children#children{children = All#{Id := Child#child{said = Text}}};
port(_, _Port, _Id, Children) ->
    Children.

told(ready, Id, #child{timer = Timer} = Child, #children{children = All} = Children) ->
    cancel(Timer),
    Ready = Child#child{phase = ready, timer = undefined},
    resize(replaced(Children#children{children = All#{Id := Ready}, failures = 0}));
told({failed, Text}, Id, Child, #children{children = All} = Children) ->
    Children#children{children = All#{Id := Child#child{said = Text}}};
told(retired, Id, Child, #children{children = All} = Children) ->
    start_missing(missing(Children#children{children = All#{Id := Child#child{phase = retired}}}));
told({exited, Exited}, Id, #child{phase = Phase, timer = Timer} = Child, Children0) ->
    cancel(Timer),
    Children = Children0#children{children = maps:remove(Id, Children0#children.children)},
    ended(Phase, Id, Child, Exited, Children).

ended(retired, _Id, _Child, _Exited, Children) ->
    Children;
ended(ready, Id, _Child, Exited, #children{totals = Totals} = Children) ->
    ok = py_totals:count(Totals, exited),
    ?LOG_WARNING(#{what => worker_exited, worker => Id, how => Exited}),
    resize(start_missing(missing(Children)));
ended(starting, _Id, Child, Exited, Children) ->
    failed(failure(Child, Exited), Children).

missing(#children{missing = Missing} = Children) ->
    Children#children{missing = Missing + 1}.

%% Counts a child that is ready in the place of another.
replaced(#children{missing = 0} = Children) ->
    Children;
replaced(#children{missing = Missing, totals = Totals} = Children) ->
    ok = py_totals:count(Totals, replaced),
    Children#children{missing = Missing - 1}.

failure(#child{said = <<>>}, Exited) ->
    unicode:characters_to_binary(
        io_lib:format("a child process has ended before it was ready: ~0tp", [Exited]));
failure(#child{said = Said}, _Exited) ->
    Said.

%% Waits before the next attempt. The pool is as big as the children that there are.
failed(Text, #children{failures = Failures} = Children) ->
    Pause = min(?MAX_PAUSE, ?MIN_PAUSE bsl min(Failures, 10)),
    ?LOG_ERROR(#{what => worker_not_started, why => Text, retry_after => Pause}),
    Retry = case Children#children.retry of
        undefined -> erlang:start_timer(Pause, self(), retry);
        Timer -> Timer
    end,
    resize(Children#children{failures = Failures + 1, retry = Retry}).

%% A child that starts counts, unless starts fail.
resize(#children{native = Native, options = #{num_workers := Size}, failures = Failures} = Children) ->
    Starting = case Failures of 0 -> count(starting, Children); _ -> 0 end,
    ok = py_nif:resize_pool(Native, min(Size, count(ready, Children) + Starting)),
    Children.

cancel(undefined) ->
    ok;
cancel(Timer) ->
    _ = erlang:cancel_timer(Timer),
    ok.
