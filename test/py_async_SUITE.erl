%% Are coroutines awaited, and do many run at once?
-module(py_async_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, bound}, {group, context}, {group, unbound}, {group, under_way}, {group, erlang}].

groups() ->
    Awaited = [a_coroutine_is_awaited, its_exception_is_an_error,
               a_coroutine_that_lasts_is_stopped],
    Flying = [many_are_in_flight_at_once, gather_keeps_the_order, gather_tells_the_first_error,
              gather_has_one_timeout, a_timeout_cancels_the_coroutine,
              a_value_is_its_own_result, errors_come_back, big_values_come_back],
    [{bound, [], [a_loop_lasts_as_long_as_its_lease, an_object_of_a_loop_stays_valid,
                  other_calls_run_meanwhile, tasks_of_the_code_go_on | Awaited ++ Flying]},
     {context, [], Awaited ++ Flying},
     {unbound, [], [the_common_context_is_given_back, no_worker_is_an_error | Awaited ++ Flying]},
     {under_way, [], [calls_are_awaited_later, calls_of_a_binding_keep_their_order,
                      awaited_twice_is_badarg, a_timeout_stops_the_call,
                      a_forgotten_call_is_cancelled, a_gather_that_cannot_start_leaves_nothing,
                      a_gather_in_a_context_that_ends_leaves_nothing,
                      what_is_no_call_is_badarg]},
     {erlang, [], [acall_does_not_block_the_loop, acall_raises_what_fails,
                   acall_is_cancelled, acall_lands_in_the_same_context,
                   a_blocking_call_in_a_coroutine, a_coroutine_within_a_coroutine,
                   an_asynchronous_call_within_a_callback,
                   self_is_the_caller_of_the_task, acall_in_a_loop_of_a_thread]}].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    %% A module that every context finds by import.
    Dir = filename:join(proplists:get_value(priv_dir, Config), "modules"),
    ok = filelib:ensure_path(Dir),
    ok = file:write_file(filename:join(Dir, "py_async_helpers.py"), helpers()),
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}, {paths, [Dir]}]),
    [{place, Group} | Config].

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    case proplists:get_value(place, Config) of
        context -> {ok, Ctx} = py:bind(new), [{context, Ctx} | Config];
        _ -> Config
    end.

end_per_testcase(_Case, Config) ->
    case proplists:get_value(context, Config) of
        undefined -> ok;
        Ctx -> ok = py:unbind(Ctx)
    end,
    py_test:end_case(?WORKERS).

helpers() ->
    <<"
import asyncio, os, sys, time

if not hasattr(sys, 'py_async_notes'):
    sys.py_async_notes = []
notes = sys.py_async_notes

async def add(a, b):
    await asyncio.sleep(0)
    return a + b

def loop_forever():
    while True: pass

async def nap(seconds, value=None):
    notes.append('started')
    try:
        await asyncio.sleep(seconds)
        return value
    except asyncio.CancelledError:
        notes.append('cancelled')
        raise

def list_of_nothing():
    return []

async def fail(text):
    await asyncio.sleep(0)
    raise ValueError(text)

async def block(seconds):
    os.system(f'sleep {seconds}')

async def spin():
    while True: pass

