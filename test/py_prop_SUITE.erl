%% Does every term come back as the table of types says, and does no input crash the VM?
%% NUMTESTS sets the number of runs of each property.
-module(py_prop_SUITE).
-compile([export_all, nowarn_export_all]).

-include_lib("proper/include/proper.hrl").

suite() ->
    [{timetrap, {seconds, 300}}].

all() ->
    [terms_come_back, integers_come_back, integers_are_what_python_prints, text_comes_back,
     maps_come_back_or_collide,
     big_containers_come_back_as_small_ones, any_term_is_answered, any_code_is_answered,
     any_interleaving_of_contexts_keeps_their_state].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 4}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    ok = py:unbind(),
    ok = py_test:wait_available(4),
    py_test:assert_empty_mailbox().

check(Property) ->
    Runs = list_to_integer(os:getenv("NUMTESTS", "200")),
    Options = [{numtests, Runs}, {max_size, 40}, {on_output, fun ct:log/2}],
    case proper:quickcheck(Property, Options) of
        true -> ok;
        false -> ct:fail("counterexample: ~tp", [proper:counterexample()])
    end.

terms_come_back(_Config) ->
    check(?FORALL(Term, convertible(), evaluate(Term) =:= expected(Term))).

integers_come_back(_Config) ->
    check(?FORALL(N, big_integer(), evaluate(N) =:= {ok, N})).

