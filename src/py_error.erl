%% @private
%% Errors as a person reads them.
-module(py_error).

-export([format/1]).

%% As many as Python shows of the frames that a recursion repeats.
-define(SHOWN, 3).

%% @doc What Python would print for an exception; a sentence for everything else.
-spec format(term()) -> binary().
format({error, Reason}) ->
    format(Reason);
format({Type, #{class := _, message := _, traceback := _} = Exception}) when is_atom(Type) ->
    unicode:characters_to_binary(lists:join($\n, exception(Exception)));
format({unconvertible, #{reason := Reason, value := Value}}) ->
    unicode:characters_to_binary(io_lib:format("cannot convert: ~ts: ~ts", [why(Reason), Value]));
format(timeout) ->
    <<"the call took longer than its timeout">>;
format(interrupted) ->
    <<"the call was interrupted, or its context ended under it">>;
format(not_running) ->
    <<"no call runs there">>;
format(no_workers_available) ->
    <<"every worker is leased; see py_pool:get_stats()">>;
format(overloaded) ->
    <<"too many calls wait already">>;
format(worker_crashed) ->
    <<"the worker crashed under the call; its context has ended">>;
format(context_not_bound) ->
    <<"the context has ended">>;
format({python_unavailable, Message}) when is_binary(Message) ->
    Message;
format(Other) ->
    unicode:characters_to_binary(io_lib:format("~tp", [Other])).

why(improper_list) -> "an improper list";
why(too_deep) -> "nested more than 1000 deep";
why(cycle) -> "it contains itself";
why(key_collision) -> "two keys become one";
why(unhashable_key) -> "a key that Python cannot hash";
why(not_unicode) -> "text with lone surrogates";
why(too_large) -> "too large".

%% Lines, outermost cause first, as Python prints a chain.
exception(Exception) ->
    earlier(Exception) ++ traceback(maps:get(traceback, Exception)) ++ last_lines(Exception).

earlier(#{cause := #{} = Cause} = Exception) ->
    exception(Cause) ++ ["", between(maps:get(chain, Exception, context)), ""];
earlier(_) ->
    [].

between(cause) ->
    "The above exception was the direct cause of the following exception:";
between(context) ->
    "During handling of the above exception, another exception occurred:".

traceback([]) ->
    [];
traceback(Frames) ->
    ["Traceback (most recent call last):" | lists:append([run(R) || R <- runs(Frames)])].

%% A recursion: its frames at one place are shown a few times, and counted.
runs([]) ->
    [];
runs([Frame | _] = Frames) ->
    {Run, Rest} = lists:splitwith(fun(F) -> F =:= Frame end, Frames),
    [Run | runs(Rest)].

run([Frame | _] = Run) ->
    Shown = lists:append(lists:duplicate(min(length(Run), ?SHOWN), frame(Frame))),
    Shown ++ repeated(length(Run) - ?SHOWN).

repeated(More) when More =< 0 -> [];
repeated(1) -> ["  [Previous line repeated 1 more time]"];
repeated(More) -> [io_lib:format("  [Previous line repeated ~b more times]", [More])].

frame(#{file := File, line := Line, function := Function} = Frame) ->
    Place = io_lib:format("  File \"~ts\", line ~b, in ~ts", [File, Line, Function]),
    case source(Frame) of
        none -> [Place];
        Source -> [Place, ["    ", Source]]
    end.

source(#{source := Source}) ->
    stripped(Source);
source(#{file := <<"<", _/binary>>}) ->
    none;
source(#{file := File, line := Line}) when Line > 0 ->
    case file:read_file(File) of
        {ok, Text} -> nth_line(Line, Text);
        {error, _} -> none
    end;
source(_) ->
    none.

nth_line(Line, Text) ->
    case lists:nthtail(min(Line - 1, length(lines(Text))), lines(Text)) of
        [Source | _] -> stripped(Source);
        [] -> none
    end.

lines(Text) ->
    binary:split(Text, <<"\n">>, [global]).

stripped(Source) ->
    case unicode:characters_to_binary(Source) of
        Text when is_binary(Text) -> nonempty(string:trim(Text));
        _ -> none
    end.

nonempty(<<>>) -> none;
nonempty(Text) -> Text.

last_lines(#{syntax := Syntax} = Exception) ->
    #{message := Message, file := File, line := Line} = Syntax,
    Place = io_lib:format("  File \"~ts\", line ~b", [File, Line]),
    [Place] ++ pointer(Syntax) ++ [headline(Exception, Message)] ++ notes(Exception);
last_lines(#{message := Message} = Exception) ->
    [headline(Exception, Message)] ++ notes(Exception).

headline(#{class := Class}, <<>>) ->
    short(Class);
headline(#{class := Class}, Message) ->
    [short(Class), ": ", Message].

%% Python leaves the module out for classes of the program itself.
short(<<"__main__.", Class/binary>>) -> Class;
short(Class) -> Class.

notes(Exception) ->
    maps:get(notes, Exception, []).

pointer(#{text := Text0, offset := Offset, end_offset := End}) ->
    Text = string:trim(Text0, trailing),
    Indent = string:length(Text) - string:length(string:trim(Text, leading)),
    Source = ["    ", string:trim(Text, leading)],
    case Text of
        <<>> -> [];
        _ when Offset > Indent ->
            Width = max(1, End - Offset),
            Margin = lists:duplicate(Offset - 1 - Indent, $\s),
            [Source, ["    ", Margin, lists:duplicate(Width, $^)]];
        _ -> [Source]
    end.
