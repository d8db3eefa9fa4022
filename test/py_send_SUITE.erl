%% Does a node that is slow, or gone, hold up the messages to it only?
-module(py_send_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 2).
%% Messages that may wait for one node.
-define(CAPACITY, 1000).
%% The number of messages, more than fit into the buffers of a connection.
-define(MANY, 60000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [a_stopped_node_overloads_the_sender, a_monitor_of_a_stopped_node_holds_up_no_callback,
     a_burst_to_a_node_that_is_well_is_not_refused, a_burst_to_a_name_here_is_not_refused,
     messages_keep_their_order_over_a_stop, a_send_that_waits_is_interrupted,
     a_killed_server_leaves_nothing, a_node_that_is_gone_leaves_nothing,
     messages_to_a_node_that_is_down_are_lost].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    {Peer, Node} = py_message_SUITE:start_node(),
    OsPid = rpc:call(Node, os, getpid, []),
    %% A process on the other node sends the messages that it gets to this one.
    Remote = spawn(Node, py_message_SUITE, forward, [self()]),
    [{peer, Peer}, {os_pid, OsPid}, {node, Node}, {remote, Remote} | Config].

%% Continues the stopped process, whatever the result of the case.
end_per_testcase(_Case, Config) ->
    signal("CONT", Config),
    Peer = proplists:get_value(peer, Config),
    _ = is_process_alive(Peer) andalso peer:stop(Peer),
    _ = net_kernel:stop(),
    py_test:end_case(?WORKERS).

signal(Signal, Config) ->
    _ = os:cmd("kill -" ++ Signal ++ " " ++ proplists:get_value(os_pid, Config)),
    ok.

remote(Config) -> proplists:get_value(remote, Config).

exec(Code, Locals) -> exec(Code, Locals, 30000).
exec(Code, Locals, Timeout) ->
    py:exec(<<"import erlang\n", Code/binary>>, Locals, Timeout).

%% Sends until the node is too slow, and returns how many messages were taken.
fill(Remote) ->
    Fill = <<"
n = 0
try:
    while n < many:
        erlang.send(p, (n, b'x' * 2000))
        n += 1
except erlang.Overloaded:
    pass
">>,
    ok = py:bind(),
    ok = exec(Fill, #{p => Remote, many => ?MANY}),
    {ok, Count} = py:eval(<<"n">>),
    ok = py:unbind(),
    true = Count >= ?CAPACITY andalso Count < ?MANY,
    Count.

arrive(Numbers) ->
    [receive {got, {N, _}} -> ok after 20000 -> error({missing, N}) end || N <- Numbers],
    ok.

overloaded(Remote) ->
    {error, {'RuntimeError', #{class := <<"erlang.Overloaded">>}}} =
        exec(<<"erlang.send(p, 1)">>, #{p => Remote}),
    ok.

%% Asserts that there is room for as many messages as the bound: none is counted any more.
no_message_counts(Dest) ->
    exec(<<"for n in range(1000): erlang.send(p, (n, b''))">>, #{p => Dest}).

%%% Slow nodes

a_stopped_node_overloads_the_sender(Config) ->
    Remote = remote(Config),
    ok = py:register_function(echo, fun([X]) -> X end),
    Processes = erlang:system_info(process_count),
    ok = signal("STOP", Config),
    Count = fill(Remote),
    ok = overloaded(Remote),
    true = erlang:system_info(process_count) < Processes + 20,
    %% Messages to other nodes go on.
    ok = exec(<<"erlang.send(p, erlang.echo('here'))">>, #{p => self()}),
    receive <<"here">> -> ok after 5000 -> error(held_up) end,
    %% The accepted messages arrive, in their order.
    ok = signal("CONT", Config),
    ok = arrive(lists:seq(0, Count - 1)),
    ok = no_message_counts(Remote),
    ok = arrive(lists:seq(0, ?CAPACITY - 1)),
    ok = py:unregister_function(echo).

a_monitor_of_a_stopped_node_holds_up_no_callback(Config) ->
    Remote = remote(Config),
    ok = py:register_function(echo, fun([X]) -> X end),
    ok = signal("STOP", Config),
    _ = fill(Remote),
    ok = py:bind(),
    ok = exec(<<"m = erlang.monitor(p)">>, #{p => Remote}),
    {ok, 1} = py:eval(<<"__import__('erlang').echo(1)">>, #{}, 5000),
    ok = exec(<<"erlang.demonitor(m)">>, #{}),
    {ok, 2} = py:eval(<<"__import__('erlang').echo(2)">>, #{}, 5000),
    ok = signal("CONT", Config),
    ok = exec(<<"
m = erlang.monitor(p)
erlang.send(p, 'stop')
assert m.wait(20) and m.reason == 'stopped', m.reason
">>, #{p => Remote}),
    ok = forget(),
    ok = py:unbind(),
    ok = py:unregister_function(echo).

forget() ->
    receive {got, _} -> forget() after 0 -> ok end.

a_burst_to_a_node_that_is_well_is_not_refused(Config) ->
    ok = exec(<<"for n in range(20000): erlang.send(p, (n, b'x' * 500))">>,
              #{p => remote(Config)}),
    ok = arrive(lists:seq(0, 19999)).

a_burst_to_a_name_here_is_not_refused(_Config) ->
    true = register(?MODULE, self()),
    ok = exec(<<"for n in range(20000): erlang.send((name, node), n)">>,
              #{name => atom_to_binary(?MODULE), node => atom_to_binary(node())}),
    [receive N -> ok after 20000 -> error({missing, N}) end || N <- lists:seq(0, 19999)].

messages_keep_their_order_over_a_stop(Config) ->
    Remote = remote(Config),
    ok = signal("STOP", Config),
    Count = fill(Remote),
    ok = signal("CONT", Config),
    %% Messages are sent while the queue is emptied, and after that.
    ok = exec(<<"for n in range(first, first + 2000): erlang.send(p, (n, b''))">>,
              #{p => Remote, first => Count}),
    ok = arrive(lists:seq(0, Count + 1999)).

a_send_that_waits_is_interrupted(Config) ->
    Remote = remote(Config),
    ok = signal("STOP", Config),
    Count = fill(Remote),
    Abandoned = py_test:abandoned(),
    {error, timeout} = exec(<<"
while True:
    try:
        erlang.send(p, 1)
    except erlang.Overloaded:
        pass
">>, #{p => Remote}, 100),
    ok = py_test:wait_available(?WORKERS),
    Abandoned = py_test:abandoned(),
    ok = signal("CONT", Config),
    ok = arrive(lists:seq(0, Count - 1)).

%%% Ends

a_killed_server_leaves_nothing(Config) ->
    Remote = remote(Config),
    ok = signal("STOP", Config),
    _ = fill(Remote),
    Server = whereis(py_callback),
    exit(Server, kill),
    ok = py_test:wait_until(fun() ->
        is_pid(whereis(py_callback)) andalso whereis(py_callback) =/= Server
    end),
    %% The messages that waited for the node do not count any more.
    ok = no_message_counts(Remote),
    ok = signal("CONT", Config),
    ok = exec(<<"erlang.send(p, 'last')">>, #{p => Remote}),
    ok = receive_until_last().

receive_until_last() ->
    receive
        {got, <<"last">>} -> ok;
        {got, _} -> receive_until_last()
    after 20000 -> error(no_last)
    end.

a_node_that_is_gone_leaves_nothing(Config) ->
    Remote = remote(Config),
    ok = signal("STOP", Config),
    _ = fill(Remote),
    ok = signal("KILL", Config),
    ok = py_test:wait_until(fun() -> nodes() =:= [] orelse nodes() end),
    ok = no_message_counts(Remote).

messages_to_a_node_that_is_down_are_lost(Config) ->
    Node = proplists:get_value(node, Config),
    ok = peer:stop(proplists:get_value(peer, Config)),
    ok = py_test:wait_until(fun() -> nodes() =:= [] orelse nodes() end),
    ok = exec(<<"
for n in range(2000):
    erlang.send(p, n)
    erlang.send(('ok', node), n)
">>, #{p => remote(Config), node => atom_to_binary(Node)}),
    ok = no_message_counts(remote(Config)).
