%% Is nothing lost when either side of a callback fails?
-module(py_callback_ends_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).
-define(GRACE, 500).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [a_killed_function_is_an_exit, a_function_that_exits_is_an_exit,
     a_hanging_function_ends_with_its_call, a_function_that_traps_exits_is_killed,
     the_death_of_the_caller_ends_the_function, an_interrupt_ends_the_function,
     code_that_swallows_interrupts_is_abandoned, unbind_under_a_callback,
     the_server_crashes_under_a_callback, the_application_stops_under_a_callback,
     every_end_without_an_answer_reaches_python, a_function_that_unlinks_leaves_no_entry,
     a_function_that_unlinks_ends_with_its_call,
     what_a_function_has_spawned_outlives_the_application,
     a_function_outlives_the_application_that_registered_it, no_callback_is_left].

init_per_suite(Config) ->
    ok = start_application(),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py_test:end_case(?WORKERS),
    py_callback_SUITE:no_callback_runs().

%% A spawned process belongs to the process that has registered the function, as its output does.
what_a_function_has_spawned_outlives_the_application(_Config) ->
    Self = self(),
    ok = py:register_function(fork_off, fun([]) ->
        Self ! {group_leader, group_leader()},
        spawn(fun() -> receive stop -> ok end end)
    end),
    {ok, Spawned} = call(fork_off),
    Leader = group_leader(),
    receive {group_leader, Leader} -> ok after 10000 -> error(another_group_leader) end,
    ok = py_test:stop(),
    true = is_process_alive(Spawned),
    Spawned ! stop,
    ok = start_application(),
    ok = py_test:wait_available(?WORKERS).

a_function_outlives_the_application_that_registered_it(_Config) ->
    Leader = spawn(fun() -> receive stop -> ok end end),
    ok = py_test:in_process(fun() ->
        true = group_leader(Leader, self()),
        py:register_function(leader, fun([]) -> group_leader() end)
    end),
    {ok, Leader} = call(leader),
    Monitor = monitor(process, Leader),
    Leader ! stop,
    receive {'DOWN', Monitor, process, Leader, normal} -> ok after 10000 -> error(alive) end,
    {ok, Own} = call(leader),
    {group_leader, Own} = process_info(whereis(py_callback), group_leader),
    ok = py:unregister_function(leader).

start_application() ->
    py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, ?GRACE}]).

