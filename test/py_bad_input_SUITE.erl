%% Does bad input get a clear error, and lose nothing?
-module(py_bad_input_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [code_that_is_no_text, code_with_nul, names_with_nul, names_that_are_none, improper_lists,
     deep_terms, terms_as_deep_as_may_be, deep_objects, cyclic_objects, shared_objects_that_explode,
     big_objects_found_many_times, huge_binaries,
     huge_lists, huge_tuples, huge_integers, atoms_unknown_and_huge, strings_mint_no_atoms,
     keys_that_are_no_names, contexts_that_are_none, timeouts_that_are_none,
     options_that_are_none, funs_that_are_none, dead_handles_of_other_kinds].

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
    {ok, 2} = py:eval(<<"1 + 1">>),
    ok = py_test:wait_available(4),
    py_test:assert_empty_mailbox().

badarg(Call) ->
    try Call() of
        Result -> ct:fail("no badarg but ~tp", [Result])
    catch
        error:badarg -> {ok, 2} = py:eval(<<"1 + 1">>)
    end.

unconvertible(Call) ->
    {error, {unconvertible, #{reason := Reason, value := Value}}} = Call(),
    true = is_binary(Value) andalso byte_size(Value) < 10000,
    {ok, 2} = py:eval(<<"1 + 1">>),
    Reason.

code_that_is_no_text(_Config) ->
    py:with_context(fun(Ctx) ->
        [begin
             badarg(fun() -> py:eval(Code) end),
             badarg(fun() -> py:exec(Code) end),
             badarg(fun() -> py:ctx_eval(Ctx, Code) end),
             badarg(fun() -> py:ctx_exec(Ctx, Code) end)
         end || Code <- [<<255>>, <<"x = '", 16#ed, 16#a0, 16#80, "'">>, <<1:1>>, 1, 1.5, atom,
                         [a], [-1], [16#110000], [$1 | 2], {}, #{}, self(), [<<255>>]]]
    end).

code_with_nul(_Config) ->
    [begin
         {error, {Type, #{message := Message}}} = Call(),
         true = lists:member(Type, ['ValueError', 'SyntaxError']),
         {_, _} = binary:match(Message, <<"null byte">>)
     end || Call <- [fun() -> py:eval(<<"1", 0, "+1">>) end,
                     fun() -> py:exec(<<"x = 1", 0>>) end]].

names_with_nul(_Config) ->
    {error, {_, #{class := _}}} = py:call(<<"ma", 0, "th">>, sqrt, [1]),
    {error, {'AttributeError', _}} = py:call(math, <<"sq", 0, "rt">>, [1]),
    {error, {_, #{class := _}}} = py:call(<<>>, sqrt, [1]),
    {error, {'AttributeError', _}} = py:call(math, <<>>, [1]),
    {error, {'AttributeError', _}} = py:call(math, 'sqrt.', [1]),
    {error, {'AttributeError', _}} = py:call(math, '.', [1]),
    {ok, 1} = py:eval(<<"1">>, #{<<"a", 0>> => 1}).

names_that_are_none(_Config) ->
    [begin
         badarg(fun() -> py:call(Name, sqrt, [1]) end),
         badarg(fun() -> py:call(math, Name, [1]) end)
     end || Name <- [1, 1.5, {math}, #{}, self(), <<255>>, <<1:3>>, [math], [$m | $a]]].

improper_lists(_Config) ->
    improper_list = unconvertible(fun() -> py:eval(<<"x">>, #{x => [1 | 2]}) end),
    improper_list = unconvertible(fun() -> py:eval(<<"x">>, #{x => [{[a | b]}]}) end),
    improper_list = unconvertible(fun() -> py:call(math, sqrt, [1 | 2]) end),
    improper_list = unconvertible(fun() -> py:call(builtins, len, [[1 | 2]]) end),
    badarg(fun() -> py:call(math, sqrt, 1) end).

deep_terms(_Config) ->
    Nest = fun(Wrap) -> lists:foldl(fun(_, Inner) -> Wrap(Inner) end, [], lists:seq(1, 100000)) end,
    [begin
         Deep = Nest(Wrap),
         too_deep = unconvertible(fun() -> py:eval(<<"x">>, #{x => Deep}) end),
         too_deep = unconvertible(fun() -> py:call(builtins, id, [Deep]) end)
     end || Wrap <- [fun(I) -> [I] end, fun(I) -> {I} end, fun(I) -> #{k => I} end,
                     fun(I) -> [{#{k => I}}] end]].

%% Regression: over child processes a term of many maps overflowed the stack of a scheduler.
terms_as_deep_as_may_be(_Config) ->
    [begin
         Deep = lists:foldl(fun(_, Inner) -> Wrap(Inner) end, 1, lists:seq(1, 990)),
         {ok, Deep} = py:eval(<<"x">>, #{x => Deep}),
         {ok, [Deep]} = py:stream_eval(<<"[x]">>, #{x => Deep})
     end || Wrap <- [fun(I) -> [I] end, fun(I) -> {I} end, fun(I) -> #{<<"k">> => I} end]].

deep_objects(_Config) ->
    py:with_context(fun() ->
        [begin
             ok = py:exec([<<"x = []\nfor _ in range(10**5): x = ">>, Wrap]),
             too_deep = unconvertible(fun() -> py:eval(<<"x">>) end)
         end || Wrap <- ["[x]", "(x,)", "{'k': x}", "[({'k': x},)]"]],
        ok = py:exec(<<"del x">>)
    end).

cyclic_objects(_Config) ->
    [cycle = unconvertible(fun() -> py:eval(Code) end)
     || Code <- [<<"(lambda x: x.append(x) or x)([])">>,
                 <<"(lambda x: x.append(x) or x.append(x) or x)([])">>,
                 <<"(lambda d: d.update(d=d) or d)({})">>,
                 <<"(lambda x: x.append(({'k': x},)) or x)([])">>,
                 %% The cycle is found at its first repetition, not when the reply has grown too
                 %% large.
                 <<"(lambda x: x.append(x) or x)(list(range(10**6)))">>]].

%% A value of 2^100 elements, if each were written out.
shared_objects_that_explode(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"x = []\nfor _ in range(100): x = [x, x]">>),
    too_large = unconvertible(fun() -> py:eval(<<"x">>, #{}, 120000) end).

%% The VM would end on the way: each value would take 1.5 TB.
big_objects_found_many_times(_Config) ->
    [too_large = unconvertible(fun() -> py:eval([Big, " * 1500000"], #{}, 120000) end)
     || Big <- ["['a' * 1000000]", "[b'a' * 1000000]", "[bytearray(1000000)]",
                "[memoryview(bytes(1000000))]"]],
    too_large = unconvertible(fun() ->
        py:eval(<<"[1 << 4_000_000] * 3_000_000">>, #{}, 120000)
    end).

huge_binaries(_Config) ->
    Bytes = binary:copy(<<255>>, 64 bsl 20),
    Text = binary:copy(<<"a">>, 64 bsl 20),
    [{ok, 67108864} = py:eval(<<"len(x)">>, #{x => Value}, 60000)
     || Value <- [Bytes, Text, {bytes, Text}, {view, Text}]],
    [{ok, Value} = py:call(copy, copy, [Value], #{}, 60000) || Value <- [Bytes, Text]],
    %% The values are not matched: Common Test would print them.
    ok.

huge_lists(_Config) ->
    List = lists:seq(1, 1000000),
    {ok, List} = py:eval(<<"x">>, #{x => List}, 60000),
    {ok, 500000500000} = py:call(builtins, sum, [List], #{}, 60000),
    %% The list as the arguments.
    {ok, 1000000} = py:call(builtins, max, List, #{}, 60000).

huge_tuples(_Config) ->
    too_large = unconvertible(fun() -> py:eval(<<"(0,) * (1 << 24)">>, #{}, 60000) end),
    {ok, Tuple} = py:eval(<<"(0,) * ((1 << 24) - 1)">>, #{}, 60000),
    16777215 = tuple_size(Tuple).

huge_integers(_Config) ->
    [too_large = unconvertible(fun() -> py:eval(Code) end)
     || Code <- [<<"1 << 10_000_000">>, <<"-1 << 10_000_000">>, <<"[1 << 10_000_000]">>,
                 <<"{1 << 10_000_000: 1}">>]],
    {ok, Big} = py:eval(<<"1 << 4_000_000">>),
    Big = 1 bsl 4000000,
    ok.

atoms_unknown_and_huge(_Config) ->
    Huge = list_to_atom(lists:duplicate(255, $a)),
    {error, {'ModuleNotFoundError', _}} = py:call(Huge, Huge, []),
    {error, {'AttributeError', _}} = py:call(math, Huge, []),
    {ok, 255} = py:eval(<<"len(x)">>, #{x => Huge}),
    Text = atom_to_binary(Huge),
    {ok, #{Text := 1}} = py:call(builtins, dict, [], #{Huge => 1}).

strings_mint_no_atoms(_Config) ->
    Make = <<"[('atom%d' % n, {'key%d' % n: n}) for n in range(10000)]">>,
    {ok, _} = py:eval(Make),
    Atoms = erlang:system_info(atom_count),
    {ok, Values} = py:eval(<<"[('other%d' % n, {'yet%d' % n: n}) for n in range(10000)]">>),
    10000 = length(Values),
    Atoms = erlang:system_info(atom_count).

keys_that_are_no_names(_Config) ->
    [begin
         badarg(fun() -> py:call(builtins, dict, [], #{Key => 1}) end),
         badarg(fun() -> py:eval(<<"1">>, #{Key => 1}) end),
         badarg(fun() -> py:exec(<<"1">>, #{Key => 1}) end)
     end || Key <- [1, 1.5, "text", {a}, [], #{}, self(), <<255>>, <<1:1>>]],
    [begin
         badarg(fun() -> py:call(builtins, dict, [], NoMap) end),
         badarg(fun() -> py:eval(<<"1">>, NoMap) end),
         badarg(fun() -> py:exec(<<"1">>, NoMap) end)
     end || NoMap <- [[a], [{1, 1}], [{a, 1, 2}], [{a, 1}, {a, 2}], [{a, 1} | b], a, 1, <<>>]],
    {error, {unconvertible, #{reason := key_collision}}} =
        py:call(builtins, dict, [], #{a => 1, <<"a">> => 2}).

contexts_that_are_none(_Config) ->
    [begin
         badarg(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
         badarg(fun() -> py:ctx_exec(Ctx, <<"1">>) end),
         badarg(fun() -> py:ctx_call(Ctx, math, sqrt, [1]) end),
         badarg(fun() -> py:unbind(Ctx) end)
     end || Ctx <- [undefined, make_ref(), self(), 1, <<"ctx">>, {ctx}, [], object(),
                    py_pool:native()]].

%% A reference to another native resource.
object() ->
    {ok, Object} = py:eval(<<"object()">>),
    Object.

timeouts_that_are_none(_Config) ->
    [begin
         badarg(fun() -> py:eval(<<"1">>, #{}, Timeout) end),
         badarg(fun() -> py:exec(<<"1">>, #{}, Timeout) end),
         badarg(fun() -> py:call(math, sqrt, [1], #{}, Timeout) end)
     end || Timeout <- [-1, 1.5, soon, "1", 16#100000000, undefined]],
    {ok, 1} = py:eval(<<"1">>, #{}, 16#ffffffff).

options_that_are_none(_Config) ->
    [begin
         badarg(fun() -> py:bind(Options) end),
         badarg(fun() -> py:bind(new, Options) end)
     end || Options <- [[], [{wait, 1}], #{wait => -1}, #{wait => forever}, #{weight => 1},
                        #{wait => 1, weight => 1}, 1]],
    badarg(fun() -> py:bind(old) end),
    badarg(fun() -> py:bind(old, #{}) end),
    false = py:is_bound().

funs_that_are_none(_Config) ->
    [badarg(fun() -> py:with_context(Fun) end)
     || Fun <- [ok, 1, fun(_, _) -> ok end, {?MODULE, all}]].

dead_handles_of_other_kinds(_Config) ->
    {ok, Ctx} = py:bind(new),
    %% A context as a value is a reference like others.
    {ok, Same} = py:eval(<<"x">>, #{x => Ctx}),
    true = Same =:= Ctx,
    ok = py:unbind(Ctx).
