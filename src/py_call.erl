%% @private
%% The path of a call: make_ref and its receive stand here, once for calls that are waited for, and
%% once for those under way.
-module(py_call).

-export([job/4, run/2, run_in/3, submit/3, start/1, start_in/2, start_at/2, within/1, failed/1,
         await/2, gather/3, name/1, code/1]).

-export_type([pending/0]).

-include("py_call.hrl").

-opaque pending() :: {py_pending, Owner :: pid(), reference(),
                      py_nif:ticket() | {error, py:error_reason()}}.

-type target() :: py_nif:pool() | py_nif:lease() | py_nif:context() | py_nif:callback().

%% Milliseconds in which a message comes that is about to be sent.
-define(MOMENT, 1000).

-spec job(py:name(), py:name(), py:args(), py:kwargs()) -> py_nif:source().
job(Module, Function, Args, Kwargs) ->
    {call, name(Module), name(Function), Args, Kwargs}.

%% A process that lost its binding to a crash is a process without one.
-spec run(py_nif:job(), timeout() | ?DEFAULT) -> term().
run(Job, Timeout) ->
    case py_pool:binding(self()) of
        {ok, Lease} ->
            try
                submit(Lease, Job, Timeout)
            catch
                error:context_not_bound -> submit(py_pool:native(), Job, Timeout)
            end;
        none ->
            submit(unbound(py_callback:place()), Job, Timeout)
    end.

%% A process that answers a callback goes on where the callback came from.
unbound(undefined) -> py_pool:native();
unbound({Callback, _Lease}) -> Callback.

%% `badarg' for a context that is not one. In the context that waits for this process, the job runs
%% in the middle of what waits.
-spec run_in(py:context(), py_nif:job(), timeout() | ?DEFAULT) -> term().
run_in(Context, Job, Timeout) ->
    submit(within(Context), Job, Timeout).

%% @doc Where a job for this context goes: in the context that waits for the calling process it runs
%% in the middle of what waits.
-spec within(py:context() | py_nif:lease()) -> target().
within(Context) ->
    Id = py_nif:lease_id(Context),
    case py_callback:place() of
        {Callback, Id} -> Callback;
        _ -> Context
    end.

-spec submit(target(), py_nif:job(), timeout() | ?DEFAULT) -> term().
submit(Target, Job, Timeout) when ?IS_TIMEOUT(Timeout); Timeout =:= ?DEFAULT ->
    Ref = make_ref(),
    case py_nif:submit(Target, Ref, Job, get('$callers')) of
        {ok, Ticket} -> await(Ref, Ticket, Timeout);
        {error, context_not_bound} -> error(context_not_bound);
        {error, Reason} -> {error, Reason}
    end;
submit(_Target, _Job, _Timeout) ->
    error(badarg).

%% Looked up here, the default costs nothing: the worker is busy meanwhile.
await(Ref, Ticket, ?DEFAULT) ->
    try timeout(?DEFAULT) of
        Timeout -> await(Ref, Ticket, Timeout)
    catch
        error:badarg ->
            _ = discard({py_pending, self(), Ref, Ticket}),
            error(badarg)
    end;
await(Ref, Ticket, Timeout) ->
    receive
        {Ref, Result} -> result(Result)
    after Timeout ->
        case py_nif:cancel(Ticket) of
            cancelled ->
                {error, timeout};
            replied ->
                %% Cannot hang: the ticket says that the worker sends, or has sent, and to us.
                receive {Ref, Result} -> result(Result) end
        end
    end.

timeout(?DEFAULT) -> timeout(application:get_env(erlang_python, default_timeout, 30000));
timeout(Timeout) when ?IS_TIMEOUT(Timeout) -> Timeout;
timeout(_) -> error(badarg).

%% A big value is decoded here: into the right heap, by a scheduler.
result({external, Value}) -> {ok, binary_to_term(Value)};
result({raise, Reason}) -> error(Reason);
result(Result) -> Result.

%% @doc As `run', but returns at once.
-spec start(py_nif:job()) -> pending().
start(Job) ->
    case py_pool:binding(self()) of
        {ok, Lease} ->
            try
                start_at(Lease, Job)
            catch
                error:context_not_bound -> start_at(py_pool:native(), Job)
            end;
        none ->
            start_at(unbound(py_callback:place()), Job)
    end.

-spec start_in(py:context(), py_nif:job()) -> pending().
start_in(Context, Job) ->
    start_at(within(Context), Job).

-spec start_at(target(), py_nif:job()) -> pending().
start_at(Target, Job) ->
    Ref = make_ref(),
    case py_nif:submit(Target, Ref, Job, get('$callers')) of
        {ok, Ticket} -> {py_pending, self(), Ref, Ticket};
        {error, context_not_bound} -> error(context_not_bound);
        {error, Reason} -> {py_pending, self(), Ref, {error, Reason}}
    end.

