%% Is every worker given back exactly once, and clean?
-module(py_lease_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, two_workers}, {group, lives_of_the_application}].

groups() ->
    [{two_workers, [],
      [secrets_of_the_last_owner_are_gone,
       what_a_namespace_held_is_freed_at_once,
       nested_with_context_keeps_the_outer_binding,
       with_context_gives_back_after_every_kind_of_exception,
       with_context_raises_when_every_worker_is_leased,
       binding_twice_is_binding_once,
       unbinding_twice_is_unbinding_once,
       unbinding_a_context_twice_is_unbinding_it_once,
       anyone_may_unbind_a_context,
       a_freed_worker_can_be_leased_at_once,
       owner_death_returns_the_worker_once,
       death_of_the_owner_ends_the_context_for_everyone,
       garbage_collection_of_the_last_handle_returns_the_worker,
       a_handle_elsewhere_keeps_the_context,
       unbound_calls_are_refused_when_every_worker_is_leased,
       waiting_binds_are_served_in_order,
       a_waiting_bind_times_out,
       a_waiter_that_dies_leaves_the_queue,
       callers_that_wait_in_an_ended_context_are_told]},
     {lives_of_the_application, [],
      [stop_and_start_again_and_again,
       contexts_of_an_earlier_start_are_not_bound,
       a_killed_pool_comes_back_whole,
       a_call_without_the_application_says_so,
       the_default_size_follows_the_schedulers]}].

init_per_group(two_workers, Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    [{workers, 2} | Config];
init_per_group(_, Config) ->
    Config.

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, Config) ->
    case proplists:get_value(workers, Config) of
        undefined ->
            py_test:stop();
        Workers ->
            ok = py:unbind(),
            ok = py_test:wait_available(Workers)
    end,
    py_test:assert_empty_mailbox().

has_stats(Available) ->
    CheckedOut = 2 - Available,
    #{num_workers := 2, available_workers := Available, checked_out := CheckedOut,
      pending_requests := 0} = py_pool:get_stats(),
    ok.

secrets_of_the_last_owner_are_gone(_Config) ->
    %% The owner has had both workers.
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    [begin
         ok = py:ctx_exec(Ctx, <<"secret = 'key'; import __main__; __main__.other = 'key'">>),
         ok = py:unbind(Ctx)
     end || Ctx <- [Ctx1, Ctx2]],
    [py:with_context(fun(Ctx) ->
         {ok, false} = py:ctx_eval(Ctx, <<"'secret' in globals() or 'other' in globals()">>),
         Look = <<"hasattr(m, 'secret') or hasattr(m, 'other')">>,
         Main = <<"(lambda m: ", Look/binary, ")(__import__('sys').modules['__main__'])">>,
         {ok, false} = py:ctx_eval(Ctx, Main)
     end) || _ <- lists:seq(1, 4)],
    [{ok, false} = py:eval(<<"'secret' in globals()">>) || _ <- lists:seq(1, 4)].

