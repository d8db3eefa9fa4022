%% Is anything lost when everything goes wrong at once? Processes do what users do, and others
%% kill, time out, interrupt, crash and restart; then the pool must be as it was.
%%
%% FULL=1 runs for an hour; CHAOS_SECONDS says another time. The seed is logged; SEED repeats it,
%% as far as threads repeat anything.
-module(py_chaos_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 6).
-define(ACTORS, 24).

suite() ->
    [{timetrap, {hours, 2}}].

all() ->
    [ten_thousand_callers_are_killed, everything_goes_wrong_at_once].

init_per_suite(Config) ->
    _ = os:cmd("epmd -daemon"),
    {ok, _} = net_kernel:start([py_test:node_name(), shortnames]),
    Config.

end_per_suite(_Config) ->
    ok = net_kernel:stop(),
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 200}]),
    ok = logger:set_module_level(py_pool_server, none),
    ok = register_functions(),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = logger:unset_module_level(py_pool_server),
    py_test:assert_empty_mailbox().

%%% Killed callers

ten_thousand_callers_are_killed(_Config) ->
    {ok, Shared} = py:bind(new),
    %% The variable is set before: it may be that no killed process comes to that call.
    ok = py:ctx_exec(Shared, <<"y = 1">>),
    seed(),
    Calls = [fun() -> py:eval(<<"1">>) end,
             fun() -> py:exec(<<"for _ in range(10000): pass">>) end,
             fun() -> py:bind(), py:exec(<<"x = [0] * 1000">>) end,
             fun() -> py:bind(#{wait => 100}), py:eval(<<"1">>) end,
             fun() -> {ok, Ctx} = py:bind(new), py:ctx_eval(Ctx, <<"list(range(100))">>) end,
             fun() -> py:ctx_exec(Shared, <<"y = 1">>) end,
             fun() -> py:with_context(fun(Ctx) -> py:ctx_eval(Ctx, <<"object()">>) end) end],
    Kill = fun(_) ->
        %% A name that the code cannot get raises an exception.
        Pid = spawn(fun() -> py_test:caught(fun() -> (any(Calls))() end) end),
        spin(rand:uniform(400)),
        exit(Pid, kill)
    end,
    lists:foreach(Kill, lists:seq(1, 10000)),
    ok = py_test:wait_available(?WORKERS - 1),
    {ok, 1} = py:ctx_eval(Shared, <<"y">>),
    ok = py:unbind(Shared),
    ok = nothing_is_left().

%% Spins, since a sleep takes a millisecond at least.
spin(0) -> ok;
spin(N) -> _ = erlang:phash2(N), spin(N - 1).

%%% Chaos

everything_goes_wrong_at_once(_Config) ->
    Seconds = seconds(),
    seed(),
    End = erlang:monotonic_time(millisecond) + Seconds * 1000,
    ets:new(?MODULE, [named_table, public]),
    Actors = [spawn_actor(N, End) || N <- lists:seq(1, ?ACTORS)],
    Demon = spawn_link(fun() -> rand:seed(exsss), demon(End) end),
    Sizes = watch(End, []),
    [await(Pid) || Pid <- [Demon | Actors]],
    %% Killed actors were replaced, and counted in the same table.
    Done = [{What, N} || {What, N} <- ets:tab2list(?MODULE), is_atom(What)],
    ct:log("done: ~tp~nresident bytes: ~w", [lists:sort(Done), Sizes]),
    [] = [unexpected(Entry) || {{unexpected, _}, _} = Entry <- ets:tab2list(?MODULE)],
    true = ets:delete(?MODULE),
    ok = nothing_is_left(),
    ok = is_flat(Sizes, Seconds),
    {comment, io_lib:format("~b s, ~b operations", [Seconds, lists:sum([N || {_, N} <- Done])])}.

unexpected(Entry) ->
    ct:log("~tp", [Entry]),
    Entry.

seconds() ->
    case {os:getenv("CHAOS_SECONDS"), os:getenv("FULL")} of
        {false, false} -> 8;
        {false, _} -> 3600;
        {Seconds, _} -> list_to_integer(Seconds)
    end.

seed() ->
    Seed = list_to_integer(os:getenv("SEED", integer_to_list(erlang:system_time(second)))),
    ct:log("SEED=~b", [Seed]),
    _ = rand:seed(exsss, Seed),
    ok.

%% Starts an actor under a guard, which starts another one when the actor is killed.
spawn_actor(N, End) ->
    spawn_link(fun() -> guard(N, End) end).

guard(N, End) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        true = ets:insert(?MODULE, {N, self()}),
        _ = rand:seed(exsss),
        act(End)
    end),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, killed} -> guard(N, End);
        {'DOWN', Monitor, process, Pid, Reason} ->
            ets:insert(?MODULE, {{unexpected, N}, {actor_died, Reason}})
    end.

