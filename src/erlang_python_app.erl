%% @private
-module(erlang_python_app).
-behaviour(application).

-export([start/2, stop/1]).

%% @doc Starts Python, if this VM has not started it yet, and then the pool.
-spec start(application:start_type(), term()) ->
    {ok, pid()}
    | {error, {python_unavailable, Message :: binary()} | {invalid_env, atom(), term()} | term()}.
start(_Type, _Args) ->
    case check_env([num_workers, default_timeout, max_pending, interrupt_grace, import_grace,
                    max_abandoned]) of
        ok -> start_python();
        {error, Reason} -> {error, Reason}
    end.

%% @doc Python itself goes on: it cannot be started twice in one VM.
-spec stop(term()) -> ok.
stop(_State) ->
    ok.

start_python() ->
    case py_python:start() of
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

is_valid(num_workers, undefined) -> true;
is_valid(default_timeout, infinity) -> true;
is_valid(default_timeout, Value) -> is_integer(Value) andalso Value >= 0;
is_valid(max_abandoned, Value) -> is_integer(Value) andalso Value >= 0;
is_valid(_, Value) -> is_integer(Value) andalso Value > 0.
