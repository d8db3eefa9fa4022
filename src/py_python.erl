%% @private
%% Which Python: finds it, asks it once, loads what fits, starts it.
-module(py_python).

-export([start/0, info/0, priv_dir/0]).

-export_type([info/0]).

-include_lib("kernel/include/file.hrl").

-define(INFO, {?MODULE, info}).
-define(ASK_TIMEOUT, 30000).
-define(MARK, "erlang_python:").

-type info() :: #{version := binary(), executable := binary(), prefix := binary(),
                  libpython := binary(), abi := binary()}.
%% What the interpreter said, by name; `libpython' is a list of candidates.
-type answer() :: #{binary() => binary()}.
-type result(T) :: {ok, T} | {error, Message :: binary()}.

%% @doc Starts Python. A second start in one VM is `ok' if it is for the same Python.
-spec start() -> ok | {error, Message :: binary()}.
start() ->
    maybe_chain([fun choose/1, fun ask/1, fun check/1, fun load/1], none).

%% @doc What `start/0' learned.
-spec info() -> info().
info() ->
    persistent_term:get(?INFO).

-spec priv_dir() -> file:filename().
priv_dir() ->
    case code:priv_dir(erlang_python) of
        {error, bad_name} ->
            filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Dir ->
            Dir
    end.

maybe_chain([], _Value) ->
    ok;
maybe_chain([Step | Steps], Value0) ->
    case Step(Value0) of
        {ok, Value} -> maybe_chain(Steps, Value);
        {error, Message} -> {error, Message}
    end.

%% The choice, and where it came from: a person has to know which of them to mend.

-spec choose(none) -> result({file:filename_all(), Source :: string()}).
choose(none) ->
    case application:get_env(erlang_python, python) of
        {ok, Path} when Path =/= undefined ->
            executable(Path, "the application environment key 'python'");
        _ ->
            choose_from_environment(["ERLANG_PYTHON", "VIRTUAL_ENV"])
    end.

choose_from_environment([Name | Names]) ->
    case os:getenv(Name) of
        Unset when Unset =:= false; Unset =:= "" -> choose_from_environment(Names);
        Path -> executable(Path, "the environment variable " ++ Name)
    end;
choose_from_environment([]) ->
    case os:find_executable("python3") of
        false ->
            message("no Python found: there is no python3 on PATH. Install Python 3.10 or newer, "
                    "or set the application environment key 'python' or the variable "
                    "ERLANG_PYTHON to a Python executable or a venv", []);
        Path ->
            {ok, {Path, "python3 on PATH"}}
    end.

executable(Path0, Source) ->
    try unicode:characters_to_list(Path0) of
        Path when is_list(Path) -> executable_at(Path, Source);
        _ -> message("~ts is not a path: ~tp", [Source, Path0])
    catch
        error:badarg -> message("~ts is not a path: ~tp", [Source, Path0])
    end.

executable_at(Path, Source) ->
    case file:read_file_info(Path) of
        {ok, #file_info{type = directory}} ->
            Candidates = [filename:join([Path, "bin", N]) || N <- ["python3", "python"]],
            case lists:filter(fun is_file/1, Candidates) of
                [Found | _] ->
                    {ok, {filename:absname(Found), Source}};
                [] ->
                    message("~ts, given by ~ts, is a directory but no venv: it has no "
                            "bin/python3. Make one with: python3 -m venv ~ts",
                            [Path, Source, Path])
            end;
        {ok, _} ->
            {ok, {filename:absname(Path), Source}};
        {error, enoent} ->
            find_command(Path, Source);
        {error, Reason} ->
            message("~ts, given by ~ts, cannot be read: ~ts",
                    [Path, Source, file:format_error(Reason)])
    end.

%% `python3.12' without a slash is a command, not a file.
find_command(Name, Source) ->
    IsCommand = filename:basename(Name) =:= Name,
    case IsCommand andalso os:find_executable(Name) of
        false ->
            message("~ts, given by ~ts, does not exist. It must be a Python executable or a venv",
                    [Name, Source]);
        Found ->
            {ok, {Found, Source}}
    end.

is_file(Path) ->
    filelib:is_regular(Path).

%% One question to the interpreter itself: nobody else knows where its library is.

