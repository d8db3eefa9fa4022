%% Is memory safe that both sides use: views of binaries, and binaries over objects?
-module(py_sharing_SUITE).
-compile([export_all, nowarn_export_all]).

-include_lib("proper/include/proper.hrl").

%% The size from which on bytes and text are shared with Python, not copied.
-define(SHARED, 65536).

suite() ->
    [{timetrap, {seconds, 300}}].

all() ->
    [bytes_are_shared, text_is_shared, shared_bytes_outlive_their_context,
     what_was_shared_is_released, small_ones_are_copied, mutable_buffers_are_copied,
     views_cannot_be_written_to, views_and_bytes_across_collections].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 4}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    py_test:begin_case(4),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(4).

%% A copy would show in the resident memory of the VM: the growth here must be less.
bytes_are_shared(_Config) ->
    py:with_context(fun(Ctx) ->
        ok = py:ctx_exec(Ctx, <<"data = bytes(range(256)) * (1 << 20)">>),
        Expected = erlang:crc32(binary:copy(list_to_binary(lists:seq(0, 255)), 1 bsl 20)),
        Binaries = [begin {ok, Data} = py:ctx_eval(Ctx, <<"data">>), Data end
                    || _ <- lists:seq(1, 40)],
        40 = objects(),
        [268435456 = byte_size(Data) || Data <- Binaries],
        Expected = erlang:crc32(lists:last(Binaries))
    end).

