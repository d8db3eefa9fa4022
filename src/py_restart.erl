%% @private
%% Calls without a binding while `py_pool' restarts. The old pool is closed and refuses them, so
%% they wait for the new one, within their timeout. Runs in the calling process.
-module(py_restart).

-export([run/3]).

-include("py_pool.hrl").

-include("py_call.hrl").

%% Milliseconds between two lookups of the new pool.
-define(PAUSE, 5).

-type submit(Result) :: fun((py_nif:pool(), timeout() | ?DEFAULT) -> Result).

%% @doc Returns the result of Submit for the pool, or for its successor if the pool is closed. Jobs
%% that get `no_workers_available' have not run.
-spec run(py_pool:name(), submit(Result), timeout() | ?DEFAULT) ->
    Result | {error, no_workers_available | timeout}.
run(Name, Submit, Timeout) ->
    Begin = erlang:monotonic_time(millisecond),
    case py_pool:find(Name) of
        {ok, #pool{native = Pool, supervisor = Supervisor}} ->
            case Submit(Pool, Timeout) of
                {error, no_workers_available} = Refusal ->
                    Deadline = py_call:deadline(Begin, Timeout),
                    case py_nif:is_closed(Pool) of
                        true -> run_in_next(Name, Pool, Supervisor, Submit, Deadline, Refusal);
                        false -> Refusal
                    end;
                Result ->
                    Result
            end;
        none when Name =/= default ->
            _ = py_pool:native(),
            error(badarg);
        none ->
            Deadline = py_call:deadline(Begin, Timeout),
            run_in_next(Name, none, whereis(erlang_python_sup), Submit, Deadline, not_started)
    end.

%% Waits for the successor of a pool, which comes soon as long as the supervisor is there. A pool of
%% another supervisor belongs to another start of the application: a call that was made before that
%% is refused.
run_in_next(Name, Old, Supervisor, Submit, Deadline, Refusal) ->
    case {py_pool:find(Name), whereis(erlang_python_sup), py_call:remaining(Deadline)} of
        {_, Now, _} when Now =:= undefined; Now =/= Supervisor ->
            refuse(Refusal);
        {_, _, 0} ->
            {error, timeout};
        {{ok, #pool{native = Pool, supervisor = Supervisor}}, _, Left} when Pool =/= Old ->
            run(Name, Submit, Left);
        {_, _, Left} ->
            receive after min(Left, ?PAUSE) -> ok end,
            run_in_next(Name, Old, Supervisor, Submit, Deadline, Refusal)
    end.

refuse(not_started) -> error({not_started, erlang_python});
refuse(Refusal) -> Refusal.
