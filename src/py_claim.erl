%% @private
%% The claim of a request that one process makes to another, within a time that the first one keeps:
%% either it is granted, or the requester has given up. An atomic decides, so neither waits to learn
%% what the other one has done.
%%
%% ```
%% open --> granted
%%    \---> given up
%% '''
-module(py_claim).

-export([new/0, grant/1, give_up/1]).

-export_type([claim/0]).

-opaque claim() :: atomics:atomics_ref().

-define(OPEN, 0).
-define(GRANTED, 1).
-define(GIVEN_UP, 2).

-spec new() -> claim().
new() ->
    atomics:new(1, []).

%% @doc Whether the request is granted: `false' when its requester has given up.
-spec grant(claim()) -> boolean().
grant(Claim) ->
    atomics:compare_exchange(Claim, 1, ?OPEN, ?GRANTED) =:= ok.

%% @doc Whether the requester gives up: `false' when the request is granted.
-spec give_up(claim()) -> boolean().
give_up(Claim) ->
    atomics:compare_exchange(Claim, 1, ?OPEN, ?GIVEN_UP) =:= ok.
