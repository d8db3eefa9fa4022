%% Does a context stay on one thread, with everything that lives on a thread?
-module(py_affinity_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_context_stays_on_one_thread,
     two_contexts_have_two_threads,
     the_thread_state_is_never_replaced,
     thread_locals_stay_with_the_context,
     a_sqlite_connection_stays_on_its_thread,
     numpy_arrays_stay_with_the_context,
     imports_stay_with_the_context,
     unbound_calls_share_nothing,
     main_is_the_module_of_the_context,
     pickle_finds_the_classes_of_each_context,
     functions_of_main_can_be_called,
     names_may_be_atoms_binaries_or_strings,
     functions_may_be_dotted,
     workers_are_not_the_main_thread,
     bound_processes_do_not_see_each_other,
     a_context_serves_whoever_holds_it,
     a_function_from_an_unbound_call_keeps_its_globals,
     printing_reaches_standard_output].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 8}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(8),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:unbind(),
    ok = py_test:wait_available(8),
    py_test:assert_empty_mailbox().

a_context_stays_on_one_thread(_Config) ->
    py:with_context(fun() ->
        {ok, Thread} = py:call(threading, get_ident, []),
        [{ok, Thread} = py:call(threading, get_ident, []) || _ <- lists:seq(1, 100)],
        {ok, Native} = py:call(threading, get_native_id, []),
        {ok, Native} = py:eval(<<"__import__('threading').get_native_id()">>)
    end).

two_contexts_have_two_threads(_Config) ->
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    {ok, Thread1} = py:ctx_call(Ctx1, threading, get_ident, []),
    {ok, Thread2} = py:ctx_call(Ctx2, threading, get_ident, []),
    true = Thread1 =/= Thread2,
    ok = py:unbind(Ctx1),
    ok = py:unbind(Ctx2).