text_is_shared(_Config) ->
    [begin
         {ok, Text} = py:eval(<<"c * n">>, #{c => Char, n => ?SHARED}),
         Text = binary:copy(Char, ?SHARED)
     end || Char <- [<<"a">>, <<"h\303\251">>, <<"\342\202\254">>, <<"\360\235\204\236">>]].

shared_bytes_outlive_their_context(_Config) ->
    {ok, Data} = py:with_context(fun(Ctx) ->
        ok = py:ctx_exec(Ctx, <<"import random; data = random.Random(1).randbytes(1 << 20)">>),
        ok = py:ctx_exec(Ctx, <<"text = 'x' * (1 << 20)">>),
        py:ctx_eval(Ctx, <<"data">>)
    end),
    ok = py:exec(<<"import gc; gc.collect(); rest = [bytes(1 << 20) for _ in range(50)]">>),
    {ok, Data} = py:eval(<<"__import__('random').Random(1).randbytes(1 << 20)">>),
    %% A part of the binary, in another process.
    Part = binary:part(Data, 1000, 100),
    Self = self(),
    _ = spawn_link(fun() -> Self ! {part, erlang:crc32(Part)} end),
    Crc = erlang:crc32(Part),
    receive {part, Crc} -> ok end.

what_was_shared_is_released(_Config) ->
    0 = objects(),
    %% Runs in a process of its own, which takes its binaries along.
    _ = py_test:in_process(fun() ->
        {ok, Data} = py:eval(<<"bytes(1 << 20)">>),
        1048576 = byte_size(Data),
        1 = objects()
    end),
    ok = py_test:wait_until(fun() -> objects() =:= 0 orelse objects() end).

small_ones_are_copied(_Config) ->
    {ok, Data} = py:eval(<<"bytes(n)">>, #{n => ?SHARED - 1}),
    true = byte_size(Data) =:= ?SHARED - 1,
    0 = objects().

mutable_buffers_are_copied(_Config) ->
    py:with_context(fun(Ctx) ->
        ok = py:ctx_exec(Ctx, <<"import numpy; n = 1 << 20\n"
                                "array = bytearray(n); view = memoryview(array)\n"
                                "floats = numpy.zeros(n >> 3)">>),
        Zeros = binary:copy(<<0>>, 1 bsl 20),
        Names = [<<"array">>, <<"view">>, <<"memoryview(floats)">>, <<"floats.tobytes()">>],
        Before = [begin {ok, Data} = py:ctx_eval(Ctx, Name), Data end || Name <- Names],
        ok = py:ctx_exec(Ctx, <<"array[0] = 1; view[1] = 1; floats[:] = 1">>),
        [true = Data =:= Zeros || Data <- Before]
    end).

views_cannot_be_written_to(_Config) ->
    Binary = binary:copy(<<"a">>, 1 bsl 20),
    [{error, {_, _}} = py:exec(Code, #{v => {view, Binary}})
     || Code <- [<<"v[0] = 1">>, <<"v.cast('I')[0] = 1">>, <<"v[5:9] = b'1234'">>,
                 <<"import numpy; numpy.frombuffer(v, dtype='u1')[0] = 1">>,
                 <<"import ctypes; ctypes.c_char.from_buffer(v)">>]],
    true = Binary =:= binary:copy(<<"a">>, 1 bsl 20).

%% Views and bytes go back and forth, are kept and dropped on either side, and both sides collect
%% their garbage: the bytes of those that are left are unchanged.
views_and_bytes_across_collections(_Config) ->
    Runs = list_to_integer(os:getenv("NUMTESTS", "60")),
    Property = ?FORALL(Steps, list(step()), begin
        {ok, Ctx} = py:bind(new),
        ok = py:ctx_exec(Ctx, <<"import gc, zlib; kept = {}">>),
        Kept = lists:foldl(fun(Step, Acc) -> step(Step, Ctx, Acc) end, #{}, Steps),
        Sums = maps:map(fun(_, {Sum, _}) -> Sum end, Kept),
        {ok, Theirs} = py:ctx_eval(Ctx, <<"{k: zlib.crc32(v) for k, v in kept.items()}">>),
        ok = py:unbind(Ctx),
        Ours = maps:map(fun(_, {_, Binary}) -> erlang:crc32(Binary) end, Kept),
        Sums =:= Theirs andalso Sums =:= Ours
    end),
    case proper:quickcheck(Property, [{numtests, Runs}, {on_output, fun ct:log/2}]) of
        true -> ok;
        false -> ct:fail("counterexample: ~tp", [proper:counterexample()])
    end.

step() ->
    Key = range(1, 5),
    oneof([{view, Key, size(), byte()}, {part, Key, size(), byte()}, {make, Key, size(), byte()},
           {again, Key}, {drop, Key}, collect_there, collect_here]).

size() ->
    oneof([range(0, 100), range(?SHARED - 2, ?SHARED + 2), range(100000, 200000)]).

step({view, Key, Size, Byte}, Ctx, Kept) ->
    keep(Key, binary:copy(<<Byte, 1, 2>>, Size), Ctx, Kept);
step({part, Key, Size, Byte}, Ctx, Kept) ->
    <<_, Part/binary>> = binary:copy(<<Byte, 3>>, Size + 1),
    keep(Key, Part, Ctx, Kept);
step({make, Key, Size, Byte}, Ctx, Kept) ->
    Code = <<"kept.__setitem__(k, bytes([b, 4]) * n) or kept[k]">>,
    {ok, Binary} = py:ctx_eval(Ctx, Code, #{k => Key, n => Size, b => Byte, x => none}),
    true = Size =:= 0 orelse Byte < 128 orelse is_binary(Binary),
    Kept#{Key => {erlang:crc32(Binary), Binary}};
step({again, Key}, Ctx, Kept) when is_map_key(Key, Kept) ->
    {ok, Binary} = py:ctx_eval(Ctx, <<"bytes(kept[k])">>, #{k => Key}),
    #{Key := {Sum, _}} = Kept,
    Sum = erlang:crc32(Binary),
    Kept#{Key := {Sum, Binary}};
step({drop, Key}, Ctx, Kept) ->
    ok = py:ctx_exec(Ctx, <<"_ = kept.pop(k, None)">>, #{k => Key}),
    maps:remove(Key, Kept);
step(collect_there, Ctx, Kept) ->
    ok = py:ctx_exec(Ctx, <<"_ = gc.collect()">>),
    Kept;
step(collect_here, _Ctx, Kept) ->
    true = erlang:garbage_collect(),
    Kept;
step(_, _Ctx, Kept) ->
    Kept.

keep(Key, Binary, Ctx, Kept) ->
    ok = py:ctx_exec(Ctx, <<"kept[k] = v[:]">>, #{k => Key, v => {view, Binary}}),
    Kept#{Key => {erlang:crc32(Binary), Binary}}.

objects() ->
    maps:get(objects, maps:get(resources, py_pool:get_stats())).
