%% @private
%% The path of a call: make_ref and its receive stand here, once for calls that are waited for, and
%% once for those under way.
-module(py_call).

-export([job/4, run/2, run_in/3, submit/3, start/1, start_in/2, start_at/2, within/1, failed/1,
         await/2, gather/3, deadline/2, left/1, name/1, code/1]).

-export_type([pending/0]).

-include("py_call.hrl").

-opaque pending() :: {py_pending, Owner :: pid(), reference(),
                      py_nif:ticket() | {error, py:error_reason()}}.

-type target() :: py_nif:pool() | py_nif:lease() | py_nif:context() | py_nif:callback().

%% Calls that are awaited together.
-record(gather, {
    start :: fun((term()) -> pending() | term()),
    deadline :: integer() | infinity,
    %% Not started yet, or not looked at.
    items :: [term()],
    %% Of the items before those, the last first.
    refs = [] :: [reference()],
    open :: #{reference() => pending()},
    values = #{} :: #{reference() => term()}
}).

%% Milliseconds in which a message comes that is about to be sent.
-define(MOMENT, 1000).

-spec job(py:name(), py:name(), py:args(), py:kwargs()) -> py_nif:source().
job(Module, Function, Args, Kwargs) ->
    {call, name(Module), name(Function), Args, Kwargs}.

%% A process that lost its binding to a crash is a process without one. A call that was accepted in
%% the binding is not run outside of it: if the binding ends under it, it is `interrupted'.
-spec run(py_nif:job(), timeout() | ?DEFAULT) -> term().
run(Job, Timeout) ->
    case py_pool:binding(self()) of
        {ok, Lease} ->
            try
                submit(Lease, Job, Timeout)
            catch
                %% Refused at once.
                error:context_not_bound -> run_unbound(Job, Timeout, undefined)
            end;
        none ->
            run_unbound(Job, Timeout, py_callback:place())
    end.

%% A process that answers a callback goes on where the callback came from.
run_unbound(Job, Timeout, undefined) ->
    py_restart:run(fun(Pool, Left) -> submit(Pool, Job, Left) end, Timeout);
run_unbound(Job, Timeout, {Callback, _Lease}) ->
    submit(Callback, Job, Timeout).

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
            ok = discard({py_pending, self(), Ref, Ticket}, ?MOMENT),
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
                error:context_not_bound -> start_unbound(Job, undefined)
            end;
        none ->
            start_unbound(Job, py_callback:place())
    end.

start_unbound(Job, undefined) ->
    case py_restart:run(fun(Pool, _) -> start_in_pool(Pool, Job) end, ?DEFAULT) of
        {error, Reason} -> failed(Reason);
        Pending -> Pending
    end;
start_unbound(Job, {Callback, _Lease}) ->
    start_at(Callback, Job).

start_in_pool(Pool, Job) ->
    case start_at(Pool, Job) of
        {py_pending, _, _, {error, Reason}} -> {error, Reason};
        Pending -> Pending
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
    %% An await takes the reply or cancels the call: another one would wait for nothing.
    py_nif:take(Ticket) orelse error(badarg),
    case py_nif:is_pending(Ticket) of
        true -> await(Ref, Ticket, Timeout);
        false -> result(settled(Ref))
    end;
await(_, _) ->
    error(badarg).

%% The result of a call that is not pending any more: it is there, or about to be sent, unless the caller
%% has taken the message out of its mailbox.
settled(Ref) ->
    receive {Ref, Result} -> Result after ?MOMENT -> error(badarg) end.

%% Nothing will come for it any more.
discard({py_pending, _Owner, _Ref, {error, _}}, _Moment) ->
    ok;
discard({py_pending, _Owner, Ref, Ticket}, Moment) ->
    case py_nif:cancel(Ticket) of
        cancelled -> ok;
        replied -> receive {Ref, _} -> ok after Moment -> ok end
    end.

%% @doc The values of what Start makes of each item, calls under way being themselves.
-spec gather(fun((Item) -> pending() | Item), [Item | pending()], timeout() | ?DEFAULT) ->
    py:result([term()]).
%% `length' is of proper lists only.
gather(Start, Items, Timeout0) when length(Items) >= 0 ->
    Deadline = deadline(timeout(Timeout0)),
    Given = [Call || {py_pending, _, _, _} = Call <- Items],
    {Own, Foreign} = lists:partition(fun take/1, lists:uniq(Given)),
    Open = maps:from_list([{Ref, Call} || {py_pending, _Owner, Ref, _} = Call <- Own]),
    G = #gather{start = Start, items = Items, deadline = Deadline, open = Open},
    case [Reason || {py_pending, _Owner, _Ref, {error, Reason}} <- Own] of
        _ when Foreign =/= [] -> raise(G, badarg);
        [] -> start_more(G);
        [Reason | _] -> give_up(G, Reason)
    end;
