%% @private
%% Calls that are awaited together. Runs in the calling process.
-module(py_gather).

-export([gather/3]).

-include("py_call.hrl").

-record(gather, {
    start :: fun((term()) -> py_call:pending() | term()),
    deadline :: integer() | infinity,
    %% Items whose calls are not started yet.
    items :: [term()],
    %% References of the calls of the items before those, the last first.
    refs = [] :: [reference()],
    open :: #{reference() => py_call:pending()},
    values = #{} :: #{reference() => term()}
}).

%% Milliseconds after which the open calls are checked, and to wait for messages that are about to
%% be sent.
-define(GRACE_MS, 1000).

%% @doc Returns the values of the calls that Start makes of the items. An item may be a call under
%% way.
-spec gather(fun((Item) -> py_call:pending() | Item), [Item | py_call:pending()],
             timeout() | ?DEFAULT) -> py:result([term()]).
%% The guard holds for proper lists only.
gather(Start, Items, Timeout0) when length(Items) >= 0 ->
    Deadline = deadline(Timeout0),
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

%% Marks a call as awaited. Returns `false' for a call of another process, or one that was awaited
%% before.
take({py_pending, Owner, _Ref, _}) when Owner =/= self() -> false;
take({py_pending, _Owner, _Ref, {error, _}}) -> true;
take({py_pending, _Owner, _Ref, Ticket}) -> py_nif:take(Ticket).

%% Starts calls until one is refused as overloaded. The queue may be full of the calls of this very
%% gather: the refused one is tried again when one of them has finished.
start_more(#gather{items = []} = G) ->
    wait(G);
start_more(#gather{items = [{py_pending, _, Ref, _} | Items], refs = Refs} = G) ->
    start_more(G#gather{items = Items, refs = [Ref | Refs]});
start_more(#gather{items = [Item | Items], refs = Refs, open = Open} = G) ->
    case started(Item, G) of
        {py_pending, _, _, {error, overloaded}} = Refused when map_size(Open) > 0 ->
            ok = py_call:discard(Refused, 0),
            wait_for_room(G);
        {py_pending, _, _, {error, Reason}} = Refused ->
            ok = py_call:discard(Refused, 0),
            give_up(G, Reason);
        {py_pending, _, Ref, _} = Call ->
            start_more(G#gather{items = Items, refs = [Ref | Refs], open = Open#{Ref => Call}})
    end.

%% A call that cannot be started has those before it cancelled: their results would come later.
started(Item, #gather{start = Start} = G) ->
    try Start(Item) of
        {py_pending, _, _, _} = Call -> Call;
        _ -> raise(G, badarg)
    catch
        Class:Reason:Stacktrace ->
            _ = give_up(G, Reason),
            erlang:raise(Class, Reason, Stacktrace)
    end.

%% Looks at the deadline: results that are in the mailbox already must not put it off for ever.
wait_for_room(#gather{deadline = Deadline} = G) ->
    case py_call:remaining(Deadline) of
        0 -> give_up(G, timeout);
        _ -> wait(G)
    end.

wait(#gather{items = [], refs = Refs, open = Open, values = Values}) when map_size(Open) =:= 0 ->
    {ok, lists:foldl(fun(Ref, Tail) -> [maps:get(Ref, Values) | Tail] end, [], Refs)};
wait(#gather{open = Open, deadline = Deadline} = G) ->
    receive
        {Ref, Result} when is_map_key(Ref, Open) -> finished(Ref, Result, G)
    after min(py_call:remaining(Deadline), ?GRACE_MS) ->
        case py_call:remaining(Deadline) of
            0 -> give_up(G, timeout);
            _ -> check_settled(G)
        end
    end.

%% Takes the reply of a call that is not pending any more. Raises `badarg' when the caller has taken
%% that message out of its mailbox.
check_settled(#gather{open = Open} = G) ->
    case [Ref || {Ref, {_, _, _, Ticket}} <- maps:to_list(Open), not py_nif:is_pending(Ticket)] of
        [] ->
            start_more(G);
        [Ref | _] ->
            try py_call:settled(Ref) of
                Result -> finished(Ref, Result, G)
            catch
                error:badarg -> raise(G, badarg)
            end
    end.

finished(Ref, Result, #gather{open = Open, values = Values} = G0) ->
    G = G0#gather{open = maps:remove(Ref, Open)},
    case Result of
        {printed, Inner} ->
            ok = py_output:sync(),
            finished(Ref, Inner, G0);
        {error, Reason} ->
            give_up(G, Reason);
        {raise, Reason} ->
            raise(G, Reason);
        _ ->
            {ok, Value} = py_call:result(Result),
            start_more(G#gather{values = Values#{Ref => Value}})
    end.

give_up(#gather{open = Open}, Reason) ->
    %% The deadline is one for all calls: those whose replies were
    %% taken before would take the whole time each.
    Deadline = deadline(?GRACE_MS),
    Discard = fun(Call) -> ok = py_call:discard(Call, py_call:remaining(Deadline)) end,
    lists:foreach(Discard, maps:values(Open)),
    {error, Reason}.

-spec raise(#gather{}, term()) -> no_return().
raise(G, Reason) ->
    _ = give_up(G, Reason),
    error(Reason).

deadline(Timeout) ->
    py_call:deadline(erlang:monotonic_time(millisecond), Timeout).
