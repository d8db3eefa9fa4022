%% The program of `make demo'. Every step asserts what it prints.
-module(demo).

-export([main/0]).

-spec main() -> no_return().
main() ->
    %% The report of the stop is not logged.
    ok = logger:set_primary_config(level, warning),
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, #{version := Version, executable := Executable}} = py:python_info(),
    io:format("Python ~ts~n  ~ts~n", [Version, Executable]),
    Steps = [fun counter/0, fun two_contexts/0, fun database/0, fun killed_process/0,
             fun exception/0, fun statistics/0],
    lists:foreach(fun(Step) -> Step() end, Steps),
    ok = application:stop(erlang_python),
    io:format("~nDemo finished: ~b of ~b steps as expected.~n", [length(Steps), length(Steps)]),
    halt(0).

counter() ->
    title("A counter in a bound process"),
    show("py:bind()", ok = py:bind()),
    show("py:exec(<<\"counter = 0\">>)", ok = py:exec(<<"counter = 0">>)),
    show("py:exec(<<\"counter += 1\">>)", ok = py:exec(<<"counter += 1">>)),
    show("py:eval(<<\"counter\">>)", {ok, 1} = py:eval(<<"counter">>)),
    show("py:exec(<<\"counter += 1\">>)", ok = py:exec(<<"counter += 1">>)),
    show("py:eval(<<\"counter\">>)", {ok, 2} = py:eval(<<"counter">>)),
    show("py:unbind()", ok = py:unbind()).

two_contexts() ->
    title("Two isolated contexts in one process"),
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    ok = py:ctx_exec(Ctx1, <<"x = 'context one'">>),
    ok = py:ctx_exec(Ctx2, <<"x = 'context two'">>),
    show("py:ctx_eval(Ctx1, <<\"x\">>)", {ok, <<"context one">>} = py:ctx_eval(Ctx1, <<"x">>)),
    show("py:ctx_eval(Ctx2, <<\"x\">>)", {ok, <<"context two">>} = py:ctx_eval(Ctx2, <<"x">>)),
    {ok, Thread1} = py:ctx_call(Ctx1, threading, get_native_id, []),
    {ok, Thread2} = py:ctx_call(Ctx2, threading, get_native_id, []),
    true = Thread1 =/= Thread2,
    io:format("  on threads ~b and ~b~n", [Thread1, Thread2]),
    ok = py:unbind(Ctx1),
    ok = py:unbind(Ctx2).

database() ->
    title("An sqlite3 connection that stays on its thread"),
    Users = py:with_context(fun() ->
        ok = py:exec(<<"
import sqlite3
conn = sqlite3.connect(':memory:')
cursor = conn.cursor()
cursor.execute('CREATE TABLE users (id INTEGER, name TEXT)')
">>),
        ok = py:exec(<<"cursor.execute('INSERT INTO users VALUES (1, \"Alice\")')">>),
        ok = py:exec(<<"cursor.execute('INSERT INTO users VALUES (2, \"Bob\")')">>),
        py:eval(<<"cursor.execute('SELECT * FROM users').fetchall()">>)
    end),
    show("SELECT * FROM users", {ok, [{1, <<"Alice">>}, {2, <<"Bob">>}]} = Users).

killed_process() ->
    title("A worker given back by a killed process"),
    Self = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        ok = py:bind(),
        Self ! bound,
        receive never -> ok end
    end),
    receive bound -> ok after 5000 -> error(not_bound) end,
    #{checked_out := 1} = show("py_pool:get_stats()", py_pool:get_stats()),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> io:format("  killed ~p~n", [Pid])
    after 5000 -> error(not_killed)
    end,
    ok = wait_for_worker(500),
    #{checked_out := 0} = show("py_pool:get_stats()", py_pool:get_stats()),
    ok.

wait_for_worker(Tries) when Tries > 0 ->
    case py_pool:get_stats() of
        #{checked_out := 0} -> ok;
        _ -> receive after 10 -> wait_for_worker(Tries - 1) end
    end.

exception() ->
    title("An exception, as Python prints it"),
    Error = py:exec(<<"
import json
def load(text):
    return json.loads(text)
load('{')
">>),
    {error, {'ValueError', #{class := <<"json.decoder.JSONDecodeError">>}}} = Error,
    Lines = string:split(py:format_error(Error), "\n", all),
    lists:foreach(fun(Line) -> io:format("  ~ts~n", [Line]) end, Lines).

statistics() ->
    title("Pool statistics"),
    #{num_workers := All, available_workers := All, checked_out := 0, pending_requests := 0} =
        show("py_pool:get_stats()", py_pool:get_stats()),
    ok.

title(Text) ->
    io:format("~n== ~ts~n", [Text]).

show(Call, Value) ->
    io:format("  ~ts -> ~0tp~n", [Call, Value]),
    Value.
