%% Are the objects of a context gone after it? Objects that refer to themselves, and those of calls
%% without a binding, included.
-module(py_garbage_SUITE).
-compile([export_all, nowarn_export_all]).

%% One child, so that all calls find the same weak references.
-define(WORKERS, (case py_test:is_on_processes() of true -> 1; false -> 2 end)).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_file_of_a_call_without_a_binding_is_closed,
     calls_without_a_binding_leave_no_memory,
     a_generator_of_a_call_without_a_binding_is_closed,
     a_cycle_of_a_call_without_a_binding_is_freed,
     a_cycle_of_a_binding_is_freed_with_it,
     a_cycle_of_a_context_is_freed_with_it,
     an_old_cycle_is_freed_in_time,
     code_that_disables_collections_is_obeyed, another_loader_empties_no_namespace,
     finalizers_in_a_cycle_find_the_thread_of_their_context,
     a_finalizer_without_end_in_a_cycle_costs_no_worker].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 300}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    %% Weak references to the objects that have to go.
    ok = py:exec(<<"import sys; sys.py_garbage = []">>),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:exec(<<"import sys; del sys.py_garbage">>),
    py_test:end_case(?WORKERS).

%% Makes an object that refers to itself, and keeps a weak reference to it.
-define(CYCLE, "
import sys, weakref
class Cycle:
    def method(self):
        pass
cycle = Cycle()
cycle.callback = cycle.method
sys.py_garbage.append(weakref.ref(cycle))
").

%%% Calls without a binding

%% The function refers to the namespace, and the namespace to the function.
a_file_of_a_call_without_a_binding_is_closed(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "hello"),
    ok = py:exec(<<"
def f():
    pass
out = open(path, 'w')
out.write('hello')
">>, #{path => list_to_binary(File)}),
    ok = py_test:wait_until(fun() -> file:read_file(File) =:= {ok, <<"hello">>} end).

calls_without_a_binding_leave_no_memory(_Config) ->
    Code = <<"
import sys, weakref
def f():
    pass
class Big(bytearray):
    pass
big = Big(4000000)
sys.py_garbage.append(weakref.ref(big))
">>,
    [ok = py:exec(Code) || _ <- lists:seq(1, 50)],
    ok = all_are_gone(50).

a_generator_of_a_call_without_a_binding_is_closed(_Config) ->
    ok = py:exec(<<"
import sys
def g():
    try:
        yield 1
    finally:
        sys.py_garbage.append(lambda: None)
it = g()
next(it)
">>),
    ok = all_are_gone(1).

a_cycle_of_a_call_without_a_binding_is_freed(_Config) ->
    ok = py:exec(<<?CYCLE>>),
    ok = all_are_gone(1).

%%% Leases

a_cycle_of_a_binding_is_freed_with_it(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<?CYCLE>>),
    ok = py:unbind(),
    ok = all_are_gone(1).

a_cycle_of_a_context_is_freed_with_it(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?CYCLE>>),
    ok = py:unbind(Ctx),
    ok = all_are_gone(1).

%% The object has outlived collections, so that a quick one does not find it.
an_old_cycle_is_freed_in_time(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?CYCLE "
import gc
for generation in (0, 1, 0, 1):
    gc.collect(generation)
">>),
    ok = py:unbind(Ctx),
    ok = all_are_gone(1).

code_that_disables_collections_is_obeyed(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:exec(<<"import gc; gc.disable()">>),
    ok = py:ctx_exec(Ctx, <<?CYCLE>>),
    ok = py:unbind(Ctx),
    ok = py_test:wait_available(?WORKERS),
    {ok, 1} = py:eval(<<"sum(ref() is not None for ref in __import__('sys').py_garbage)">>),
    ok = py:exec(<<"import gc; gc.enable()">>),
    %% The next collection is for both.
    ok = py:exec(<<"import gc; gc.collect()">>),
    ok = all_are_gone(1).

%% A namespace has a loader that empties it when it is collected.
another_loader_empties_no_namespace(_Config) ->
    {ok, Ctx} = py:bind(new),
    [begin
         ok = py:ctx_exec(Ctx, <<"x = 1">>),
         ok = py:ctx_exec(Ctx, Code),
         {ok, 1} = py:ctx_eval(Ctx, <<"x">>)
     end || Code <- [<<"__loader__ = None">>, <<"del __loader__">>,
                     <<"import json; globals().update(__loader__=json.__loader__)">>]],
    ok = py:unbind(Ctx).

finalizers_in_a_cycle_find_the_thread_of_their_context(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys, threading
class Last:
    def __del__(self, get_ident=threading.get_ident, own=threading.get_ident(), sys=sys):
        ended_here = get_ident() == own
        sys.py_garbage.append(lambda: None if ended_here else 'elsewhere')
last = Last()
last.me = last
">>),
    ok = py:unbind(Ctx),
    ok = all_are_gone(1).

a_finalizer_without_end_in_a_cycle_costs_no_worker(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys
class Last:
    def __del__(self, sys=sys):
        sys.py_garbage.append(lambda: None)
        while True:
            pass
last = Last()
last.me = last
">>),
    ok = py:unbind(Ctx),
    ok = all_are_gone(1),
    ok = py_test:wait_available(?WORKERS),
    0 = py_test:abandoned().

%% Asserts that Count objects were noted, and none of them lives.
all_are_gone(Count) ->
    %% A reference is not returned: it would keep its object.
    Look = <<"[ref() is None for ref in __import__('sys').py_garbage]">>,
    py_test:wait_until(fun() ->
        {ok, Gone} = py:eval(Look),
        Gone =:= lists:duplicate(Count, true) orelse Gone
    end).
