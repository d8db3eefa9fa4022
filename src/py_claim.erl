%% @private
%% The claim of a request that one process makes to another, within a time that the requester keeps.
%% A claim is either granted, or the requester has given up. An atomic decides, so neither process
%% waits for the other one.
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

%% @doc Grants the request. Returns `false' when its requester has given up.
-spec grant(claim()) -> boolean().
grant(Claim) ->
    atomics:compare_exchange(Claim, 1, ?OPEN, ?GRANTED) =:= ok.

%% @doc Gives the request up. Returns `false' when it is granted.
-spec give_up(claim()) -> boolean().
give_up(Claim) ->
    atomics:compare_exchange(Claim, 1, ?OPEN, ?GIVEN_UP) =:= ok.
