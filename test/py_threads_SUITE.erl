%% Do threads that code of a context starts see its `__main__', and are they counted when they
%% outlive it?
-module(py_threads_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_pool_of_threads_pickles_what_the_context_defines,
     a_coroutine_in_a_thread_pickles_what_the_context_defines,
     a_queue_of_processes_pickles_what_the_context_defines,
     annotations_are_found_in_a_thread, a_raw_thread_sees_the_context,
     a_thread_of_a_thread_sees_the_context, a_thread_sees_its_context_and_no_other,
     a_thread_that_outlives_its_context_sees_nothing_of_it,
     threads_of_threads_and_raw_threads_are_left, a_thread_of_an_unbound_call_is_left,
     threads_that_cannot_start_are_forgotten, wrong_arguments_are_refused_as_before,
     the_exception_of_a_raw_thread_is_told].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(2),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import _thread, queue, sys, threading
class P:
    pass
def in_thread(function, start=lambda f: threading.Thread(target=f).start()):
    answer = queue.Queue()
    start(lambda: answer.put(function()))
    return answer.get(timeout=20)
def look():
    return 'P' in vars(sys.modules['__main__']) and sys.modules['__main__'].P is P
">>),
    [{context, Ctx} | Config].

end_per_testcase(_Case, Config) ->
    ok = py:unbind(context(Config)),
    ok = py_test:wait_available(2),
    py_test:assert_empty_mailbox().

context(Config) ->
    proplists:get_value(context, Config).

left() ->
    maps:get(left_threads, py_pool:get_stats()).

a_pool_of_threads_pickles_what_the_context_defines(Config) ->
    {ok, true} = py:ctx_eval(context(Config), <<"
(lambda pickle, futures: [isinstance(pickle.loads(pool.submit(pickle.dumps, P()).result()), P)
  for pool in [futures.ThreadPoolExecutor(1)]][0])(
    __import__('pickle'), __import__('concurrent.futures').futures)">>, #{}, 20000).

a_coroutine_in_a_thread_pickles_what_the_context_defines(Config) ->
    ok = py:ctx_exec(context(Config), <<"
import asyncio, pickle
async def dump():
    return len(await asyncio.to_thread(pickle.dumps, P()))
">>),
    {ok, Size} = py:ctx_call(context(Config), '__main__', dump, []),
    true = Size > 0.

%% Regression: the feeder of a queue is a thread, which lost the objects that it could not pickle.
a_queue_of_processes_pickles_what_the_context_defines(Config) ->
    ok = py:ctx_exec(context(Config), <<"
import multiprocessing
items = multiprocessing.get_context('spawn').Queue()
items.put(P())
found = items.get(timeout=20)
items.close()
items.join_thread()
">>, #{}, 30000),
    {ok, true} = py:ctx_eval(context(Config), <<"isinstance(found, P)">>).

annotations_are_found_in_a_thread(Config) ->
    ok = py:ctx_exec(context(Config), <<"
from __future__ import annotations
import dataclasses, typing
from typing import ClassVar
def f(a: P):
    pass
def make():
    @dataclasses.dataclass
    class Data:
        x: int
        y: ClassVar[int] = 1
    return [field.name for field in dataclasses.fields(Data)], typing.get_type_hints(f) == {'a': P}
">>),
    {ok, {[<<"x">>], true}} = py:ctx_eval(context(Config), <<"in_thread(make)">>).

a_raw_thread_sees_the_context(Config) ->
    {ok, true} = py:ctx_eval(context(Config),
                             <<"in_thread(look, lambda f: _thread.start_new_thread(f, ()))">>),
    {ok, true} = py:ctx_eval(context(Config), <<"in_thread(look, lambda f: _thread.start_new(f, (), {}))">>).

a_thread_of_a_thread_sees_the_context(Config) ->
    {ok, true} = py:ctx_eval(context(Config), <<"in_thread(lambda: in_thread(look))">>).

a_thread_sees_its_context_and_no_other(Config) ->
    {ok, Other} = py:bind(new),
    {ok, Look} = py:ctx_eval(context(Config), <<"lambda: in_thread(look)">>),
    ok = py:ctx_exec(Other, <<"
class P:
    pass
def look():
    import __main__
    return __main__.P is P
import queue, threading
def in_thread(function):
    answer = queue.Queue()
    threading.Thread(target=lambda: answer.put(function())).start()
    return answer.get(timeout=20)
">>),
    {ok, true} = py:ctx_eval(Other, <<"in_thread(look)">>),
    %% A function of another context, called in this one.
    {ok, false} = py:ctx_eval(Other, <<"l()">>, #{l => Look}),
    ok = py:unbind(Other).

a_thread_that_outlives_its_context_sees_nothing_of_it(_Config) ->
    ok = py:with_context(fun() -> py:exec(<<"
import queue, sys, threading
sys.py_threads = go, answer = queue.Queue(), queue.Queue()
def run(go, answer, sys):
    go.get()
    answer.put('secret' in vars(sys.modules['__main__']))
secret = 1
threading.Thread(target=run, args=(go, answer, sys), daemon=True).start()
">>) end),
    {ok, false} = py:eval(<<"(lambda go, answer: (go.put(1), answer.get(timeout=20))[1])"
                            "(*__import__('sys').py_threads)">>),
    ok = py:exec(<<"import sys; del sys.py_threads">>).

threads_of_threads_and_raw_threads_are_left(_Config) ->
    Before = left(),
    ok = py:with_context(fun() -> py:exec(<<"
import _thread, sys, threading
sys.py_threads_gate = gate = threading.Event()
begun = threading.Event()
def outer(gate, begun, threading):
    threading.Thread(target=gate.wait, name='inner', daemon=True).start()
    begun.set()
threading.Thread(target=outer, args=(gate, begun, threading)).start()
begun.wait()
_thread.start_new_thread(gate.wait, ())
">>) end),
    ok = py_test:wait_until(fun() -> left() =:= Before + 2 orelse left() end),
    ok = py:exec(<<"import sys; sys.py_threads_gate.set(); del sys.py_threads_gate">>).

a_thread_of_an_unbound_call_is_left(_Config) ->
    Before = left(),
    ok = py:exec(<<"
import _thread, sys, threading
sys.py_threads_gate = threading.Event()
_thread.start_new_thread(sys.py_threads_gate.wait, ())
">>),
    ok = py_test:wait_until(fun() -> left() =:= Before + 1 orelse left() end),
    ok = py:exec(<<"import sys; sys.py_threads_gate.set(); del sys.py_threads_gate">>).

threads_that_cannot_start_are_forgotten(_Config) ->
    Before = left(),
    {error, {'RuntimeError', _}} = py:with_context(fun() -> py:exec(<<"
import threading
size = threading.stack_size(1 << 46)
try:
    threading.Thread(target=print).start()
finally:
    threading.stack_size(size)
">>) end),
    ok = py_test:wait_available(1),
    Before = left().

wrong_arguments_are_refused_as_before(Config) ->
    [{error, {'TypeError', #{message := Message}}} = py:ctx_eval(context(Config), Code)
     || {Code, Message} <- [
            {<<"_thread.start_new_thread(1, ())">>, <<"first arg must be callable">>},
            {<<"_thread.start_new_thread(print, [])">>, <<"2nd arg must be a tuple">>},
            {<<"_thread.start_new_thread(print, (), 1)">>,
             <<"optional 3rd arg must be a dictionary">>}]],
    {error, {'TypeError', _}} = py:ctx_eval(context(Config), <<"_thread.start_new_thread()">>).

the_exception_of_a_raw_thread_is_told(Config) ->
    ok = py:ctx_exec(context(Config), <<"
told = queue.Queue()
hook, sys.unraisablehook = sys.unraisablehook, lambda info: told.put(info.exc_type.__name__)
try:
    _thread.start_new_thread(lambda: 1 / 0, ())
    name = told.get(timeout=20)
finally:
    sys.unraisablehook = hook
">>),
    {ok, <<"ZeroDivisionError">>} = py:ctx_eval(context(Config), <<"name">>).
