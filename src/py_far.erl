%% @private
%% Messages of Python code to processes of other nodes, and monitors of such processes. Called by
%% `py_callback', which a node that takes no data, or is not connected yet, must not block.
-module(py_far).

-export([new/0, send/4, resume/2, monitor/1, demonitor/1]).

-export_type([queues/0, watch/0]).

-include_lib("kernel/include/logger.hrl").

-type entry() :: {Dest :: term(), Message :: term(), py_nif:outgoing()}.
-opaque queues() :: #{node() | port() => queue:queue(entry())}.
%% The messages that wait for their nodes. Their number is bounded by `erlang.send'. A port has a
%% queue of its own, since it may be busy by itself.
-opaque watch() :: {reference(), pid() | none}.
%% A monitor, and the process that watches a process of another node.

%% Milliseconds after which a node that took no message is tried again.
-define(PAUSE, 10).

-spec new() -> queues().
new() ->
    #{}.

%% @doc Sends a message, after those that wait for the same node. When the node takes no data now,
%% `{py_far, Key}' is sent to the calling process later, for `resume/2'.
-spec send(Dest :: term(), Message :: term(), py_nif:outgoing(), queues()) -> queues().
send(Dest, Message, Outgoing, Queues) ->
    Key = if is_port(Dest) -> Dest; true -> node_of(Dest) end,
    Entry = {Dest, Message, Outgoing},
    case Queues of
        #{Key := Queue} -> Queues#{Key := queue:in(Entry, Queue)};
        #{} -> flush(Key, queue:from_list([Entry]), Queues)
    end.

%% @doc Sends the messages that wait for a node.
-spec resume(node() | port(), queues()) -> queues().
resume(Key, Queues) ->
    #{Key := Queue} = Queues,
    flush(Key, Queue, Queues).

flush(Key, Queue0, Queues) ->
    case queue:out(Queue0) of
        {empty, _} ->
            maps:remove(Key, Queues);
        {{value, Entry}, Queue} ->
            case is_sent(Entry) of
                true ->
                    flush(Key, Queue, Queues);
                false ->
                    _ = erlang:send_after(?PAUSE, self(), {?MODULE, Key}),
                    Queues#{Key => Queue0}
            end
    end.

%% Returns `false' when the buffer of the connection is full. Without a connection the message waits
%% in that buffer until there is one, or is lost when there will be none.
is_sent({Dest, Message, Outgoing}) ->
    try erlang:send(Dest, Message, [nosuspend]) of
        nosuspend -> false;
        ok -> py_nif:sent(Outgoing) =:= ok
    catch
        error:badarg ->
            ?LOG_WARNING(#{what => no_process, dest => Dest}),
            py_nif:sent(Outgoing) =:= ok
    end.

%% @doc Monitors a process for the calling one. Raises `badarg' for a term that is no process.
%% A process of another node is monitored by a process of its own, since the call blocks while the
%% buffer of the connection is full.
-spec monitor(term()) -> {Monitor :: reference(), watch()}.
monitor(Process) ->
    case node_of(Process) =:= node() of
        true ->
            Monitor = erlang:monitor(process, Process),
            {Monitor, {Monitor, none}};
        false ->
            Server = self(),
            {Pid, Monitor} = spawn_monitor(fun() -> watch(Process, Server) end),
            {Monitor, {Monitor, Pid}}
    end.

-spec demonitor(watch()) -> ok.
demonitor({Monitor, Pid}) ->
    true = erlang:demonitor(Monitor, [flush]),
    _ = is_pid(Pid) andalso exit(Pid, kill),
    ok.

%% Ends with the reason of the monitored process; or when the server has ended, or kills this
%% process.
watch(Process, Server) ->
    Own = erlang:monitor(process, Server),
    Far = erlang:monitor(process, Process),
    receive
        {'DOWN', Far, process, _, Reason} -> exit(Reason);
        {'DOWN', Own, process, Server, _} -> ok
    end.

node_of({_Name, Node}) -> Node;
node_of(Dest) when is_pid(Dest); is_port(Dest); is_reference(Dest) -> node(Dest);
node_of(_) -> node().
