%% Does what Python code writes reach the group leader of the process that the code runs for: whole, in
%% order, within bounds, and whatever the group leader does?
-module(py_output_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [a_print_is_written_before_the_call_returns, standard_error_too, lines_are_whole, text_without_a_line_end,
     a_flush_in_mid_line, every_kind_of_write, text_of_any_kind, a_megabyte_without_a_newline, tracebacks_of_threads,
     output_of_contexts, output_of_streams_and_tasks, output_of_calls_under_way, threads_that_outlive_the_job,
     nested_calls_keep_their_order, callers_have_their_own, a_caller_that_has_died, a_group_leader_that_has_died,
     a_group_leader_that_hangs, a_group_leader_that_is_the_caller, a_group_leader_that_calls_python,
     a_group_leader_that_dies_in_mid_line, output_on_another_node, with_output_returns_both, with_output_of_an_error,
     with_output_passes_requests_on, with_output_within_with_output, streams_look_like_streams, a_stream_of_ones_own,
     one_hundred_writers, the_key_stdio_logger, the_key_stdio_inherit, the_server_of_output_may_crash, a_stop_loses_nothing,
     threads_that_the_call_waits_for, bytes_of_two_callers, streams_that_are_closed, a_late_sync, bad_arguments].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 4}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(4),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(4).

%% Returns what the code writes in a call of its own.
written(Code) ->
    {ok, Text} = py:with_output(fun() -> py:exec(Code) end),
    Text.

