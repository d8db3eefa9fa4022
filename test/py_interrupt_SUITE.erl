%% Does code stop that must stop, and nothing else?
-module(py_interrupt_SUITE).
-compile([export_all, nowarn_export_all]).

-define(GRACE, 2000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, stops}, {group, by_request}].

groups() ->
    [{stops, [], [a_timeout_stops_the_code, the_context_keeps_its_state,
                  an_unbound_call_is_stopped_too, code_that_catches_everything_is_stopped,
                  except_exception_does_not_catch_it, a_blocking_system_call_is_broken,
                  a_loop_that_waits_is_woken,
                  big_conversions_are_stopped, the_next_call_is_not_hit,
                  a_queued_call_that_times_out_disturbs_nobody,
                  a_hundred_thousand_short_timeouts, the_death_of_the_caller_stops_the_code,
                  a_context_that_ends_stops_its_code, an_application_that_stops_stops_its_code,
                  a_system_call_that_python_repeats_is_interrupted,
                  a_finalizer_without_end_is_stopped, trace_functions_go_on,
                  threads_that_the_code_starts_are_not_hit,
                  code_that_cleans_up_may_import]},
     {by_request, [], [a_context_is_interrupted, a_process_is_interrupted,
                       an_interrupted_call_says_so_whatever_it_did,
                       two_interrupts_are_one, nothing_to_interrupt_is_said,
                       what_cannot_be_interrupted_is_badarg,
                       interrupts_race_with_replies]}].

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
    ok = py_test:begin_case(4),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(4).

-define(MARK, "__import__('sys').py_test_mark = 1\n").
-define(LOOP, <<?MARK "while True: pass">>).
-define(STUCK(Seconds), <<?MARK, (py_test:stuck(Seconds))/binary>>).

%%% Stops

