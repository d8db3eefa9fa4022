%% Can Python code send messages, find processes, monitor them, and handle Erlang's own terms?
-module(py_message_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, send}, {group, names}, {group, monitors}, {group, terms}].

groups() ->
    [{send, [], [a_pid_gets_a_message, self_is_the_caller, self_within_a_callback_is_the_function,
                 self_in_a_thread_is_an_error, a_name_gets_a_message,
                 a_name_on_this_node_gets_a_message, another_node_gets_a_message,
                 an_unknown_node_gets_nothing, a_dead_pid_is_no_error,
                 nobody_by_that_name_is_an_error,
                 what_is_no_process_is_a_type_error, what_has_no_form_is_an_error,
                 big_messages_arrive, messages_keep_their_order, a_thread_sends]},
     {names, [], [whereis_finds_a_process, atoms_that_exist_are_found,
                  no_atom_is_made_unasked, an_atom_is_made_when_asked,
                  atoms_of_any_script, atoms_have_at_most_255_characters]},
     {monitors, [], [a_monitor_tells_the_reason, a_monitor_of_a_dead_process,
                     a_monitor_of_a_name, a_monitor_of_another_node,
                     waiting_for_a_process, waiting_has_a_timeout,
                     waiting_is_interrupted, demonitor_ends_it,
                     a_monitor_that_is_gone_is_no_burden,
                     monitors_and_calls_are_told_apart]},
     {terms, [], [terms_compare_as_in_erlang, terms_hash_as_they_compare, terms_show_themselves,
                  terms_come_back_identical]}].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

received() ->
    receive Message -> Message after 5000 -> error(no_message) end.

