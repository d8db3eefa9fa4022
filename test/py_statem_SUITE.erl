%% Does the public API do what a simple model of it does, whatever the order and the process?
%% NUMTESTS sets the number of runs.
%%
%% Four actors, processes that do one thing at a time, share three workers. The model knows which
%% actors are bound, the contexts with their owners, and the value of `x' in each. Contexts are
%% handed around freely; an actor that is killed is replaced by a fresh one.
-module(py_statem_SUITE).
-compile([export_all, nowarn_export_all]).

-include_lib("proper/include/proper.hrl").

-define(WORKERS, 3).
-define(ACTORS, [a, b, c, d]).
-define(TIMEOUT, 20000).

%% The value of `x': unset or an integer.
-record(context, {owner :: atom(), is_alive = true :: boolean(), x = unset :: unset | integer()}).
-record(model, {
    bound = #{} :: #{Actor :: atom() => unset | integer()},
    contexts = #{} :: #{Id :: integer() => #context{}},
    next = 1 :: pos_integer()
}).

suite() ->
    [{timetrap, {minutes, 30}}].

all() ->
    [the_api_follows_its_model, it_follows_its_model_on_a_busy_machine].

init_per_suite(Config) ->
    ok = start(),
    %% Abandoned threads of other suites end first.
    ct:log("~tp", [py_pool:get_stats()]),
    ok = py_test:wait_for_abandoned(0),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    py_test:assert_empty_mailbox().

%% A loop that is interrupted has to end within the grace, also on a busy machine.
start() ->
    py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 1500}, {max_abandoned, 1000}]).

the_api_follows_its_model(_Config) ->
    follows_its_model(list_to_integer(os:getenv("NUMTESTS", "60"))).

%% Runs beside a busy loop on each core.
it_follows_its_model_on_a_busy_machine(_Config) ->
    Loop = {spawn_executable, os:find_executable("timeout")},
    Args = ["300", "sh", "-c", "while :; do :; done"],
    Busy = [open_port(Loop, [{args, Args}])
            || _ <- lists:seq(1, erlang:system_info(logical_processors_available))],
    try
        follows_its_model(30)
    after
        %% The loops end when their ports close.
        [begin
             {os_pid, Pid} = erlang:port_info(Port, os_pid),
             os:cmd("kill " ++ integer_to_list(Pid))
         end || Port <- Busy]
    end.

follows_its_model(Runs) ->
    Property = ?FORALL(Commands, more_commands(2, commands(?MODULE)), begin
        {History, Model, Result} = run(Commands),
        ?WHENFAIL(ct:log("history: ~tp~nmodel: ~tp~nresult: ~tp", [History, Model, Result]),
                  aggregate(command_names(Commands), Result =:= ok))
    end),
    case proper:quickcheck(Property, [{numtests, Runs}, {on_output, fun ct:log/2}]) of
        true -> ok;
        false -> ct:fail("counterexample: ~tp", [proper:counterexample()])
    end.

%% PropEr itself cannot tell the exception that was raised here.
run(Commands) ->
    set_up(),
    try
        run_commands(?MODULE, Commands)
    catch
        Class:Reason:Stack -> {[], none, {Class, Reason, Stack}}
    after
        tear_down()
    end.

%%% Actors

set_up() ->
    ?MODULE = ets:new(?MODULE, [named_table, public]),
    ok = py_test:wait_available(?WORKERS),
    lists:foreach(fun spawn_actor/1, ?ACTORS).

tear_down() ->
    lists:foreach(fun stop_actor/1, ?ACTORS),
    true = ets:delete(?MODULE),
    ok = py_test:wait_available(?WORKERS).

spawn_actor(Actor) ->
    Pid = spawn(fun act/0),
    true = ets:insert(?MODULE, {Actor, Pid}).

stop_actor(Actor) ->
    Pid = ets:lookup_element(?MODULE, Actor, 2),
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

