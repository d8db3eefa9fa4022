%% @private
%% Requests that wait, in order of arrival, as a value: a key leads to each of them.
%%
%% `py_pool' keeps those who wait for a worker in it. The end of a wait costs the logarithm of
%% their number, wherever in the line it comes.
-module(py_waiters).

-export([new/0, size/1, in/3, first/1, take/2, to_list/1]).

-export_type([waiters/2]).

%% Places grow by arrival, and none is used twice.
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

%% @doc The waiters with one more, who is the last. The key must be new.
-spec in(Key, Value, waiters(Key, Value)) -> waiters(Key, Value).
in(Key, Value, #waiters{next = Next, line = Line, places = Places}) when
        not is_map_key(Key, Places) ->
    #waiters{next = Next + 1, line = gb_trees:insert(Next, {Key, Value}, Line),
             places = Places#{Key => Next}}.

%% @doc The one who has waited for longest, and who stays.
-spec first(waiters(Key, Value)) -> {Key, Value} | none.
first(#waiters{places = Places}) when map_size(Places) =:= 0 ->
    none;
first(#waiters{line = Line}) ->
    {_Place, KeyAndValue} = gb_trees:smallest(Line),
    KeyAndValue.

%% @doc Takes out the one with this key.
-spec take(Key, waiters(Key, Value)) -> {Value, waiters(Key, Value)} | error.
take(Key, #waiters{line = Line0, places = Places0} = Waiters) ->
    case maps:take(Key, Places0) of
        {Place, Places} ->
            {{Key, Value}, Line} = gb_trees:take(Place, Line0),
            {Value, Waiters#waiters{line = Line, places = Places}};
        error ->
            error
    end.

%% @doc All of them, the first first.
-spec to_list(waiters(Key, Value)) -> [{Key, Value}].
to_list(#waiters{line = Line}) ->
    gb_trees:values(Line).
