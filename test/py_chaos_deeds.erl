%% What processes do with a pool, for `py_chaos_pools_SUITE': calls of every kind, of a thread or of a child
%% process, some of which end the child or hit its limits.
%%
%% A deed returns what its call has returned, `{wrong, Value}' for another value than the right one, or `{all,
%% Results}'. The functions run in the actor, but for those that are registered.
-module(py_chaos_deeds).

-export([all/1, any/1, is_expected/2, register_functions/0, other/0, forget/0]).

%% The size of a big value: an eighth of it would go through a memfd.
-define(BIG, (1 bsl 20)).

-type deed() :: {What :: atom(), fun(() -> term())}.

%% @doc Returns all deeds that a pool bears.
-spec all(py_pool:name()) -> [deed()].
all(Pool) ->
    lists:append([Deeds || {_, Deeds} <- kinds(Pool)]).

%% @doc Returns one of them. Ends of children are rarer: a start takes as long as a thousand calls.
-spec any(py_pool:name()) -> deed().
any(Pool) ->
    Kinds = kinds(Pool),
    pick(rand:uniform(lists:sum([Weight || {Weight, _} <- Kinds])), Kinds).

pick(N, [{Weight, Deeds} | _]) when N =< Weight -> py_chaos_SUITE:any(Deeds);
pick(N, [{Weight, _} | Kinds]) -> pick(N - Weight, Kinds).

kinds(Pool) ->
    [{30, plain(Pool)}, {10, big(Pool)}, {20, talking(Pool)}, {20, flowing(Pool)}]
        ++ [{6, ends(Pool)} || not lists:member(Pool, [default, threads, coming_threads_1, coming_threads_2])]
        ++ [{30, limits(Pool)} || Pool =:= bounded] ++ [{30, sandbox(Pool)} || Pool =:= sealed].

