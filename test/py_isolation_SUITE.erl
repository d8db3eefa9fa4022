%% Is a context isolated as docs/isolation.md says? One case for each row of its tables.
-module(py_isolation_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, private}, {group, shared}, {group, refused}].

groups() ->
    [{private, [], [variables, main_module, context_variables, the_decimal_context,
                    the_thread, trace_and_profile_functions, standard_streams,
                    a_stream_of_another_context_stays, an_event_loop, suspended_generators,
                    suspended_coroutines, a_pending_exception, threads_left_running,
                    threads_that_ended_are_no_news, a_raw_namespace_after_a_timeout,
                    expressions_leave_nothing, audit_hooks]},
     {shared, [], [modules_and_their_attributes, the_working_directory, environment_variables,
                   the_module_path, the_recursion_limit, random_seeds, module_thread_locals,
                   the_garbage_collector, warnings_filters, open_files, exit_handlers, audit_hooks_of_modules,
                   the_locale]},
     {refused, [], [fork, signals_to_the_vm, signals_to_others]}].

init_per_suite(Config) ->
    %% The pool has one worker: the next context meets the state that one leaves there.
    ok = py_test:start_with([{num_workers, 1}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(1),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py_test:wait_available(1),
    py_test:assert_empty_mailbox().

%% Runs Setup in one context, and returns the value of Look in the next one on the same worker, and
%% in an unbound call.
after_context(Setup, Look) ->
    ok = py:with_context(fun() -> py:exec(Setup) end),
    {ok, Next} = py:with_context(fun() -> py:eval(Look) end),
    {ok, Next} = py:eval(Look),
    ok = py:exec(Setup),
    {ok, Next} = py:eval(Look),
    Next.

%%% Private

variables(_Config) ->
    false = after_context(<<"left = 1">>, <<"'left' in globals()">>).

main_module(_Config) ->
    false = after_context(<<"import __main__; __main__.left = 1">>,
                          <<"hasattr(__import__('__main__'), 'left')">>).

context_variables(_Config) ->
    %% The variable itself lives in a module that both import.
    ok = py:exec(<<"
import sys, types, contextvars
shared = types.ModuleType('py_isolation_shared')
shared.var = contextvars.ContextVar('var', default='default')
sys.modules['py_isolation_shared'] = shared
">>),
    Set = <<"import py_isolation_shared as s; s.var.set('left')">>,
    Get = <<"__import__('py_isolation_shared').var.get()">>,
    <<"default">> = after_context(Set, Get),
    %% The variable stays from call to call within a context.
    py:with_context(fun() ->
        ok = py:exec(Set),
        {ok, <<"left">>} = py:eval(Get)
    end),
    ok = py:exec(<<"import sys; del sys.modules['py_isolation_shared']">>).

the_decimal_context(_Config) ->
    28 = after_context(<<"import decimal; decimal.getcontext().prec = 5">>,
                       <<"__import__('decimal').getcontext().prec">>).

the_thread(_Config) ->
    Ident = <<"__import__('threading').get_ident()">>,
    py:with_context(fun() ->
        {ok, Thread} = py:eval(Ident),
        {ok, Thread} = py:eval(Ident)
    end).

trace_and_profile_functions(_Config) ->
    true = after_context(<<"import sys; sys.settrace(lambda *_: None)">>,
                         <<"__import__('sys').gettrace() is None">>),
    true = after_context(<<"import sys; sys.setprofile(lambda *_: None)">>,
                         <<"__import__('sys').getprofile() is None">>).

standard_streams(_Config) ->
    %% The streams are those of the engine again.
    Look = <<"(lambda s: (type(s.stdout).__name__ == 'Output', type(s.stderr).__name__ == 'Output'))"
             "(__import__('sys'))">>,
    {true, true} = after_context(<<"import sys, io; sys.stdout = sys.stderr = io.StringIO()">>,
                                 Look),
    {true, true} = after_context(<<"import sys; del sys.stdout">>, Look),
    %% The stream is replaced twice in one context.
    py:with_context(fun() ->
        ok = py:exec(<<"import sys, io; sys.stdout = io.StringIO()">>),
        ok = py:exec(<<"sys.stdout = io.StringIO(); print('here')">>),
        {ok, <<"here\n">>} = py:eval(<<"sys.stdout.getvalue()">>)
    end),
    {ok, {true, true}} = py:eval(Look).

%% A stream of one context is not undone by the end of another, in any order.
a_stream_of_another_context_stays(_Config) ->
    ok = py_test:start_with([{num_workers, 3}]),
    Replace = <<"import sys, io; mine = sys.stdout = io.StringIO()">>,
    IsMine = <<"sys.stdout is mine">>,
    IsFirst = <<"type(__import__('sys').stdout).__name__ == 'Output'">>,
    Bind = fun() -> {ok, Ctx} = py:bind(new), Ctx end,
    [Idle, Early, Late] = [Bind(), Bind(), Bind()],
    ok = py:ctx_exec(Early, Replace),
    ok = py:unbind(Idle),
    ok = py_test:wait_available(1),
    {ok, true} = py:ctx_eval(Early, IsMine),
    ok = py:ctx_exec(Late, Replace),
    ok = py:unbind(Early),
    ok = py_test:wait_available(2),
    {ok, true} = py:ctx_eval(Late, IsMine),
    ok = py:unbind(Late),
    ok = py_test:wait_available(3),
    ok = py_test:wait_until(fun() -> {ok, true} =:= py:eval(IsFirst) end),
    ok = py_test:start_with([{num_workers, 1}]).

an_event_loop(_Config) ->
    Setup = <<"
import asyncio, sys
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
async def wait():
    try:
        await asyncio.sleep(3600)
    finally:
        sys._py_isolation_ended = True
task = loop.create_task(wait())
loop.run_until_complete(asyncio.sleep(0))
sys._py_isolation_loop = loop
">>,
    Look = <<"(lambda s: (s._py_isolation_loop.is_closed(), s._py_isolation_ended))"
             "(__import__('sys'))">>,
    {true, true} = after_context(Setup, Look),
    %% The next context has another loop.
    {ok, false} = py:eval(<<"__import__('asyncio').get_event_loop_policy()._local._loop is "
                            "__import__('sys')._py_isolation_loop">>),
    ok = py:exec(<<"import sys; del sys._py_isolation_loop, sys._py_isolation_ended">>).

suspended_generators(_Config) ->
    ok = py:exec(<<"import sys; sys._py_isolation_closed = []">>),
    %% Erlang holds the generator, so it does not end by itself.
    Held = py:with_context(fun() ->
        ok = py:exec(<<"
import sys
def generate():
    try:
        yield 1
    finally:
        sys._py_isolation_closed.append('generator')
async def produce():
    try:
        yield 1
    finally:
        sys._py_isolation_closed.append('async generator')
suspended = generate()
next(suspended)
producing = produce()
try:
    producing.asend(None).send(None)
except StopIteration:
    pass
">>),
        {ok, Held} = py:eval(<<"(suspended, producing)">>),
        Held
    end),
    {ok, [<<"async generator">>, <<"generator">>]} =
        py:eval(<<"sorted(__import__('sys')._py_isolation_closed)">>),
    {ok, none} = py:eval(<<"held[0].gi_frame">>, #{held => Held}),
    ok = py:exec(<<"import sys; del sys._py_isolation_closed">>).

suspended_coroutines(_Config) ->
    Coroutine = py:with_context(fun() ->
        ok = py:exec(<<"
class Pause:
    def __await__(self):
        yield
async def wait():
    await Pause()
suspended = wait()
suspended.send(None)
">>),
        %% The coroutine is in a list: as the value itself it would be awaited.
        {ok, [Held]} = py:eval(<<"[suspended]">>),
        Held
    end),
    {ok, none} = py:eval(<<"c.cr_frame">>, #{c => Coroutine}).

%% The exception is raised by the last code of the context, which it does not hit.
a_pending_exception(_Config) ->
    {ok, Ident} = py:eval(<<"__import__('ctypes').c_ulong(__import__('threading').get_ident())">>),
    {ok, Class} = py:eval(<<"__import__('ctypes').py_object(KeyError)">>),
    Raise = fun() -> py:call(ctypes, 'pythonapi.PyThreadState_SetAsyncExc', [Ident, Class]) end,
    {ok, 1} = Raise(),
    {ok, 1} = py:eval(<<"sum([1])">>),
    {ok, 1} = py:with_context(Raise),
    {ok, 1} = py:with_context(fun() -> py:eval(<<"sum([1])">>) end).

threads_left_running(_Config) ->
    #{left_threads := Before} = py_pool:get_stats(),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
    Setup = <<"
import sys, threading
sys._py_isolation_gate = threading.Event()
threading.Thread(target=sys._py_isolation_gate.wait, args=(60,), name='worker bee').start()
timer = threading.Timer(3600, print)
timer.name = 'alarm'
timer.daemon = True
timer.start()
sys._py_isolation_timer = timer
">>,
    ok = py:with_context(fun() -> py:exec(Setup) end),
    receive
        {log, #{what := threads_left_running, context := Context, names := Names}} ->
            true = is_integer(Context),
            [<<"alarm">>, <<"worker bee">>] = lists:sort(Names)
    after 10000 -> error(not_logged)
    end,
    ok = py:exec(<<"
import sys, threading
threading.Thread(target=sys._py_isolation_gate.wait, args=(60,), name='drone').start()
">>),
    receive
        {log, #{what := threads_left_running, context := none, names := [<<"drone">>]}} -> ok
    after 10000 -> error(not_logged)
    end,
    ok = logger:remove_handler(?MODULE),
    #{left_threads := After} = py_pool:get_stats(),
    3 = After - Before,
    ok = py:exec(<<"
import sys
sys._py_isolation_gate.set()
sys._py_isolation_timer.cancel()
del sys._py_isolation_gate, sys._py_isolation_timer
">>).

%% A handler of the logger.
log(#{msg := {report, Report}}, #{config := #{to := To}}) ->
    To ! {log, Report};
log(_Event, _Config) ->
    ok.

threads_that_ended_are_no_news(_Config) ->
    #{left_threads := Before} = py_pool:get_stats(),
    ok = py:with_context(fun() ->
        py:exec(<<"
import threading, concurrent.futures
for n in range(300):
    t = threading.Thread(target=int)
    t.start()
    t.join()
pool = concurrent.futures.ThreadPoolExecutor(4)
list(pool.map(int, range(8)))
">>)
    end),
    ok = py_test:wait_available(1),
    {ok, 1} = py:eval(<<"1">>),
    #{left_threads := Before} = py_pool:get_stats(),
    ok.

a_raw_namespace_after_a_timeout(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    {error, timeout} = py:exec(<<"y = 2\nwhile True: pass">>, #{}, 200),
    {ok, {1, 2}} = py:eval(<<"x, y">>),
    ok = py:unbind(),
    {error, {'NameError', _}} = py:eval(<<"y">>).

%% A namespace in which nothing was left is used again: each of these leaves something.
expressions_leave_nothing(_Config) ->
    Look = <<"(sorted(globals()), __name__, __doc__, len.__name__, __import__('sys').gettrace(),
               __import__('sys').getprofile(), __import__('decimal').getcontext().prec,
               type(__import__('sys').stdout).__name__, __import__('__main__').__name__)">>,
    {ok, New} = py:eval(Look),
    [begin
         {ok, _} = py:eval(Code),
         {Code, {ok, New}} = {Code, py:eval(Look)}
     end || Code <- [
         <<"globals().__setitem__('left', 1)">>, <<"globals().__setitem__('__name__', 'left')">>,
         <<"globals().__setitem__('__doc__', 'left')">>, <<"globals().clear()">>,
         <<"globals().__setitem__('__builtins__', {})">>, <<"globals().pop('__doc__')">>,
         <<"setattr(__import__('__main__'), 'left', 1)">>,
         <<"[__import__('sys').settrace(lambda *_: None)]">>,
         <<"[__import__('sys').setprofile(lambda *_: None)]">>,
         <<"setattr(__import__('decimal').getcontext(), 'prec', 5)">>,
         <<"setattr(__import__('sys'), 'stdout', __import__('io').StringIO())">>,
         <<"(lambda a: a.set_event_loop(a.new_event_loop()))(__import__('asyncio'))">>]],
    {ok, true} = py:eval(<<"__import__('asyncio').get_event_loop_policy()._local._loop is None">>),
    %% An object that Erlang holds keeps its globals, which no other context gets.
    {ok, Function} = py:eval(<<"lambda: 'left' in globals()">>),
    ok = py:exec(<<"left = 1">>),
    {ok, false} = py:eval(<<"f()">>, #{f => Function}).

%% Python never removes an audit hook.
audit_hooks(_Config) ->
    ok = py:exec(<<"import sys; sys.py_isolation_heard = []">>),
    Setup = <<"
import sys
heard = sys.py_isolation_heard
def hook(event, args):
    if event == 'py_isolation':
        heard.append(args)
sys.addaudithook(hook)
sys.audit('py_isolation', 1)
">>,
    Look = <<"(lambda s: (s.audit('py_isolation', 2), open('/dev/null').close(),"
             " len(s.py_isolation_heard))[2])(__import__('sys'))">>,
    ok = py:with_context(fun() -> py:exec(Setup) end),
    {ok, 1} = py:eval(Look),
    ok = py:exec(Setup),
    {ok, _} = py:eval(<<"__import__('gc').collect()">>),
    {ok, 2} = py:eval(Look),
    ok = py:exec(<<"import sys; del sys.py_isolation_heard">>).

%%% Shared

audit_hooks_of_modules(_Config) ->
    ok = py:with_context(fun() -> py:exec(<<"
import sys, types
sys.modules['py_isolation_hooks'] = module = types.ModuleType('py_isolation_hooks')
source = (
    'import sys; heard = []; '
    'hook = lambda event, args: heard.append(args) if event == \"py_isolation_hooks\" else None; '
    'sys.addaudithook(hook)')
exec(source, vars(module))
">>) end),
    {ok, 1} = py:eval(<<"(lambda s, m: (s.audit('py_isolation_hooks'), len(m.heard))[1])"
                        "(__import__('sys'), __import__('py_isolation_hooks'))">>).

the_locale(_Config) ->
    Look = <<"(lambda l: l.setlocale(l.LC_TIME))(__import__('locale'))">>,
    {ok, Before} = py:eval(Look),
    ok = py:with_context(fun() ->
        py:exec(<<"import locale; locale.setlocale(locale.LC_TIME, 'C.UTF-8')">>)
    end),
    {ok, <<"C.UTF-8">>} = py:eval(Look),
    ok = py:exec(<<"import locale; locale.setlocale(locale.LC_TIME, before)">>,
                 #{before => Before}).

%% Runs Setup in one context; Look is true in the next; Undo takes the change back.
shared(Setup, Look, Undo) ->
    ok = py:with_context(fun() -> py:exec(Setup) end),
    Result = py:eval(Look),
    ok = py:exec(Undo),
    {ok, true} = Result.

modules_and_their_attributes(_Config) ->
    {ok, true} = shared(<<"import json; json.left = 1">>, <<"__import__('json').left == 1">>,
                        <<"import json; del json.left">>).

the_working_directory(_Config) ->
    {ok, Old} = py:eval(<<"__import__('os').getcwd()">>),
    ok = py:with_context(fun() -> py:exec(<<"import os; os.chdir('/')">>) end),
    {ok, <<"/">>} = py:eval(<<"__import__('os').getcwd()">>),
    %% The directory is that of the VM, too, which keeps its own note of it.
    {ok, none} = py:call(os, chdir, [Old]).

environment_variables(_Config) ->
    {ok, true} = shared(<<"import os; os.environ['PY_ISOLATION'] = 'left'">>,
                        <<"__import__('os').environ['PY_ISOLATION'] == 'left'">>,
                        <<"import os; del os.environ['PY_ISOLATION']">>).

the_module_path(_Config) ->
    {ok, true} = shared(<<"import sys; sys.path.append('/left')">>,
                        <<"'/left' in __import__('sys').path">>,
                        <<"import sys; sys.path.remove('/left')">>).

the_recursion_limit(_Config) ->
    {ok, true} = shared(<<"import sys; sys.setrecursionlimit(2345)">>,
                        <<"__import__('sys').getrecursionlimit() == 2345">>,
                        <<"import sys; sys.setrecursionlimit(1000)">>).

random_seeds(_Config) ->
    {ok, true} = shared(<<"import random; random.seed(1)">>,
                        <<"(lambda r: r.random() == r.Random(1).random())(__import__('random'))">>,
                        <<"import random; random.seed()">>).

%% The state is shared on the same worker only.
module_thread_locals(_Config) ->
    {ok, true} = shared(<<"import sys, threading; sys._left = threading.local(); sys._left.x = 1">>,
                        <<"__import__('sys')._left.x == 1">>,
                        <<"import sys; del sys._left">>).

the_garbage_collector(_Config) ->
    {ok, true} = shared(<<"import gc; gc.disable()">>, <<"not __import__('gc').isenabled()">>,
                        <<"import gc; gc.enable()">>).

warnings_filters(_Config) ->
    {ok, true} = shared(<<"import warnings; n = len(warnings.filters);"
                          "warnings.simplefilter('error', ResourceWarning)">>,
                        <<"__import__('warnings').filters[0][0] == 'error'">>,
                        <<"import warnings; warnings.filters.pop(0)">>).

open_files(_Config) ->
    {ok, true} = shared(<<"import os, sys; sys._left = os.pipe()">>,
                        <<"__import__('os').fstat(__import__('sys')._left[0]) is not None">>,
                        <<"import os, sys; [os.close(n) for n in sys._left]; del sys._left">>).

%% Python is never finalized: a registered function does not run at the end of a context, nor of the
%% application.
exit_handlers(_Config) ->
    ok = py:exec(<<"
import atexit, sys
sys._py_isolation_exits = []
atexit.register(sys._py_isolation_exits.append, 'ran')
">>),
    ok = py_test:start_with([{num_workers, 1}]),
    {ok, []} = py:eval(<<"__import__('sys')._py_isolation_exits">>),
    ok = py:exec(<<"
import atexit, sys
atexit.unregister(sys._py_isolation_exits.append)
del sys._py_isolation_exits
">>).

%%% Refused

fork(_Config) ->
    Refused = fun(Code) ->
        {error, {'RuntimeError', #{message := Message}}} = py:exec(Code),
        {match, _} = re:run(Message, "subprocess")
    end,
    Refused(<<"import os; os.fork()">>),
    Refused(<<"import os; os.forkpty()">>),
    Refused(<<"import pty; pty.fork()">>),
    Refused(<<"
import multiprocessing
multiprocessing.get_context('fork').Process(target=print).start()
">>),
    {ok, 3} = py:eval(<<"__import__('subprocess').run(['sh', '-c', 'exit 3']).returncode">>).

signals_to_the_vm(_Config) ->
    [begin
         {error, {'RuntimeError', #{message := Message}}} =
             py:exec([<<"import os, signal, threading; ">>, Code]),
         {match, _} = re:run(Message, "VM"),
         {ok, 1} = py:eval(<<"1">>)
     end || Code <- [<<"os.kill(os.getpid(), signal.SIGINT)">>,
                     <<"os.kill(os.getpid(), signal.SIGTERM)">>,
                     <<"os.kill(0, signal.SIGINT)">>,
                     <<"os.kill(-1, signal.SIGINT)">>,
                     <<"os.killpg(os.getpgrp(), signal.SIGINT)">>,
                     <<"signal.pthread_kill(threading.get_ident(), signal.SIGINT)">>,
                     <<"signal.raise_signal(signal.SIGINT)">>,
                     <<"signal.alarm(1)">>,
                     <<"signal.setitimer(signal.ITIMER_REAL, 0.01)">>,
                     <<"signal.pidfd_send_signal(os.pidfd_open(os.getpid()), signal.SIGTERM)">>]],
    ok = py:exec(<<"import os; os.kill(os.getpid(), 0)">>).

signals_to_others(_Config) ->
    {ok, -15} = py:with_context(fun() ->
        ok = py:exec(<<"
import os, signal, subprocess
child = subprocess.Popen(['sleep', '60'])
os.kill(child.pid, signal.SIGTERM)
">>),
        py:eval(<<"child.wait()">>)
    end),
    {ok, -15} = py:with_context(fun() ->
        ok = py:exec(<<"
import os, signal, subprocess
child = subprocess.Popen(['sleep', '60'])
signal.pidfd_send_signal(os.pidfd_open(child.pid), signal.SIGTERM)
">>),
        py:eval(<<"child.wait()">>)
    end).
