%% @doc Python environments with packages: `ensure/1' makes a venv once for each set of requirements.
%%
%% With `{python, {env, Spec}}' in the application environment the application makes its venv when it
%% starts; `scripts/make_env' makes one when a release is built. The work is done by the program
%% `priv/py_env.py', in a process of the Python that the venv is for.
-module(py_env).

-export([ensure/1]).
%% Internal: for the application and `py_runtime'.
-export([is_spec/1]).

-export_type([spec/0, requirements/0]).

-include_lib("kernel/include/file.hrl").

-define(TIMEOUT, 600000).
-define(LAST_LINES, 12).
-define(STAMP, "erlang_python.stamp").

-type path() :: file:name_all().
-type requirements() :: [binary()] | {file | pyproject, path()}.
%% Requirements as pip reads them, one a binary; the path of a requirements file; or that of a
%% `pyproject.toml', whose `project.dependencies' are installed.
-type spec() :: #{requirements := requirements(), dir => path(), into => path(), python => path(),
                  timeout => timeout(), progress => fun((binary()) -> term())}.
%% `dir': the directory that keeps the venvs, one for each set of requirements and Python, by default
%% `erlang_python/envs' in the user's cache. `into': the venv itself instead, which is made anew when
%% the requirements or the Python change. `python': the interpreter, by default the one that the
%% environment variables choose. `timeout': milliseconds, 10 minutes by default. `progress': called with
%% each line that the installer prints; they are printed by default.

%% @doc Returns the directory of a venv with these packages, after making it if it is not there.
%%
%% `uv' does the work where it is on PATH, else `python -m venv' and pip. A venv that is there needs
%% neither, nor a network. Of many callers, in any number of VMs, one makes the venv and the others wait
%% for it; a caller that is killed leaves nothing that looks finished. The message of an error ends with
%% the last lines of the installer. Raises `badarg' unless Spec is a `spec()'.
-spec ensure(spec()) -> {ok, file:filename_all()} | {error, Message :: binary()}.
ensure(Spec) ->
    is_spec(Spec) orelse error(badarg, [Spec]),
    %% A process of its own owns the ports: the caller may trap exits, and may be killed.
    Caller = self(),
    Ref = make_ref(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        _ = monitor(process, Caller),
        Caller ! {Ref, find(Spec)}
    end),
    %% Ends: the builder has a deadline, unless the caller wants none.
    receive
        {Ref, Result} ->
            true = demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            exit(Reason)
    end.

find(Spec) ->
    case base(Spec) of
        {ok, Python} -> ensure(Spec, Python);
        {error, Message} -> {error, Message}
    end.

ensure(Spec, {Executable, Series}) ->
    case content(maps:get(requirements, Spec)) of
        {ok, Content} ->
            Hash = string:lowercase(binary:encode_hex(crypto:hash(sha256, [Executable, 0, Series, 0, Content]))),
            case target(Spec, Hash) of
                {ok, Target} -> ensure(Spec, Executable, Target, Hash);
                {error, Message} -> {error, Message}
            end;
        {error, Message} ->
            {error, Message}
    end.

ensure(Spec, Executable, Target, Hash) ->
    case is_made(Target, Hash) of
        true -> {ok, Target};
        false -> make(Spec, Executable, Target, Hash)
    end.

is_made(Target, Hash) ->
    filelib:is_regular(filename:join([Target, "bin", "python3"]))
        andalso {ok, Hash} =:= file:read_file(filename:join(Target, ?STAMP)).

