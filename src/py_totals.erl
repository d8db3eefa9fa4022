%% @private
%% How often workers of a pool have ended, since its server started. Written by the server, read by any process.
-module(py_totals).

-export([new/0, count/2, read/1]).

-export_type([totals/0, event/0]).

-opaque totals() :: counters:counters_ref().
-type event() :: abandoned | exited | replaced.

-spec new() -> totals().
new() ->
    counters:new(3, []).

-spec count(totals(), event()) -> ok.
count(Totals, Event) ->
    counters:add(Totals, index(Event), 1).

-spec read(totals()) -> #{event() => non_neg_integer()}.
read(Totals) ->
    maps:from_list([{Event, counters:get(Totals, index(Event))} || Event <- [abandoned, exited, replaced]]).

index(abandoned) -> 1;
index(exited) -> 2;
index(replaced) -> 3.
