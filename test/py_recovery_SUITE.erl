%% Does the pool survive the state that its users leave behind?
-module(py_recovery_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_trace_function_ends_with_its_lease,
     a_trace_function_that_panics_loses_no_lease,
     finalizers_find_their_globals,
     an_import_hook_that_was_left_harms_nobody,
     endless_notes_end,
     a_deleted_local_gives_back_what_it_shadowed,
     a_waiter_gets_what_garbage_collection_freed,
     an_unbind_is_done_when_the_pool_dies_under_it,
     a_bind_says_so_when_the_pool_dies_under_it,
     a_crash_while_the_pool_closes_strands_no_caller,
     a_big_map_leaves_its_caller_no_garbage].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    %% The pool has one worker: the next owner meets the state that the last one leaves there.
    ok = py_test:start_with([{num_workers, 1}]),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py_test:stop(),
    py_test:assert_empty_mailbox().

a_trace_function_ends_with_its_lease(_Config) ->
    Code = <<"import sys; sys.settrace(lambda *_: None); sys.setprofile(lambda *_: None)">>,
    Look = <<"(lambda s: (s.gettrace() is None, s.getprofile() is None))(__import__('sys'))">>,
    py:with_context(fun() ->
        ok = py:exec(Code),
        %% The changes stay within the lease.
        {ok, {false, false}} = py:eval(Look)
    end),
    py:with_context(fun() -> {ok, {true, true}} = py:eval(Look) end),
    ok = py:exec(Code),
    {ok, {true, true}} = py:eval(Look).

a_trace_function_that_panics_loses_no_lease(_Config) ->
    {error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>),
    Code = <<"
import sys
panic = next(c for c in BaseException.__subclasses__() if c.__name__ == 'PanicException')
def trace(frame, event, arg, panic=panic):
    if frame.f_code.co_name == 'enter':
        raise panic('on purpose')