gather(_Start, _Items, _Timeout) ->
    error(badarg).

%% Whether the call is one of this process that was not awaited before.
take({py_pending, Owner, _Ref, _}) when Owner =/= self() -> false;
take({py_pending, _Owner, _Ref, {error, _}}) -> true;
take({py_pending, _Owner, _Ref, Ticket}) -> py_nif:take(Ticket).

%% As many as are taken. A queue may be full of its own calls: it goes on when one has landed.
start_more(#gather{items = []} = G) ->
    wait(G);
start_more(#gather{items = [{py_pending, _, Ref, _} | Items], refs = Refs} = G) ->
    start_more(G#gather{items = Items, refs = [Ref | Refs]});
start_more(#gather{items = [Item | Items], refs = Refs, open = Open} = G) ->
    case started(Item, G) of
        {py_pending, _, _, {error, overloaded}} when map_size(Open) > 0 ->
            wait_for_room(G);
        {py_pending, _, _, {error, Reason}} ->
            give_up(G, Reason);
        {py_pending, _, Ref, _} = Call ->
            start_more(G#gather{items = Items, refs = [Ref | Refs], open = Open#{Ref => Call}})
    end.

%% One that cannot be started leaves nothing of those before it: their results would come later.
started(Item, #gather{start = Start} = G) ->
    try Start(Item) of
        {py_pending, _, _, _} = Call -> Call;
        _ -> raise(G, badarg)
    catch
        Class:Reason:Stacktrace ->
            _ = give_up(G, Reason),
            erlang:raise(Class, Reason, Stacktrace)
    end.

%% Results that are there already must not put off the end for ever.
wait_for_room(#gather{deadline = Deadline} = G) ->
    case left(Deadline) of
        0 -> give_up(G, timeout);
        _ -> wait(G)
    end.

wait(#gather{items = [], refs = Refs, open = Open, values = Values}) when map_size(Open) =:= 0 ->
    {ok, lists:foldl(fun(Ref, Tail) -> [maps:get(Ref, Values) | Tail] end, [], Refs)};
wait(#gather{open = Open, deadline = Deadline} = G) ->
    receive
        {Ref, Result} when is_map_key(Ref, Open) -> landed(Ref, Result, G)
    after min(left(Deadline), ?MOMENT) ->
        case left(Deadline) of
            0 -> give_up(G, timeout);
            _ -> look_around(G)
        end
    end.

%% A call whose message the caller has taken out of its mailbox would be waited for in vain.
look_around(#gather{open = Open} = G) ->
    case [Ref || {Ref, {_, _, _, Ticket}} <- maps:to_list(Open), not py_nif:is_pending(Ticket)] of
        [] ->
            start_more(G);
        [Ref | _] ->
            try settled(Ref) of
                Result -> landed(Ref, Result, G)
            catch
                error:badarg -> raise(G, badarg)
            end
    end.

landed(Ref, Result, #gather{open = Open, values = Values} = G0) ->
    G = G0#gather{open = maps:remove(Ref, Open)},
    case Result of
        {error, Reason} ->
            give_up(G, Reason);
        {raise, Reason} ->
            raise(G, Reason);
        _ ->
            {ok, Value} = result(Result),
            start_more(G#gather{values = Values#{Ref => Value}})
    end.

give_up(#gather{open = Open}, Reason) ->
    %% One moment for all: those whose messages were taken would need one each.
    Deadline = deadline(?MOMENT),
    lists:foreach(fun(Call) -> ok = discard(Call, left(Deadline)) end, maps:values(Open)),
    {error, Reason}.

-spec raise(#gather{}, term()) -> no_return().
raise(G, Reason) ->
    _ = give_up(G, Reason),
    error(Reason).

deadline(Timeout) -> deadline(erlang:monotonic_time(millisecond), Timeout).

%% @doc The monotonic time, in milliseconds, at which a call that began at Begin has had its time.
-spec deadline(Begin :: integer(), timeout() | ?DEFAULT) -> integer() | infinity.
deadline(Begin, Timeout0) ->
    case timeout(Timeout0) of
        infinity -> infinity;
        Timeout -> Begin + Timeout
    end.

-spec left(integer() | infinity) -> timeout().
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
