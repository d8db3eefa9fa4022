%% @private
%% A Python exception, printed as Python's own `traceback' module prints it.
%%
%% The map of an exception may come from hostile code, or be made by hand: each field may be any
%% term, and the size of the text is bounded. Runs in the calling process.
-module(py_traceback).

-export([print/1, text/1, written/1]).

%% Frames shown of a recursion, all alike: as Python does.
-define(SHOWN, 3).
%% Exceptions shown of a chain of causes.
-define(MAX_CHAIN, 64).
%% Exceptions shown of a group, and groups within groups: as Python does.
-define(MAX_WIDTH, 15).
-define(MAX_DEPTH, 10).
%% Bytes of one field, and of the whole text.
-define(MAX_FIELD, 16#10000).
-define(MAX_TEXT, 16#100000).
%% Elements written of a list, and levels of a term: the time grows with the square of this number.
-define(MAX_TERM, 200).
%% Bytes counted for a line of source, which is read at the end.
-define(SOURCE_SIZE, 80).
-define(MAX_LINE_NUMBER, 16#ffffffff).

%% A line of the output, without its end: a text, or the place of a text in a file.
-type line() :: {Margin :: iodata(), iodata() | {source, py_source:place()}}.

-record(out, {
    %% The lines printed, the last first.
    lines = [] :: [line()],
    %% Bytes left; nothing is printed when there are none.
    left = ?MAX_TEXT :: integer(),
    %% Number of groups around the exception that is printed.
    depth = 0 :: non_neg_integer(),
    %% The innermost group has to end its frame. A group that is its last member may have done so.
    open = false :: boolean()
}).

%% @doc Returns the text that Python would print for the exception.
-spec print(map()) -> binary().
print(Exception) ->
    #out{lines = Lines, left = Left} = chain(Exception, #out{}),
    Rest = [{"", "... (the rest is not shown)"} || Left =< 0],
    Shown = lists:reverse(Lines) ++ Rest,
    Sources = py_source:lines([Place || {_, {source, Place}} <- Shown]),
    iolist_to_binary(lists:join($\n, lists:append([line(Line, Sources) || Line <- Shown]))).

line({Margin, {source, Place}}, Sources) ->
    [[Margin, "    ", Text] || #{Place := Text} <- [Sources]];
line({Margin, Text}, _Sources) ->
    [[Margin, Text]].

%%% Output

emit(Text, Out) ->
    emit(Text, "|", Out).

%% Appends a text. Each line has the margin of the groups around it.
emit(_Text, _Mark, #out{left = Left} = Out) when Left =< 0 ->
    Out;
emit(Text, Mark, #out{depth = Depth} = Out) ->
    Margin = case Depth of
        0 -> "";
        _ -> [indent(Depth), Mark, $\s]
    end,
    Lines = binary:split(iolist_to_binary(Text), <<"\n">>, [global]),
    lists:foldl(fun(Line, O) -> add(Margin, Line, byte_size(Line), O) end, Out, Lines).

emit_source(Place, #out{left = Left} = Out) when Left =< 0; Place =:= none ->
    Out;
emit_source(Place, #out{depth = 0} = Out) ->
    add("", {source, Place}, ?SOURCE_SIZE, Out);
emit_source(Place, #out{depth = Depth} = Out) ->
    add([indent(Depth), "| "], {source, Place}, ?SOURCE_SIZE, Out).

add(_Margin, _Text, _Size, #out{left = Left} = Out) when Left =< 0 ->
    Out;
add(Margin, Text, Size, #out{lines = Lines, left = Left} = Out) ->
    Out#out{lines = [{Margin, Text} | Lines], left = Left - Size - iolist_size(Margin) - 1}.

indent(Depth) ->
    lists:duplicate(2 * Depth, $\s).

%%% Exceptions

%% Prints an exception and its causes, the earliest first.
chain(_Exception, #out{left = Left} = Out) when Left =< 0 ->
    Out;
chain(Exception, Out) ->
    print_chain(causes(Exception, [], ?MAX_CHAIN), Out).

%% Returns the chain of an exception, the earliest first, each with its relation to the one before.
causes(#{cause := #{} = Cause} = Exception, Later, Left) when Left > 1 ->
    causes(Cause, [{maps:get(chain, Exception, context), Exception} | Later], Left - 1);
causes(Exception, Later, _Left) ->
    [{none, Exception} | Later].

print_chain([], Out) ->
    Out;
print_chain([{Origin, Exception} | Later], Out) ->
    print_chain(Later, exception(Exception, between(Origin, Out))).

between(none, Out) ->
    Out;
between(cause, Out) ->
    emit("\nThe above exception was the direct cause of the following exception:\n", Out);
between(_, Out) ->
    emit("\nDuring handling of the above exception, another exception occurred:\n", Out).

exception(#{exceptions := [_ | _]}, #out{depth = Depth} = Out) when Depth > ?MAX_DEPTH ->
    emit(io_lib:format("... (max_group_depth is ~b)", [?MAX_DEPTH]), Out);
exception(#{exceptions := [_ | _] = Exceptions} = Group, #out{depth = 0} = Out0) ->
    Out1 = traceback(Group, "Exception Group Traceback", "+", Out0#out{depth = 1}),
    Out = group(Exceptions, last_lines(Group, Out1)),
    Out#out{depth = 0};
exception(#{exceptions := [_ | _] = Exceptions} = Group, Out) ->
    group(Exceptions, last_lines(Group, traceback(Group, "Exception Group Traceback", "|", Out)));
exception(Exception, Out) ->
    last_lines(Exception, traceback(Exception, "Traceback", "|", Out)).

group(Exceptions, Out) ->
    {Shown, More} = first(?MAX_WIDTH, Exceptions),
    members(1, Shown, More, Out#out{open = false}).

members(_Number, [], 0, Out) ->
    Out;
members(Number, [], More, Out0) ->
    Out = emit(more_exceptions(More), inside(title(Number, "...", Out0))),
    close(Out#out{open = true});
members(Number, [Exception | Exceptions], More, Out0) ->
    IsLast = Exceptions =:= [] andalso More =:= 0,
    Out1 = inside(title(Number, integer_to_list(Number), Out0)),
    Out = chain(Exception, Out1#out{open = IsLast}),
    case IsLast of
        true -> close(Out);
        false -> members(Number + 1, Exceptions, More, outside(Out))
    end.

title(Number, Title, #out{depth = Depth} = Out) ->
    Join = case Number of
        1 -> "+-";
        _ -> "  "
    end,
    Line = iolist_to_binary([Join, "+---------------- ", Title, " ----------------"]),
    add(indent(Depth), Line, byte_size(Line), Out).

%% Ends the frame of a group. One end is printed for all groups whose last member is a group.
close(#out{open = true, depth = Depth} = Out0) ->
    Line = <<"+------------------------------------">>,
    Out = add(indent(Depth), Line, byte_size(Line), Out0),
    outside(Out#out{open = false});
close(Out) ->
    outside(Out).

inside(#out{depth = Depth} = Out) -> Out#out{depth = Depth + 1}.
outside(#out{depth = Depth} = Out) -> Out#out{depth = Depth - 1}.

more_exceptions(1) -> "and 1 more exception";
more_exceptions(More) -> io_lib:format("and ~b more exceptions", [More]).

%% Returns the first Count elements, and the number of the others; the tail of an improper list does
%% not count.
first(Count, [Element | List]) when Count > 0 ->
    {First, More} = first(Count - 1, List),
    {[Element | First], More};
first(_Count, List) ->
    {[], count(List, 0)}.

count([_ | List], Count) -> count(List, Count + 1);
count(_, Count) -> Count.

%%% Frames

traceback(#{traceback := [_ | _] = Frames}, Header, Mark, Out) ->
    frames(Frames, emit([Header, " (most recent call last):"], Mark, Out));
traceback(_Exception, _Header, _Mark, Out) ->
    Out.

%% Prints frames. The alike frames of a recursion are shown a few times, and counted.
frames([Frame | _] = Frames, #out{left = Left} = Out0) when Left > 0 ->
    {Count, Rest} = run(Frame, Frames, 0),
    Shown = lists:duplicate(min(Count, ?SHOWN), Frame),
    Out = lists:foldl(fun frame/2, Out0, Shown),
    frames(Rest, repeated(Count - ?SHOWN, Out));
frames(_, Out) ->
    Out.

run(Frame, [Frame | Frames], Count) -> run(Frame, Frames, Count + 1);
run(_Frame, Frames, Count) -> {Count, Frames}.

repeated(More, Out) when More =< 0 ->
    Out;
repeated(1, Out) ->
    emit("  [Previous line repeated 1 more time]", Out);
repeated(More, Out) ->
    emit(io_lib:format("  [Previous line repeated ~b more times]", [More]), Out).

frame(#{file := File, line := Line, function := Function} = Frame, Out0) ->
    Out = emit(["  File \"", text(File), "\", line ", text(Line), ", in ", text(Function)], Out0),
    case Frame of
        #{source := Source} when is_binary(Source) -> kept_source(Source, Out);
        _ -> emit_source(place(File, Line), Out)
    end;
frame(Other, Out) ->
    emit(["  ", text(Other)], Out).

kept_source(Source, Out) ->
    case py_source:trimmed(Source) of
        none -> Out;
        Shown -> emit(["    ", Shown], Out)
    end.

place(<<"<", _/binary>>, _Line) ->
    none;
place(File, Line)
  when is_binary(File), is_integer(Line), Line > 0, Line =< ?MAX_LINE_NUMBER ->
    {File, Line};
place(_File, _Line) ->
    none.

%%% The lines after the frames

last_lines(#{syntax := #{message := Message, file := File, line := Line} = Syntax} = Exception,
           Out0) ->
    Out = pointer(Syntax, emit(["  File \"", text(File), "\", line ", text(Line)], Out0)),
    notes(maps:get(notes, Exception, []), emit(headline(Exception, Message), Out));
last_lines(#{} = Exception, Out) ->
    Message = maps:get(message, Exception, <<>>),
    notes(maps:get(notes, Exception, []), emit(headline(Exception, Message), Out));
last_lines(Other, Out) ->
    emit(text(Other), Out).

headline(Exception, Message) ->
    Class = short(maps:get(class, Exception, <<"<unknown>">>)),
    case Message of
        <<>> -> Class;
        _ -> [Class, ": ", text(Message)]
    end.

%% Returns the name of a class. As in Python, classes of `__main__' have no module.
short(<<"__main__.", Class/binary>>) -> text(Class);
short(Class) -> text(Class).

notes([Note | Notes], #out{left = Left} = Out) when Left > 0 ->
    notes(Notes, emit(text(Note), Out));
notes(_, Out) ->
    Out.

%% Prints the line of code, and carets under the part that is wrong. The carets stay within the line
%% for any offsets.
pointer(#{text := Text0, offset := Offset, end_offset := End}, Out0)
  when is_binary(Text0), is_integer(Offset), is_integer(End) ->
    Text = string:trim(text(Text0), trailing),
    Source = string:trim(Text, leading),
    Length = string:length(Source),
    Indent = string:length(Text) - Length,
    case Source of
        <<>> ->
            Out0;
        _ when Offset > Indent ->
            Margin = min(Offset - 1 - Indent, Length),
            Width = max(1, min(End - Offset, Length - Margin)),
            Out = emit(["    ", Source], Out0),
            emit(["    ", lists:duplicate(Margin, $\s), lists:duplicate(Width, $^)], Out);
        _ ->
            emit(["    ", Source], Out0)
    end;
pointer(_Syntax, Out) ->
    Out.

%%% Text

%% @doc Returns a term as UTF-8: text as it is, other terms as Erlang writes them. A long one is
%% cut.
-spec text(term()) -> binary().
text(Term) when is_binary(Term) ->
    case unicode:characters_to_binary(binary:part(Term, 0, min(byte_size(Term), ?MAX_FIELD))) of
        Text when is_binary(Text), byte_size(Text) =:= byte_size(Term) -> Text;
        Text when is_binary(Text) -> <<Text/binary, "...">>;
        {incomplete, Text, _} when byte_size(Term) > ?MAX_FIELD -> <<Text/binary, "...">>;
        _ -> written(Term)
    end;
text(Term) ->
    written(Term).

%% @doc Returns a term as Erlang writes it. A long one is cut.
-spec written(term()) -> binary().
written(Term) when is_integer(Term), abs(Term) > 1 bsl 64 ->
    %% The digits of a very long integer take minutes.
    <<"<large integer>">>;
written(Term) ->
    Chars = io_lib:format("~tP", [Term, ?MAX_TERM], [{chars_limit, ?MAX_FIELD}]),
    unicode:characters_to_binary(Chars).
