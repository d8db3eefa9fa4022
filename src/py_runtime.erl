%% @private
%% The Python of the VM: checks the chosen interpreter, loads its library and the NIF that fits, and
%% starts it, once in the life of the VM. Called at the start of the application.
-module(py_runtime).

-export([start/1, info/0, priv_dir/0]).

-export_type([info/0]).

-define(INFO, {?MODULE, info}).
%% The path by which the running Python was chosen.
-define(STARTED, {?MODULE, started}).

-type info() :: #{version := binary(), executable := binary(), prefix := binary(),
                  libpython := binary(), abi := binary()}.
-type variables() :: [{Name :: binary(), Value :: binary()}].
-type answer() :: py_discovery:answer().
-type result(T) :: py_discovery:result(T).

%% @doc Starts Python with these variables of the environment. Returns `ok' for a second start in one
%% VM if it is for the same Python, and sets no variables then.
-spec start(variables()) -> ok | {error, Message :: binary()}.
start(Variables) ->
    case choose() of
        {ok, {Path, _Source} = Choice} ->
            case persistent_term:get(?STARTED, none) of
                %% The interpreter is asked once: a restart of the application takes no process.
                Path -> maybe_chain([fun load_nif/1, start_loaded(Variables)], info());
                _ -> start_chosen(Choice, Variables)
            end;
        {error, Message} ->
            {error, Message}
    end.

%% Makes the environment that the key `python' asks for, or finds the Python that is chosen.
choose() ->
    case application:get_env(erlang_python, python) of
        {ok, {env, Spec}} ->
            case py_env:ensure(Spec) of
                {ok, Dir} -> py_discovery:executable(Dir, "the environment of the key 'python'");
                {error, Message} -> {error, Message}
            end;
        {ok, {priv, _, _} = Path} ->
            case py_options:path(Path) of
                {ok, Resolved} -> py_discovery:executable(Resolved, "the application environment key 'python'");
                {error, Message} -> {error, Message}
            end;
        _ ->
            py_discovery:choose()
    end.

%% The interpreter is asked with the variables that Python starts with: some of them move its prefix.
start_chosen({Path, _Source} = Choice, Variables) ->
    Ask = fun(Chosen) -> py_discovery:ask(Chosen, Variables) end,
    Load = fun(Checked) -> load(Checked, Variables) end,
    case maybe_chain([Ask, fun check/1, Load], Choice) of
        ok -> persistent_term:put(?STARTED, Path);
        {error, Message} -> {error, Message}
    end.

%% @doc Returns the facts that `start/1' has learned of the running Python.
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

-spec check({answer(), string()}) -> result({answer(), string()}).
check({#{<<"implementation">> := <<"cpython">>, <<"supported">> := <<"True">>} = Answer, Source}) ->
    check_build(Answer, Source);
check({Answer, Source}) ->
    message("~ts, given by ~ts, is ~ts ~ts; CPython 3.11 or newer is needed",
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

-spec load({answer(), string()}, variables()) -> result(ok).
load({Answer, Source}, Variables) ->
    Executable = field(<<"executable">>, Answer),
    Steps = [fun load_nif/1, start_loaded(Variables)],
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

%% Makes a libpython global. The VM can have no other from then on, even if this one does not start:
%% the symbols of a second libpython would be hidden by those of the first.
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
        %% The NIF was loaded by an earlier start.
        {error, {reload, _}} -> {ok, Info};
        {error, {_, Text}} -> message("~ts.so does not load: ~ts", [Path, Text])
    end.

%% Returns the step that starts Python with these variables.
start_loaded(Variables) ->
    fun(#{executable := Executable}) ->
        %% The VM ignores SIGCHLD, and Python's `subprocess' then takes every child for a success.
        ok = os:set_signal(sigchld, default),
        case py_nif:start_python(Executable, Variables) of
            ok -> {ok, ok};
            {error, Text} -> message("~ts does not start: ~ts", [Executable, Text])
        end
    end.

%% Chooses the NIF that was built for this very version, else the portable one.
library(Answer) ->
    Abis = [<<"cp", (field(<<"series">>, Answer))/binary>>, <<"abi3">>],
    case [Abi || Abi <- Abis, filelib:is_regular([library_path(Abi), ".so"])] of
        [Abi | _] ->
            {ok, {Abi, Answer}};
        [] ->
            message("erlang_python is not built for Python ~ts: there is no ~ts. In the project that "
                    "depends on erlang_python, and that makes the release, if this is one, run: "
                    "PORTABLE=1 rebar3 compile, which leaves a library for every Python in "
                    "_build/default/lib/erlang_python/priv (with Mix: PORTABLE=1 mix deps.compile "
                    "erlang_python --force); in the sources of erlang_python itself: make portable. "
                    "Then make the release again. A library for this Python alone is what "
                    "PYTHON=~ts in place of PORTABLE=1 leaves",
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

message(Format, Args) ->
    py_discovery:message(Format, Args).
