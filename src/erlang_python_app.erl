%% @private
%% The application: checks its environment, starts Python, and then the supervisor.
-module(erlang_python_app).
-behaviour(application).

-export([start/2, stop/1]).

%% @doc Starts Python, if this VM has not started it yet, and then the supervisor.
-spec start(application:start_type(), term()) ->
    {ok, pid()}
    | {error, {python_unavailable, Message :: binary()} | {invalid_env, atom(), term()} | term()}.
start(_Type, _Args) ->
    case check_env([python, num_workers, default_timeout, max_pending, interrupt_grace,
                    import_grace, max_abandoned]) of
        ok -> start_python();
        {error, Reason} -> {error, Reason}
    end.

%% @doc Stops nothing more: Python goes on, since it cannot be started twice in one VM.
-spec stop(term()) -> ok.
stop(_State) ->
    ok.

start_python() ->
    case py_runtime:start() of
        ok -> erlang_python_sup:start_link();
        {error, Message} -> {error, {python_unavailable, Message}}
    end.

check_env([]) ->
    ok;
check_env([Key | Keys]) ->
    {ok, Value} = application:get_env(erlang_python, Key),
    case is_valid(Key, Value) of
        true -> check_env(Keys);
        false -> {error, {invalid_env, Key, Value}}
    end.

is_valid(python, undefined) -> true;
is_valid(python, {env, Spec}) -> py_env:is_spec(Spec);
is_valid(python, Value) -> py_discovery:is_path(Value);
is_valid(num_workers, undefined) -> true;
is_valid(default_timeout, infinity) -> true;
is_valid(Key, Value) ->
    {Min, Max} = bounds(Key),
    is_integer(Value) andalso Value >= Min andalso Value =< Max.

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
bounds(max_abandoned) -> {0, 1024}.
