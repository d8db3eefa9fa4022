%% Does a `bind' that waits for a worker end on time, in order, and at a cost that does not grow
%% with the line?
-module(py_wait_SUITE).
-compile([export_all, nowarn_export_all]).

-include_lib("proper/include/proper.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [the_line_is_as_a_list_is,
     a_wait_ends_on_time_while_the_pool_is_busy,
     a_late_pool_grants_nothing_to_who_has_given_up,
     grants_and_ends_of_waits_race,
     a_context_forgotten_in_the_queue_serves_who_waits,
     the_end_of_a_wait_does_not_walk_the_line,
     the_death_of_an_owner_does_not_walk_the_leases,
     who_waits_is_told_of_the_end_of_the_pool].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(2),
    Config.

end_per_testcase(_Case, _Config) ->
    [] = ets:tab2list(py_bindings),
    py_test:end_case(2).

%%% The line

the_line_is_as_a_list_is(_Config) ->
    Property = ?FORALL(Commands, list(command()),
                       agree(number(Commands), py_waiters:new(), [])),
    Options = [{numtests, 500}, {max_size, 60}, {on_output, fun ct:log/2}],
    true = proper:quickcheck(Property, Options).

command() ->
    frequency([{3, in}, {1, first}, {2, {take, range(1, 30)}}]).

%% Returns a key for each arrival.
number(Commands) ->
    lists:zip(lists:seq(1, length(Commands)), Commands).

agree([], Waiters, Model) ->
    py_waiters:to_list(Waiters) =:= Model;
agree([{N, in} | Commands], Waiters, Model) ->
    agree(Commands, py_waiters:in(N, {value, N}, Waiters), Model ++ [{N, {value, N}}]);
agree([{_, first} | Commands], Waiters, []) ->
    none =:= py_waiters:first(Waiters) andalso agree(Commands, Waiters, []);
agree([{_, first} | Commands], Waiters, [{Key, _} = First | Model]) ->
    {_, Rest} = py_waiters:take(Key, Waiters),
    First =:= py_waiters:first(Waiters) andalso agree(Commands, Rest, Model);
agree([{_, {take, Key}} | Commands], Waiters, Model) ->
    case {lists:keytake(Key, 1, Model), py_waiters:take(Key, Waiters)} of
        {false, error} ->
            agree(Commands, Waiters, Model);
        {{value, {Key, Value}, Rest}, {Value, Taken}} ->
            py_waiters:size(Taken) =:= length(Rest) andalso agree(Commands, Taken, Rest);
        _ ->
            false
    end.

%%% Time

a_wait_ends_on_time_while_the_pool_is_busy(_Config) ->
    ok = py_test:in_process(fun() ->
        ok = sys:suspend(py_pool),
        try
            Start = erlang:monotonic_time(millisecond),
            {error, no_workers_available} = py:bind(#{wait => 100}),
            {error, no_workers_available} = py:bind(new, #{wait => 100}),
            Took = erlang:monotonic_time(millisecond) - Start,
            true = Took >= 200 andalso Took < 5000
        after
            ok = sys:resume(py_pool)
        end,
        false = py:is_bound(),
        py_test:assert_empty_mailbox()
    end).

%% Two workers are free when the pool comes to the requests.
a_late_pool_grants_nothing_to_who_has_given_up(_Config) ->
    ok = sys:suspend(py_pool),
    [{error, no_workers_available} = Bind()
     || Bind <- [fun() -> py:bind(#{wait => 20}) end, fun() -> py:bind(new, #{wait => 20}) end]],
    ok = sys:resume(py_pool),
    %% The pool has come to the end of its mailbox.
    {error, not_supported} = gen_server:call(py_pool, nothing),
    false = py:is_bound(),
    #{checked_out := 0, available_workers := 2} = py_pool:get_stats(),
    {monitors, []} = process_info(whereis(py_pool), monitors),
    ok = py:bind(),
    {ok, 2} = py:eval(<<"1 + 1">>),
    ok = py:unbind().

grants_and_ends_of_waits_race(_Config) ->
    Callers = [py_test:start_call(fun() -> bind_in_a_hurry(500) end) || _ <- lists:seq(1, 8)],
    [ok = py_test:result(Caller) || Caller <- Callers].

bind_in_a_hurry(0) ->
    py_test:assert_empty_mailbox();
bind_in_a_hurry(N) ->
    case py:bind(#{wait => 1 + N rem 2}) of
        ok ->
            true = py:is_bound(),
            {ok, N} = py:eval(<<"n">>, #{n => N}),
            ok = py:unbind();
        {error, no_workers_available} ->
            false = py:is_bound()
    end,
    bind_in_a_hurry(N - 1).

%% The context gets no worker, since each runs the code of an unbound call.
a_context_forgotten_in_the_queue_serves_who_waits(_Config) ->
    Self = self(),
    ok = py:register_function(gate, fun([]) -> Self ! {at_gate, self()},
                                               receive open -> open after 30000 -> shut end
                                    end),
    Blockers = [py_test:start_call(fun() -> py:eval(<<"__import__('erlang').gate()">>) end)
                || _ <- [1, 2]],
    Gates = [receive {at_gate, Gate} -> Gate after 10000 -> error(idle) end || _ <- Blockers],
    {Holder, Monitor} = spawn_monitor(fun() ->
        ok = forget_a_context(),
        {ok, Kept} = py:bind(new),
        Self ! {self(), bound},
        receive forget -> true = erlang:garbage_collect() end,
        receive stop -> py:unbind(Kept) end
    end),
    receive {Holder, bound} -> ok after 10000 -> error(not_bound) end,
    Waiter = py_test:start_call(fun() -> {py:bind(#{wait => infinity}), py:unbind()} end),
    ok = wait_for_waiters(1, 2),
    Holder ! forget,
    {ok, ok} = py_test:result(Waiter),
    Holder ! stop,
    receive {'DOWN', Monitor, process, Holder, normal} -> ok after 10000 -> error(alive) end,
    [Gate ! open || Gate <- Gates],
    [{ok, <<"open">>} = py_test:result(Blocker) || Blocker <- Blockers],
    ok = py:unregister_function(gate).

forget_a_context() ->
    {ok, _Ctx} = py:bind(new),
    ok.

%%% Cost

%% The number of waiters, in a pool whose workers are all leased.
-define(MANY, 10000).
%% The bound of the pool's reductions for one waiter or one lease, from its arrival to its end: some
%% 200 and 350 are measured. A walk over the others took 12,000 and 900.
-define(REDUCTIONS, 700).

the_end_of_a_wait_does_not_walk_the_line(_Config) ->
    py:with_context(fun(_Ctx1) -> py:with_context(fun(_Ctx2) ->
        Before = reductions(),
        Late = [py_test:start_call(fun() -> py:bind(#{wait => 500}) end)
                || _ <- lists:seq(1, ?MANY)],
        [{error, no_workers_available} = py_test:result(Caller) || Caller <- Late],
        Dying = [spawn(fun() -> py:bind(#{wait => infinity}) end) || _ <- lists:seq(1, ?MANY)],
        ok = wait_for_waiters(?MANY, 2),
        [true = exit(Pid, kill) || Pid <- lists:reverse(Dying)],
        ok = wait_for_waiters(0, 2),
        Spent = reductions() - Before,
        ct:log("~b reductions a waiter", [Spent div (2 * ?MANY)]),
        %% Up to 3600 on a machine whose processors many share; a walk took 12,000.
        true = Spent < 2 * ?MANY * 6000
    end) end).

the_death_of_an_owner_does_not_walk_the_leases(_Config) ->
    ok = py_test:start_with([{num_workers, 300}]),
    ok = py_test:wait_available(300),
    Before = reductions(),
    [begin
         Self = self(),
         {Owner, Monitor} = spawn_monitor(fun() ->
             Handles = [element(2, {ok, _} = py:bind(new)) || _ <- lists:seq(1, 300)],
             Self ! {bound, self()},
             receive {stop, Handles} -> ok end
         end),
         receive {bound, Owner} -> ok after 30000 -> error(not_bound) end,
         exit(Owner, kill),
         receive {'DOWN', Monitor, process, Owner, killed} -> ok after 10000 -> error(alive) end,
         ok = py_test:wait_available(300)
     end || _ <- lists:seq(1, 5)],
    Spent = reductions() - Before,
    ct:log("~b reductions a lease", [Spent div 1500]),
    true = Spent < 1500 * ?REDUCTIONS,
    ok = py_test:start_with([{num_workers, 2}]).

who_waits_is_told_of_the_end_of_the_pool(_Config) ->
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- [1, 2]],
    Waiters = [py_test:start_call(fun() -> py:bind(#{wait => Wait}) end)
               || Wait <- [30000, infinity]],
    ok = wait_for_waiters(2, 2),
    ok = py_test:stop(),
    [{error, no_workers_available} = py_test:result(Waiter) || Waiter <- Waiters],
    ok = py_test:start_with([{num_workers, 2}]),
    %% A handle that is not used any more may be garbage collected, and a waiter gets its worker.
    [{raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end)
     || Ctx <- Contexts],
    ok.

reductions() ->
    {reductions, Reductions} = process_info(whereis(py_pool), reductions),
    Reductions.

%% Waits until this many processes wait in the pool, and it has made this many leases.
wait_for_waiters(Count, Leases) ->
    py_test:wait_until(fun() ->
        {monitors, Monitors} = process_info(whereis(py_pool), monitors),
        length(Monitors) =:= Count + Leases orelse length(Monitors)
    end).
