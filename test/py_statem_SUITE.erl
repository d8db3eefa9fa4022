%% Does the public API do what a simple model of it does, whatever the order and the process?
%% NUMTESTS sets the number of runs.
%%
%% Four actors, processes that do one thing at a time, share three workers. The model knows which
%% actors are bound, the contexts with their owners, and the value of `x' in each. Contexts are
%% handed around freely; an actor that is killed is replaced by a fresh one. The commands, and the
%% actors, are in `py_statem_commands'.
%%
%% In a mixed node there are two pools more, of two threads and of two child processes. Pools stop and
%% start, and children end.
-module(py_statem_SUITE).
-compile([export_all, nowarn_export_all]).

-include_lib("proper/include/proper.hrl").

-define(ACTORS, [a, b, c, d]).
-define(NAMED, [threads, children]).

%% The value of `x': unset or an integer.
-record(context, {owner :: atom(), pool = default :: atom(), is_alive = true :: boolean(),
                  x = unset :: unset | integer()}).
-record(model, {
    bound = #{} :: #{Actor :: atom() => {Pool :: atom(), unset | integer()}},
    contexts = #{} :: #{Id :: integer() => #context{}},
    next = 1 :: pos_integer(),
    %% The pools that run, and whether there may be others than `default'.
    pools = [default] :: [atom()],
    is_mixed = false :: boolean(),
    %% How often the server of `default' was killed.
    deaths = 0 :: non_neg_integer()
}).

suite() ->
    [{timetrap, {minutes, 30}}].

all() ->
    [the_api_follows_its_model, it_follows_its_model_on_a_busy_machine,
     pools_of_both_levels_follow_their_model].

init_per_suite(Config) ->
    ok = py_statem_commands:start(),
    %% Abandoned threads of other suites end first.
    ct:log("~tp", [py_pool:get_stats()]),
    ok = py_test:wait_for_abandoned(0),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    py_test:assert_empty_mailbox().

the_api_follows_its_model(_Config) ->
    follows_its_model(list_to_integer(os:getenv("NUMTESTS", "60"))).

pools_of_both_levels_follow_their_model(_Config) ->
    Mixed = #model{pools = [default | ?NAMED], is_mixed = true},
    try
        follows_its_model(Mixed, list_to_integer(os:getenv("NUMTESTS", "40")))
    after
        [py_pool:stop(Pool) || Pool <- ?NAMED]
    end,
    [default] = py_pool:list().

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
    follows_its_model(initial_state(), Runs).

follows_its_model(Initial, Runs) ->
    Property = ?FORALL(Commands, more_commands(2, commands(?MODULE, Initial)), begin
        {History, Model, Result} = run(Initial, Commands),
        ?WHENFAIL(ct:log("history: ~tp~nmodel: ~tp~nresult: ~tp", [History, Model, Result]),
                  aggregate(command_names(Commands), Result =:= ok))
    end),
    case proper:quickcheck(Property, [{numtests, Runs}, {on_output, fun ct:log/2}]) of
        true -> ok;
        false -> ct:fail("counterexample: ~tp", [proper:counterexample()])
    end.

%% PropEr itself cannot tell the exception that was raised here.
run(#model{pools = Pools}, Commands) ->
    py_statem_commands:set_up(Pools),
    try
        run_commands(?MODULE, Commands)
    catch
        Class:Reason:Stack -> {[], none, {Class, Reason, Stack}}
    after
        py_statem_commands:tear_down()
    end.

%%% Model

initial_state() ->
    #model{}.

command(#model{contexts = Contexts, next = Next} = Model) ->
    Actor = oneof(?ACTORS),
    Call = fun(Name, Args) -> {call, py_statem_commands, Name, Args} end,
    Plain = [{8, Call(bind, [Actor])}, {4, Call(unbind, [Actor])}, {2, Call(is_bound, [Actor])},
             {6, Call(set, [Actor, integer()])}, {8, Call(get, [Actor])},
             {6, Call(new, [Actor, Next])}, {3, Call(nested, [Actor])},
             {3, Call(scoped, [Actor])}, {3, Call(raise, [Actor])}, {2, Call(loop, [Actor])},
             {1, Call(interrupt, [Actor])}, {1, Call(restart, [])}, {1, Call(kill_pool, [])},
             {3, oneof([Call(kill, [A, frees(ended_by(A, Model))]) || A <- ?ACTORS])}]
        ++ [{1, oneof([Call(stick, [A, frees(stuck_by(A, Model))]) || A <- Stuck])}
            || [_ | _] = Stuck <- [[A || A <- ?ACTORS, may_stick(A, Model)]]],
    frequency(Plain ++ lists:append(
        [[{1, Call(unbind, [Actor, Id])}, {3, Call(set, [Actor, Id, integer()])},
          {3, Call(get, [Actor, Id])}, {1, Call(loop, [Actor, Id])}]
         || Id <- maps:keys(Contexts)])
        ++ lists:append([of_pools(Actor, Call, Model) || Model#model.is_mixed])).

of_pools(Actor, Call, #model{contexts = Contexts, next = Next, bound = Bound, pools = Pools} = Model) ->
    Pool = oneof([default | ?NAMED]),
    End = fun(Change, Name, Args) ->
        [Call(Name, Args ++ [E, frees(Change)]) || E <- [exit, abort, segfault]]
    end,
    [{8, Call(bind_in, [Actor, Pool])}, {4, Call(get_in, [Actor, Pool])},
     {4, Call(set_in, [Actor, Pool, integer()])}, {2, Call(raise_in, [Actor, Pool])},
     {10, Call(new_in, [Actor, Next, Pool])}, {3, Call(scoped_in, [Actor, Pool])},
     {1, Call(start_pool, [oneof(?NAMED)])}, {1, Call(stop_pool, [oneof(?NAMED)])},
     {3, oneof(lists:append([End(crashed_by(A, Model), crash_in, [A]) || A <- ?ACTORS]))}]
    ++ [{10, Call(start_pool, [P])} || P <- ?NAMED, not lists:member(P, Pools)]
    ++ [{6, Call(kill_child, [A, frees(crashed_by(A, Model))])} || {A, {children, _}} <- maps:to_list(Bound)]
    ++ lists:append([[{3, oneof(End(without(Id, Model), crash, [Actor, Id]))},
                      {3, Call(kill_child, [Actor, Id, frees(without(Id, Model))])}]
                     || {Id, #context{pool = children}} <- maps:to_list(Contexts)]).

precondition(#model{next = Next}, {call, _, new, [_, Id]}) ->
    Id =:= Next;
precondition(#model{contexts = Contexts}, {call, _, Name, [_, Id | _]})
  when Name =:= unbind; Name =:= get; Name =:= loop ->
    is_map_key(Id, Contexts);
precondition(#model{contexts = Contexts}, {call, _, set, [_, Id, _]}) ->
    is_map_key(Id, Contexts);
precondition(Model, {call, _, kill, [Actor, Frees]}) ->
    %% A sequence that was shrunk has other numbers.
    Frees =:= frees(ended_by(Actor, Model));
precondition(Model, {call, _, stick, [Actor, Frees]}) ->
    may_stick(Actor, Model) andalso Frees =:= frees(stuck_by(Actor, Model));
precondition(#model{next = Next}, {call, _, new_in, [_, Id, _]}) ->
    Id =:= Next;
%% A restart of the application, which many deaths need, ends all pools.
precondition(#model{is_mixed = IsMixed, deaths = Deaths}, {call, _, kill_pool, []}) ->
    not IsMixed orelse Deaths < 4;
precondition(#model{is_mixed = IsMixed} = Model, {call, _, crash_in, [Actor, _, Frees]}) ->
    IsMixed andalso Frees =:= frees(crashed_by(Actor, Model));
precondition(#model{bound = Bound} = Model, {call, _, kill_child, [Actor, Frees]}) ->
    pool_of(Actor, Bound) =:= children andalso Frees =:= frees(crashed_by(Actor, Model));
precondition(Model, {call, _, kill_child, [_, Id, Frees]}) ->
    is_of_children(Id, Model) andalso Frees =:= frees(without(Id, Model));
precondition(Model, {call, _, crash, [_, Id, _, Frees]}) ->
    is_of_children(Id, Model) andalso Frees =:= frees(without(Id, Model));
precondition(_, _) ->
    true.

is_of_children(Id, #model{contexts = Contexts}) ->
    case Contexts of
        #{Id := #context{pool = children}} -> true;
        #{} -> false
    end.

free(Model) ->
    free(default, Model).

%% Returns how many workers of a pool are free, none if it does not run.
free(Pool, #model{bound = Bound, contexts = Contexts, pools = Pools}) ->
    Alive = [C || #context{is_alive = true, pool = P} = C <- maps:values(Contexts), P =:= Pool],
    Actors = [A || {A, {P, _}} <- maps:to_list(Bound), P =:= Pool],
    case lists:member(Pool, Pools) of
        true -> py_statem_commands:size_of(Pool) - length(Actors) - length(Alive);
        false -> 0
    end.

frees(#model{pools = Pools} = Model) ->
    [{Pool, free(Pool, Model)} || Pool <- Pools].

%% Returns the pool of the binding of an actor, or none.
pool_of(Actor, Bound) ->
    {Pool, _} = maps:get(Actor, Bound, {none, unset}),
    Pool.

%% Children end when they are stuck, and no thread is abandoned.
may_stick(Actor, #model{bound = Bound}) ->
    lists:member(pool_of(Actor, Bound), [none, default]).

%% The binding of an actor ends if it is one to a child.
crashed_by(Actor, #model{bound = Bound} = Model) ->
    case pool_of(Actor, Bound) of
        children -> Model#model{bound = maps:remove(Actor, Bound)};
        _ -> Model
    end.

without(Id, #model{contexts = Contexts} = Model) ->
    Context = maps:get(Id, Contexts),
    Model#model{contexts = Contexts#{Id := Context#context{is_alive = false}}}.

%% The bindings and contexts of some pools end.
ended_in(Ended, #model{bound = Bound, contexts = Contexts} = Model) ->
    IsLeft = fun(_, {Pool, _}) -> not lists:member(Pool, Ended) end,
    End = fun(_, #context{pool = Pool, is_alive = IsAlive} = Context) ->
        Context#context{is_alive = IsAlive andalso not lists:member(Pool, Ended)}
    end,
    Model#model{bound = maps:filter(IsLeft, Bound), contexts = maps:map(End, Contexts)}.

ended_by(Actor, #model{bound = Bound, contexts = Contexts} = Model) ->
    End = fun(_, #context{owner = Owner} = C) when Owner =:= Actor -> C#context{is_alive = false};
             (_, C) -> C
          end,
    Model#model{bound = maps:remove(Actor, Bound), contexts = maps:map(End, Contexts)}.

stuck_by(Actor, #model{bound = Bound} = Model) ->
    Model#model{bound = maps:remove(Actor, Bound)}.

next_state(#model{bound = Bound, contexts = Contexts, next = Next, pools = Pools} = Model, _Result,
           {call, _, Name, Args}) ->
    HasFree = free(Model) > 0,
    case {Name, Args} of
        {bind, [Actor]} when not is_map_key(Actor, Bound), HasFree ->
            Model#model{bound = Bound#{Actor => {default, unset}}};
        {bind_in, [Actor, Pool]} when not is_map_key(Actor, Bound) ->
            case free(Pool, Model) of
                0 -> Model;
                _ -> Model#model{bound = Bound#{Actor => {Pool, unset}}}
            end;
        {unbind, [Actor]} ->
            Model#model{bound = maps:remove(Actor, Bound)};
        {set, [Actor, X]} when is_map_key(Actor, Bound) ->
            Model#model{bound = Bound#{Actor := {pool_of(Actor, Bound), X}}};
        {set_in, [Actor, Pool, X]} ->
            set_bound(Actor, Pool, X, Model);
        {raise, [Actor]} when is_map_key(Actor, Bound) ->
            Model#model{bound = Bound#{Actor := {pool_of(Actor, Bound), 5}}};
        {raise_in, [Actor, Pool]} ->
            set_bound(Actor, Pool, 5, Model);
        {new_in, [Actor, Id, Pool]} ->
            case free(Pool, Model) of
                0 -> Model;
                _ -> Model#model{contexts = Contexts#{Id => #context{owner = Actor, pool = Pool}}, next = Next + 1}
            end;
        {start_pool, [Pool]} ->
            Model#model{pools = lists:usort([Pool | Pools])};
        {stop_pool, [Pool]} ->
            (ended_in([Pool], Model))#model{pools = Pools -- [Pool]};
        {crash_in, [Actor, _, _]} ->
            crashed_by(Actor, Model);
        {kill_child, [Actor, _]} ->
            crashed_by(Actor, Model);
        {kill_child, [_, Id, _]} ->
            without(Id, Model);
        {crash, [_, Id, _, _]} ->
            without(Id, Model);
        {new, [Actor, Id]} when HasFree ->
            Model#model{contexts = Contexts#{Id => #context{owner = Actor}}, next = Id + 1};
        {unbind, [_, Id]} ->
            without(Id, Model);
        {set, [_, Id, X]} ->
            Context = maps:get(Id, Contexts),
            Model#model{contexts = Contexts#{Id := Context#context{x = X}}};
        {kill, [Actor, _]} ->
            ended_by(Actor, Model);
        {stick, [Actor, _]} ->
            stuck_by(Actor, Model);
        {restart, []} ->
            (ended_in(Pools, Model))#model{pools = [default]};
        {kill_pool, []} ->
            (ended_in([default], Model))#model{deaths = Model#model.deaths + 1};
        _ ->
            Model
    end.

set_bound(Actor, Pool, X, #model{bound = Bound} = Model) ->
    case pool_of(Actor, Bound) of
        Pool -> Model#model{bound = Bound#{Actor := {Pool, X}}};
        _ -> Model
    end.

postcondition(Model, {call, _, Name, Args}, Result) ->
    Expected = expected(Model, Name, Args),
    Result =:= Expected orelse begin
        ct:log("~p~p: ~tp, not ~tp", [Name, Args, Result, Expected]),
        false
    end.

expected(#model{pools = Pools}, start_pool, [Pool]) ->
    case lists:member(Pool, Pools) of
        true -> {error, already_started};
        false -> ok
    end;
expected(#model{pools = Pools}, stop_pool, [Pool]) ->
    case lists:member(Pool, Pools) of
        true -> ok;
        false -> {error, not_found}
    end;
expected(#model{bound = Bound} = Model, bind_in, [Actor, Pool]) ->
    case is_map_key(Actor, Bound) of
        true -> ok;
        false -> in_pool(ok, Model, none, Pool)
    end;
expected(Model, new_in, [_, _, Pool]) ->
    in_pool(ok, Model, none, Pool);
expected(Model, scoped_in, [_, Pool]) ->
    case in_pool({ok, 7}, Model, none, Pool) of
        {error, no_workers_available} -> {raised, no_workers_available};
        Result -> Result
    end;
expected(#model{bound = Bound} = Model, get_in, [Actor, Pool]) ->
    X = case Bound of
        #{Actor := {Pool, Value}} -> Value;
        #{} -> unset
    end,
    in_pool(value(X), Model, Actor, Pool);
expected(Model, set_in, [Actor, Pool, _]) ->
    in_pool(ok, Model, Actor, Pool);
expected(Model, raise_in, [Actor, Pool]) ->
    in_pool({error, 'KeyError'}, Model, Actor, Pool);
expected(Model, crash_in, [Actor, End, _]) ->
    {ok, in_pool(py_statem_commands:ended(End), Model, Actor, children)};
expected(_, kill_child, [_, _]) ->
    {ok, true};
expected(#model{contexts = Contexts}, Name, [_, Id | Rest]) when Name =:= kill_child; Name =:= crash ->
    case maps:get(Id, Contexts) of
        #context{is_alive = false} -> {ok, {raised, context_not_bound}};
        #context{} when Name =:= crash -> {ok, py_statem_commands:ended(hd(Rest))};
        #context{} -> {ok, true}
    end;
expected(#model{bound = Bound} = Model, Name, [Actor | _] = Args) when length(Args) =:= 1 ->
    IsBound = is_map_key(Actor, Bound),
    HasFree = free(Model) > 0,
    case Name of
        is_bound -> IsBound;
        unbind -> ok;
        interrupt -> {error, not_running};
        nested when IsBound; HasFree -> {value(x_of(Actor, Bound)), true};
        nested -> {raised, no_workers_available};
        scoped when HasFree -> {ok, 7};
        scoped -> {raised, no_workers_available};
        _ when not IsBound, not HasFree -> {error, no_workers_available};
        bind -> ok;
        get -> value(x_of(Actor, Bound));
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

%% Returns Result, if an actor has a binding in the pool, or the pool a free worker.
in_pool(Result, #model{bound = Bound, pools = Pools} = Model, Actor, Pool) ->
    case {lists:member(Pool, Pools), pool_of(Actor, Bound) =:= Pool orelse free(Pool, Model) > 0} of
        {false, _} -> {raised, badarg};
        {true, true} -> Result;
        {true, false} -> {error, no_workers_available}
    end.

x_of(Actor, Bound) ->
    {_, X} = maps:get(Actor, Bound, {none, unset}),
    X.

as(Result, #model{bound = Bound} = Model, Actor) ->
    case is_map_key(Actor, Bound) orelse free(Model) > 0 of
        true -> Result;
        false -> {error, no_workers_available}
    end.

value(unset) -> {error, 'NameError'};
value(X) -> {ok, X}.
