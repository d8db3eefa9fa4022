%% @private
%% Python's `logging', and its output where the key `stdio' is `logger', as events of `logger'.
-module(py_logging).

-export([configure/1, log/1]).

-define(WARNINGS, 65536).

%% @doc Has the records of Python's `logging' passed on, from the next job of each Python on.
-spec configure(py:logging_options()) -> ok.
configure(#{} = Options) ->
    case maps:without([level, warnings], Options) of
        Rest when Rest =:= #{} -> ok;
        _ -> error(badarg)
    end,
    #{level := Primary} = logger:get_primary_config(),
    Level = number(maps:get(level, Options, Primary)),
    case maps:get(warnings, Options, false) of
        false -> py_nif:set_logging(Level);
        true -> py_nif:set_logging(Level + ?WARNINGS);
        _ -> error(badarg)
    end;
configure(_) ->
    error(badarg).

%% The levels of Python are numbers; `notice', `alert' and `emergency' have none of their own.
number(all) -> 1;
number(debug) -> 10;
number(info) -> 20;
number(notice) -> 25;
number(warning) -> 30;
number(error) -> 40;
number(critical) -> 50;
number(alert) -> 60;
number(emergency) -> 70;
number(none) -> 0;
number(_) -> error(badarg).

level(Number) when Number >= 70 -> emergency;
level(Number) when Number >= 60 -> alert;
level(Number) when Number >= 50 -> critical;
level(Number) when Number >= 40 -> error;
level(Number) when Number >= 30 -> warning;
level(Number) when Number >= 25 -> notice;
level(Number) when Number >= 20 -> info;
level(_) -> debug.

%% @doc Logs a record, or the lines of text. Called by a process of `py_output', since a handler may take its
%% time, and may call Python.
-spec log({none | pid(), stdout | stderr | py_nif:log_place(), binary()}) -> ok.
log({Caller, {log, Number, Logger, File, Line, Function, Lease}, Message}) ->
    Python0 = #{logger => Logger, function => Function, level => Number},
    Python = case Lease of none -> Python0; _ -> Python0#{context => Lease} end,
    Place = #{domain => [python], python => Python, file => unicode:characters_to_list(File), line => Line},
    logger:log(level(Number), "~ts", [Message], of_caller(Caller, Place));
log({Caller, Kind, Text}) ->
    Level = case Kind of stdout -> notice; stderr -> warning end,
    Meta = of_caller(Caller, #{domain => [python], python => #{stream => Kind}}),
    Lines = binary:split(Text, <<"\n">>, [global, trim]),
    lists:foreach(fun(Line) -> ok = logger:log(Level, "~ts", [Line], Meta) end, Lines).

of_caller(none, Meta) -> Meta;
of_caller(Caller, Meta) -> Meta#{pid => Caller}.
