%% The commands of `py_statem_SUITE', and the actors that run them.
-module(py_statem_commands).

%% The application and the actors.
-export([start/0, set_up/1, tear_down/0, size_of/1, ended/1]).
%% Commands, by the process of the property. The results are those of the model.
-export([bind/1, unbind/1, unbind/2, is_bound/1, set/2, set/3, get/1, get/2, new/2, interrupt/1, nested/1, scoped/1,
         raise/1, loop/1, loop/2, stick/2, kill/2, restart/0, kill_pool/0]).
-export([bind_in/2, get_in/2, set_in/3, raise_in/2, new_in/3, scoped_in/2, start_pool/1, stop_pool/1,
         crash_in/3, crash/4, kill_child/2, kill_child/3]).

-compile({no_auto_import, [get/1]}).

-define(WORKERS, 3).
-define(ACTORS, [a, b, c, d]).
-define(TIMEOUT, 20000).

%% A loop that is interrupted has to end within the grace, also on a busy machine.
start() ->
    py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 1500}, {max_abandoned, 1000}]).

%%% Actors

set_up(Pools) ->
    ?MODULE = ets:new(?MODULE, [named_table, public]),
    ok = py_test:wait_available(?WORKERS),
    %% The supervisor bears what the run kills, without a restart in the middle of it.
    deaths() rem 8 > 3 andalso begin ok = start(), erlang:put(deaths, 0) end,
    %% The run before may have stopped some.
    [ok = start_pool(Pool) || Pool <- Pools -- py_pool:list()],
    lists:foreach(fun spawn_actor/1, ?ACTORS).

tear_down() ->
    lists:foreach(fun stop_actor/1, ?ACTORS),
    true = ets:delete(?MODULE),
    ok = settled([{Pool, size_of(Pool)} || Pool <- py_pool:list()]).

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
settled(Frees) ->
    try
        lists:foreach(fun({Pool, Free}) ->
            py_test:wait_until(fun() -> is_settled(Pool, Free) end)
        end, Frees)
    catch
        error:Reason -> Reason
    end.

is_settled(Pool, Free) ->
    Size = size_of(Pool),
    case maps:merge(py_pool:get_stats(), py_pool:get_stats(Pool)) of
        #{num_workers := Size, available_workers := Free, pending_requests := 0, abandoned := 0} -> true;
        Stats -> {Pool, Free, Stats}
    end.

size_of(default) -> ?WORKERS;
size_of(Pool) when Pool =:= threads; Pool =:= children -> 2.

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
stick(Actor, Frees) ->
    {default, Free} = lists:keyfind(default, 1, Frees),
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
    {settled(Frees), Result}.

%% Kills an actor in the middle of a call.
kill(Actor, Frees) ->
    Pid = ets:lookup_element(?MODULE, Actor, 2),
    Pid ! {run, fun() -> py:exec(<<"while True: pass">>) end},
    stop_actor(Actor),
    spawn_actor(Actor),
    settled(Frees).

restart() ->
    ok = start().

%% Restarts the application now and then: its supervisor bears ten deaths in ten seconds.
kill_pool() ->
    Deaths = deaths(),
    _ = erlang:put(deaths, Deaths + 1),
    Deaths rem 8 =:= 7 andalso start(),
    Pool = whereis(py_pool),
    Monitor = monitor(process, Pool),
    exit(Pool, kill),
    receive {'DOWN', Monitor, process, Pool, _} -> ok end,
    ok = py_test:wait_until(fun() -> is_pid(whereis(py_pool)) end),
    %% The pool answers when it has its workers; until then calls meet the old pool, which has none.
    _ = sys:get_state(py_pool),
    settled([{default, ?WORKERS}]).

deaths() ->
    case erlang:get(deaths) of
        undefined -> 0;
        Deaths -> Deaths
    end.

%%% Commands that name a pool

bind_in(Actor, Pool) -> ask(Actor, fun() -> py:bind(#{pool => Pool}) end).
get_in(Actor, Pool) -> ask(Actor, fun() -> py:eval(<<"x">>, #{}, #{pool => Pool}) end).

set_in(Actor, Pool, X) ->
    ask(Actor, fun() -> py:exec(<<"x = y; del y">>, #{y => X}, #{pool => Pool}) end).

raise_in(Actor, Pool) ->
    ask(Actor, fun() -> py:exec(<<"x = 5; raise KeyError">>, #{}, #{pool => Pool}) end).

new_in(Actor, Id, Pool) ->
    ask(Actor, fun() ->
        case py:bind(new, #{pool => Pool}) of
            {ok, Context} -> true = ets:insert(?MODULE, {Id, Context}), ok;
            {error, Reason} -> {error, Reason}
        end
    end).

scoped_in(Actor, Pool) ->
    ask(Actor, fun() ->
        py:with_context(#{pool => Pool}, fun(Context) ->
            ok = py:ctx_exec(Context, <<"x = 7">>),
            py:ctx_eval(Context, <<"x">>)
        end)
    end).

start_pool(threads) -> py_pool:start(threads, #{num_workers => 2});
start_pool(children) -> py_pool:start(children, #{level => process, num_workers => 2}).

stop_pool(Pool) -> py_pool:stop(Pool).

%% Runs code that ends the child, in the pool of children or in a context there.
crash_in(Actor, End, Frees) ->
    Result = ask(Actor, fun() -> py:exec(code(End), #{}, #{pool => children}) end),
    {settled(Frees), Result}.

crash(Actor, Id, End, Frees) ->
    Result = ask(Actor, fun() -> py:ctx_exec(handle(Id), code(End)) end),
    {settled(Frees), Result}.

%% The code would end the VM in a pool of threads.
code(End) ->
    ["import faulthandler, os; faulthandler.disable(); assert os.getpid() != ", os:getpid(), "; ",
     case End of
         exit -> "os._exit(3)";
         abort -> "os.abort()";
         segfault -> "import ctypes; ctypes.string_at(0)"
     end].

%% Kills the child of a context, or of the binding of the actor. The next call may come before the VM
%% knows it or after.
kill_child(Actor, Id, Frees) ->
    Result = ask(Actor, fun() ->
        case py_test:caught(fun() -> py:ctx_eval(handle(Id), <<"__import__('os').getpid()">>) end) of
            {ok, Pid} ->
                "" = os:cmd("kill -9 " ++ integer_to_list(Pid)),
                Next = py_test:caught(fun() -> py:ctx_eval(handle(Id), <<"1">>) end),
                lists:member(Next, [ended(kill), {raised, context_not_bound}]) orelse Next;
            Other ->
                Other
        end
    end),
    {settled(Frees), Result}.

kill_child(Actor, Frees) ->
    Result = ask(Actor, fun() ->
        {ok, Pid} = py:eval(<<"__import__('os').getpid()">>),
        "" = os:cmd("kill -9 " ++ integer_to_list(Pid)),
        %% A call that names another pool runs elsewhere. One that waits in the binding when it ends is interrupted,
        %% and one that comes later is a call without a binding.
        Next = simple(py:eval(<<"unset">>, #{}, #{pool => default})),
        Bound = simple(py:exec(<<"pass">>)),
        lists:member(Next, [{error, 'NameError'}, {error, no_workers_available}]) andalso
            lists:member(Bound, [ended(kill), {error, interrupted}, ok, {error, no_workers_available}]) orelse
            {Next, Bound}
    end),
    {settled(Frees), Result}.

ended(exit) -> {error, {worker_exited, #{status => 3}}};
ended(abort) -> {error, {worker_exited, #{signal => 6}}};
ended(segfault) -> {error, {worker_exited, #{signal => 11}}};
ended(kill) -> {error, {worker_exited, #{signal => 9}}}.
