%% Does a timeout release its caller, and leave nothing behind?
-module(py_timeout_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_timeout_releases_the_caller,
     no_message_comes_after_a_timeout,
     a_queued_job_that_timed_out_never_runs,
     a_queued_job_whose_caller_died_never_runs,
     a_context_goes_on_after_a_timeout,
     timeouts_of_zero_and_one_leave_nothing,
     replies_and_timeouts_race_without_a_loss,
     infinity_waits,
     the_default_timeout_is_configured, a_default_that_is_none_leaves_nothing,
     pending_requests_count_every_job,
     a_sleeping_worker_delays_nobody].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 4}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(4),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:unbind(),
    ok = py_test:wait_available(4),
    py_test:assert_empty_mailbox().

a_timeout_releases_the_caller(_Config) ->
    {Ctx, Gate, Blocker} = py_test:blocked_context(),
    {error, timeout} = py:ctx_eval(Ctx, <<"1">>, #{}, 10),
    {error, timeout} = py:ctx_exec(Ctx, <<"1">>, #{}, 10),
    {error, timeout} = py:ctx_call(Ctx, math, sqrt, [1], #{}, 10),
    ok = py_test:open_gate(Gate, Blocker),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx).

no_message_comes_after_a_timeout(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"import threading; gate = threading.Event()">>),
    {ok, Gate} = py:ctx_eval(Ctx, <<"gate">>),
    {error, timeout} = py:ctx_eval(Ctx, <<"gate.wait(30)">>, #{}, 10),
    {ok, none} = py:eval(<<"gate.set()">>, #{gate => Gate}),
    %% The call runs after the other one has ended.
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    py_test:assert_empty_mailbox(),
    ok = py:unbind(Ctx).

a_queued_job_that_timed_out_never_runs(_Config) ->
    {Ctx, Gate, Blocker} = py_test:blocked_context(),
    {error, timeout} = py:ctx_exec(Ctx, <<"ran.append('late')">>, #{}, 10),
    ok = py_test:open_gate(Gate, Blocker),
    {ok, []} = py:ctx_eval(Ctx, <<"ran">>),
    ok = py:unbind(Ctx).

a_queued_job_whose_caller_died_never_runs(_Config) ->
    {Ctx, Gate, Blocker} = py_test:blocked_context(),
    Caller = spawn(fun() -> py:ctx_exec(Ctx, <<"ran.append('dead')">>) end),
    ok = py_test:wait_pending(2),
    exit(Caller, kill),
    ok = py_test:wait_pending(1),
    ok = py_test:open_gate(Gate, Blocker),
    {ok, []} = py:ctx_eval(Ctx, <<"ran">>),
    ok = py:unbind(Ctx).

a_context_goes_on_after_a_timeout(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"import time; x = 1">>),
    {error, timeout} = py:eval(<<"time.sleep(0.05)">>, #{}, 1),
    true = py:is_bound(),
    {ok, 1} = py:eval(<<"x">>).

timeouts_of_zero_and_one_leave_nothing(_Config) ->
    ok = py:bind(),
    Results = [py:eval(<<"1">>, #{}, N rem 2) || N <- lists:seq(1, 5000)],
    [] = [R || R <- Results, R =/= {ok, 1}, R =/= {error, timeout}],
    {ok, 2} = py:eval(<<"1 + 1">>).

%% Makes the reply and the end of the timeout fall together as often as possible.
replies_and_timeouts_race_without_a_loss(_Config) ->
    Race = fun() ->
        [begin
             Timeout = rand:uniform(4) - 1,
             Sleep = rand:uniform(30) / 10_000,
             case py:eval(<<"__import__('time').sleep(s) or s">>, #{s => Sleep}, Timeout) of
                 {ok, Sleep} -> ok;
                 {error, timeout} -> ok
             end
         end || _ <- lists:seq(1, 200)],
        py_test:assert_empty_mailbox()
    end,
    Monitors = [element(2, spawn_monitor(Race)) || _ <- lists:seq(1, 8)],
    [receive {'DOWN', Monitor, process, _, Reason} -> normal = Reason end
     || Monitor <- Monitors].

infinity_waits(_Config) ->
    {ok, none} = py:eval(<<"__import__('time').sleep(0.02)">>, #{}, infinity).

%% The default is looked up when the call is under way.
a_default_that_is_none_leaves_nothing(_Config) ->
    ok = application:set_env(erlang_python, default_timeout, soon),
    [{raised, badarg} = py_test:caught(fun() -> py:eval(<<"1">>) end) || _ <- lists:seq(1, 100)],
    ok = application:set_env(erlang_python, default_timeout, 30000),
    {ok, 1} = py:eval(<<"1">>),
    py_test:assert_empty_mailbox().

the_default_timeout_is_configured(_Config) ->
    ok = application:set_env(erlang_python, default_timeout, 10),
    {error, timeout} = py:eval(<<"__import__('time').sleep(0.1)">>),
    ok = application:set_env(erlang_python, default_timeout, 30000),
    {ok, none} = py:eval(<<"__import__('time').sleep(0.02)">>).

pending_requests_count_every_job(_Config) ->
    {Ctx, Gate, Blocker} = py_test:blocked_context(),
    Self = self(),
    Callers = [spawn_link(fun() -> Self ! {self(), py:ctx_eval(Ctx, <<"1">>)} end)
               || _ <- lists:seq(1, 9)],
    ok = py_test:wait_pending(10),
    ok = py_test:open_gate(Gate, Blocker),
    [receive {Caller, {ok, 1}} -> ok end || Caller <- Callers],
    %% A call whose caller has the reply does not count any more.
    #{pending_requests := 0} = py_pool:get_stats(),
    ok = py:unbind(Ctx).

a_sleeping_worker_delays_nobody(_Config) ->
    {ok, Events} = py:eval(<<"[__import__('threading').Event() for _ in range(3)]">>),
    Self = self(),
    Sleepers = [spawn_link(fun() ->
        Self ! {self(), py:eval(<<"event.wait(30)">>, #{event => Event})}
    end) || Event <- Events],
    ok = py_test:wait_pending(3),
    [{ok, N} = py:eval(<<"n">>, #{n => N}) || N <- lists:seq(1, 100)],
    %% The calls still sleep.
    #{pending_requests := 3} = py_pool:get_stats(),
    [{ok, none} = py:eval(<<"event.set()">>, #{event => Event}) || Event <- Events],
    [receive {Sleeper, {ok, true}} -> ok end || Sleeper <- Sleepers].
