%% Do coroutines and asynchronous generators live in a context as they do in a program of their own?
-module(py_asyncio_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_handler_of_exceptions_hides_no_interruption,
     a_timeout_around_a_yield_fires, a_timeout_around_a_yield_fires_between_demands,
     a_context_variable_is_reset_after_a_yield, a_local_decimal_context_lasts_over_a_yield,
     a_generator_is_closed_in_its_own_task, a_stream_outlives_its_loop,
     a_stream_in_the_middle_of_a_coroutine_is_asked,
     a_timeout_under_the_policy_of_uvloop_keeps_the_context,
     an_eager_task_factory_is_interrupted,
     a_stream_replaced_after_an_await_is_put_back,
     locals_of_an_awaited_expression_are_its_own, locals_reach_every_nested_scope,
     locals_may_have_any_name, an_expression_that_assigns_assigns_a_global,
     a_context_has_a_loop_before_its_first_coroutine].

init_per_suite(Config) ->
    Venv = [{"VIRTUAL_ENV", Dir} || Dir <- [os:getenv("PY_TEST_VENV", "")], Dir =/= ""],
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}]),
    [{venv, Venv} | Config].

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    {ok, Ctx} = py:bind(new),
    [{ctx, Ctx} | Config].

end_per_testcase(_Case, Config) ->
    ok = py:unbind(ctx(Config)),
    0 = py_test:abandoned(),
    py_test:end_case(?WORKERS).

ctx(Config) ->
    proplists:get_value(ctx, Config).

version(Ctx) ->
    {ok, Version} = py:ctx_eval(Ctx, <<"tuple(__import__('sys').version_info[:2])">>),
    Version.