%% A function keeps its globals alive in a cycle; no garbage collection is waited for.
what_a_namespace_held_is_freed_at_once(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys
sys._freed = []
class Model:
    def __del__(self, freed=sys._freed):
        freed.append('model')
model = Model()
def cycle(): return model
">>),
    ok = py:unbind(Ctx),
    Freed = fun() ->
        case py:eval(<<"__import__('sys')._freed">>) of
            {ok, [<<"model">>]} -> true;
            Other -> Other
        end
    end,
    ok = py_test:wait_until(Freed),
    ok = py:exec(<<"import sys; del sys._freed">>).

nested_with_context_keeps_the_outer_binding(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    {ok, 2} = py:with_context(fun() ->
        ok = py:exec(<<"x += 1">>),
        {ok, 2} = py:with_context(fun() -> py:eval(<<"x">>) end)
    end),
    {error, {'NameError', _}} = py:with_context(fun(Ctx) -> py:ctx_eval(Ctx, <<"x">>) end),
    true = py:is_bound(),
    {ok, 2} = py:eval(<<"x">>).

with_context_gives_back_after_every_kind_of_exception(_Config) ->
    [begin
         try py:with_context(Fun) of
             _ -> error(no_exception)
         catch
             Class:on_purpose -> ok
         end,
         false = py:is_bound(),
         ok = py_test:wait_available(2)
     end || Class <- [error, exit, throw],
            Fun <- [fun() -> erlang:raise(Class, on_purpose, []) end,
                    fun(_Ctx) -> erlang:raise(Class, on_purpose, []) end]].

with_context_raises_when_every_worker_is_leased(_Config) ->
    py:with_context(fun(_Ctx1) ->
        py:with_context(fun(_Ctx2) ->
            [try py:with_context(Fun) of
                 _ -> error(no_exception)
             catch
                 error:no_workers_available -> ok
             end || Fun <- [fun() -> ok end, fun(_Ctx3) -> ok end]]
        end)
    end).

binding_twice_is_binding_once(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    ok = py:bind(),
    ok = py:bind(#{wait => 1000}),
    {ok, 1} = py:eval(<<"x">>),
    ok = has_stats(1),
    ok = py:unbind(),
    false = py:is_bound().

unbinding_twice_is_unbinding_once(_Config) ->
    ok = py:bind(),
    ok = py:unbind(),
    ok = py:unbind(),
    ok = has_stats(2).

unbinding_a_context_twice_is_unbinding_it_once(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:unbind(Ctx),
    ok = py:unbind(Ctx),
    ok = py_test:wait_available(2),
    ok = has_stats(2).

anyone_may_unbind_a_context(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py_test:in_process(fun() -> py:unbind(Ctx) end),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok.

a_freed_worker_can_be_leased_at_once(_Config) ->
    {ok, Other} = py:bind(new),
    {ok, 1} = py:ctx_eval(Other, <<"1">>),
    [begin
         ok = py:bind(),
         {ok, N} = py:eval(<<"n">>, #{n => N}),
         ok = py:unbind(),
         {ok, N} = py:eval(<<"n">>, #{n => N}),
         {ok, Ctx} = py:bind(new),
         ok = py:ctx_exec(Ctx, <<"x = 1">>),
         ok = py:unbind(Ctx)
     end || N <- lists:seq(1, 500)],
    ok = py:unbind(Other).

owner_death_returns_the_worker_once(_Config) ->
    [begin
         {Pid, Monitor} = spawn_monitor(fun() ->
             ok = py:bind(),
             {ok, _Ctx} = py:bind(new),
             exit(Reason)
         end),
         receive {'DOWN', Monitor, process, Pid, Reason} -> ok end,
         ok = py_test:wait_available(2)
     end || Reason <- [normal, shutdown, kill, crash], _ <- lists:seq(1, 20)],
    ok = has_stats(2).

death_of_the_owner_ends_the_context_for_everyone(_Config) ->
    Ctx = py_test:in_process(fun() -> {ok, Ctx} = py:bind(new), Ctx end),
    ok = py_test:wait_available(2),
    [{raised, context_not_bound} = py_test:caught(Call)
     || Call <- [fun() -> py:ctx_eval(Ctx, <<"1">>) end,
                 fun() -> py:ctx_exec(Ctx, <<"1">>) end,
                 fun() -> py:ctx_call(Ctx, math, sqrt, [1]) end]],
    ok = py:unbind(Ctx).

garbage_collection_of_the_last_handle_returns_the_worker(_Config) ->
    [begin
         ok = forget_a_context(),
         true = erlang:garbage_collect(),
         ok = py_test:wait_available(2)
     end || _ <- lists:seq(1, 20)].

forget_a_context() ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 1">>).

a_handle_elsewhere_keeps_the_context(_Config) ->
    Self = self(),
    Holder = spawn_link(fun() ->
        Ctx = receive {hold, Handle} -> Handle end,
        Self ! held,
        receive use -> Self ! py:ctx_eval(Ctx, <<"x">>) end,
        receive stop -> ok end
    end),
    ok = hand_over_a_context(Holder),
    receive held -> ok end,
    true = erlang:garbage_collect(),
    Holder ! use,
    receive Result -> {ok, 7} = Result end,
    ok = has_stats(1),
    Holder ! stop,
    ok = py_test:wait_available(2).

hand_over_a_context(Holder) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 7">>),
    Holder ! {hold, Ctx},
    ok.

unbound_calls_are_refused_when_every_worker_is_leased(_Config) ->
    py:with_context(fun(_Ctx1) ->
        py:with_context(fun(_Ctx2) ->
            {error, no_workers_available} = py:eval(<<"1">>)
        end),
        {ok, 1} = py:eval(<<"1">>)
    end).

waiting_binds_are_served_in_order(_Config) ->
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    Self = self(),
    Waiters = [begin
        Pid = spawn_link(fun() ->
            ok = py:bind(#{wait => Wait}),
            Self ! {bound, self()},
            ok = py:unbind()
        end),
        ok = wait_for_waiters(N),
        Pid
    end || {N, Wait} <- [{1, infinity}, {2, 30000}, {3, infinity}]],
    ok = py:unbind(Ctx1),
    Order = [receive {bound, Pid} -> Pid end || _ <- Waiters],
    Order = Waiters,
    ok = py:unbind(Ctx2).

%% Waits until this many processes wait in the pool.
wait_for_waiters(Count) ->
    py_test:wait_until(fun() ->
        {monitors, Monitors} = process_info(whereis(py_pool), monitors),
        %% Two monitors are for the leases.
        length(Monitors) =:= Count + 2 orelse Monitors
    end).

a_waiting_bind_times_out(_Config) ->
    py:with_context(fun(_Ctx1) ->
        py:with_context(fun(_Ctx2) ->
            {error, no_workers_available} = py:bind(#{wait => 20}),
            {error, no_workers_available} = py:bind(new, #{wait => 20})
        end)
    end).

a_waiter_that_dies_leaves_the_queue(_Config) ->
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    Dying = spawn(fun() -> py:bind(#{wait => infinity}) end),
    ok = wait_for_waiters(1),
    exit(Dying, kill),
    ok = wait_for_waiters(0),
    ok = py:unbind(Ctx1),
    {ok, Ctx3} = py:bind(new),
    ok = py:unbind(Ctx2),
    ok = py:unbind(Ctx3).

callers_that_wait_in_an_ended_context_are_told(_Config) ->
    {ok, Ctx} = py:bind(new),
    Self = self(),
    Spin = <<"import erlang\nerlang.send(test, 'runs')\nwhile True: pass">>,
    Blocker = spawn_link(fun() -> Self ! {self(), py:ctx_exec(Ctx, Spin, #{test => Self}, infinity)} end),
    receive <<"runs">> -> ok after 10000 -> error(does_not_run) end,
    Call = fun() -> py:ctx_eval(Ctx, <<"1">>) end,
    Waiting = spawn_link(fun() -> Self ! {self(), py_test:caught(Call)} end),
    ok = py_test:wait_pending(2),
    ok = py:unbind(Ctx),
    receive {Waiting, Refusal} -> {raised, context_not_bound} = Refusal end,
    receive {Blocker, Interrupted} -> {error, interrupted} = Interrupted end,
    ok.

stop_and_start_again_and_again(_Config) ->
    %% Threads that a library started, as numpy's does, bear the name of the worker that they came
    %% from.
    Others = worker_threads(),
    [begin
         ok = py_test:start_with([{num_workers, 3}]),
         {ok, N} = py:eval(<<"n">>, #{n => N}),
         ok = py:bind(),
         {ok, _Ctx} = py:bind(new),
         {ok, N} = py:eval(<<"n">>, #{n => N}),
         ok = py_test:stop()
     end || N <- lists:seq(1, 30)],
    %% The threads of all workers end.
    ok = py_test:wait_until(fun() ->
        case worker_threads() -- Others of
            [] -> true;
            Left -> Left
        end
    end).

worker_threads() ->
    Names = [{File, file:read_file(File)} || File <- filelib:wildcard("/proc/self/task/*/comm")],
    [File || {File, {ok, <<"py_worker", _/binary>>}} <- Names].

contexts_of_an_earlier_start_are_not_bound(_Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    ok = py:bind(),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 1">>),
    ok = py_test:stop(),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"x">>) end),
    ok = py:unbind(Ctx),
    ok = py_test:start_with([{num_workers, 2}]),
    false = py:is_bound(),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"x">>) end),
    {ok, New} = py:bind(new),
    ok = py:unbind(Ctx),
    {ok, 1} = py:ctx_eval(New, <<"1">>),
    ok = py:unbind(New).

a_killed_pool_comes_back_whole(_Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    [begin
         ok = py:bind(),
         {ok, Ctx} = py:bind(new),
         {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
         Pool = whereis(py_pool),
         exit(Pool, kill),
         ok = py_test:wait_until(fun() ->
             New = whereis(py_pool),
             is_pid(New) andalso New =/= Pool
                 andalso maps:get(available_workers, py_pool:get_stats()) =:= 2
                 %% The old pool refuses until the new one has its workers.
                 andalso {ok, 2} =:= py:eval(<<"1 + 1">>)
         end),
         {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
         false = py:is_bound()
     end || _ <- lists:seq(1, 5)].

a_call_without_the_application_says_so(_Config) ->
    ok = py_test:stop(),
    [{raised, {not_started, erlang_python}} = py_test:caught(Call)
     || Call <- [fun() -> py:bind() end,
                 fun() -> py:bind(new) end,
                 fun() -> py:unbind() end,
                 fun() -> py:is_bound() end,
                 fun() -> py:eval(<<"1">>) end,
                 fun() -> py:version() end,
                 fun() -> py:python_info() end,
                 fun() -> py:with_context(fun() -> ok end) end,
                 fun() -> py_pool:get_stats() end]].

the_default_size_follows_the_schedulers(_Config) ->
    ok = py_test:start(),
    Size = max(8, 2 * erlang:system_info(schedulers_online)),
    #{num_workers := Size, available_workers := Size} = py_pool:get_stats().
