%% A Python pipeline that asks Erlang for data, and that Erlang enters again in the middle of it.
%% Every step asserts what it prints.
-module(callbacks).

-export([main/0]).

-spec main() -> no_return().
main() ->
    %% The report of the stop is not logged.
    ok = logger:set_primary_config(level, warning),
    {ok, _} = application:ensure_all_started(erlang_python),
    Orders = spawn_link(fun() -> orders(#{1 => {<<"tea">>, 3}, 2 => {<<"cake">>, 2}}) end),
    ok = register_functions(Orders),
    Steps = [fun pipeline/0, fun fault/0, fun threads/0],
    ok = py:bind(),
    lists:foreach(fun(Step) -> Step() end, Steps),
    ok = py:unbind(),
    ok = application:stop(erlang_python),
    io:format("~nExample finished: ~b of ~b steps as expected.~n", [length(Steps), length(Steps)]),
    halt(0).

%% A process with state, as any application has.
orders(Orders) ->
    receive
        {From, Ref, Id} -> From ! {Ref, maps:find(Id, Orders)}, orders(Orders)
    end.

register_functions(Orders) ->
    ok = py:register_function(order, fun([Id]) -> order(Orders, Id) end),
    %% The function is called by Python and calls Python: the price list is a variable of the
    %% context.
    ok = py:register_function(cost, fun([What, Count]) ->
        {ok, Price} = py:eval(<<"prices[what]">>, #{what => What}),
        ok = py:exec(<<"asked.append(what)">>, #{what => What}),
        Count * Price
    end).

order(Orders, Id) ->
    Ref = make_ref(),
    Orders ! {self(), Ref, Id},
    receive
        {Ref, {ok, Order}} -> Order;
        {Ref, error} -> error({no_such_order, Id})
    after 5000 ->
        error(timeout)
    end.

pipeline() ->
    title("A pipeline in Python, over data in Erlang"),
    ok = py:exec(<<"
import erlang

prices, asked = {'tea': 2, 'cake': 5}, []

def bill(ids):
    orders = (erlang.order(i) for i in ids)
    return {what: erlang.cost(what, count) for what, count in orders}
">>),
    show("bill([1, 2])",
         {ok, #{<<"tea">> := 6, <<"cake">> := 10}} = py:call('__main__', bill, [[1, 2]])),
    show("asked", {ok, [<<"tea">>, <<"cake">>]} = py:eval(<<"asked">>)).

fault() ->
    title("An error of Erlang, caught in Python, and not"),
    ok = py:exec(<<"
def bill_or_none(ids):
    try:
        return bill(ids)
    except erlang.ErlangError as e:
        return (e.cls, e.reason)
">>),
    show("bill_or_none([3])",
         {ok, {<<"error">>, {<<"no_such_order">>, 3}}} = py:call('__main__', bill_or_none, [[3]])),
    {error, {'Exception', #{erlang := {error, {no_such_order, 3} = Reason, [_ | _]}}}} =
        py:call('__main__', bill, [[3]]),
    show("bill([3]) fails with", Reason).

threads() ->
    title("Two threads of Python's own"),
    ok = py:exec(<<"
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool:
    found = list(pool.map(erlang.order, [1, 2]))
">>),
    show("found", {ok, [{<<"tea">>, 3}, {<<"cake">>, 2}]} = py:eval(<<"found">>)).

title(Text) ->
    io:format("~n== ~ts~n", [Text]).

show(Call, Value) ->
    io:format("  ~ts -> ~0tp~n", [Call, Value]),
    Value.
