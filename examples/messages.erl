%% Python code that reports its progress to a process, and that monitors another one. Every step
%% asserts what it prints.
-module(messages).

-export([main/0]).

-spec main() -> no_return().
main() ->
    %% The report of the stop is not logged.
    ok = logger:set_primary_config(level, warning),
    {ok, _} = application:ensure_all_started(erlang_python),
    Steps = [fun progress/0, fun names/0, fun watching/0],
    lists:foreach(fun(Step) -> Step() end, Steps),
    ok = application:stop(erlang_python),
    io:format("~nExample finished: ~b of ~b steps as expected.~n", [length(Steps), length(Steps)]),
    halt(0).

%% The call goes on while the messages arrive.
progress() ->
    title("Progress of a long call"),
    Self = self(),
    {Worker, Monitor} = spawn_monitor(fun() ->
        ok = py:exec(<<"
import erlang
for done in range(25, 101, 25):
    sum(range(100000))
    erlang.send(listener, (erlang.atom('progress'), erlang.self(), done))
">>, #{listener => Self})
    end),
    [show("progress", receive {progress, Worker, Done} -> Done after 5000 -> error(no_message) end)
     || Done <- [25, 50, 75, 100]],
    receive {'DOWN', Monitor, process, Worker, Reason} -> normal = Reason
    after 5000 -> error(still_runs)
    end.

names() ->
    title("Processes by name, and atoms"),
    true = register(inbox, self()),
    ok = py:exec(<<"
import erlang
assert erlang.whereis('inbox') == erlang.self()
erlang.send('inbox', ('text', erlang.atom('atom')))
try:
    erlang.send('nobody at all', 1)
    raise AssertionError
except erlang.NotRegistered:
    pass
">>),
    show("inbox", {<<"text">>, atom} = received()),
    true = unregister(inbox).

watching() ->
    title("Python watches a process"),
    Self = self(),
    Server = spawn(fun() -> receive {stop, Reason} -> exit(Reason) end end),
    _ = spawn_link(fun() ->
        ok = py:exec(<<"
import erlang
monitor = erlang.monitor(server)
erlang.send(starter, erlang.atom('watched'))
is_down = monitor.wait(5)
erlang.send(starter, (is_down, monitor.reason))
">>, #{server => Server, starter => Self})
    end),
    watched = received(),
    Server ! {stop, enough},
    show("(is_down, monitor.reason)", {true, <<"enough">>} = received()).

received() ->
    receive Message -> Message after 5000 -> error(no_message) end.

title(Text) ->
    io:format("~n== ~ts~n", [Text]).

show(Call, Value) ->
    io:format("  ~ts -> ~0tp~n", [Call, Value]),
    Value.
