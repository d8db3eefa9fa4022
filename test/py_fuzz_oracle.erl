%% The term that must be the result of a term that was sent to Python, by docs/guide/types.md and not the
%% code.
-module(py_fuzz_oracle).

-export([expected_local/1, expected_args/1, expected_kwargs/1, agrees/2]).

-export_type([expectation/0, outcome/0]).

-type expectation() :: {ok, term()} | {unconvertible, [atom()]} | badarg.
%% A set of reasons: a term that cannot be converted for several reasons is refused for any one of
%% them.

-type outcome() :: {ok, term()} | {unconvertible, atom()} | badarg | {undocumented, term()}.
%% The outcome of a call.

-define(MAX_DEPTH, 1000).
%% The containers around a term that count: the list of arguments and the map of locals do not.
-define(AROUND, 0).
-define(IS_TAGGED(Tag, Binary), is_binary(Binary), Tag =:= bytes orelse Tag =:= view).

%% @doc Returns the outcome for a term as a local that is returned.
-spec expected_local(term()) -> expectation().
expected_local(Term) ->
    expected(Term, ?AROUND).

%% @doc Returns the outcome for a list as the arguments of a function that returns them, or a map as
%% its keyword arguments.
-spec expected_args([term()] | #{term() => term()}) -> expectation().
expected_args(Term) ->
    expected(Term, ?AROUND - 1).

%% Returns the expectation for a term that is within Depth containers on the way to Python, and
%% within none on the way back.
expected(Term, Depth) ->
    case lists:usort(reasons(Term, Depth) ++ reasons(Term, 0)) of
        [] -> {ok, back(Term)};
        Reasons -> {unconvertible, Reasons}
    end.

%% A map whose keys are no names is `badarg'.
-spec expected_kwargs(#{term() => term()}) -> expectation().
expected_kwargs(Map) ->
    Named = [{as_text(Key), Value} || {Key, Value} <- maps:to_list(Map)],
    case lists:all(fun({Name, _}) -> is_text(Name) end, Named) of
        true -> expected_named(Named, maps:from_list(Named));
        false -> badarg
    end.

expected_named(Named, Map) when length(Named) =:= map_size(Map) ->
    expected_args(Map);
expected_named(_Named, Map) ->
    {unconvertible, lists:usort([key_collision | reasons(Map, ?AROUND - 1)])}.

as_text(Atom) when is_atom(Atom) -> atom_to_binary(Atom);
as_text(Term) -> Term.

-spec agrees(outcome(), expectation()) -> boolean().
agrees({ok, Seen}, {ok, Wanted}) ->
    %% The bytes are compared as well: 0.0 matches -0.0 before OTP 27.
    Seen =:= Wanted andalso term_to_binary(Seen) =:= term_to_binary(Wanted);
agrees({unconvertible, Reason}, {unconvertible, Reasons}) ->
    lists:member(Reason, Reasons);
agrees(Seen, Wanted) ->
    Seen =:= badarg andalso Wanted =:= badarg.

%%% Reasons why a term has no form in Python, or none in Erlang again

reasons({Tag, Binary}, _Depth) when ?IS_TAGGED(Tag, Binary) ->
    [];
reasons(Term, Depth) when is_list(Term); is_tuple(Term); is_map(Term) ->
    case Depth >= ?MAX_DEPTH of
        true -> [too_deep];
        false -> reasons_within(Term, Depth + 1)
    end;
reasons(_Scalar, _Depth) ->
    [].

reasons_within(Tuple, Depth) when is_tuple(Tuple) ->
    reasons_of(tuple_to_list(Tuple), Depth);
reasons_within(Map, Depth) when is_map(Map) ->
    Keys = maps:keys(Map),
    Unhashable = [unhashable_key || Key <- Keys, not is_hashable(Key)],
    %% Keys without a Python form collide with no other.
    NoForm = Unhashable ++ reasons_of(Keys, Depth),
    Unhashable ++ collision(NoForm, Keys)
        ++ reasons_of(Keys ++ maps:values(Map), Depth);
reasons_within(List, Depth) ->
    reasons_of_list(List, Depth, []).

reasons_of_list([Head | Tail], Depth, Found) ->
    reasons_of_list(Tail, Depth, reasons(Head, Depth) ++ Found);
reasons_of_list([], _Depth, Found) ->
    Found;
reasons_of_list(_Improper, _Depth, Found) ->
    [improper_list | Found].

reasons_of(Terms, Depth) ->
    lists:append([reasons(Term, Depth) || Term <- Terms]).

is_hashable({Tag, Binary}) when ?IS_TAGGED(Tag, Binary) -> true;
is_hashable(Tuple) when is_tuple(Tuple) -> lists:all(fun is_hashable/1, tuple_to_list(Tuple));
is_hashable(Term) -> not (is_list(Term) orelse is_map(Term)).

%% Keys may be one in Python, as 1 and true are, or one in Erlang again, as b'a' and 'a' are.
collision([], Keys) ->
    Count = length(Keys),
    Ones = [lists:usort([Equal(Key) || Key <- Keys]) || Equal <- [fun python_key/1, fun back/1]],
    [key_collision || One <- Ones, length(One) < Count];
collision(_NoForm, _Keys) ->
    [].

%% Maps terms whose Python forms are equal to one term.
python_key(true) -> 1;
python_key(false) -> 0;
python_key(Float) when is_float(Float), trunc(Float) == Float -> trunc(Float);
python_key({Tag, Binary}) when ?IS_TAGGED(Tag, Binary) -> {bytes, Binary};
python_key(Tuple) when is_tuple(Tuple) ->
    {tuple, [python_key(Element) || Element <- tuple_to_list(Tuple)]};
python_key(Binary) when is_binary(Binary) ->
    case is_text(Binary) of
        true -> Binary;
        false -> {bytes, Binary}
    end;
python_key(Term) -> back(Term).

is_text(Binary) when is_binary(Binary) -> is_list(unicode:characters_to_list(Binary));
is_text(_) -> false.

%%% The table of types, as a function

back(Atom) when Atom =:= nil; Atom =:= undefined -> none;
back(Atom) when Atom =:= true; Atom =:= false; Atom =:= none -> Atom;
back(Atom) when is_atom(Atom) -> atom_to_binary(Atom);
back({Tag, Binary}) when ?IS_TAGGED(Tag, Binary) -> Binary;
back(Tuple) when is_tuple(Tuple) -> list_to_tuple(back(tuple_to_list(Tuple)));
back(List) when is_list(List) -> [back(Element) || Element <- List];
back(Map) when is_map(Map) ->
    maps:from_list([{back(Key), back(Value)} || {Key, Value} <- maps:to_list(Map)]);
back(Term) -> Term.