%% Regression: the callback that was to end the future of a sibling was hit, and the sibling waited
%% for ever.
a_handler_of_exceptions_hides_no_interruption(Config) ->
    Ctx = ctx(Config),
    ok = py:ctx_exec(Ctx, <<"
import asyncio, sys
async def sibling():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    future = loop.create_future()
    def spin():
        sys.py_test_mark = 1
        while True:
            pass
        future.set_result('never')
    loop.call_later(0.2, spin)
    return await future
">>),
    Sibling = py:ctx_async_call(Ctx, '__main__', sibling, []),
    Other = py:ctx_async_call(Ctx, asyncio, sleep, [30]),
    ok = py_test:wait_for_mark(),
    {error, timeout} = py:async_await(Other, 0),
    {error, interrupted} = py:async_await(Sibling, 10000),
    {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>).

%%% Asynchronous generators on demand

a_timeout_around_a_yield_fires(Config) ->
    Stream = generator(ctx(Config), <<"
import asyncio
async def generator():
    async with asyncio.timeout(0.1):
        yield 1
        await asyncio.sleep(30)
        yield 2
">>),
    {items, [1]} = next(Stream),
    {error, {'TimeoutError', _}} = next(Stream),
    done = next(Stream).

a_timeout_around_a_yield_fires_between_demands(Config) ->
    Ctx = ctx(Config),
    Stream = generator(Ctx, <<"
import asyncio
async def generator():
    try:
        async with asyncio.timeout(0.05):
            yield 1
    except TimeoutError:
        yield 'late'
">>),
    {items, [1]} = next(Stream),
    {ok, none} = py:ctx_call(Ctx, asyncio, sleep, [0.2]),
    {items, [<<"late">>]} = next(Stream),
    done = next(Stream).

a_context_variable_is_reset_after_a_yield(Config) ->
    Stream = generator(ctx(Config), <<"
import contextvars
variable = contextvars.ContextVar('variable', default=0)
async def generator():
    token = variable.set(1)
    yield variable.get()
    yield variable.get()
    variable.reset(token)
    yield variable.get()
">>),
    [{items, [1]}, {items, [1]}, {items, [0]}, done] = [next(Stream) || _ <- lists:seq(1, 4)].

a_local_decimal_context_lasts_over_a_yield(Config) ->
    Stream = generator(ctx(Config), <<"
import decimal
async def generator():
    with decimal.localcontext() as context:
        context.prec = 3
        yield str(decimal.Decimal(1) / 3)
        yield str(decimal.Decimal(1) / 3)
    yield str(decimal.Decimal(1) / 8)
">>),
    [{items, [<<"0.333">>]}, {items, [<<"0.333">>]}, {items, [<<"0.125">>]}, done] =
        [next(Stream) || _ <- lists:seq(1, 4)].

a_generator_is_closed_in_its_own_task(Config) ->
    Ctx = ctx(Config),
    Stream = generator(Ctx, <<"
import asyncio, contextvars
variable = contextvars.ContextVar('variable', default=0)
ended = []
async def generator():
    token = variable.set(1)
    task = asyncio.current_task()
    try:
        while True:
            yield 1
    finally:
        await asyncio.sleep(0)
        variable.reset(token)
        ended.append(task is asyncio.current_task())
">>),
    {items, [1]} = next(Stream),
    {items, [1]} = next(Stream),
    ok = py:stream_close(Stream),
    ok = py_test:wait_until(fun() -> py:ctx_eval(Ctx, <<"ended">>) =:= {ok, [true]} end).

a_stream_outlives_its_loop(Config) ->
    Ctx = ctx(Config),
    Stream = generator(Ctx, <<"
async def generator():
    for n in range(3):
        yield n
">>),
    {items, [0]} = next(Stream),
    ok = py:ctx_exec(Ctx, <<"import asyncio; asyncio.get_event_loop_policy().get_event_loop().close()">>),
    {items, [1]} = next(Stream),
    {ok, <<"x">>} = py:ctx_call(Ctx, asyncio, sleep, [0, x]),
    {items, [2]} = next(Stream),
    done = next(Stream).

%% The consumer answers a callback of a coroutine, whose loop cannot go on meanwhile.
a_stream_in_the_middle_of_a_coroutine_is_asked(Config) ->
    Ctx = ctx(Config),
    ok = py:ctx_exec(Ctx, <<"
import asyncio, erlang
async def generator():
    for n in range(10):
        await asyncio.sleep(0)
        yield n
async def call():
    await asyncio.sleep(0)
    return erlang.ask()
">>),
    Self = self(),
    ok = py:register_function(ask, fun([]) ->
        {ok, Stream} = py:ctx_stream(Ctx, '__main__', generator, []),
        Self ! [next(Stream) || _ <- [1, 2, 3]],
        py:stream_close(Stream)
    end),
    [begin
         {ok, <<"ok">>} = py:ctx_call(Ctx, '__main__', call, []),
         receive Items -> [{items, [0]}, {items, [1]}, {items, [2]}] = Items end
     end || _ <- [1, 2]],
    ok = py:unregister_function(ask).

%% The stream of an asynchronous generator that the code defines.
generator(Ctx, Code) ->
    ok = py:ctx_exec(Ctx, Code),
    {ok, Stream} = py:ctx_stream(Ctx, '__main__', generator, []),
    Stream.

next(Stream) ->
    ok = py:stream_next(Stream, 1),
    receive {py_stream, Stream, What} -> What after 10000 -> error(no_answer) end.

%%% Loops

%% A policy as that of uvloop, whose loops cannot be woken: a loop that knows no descriptors.
a_timeout_under_the_policy_of_uvloop_keeps_the_context(Config) ->
    Ctx = ctx(Config),
    ok = py:ctx_exec(Ctx, <<"
import asyncio, warnings
warnings.simplefilter('ignore', DeprecationWarning)
kept = asyncio.get_event_loop_policy()
try:
    import uvloop
    policy = uvloop.EventLoopPolicy()
except ImportError:
    class Loop(asyncio.SelectorEventLoop):
        def add_reader(self, *args):
            raise NotImplementedError
    class Policy(asyncio.DefaultEventLoopPolicy):
        _loop_factory = Loop
    policy = Policy()
asyncio.set_event_loop_policy(policy)
async def nap():
    await asyncio.sleep(30)
x = 1
">>),
    {error, timeout} = py:ctx_call(Ctx, '__main__', nap, [], #{}, 200),
    {ok, 1} = py:ctx_eval(Ctx, <<"x">>),
    ok = py:ctx_exec(Ctx, <<"asyncio.set_event_loop_policy(kept)">>).

an_eager_task_factory_is_interrupted(Config) ->
    Ctx = ctx(Config),
    ok = py:ctx_exec(Ctx, <<"
import asyncio, sys
async def prepare():
    def factory(loop, coroutine, **options):
        # The coroutine begins at once, as in an eager factory.
        coroutine.send(None)
        return asyncio.Task(coroutine, loop=loop, **options)
    asyncio.get_running_loop().set_task_factory(factory)
async def spin():
    sys.py_test_mark = 1
    while True:
        pass
x = 1
">>),
    {ok, none} = py:ctx_call(Ctx, '__main__', prepare, []),
    Spin = py:ctx_async_call(Ctx, '__main__', spin, []),
    ok = py_test:wait_for_mark(),
    {error, timeout} = py:async_await(Spin, 100),
    {ok, 1} = py:ctx_eval(Ctx, <<"x">>).

a_stream_replaced_after_an_await_is_put_back(Config) ->
    Ctx = ctx(Config),
    {ok, Before} = py:eval(<<"id(__import__('sys').stdout)">>),
    ok = py:ctx_exec(Ctx, <<"
import asyncio, io, sys
async def replace():
    await asyncio.sleep(0.01)
    sys.stdout = io.StringIO()
    await asyncio.sleep(0)
">>),
    {ok, none} = py:async_await(py:ctx_async_call(Ctx, '__main__', replace, [])),
    ok = py:unbind(Ctx),
    ok = py_test:wait_until(fun() ->
        py:eval(<<"id(__import__('sys').stdout)">>) =:= {ok, Before}
    end).

a_context_has_a_loop_before_its_first_coroutine(Config) ->
    Ctx = ctx(Config),
    Find = <<"import asyncio, warnings\n"
             "warnings.simplefilter('ignore', DeprecationWarning)\n"
             "loop = asyncio.get_event_loop()\n">>,
    case version(Ctx) < {3, 14} of
        true ->
            ok = py:ctx_exec(Ctx, Find),
            ok = py:ctx_exec(Ctx, <<"async def own(): return asyncio.get_running_loop()">>),
            {ok, true} = py:ctx_eval(Ctx, <<"loop.run_until_complete(own()) is loop">>),
            {ok, Loop} = py:ctx_call(Ctx, '__main__', own, []),
            {ok, true} = py:ctx_eval(Ctx, <<"l is loop">>, #{l => Loop}),
            %% A thread that the code starts has no loop, as in Python.
            ok = py:ctx_exec(Ctx, <<"
import threading
told = []
def ask():
    try:
        asyncio.get_event_loop()
    except RuntimeError:
        told.append('none')
thread = threading.Thread(target=ask)
thread.start()
thread.join()
">>),
            {ok, [<<"none">>]} = py:ctx_eval(Ctx, <<"told">>),
            ok = py:exec(Find);
        false ->
            {error, {'RuntimeError', _}} = py:ctx_exec(Ctx, Find),
            ok
    end.

%%% Locals

locals_of_an_awaited_expression_are_its_own(Config) ->
    Ctx = ctx(Config),
    ok = py:ctx_exec(Ctx, <<"
import asyncio
seen = []
async def look():
    for _ in range(20):
        await asyncio.sleep(0.01)
        seen.append('secret' in globals())
async def hold(value):
    await asyncio.sleep(0.1)
    return value
">>),
    Look = py:ctx_async_call(Ctx, '__main__', look, []),
    {ok, 7} = py:ctx_eval(Ctx, <<"hold(secret)">>, #{secret => 7}),
    {ok, none} = py:async_await(Look),
    {ok, [false]} = py:ctx_eval(Ctx, <<"sorted(set(seen))">>).

locals_reach_every_nested_scope(Config) ->
    Ctx = ctx(Config),
    Locals = #{x => 3, y => [1, 2]},
    {ok, [[3, 6], [4, 8]]} =
        py:ctx_eval(Ctx, <<"[[n * k for n in y] for k in (x, (lambda: x + 1)())]">>, Locals),
    ok = py:ctx_exec(Ctx, <<"
async def later(function):
    import asyncio
    await asyncio.sleep(0)
    return function()
">>),
    {ok, 4} = py:ctx_eval(Ctx, <<"later(lambda: x + 1)">>, #{x => 3}),
    {error, {'NameError', _}} = py:ctx_eval(Ctx, <<"x">>).

locals_may_have_any_name(Config) ->
    Ctx = ctx(Config),
    {ok, 3} = py:ctx_eval(Ctx, <<"x + y">>, #{x => 1, <<"y">> => 2, <<"no name">> => 5}),
    {ok, 3} = py:ctx_eval(Ctx, <<"x + y">>, #{x => 1, y => 2, 'class' => 5, 'None' => 6}),
    {ok, 1} = py:ctx_eval(Ctx, <<"a">>, #{a => 1, <<"b,c">> => 2}),
    {ok, 1} = py:ctx_eval(Ctx, <<"a">>, #{a => 1, b => 2, c => 3}),
    {error, {'SyntaxError', _}} = py:ctx_eval(Ctx, <<"a +">>, #{a => 1}),
    {error, {'ZeroDivisionError', #{traceback := [#{function := <<"<module>">>, line := 1}]}}} =
        py:ctx_eval(Ctx, <<"a / 0">>, #{a => 1}).

an_expression_that_assigns_assigns_a_global(Config) ->
    Ctx = ctx(Config),
    {ok, 2} = py:ctx_eval(Ctx, <<"(z := x + 1)">>, #{x => 1}),
    {ok, 2} = py:ctx_eval(Ctx, <<"z">>).
