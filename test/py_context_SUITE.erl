%% Do supervised contexts serve, restart and stop as processes of OTP do? Are calls under way in a server, and the
%% ends of contexts, told by messages?
-module(py_context_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [it_serves_many_callers, names, init_runs_in_order, init_that_fails, init_that_hangs, calls_wait_while_it_prepares, init_without_a_worker,
     it_restarts_with_its_init, it_stops_cleanly, terminate_that_hangs, callers_of_an_ended_context, bad_options,
     a_group_under_a_supervisor, progress_from_python,
     monitors_tell_the_end, monitors_of_ended_contexts, monitors_end, a_monitor_holds_nothing, the_pool_goes,
     responses_in_a_server, responses_of_all_kinds, refused_calls_have_a_message, awaited_calls_have_none,
     responses_of_others].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 4}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(4),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(4).

%%% Supervised contexts

it_serves_many_callers(_Config) ->
    {ok, Server} = py_context:start_link(#{init => [<<"import threading\nn = 0\ndef up(k, *, by=1):\n    global n\n    n += k * by\n    return n">>]}),
    Calls = [py_test:start_call(fun() -> {ok, _} = py_context:call(Server, '__main__', up, [1]) end)
             || _ <- lists:seq(1, 50)],
    [_ = py_test:result(Call) || Call <- Calls],
    {ok, 50} = py_context:eval(Server, <<"n">>),
    {ok, 52} = py_context:call(Server, '__main__', up, [1], #{by => 2}),
    {ok, 53} = py_context:call(Server, '__main__', up, [1], #{}, 5000),
    ok = py_context:exec(Server, <<"n = k">>, #{k => 7}),
    ok = py_context:exec(Server, <<"n += 1">>),
    {ok, 8} = py_context:eval(Server, <<"n * k">>, [{k, 1}], 5000),
    {ok, 9} = py_context:run(Server, <<"n += 1\nn">>),
    {ok, 12} = py_context:run(Server, <<"n + k">>, #{k => 3}, #{timeout => 1000}),
    {error, timeout} = py_context:exec(Server, <<"while True: pass">>, #{}, 50),
    {ok, 9} = py:ctx_eval(py_context:context(Server), <<"n">>),
    ok = gen_server:stop(Server).

names(_Config) ->
    {ok, Pid} = py_context:start_link(#{name => {local, model}}),
    Pid = whereis(model),
    {ok, 2} = py_context:eval(model, <<"1 + 1">>),
    {error, {already_started, Pid}} = py_context:start_link(#{name => {local, model}}),
    ok = gen_server:stop(model),
    {ok, Global} = py_context:start_link(#{name => {global, {model, 1}}}),
    {ok, 2} = py_context:eval({global, {model, 1}}, <<"1 + 1">>),
    ok = gen_server:stop(Global),
    {exited, {noproc, _}} = py_test:caught(fun() -> py_context:eval(model, <<"1">>) end).

init_runs_in_order(_Config) ->
    {ok, Server} = py_context:start_link(#{init => [<<"steps = [1]">>, {'__main__', 'steps.append', [2]},
                                                    {'__main__', 'steps.extend', [[3, 4]], #{}}, "steps.append(5)"]}),
    {ok, [1, 2, 3, 4, 5]} = py_context:eval(Server, <<"steps">>),
    ok = gen_server:stop(Server).

%% Without a link, so that the reason is the result alone.
start_alone(Options) ->
    process_flag(trap_exit, true),
    Result = py_context:start_link(Options),
    receive {'EXIT', _, _} -> ok after 1000 -> ok end,
    process_flag(trap_exit, false),
    Result.

init_that_fails(_Config) ->
    {error, {init_failed, {'ZeroDivisionError', #{traceback := [_]}}}} = start_alone(#{init => [<<"1 / 0">>]}),
    {error, {init_failed, {'ModuleNotFoundError', _}}} = start_alone(#{init => [{no_such_module, f, []}]}),
    {error, {init_failed, {'SyntaxError', _}}} = start_alone(#{init => [<<"x = ">>]}),
    ok = py_test:wait_available(4).

init_that_hangs(_Config) ->
    {error, {init_failed, timeout}} =
        start_alone(#{init => [<<"import time">>, <<"while True: pass">>], init_timeout => 200}),
    ok = py_test:wait_available(4),
    %% Its supervisor sees the reason.
    process_flag(trap_exit, true),
    {error, {shutdown, {failed_to_start_child, hangs, {init_failed, timeout}}}} =
        supervisor:start_link(?MODULE, [(py_context:child_spec(#{init => [<<"while True: pass">>], init_timeout => 100}))#{id := hangs}]),
    receive {'EXIT', _, _} -> ok end,
    process_flag(trap_exit, false),
    ok = py_test:wait_available(4).

calls_wait_while_it_prepares(_Config) ->
    Starter = py_test:start_call(fun() ->
        {ok, Server} = py_context:start_link(#{name => {local, slow}, init => [<<"import time\ntime.sleep(1)">>]}),
        receive stop -> gen_server:stop(Server) end
    end),
    py_test:wait_until(fun() -> is_pid(whereis(slow)) end),
    %% Regression: the timeout did not count then.
    {error, timeout} = py_context:call(slow, math, sqrt, [4], #{}, 50),
    {error, timeout} = py_context:eval(slow, <<"1">>, #{}, #{timeout => 50}),
    {ok, 2.0} = py_context:call(slow, math, sqrt, [4]),
    Starter ! stop,
    ok = py_test:result(Starter).

init_without_a_worker(_Config) ->
    Contexts = [element(2, {ok, _} = py:bind(new)) || _ <- lists:seq(1, 4)],
    {error, no_workers_available} = start_alone(#{wait => 0}),
    [ok = py:unbind(C) || C <- Contexts],
    ok.

init([Child]) -> {ok, {#{intensity => 10, period => 10}, [Child]}};
init(Children) when is_list(Children) -> {ok, {#{intensity => 10, period => 10}, Children}}.

it_restarts_with_its_init(_Config) ->
    {ok, Sup} = supervisor:start_link(?MODULE, [py_context:child_spec(#{name => {local, again}, init => [<<"n = 5">>]})]),
    ok = py_context:exec(again, <<"n = 6">>),
    First = whereis(again),
    %% The context ends in three ways.
    [begin
         Pid = whereis(again),
         Monitor = monitor(process, Pid),
         End(),
         receive {'DOWN', Monitor, process, Pid, {context_ended, _}} -> ok;
                 {'DOWN', Monitor, process, Pid, killed} -> ok
         end,
         py_test:wait_until(fun() -> is_pid(whereis(again)) andalso whereis(again) =/= Pid end),
         {ok, 5} = py_context:eval(again, <<"n">>),
         ok = py_context:exec(again, <<"n = 7">>)
     end || End <- [fun() -> ok = py:unbind(py_context:context(again)) end,
                    fun() -> true = exit(whereis(again), kill) end]],
    true = First =/= whereis(again),
    stop_supervisor(Sup).

stop_supervisor(Sup) ->
    true = unlink(Sup),
    Monitor = monitor(process, Sup),
    true = exit(Sup, shutdown),
    receive {'DOWN', Monitor, process, Sup, _} -> ok end.

it_stops_cleanly(_Config) ->
    Self = self(),
    ok = py:register_function(context_says, fun([Text]) -> Self ! {said, Text}, ok end),
    {ok, Sup} = supervisor:start_link(?MODULE, [py_context:child_spec(#{
        name => {local, clean}, init => [<<"import erlang">>], terminate => [<<"erlang.context_says('bye')">>]})]),
    stop_supervisor(Sup),
    receive {said, <<"bye">>} -> ok after 0 -> ct:fail(nothing_said) end,
    ok = py:unregister_function(context_says),
    ok = py_test:wait_available(4).

terminate_that_hangs(_Config) ->
    {ok, Server} = py_context:start_link(#{terminate => [<<"while True: pass">>], terminate_timeout => 100}),
    ok = gen_server:stop(Server),
    ok = py_test:wait_available(4).

callers_of_an_ended_context(_Config) ->
    process_flag(trap_exit, true),
    {ok, Server} = py_context:start_link(#{}),
    Call = py_test:start_call(fun() ->
        py_test:caught(fun() -> py_context:exec(Server, <<"while True: pass">>) end)
    end),
    py_test:wait_pending(1),
    ok = py:unbind(py_context:context(Server)),
    ended = ended(py_test:result(Call)),
    receive {'EXIT', Server, {context_ended, unbound}} -> ok end,
    process_flag(trap_exit, false).

%% A call that runs is interrupted; one that waits is told that its context has ended.
ended({error, interrupted}) -> ended;
ended({reply, {error, interrupted}}) -> ended;
ended({error, context_not_bound}) -> ended;
ended({raised, context_not_bound}) -> ended.

bad_options(_Config) ->
    [{raised, badarg} = py_test:caught(fun() -> py_context:start_link(Bad) end)
     || Bad <- [x, #{no => option}, #{init => [x]}, #{init => [{a, b}]}, #{init_timeout => soon}, #{pool => "x"},
                #{name => x}, #{wait => -1}, #{terminate => [5]}, #{init => <<"x = 1">>}, #{init => [{m, f, no_list}]},
                #{terminate => [{m, f, no_list}]}]],
    {error, {no_such_pool, nowhere}} = start_alone(#{pool => nowhere}),
    {raised, badarg} = py_test:caught(fun() -> py_context:child_spec(#{init => [x]}) end),
    ok.

a_group_under_a_supervisor(_Config) ->
    Names = [one, two, three],
    {ok, Sup} = supervisor:start_link(?MODULE, [py_context:child_spec(#{name => {local, Name}, init => [<<"n = 0">>]})
                                                || Name <- Names]),
    Calls = [py_test:start_call(fun() ->
        Name = lists:nth(1 + I rem 3, Names),
        py_context:run(Name, <<"n += 1\nn">>)
    end) || I <- lists:seq(1, 60)],
    [{ok, _} = py_test:result(Call) || Call <- Calls],
    [{ok, 20} = py_context:eval(Name, <<"n">>) || Name <- Names],
    stop_supervisor(Sup),
    ok = py_test:wait_available(4).

progress_from_python(_Config) ->
    {ok, Server} = py_context:start_link(#{init => [<<"import erlang\n"
        "def train(steps):\n    for i in range(steps):\n        erlang.send(erlang.self(), ('progress', i))\n    return steps">>]}),
    {ok, 3} = py_context:call(Server, '__main__', train, [3]),
    [receive {<<"progress">>, I} -> ok end || I <- [0, 1, 2]],
    ok = gen_server:stop(Server).

%%% Monitors

monitors_tell_the_end(_Config) ->
    {ok, Ctx} = py:bind(new),
    Ref = py:monitor(Ctx),
    Other = py:monitor(Ctx),
    ok = py:unbind(Ctx),
    receive {'DOWN', Ref, process, _, unbound} -> ok end,
    receive {'DOWN', Other, process, _, unbound} -> ok end,
    Self = self(),
    {Owner, Monitor} = spawn_monitor(fun() ->
        {ok, Own} = py:bind(new),
        Self ! {context, Own},
        receive die -> exit(died) end
    end),
    Own = receive {context, C} -> C end,
    OwnRef = py:monitor(Own),
    ok = py:ctx_exec(Own, <<"1">>),
    Owner ! die,
    receive {'DOWN', Monitor, process, Owner, died} -> ok end,
    receive {'DOWN', OwnRef, process, _, owner_down} -> ok end.

monitors_of_ended_contexts(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:unbind(Ctx),
    Ref = py:monitor(Ctx),
    receive {'DOWN', Ref, process, _, noproc} -> ok end,
    [{raised, badarg} = py_test:caught(fun() -> py:monitor(Bad) end) || Bad <- [x, self(), make_ref()]],
    {raised, badarg} = py_test:caught(fun() -> py:demonitor(x) end).

monitors_end(_Config) ->
    {ok, Ctx} = py:bind(new),
    Ref = py:monitor(Ctx),
    ok = py:demonitor(Ref),
    ok = py:demonitor(Ref),
    Late = py:monitor(Ctx),
    ok = py:unbind(Ctx),
    receive {'DOWN', Late, process, _, unbound} -> ok end,
    ok = py:demonitor(Late),
    {ok, Many} = py:bind(new),
    Processes = length(processes()),
    [ok = py:demonitor(py:monitor(Many)) || _ <- lists:seq(1, 500)],
    %% Regression: each left a process until the context ended.
    py_test:wait_until(fun() -> length(processes()) =< Processes end),
    ok = py:unbind(Many),
    Before = length(processes()),
    {ok, Kept} = py:bind(new),
    {Pid, Monitor} = spawn_monitor(fun() -> [_ = py:monitor(Kept) || _ <- lists:seq(1, 100)] end),
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
    %% A process that has died monitors nothing.
    py_test:wait_until(fun() -> length(processes()) =< Before end),
    ok = py:unbind(Kept).

a_monitor_holds_nothing(_Config) ->
    Ref = monitor_of_garbage(),
    erlang:garbage_collect(),
    receive {'DOWN', Ref, process, _, ended} -> ok after 20000 -> ct:fail(context_is_held) end.

monitor_of_garbage() ->
    {ok, Ctx} = py:bind(new),
    py:monitor(Ctx).

the_pool_goes(_Config) ->
    ok = py_pool:start(going, #{level => process, num_workers => 1}),
    {ok, Ctx} = py:bind(new, #{pool => going}),
    Ref = py:monitor(Ctx),
    {error, {worker_exited, _}} = py:ctx_exec(Ctx, <<"import os\nos.abort()">>),
    receive {'DOWN', Ref, process, _, ended} -> ok end,
    {ok, Next} = py:bind(new, #{pool => going, wait => 20000}),
    NextRef = py:monitor(Next),
    ok = py_pool:stop(going),
    receive {'DOWN', NextRef, process, _, Reason} -> true = lists:member(Reason, [pool_down, ended]) end.

%%% Calls under way in a server

responses_in_a_server(_Config) ->
    {ok, Ctx} = py:bind(new),
    Pending = [py:ctx_eval_async(Ctx, <<"n * n">>, #{n => N}) || N <- lists:seq(1, 5)],
    Self = self(),
    Self ! other,
    Results = collect(Pending, []),
    [{reply, {ok, N * N}} || N <- lists:seq(1, 5)] =:= lists:sort(Results) orelse ct:fail(Results),
    ok = py:unbind(Ctx).

%% As handle_info/2 of a server does it.
collect([], Results) ->
    Results;
collect(Pending, Results) ->
    Message = receive Any -> Any end,
    Found = [{P, R} || P <- Pending, R <- [py:check_response(Message, P)], R =/= no_reply],
    case Found of
        [] -> collect(Pending, Results);
        [{P, R}] -> collect(Pending -- [P], [R | Results])
    end.

response(Pending) ->
    receive Message when is_tuple(Message) -> py:check_response(Message, Pending) after 10000 -> ct:fail(no_message) end.

responses_of_all_kinds(_Config) ->
    {reply, {ok, 4.0}} = response(py:call_async(math, sqrt, [16])),
    {reply, {ok, 3}} = response(py:eval_async(<<"x + 1">>, #{x => 2})),
    {reply, {ok, 3}} = response(py:eval_async(<<"3">>)),
    {reply, ok} = response(py:exec_async(<<"x = 1">>)),
    {reply, ok} = response(py:exec_async(<<"x = y">>, [{y, 1}])),
    {reply, {error, {'ZeroDivisionError', _}}} = response(py:eval_async(<<"1 / 0">>)),
    {reply, {ok, Big}} = response(py:eval_async(<<"list(range(100000))">>)),
    100000 = length(Big),
    {{reply, ok}, <<"printed\n">>} = py:with_output(fun() -> response(py:exec_async(<<"print('printed')">>)) end),
    {ok, Ctx} = py:bind(new),
    {reply, {ok, 5}} = response(py:ctx_eval_async(Ctx, <<"5">>)),
    {reply, ok} = response(py:ctx_exec_async(Ctx, <<"z = 1">>)),
    {reply, ok} = response(py:ctx_exec_async(Ctx, <<"z = k">>, #{k => 2})),
    {reply, {ok, 2}} = response(py:ctx_call_async(Ctx, '__main__', 'z.__int__', [])),
    Running = py:ctx_exec_async(Ctx, <<"while True: pass">>),
    Waiting = py:ctx_exec_async(Ctx, <<"1">>),
    py_test:wait_pending(2),
    ok = py:unbind(Ctx),
    ended = ended(response(Running)),
    {error, context_not_bound} = response(Waiting),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval_async(Ctx, <<"1">>) end).

refused_calls_have_a_message(_Config) ->
    {ok, Ctx} = py:bind(new),
    Blocker = py:ctx_exec_async(Ctx, <<"while True: pass">>),
    Calls = [py:ctx_eval_async(Ctx, <<"1">>) || _ <- lists:seq(1, 300)],
    Refused = [Call || {py_pending, _, _, {error, overloaded}} = Call <- Calls],
    true = Refused =/= [],
    [{reply, {error, overloaded}} = response(Call) || Call <- Refused],
    ok = py:unbind(Ctx),
    ended = ended(response(Blocker)),
    [{error, context_not_bound} = response(Call) || Call <- Calls -- Refused],
    ok.

awaited_calls_have_none(_Config) ->
    {ok, Ctx} = py:bind(new),
    Blocker = py:ctx_exec_async(Ctx, <<"import time\ntime.sleep(0.3)">>),
    Calls = [py:ctx_eval_async(Ctx, <<"1">>) || _ <- lists:seq(1, 300)],
    ok = py:await(Blocker),
    Results = [py:await(Call) || Call <- Calls],
    [true = Result =:= {ok, 1} orelse Result =:= {error, overloaded} || Result <- Results],
    {error, overloaded} = lists:last(lists:sort(fun(A, B) -> element(1, B) =:= error orelse A =< B end, Results)),
    py_test:assert_empty_mailbox(),
    ok = py:unbind(Ctx).

responses_of_others(_Config) ->
    Pending = py:eval_async(<<"1">>),
    no_reply = py:check_response(other, Pending),
    no_reply = py:check_response({make_ref(), {ok, 1}}, Pending),
    {raised, badarg} = py_test:in_process(fun() -> py_test:caught(fun() -> py:check_response(x, Pending) end) end),
    {raised, badarg} = py_test:caught(fun() -> py:check_response(x, not_pending) end),
    {ok, 1} = py:await(Pending),
    {py_pending, _, Ref, _} = Pending,
    {raised, badarg} = py_test:caught(fun() -> py:check_response({Ref, {ok, 1}}, Pending) end).