async def swallow(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            notes.append('swallowed')
">>.

-define(MODULE_NAME, py_async_helpers).

call(Config, Function, Args) ->
    call(Config, Function, Args, 30000).

call(Config, Function, Args, Timeout) ->
    case proplists:get_value(place, Config) of
        context ->
            Ctx = proplists:get_value(context, Config),
            py:ctx_call(Ctx, ?MODULE_NAME, Function, Args, #{}, Timeout);
        Place ->
            ok = bind(Place),
            py:call(?MODULE_NAME, Function, Args, #{}, Timeout)
    end.

bind(bound) -> py:bind();
bind(_) -> ok.

start(Config, Function, Args) ->
    case proplists:get_value(place, Config) of
        context ->
            py:ctx_async_call(proplists:get_value(context, Config), ?MODULE_NAME, Function, Args);
        Place ->
            ok = bind(Place),
            py:async_call(?MODULE_NAME, Function, Args)
    end.

notes() ->
    {ok, Notes} = py:eval(<<"__import__('py_async_helpers').sys.py_async_notes[:]">>),
    Notes.

forget_notes() ->
    {ok, none} = py:eval(<<"__import__('py_async_helpers').sys.py_async_notes.clear()">>),
    ok.

wait_for_note(Note) ->
    py_test:wait_until(fun() -> lists:member(Note, notes()) orelse notes() end).

%%% Awaited

a_coroutine_is_awaited(Config) ->
    {ok, 3} = call(Config, add, [1, 2]),
    {ok, 7} = py:eval(<<"__import__('py_async_helpers').add(3, 4)">>),
    {ok, <<"x">>} = call(Config, nap, [0.01, x]).

its_exception_is_an_error(Config) ->
    {error, {'ValueError', #{message := <<"why">>}}} = call(Config, fail, [why]).

a_coroutine_that_lasts_is_stopped(Config) ->
    {error, timeout} = call(Config, nap, [30], 100),
    {error, timeout} = call(Config, spin, [], 100),
    {ok, 3} = call(Config, add, [1, 2]).

%%% In flight

many_are_in_flight_at_once(Config) ->
    Start = erlang:monotonic_time(millisecond),
    Calls = [start(Config, nap, [0.5, N]) || N <- lists:seq(1, 100)],
    [{N, {ok, N}} = {N, py:async_await(Call)} || {N, Call} <- lists:zip(lists:seq(1, 100), Calls)],
    %% The coroutines take 50 seconds one after the other, and 12 by four workers.
    true = erlang:monotonic_time(millisecond) - Start < 10000.

gather_keeps_the_order(Config) ->
    {ok, [1, 2, 3]} = py:async_gather([start(Config, nap, [0.05, 1]), start(Config, nap, [0.01, 2]),
                                       start(Config, nap, [0.03, 3])]),
    {ok, []} = py:async_gather([]),
    {ok, [3, <<"v">>]} = py:async_gather([{?MODULE_NAME, add, [1, 2]},
                                          {?MODULE_NAME, nap, [0], #{value => v}}]).

gather_tells_the_first_error(Config) ->
    ok = forget_notes(),
    Nap = start(Config, nap, [30]),
    ok = py_test:in_process(fun() -> wait_for_note(<<"started">>) end),
    {error, {'ValueError', #{message := <<"one">>}}} =
        py:async_gather([Nap, start(Config, add, [1, 2]), start(Config, fail, [one])]),
    ok = wait_for_note(<<"cancelled">>).

gather_has_one_timeout(Config) ->
    {error, timeout} = py:async_gather([start(Config, nap, [30]) || _ <- lists:seq(1, 10)], 100).

a_timeout_cancels_the_coroutine(Config) ->
    ok = forget_notes(),
    {error, timeout} = py:async_await(start(Config, nap, [30]), 50),
    ok = wait_for_note(<<"cancelled">>),
    {ok, 3} = py:async_await(start(Config, add, [1, 2])).

a_value_is_its_own_result(Config) ->
    {ok, []} = py:async_await(start(Config, list_of_nothing, [])).

errors_come_back(Config) ->
    {error, {'ValueError', #{message := <<"why">>}}} = py:async_await(start(Config, fail, [why])),
    {error, {'AttributeError', _}} = py:async_await(start(Config, no_such_function, [])),
    {error, {'TypeError', _}} = py:async_await(start(Config, add, [1])).

big_values_come_back(Config) ->
    Big = [integer_to_binary(N) || N <- lists:seq(1, 5000)],
    {ok, Big} = py:async_await(start(Config, nap, [0, Big])).

%%% Bound

a_loop_lasts_as_long_as_its_lease(_Config) ->
    ok = py:bind(),
    Loop = <<"(lambda ns: (exec('''
import asyncio
async def which(): return id(asyncio.get_running_loop())
''', ns), ns['which'])[1])({})()">>,
    {ok, Id} = py:eval(Loop),
    {ok, Id} = py:eval(Loop),
    ok = py:unbind().

an_object_of_a_loop_stays_valid(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"
import asyncio
async def make():
    global queue
    queue = asyncio.Queue()
    await queue.put(1)
async def take():
    return await asyncio.wait_for(queue.get(), 5)
async def put(x):
    await queue.put(x)
">>),
    {ok, none} = py:eval(<<"make()">>),
    {ok, 1} = py:eval(<<"take()">>),
    Taken = py:async_call('__main__', take, []),
    {ok, none} = py:eval(<<"put(2)">>),
    {ok, 2} = py:async_await(Taken).

other_calls_run_meanwhile(_Config) ->
    ok = py:bind(),
    Nap = py:async_call(?MODULE_NAME, nap, [1, slept]),
    [{ok, N} = py:eval(<<"n">>, #{n => N}) || N <- lists:seq(1, 200)],
    {ok, <<"slept">>} = py:async_await(Nap).

tasks_of_the_code_go_on(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"
import asyncio
ticks = 0
async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.001)
async def begin():
    global task
    task = asyncio.ensure_future(tick())
">>),
    {ok, none} = py:eval(<<"begin()">>),
    {ok, none} = py:async_await(py:async_call(?MODULE_NAME, nap, [0.1])),
    {ok, true} = py:eval(<<"ticks > 5">>).

%%% Unbound

the_common_context_is_given_back(_Config) ->
    {ok, 3} = py:async_await(py:async_call(?MODULE_NAME, add, [1, 2])),
    #{checked_out := 1} = py_pool:get_stats(),
    ok = py_test:wait_available(?WORKERS),
    {ok, 3} = py:async_await(py:async_call(?MODULE_NAME, add, [1, 2])).

no_worker_is_an_error(_Config) ->
    ok = py_test:wait_available(?WORKERS),
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, ?WORKERS)],
    {error, no_workers_available} = py:async_await(py:async_call(?MODULE_NAME, add, [1, 2])),
    {error, no_workers_available} = py:await(py:call_async(math, sqrt, [4])),
    [ok = py:unbind(Ctx) || Ctx <- Contexts].

%%% Calls under way

calls_are_awaited_later(_Config) ->
    Calls = [py:call_async(math, factorial, [N]) || N <- [3, 4, 5]],
    [{ok, 6}, {ok, 24}, {ok, 120}] = [py:await(Call) || Call <- Calls],
    {ok, 0} = py:await(py:call_async(builtins, int, [<<"0">>], #{base => 2}), 5000),
    {error, {'ValueError', _}} = py:await(py:call_async(math, sqrt, [-1])).

calls_of_a_binding_keep_their_order(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"seen = []">>),
    Calls = [py:call_async('__main__', 'seen.append', [N]) || N <- lists:seq(1, 50)],
    [{ok, none} = py:await(Call) || Call <- Calls],
    Expected = lists:seq(1, 50),
    {ok, Expected} = py:eval(<<"seen">>),
    {ok, Ctx} = py:bind(new),
    {ok, 2.0} = py:await(py:ctx_call_async(Ctx, math, sqrt, [4])),
    {ok, 2.0} = py:await(py:ctx_call_async(Ctx, math, sqrt, [4], #{})),
    ok = py:unbind(Ctx),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_call_async(Ctx, math, sqrt, [4]) end),
    ok.

awaited_twice_is_badarg(_Config) ->
    Call = py:call_async(math, sqrt, [4]),
    {ok, 2.0} = py:await(Call),
    {raised, badarg} = py_test:caught(fun() -> py:await(Call, 10) end),
    %% An await without an end does not wait, either.
    {raised, badarg} = py_test:caught(fun() -> py:await(Call, infinity) end),
    {raised, badarg} = py_test:caught(fun() -> py:async_gather([Call], infinity) end),
    {raised, badarg} = py_test:caught(fun() -> py:async_gather([{math, sqrt, [9]}, Call], infinity) end),
    py_test:assert_empty_mailbox().

a_timeout_stops_the_call(_Config) ->
    Call = py:call_async(?MODULE_NAME, loop_forever, []),
    {error, timeout} = py:await(Call, 50),
    ok = py_test:wait_available(?WORKERS).

a_forgotten_call_is_cancelled(_Config) ->
    forget_call(),
    true = erlang:garbage_collect(),
    ok = py_test:wait_available(?WORKERS).

forget_call() ->
    _ = py:call_async(?MODULE_NAME, loop_forever, []),
    ok = py_test:wait_pending(1).

what_is_no_call_is_badarg(_Config) ->
    Call = py:call_async(math, sqrt, [4]),
    Bad = [fun() -> py:await(x) end, fun() -> py:async_await(make_ref(), 10) end,
           fun() -> py:await(Call, -1) end,
           fun() -> py:call_async(math, sqrt, 4) end, fun() -> py:async_gather([x]) end,
           fun() -> py:async_gather([], soon) end,
           fun() -> py:ctx_async_call(x, math, sqrt, [4]) end],
    [{raised, badarg} = py_test:caught(Wrong) || Wrong <- Bad],
    {ok, 2.0} = py:await(Call).

%% The results of the calls before it would be sent to a caller that does not expect them.
a_gather_that_cannot_start_leaves_nothing(_Config) ->
    ok = py:bind(),
    Gather = fun(Rest) -> py:async_gather([{math, sqrt, [4]}, {math, sqrt, [9]} | Rest]) end,
    [{raised, badarg} = py_test:caught(fun() -> Gather(Rest) end)
     || Rest <- [[{math, sqrt, no_list}], [x], x]],
    {ok, 2.0} = py:call(math, sqrt, [4]),
    ok = py_test:assert_empty_mailbox().

%% An exception of one call must not leave the others under way.
a_gather_in_a_context_that_ends_leaves_nothing(_Config) ->
    ok = forget_notes(),
    {ok, Ctx} = py:bind(new),
    %% The worker of the context is busy, so the other calls have not begun.
    Calls = [py:ctx_call_async(Ctx, ?MODULE_NAME, loop_forever, [])
             | [py:ctx_async_call(Ctx, ?MODULE_NAME, nap, [30]) || _ <- lists:seq(1, 5)]],
    ok = py_test:wait_pending(6),
    ok = py:unbind(Ctx),
    %% The first reply decides: that of the call that ran, or of one that waited.
    case py_test:caught(fun() -> py:async_gather(Calls) end) of
        {error, interrupted} -> ok;
        {raised, context_not_bound} -> ok
    end,
    ok = py_test:wait_available(?WORKERS),
    ok = py_test:assert_empty_mailbox().

%%% Erlang

acall_does_not_block_the_loop(_Config) ->
    ok = py:bind(),
    Self = self(),
    ok = py:register_function(wait, fun([N]) -> Self ! {waits, N, self()}, receive go -> N end end),
    ok = py:exec(<<"
import asyncio, erlang
async def both():
    return await asyncio.gather(erlang.acall('wait', 1), erlang.acall('wait', 2))
">>),
    Both = py:async_call('__main__', both, []),
    Pids = [receive {waits, N, Pid} -> Pid after 5000 -> error(blocked) end || N <- [1, 2]],
    [Pid ! go || Pid <- Pids],
    {ok, [1, 2]} = py:async_await(Both).

acall_raises_what_fails(_Config) ->
    ok = py:bind(),
    ok = py:register_function(fail, fun([]) -> error(on_purpose) end),
    ok = py:exec(<<"
import erlang
async def caught():
    try:
        await erlang.acall('fail')
    except erlang.ErlangError as e:
        return e.reason
async def uncaught():
    await erlang.acall('fail')
async def unknown():
    await erlang.acall('nobody')
">>),
    {ok, <<"on_purpose">>} = py:eval(<<"caught()">>),
    {error, {'Exception', #{erlang := {error, on_purpose, _}}}} =
        py:async_await(py:async_call('__main__', uncaught, [])),
    {error, {'LookupError', #{class := <<"erlang.NotRegistered">>}}} = py:eval(<<"unknown()">>).

acall_is_cancelled(_Config) ->
    ok = py:bind(),
    Self = self(),
    ok = py:register_function(hang, fun([]) -> Self ! {runs, self()}, receive never -> ok end end),
    ok = py:exec(<<"
import erlang
async def hang(): await erlang.acall('hang')
">>),
    Call = py:async_call('__main__', hang, []),
    %% The first coroutine of a worker loads asyncio, which may take longer than the timeout.
    Pid = receive {runs, P} -> P after 30000 -> error(never_ran) end,
    {error, timeout} = py:async_await(Call, 100),
    Monitor = monitor(process, Pid),
    receive {'DOWN', Monitor, process, Pid, _} -> ok after 5000 -> error(still_runs) end,
    {ok, 1} = py:eval(<<"1">>).

acall_lands_in_the_same_context(_Config) ->
    ok = py:bind(),
    ok = py:register_function(within, fun([N]) ->
        {ok, V} = py:eval(<<"x + n">>, #{n => N}),
        {ok, 3} = py:call(py_async_helpers, add, [1, 2]),
        V
    end),
    ok = py:exec(<<"
import asyncio, erlang
x = 10
async def all():
    return await asyncio.gather(*(erlang.acall('within', n) for n in range(5)))
">>),
    {ok, [10, 11, 12, 13, 14]} = py:async_await(py:async_call('__main__', all, [])),
    {ok, [10, 11, 12, 13, 14]} = py:eval(<<"all()">>).

a_blocking_call_in_a_coroutine(_Config) ->
    ok = py:bind(),
    ok = py:register_function(within, fun([N]) -> {ok, V} = py:eval(<<"x + n">>, #{n => N}), V end),
    ok = py:exec(<<"
import erlang
x = 10
async def one(n): return erlang.within(n)
">>),
    {ok, [11, 12]} = py:async_gather([{'__main__', one, [1]}, {'__main__', one, [2]}]),
    {ok, 13} = py:eval(<<"one(3)">>).

a_coroutine_within_a_coroutine(_Config) ->
    ok = py:bind(),
    ok = py:register_function(down, fun([0]) ->
        0;
    ([N]) ->
        {ok, V} = py:eval(<<"down(n - 1)">>, #{n => N}),
        V + 1
    end),
    ok = py:exec(<<"
import asyncio, erlang
async def down(n):
    await asyncio.sleep(0)
    return erlang.down(n)
">>),
    {ok, 10} = py:eval(<<"down(10)">>).

an_asynchronous_call_within_a_callback(_Config) ->
    ok = py:bind(),
    ok = py:register_function(within, fun([]) ->
        {ok, [1, 2]} = py:async_gather([{py_async_helpers, nap, [0.01, N]} || N <- [1, 2]]),
        {ok, 2.0} = py:await(py:call_async(math, sqrt, [4])),
        ok
    end),
    ok = py:exec(<<"
import erlang
erlang.within()
async def f(): return await erlang.acall('within')
">>),
    {ok, _} = py:eval(<<"f()">>),
    {ok, _} = py:async_await(py:async_call('__main__', f, [])).

self_is_the_caller_of_the_task(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import asyncio, erlang
async def who():
    await asyncio.sleep(0.01)
    return erlang.self()
">>),
    Ask = fun() -> py:async_await(py:ctx_async_call(Ctx, '__main__', who, [])) end,
    Calls = [py_test:start_call(Ask) || _ <- lists:seq(1, 10)],
    [{Pid, {ok, Pid}} = {Pid, py_test:result(Pid)} || Pid <- Calls],
    ok = py:unbind(Ctx).

acall_in_a_loop_of_a_thread(_Config) ->
    ok = py:bind(),
    ok = py:register_function(double, fun([N]) -> 2 * N end),
    ok = py:exec(<<"
import asyncio, erlang, threading
out = []
async def main():
    out.extend(await asyncio.gather(*(erlang.acall('double', n) for n in range(5))))
t = threading.Thread(target=lambda: asyncio.run(main()))
t.start()
t.join()
">>),
    {ok, [0, 2, 4, 6, 8]} = py:eval(<<"out">>).