act() ->
    receive
        {From, Ref, Fun} ->
            Result = py_test:caught(Fun),
            py_test:assert_empty_mailbox(),
            From ! {Ref, Result};
        {run, Fun} ->
            Fun()
    end,
    act().

ask(Actor, Fun) ->
    Ref = make_ref(),
    ets:lookup_element(?MODULE, Actor, 2) ! {self(), Ref, Fun},
    receive {Ref, Result} -> simple(Result)
    after ?TIMEOUT -> no_answer
    end.

simple({error, {Type, #{class := _}}}) -> {error, Type};
simple(Result) -> Result.

handle(Id) ->
    ets:lookup_element(?MODULE, Id, 2).

%% Waits: a context that ends by itself ends soon.
settled(Free) ->
    try
        py_test:wait_until(fun() ->
            case py_pool:get_stats() of
                #{num_workers := ?WORKERS, available_workers := Free, pending_requests := 0,
                  abandoned := 0} -> true;
                Stats -> {Free, Stats}
            end
        end)
    catch
        error:Reason -> Reason
    end.

%%% Commands

bind(Actor) -> ask(Actor, fun() -> py:bind() end).
unbind(Actor) -> ask(Actor, fun() -> py:unbind() end).
is_bound(Actor) -> ask(Actor, fun() -> py:is_bound() end).
set(Actor, X) -> ask(Actor, fun() -> py:exec([<<"x = ">>, integer_to_list(X)]) end).
get(Actor) -> ask(Actor, fun() -> py:eval(<<"x">>) end).

new(Actor, Id) ->
    ask(Actor, fun() ->
        case py:bind(new) of
            {ok, Context} -> true = ets:insert(?MODULE, {Id, Context}), ok;
            {error, Reason} -> {error, Reason}
        end
    end).

unbind(Actor, Id) -> ask(Actor, fun() -> py:unbind(handle(Id)) end).
get(Actor, Id) -> ask(Actor, fun() -> py:ctx_eval(handle(Id), <<"x">>) end).

set(Actor, Id, X) ->
    ask(Actor, fun() -> py:ctx_exec(handle(Id), <<"x = y; del y">>, #{y => X}) end).

interrupt(Actor) -> py:interrupt(ets:lookup_element(?MODULE, Actor, 2)).

nested(Actor) ->
    ask(Actor, fun() ->
        py:with_context(fun() ->
            Outer = simple(py:eval(<<"x">>)),
            Inner = py:with_context(fun() -> py:is_bound() end),
            true = py:is_bound(),
            {Outer, Inner}
        end)
    end).

scoped(Actor) ->
    ask(Actor, fun() ->
        py:with_context(fun(Context) ->
            ok = py:ctx_exec(Context, <<"x = 7">>),
            py:ctx_eval(Context, <<"x">>)
        end)
    end).

raise(Actor) -> ask(Actor, fun() -> py:exec(<<"x = 5; raise KeyError">>) end).
loop(Actor) ->
    ask(Actor, fun() ->
        Result = py:exec(<<"while True: pass">>, #{}, 5),
        %% The worker is not free until the code has stopped, even if the binding ends.
        {ok, 0} = case py:is_bound() of
            true -> py:eval(<<"0">>);
            false -> {ok, 0}
        end,
        Result
    end).

loop(Actor, Id) ->
    ask(Actor, fun() ->
        Result = py:ctx_exec(handle(Id), <<"while True: pass">>, #{}, 5),
        {ok, 0} = py:ctx_eval(handle(Id), <<"0">>),
        Result
    end).

%% Runs longer than the grace: the worker is abandoned, and its lease ends. Free workers are left then,
%% unless the call is refused.
stick(Actor, Free) ->
    Result = ask(Actor, fun() ->
        case Free of
            0 -> py:exec(<<"pass">>);
            _ -> py_test:time_out_stuck(none)
        end
    end),
    %% The worker of a call without a binding counts as available before it is abandoned, and until
    %% then it serves no other lease.
    _ = Free > 0 andalso begin
        ok = py_test:wait_for_abandoned(1),
        py_test:free_stuck(0)
    end,
    {settled(Free), Result}.

%% Kills an actor in the middle of a call.
kill(Actor, Free) ->
    Pid = ets:lookup_element(?MODULE, Actor, 2),
    Pid ! {run, fun() -> py:exec(<<"while True: pass">>) end},
    stop_actor(Actor),
    spawn_actor(Actor),
    settled(Free).

restart() ->
    ok = start().

%% Restarts the application now and then: its supervisor bears ten deaths in ten seconds.
kill_pool() ->
    Deaths = case erlang:get(deaths) of
        undefined -> 0;
        N -> N
    end,
    _ = erlang:put(deaths, Deaths + 1),
    Deaths rem 8 =:= 7 andalso start(),
    Pool = whereis(py_pool),
    Monitor = monitor(process, Pool),
    exit(Pool, kill),
    receive {'DOWN', Monitor, process, Pool, _} -> ok end,
    ok = py_test:wait_until(fun() -> is_pid(whereis(py_pool)) end),
    %% The pool answers when it has its workers; until then calls meet the old pool, which has none.
    _ = sys:get_state(py_pool),
    settled(?WORKERS).

%%% Model

initial_state() ->
    #model{}.

command(#model{contexts = Contexts, next = Next} = Model) ->
    Actor = oneof(?ACTORS),
    Call = fun(Name, Args) -> {call, ?MODULE, Name, Args} end,
    Plain = [{8, Call(bind, [Actor])}, {4, Call(unbind, [Actor])}, {2, Call(is_bound, [Actor])},
             {6, Call(set, [Actor, integer()])}, {8, Call(get, [Actor])},
             {6, Call(new, [Actor, Next])}, {3, Call(nested, [Actor])},
             {3, Call(scoped, [Actor])}, {3, Call(raise, [Actor])}, {2, Call(loop, [Actor])},
             {1, Call(interrupt, [Actor])}, {1, Call(restart, [])}, {1, Call(kill_pool, [])},
             {3, oneof([Call(kill, [A, free(ended_by(A, Model))]) || A <- ?ACTORS])},
             {1, oneof([Call(stick, [A, free(stuck_by(A, Model))]) || A <- ?ACTORS])}],
    frequency(Plain ++ lists:append(
        [[{1, Call(unbind, [Actor, Id])}, {3, Call(set, [Actor, Id, integer()])},
          {3, Call(get, [Actor, Id])}, {1, Call(loop, [Actor, Id])}]
         || Id <- maps:keys(Contexts)])).

precondition(#model{next = Next}, {call, _, new, [_, Id]}) ->
    Id =:= Next;
precondition(#model{contexts = Contexts}, {call, _, Name, [_, Id | _]})
  when Name =:= unbind; Name =:= get; Name =:= loop ->
    is_map_key(Id, Contexts);
precondition(#model{contexts = Contexts}, {call, _, set, [_, Id, _]}) ->
    is_map_key(Id, Contexts);
precondition(Model, {call, _, kill, [Actor, Free]}) ->
    %% A sequence that was shrunk has other numbers.
    Free =:= free(ended_by(Actor, Model));
precondition(Model, {call, _, stick, [Actor, Free]}) ->
    Free =:= free(stuck_by(Actor, Model));
precondition(_, _) ->
    true.

free(#model{bound = Bound, contexts = Contexts}) ->
    Alive = [C || #context{is_alive = true} = C <- maps:values(Contexts)],
    ?WORKERS - map_size(Bound) - length(Alive).

ended_by(Actor, #model{bound = Bound, contexts = Contexts} = Model) ->
    End = fun(_, #context{owner = Owner} = C) when Owner =:= Actor -> C#context{is_alive = false};
             (_, C) -> C
          end,
    Model#model{bound = maps:remove(Actor, Bound), contexts = maps:map(End, Contexts)}.

stuck_by(Actor, #model{bound = Bound} = Model) ->
    Model#model{bound = maps:remove(Actor, Bound)}.

next_state(#model{bound = Bound, contexts = Contexts} = Model, _Result, {call, _, Name, Args}) ->
    HasFree = free(Model) > 0,
    case {Name, Args} of
        {bind, [Actor]} when not is_map_key(Actor, Bound), HasFree ->
            Model#model{bound = Bound#{Actor => unset}};
        {unbind, [Actor]} ->
            Model#model{bound = maps:remove(Actor, Bound)};
        {set, [Actor, X]} when is_map_key(Actor, Bound) ->
            Model#model{bound = Bound#{Actor := X}};
        {raise, [Actor]} when is_map_key(Actor, Bound) ->
            Model#model{bound = Bound#{Actor := 5}};
        {new, [Actor, Id]} when HasFree ->
            Model#model{contexts = Contexts#{Id => #context{owner = Actor}}, next = Id + 1};
        {unbind, [_, Id]} ->
            Context = maps:get(Id, Contexts),
            Model#model{contexts = Contexts#{Id := Context#context{is_alive = false}}};
        {set, [_, Id, X]} ->
            Context = maps:get(Id, Contexts),
            Model#model{contexts = Contexts#{Id := Context#context{x = X}}};
        {kill, [Actor, _]} ->
            ended_by(Actor, Model);
        {stick, [Actor, _]} ->
            stuck_by(Actor, Model);
        {Restart, []} when Restart =:= restart; Restart =:= kill_pool ->
            End = fun(_, Context) -> Context#context{is_alive = false} end,
            Model#model{bound = #{}, contexts = maps:map(End, Contexts)};
        _ ->
            Model
    end.

postcondition(Model, {call, _, Name, Args}, Result) ->
    Expected = expected(Model, Name, Args),
    Result =:= Expected orelse begin
        ct:log("~p~p: ~tp, not ~tp", [Name, Args, Result, Expected]),
        false
    end.

expected(#model{bound = Bound} = Model, Name, [Actor | _] = Args) when length(Args) =:= 1 ->
    IsBound = is_map_key(Actor, Bound),
    HasFree = free(Model) > 0,
    case Name of
        is_bound -> IsBound;
        unbind -> ok;
        interrupt -> {error, not_running};
        nested when IsBound; HasFree -> {value(maps:get(Actor, Bound, unset)), true};
        nested -> {raised, no_workers_available};
        scoped when HasFree -> {ok, 7};
        scoped -> {raised, no_workers_available};
        _ when not IsBound, not HasFree -> {error, no_workers_available};
        bind -> ok;
        get -> value(maps:get(Actor, Bound, unset));
        raise -> {error, 'KeyError'};
        loop -> {error, timeout}
    end;
expected(Model, set, [Actor, X]) when is_integer(X) ->
    as(ok, Model, Actor);
expected(_, kill, [_, _]) ->
    ok;
expected(Model, stick, [Actor, _]) ->
    {ok, as(ok, Model, Actor)};
expected(Model, new, [_, _]) ->
    case free(Model) > 0 of
        true -> ok;
        false -> {error, no_workers_available}
    end;
expected(_, unbind, [_, _]) ->
    ok;
expected(#model{contexts = Contexts}, Name, [_, Id | _]) when is_map_key(Id, Contexts) ->
    case maps:get(Id, Contexts) of
        #context{is_alive = false} -> {raised, context_not_bound};
        #context{x = X} when Name =:= get -> value(X);
        #context{} when Name =:= set -> ok;
        #context{} when Name =:= loop -> {error, timeout}
    end;
expected(_, _, _) ->
    ok.

as(Result, #model{bound = Bound} = Model, Actor) ->
    case is_map_key(Actor, Bound) orelse free(Model) > 0 of
        true -> Result;
        false -> {error, no_workers_available}
    end.

value(unset) -> {error, 'NameError'};
value(X) -> {ok, X}.
