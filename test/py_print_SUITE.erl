%% Is every error printed as Python prints it, within bounds, for any fields that it has?
-module(py_print_SUITE).
-compile([export_all, nowarn_export_all]).

%% The words and milliseconds that printing one error may take.
-define(MAX_WORDS, 32_000_000).
-define(MAX_TIME, 20000).
%% The bytes of a text, and a few for the note that more was there.
-define(MAX_TEXT, 1_200_000).

suite() ->
    [{timetrap, {seconds, 600}}].

all() ->
    [carets_stay_within_the_line, carets_stand_where_the_offsets_say,
     only_regular_files_are_read, a_fifo_is_not_opened, a_long_file_is_read_in_part,
     many_files_are_read_within_a_moment, a_file_is_read_once,
     every_line_end_of_python_ends_a_line, every_field_may_be_any_term,
     lists_without_a_proper_end_are_printed, long_fields_are_cut, many_notes_are_cut,
     long_chains_are_cut, groups_are_printed_as_python_prints_them, wide_groups_are_cut,
     deep_groups_are_cut, groups_of_groups_are_bounded_in_all,
     causes_within_a_group_have_its_margin, exceptions_of_hostile_code_are_printed].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    py_test:end_case(2).

%% Returns the text of an error, made by a process of bounded memory in bounded time.
print(Exception) ->
    print({error, {'Exception', Exception}}, ?MAX_TIME).

print(Error, Time) ->
    printed(fun() -> Error end, Time).

printed(Make, Time) ->
    Limit = #{size => ?MAX_WORDS, kill => true, error_logger => false},
    {Pid, Monitor} = spawn_opt(fun() -> exit({printed, py:format_error(Make())}) end,
                               [monitor, {max_heap_size, Limit}]),
    receive
        {'DOWN', Monitor, process, Pid, {printed, Text}} ->
            true = is_binary(Text),
            true = byte_size(Text) =< ?MAX_TEXT,
            Text;
        {'DOWN', Monitor, process, Pid, Reason} ->
            ct:fail({not_printed, Reason})
    after Time ->
        exit(Pid, kill),
        true = demonitor(Monitor, [flush]),
        ct:fail({not_printed_within, Time})
    end.

exception() ->
    #{class => <<"ValueError">>, message => <<"v">>, traceback => [], cause => none}.

exception(Message) ->
    (exception())#{message => Message}.

at(File, Line) ->
    (exception())#{traceback => [#{file => unicode:characters_to_binary(File), line => Line,
                                   function => <<"f">>}]}.

syntax(Text, Offset, End) ->
    (exception())#{syntax => #{message => <<"bad">>, file => <<"f">>, line => 1,
                               offset => Offset, end_offset => End, text => Text}}.

carets_stay_within_the_line(_Config) ->
    Error = py:exec(<<"raise SyntaxError('bad', ('f', 1, 2**32-2, 'text', 1, 2**32-1))">>),
    Expected = <<"  File \"f\", line 1\n    text\n        ^\nValueError: bad">>,
    Printed = binary:replace(print(Error, ?MAX_TIME), <<"SyntaxError">>, <<"ValueError">>,
                             [global]),
    Expected = binary:part(Printed, byte_size(Printed), -byte_size(Expected)),
    Expected = print(syntax(<<"text">>, 1 bsl 32, 1 bsl 33)),
    [_ = print(syntax(Text, Offset, End))
     || Text <- [<<>>, <<"x">>, <<"   ">>, <<"  x">>, <<"é"/utf8>>, <<"\xff">>, none],
        Offset <- [-(1 bsl 70), -1, 0, 1, 3, 1 bsl 70, none],
        End <- [-(1 bsl 70), -1, 0, 1, 3, 1 bsl 70, none]],
    ok.

carets_stand_where_the_offsets_say(_Config) ->
    <<"  File \"f\", line 1\n    a + b\n      ^\nValueError: bad">> =
        print(syntax(<<"  a + b\n">>, 5, 6)),
    <<"  File \"f\", line 1\n    a + b\n    ^^^^^\nValueError: bad">> =
        print(syntax(<<"  a + b\n">>, 3, 1000)).

