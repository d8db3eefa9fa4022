%% Is every error what the documents say, and does it leave nothing behind?
-module(py_errors_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [timeout_is_returned, no_workers_available_is_returned, full_pool_returns_overloaded,
     full_context_returns_overloaded, a_crash_returns_worker_crashed,
     a_crash_ends_an_explicit_context, a_crash_of_an_unbound_worker,
     every_unconvertible_reason, exceptions_are_named_after_their_builtin_class,
     exceptions_derived_from_base_exception, the_interpreter_survives_its_worst_exceptions,
     frames_have_the_lines_of_the_code, frames_of_earlier_code_have_their_source,
     no_frame_has_the_source_of_other_code, the_first_errors_come_at_once,
     syntax_errors_say_where, causes_are_chained, contexts_are_chained, endless_chains_end,
     notes_are_kept, an_exception_that_cannot_be_printed, long_tracebacks_are_cut,
     errors_are_printed_as_python_prints_them, every_reason_can_be_formatted,
     exceptions_mint_no_atoms, an_error_does_not_reach_the_next_caller,
     mistakes_of_the_caller_are_raised].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 4}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:start_with([{num_workers, 4}]),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:unbind(),
    ok = py_test:wait_available(4),
    py_test:assert_empty_mailbox().

exec_error(Code) ->
    {error, {Type, Exception}} = py:exec(Code),
    {Type, Exception}.

timeout_is_returned(_Config) ->
    {error, timeout} = py:eval(<<"__import__('time').sleep(0.2)">>, #{}, 10).

no_workers_available_is_returned(_Config) ->
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, 4)],
    {error, no_workers_available} = py:bind(),
    {error, no_workers_available} = py:bind(new),
    {error, no_workers_available} = py:eval(<<"1">>),
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    {ok, 1} = py:eval(<<"1">>).

full_pool_returns_overloaded(_Config) ->
    ok = py_test:start_with([{num_workers, 4}, {max_pending, 1}]),
    {Ctx, Gate, Blocker} = py_test:blocked_context(),
    {error, overloaded} = py:eval(<<"1">>),
    {error, overloaded} = py:ctx_eval(Ctx, <<"1">>),
    %% The gate itself is opened by a call.
    exit(Blocker, kill),
    ok = py_test:wait_until(fun() -> py_test:try_gate(Gate) end),
    ok = py:unbind(Ctx).

full_context_returns_overloaded(_Config) ->
    {Ctx, Gate, Blocker} = py_test:blocked_context(),
    Self = self(),
    Callers = [spawn_link(fun() -> Self ! {self(), py:ctx_eval(Ctx, <<"1">>)} end)
               || _ <- lists:seq(1, 256)],
    ok = py_test:wait_pending(257),
    {error, overloaded} = py:ctx_eval(Ctx, <<"1">>),
    %% Other contexts are not affected.
    {ok, 1} = py:eval(<<"1">>),
    ok = py_test:open_gate(Gate, Blocker),
    [receive {Caller, {ok, 1}} -> ok end || Caller <- Callers],
    ok = py:unbind(Ctx).

%% A Rust panic that passes through Python is the only way to crash a worker and not the VM.
crash() ->
    <<"
panic = next(c for c in BaseException.__subclasses__() if c.__name__ == 'PanicException')
raise panic('on purpose')
">>.

a_crash_returns_worker_crashed(_Config) ->
    ok = py:bind(),
    {error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>),
    {ok, Thread} = py:call(threading, get_native_id, []),
    [begin
         {error, worker_crashed} = py:exec(crash()),
         false = py:is_bound(),
         ok = py:bind(),
         true = {ok, Thread} =/= py:call(threading, get_native_id, []),
         #{num_workers := 4, checked_out := 1} = py_pool:get_stats()
     end || _ <- lists:seq(1, 10)].

a_crash_ends_an_explicit_context(_Config) ->
    {error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>),
    {ok, Ctx} = py:bind(new),
    {error, worker_crashed} = py:ctx_exec(Ctx, crash()),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok = py:unbind(Ctx).

a_crash_of_an_unbound_worker(_Config) ->
    {error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>),
    [{error, worker_crashed} = py:exec(crash()) || _ <- lists:seq(1, 12)],
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, 4)],
    [{ok, 1} = py:ctx_eval(Ctx, <<"1">>) || Ctx <- Contexts],
    [ok = py:unbind(Ctx) || Ctx <- Contexts].

