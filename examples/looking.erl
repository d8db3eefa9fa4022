%% What the workers do right now, and where the time goes.
-module(looking).

-export([main/0]).

-spec main() -> no_return().
main() ->
    ok = logger:set_primary_config(level, warning),
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, Context} = py:bind(new),
    ok = py:ctx_exec(Context, <<"
def price(order):
    return sum(item * item for item in range(order))

def report(last):
    while not last:
        price(20000)
">>),
    Self = self(),
    _ = spawn_link(fun() -> Self ! {report, py:ctx_call(Context, '__main__', report, [false])} end),
    ok = wait_for_code(Context),
    now(Context),
    over_a_while(Context),
    ok = py:interrupt(Context),
    {error, interrupted} = receive {report, Result} -> Result end,
    ok = py:unbind(Context),
    ok = application:stop(erlang_python),
    io:format("Looked at the workers as expected.~n"),
    halt(0).

wait_for_code(Context) ->
    case py:dump(Context) of
        #{stack := [_, _ | _]} -> ok;
        _ -> timer:sleep(10), wait_for_code(Context)
    end.

%% The call, its stack, and who waits.
now(Context) ->
    #{state := running, calls := [#{code := <<"__main__.report(...)">>, time := _}], stack := Stack} = py:dump(Context),
    [#{function := <<"report">>, line := 7} | _] = Stack,
    ok = py:top().

%% A line for each stack, and how often it was seen.
over_a_while(Context) ->
    {ok, Folded} = py:profile(Context, 1000),
    [Most | _] = binary:split(Folded, <<"\n">>, [global, trim]),
    <<"report (<erlang>:7);price (<erlang>:3)", _/binary>> = Most,
    io:format("~ts~n", [Folded]).