%% A thread state that is made anew would forget the current context of `contextvars'.
the_thread_state_is_never_replaced(_Config) ->
    py:with_context(fun() ->
        ok = py:exec(<<"import contextvars; v = contextvars.ContextVar('v'); v.set(42)">>),
        {ok, 42} = py:eval(<<"v.get(None)">>)
    end).

thread_locals_stay_with_the_context(_Config) ->
    py:with_context(fun(Ctx) ->
        ok = py:ctx_exec(Ctx, <<"import threading; local = threading.local(); local.x = 1">>),
        ok = py:ctx_exec(Ctx, <<"local.x += 1">>),
        {ok, 2} = py:ctx_eval(Ctx, <<"local.x">>)
    end).

%% sqlite3 refuses a connection on any other thread than its own.
a_sqlite_connection_stays_on_its_thread(_Config) ->
    py:with_context(fun(Ctx) ->
        ok = py:ctx_exec(Ctx, <<"import sqlite3; db = sqlite3.connect(':memory:')">>),
        ok = py:ctx_exec(Ctx, <<"db.execute('create table t (x)')">>),
        Insert = <<"db.execute('insert into t values (?)', (x,))">>,
        [ok = py:ctx_exec(Ctx, Insert, #{x => X}) || X <- lists:seq(1, 100)],
        {ok, {5050}} = py:ctx_eval(Ctx, <<"db.execute('select sum(x) from t').fetchone()">>)
    end).

numpy_arrays_stay_with_the_context(_Config) ->
    case {py:exec(<<"import numpy">>), os:getenv("PY_TEST_VENV", "")} of
        {{error, {'ModuleNotFoundError', _}}, ""} ->
            {skip, "no numpy in this Python"};
        {ok, _} ->
            py:with_context(fun() ->
                ok = py:exec(<<"import numpy; a = numpy.arange(10)">>),
                ok = py:exec(<<"a *= 2">>),
                {ok, 90} = py:eval(<<"int(a.sum())">>),
                {ok, [0, 2, 4]} = py:eval(<<"a[:3].tolist()">>),
                {ok, Norm} = py:eval(<<"float(numpy.linalg.norm(a))">>),
                true = abs(Norm - 33.76388603226827) < 1.0e-9
            end)
    end.

imports_stay_with_the_context(_Config) ->
    py:with_context(fun() ->
        ok = py:exec(<<"from math import floor as f">>),
        {ok, 3} = py:eval(<<"f(3.7)">>)
    end).

unbound_calls_share_nothing(_Config) ->
    Names = <<"sorted(n for n in globals() if not n.startswith('__'))">>,
    [begin
         ok = py:exec(<<"leftover = 1">>),
         {ok, []} = py:eval(Names)
     end || _ <- lists:seq(1, 50)].

main_is_the_module_of_the_context(_Config) ->
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    [begin
         ok = py:ctx_exec(Ctx, <<"import sys, __main__; name = n">>, #{n => Name}),
         {ok, Name} = py:ctx_eval(Ctx, <<"__main__.name">>),
         {ok, Name} = py:ctx_eval(Ctx, <<"sys.modules['__main__'].name">>),
         {ok, Name} = py:ctx_eval(Ctx, <<"vars(__main__)['name']">>),
         {ok, true} = py:ctx_eval(Ctx, <<"__main__.__dict__ is globals()">>),
         {ok, true} = py:ctx_eval(Ctx, <<"isinstance(__main__, type(__import__('types')))">>),
         {ok, <<"__main__">>} = py:ctx_eval(Ctx, <<"__name__">>),
         ok = py:ctx_exec(Ctx, <<"__main__.set_there = 1">>),
         {ok, 1} = py:ctx_eval(Ctx, <<"set_there">>),
         ok = py:ctx_exec(Ctx, <<"del __main__.set_there">>),
         {ok, false} = py:ctx_eval(Ctx, <<"hasattr(__main__, 'set_there')">>),
         {ok, true} = py:ctx_eval(Ctx, <<"'name' in dir(__main__)">>)
     end || {Ctx, Name} <- [{Ctx1, <<"one">>}, {Ctx2, <<"two">>}]],
    {ok, <<"one">>} = py:ctx_eval(Ctx1, <<"__main__.name">>),
    ok = py:unbind(Ctx1),
    ok = py:unbind(Ctx2).

pickle_finds_the_classes_of_each_context(_Config) ->
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    Define = <<"
import pickle
class Point:
    tag = t
    def __init__(self, x):
        self.x = x
">>,
    ok = py:ctx_exec(Ctx1, Define, #{t => <<"one">>}),
    ok = py:ctx_exec(Ctx2, Define, #{t => <<"two">>}),
    {ok, Pickled} = py:ctx_eval(Ctx1, <<"pickle.dumps(Point(7))">>),
    Load = <<"(lambda p: (p.tag, p.x))(pickle.loads(data))">>,
    Locals = #{data => {bytes, Pickled}},
    {ok, {<<"one">>, 7}} = py:ctx_eval(Ctx1, Load, Locals),
    {ok, {<<"two">>, 7}} = py:ctx_eval(Ctx2, Load, Locals),
    ok = py:unbind(Ctx1),
    ok = py:unbind(Ctx2).

functions_of_main_can_be_called(_Config) ->
    py:with_context(fun() ->
        ok = py:exec(<<"def twice(x, *, plus=0): return 2 * x + plus">>),
        {ok, 6} = py:call('__main__', twice, [3]),
        {ok, 7} = py:call(<<"__main__">>, <<"twice">>, [3], #{plus => 1}),
        {ok, 8} = py:call("__main__", "twice", [3], #{<<"plus">> => 2}),
        {error, {'AttributeError', #{message := Message}}} = py:call('__main__', thrice, [3]),
        <<"module '__main__' has no attribute 'thrice'">> = Message
    end),
    {error, {'AttributeError', _}} = py:call('__main__', twice, [3]).

names_may_be_atoms_binaries_or_strings(_Config) ->
    [{ok, 4.0} = py:call(Module, Function, [16])
     || Module <- [math, <<"math">>, "math"], Function <- [sqrt, <<"sqrt">>, "sqrt"]],
    {ok, 2} = py:eval("1 + 1"),
    {ok, <<"é"/utf8>>} = py:eval(["'", [16#e9], "'"]).

functions_may_be_dotted(_Config) ->
    {ok, <<"a/b">>} = py:call(os, 'path.join', [a, b]),
    {ok, <<"a/b">>} = py:call('os.path', join, [a, b]),
    {ok, 3} = py:call(builtins, 'str.__len__', [abc]).

workers_are_not_the_main_thread(_Config) ->
    {ok, false} = py:eval(<<"(lambda t: t.main_thread() is t.current_thread())"
                            "(__import__('threading'))">>).

bound_processes_do_not_see_each_other(_Config) ->
    Work = fun(N) ->
        py_test:in_process(fun() ->
            ok = py:bind(),
            ok = py:exec(<<"x = n">>, #{n => N}),
            [{ok, N} = py:eval(<<"x">>) || _ <- lists:seq(1, 50)],
            N
        end)
    end,
    Self = self(),
    Pids = [spawn_link(fun() -> Self ! {self(), Work(N)} end) || N <- lists:seq(1, 4)],
    [1, 2, 3, 4] = [receive {Pid, N} -> N end || Pid <- Pids].

a_context_serves_whoever_holds_it(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 1">>),
    ok = py_test:in_process(fun() -> py:ctx_exec(Ctx, <<"x += 1">>) end),
    {ok, 2} = py:ctx_eval(Ctx, <<"x">>),
    ok = py:unbind(Ctx).

a_function_from_an_unbound_call_keeps_its_globals(_Config) ->
    {ok, Function} = py:eval(<<"(lambda g: exec('k = 3\\ndef f(x): return k * x', g) or g['f'])"
                               "(globals())">>),
    {ok, 12} = py:eval(<<"f(4)">>, #{f => Function}).

printing_reaches_standard_output(_Config) ->
    ok = py:exec(<<"print('printed from a worker')">>),
    {ok, true} = py:eval(<<"__import__('sys').stdout.line_buffering">>).
