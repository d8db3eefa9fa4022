%% Is the library whole while Python code runs other interpreters in the process? Each case has a VM
%% of its own: the set-up at the first event loop of a VM is made once.
-module(py_interpreters_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [coroutines_work_after_those_of_another_interpreter,
     another_interpreter_may_not_hurt_the_vm].

init_per_suite(Config) ->
    Python = py_peer:interpreter(),
    case py_peer:ask(Python, "
for name in ('_interpreters', '_xxsubinterpreters'):
    try:
        __import__(name)
    except ImportError:
        continue
    print(name)
    break
") of
        <<>> -> {skip, "this Python has no other interpreters"};
        Module -> [{module, Module}, {python, Python} | Config]
    end.

end_per_suite(_Config) ->
    ok.

%% Runs in a fresh VM: `run(source)' runs code in an interpreter of its own, and returns the name of
%% the exception that it has raised.
in_peer(Config, Body) ->
    Module = proplists:get_value(module, Config),
    Peer = py_peer:start(#{"ERLANG_PYTHON" => proplists:get_value(python, Config)}),
    {ok, _} = py_peer:start_python(Peer, [{num_workers, 2}]),
    ok = py_peer:run(Peer, fun() ->
        {ok, Ctx} = py:bind(new),
        ok = py:ctx_exec(Ctx, [<<"import ">>, Module, <<" as interpreters
def run(source):
    id = interpreters.create()
    try:
        failed = interpreters.run_string(id, source)
        return failed and failed.type.__name__
    except interpreters.RunFailedError as error:
        return str(error)
    finally:
        interpreters.destroy(id)
">>]),
        Body(Ctx),
        py:unbind(Ctx)
    end),
    ok = py_peer:stop(Peer).

coroutines_work_after_those_of_another_interpreter(Config) ->
    in_peer(Config, fun(Ctx) ->
        {ok, none} = py:ctx_eval(Ctx, <<"run('import asyncio; asyncio.run(asyncio.sleep(0))')">>,
                                 #{}, 60000),
        {ok, 1} = py:ctx_eval(Ctx, <<"__import__('asyncio').sleep(0, 1)">>),
        %% A loop that waits is interrupted, and is whole for the next call.
        {error, timeout} = py:ctx_eval(Ctx, <<"__import__('asyncio').sleep(3600)">>, #{}, 300),
        {ok, 2} = py:ctx_eval(Ctx, <<"__import__('asyncio').sleep(0, 2)">>),
        {error, timeout} = py:ctx_exec(Ctx, <<"
import asyncio
asyncio.run(asyncio.sleep(3600))
">>, #{}, 300),
        {ok, 3} = py:ctx_eval(Ctx, <<"3">>),
        0 = maps:get(abandoned, py_pool:get_stats())
    end).

another_interpreter_may_not_hurt_the_vm(Config) ->
    in_peer(Config, fun(Ctx) ->
        [begin
             {ok, Failed} = py:ctx_eval(Ctx, <<"run(source)">>, #{source => Source}, 60000),
             {match, _} = re:run(Failed, "RuntimeError")
         end || Source <- [<<"import os; os.kill(os.getpid(), 15)">>, <<"import os; os.fork()">>]],
        {ok, 1} = py:ctx_eval(Ctx, <<"1">>)
    end).