only_regular_files_are_read(_Config) ->
    [begin
         Expected = <<"Traceback (most recent call last):\n  File \"", File/binary,
                      "\", line 1, in f\nValueError: v">>,
         Expected = print(at(File, 1))
     end || File <- [<<"/dev/zero">>, <<"/dev/stdin">>, <<"/dev/tty">>, <<"/">>, <<>>,
                     <<"/proc/kmsg">>, <<"/proc/self/maps">>, <<"nothing">>, <<"a", 0, "b">>,
                     binary:copy(<<"long">>, 2000)]],
    ok.

a_fifo_is_not_opened(Config) ->
    Fifo = filename:join(proplists:get_value(priv_dir, Config), "fifo"),
    [] = os:cmd("mkfifo " ++ Fifo),
    nomatch = binary:match(print(at(Fifo, 1)), <<"    ">>).

write(Config, Name, Text) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, Text),
    File.

has_source(Exception, Source) ->
    binary:match(print(Exception), <<"\n    ", Source/binary, "\n">>) =/= nomatch.

a_long_file_is_read_in_part(Config) ->
    %% The file is sparse: a terabyte would not fit anywhere.
    File = write(Config, "long.py", <<"first\nsecond\n">>),
    {ok, Fd} = file:open(File, [read, write, raw]),
    {ok, _} = file:position(Fd, 1 bsl 40),
    ok = file:write(Fd, <<"\n">>),
    ok = file:close(Fd),
    true = has_source(at(File, 2), <<"second">>),
    %% The third line ends a terabyte later.
    <<_/binary>> = Text = print(at(File, 3)),
    nomatch = binary:match(Text, <<"    ">>),
    ok = file:delete(File).

