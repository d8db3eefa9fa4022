%% @private
%% The application: checks its environment, starts Python, prepares it, and then starts the supervisor.
-module(erlang_python_app).
-behaviour(application).

-export([start/2, stop/1]).

%% The keys that prepare Python for the code of a user.
-define(PREPARE, [paths, env, preload, preload_timeout]).

%% @doc Starts Python, if this VM has not started it yet, prepares it for the code of the user, and starts
%% the supervisor.
-spec start(application:start_type(), term()) ->
    {ok, pid()}
    | {error, {python_unavailable | python_not_prepared, Message :: binary()}
              | {invalid_env, atom(), term()} | term()}.
start(_Type, _Args) ->
    case check_env([python, num_workers, default_timeout, max_pending, interrupt_grace, import_grace,
                    max_abandoned, max_state, callable, pools, none, stdio | ?PREPARE]) of
        ok -> start_python(py_options:resolve(maps:from_list([{Key, env(Key)} || Key <- ?PREPARE])));
        {error, Reason} -> {error, Reason}
    end.

%% @doc Stops nothing more: Python goes on, since it cannot be started twice in one VM.
-spec stop(term()) -> ok.
stop(_State) ->
    ok.

start_python({ok, #{env := Variables} = Options}) ->
    case py_runtime:start(maps:to_list(Variables)) of
        ok ->
            ok = py_nif:configure(atom_to_binary(env(none))),
            start_supervisor(py_prepare:run(Options));
        {error, Message} -> {error, {python_unavailable, Message}}
    end;
start_python({error, Message}) ->
    {error, {python_not_prepared, Message}}.

start_supervisor(ok) -> erlang_python_sup:start_link();
start_supervisor({error, Message}) -> {error, {python_not_prepared, Message}}.

check_env([]) ->
    ok;
check_env([Key | Keys]) ->
    Value = env(Key),
    case is_valid(Key, Value) of
        true -> check_env(Keys);
        false -> {error, {invalid_env, Key, Value}}
    end.

env(Key) ->
    {ok, Value} = application:get_env(erlang_python, Key),
    Value.

is_valid(Key, Value) when Key =:= python; Key =:= paths; Key =:= env; Key =:= preload; Key =:= preload_timeout ->
    py_options:is_valid(Key, Value);
is_valid(pools, Pools) -> is_map(Pools) andalso are_pools(maps:to_list(Pools));
is_valid(none, Atom) -> lists:member(Atom, [none, nil, undefined]);
is_valid(stdio, Stdio) -> lists:member(Stdio, [group_leader, logger, inherit]);
is_valid(callable, Items) -> py_apply:is_valid(Items);
is_valid(num_workers, undefined) -> true;
is_valid(default_timeout, infinity) -> true;
is_valid(Key, Value) ->
    {Min, Max} = bounds(Key),
    is_integer(Value) andalso Value >= Min andalso Value =< Max.

%% Wrong options of a pool stop the start as `py_pool:start/2' returns them, after Python has started.
are_pools(Pools) ->
    lists:all(fun({Name, Options}) -> is_atom(Name) andalso is_map(Options) end, Pools).

%% A worker is a thread, whose stack takes 256 MiB of address space, and one worker at a time runs
%% Python code.
bounds(num_workers) -> {1, 1024};
%% The longest timeout of `receive', 49 days.
bounds(default_timeout) -> {0, 16#ffffffff};
%% Pending jobs hold their arguments: 16 million of them are no bound any more.
bounds(max_pending) -> {1, 1 bsl 24};
bounds(interrupt_grace) -> {1, 16#ffffffff};
bounds(import_grace) -> {1, 16#ffffffff};
%% Abandoned threads are threads, as workers are.
bounds(max_abandoned) -> {0, 1024};
%% Bytes, up to a tebibyte: more than the machines of today have.
bounds(max_state) -> {0, 1 bsl 40}.
