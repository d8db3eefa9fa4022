%% Does every row of the table of types hold, in both directions?
-module(py_types_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [integers, big_integers, floats, floats_that_erlang_has_not, utf8_binaries, other_binaries,
     tagged_bytes, views, views_outlive_their_binary, booleans_and_none, atoms,
     atoms_beyond_latin1, lists, tuples, maps, big_maps, dict_keys, sets, byte_arrays,
     subclasses, nested_structures, opaque_terms, opaque_terms_in_python, opaque_objects,
     opaque_objects_are_released, objects_cross_contexts, locals_in_nested_scopes,
     locals_are_gone_afterwards, locals_shadow_and_restore, exec_keeps_what_it_assigns,
     big_binaries_arrive_whole, big_containers].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 4}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(4),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:unbind(),
    ok = py_test:wait_available(4),
    py_test:assert_empty_mailbox().

%% Returns the name of the Python type, the repr, and the term again.
there(Term) ->
    {ok, {Type, Repr, Back}} = py:eval(<<"(type(x).__name__, repr(x), x)">>, #{x => Term}),
    {Type, Repr, Back}.

back(Code) ->
    {ok, Value} = py:eval(Code),
    Value.

integers(_Config) ->
    [begin
         Repr = integer_to_binary(N),
         {<<"int">>, Repr, N} = there(N)
     end || Bits <- [0, 1, 7, 8, 31, 32, 58, 59, 60, 61, 62, 63, 64, 65, 127, 128],
            Base <- [1 bsl Bits, -(1 bsl Bits)],
            N <- [Base - 1, Base, Base + 1]].

big_integers(_Config) ->
    [begin
         {<<"int">>, N} = begin
             {ok, {Type, Back}} = py:eval(<<"(type(x).__name__, x)">>, #{x => N}),
             {Type, Back}
         end,
         {ok, true} = py:eval(<<"x == sign * (1 << bits) + 1">>,
                              #{x => N, sign => Sign, bits => Bits})
     end || Bits <- [200, 2039, 2040, 2041, 2048, 16610, 100000, 4000000], Sign <- [1, -1],
            N <- [Sign * (1 bsl Bits) + 1]],
    Digits = list_to_integer(lists:duplicate(5000, $7)),
    {ok, Digits} = py:eval(<<"x">>, #{x => Digits}),
    Negative = -Digits,
    {ok, Negative} = py:eval(<<"-x">>, #{x => Digits}).

floats(_Config) ->
    [{<<"float">>, Repr, F} = there(F)
     || {F, Repr} <- [{0.5, <<"0.5">>}, {-1.25, <<"-1.25">>}, {1.0e308, <<"1e+308">>},
                      {5.0e-324, <<"5e-324">>}, {3.0, <<"3.0">>}]],
    {ok, <<"-0.0">>} = py:eval(<<"repr(x)">>, #{x => -0.0}),
    <<-0.0/float>> = <<(back(<<"-0.0">>))/float>>.

floats_that_erlang_has_not(_Config) ->
    nan = back(<<"float('nan')">>),
    infinity = back(<<"float('inf')">>),
    neg_infinity = back(<<"-float('inf')">>).

utf8_binaries(_Config) ->
    [{<<"str">>, _, Text} = there(Text)
     || Text <- [<<>>, <<"abc">>, <<"é"/utf8>>, <<"日本語"/utf8>>, <<"😀"/utf8>>, <<0>>,
                 <<"a", 0, "b">>]],
    {ok, 1} = py:eval(<<"len(x)">>, #{x => <<"😀"/utf8>>}).

other_binaries(_Config) ->
    [{<<"bytes">>, _, Bytes} = there(Bytes)
     || Bytes <- [<<255>>, <<"abc", 128>>, <<16#ed, 16#a0, 16#80>>, <<16#c0, 16#80>>]].

tagged_bytes(_Config) ->
    {<<"bytes">>, <<"b'abc'">>, <<"abc">>} = there({bytes, <<"abc">>}),
    {<<"bytes">>, <<"b''">>, <<>>} = there({bytes, <<>>}),
    %% The tag is a tag with a binary only.
    {<<"tuple">>, <<"('bytes', 1)">>, {<<"bytes">>, 1}} = there({bytes, 1}).

views(_Config) ->
    {<<"memoryview">>, _, <<"abc">>} = there({view, <<"abc">>}),
    {ok, {true, 3, <<"b">>}} =
        py:eval(<<"(x.readonly, x.nbytes, x[1:2].tobytes())">>, #{x => {view, <<"abc">>}}),
    {ok, 0} = py:eval(<<"x.nbytes">>, #{x => {view, <<>>}}),
    {error, {'TypeError', _}} = py:exec(<<"x[0] = 1">>, #{x => {view, <<"abc">>}}),
    %% A part of a bigger binary.
    <<_:1/binary, Part:2/binary, _/binary>> = <<"abcdef">>,
    {<<"memoryview">>, _, <<"bc">>} = there({view, Part}),
    {<<"tuple">>, _, {<<"view">>, 1}} = there({view, 1}).

views_outlive_their_binary(_Config) ->
    py:with_context(fun(Ctx) ->
        ok = keep_view(Ctx),
        [true = erlang:garbage_collect() || _ <- lists:seq(1, 3)],
        _ = [binary:copy(<<N:8>>, 1 bsl 20) || N <- lists:seq(1, 20)],
        Expected = erlang:crc32(view_bytes()),
        {ok, Expected} = py:ctx_eval(Ctx, <<"__import__('zlib').crc32(kept)">>),
        {ok, Expected} = py:ctx_eval(Ctx, <<"__import__('zlib').crc32(part)">>)
    end).

keep_view(Ctx) ->
    ok = py:ctx_exec(Ctx, <<"kept = v; part = v[:]">>, #{v => {view, view_bytes()}}).

view_bytes() ->
    << <<(N rem 251)>> || N <- lists:seq(1, 1 bsl 18) >>.

booleans_and_none(_Config) ->
    {<<"bool">>, <<"True">>, true} = there(true),
    {<<"bool">>, <<"False">>, false} = there(false),
    [{<<"NoneType">>, <<"None">>, none} = there(None) || None <- [none, nil, undefined]].

atoms(_Config) ->
    {<<"str">>, <<"'ok'">>, <<"ok">>} = there(ok),
    {<<"str">>, _, <<>>} = there(''),
    {<<"str">>, _, <<"h\303\251llo">>} = there(list_to_atom([$h, 16#e9, $l, $l, $o])),
    Long = list_to_atom(lists:duplicate(255, $x)),
    LongText = binary:copy(<<"x">>, 255),
    {<<"str">>, _, LongText} = there(Long).

atoms_beyond_latin1(_Config) ->
    [begin
         Text = unicode:characters_to_binary(Chars),
         {<<"str">>, _, Text} = there(list_to_atom(Chars))
     end || Chars <- ["日本", [16#1F600], lists:duplicate(255, 16#65E5)]].

lists(_Config) ->
    [{<<"list">>, Repr, List} = there(List)
     || {List, Repr} <- [{[], <<"[]">>}, {[1], <<"[1]">>}, {"ab", <<"[97, 98]">>},
                         {[[], [[]]], <<"[[], [[]]]">>}]],
    Long = lists:seq(1, 100000),
    {ok, Long} = py:eval(<<"x">>, #{x => Long}),
    ok.

tuples(_Config) ->
    [{<<"tuple">>, Repr, Tuple} = there(Tuple)
     || {Tuple, Repr} <- [{{}, <<"()">>}, {{1}, <<"(1,)">>}, {{1, {2}}, <<"(1, (2,))">>}]],
    Big = list_to_tuple(lists:seq(1, 100000)),
    {ok, Big} = py:eval(<<"x">>, #{x => Big}),
    ok.

maps(_Config) ->
    {<<"dict">>, <<"{}">>, Empty} = there(#{}),
    true = Empty =:= #{},
    {<<"dict">>, <<"{'a': 1}">>, #{<<"a">> := 1}} = there(#{a => 1}),
    Map = #{1 => [2], {3, 4} => <<"x">>, <<"k">> => #{<<"n">> => none}},
    {<<"dict">>, _, Map} = there(Map).

%% The BEAM's own function may not be used off a scheduler from 129 keys on.
big_maps(_Config) ->
    [begin
         Map = maps:from_list([{N, N * N} || N <- lists:seq(1, Size)]),
         {ok, Map} = py:eval(<<"x">>, #{x => Map}),
         {ok, Map} = py:eval(<<"{n: n * n for n in range(1, size + 1)}">>, #{size => Size}),
         Texts = maps:from_list([{integer_to_binary(N), N} || N <- lists:seq(1, Size)]),
         {ok, Texts} = py:eval(<<"{str(n): n for n in range(1, size + 1)}">>, #{size => Size})
     end || Size <- [1, 31, 32, 33, 64, 127, 128, 129, 130, 1000, 10000]],
    ok.

dict_keys(_Config) ->
    #{1 := <<"a">>, <<"b">> := 2, {3} := 3, 1.5 := 4, none := 5} =
        back(<<"{1: 'a', 'b': 2, (3,): 3, 1.5: 4, None: 5}">>),
    #{true := 1, 0 := 2} = back(<<"{True: 1, 0: 2}">>).

sets(_Config) ->
    [1, 2, 3] = lists:sort(back(<<"{1, 2, 3}">>)),
    [1, 2] = lists:sort(back(<<"frozenset([1, 2])">>)),
    [] = back(<<"set()">>).

byte_arrays(_Config) ->
    <<"abc">> = back(<<"bytearray(b'abc')">>),
    <<1, 255>> = back(<<"memoryview(b'\\x01\\xff')">>),
    <<"ac">> = back(<<"memoryview(b'abcd')[::2]">>),
    <<>> = back(<<"b''">>).

subclasses(_Config) ->
    py:with_context(fun() ->
        ok = py:exec(<<"
import enum, collections
class Color(enum.IntEnum):
    RED = 1
class Text(str): pass
class Bytes(bytes): pass
class Float(float): pass
class List(list):
    def __iter__(self): raise RuntimeError('not asked')
class Set(set):
    def __iter__(self): raise RuntimeError('not asked')
class Frozen(frozenset):
    def __iter__(self): raise RuntimeError('not asked')
class Dict(dict):
    def items(self): raise RuntimeError('not asked')
Pair = collections.namedtuple('Pair', 'a b')
">>),
        [{ok, Value} = py:eval(Code)
         || {Code, Value} <- [{<<"Color.RED">>, 1}, {<<"Text('t')">>, <<"t">>},
                              {<<"Bytes(b'b')">>, <<"b">>}, {<<"Float(1.5)">>, 1.5},
                              {<<"List([1, 2])">>, [1, 2]},
                              {<<"Set([1])">>, [1]}, {<<"Frozen([1])">>, [1]},
                              {<<"Dict(a=1)">>, #{<<"a">> => 1}},
                              {<<"Pair(1, 2)">>, {1, 2}},
                              {<<"collections.OrderedDict(a=1)">>, #{<<"a">> => 1}},
                              {<<"collections.defaultdict(int, {2: 3})">>, #{2 => 3}},
                              {<<"type('I', (int,), {})(1 << 70)">>, 1 bsl 70}]]
    end).

nested_structures(_Config) ->
    Term = #{<<"list">> => [1, {2, #{<<"x">> => [none, true]}}, 3.5], {1, <<"k">>} => [[[]]]},
    {ok, Term} = py:eval(<<"x">>, #{x => Term}),
    Deep = lists:foldl(fun(_, Inner) -> [Inner] end, [], lists:seq(1, 990)),
    {ok, Deep} = py:eval(<<"x">>, #{x => Deep}).

opaque() ->
    Port = hd(erlang:ports()),
    K = 3,
    [self(), make_ref(), Port, fun lists:map/2, fun(X) -> X + K end, <<1:1>>, <<5:3, 255>>].

opaque_terms(_Config) ->
    [begin
         {<<"Term">>, <<"<erlang.Term ", _/binary>>, Back} = there(Term),
         true = Back =:= Term,
         {ok, [Back, {Back}]} = py:eval(<<"[x, (x,)]">>, #{x => Term})
     end || Term <- opaque()],
    Keyed = maps:from_list([{T, 1} || T <- opaque()]),
    {ok, Keyed} = py:eval(<<"x">>, #{x => Keyed}).

opaque_terms_in_python(_Config) ->
    {Ref1, Ref2} = {make_ref(), make_ref()},
    Locals = #{a => Ref1, b => Ref2, c => Ref1},
    {ok, [true, false, true, true, false]} =
        py:eval(<<"[a == c, a == b, a != b, hash(a) == hash(c), a == 1]">>, Locals),
    {ok, true} = py:eval(<<"(a < b) != (b < a)">>, Locals),
    {ok, 2} = py:eval(<<"len({a, b, c})">>, Locals),
    {ok, true} = py:eval(<<"isinstance(a, __import__('erlang').Term)">>, Locals),
    {error, {'TypeError', _}} = py:eval(<<"a < 1">>, Locals),
    {error, {'TypeError', _}} = py:eval(<<"__import__('erlang').Term()">>).

opaque_objects(_Config) ->
    py:with_context(fun() ->
        ok = py:exec(<<"class Thing: pass\nthing = Thing(); thing.x = 1">>),
        {ok, Handle} = py:eval(<<"thing">>),
        true = is_reference(Handle),
        {ok, true} = py:eval(<<"h is thing">>, #{h => Handle}),
        {ok, [true, true]} = py:eval(<<"[y is thing for y in h]">>, #{h => [Handle, Handle]}),
        {ok, 1} = py:call(builtins, getattr, [Handle, x]),
        {ok, {Module}} = py:eval(<<"(__import__('math'),)">>),
        {ok, 2.0} = py:eval(<<"m.sqrt(4)">>, #{m => Module})
    end).

opaque_objects_are_released(_Config) ->
    ok = py:exec(<<"import sys; sys._alive = 0">>),
    ok = py:bind(),
    ok = py:exec(<<"
import sys
class Counted:
    def __init__(self): sys._alive += 1
    def __del__(self, sys=sys): sys._alive -= 1
">>),
    ok = make_and_forget(100),
    true = erlang:garbage_collect(),
    ok = py:unbind(),
    %% Python is not used meanwhile: an idle VM releases the objects, too.
    ok = py_test:wait_until(fun() ->
        case py:eval(<<"__import__('sys')._alive">>) of
            {ok, 0} -> true;
            Other -> Other
        end
    end),
    ok = py:exec(<<"import sys; del sys._alive">>).

make_and_forget(Count) ->
    Handles = [begin {ok, H} = py:eval(<<"Counted()">>), H end || _ <- lists:seq(1, Count)],
    {ok, Count} = py:eval(<<"sys._alive">>),
    {ok, Count} = py:eval(<<"len(hs)">>, #{hs => Handles}),
    ok.

objects_cross_contexts(_Config) ->
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    ok = py:ctx_exec(Ctx1, <<"k = 10\ndef add(x): return x + k">>),
    {ok, Add} = py:ctx_eval(Ctx1, <<"add">>),
    {ok, 11} = py:ctx_eval(Ctx2, <<"f(1)">>, #{f => Add}),
    ok = py:unbind(Ctx1),
    ok = py:unbind(Ctx2).

locals_in_nested_scopes(_Config) ->
    {ok, [3, 6]} = py:eval(<<"[x*k for x in xs]">>, #{xs => [1, 2], k => 3}),
    {ok, 7} = py:eval(<<"(lambda: a + b)()">>, #{a => 3, b => 4}),
    {ok, [[1, 2], [2, 4]]} = py:eval(<<"[[a*b for a in xs] for b in xs]">>, #{xs => [1, 2]}),
    ok = py:exec(<<"
def f():
    return [n * i for i in range(2)]
assert f() == [0, 5]
">>, #{n => 5}),
    {ok, 3} = py:eval(<<"a + b">>, #{<<"a">> => 1, b => 2}).

locals_are_gone_afterwards(_Config) ->
    ok = py:bind(),
    {ok, 1} = py:eval(<<"x">>, #{x => 1}),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    ok = py:exec(<<"y = x">>, #{x => 1}),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    {error, {'ZeroDivisionError', _}} = py:eval(<<"x / 0">>, #{x => 1}),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    {ok, 1} = py:eval(<<"y">>).

locals_shadow_and_restore(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 'old'">>),
    {ok, <<"new">>} = py:eval(<<"x">>, #{x => <<"new">>}),
    {ok, <<"old">>} = py:eval(<<"x">>),
    {error, {'ZeroDivisionError', _}} = py:exec(<<"1 / 0">>, #{x => <<"new">>}),
    {ok, <<"old">>} = py:eval(<<"x">>),
    {ok, 3} = py:eval(<<"len(x)">>, #{x => <<"abc">>}).

exec_keeps_what_it_assigns(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"total = base + 1">>, #{base => 41}),
    {ok, 42} = py:eval(<<"total">>),
    ok = py:exec(<<"n = n + 1">>, #{n => 1000}),
    {ok, 1001} = py:eval(<<"n">>).

big_binaries_arrive_whole(_Config) ->
    Text = binary:copy(<<"0123456789abcdef">>, 4 bsl 20),
    {ok, {67108864, true}} =
        py:eval(<<"(len(x), x.endswith('abcdef'))">>, #{x => Text}, 60000),
    {ok, Bytes} = py:eval(<<"b'\\xff' * (64 << 20)">>, #{}, 60000),
    67108864 = byte_size(Bytes),
    {ok, {67108864, 255}} = py:eval(<<"(v.nbytes, v[-1])">>, #{v => {view, Bytes}}, 60000),
    {ok, true} = py:eval(<<"b == v">>, #{b => {bytes, Bytes}, v => {view, Bytes}}, 60000).

%% Lists with each of these as the odd one among many plain elements.
big_containers(_Config) ->
    py:with_context(fun(Ctx) ->
        ok = py:ctx_exec(Ctx, <<"from collections import namedtuple, OrderedDict
import enum
P = namedtuple('P', 'x y')
E = enum.IntEnum('E', 'a b')
class S(str): pass
deep = []
for _ in range(1000): deep = [deep]
def many(x): return ['text'] * 50 + [x] + [{'text': 1}] * 50">>),
        [begin
             {ok, Many} = py:ctx_eval(Ctx, [<<"many(">>, Code, <<")">>]),
             {_, [Value | _]} = lists:split(50, Many),
             101 = length(Many)
         end || {Code, Value} <- [
             {"'h\\u00e9'", <<"h\303\251">>}, {"''", <<>>}, {"b'\\xff'", <<255>>}, {"True", true},
             {"None", none}, {"0", 0}, {"255", 255}, {"256", 256}, {"-1", -1},
             {"1 << 31", 1 bsl 31}, {"-(1 << 31)", -(1 bsl 31)},
             {"-(1 << 31) - 1", -(1 bsl 31) - 1},
             {"(1 << 63) - 1", 1 bsl 63 - 1}, {"-(1 << 63)", -(1 bsl 63)},
             {"1 << 63", 1 bsl 63}, {"1 << 200", 1 bsl 200}, {"1.5", 1.5}, {"-0.0", -0.0},
             {"float('nan')", nan}, {"float('inf')", infinity}, {"-float('inf')", neg_infinity},
             {"()", {}}, {"[]", []}, {"{}", #{}},
             {"(1,) * 300", erlang:make_tuple(300, 1)},
             {"P(1, 'b')", {1, <<"b">>}}, {"E.b", 2}, {"S('s')", <<"s">>},
             {"OrderedDict(a=1)", #{<<"a">> => 1}}, {"{1: 2, True: 3}", #{1 => 3}},
             {"{(1, 2): 'a'}", #{{1, 2} => <<"a">>}},
             {"{None: 1, 'none': 2}", #{none => 1, <<"none">> => 2}},
             {"{1}", [1]}, {"bytearray(b'a')", <<"a">>},
             {"{i: str(i) for i in range(300)}",
              maps:from_list([{I, integer_to_binary(I)} || I <- lists:seq(0, 299)])}]],
        {ok, Objects} = py:ctx_eval(Ctx, <<"many(many)">>),
        true = is_reference(lists:nth(51, Objects)),
        [{error, {unconvertible, #{reason := Reason}}} =
             py:ctx_eval(Ctx, [<<"many(">>, Code, <<")">>])
         || {Code, Reason} <- [{"'\\ud800'", not_unicode}, {"{'a': 1, b'a': 2}", key_collision},
                               {"(lambda l: l.append(l) or l)([])", cycle},
                               {"deep", too_deep}]]
    end).