a_killed_function_is_an_exit(_Config) ->
    ok = py:register_function(die, fun([]) -> exit(self(), kill), receive never -> ok end end),
    {error, {'Exception', #{erlang := {exit, killed, []}}}} = call(die).

a_function_that_exits_is_an_exit(_Config) ->
    ok = py:register_function(leave, fun([]) -> exit({because, self()}) end),
    {error, {'Exception', #{erlang := {exit, {because, _}, _}}}} = call(leave),
    ok = py:register_function(linked, fun([]) ->
        spawn_link(fun() -> exit(other) end),
        receive never -> ok end
    end),
    {error, {'Exception', #{erlang := {exit, other, []}}}} = call(linked).

call(Name) ->
    py:eval(<<"__import__('erlang').call(name)">>, #{name => Name}).

%% Every end of the process of a function reaches the Python code that waits for it.
every_end_without_an_answer_reaches_python(_Config) ->
    Unlinked = fun(End) -> fun([]) -> true = unlink(whereis(py_callback)), End() end end,
    %% The message to itself wakes the process at once, without the stack that would have answered.
    Hibernate = fun(Reason) ->
        self() ! wake_up,
        erlang:hibernate(?MODULE, leave, [Reason])
    end,
    Reasons = [{fun([]) -> Hibernate(normal) end, normal},
               {fun([]) -> Hibernate(odd) end, odd},
               {Unlinked(fun() -> Hibernate(normal) end), normal},
               {Unlinked(fun() -> exit(self(), kill), receive never -> ok end end), killed},
               {Unlinked(fun() -> exit(self(), {odd, reason}), receive never -> ok end end),
                {odd, reason}}],
    [begin
         ok = py:register_function(leave, Fun),
         {error, {'Exception', #{erlang := {exit, Reason, []}}}} = call(leave, 5000)
     end || {Fun, Reason} <- Reasons],
    ok.

leave(Reason) ->
    exit(Reason).

%% A process that has unlinked itself and answers leaves nothing in the server.
a_function_that_unlinks_leaves_no_entry(_Config) ->
    ok = py:register_function(unlink, fun([]) -> unlink(whereis(py_callback)) end),
    [{ok, true} = call(unlink, 5000) || _ <- lists:seq(1, 100)],
    ok = py_test:wait_until(fun() ->
        supervisor:which_children(py_callback) =:= []
            orelse length(supervisor:which_children(py_callback))
    end),
    {_, Links} = process_info(whereis(py_callback), monitors),
    [] = Links.

a_function_that_unlinks_ends_with_its_call(_Config) ->
    Self = self(),
    ok = py:register_function(unlink, fun([]) ->
        true = unlink(whereis(py_callback)),
        Self ! {runs, self()},
        receive never -> ok end
    end),
    {error, timeout} = call(unlink, 200),
    ok = ends_with(shutdown).

call(Name, Timeout) ->
    py:eval(<<"__import__('erlang').call(name)">>, #{name => Name}, Timeout).

a_hanging_function_ends_with_its_call(_Config) ->
    Self = self(),
    ok = py:register_function(hang, fun([]) -> Self ! {runs, self()}, receive never -> ok end end),
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    {error, timeout} = py:eval(<<"__import__('erlang').hang()">>, #{}, 200),
    ok = ends_with(shutdown),
    {ok, 1} = py:eval(<<"x">>).

%% Returns the process of the function that has said `{runs, Pid}'.
ends_with(Reason) ->
    Pid = receive {runs, P} -> P after 5000 -> error(never_ran) end,
    Monitor = monitor(process, Pid),
    receive
        {'DOWN', Monitor, process, Pid, R} when R =:= Reason; R =:= noproc -> ok
    after 10000 ->
        error(still_runs)
    end.

a_function_that_traps_exits_is_killed(_Config) ->
    Self = self(),
    ok = py:register_function(hang, fun([]) ->
        process_flag(trap_exit, true),
        Self ! {runs, self()},
        receive never -> ok end
    end),
    {error, timeout} = py:eval(<<"__import__('erlang').hang()">>, #{}, 100),
    ok = ends_with(killed).

the_death_of_the_caller_ends_the_function(_Config) ->
    Self = self(),
    ok = py:register_function(hang, fun([]) -> Self ! {runs, self()}, receive never -> ok end end),
    Caller = spawn(fun() -> py:eval(<<"__import__('erlang').hang()">>) end),
    Pid = receive {runs, P} -> P after 5000 -> error(never_ran) end,
    exit(Caller, kill),
    self() ! {runs, Pid},
    ok = ends_with(shutdown).

an_interrupt_ends_the_function(_Config) ->
    Self = self(),
    ok = py:register_function(hang, fun([]) -> Self ! {runs, self()}, receive never -> ok end end),
    {ok, Ctx} = py:bind(new),
    Call = py_test:start_call(fun() -> py:ctx_eval(Ctx, <<"__import__('erlang').hang()">>) end),
    Pid = receive {runs, P} -> P after 5000 -> error(never_ran) end,
    ok = py:interrupt(Ctx),
    {error, interrupted} = py_test:result(Call),
    self() ! {runs, Pid},
    ok = ends_with(shutdown),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx).

code_that_swallows_interrupts_is_abandoned(_Config) ->
    ok = py:register_function(hang, fun([]) -> receive never -> ok end end),
    {ok, Ctx} = py:bind(new),
    {error, timeout} = py:ctx_exec(Ctx, <<"
import erlang, time
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        erlang.hang()
    except BaseException:
        pass
">>, #{}, 100),
    ok = py_test:wait_for_abandoned(1),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok = py_test:wait_for_abandoned(0).

unbind_under_a_callback(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:register_function(unbind, fun([]) -> py:unbind(Ctx), receive never -> ok end end),
    {error, interrupted} = py:ctx_eval(Ctx, <<"__import__('erlang').unbind()">>).

the_server_crashes_under_a_callback(_Config) ->
    ok = py:register_function(crash, fun([]) ->
        exit(whereis(py_callback), kill),
        receive never -> ok end
    end),
    {error, {'Exception', #{erlang := {exit, killed, []}}}} = call(crash),
    ok = py_test:wait_until(fun() -> is_pid(whereis(py_callback)) end).

the_application_stops_under_a_callback(_Config) ->
    Self = self(),
    ok = py:register_function(hang, fun([]) -> Self ! {runs, self()}, receive never -> ok end end),
    Call = py_test:start_call(fun() -> call(hang) end),
    Pid = receive {runs, P} -> P after 5000 -> error(never_ran) end,
    ok = py_test:stop(),
    %% The end of the function, or that of the pool, decides: either may come first.
    case py_test:result(Call) of
        {error, interrupted} -> ok;
        {error, {'Exception', #{erlang := {exit, _, []}}}} -> ok
    end,
    self() ! {runs, Pid},
    ok = ends_with(shutdown),
    ok = start_application(),
    %% The registrations end with the application.
    {error, {'LookupError', _}} = call(hang).

no_callback_is_left(_Config) ->
    ok = py:register_function(add, fun([A, B]) -> A + B end),
    [{ok, 3} = py:eval(<<"__import__('erlang').add(1, 2)">>) || _ <- lists:seq(1, 1000)],
    py_test:wait_until(fun() ->
        erlang:garbage_collect(),
        case py_pool:get_stats() of
            #{resources := #{callbacks := 0, jobs := 0}} -> true;
            Stats -> Stats
        end
    end).
