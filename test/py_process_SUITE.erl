%% Are crashes of child processes contained, and do pools start and stop without a trace?
-module(py_process_SUITE).

-export([all/0, init_per_testcase/2, end_per_testcase/2]).
-export([a_pool_starts_and_stops/1, wrong_options_are_errors/1, pools_of_the_environment_start/1,
         wrong_pools_of_the_environment_stop_the_start/1, calls_name_a_pool/1, a_thread_pool_has_a_name/1,
         a_segfault_ends_one_call_only/1, each_end_of_a_child_is_told/1, a_killed_child_is_replaced/1,
         code_that_holds_the_gil_is_killed_in_time/1, a_queued_call_survives_no_crash/1,
         a_finalizer_that_hangs_is_killed/1, spares_step_in/1, worn_children_are_replaced/1,
         the_preload_runs_in_each_child/1, a_preload_that_fails_stops_the_start/1,
         a_python_that_does_not_start_is_an_error/1, a_start_that_fails_later_is_tried_again/1,
         children_end_with_the_vm/1, a_hundred_pools_leave_nothing/1,
         a_pool_that_stops_ends_its_calls/1, a_crashed_server_starts_again/1, monitors_end_with_the_child/1,
         a_killed_server_leaves_no_binding/1, a_killed_supervisor_leaves_no_pool/1,
         finalizers_that_the_vm_does_not_wait_for_are_stopped/1,
         a_pool_that_stops_closes_streams/1, forked_processes_hold_no_call/1,
         a_value_without_room_is_an_error/1,
         memory_is_watched_while_code_runs/1, memory_of_own_children_counts/1,
         memory_within_the_limit_is_left_alone/1, memory_of_an_idle_child_is_watched/1]).

-define(POOL, workers).

all() ->
    [a_pool_starts_and_stops, wrong_options_are_errors, pools_of_the_environment_start,
     wrong_pools_of_the_environment_stop_the_start, calls_name_a_pool, a_thread_pool_has_a_name,
     a_segfault_ends_one_call_only, each_end_of_a_child_is_told, a_killed_child_is_replaced,
     code_that_holds_the_gil_is_killed_in_time, a_queued_call_survives_no_crash,
     a_finalizer_that_hangs_is_killed, spares_step_in, worn_children_are_replaced,
     the_preload_runs_in_each_child, a_preload_that_fails_stops_the_start,
     a_python_that_does_not_start_is_an_error, a_start_that_fails_later_is_tried_again,
     children_end_with_the_vm, a_hundred_pools_leave_nothing,
     a_pool_that_stops_ends_its_calls, a_crashed_server_starts_again, monitors_end_with_the_child,
     a_killed_server_leaves_no_binding, a_killed_supervisor_leaves_no_pool,
     finalizers_that_the_vm_does_not_wait_for_are_stopped,
     a_pool_that_stops_closes_streams, forked_processes_hold_no_call, a_value_without_room_is_an_error,
     memory_is_watched_while_code_runs, memory_of_own_children_counts,
     memory_within_the_limit_is_left_alone, memory_of_an_idle_child_is_watched].

init_per_testcase(_Case, Config) ->
    ct:timetrap({seconds, 100}),
    ok = py_test:start_with([{interrupt_grace, 500}]),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:stop().

%%% Pools

