%% A hook of Common Test that prints the case that failed, and why. scripts/test installs it and
%% prints its lines again at the end of a run.
-module(py_report).

-export([init/2, on_tc_fail/4]).

-spec init(Id :: term(), Options :: term()) -> {ok, State :: none}.
init(_Id, _Options) ->
    {ok, none}.

-spec on_tc_fail(module(), Name :: term(), Reason :: term(), none) -> none.
on_tc_fail(Suite, Name, Reason, none) ->
    io:format(user, "FAILED ~p:~p~n~tP~n", [Suite, Name, Reason, 60]),
    none.
