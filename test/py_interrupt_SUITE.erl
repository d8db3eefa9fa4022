%% Does code stop that must stop, and nothing else? And what if it cannot?
-module(py_interrupt_SUITE).
-compile([export_all, nowarn_export_all]).

-define(GRACE, 300).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, stops}, {group, by_request}, {group, abandoned}].

groups() ->
    [{stops, [], [a_timeout_stops_the_code, the_context_keeps_its_state,
                  an_unbound_call_is_stopped_too, code_that_catches_everything_is_stopped,
                  except_exception_does_not_catch_it, a_blocking_system_call_is_broken,
                  big_conversions_are_stopped, the_next_call_is_not_hit,
                  a_queued_call_that_times_out_disturbs_nobody,
                  a_hundred_thousand_short_timeouts, the_death_of_the_caller_stops_the_code,
                  a_context_that_ends_stops_its_code, an_application_that_stops_stops_its_code,
                  a_finalizer_without_end_is_stopped, trace_functions_go_on,
                      threads_that_the_code_starts_are_not_hit]},
     {by_request, [], [a_context_is_interrupted, a_process_is_interrupted,
                       an_interrupted_call_says_so_whatever_it_did,
                       two_interrupts_are_one, nothing_to_interrupt_is_said,
                       what_cannot_be_interrupted_is_badarg,
                       interrupts_race_with_replies]},
     {abandoned, [], [a_stuck_context_is_given_up, a_stuck_unbound_call_is_given_up,
                      a_stuck_binding_is_given_up, an_interrupted_caller_is_told_in_time,
                      callers_that_wait_behind_it_are_told, a_lock_is_given_up,
                      an_endless_swallower_is_given_up,
                      a_stuck_finalizer_costs_no_worker,
                      a_stuck_finalizer_of_an_object_costs_no_other,
                      beyond_the_cap_the_pool_shrinks_and_recovers,
                      with_no_worker_left_calls_are_refused,
                      the_thread_touches_nothing_when_it_returns]}].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(_Group, Config) ->
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]),
    Config.

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(4),
    ok = py:exec(<<"import sys; vars(sys).pop('py_interrupt_mark', None)">>),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:unbind(),
    ok = py_test:wait_available(4),
    py_test:assert_empty_mailbox().

%% A call in a process of its own; its result comes as {Pid, Result}.
start_call(Fun) ->
    Self = self(),
    spawn_link(fun() -> Self ! {self(), Fun()} end).

result(Caller) ->
    receive {Caller, Result} -> Result after 30000 -> error(no_result) end.

