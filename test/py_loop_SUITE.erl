%% Are calls answered, and is nothing left, whatever code does to the event loop of its context?
-module(py_loop_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [code_may_close_the_loop, what_is_in_flight_ends_with_its_loop,
     code_that_exits_ends_its_own_call_only, an_exit_leaves_no_stop_behind,
     cancels_reach_what_is_in_flight_during_a_call, what_goes_on_does_not_keep_its_context,
     the_loop_is_closed_though_it_is_set_no_more, nested_code_leaves_the_loop_running,
     tasks_of_nested_code_are_cancelled, a_cancel_of_its_own_is_an_exception,
     what_is_in_flight_is_found_between_two_jobs, loops_that_watch_nothing_run,
     callbacks_see_the_variables_of_their_task,
     a_timeout_in_the_loop_hits_nobody_else, a_timeout_before_the_loop_hits_nobody_else,
     an_interruption_of_another_is_no_exception].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

-define(CODE, <<"
import asyncio, sys
async def nap(seconds, value=None):
    await asyncio.sleep(seconds)
    return value
async def leave():
    await asyncio.sleep(0.01)
    sys.exit('wrong usage')
">>).

context() ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, ?CODE),
    Ctx.

nap(Ctx, Args) ->
    py:ctx_async_call(Ctx, '__main__', nap, Args).

%% The old way to run a coroutine. Regression: the next loop was not woken, so the context did
%% nothing any more, and its worker was lost for good.
code_may_close_the_loop(_Config) ->
    [begin
         Ctx = context(),
         {ok, 1} = py:async_await(nap(Ctx, [0.01, 1])),
         ok = py:ctx_exec(Ctx, <<"asyncio.get_event_loop().close()">>),
         {ok, 2} = py:async_await(nap(Ctx, [0.01, 2]), 5000),
         {ok, 3} = py:ctx_eval(Ctx, <<"3">>, #{}, 5000),
         ok = py:unbind(Ctx)
     end || _ <- lists:seq(1, 2 * ?WORKERS)],
    ok = py_test:wait_available(?WORKERS).

what_is_in_flight_ends_with_its_loop(_Config) ->
    Ctx = context(),
    Nap = nap(Ctx, [30]),
    {ok, none} = py:async_await(nap(Ctx, [0.01])),
    ok = py:ctx_exec(Ctx, <<"
loop = asyncio.get_event_loop()
loop.close()
">>),
    {error, interrupted} = py:async_await(Nap, 10000),
    {ok, 2} = py:async_await(nap(Ctx, [0.01, 2]), 5000),
    ok = py:unbind(Ctx).

%% Regression: a loop ends by SystemExit, and so did the other tasks in it.
code_that_exits_ends_its_own_call_only(_Config) ->
    Ctx = context(),
    Nap = nap(Ctx, [0.3, 1]),
    {error, {'SystemExit', _}} = py:async_await(py:ctx_async_call(Ctx, '__main__', leave, [])),
    Leave = py:ctx_async_call(Ctx, '__main__', leave, []),
    {ok, 2} = py:ctx_call(Ctx, '__main__', nap, [0.1, 2]),
    {error, {'SystemExit', _}} = py:async_await(Leave),
    {ok, 1} = py:async_await(Nap),
    ok = py:unbind(Ctx).

an_exit_leaves_no_stop_behind(_Config) ->
    Ctx = context(),
    ok = py:ctx_exec(Ctx, <<"
flag = False
async def leave_later():
    while not flag:
        await asyncio.sleep(0)
    sys.exit(3)
">>),
    Leave = py:ctx_async_call(Ctx, '__main__', leave_later, []),
    ok = py:ctx_exec(Ctx, <<"flag = True">>),
    {error, {'SystemExit', _}} = py:async_await(Leave),
    {ok, 1} = py:ctx_call(Ctx, '__main__', nap, [0.05, 1]),
    ok = py:unbind(Ctx).

%% Regression: the callbacks were answered when the call was over.
cancels_reach_what_is_in_flight_during_a_call(_Config) ->
    Ctx = context(),
    Self = self(),
    ok = py:ctx_exec(Ctx, <<"
import erlang
ticks = 0
async def tick():
    global ticks
    while True:
        await asyncio.sleep(0.01)
        ticks += 1
async def watch(observer):
    erlang.send(observer, erlang.atom('watching'))
    before = -1
    while before != ticks:
        before = ticks
        await asyncio.sleep(0.1)
    return 'still'
">>),
    Flyer = spawn_link(fun() ->
        Self ! py:async_await(py:ctx_async_call(Ctx, '__main__', tick, []))
    end),
    ok = py_test:wait_until(fun() -> py:ctx_eval(Ctx, <<"ticks > 1">>) =:= {ok, true} end),
    Watcher = spawn_link(fun() -> Self ! py:ctx_call(Ctx, '__main__', watch, [Self]) end),
    receive watching -> ok end,
    ok = py:interrupt(Flyer),
    {error, interrupted} = receive First -> First end,
    {ok, <<"still">>} = receive Second -> Second end,
    false = is_process_alive(Watcher),
    {error, timeout} = py:async_await(py:ctx_async_call(Ctx, '__main__', tick, []), 50),
    {ok, <<"still">>} = py:ctx_call(Ctx, '__main__', watch, [Self]),
    receive watching -> ok end,
    ok = py:unbind(Ctx).

%% A task has the variables of the one that made it, and among them its job.
what_goes_on_does_not_keep_its_context(_Config) ->
    ok = leave_something_behind(),
    ok = py_test:wait_until(fun() ->
        true = garbage_collect(),
        case py_pool:get_stats() of
            #{available_workers := ?WORKERS} -> true;
            Stats -> Stats
        end
    end).

leave_something_behind() ->
    Ctx = context(),
    ok = py:ctx_exec(Ctx, <<"
tasks = []
async def start():
    tasks.append(asyncio.create_task(asyncio.sleep(10 ** 6)))
">>),
    {ok, none} = py:async_await(py:ctx_async_call(Ctx, '__main__', start, [])),
    ok.

the_loop_is_closed_though_it_is_set_no_more(_Config) ->
    ok = py:exec(<<"import sys; sys.py_loop_notes = []">>),
    Ctx = context(),
    ok = py:ctx_exec(Ctx, <<"
async def wait():
    try:
        await asyncio.sleep(1000)
    except BaseException as e:
        sys.py_loop_notes.append(type(e).__name__)
        raise
">>),
    Wait = py:ctx_async_call(Ctx, '__main__', wait, []),
    {ok, none} = py:async_await(nap(Ctx, [0.01])),
    ok = py:ctx_exec(Ctx, <<"asyncio.run(nap(0))">>),
    ok = py:unbind(Ctx),
    {error, interrupted} = py:async_await(Wait),
    ok = py_test:wait_until(fun() -> py:eval(<<"__import__('sys').py_loop_notes">>)
                                     =:= {ok, [<<"CancelledError">>]} end),
    ok = py:exec(<<"import sys; del sys.py_loop_notes">>).

nested_code_leaves_the_loop_running(_Config) ->
    Ctx = context(),
    ok = py:register_function(nest, fun([Spin]) ->
        _ = py:eval(<<"(spin(s), nap(0))[1]">>, #{s => Spin}, 2),
        ok
    end),
    ok = py:ctx_exec(Ctx, <<"
import erlang, time, random
def spin(s):
    end = time.perf_counter() + s
    while time.perf_counter() < end: pass
async def outer(n):
    for i in range(n):
        erlang.nest(random.uniform(0.001, 0.0025))
        asyncio.get_running_loop()
    await asyncio.sleep(0)
    return n
">>),
    {ok, 400} = py:ctx_call(Ctx, '__main__', outer, [400], #{}, 50000),
    ok = py:unregister_function(nest),
    ok = py:unbind(Ctx).

tasks_of_nested_code_are_cancelled(_Config) ->
    Ctx = context(),
    ok = py:register_function(nest, fun([]) -> {ok, none} = py:eval(<<"inner()">>), ok end),
    ok = py:ctx_exec(Ctx, <<"
import erlang
notes = []
async def background():
    try:
        await asyncio.sleep(1000)
    except BaseException as e:
        notes.append(type(e).__name__)
        raise
async def inner():
    global kept
    kept = asyncio.create_task(background())
    await asyncio.sleep(0)
async def outer():
    erlang.nest()
    return notes
">>),
    {ok, [<<"CancelledError">>]} = py:ctx_call(Ctx, '__main__', outer, []),
    ok = py:unregister_function(nest),
    ok = py:unbind(Ctx).

%% Regression: the call was told that it was interrupted.
a_cancel_of_its_own_is_an_exception(_Config) ->
    Ctx = context(),
    ok = py:ctx_exec(Ctx, <<"
async def cancel():
    task = asyncio.create_task(asyncio.sleep(10))
    await asyncio.sleep(0)
    task.cancel()
    await task
">>),
    {error, {Kind, #{class := Class}}} = py:ctx_call(Ctx, '__main__', cancel, []),
    {error, {Kind, #{class := Class}}} =
        py:async_await(py:ctx_async_call(Ctx, '__main__', cancel, [])),
    ok = py:unbind(Ctx).

what_is_in_flight_is_found_between_two_jobs(_Config) ->
    Ctx = context(),
    Busy = [spawn_link(fun() -> busy(Ctx) end) || _ <- lists:seq(1, 2)],
    Load = spawn_link(fun() -> busy_for_ever() end),
    [begin
         Nap = nap(Ctx, [30]),
         {ok, none} = py:async_await(nap(Ctx, [0.001])),
         ok = py:interrupt(self()),
         {error, interrupted} = py:async_await(Nap)
     end || _ <- lists:seq(1, 50)],
    [begin unlink(Pid), exit(Pid, kill) end || Pid <- [Load | Busy]],
    ok = py:unbind(Ctx).

busy(Ctx) ->
    _ = py:ctx_eval(Ctx, <<"1">>),
    busy(Ctx).

busy_for_ever() ->
    _ = py:exec(<<"for _ in range(100000): pass">>),
    busy_for_ever().

loops_that_watch_nothing_run(_Config) ->
    Ctx = context(),
    {ok, none} = py:ctx_call(Ctx, '__main__', nap, [0]),
    ok = py:ctx_exec(Ctx, <<"
import asyncio, heapq
class Virtual(asyncio.BaseEventLoop):
    def __init__(self):
        super().__init__()
        self._selector = self
        self.now = 0
    def time(self): return self.now
    def select(self, timeout):
        self.now += timeout or 0
        return []
    def _process_events(self, events): pass
    def _write_to_self(self): pass
loop = Virtual()
slept = loop.run_until_complete(nap(1000, 'slept'))
loop.close()
">>),
    {ok, <<"slept">>} = py:ctx_eval(Ctx, <<"slept">>),
    ok = py:unbind(Ctx).

callbacks_see_the_variables_of_their_task(_Config) ->
    Ctx = context(),
    ok = py:register_function(precision, fun([]) ->
        {ok, Value} = py:eval(<<"decimal.getcontext().prec">>),
        Value
    end),
    ok = py:ctx_exec(Ctx, <<"
import decimal, erlang
async def precisions():
    await erlang.acall('precision')
    decimal.getcontext().prec = 5
    return decimal.getcontext().prec, erlang.precision(), await erlang.acall('precision')
">>),
    {ok, {5, 5, 5}} = py:ctx_call(Ctx, '__main__', precisions, []),
    {ok, {5, 5, 5}} = py:async_await(py:ctx_async_call(Ctx, '__main__', precisions, [])),
    ok = py:unregister_function(precision),
    ok = py:unbind(Ctx).

%% Regression: the exception for a call hit other code in the loop, and some tasks never finished.
a_timeout_in_the_loop_hits_nobody_else(_Config) ->
    %% A loop that has not got to its cancels within half of the grace counts as stuck.
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 20000}]),
    Ctx = context(),
    ok = py:ctx_exec(Ctx, <<"
import time
until = time.monotonic() + 3
async def go_round():
    while time.monotonic() < until:
        await asyncio.sleep(0)
    return 'landed'
">>),
    Flights = [py:ctx_async_call(Ctx, '__main__', go_round, []) || _ <- lists:seq(1, 100)],
    [{error, timeout} = py:ctx_call(Ctx, '__main__', nap, [60], #{}, 50) || _ <- lists:seq(1, 20)],
    [{ok, <<"landed">>} = py:async_await(Flight) || Flight <- Flights],
    ok = py:unbind(Ctx),
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}]).

%% Regression: an exception was requested for a call whose loop did not run yet, and hit the first callback of the loop.
a_timeout_before_the_loop_hits_nobody_else(_Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 20000}]),
    Ctx = context(),
    ok = py:ctx_exec(Ctx, <<"
must_land = False
async def go_round():
    while not must_land:
        await asyncio.sleep(0)
    return 'landed'
">>),
    Flights = [py:ctx_async_call(Ctx, '__main__', go_round, []) || _ <- lists:seq(1, 20)],
    [{error, timeout} = py:ctx_call(Ctx, '__main__', nap, [60], #{}, 1 + N rem 4) || N <- lists:seq(1, 1000)],
    ok = py:ctx_exec(Ctx, <<"must_land = True">>),
    [{ok, <<"landed">>} = py:async_await(Flight) || Flight <- Flights],
    ok = py:unbind(Ctx),
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}]).

an_interruption_of_another_is_no_exception(_Config) ->
    Ctx = context(),
    ok = py:ctx_exec(Ctx, <<"
import erlang
async def be_hit():
    raise erlang.Interrupted
">>),
    {error, interrupted} = py:async_await(py:ctx_async_call(Ctx, '__main__', be_hit, [])),
    ok = py:unbind(Ctx).
