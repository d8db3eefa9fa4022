%% Is an import whole after a call that must stop? An import that has begun is not interrupted: the
%% caller has its answer on time, the module is whole, and the code stops after it.
-module(py_import_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).
-define(GRACE, 600).
-define(IMPORT_GRACE, 3000).
%% A timeout, and source that makes a module take longer.
-define(SHORT, 300).
-define(SLOW, "import time\nfor _ in range(150): time.sleep(0.01)\n").

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [{group, whole}, {group, bounded}, {group, fresh}].

groups() ->
    [{whole, [], [a_package_is_whole_after_a_timeout_in_a_module_of_it,
                  a_package_is_whole_after_a_timeout_in_a_class_of_it,
                  packages_that_import_each_other_are_whole_after_a_timeout,
                  a_reload_is_whole_after_a_timeout,
                  a_call_by_name_of_a_module_imports_it_whole,
                  who_waits_for_an_import_has_its_timeout,
                  the_code_after_an_import_does_not_run,
                  the_next_call_waits_for_the_import,
                  an_interrupted_import_is_answered_at_once,
                  an_interrupted_import_of_a_coroutine_is_answered_at_once,
                  an_interrupted_import_of_a_stream_is_answered_at_once,
                  the_end_of_a_context_waits_for_its_import]},
     {bounded, [], [an_import_without_end_is_abandoned,
                    code_that_goes_on_importing_is_abandoned]},
     {fresh, [], [interrupted_imports_leave_no_lock, asyncio_is_whole_after_timeouts,
                  packages_in_c_are_whole_after_timeouts]}].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(_Group, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "modules"),
    ok = filelib:ensure_path(Dir),
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, ?GRACE},
                             {import_grace, ?IMPORT_GRACE}, {paths, [Dir]}]),
    [{dir, Dir} | Config].

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    0 = py_test:abandoned(),
    py_test:end_case(?WORKERS).

dir(Config) ->
    proplists:get_value(dir, Config).

%%% Whole