%% Waits until the code in a context has come so far that it has set this variable of `sys'.
wait_for_mark(Mark) ->
    Look = <<"m in vars(__import__('sys'))">>,
    ok = py_test:wait_until(fun() -> {ok, true} =:= py:eval(Look, #{m => Mark}) end),
    ok = py:exec(<<"import sys; vars(sys).pop(m)">>, #{m => Mark}).

-define(MARK, "__import__('sys').py_interrupt_mark = 1\n").
-define(LOOP, <<?MARK "while True: pass">>).
-define(STUCK(Seconds), <<?MARK "__import__('time').sleep(" Seconds ")">>).

wait_for_mark() ->
    wait_for_mark(<<"py_interrupt_mark">>).

abandoned() ->
    maps:get(abandoned, py_pool:get_stats()).

wait_for_abandoned(Count) ->
    py_test:wait_until(fun() -> abandoned() =:= Count orelse abandoned() end).

%%% Stops

a_timeout_stops_the_code(_Config) ->
    {ok, Ctx} = py:bind(new),
    [begin
         {error, timeout} = py:ctx_exec(Ctx, Code, #{}, 20),
         {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>)
     end || Code <- [<<"while True: pass">>,
                     <<"def f(n): return f(n - 1) + f(n - 2) if n > 1 else 1\nf(90)">>,
                     <<"import itertools\nsum(1 for _ in itertools.count())">>,
                     <<"import time\nwhile True: time.sleep(0.001)">>,
                     <<"[x for x in iter(int, 1)]">>,
                     <<"import queue\nq = queue.Queue()\n"
                       "while True:\n  q.put(1)\n  q.get()">>]],
    ok = py:unbind(Ctx).

the_context_keeps_its_state(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    {error, timeout} = py:exec(<<"y = 2\nwhile True: y += 1">>, #{}, 20),
    {ok, true} = py:eval(<<"x == 1 and y > 2">>),
    true = py:is_bound().

an_unbound_call_is_stopped_too(_Config) ->
    [{error, timeout} = py:exec(<<"while True: pass">>, #{}, 10) || _ <- lists:seq(1, 12)],
    ok = py_test:wait_until(fun() -> {ok, 1} =:= py:eval(<<"1">>) end),
    0 = abandoned().

code_that_catches_everything_is_stopped(_Config) ->
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, <<"
caught = 0
while caught < 5:
    try:
        x = 0
        while True: x = 1
    except BaseException:
        caught += 1
while True: pass
">>, #{}, 20),
    {ok, true} = py:ctx_eval(Ctx, <<"0 <= caught <= 5">>),
    ok = py:unbind(Ctx).

except_exception_does_not_catch_it(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"caught = []">>),
    {error, timeout} = py:ctx_exec(Ctx, <<"
try:
    x = 0
    while True: x = 1
except Exception as e:
    caught.append(e)
">>, #{}, 20),
    {ok, []} = py:ctx_eval(Ctx, <<"caught">>),
    {error, timeout} = py:ctx_exec(Ctx, <<"
import erlang
try:
    x = 0
    while True: x = 1
except erlang.Interrupted as e:
    caught.append(isinstance(e, Exception))
    raise
">>, #{}, 20),
    {ok, [false]} = py:ctx_eval(Ctx, <<"caught">>),
    ok = py:unbind(Ctx).

a_blocking_system_call_is_broken(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"import ctypes; libc = ctypes.CDLL(None)">>),
    {error, timeout} = py:ctx_eval(Ctx, <<"libc.pause()">>, #{}, 20),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    0 = abandoned(),
    ok = py:unbind(Ctx).

%% No Python code runs meanwhile that an exception could stop.
big_conversions_are_stopped(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"big = [0] * 1000\nfor _ in range(2): big = [big] * 100">>),
    Big = lists:duplicate(5000000, 0),
    [begin
         {error, timeout} = py:ctx_eval(Ctx, <<"big">>, #{}, 20),
         {error, timeout} = py:ctx_eval(Ctx, <<"len(x)">>, #{x => Big}, 0),
         {ok, 1} = py:ctx_eval(Ctx, <<"1">>)
     end || _ <- lists:seq(1, 3)],
    0 = abandoned(),
    ok = py:unbind(Ctx).

%% An exception that comes too late for its call must not meet another one.
the_next_call_is_not_hit(_Config) ->
    {ok, Ctx} = py:bind(new),
    Spin = <<"for _ in range(n): pass">>,
    [begin
         case py:ctx_exec(Ctx, Spin, #{n => rand:uniform(60000)}, 1) of
             ok -> ok;
             {error, timeout} -> ok
         end,
         {ok, 6} = py:ctx_eval(Ctx, <<"sum([1, 2, 3])">>),
         ok = py:ctx_exec(Ctx, <<"for _ in range(10): pass">>)
     end || _ <- lists:seq(1, 500)],
    ok = py:unbind(Ctx).

a_queued_call_that_times_out_disturbs_nobody(_Config) ->
    {ok, Ctx} = py:bind(new),
    First = start_call(fun() ->
        py:ctx_exec(Ctx, <<?MARK "import sys\nwhile not hasattr(sys, '_py_interrupt_go'): pass">>)
    end),
    wait_for_mark(),
    [{error, timeout} = py:ctx_exec(Ctx, <<"ran = 1">>, #{}, N rem 3) || N <- lists:seq(1, 50)],
    ok = py:exec(<<"import sys; sys._py_interrupt_go = 1">>),
    ok = result(First),
    ok = py:exec(<<"import sys; del sys._py_interrupt_go">>),
    {ok, false} = py:ctx_eval(Ctx, <<"'ran' in globals()">>),
    ok = py:unbind(Ctx).

a_hundred_thousand_short_timeouts(_Config) ->
    ok = py:bind(),
    Loop = fun Loop(0) -> ok;
               Loop(N) ->
                   case py:eval(<<"1">>, #{}, N rem 2) of
                       {ok, 1} -> Loop(N - 1);
                       {error, timeout} -> Loop(N - 1)
                   end
           end,
    ok = Loop(100000),
    {ok, 2} = py:eval(<<"1 + 1">>),
    0 = abandoned().

the_death_of_the_caller_stops_the_code(_Config) ->
    {ok, Ctx} = py:bind(new),
    Callers = [spawn(fun() -> py:exec(?LOOP) end),
               spawn(fun() -> ok = py:bind(), py:exec(?LOOP) end),
               spawn(fun() -> py:ctx_exec(Ctx, ?LOOP) end)],
    ok = py_test:wait_pending(3),
    [exit(Caller, kill) || Caller <- Callers],
    %% The context of another process lives on.
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py_test:wait_available(3),
    ok = py:unbind(Ctx).

a_context_that_ends_stops_its_code(_Config) ->
    {ok, Ctx} = py:bind(new),
    Caller = start_call(fun() -> py:ctx_exec(Ctx, ?LOOP, #{}, infinity) end),
    wait_for_mark(),
    ok = py:unbind(Ctx),
    {error, interrupted} = result(Caller).

an_application_that_stops_stops_its_code(_Config) ->
    {ok, Ctx} = py:bind(new),
    Callers = [start_call(fun() -> py:ctx_exec(Ctx, ?LOOP, #{}, infinity) end),
               start_call(fun() -> py:exec(?LOOP, #{}, infinity) end)],
    ok = py_test:wait_pending(2),
    ok = py_test:wait_until(fun() ->
        %% Both are past the mark, so both run.
        {ok, true} =:= py:eval(<<"hasattr(__import__('sys'), 'py_interrupt_mark')">>)
    end),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]),
    [case result(Caller) of
         {error, interrupted} -> ok;
         %% It had not been taken yet.
         {error, no_workers_available} -> ok
     end || Caller <- Callers],
    ok.

a_finalizer_without_end_is_stopped(_Config) ->
    ok = py:with_context(fun() ->
        py:exec(<<"
class Endless:
    def __del__(self):
        while True: pass
endless = Endless()
">>)
    end),
    %% Its worker counts as free already; this takes all four.
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, 4)],
    [{ok, 1} = py:ctx_eval(Ctx, <<"1">>) || Ctx <- Contexts],
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    0 = abandoned().

%% A pending exception is a flag of the whole interpreter up to 3.12, and in 3.11 no thread with a
%% trace function gets past it.
trace_functions_go_on(_Config) ->
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, 50}]),
    {error, timeout} = py:exec(?STUCK("3"), #{}, 20),
    wait_for_mark(),
    ok = wait_for_abandoned(1),
    ok = py:bind(),
    ok = py:exec(<<"import sys; sys.settrace(lambda *_: None)">>),
    [{ok, 1} = py:eval(<<"(lambda: 1)()">>, #{}, 5000) || _ <- lists:seq(1, 100)],
    ok = py:unbind(),
    ok = wait_for_abandoned(0),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]).

%% Up to 3.11 the state of a new thread bears the identity of the one that starts it for a moment,
%% and `PyThreadState_SetAsyncExc' finds the new one first: it died before it had begun, and the
%% code that had started it waited for that for ever.
threads_that_the_code_starts_are_not_hit(_Config) ->
    ok = py:exec(<<"
import sys, threading
sys._py_interrupt_lost = []
sys._py_interrupt_hook = sys.unraisablehook
def hook(event):
    if 'thread started' in str(event.err_msg):
        sys._py_interrupt_lost.append(repr(event))
sys.unraisablehook = hook
">>),
    Start = <<"import threading\nwhile True: threading.Thread(target=int).start()">>,
    [{error, timeout} = py:exec(Start, #{}, rand:uniform(8)) || _ <- lists:seq(1, 400)],
    {ok, Lost} = py:eval(<<"__import__('sys')._py_interrupt_lost">>),
    ok = py:exec(<<"
import sys
sys.unraisablehook = sys._py_interrupt_hook
del sys._py_interrupt_hook, sys._py_interrupt_lost
">>),
    [] = Lost,
    0 = abandoned().

%%% By request

a_context_is_interrupted(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 1">>),
    Caller = start_call(fun() -> py:ctx_exec(Ctx, ?LOOP, #{}, infinity) end),
    wait_for_mark(),
    ok = py:interrupt(Ctx),
    {error, interrupted} = result(Caller),
    {ok, 1} = py:ctx_eval(Ctx, <<"x">>),
    ok = py:unbind(Ctx).

a_process_is_interrupted(_Config) ->
    {ok, Ctx} = py:bind(new),
    [begin
         Caller = start_call(Call),
         wait_for_mark(),
         ok = py:interrupt(Caller),
         {error, interrupted} = result(Caller)
     end || Call <- [fun() -> py:exec(?LOOP, #{}, infinity) end,
                     fun() -> ok = py:bind(), py:exec(?LOOP, #{}, infinity) end,
                     fun() -> py:ctx_exec(Ctx, ?LOOP, #{}, infinity) end]],
    ok = py:unbind(Ctx).

an_interrupted_call_says_so_whatever_it_did(_Config) ->
    {ok, Ctx} = py:bind(new),
    Caller = start_call(fun() ->
        py:ctx_exec(Ctx, <<"saved = False\ntry:\n  ", ?MARK,
                           "  while True: x = 1\nexcept BaseException:\n  saved = True\n">>,
                    #{}, infinity)
    end),
    wait_for_mark(),
    ok = py:interrupt(Ctx),
    {error, interrupted} = result(Caller),
    {ok, true} = py:ctx_eval(Ctx, <<"saved">>),
    ok = py:unbind(Ctx).

two_interrupts_are_one(_Config) ->
    {ok, Ctx} = py:bind(new),
    Caller = start_call(fun() -> py:ctx_exec(Ctx, ?STUCK("0.2"), #{}, infinity) end),
    wait_for_mark(),
    ok = py:interrupt(Ctx),
    ok = py:interrupt(Caller),
    {error, interrupted} = result(Caller),
    {error, not_running} = py:interrupt(Ctx),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx).

nothing_to_interrupt_is_said(_Config) ->
    {error, not_running} = py:interrupt(self()),
    ok = py:bind(),
    {error, not_running} = py:interrupt(self()),
    {ok, 1} = py:eval(<<"1">>),
    ok = py:unbind(),
    {ok, Ctx} = py:bind(new),
    {error, not_running} = py:interrupt(Ctx),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx),
    {error, not_running} = py:interrupt(Ctx),
    {Dead, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Dead, normal} -> ok end,
    {error, not_running} = py:interrupt(Dead).

what_cannot_be_interrupted_is_badarg(_Config) ->
    [{'EXIT', {badarg, _}} = (catch py:interrupt(Term))
     || Term <- [make_ref(), 1, <<>>, none, [], {}, hd(erlang:ports())]],
    ok.

interrupts_race_with_replies(_Config) ->
    {ok, Ctx} = py:bind(new),
    Self = self(),
    Count = 300,
    Caller = spawn_link(fun() ->
        Results = [py:ctx_exec(Ctx, <<"for _ in range(n): pass">>, #{n => rand:uniform(20000)})
                   || _ <- lists:seq(1, Count)],
        py_test:assert_empty_mailbox(),
        Self ! {self(), Results}
    end),
    Interrupt = fun Interrupt(Told) ->
        case is_process_alive(Caller) andalso py:interrupt(Ctx) of
            false -> Told;
            ok -> Interrupt(Told + 1);
            {error, not_running} -> Interrupt(Told)
        end
    end,
    Told = Interrupt(0),
    Results = result(Caller),
    Interrupted = length([R || {error, interrupted} = R <- Results]),
    Count = Interrupted + length([R || ok = R <- Results]),
    true = Told >= Interrupted,
    ok = py:unbind(Ctx).

%%% Abandoned

a_stuck_context_is_given_up(_Config) ->
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, ?STUCK("2"), #{}, 20),
    ok = wait_for_abandoned(1),
    {'EXIT', {context_not_bound, _}} = (catch py:ctx_eval(Ctx, <<"1">>)),
    ok = py_test:wait_available(4),
    %% Four new contexts, one of them on the new worker.
    Contexts = [begin {ok, New} = py:bind(new), New end || _ <- lists:seq(1, 4)],
    [{ok, 1} = py:ctx_eval(New, <<"1">>) || New <- Contexts],
    [ok = py:unbind(New) || New <- Contexts],
    ok = py:unbind(Ctx),
    ok = wait_for_abandoned(0).

a_stuck_unbound_call_is_given_up(_Config) ->
    [{error, timeout} = py:exec(?STUCK("2"), #{}, 20) || _ <- lists:seq(1, 4)],
    ok = wait_for_abandoned(4),
    #{num_workers := 4} = py_pool:get_stats(),
    {ok, 1} = py:eval(<<"1">>),
    ok = wait_for_abandoned(0).

a_stuck_binding_is_given_up(_Config) ->
    ok = py:bind(),
    {error, timeout} = py:exec(?STUCK("2"), #{}, 20),
    true = py:is_bound(),
    ok = wait_for_abandoned(1),
    ok = py_test:wait_until(fun() -> not py:is_bound() end),
    ok = py_test:wait_until(fun() -> ets:tab2list(py_bindings) =:= [] end),
    ok = py:bind(),
    {ok, 1} = py:eval(<<"1">>),
    ok = wait_for_abandoned(0).

an_interrupted_caller_is_told_in_time(_Config) ->
    {ok, Ctx} = py:bind(new),
    Callers = [start_call(fun() -> py:ctx_exec(Ctx, ?STUCK("3"), #{}, infinity) end),
               start_call(fun() -> py:exec(?STUCK("3"), #{}, infinity) end)],
    ok = py_test:wait_pending(2),
    [ok = py_test:wait_until(fun() -> ok =:= py:interrupt(Caller) end) || Caller <- Callers],
    [{error, interrupted} = result(Caller) || Caller <- Callers],
    %% Nobody waited for the code.
    2 = abandoned(),
    ok = wait_for_abandoned(0).

callers_that_wait_behind_it_are_told(_Config) ->
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, ?STUCK("2"), #{}, 20),
    Waiting = [start_call(fun() -> catch py:ctx_eval(Ctx, <<"1">>) end) || _ <- lists:seq(1, 5)],
    [{'EXIT', {context_not_bound, _}} = result(Caller) || Caller <- Waiting],
    ok = wait_for_abandoned(0).

a_lock_is_given_up(_Config) ->
    ok = py:exec(<<"import sys, threading; sys._py_interrupt_lock = threading.Lock()">>),
    {error, timeout} =
        py:exec(<<"import sys\nlock = sys._py_interrupt_lock\nlock.acquire()\nlock.acquire()">>,
                #{}, 20),
    ok = wait_for_abandoned(1),
    ok = py:exec(<<"import sys; sys._py_interrupt_lock.release()">>),
    ok = wait_for_abandoned(0).

an_endless_swallower_is_given_up(_Config) ->
    ok = py:exec(<<"import sys; sys._py_interrupt_stop = False">>),
    {error, timeout} = py:exec(<<?MARK "
import sys
while not sys._py_interrupt_stop:
    try:
        x = 0
        while not sys._py_interrupt_stop: x = 1
    except BaseException:
        pass
">>, #{}, 20),
    wait_for_mark(),
    %% An exception that meets it outside its `try' may end it before.
    ok = py_test:wait_available(4),
    {ok, 1} = py:eval(<<"1">>),
    ok = py:exec(<<"import sys; sys._py_interrupt_stop = True">>),
    ok = py_test:wait_until(fun() ->
        maps:get(jobs, maps:get(resources, py_pool:get_stats())) =:= 0
    end),
    0 = abandoned().

a_stuck_finalizer_costs_no_worker(_Config) ->
    ok = py:with_context(fun() ->
        py:exec(<<"
class Stuck:
    def __del__(self):
        __import__('time').sleep(3)
stuck = Stuck()
">>)
    end),
    ok = wait_for_abandoned(1),
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, 4)],
    [{ok, 1} = py:ctx_eval(Ctx, <<"1">>) || Ctx <- Contexts],
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    ok = wait_for_abandoned(0).

%% They are released on a thread of their own, which is replaced as well.
a_stuck_finalizer_of_an_object_costs_no_other(_Config) ->
    ok = py:exec(<<"
import sys, time
class Stuck:
    def __del__(self):
        time.sleep(3)
class Quick:
    def __del__(self):
        sys.py_interrupt_mark = 1
sys._py_interrupt_classes = (Stuck, Quick)
">>),
    Make = fun(N) ->
        {ok, _} = py:eval(<<"__import__('sys')._py_interrupt_classes[n]()">>, #{n => N})
    end,
    py_test:in_process(fun() -> Make(0), ok end),
    ok = wait_for_abandoned(1),
    py_test:in_process(fun() -> Make(1), ok end),
    wait_for_mark(),
    ok = py:exec(<<"import sys; del sys._py_interrupt_classes">>),
    ok = wait_for_abandoned(0).

beyond_the_cap_the_pool_shrinks_and_recovers(_Config) ->
    Env = [{num_workers, 3}, {interrupt_grace, 100}, {max_abandoned, 1}],
    ok = py_test:start_with(Env),
    {error, timeout} = py:exec(?STUCK("2"), #{}, 20),
    ok = wait_for_abandoned(1),
    #{num_workers := 3} = py_pool:get_stats(),
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, ?STUCK("3"), #{}, 20),
    ok = wait_for_abandoned(2),
    ok = py_test:wait_until(fun() ->
        #{num_workers := Workers, available_workers := Free} = py_pool:get_stats(),
        {Workers, Free} =:= {2, 2} orelse {Workers, Free}
    end),
    {ok, 1} = py:eval(<<"1">>),
    %% One ends: there is room for another worker.
    ok = wait_for_abandoned(1),
    ok = py_test:wait_available(3),
    #{num_workers := 3} = py_pool:get_stats(),
    ok = wait_for_abandoned(0),
    #{num_workers := 3, available_workers := 3} = py_pool:get_stats(),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]).

with_no_worker_left_calls_are_refused(_Config) ->
    ok = py_test:start_with([{num_workers, 1}, {interrupt_grace, 50}, {max_abandoned, 0}]),
    {error, timeout} = py:exec(?STUCK("1"), #{}, 20),
    Queued = start_call(fun() -> py:eval(<<"1">>, #{}, infinity) end),
    {error, no_workers_available} = result(Queued),
    #{num_workers := 0, available_workers := 0} = py_pool:get_stats(),
    {error, no_workers_available} = py:eval(<<"1">>),
    {error, no_workers_available} = py:bind(),
    {error, no_workers_available} = py:bind(new),
    Waiter = start_call(fun() -> py:bind(#{wait => infinity}) end),
    ok = result(Waiter),
    ok = py_test:wait_available(1),
    {ok, 1} = py:eval(<<"1">>),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]).

the_thread_touches_nothing_when_it_returns(_Config) ->
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, <<?MARK, "import time\nfor _ in range(3):\n  try:\n"
                                           "    time.sleep(0.5)\n  except BaseException: pass">>,
                                   #{}, 20),
    wait_for_mark(),
    ok = wait_for_abandoned(1),
    All = [begin {ok, New} = py:bind(new), New end || _ <- lists:seq(1, 4)],
    ok = wait_for_abandoned(0),
    #{available_workers := 0, checked_out := 4, num_workers := 4} = py_pool:get_stats(),
    [{ok, 1} = py:ctx_eval(New, <<"1">>) || New <- All],
    [ok = py:unbind(New) || New <- All],
    ok = py_test:wait_available(4).
