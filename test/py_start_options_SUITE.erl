%% Do the keys that prepare Python for the code of a user work, and do bad ones stop the start? A VM
%% starts Python once, so each case has a VM of its own.
-module(py_start_options_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [paths_come_first_in_their_order, paths_of_a_later_start_come_first_without_duplicates,
     a_path_may_be_below_priv, a_directory_that_is_missing_stops_the_start,
     env_is_there_before_python_starts, env_reaches_children_of_python, env_of_a_later_start_is_set,
     env_decides_where_the_interpreter_looks, python_may_be_below_priv,
     preload_imports_and_runs_before_the_first_job, preload_runs_once_a_start,
     variables_of_preload_do_not_stay, preload_may_leave_threads_and_use_an_event_loop,
     a_preload_that_fails_stops_the_start_with_the_traceback, a_preload_that_exits_stops_the_start,
     a_preload_that_calls_erlang_stops_the_start, a_preload_that_hangs_stops_the_start,
     a_preload_that_cannot_be_interrupted_stops_the_start, invalid_values_stop_the_start].

init_per_testcase(Case, Config) ->
    Dir = filename:join([proplists:get_value(priv_dir, Config), Case]),
    [ok = filelib:ensure_dir(filename:join([Dir, Name, "any"])) || Name <- ["a", "b"]],
    [ok = file:write_file(filename:join([Dir, Name, "py_options_module.py"]),
                          ["import sys\nwhere = '", Name, "'\nsys.py_loads = getattr(sys, 'py_loads', 0) + 1\n"])
     || Name <- ["a", "b"]],
    [{peer, py_peer:start(#{"ERLANG_PYTHON" => py_peer:interpreter()})},
     {a, filename:join(Dir, "a")}, {b, filename:join(Dir, "b")} | Config].

end_per_testcase(_Case, Config) ->
    ok = py_peer:stop(peer(Config)),
    py_test:assert_empty_mailbox().

peer(Config) ->
    proplists:get_value(peer, Config).

start(Config, Env) ->
    case py_peer:start_python(peer(Config), [{num_workers, 2} | Env]) of
        {ok, _} -> ok;
        {error, {erlang_python, {Reason, _}}} -> {error, Reason}
    end.

%% Returns the text of a start that fails since Python could not be prepared; Python then still starts.
refusal(Config, Env) ->
    Error = start(Config, Env),
    {error, {python_not_prepared, Message}} = Error,
    Message = py:format_error(Error),
    undefined = py_peer:run(peer(Config), fun() -> whereis(py_pool) end),
    ok = start(Config, []),
    2 = eval(Config, <<"1 + 1">>),
    Message.

eval(Config, Code) ->
    {ok, Value} = py_peer:run(peer(Config), fun() -> py:eval(Code) end),
    Value.

dir(Key, Config) ->
    unicode:characters_to_binary(proplists:get_value(Key, Config)).

sys_path(Config) ->
    eval(Config, <<"__import__('sys').path">>).

paths_come_first_in_their_order(Config) ->
    [A, B] = [dir(a, Config), dir(b, Config)],
    ok = start(Config, [{paths, [binary_to_list(B), A]}]),
    [B, A | _] = sys_path(Config),
    <<"b">> = eval(Config, <<"__import__('py_options_module').where">>).

paths_of_a_later_start_come_first_without_duplicates(Config) ->
    [A, B] = [dir(a, Config), dir(b, Config)],
    ok = start(Config, [{paths, [A, B]}]),
    [A, B | Rest] = sys_path(Config),
    ok = start(Config, [{paths, [B, B]}]),
    [B, A | Rest] = sys_path(Config).

a_path_may_be_below_priv(Config) ->
    ok = start(Config, [{paths, [{priv, erlang_python, "."}]}]),
    [First | _] = sys_path(Config),
    true = filelib:is_regular(filename:join(First, "py_env.py")),
    <<"{priv,no_such_app,\".\"} names the directory priv of an application that is not in the code path">> =
        refusal(Config, [{paths, [{priv, no_such_app, "."}]}]).

a_directory_that_is_missing_stops_the_start(Config) ->
    <<"/nonexistent/dir, given by the key 'paths', is not a directory">> =
        refusal(Config, [{paths, [dir(a, Config), "/nonexistent/dir"]}]),
    File = filename:join(proplists:get_value(a, Config), "py_options_module.py"),
    py_test:contains(refusal(Config, [{paths, [File]}]), "is not a directory").

%% Python reads the first two variables once, when it starts.
env_is_there_before_python_starts(Config) ->
    ok = start(Config, [{env, #{"PYTHONNOUSERSITE" => <<"1">>, <<"PYTHONDONTWRITEBYTECODE">> => "1",
                                <<"PY_OPTIONS">> => <<"grün"/utf8>>, <<"PY_EMPTY">> => ""}}]),
    1 = eval(Config, <<"__import__('sys').flags.no_user_site">>),
    true = eval(Config, <<"__import__('sys').dont_write_bytecode">>),
    [<<"grün"/utf8>>, <<>>] = eval(Config, <<"[__import__('os').environ[k] for k in ('PY_OPTIONS', 'PY_EMPTY')]">>).

env_reaches_children_of_python(Config) ->
    ok = start(Config, [{env, #{<<"PY_OPTIONS">> => <<"for children">>}}]),
    Code = <<"__import__('subprocess').check_output(['sh', '-c', 'printf %s \"$PY_OPTIONS\"'])">>,
    <<"for children">> = eval(Config, Code).

env_of_a_later_start_is_set(Config) ->
    ok = start(Config, [{env, #{<<"PY_OPTIONS">> => <<"first">>, <<"PY_STAYS">> => <<"1">>}}]),
    ok = start(Config, [{env, #{<<"PY_OPTIONS">> => <<"second">>}}]),
    [<<"second">>, <<"1">>] = eval(Config, <<"[__import__('os').environ.get(k) for k in ('PY_OPTIONS', 'PY_STAYS')]">>).

%% A wrong home leaves Python without its library: the question to the interpreter shows that, while the VM would
%% end if Python were started so.
env_decides_where_the_interpreter_looks(Config) ->
    {error, {python_unavailable, Message}} = start(Config, [{env, #{"PYTHONHOME" => "/nonexistent"}}]),
    py_test:contains(Message, "does not run"),
    ok = start(Config, []).

python_may_be_below_priv(Config) ->
    {error, {python_unavailable, Message}} = start(Config, [{python, {priv, erlang_python, "no/venv"}}]),
    py_test:contains(Message, "priv/no/venv, given by the application environment key 'python', does not exist"),
    {error, {python_unavailable, Other}} = start(Config, [{python, {priv, no_such_app, "venv"}}]),
    py_test:contains(Other, "no_such_app"),
    Dir = filename:dirname(proplists:get_value(a, Config)),
    Bin = filename:join([Dir, "py_test_app", "priv", "venv", "bin"]),
    ok = filelib:ensure_path(Bin),
    ok = file:make_symlink(py_peer:interpreter(), filename:join(Bin, "python3")),
    Ebin = filename:join([Dir, "py_test_app", "ebin"]),
    ok = filelib:ensure_path(Ebin),
    true = py_peer:run(peer(Config), fun() -> code:add_path(Ebin) end),
    ok = start(Config, [{python, {priv, py_test_app, "venv"}}]),
    2 = eval(Config, <<"1 + 1">>).

preload_imports_and_runs_before_the_first_job(Config) ->
    Env = [{paths, [dir(b, Config)]}, {env, #{"PY_OPTIONS" => "1"}},
           {preload, [py_options_module, 'json.tool',
                      <<"import os, sys\nimport py_options_module\n"
                        "sys.py_ran = py_options_module.where, os.environ['PY_OPTIONS']">>]}],
    ok = start(Config, Env),
    {<<"b">>, <<"1">>} = eval(Config, <<"__import__('sys').py_ran">>),
    true = eval(Config, <<"{'json.tool', 'py_options_module'} <= set(__import__('sys').modules)">>),
    %% The pool that has prepared Python has ended.
    #{num_workers := 2, pending_requests := 0, abandoned := 0, left_threads := 0, resources := #{contexts := 0}} =
        py_peer:run(peer(Config), fun py_pool:get_stats/0).

%% Modules stay through a stop of the application, as Python does.
preload_runs_once_a_start(Config) ->
    Count = <<"import sys; sys.py_count = getattr(sys, 'py_count', 0) + 1">>,
    Env = [{paths, [dir(a, Config)]}, {preload, [py_options_module, Count]}],
    ok = start(Config, Env),
    [1, 1] = eval(Config, <<"(lambda s: [s.py_count, s.py_loads])(__import__('sys'))">>),
    ok = start(Config, Env),
    [2, 1] = eval(Config, <<"(lambda s: [s.py_count, s.py_loads])(__import__('sys'))">>).

variables_of_preload_do_not_stay(Config) ->
    ok = start(Config, [{preload, [<<"preloaded = 1">>, <<"assert 'preloaded' not in globals()">>]}]),
    false = eval(Config, <<"'preloaded' in globals()">>).

preload_may_leave_threads_and_use_an_event_loop(Config) ->
    ok = start(Config, [{preload, [<<"
import asyncio, queue, sys, threading
sys.py_in, sys.py_out = queue.Queue(), queue.Queue()
def echo():
    while (item := sys.py_in.get()) is not None:
        sys.py_out.put(item)
sys.py_thread = threading.Thread(target=echo, daemon=True)
sys.py_thread.start()
sys.py_result = asyncio.run(asyncio.sleep(0, 'slept'))
">>]}]),
    <<"slept">> = eval(Config, <<"__import__('sys').py_result">>),
    7 = eval(Config, <<"(lambda s: (s.py_in.put(7), s.py_out.get(timeout=60))[1])(__import__('sys'))">>),
    none = eval(Config, <<"(lambda s: (s.py_in.put(None), s.py_thread.join(60))[1])(__import__('sys'))">>).

a_preload_that_fails_stops_the_start_with_the_traceback(Config) ->
    Message = refusal(Config, [{preload, [json, <<"def f():\n    return 1 / 0\nf()">>]}]),
    <<"item 2 of the key 'preload', a piece of code, has failed:\nTraceback (most recent call last):\n", _/binary>> =
        Message,
    [py_test:contains(Message, Part) || Part <- ["in f", "return 1 / 0", "ZeroDivisionError: division by zero"]],
    Other = refusal(Config, [{preload, [no_such_module]}]),
    py_test:contains(Other, "item 1 of the key 'preload', the module no_such_module, has failed"),
    py_test:contains(Other, "ModuleNotFoundError: No module named 'no_such_module'").

a_preload_that_exits_stops_the_start(Config) ->
    py_test:contains(refusal(Config, [{preload, [<<"raise SystemExit(3)">>]}]), "SystemExit: 3").

%% No function is registered so early, and no server would call it.
a_preload_that_calls_erlang_stops_the_start(Config) ->
    py_test:contains(refusal(Config, [{preload, [<<"import erlang\nerlang.call('price', 1)">>]}]), "price").

a_preload_that_hangs_stops_the_start(Config) ->
    <<"item 2 of the key 'preload', a piece of code, has not ended within 3000 ms, the time of the key "
      "'preload_timeout'">> =
        refusal(Config, [{preload, [sys, <<"while True: pass">>]}, {preload_timeout, 3000}]).

a_preload_that_cannot_be_interrupted_stops_the_start(Config) ->
    Stubborn = <<"import sys, time\nsys.py_stop = False\nwhile not sys.py_stop:\n    try:\n        while True: pass\n"
                 "    except BaseException: pass">>,
    py_test:contains(refusal(Config, [{preload, [Stubborn]}, {preload_timeout, 3000}, {interrupt_grace, 200}]),
                     "has not ended within 3000 ms"),
    none = eval(Config, <<"setattr(__import__('sys'), 'py_stop', True)">>).

invalid_values_stop_the_start(Config) ->
    [{Key, Value, {error, {invalid_env, Key, Value}}} = {Key, Value, start(Config, [{Key, Value}])}
     || {Key, Values} <- [{paths, ["/tmp", [x], ["/tmp" | "/tmp"], [<<>>], [<<"a", 0>>], [{priv, "app", "x"}], #{}]},
                          {env, [[], [{"A", "1"}], #{a => <<"1">>}, #{<<>> => <<>>}, #{<<"A=B">> => <<>>},
                                 #{<<"A">> => 1}, #{<<"A">> => [0]}, #{<<"A">> => <<255>>},
                                 #{<<"A">> => <<>>, "A" => <<>>}]},
                          {preload, [json, "import json", ["import json"], [1], [<<255>>], [<<0>>], [json | json]]},
                          {preload_timeout, [0, -1, soon, 1 bsl 32]},
                          {python, [{priv, "app", "venv"}, {priv, app, ""}, {priv, app}]}],
        Value <- Values],
    ok = start(Config, []).
