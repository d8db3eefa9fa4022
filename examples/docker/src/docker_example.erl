%% Prints what Python and numpy say, and ends the VM.
-module(docker_example).
-behaviour(application).

-export([start/2, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()}.
start(_Type, _Arguments) ->
    ok = py:bind(),
    ok = py:exec(<<"import numpy, sys">>),
    {ok, Text} = py:eval(<<"f'Python {sys.version.split()[0]}, numpy {numpy.__version__}: {numpy.arange(4).sum()}'">>),
    ok = py:unbind(),
    io:format("~ts~n", [Text]),
    init:stop(),
    {ok, spawn_link(fun() -> receive stop -> ok end end)}.

-spec stop(term()) -> ok.
stop(_State) ->
    ok.