%% @doc Returns whether the documents have the answer. A pool that comes and goes may be none, or end under a
%% `bind'.
-spec is_expected(py_pool:name(), Result :: term()) -> boolean().
is_expected(_, ok) -> true;
is_expected(_, {ok, _}) -> true;
is_expected(Pool, {all, Results}) -> lists:all(fun(Result) -> is_expected(Pool, Result) end, Results);
is_expected(_, {error, {worker_exited, #{signal := Signal}}}) -> lists:member(Signal, [6, 9, 11, 15]);
is_expected(_, {error, {worker_exited, #{status := Status}}}) -> lists:member(Status, [3, unknown]);
is_expected(Pool, {Class, Reason}) when Class =:= error, is_atom(Reason); Class =:= raised, is_atom(Reason) ->
    Known = case Class of
        error -> [timeout, interrupted, no_workers_available, overloaded, not_running, context_not_bound,
                  function_killed];
        raised -> [context_not_bound, no_workers_available]
    end,
    lists:member(Reason, Known) orelse is_passing(Pool) andalso Reason =:= badarg;
is_expected(Pool, {raised, {not_started, erlang_python}}) -> is_passing(Pool);
is_expected(_, _) -> false.

is_passing(Pool) ->
    lists:prefix("coming", atom_to_list(Pool)).

%% Returns the result, unless it is another value than the right one.
is({ok, Value}, {ok, Value}) -> ok;
is({ok, _}, {ok, Other}) -> {wrong, Other};
is({ok, _}, ok) -> {wrong, ok};
is(_, Result) -> told(Result).

%% Returns `ok' for the exception that is due. A success is wrong.
fails(Class, {error, {Class, #{class := _}}}) -> ok;
fails(_, {ok, Value}) -> {wrong, Value};
fails(_, ok) -> {wrong, ok};
fails(_, Result) -> Result.

%% Returns the result of the innermost call for one in the middle of others. A function may have been killed.
told({error, {'Exception', #{erlang := {error, Reason, _}}}}) -> told({error, Reason});
told({error, {'Exception', #{erlang := {exit, killed, _}}}}) -> {error, function_killed};
told(Result) -> Result.

-spec register_functions() -> ok.
register_functions() ->
    ok = py:register_function(double, fun([Bytes]) -> <<Bytes/binary, Bytes/binary>> end),
    ok = py:register_function(across, fun([Pool, N]) ->
        Named = #{pool => binary_to_existing_atom(Pool), timeout => 1000},
        py_chaos_SUITE:value(py:eval(<<"n + 1">>, #{n => N}, Named))
    end).

%% @doc Returns an actor.
-spec other() -> pid().
other() ->
    case ets:lookup(?MODULE, rand:uniform(12)) of
        [{_, Pid}] -> Pid;
        [] -> self()
    end.

%% @doc Forgets the big value that the actor has kept.
-spec forget() -> ok.
forget() ->
    _ = erase(kept),
    ok.

%%% Calls

plain(Pool) ->
    Named = named(Pool),
    Self = self(),
    [{eval, fun() -> is({ok, [Self, #{<<"k">> => Self}]}, py:eval(<<"[x, {'k': x}]">>, #{x => Self}, Named)) end},
     {call, fun() -> is({ok, 6}, py:call(builtins, sum, [[1, 2, 3]], #{}, Named)) end},
     {raise, fun() -> fails('ValueError', py:exec(<<"raise ValueError('chaos')">>, #{}, Named)) end},
     {recurse, fun() -> fails('RecursionError', py:exec(<<"f = lambda: f()\nf()">>, #{}, Named)) end},
     {bind, fun() -> py:bind(#{pool => Pool}) end},
     {bind_and_wait, fun() -> py:bind(#{pool => Pool, wait => wait()}) end},
     {unbind, fun() -> py:unbind() end},
     {bound, fun() -> py:with_context(#{pool => Pool, wait => wait()}, fun bound/0) end},
     {nested, fun() ->
          in_context(Pool, fun(Outer) ->
              %% A pool of one worker has none left.
              case py_test:caught(fun() -> py:with_context(#{pool => Pool}, fun get_set/1) end) of
                  {raised, no_workers_available} -> get_set(Outer);
                  Inner -> {all, [Inner, get_set(Outer)]}
              end
          end)
      end},
     {context, fun() -> in_context(Pool, fun get_set/1) end},
     {hand_over, fun() -> hand_over(Pool) end},
     {queued, fun() -> in_context(Pool, fun queued/1) end},
     {objects, fun() -> in_context(Pool, fun objects/1) end},
     {foreign, fun() -> foreign(Pool) end},
     {loop, fun() -> py:exec(<<"while True: pass">>, #{}, Named#{timeout := rand:uniform(10)}) end},
     {short, fun() -> py:eval(<<"1">>, #{}, Named#{timeout := rand:uniform(3) - 1}) end},
     {finalize, fun() ->
          in_context(Pool, fun(C) -> py:ctx_exec(C, <<"
class Last:
    def __del__(self):
        sum(range(1000))
last = Last()
">>) end) end},
     {interrupt, fun() -> py:interrupt(other()) end},
     {dump, fun() -> true = is_list(py:dump()), ok end},
     {dump_other, fun() -> if_bound(fun() -> #{owner := _} = py:dump(other()), ok end) end},
     {dump_context, fun() -> in_context(Pool, fun(Ctx) -> #{pool := Pool} = py:dump(Ctx), ok end) end},
     {profile, fun() -> if_bound(fun() -> py:profile(other(), rand:uniform(50)) end) end},
     {profile_context, fun() -> in_context(Pool, fun(Ctx) -> py:profile(Ctx, rand:uniform(50)) end) end},
     {stats, fun() -> #{num_workers := _} = py_pool:get_stats(Pool), ok end},
     {list, fun() -> [default | _] = py_pool:list(), ok end}].

%% Another actor may have no binding.
if_bound(Look) ->
    case py_test:caught(Look) of
        {raised, context_not_bound} -> ok;
        Result -> Result
    end.

named(Pool) ->
    #{pool => Pool, timeout => 2000}.

in_context(Pool, Use) ->
    py:with_context(#{pool => Pool, wait => wait()}, Use).

%% The server of a pool may be busy for longer than a short wait, also if there is a worker.
wait() ->
    case ets:lookup(?MODULE, wait) of
        [{wait, Wait}] -> Wait;
        [] -> rand:uniform(50)
    end.

%% A binding that has ended is none: the next call runs outside of it, in the pool `default'.
bound() ->
    X = rand:uniform(1000),
    case py:exec(<<"x = y">>, #{y => X}) of
        ok ->
            case py:eval(<<"x">>) of
                {error, {'NameError', _}} -> ok;
                Result -> is({ok, X}, Result)
            end;
        Result ->
            Result
    end.

get_set(Context) ->
    X = rand:uniform(1000),
    case py:ctx_exec(Context, <<"x = y">>, #{y => X}) of
        ok -> is({ok, X}, py:ctx_eval(Context, <<"x">>));
        Result -> Result
    end.

%% Uses a context that another process uses and ends, or whose owner dies.
hand_over(Pool) ->
    Self = self(),
    Owner = spawn(fun() ->
        Monitor = monitor(process, Self),
        Self ! {self(), py_test:caught(fun() -> py:bind(new, #{pool => Pool}) end)},
        receive stop -> ok; {'DOWN', Monitor, process, Self, _} -> ok end
    end),
    Result = case receive {Owner, Bound} -> Bound end of
        {ok, Context} ->
            User = spawn(fun() -> _ = py_test:caught(fun() -> get_set(Context) end), py:unbind(Context) end),
            rand:uniform(2) =:= 1 andalso exit(User, kill),
            rand:uniform(2) =:= 1 andalso exit(Owner, kill),
            %% The other process may have set the variable, and the context may have ended before or under the call.
            case py_test:caught(fun() -> py:ctx_eval(Context, <<"x">>) end) of
                {error, {'NameError', _}} -> ok;
                {error, interrupted} -> ok;
                {raised, context_not_bound} -> ok;
                Used -> Used
            end;
        Refused ->
            Refused
    end,
    Owner ! stop,
    Result.

%% Awaits calls of one context in any order.
queued(Context) ->
    Calls = [{N, started(fun() -> py:ctx_call_async(Context, builtins, divmod, [N, 7]) end)}
             || N <- lists:seq(1, 5)],
    Mixed = [Call || {_, Call} <- lists:sort([{rand:uniform(), Call} || Call <- Calls])],
    {all, [is({ok, {N div 7, N rem 7}}, awaited(Call)) || {N, Call} <- Mixed]}.

%% Starts a call under way; the context may have ended since the call before, whose answer comes all the same.
started(Start) ->
    py_test:caught(Start).

awaited({raised, Reason}) -> {raised, Reason};
awaited(Call) -> py_test:caught(fun() -> py:await(Call) end).

objects(Context) ->
    case py:ctx_eval(Context, <<"[object() for _ in range(3)]">>) of
        {ok, [A, B, C]} -> is({ok, true}, py:ctx_eval(Context, <<"len({a, b, c}) == 3">>, #{a => A, b => B, c => C}));
        Result -> Result
    end.

%% An object is one of its child, or of the VM.
foreign(Pool) ->
    case py:eval(<<"object()">>, #{}, named(py_chaos_SUITE:any([default, threads, children]))) of
        {ok, Object} ->
            case py:eval(<<"o is None">>, #{o => Object}, named(Pool)) of
                {error, {unconvertible, #{reason := foreign_object}}} -> ok;
                Result -> is({ok, false}, Result)
            end;
        Result ->
            Result
    end.

%%% Big values

big(Pool) ->
    Named = named(Pool),
    [{big, fun() -> Big = bytes(), is({ok, Big}, py:eval(<<"b">>, #{b => {bytes, Big}}, Named)) end},
     {big_list, fun() -> L = lists:seq(1, 30000), is({ok, L}, py:eval(<<"list(l)">>, #{l => L}, Named)) end},
     {big_text, fun() -> is({ok, binary:copy(<<"ab">>, ?BIG div 2)},
                            py:eval(<<"'ab' * n">>, #{n => ?BIG div 2}, Named)) end},
     {big_kept, fun() -> keep(py:eval(<<"[b'x' * n, b'y' * n]">>, #{n => ?BIG}, Named)) end},
     {big_callback, fun() -> is({ok, 2 * ?BIG}, py:eval(<<"len(__import__('erlang').double(b))">>,
                                                        #{b => {bytes, bytes()}}, Named)) end},
     {big_in_context, fun() -> in_context(Pool, fun(C) ->
          Big = bytes(),
          case py:ctx_exec(C, <<"kept = b">>, #{b => {bytes, Big}}) of
              ok -> is({ok, Big}, py:ctx_eval(C, <<"kept">>));
              Result -> Result
          end
      end) end},
     {big_abandoned, fun() -> abandon(fun() ->
          in_context(Pool, fun(C) ->
              _ = py:ctx_call_async(C, builtins, bytes, [?BIG]), receive after rand:uniform(3) -> exit(abandoned) end
          end)
      end) end}].

bytes() ->
    binary:copy(<<($a + rand:uniform(26) - 1)>>, ?BIG).

%% Keeps a big result, which may outlive its child, and looks at the one before.
keep({ok, [X, Y]}) ->
    true = X =:= binary:copy(<<"x">>, ?BIG),
    case put(kept, Y) of
        undefined -> ok;
        Before -> is({ok, binary:copy(<<"y">>, ?BIG)}, {ok, Before})
    end;
keep(Result) ->
    Result.

%%% Callbacks and messages

talking(Pool) ->
    Named = named(Pool),
    [{callback, fun() -> is({ok, 1}, erlang(<<"echo(1)">>, Named)) end},
     {callback_crashes, fun() -> fails('Exception', erlang(<<"crash()">>, Named)) end},
     {callback_exits, fun() -> fails('Exception', erlang(<<"leave()">>, Named)) end},
     {callback_dies, fun() -> fails('Exception', erlang(<<"die()">>, Named)) end},
     {callback_hangs, fun() -> told(erlang(<<"hang()">>, Named#{timeout := rand:uniform(20)})) end},
     {reenter, fun() -> told(reenter(<<"echo(1)">>, Named)) end},
     {reenter_and_hang, fun() -> told(reenter(<<"hang()">>, Named#{timeout := rand:uniform(20)})) end},
     {reenter_and_loop, fun() -> told(erlang(<<"loop(10)">>, Named#{timeout := rand:uniform(20)})) end},
     {reenter_context, fun() -> in_context(Pool, fun(C) ->
          told(py:ctx_eval(C, <<"__import__('erlang').back(c)">>, #{c => fun() -> C end}))
      end) end},
     {across, fun() ->
          To = py_chaos_SUITE:any([default, threads, children]),
          is({ok, 2}, py:eval(<<"__import__('erlang').across(p, 1)">>, #{p => atom_to_binary(To)}, Named))
      end},
     {callback_of_a_thread, fun() -> py:exec(py_chaos_SUITE:thread_that_calls(), #{}, Named) end},
     {send, fun() -> send(Named) end},
     {watch, fun() ->
          Code = <<"(lambda m: (m.wait(0.002), m.reason))(__import__('erlang').monitor(p))">>,
          told(py:eval(Code, #{p => other()}, Named))
      end}].

erlang(Code, Named) ->
    py:eval(<<"__import__('erlang').", Code/binary>>, #{}, Named).

reenter(Code, Named) ->
    py:eval(<<"__import__('erlang').down(n, code)">>, #{n => rand:uniform(4), code => Code}, Named).

%% Each message comes once, and in order. A call that was not answered may have sent some.
send(Named) ->
    Self = self(),
    Sink = spawn(fun() ->
        Monitor = monitor(process, Self),
        Got = [receive [N, Sender] when is_pid(Sender) -> N; {'DOWN', Monitor, _, _, _} -> exit(normal) end
               || _ <- lists:seq(1, 5)],
        Self ! {self(), Got}
    end),
    Code = <<"import erlang\nfor i in range(5): erlang.send(p, [i, erlang.self()])">>,
    case py:exec(Code, #{p => Sink}, Named) of
        ok ->
            receive {Sink, Got} -> is({ok, [0, 1, 2, 3, 4]}, {ok, Got}) end;
        Result ->
            Monitor = monitor(process, Sink),
            exit(Sink, kill),
            receive {'DOWN', Monitor, process, Sink, _} -> ok end,
            receive {Sink, _} -> ok after 0 -> ok end,
            Result
    end.

%%% Streams and coroutines

flowing(Pool) ->
    [{stream, fun() -> with_stream(Pool, range, [10], fun(S) -> items(S, rand:uniform(12)) end) end},
     {stream_of_parts, fun() ->
          with_stream(Pool, range, [10], fun(S) -> {all, [items(S, 4) || _ <- [1, 2, 3]]} end)
      end},
     {stream_closed, fun() -> with_stream(Pool, range, [10], fun(S) -> py:stream_next(S, 100) end) end},
     {stream_of_a_loop, fun() -> with_stream(Pool, range, [1 bsl 40], fun(S) -> py:stream_next(S, 1 bsl 20) end) end},
     {stream_abandoned, fun() -> abandon(fun() ->
          with_stream(Pool, range, [10], fun(S) -> _ = py:stream_next(S, 3), exit(abandoned) end)
      end) end},
     {stream_of_big_items, fun() -> in_context(Pool, fun(C) ->
          Code = <<"def items():\n    for i in range(3):\n        yield b'z' * 300000">>,
          case py:ctx_exec(C, Code) of
              ok -> use(py:ctx_stream(C, '__main__', items, []), fun(S) -> big_items(S) end);
              Result -> Result
          end
      end) end},
     {collect, fun() -> py:with_context(#{pool => Pool, wait => wait()}, fun() ->
          is({ok, lists:seq(0, 99)}, py:stream(builtins, range, [100]))
      end) end},
     {coroutine, fun() -> in_context(Pool, fun(C) ->
          is({ok, 7}, py:async_await(py:ctx_async_call(C, asyncio, sleep, [0.001, 7])))
      end) end},
     {coroutines, fun() -> in_context(Pool, fun(C) ->
          Calls = [{N, started(fun() -> py:ctx_async_call(C, asyncio, sleep, [N / 1000, N]) end)} || N <- [3, 1, 2]],
          {all, [is({ok, N}, awaited(Call)) || {N, Call} <- Calls]}
      end) end},
     {gather, fun() -> py:with_context(#{pool => Pool, wait => wait()}, fun() ->
          is({ok, [3, 1, 2]}, py:async_gather([{asyncio, sleep, [N / 1000, N]} || N <- [3, 1, 2]]))
      end) end},
     {gather_too_long, fun() -> py:with_context(#{pool => Pool, wait => wait()}, fun() ->
          py:async_gather([{asyncio, sleep, [N]} || N <- [0.001, 5]], 5)
      end) end},
     {flight_abandoned, fun() -> abandon(fun() ->
          in_context(Pool, fun(C) -> _ = py:ctx_async_call(C, asyncio, sleep, [5]), exit(abandoned) end)
      end) end},
     {acall, fun() -> py:exec(<<"
import asyncio, erlang
async def all():
    return await asyncio.gather(*(erlang.acall(f, *a) for f, a in (
        ('echo', (1,)), ('crash', ()), ('die', ()), ('down', (2, 'echo(1)')))),
        return_exceptions=True)
asyncio.run(all())
">>, #{}, named(Pool)) end}].

with_stream(Pool, Function, Args, Use) ->
    in_context(Pool, fun(C) -> use(py:ctx_stream(C, builtins, Function, Args), Use) end).

use({ok, Stream}, Use) -> try Use(Stream) after py:stream_close(Stream) end;
use(Result, _Use) -> Result.

%% The items are numbers that follow each other.
items(Stream, Count) ->
    case next(Stream, Count) of
        {items, [First | _] = Items} -> is({ok, lists:seq(First, First + length(Items) - 1)}, {ok, Items});
        done -> ok;
        Result -> Result
    end.

big_items(Stream) ->
    case next(Stream, 5) of
        {items, Items} -> is({ok, lists:duplicate(3, binary:copy(<<"z">>, 300000))}, {ok, Items});
        Result -> Result
    end.

%% A demand has one message. The stream itself may be slow, but not for ever.
next(Stream, Count) ->
    case py:stream_next(Stream, Count) of
        ok -> receive {py_stream, Stream, What} -> What after 60000 -> {wrong, no_items} end;
        {error, Reason} -> {error, Reason}
    end.

%% Runs Do in a process that ends in the middle of it.
abandon(Do) ->
    {Pid, Monitor} = spawn_monitor(fun() -> try Do() catch error:_ -> ok end end),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%%% Ends of children

%% What ends a child would end the VM: the code looks where it runs.
ends(Pool) ->
    Named = named(Pool),
    [{exit, fun() -> ended(py:exec(guarded(<<"os._exit(3)">>), #{}, Named)) end},
     {abort, fun() -> ended(py:exec(guarded(quietly(<<"os.abort()">>)), #{}, Named)) end},
     {segfault, fun() -> ended(py:exec(guarded(quietly(<<"import ctypes; ctypes.string_at(0)">>)), #{}, Named)) end},
     {kill, fun() -> ended(py:exec(guarded(<<"os.kill(os.getpid(), 9)">>), #{}, Named)) end},
     {exit_of_context, fun() -> in_context(Pool, fun(C) ->
          Result = ended(py:ctx_exec(C, guarded(<<"os._exit(3)">>))),
          Next = py_test:caught(fun() -> py:ctx_eval(C, <<"1">>) end),
          {all, [Result | [ended(Next) || {error, {worker_exited, _}} <- [Result]]]}
      end) end},
     {exit_under_others, fun() -> in_context(Pool, fun(C) ->
          Calls = [started(fun() -> py:ctx_call_async(C, builtins, Function, [Arg]) end)
                   || {Function, Arg} <- [{exec, guarded(<<"os._exit(3)">>)}, {len, []}, {len, []}]],
          [First | Others] = lists:map(fun awaited/1, Calls),
          %% The others run if the first one was interrupted before.
          {all, [ended(First) | [ended(Other) || {error, {worker_exited, _}} <- [First], Other <- Others]]}
      end) end},
     {exit_of_callback, fun() ->
          Code = ["echo(__import__('os').getpid() != ", os:getpid(), " and __import__('os')._exit(3))"],
          ended(told(reenter(iolist_to_binary(Code), Named)))
      end},
     {exit_of_stream, fun() -> in_context(Pool, fun(C) ->
          Code = [<<"def items():\n    yield 1\n    ">>, guarded(<<"os._exit(3)">>, <<"    ">>)],
          case py:ctx_exec(C, Code) of
              ok -> use(py:ctx_stream(C, '__main__', items, []), fun(S) ->
                        case next(S, 2) of {items, [1]} -> {wrong, items}; Result -> Result end
                    end);
              Result -> Result
          end
      end) end},
     {exit_of_coroutines, fun() -> in_context(Pool, fun(C) ->
          Code = [<<"async def leave():\n    ">>, guarded(<<"os._exit(3)">>, <<"    ">>)],
          case py:ctx_exec(C, Code) of
              ok ->
                  Calls = [started(fun() -> py:ctx_async_call(C, Module, Function, Args) end)
                           || {Module, Function, Args} <- [{asyncio, sleep, [50]}, {'__main__', leave, []}]],
                  {all, [ended(awaited(Call)) || Call <- Calls]};
              Result ->
                  Result
          end
      end) end},
     {hold_the_gil, fun() ->
          Code = <<"__import__('collections').deque(__import__('itertools').repeat(0), maxlen=0)">>,
          ended(py:eval(Code, #{}, Named#{timeout := rand:uniform(10)}))
      end}].

guarded(Code) ->
    guarded(Code, <<>>).

guarded(Code, Indent) ->
    iolist_to_binary(["import os\n", Indent, "assert os.getpid() != ", os:getpid(), "\n", Indent, Code]).

quietly(Code) ->
    <<"import faulthandler; faulthandler.disable(); ", Code/binary>>.

%% A call whose child ends has no value, and one that waits in the context is not run.
ended(ok) -> {wrong, ok};
ended({ok, Value}) -> {wrong, Value};
ended({raised, context_not_bound}) -> ok;
ended(Result) -> Result.

%%% Limits and the sandbox

limits(Pool) ->
    Named = named(Pool),
    [{memory, fun() -> fails('MemoryError', py:exec(<<"x = bytearray(2 << 30)">>, #{}, Named)) end},
     {files, fun() -> fails('OSError', py:exec(<<"files = [open('/dev/null') for _ in range(100)]">>, #{}, Named)) end},
     {big_without_files, fun() -> in_context(Pool, fun(C) ->
          %% The files end with the namespace, also if the actor is killed.
          case py:ctx_exec(C, <<"
kept = []
try:
    while True:
        kept.append(open('/dev/null'))
except OSError:
    pass
">>) of
              ok ->
                  Refused = fails('OSError', py:ctx_eval(C, <<"len(b)">>, #{b => {bytes, bytes()}})),
                  {all, [Refused, py:ctx_exec(C, <<"kept.clear()">>)]};
              Result ->
                  Result
          end
      end) end}].

sandbox(Pool) ->
    Refused = [<<"import os; os.listdir('/')">>, <<"import socket; socket.socket()">>,
               <<"import os; os.kill(os.getppid(), 0)">>, <<"import subprocess; subprocess.run(['/bin/true'])">>,
               <<"open('/proc/self/mem', 'rb')">>],
    [{sandbox, fun() -> fails('PermissionError', py:exec(Code, #{}, named(Pool))) end} || Code <- Refused].
