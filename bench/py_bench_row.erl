%% @private
%% A row: a figure, its floor, the target, and the verdict. Rows are printed and written here, so
%% that the table and the file cannot differ.
-module(py_bench_row).

-export([row/1, print/2, json/1]).

-export_type([row/0, unit/0, target/0]).

-type unit() :: ns | us | ms | {per_element, pos_integer()} | {as, binary()}.
%% The unit of a figure. Times are given in nanoseconds. `{as, Name}': a figure that is no time,
%% shown as it is.

-type target() :: {ratio, number()} | {least_ratio, number()} | {most, number()}
                | {least, number()} | none.
%% The target: `most' and `least' are in the unit of the row; `ratio' is judged by the floor.

-type row() :: #{name := binary(), unit := binary(), n := non_neg_integer(),
                 judged := p50 | p99 | p999 | max, value := number(), target := binary(),
                 verdict := ok | 'MISS' | none, atom() => term()}.

-define(COLUMNS, "~-42ts ~8ts ~10ts ~10ts ~10ts ~-10ts ~-34ts ~10ts ~8ts  ~-14ts ~ts~n").

%% @doc Returns the row of a measurement. `judge' is `p50' if it is not given.
-spec row(#{name := string(), unit := unit(), stats := py_bench_stat:stats(),
            floor => {Name :: string(), Value :: number()}, judge => p50 | p99 | p999 | max,
            target => target()}) -> row().
row(#{name := Name, unit := Unit, stats := Stats} = Spec) ->
    Judge = maps:get(judge, Spec, p50),
    {FloorName, Floor} = maps:get(floor, Spec, {"", null}),
    Target = maps:get(target, Spec, none),
    In = fun(Value) -> in_unit(Value, Unit) end,
    Value = In(maps:get(Judge, Stats)),
    Ratio = ratio(Value, In(Floor)),
    #{name => list_to_binary(Name), unit => unit_name(Unit), n => maps:get(n, Stats),
      p50 => In(maps:get(p50, Stats)), p99 => In(maps:get(p99, Stats)),
      p999 => In(maps:get(p999, Stats)), max => In(maps:get(max, Stats)), judged => Judge,
      value => Value, floor => list_to_binary(FloorName), floor_value => In(Floor),
      ratio => Ratio, target => target_text(Target, unit_name(Unit)), limit => limit(Target),
      limit_kind => kind(Target), verdict => verdict(Target, Value, Ratio)}.

in_unit(null, _Unit) -> null;
in_unit(Value, ns) -> Value;
in_unit(Value, us) -> Value / 1000;
in_unit(Value, ms) -> Value / 1000000;
in_unit(Value, {per_element, Count}) -> Value / Count;
in_unit(Value, {as, _}) -> Value.

unit_name({per_element, _}) -> <<"ns/element">>;
unit_name({as, Name}) -> Name;
unit_name(Unit) -> atom_to_binary(Unit).

ratio(_Value, null) -> null;
%% A floor of nothing, which an idle node should use, has no ratio.
ratio(_Value, Floor) when Floor == 0 -> null;
ratio(Value, Floor) -> Value / Floor.

target_text(none, _Unit) -> <<"none">>;
target_text({ratio, Limit}, _Unit) -> text("<= ~ts x", [number(Limit)]);
target_text({least_ratio, Limit}, _Unit) -> text(">= ~ts x", [number(Limit)]);
target_text({most, Limit}, Unit) -> text("<= ~ts ~ts", [number(Limit), short(Unit)]);
target_text({least, Limit}, Unit) -> text(">= ~ts ~ts", [number(Limit), short(Unit)]).

short(<<"ns/element">>) -> <<"ns">>;
short(<<"calls/s">>) -> <<"/s">>;
short(Unit) -> Unit.

limit(none) -> null;
limit({_Kind, Limit}) -> Limit.

kind(none) -> null;
kind({Kind, _Limit}) -> Kind.

verdict(none, _Value, _Ratio) -> none;
verdict({ratio, Limit}, _Value, Ratio) when is_number(Ratio) -> verdict(Ratio =< Limit);
verdict({least_ratio, Limit}, _Value, Ratio) when is_number(Ratio) -> verdict(Ratio >= Limit);
verdict({most, Limit}, Value, _Ratio) -> verdict(Value =< Limit);
verdict({least, Limit}, Value, _Ratio) -> verdict(Value >= Limit).

verdict(true) -> ok;
verdict(false) -> 'MISS'.

%% @doc Prints the table of a group.
-spec print(Group :: atom(), [row()]) -> ok.
print(Group, Rows) ->
    io:format("~n" ?COLUMNS, [string:uppercase(atom_to_list(Group)), "n", "p50", "p99", "judged",
                           "unit", "floor", "its value", "ratio", "target", ""]),
    lists:foreach(fun print/1, Rows).

print(#{name := Name, n := N, p50 := P50, p99 := P99, judged := Judged, value := Value,
        unit := Unit, floor := Floor, floor_value := FloorValue, ratio := Ratio,
        target := Target, verdict := Verdict}) ->
    io:format(?COLUMNS, [Name, integer_to_list(N), number(P50), number(P99),
                      judged(Judged, Value), Unit, Floor, number(FloorValue), number(Ratio),
                      Target, case Verdict of none -> "-"; _ -> atom_to_list(Verdict) end]).

judged(p50, _Value) -> "p50";
judged(p99, _Value) -> "p99";
judged(_, Value) -> number(Value).

number(null) -> "-";
number(Value) when is_integer(Value) -> integer_to_list(Value);
number(Value) when abs(Value) >= 1000 -> integer_to_list(round(Value));
number(Value) when abs(Value) >= 10 -> io_lib:format("~.1f", [Value]);
number(Value) when abs(Value) >= 0.1 -> io_lib:format("~.2f", [Value]);
number(Value) -> io_lib:format("~.4f", [float(Value)]).

text(Format, Args) ->
    unicode:characters_to_binary(io_lib:format(Format, Args)).

%% @doc Returns a term as JSON, which OTP has from version 27 on only. Strings are UTF-8 and without
%% control characters.
-spec json(term()) -> iolist().
json(Map) when is_map(Map) ->
    Members = [[json(atom_to_binary(Key)), ": ", json(Value)]
               || {Key, Value} <- lists:sort(maps:to_list(Map))],
    ["{", lists:join(", ", Members), "}"];
json(List) when is_list(List) -> ["[", lists:join(",\n", [json(Item) || Item <- List]), "]\n"];
json(null) -> "null";
json(Atom) when is_atom(Atom) -> json(atom_to_binary(Atom));
json(Integer) when is_integer(Integer) -> integer_to_list(Integer);
json(Float) when is_float(Float) -> float_to_list(Float, [{decimals, 6}, compact]);
json(Text) when is_binary(Text) ->
    ["\"", re:replace(Text, "[\"\\\\]", "\\\\&", [global]), "\""].
