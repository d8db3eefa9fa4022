%% Does code that lies about its values get an error or a handle, and never more?
-module(py_hostile_values_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [conversions_that_return_themselves, classes_that_hide_what_they_are, arrays_that_lie, chains_without_an_end,
     encoders_that_change_what_is_converted, encoders_that_leave, encoders_that_call_erlang, encoders_of_hostile_classes,
     decoders_that_return_nothing_good, output_in_odd_places, streams_that_are_misused, log_records_that_lie,
     handles_by_the_thousand, names_of_blocks].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(2),
    ok = py:bind(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(2).

%% The code still runs, and has its variables.
is_fine() ->
    {ok, 2} = py:eval(<<"1 + 1">>).

conversions_that_return_themselves(_Config) ->
    ok = py:exec(<<"import datetime, enum, decimal, uuid\n"
                   "class Time(datetime.datetime):\n    def isoformat(self): return self\n"
                   "class Next(datetime.date):\n    def isoformat(self): return Next(2026, 1, 1)\n"
                   "class Scalar:\n    def item(self): return Other()\n"
                   "class Other:\n    def item(self): return Scalar()\n"
                   "for c in (Scalar, Other): c.__module__, c.__name__ = 'numpy', 'generic'\n"
                   "class Text(decimal.Decimal):\n    def __str__(self): return 5\n"
                   "class Member(enum.Enum):\n    A = 1\n    @property\n    def value(self): return self">>),
    [begin
         {error, {unconvertible, #{reason := Reason}}} = py:eval(Code),
         true = lists:member(Reason, [cycle, too_deep])
     end || Code <- [<<"Time(2026, 1, 1)">>, <<"Next(2026, 1, 1)">>, <<"Scalar()">>, <<"Member.A">>]],
    {error, {'TypeError', _}} = py:eval(<<"Text(1)">>),
    is_fine().

classes_that_hide_what_they_are(_Config) ->
    ok = py:exec(<<"class Meta(type):\n"
                   "    def __getattribute__(cls, name):\n        raise RuntimeError(name)\n"
                   "class Hidden(metaclass=Meta): pass\n"
                   "class Fields:\n    __dataclass_fields__ = 5\n"
                   "class Empty:\n    __dataclass_fields__ = {}\n"
                   "class Named:\n    pass\nNamed.__module__ = 5\nhidden = object.__new__(Hidden)\n"
                   "import unittest.mock\nmock = unittest.mock.MagicMock()">>),
    [begin
         {ok, Handle} = py:eval(Code),
         true = py:is_object(Handle)
     end || Code <- [<<"hidden">>, <<"Fields()">>, <<"Named()">>, <<"mock">>]],
    {ok, Value} = py:eval(<<"Empty()">>),
    true = Value =:= #{} orelse py:is_object(Value),
    is_fine().

arrays_that_lie(_Config) ->
    ok = py:exec(<<"class ndarray:\n"
                   "    shape = (2,)\n"
                   "    class dtype:\n        hasobject = False\n        names = None\n        str = '|u1'\n"
                   "    class flags:\n        writeable = False\n        owndata = True\n"
                   "    base = None\n"
                   "    def tolist(self): return [self]\n"
                   "    def tobytes(self): return 'no bytes'\n"
                   "ndarray.__module__ = 'numpy'\n"
                   "class Huge(ndarray):\n    shape = (2**62, 2**62)\n"
                   "class Odd(ndarray):\n    shape = 'abc'\n"
                   "class Raises(ndarray):\n    @property\n    def shape(self): raise ValueError('shape')\n"
                   "class Name(ndarray):\n    class dtype:\n        hasobject = False\n        names = None\n        str = 5\n">>),
    Binary = #{arrays => binary},
    {error, {unconvertible, #{reason := cycle}}} = py:eval(<<"ndarray()">>),
    {error, {'TypeError', _}} = py:eval(<<"ndarray()">>, #{}, Binary),
    {error, {unconvertible, #{reason := too_large}}} = py:eval(<<"Huge()">>),
    {error, {'TypeError', _}} = py:eval(<<"Odd()">>),
    {error, {'ValueError', _}} = py:eval(<<"Raises()">>),
    {error, {'TypeError', _}} = py:eval(<<"Name()">>, #{}, Binary),
    is_fine().

chains_without_an_end(_Config) ->
    ok = py:exec(<<"class ndarray:\n"
                   "    shape = (2,)\n"
                   "    class dtype:\n        hasobject = False\n        names = None\n        str = '|u1'\n"
                   "    class flags:\n        writeable = False\n        owndata = True\n"
                   "    def tobytes(self): return b'ab'\n"
                   "ndarray.__module__ = 'numpy'\n"
                   "a = ndarray()\na.base = a">>),
    {ok, {ndarray, #{data := <<"ab">>}}} = py:eval(<<"a">>, #{}, #{arrays => binary, timeout => 5000}),
    is_fine().

encoders_that_change_what_is_converted(_Config) ->
    ok = py:exec(<<"import erlang\nclass A: pass\nrows = [A() for _ in range(100)]\ntable = {i: A() for i in range(100)}\n"
                   "def shrink(_):\n    rows.clear()\n    table.clear()\n    return 1\n"
                   "erlang.encoder(A, shrink)">>),
    {ok, [1]} = py:eval(<<"rows">>),
    ok = py:exec(<<"table.update({i: A() for i in range(100)})">>),
    {ok, Table} = py:eval(<<"table">>),
    100 = map_size(Table),
    ok = py:exec(<<"def grow(a):\n    rows.append(a)\n    return 2\nerlang.encoder(A, grow)\nrows.append(A())">>),
    {error, Reason} = py:eval(<<"rows">>, #{}, 3000),
    true = Reason =:= timeout orelse element(1, Reason) =:= unconvertible,
    ok = py:exec(<<"rows.clear()\nerlang.encoder(A, lambda a: erlang.encoder(A, None))\nrows.extend([A(), A()])">>),
    {ok, [none | _]} = py:eval(<<"rows">>),
    is_fine().

encoders_that_leave(_Config) ->
    ok = py:exec(<<"import erlang, sys\nclass A: pass\n"
                   "def leave(_): raise SystemExit(3)\nerlang.encoder(A, leave)">>),
    {error, {'SystemExit', _}} = py:eval(<<"[A()]">>),
    ok = py:exec(<<"def stop(_): raise KeyboardInterrupt\nerlang.encoder(A, stop)">>),
    {error, {'KeyboardInterrupt', _}} = py:eval(<<"A()">>),
    ok = py:exec(<<"def clear(_):\n    globals().clear()\n    return 5\nerlang.encoder(A, clear)">>),
    {ok, 5} = py:eval(<<"A()">>),
    is_fine().

encoders_that_call_erlang(_Config) ->
    ok = py:register_function(hostile_nested, fun([N]) -> {ok, Value} = py:eval(<<"N()">>), [N, Value] end),
    {ok, [[1, 7], [2, 7]]} =
        py:run(<<"import erlang\nclass N: pass\nclass A:\n    def __init__(self, n): self.n = n\n"
                 "erlang.encoder(N, lambda _: 7)\nerlang.encoder(A, lambda a: erlang.hostile_nested(a.n))\n[A(1), A(2)]">>),
    ok = py:unregister_function(hostile_nested),
    is_fine().

encoders_of_hostile_classes(_Config) ->
    ok = py:exec(<<"import erlang\nclass Meta(type):\n    def __hash__(cls): raise ValueError('hash')\n"
                   "class A(metaclass=Meta): pass">>),
    {error, {'ValueError', _}} = py:exec(<<"erlang.encoder(A, str)">>),
    ok = py:exec(<<"erlang.encoder(complex, str)">>),
    {error, {'ValueError', _}} = py:eval(<<"A()">>),
    is_fine().

decoders_that_return_nothing_good(_Config) ->
    ok = py:exec(<<"import erlang\nerlang.decoder('loop', lambda *a: [a])\n"
                   "class Unhashable:\n    __hash__ = None\nerlang.decoder('u', Unhashable)">>),
    {ok, [{1, 2}]} = py:eval(<<"x">>, #{x => {loop, 1, 2}}),
    {error, {unconvertible, #{reason := unhashable_key}}} = py:eval(<<"x">>, #{x => #{{u} => 1}}),
    Deep = lists:foldl(fun(_, T) -> {loop, T} end, 1, lists:seq(1, 2000)),
    {error, {unconvertible, #{reason := too_deep}}} = py:eval(<<"1">>, #{x => Deep}),
    is_fine().

output_in_odd_places(_Config) ->
    {ok, Text} = py:with_output(fun() ->
        py:exec(<<"import erlang, sys, threading\n"
                  "class A:\n    def __del__(self): print('finalized')\n"
                  "class B: pass\n"
                  "erlang.encoder(B, lambda b: print('encoded'))\n"
                  "A()\nlist(map(print, ['mapped']))\nsys.stdout.write.__call__('called\\n')\n"
                  "t = threading.Thread(target=print, args=('thread',))\nt.start()\nt.join()\n"
                  "exec(\"print('exec')\")\nprint(*range(3), sep='\\n', flush=True)">>)
    end),
    [_ = py_test:contains(Text, Part)
     || Part <- [<<"finalized\n">>, <<"mapped\n">>, <<"called\n">>, <<"thread\n">>, <<"exec\n">>, <<"0\n1\n2\n">>]],
    {{ok, none}, <<"encoded\n">>} = py:with_output(fun() -> py:eval(<<"B()">>) end),
    {{error, timeout}, _} = py:with_output(fun() ->
        py:exec(<<"while True: print('flood')">>, #{}, 300)
    end),
    is_fine().

streams_that_are_misused(_Config) ->
    {ok, _} = py:with_output(fun() ->
        [py:exec(Code) || Code <- [<<"import sys\nsys.stdout.write()">>, <<"sys.stdout.write(b'x')">>,
                                   <<"sys.stdout.buffer.write(5)">>, <<"sys.stdout.detach()">>,
                                   <<"sys.stdout.truncate(0)">>, <<"sys.stdout.seek(0)">>, <<"sys.stdout.readline()">>]],
        ok
    end),
    ok = py:exec(<<"import sys\nold = sys.stdout\ndel sys.stdout">>),
    {{error, {'RuntimeError', _}}, _} = py:with_output(fun() -> py:exec(<<"print('lost')">>) end),
    ok = py:exec(<<"sys.stdout = None">>),
    {ok, <<>>} = py:with_output(fun() -> py:exec(<<"print('nothing')">>) end),
    ok = py:unbind(),
    {ok, <<"back\n">>} = py:with_output(fun() -> py:exec(<<"print('back')">>) end).

log_records_that_lie(_Config) ->
    ok = py:configure_logging(#{level => critical}),
    ok = py:exec(<<"import logging\n"
                   "log = logging.getLogger('lies')\n"
                   "record = logging.LogRecord(None, 99999999999, None, None, 'm', (), None)\n"
                   "logging.getLogger().handle(record)\n"
                   "log.handle(logging.makeLogRecord({'levelno': 50, 'name': 5, 'lineno': -1, 'msg': 'x'}))\n">>),
    ok = py:configure_logging(#{level => none}),
    is_fine().

handles_by_the_thousand(_Config) ->
    #{objects := Before} = py_nif:resources(),
    [begin
         {Pid, Monitor} = spawn_monitor(fun() ->
             {ok, Handles} = py:eval(<<"[object() for _ in range(5000)]">>, #{}, 20000),
             true = lists:all(fun py:is_object/1, Handles),
             exit(done)
         end),
         receive {'DOWN', Monitor, process, Pid, done} -> ok end
     end || _ <- lists:seq(1, 10)],
    py_test:wait_until(fun() -> maps:get(objects, py_nif:resources()) =< Before end),
    is_fine().

names_of_blocks(_Config) ->
    {error, {'SyntaxError', _}} = py:run(<<"x = ">>),
    {error, {_, _}} = py:run(binary:copy(<<"(">>, 100000)),
    {ok, N} = py:run([["x = ", integer_to_list(I), "\n"] || I <- lists:seq(1, 5000)] ++ ["x"]),
    5000 = N,
    is_fine().
