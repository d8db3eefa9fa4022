%% @private
%% Lines of the source files that a traceback names.
%%
%% Called by `py_traceback'. The names come from code that may be hostile: only regular files are
%% read, a bounded part of each, by a process that the caller waits for a second at most.
-module(py_source).

-export([lines/1, trimmed/1]).
%% Internal.
-export([read/1]).

-include_lib("kernel/include/file.hrl").

-export_type([place/0]).

-type place() :: {File :: binary(), Line :: pos_integer()}.
%% A line of a file, counted from 1.

%% Milliseconds for all files of one error.
-define(READ_TIMEOUT, 1000).
%% Files that are read for one error, the first ones that are asked for.
-define(MAX_FILES, 64).
%% Bytes read of a file; a line that does not end within them is not shown.
-define(MAX_FILE, 16#100000).
%% Bytes shown of a line.
-define(MAX_LINE, 1024).

%% @doc Returns the text of the lines at these places, as far as it can be read. Each file is read
%% once.
-spec lines([place()]) -> #{place() => binary()}.
lines([]) ->
    #{};
lines(Places) ->
    Files = lists:sublist(lists:uniq([File || {File, _} <- Places]), ?MAX_FILES),
    Wanted = [{File, lists:usort([Line || {F, Line} <- Places, F =:= File])} || File <- Files],
    read_within(?READ_TIMEOUT, Wanted).

%% Reads in a process of its own, which is left behind after the timeout: a file system may hang,
%% and a file may be exchanged for a FIFO after the look at its type, whose opening hangs for ever.
read_within(Timeout, Wanted) ->
    {Reader, Monitor} = spawn_monitor(?MODULE, read, [Wanted]),
    receive
        {'DOWN', Monitor, process, Reader, {read, Lines}} -> Lines;
        {'DOWN', Monitor, process, Reader, _Reason} -> #{}
    after Timeout ->
        true = demonitor(Monitor, [flush]),
        true = exit(Reader, kill),
        #{}
    end.

%% @doc Reads lines of files. The entry of the reader, whose exit reason holds the lines.
-spec read([{File :: binary(), Lines :: [pos_integer()]}]) -> no_return().
read(Wanted) ->
    exit({read, maps:from_list([{{File, Line}, Text}
                                || {File, Lines} <- Wanted,
                                   {Line, Text} <- pick(Lines, content(File))])}).

content(File) ->
    case file:read_file_info(File, [raw]) of
        %% Files of /proc have no size, and reading some of them never ends.
        {ok, #file_info{type = regular, size = Size}} when Size > 0 -> content(File, Size);
        _ -> <<>>
    end.

content(File, Size) ->
    case file:open(File, [raw, binary, read]) of
        {ok, Fd} ->
            Read = file:read(Fd, min(Size, ?MAX_FILE)),
            ok = file:close(Fd),
            case Read of
                {ok, Text} when Size > ?MAX_FILE -> Text;
                %% The last line of a file may have no end.
                {ok, Text} -> <<Text/binary, "\n">>;
                _ -> <<>>
            end;
        {error, _} ->
            <<>>
    end.

%% Returns the lines with these numbers, which are sorted.
pick(Numbers, Text) ->
    pick(Numbers, 1, Text, 0, binary:compile_pattern([<<"\r\n">>, <<"\r">>, <<"\n">>])).

%% Continues at Start, where the line Number of Text begins.
pick([], _Number, _Text, _Start, _Ends) ->
    [];
pick([Wanted | Rest] = Numbers, Number, Text, Start, Ends) ->
    case binary:match(Text, Ends, [{scope, {Start, byte_size(Text) - Start}}]) of
        {End, Width} when Number =:= Wanted ->
            Line = trimmed(binary:part(Text, Start, End - Start)),
            [{Number, Line} || Line =/= none] ++ pick(Rest, Number + 1, Text, End + Width, Ends);
        {End, Width} ->
            pick(Numbers, Number + 1, Text, End + Width, Ends);
        nomatch ->
            []
    end.

%% @doc Returns a line of source as a traceback shows it; `none' for an empty line or no text.
-spec trimmed(binary()) -> binary() | none.
trimmed(Line) ->
    Part = binary:part(Line, 0, min(byte_size(Line), 4 * ?MAX_LINE)),
    case unicode:characters_to_binary(Part) of
        Text when is_binary(Text) -> nonempty(Text);
        {incomplete, Text, _} when byte_size(Part) < byte_size(Line) -> nonempty(Text);
        _ -> none
    end.

nonempty(Text) ->
    case string:slice(string:trim(Text), 0, ?MAX_LINE) of
        <<>> -> none;
        Shown -> binary:copy(Shown)
    end.