every_unconvertible_reason(_Config) ->
    %% Objects belong to their worker, if that is a process.
    ok = py:bind(),
    There = fun(Term) ->
        {error, {unconvertible, #{reason := Reason, value := Value}}} =
            py:eval(<<"x">>, #{x => Term}),
        true = is_binary(Value),
        Reason
    end,
    Back = fun(Code) ->
        {error, {unconvertible, #{reason := Reason, value := Value}}} = py:eval(Code),
        true = is_binary(Value),
        Reason
    end,
    improper_list = There([1 | 2]),
    too_deep = There(lists:foldl(fun(_, I) -> [I] end, [], lists:seq(1, 1001))),
    key_collision = There(#{1 => a, true => b}),
    key_collision = There(#{a => 1, <<"a">> => 2}),
    key_collision = There(#{1 => 1, 1.0 => 2}),
    key_collision = There(#{none => 1, nil => 2}),
    unhashable_key = There(#{[1] => 1}),
    unhashable_key = There(#{#{} => 1}),
    Key = fun(Raised) ->
        Class = <<"type('Key', (), {'__hash__': lambda self: (_ for _ in ()).throw(", Raised/binary, ")})()">>,
        {ok, Object} = py:eval(Class),
        #{Object => 1}
    end,
    unhashable_key = There(Key(<<"ZeroDivisionError">>)),
    %% Regression: the hash had been interrupted, or had ended the interpreter.
    {error, {'SystemExit', _}} = py:eval(<<"x">>, #{x => Key(<<"SystemExit">>)}),
    cycle = Back(<<"(lambda x: x.append(x) or x)([])">>),
    cycle = Back(<<"(lambda d: d.update(d=d) or d)({})">>),
    key_collision = Back(<<"{'a': 1, b'a': 2}">>),
    key_collision = Back(<<"dict([('k%d' % n, n) for n in range(200)] + [(b'k199', 0)])">>),
    not_unicode = Back(<<"'\\ud800'">>),
    too_large = Back(<<"1 << 10_000_000">>),
    too_large = Back(<<"-(1 << 10_000_000)">>).

exceptions_are_named_after_their_builtin_class(_Config) ->
    [begin
         {Type, #{class := Class, message := Message}} = exec_error(Code)
     end || {Code, Type, Class, Message} <-
        [{<<"raise ValueError('v')">>, 'ValueError', <<"ValueError">>, <<"v">>},
         {<<"{}['k']">>, 'KeyError', <<"KeyError">>, <<"'k'">>},
         {<<"import json; json.loads('')">>, 'ValueError', <<"json.decoder.JSONDecodeError">>,
          <<"Expecting value: line 1 column 1 (char 0)">>},
         {<<"open('/nonexistent')">>, 'FileNotFoundError', <<"FileNotFoundError">>,
          <<"[Errno 2] No such file or directory: '/nonexistent'">>},
         {<<"raise IOError('i')">>, 'OSError', <<"OSError">>, <<"i">>},
         {<<"class E(Exception): pass\nraise E('e')">>, 'Exception', <<"__main__.E">>, <<"e">>},
         {<<"class E(LookupError, ValueError): pass\nraise E()">>, 'LookupError',
          <<"__main__.E">>, <<>>},
         {<<"def f():\n class E(OSError): pass\n raise E('x')\nf()">>, 'OSError',
          <<"__main__.f.<locals>.E">>, <<"x">>},
         {<<"import nonexistent">>, 'ModuleNotFoundError', <<"ModuleNotFoundError">>,
          <<"No module named 'nonexistent'">>},
         {<<"'é'.encode('ascii')"/utf8>>, 'UnicodeEncodeError', <<"UnicodeEncodeError">>,
          <<"'ascii' codec can't encode character '\\xe9' in position 0: "
            "ordinal not in range(128)">>}]].

exceptions_derived_from_base_exception(_Config) ->
    {'SystemExit', #{message := <<"3">>}} = exec_error(<<"import sys; sys.exit(3)">>),
    {'SystemExit', _} = exec_error(<<"raise SystemExit">>),
    {'KeyboardInterrupt', _} = exec_error(<<"raise KeyboardInterrupt()">>),
    {'GeneratorExit', _} = exec_error(<<"raise GeneratorExit()">>),
    {'BaseException', #{class := <<"__main__.B">>}} =
        exec_error(<<"class B(BaseException): pass\nraise B()">>),
    {error, {'SystemExit', _}} = py:call(sys, exit, []),
    {error, {'SystemExit', _}} = py:call(builtins, exit, [1]).

the_interpreter_survives_its_worst_exceptions(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"def f(): return f()">>),
    {error, {'RecursionError', #{traceback := Frames}}} = py:eval(<<"f()">>),
    256 = length(Frames),
    {error, {'MemoryError', _}} = py:eval(<<"bytearray(10**18)">>),
    {error, {'MemoryError', _}} = py:eval(<<"[0] * (10**18)">>),
    {error, {'RecursionError', _}} = py:eval(<<"f()">>),
    {ok, 2} = py:eval(<<"1 + 1">>).

frames_have_the_lines_of_the_code(_Config) ->
    {'ZeroDivisionError', #{traceback := Frames, cause := none}} = exec_error(<<"
def inner(x):
    return 1 / x

def outer():
    y = 0
    return inner(y)

outer()
">>),
    [{9, <<"<module>">>, <<"outer()">>},
     {7, <<"outer">>, <<"    return inner(y)">>},
     {3, <<"inner">>, <<"    return 1 / x">>}] =
        [{Line, Function, Source}
         || #{file := <<"<erlang>">>, line := Line, function := Function, source := Source}
                <- Frames],
    {error, {_, #{traceback := [#{file := <<"<erlang>">>, line := 1}]}}} = py:eval(<<"1 / 0">>),
    %% Files have no source: it is read when the error is printed.
    {error, {_, #{traceback := InFile}}} = py:call(json, loads, [<<"{">>]),
    [] = [Frame || #{source := _} = Frame <- InFile],
    true = length(InFile) >= 2.

frames_of_earlier_code_have_their_source(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"class C:\n    def boom(self):\n        raise ValueError('early')\n">>),
    [ok = py:exec(["v", integer_to_list(N), " = 1"]) || N <- lists:seq(1, 100)],
    {error, {'ValueError', #{traceback := [Outer, Inner]}}} = py:eval(<<"C().boom()">>),
    #{line := 1, function := <<"<module>">>, source := <<"C().boom()">>} = Outer,
    #{line := 3, function := <<"boom">>, source := <<"        raise ValueError('early')">>} =
        Inner.

%% Runs more snippets than are remembered, so that new code is put at the address of old code.
no_frame_has_the_source_of_other_code(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"def early(): return 1 / 0">>),
    #{source := <<"def early(): return 1 / 0">>} = innermost(py:eval(<<"early()">>)),
    [begin
         Code = <<"[(lambda: 1 / ", (integer_to_binary(N))/binary, " / 0)() for _ in '1']">>,
         #{source := Code} = innermost(py:eval(Code))
     end || N <- lists:seq(1, 700)],
    Early = innermost(py:eval(<<"early()">>)),
    false = is_map_key(source, Early),
    #{line := 1, function := <<"early">>} = Early.

%% Regression: one thread released the GIL under the lock of the remembered code, the other one
%% waited for that lock with the GIL. Runs in VMs of their own, since only the first errors did
%% that.
the_first_errors_come_at_once(_Config) ->
    [begin
         Peer = py_peer:start(#{"ERLANG_PYTHON" => py_peer:interpreter()}),
         {ok, _} = py_peer:start_python(Peer, [{num_workers, 4}]),
         ok = py_peer:run(Peer, fun fail_at_once/0),
         ok = py_peer:stop(Peer)
     end || _ <- lists:seq(1, 8)].

fail_at_once() ->
    %% Threads that always want the GIL.
    ok = py:exec(<<"
import threading
def spin():
    while True: pass
for _ in range(3): threading.Thread(target=spin, daemon=True).start()
">>),
    Fail = fun() ->
        [{error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>, #{}, 20000) || _ <- [1, 2]]
    end,
    Callers = [spawn_monitor(Fail) || _ <- lists:seq(1, 4)],
    [receive {'DOWN', Monitor, process, _, Reason} -> normal = Reason end
     || {_, Monitor} <- Callers],
    ok.

innermost({error, {'ZeroDivisionError', #{traceback := Frames}}}) ->
    lists:last(Frames).

syntax_errors_say_where(_Config) ->
    {'SyntaxError', #{syntax := Syntax, traceback := []}} = exec_error(<<"x = 1\nif x\n  y">>),
    #{file := <<"<erlang>">>, line := 2, text := <<"if x\n">>} = Syntax,
    {'IndentationError', #{class := <<"IndentationError">>}} = exec_error(<<"if x:\ny">>),
    {error, {'SyntaxError', _}} = py:eval(<<"x = 1">>),
    {error, {'SyntaxError', _}} = py:eval(<<>>),
    ok = py:exec(<<>>).

causes_are_chained(_Config) ->
    {'KeyError', #{cause := Cause, chain := cause}} = exec_error(<<"
try:
    1 / 0
except ZeroDivisionError as e:
    raise KeyError('k') from e
">>),
    #{class := <<"ZeroDivisionError">>, cause := none, traceback := [#{line := 3}]} = Cause,
    {'KeyError', #{cause := none}} = exec_error(<<"
try:
    1 / 0
except ZeroDivisionError as e:
    raise KeyError('k') from None
">>).

contexts_are_chained(_Config) ->
    {'KeyError', #{cause := Cause, chain := context}} = exec_error(<<"
try:
    1 / 0
except ZeroDivisionError:
    {}['k']
">>),
    #{class := <<"ZeroDivisionError">>, cause := none} = Cause.

endless_chains_end(_Config) ->
    {'ValueError', Exception} = exec_error(<<"
a = ValueError('a')
for n in range(100):
    b = ValueError(n)
    b.__cause__ = a
    a = b
raise a
">>),
    32 = chain_length(Exception),
    {'ValueError', #{cause := #{cause := none}}} = exec_error(<<"
a, b = ValueError('a'), ValueError('b')
a.__cause__, b.__cause__ = b, a
raise a
">>).

chain_length(#{cause := none}) -> 1;
chain_length(#{cause := Cause}) -> 1 + chain_length(Cause).

notes_are_kept(_Config) ->
    {'ValueError', #{notes := [<<"one">>, <<"two">>]}} = exec_error(<<"
e = ValueError('v')
e.__notes__ = ['one', 'two']
raise e
">>).

an_exception_that_cannot_be_printed(_Config) ->
    {'Exception', #{message := <<"<exception str() failed>">>}} = exec_error(<<"
class E(Exception):
    def __str__(self): raise RuntimeError()
raise E()
">>),
    {'ValueError', #{message := Message}} = exec_error(<<"raise ValueError('\\ud800')">>),
    true = is_list(unicode:characters_to_list(Message)).

long_tracebacks_are_cut(_Config) ->
    {'ValueError', #{traceback := Frames}} = exec_error(<<"
def f(n):
    if n == 0: raise ValueError()
    f(n - 1)
f(400)
">>),
    256 = length(Frames),
    {Outer, [Inner]} = lists:split(255, Frames),
    #{line := 3, source := <<"    if n == 0: raise ValueError()">>} = Inner,
    [#{line := 4, function := <<"f">>, source := <<"    f(n - 1)">>}] = lists:usort(
        [maps:with([line, function, source], Frame) || Frame <- Outer]).

errors_are_printed_as_python_prints_them(_Config) ->
    [begin
         Printed = py:format_error(py:exec(Code)),
         %% The printer is an object of its worker.
         {ok, Python} = py:with_context(#{wait => infinity}, fun() ->
             py:eval(<<"printed(code)">>, #{code => Code, printed => printer()})
         end),
         case Printed of
             Python -> ok;
             _ -> ct:fail("~ts~n--- is not ---~n~ts", [Printed, Python])
         end
     end || Code <- [<<"1 / 0">>,
                     <<"def f():\n    raise KeyError('k')\nf()">>,
                     <<"import json\njson.loads('{')">>,
                     <<"class E(Exception): pass\nraise E">>,
                     <<"try:\n    1 / 0\nexcept Exception as e:\n    raise OSError('x') from e">>,
                     <<"try:\n    1 / 0\nexcept Exception:\n    raise OSError('x')">>,
                     <<"raise ValueError('é\\nsecond line')"/utf8>>,
                     <<"assert 1 == 2, 'message'">>,
                     <<"raise SyntaxError('no place')">>,
                     <<"raise SyntaxError('a place', ('f.py', 3, 1, '  a b', 3, 1))">>,
                     <<"def f(n):\n    if n == 0: raise OSError\n    f(n - 1)\nf(3)">>,
                     <<"def f(n):\n    if n == 0: raise OSError\n    f(n - 1)\nf(4)">>,
                     <<"def f(n):\n    if n == 0: raise OSError\n    f(n - 1)\nf(200)">>,
                     <<"import nonexistent_module">>]],
    Syntax = <<"  File \"<erlang>\", line 1\n    x = (\n        ^\n"
               "SyntaxError: '(' was never closed">>,
    Syntax = py:format_error(py:exec(<<"x = (">>)).

%% Python's own report of some code in a file of the same name, less the frames of this function
%% and the carets under a line, which differ from version to version.
printer() ->
    {ok, Function} = py:eval(<<"
(lambda ns: exec('''
import linecache, re, traceback
def printed(code):
    linecache.cache['<erlang>'] = (len(code), None, code.splitlines(True), '<erlang>')
    try:
        exec(compile(code, '<erlang>', 'exec'), {'__name__': '__main__'})
    except BaseException as e:
        e.__traceback__ = e.__traceback__.tb_next
        lines = ''.join(traceback.format_exception(type(e), e, e.__traceback__)).splitlines()
        return chr(10).join(l for l in lines if not re.fullmatch(r'[ ~^]*[~^]', l))
    finally:
        del linecache.cache['<erlang>']
''', ns) or ns['printed'])({})">>),
    Function.

every_reason_can_be_formatted(_Config) ->
    [begin
         Text = py:format_error(Error),
         true = is_binary(Text) andalso byte_size(Text) > 5
     end || Error <- [timeout, no_workers_available, overloaded, busy, worker_crashed,
                      context_not_bound, {error, timeout},
                      {unconvertible, #{reason => cycle, value => <<"list">>}},
                      {python_unavailable, <<"no Python">>}, {something, other}]],
    <<"cannot convert: an improper list: [1|2]">> =
        py:format_error(py:eval(<<"x">>, #{x => [1 | 2]})).

exceptions_mint_no_atoms(_Config) ->
    Raise = <<"raise type('E%d' % n, (Exception,), {'__module__': 'm%d' % n})('m%d' % n)">>,
    [{error, {'Exception', _}} = py:exec(Raise, #{n => N}) || N <- lists:seq(1, 10)],
    Atoms = erlang:system_info(atom_count),
    [{error, {'Exception', _}} = py:exec(Raise, #{n => N}) || N <- lists:seq(1, 1000)],
    Atoms = erlang:system_info(atom_count).

an_error_does_not_reach_the_next_caller(_Config) ->
    ok = py:bind(),
    [begin
         {error, _} = Fail(),
         {ok, 2} = py:eval(<<"1 + 1">>),
         {ok, 4.0} = py:call(math, sqrt, [16])
     end || Fail <- [fun() -> py:eval(<<"1 / 0">>) end,
                     fun() -> py:eval(<<"'\\ud800'">>) end,
                     fun() -> py:eval(<<"1 << 10_000_000">>) end,
                     fun() -> py:eval(<<"x">>, #{x => #{[] => 1}}) end,
                     fun() -> py:eval(<<"x">>, #{x => [1 | 2]}) end,
                     fun() -> py:call(math, sqrt, [abc]) end,
                     fun() -> py:call(math, nothing, []) end]].

mistakes_of_the_caller_are_raised(_Config) ->
    [{raised, badarg} = py_test:caught(Call)
     || Call <- [fun() -> py:eval(1) end, fun() -> py:call(math, sqrt, 16) end,
                 fun() -> py:eval(<<"1">>, [x]) end,
                 fun() -> py:eval(<<"1">>, [{x, 1}, {x, 2}]) end, fun() -> py:eval(<<"1">>, #{}, -1) end,
                 fun() -> py:ctx_eval(self(), <<"1">>) end, fun() -> py:bind(old) end,
                 fun() -> py:with_context(ok) end]],
    ok.
