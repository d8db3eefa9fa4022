%% Does a dump say what each worker does, also while its code keeps the GIL? Does a profile say where the time
%% goes? Do neither of them harm what they look at?
-module(py_dump_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    only(level()) ++
    [nothing_runs, an_idle_context, an_idle_binding, a_call_and_its_stack, codes, long_codes, calls_within_calls,
     calls_that_wait, calls_without_a_lease, coroutines, coroutines_that_await_no_coroutine, a_clean_up,
     code_that_keeps_the_gil, who_has_the_gil, every_pool, deep_stacks, a_table,
     ended_contexts, bad_arguments, texts_of_errors, leases_that_come_and_go, a_thousand_at_once, what_was_looked_at_goes_on,
     a_profile, a_profile_of_an_idle_context, a_profile_of_a_binding, a_profile_of_two_functions, names_in_a_profile,
     a_profile_of_coroutines, a_profile_of_one_lease_only, profiles_side_by_side,
     the_context_of_a_profile_ends,
     a_profile_without_the_gil, the_caller_of_a_profile_dies, no_application].

%% What happens at one level only.
only(thread) -> [an_abandoned_worker, the_worker_of_a_profile_is_abandoned];
only(process) -> [the_worker_of_a_profile_dies].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    %% A worker cleans up after its lease has ended.
    ok = py_test:wait_until(fun() -> py:dump() =:= [] orelse py:dump() end),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

level() ->
    case py_test:is_on_processes() of
        true -> process;
        false -> thread
    end.

gil() ->
    case py_test:is_on_processes() of
        true -> own;
        false -> none
    end.

%% Returns a context whose code waits in `inner', called by `outer', until `go' is set.
-define(CODE, <<"
import sys, time
def inner(event):
    event.append(1)
    while not event[1:]: time.sleep(0.001)
def outer(event):
    inner(event)
event = []
">>).

%% Starts `outer' in a context, and waits until it runs.
outer(Ctx) ->
    Caller = py_test:start_call(fun() -> py:ctx_eval(Ctx, <<"outer(event)">>) end),
    ok = py_test:wait_until(fun() ->
        case py:dump(Ctx) of
            #{stack := [_, _, _ | _]} -> true;
            Info -> Info
        end
    end),
    Caller.

%% No job can end a job of the same context.
stop(Ctx, Caller) ->
    ok = py:interrupt(Ctx),
    {error, interrupted} = py_test:result(Caller),
    ok = py:unbind(Ctx).

places(Stack) ->
    [{Function, Line} || #{function := Function, line := Line} <- Stack].

%%% Dumps

nothing_runs(_Config) ->
    [] = py:dump().

an_idle_context(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>),
    Info = py:dump(Ctx),
    Owner = self(),
    #{pool := default, context := Id, kind := explicit, owner := Owner, worker := Worker, state := idle, calls := [],
      stack := [], tasks := [], queued := 0} = Info,
    {true, true, true} = {is_integer(Id), is_integer(Worker), maps:get(level, Info) =:= level()},
    {true, 12} = {maps:get(gil, Info) =:= gil(), map_size(Info)},
    [Info] = py:dump(),
    ok = py:unbind(Ctx).

an_idle_binding(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    Owner = self(),
    #{kind := implicit, owner := Owner, state := idle} = Info = py:dump(self()),
    [Info] = py:dump(),
    Info = py_test:in_process(fun() -> py:dump(Owner) end),
    ok = py:unbind().

a_call_and_its_stack(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, ?CODE),
    Caller = outer(Ctx),
    #{state := running, calls := [Call], stack := Stack, tasks := [], queued := 0} = py:dump(Ctx),
    #{code := <<"eval: outer(event)">>, caller := Caller, time := Time} = Call,
    [{<<"<module>">>, 1}, {<<"outer">>, 7}, {<<"inner">>, 5}] = places(Stack),
    [<<"<erlang>">>] = lists:usort([File || #{file := File} <- Stack]),
    ok = py_test:wait_until(fun() ->
        #{calls := [#{time := Later}]} = py:dump(Ctx),
        Later > Time
    end),
    stop(Ctx, Caller).

%% What a call runs, in a few words.
codes(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import time, types
def spin(n=1):
    while n: time.sleep(0.001)
class C:
    def m(self, n=1): spin(n)
c = C()
class I:
    def __iter__(self): return self
    def __next__(self): spin()
"
           >>),
    {ok, Object} = py:ctx_eval(Ctx, <<"c">>),
    lists:foreach(fun({Code, Fun}) ->
        Caller = py_test:start_call(Fun),
        ok = py_test:wait_until(fun() ->
            case py:dump(Ctx) of
                #{calls := [#{code := Code}]} -> true;
                Info -> Info
            end
        end),
        ok = py:interrupt(Ctx),
        _ = py_test:result(Caller)
    end, [
        {<<"__main__.spin(...)">>, fun() -> py:ctx_call(Ctx, '__main__', spin, []) end},
        {<<"__main__.spin(...)">>, fun() -> py:ctx_call(Ctx, <<"__main__">>, <<"spin">>, [1]) end},
        {<<"__main__.c.m(...)">>, fun() -> py:ctx_call(Ctx, '__main__', 'c.m', []) end},
        {<<"object.m(...)">>, fun() -> py:ctx_call_method(Ctx, Object, m, []) end},
        {<<"eval: c.m(n)">>, fun() -> py:ctx_eval(Ctx, <<"c.m(n)">>, #{n => 1}) end},
        {<<"exec: c.m()">>, fun() -> py:ctx_exec(Ctx, <<"\n\nc.m()\n">>) end},
        {<<"exec: c.m(); y = 1">>, fun() -> py:ctx_exec(Ctx, <<"c.m(); y = 1">>) end},
        {<<"run: c.m() 7">>, fun() -> py:ctx_run(Ctx, <<"c.m()\n7">>) end},
        {<<"eval: c.m()">>, fun() -> py:ctx_eval(Ctx, <<"c.m()">>, #{}, #{return => object}) end},
        {<<"stream of __main__.spin(...)">>, fun() -> py:ctx_stream(Ctx, '__main__', spin, []) end},
        {<<"next items of a stream">>, fun() -> {ok, Stream} = py:ctx_stream(Ctx, '__main__', 'I', []), next(Stream) end},
        {<<"__main__.spin(...)">>, fun() -> py:ctx_call(Ctx, '__main__', spin, [], #{}, #{arrays => binary}) end}
    ]),
    ok = py:unbind(Ctx).

next(Stream) ->
    ok = py:stream_next(Stream, 1),
    receive {py_stream, Stream, {error, Reason}} -> {error, Reason} end.

%% Only the beginning of a long code crosses; letters stay whole.
long_codes(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"def spin():\n    while True: pass">>),
    Padding = unicode:characters_to_binary(lists:duplicate(100000, $\x{20AC})),
    Caller = py_test:start_call(fun() -> py:ctx_exec(Ctx, <<"spin() # ", Padding/binary>>) end),
    ok = py_test:wait_until(fun() ->
        case py:dump(Ctx) of
            #{calls := [#{code := <<"exec: spin() # ", Rest/binary>>}]} ->
                unicode:characters_to_list(Rest) =:= lists:duplicate(80 - 9, $\x{20AC}) ++ "...";
            Info ->
                Info
        end
    end),
    stop(Ctx, Caller).

calls_within_calls(_Config) ->
    Self = self(),
    ok = py:register_function(dump_within, fun([]) -> {ok, X} = py:eval(<<"within(1)">>), X end),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import erlang, time
def within(n):
    while n: time.sleep(0.001)
def around():
    return erlang.dump_within()
">>),
    Caller = py_test:start_call(fun() -> py:ctx_call(Ctx, '__main__', around, []) end),
    ok = py_test:wait_until(fun() ->
        case py:dump(Ctx) of
            #{calls := [#{code := <<"__main__.around(...)">>, caller := Caller},
                        #{code := <<"eval: within(1)">>, caller := Other}], state := running, stack := Stack}
              when Other =/= Caller, Other =/= Self ->
                [{<<"around">>, 6}, {<<"<module>">>, 1}, {<<"within">>, 4}] =:= places(Stack) orelse Stack;
            Info ->
                Info
        end
    end),
    ok = py:interrupt(Ctx),
    _ = py_test:result(Caller),
    ok = py:unregister_function(dump_within),
    ok = py:unbind(Ctx).

%% Calls in the queue of a context.
calls_that_wait(_Config) ->
    {Ctx, Gate, Blocker} = py_test:blocked_context(),
    Calls = [py:ctx_call_async(Ctx, builtins, abs, [-N]) || N <- [1, 2, 3]],
    #{queued := 3, state := running, calls := [_]} = py:dump(Ctx),
    ok = py_test:open_gate(Gate, Blocker),
    [{ok, 1}, {ok, 2}, {ok, 3}] = [py:await(Call) || Call <- Calls],
    #{queued := 0, state := idle, calls := []} = py:dump(Ctx),
    ok = py:unbind(Ctx).

calls_without_a_lease(_Config) ->
    Caller = py_test:start_call(fun() -> py:exec(<<"while True: pass">>) end),
    ok = py_test:wait_until(fun() ->
        case py:dump() of
            [#{context := none, kind := none, owner := none, state := running, queued := 0,
               calls := [#{code := <<"exec: while True: pass">>, caller := Caller}]}] -> true;
            Infos -> Infos
        end
    end),
    {raised, context_not_bound} = py_test:caught(fun() -> py:dump(Caller) end),
    ok = py:interrupt(Caller),
    {error, interrupted} = py_test:result(Caller).

coroutines(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import asyncio
gate = asyncio.Event()
async def inner(n):
    await gate.wait()
    return n
async def outer(n):
    return await inner(n)
async def release():
    gate.set()
">>),
    Self = self(),
    One = py:ctx_async_call(Ctx, '__main__', outer, [1]),
    Two = py:ctx_async_call(Ctx, '__main__', outer, [2]),
    ok = py_test:wait_until(fun() ->
        case py:dump(Ctx) of
            #{state := event_loop, calls := [], tasks := [_, _] = Tasks} ->
                Stacks = [lists:sublist(places(Stack), 2)
                          || #{code := <<"__main__.outer(...)">>, caller := Caller, stack := [_ | _] = Stack} <- Tasks,
                             Caller =:= Self],
                [[{<<"outer">>, 8}, {<<"inner">>, 5}], [{<<"outer">>, 8}, {<<"inner">>, 5}]] =:= Stacks orelse Tasks;
            Info ->
                Info
        end
    end),
    {ok, none} = py:async_await(py:ctx_async_call(Ctx, '__main__', release, [])),
    [{ok, 1}, {ok, 2}] = [py:async_await(One), py:async_await(Two)],
    ok = py_test:wait_until(fun() ->
        case py:dump(Ctx) of
            #{tasks := []} -> true;
            Info -> Info
        end
    end),
    ok = py:unbind(Ctx).

%% The code of an awaitable that is no coroutine does not run by a look.
coroutines_that_await_no_coroutine(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import asyncio
looks = []
class Odd:
    def __getattribute__(self, name):
        looks.append(name)
        return object.__getattribute__(self, name)
    def __iter__(self): return self
    def __await__(self): return self
    def __next__(self):
        return None
    def send(self, value):
        return None
    @property
    def cr_frame(self): looks.append('cr_frame')
async def wait():
    await Odd()
">>),
    Call = py:ctx_async_call(Ctx, '__main__', wait, []),
    ok = py_test:wait_until(fun() ->
        case py:dump(Ctx) of
            #{tasks := [#{stack := [#{function := <<"wait">>} | _]}]} -> true;
            Info -> Info
        end
    end),
    [_ = py:dump(Ctx) || _ <- lists:seq(1, 10)],
    {ok, []} = py:ctx_eval(Ctx, <<"[n for n in looks if n not in ('__class__', 'send', '__next__')]">>),
    ok = py:interrupt(Ctx),
    {error, interrupted} = py:async_await(Call),
    ok = py:unbind(Ctx).

%% A finalizer that runs while the namespace is emptied.
a_clean_up(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import time
class Slow:
    def __del__(self):
        time.sleep(0.3)
slow = Slow()
">>),
    ok = py:unbind(Ctx),
    {raised, context_not_bound} = py_test:caught(fun() -> py:dump(Ctx) end),
    ok = py_test:wait_until(fun() ->
        case py:dump() of
            [#{state := cleaning, stack := Stack, calls := []}] when is_list(Stack) ->
                lists:member(<<"Slow.__del__">>, [Function || #{function := Function} <- Stack]) orelse Stack;
            Infos ->
                Infos
        end
    end).

%% A thread that no interrupt ends.
an_abandoned_worker(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py_test:time_out_stuck(Ctx),
    ok = py_test:wait_for_abandoned(1),
    [#{state := abandoned, worker := Worker, calls := [#{code := <<"builtins.exec(...)">>}]}] = py:dump(),
    true = is_integer(Worker),
    {ok, Next} = py:bind(new),
    ok = py_test:wait_until(fun() -> [abandoned, idle] =:= lists:sort([State || #{state := State} <- py:dump()]) end),
    ok = py:unbind(Next),
    ok = py_test:free_stuck(0),
    ok = py:unbind(Ctx),
    ok = py_test:wait_available(?WORKERS).

%% `PyDLL' calls a function of C without releasing the GIL.
code_that_keeps_the_gil(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, Other} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"import ctypes, erlang\nc = ctypes.PyDLL(None)">>),
    Self = self(),
    Caller = py_test:start_call(fun() ->
        py:ctx_eval(Ctx, <<"(erlang.send(test, 'keeps'), c.usleep(2000000))">>, #{test => Self})
    end),
    receive <<"keeps">> -> ok end,
    timer:sleep(50),
    #{state := running, stack := unknown, calls := [#{caller := Caller}]} = py:dump(Ctx),
    Infos = py:dump(),
    2 = length(Infos),
    %% Another context in the same VM: its worker waits for the GIL, or has one of its own.
    Waiting = py_test:start_call(fun() -> py:ctx_eval(Other, <<"1">>) end),
    case level() of
        thread ->
            ok = py_test:wait_until(fun() ->
                case py:dump(Other) of
                    #{gil := {waits, Time}, queued := 1} when is_integer(Time) -> true;
                    Info -> Info
                end
            end),
            #{gil := holds} = py:dump(Ctx);
        process ->
            {ok, 1} = py:ctx_eval(Other, <<"1">>),
            #{gil := own} = py:dump(Ctx)
    end,
    %% The code still runs: no dump has waited for its end.
    #{calls := [_]} = py:dump(Ctx),
    {ok, {none, 0}} = py_test:result(Caller),
    {ok, 1} = py_test:result(Waiting),
    [ok = py:unbind(C) || C <- [Ctx, Other]],
    %% The stacks that came too late have gone with the processes that had asked for them.
    py_test:assert_empty_mailbox().

who_has_the_gil(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"def spin(n):\n    while n: pass">>),
    Caller = py_test:start_call(fun() -> py:ctx_call(Ctx, '__main__', spin, [1]) end),
    Expected = case level() of thread -> holds; process -> own end,
    ok = py_test:wait_until(fun() ->
        case py:dump(Ctx) of
            #{gil := Expected, state := running, stack := [#{function := <<"spin">>}]} -> true;
            Info -> Info
        end
    end),
    stop(Ctx, Caller).

%% The workers of all pools are there, in the order of their names and numbers.
every_pool(_Config) ->
    ok = py_pool:start(dump_kids, #{level => process, num_workers => 2}),
    ok = py_pool:start(dump_threads, #{num_workers => 2}),
    Contexts = [begin {ok, Ctx} = py:bind(new, #{pool => Pool}), {ok, 1} = py:ctx_eval(Ctx, <<"1">>), Ctx end
                || Pool <- [default, dump_kids, dump_kids, dump_threads]],
    Own = level(),
    [{default, Own, _}, {dump_kids, process, A}, {dump_kids, process, B}, {dump_threads, thread, _}] =
        [{Pool, Level, Worker} || #{pool := Pool, level := Level, worker := Worker} <- py:dump()],
    true = A < B,
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    [ok = py_pool:stop(Pool) || Pool <- [dump_kids, dump_threads]],
    ok = py_test:wait_until(fun() -> py:dump() =:= [] end).

%% The innermost frames of a deep recursion.
deep_stacks(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"def deep(n):\n    if n: deep(n - 1)\n    while not n: pass">>),
    Caller = py_test:start_call(fun() -> py:ctx_call(Ctx, '__main__', deep, [800]) end),
    ok = py_test:wait_until(fun() ->
        case py:dump(Ctx) of
            #{stack := Stack} when length(Stack) =:= 200 -> true;
            Info -> Info
        end
    end),
    stop(Ctx, Caller).

a_table(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, ?CODE),
    Caller = outer(Ctx),
    ok = py:bind(),
    ct:capture_start(),
    ok = py:top(),
    ct:capture_stop(),
    Text = unicode:characters_to_list(ct:capture_get([])),
    [Head | Rows] = string:lexemes(Text, "\n"),
    ["POOL", "WORKER", "LEVEL", "CONTEXT", "OWNER", "STATE", "MS", "GIL", "QUEUED", "TASKS", "CODE"] =
        string:lexemes(Head, " "),
    2 = length(Rows),
    [Running] = [Row || Row <- Rows, string:find(Row, "running") =/= nomatch],
    ok = py_test:contains(Running, "eval: outer(event) in inner (<erlang>:5)"),
    ok = py_test:contains(Running, "default"),
    ok = py:unbind(),
    stop(Ctx, Caller).

ended_contexts(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:unbind(Ctx),
    {raised, context_not_bound} = py_test:caught(fun() -> py:dump(Ctx) end),
    {raised, context_not_bound} = py_test:caught(fun() -> py:profile(Ctx, 10) end),
    Pid = spawn(fun() -> ok end),
    {raised, context_not_bound} = py_test:caught(fun() -> py:dump(Pid) end),
    {raised, context_not_bound} = py_test:caught(fun() -> py:profile(self(), 10) end).

bad_arguments(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, Object} = py:ctx_eval(Ctx, <<"object()">>),
    [{raised, badarg} = py_test:caught(fun() -> py:dump(Bad) end)
     || Bad <- [none, undefined, 1, make_ref(), <<"x">>, Object, [Ctx], {Ctx}]],
    [{raised, badarg} = py_test:caught(fun() -> py:profile(Ctx, Bad) end)
     || Bad <- [0, -1, 600001, 1.0, infinity, "10", 1 bsl 70]],
    [{raised, badarg} = py_test:caught(fun() -> py:profile(Bad, 10) end)
     || Bad <- [none, 1, make_ref(), Object]],
    ok = py:unbind(Ctx).

texts_of_errors(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:unbind(Ctx),
    Self = self(),
    [ok = py_test:contains(text(Fun), Text) || {Fun, Text} <- [
        {fun() -> py:dump(Ctx) end, "the context has ended"},
        {fun() -> py:dump(Self) end, "the process has no binding"},
        {fun() -> py:dump(none) end, "neither a context nor a process"},
        {fun() -> py:profile(Self, 0) end, "not milliseconds, from 1 to 600000"},
        {fun() -> py:profile(Ctx, 1) end, "the context has ended"}
    ]].

text(Fun) ->
    try Fun() of
        Value -> ct:fail("~p", [Value])
    catch
        error:Reason:Stack -> lists:flatten([maps:values(py_arguments:format_error(Reason, Stack))])
    end.

%% Contexts come and go, and a dump of each is made meanwhile.
leases_that_come_and_go(_Config) ->
    Work = fun() ->
        [begin
            {ok, Ctx} = py:bind(new, #{wait => 20000}),
            ok = py:ctx_exec(Ctx, <<"x = 1">>),
            Call = py:ctx_call_async(Ctx, time, sleep, [0.001]),
            Dumped = py_test:start_call(fun() -> py_test:caught(fun() -> py:dump(Ctx) end) end),
            _ = py:dump(),
            ok = py:unbind(Ctx),
            _ = py_test:caught(fun() -> py:await(Call) end),
            case py_test:result(Dumped) of
                #{pool := default} -> ok;
                {raised, context_not_bound} -> ok
            end
         end || _ <- lists:seq(1, 30)]
    end,
    Callers = [py_test:start_call(Work) || _ <- lists:seq(1, 6)],
    [_ = py_test:result(Caller) || Caller <- Callers].

a_thousand_at_once(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"import ctypes\nc = ctypes.PyDLL(None)">>),
    Before = processes(),
    Caller = py_test:start_call(fun() -> py:ctx_eval(Ctx, <<"c.usleep(500000)">>) end),
    Callers = [py_test:start_call(fun() -> length(py:dump()) end) || _ <- lists:seq(1, 1000)],
    [1] = lists:usort([py_test:result(Dump) || Dump <- Callers]),
    {ok, 0} = py_test:result(Caller),
    #{state := idle, stack := []} = py:dump(Ctx),
    ok = py:unbind(Ctx),
    ok = py_test:wait_until(fun() -> processes() -- Before =:= [] end).

%% Results are right while code is looked at again and again; a generator's frame is alive only for a moment.
what_was_looked_at_goes_on(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
def gen(n):
    for i in range(n):
        yield from (j for j in range(i % 3))
def work():
    return [sum(gen(50)) for _ in range(2000)]
">>),
    Caller = py_test:start_call(fun() ->
        lists:usort(lists:append([begin {ok, Sums} = py:ctx_call(Ctx, '__main__', work, []), Sums end]))
    end),
    Profile = py_test:start_call(fun() -> py:profile(Ctx, 300) end),
    [_ = py:dump(Ctx) || _ <- lists:seq(1, 300)],
    [16] = py_test:result(Caller),
    {ok, _} = py_test:result(Profile),
    {ok, Garbage} = py:ctx_eval(Ctx, <<"__import__('gc').isenabled()">>),
    true = Garbage,
    ok = py:unbind(Ctx).

%%% Profiles

samples(Folded) ->
    Lines = binary:split(Folded, <<"\n">>, [global, trim]),
    [begin
        [Stack, Count] = string:split(Line, " ", trailing),
        {[hd(string:split(Frame, " (")) || Frame <- string:split(Stack, ";", all)], binary_to_integer(Count)}
     end || Line <- Lines].

a_profile(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, ?CODE),
    Caller = outer(Ctx),
    {ok, Folded} = py:profile(Ctx, 500),
    [{[<<"<module>">>, <<"outer">>, <<"inner">>], Count}] = samples(Folded),
    true = Count > 5 andalso Count =< 51,
    ok = py_test:contains(Folded, "<module> (<erlang>:1);outer (<erlang>:7);inner (<erlang>:5) "),
    stop(Ctx, Caller).

a_profile_of_an_idle_context(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, <<>>} = py:profile(Ctx, 50),
    ok = py:ctx_exec(Ctx, <<"x = 1">>),
    {ok, <<>>} = py:profile(Ctx, 50),
    ok = py:unbind(Ctx).

a_profile_of_a_binding(_Config) ->
    Caller = py_test:start_call(fun() ->
        ok = py:bind(),
        ok = py:exec(?CODE),
        py:eval(<<"outer(event)">>)
    end),
    ok = py_test:wait_until(fun() ->
        case py_test:caught(fun() -> py:dump(Caller) end) of
            #{stack := [_, _, _ | _]} -> true;
            Info -> Info
        end
    end),
    {ok, Folded} = py:profile(Caller, 100),
    [{[_, <<"outer">>, <<"inner">>], _}] = samples(Folded),
    ok = py:interrupt(Caller),
    {error, interrupted} = py_test:result(Caller).

%% The share of a function is that of its time.
a_profile_of_two_functions(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import time
def short(): time.sleep(0.01)
def long(): time.sleep(0.06)
def both():
    while True: short(); long()
">>),
    Caller = py_test:start_call(fun() -> py:ctx_call(Ctx, '__main__', both, []) end),
    {ok, Folded} = py:profile(Ctx, 2000),
    Of = fun(Name) -> lists:sum([Count || {Stack, Count} <- samples(Folded), lists:last(Stack) =:= Name]) end,
    {true, true} = {Of(<<"long">>) > 2 * Of(<<"short">>), Of(<<"short">>) > 0},
    %% The most frequent stack comes first.
    Counts = [Count || {_, Count} <- samples(Folded)],
    Counts = lists:reverse(lists:sort(Counts)),
    stop(Ctx, Caller).

%% What separates the fields does not stand in a name.
names_in_a_profile(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
def odd():
    while True: pass
odd.__code__ = odd.__code__.replace(co_name='a;b\\nc', co_qualname='a;b\\nc', co_filename='d;e\\n\\udc80')
">>),
    Caller = py_test:start_call(fun() -> py:ctx_call(Ctx, '__main__', odd, []) end),
    ok = py_test:wait_until(fun() -> {ok, Folded} = py:profile(Ctx, 50), Folded =/= <<>> end),
    {ok, Folded} = py:profile(Ctx, 100),
    [Line] = binary:split(Folded, <<"\n">>, [global, trim]),
    ok = py_test:contains(Line, "a,b c (d,e"),
    #{stack := [#{function := <<"a;b\nc">>}]} = py:dump(Ctx),
    stop(Ctx, Caller).

a_profile_of_coroutines(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import asyncio
async def spin():
    while True:
        for _ in range(10000): pass
        await asyncio.sleep(0)
">>),
    Call = py:ctx_async_call(Ctx, '__main__', spin, []),
    {ok, Folded} = py:profile(Ctx, 500),
    ok = py_test:contains(Folded, "spin (<erlang>:"),
    ok = py:interrupt(Ctx),
    {error, interrupted} = py:async_await(Call),
    ok = py:unbind(Ctx).

%% Another context of the same pool, perhaps on the same worker after this one, is not sampled.
a_profile_of_one_lease_only(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 1">>),
    Profile = py_test:start_call(fun() -> py:profile(Ctx, 1000) end),
    timer:sleep(100),
    ok = py:unbind(Ctx),
    Others = [begin {ok, Other} = py:bind(new, #{wait => 20000}), Other end || _ <- lists:seq(1, ?WORKERS)],
    Calls = [py:ctx_call_async(Other, time, sleep, [0.5]) || Other <- Others],
    {ok, <<>>} = py_test:result(Profile),
    [{ok, none} = py:await(Call) || Call <- Calls],
    [ok = py:unbind(Other) || Other <- Others].

profiles_side_by_side(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, ?CODE),
    Caller = outer(Ctx),
    Profiles = [py_test:start_call(fun() -> py:profile(Ctx, Time) end) || Time <- [1, 50, 100, 200, 300, 300]],
    [begin
        {ok, Folded} = py_test:result(Profile),
        [<<"inner">> = lists:last(Stack) || {Stack, _} <- samples(Folded)]
     end || Profile <- Profiles],
    stop(Ctx, Caller).

the_context_of_a_profile_ends(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, ?CODE),
    Caller = py_test:start_call(fun() -> py_test:caught(fun() -> py:ctx_eval(Ctx, <<"outer(event)">>) end) end),
    Profile = py_test:start_call(fun() -> py:profile(Ctx, 60000) end),
    timer:sleep(200),
    ok = py:unbind(Ctx),
    {error, interrupted} = py_test:result(Caller),
    {ok, Folded} = py_test:result(Profile),
    true = is_binary(Folded).

the_worker_of_a_profile_dies(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, ?CODE),
    Profile = py_test:start_call(fun() -> py:profile(Ctx, 60000) end),
    timer:sleep(100),
    {error, {worker_exited, _}} = py:ctx_eval(Ctx, <<"__import__('os')._exit(3)">>),
    {error, interrupted} = py_test:result(Profile),
    ok = py_test:wait_whole(default, ?WORKERS).

the_worker_of_a_profile_is_abandoned(_Config) ->
    {ok, Ctx} = py:bind(new),
    Profile = py_test:start_call(fun() -> py:profile(Ctx, 60000) end),
    ok = py_test:time_out_stuck(Ctx),
    {ok, Folded} = py_test:result(Profile),
    true = is_binary(Folded),
    ok = py_test:free_stuck(0),
    ok = py:unbind(Ctx),
    ok = py_test:wait_available(?WORKERS).

%% Nothing can be sampled while code of C keeps the GIL.
a_profile_without_the_gil(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"import ctypes\nc = ctypes.PyDLL(None)">>),
    Caller = py_test:start_call(fun() -> py:ctx_eval(Ctx, <<"c.usleep(2500000)">>) end),
    ok = py_test:wait_until(fun() -> maps:get(stack, py:dump(Ctx)) =:= unknown end),
    {error, timeout} = py:profile(Ctx, 100),
    {ok, 0} = py_test:result(Caller),
    {ok, _} = py:profile(Ctx, 20),
    ok = py:unbind(Ctx).

the_caller_of_a_profile_dies(_Config) ->
    {ok, Ctx} = py:bind(new),
    Before = processes(),
    Caller = spawn(fun() -> py:profile(Ctx, 60000) end),
    ok = py_test:wait_until(fun() -> length(processes() -- Before) >= 2 end),
    exit(Caller, kill),
    ok = py_test:wait_until(fun() -> processes() -- Before =:= [] end),
    ok = py:unbind(Ctx).

no_application(_Config) ->
    ok = py_test:stop(),
    {raised, {not_started, erlang_python}} = py_test:caught(fun() -> py:dump() end),
    {raised, {not_started, erlang_python}} = py_test:caught(fun() -> py:top() end),
    {raised, {not_started, erlang_python}} = py_test:caught(fun() -> py:dump(self()) end),
    {raised, {not_started, erlang_python}} = py_test:caught(fun() -> py:profile(self(), 10) end),
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}]).
