%% Do the values of the standard library, of numpy and of a program's own classes become what a user of
%% Erlang expects, and back?
-module(py_values_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [dates_and_times, texts, enumerations, dataclasses, named_tuples, none_of_a_call, scalars_of_numpy, arrays_are_lists,
     arrays_as_bytes, arrays_of_records_and_objects, arrays_as_arguments, arrays_that_do_not_fit, huge_shapes,
     big_arrays_are_not_copied, values_of_pandas, an_array_that_is_written_to_is_copied, a_dataframe_of_one_s_own, encoders, encoders_of_base_classes,
     encoders_that_fail, encoders_that_never_end, decoders, decoders_that_fail, converters_end_with_their_lease,
     converters_of_unbound_calls, converters_of_messages, bad_converters, converters_of_a_preload, the_key_none].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(Case, Config) ->
    case lists:suffix("_of_numpy", atom_to_list(Case)) orelse lists:prefix("arrays", atom_to_list(Case))
        orelse lists:member(Case, [huge_shapes, big_arrays_are_not_copied, an_array_that_is_written_to_is_copied]) of
        true -> with_numpy(Config);
        false -> begin_case(Config)
    end.

with_numpy(Config) ->
    ok = py_test:begin_case(2),
    case py:exec(<<"import numpy">>) of
        ok -> begin_case(Config);
        {error, _} -> {skip, "numpy is not installed"}
    end.

begin_case(Config) ->
    ok = py_test:begin_case(2),
    ok = py:bind(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(2).

%%% The standard library

dates_and_times(_Config) ->
    ok = py:exec(<<"import datetime as d\nutc = d.timezone.utc">>),
    [{ok, Text} = py:eval(Code)
     || {Code, Text} <-
         [{<<"d.datetime(2026, 1, 2, 3, 4, 5)">>, <<"2026-01-02T03:04:05">>},
          {<<"d.datetime(2026, 1, 2, 3, 4, 5, 678, utc)">>, <<"2026-01-02T03:04:05.000678+00:00">>},
          {<<"d.date(2026, 1, 2)">>, <<"2026-01-02">>}, {<<"d.time(3, 4)">>, <<"03:04:00">>}]],
    {ok, #{<<"at">> := [<<"2026-01-02">>, <<"2026-01-03">>]}} =
        py:eval(<<"{'at': [d.date(2026, 1, 2), d.date(2026, 1, 3)]}">>),
    {ok, Delta} = py:eval(<<"d.timedelta(1)">>),
    {ok, 86400.0} = py:call(Delta, total_seconds, []).

texts(_Config) ->
    ok = py:exec(<<"from decimal import Decimal\nfrom uuid import UUID\nfrom pathlib import Path, PurePosixPath">>),
    {ok, <<"1.50">>} = py:eval(<<"Decimal('1.50')">>),
    {ok, <<"NaN">>} = py:eval(<<"Decimal('NaN')">>),
    {ok, <<"00000000-0000-0000-0000-000000000007">>} = py:eval(<<"UUID(int=7)">>),
    {ok, [<<"/tmp/a">>, <<"b">>]} = py:eval(<<"[Path('/tmp/a'), PurePosixPath('b')]">>),
    {error, {unconvertible, #{reason := not_unicode, path := [0]}}} = py:eval(<<"[Path('\\ud800')]">>).

enumerations(_Config) ->
    {ok, [<<"r">>, 2, 3, <<"s">>, [1, 2]]} =
        py:run(<<"import enum\n"
                 "class Colour(enum.Enum):\n    RED = 'r'\n    LIST = [1, 2]\n"
                 "class Number(enum.IntEnum):\n    TWO = 2\n"
                 "class Flags(enum.Flag):\n    A = 1\n    B = 2\n"
                 "class Text(str, enum.Enum):\n    S = 's'\n"
                 "[Colour.RED, Number.TWO, Flags.A | Flags.B, Text.S, Colour.LIST]">>),
    %% The class itself is no member.
    {ok, Class} = py:eval(<<"Colour">>),
    true = py:is_object(Class).

dataclasses(_Config) ->
    {ok, #{<<"name">> := <<"a">>, <<"at">> := #{<<"x">> := 1, <<"y">> := none}}} =
        py:run(<<"import dataclasses, typing\n"
                 "@dataclasses.dataclass\nclass Point:\n    x: int\n    y: object = None\n    kind: typing.ClassVar[int] = 5\n"
                 "@dataclasses.dataclass(frozen=True, slots=True)\nclass Named:\n    name: str\n    at: Point\n"
                 "Named('a', Point(1))">>),
    {ok, Class} = py:eval(<<"Point">>),
    true = py:is_object(Class),
    {error, {unconvertible, #{reason := cycle, path := [<<"y">>]}}} = py:run(<<"p = Point(1)\np.y = p\np">>),
    %% A field without a value is left out.
    {ok, Rest} = py:run(<<"q = Point(1)\ndel q.x\nq">>),
    true = Rest =:= #{<<"y">> => none},
    {error, {unconvertible, #{reason := not_unicode, path := [<<"x">>, 0]}}} = py:eval(<<"Point(['\\ud800'])">>).

named_tuples(_Config) ->
    {ok, {1, 2}} = py:run(<<"import collections\ncollections.namedtuple('P', 'x y')(1, 2)">>).

none_of_a_call(_Config) ->
    {ok, [nil, [1, nil]]} = py:eval(<<"[None, [1, None]]">>, #{}, #{none => nil}),
    {ok, [undefined | _]} = py:eval(<<"[None] * 2000">>, #{}, #{none => undefined}),
    {ok, [none | _]} = py:eval(<<"[None] * 2000">>),
    {ok, true} = py:eval(<<"(a, b, c) == (None, None, None)">>, [{a, none}, {b, nil}, {c, undefined}]).

%%% numpy

scalars_of_numpy(_Config) ->
    {ok, [1, 255, 1.5, 0.5, true, <<"x">>, <<"2026-01-02">>]} =
        py:run(<<"import numpy as np\n"
                 "[np.int64(1), np.uint8(255), np.float64(1.5), np.float16(0.5), np.bool_(True), np.str_('x'),\n"
                 " np.datetime64('2026-01-02')]">>),
    {ok, 18446744073709551615} = py:eval(<<"np.uint64(2**64 - 1)">>),
    {ok, 0.25} = py:eval(<<"np.longdouble(0.25)">>),
    {ok, nan} = py:eval(<<"np.float32('nan')">>),
    {ok, #{<<"m">> := 2.0}} = py:eval(<<"{'m': np.array([1.0, 3.0]).mean()}">>),
    {ok, #{3 := 1}} = py:eval(<<"{np.int64(3): 1}">>),
    {ok, Complex} = py:eval(<<"np.complex64(1)">>),
    true = py:is_object(Complex).

arrays_are_lists(_Config) ->
    ok = py:exec(<<"import numpy as np">>),
    [{ok, Value} = py:eval(Code)
     || {Code, Value} <-
         [{<<"np.arange(3)">>, [0, 1, 2]}, {<<"np.zeros((2, 2))">>, [[0.0, 0.0], [0.0, 0.0]]},
          {<<"np.array(5)">>, 5}, {<<"np.zeros((2, 0))">>, [[], []]}, {<<"np.array([])">>, []},
          {<<"np.array(['a', 'b'])">>, [<<"a">>, <<"b">>]}, {<<"np.array([True, False])">>, [true, false]},
          {<<"np.arange(6).reshape(2, 3).T">>, [[0, 3], [1, 4], [2, 5]]},
          {<<"np.ma.array([1, 2], mask=[0, 1])">>, [1, none]},
          {<<"{'a': (np.arange(2), 1)}">>, #{<<"a">> => {[0, 1], 1}}},
          {<<"np.array([None, 'x', {'y': np.int8(1)}], dtype=object)">>, [none, <<"x">>, #{<<"y">> => 1}]}]],
    {ok, Long} = py:eval(<<"np.arange(100000)">>),
    Long = lists:seq(0, 99999).

arrays_as_bytes(_Config) ->
    ok = py:exec(<<"import numpy as np">>),
    Binary = fun(Code) -> py:eval(Code, #{}, #{arrays => binary}) end,
    Doubles = << <<F:64/little-float>> || F <- [1.0, 2.5] >>,
    {ok, {ndarray, #{dtype := <<"<f8">>, shape := {2}, data := Doubles}}} = Binary(<<"np.array([1.0, 2.5])">>),
    {ok, {ndarray, #{dtype := <<"|u1">>, shape := {2, 3}, data := <<0, 1, 2, 3, 4, 5>>}}} =
        Binary(<<"np.arange(6, dtype='u1').reshape(2, 3)">>),
    {ok, {ndarray, #{shape := {3, 2}, data := <<0, 3, 1, 4, 2, 5>>}}} =
        Binary(<<"np.arange(6, dtype='u1').reshape(2, 3).T">>),
    {ok, {ndarray, #{shape := {}, data := <<7>>}}} = Binary(<<"np.array(7, dtype='u1')">>),
    {ok, {ndarray, #{shape := {0, 5}, data := <<>>}}} = Binary(<<"np.zeros((0, 5))">>),
    {ok, {ndarray, #{dtype := <<"<M8[D]">>, data := <<_:128>>}}} =
        Binary(<<"np.array(['2026-01-01', 'NaT'], dtype='M8[D]')">>),
    {ok, [1, {ndarray, #{}}]} = Binary(<<"[1, np.arange(3)]">>),
    {ok, [0, 1]} = py:eval(<<"np.arange(2)">>, #{}, #{arrays => list}),
    {ok, [{ndarray, _}, {ndarray, _}]} = py:stream_eval(<<"[np.arange(1)] * 2">>, #{}, #{arrays => binary}).

arrays_of_records_and_objects(_Config) ->
    ok = py:exec(<<"import numpy as np">>),
    Record = <<"np.array([(1, 2.5)], dtype=[('a', 'i4'), ('b', 'f8')])">>,
    [{ok, [{1, 2.5}]} = py:eval(Record, #{}, #{arrays => Arrays}) || Arrays <- [list, binary]],
    {ok, [none, 1]} = py:eval(<<"np.array([None, 1], dtype=object)">>, #{}, #{arrays => binary}),
    {error, {unconvertible, #{reason := cycle}}} =
        py:run(<<"a = np.empty(1, dtype=object)\na[0] = a\na">>).

arrays_as_arguments(_Config) ->
    ok = py:exec(<<"import numpy as np">>),
    Data = << <<F:64/little-float>> || F <- [1.0, 2.5, 3.5, 4.0] >>,
    Array = {ndarray, #{dtype => <<"<f8">>, shape => {2, 2}, data => Data}},
    {ok, {<<"ndarray">>, {2, 2}, 11.0, false}} =
        py:eval(<<"(type(a).__name__, a.shape, a.sum(), a.flags.writeable)">>, #{a => Array}),
    {ok, Array} = py:eval(<<"a">>, #{a => Array}, #{arrays => binary}),
    {ok, [[1.0, 2.5], [3.5, 4.0]]} = py:eval(<<"a">>, #{a => Array}),
    {ok, 10} = py:call(numpy, sum, [{ndarray, #{dtype => u1, shape => [4], data => <<1, 2, 3, 4>>}}]),
    {ok, {0}} = py:eval(<<"a.shape">>, #{a => {ndarray, #{dtype => f8, shape => {0}, data => <<>>}}}),
    Huge = binary:copy(<<1>>, 1 bsl 20),
    {ok, 1048576} = py:eval(<<"int(a.sum())">>, #{a => {ndarray, #{dtype => u1, shape => {1 bsl 20}, data => Huge}}}).

arrays_that_do_not_fit(_Config) ->
    [{error, {Type, _}} = py:eval(<<"a">>, #{a => {ndarray, Map}})
     || {Type, Map} <- [{'TypeError', #{dtype => <<"<f8">>, shape => {2}, data => <<1, 2, 3>>}},
                        {'TypeError', #{dtype => <<"no such type">>, shape => {1}, data => <<1>>}},
                        {'ValueError', #{dtype => object, shape => {1}, data => <<0:64>>}},
                        {'ValueError', #{dtype => u1, shape => {1}, data => <<1, 2>>}}]],
    {error, {_, _}} = py:eval(<<"a">>, #{a => {ndarray, #{dtype => u1, shape => <<"x">>, data => <<1>>}}}),
    {error, {_, _}} = py:eval(<<"a">>, #{a => {ndarray, #{dtype => u1, shape => {1}, data => 5}}}),
    %% Any other pair is a tuple.
    [{ok, {<<"ndarray">>, Value}} = py:eval(<<"a">>, #{a => {ndarray, Value}})
     || Value <- [5, #{}, #{<<"x">> => 1}, #{<<"x">> => 1, <<"y">> => 2, <<"z">> => 3}]],
    {ok, 1} = py:eval(<<"1">>).

huge_shapes(_Config) ->
    ok = py:exec(<<"import numpy as np">>),
    [{error, {unconvertible, #{reason := too_large}}} = py:eval(Code)
     || Code <- [<<"np.zeros((10**9, 0))">>, <<"np.broadcast_to(np.int8(1), (10**5, 10**5))">>]],
    {ok, {ndarray, #{shape := {1000000000, 0}, data := <<>>}}} =
        py:eval(<<"np.zeros((10**9, 0))">>, #{}, #{arrays => binary}).

big_arrays_are_not_copied(_Config) ->
    ok = py:exec(<<"import numpy as np\na = np.full(1 << 20, 7, dtype='u1')\na.flags.writeable = False">>),
    {ok, {ndarray, #{data := Data}}} = py:eval(<<"a[1:]">>, #{}, #{arrays => binary}),
    ok = py:unbind(),
    erlang:garbage_collect(),
    %% The bytes outlive the lease, and so the array does.
    true = Data =:= binary:copy(<<7>>, (1 bsl 20) - 1).

an_array_that_is_written_to_is_copied(_Config) ->
    ok = py:exec(<<"import numpy as np\na = np.zeros(1 << 20, dtype='u1')\nv = a[:]\nv.flags.writeable = False\n"
                   "w = np.frombuffer(memoryview(bytearray(1 << 20)).toreadonly(), dtype='u1')">>),
    {ok, [{ndarray, #{data := A}}, {ndarray, #{data := V}}, {ndarray, #{data := W}}]} =
        py:eval(<<"[a, v, w]">>, #{}, #{arrays => binary}),
    ok = py:exec(<<"a[:] = 1\nw.base.obj[:] = b'1' * len(w.base.obj)">>),
    Zeros = binary:copy(<<0>>, 1 bsl 20),
    [true = Bytes =:= Zeros || Bytes <- [A, V, W]],
    ok.

values_of_pandas(_Config) ->
    case py:exec(<<"import pandas as pd, numpy as np">>) of
        ok ->
            {ok, [1, 2.5, <<"2026-01-02T00:00:00">>, true]} =
                py:eval(<<"[pd.Series([1, 2])[0], pd.Series([2.5])[0], pd.Timestamp('2026-01-02'), pd.Series([True])[0]]">>),
            {ok, [[1, 2], [3, 4]]} = py:eval(<<"pd.DataFrame({'a': [1, 3], 'b': [2, 4]}).to_numpy()">>),
            {ok, #{<<"a">> := [1, 3]}} = py:eval(<<"pd.DataFrame({'a': [1, 3]}).to_dict('list')">>),
            {ok, [#{<<"t">> := <<"2026-01-02T00:00:00">>, <<"x">> := nan}]} =
                py:eval(<<"pd.DataFrame({'t': [pd.Timestamp('2026-01-02')], 'x': [np.nan]}).to_dict('records')">>),
            {ok, Frame} = py:eval(<<"pd.DataFrame({'a': [1, 3]})">>),
            {ok, {2, 1}} = py:getattr(Frame, shape),
            {ok, <<"pandas.core.frame.DataFrame">>} = py:type(Frame),
            {ok, {ndarray, #{dtype := <<"<i8">>, shape := {2, 1}}}} = py:call(Frame, to_numpy, [], #{}, #{arrays => binary});
        {error, {'ModuleNotFoundError', _}} ->
            {skip, "pandas is not installed"}
    end.

%%% Encoders and decoders

a_dataframe_of_one_s_own(_Config) ->
    ok = py:exec(<<"import erlang\n"
                   "class Frame:\n    def __init__(self, rows): self.rows = rows\n"
                   "erlang.encoder(Frame, lambda f: (erlang.atom('frame'), f.rows))\n"
                   "erlang.decoder('frame', Frame)">>),
    {ok, {frame, [1, 2]}} = py:eval(<<"Frame([1, 2])">>),
    {ok, [{frame, [3]}]} = py:eval(<<"[f]">>, #{f => {frame, [3]}}),
    {ok, 3} = py:eval(<<"f.rows[0]">>, #{f => {frame, [3]}}),
    {ok, #{<<"a">> := {frame, none}}} = py:eval(<<"{'a': Frame(None)}">>).

encoders(_Config) ->
    ok = py:exec(<<"import erlang, decimal, collections\n"
                   "class Map(dict): pass\n"
                   "Pair = collections.namedtuple('Pair', 'x y')\n"
                   "erlang.encoder(decimal.Decimal, float)\n"
                   "erlang.encoder(Map, lambda m: sorted(m))\n"
                   "erlang.encoder(Pair, lambda p: p._asdict())\n"
                   "erlang.encoder(complex, lambda c: (c.real, c.imag))">>),
    {ok, [1.5, [<<"a">>], #{<<"x">> := 1, <<"y">> := {0.0, 2.0}}]} =
        py:eval(<<"[decimal.Decimal('1.5'), Map(a=1), Pair(1, 2j)]">>),
    ok = py:exec(<<"erlang.encoder(decimal.Decimal, None)\nerlang.encoder(decimal.Decimal, None)">>),
    {ok, <<"1.5">>} = py:eval(<<"decimal.Decimal('1.5')">>).

encoders_of_base_classes(_Config) ->
    {ok, [<<"base">>, <<"base">>, <<"own">>]} =
        py:run(<<"import erlang\n"
                 "class Base: pass\nclass Derived(Base): pass\nclass Own(Derived): pass\n"
                 "erlang.encoder(Base, lambda _: 'base')\nerlang.encoder(Own, lambda _: 'own')\n"
                 "[Base(), Derived(), Own()]">>).

encoders_that_fail(_Config) ->
    ok = py:exec(<<"import erlang\nclass A: pass\nclass B: pass\n"
                   "erlang.encoder(A, lambda _: 1 / 0)\nerlang.encoder(B, lambda b: b)">>),
    {error, {'ZeroDivisionError', #{traceback := [_ | _]}}} = py:eval(<<"[A()]">>),
    {error, {unconvertible, #{reason := cycle}}} = py:eval(<<"[B()]">>),
    ok = py:exec(<<"erlang.encoder(B, lambda b: [B()])">>),
    {error, {unconvertible, #{reason := too_deep}}} = py:eval(<<"B()">>),
    {ok, 1} = py:eval(<<"1">>).

encoders_that_never_end(_Config) ->
    ok = py:exec(<<"import erlang\nclass A: pass\ndef forever(_):\n    while True: pass\nerlang.encoder(A, forever)">>),
    {error, timeout} = py:eval(<<"A()">>, #{}, 100),
    {ok, 1} = py:eval(<<"1">>).

decoders(_Config) ->
    ok = py:exec(<<"import erlang, datetime\n"
                   "erlang.decoder('date', datetime.date)\n"
                   "erlang.decoder('unit', lambda: 'u')">>),
    {ok, <<"2026-01-02">>} = py:eval(<<"d">>, #{d => {date, 2026, 1, 2}}),
    {ok, [<<"u">>, {<<"date">>, 1}]} = py:eval(<<"x">>, #{x => [{unit}, {<<"date">>, 1}]}),
    {ok, {<<"other">>, 1}} = py:eval(<<"x">>, #{x => {other, 1}}),
    {ok, <<"2026-01-02">>} = py:call(builtins, str, [{date, 2026, 1, 2}]),
    ok = py:exec(<<"erlang.decoder('date', None)">>),
    {ok, {<<"date">>, 1}} = py:eval(<<"x">>, #{x => {date, 1}}).

decoders_that_fail(_Config) ->
    ok = py:exec(<<"import erlang, datetime\nerlang.decoder('date', datetime.date)">>),
    {error, {'TypeError', _}} = py:eval(<<"d">>, #{d => {date, 1}}),
    {error, {'ValueError', _}} = py:eval(<<"d">>, #{d => [{date, 2026, 13, 1}]}),
    {ok, 1} = py:eval(<<"1">>).

converters_end_with_their_lease(_Config) ->
    ok = py:exec(<<"import erlang\nclass A: pass\nerlang.encoder(complex, repr)\nerlang.decoder('c', complex)">>),
    {ok, <<"1j">>} = py:eval(<<"1j">>),
    {ok, Ctx} = py:bind(new),
    {ok, Other} = py:ctx_eval(Ctx, <<"1j">>),
    true = py:is_object(Other),
    ok = py:unbind(Ctx),
    ok = py:unbind(),
    [begin
         ok = py:bind(),
         {ok, Handle} = py:eval(<<"1j">>),
         true = py:is_object(Handle),
         {ok, {<<"c">>, 1}} = py:eval(<<"c">>, #{c => {c, 1}}),
         ok = py:unbind()
     end || _ <- lists:seq(1, 5)],
    ok.

converters_of_unbound_calls(_Config) ->
    ok = py:unbind(),
    {ok, <<"1j">>} = py:run(<<"import erlang\nerlang.encoder(complex, repr)\n1j">>),
    [begin
         {ok, Handle} = py:eval(<<"1j">>),
         true = py:is_object(Handle)
     end || _ <- lists:seq(1, 10)],
    ok.

converters_of_messages(_Config) ->
    Self = self(),
    ok = py:register_function(echo_values, fun([Value]) -> Self ! {called, Value}, Value end),
    {ok, <<"(1+2j)">>} =
        py:run(<<"import erlang\nerlang.encoder(complex, lambda c: (erlang.atom('c'), c.real, c.imag))\n"
                 "erlang.decoder('c', complex)\nerlang.send(erlang.self(), 1j)\nrepr(erlang.call('echo_values', 1+2j))">>),
    receive {c, _, 1.0} -> ok end,
    receive {called, {c, 1.0, 2.0}} -> ok end,
    ok = py:unregister_function(echo_values).

bad_converters(_Config) ->
    ok = py:exec(<<"import erlang">>),
    [{error, {Type, _}} = py:eval(Code)
     || {Type, Code} <-
         [{'TypeError', <<"erlang.encoder(int, str)">>}, {'TypeError', <<"erlang.encoder(object, str)">>},
          {'TypeError', <<"erlang.encoder(dict, str)">>}, {'TypeError', <<"erlang.encoder('int', str)">>},
          {'TypeError', <<"erlang.encoder(complex, 5)">>}, {'TypeError', <<"erlang.encoder(complex)">>},
          {'TypeError', <<"erlang.decoder(5, str)">>}, {'TypeError', <<"erlang.decoder('x', 5)">>},
          {'ValueError', <<"erlang.decoder('bytes', str)">>}, {'ValueError', <<"erlang.decoder('true', str)">>}]],
    ok.

%%% Configuration

converters_of_a_preload(_Config) ->
    Preload = <<"import erlang\nclass Preloaded: pass\nimport builtins\nbuiltins.Preloaded = Preloaded\n"
                "erlang.encoder(Preloaded, lambda _: erlang.atom('ok'))">>,
    restart([{preload, [Preload]}]),
    {ok, ok} = py:eval(<<"Preloaded()">>),
    {ok, Ctx} = py:bind(new),
    {ok, ok} = py:ctx_eval(Ctx, <<"Preloaded()">>),
    %% A lease adds its own to those of the pool.
    {ok, [ok, <<"1j">>]} =
        py:ctx_run(Ctx, <<"import erlang\nerlang.encoder(complex, repr)\n[Preloaded(), 1j]">>),
    ok = py:ctx_exec(Ctx, <<"erlang.encoder(Preloaded, None)">>),
    {ok, Handle} = py:ctx_eval(Ctx, <<"Preloaded()">>),
    true = py:is_object(Handle),
    ok = py:unbind(Ctx),
    {ok, ok} = py:eval(<<"Preloaded()">>),
    restart([]).

the_key_none(_Config) ->
    restart([{none, nil}]),
    Self = self(),
    {ok, [nil | _]} = py:eval(<<"[None] * 1000">>),
    {ok, none} = py:eval(<<"None">>, #{}, #{none => none}),
    {error, {'ZeroDivisionError', #{cause := none}}} = py:eval(<<"1 / 0">>),
    ok = py:register_function(tell_none, fun([Value]) -> Self ! {told, Value}, undefined end),
    {ok, true} = py:run(<<"import erlang\nerlang.call('tell_none', None) is None">>),
    receive {told, nil} -> ok end,
    ok = py:unregister_function(tell_none),
    ok = py_test:stop(),
    {error, {{invalid_env, none, null}, _}} = py_test:start_error([{none, null}]),
    ok = py_test:start_with([{num_workers, 2}]),
    {ok, none} = py:eval(<<"None">>).

restart(Env) ->
    ok = py:unbind(),
    ok = py_test:stop(),
    ok = py_test:start_with([{num_workers, 2} | Env]).