a_timeout_stops_the_code(_Config) ->
    {ok, Ctx} = py:bind(new),
    [begin
         {error, timeout} = py:ctx_exec(Ctx, Code, #{}, 200),
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
    {error, timeout} = py:exec(<<"y = 2\nwhile True: y += 1">>, #{}, 200),
    {ok, true} = py:eval(<<"x == 1 and y > 2">>),
    true = py:is_bound().

an_unbound_call_is_stopped_too(_Config) ->
    [{error, timeout} = py:exec(<<"while True: pass">>, #{}, 10) || _ <- lists:seq(1, 12)],
    ok = py_test:wait_until(fun() -> {ok, 1} =:= py:eval(<<"1">>) end),
    0 = py_test:abandoned().

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
">>, #{}, 200),
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
">>, #{}, 200),
    {ok, []} = py:ctx_eval(Ctx, <<"caught">>),
    {error, timeout} = py:ctx_exec(Ctx, <<"
import erlang
try:
    x = 0
    while True: x = 1
except erlang.Interrupted as e:
    caught.append(isinstance(e, Exception))
    raise
">>, #{}, 200),
    {ok, [false]} = py:ctx_eval(Ctx, <<"caught">>),
    ok = py:unbind(Ctx).

a_blocking_system_call_is_broken(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"import ctypes; libc = ctypes.CDLL(None)">>),
    {error, timeout} = py:ctx_eval(Ctx, <<"libc.pause()">>, #{}, 200),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    0 = py_test:abandoned(),
    ok = py:unbind(Ctx).

%% Python repeats these calls after a signal, and raises an exception before that from 3.15 on.
a_system_call_that_python_repeats_is_interrupted(_Config) ->
    case py:eval(<<"__import__('sys').version_info >= (3, 15)">>) of
        {ok, true} -> repeated_calls_are_interrupted();
        {ok, false} -> {skip, "before Python 3.15 such code is abandoned"}
    end.

repeated_calls_are_interrupted() ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import os, select, socket, time
ends, sockets = os.pipe(), socket.socketpair()
">>),
    [begin
         {error, timeout} = py:ctx_eval(Ctx, Code, #{}, 200),
         {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>)
     end || Code <- [<<"time.sleep(3600)">>, <<"os.read(ends[0], 1)">>, <<"sockets[0].recv(1)">>,
                     <<"select.select([sockets[0]], [], [])">>]],
    0 = py_test:abandoned(),
    ok = py:ctx_exec(Ctx, <<"for end in ends: os.close(end)\nfor end in sockets: end.close()">>),
    ok = py:unbind(Ctx).

%% Regression: a loop waits on after a signal, and looked for no exception, so its context was lost.
%% No Python code runs meanwhile in which an exception could be raised.
a_loop_that_waits_is_woken(_Config) ->
    Peer = py_peer:start(#{"ERLANG_PYTHON" => py_peer:interpreter()}),
    {ok, _} = py_peer:start_python(Peer, []),
    ok = py_peer:run(Peer, fun() ->
        Test = self(),
        Caller = spawn_link(fun() ->
            ok = py:bind(),
            %% The very first loop is interrupted, too.
            [Test ! {N, py:exec(<<"
x = 1
import asyncio, erlang
async def main():
    asyncio.get_running_loop().call_later(0.1, erlang.send, test, 'waits')
    try:
        await asyncio.sleep(60)
    finally:
        global x
        x = 2
asyncio.run(main())
">>, #{test => Test}, infinity), py:eval(<<"x">>)} || N <- [1, 2]]
        end),
        [begin
             receive <<"waits">> -> ok after 30000 -> error(does_not_wait) end,
             ok = py:interrupt(Caller),
             receive {N, Result, X} -> {{error, interrupted}, {ok, 2}} = {Result, X}
             after 30000 -> error(not_woken)
             end
         end || N <- [1, 2]],
        #{abandoned := 0} = py_pool:get_stats(),
        ok
    end),
    ok = py_peer:stop(Peer).

big_conversions_are_stopped(_Config) ->
    {ok, Ctx} = py:bind(new),
    %% 32 million terms, which no machine converts within the timeout.
    ok = py:ctx_exec(Ctx, <<"big = [{str(n): str(n) for n in range(100)}] * 160000">>),
    Big = lists:duplicate(5000000, 0),
    [begin
         {error, timeout} = py:ctx_eval(Ctx, <<"big">>, #{}, 100),
         {error, timeout} = py:ctx_eval(Ctx, <<"len(x)">>, #{x => Big}, 0),
         {ok, 1} = py:ctx_eval(Ctx, <<"1">>)
     end || _ <- lists:seq(1, 3)],
    0 = py_test:abandoned(),
    ok = py:unbind(Ctx).

%% An exception that comes too late for its call must not hit another one.
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
    First = py_test:start_call(fun() ->
        py:ctx_exec(Ctx, <<?MARK "import sys\nwhile not hasattr(sys, '_py_interrupt_go'): pass">>)
    end),
    py_test:wait_for_mark(),
    [{error, timeout} = py:ctx_exec(Ctx, <<"ran = 1">>, #{}, N rem 3) || N <- lists:seq(1, 50)],
    ok = py:exec(<<"import sys; sys._py_interrupt_go = 1">>),
    ok = py_test:result(First),
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
    0 = py_test:abandoned().

the_death_of_the_caller_stops_the_code(_Config) ->
    {ok, Ctx} = py:bind(new),
    Callers = [spawn(fun() -> py:exec(?LOOP) end),
               spawn(fun() -> ok = py:bind(), py:exec(?LOOP) end),
               spawn(fun() -> py:ctx_exec(Ctx, ?LOOP) end)],
    ok = py_test:wait_pending(3),
    [exit(Caller, kill) || Caller <- Callers],
    %% The context of another process is not affected.
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py_test:wait_available(3),
    ok = py:unbind(Ctx).

a_context_that_ends_stops_its_code(_Config) ->
    {ok, Ctx} = py:bind(new),
    Caller = py_test:start_call(fun() -> py:ctx_exec(Ctx, ?LOOP, #{}, infinity) end),
    py_test:wait_for_mark(),
    ok = py:unbind(Ctx),
    {error, interrupted} = py_test:result(Caller).

an_application_that_stops_stops_its_code(_Config) ->
    {ok, Ctx} = py:bind(new),
    Callers = [py_test:start_call(fun() -> py:ctx_exec(Ctx, ?LOOP, #{}, infinity) end),
               py_test:start_call(fun() -> py:exec(?LOOP, #{}, infinity) end)],
    ok = py_test:wait_pending(2),
    ok = py_test:wait_until(fun() ->
        %% The two calls are past the mark, so both run.
        {ok, true} =:= py:eval(<<"hasattr(__import__('sys'), 'py_test_mark')">>)
    end),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]),
    [case py_test:result(Caller) of
         {error, interrupted} -> ok;
         %% The job had not been started yet.
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
    %% The worker counts as free already; the following takes all four.
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, 4)],
    [{ok, 1} = py:ctx_eval(Ctx, <<"1">>) || Ctx <- Contexts],
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    0 = py_test:abandoned().

%% COMPAT(3.12): a pending exception is a flag of the whole interpreter. COMPAT(3.11): no thread
%% with a trace function gets past it.
trace_functions_go_on(_Config) ->
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, 50}]),
    {error, timeout} = py:exec(?STUCK(3), #{}, 200),
    py_test:wait_for_mark(),
    ok = py_test:wait_for_abandoned(1),
    ok = py:bind(),
    ok = py:exec(<<"import sys; sys.settrace(lambda *_: None)">>),
    [{ok, 1} = py:eval(<<"(lambda: 1)()">>, #{}, 5000) || _ <- lists:seq(1, 100)],
    ok = py:unbind(),
    ok = py_test:wait_for_abandoned(0),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]).

%% COMPAT(3.11): the state of a new thread bears the identity of the one that starts it for a
%% moment, and `PyThreadState_SetAsyncExc' finds the new one first. Regression: the new thread died
%% before it had begun, and the code that had started it waited for that for ever.
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
    0 = py_test:abandoned().

%% Regression: the exception was raised once more with the first lock of an import.
code_that_cleans_up_may_import(_Config) ->
    %% The next exception is raised after a twentieth of this, which the code may take to clean up.
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, 20000}]),
    {ok, Ctx} = py:bind(new),
    [begin
         Code = ["import sys, threading\n"
                 "cleaned = False\n"
                 "def spin():\n"
                 "    sys.py_test_mark = 1\n"
                 "    while True: pass\n"
                 "try:\n"
                 "    spin()\n"
                 "finally:\n"
                 "    ", Again, "\n"
                 "    cleaned = True\n"],
         Caller = py_test:start_call(fun() -> py:ctx_exec(Ctx, Code, #{}, infinity) end),
         ok = py_test:wait_for_mark(),
         ok = py:interrupt(Ctx),
         {error, interrupted} = py_test:result(Caller),
         {ok, true} = py:ctx_eval(Ctx, <<"cleaned">>)
     end || Again <- ["sys.modules.pop('colorsys', None); import colorsys",
                      "threading.Thread(target=int).start()"]],
    ok = py:unbind(Ctx),
    ok = py_test:start_with([{num_workers, 4}, {interrupt_grace, ?GRACE}]).

%%% By request

a_context_is_interrupted(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 1">>),
    Caller = py_test:start_call(fun() -> py:ctx_exec(Ctx, ?LOOP, #{}, infinity) end),
    py_test:wait_for_mark(),
    ok = py:interrupt(Ctx),
    {error, interrupted} = py_test:result(Caller),
    {ok, 1} = py:ctx_eval(Ctx, <<"x">>),
    ok = py:unbind(Ctx).

a_process_is_interrupted(_Config) ->
    {ok, Ctx} = py:bind(new),
    [begin
         Caller = py_test:start_call(Call),
         py_test:wait_for_mark(),
         ok = py:interrupt(Caller),
         {error, interrupted} = py_test:result(Caller)
     end || Call <- [fun() -> py:exec(?LOOP, #{}, infinity) end,
                     fun() -> ok = py:bind(), py:exec(?LOOP, #{}, infinity) end,
                     fun() -> py:ctx_exec(Ctx, ?LOOP, #{}, infinity) end]],
    ok = py:unbind(Ctx).

an_interrupted_call_says_so_whatever_it_did(_Config) ->
    {ok, Ctx} = py:bind(new),
    Caller = py_test:start_call(fun() ->
        py:ctx_exec(Ctx, <<"saved = False\ntry:\n  ", ?MARK,
                           "  while True: x = 1\nexcept BaseException:\n  saved = True\n">>,
                    #{}, infinity)
    end),
    py_test:wait_for_mark(),
    ok = py:interrupt(Ctx),
    {error, interrupted} = py_test:result(Caller),
    {ok, true} = py:ctx_eval(Ctx, <<"saved">>),
    ok = py:unbind(Ctx).

two_interrupts_are_one(_Config) ->
    {ok, Ctx} = py:bind(new),
    Caller = py_test:start_call(fun() -> py:ctx_exec(Ctx, ?STUCK("0.2"), #{}, infinity) end),
    py_test:wait_for_mark(),
    ok = py:interrupt(Ctx),
    ok = py:interrupt(Caller),
    {error, interrupted} = py_test:result(Caller),
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
    [{raised, badarg} = py_test:caught(fun() -> py:interrupt(Term) end)
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
    Results = py_test:result(Caller),
    Interrupted = length([R || {error, interrupted} = R <- Results]),
    Count = Interrupted + length([R || ok = R <- Results]),
    true = Told >= Interrupted,
    ok = py:unbind(Ctx).