integers_are_what_python_prints(_Config) ->
    check(?FORALL(N, big_integer(), begin
        Text = list_to_binary(string:lowercase(integer_to_list(abs(N), 16))),
        py:eval(<<"'%x' % abs(n)">>, #{n => N}) =:= {ok, Text}
    end)).

text_comes_back(_Config) ->
    check(?FORALL(Text, utf8(), py:eval(<<"(type(x).__name__, x)">>, #{x => Text})
                                =:= {ok, {<<"str">>, Text}})).

maps_come_back_or_collide(_Config) ->
    check(?FORALL(Map, map_of(key(), convertible()), evaluate(Map) =:= expected(Map))).

%% Big terms are converted in another way.
big_containers_come_back_as_small_ones(_Config) ->
    check(?FORALL({Term, N}, {convertible(), range(1, 40)}, begin
        One = py:eval(<<"x">>, #{x => Term}),
        Many = py:eval(<<"([('a', x, 1.5), {'k': x, 1 << 40: [None, -1]}] * n, [x] * n)">>,
                       #{x => Term, n => N}),
        case {One, Many} of
            {{ok, X}, {ok, {Mixed, Same}}} ->
                Same =:= lists:duplicate(N, X) andalso
                    Mixed =:= lists:append(lists:duplicate(N, [
                        {<<"a">>, X, 1.5}, #{<<"k">> => X, (1 bsl 40) => [none, -1]}]));
            {{error, _}, {error, _}} ->
                true;
            _ ->
                false
        end
    end)).

any_term_is_answered(_Config) ->
    check(?FORALL(Term, any(), begin
        Answers = [py:eval(<<"repr(x)">>, #{x => Term}),
                   py:call(builtins, repr, [Term]),
                   evaluate(Term)],
        lists:all(fun is_answer/1, Answers) andalso py:eval(<<"1 + 1">>) =:= {ok, 2}
    end)).

any_code_is_answered(_Config) ->
    check(?FORALL(Code, oneof([binary(), utf8(), snippet()]), begin
        Answers = [py_test:caught(fun() -> py:Way(Code, #{}, 5000) end) || Way <- [eval, exec]],
        lists:all(fun is_answer_or_badarg/1, Answers) andalso py:eval(<<"1 + 1">>) =:= {ok, 2}
    end)).

%% Compares any sequence of assignments in some contexts with a map.
any_interleaving_of_contexts_keeps_their_state(_Config) ->
    check(?FORALL(Steps, list({range(1, 3), oneof([a, b, c]), integer()}), begin
        Contexts = [begin {ok, Ctx} = py:bind(new), {N, Ctx} end || N <- [1, 2, 3]],
        Model = lists:foldl(fun({N, Name, Value}, Acc) ->
            Ctx = proplists:get_value(N, Contexts),
            ok = py:ctx_exec(Ctx, [atom_to_list(Name), " = value"], #{value => Value}),
            Acc#{{N, Name} => Value}
        end, #{}, Steps),
        Seen = maps:map(fun({N, Name}, _) ->
            {ok, Value} = py:ctx_eval(proplists:get_value(N, Contexts), atom_to_list(Name)),
            Value
        end, Model),
        lists:foreach(fun({_, Ctx}) -> ok = py:unbind(Ctx) end, Contexts),
        Seen =:= Model
    end)).

evaluate(Term) ->
    case py:eval(<<"x">>, #{x => Term}) of
        {ok, Value} -> {ok, Value};
        {error, {unconvertible, #{reason := Reason}}} -> {unconvertible, Reason};
        Other -> Other
    end.

is_answer({ok, _}) -> true;
is_answer({unconvertible, _}) -> true;
is_answer({error, _}) -> true;
is_answer(_) -> false.

is_answer_or_badarg(ok) -> true;
is_answer_or_badarg({raised, badarg}) -> true;
is_answer_or_badarg(Answer) -> is_answer(Answer).

%%% The table of types, as a function.

expected(Term) ->
    try {ok, back(Term)} catch throw:Reason -> {unconvertible, Reason} end.

back(Atom) when Atom =:= nil; Atom =:= undefined -> none;
back(Atom) when Atom =:= true; Atom =:= false; Atom =:= none -> Atom;
back(Atom) when is_atom(Atom) -> atom_to_binary(Atom);
back({Tag, Binary}) when is_binary(Binary), Tag =:= bytes orelse Tag =:= view -> Binary;
back(Tuple) when is_tuple(Tuple) -> list_to_tuple(back(tuple_to_list(Tuple)));
back(List) when is_list(List) -> [back(Element) || Element <- List];
back(Map) when is_map(Map) ->
    Keys = [python_key(Key) || Key <- maps:keys(Map)],
    length(lists:usort(Keys)) =:= length(Keys) orelse throw(key_collision),
    Pairs = [{back(Key), back(Value)} || {Key, Value} <- maps:to_list(Map)],
    %% Two keys may differ in Python and be one in Erlang: b'a' and 'a'.
    New = maps:from_list(Pairs),
    map_size(New) =:= length(Pairs) orelse throw(key_collision),
    New;
back(Term) -> Term.

%% Keys that Python takes for equal are equal here.
python_key(true) -> 1;
python_key(false) -> 0;
python_key(Float) when is_float(Float), trunc(Float) == Float -> trunc(Float);
python_key({bytes, Binary}) when is_binary(Binary) -> {bytes, Binary};
python_key(Tuple) when is_tuple(Tuple) ->
    {tuple, [python_key(Element) || Element <- tuple_to_list(Tuple)]};
python_key(Binary) when is_binary(Binary) ->
    case unicode:characters_to_list(Binary) of
        Text when is_list(Text) -> Binary;
        _ -> {bytes, Binary}
    end;
python_key(Term) -> back(Term).

%%% Generators

convertible() ->
    ?SIZED(Size, convertible(Size)).

convertible(0) ->
    scalar();
convertible(Size) ->
    Smaller = ?LAZY(convertible(Size div 4)),
    frequency([{3, scalar()}, {1, list(Smaller)}, {1, loose_tuple(Smaller)},
               {1, map_of(key(), Smaller)}]).

scalar() ->
    oneof([integer(), big_integer(), float(), utf8(), binary(), known_atom(), {bytes, binary()},
           {view, binary()}]).

key() ->
    oneof([integer(), float(), utf8(), binary(), known_atom(), {integer(), utf8()},
           {bytes, binary()}]).

known_atom() ->
    oneof([true, false, none, nil, undefined, ok, error, nan, 'with space', '']).

map_of(Key, Value) ->
    ?LET(Pairs, list({Key, Value}), maps:from_list(Pairs)).

big_integer() ->
    ?LET({Bits, Sign, Low}, {range(0, 20000), oneof([1, -1]), integer()},
         Sign * (1 bsl Bits) + Low).

snippet() ->
    ?LET(Parts, list(oneof([<<"x">>, <<" = ">>, <<"1">>, <<"(">>, <<")">>, <<"[">>, <<"]">>,
                            <<"\n">>, <<"    ">>, <<"def f(): ">>, <<"return ">>, <<"lambda: ">>,
                            <<"raise ">>, <<"ValueError">>, <<"del ">>, <<"import sys">>,
                            <<"yield ">>, <<"async ">>, <<"class C: ">>, <<"{}">>, <<":">>])),
         iolist_to_binary(Parts)).
