%% @private
%% Calls without a binding while `py_pool' restarts: the old pool is closed and refuses them, so
%% they wait for the new one, within their timeout.
-module(py_restart).

-export([run/2]).

-include("py_call.hrl").

%% Milliseconds between two looks for the new pool.
-define(PAUSE, 5).

-type submit(Result) :: fun((py_nif:pool(), timeout() | ?DEFAULT) -> Result).

%% @doc What Submit returns for the pool, or for its successor if it is closed. Jobs that get
%% `no_workers_available' have not run.
-spec run(submit(Result), timeout() | ?DEFAULT) ->
    Result | {error, no_workers_available | timeout}.
run(Submit, Timeout) ->
    Begin = erlang:monotonic_time(millisecond),
    Found = py_pool:find(),
    Result = case Found of
        {ok, Native} -> Submit(Native, Timeout);
        none -> not_started
    end,
    case is_from_the_past(Found, Result) of
        true -> run_in_next(Found, Submit, py_call:deadline(Begin, Timeout), Result);
        false -> Result
    end.

is_from_the_past(none, not_started) -> true;
is_from_the_past({ok, Pool}, {error, no_workers_available}) -> py_nif:is_closed(Pool);
is_from_the_past(_, _) -> false.

%% A pool that has ended while its supervisor is there has a successor soon.
run_in_next(Old, Submit, Deadline, Refusal) ->
    case {py_pool:find(), py_call:left(Deadline), whereis(erlang_python_sup)} of
        {{ok, _} = Found, Left, _} when Found =/= Old, Left > 0 -> run(Submit, Left);
        {_, _, undefined} when Refusal =:= not_started -> error({not_started, erlang_python});
        {_, _, undefined} -> Refusal;
        {_, 0, _} -> {error, timeout};
        {_, Left, _} ->
            receive after min(Left, ?PAUSE) -> ok end,
            run_in_next(Old, Submit, Deadline, Refusal)
    end.
