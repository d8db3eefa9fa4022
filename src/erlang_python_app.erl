%% @private
-module(erlang_python_app).
-behaviour(application).

-export([start/2, stop/1]).

%% @doc Starts Python, if this VM has not started it yet, and then the pool.
-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case py_python:start() of
        ok -> erlang_python_sup:start_link();
        {error, Message} -> {error, {python_unavailable, Message}}
    end.

%% @doc Python itself goes on: it cannot be started twice in one VM.
-spec stop(term()) -> ok.
stop(_State) ->
    ok.