await(Pid) ->
    Monitor = monitor(process, Pid),
    receive {'DOWN', Monitor, process, Pid, Reason} ->
        true = lists:member(Reason, [normal, noproc])
    end.

act(End) ->
    case erlang:monotonic_time(millisecond) < End of
        true ->
            {What, Do} = any(deeds()),
            Result = try Do() catch Class:Reason -> {Class, Reason} end,
            _ = ets:update_counter(?MODULE, What, 1, {What, 0}),
            is_expected(Result) orelse ets:insert(?MODULE, {{unexpected, What}, Result}),
            py_test:assert_empty_mailbox(),
            act(End);
        false ->
            ok = py:unbind()
    end.

%% The errors that a user can get; others fail the case.
is_expected({ok, _}) -> true;
is_expected(ok) -> true;
is_expected({error, Reason}) when is_atom(Reason) ->
    lists:member(Reason, [timeout, interrupted, no_workers_available, overloaded, worker_crashed,
                          not_running, context_not_bound, {not_started, erlang_python}]);
is_expected({error, {not_started, erlang_python}}) -> true;
is_expected({error, {Class, _}}) ->
    %% `Exception' is an ErlangError; `RuntimeError' says that no process serves callbacks just now.
    lists:member(Class, ['ValueError', 'NameError', 'TypeError', 'RecursionError', 'Exception',
                         'RuntimeError']);
is_expected(_) -> false.

deeds() ->
    plain_deeds() ++ using_deeds() ++ talking_deeds() ++ flowing_deeds().