a_pool_starts_and_stops(_Config) ->
    [default] = py_pool:list(),
    ok = start(#{num_workers => 2}),
    [default, ?POOL] = py_pool:list(),
    #{level := process, num_workers := 2, available_workers := 2, checked_out := 0,
      pending_requests := 0} = py_pool:get_stats(?POOL),
    #{level := thread} = py_pool:get_stats(default),
    {error, already_started} = py_pool:start(?POOL, #{}),
    {error, already_started} = py_pool:start(default, #{}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    #{available_workers := 1, checked_out := 1} = py_pool:get_stats(?POOL),
    ok = py:unbind(Context),
    ok = py_pool:stop(?POOL),
    {error, not_found} = py_pool:stop(?POOL),
    {raised, badarg} = py_test:caught(fun() -> py_pool:get_stats(?POOL) end),
    {raised, badarg} = py_test:caught(fun() -> py:bind(#{pool => ?POOL}) end),
    {raised, badarg} = py_test:caught(fun() -> py_pool:stop(default) end),
    [default] = py_pool:list().

wrong_options_are_errors(_Config) ->
    Wrong = [{num_workers, 0}, {num_workers, many}, {level, fast}, {unknown, 1}],
    [{error, {invalid_option, Key, Value}} = py_pool:start(?POOL, #{Key => Value}) || {Key, Value} <- Wrong],
    OfProcesses = [{python, 7}, {limits, #{memory => -1}}, {limits, #{disk => 1}}, {limits, []}, {spares, -1},
                   {max_jobs, 0}, {max_rss, 0}, {preload, json}, {paths, "/tmp"}, {env, []},
                   {sandbox, #{read => no}}, {sandbox, #{network => some}}, {sandbox, #{files => []}}],
    [{error, {invalid_option, Key, Value}} = start(#{Key => Value}) || {Key, Value} <- OfProcesses],
    %% What only processes can do is no option of threads.
    [{error, {invalid_option, Key, Value}} = py_pool:start(?POOL, #{Key => Value})
     || {Key, Value} <- [{python, "/usr/bin/python3"}, {limits, #{}}, {sandbox, #{}}, {spares, 1}]],
    {raised, badarg} = py_test:caught(fun() -> py_pool:start("name", #{}) end),
    {raised, badarg} = py_test:caught(fun() -> py_pool:start(?POOL, []) end),
    Calls = [fun() -> py:eval(<<"1">>, #{}, #{pool => nowhere}) end,
             fun() -> py:eval(<<"1">>, #{}, #{pool => "name"}) end,
             fun() -> py:eval(<<"1">>, #{}, #{wait => 1}) end,
             fun() -> py:bind(#{pool => nowhere}) end,
             fun() -> py:bind(new, #{pool => 1}) end],
    [{raised, badarg} = py_test:caught(Call) || Call <- Calls].

pools_of_the_environment_start(_Config) ->
    Pools = #{a => #{level => process, num_workers => 1}, b => #{num_workers => 2}},
    ok = py_test:start_with([{pools, Pools}, {interrupt_grace, 500}]),
    [default, a, b] = py_pool:list(),
    {ok, 2} = py:eval(<<"1 + 1">>, #{}, #{pool => a}),
    {ok, 2} = py:eval(<<"1 + 1">>, #{}, #{pool => b}),
    #{level := thread, num_workers := 2} = py_pool:get_stats(b),
    ok = py_test:start_with([{pools, #{default => #{level => process, num_workers => 2}}},
                             {interrupt_grace, 500}]),
    #{num_workers := 2} = py_pool:get_stats(),
    #{level := process} = py_pool:get_stats(default),
    {ok, 2} = py:eval(<<"1 + 1">>).

wrong_pools_of_the_environment_stop_the_start(_Config) ->
    [begin
         {error, Reason} = py_test:start_error([{pools, Pools}]),
         ok = py_test:contains(unicode:characters_to_binary(io_lib:format("~tp", [Reason])), Expected)
     end || {Pools, Expected} <- [{[], <<"invalid_env">>}, {#{"a" => #{}}, <<"invalid_env">>},
                                  {#{a => #{num_workers => 0}}, <<"invalid_option">>},
                                  {#{a => #{level => process, preload => [<<"1 / 0">>]}},
                                   <<"ZeroDivisionError">>}]].

calls_name_a_pool(_Config) ->
    ok = start(#{num_workers => 2}),
    Vm = list_to_integer(os:getpid()),
    {ok, Vm} = py:eval(<<"__import__('os').getpid()">>),
    {ok, Child} = py:call(os, getpid, [], #{}, #{pool => ?POOL}),
    true = Child =/= Vm,
    ok = py:exec(<<"x = 1">>, #{}, #{pool => ?POOL, timeout => 5000}),
    {error, {'NameError', _}} = py:eval(<<"x">>, #{}, #{pool => ?POOL}),
    ok = py:bind(#{pool => ?POOL}),
    ok = py:exec(<<"x = 5">>),
    %% The binding is one to a worker of this pool.
    {ok, 5} = py:eval(<<"x">>, #{}, #{pool => ?POOL}),
    %% A call that names another pool does not run in the binding.
    {ok, Vm} = py:eval(<<"__import__('os').getpid()">>, #{}, #{pool => default}),
    ok = py:unbind(),
    {ok, 7} = py:with_context(#{pool => ?POOL}, fun() -> ok = py:exec(<<"y = 7">>), py:eval(<<"y">>) end),
    {ok, 8} = py:with_context(#{pool => ?POOL}, fun(C) -> py:ctx_eval(C, <<"8">>, #{}, #{timeout => 5000}) end),
    ok = py_test:wait_whole(?POOL, 2).

a_thread_pool_has_a_name(_Config) ->
    ok = py_pool:start(?POOL, #{num_workers => 1}),
    Vm = list_to_integer(os:getpid()),
    {ok, Vm} = py:eval(<<"__import__('os').getpid()">>, #{}, #{pool => ?POOL}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    {error, no_workers_available} = py:bind(new, #{pool => ?POOL}),
    {error, no_workers_available} = py:eval(<<"1">>, #{}, #{pool => ?POOL}),
    {ok, 1} = py:eval(<<"1">>),
    ok = py:unbind(Context),
    ok = py_test:wait_whole(?POOL, 1).

%%% Ends of children

a_segfault_ends_one_call_only(_Config) ->
    ok = start(#{num_workers => 2}),
    {ok, A} = py:bind(new, #{pool => ?POOL}),
    {ok, B} = py:bind(new, #{pool => ?POOL}),
    ok = py:ctx_exec(B, <<"kept = 1">>),
    {error, {worker_exited, #{signal := 11}} = Reason} = py:ctx_exec(A, segfault()),
    <<"the child process of the call was ended by signal 11">> = py:format_error(Reason),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(A, <<"1">>) end),
    {ok, 1} = py:ctx_eval(B, <<"kept">>),
    {ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL}),
    ok = py:unbind(B),
    ok = py_test:wait_whole(?POOL, 2).

each_end_of_a_child_is_told(_Config) ->
    ok = start(#{num_workers => 1}),
    Ends = [{<<"import os; os._exit(7)">>, #{status => 7}}, {<<"import os; os.abort()">>, #{signal => 6}},
            {<<"import os, signal; os.kill(os.getpid(), signal.SIGKILL)">>, #{signal => 9}},
            {<<"import os, signal; os.kill(os.getpid(), signal.SIGTERM)">>, #{signal => 15}}],
    [begin
         {error, {worker_exited, End}} = py:exec(Code, #{}, #{pool => ?POOL}),
         ok = py_test:wait_whole(?POOL, 1)
     end || {Code, End} <- Ends],
    {ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL}).

a_killed_child_is_replaced(_Config) ->
    ok = start(#{num_workers => 1, spares => 0}),
    {ok, Pid} = pid(),
    %% It has nothing to do, and is killed from outside.
    "" = os:cmd("kill -9 " ++ integer_to_list(Pid)),
    ok = py_test:wait_until(fun() ->
        case pid() of
            {ok, Other} -> Other =/= Pid;
            %% The call was sent before the VM knew of the end.
            {error, {worker_exited, #{signal := 9}}} -> false
        end
    end),
    ok = py_test:wait_whole(?POOL, 1).

code_that_holds_the_gil_is_killed_in_time(_Config) ->
    ok = start(#{num_workers => 1}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    %% A loop in C, which looks for no interrupt.
    {error, timeout} = py:ctx_eval(Context, <<"__import__('collections').deque(__import__('itertools').repeat(0), maxlen=0)">>, #{}, 200),
    ok = py_test:wait_until(fun() -> py_test:caught(fun() -> py:ctx_eval(Context, <<"1">>) end) =:= {raised, context_not_bound} end),
    ok = py_test:wait_whole(?POOL, 1),
    ok = py:bind(#{pool => ?POOL}),
    Self = self(),
    Caller = py_test:start_call(fun() ->
        py:with_context(#{pool => ?POOL, wait => 10000}, fun(New) ->
            Self ! {context, New},
            py:ctx_eval(New, <<"__import__('collections').deque(__import__('itertools').repeat(0), maxlen=0)">>)
        end)
    end),
    ok = py:unbind(),
    Stuck = receive {context, Other} -> Other end,
    ok = py_test:wait_until(fun() -> py:interrupt(Stuck) =:= ok end),
    {error, interrupted} = py_test:result(Caller),
    ok = py_test:wait_whole(?POOL, 1).

a_queued_call_survives_no_crash(_Config) ->
    ok = start(#{num_workers => 1}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    {ok, Pid} = py:ctx_eval(Context, <<"__import__('os').getpid()">>),
    Running = py:ctx_call_async(Context, time, sleep, [60]),
    Queued = py:ctx_call_async(Context, builtins, len, [[]]),
    "" = os:cmd("kill -11 " ++ integer_to_list(Pid)),
    {error, {worker_exited, #{signal := 11}}} = py:await(Running),
    {raised, context_not_bound} = py_test:caught(fun() -> py:await(Queued) end),
    ok = py_test:wait_whole(?POOL, 1).

a_finalizer_that_hangs_is_killed(_Config) ->
    ok = start(#{num_workers => 1}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    ok = py:ctx_exec(Context, <<"class Stuck:\n    def __del__(self):\n        __import__('collections').deque(__import__('itertools').repeat(0), maxlen=0)\ns = Stuck()">>),
    ok = py:unbind(Context),
    ok = py_test:wait_whole(?POOL, 1),
    {ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL, timeout => 60000}).

%% Regression: the child had replied already, or had been told of a dropped object, so nothing looked at how long
%% it cleaned up, and the next call waited for ever.
finalizers_that_the_vm_does_not_wait_for_are_stopped(_Config) ->
    ok = start(#{num_workers => 1, spares => 0}),
    {ok, Pid} = pid(),
    Endless = <<"class Endless:\n    def __del__(self):\n        while True: pass\n">>,
    %% The namespace of a call without a lease.
    ok = py:exec(<<Endless/binary, "endless = Endless()">>, #{}, #{pool => ?POOL}),
    {ok, Pid} = pid(),
    %% An object of Erlang.
    true = py_test:in_process(fun() ->
        ok = py:bind(#{pool => ?POOL}),
        ok = py:exec(Endless),
        {ok, Object} = py:eval(<<"Endless()">>),
        is_reference(Object)
    end),
    ok = py_test:wait_until(fun() -> pid() =:= {ok, Pid} end),
    %% One that runs no Python code costs the child.
    Stubborn = <<"
import collections, itertools
class Stubborn:
    def __del__(self, deque=collections.deque, repeat=itertools.repeat):
        deque(repeat(0), maxlen=0)
stubborn = Stubborn()
">>,
    ok = py:exec(Stubborn, #{}, #{pool => ?POOL}),
    ok = py_test:wait_until(fun() ->
        case pid() of
            {ok, Other} -> Other =/= Pid;
            %% The call was sent before the VM knew of the end.
            {error, _} -> false
        end
    end).

spares_step_in(_Config) ->
    ok = start(#{num_workers => 1, spares => 1, preload => [<<"import time; time.sleep(0.5)">>]}),
    ok = py_test:wait_until(fun() -> length(children()) =:= 2 end),
    {error, {worker_exited, _}} = py:exec(segfault(), #{}, #{pool => ?POOL}),
    %% No start stands between: the spare has loaded what the others load.
    {ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL, timeout => 400}),
    ok = py_test:wait_until(fun() -> length(children()) =:= 2 end).

worn_children_are_replaced(_Config) ->
    ok = start(#{num_workers => 1, spares => 0, max_jobs => 2}),
    Pids = [begin {ok, Pid} = pid(), Pid end || _ <- lists:seq(1, 6)],
    true = length(lists:usort(Pids)) >= 3,
    ok = py_pool:stop(?POOL),
    ok = start(#{num_workers => 1, spares => 0, max_rss => 100 bsl 20}),
    {ok, Small} = pid(),
    {ok, Small} = pid(),
    ok = py:exec(<<"import sys; sys.kept = bytearray(b'x' * (120 << 20))">>, #{}, #{pool => ?POOL}),
    {ok, Other} = pid(),
    true = Other =/= Small.

%%% Starts

the_preload_runs_in_each_child(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    ok = file:write_file(filename:join(Dir, "py_of_path.py"), "value = 5\n"),
    ok = start(#{num_workers => 2, spares => 0, paths => [Dir], env => #{"PY_OF_ENV" => <<"e">>},
                 preload => [py_of_path, <<"import sys; sys.of_preload = __import__('py_of_path').value">>]}),
    Ask = <<"(sys.of_preload, os.environ['PY_OF_ENV'], 'py_of_path' in sys.modules)">>,
    Contexts = [begin {ok, C} = py:bind(new, #{pool => ?POOL}), C end || _ <- [1, 2]],
    [begin
         ok = py:ctx_exec(C, <<"import os, sys">>),
         {ok, {5, <<"e">>, true}} = py:ctx_eval(C, Ask)
     end || C <- Contexts],
    false = os:getenv("PY_OF_ENV"),
    [ok = py:unbind(C) || C <- Contexts].

a_preload_that_fails_stops_the_start(_Config) ->
    {error, {python_not_prepared, Text}} = start(#{preload => [<<"x = 1\n1 / 0">>]}),
    [ok = py_test:contains(Text, Part) || Part <- [<<"item 1">>, <<"ZeroDivisionError">>, <<"line 2">>]],
    {error, {python_not_prepared, Module}} = start(#{preload => [no_such_module]}),
    ok = py_test:contains(Module, <<"ModuleNotFoundError">>),
    {error, {python_not_prepared, _}} = start(#{preload => [<<"import os; os._exit(3)">>]}),
    [default] = py_pool:list(),
    ok = py_test:wait_until(fun() -> children() =:= [] end).

a_python_that_does_not_start_is_an_error(_Config) ->
    {error, {python_unavailable, _}} = start(#{python => "/no/such/python"}),
    {error, {python_not_prepared, _}} = start(#{python => "/bin/true"}),
    {error, {python_not_prepared, _}} = start(#{python => "/bin/cat"}),
    {error, {python_not_prepared, Text}} = start(#{preload_timeout => 1, preload => [<<"while True: pass">>],
                                                   limits => #{cpu_seconds => 2}}),
    true = is_binary(Text),
    [default] = py_pool:list(),
    ok = py_test:wait_until(fun() -> children() =:= [] end).

a_start_that_fails_later_is_tried_again(Config) ->
    Flag = filename:join(proplists:get_value(priv_dir, Config), "broken"),
    Preload = ["import os\nassert not os.path.exists('", Flag, "')"],
    ok = start(#{num_workers => 1, spares => 0, preload => [unicode:characters_to_binary(Preload)]}),
    ok = file:write_file(Flag, ""),
    {error, {worker_exited, _}} = py:exec(segfault(), #{}, #{pool => ?POOL}),
    ok = py_test:wait_until(fun() -> maps:get(num_workers, py_pool:get_stats(?POOL)) =:= 0 end),
    {error, no_workers_available} = py:eval(<<"1">>, #{}, #{pool => ?POOL}),
    {error, no_workers_available} = py:bind(new, #{pool => ?POOL}),
    Waiting = py_test:start_call(fun() -> py:with_context(#{pool => ?POOL, wait => 60000}, fun() -> py:eval(<<"1">>) end) end),
    ok = file:delete(Flag),
    {ok, 1} = py_test:result(Waiting),
    ok = py_test:wait_whole(?POOL, 1).

%%% Traces

children_end_with_the_vm(_Config) ->
    Peer = py_peer:start(#{"ERLANG_PYTHON" => py_peer:interpreter()}),
    true = unlink(Peer),
    {VmPid, Pids} = py_peer:run(Peer, fun() ->
        {ok, _} = application:ensure_all_started(erlang_python),
        ok = py_pool:start(workers, #{level => process, num_workers => 2, spares => 0}),
        Contexts = [element(2, py:bind(new, #{pool => workers})) || _ <- [1, 2]],
        Found = [element(2, py:ctx_eval(C, <<"__import__('os').getpid()">>)) || C <- Contexts],
        %% One computes with the GIL held.
        _ = spawn(fun() -> py:ctx_eval(hd(Contexts), <<"__import__('collections').deque(__import__('itertools').repeat(0), maxlen=0)">>) end),
        persistent_term:put(contexts, Contexts),
        {os:getpid(), Found}
    end),
    "" = os:cmd("kill -9 " ++ VmPid),
    ok = py_test:wait_until(fun() ->
        [Pid || Pid <- Pids, filelib:is_dir("/proc/" ++ integer_to_list(Pid))] =:= []
    end).

a_hundred_pools_leave_nothing(_Config) ->
    ok = start(#{num_workers => 1}),
    {ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL}),
    ok = py_pool:stop(?POOL),
    ok = py_test:wait_until(fun() -> children() =:= [] end),
    Before = traces(),
    [begin
         ok = start(#{num_workers => 1, spares => N rem 2}),
         {ok, _} = py:eval(<<"object()">>, #{}, #{pool => ?POOL}),
         {ok, Context} = py:bind(new, #{pool => ?POOL}),
         N rem 3 =:= 0 andalso py:ctx_exec(Context, segfault()),
         N rem 3 =:= 1 andalso py:ctx_call_async(Context, time, sleep, [100]),
         ok = py_pool:stop(?POOL)
     end || N <- lists:seq(1, 30)],
    ok = py_test:wait_until(fun() ->
        true = garbage_collect(),
        After = traces(),
        %% What was there before the first pool may have gone since.
        Less = [element(N, After) =< element(N, Before) || N <- lists:seq(1, tuple_size(Before))],
        lists:all(fun(IsLess) -> IsLess end, Less) orelse {Before, After}
    end).

a_pool_that_stops_ends_its_calls(_Config) ->
    ok = start(#{num_workers => 1}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    Running = py:ctx_call_async(Context, time, sleep, [60]),
    Waiting = py_test:start_call(fun() -> py:bind(new, #{pool => ?POOL, wait => 60000}) end),
    ok = py_test:wait_until(fun() -> py:interrupt(Context) =:= ok end),
    {error, interrupted} = py:await(Running),
    Again = py:ctx_call_async(Context, time, sleep, [60]),
    ok = py_pool:stop(?POOL),
    {error, interrupted} = py:await(Again),
    {error, no_workers_available} = py_test:result(Waiting),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Context, <<"1">>) end),
    ok = py:unbind(Context),
    ok = py_test:wait_until(fun() -> children() =:= [] end).

a_crashed_server_starts_again(_Config) ->
    ok = start(#{num_workers => 1}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    Code = <<"import erlang, time; erlang.send(test, 'runs'); time.sleep(60)">>,
    Running = py:ctx_call_async(Context, builtins, exec, [Code, #{test => self()}]),
    receive <<"runs">> -> ok end,
    [{?POOL, Pid, _, _}] = supervisor:which_children(py_pools_sup),
    true = exit(Pid, kill),
    {error, interrupted} = py:await(Running),
    {ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL}),
    [{?POOL, Other, _, _}] = supervisor:which_children(py_pools_sup),
    true = Other =/= Pid,
    ok = py_test:wait_whole(?POOL, 1).

monitors_end_with_the_child(_Config) ->
    ok = start(#{num_workers => 1}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    Target = spawn(fun() -> receive stop -> exit(done) end end),
    ok = py:ctx_exec(Context, <<"import erlang\nm = erlang.monitor(p)">>, #{p => Target}),
    {ok, false} = py:ctx_eval(Context, <<"m.is_down">>),
    {monitored_by, [_]} = process_info(Target, monitored_by),
    {error, {worker_exited, _}} = py:ctx_exec(Context, segfault()),
    ok = py_test:wait_until(fun() -> process_info(Target, monitored_by) =:= {monitored_by, []} end),
    {ok, Other} = py:bind(new, #{pool => ?POOL}),
    ok = py:ctx_exec(Other, <<"import erlang\nm = erlang.monitor(p)">>, #{p => Target}),
    Target ! stop,
    {ok, true} = py:ctx_eval(Other, <<"m.wait(20)">>),
    {ok, <<"done">>} = py:ctx_eval(Other, <<"m.reason">>),
    ok = py:unbind(Other).

a_killed_server_leaves_no_binding(_Config) ->
    ok = start(#{num_workers => 1}),
    ok = py:bind(#{pool => ?POOL}),
    [{?POOL, Pid, _, _}] = supervisor:which_children(py_pools_sup),
    true = exit(Pid, kill),
    ok = py_test:wait_whole(?POOL, 1),
    ok = py_test:wait_until(fun() -> ets:lookup(py_bindings, self()) =:= [] end),
    false = py:is_bound().

a_killed_supervisor_leaves_no_pool(_Config) ->
    ok = start(#{num_workers => 1}),
    Supervisor = whereis(py_pools_sup),
    true = exit(Supervisor, kill),
    ok = py_test:wait_until(fun() ->
        case whereis(py_pools_sup) of undefined -> false; Pid -> Pid =/= Supervisor end
    end),
    [default] = py_pool:list(),
    {raised, badarg} = py_test:caught(fun() -> py_pool:get_stats(?POOL) end),
    {raised, badarg} = py_test:caught(fun() -> py:eval(<<"1">>, #{}, #{pool => ?POOL}) end),
    ok = start(#{num_workers => 1}),
    {ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL}).

%% Regression: the handles of the children were garbage with the server of the pool, and that killed them.
a_pool_that_stops_closes_streams(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "closed"),
    ok = start(#{num_workers => 1}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    ok = py:ctx_exec(Context, <<"
import time
def items(path):
    try:
        yield 1
    finally:
        time.sleep(0.2)
        open(path, 'w').close()
">>),
    {ok, Stream} = py:ctx_stream(Context, '__main__', items, [unicode:characters_to_binary(File)]),
    ok = py:stream_next(Stream, 1),
    receive {py_stream, Stream, {items, [1]}} -> ok after 20000 -> error(no_item) end,
    ok = py_pool:stop(?POOL),
    ok = py_test:wait_until(fun() -> filelib:is_regular(File) end),
    ok = py_test:wait_until(fun() -> children() =:= [] end).

%% Regression: a process that code in C has forked had the sockets and the port of its parent, whose end was
%% not noticed.
forked_processes_hold_no_call(_Config) ->
    ok = start(#{num_workers => 1}),
    Fork = <<"
import ctypes, os, time
if not ctypes.PyDLL(None).fork():
    time.sleep(60)
    os._exit(0)
">>,
    {error, {worker_exited, #{status := unknown}}} =
        py:exec(<<Fork/binary, "os._exit(3)">>, #{}, #{pool => ?POOL}),
    ok = py_test:wait_whole(?POOL, 1),
    {error, {worker_exited, _}} =
        py:exec(<<Fork/binary, "os.kill(os.getpid(), 9)">>, #{}, #{pool => ?POOL}),
    ok = py_test:wait_whole(?POOL, 1),
    {ok, 1} = py:eval(<<"1">>, #{}, #{pool => ?POOL}).

%%% Memory

%% Regression: the child panicked, and waited for a lock of its own when the panic found no memory, either.
a_value_without_room_is_an_error(_Config) ->
    ok = start(#{num_workers => 1, limits => #{memory => 512 bsl 20}}),
    ok = py:bind(#{pool => ?POOL}),
    ok = py:exec(<<"own = bytearray(b'x') * (200 << 20)">>),
    Big = binary:copy(<<"x">>, 100 bsl 20),
    [{error, {'MemoryError', _}} = py:eval(<<"b">>, #{b => Value}) || Value <- [Big, {bytes, Big}]],
    {ok, 1} = py:eval(<<"1">>),
    {ok, Small} = py:eval(<<"len(own)">>),
    true = Small =:= 200 bsl 20,
    ok = py:unbind().

-define(LIMIT, (512 bsl 20)).

%% None of it counts as addresses of the child, but the last.
memory_is_watched_while_code_runs(_Config) ->
    ok = start(#{num_workers => 1, limits => #{memory => ?LIMIT}}),
    Spin = <<"\nwhile True: pass">>,
    [begin
         {ok, Context} = py:bind(new, #{pool => ?POOL, wait => infinity}),
         ok = py:ctx_exec(Context, <<"kept = 1">>),
         {error, {worker_exited, #{signal := 9, limit := memory}} = Reason} =
             py:ctx_exec(Context, <<Code/binary, Spin/binary>>, #{}, infinity),
         ok = py_test:contains(py:format_error(Reason), <<"more memory than its limit">>),
         {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Context, <<"1">>) end)
     end || Code <- [<<"
import os
for n in range(6):
    fd = os.memfd_create(str(n))
    for _ in range(100): os.write(fd, bytes(1 << 20))
">>, <<"
import os
file = open('/dev/shm/py_process_SUITE', 'wb')
os.unlink(file.name)
for _ in range(600): file.write(bytes(1 << 20))
">>, <<"
import mmap, os
maps = []
for n in range(3):
    fd = os.memfd_create(str(n))
    for _ in range(100): os.write(fd, bytes(1 << 20))
    maps.append(mmap.mmap(fd, 100 << 20))
    sum(maps[-1][::4096])
    os.close(fd)
fd = os.memfd_create('last')
for _ in range(300): os.write(fd, bytes(1 << 20))
">>]],
    ok = py_test:wait_whole(?POOL, 1).

memory_of_own_children_counts(_Config) ->
    ok = start(#{num_workers => 1, limits => #{memory => ?LIMIT}}),
    Self = self(),
    ok = py:register_function(pids, fun(Pids) -> Self ! {pids, Pids} end),
    %% The second is the child of the first.
    {error, {worker_exited, #{signal := 9, limit := memory}}} = py:exec(<<"
import erlang, subprocess, sys
half = 'x = bytearray(300 << 20); x[::4096] = bytes(len(x[::4096]));'
inner = half + 'import time; time.sleep(100)'
outer = half + f'import subprocess, sys; p = subprocess.Popen([sys.executable, \"-c\", {inner!r}]); print(p.pid, flush=True); p.wait()'
child = subprocess.Popen([sys.executable, '-c', outer], stdout=subprocess.PIPE)
erlang.pids(child.pid, int(child.stdout.readline()))
child.wait()
">>, #{}, #{pool => ?POOL, timeout => infinity}),
    Pids = receive {pids, Found} -> Found end,
    ok = py:unregister_function(pids),
    %% They have not outlived the child.
    ok = py_test:wait_until(fun() -> [Pid || Pid <- Pids, is_running(Pid)] =:= [] end),
    ok = py_test:wait_whole(?POOL, 1).

%% Memory that is mapped and open, or that is shared by a fork, counts once.
memory_within_the_limit_is_left_alone(_Config) ->
    ok = start(#{num_workers => 1, limits => #{memory => ?LIMIT}}),
    ok = py:bind(#{pool => ?POOL}),
    ok = py:exec(<<"
import ctypes, mmap, os, time
fd = os.memfd_create('once')
for _ in range(300): os.write(fd, bytes(1 << 20))
shared = mmap.mmap(fd, 300 << 20)
sum(shared[::4096])
time.sleep(1)
del shared
os.close(fd)
own = bytearray(b'x') * (200 << 20)
pids = []
for _ in range(3):
    pid = ctypes.PyDLL(None).fork()
    if not pid:
        time.sleep(1)
        os._exit(0)
    pids.append(pid)
for pid in pids: os.waitpid(pid, 0)
del own
">>),
    {ok, Pid} = py:eval(<<"os.getpid()">>),
    Big = binary:copy(<<"x">>, 100 bsl 20),
    [{ok, Big} = py:eval(<<"b">>, #{b => {bytes, Big}}) || _ <- lists:seq(1, 10)],
    {ok, Pid} = py:eval(<<"os.getpid()">>),
    ok = py:unbind().

memory_of_an_idle_child_is_watched(_Config) ->
    ok = start(#{num_workers => 1, spares => 0, limits => #{memory => ?LIMIT}}),
    {ok, Pid} = pid(),
    ok = py:exec(<<"
import os, threading, time
def grow():
    time.sleep(0.2)
    fd = os.memfd_create('late')
    for _ in range(600): os.write(fd, bytes(1 << 20))
    time.sleep(100)
threading.Thread(target=grow, daemon=True).start()
">>, #{}, #{pool => ?POOL}),
    ok = py_test:wait_until(fun() -> not is_running(Pid) end),
    ok = py_test:wait_whole(?POOL, 1).

is_running(Pid) ->
    case file:read_file("/proc/" ++ integer_to_list(Pid) ++ "/stat") of
        %% A zombie has ended.
        {ok, Stat} -> binary:match(Stat, <<") Z">>) =:= nomatch;
        {error, enoent} -> false
    end.

%%% Helpers

start(Options) ->
    py_pool:start(?POOL, Options#{level => process}).

segfault() ->
    <<"import ctypes, faulthandler; faulthandler.disable(); ctypes.string_at(0)">>.

pid() ->
    py:eval(<<"__import__('os').getpid()">>, #{}, #{pool => ?POOL}).

%% The processes of children of this VM, whose ports belong to a program of the VM.
children() ->
    Forker = string:trim(os:cmd("pgrep -P " ++ os:getpid() ++ " erl_child_setup")),
    string:lexemes(os:cmd("pgrep -P " ++ Forker ++ " -f py_child[.]abi3"), "\n").

%% What a pool could leave: children, descriptors, ports, processes, native objects.
traces() ->
    {ok, Files} = file:list_dir("/proc/self/fd"),
    {length(children()), length(Files), length(erlang:ports()), length(erlang:processes()),
     maps:get(resources, py_pool:get_stats()), length(ets:all())}.