%% A group leader that tells the test what it gets, and answers as `Answer' says.
leader(Answer) ->
    Self = self(),
    spawn_link(fun() -> lead(Self, Answer) end).

lead(Test, Answer) ->
    receive
        {io_request, From, ReplyAs, {put_chars, unicode, Chars}} ->
            Test ! {written, unicode:characters_to_binary(Chars)},
            Answer(From, ReplyAs),
            lead(Test, Answer)
    end.

answer(From, ReplyAs) ->
    From ! {io_reply, ReplyAs, ok}.

with_leader(Leader, Fun) ->
    Own = group_leader(),
    true = group_leader(Leader, self()),
    try Fun() after true = group_leader(Own, self()) end.

told() ->
    receive {written, Text} -> <<Text/binary, (told())/binary>> after 0 -> <<>> end.

told_until(Text) ->
    told_until(Text, <<>>).

told_until(Text, Text) ->
    ok;
told_until(Text, Told) ->
    receive {written, More} -> told_until(Text, <<Told/binary, More/binary>>)
    after 20000 -> ct:fail({Text, Told})
    end.

is_told(Part) ->
    binary:match(told(), Part) =/= nomatch.

end_leader(Leader) ->
    true = unlink(Leader),
    Monitor = monitor(process, Leader),
    true = exit(Leader, kill),
    receive {'DOWN', Monitor, process, Leader, _} -> ok end.

a_print_is_written_before_the_call_returns(_Config) ->
    Leader = leader(fun answer/2),
    with_leader(Leader, fun() ->
        [begin
             ok = py:exec(["print(", integer_to_list(I), ")"]),
             Line = <<(integer_to_binary(I))/binary, "\n">>,
             Line = told()
         end || I <- lists:seq(1, 200)]
    end),
    end_leader(Leader).

standard_error_too(_Config) ->
    <<"out\nerr\nagain\n">> =
        written(<<"import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.stdout.write('again\\n')">>).

lines_are_whole(_Config) ->
    ok = py:exec(<<"import threading\n"
                   "def write(n):\n"
                   "    for _ in range(200):\n"
                   "        print(n, n, n, n, sep='-')\n">>),
    Text = written(<<"import threading\n"
                     "def write(n):\n"
                     "    for _ in range(200):\n"
                     "        print(n, n, n, n, sep='-')\n"
                     "threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]\n"
                     "[t.start() for t in threads]\n[t.join() for t in threads]">>),
    Lines = binary:split(Text, <<"\n">>, [global, trim]),
    1600 = length(Lines),
    [true = lists:member(Line, [unicode:characters_to_binary(lists:join("-", lists:duplicate(4, integer_to_list(N))))
                                || N <- lists:seq(0, 7)]) || Line <- Lines],
    ok.

text_without_a_line_end(_Config) ->
    <<"abc">> = written(<<"print('a', end='')\nprint('b', end='')\nprint('c', end='')">>),
    <<"ab\nc">> = written(<<"print('a', end='')\nprint('b\\nc', end='')">>),
    %% The next call begins with nothing.
    <<"d\n">> = written(<<"print('d')">>),
    <<>> = written(<<"print(end='')">>).

a_flush_in_mid_line(_Config) ->
    Leader = leader(fun answer/2),
    with_leader(Leader, fun() ->
        {ok, Ctx} = py:bind(new),
        ok = py:ctx_exec(Ctx, <<"import time\ndef work():\n    print('half', end='', flush=True)\n"
                                "    time.sleep(0.3)\n    print(' whole')">>),
        Call = py:ctx_call_async(Ctx, '__main__', work, []),
        ok = told_until(<<"half">>),
        {ok, none} = py:await(Call),
        <<" whole\n">> = told(),
        ok = py:unbind(Ctx)
    end),
    end_leader(Leader).

every_kind_of_write(_Config) ->
    <<"1\n2\n3 4\n5\n6">> =
        written(<<"import sys\nsys.stdout.writelines(['1\\n', '2\\n'])\nprint(3, 4)\n"
                  "sys.stdout.buffer.write(b'5\\n')\nsys.stdout.buffer.flush()\n"
                  "assert sys.stdout.write('6') == 1\nsys.stdout.flush()">>).

text_of_any_kind(_Config) ->
    <<"ä€😀\n"/utf8>> = written(<<"print('\\u00e4\\u20ac\\U0001F600')">>),
    <<"a\\ud800b\n">> = written(<<"print('a\\ud800b')">>),
    <<"\\xff\n">> = written(<<"import sys\nsys.stdout.buffer.write(b'\\xff\\n')">>),
    <<"a\0b\n">> = written(<<"print('a\\0b')">>),
    %% Half a character at a time.
    <<"ä\n"/utf8>> = written(<<"import sys\nfor b in '\\u00e4\\n'.encode(): sys.stdout.buffer.write(bytes([b]))">>).

a_megabyte_without_a_newline(_Config) ->
    Text = written(<<"import sys\nfor _ in range(1024): sys.stdout.write('x' * 1024)">>),
    true = Text =:= binary:copy(<<"x">>, 1 bsl 20),
    Umlauts = written(<<"print('\\u00e4' * 1000000, end='')">>),
    true = Umlauts =:= binary:copy(<<"ä"/utf8>>, 1000000).

tracebacks_of_threads(_Config) ->
    Text = written(<<"import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()">>),
    ok = py_test:contains(Text, <<"ZeroDivisionError: division by zero\n">>).

output_of_contexts(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, <<"in a context\n">>} = py:with_output(fun() -> py:ctx_exec(Ctx, <<"print('in a context')">>) end),
    {{ok, none}, <<"by a call\n">>} =
        py:with_output(fun() -> py:ctx_call(Ctx, builtins, print, [<<"by a call">>]) end),
    {{error, {'ZeroDivisionError', _}}, <<"before\n">>} =
        py:with_output(fun() -> py:ctx_exec(Ctx, <<"print('before')\n1 / 0">>) end),
    {{error, timeout}, Before} =
        py:with_output(fun() -> py:ctx_exec(Ctx, <<"print('slow')\nimport time\ntime.sleep(60)">>, #{}, 500) end),
    <<"slow\n">> = Before,
    ok = py:unbind(Ctx).

output_of_streams_and_tasks(_Config) ->
    {{ok, [1, 2]}, <<"one\ntwo\n">>} =
        py:with_output(fun() -> py:stream_eval(<<"(print(t) or n for n, t in [(1, 'one'), (2, 'two')])">>) end),
    ok = py:bind(),
    ok = py:exec(<<"import asyncio\nasync def say(text):\n    print(text, end='')\n    await asyncio.sleep(0.01)\n    print('!')">>),
    {{ok, [none, none, none]}, Text} =
        py:with_output(fun() -> py:async_gather([{'__main__', say, [Word]} || Word <- [<<"a">>, <<"b">>, <<"c">>]]) end),
    %% A line may be cut where a task waits.
    [$!, $!, $!, $\n, $\n, $\n, $a, $b, $c] = lists:sort(fun by_kind/2, binary_to_list(Text)),
    ok = py:unbind().

by_kind(A, B) -> kind(A) =< kind(B).
kind($!) -> 0;
kind($\n) -> 1;
kind(C) -> C.

output_of_calls_under_way(_Config) ->
    {{ok, none}, <<"later\n">>} =
        py:with_output(fun() -> py:await(py:call_async(builtins, print, [<<"later">>])) end),
    {{ok, [none, none]}, _} =
        py:with_output(fun() -> py:async_gather([{builtins, print, [1]}, {builtins, print, [2]}]) end).

threads_that_outlive_the_job(_Config) ->
    Leader = leader(fun answer/2),
    with_leader(Leader, fun() ->
        ok = py:bind(),
        ok = py:exec(<<"import threading, time\ngo = threading.Event()\n"
                       "def later():\n    go.wait()\n    print('from a thread')\n    inner = threading.Thread(target=print, args=('from its thread',))\n"
                       "    inner.start()\n"
                       "threading.Thread(target=later).start()">>),
        <<>> = told(),
        ok = py:exec(<<"go.set()">>),
        ok = told_until(<<"from a thread\nfrom its thread\n">>),
        ok = py:unbind()
    end),
    end_leader(Leader).

nested_calls_keep_their_order(_Config) ->
    ok = py:register_function(print_inside, fun([Text]) -> py:exec([<<"print('">>, Text, <<"')">>]), ok end),
    Leader = leader(fun answer/2),
    %% The process of a callback has the group leader of whoever registered the function.
    with_leader(Leader, fun() ->
        ok = py:register_function(print_inside, fun([Text]) -> py:exec([<<"print('">>, Text, <<"')">>]), ok end),
        ok = py:exec(<<"import erlang\nprint('1')\nerlang.print_inside('2')\nprint('3')">>),
        <<"1\n2\n3\n">> = told()
    end),
    ok = py:unregister_function(print_inside),
    end_leader(Leader).

callers_have_their_own(_Config) ->
    Texts = [begin
                 Name = integer_to_binary(N),
                 py_test:start_call(fun() ->
                     {_, Text} = py:with_output(fun() ->
                         [ok = py:exec([<<"print(">>, Name, <<")">>]) || _ <- lists:seq(1, 50)]
                     end),
                     {Text, binary:copy(<<Name/binary, "\n">>, 50)}
                 end)
             end || N <- lists:seq(1, 8)],
    [begin {Same, Same} = py_test:result(Call) end || Call <- Texts],
    ok.

%% The text goes to `user', and nothing is left behind.
a_caller_that_has_died(_Config) ->
    Self = self(),
    User = whereis(user),
    Fake = leader(fun answer/2),
    true = unregister(user),
    true = register(user, Fake),
    try
        {Caller, Monitor} = spawn_monitor(fun() ->
            {ok, Ctx} = py:bind(new),
            Self ! {ctx, Ctx},
            ok = py:ctx_exec(Ctx, <<"import threading, time\n"
                                    "threading.Thread(target=lambda: (time.sleep(0.3), print('of the dead'))).start()">>)
        end),
        Ctx = receive {ctx, Handle} -> Handle end,
        true = is_reference(Ctx),
        receive {'DOWN', Monitor, process, Caller, _} -> ok end,
        py_test:wait_until(fun() -> is_told(<<"of the dead\n">>) end)
    after
        true = unregister(user),
        true = register(user, User)
    end,
    end_leader(Fake).