plain_deeds() ->
    [{eval, fun() -> py:eval(<<"[x, {'k': x}]">>, #{x => self()}) end},
     {object, fun() -> py:eval(<<"object()">>) end},
     {big, fun() -> py:eval(<<"list(range(20000))">>) end},
     {raise, fun() -> py:exec(<<"raise ValueError('chaos')">>) end},
     {recurse, fun() -> py:exec(<<"f = lambda: f()\nf()">>) end},
     {bind, fun() -> py:bind() end},
     {bind_and_wait, fun() -> py:bind(#{wait => rand:uniform(20)}) end},
     {set, fun() -> py:exec(<<"x = [object() for _ in range(1000)]">>) end},
     {get, fun() -> py:eval(<<"len(x)">>) end},
     {unbind, fun() -> py:unbind() end},
     {nested, fun() -> py:with_context(fun() ->
          py:with_context(fun(Ctx) -> py:ctx_eval(Ctx, <<"1">>) end) end) end},
     {hand_over, fun hand_over/0},
     {loop, fun() -> py:exec(<<"while True: pass">>, #{}, rand:uniform(10)) end},
     {short, fun() -> py:eval(<<"1">>, #{}, rand:uniform(3) - 1) end},
     {swallow, fun() -> py:exec(<<"
for _ in range(3):
    try:
        x = 0
        while True: x += 1
    except BaseException:
        pass
">>, #{}, 5) end},
     {stick, fun() -> rand:uniform(20) > 1 orelse
          py:exec(py_test:stuck(0.4), #{}, 5), ok end},
     {finalize, fun() -> py:with_context(fun() -> py:exec(<<"
class Last:
    def __del__(self):
        sum(range(1000))
last = Last()
">>) end) end},
     {thread, fun() -> py:exec(<<"
import threading
t = threading.Thread(target=int)
t.start()
t.join()
">>) end},
     {crash, fun() -> rand:uniform(20) > 1 orelse crash(), ok end},
     {interrupt, fun() -> py:interrupt(other()) end},
     {dump, fun() -> true = is_list(py:dump()), #{owner := _} = py:dump(other()), ok end},
     {profile, fun() -> py:profile(other(), rand:uniform(50)) end},
     {stats, fun() -> #{num_workers := _} = py_pool:get_stats(), ok end}].

%% Python code that calls Erlang functions, which crash, hang, exit and call back.
%% Objects, blocks and output.
using_deeds() ->
    [{drop_handles, fun() ->
          _ = spawn(fun() -> {ok, [_ | _]} = py:eval(<<"[object() for _ in range(1000)]">>), exit(kill) end),
          ok
      end},
     {method, fun() ->
          py:with_context(fun(Ctx) ->
              case py:ctx_eval(Ctx, <<"[3, 1, 2]">>, #{}, #{return => object}) of
                  {ok, List} -> {ok, none} = py:ctx_call(Ctx, List, sort, []), {ok, [1, 2, 3]} = py:ctx_to_term(Ctx, List);
                  Error -> Error
              end
          end)
      end},
     {block, fun() -> py:run(<<"y = 1\ny + 1">>) end},
     {encode, fun() -> py:run(<<"import erlang\nerlang.encoder(complex, repr)\n[1j] * 100">>) end},
     {captured, fun() ->
          case py:with_output(fun() -> py:exec(<<"for i in range(50): print(i)">>) end) of
              {ok, Text} -> 50 = length(binary:split(Text, <<"\n">>, [global, trim])), ok;
              {Error, _} -> Error
          end
      end},
     {print_to_the_dying, fun() ->
          Leader = group_leader(),
          true = group_leader(spawn(fun mortal_leader/0), self()),
          try py:exec(<<"print('half', end='', flush=True)\nprint(' line')">>, #{}, 2000)
          after true = group_leader(Leader, self()) end
      end}].

%% Dies in the middle of a line, or does not answer for a moment.
mortal_leader() ->
    receive
        {io_request, From, ReplyAs, _} ->
            rand:uniform(2) =:= 1 andalso (From ! {io_reply, ReplyAs, ok}),
            receive _ -> ok after rand:uniform(20) -> ok end
    after 5000 -> ok
    end.

talking_deeds() ->
    [{callback, fun() -> erlang(<<"echo(1)">>) end},
     {callback_crashes, fun() -> erlang(<<"crash()">>) end},
     {callback_exits, fun() -> erlang(<<"leave()">>) end},
     {callback_dies, fun() -> erlang(<<"die()">>) end},
     {callback_unlinks_and_dies, fun() -> erlang(<<"unlink_and_die()">>) end},
     {callback_unlinks_and_answers, fun() -> erlang(<<"unlink()">>) end},
     {callback_hibernates, fun() -> erlang(<<"sleep()">>, rand:uniform(20)) end},
     {callback_hangs, fun() -> erlang(<<"hang()">>, rand:uniform(20)) end},
     {caught, fun() -> py:exec(<<"
import erlang
for f in (erlang.crash, erlang.leave, erlang.die):
    try:
        f()
    except erlang.ErlangError:
        pass
">>) end},
     {reenter, fun() -> reenter(<<"echo(1)">>, 1000) end},
     {reenter_and_crash, fun() -> reenter(<<"crash()">>, 1000) end},
     {reenter_and_hang, fun() -> reenter(<<"hang()">>, rand:uniform(20)) end},
     {reenter_and_loop, fun() -> erlang(<<"loop(10)">>, rand:uniform(20)) end},
     {reenter_context, fun() -> py:with_context(fun(Ctx) ->
          py:ctx_eval(Ctx, <<"__import__('erlang').back(c)">>, #{c => fun() -> Ctx end}) end) end},
     {callback_of_a_thread, fun() -> py:exec(thread_that_calls(), #{}, 1000) end},
     {send, fun() -> py:exec(<<"
import erlang
for i in range(10):
    erlang.send(p, [i, erlang.self()])
">>, #{p => other_function()}) end},
     {send_to_nowhere, fun() -> py:exec(<<"
import erlang
for i in range(100):
    erlang.send(('init', node), [i, erlang.self()])
">>, #{node => nobody()}) end},
     {watch, fun() -> py:eval(<<"(lambda m: (m.wait(0.002), m.reason))"
                                "(__import__('erlang').monitor(p))">>, #{p => other()}) end}].

%% Uses of streams and coroutines, to their ends or abandoned half-way.
flowing_deeds() ->
    [{stream, fun() -> with_stream(fun(S) -> items(S, rand:uniform(5)) end) end},
     {stream_closed, fun() -> with_stream(fun(S) -> py:stream_next(S, 100) end) end},
     {stream_of_a_loop, fun() -> with_stream(<<"iter(int, 1)">>, fun(S) ->
          py:stream_next(S, 1 bsl 20)
      end) end},
     {stream_abandoned, fun() -> abandon(fun() ->
          with_stream(fun(S) -> _ = items(S, 2), py:stream_next(S, 3), exit(abandoned) end)
      end) end},
     {collect, fun() -> py:stream_eval(<<"(x for x in range(100))">>) end},
     {coroutine, fun() -> py:call(asyncio, sleep, [0.001]) end},
     {gather, fun() -> py:async_gather([{asyncio, sleep, [N / 1000, N]} || N <- [3, 1, 2]]) end},
     {gather_too_long, fun() -> py:async_gather([{asyncio, sleep, [N]} || N <- [0.001, 5]], 5) end},
     {gather_and_fail, fun() ->
          py:async_gather([{asyncio, sleep, [5]}, {asyncio, sleep, [x]}])
      end},
     {flight_abandoned, fun() -> abandon(fun() ->
          _ = py:async_call(asyncio, sleep, [5]), exit(abandoned)
      end) end},
     {call_abandoned, fun() -> abandon(fun() ->
          _ = py:call_async(builtins, sum, [lists:seq(1, 1000)]), exit(abandoned)
      end) end},
     {acall, fun() -> py:exec(<<"
import asyncio, erlang
async def all():
    return await asyncio.gather(*(erlang.acall(f, *a) for f, a in (
        ('echo', (1,)), ('crash', ()), ('die', ()), ('down', (2, 'echo(1)')))),
        return_exceptions=True)
asyncio.run(all())
">>, #{}, 1000) end}].

with_stream(Use) ->
    with_stream(<<"(x for x in range(10))">>, Use).

with_stream(Code, Use) ->
    case py:eval(Code) of
        {ok, Iterator} ->
            case py:stream_start(builtins, iter, [Iterator]) of
                {ok, Stream} -> try Use(Stream) after py:stream_close(Stream) end;
                {error, Reason} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

items(Stream, Count) ->
    ok = py:stream_next(Stream, Count),
    receive
        {py_stream, Stream, {items, _}} -> ok;
        {py_stream, Stream, done} -> ok;
        {py_stream, Stream, {error, Reason}} -> {error, Reason}
    after 5000 ->
        error(no_items)
    end.

%% Runs Fun in a process that ends in the middle of it.
abandon(Do) ->
    {Pid, Monitor} = spawn_monitor(fun() -> try Do() catch error:_ -> ok end end),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

erlang(Code) ->
    erlang(Code, 5000).

erlang(Code, Timeout) ->
    py:eval(<<"__import__('erlang').", Code/binary>>, #{}, Timeout).

%% Calls through some levels.
reenter(Code, Timeout) ->
    down(rand:uniform(6), Code, Timeout).

down(N, Code, Timeout) ->
    py:eval(<<"__import__('erlang').down(n, code)">>, #{n => N, code => Code}, Timeout).

register_functions() ->
    Functions = #{
        echo => fun([X]) -> X end,
        crash => fun([]) -> error(chaos) end,
        leave => fun([]) -> exit(chaos) end,
        die => fun([]) -> exit(self(), kill), receive never -> ok end end,
        unlink_and_die => fun([]) ->
            ok = unlink_all(),
            exit(self(), kill),
            receive never -> ok end
        end,
        unlink => fun([]) -> unlink_all() end,
        sleep => fun([]) -> proc_lib:hibernate(?MODULE, wake, []) end,
        hang => fun([]) -> receive never -> ok end end,
        loop => fun([Timeout]) -> value(py:exec(<<"while True: pass">>, #{}, Timeout)) end,
        %% The context is in a fun: a handle of its own would keep the context alive in Python.
        back => fun([Context]) -> value(py:ctx_eval(Context(), <<"1">>)) end,
        down => fun([0, Code]) -> value(erlang(Code));
                   ([N, Code]) -> value(down(N - 1, Code, 5000))
                end
    },
    maps:foreach(fun(Name, Fun) -> ok = py:register_function(Name, Fun) end, Functions).

%% A node of this host that does not run.
nobody() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    list_to_atom("nobody@" ++ Host).

unlink_all() ->
    {links, Links} = process_info(self(), links),
    lists:foreach(fun(Link) -> unlink(Link) end, Links).

%% Ends without an answer, after the message that the server sends when no thread waits any more.
wake() ->
    ok.

value({ok, Value}) -> Value;
value({error, Reason}) -> error(Reason).

%% Returns a process that runs a function, if there is one.
other_function() ->
    try supervisor:which_children(py_callback) of
        [] -> spawn(fun() -> ok end);
        Children -> element(2, any(Children))
    catch
        exit:_ -> spawn(fun() -> ok end)
    end.

%% A panic needs the class of PyO3's exceptions, which appears with the first of them.
crash() ->
    py:exec(<<"
panic = [c for c in BaseException.__subclasses__() if c.__name__ == 'PanicException']
if panic:
    raise panic[0]('chaos')
">>).

%% Uses a context that another process uses and ends, or that is never ended.
hand_over() ->
    case py:bind(new) of
        {ok, Ctx} ->
            {User, Monitor} = spawn_monitor(fun() ->
                _ = py_test:caught(fun() -> py:ctx_exec(Ctx, <<"x = 1">>) end),
                rand:uniform(2) =:= 1 andalso py:unbind(Ctx)
            end),
            rand:uniform(2) =:= 1 andalso exit(User, kill),
            receive {'DOWN', Monitor, process, User, _} -> ok end,
            py:ctx_eval(Ctx, <<"x">>);
        {error, Reason} ->
            {error, Reason}
    end.

other() ->
    case ets:lookup(?MODULE, rand:uniform(?ACTORS)) of
        [{_, Pid}] -> Pid;
        [] -> self()
    end.

%% Kills actors and functions, and now and then the pool or the server of callbacks.
demon(End) ->
    receive after rand:uniform(20) -> ok end,
    case erlang:monotonic_time(millisecond) < End of
        true ->
            Victim = other(),
            Victim =:= self() orelse exit(Victim, kill),
            exit(other_function(), kill),
            rand:uniform(150) > 1 orelse kill(any([py_pool, py_callback])),
            demon(End);
        false ->
            ok
    end.

kill(Name) ->
    case whereis(Name) of
        undefined -> ok;
        %% Kills are at most ten a period: the supervisor would rightly give up at more.
        Pid -> exit(Pid, kill), receive after 1100 -> ok end
    end.

%%% Leaks

nothing_is_left() ->
    %% Exceptions of tasks refer to the tasks, and the tasks to their exceptions.
    ok = py_test:wait_until(fun() ->
        case py:call(gc, collect, []) of
            {ok, _} -> true;
            {error, Reason} -> Reason
        end
    end),
    [true = garbage_collect(Pid) || Pid <- processes(), is_process_alive(Pid)],
    try
        wait_for_nothing()
    catch
        Class:Reason:Stack ->
            Look = <<"(lambda s, t: ['\\n'.join(t.format_stack(f)) "
                     "for f in s._current_frames().values()])"
                     "(__import__('sys'), __import__('traceback'))">>,
            {ok, Stacks} = py:eval(Look),
            [ct:log("~ts", [Text]) || Text <- Stacks],
            erlang:raise(Class, Reason, Stack)
    end.

wait_for_nothing() ->
    py_test:wait_until(fun() ->
        %% The pool has just got the end of the last context.
        true = garbage_collect(whereis(py_pool)),
        case py_pool:get_stats() of
            #{num_workers := ?WORKERS, available_workers := ?WORKERS, checked_out := 0,
              pending_requests := 0, abandoned := 0,
              resources := #{jobs := 0, contexts := 0, objects := 0, callbacks := 0}} ->
                ets:tab2list(py_bindings) =:= [];
            Stats ->
                Stats
        end
    end).

%% Samples the resident bytes, ten times in the second half.
watch(End, Sizes) ->
    Left = End - erlang:monotonic_time(millisecond),
    case Left > 0 of
        true ->
            Interval = max(1, seconds() * 50),
            receive after min(Left, Interval) -> ok end,
            watch(End, [resident() | Sizes]);
        false ->
            lists:sublist(Sizes, length(Sizes) div 2)
    end.

resident() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = binary:split(Text, <<" ">>, [global]),
    binary_to_integer(Pages) * 4096.

%% Returns statements whose thread calls Erlang, and that wait for it.
thread_that_calls() ->
    <<"
import erlang, threading
def call():
    try:
        erlang.down(2, 'echo(1)')
    except Exception:
        pass
t = threading.Thread(target=call)
t.start()
t.join()
">>.

%% A short run says nothing: the allocators are still finding their size.
is_flat(Sizes, Seconds) when Seconds >= 600 ->
    true = lists:max(Sizes) =< 1.05 * lists:last(Sizes) orelse Sizes,
    ok;
is_flat(_Sizes, _Seconds) ->
    ok.

any(List) ->
    lists:nth(rand:uniform(length(List)), List).
