%% VMs of their own for suites that need a fresh one: a VM starts Python once in its life.
-module(py_peer).

-export([start/1, start/2, stop/1, run/2, run/3, cast/2, start_python/2, copy_application/2, library/1,
         interpreter/0, ask/2, root/0, command/4]).

-define(TIMEOUT, 60000).

-type env() :: #{string() => string()}.
%% Variables of the environment, added to those of the VM.

%% Starts a VM that knows this application and the modules of the suites.
-spec start(env()) -> pid().
start(Env) ->
    start(Env, filename:dirname(code:which(py))).

%% Starts a VM with the application in Ebin. No Python is chosen unless Env chooses one.
-spec start(env(), Ebin :: file:filename()) -> pid().
start(Env0, Ebin) ->
    Env = maps:merge(#{"ERLANG_PYTHON" => "", "VIRTUAL_ENV" => ""}, Env0),
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        %% The variable promises packages that the venv of the suites alone has.
        env => [{"PY_TEST_VENV", false} | maps:to_list(Env)],
        wait_boot => ?TIMEOUT,
        args => ["-pa", Ebin, filename:dirname(code:which(?MODULE))]
    }),
    Peer.

-spec stop(pid()) -> ok.
stop(Peer) ->
    peer:stop(Peer).

%% Returns the result of Fun in the VM of Peer.
-spec run(pid(), fun(() -> Result)) -> Result.
run(Peer, Fun) ->
    run(Peer, Fun, ?TIMEOUT).

-spec run(pid(), fun(() -> Result), timeout()) -> Result.
run(Peer, Fun, Timeout) ->
    peer:call(Peer, erlang, apply, [Fun, []], Timeout).

%% Runs Fun in the VM of Peer, and waits for nothing.
-spec cast(pid(), fun(() -> term())) -> ok.
cast(Peer, Fun) ->
    peer:cast(Peer, erlang, apply, [Fun, []]).

%% Starts the application in the VM of Peer, with these values of its environment.
-spec start_python(pid(), [{atom(), term()}]) -> {ok, [atom()]} | {error, term()}.
start_python(Peer, Env) ->
    run(Peer, fun() ->
        py_test:stop(),
        _ = application:unload(erlang_python),
        ok = application:load(erlang_python),
        ok = application:set_env([{erlang_python, Env}]),
        application:ensure_all_started(erlang_python)
    end).

%% Copies the application to Dir with only these of its libraries; returns its ebin.
-spec copy_application(file:filename(), [file:filename()]) -> Ebin :: file:filename().
copy_application(Dir, Libraries) ->
    From = filename:dirname(code:which(py)),
    Ebin = filename:join([Dir, "erlang_python", "ebin"]),
    {ok, Names} = file:list_dir(From),
    copy(From, Ebin, Names),
    copy(py_runtime:priv_dir(), filename:join([Dir, "erlang_python", "priv"]), Libraries),
    Ebin.

copy(From, To, Names) ->
    ok = filelib:ensure_dir(filename:join(To, "any")),
    lists:foreach(fun(Name) ->
        {ok, _} = file:copy(filename:join(From, Name), filename:join(To, Name))
    end, Names).

%% Returns the name of the library for one version of Python only.
-spec library(Python :: file:filename_all()) -> file:filename().
library(Python) ->
    Series = ask(Python, "print('%d%d' % sys.version_info[:2])"),
    "py_nif.cp" ++ binary_to_list(Series) ++ ".so".

%% Returns the path of the Python that the application is built for.
-spec interpreter() -> file:filename().
interpreter() ->
    Python = os:getenv("PYTHON", "python3"),
    Executable = os:find_executable(Python),
    is_list(Executable) orelse error({no_python, Python}),
    unicode:characters_to_list(ask(Executable, "print(sys.executable)")).

%% Returns the directory of the sources.
-spec root() -> file:filename().
root() ->
    root(filename:dirname(proplists:get_value(source, ?MODULE:module_info(compile)))).

root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "README.md")) of
        true -> Dir;
        false when Dir =/= "/" -> root(filename:dirname(Dir))
    end.

%% Runs a program in Dir, with changes to the environment; returns its status and its output.
-spec command(file:filename(), [string()], Dir :: file:filename(), [{string(), string() | false}]) ->
    {Status :: non_neg_integer(), Output :: binary()}.
command(Path, Arguments, Dir, Env) ->
    Options = [{args, Arguments}, {cd, Dir}, {env, Env}, binary, exit_status, stderr_to_stdout, hide],
    ended(open_port({spawn_executable, Path}, Options), <<>>).

ended(Port, Output) ->
    receive
        {Port, {data, Data}} -> ended(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    after 5 * ?TIMEOUT -> error({no_end, Output})
    end.

%% Returns the output of a Python process that runs Code. `sys' is imported.
-spec ask(Python :: file:filename_all(), Code :: iodata()) -> binary().
ask(Python, Code) ->
    Program = unicode:characters_to_binary(["import sys\n", Code]),
    Options = [{args, ["-c", Program]}, binary, exit_status, hide],
    Port = open_port({spawn_executable, Python}, Options),
    answer(Port, <<>>).

answer(Port, Output) ->
    receive
        {Port, {data, Data}} -> answer(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, 0}} -> string:trim(Output);
        {Port, {exit_status, Status}} -> error({exit_status, Status, Output})
    after ?TIMEOUT -> error({no_answer, Output})
    end.