a_group_leader_that_has_died(_Config) ->
    User = whereis(user),
    Fake = leader(fun answer/2),
    Dead = spawn(fun() -> ok end),
    true = unregister(user),
    true = register(user, Fake),
    try
        with_leader(Dead, fun() -> ok = py:exec(<<"print('nobody hears')">>) end),
        ok = told_until(<<"nobody hears\n">>)
    after
        true = unregister(user),
        true = register(user, User)
    end,
    end_leader(Fake).

%% A caller waits for a moment; code goes on, and loses what is too much; others notice nothing.
a_group_leader_that_hangs(_Config) ->
    Leader = leader(fun(_, _) -> receive never -> ok end end),
    with_leader(Leader, fun() ->
        ok = py:exec(<<"print('stuck')">>),
        %% Nobody waits a second time.
        [ok = py:exec(<<"print('stuck again')">>) || _ <- lists:seq(1, 100)],
        ok = py:exec(<<"for _ in range(300): print('x' * 100_000)">>, #{}, 20000),
        ok = py:exec(<<"for _ in range(300): print('x' * 100_000)">>, #{}, 20000)
    end),
    <<"others\n">> = py_test:in_process(fun() -> written(<<"print('others')">>) end),
    end_leader(Leader),
    %% What waited has gone to `user'; then the count begins anew.
    py_test:wait_until(fun() -> written(<<"print('again')">>) =:= <<"again\n">> end).

a_group_leader_that_is_the_caller(_Config) ->
    ok = py_test:in_process(fun() ->
        true = group_leader(self(), self()),
        ok = py:exec(<<"print('to myself')">>),
        receive {io_request, From, As, {put_chars, unicode, Text}} ->
            <<"to myself\n">> = unicode:characters_to_binary(Text),
            From ! {io_reply, As, ok}
        end,
        ok
    end).

a_group_leader_that_calls_python(_Config) ->
    Self = self(),
    Leader = spawn_link(fun() -> lead(Self, fun(From, As) ->
        {ok, 4} = py:eval(<<"2 + 2">>),
        From ! {io_reply, As, ok}
    end) end),
    with_leader(Leader, fun() -> ok = py:exec(<<"print('one')\nprint('two')">>) end),
    <<"one\ntwo\n">> = told(),
    end_leader(Leader).

a_group_leader_that_dies_in_mid_line(_Config) ->
    [begin
         Leader = leader(fun(_, _) -> exit(normal) end),
         with_leader(Leader, fun() ->
             ok = py:exec(<<"print('half', end='', flush=True)\nprint(' line')\nprint('more')">>)
         end)
     end || _ <- lists:seq(1, 20)],
    _ = told(),
    <<"fine\n">> = written(<<"print('fine')">>).

output_on_another_node(_Config) ->
    ok = distribute(),
    {ok, Peer, Node} = peer:start_link(#{name => peer:random_name(), args => ["-pa" | code:get_path()]}),
    Self = self(),
    Leader = spawn(Node, ?MODULE, lead_far, [Self]),
    with_leader(Leader, fun() ->
        ok = py:exec(<<"print('far')">>),
        <<"far\n">> = told()
    end),
    User = whereis(user),
    Fake = leader(fun answer/2),
    true = unregister(user),
    true = register(user, Fake),
    try
        ok = peer:stop(Peer),
        with_leader(Leader, fun() -> ok = py:exec(<<"print('gone')">>) end),
        ok = told_until(<<"gone\n">>)
    after
        true = unregister(user),
        true = register(user, User)
    end,
    end_leader(Fake).

lead_far(Test) ->
    lead(Test, fun answer/2).

distribute() ->
    case node() of
        nonode@nohost ->
            _ = os:cmd("epmd -daemon"),
            {ok, _} = net_kernel:start([py_test:node_name(), shortnames]),
            ok;
        _ ->
            ok
    end.

with_output_returns_both(_Config) ->
    {{ok, 3}, <<"one\n">>} = py:with_output(fun() -> py:run(<<"print('one')\n3">>) end),
    {result, <<"from python\nfrom erlang\n">>} =
        py:with_output(fun() -> ok = py:exec(<<"print('from python')">>), io:format("from erlang~n"), result end),
    {ok, <<>>} = py:with_output(fun() -> ok end),
    %% What was written before is not caught.
    Leader = leader(fun answer/2),
    with_leader(Leader, fun() ->
        ok = py:exec(<<"print('before')">>),
        {ok, <<"within\n">>} = py:with_output(fun() -> py:exec(<<"print('within')">>) end),
        ok = py:exec(<<"print('after')">>)
    end),
    <<"before\nafter\n">> = told(),
    end_leader(Leader).

with_output_of_an_error(_Config) ->
    Leader = group_leader(),
    {raised, oops} = py_test:caught(fun() -> py:with_output(fun() -> error(oops) end) end),
    {'EXIT', thrown} = try py:with_output(fun() -> throw(thrown) end) catch throw:Thrown -> {'EXIT', Thrown} end,
    Leader = group_leader().

with_output_passes_requests_on(_Config) ->
    Self = self(),
    Leader = spawn_link(fun() ->
        receive {io_request, From, As, {get_line, unicode, _}} -> From ! {io_reply, As, "line\n"} end,
        Self ! done
    end),
    with_leader(Leader, fun() ->
        {"line\n", <<"both\nä"/utf8>>} = py:with_output(fun() ->
            ok = io:put_chars("both\n"),
            ok = io:put_chars([228]),
            io:get_line("")
        end)
    end),
    receive done -> ok end.

with_output_within_with_output(_Config) ->
    {{inner, <<"2\n">>}, <<"1\n3\n">>} = py:with_output(fun() ->
        ok = py:exec(<<"print(1)">>),
        Inner = py:with_output(fun() -> ok = py:exec(<<"print(2)">>), inner end),
        ok = py:exec(<<"print(3)">>),
        Inner
    end).

streams_look_like_streams(_Config) ->
    {ok, {<<"utf-8">>, false, true, false, true, <<"<stdout>">>, 1, 2}} =
        py:run(<<"import sys, io\nassert isinstance(sys.stdout, io.TextIOBase)\nsys.stdout.reconfigure(encoding='utf-8')\n"
                 "(sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.writable(), sys.stdout.readable(),\n"
                 " sys.stdout.line_buffering, sys.stdout.name, sys.stdout.fileno(), sys.stderr.fileno())">>),
    {error, {'TypeError', #{message := <<"write() argument must be str, not int">>}}} =
        py:exec(<<"import sys\nsys.stdout.write(5)">>),
    {error, {'TypeError', _}} = py:exec(<<"import sys\nsys.stdout.buffer.write('text')">>),
    {error, {'UnsupportedOperation', _}} = case py:exec(<<"import sys\nsys.stdout.read()">>) of
        {error, {_, #{class := <<"io.UnsupportedOperation">>} = Info}} -> {error, {'UnsupportedOperation', Info}};
        Other -> Other
    end,
    {ok, 0} = py:run(<<"import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'pass'], stdout=sys.stdout, check=True).returncode">>).

%% Code may capture its own output as in any Python.
a_stream_of_ones_own(_Config) ->
    {{ok, <<"mine\n">>}, <<"theirs\n">>} = py:with_output(fun() ->
        py:run(<<"import io, contextlib\nmine = io.StringIO()\n"
                 "with contextlib.redirect_stdout(mine): print('mine')\n"
                 "print('theirs')\nmine.getvalue()">>)
    end).

one_hundred_writers(_Config) ->
    Calls = [py_test:start_call(fun() ->
        {ok, Text} = py:with_output(fun() -> py:exec(<<"for i in range(100): print(i)">>, #{}, infinity) end),
        length(binary:split(Text, <<"\n">>, [global, trim]))
    end) || _ <- lists:seq(1, 100)],
    [100 = py_test:result(Call) || Call <- Calls],
    ok.

%%% The key `stdio'

the_key_stdio_logger(_Config) ->
    restart([{stdio, logger}]),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{test => self()}}),
    ok = py:exec(<<"import sys\nprint('to the log')\nprint('ä', file=sys.stderr)"/utf8>>),
    receive {logged, notice, <<"to the log">>, #{python := #{stream := stdout}, pid := Pid}} -> Pid = self() end,
    receive {logged, warning, <<"ä"/utf8>>, #{python := #{stream := stderr}}} -> ok end,
    {ok, <<>>} = py:with_output(fun() -> py:exec(<<"print('not caught')">>) end),
    receive {logged, notice, <<"not caught">>, _} -> ok end,
    ok = logger:remove_handler(?MODULE),
    restart([]).

log(#{level := Level, msg := {Format, Args}, meta := #{domain := [python]} = Meta}, #{config := #{test := Test}}) ->
    Test ! {logged, Level, unicode:characters_to_binary(io_lib:format(Format, Args)), Meta};
log(_, _) ->
    ok.

the_key_stdio_inherit(_Config) ->
    restart([{stdio, inherit}]),
    {ok, <<>>} = py:with_output(fun() -> py:exec(<<"print('to the descriptor')">>) end),
    {ok, 3} = py:run(<<"import sys\nsys.stdout.write('abc')">>),
    restart([]),
    {ok, <<"caught\n">>} = py:with_output(fun() -> py:exec(<<"print('caught')">>) end),
    ok = py_test:stop(),
    {error, {{invalid_env, stdio, file}, _}} = py_test:start_error([{stdio, file}]),
    ok = py_test:start_with([{num_workers, 4}]).

the_server_of_output_may_crash(_Config) ->
    true = exit(whereis(py_output), kill),
    py_test:wait_until(fun() -> is_pid(whereis(py_output)) end),
    py_test:wait_until(fun() -> written(<<"print('after')">>) =:= <<"after\n">> end).

a_stop_loses_nothing(_Config) ->
    Leader = leader(fun answer/2),
    with_leader(Leader, fun() ->
        {ok, Ctx} = py:bind(new),
        ok = py:ctx_exec(Ctx, <<"import threading, time\n"
                                "threading.Thread(target=lambda: [print(i) for i in range(2000)]).start()\ntime.sleep(0.3)">>)
    end),
    restart([]),
    Lines = binary:split(told(), <<"\n">>, [global, trim]),
    2000 = length(Lines),
    end_leader(Leader).

%% Regression: their text could come after that of Erlang.
threads_that_the_call_waits_for(_Config) ->
    [{ok, <<"py\nerl\n">>} = py:with_output(fun() ->
         ok = py:exec(<<"import threading\nt = threading.Thread(target=print, args=('py',))\nt.start()\nt.join()">>),
         io:put_chars("erl\n")
     end) || _ <- lists:seq(1, 300)],
    {ok, <<"pool\n">>} = py:with_output(fun() ->
        py:exec(<<"import concurrent.futures as c\nwith c.ThreadPoolExecutor(1) as e: e.submit(print, 'pool')">>)
    end).

%% Regression: the end of a character of one caller was shown to the next.
bytes_of_two_callers(_Config) ->
    Code = fun(Bytes) -> ["import sys\nsys.stdout.buffer.write(", Bytes, ")"] end,
    <<"A:\\xc3">> = written(Code("b'A:\\xc3'")),
    <<"\\xa9 of B\n">> = written(Code("b'\\xa9 of B\\n'")),
    <<"\\xe2\\x82">> = written("import sys\nsys.stdout.buffer.write(b'\\xe2\\x82')\nsys.stdout.flush()"),
    <<"x\\xffy\n">> = written(Code("b'x\\xffy\\n'")).

%% Regression: other contexts had closed streams then.
streams_that_are_closed(_Config) ->
    {ok, <<"a\nb\n">>} = py:with_output(fun() ->
        ok = py:exec(<<"import sys\nsys.stdout.close()\nsys.stdout.buffer.close()">>),
        ok = py:exec(<<"import sys\nsys.stdout.writelines(['a\\n'])\nwith sys.stdout: pass\nprint('b')">>)
    end).

%% Regression: a caller whose text was in the second batch of a group leader that hangs waited until its call of
%% the server had timed out.
a_late_sync(_Config) ->
    Test = self(),
    Leader = spawn_link(fun() ->
        receive {io_request, From, As, _} -> Test ! asked, timer:sleep(500), From ! {io_reply, As, ok} end,
        Test ! answered,
        receive never -> ok end
    end),
    with_leader(Leader, fun() ->
        _ = spawn(fun() -> py:exec(<<"print('first')">>) end),
        receive asked -> ok end,
        ok = py:exec(<<"print('second')">>),
        %% The server has answered since it has lost its patience, and not the timer of the call.
        #{Leader := Writer} = element(3, sys:get_state(py_output)),
        true = element(5, Writer)
    end),
    receive answered -> ok end,
    end_leader(Leader).

bad_arguments(_Config) ->
    [{raised, badarg} = py_test:caught(fun() -> py:with_output(Bad) end) || Bad <- [ok, fun(_) -> ok end]],
    ok.

restart(Env) ->
    ok = py:unbind(),
    ok = py_test:stop(),
    ok = py_test:start_with([{num_workers, 4} | Env]).