%% Regression: `NameError: name 'sub' is not defined' for ever, and an ImportError for the
%% bystander.
a_package_is_whole_after_a_timeout_in_a_module_of_it(Config) ->
    ok = write(Config, "py_pk/sub.py", "x = 1\n"),
    ok = write(Config, "py_pk/__init__.py", "from .sub import *\nimport py_slow_other\ny = sub.x\n"),
    ok = write(Config, "py_slow_other.py", mark() ++ ?SLOW "z = 2\n"),
    First = py_test:start_call(fun() -> py:exec(<<"import py_pk">>, #{}, ?SHORT) end),
    ok = py_test:wait_for_mark(),
    Second = py_test:start_call(fun() -> py:eval(<<"__import__('py_pk').y">>) end),
    {error, timeout} = py_test:result(First),
    {ok, 1} = py_test:result(Second),
    {ok, 2} = py:eval(<<"__import__('py_pk').py_slow_other.z">>).

%% COMPAT(3.11): Python makes a RuntimeError of an exception that is raised there.
a_package_is_whole_after_a_timeout_in_a_class_of_it(Config) ->
    ok = write(Config, "py_class.py", "import time\n"
               "class Name:\n"
               "    def __set_name__(self, owner, name):\n"
               "        for _ in range(150): time.sleep(0.01)\n"
               "        self.name = name\n"
               "class Named:\n"
               "    attribute = Name()\n"),
    {error, timeout} = py:exec(<<"import py_class">>, #{}, ?SHORT),
    {ok, <<"attribute">>} = py:eval(<<"__import__('py_class').Named.attribute.name">>).

%% Regression: the second import was `ok', and `f' failed for ever.
packages_that_import_each_other_are_whole_after_a_timeout(Config) ->
    ok = write(Config, "py_circ/__init__.py", ""),
    ok = write(Config, "py_circ/a.py", "import py_circ.b\n" ?SLOW "x = 1\n"),
    ok = write(Config, "py_circ/b.py", "import py_circ.a as a\ndef f(): return a.x\n"),
    ok = py:bind(),
    {error, timeout} = py:exec(<<"import py_circ.a">>, #{}, ?SHORT),
    {ok, 1} = py:eval(<<"__import__('py_circ.b').b.f()">>).

a_reload_is_whole_after_a_timeout(Config) ->
    ok = write(Config, "py_reload.py", "x = 1\n"),
    ok = py:exec(<<"import py_reload">>),
    ok = write(Config, "py_reload.py", ?SLOW "y = 2\n"),
    Reload = <<"import importlib, py_reload; importlib.reload(py_reload)">>,
    {error, timeout} = py:exec(Reload, #{}, ?SHORT),
    ok = py_test:wait_until(fun() ->
        py:eval(<<"hasattr(__import__('py_reload'), 'y')">>) =:= {ok, true}
    end),
    ok = py:exec(Reload).

a_call_by_name_of_a_module_imports_it_whole(Config) ->
    ok = write(Config, "py_named.py", ?SLOW "def f(): return 3\n"),
    {error, timeout} = py:call(py_named, f, [], #{}, ?SHORT),
    {ok, 3} = py:call(py_named, f, []).

who_waits_for_an_import_has_its_timeout(Config) ->
    ok = write(Config, "py_waited.py", mark() ++ ?SLOW "x = 1\n"),
    First = py_test:start_call(fun() -> py:eval(<<"__import__('py_waited').x">>) end),
    ok = py_test:wait_for_mark(),
    {error, timeout} = py:exec(<<"import py_waited">>, #{}, 50),
    {ok, 1} = py_test:result(First),
    {ok, 1} = py:eval(<<"__import__('py_waited').x">>).

the_code_after_an_import_does_not_run(Config) ->
    ok = slow(Config, "py_then.py"),
    ok = py:bind(),
    {error, timeout} = py:exec(<<"x = 1\nimport py_then\nwhile True: x += 1">>, #{}, ?SHORT),
    {ok, X} = py:eval(<<"x">>),
    {ok, X} = py:eval(<<"x">>).

the_next_call_waits_for_the_import(Config) ->
    ok = slow(Config, "py_next.py"),
    ok = py:bind(),
    {error, timeout} = py:exec(<<"x = 1\nimport py_next">>, #{}, ?SHORT),
    {error, timeout} = py:eval(<<"x">>, #{}, 10),
    {ok, 1} = py:eval(<<"x">>),
    {ok, true} = py:eval(<<"'py_next' in __import__('sys').modules">>).

an_interrupted_import_is_answered_at_once(Config) ->
    ok = slow(Config, "py_interrupted.py"),
    {ok, Ctx} = py:bind(new),
    Call = py_test:start_call(fun() -> py:ctx_exec(Ctx, <<"import py_interrupted">>) end),
    ok = py_test:wait_for_mark(),
    ok = py:interrupt(Ctx),
    {error, interrupted} = py_test:result(Call),
    %% The import goes on.
    {error, timeout} = py:ctx_eval(Ctx, <<"1">>, #{}, 0),
    #{pending_requests := 0, checked_out := 1} = py_pool:get_stats(),
    {ok, true} = py:ctx_eval(Ctx, <<"__import__('py_interrupted').done">>),
    ok = py:unbind(Ctx).

an_interrupted_import_of_a_coroutine_is_answered_at_once(Config) ->
    ok = slow(Config, "py_awaited.py"),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
async def load():
    import asyncio
    await asyncio.sleep(0)
    import py_awaited
">>),
    Call = py_test:start_call(fun() ->
        py:await(py:ctx_async_call(Ctx, '__main__', load, []))
    end),
    ok = py_test:wait_for_mark(),
    ok = py:interrupt(Ctx),
    {error, interrupted} = py_test:result(Call),
    {error, timeout} = py:ctx_eval(Ctx, <<"1">>, #{}, 0),
    {ok, true} = py:ctx_eval(Ctx, <<"__import__('py_awaited').done">>),
    ok = py:unbind(Ctx).

an_interrupted_import_of_a_stream_is_answered_at_once(Config) ->
    ok = slow(Config, "py_streamed.py"),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
def load():
    import py_streamed
    yield 1
">>),
    {ok, Stream} = py:ctx_stream(Ctx, '__main__', load, []),
    ok = py:stream_next(Stream, 1),
    ok = py_test:wait_for_mark(),
    ok = py:interrupt(Ctx),
    receive {py_stream, Stream, {error, interrupted}} -> ok after 10000 -> error(no_answer) end,
    %% The next demand and `stream_close' do not wait for the import. Regression: the latter did.
    ok = py:stream_next(Stream, 1),
    receive {py_stream, Stream, done} -> ok after 0 -> error(no_end) end,
    ok = py:stream_close(Stream),
    {ok, false} = py:eval(<<"hasattr(__import__('sys').modules.get('py_streamed'), 'done')">>),
    {ok, true} = py:ctx_eval(Ctx, <<"__import__('py_streamed').done">>),
    ok = py:stream_next(Stream, 1),
    receive {py_stream, Stream, done} -> ok after 10000 -> error(no_end) end,
    ok = py:unbind(Ctx).

the_end_of_a_context_waits_for_its_import(Config) ->
    %% The import ends when the test says so.
    Go = filename:join(dir(Config), "go"),
    _ = file:delete(Go),
    ok = write(Config, "py_ended.py", mark() ++ "import os, time\n"
               "while not os.path.exists('" ++ Go ++ "'): time.sleep(0.01)\ndone = True\n"),
    {ok, Ctx} = py:bind(new),
    Call = py_test:start_call(fun() -> py:ctx_exec(Ctx, <<"import py_ended">>) end),
    ok = py_test:wait_for_mark(),
    ok = py:unbind(Ctx),
    {error, interrupted} = py_test:result(Call),
    #{checked_out := 1} = py_pool:get_stats(),
    ok = file:write_file(Go, ""),
    ok = py_test:wait_available(?WORKERS),
    {ok, true} = py:eval(<<"__import__('py_ended').done">>).

%%% Bounded

an_import_without_end_is_abandoned(Config) ->
    ok = write(Config, "py_endless.py", mark() ++ "import sys, time\n"
               "while not hasattr(sys, 'py_import_go'): time.sleep(0.01)\n"
               "del sys.py_import_go\n"),
    ok = py:bind(),
    {error, timeout} = py:exec(<<"import py_endless">>, #{}, ?SHORT),
    ok = py_test:wait_for_mark(),
    ok = py_test:wait_for_abandoned(1),
    false = py:is_bound(),
    ok = py:exec(<<"import sys; sys.py_import_go = 1">>),
    ok = py_test:wait_for_abandoned(0),
    {ok, true} = py:eval(<<"'py_endless' in __import__('sys').modules">>).

%% The code swallows all interruptions, and spends its time in imports.
code_that_goes_on_importing_is_abandoned(Config) ->
    ok = write(Config, "py_again.py", "import time\ntime.sleep(0.2)\n"),
    ok = py:bind(),
    {error, timeout} = py:exec(<<"
import sys
def goes_on():
    return not hasattr(sys, 'py_import_go')
def again():
    import py_again
    del sys.modules['py_again']
def swallow(depth):
    while goes_on():
        try:
            swallow(depth - 1) if depth else again()
        except BaseException:
            pass
# At the end of an import two exceptions may come at once: one that was put off, and the next.
swallow(5)
del sys.py_import_go
">>, #{}, ?SHORT),
    ok = py_test:wait_for_abandoned(1),
    ok = py:exec(<<"import sys; sys.py_import_go = 1">>),
    ok = py_test:wait_for_abandoned(0).

%%% VMs of their own

%% Regression: an exception between the taking of a lock and the `try' left the lock taken, and no
%% context could import any more.
interrupted_imports_leave_no_lock(Config) ->
    [ok = write(Config, Name, "") || Name <- ["py_import_a.py", "py_import_b.py"]],
    Dir = list_to_binary(dir(Config)),
    Stats = in_fresh_vm(fun() ->
        ok = py:exec(<<"import sys; sys.path.insert(0, d)">>, #{d => Dir}),
        {error, timeout} = py:exec(slow_import(
            "event == 'c_return' and arg.__name__ == 'acquire_lock'", "py_import_a"), #{}, ?SHORT),
        ok = py:exec(<<"import py_import_b, sys; del sys.modules['py_import_b']">>, #{}, 5000),
        {error, timeout} = py:exec(slow_import(
            "event == 'return' and frame.f_code.co_name == 'acquire'", "py_import_b"), #{}, ?SHORT),
        ok = py:exec(<<"import py_import_b">>, #{}, 5000),
        ok = py_test:wait_available(2),
        py_pool:get_stats()
    end),
    #{abandoned := 0, available_workers := 2} = Stats.

asyncio_is_whole_after_timeouts(_Config) ->
    [in_fresh_vm(fun() ->
        ok = py:bind(),
        _ = py:call(asyncio, sleep, [0.001], #{}, Timeout),
        {ok, <<"done">>} = py:call(asyncio, sleep, [0.001, done]),
        ok = py:exec(<<"import asyncio; asyncio.run(asyncio.sleep(0))">>)
    end) || Timeout <- [1, 5, 10, 15, 25, 35, 45]].

%% Numpy is there; FULL=1 tries bigger packages as well, if the venv has them.
packages_in_c_are_whole_after_timeouts(_Config) ->
    case os:getenv("PY_TEST_VENV") of
        false ->
            {skip, "no venv"};
        Venv ->
            [in_fresh_vm(Venv, fun() ->
                ok = py:bind(),
                [py:exec(<<"import ", Name/binary>>, #{}, Ms) || Ms <- [Timeout, 1, 20]],
                ok = py:exec(<<"import ", Name/binary>>)
            end) || {Name, Timeouts} <- packages(), Timeout <- Timeouts]
    end.

packages() ->
    Big = case os:getenv("FULL") of
        false -> [];
        _ -> [<<"matplotlib.pyplot">>, <<"polars">>, <<"pandas">>]
    end,
    Has = fun(Name) ->
        {ok, Found} = py:eval(<<"__import__('importlib.util').util.find_spec(n) is not None">>,
                              #{n => hd(binary:split(Name, <<".">>))}),
        Found
    end,
    [{<<"numpy">>, [10, 60, 120]}] ++
        [{Name, [N * 100 || N <- lists:seq(1, 11)]} || Name <- Big, Has(Name)].

in_fresh_vm(Fun) ->
    in_fresh_vm(py_peer:interpreter(), Fun).

in_fresh_vm(Python, Fun) ->
    Peer = py_peer:start(#{"ERLANG_PYTHON" => Python}),
    {ok, _} = py_peer:start_python(Peer, [{num_workers, 2}, {interrupt_grace, ?GRACE}]),
    Result = py_peer:run(Peer, Fun),
    ok = py_peer:stop(Peer),
    Result.

%% Source that stands still as soon as a lock was taken.
slow_import(Where, Name) ->
    ["import sys, time\n"
     "def profile(frame, event, arg):\n"
     "    if ", Where, ":\n"
     "        sys.setprofile(None)\n"
     "        end = time.monotonic() + 1\n"
     "        while time.monotonic() < end: pass\n"
     "sys.setprofile(profile)\n"
     "import ", Name].

%% Writes a module that takes its time, after it has set the mark.
slow(Config, File) ->
    write(Config, File, mark() ++ ?SLOW "done = True\n").

mark() ->
    "import sys\nsys.py_test_mark = 1\n".

write(Config, Name, Text) ->
    File = filename:join(dir(Config), Name),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, Text),
    %% Finders remember the files of a folder.
    py:exec(<<"import importlib; importlib.invalidate_caches()">>).
