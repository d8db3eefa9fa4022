%% Do coroutines end when they are not awaited any more, and is nothing left of them?
-module(py_async_ends_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).
-define(MODULE_NAME, py_async_helpers).
%% A coroutine that never comes back from its cancel.
-define(STUBBORN, "
import asyncio
async def stubborn():
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        while True: pass
").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [unbind_ends_what_is_in_flight, an_interrupt_ends_what_is_in_flight,
     the_death_of_the_caller_cancels, a_coroutine_that_blocks_is_stopped,
     a_coroutine_that_swallows_its_cancel_harms_nobody,
     a_coroutine_that_never_comes_back_from_its_cancel_is_stopped,
     a_coroutine_that_never_comes_back_does_not_hold_a_call, interrupts_leave_the_loop_whole,
     an_interruption_of_the_loop_itself_ends_what_is_in_flight,
     a_coroutine_that_cannot_be_stopped_costs_the_context,
     a_loop_that_does_not_close_is_left_behind, the_application_stops_under_it,
     an_idle_loop_uses_no_cpu, the_common_context_in_steady_use_stays,
     messages_do_not_keep_the_common_context,
     a_call_that_meets_the_end_of_the_common_context_is_made_in_another, nothing_is_left].

init_per_suite(Config) ->
    py_async_SUITE:init_per_group(ends, Config).

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

unbind_ends_what_is_in_flight(_Config) ->
    ok = py_async_SUITE:forget_notes(),
    ok = py:bind(),
    Nap = py:async_call(?MODULE_NAME, nap, [30]),
    ok = py_test:in_process(fun() -> py_async_SUITE:wait_for_note(<<"started">>) end),
    ok = py:unbind(),
    {error, interrupted} = py:async_await(Nap),
    ok = py_async_SUITE:wait_for_note(<<"cancelled">>).

an_interrupt_ends_what_is_in_flight(_Config) ->
    {ok, Ctx} = py:bind(new),
    Nap = py:ctx_async_call(Ctx, ?MODULE_NAME, nap, [30]),
    ok = py_test:wait_until(fun() -> py:interrupt(Ctx) =:= ok end),
    {error, interrupted} = py:async_await(Nap),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx).

the_death_of_the_caller_cancels(_Config) ->
    ok = py_async_SUITE:forget_notes(),
    {ok, Ctx} = py:bind(new),
    Self = self(),
    Pid = spawn(fun() ->
        Nap = py:ctx_async_call(Ctx, ?MODULE_NAME, nap, [30]),
        Self ! started,
        py:async_await(Nap)
    end),
    receive started -> ok end,
    ok = py_async_SUITE:wait_for_note(<<"started">>),
    exit(Pid, kill),
    ok = py_async_SUITE:wait_for_note(<<"cancelled">>),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx).

a_coroutine_that_blocks_is_stopped(_Config) ->
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:async_await(py:ctx_async_call(Ctx, ?MODULE_NAME, spin, []), 100),
    {ok, 3} = py:async_await(py:ctx_async_call(Ctx, ?MODULE_NAME, add, [1, 2])),
    0 = py_test:abandoned(),
    ok = py:unbind(Ctx).

a_coroutine_that_swallows_its_cancel_harms_nobody(_Config) ->
    ok = py_async_SUITE:forget_notes(),
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:async_await(py:ctx_async_call(Ctx, ?MODULE_NAME, swallow, [2]), 100),
    ok = py_async_SUITE:wait_for_note(<<"swallowed">>),
    {ok, 3} = py:async_await(py:ctx_async_call(Ctx, ?MODULE_NAME, add, [1, 2])),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx),
    0 = py_test:abandoned().