-spec ask({file:filename_all(), string()}) -> result({answer(), string()}).
ask({Executable, Source}) ->
    Args = ["-c", question()],
    Options = [{args, Args}, binary, exit_status, stderr_to_stdout, hide],
    try open_port({spawn_executable, Executable}, Options) of
        Port -> answer(Port, Executable, Source, <<>>, deadline())
    catch
        error:Reason ->
            message("~ts, given by ~ts, cannot be run: ~ts. It must be a Python executable or a "
                    "venv", [Executable, Source, file:format_error(Reason)])
    end.

answer(Port, Executable, Source, Output, Deadline) ->
    receive
        {Port, {data, Data}} ->
            answer(Port, Executable, Source, <<Output/binary, Data/binary>>, Deadline);
        {Port, {exit_status, 0}} ->
            answered(parse(Output), Executable, Source, Output);
        {Port, {exit_status, Status}} ->
            message("~ts, given by ~ts, does not run: it ended with status ~b and said:~n~ts",
                    [Executable, Source, Status, printable(Output)])
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        close_port(Port),
        message("~ts, given by ~ts, did not answer within ~b seconds",
                [Executable, Source, ?ASK_TIMEOUT div 1000])
    end.

answered(Answer, Executable, Source, Output) when map_size(Answer) =:= 0 ->
    message("~ts, given by ~ts, is not Python: it said: ~ts. It must be a Python executable or a "
            "venv", [Executable, Source, printable(Output)]);
answered(Answer, _Executable, Source, _Output) ->
    {ok, {Answer, Source}}.

close_port(Port) ->
    %% It may have ended by itself in this instant.
    try port_close(Port) of
        true -> ok
    catch
        error:badarg -> ok
    end,
    receive
        {Port, _} -> ok
    after 0 -> ok
    end.

deadline() ->
    erlang:monotonic_time(millisecond) + ?ASK_TIMEOUT.

%% Each line starts on a new one: a sitecustomize may have left one unfinished.
question() ->
    "import os, sys, sysconfig\n"
    "def say(name, value):\n"
    "    print('\\n" ?MARK "', name, os.fsencode(str(value)).hex(), sep=':')\n"
    "var = lambda name: sysconfig.get_config_var(name) or ''\n"
    "names = [n for n in (var('INSTSONAME'), var('LDLIBRARY')) if '.so' in n or '.dylib' in n]\n"
    "names = names or ['libpython%s%s.so' % (var('VERSION'), sys.abiflags)]\n"
    "folders = [var('LIBDIR'), os.path.join(var('LIBDIR'), var('MULTIARCH')),\n"
    "           os.path.join(sys.base_prefix, 'lib'), var('LIBPL')]\n"
    "paths = [os.path.join(f, n) for f in folders if f for n in names]\n"
    "say('version', sys.version.split()[0])\n"
    "say('series', '%d%d' % sys.version_info[:2])\n"
    "say('supported', sys.version_info >= (3, 10))\n"
    "say('implementation', sys.implementation.name)\n"
    "say('abiflags', sys.abiflags)\n"
    "say('executable', sys.executable)\n"
    "say('prefix', sys.prefix)\n"
    "say('looked_for', ', '.join(dict.fromkeys(paths)))\n"
    "say('libpython', next((p for p in paths if os.path.exists(p)), ''))\n".

parse(Output) ->
    Lines = binary:split(Output, [<<"\n">>, <<"\r">>], [global, trim_all]),
    maps:from_list(lists:append([parse_line(binary:split(L, <<":">>, [global])) || L <- Lines])).

parse_line([<<"erlang_python">>, <<>>, Name, Hex]) ->
    [{Name, << <<(binary_to_integer(B, 16))>> || <<B:2/binary>> <= Hex >>}];
parse_line(_Noise) ->
    [].

printable(Output) ->
    case unicode:characters_to_binary(Output) of
        Text when is_binary(Text) -> string:trim(Text);
        _ -> io_lib:format("~tp", [Output])
    end.