%% @doc A call that was refused.
-spec failed(py:error_reason()) -> pending().
failed(Reason) ->
    {py_pending, self(), make_ref(), {error, Reason}}.

-spec await(pending(), timeout() | ?DEFAULT) -> py:result().
await({py_pending, Owner, _Ref, _}, _Timeout) when Owner =/= self() ->
    %% It would wait for a message that another process gets.
    error(badarg);
await({py_pending, _Owner, _Ref, {error, Reason}}, _Timeout) ->
    {error, Reason};
await({py_pending, _Owner, Ref, Ticket}, Timeout0) ->
    Timeout = timeout(Timeout0),
    case py_nif:is_pending(Ticket) of
        true -> await(Ref, Ticket, Timeout);
        false -> result(settled(Ref))
    end;
await(_, _) ->
    error(badarg).

%% The result of a call that is not pending any more: it is there, or was taken by an await before.
settled(Ref) ->
    receive {Ref, Result} -> Result after ?MOMENT -> error(badarg) end.

%% Nothing will come for it any more.
discard({py_pending, _Owner, _Ref, {error, _}}) ->
    ok;
discard({py_pending, _Owner, Ref, Ticket}) ->
    case py_nif:cancel(Ticket) of
        cancelled -> ok;
        replied -> receive {Ref, _} -> ok after ?MOMENT -> ok end
    end.

%% @doc The values of what Start makes of each item.
-spec gather(fun((Item) -> pending()), [Item], timeout() | ?DEFAULT) -> py:result([term()]).
gather(Start, Items, Timeout0) ->
    Deadline = deadline(timeout(Timeout0)),
    Calls = start_all(Start, Items, []),
    Refs = [Ref || {py_pending, _Owner, Ref, _} <- Calls],
    case [Reason || {py_pending, _Owner, _Ref, {error, Reason}} <- Calls] of
        [] ->
            Open = maps:from_list(lists:zip(Refs, Calls)),
            gather(Open, Refs, Deadline, #{});
        [Reason | _] ->
            lists:foreach(fun discard/1, Calls),
            {error, Reason}
    end.

gather(Open, Refs, _Deadline, Values) when map_size(Open) =:= 0 ->
    {ok, [maps:get(Ref, Values) || Ref <- Refs]};
gather(Open, Refs, Deadline, Values) ->
    receive
        {Ref, Result} when is_map_key(Ref, Open) ->
            landed(Ref, Result, Open, Refs, Deadline, Values)
    after min(left(Deadline), ?MOMENT) ->
        case left(Deadline) of
            0 -> give_up(Open, timeout);
            _ -> look_around(Open, Refs, Deadline, Values)
        end
    end.

%% One that somebody has awaited before would be waited for in vain.
look_around(Open, Refs, Deadline, Values) ->
    case [Ref || {Ref, {_, _, _, Ticket}} <- maps:to_list(Open), not py_nif:is_pending(Ticket)] of
        [] ->
            gather(Open, Refs, Deadline, Values);
        [Ref | _] ->
            try settled(Ref) of
                Result -> landed(Ref, Result, Open, Refs, Deadline, Values)
            catch
                error:badarg ->
                    _ = give_up(Open, badarg),
                    error(badarg)
            end
    end.

landed(Ref, Result, Open0, Refs, Deadline, Values) ->
    Open = maps:remove(Ref, Open0),
    case Result of
        {error, Reason} ->
            give_up(Open, Reason);
        {raise, Reason} ->
            _ = give_up(Open, Reason),
            error(Reason);
        _ ->
            {ok, Value} = result(Result),
            gather(Open, Refs, Deadline, Values#{Ref => Value})
    end.

give_up(Open, Reason) ->
    lists:foreach(fun discard/1, maps:values(Open)),
    {error, Reason}.

call({py_pending, Owner, _, _} = Call) when Owner =:= self() -> Call;
call(_) -> error(badarg).

%% One that cannot be started leaves nothing of those before it: their results would come later.
start_all(_Start, [], Started) ->
    lists:reverse(Started);
start_all(Start, [Item | Items], Started) ->
    try call(Start(Item)) of
        Call -> start_all(Start, Items, [Call | Started])
    catch
        Class:Reason:Stacktrace ->
            lists:foreach(fun discard/1, Started),
            erlang:raise(Class, Reason, Stacktrace)
    end;
start_all(_Start, _, Started) ->
    lists:foreach(fun discard/1, Started),
    error(badarg).

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

-spec name(py:name()) -> atom() | binary().
name(Name) when is_atom(Name) -> Name;
name(Name) -> code(Name).

-spec code(unicode:chardata()) -> binary().
code(Code) when is_binary(Code) ->
    Code;
code(Code) ->
    case unicode:characters_to_binary(Code) of
        Binary when is_binary(Binary) -> Binary;
        _ -> error(badarg)
    end.