%% @private
%% @doc Returns whether a term is a `spec()'.
-spec is_spec(term()) -> boolean().
is_spec(#{requirements := Requirements} = Spec) ->
    is_requirements(Requirements)
        andalso not (maps:is_key(dir, Spec) andalso maps:is_key(into, Spec))
        andalso lists:all(fun is_option/1, maps:to_list(maps:remove(requirements, Spec)));
is_spec(_) ->
    false.

is_requirements({Kind, File}) when Kind =:= file; Kind =:= pyproject -> py_discovery:is_path(File);
is_requirements(List) when is_list(List) -> lists:all(fun is_line/1, List);
is_requirements(_) -> false.

is_line(Line) ->
    is_binary(Line) andalso is_list(unicode:characters_to_list(Line))
        andalso binary:match(Line, [<<0>>, <<"\n">>, <<"\r">>]) =:= nomatch.

is_option({Key, Path}) when Key =:= dir; Key =:= into; Key =:= python -> py_discovery:is_path(Path);
is_option({timeout, Timeout}) -> Timeout =:= infinity orelse is_integer(Timeout) andalso Timeout > 0;
is_option({progress, Fun}) -> is_function(Fun, 1);
is_option(_) -> false.

%% Returns the executable of the Python that the venv is for, and its version, without the last number: a
%% venv outlives small upgrades of its Python.
base(Spec) ->
    Choice = case Spec of
        #{python := Path} -> py_discovery:executable(Path, "the key 'python' of the environment");
        _ -> py_discovery:choose_from_environment()
    end,
    case Choice of
        {ok, Found} ->
            case py_discovery:ask(Found) of
                {ok, {#{<<"supported">> := <<"True">>, <<"executable">> := Executable,
                        <<"series">> := Series}, _Source}} ->
                    {ok, {Executable, Series}};
                {ok, {#{<<"executable">> := Executable, <<"version">> := Version}, Source}} ->
                    py_discovery:message("~ts, given by ~ts, is Python ~ts; 3.11 or newer is needed",
                                         [Executable, Source, Version]);
                {error, Message} ->
                    {error, Message}
            end;
        {error, Message} ->
            {error, Message}
    end.

target(#{into := Path}, _Hash) ->
    {ok, unicode:characters_to_binary(filename:absname(Path))};
target(Spec, Hash) ->
    try maps:get(dir, Spec, filename:join(filename:basedir(user_cache, "erlang_python"), "envs")) of
        Dir -> {ok, unicode:characters_to_binary(filename:join(filename:absname(Dir), binary:part(Hash, 0, 20)))}
    catch
        error:_ -> py_discovery:message("there is no home directory for Python environments: set 'dir'", [])
    end.

%% Returns all that decides which packages are installed.
content(List) when is_list(List) -> {ok, [[Line, "\n"] || Line <- List]};
content({pyproject, File}) -> read(File);
content({file, File}) -> with_included(filename:absname(File), []).

read(File) ->
    case file:read_file(File) of
        {ok, Content} -> {ok, Content};
        {error, Reason} -> py_discovery:message("~ts cannot be read: ~ts", [File, file:format_error(Reason)])
    end.

%% Adds the files that a requirements file includes by `-r' and `-c', each once.
with_included(File, Seen) ->
    case read(File) of
        {ok, Content} ->
            Pattern = "^\\s*(?:-r|-c|--requirement|--constraint)[ \t=]*([^\\s#]+)",
            Names = case re:run(Content, Pattern, [global, multiline, {capture, [1], binary}]) of
                {match, Found} -> lists:append(Found);
                nomatch -> []
            end,
            Files = [filename:join(filename:dirname(File), Name)
                     || Name <- Names, binary:match(Name, <<"://">>) =:= nomatch],
            included([F || F <- lists:usort(Files), not lists:member(F, Seen)], [File | Seen], [Content]);
        {error, Message} ->
            {error, Message}
    end.

included([], _Seen, Contents) ->
    {ok, Contents};
included([File | Files], Seen, Contents) ->
    case with_included(File, Seen) of
        {ok, Content} -> included(Files, [File | Seen], [Contents, 0, Content]);
        {error, Message} -> {error, Message}
    end.

%% Making a venv

make(Spec, Executable, Target, Hash) ->
    Progress = maps:get(progress, Spec, fun(Line) -> io:format("~ts~n", [Line]) end),
    Timeout = maps:get(timeout, Spec, ?TIMEOUT),
    Uv = case os:find_executable("uv") of false -> ""; Path -> Path end,
    Arguments = [filename:join(py_runtime:priv_dir(), "py_env.py"), Target, Hash, Uv
                 | arguments(maps:get(requirements, Spec))],
    _ = Progress(unicode:characters_to_binary(["erlang_python: makes the Python environment ", Target])),
    Port = open_port({spawn_executable, Executable},
                     [{args, ["-I" | Arguments]}, {line, 4096}, binary, exit_status, stderr_to_stdout, hide]),
    case follow(Port, Progress, deadline(Timeout), []) of
        {0, _Lines} ->
            {ok, Target};
        {timeout, Lines} ->
            failed(Executable, Target, io_lib:format("no end within ~b ms", [Timeout]), Lines);
        {_Status, Lines} ->
            failed(Executable, Target, "the last lines say why", Lines)
    end.

arguments({Kind, File}) -> [atom_to_list(Kind), filename:absname(File)];
arguments(List) -> ["list" | List].

failed(Executable, Target, Why, Lines) ->
    Last = lists:reverse(lists:sublist(Lines, ?LAST_LINES)),
    py_discovery:message("the Python environment ~ts cannot be made with ~ts: ~ts~n~ts",
                         [Target, Executable, Why, lists:join("\n", Last)]).

%% Returns how the builder ended, and its lines, the last one first. A builder whose port is closed,
%% also by the end of this process, ends, and so does its installer.
follow(Port, Progress, Deadline, Lines) ->
    receive
        {Port, {data, {_, Bytes}}} ->
            Line = text(Bytes),
            _ = Progress(Line),
            follow(Port, Progress, Deadline, lists:sublist([Line | Lines], ?LAST_LINES));
        {Port, {exit_status, Status}} ->
            {Status, Lines};
        {'DOWN', _, process, _Caller, Reason} ->
            exit(Reason)
    after remaining(Deadline) ->
        {timeout, Lines}
    end.

text(Bytes) ->
    case unicode:characters_to_binary(Bytes) of
        Text when is_binary(Text) -> Text;
        _ -> unicode:characters_to_binary(Bytes, latin1)
    end.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

remaining(infinity) -> infinity;
remaining(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