many_files_are_read_within_a_moment(Config) ->
    Lines = write(Config, "lines.py", binary:copy(<<"x\n">>, 500_000)),
    Frames = [begin
                  Link = filename:join(proplists:get_value(priv_dir, Config),
                                       "link" ++ integer_to_list(N)),
                  ok = file:make_symlink(Lines, Link),
                  #{file => unicode:characters_to_binary(Link), line => 499_999 + N,
                    function => <<"f">>}
              end || N <- lists:seq(1, 300)],
    _ = print((exception())#{traceback => Frames}),
    ok.

a_file_is_read_once(Config) ->
    File = write(Config, "once.py", lists:duplicate(10_000, <<"12345678\n">>)),
    Frames = [#{file => unicode:characters_to_binary(File), line => N, function => <<"f">>}
              || N <- lists:seq(1, 5000)],
    Self = self(),
    Tracer = spawn_link(fun() -> count_opens(Self, 0) end),
    _ = erlang:trace(new_processes, true, [call, {tracer, Tracer}]),
    1 = erlang:trace_pattern({file, open, 2}, true, []),
    Text = print((exception())#{traceback => Frames}),
    _ = erlang:trace(new_processes, false, [call]),
    1 = erlang:trace_pattern({file, open, 2}, false, []),
    {match, Sources} = re:run(Text, "\n    12345678\n", [global]),
    true = length(Sources) > 1000,
    Delivered = erlang:trace_delivered(all),
    receive {trace_delivered, all, Delivered} -> ok after 10000 -> error(not_delivered) end,
    Tracer ! stop,
    receive {opens, Count} -> 1 = Count after 10000 -> error(no_count) end.

count_opens(Parent, Count) ->
    receive
        {trace, _Pid, call, _} -> count_opens(Parent, Count + 1);
        stop -> Parent ! {opens, Count}
    after 60000 -> error(not_stopped)
    end.

every_line_end_of_python_ends_a_line(Config) ->
    File = write(Config, "ends.py", <<"one\rtwo\r\nthree\nfour\n\rsix">>),
    [true = has_source(at(File, N), Line)
     || {N, Line} <- [{1, <<"one">>}, {2, <<"two">>}, {3, <<"three">>}, {4, <<"four">>},
                      {6, <<"six">>}]],
    [nomatch = binary:match(print(at(File, N)), <<"    ">>) || N <- [0, 5, 7, 1 bsl 31]],
    ok.

%% Values of the wrong type.
terms() ->
    Deep = lists:foldl(fun(_, T) -> [T] end, [], lists:seq(1, 100_000)),
    [none, [], <<>>, 7, -1, 1.5, 1 bsl 70, 1 bsl 200_000, "text", [16#d800], <<"\xff\xfe">>,
     <<1:3>>, self(), #{}, {a, b}, [a | b], Deep, [#{}], [none], [[]], lists:seq(1, 100_000),
     maps:from_keys(lists:seq(1, 10_000), x)].

every_field_may_be_any_term(_Config) ->
    Frame = #{file => <<"nothing">>, line => 1, function => <<"f">>, source => <<"s">>},
    Syntax = #{message => <<"bad">>, file => <<"f">>, line => 1, offset => 1, end_offset => 1,
               text => <<"t">>},
    Full = (exception())#{traceback => [Frame], cause => exception(), chain => cause,
                          notes => [<<"n">>], syntax => Syntax, exceptions => [exception()]},
    [_ = print(Exception)
     || Term <- terms(),
        Exception <- [Full#{Key := Term} || Key <- maps:keys(Full)]
            ++ [(maps:remove(syntax, Full))#{Key := Term}
                || Key <- maps:keys(Full), Key =/= syntax]
            ++ [Full#{traceback := [Frame#{Key := Term}, Term]} || Key <- maps:keys(Frame)]
            ++ [Full#{syntax := Syntax#{Key := Term}} || Key <- maps:keys(Syntax)]
            ++ [Full#{notes := [Term], exceptions := [Term, Term], cause := #{cause => Term}}]],
    [begin
         _ = print({error, Term}, ?MAX_TIME),
         _ = print({error, {'ValueError', Term}}, ?MAX_TIME),
         _ = print({unconvertible, #{reason => Term, value => Term}}, ?MAX_TIME),
         _ = print({python_unavailable, Term}, ?MAX_TIME)
     end || Term <- terms()],
    ok.

lists_without_a_proper_end_are_printed(_Config) ->
    Frame = #{file => <<"nothing">>, line => 1, function => <<"f">>},
    Improper = fun(Element) -> [Element, Element | tail] end,
    Text = print((exception())#{traceback := Improper(Frame), notes => Improper(<<"note">>),
                                exceptions => Improper(exception())}),
    <<"  + Exception Group Traceback (most recent call last):\n"
      "  |   File \"nothing\", line 1, in f\n"
      "  |   File \"nothing\", line 1, in f\n"
      "  | ValueError: v\n"
      "  | note\n"
      "  | note\n"
      "  +-+---------------- 1 ----------------\n"
      "    | ValueError: v\n"
      "    +---------------- 2 ----------------\n"
      "    | ValueError: v\n"
      "    +------------------------------------">> = Text.

long_fields_are_cut(_Config) ->
    Long = binary:copy(<<"é"/utf8>>, 10_000_000),
    Shown = print(exception(Long)),
    true = is_list(unicode:characters_to_list(Shown)),
    <<"...">> = binary:part(Shown, byte_size(Shown), -3),
    Newlines = binary:copy(<<"\n">>, 5_000_000),
    _ = print((exception(Newlines))#{notes => [Newlines], exceptions => [exception(Newlines)]}),
    <<"ValueError: é"/utf8>> = print(exception(<<"é"/utf8>>)).

many_notes_are_cut(_Config) ->
    Text = print((exception())#{notes => lists:duplicate(1_000_000, <<"note">>)}),
    <<"... (the rest is not shown)">> = lists:last(binary:split(Text, <<"\n">>, [global])),
    Frames = [#{file => <<"f">>, line => N, function => <<"f">>} || N <- lists:seq(1, 200_000)],
    _ = print((exception())#{traceback => Frames}),
    ok.

long_chains_are_cut(_Config) ->
    Chain = lists:foldl(fun(_, Cause) -> (exception())#{cause => Cause} end, exception(),
                        lists:seq(1, 1_000_000)),
    {match, Shown} = re:run(print(Chain), "ValueError: v", [global]),
    64 = length(Shown).

group(Message, Exceptions) ->
    (exception(Message))#{class => <<"ExceptionGroup">>, exceptions => Exceptions}.

%% The text of Python 3.11 for the same exceptions.
groups_are_printed_as_python_prints_them(_Config) ->
    Frame = #{file => <<"<erlang>">>, line => 3, function => <<"<module>">>,
              source => <<"    raise g">>},
    Inner = group(<<"in (2 sub-exceptions)">>,
                  [exception(<<"k">>), exception(<<"[Errno 2] x\ny">>)]),
    Group = (group(<<"g (2 sub-exceptions)">>, [exception(<<"a">>), Inner]))#{
        traceback => [Frame], notes => [<<"a note">>]},
    Text = print((exception(<<"z">>))#{cause => Group, chain => cause,
                                       traceback => [Frame#{line := 6}]}),
    <<"  + Exception Group Traceback (most recent call last):\n"
      "  |   File \"<erlang>\", line 3, in <module>\n"
      "  |     raise g\n"
      "  | ExceptionGroup: g (2 sub-exceptions)\n"
      "  | a note\n"
      "  +-+---------------- 1 ----------------\n"
      "    | ValueError: a\n"
      "    +---------------- 2 ----------------\n"
      "    | ExceptionGroup: in (2 sub-exceptions)\n"
      "    +-+---------------- 1 ----------------\n"
      "      | ValueError: k\n"
      "      +---------------- 2 ----------------\n"
      "      | ValueError: [Errno 2] x\n"
      "      | y\n"
      "      +------------------------------------\n"
      "\n"
      "The above exception was the direct cause of the following exception:\n"
      "\n"
      "Traceback (most recent call last):\n"
      "  File \"<erlang>\", line 6, in <module>\n"
      "    raise g\n"
      "ValueError: z">> = Text.

wide_groups_are_cut(_Config) ->
    Ends = fun(Count) ->
        Text = print(group(<<"g">>, [exception(integer_to_binary(N))
                                     || N <- lists:seq(1, Count)])),
        lists:nthtail(length(binary:split(Text, <<"\n">>, [global])) - 4,
                      binary:split(Text, <<"\n">>, [global]))
    end,
    Frame = <<"    +------------------------------------">>,
    [_, <<"    +---------------- 15 ----------------">>, <<"    | ValueError: 15">>, Frame] =
        Ends(15),
    [_, <<"    +---------------- ... ----------------">>, <<"    | and 1 more exception">>, Frame] =
        Ends(16),
    [_, <<"    +---------------- ... ----------------">>, <<"    | and 999985 more exceptions">>,
     Frame] = Ends(1_000_000).

deep_groups_are_cut(_Config) ->
    Nest = fun(Depth) ->
        lists:foldl(fun(N, E) -> group(integer_to_binary(N), [E]) end, exception(),
                    lists:seq(1, Depth))
    end,
    nomatch = binary:match(print(Nest(10)), <<"max_group_depth">>),
    Lines = binary:split(print(Nest(100_000)), <<"\n">>, [global]),
    [<<"                      | ... (max_group_depth is 10)">>,
     <<"                      +------------------------------------">>] =
        lists:nthtail(length(Lines) - 2, Lines).

%% A group of 15 to the power of 10 exceptions, which share their parts in memory: a copy for
%% another process would not.
groups_of_groups_are_bounded_in_all(_Config) ->
    Wide = fun() ->
        {error, {'Exception', lists:foldl(fun(_, E) -> group(<<"g">>, lists:duplicate(15, E)) end,
                                          exception(), lists:seq(1, 20))}}
    end,
    Lines = binary:split(printed(Wide, ?MAX_TIME), <<"\n">>, [global]),
    <<"... (the rest is not shown)">> = lists:last(Lines).

causes_within_a_group_have_its_margin(_Config) ->
    Caused = (exception(<<"b">>))#{cause => exception(<<"c">>), chain => context},
    <<"  | ExceptionGroup: g\n"
      "  +-+---------------- 1 ----------------\n"
      "    | ValueError: c\n"
      "    | \n"
      "    | During handling of the above exception, another exception occurred:\n"
      "    | \n"
      "    | ValueError: b\n"
      "    +------------------------------------">> = print(group(<<"g">>, [Caused])).

exceptions_of_hostile_code_are_printed(Config) ->
    Fifo = filename:join(proplists:get_value(priv_dir, Config), "hostile"),
    [] = os:cmd("mkfifo " ++ Fifo),
    [_ = print(py:exec(Code, #{fifo => unicode:characters_to_binary(Fifo)}), ?MAX_TIME)
     || Code <- [<<"exec(compile('1/0', '/dev/zero', 'exec'))">>,
                 <<"exec(compile('1/0', fifo.decode() if isinstance(fifo, bytes) else fifo, "
                   "'exec'))">>,
                 <<"exec(compile('\\n' * 10 + '1/0', '/proc/kmsg', 'exec'))">>,
                 <<"raise SyntaxError('m' * 10**7, ('f' * 10**6, 1, 2, 't' * 10**7, 1, 3))">>,
                 <<"raise type('C' * 10**6, (Exception,), {})('x\\n' * 10**6)">>]],
    ok.
