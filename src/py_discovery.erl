%% @private
%% The discovery of Python: finds the interpreter that the user chose, and asks it where its library
%% is. Called by `py_runtime', at the start of the application.
-module(py_discovery).

-export([choose/0, choose_from_environment/0, executable/2, is_path/1, ask/1, ask/2, message/2]).

-export_type([answer/0, source/0, result/1]).

-include_lib("kernel/include/file.hrl").

-define(ASK_TIMEOUT, 30000).
-define(MARK, "erlang_python:").

-type answer() :: #{binary() => binary()}.
%% The answers to `question/0', by their names; `libpython' is the path of the shared library, or
%% empty.
-type source() :: string().
%% The setting that names the interpreter, for error messages.
-type result(T) :: {ok, T} | {error, Message :: binary()}.

%% @doc Returns the path of the Python that the user chose, and the setting that names it.
-spec choose() -> result({file:filename_all(), source()}).
choose() ->
    case application:get_env(erlang_python, python) of
        {ok, Path} when Path =/= undefined ->
            executable(Path, "the application environment key 'python'");
        _ ->
            choose_from_environment()
    end.

%% @doc Returns the Python that the variables of the environment choose.
-spec choose_from_environment() -> result({file:filename_all(), source()}).
choose_from_environment() ->
    choose_from_environment(["ERLANG_PYTHON", "VIRTUAL_ENV"]).

choose_from_environment([Name | Names]) ->
    case os:getenv(Name) of
        Unset when Unset =:= false; Unset =:= "" -> choose_from_environment(Names);
        Path -> executable(Path, "the environment variable " ++ Name)
    end;
choose_from_environment([]) ->
    case os:find_executable("python3") of
        false ->
            message("no Python found: there is no python3 on PATH. Install Python 3.11 or newer, "
                    "or set the application environment key 'python' or the variable "
                    "ERLANG_PYTHON to a Python executable or a venv", []);
        Path ->
            {ok, {Path, "python3 on PATH"}}
    end.

%% @doc Returns the path of an executable, or of the one in a venv, and where its name comes from.
-spec executable(term(), source()) -> result({file:filename_all(), source()}).
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

%% Looks up a command: a name without a slash, as `python3.12'.
find_command(Name, Source) ->
    IsCommand = filename:basename(Name) =:= Name,
    case IsCommand andalso os:find_executable(Name) of
        false ->
            message("~ts, given by ~ts, does not exist. It must be a Python executable or a venv",
                    [Name, Source]);
        Found ->
            {ok, {Found, Source}}
    end.

%% @doc Returns whether a term is text that may name a file.
-spec is_path(term()) -> boolean().
is_path(Value) when is_list(Value); is_binary(Value) ->
    try unicode:characters_to_list(Value) of
        Path -> is_list(Path) andalso Path =/= [] andalso not lists:member(0, Path)
    catch
        error:badarg -> false
    end;
is_path(_) ->
    false.

is_file(Path) ->
    filelib:is_regular(Path).

%% @doc Returns the answers of the interpreter, which alone knows where its library is.
-spec ask({file:filename_all(), source()}) -> result({answer(), source()}).
ask(Choice) ->
    ask(Choice, []).

%% @doc Returns the answers of the interpreter in an environment with these variables.
-spec ask({file:filename_all(), source()}, [{Name :: binary(), Value :: binary()}]) ->
    result({answer(), source()}).
ask({Executable, Source}, Variables) ->
    Env = [{unicode:characters_to_list(Name), unicode:characters_to_list(Value)}
           || {Name, Value} <- Variables],
    Args = ["-c", question()],
    Options = [{args, Args}, {env, Env}, binary, exit_status, stderr_to_stdout, hide],
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

answered(Answer, Executable, Source, Output) ->
    Keys = [<<"version">>, <<"series">>, <<"supported">>, <<"implementation">>, <<"abiflags">>,
            <<"executable">>, <<"prefix">>, <<"looked_for">>, <<"libpython">>],
    case Keys -- maps:keys(Answer) of
        [] ->
            {ok, {Answer, Source}};
        _Missing ->
            message("~ts, given by ~ts, is not Python: it said: ~ts. It must be a Python "
                    "executable or a venv", [Executable, Source, printable(Output)])
    end.

close_port(Port) ->
    %% The port may have ended by itself in this instant.
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

%% The program that the interpreter runs. Each answer starts on a new line: a `sitecustomize' may
%% have left a line unfinished.
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
    "say('supported', sys.version_info >= (3, 11))\n"
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
    try
        [{Name, binary:decode_hex(Hex)}]
    catch
        error:badarg -> []
    end;
parse_line(_Noise) ->
    [].

printable(Output) ->
    case unicode:characters_to_binary(Output) of
        Text when is_binary(Text) -> string:trim(Text);
        _ -> io_lib:format("~tp", [Output])
    end.

%% @doc Returns an error with a text for a person.
-spec message(io:format(), [term()]) -> {error, binary()}.
message(Format, Args) ->
    {error, unicode:characters_to_binary(io_lib:format(Format, Args))}.