-spec check({answer(), string()}) -> result({answer(), string()}).
check({#{<<"implementation">> := <<"cpython">>, <<"supported">> := <<"True">>} = Answer, Source}) ->
    check_build(Answer, Source);
check({Answer, Source}) ->
    message("~ts, given by ~ts, is ~ts ~ts; CPython 3.10 or newer is needed",
            [field(<<"executable">>, Answer), Source, field(<<"implementation">>, Answer),
             field(<<"version">>, Answer)]).

check_build(#{<<"abiflags">> := Flags} = Answer, Source) when Flags =/= <<>> ->
    message("~ts ~ts, given by ~ts, is a special build (abiflags '~ts': free-threaded or debug); "
            "choose an ordinary one",
            [field(<<"executable">>, Answer), field(<<"version">>, Answer), Source, Flags]);
check_build(#{<<"libpython">> := <<>>} = Answer, Source) ->
    message("~ts ~ts, given by ~ts, has no shared libpython. Looked for: ~ts. Install it (on "
            "Debian: apt-get install libpython~ts), build Python with --enable-shared, or choose "
            "another Python",
            [field(<<"executable">>, Answer), field(<<"version">>, Answer), Source,
             field(<<"looked_for">>, Answer), series(Answer)]);
check_build(Answer, Source) ->
    {ok, {Answer, Source}}.

-spec load({answer(), string()}) -> result(ok).
load({Answer, Source}) ->
    Executable = field(<<"executable">>, Answer),
    Steps = [fun load_nif/1, fun start_loaded/1],
    case persistent_term:get(?INFO, none) of
        none ->
            done(maybe_chain([fun library/1, fun open/1 | Steps], Answer));
        #{executable := Executable} = Info ->
            done(maybe_chain(Steps, Info));
        #{executable := Loaded} ->
            message("this VM has ~ts already, and ~ts, given by ~ts, would be a second one: "
                    "restart the VM to change the Python", [Loaded, Executable, Source])
    end.

done(ok) -> {ok, ok};
done({error, Message}) -> {error, Message}.

%% From here on the VM is that Python's, even if it does not start: the symbols of a second
%% libpython would hide behind those of the first.
open({Abi, Answer}) ->
    Libpython = field(<<"libpython">>, Answer),
    case py_loader:open(Libpython) of
        ok ->
            Info = #{version => field(<<"version">>, Answer),
                     executable => field(<<"executable">>, Answer),
                     prefix => field(<<"prefix">>, Answer), libpython => Libpython, abi => Abi},
            ok = persistent_term:put(?INFO, Info),
            {ok, Info};
        {error, Text} ->
            message("~ts does not load: ~ts. Install that Python anew, or choose another",
                    [Libpython, Text])
    end.

load_nif(#{abi := Abi} = Info) ->
    Path = library_path(Abi),
    case py_nif:load(Path) of
        ok -> {ok, Info};
        %% An earlier start got as far as this.
        {error, {reload, _}} -> {ok, Info};
        {error, {_, Text}} -> message("~ts.so does not load: ~ts", [Path, Text])
    end.

start_loaded(#{executable := Executable}) ->
    %% The VM ignores SIGCHLD; with that, Python's subprocess takes every child for a success.
    ok = os:set_signal(sigchld, default),
    case py_nif:start_python(Executable) of
        ok -> {ok, ok};
        {error, Text} -> message("~ts does not start: ~ts", [Executable, Text])
    end.

%% The build for this very version, else the portable one.
library(Answer) ->
    Abis = [<<"cp", (field(<<"series">>, Answer))/binary>>, <<"abi3">>],
    case [Abi || Abi <- Abis, is_file([library_path(Abi), ".so"])] of
        [Abi | _] ->
            {ok, {Abi, Answer}};
        [] ->
            message("erlang_python is not built for Python ~ts: there is no ~ts. Build it with: "
                    "make native PYTHON=~ts, or for every Python with: make portable",
                    [series(Answer),
                     lists:join(" nor ", [[library_path(Abi), ".so"] || Abi <- Abis]),
                     field(<<"executable">>, Answer)])
    end.

library_path(Abi) ->
    filename:join(priv_dir(), "py_nif." ++ binary_to_list(Abi)).

series(Answer) ->
    <<Major:1/binary, Minor/binary>> = field(<<"series">>, Answer),
    <<Major/binary, ".", Minor/binary>>.

field(Name, Answer) ->
    maps:get(Name, Answer, <<>>).

-spec message(io:format(), [term()]) -> {error, binary()}.
message(Format, Args) ->
    {error, unicode:characters_to_binary(io_lib:format(Format, Args))}.
