%% @private
%% The options of a pool: checks them, and returns them with their defaults.
-module(py_pool_options).

-export([check/1, default/0]).

-export_type([options/0]).

-type options() :: #{level := thread, num_workers := pos_integer()}
                 | #{level := process, num_workers := pos_integer(), python := file:filename_all(),
                     prepare := py_options:options(), limits := py_pool:limits(),
                     sandbox := none | #{read := [binary()], write := [binary()], network := binary(),
                                         exec := boolean()},
                     spares := non_neg_integer(), max_jobs := non_neg_integer(),
                     max_rss := non_neg_integer()}.
%% `max_jobs' and `max_rss' are 0 for no bound.

-define(PREPARE, [paths, env, preload, preload_timeout]).
-define(LIMITS, [memory, cpu_seconds, open_files, file_size, processes]).
-define(MAX, 16#ffffffffffff).

%% @doc Returns the options of the pool `default', which the environment has: in the key `pools', as those
%% of the others, or else the number of its threads in `num_workers'.
-spec default() -> {ok, options()} | {error, py_pool:start_error()}.
default() ->
    {ok, Size} = application:get_env(erlang_python, num_workers),
    case application:get_env(erlang_python, pools) of
        {ok, #{default := Given}} when Size =:= undefined -> check(Given);
        {ok, #{default := Given}} -> check(maps:merge(#{num_workers => Size}, Given));
        _ when Size =:= undefined -> check(#{});
        _ -> check(#{num_workers => Size})
    end.

num_workers(thread) -> max(8, 2 * erlang:system_info(schedulers_online));
num_workers(process) -> erlang:system_info(schedulers_online).

%% @doc Returns the options with their defaults, or what is wrong with them.
-spec check(py_pool:options()) -> {ok, options()} | {error, py_pool:start_error()}.
check(Given) ->
    Level = maps:get(level, Given, thread),
    case [{Key, Value} || {Key, Value} <- maps:to_list(Given), not is_valid(Level, Key, Value)] of
        [] -> complete(Level, Given);
        [{Key, Value} | _] -> {error, {invalid_option, Key, Value}}
    end.

complete(thread, Given) ->
    {ok, #{level => thread, num_workers => maps:get(num_workers, Given, num_workers(thread))}};
complete(process, #{sandbox := #{network := loopback}}) ->
    {error, Message} = py_discovery:message(
        "the sandbox cannot be enforced: no kernel tells 'loopback' from other networks in one; "
        "'network' may be none or all", []),
    {error, {python_not_prepared, Message}};
complete(process, Given) ->
    Defaults = #{paths => [], env => #{}, preload => [], preload_timeout => 60000},
    case {python(Given), py_options:resolve(maps:with(?PREPARE, maps:merge(Defaults, Given)))} of
        {{error, Message}, _} ->
            {error, {python_unavailable, Message}};
        {_, {error, Message}} ->
            {error, {python_not_prepared, Message}};
        {{ok, Python}, {ok, Prepare}} ->
            Rest = maps:with([num_workers, limits, spares, max_jobs, max_rss], Given),
            Sandbox = sandbox(maps:get(sandbox, Given, none)),
            Base = #{level => process, num_workers => num_workers(process), limits => #{},
                     spares => 1, max_jobs => 0, max_rss => 0},
            {ok, (maps:merge(Base, Rest))#{python => Python, prepare => Prepare, sandbox => Sandbox}}
    end.

sandbox(none) ->
    none;
sandbox(Given) ->
    #{read := Read, write := Write} = All =
        maps:merge(#{read => [], write => [], network => none, exec => false}, Given),
    %% The atom `none' would become None.
    Network = atom_to_binary(maps:get(network, All)),
    All#{read := paths(Read), write := paths(Write), network := Network}.

paths(Paths) ->
    [unicode:characters_to_binary(filename:absname(unicode:characters_to_list(Path))) || Path <- Paths].

%% Returns the path of the interpreter of the children.
python(Given) ->
    Library = filename:join(py_runtime:priv_dir(), "py_child.abi3.so"),
    case filelib:is_regular(Library) of
        true -> interpreter(Given);
        false -> py_discovery:message("there is no ~ts, which child processes load: run make child in the sources "
                                      "of erlang_python", [Library])
    end.

interpreter(#{python := Path}) ->
    case py_options:path(Path) of
        {ok, Resolved} -> executable(py_discovery:executable(Resolved, "the option 'python'"));
        {error, Message} -> {error, Message}
    end;
interpreter(_) ->
    #{executable := Executable} = py_runtime:info(),
    {ok, Executable}.

executable({ok, {Path, _Source}}) -> {ok, Path};
executable({error, Message}) -> {error, Message}.

is_valid(_, level, Level) -> Level =:= thread orelse Level =:= process;
is_valid(_, num_workers, Size) -> is_integer(Size) andalso Size >= 1 andalso Size =< 1024;
is_valid(process, python, {env, _}) -> false;
is_valid(process, python, Python) -> Python =/= undefined andalso py_options:is_valid(python, Python);
is_valid(process, limits, Limits) -> is_map(Limits) andalso are_limits(maps:to_list(Limits));
is_valid(process, sandbox, Sandbox) ->
    is_map(Sandbox) andalso lists:all(fun is_sandbox/1, maps:to_list(Sandbox));
is_valid(process, spares, Count) -> is_integer(Count) andalso Count >= 0 andalso Count =< 1024;
is_valid(process, max_jobs, Count) -> is_count(Count);
is_valid(process, max_rss, Bytes) -> is_count(Bytes);
is_valid(process, Key, Value) -> lists:member(Key, ?PREPARE) andalso py_options:is_valid(Key, Value);
is_valid(_, _, _) -> false.

is_sandbox({Key, Paths}) when Key =:= read; Key =:= write ->
    is_list(Paths) andalso length(Paths) >= 0 andalso lists:all(fun py_discovery:is_path/1, Paths);
%% No kernel can tell addresses apart in a sandbox, so `loopback' is refused when the pool starts.
is_sandbox({network, Network}) -> lists:member(Network, [none, loopback, all]);
is_sandbox({exec, Exec}) -> is_boolean(Exec);
is_sandbox(_) -> false.

are_limits(Limits) ->
    lists:all(fun({Key, Value}) -> lists:member(Key, ?LIMITS) andalso is_count(Value) end, Limits).

is_count(Count) -> is_integer(Count) andalso Count >= 1 andalso Count =< ?MAX.