exec(Code) -> exec(Code, #{}).
exec(Code, Locals) -> py:exec(<<"import erlang\n", Code/binary>>, Locals).

erlang(Code) -> erlang(Code, #{}).
erlang(Code, Locals) -> py:eval(<<"__import__('erlang').", Code/binary>>, Locals).

%%% Send

a_pid_gets_a_message(_Config) ->
    ok = exec(<<"erlang.send(p, (erlang.atom('hello'), 1, 'text', {'a': [1, 2]}))">>,
              #{p => self()}),
    {hello, 1, <<"text">>, #{<<"a">> := [1, 2]}} = received().

self_is_the_caller(_Config) ->
    Self = self(),
    {ok, Self} = erlang(<<"self()">>),
    ok = py:bind(),
    {ok, Self} = erlang(<<"self()">>),
    {ok, Ctx} = py:bind(new),
    Code = <<"__import__('erlang').self()">>,
    Other = spawn_link(fun() -> receive go -> Self ! {self(), py:ctx_eval(Ctx, Code)} end end),
    Other ! go,
    {Other, {ok, Other}} = received(),
    ok = py:unbind(Ctx).

self_within_a_callback_is_the_function(_Config) ->
    ok = py:register_function(who, fun([]) ->
        Own = self(),
        {ok, Own} = erlang(<<"self()">>),
        true
    end),
    {ok, true} = erlang(<<"who()">>).

self_in_a_thread_is_an_error(_Config) ->
    ok = exec(<<"
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    try:
        pool.submit(erlang.self).result()
        raise AssertionError
    except RuntimeError as e:
        assert 'no call of an Erlang process' in str(e)
">>).

a_name_gets_a_message(_Config) ->
    true = register(?MODULE, self()),
    ok = exec(<<"erlang.send('py_message_SUITE', 1)">>),
    1 = received(),
    ok = exec(<<"erlang.send(erlang.atom('py_message_SUITE'), 2)">>),
    2 = received().

a_name_on_this_node_gets_a_message(_Config) ->
    true = register(?MODULE, self()),
    Node = atom_to_binary(node()),
    ok = exec(<<"erlang.send(('py_message_SUITE', node), 1)">>, #{node => Node}),
    1 = received(),
    %% A message to a name without a process is no error, as with `!'.
    ok = exec(<<"erlang.send(('ok', node), 1)">>, #{node => Node}).

%% Starts another VM, which is no more than a process there.
another_node_gets_a_message(_Config) ->
    {Peer, Node} = start_node(),
    Self = self(),
    Remote = spawn(Node, fun() -> receive Message -> Self ! {got, Message} end end),
    ok = exec(<<"erlang.send(p, (1, 'two'))">>, #{p => Remote}),
    {got, {1, <<"two">>}} = received(),
    Named = spawn(Node, fun() ->
        register(a_name, self()),
        Self ! registered,
        receive Message -> Self ! {got, Message} end
    end),
    registered = received(),
    _ = a_name,
    ok = exec(<<"erlang.send(('a_name', node), 3)">>, #{node => atom_to_binary(Node)}),
    {got, 3} = received(),
    false = is_alive(Named, Node),
    ok = stop_node(Peer).

is_alive(Pid, Node) ->
    Monitor = monitor(process, Pid),
    receive {'DOWN', Monitor, process, Pid, _} -> false after 5000 -> {true, Node} end.

start_node() ->
    _ = os:cmd("epmd -daemon"),
    {ok, _} = case net_kernel:start([py_test:node_name(), shortnames]) of
        {error, {already_started, Pid}} -> {ok, Pid};
        Started -> Started
    end,
    {ok, Peer, Node} = peer:start_link(#{name => py_test:node_name(), connection => standard_io,
                                        args => ["-setcookie", atom_to_list(erlang:get_cookie())]}),
    pong = net_adm:ping(Node),
    {module, _} = rpc:call(Node, code, load_binary, code()),
    {Peer, Node}.

code() ->
    {Module, Binary, File} = code:get_object_code(?MODULE),
    [Module, File, Binary].

%% Runs on the other node.
forward(To) ->
    receive
        <<"stop">> -> exit(stopped);
        Message -> To ! {got, Message}, forward(To)
    end.

stop_node(Peer) ->
    ok = peer:stop(Peer),
    net_kernel:stop().

an_unknown_node_gets_nothing(_Config) ->
    {error, {'LookupError', #{class := <<"erlang.NotRegistered">>}}} =
        exec(<<"erlang.send(('ok', 'no_such_node@nowhere'), 1)">>).

a_dead_pid_is_no_error(_Config) ->
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
    ok = exec(<<"erlang.send(p, 1)">>, #{p => Pid}).

nobody_by_that_name_is_an_error(_Config) ->
    [{error, {'LookupError', #{class := <<"erlang.NotRegistered">>, message := Text}}} =
         exec(<<"erlang.send(name, 1)">>, #{name => Name})
     || Name <- [<<"no such atom">>, <<"ok">>],
        Text <- [<<"no process is registered as '", Name/binary, "'">>]].

what_is_no_process_is_a_type_error(_Config) ->
    [{error, {'TypeError', _}} = exec(<<"erlang.send(", Dest/binary, ", 1)">>)
     || Dest <- [<<"1">>, <<"None">>, <<"[1]">>, <<"('a', 1)">>, <<"(1, 2, 3)">>]].

what_has_no_form_is_an_error(_Config) ->
    {error, {'ValueError', #{message := Text}}} = exec(<<"
x = []
x.append(x)
erlang.send(p, x)
">>, #{p => self()}),
    {match, _} = re:run(Text, "Cycle").

big_messages_arrive(_Config) ->
    ok = exec(<<"erlang.send(p, {str(i): [i] * 3 for i in range(1000)})">>, #{p => self()}),
    Map = received(),
    1000 = map_size(Map),
    #{<<"999">> := [999, 999, 999]} = Map,
    ok = exec(<<"erlang.send(p, b'x' * 1000000)">>, #{p => self()}),
    1000000 = byte_size(received()).

messages_keep_their_order(_Config) ->
    ok = exec(<<"for i in range(10000): erlang.send(p, i)">>, #{p => self()}),
    [N = received() || N <- lists:seq(0, 9999)].

a_thread_sends(_Config) ->
    ok = exec(<<"
import threading
t = threading.Thread(target=lambda: erlang.send(p, 'from a thread'))
t.start()
t.join()
">>, #{p => self()}),
    <<"from a thread">> = received().

%%% Names

whereis_finds_a_process(_Config) ->
    Pool = whereis(py_pool),
    {ok, Pool} = erlang(<<"whereis('py_pool')">>),
    {ok, Pool} = erlang(<<"whereis(__import__('erlang').atom('py_pool'))">>),
    {ok, none} = erlang(<<"whereis('ok')">>),
    {ok, none} = erlang(<<"whereis('no such atom at all')">>),
    {error, {'TypeError', _}} = erlang(<<"whereis(1)">>).

atoms_that_exist_are_found(_Config) ->
    {ok, ok} = erlang(<<"atom('ok')">>),
    {ok, {ok, 1}} = py:eval(<<"(__import__('erlang').atom('ok'), 1)">>),
    {ok, true} = py:eval(<<"(lambda e: e.atom('ok') == e.atom('ok') != e.atom('error'))"
                           "(__import__('erlang'))">>).

no_atom_is_made_unasked(_Config) ->
    Before = erlang:system_info(atom_count),
    [{error, {'ValueError', _}} = erlang(<<"atom(n)">>, #{n => name(N)}) || N <- lists:seq(1, 100)],
    %% The VM makes a few atoms for itself.
    true = erlang:system_info(atom_count) - Before < 50.

name(N) ->
    <<"never seen ", (integer_to_binary(N))/binary, " ",
      (integer_to_binary(erlang:unique_integer([positive])))/binary>>.

an_atom_is_made_when_asked(_Config) ->
    Name = name(0),
    {ok, Atom} = erlang(<<"atom(n, create=True)">>, #{n => Name}),
    Name = atom_to_binary(Atom),
    {ok, Atom} = erlang(<<"atom(n)">>, #{n => Name}).

atoms_of_any_script(_Config) ->
    Name = <<"атом"/utf8>>,
    Atom = binary_to_atom(Name),
    {ok, Atom} = erlang(<<"atom(n)">>, #{n => Name}),
    {ok, ''} = erlang(<<"atom('')">>).

atoms_have_at_most_255_characters(_Config) ->
    {error, {'ValueError', #{message := <<"an atom has at most 255 characters">>}}} =
        erlang(<<"atom('x' * 256, create=True)">>),
    {ok, Atom} = erlang(<<"atom('x' * 255, create=True)">>),
    255 = length(atom_to_list(Atom)).

%%% Monitors

%% Starts a process that ends with the reason that it is sent.
victim() ->
    spawn(fun() -> receive Reason -> exit(Reason) end end).

a_monitor_tells_the_reason(_Config) ->
    ok = py:bind(),
    Pid = victim(),
    ok = exec(<<"m = erlang.monitor(p)">>, #{p => Pid}),
    {ok, {false, none}} = py:eval(<<"(m.is_down, m.reason)">>),
    Pid ! {because, 1},
    ok = py_test:wait_until(fun() -> {ok, true} =:= py:eval(<<"m.is_down">>) end),
    {ok, {<<"because">>, 1}} = py:eval(<<"m.reason">>),
    {ok, true} = py:eval(<<"m.wait()">>).

a_monitor_of_a_dead_process(_Config) ->
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
    {ok, {true, <<"noproc">>}} =
        py:eval(<<"(lambda m: (m.wait(), m.reason))(__import__('erlang').monitor(p))">>,
                #{p => Pid}).

%% `py_callback' knows both by numbers, which must not be the same. Contexts have numbers as well.
monitors_and_calls_are_told_apart(_Config) ->
    [begin {ok, Ctx} = py:bind(new), ok = py:unbind(Ctx) end || _ <- lists:seq(1, 200)],
    ok = py:bind(),
    Process = spawn(fun() -> receive stop -> ok end end),
    ok = exec(<<"ms = [erlang.monitor(p) for _ in range(100)]">>, #{p => Process}),
    ok = py:register_function(told_apart, fun([N]) -> N end),
    ok = exec(<<"assert all(erlang.call('told_apart', n) == n for n in range(500))">>),
    _ = erlang:send_after(300, Process, stop),
    ok = exec(<<"assert all(m.wait(5) and m.reason == 'normal' for m in ms)">>),
    ok = py:unregister_function(told_apart),
    ok = py:unbind().

a_monitor_of_a_name(_Config) ->
    ok = py:bind(),
    Pid = victim(),
    true = register(?MODULE, Pid),
    ok = exec(<<"m = erlang.monitor('py_message_SUITE')">>),
    Pid ! done,
    {ok, true} = py:eval(<<"m.wait(5)">>),
    {error, {'LookupError', _}} = exec(<<"erlang.monitor('py_message_SUITE')">>).

a_monitor_of_another_node(_Config) ->
    {Peer, Node} = start_node(),
    ok = py:bind(),
    Remote = spawn(Node, fun() -> receive Reason -> exit(Reason) end end),
    Last = spawn(Node, fun() -> receive Reason -> exit(Reason) end end),
    ok = exec(<<"m = erlang.monitor(p)\nn = erlang.monitor(q)">>, #{p => Remote, q => Last}),
    Remote ! gone,
    {ok, {true, <<"gone">>}} = py:eval(<<"(m.wait(5), m.reason)">>),
    %% The handle that the server of callbacks had is dropped, and changes nothing.
    true = garbage_collect(whereis(py_callback)),
    {ok, <<"gone">>} = py:eval(<<"erlang.whereis('py_callback') and m.reason">>),
    ok = peer:stop(Peer),
    {ok, {true, <<"noconnection">>}} = py:eval(<<"(n.wait(5), n.reason)">>),
    ok = net_kernel:stop().

waiting_for_a_process(_Config) ->
    ok = py:bind(),
    Pid = victim(),
    ok = exec(<<"m = erlang.monitor(p)">>, #{p => Pid}),
    Timer = erlang:send_after(100, Pid, done),
    {ok, true} = py:eval(<<"m.wait()">>),
    false = erlang:cancel_timer(Timer),
    {ok, <<"done">>} = py:eval(<<"m.reason">>).

waiting_has_a_timeout(_Config) ->
    ok = py:bind(),
    Pid = victim(),
    ok = exec(<<"m = erlang.monitor(p)">>, #{p => Pid}),
    {ok, false} = py:eval(<<"m.wait(0.05)">>),
    {ok, false} = py:eval(<<"m.wait(0)">>),
    Pid ! done,
    {ok, true} = py:eval(<<"m.wait(5)">>).

waiting_is_interrupted(_Config) ->
    ok = py:bind(),
    Pid = victim(),
    ok = exec(<<"m = erlang.monitor(p)">>, #{p => Pid}),
    {error, timeout} = py:eval(<<"m.wait()">>, #{}, 100),
    {ok, false} = py:eval(<<"m.is_down">>),
    Pid ! done.

demonitor_ends_it(_Config) ->
    ok = py:bind(),
    Pid = victim(),
    ok = exec(<<"m = erlang.monitor(p)\nerlang.demonitor(m)\nerlang.demonitor(m)">>, #{p => Pid}),
    ok = none_monitors(Pid),
    {ok, {false, none}} = py:eval(<<"(m.is_down, m.reason)">>),
    {error, {'ValueError', _}} = py:eval(<<"m.wait()">>),
    Pid ! done.

none_monitors(Pid) ->
    py_test:wait_until(fun() -> {monitored_by, []} =:= process_info(Pid, monitored_by) end).

a_monitor_that_is_gone_is_no_burden(_Config) ->
    Pid = victim(),
    ok = exec(<<"for _ in range(1000): m = erlang.monitor(p)\ndel m">>, #{p => Pid}),
    ok = none_monitors(Pid),
    Pid ! done,
    ok = py_test:wait_until(fun() ->
        #{resources := #{callbacks := Callbacks}} = py_pool:get_stats(),
        Callbacks =:= 0 orelse Callbacks
    end).

%%% Terms

terms_compare_as_in_erlang(_Config) ->
    Terms = lists:usort([make_ref(), make_ref(), self(), whereis(py_pool), fun() -> 1 end,
                         <<1:3>>]),
    {ok, true} = py:eval(<<"sorted(reversed(ts)) == ts and ts[0] < ts[1] and not ts[0] > ts[1] "
                           "and ts[0] == ts[0] and ts[0] != ts[1]">>, #{ts => Terms}),
    {error, {'TypeError', _}} = py:eval(<<"t < 1">>, #{t => self()}),
    {ok, false} = py:eval(<<"t == 1">>, #{t => self()}).

terms_hash_as_they_compare(_Config) ->
    Ref = make_ref(),
    {ok, true} = py:eval(<<"len({a, b}) == 1 and {a: 1}[b] == 1 and hash(a) == hash(b)">>,
                         #{a => Ref, b => Ref}),
    {ok, 2} = py:eval(<<"len({a, b})">>, #{a => Ref, b => make_ref()}).

terms_show_themselves(_Config) ->
    Text = iolist_to_binary(io_lib:format("<erlang.Term ~p>", [self()])),
    {ok, Text} = py:eval(<<"repr(p)">>, #{p => self()}),
    {ok, <<"<erlang.Term ok>">>} = py:eval(<<"repr(__import__('erlang').atom('ok'))">>).

terms_come_back_identical(_Config) ->
    Terms = [make_ref(), self(), fun() -> 1 end, <<1:3>>, hd(erlang:ports())],
    {ok, Terms} = py:eval(<<"ts">>, #{ts => Terms}).
