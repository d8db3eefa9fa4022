%% Makes an input for py_fuzz out of others, with the random numbers of the process.
-module(py_fuzz_mutate).

-export([mutate/2]).

-spec mutate(py_fuzz:direction(), Pool :: array:array(binary())) -> binary().
mutate(Direction, Pool) ->
    Seed = pick(Pool),
    lists:foldl(fun(_, Input) -> change(Direction, Input, Pool) end, Seed,
                lists:seq(1, rand:uniform(3))).

pick(Pool) ->
    array:get(rand:uniform(array:size(Pool)) - 1, Pool).

%% Bytes alone seldom make a term: half of the changes know that much of the format.
change(terms, Input, Pool) ->
    case rand:uniform(8) of
        1 -> wrap([body(Input), body(pick(Pool))]);
        2 -> wrap([body(term_to_binary(pick_of(py_fuzz:atoms()))), body(Input)]);
        3 -> wrap([body(pick(Pool)) || _ <- lists:seq(1, 2 * rand:uniform(4))]);
        4 -> deep(body(Input));
        _ -> change_bytes(Input, pick(Pool))
    end;
change(objects, Input, Pool) ->
    change_bytes(Input, pick(Pool)).

body(<<131, Tag, Body/binary>>) when Tag =/= 80 -> <<Tag, Body/binary>>;
body(_) -> <<106>>.

wrap(Bodies) ->
    Count = length(Bodies),
    Whole = iolist_to_binary(Bodies),
    case rand:uniform(5) of
        1 -> <<131, 104, Count, Whole/binary>>;
        2 -> <<131, 105, Count:32, Whole/binary>>;
        3 -> <<131, 108, Count:32, Whole/binary, 106>>;
        %% The list is improper, unless the last element is a list.
        4 -> <<131, 108, (Count - 1):32, Whole/binary>>;
        5 when Count rem 2 =:= 0 -> <<131, 116, (Count div 2):32, Whole/binary>>;
        5 -> <<131, 116, 1:32, 97, 1, Whole/binary>>
    end.

%% Nests about as deep as the conversion allows.
deep(Body) ->
    Levels = pick_of([10, 500, 996 + rand:uniform(6)]),
    {Open, Close} = pick_of([{<<108, 1:32>>, <<106>>}, {<<104, 1>>, <<>>},
                             {<<116, 1:32, 97, 1>>, <<>>}]),
    iolist_to_binary([131, lists:duplicate(Levels, Open), Body, lists:duplicate(Levels, Close)]).

change_bytes(<<>>, Other) ->
    Other;
change_bytes(Input, Other) ->
    At = rand:uniform(byte_size(Input)) - 1,
    Width = min(rand:uniform(8), byte_size(Input) - At),
    <<Before:At/binary, Range:Width/binary, After/binary>> = Input,
    <<Byte, Rest/binary>> = <<Range/binary, After/binary>>,
    case rand:uniform(8) of
        1 -> <<Before/binary, (Byte bxor (1 bsl (rand:uniform(8) - 1))), Rest/binary>>;
        2 -> <<Before/binary, (interesting_byte()), Rest/binary>>;
        3 -> <<Before/binary, (interesting_integer())/binary, After/binary>>;
        4 -> Before;
        5 -> <<Before/binary, After/binary>>;
        6 -> <<Before/binary, (binary:copy(Range, rand:uniform(4)))/binary, Rest/binary>>;
        7 -> <<Before/binary, (part(Other))/binary, After/binary>>;
        8 -> <<Before/binary, (part(Other))/binary, Range/binary, After/binary>>
    end.

part(<<>>) ->
    <<>>;
part(Other) ->
    From = rand:uniform(byte_size(Other)) - 1,
    binary:part(Other, From, rand:uniform(byte_size(Other) - From)).

interesting_byte() ->
    pick_of([0, 1, 2, 16#7f, 16#80, 16#c0, 16#ed, 16#ff, rand:uniform(256) - 1]).

interesting_integer() ->
    Bits = pick_of([16, 32, 64]),
    <<(pick_of([0, 1, -1, 1 bsl (Bits - 1), (1 bsl (Bits - 1)) - 1, 255, 256])):Bits>>.

pick_of(Choices) ->
    lists:nth(rand:uniform(length(Choices)), Choices).