%% Regression: the loop had taken notice, but was not watched any more, and the worker was lost for
%% good.
a_coroutine_that_never_comes_back_from_its_cancel_is_stopped(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?STUBBORN>>),
    Stubborn = fun() ->
        {error, timeout} = py:async_await(py:ctx_async_call(Ctx, '__main__', stubborn, []), 50)
    end,
    Stubborn(),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    Stubborn(),
    ok = py:unbind(Ctx),
    0 = py_test:abandoned().

%% Regression: the call that had run the loop meanwhile was held until its own timeout.
a_coroutine_that_never_comes_back_does_not_hold_a_call(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?STUBBORN "async def outlasts():
    await asyncio.sleep(0.5)
    return 1
">>),
    Stubborn = py:ctx_async_call(Ctx, '__main__', stubborn, []),
    Call = py_test:start_call(fun() ->
        py:ctx_call(Ctx, '__main__', outlasts, [], #{}, infinity)
    end),
    ok = py_test:wait_pending(2),
    {error, timeout} = py:async_await(Stubborn, 50),
    {ok, 1} = py_test:result(Call),
    ok = py:unbind(Ctx),
    0 = py_test:abandoned().

%% Regression: a second exception had hit the loop between two callbacks, which it lost, or had left
%% a `stop' to the next run.
interrupts_leave_the_loop_whole(_Config) ->
    lists:foreach(fun(_) ->
        {ok, Ctx} = py:bind(new, #{wait => infinity}),
        ok = py:ctx_exec(Ctx, <<"
import asyncio
async def spin():
    while True: pass
async def add(a, b):
    await asyncio.sleep(0)
    return a + b
">>),
        {error, timeout} = py:ctx_call(Ctx, '__main__', spin, [], #{}, 20),
        {ok, 3} = py:ctx_call(Ctx, '__main__', add, [1, 2]),
        ok = py:unbind(Ctx)
    end, lists:seq(1, 10)),
    0 = py_test:abandoned().

%% Regression: the exception was logged, and the callers of the tasks that it had hit waited for
%% ever.
an_interruption_of_the_loop_itself_ends_what_is_in_flight(_Config) ->
    {ok, Ctx} = py:bind(new),
    Nap = py:ctx_async_call(Ctx, ?MODULE_NAME, nap, [30]),
    Hit = <<"
import asyncio
def hit():
    raise next(c for c in BaseException.__subclasses__() if c.__name__ == 'Interrupted')
async def later():
    asyncio.get_running_loop().call_later(0.05, hit)
">>,
    ok = py:ctx_exec(Ctx, Hit),
    {ok, none} = py:ctx_eval(Ctx, <<"later()">>),
    {error, interrupted} = py:async_await(Nap, 5000),
    {ok, 3} = py:async_await(py:ctx_async_call(Ctx, ?MODULE_NAME, add, [1, 2])),
    ok = py:unbind(Ctx).

a_coroutine_that_cannot_be_stopped_costs_the_context(_Config) ->
    {ok, Ctx} = py:bind(new),
    Nap = py:ctx_async_call(Ctx, ?MODULE_NAME, nap, [30]),
    {error, timeout} = py:async_await(py:ctx_async_call(Ctx, ?MODULE_NAME, block, [3]), 100),
    {error, interrupted} = py:async_await(Nap),
    1 = py_test:abandoned(),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok = py_test:wait_for_abandoned(0).

%% Regression: the next context on the thread went on in the same loop, among the tasks of the one
%% before.
a_loop_that_does_not_close_is_left_behind(Config) ->
    ok = py_test:start_with([{num_workers, 1}, {interrupt_grace, 500}]),
    ok = py:bind(),
    ok = py:exec(<<"
import asyncio
async def stay():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
async def begin():
    global task
    task = asyncio.ensure_future(stay())
    return id(asyncio.get_running_loop())
">>),
    {ok, _} = py:eval(<<"begin()">>),
    ok = py:unbind(),
    ok = py_test:wait_until(fun() -> py:bind() =:= ok end),
    ok = py:exec(<<"
import asyncio
async def tasks(): return len(asyncio.all_tasks())
">>),
    {ok, 1} = py:eval(<<"tasks()">>),
    ok = py:unbind(),
    ok = py_test:wait_for_abandoned(0),
    _ = init_per_suite(Config),
    ok.

the_application_stops_under_it(Config) ->
    ok = py_async_SUITE:forget_notes(),
    ok = py:bind(),
    Nap = py:async_call(?MODULE_NAME, nap, [30]),
    ok = py_test:in_process(fun() -> py_async_SUITE:wait_for_note(<<"started">>) end),
    ok = py_test:stop(),
    {error, interrupted} = py:async_await(Nap),
    _ = init_per_suite(Config),
    ok.

%% The server of the shared context gets a message every few milliseconds.
messages_do_not_keep_the_common_context(_Config) ->
    {ok, 2.0} = py:async_await(py:async_call(math, sqrt, [4])),
    #{checked_out := 1} = py_pool:get_stats(),
    ok = py_test:wait_until(fun() ->
        py_async ! unexpected,
        0 =:= maps:get(checked_out, py_pool:get_stats())
    end).

an_idle_loop_uses_no_cpu(_Config) ->
    {ok, Ctx} = py:bind(new),
    Nap = py:ctx_async_call(Ctx, ?MODULE_NAME, nap, [1, none]),
    {ok, Before} = py:eval(<<"__import__('time').process_time()">>),
    {ok, none} = py:async_await(Nap),
    {ok, After} = py:eval(<<"__import__('time').process_time()">>),
    %% A loop that goes round all the time would use the whole time.
    true = After - Before < 0.5,
    ok = py:unbind(Ctx).

%% Regression: the shared context was found idle between two calls, and ended with its loop and
%% connections.
the_common_context_in_steady_use_stays(_Config) ->
    ok = py:exec(<<"
import asyncio, itertools, py_async_helpers
count = itertools.count()
async def which(): return vars(asyncio.get_running_loop()).setdefault('which', next(count))
py_async_helpers.which = which
">>),
    Which = fun() ->
        receive after 20 -> py:async_await(py:async_call(?MODULE_NAME, which, [])) end
    end,
    [{ok, 0}] = lists:usort([Which() || _ <- lists:seq(1, 120)]),
    ok = py_test:wait_available(?WORKERS).

%% Regression: the call was refused, or interrupted when a busy pool came to the end of the context.
a_call_that_meets_the_end_of_the_common_context_is_made_in_another(_Config) ->
    {ok, 3} = py:async_await(py:async_call(?MODULE_NAME, add, [1, 2])),
    Pool = whereis(py_pool),
    ok = sys:suspend(Pool),
    ok = py_test:wait_until(fun() -> is_waited_for(Pool) end),
    Call = py_test:start_call(fun() ->
        py:async_await(py:async_call(?MODULE_NAME, nap, [0.1, made]))
    end),
    ok = py_test:wait_until(fun() ->
        is_waited_for(whereis(py_async)) orelse maps:get(pending_requests, py_pool:get_stats()) > 0
    end),
    ok = sys:resume(Pool),
    {ok, <<"made">>} = py_test:result(Call).

is_waited_for(Pid) ->
    {message_queue_len, Length} = process_info(Pid, message_queue_len),
    Length > 0.

nothing_is_left(_Config) ->
    [{ok, 3} = py:async_await(py:async_call(?MODULE_NAME, add, [1, 2])) || _ <- lists:seq(1, 200)],
    ok = py_test:wait_available(?WORKERS),
    py_test:wait_until(fun() ->
        {ok, _} = py:call(gc, collect, []),
        [erlang:garbage_collect(Pid) || Pid <- [self(), whereis(py_pool), whereis(py_async)]],
        case py_pool:get_stats() of
            #{resources := #{jobs := 0, contexts := 0, callbacks := 0}} -> true;
            Stats -> Stats
        end
    end).
