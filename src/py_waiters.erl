%% @private
%% A line of requests that wait, in order of arrival, as a value. Each request has a key.
%%
%% Used by `py_pool' for the requests that wait for a worker. The end of a wait costs the logarithm
%% of their number, wherever in the line the request stands.
-module(py_waiters).

-export([new/0, size/1, in/3, first/1, take/2, to_list/1]).

-export_type([waiters/2]).

%% `line': the requests by their places. `places': the place of each key. A place is a number that
%% grows with each arrival, and is not used twice.
-record(waiters, {next = 0 :: non_neg_integer(),
                  line = gb_trees:empty() :: gb_trees:tree(non_neg_integer(), {term(), term()}),
                  places = #{} :: #{term() => non_neg_integer()}}).

-opaque waiters(_Key, _Value) :: #waiters{}.

-spec new() -> waiters(_Key, _Value).
new() ->
    #waiters{}.

-spec size(waiters(_Key, _Value)) -> non_neg_integer().
size(#waiters{places = Places}) ->
    map_size(Places).

%% @doc Appends a request. The key must be new.
-spec in(Key, Value, waiters(Key, Value)) -> waiters(Key, Value).
in(Key, Value, #waiters{next = Next, line = Line, places = Places}) when
        not is_map_key(Key, Places) ->
    #waiters{next = Next + 1, line = gb_trees:insert(Next, {Key, Value}, Line),
             places = Places#{Key => Next}}.

%% @doc Returns the request that has waited for longest, and leaves it in the line.
-spec first(waiters(Key, Value)) -> {Key, Value} | none.
first(#waiters{places = Places}) when map_size(Places) =:= 0 ->
    none;
first(#waiters{line = Line}) ->
    {_Place, KeyAndValue} = gb_trees:smallest(Line),
    KeyAndValue.

%% @doc Removes the request with this key, and returns it.
-spec take(Key, waiters(Key, Value)) -> {Value, waiters(Key, Value)} | error.
take(Key, #waiters{line = Line0, places = Places0} = Waiters) ->
    case maps:take(Key, Places0) of
        {Place, Places} ->
            {{Key, Value}, Line} = gb_trees:take(Place, Line0),
            {Value, Waiters#waiters{line = Line, places = Places}};
        error ->
            error
    end.

%% @doc Returns all requests in order of arrival.
-spec to_list(waiters(Key, Value)) -> [{Key, Value}].
to_list(#waiters{line = Line}) ->
    gb_trees:values(Line).