sys.settrace(trace)
">>,
    [begin
         _ = py:exec(Code),
         {ok, 1} = py:eval(<<"1">>, #{}, 5000),
         {ok, Ctx} = py:bind(new),
         _ = py:ctx_exec(Ctx, Code),
         ok = py:unbind(Ctx),
         ok = py_test:wait_available(1)
     end || _ <- lists:seq(1, 5)].

finalizers_find_their_globals(_Config) ->
    py:with_context(fun() ->
        ok = py:exec(<<"
import sys
sys._closed = []
class Connection:
    def __del__(self):
        sys._closed.append(describe(self))
def describe(connection):
    return type(connection).__name__
connection = Connection()
">>)
    end),
    {ok, [<<"Connection">>]} = py:eval(<<"__import__('sys')._closed">>),
    ok = py:exec(<<"import sys; del sys._closed">>).

an_import_hook_that_was_left_harms_nobody(_Config) ->
    Original = py:with_context(fun() ->
        ok = py:exec(<<"
import builtins
original = builtins.__import__
def hook(*args, **kwargs):
    return original(*args, **kwargs)
builtins.__import__ = hook
">>),
        {ok, Function} = py:eval(<<"original">>),
        Function
    end),
    try
        {ok, 2} = py:eval(<<"1 + 1">>),
        py:with_context(fun(Ctx) ->
            {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>),
            {ok, 3} = py:ctx_eval(Ctx, <<"v.nbytes">>, #{v => {view, <<"abc">>}}),
            %% An import by the code itself meets the hook, as in any Python.
            {error, {'NameError', _}} = py:ctx_exec(Ctx, <<"import json">>)
        end)
    after
        ok = py:exec(<<"__builtins__.__import__ = f">>, #{f => Original})
    end,
    ok = py:exec(<<"import json">>).

endless_notes_end(_Config) ->
    {error, {'ValueError', Exception}} = py:exec(<<"
import itertools
e = ValueError('v')
e.__notes__ = itertools.repeat('again')
raise e
">>, #{}, 5000),
    false = maps:is_key(notes, Exception),
    {error, {'ValueError', #{notes := Notes}}} = py:exec(<<"
e = ValueError('v')
e.__notes__ = ['again'] * 1000
raise e
">>),
    32 = length(Notes).

a_deleted_local_gives_back_what_it_shadowed(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 'old'">>),
    ok = py:exec(<<"del x">>, #{x => <<"new">>}),
    {ok, <<"old">>} = py:eval(<<"x">>),
    ok = py:exec(<<"del y">>, #{y => 1}),
    {error, {'NameError', _}} = py:eval(<<"y">>),
    ok = py:unbind().

%% The worker is in an unbound call, so it does not come to the lease that ends.
a_waiter_gets_what_garbage_collection_freed(_Config) ->
    Self = self(),
    Sleeper = spawn_link(fun() ->
        Self ! {self(), py:eval(<<"__import__('time').sleep(2)">>)}
    end),
    ok = py_test:wait_pending(1),
    Holder = spawn_link(fun() ->
        {ok, Ctx} = py:bind(new),
        Self ! leased,
        receive drop -> true = is_reference(Ctx) end,
        true = erlang:garbage_collect(),
        Self ! dropped,
        receive stop -> ok end
    end),
    receive leased -> ok end,
    Waiter = spawn_link(fun() -> Self ! {self(), py:bind(#{wait => 500})} end),
    ok = py_test:wait_until(fun() ->
        {monitors, Monitors} = process_info(whereis(py_pool), monitors),
        length(Monitors) =:= 2
    end),
    Holder ! drop,
    receive dropped -> ok end,
    receive {Waiter, Bound} -> ok = Bound end,
    Holder ! stop,
    receive {Sleeper, {ok, none}} -> ok end,
    ok = py_test:wait_available(1).

%% The pool gets no further than the request.
with_a_pool_that_dies(Request) ->
    Self = self(),
    Pool = whereis(py_pool),
    Caller = spawn_link(fun() ->
        receive go -> Self ! {self(), py_test:caught(Request)} end
    end),
    ok = sys:suspend(Pool),
    Caller ! go,
    ok = py_test:wait_until(fun() ->
        {message_queue_len, Length} = process_info(Pool, message_queue_len),
        Length >= 1 orelse Length
    end),
    exit(Pool, kill),
    receive {Caller, Result} -> Result end.

an_unbind_is_done_when_the_pool_dies_under_it(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = with_a_pool_that_dies(fun() -> py:unbind(Ctx) end).

a_bind_says_so_when_the_pool_dies_under_it(_Config) ->
    {raised, {not_started, erlang_python}} =
        with_a_pool_that_dies(fun() -> py:bind() end),
    ok.

%% The grace is so long that the code gets one exception only: another one, a twentieth of the grace
%% later, might hit the handler before it crashes.
a_crash_while_the_pool_closes_strands_no_caller(_Config) ->
    ok = py_test:start_with([{num_workers, 1}, {interrupt_grace, 16#ffffffff}]),
    %% The modules that write an exception out are loaded, and those that make an error: the caller of a
    %% call that has to stop is answered before a load ends.
    ok = py:exec(<<"import sys; sys.__excepthook__(ValueError, ValueError('no error'), None)">>),
    {error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>),
    Self = self(),
    Call = fun(Code) ->
        spawn_link(fun() -> Self ! {self(), py:exec(Code, #{test => Self}, infinity)} end)
    end,
    Crashing = Call(<<"
import erlang, time
panic = next(c for c in BaseException.__subclasses__() if c.__name__ == 'PanicException')
try:
    erlang.send(test, 'runs')
    while True:
        time.sleep(0.01)
except BaseException:
    raise panic('on purpose')
">>),
    receive <<"runs">> -> ok after 10000 -> error(does_not_run) end,
    Waiting = Call(<<"1">>),
    ok = py_test:wait_pending(2),
    ok = py_test:stop(),
    receive {Crashing, Crashed} -> {error, worker_crashed} = Crashed
    after 10000 -> error(hangs)
    end,
    receive {Waiting, Refused} -> {error, no_workers_available} = Refused
    after 10000 -> error(hangs)
    end.

%% The keys of a big map are put into it one by one, each of which leaves a path of the tree behind.
a_big_map_leaves_its_caller_no_garbage(_Config) ->
    {Size, Used} = py_test:in_process(fun() ->
        {ok, Map} = py:eval(<<"{n: n for n in range(100000)}">>),
        %% The size is read before any collection can tidy up.
        {memory, Used} = process_info(self(), memory),
        {erts_debug:flat_size(Map) * erlang:system_info(wordsize), Used}
    end),
    true = Used < 3 * Size orelse {Used, Size}.
