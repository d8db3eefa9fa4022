%% Helpers that the suites share.
-module(py_test).

-export([start/0, stop/0, start_with/1, start_error/1, wait_until/1, wait_available/1, wait_whole/2, wait_pending/1,
         blocked_context/0, open_gate/2, try_gate/1, assert_empty_mailbox/0, in_process/1, stuck/1, stuck_call/1, stuck_call/2,
         time_out_stuck/1, free_stuck/1,
         is_on_processes/0,
         begin_case/1, end_case/1, start_call/1, result/1, wait_for_mark/0, abandoned/0,
         wait_for_abandoned/1, caught/1, contains/2, node_name/0]).

%% A machine with many suites at once may take seconds for what takes milliseconds else.
-define(DEADLINE, 20000).

%% Starts the application with its default environment.
-spec start() -> ok.
start() ->
    start_with([]).

%% Starts the application anew, with these values of its environment.
-spec start_with([{atom(), term()}]) -> ok.
start_with(Env) ->
    load(Env ++ level(Env)),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok.

%% Starts the application with an environment by which it does not start; returns the error.
-spec start_error([{atom(), term()}]) -> {error, term()}.
start_error(Env) ->
    load(Env),
    application:start(erlang_python).

load(Env) ->
    stop(),
    _ = application:unload(erlang_python),
    ok = application:load(erlang_python),
    lists:foreach(fun({Key, Value}) ->
        ok = application:set_env(erlang_python, Key, Value)
    end, Env).

%% Suites run once more with PY_TEST_LEVEL=process: over a pool of child processes.
level(Env) ->
    case is_on_processes() of
        true -> [{pools, #{default => (maps:with([paths, env, preload], maps:from_list(Env)))#{
                     level => process, num_workers => proplists:get_value(num_workers, Env, 8),
                     preload => [shared_attributes() | proplists:get_value(preload, Env, [])]}}}];
        false -> []
    end.

%% Whether the suite runs over child processes.
-spec is_on_processes() -> boolean().
is_on_processes() ->
    os:getenv("PY_TEST_LEVEL") =:= "process".

%% Code for each child, by which all of them share some attributes of `sys': numbers, lists of numbers and
%% texts, and events. Each is a file, which is read by a look at the attribute.
shared_attributes() ->
    Prefix = "/tmp/py_test_" ++ os:getpid() ++ "_",
    %% Those of runs that have ended.
    _ = [file:delete(Path) || Path <- filelib:wildcard("/tmp/py_test_*_py_*"),
                              not filelib:is_dir("/proc/" ++ lists:nth(3, string:lexemes(filename:basename(Path), "_")))],
    unicode:characters_to_binary(["
import os, sys, time, types
class Shared(list):
    def __init__(self, path):
        self.path = path
        with open(path) as file:
            super().__init__(map(eval, file))
    def extend(self, values):
        # One call of the system, which no interrupt takes apart.
        self.file = getattr(self, 'file', None) or open(self.path, 'ab', 0)
        self.file.write(''.join(repr(value) + chr(10) for value in values).encode())
    def append(self, value):
        self.extend([value])
    def clear(self):
        os.truncate(self.path, 0)
class Event:
    def __init__(self, path):
        self.path = path
    def is_set(self):
        with open(self.path) as file:
            return 'True' in file.read()
    def wait(self, timeout=60):
        end = time.monotonic() + timeout
        while not self.is_set() and time.monotonic() < end:
            time.sleep(0.005)
        return self.is_set()
    def clear(self):
        os.truncate(self.path, len('event') + 3)
    def set(self):
        with open(self.path, 'a') as file:
            file.write('True' + chr(10))
def shared(name):
    path = '", Prefix, "' + name
    def get(_):
        try:
            found = Shared(path)
        except FileNotFoundError:
            raise AttributeError(name) from None
        return found[1] if found[:1] == [None] else Event(path) if found[:1] == ['event'] else found
    def put(_, value):
        with open(path + str(os.getpid()), 'w') as file:
            rows = value if isinstance(value, list) else ['event'] if hasattr(value, 'wait') else [None, value]
            file.write(''.join(repr(row) + chr(10) for row in rows))
        os.rename(file.name, path)
    return property(get, put, lambda _: os.unlink(path))
names = '''py_test_mark py_stream_notes py_async_notes py_stream_gate py_queue_gate py_threads_gate py_import_go
    _py_interrupt_go _py_isolation_gate _py_isolation_exits'''.split()
sys.__class__ = type('Sys', (types.ModuleType,), {name: shared(name) for name in names})
"]).

-spec stop() -> ok.
stop() ->
    case application:stop(erlang_python) of
        ok -> ok;
        {error, {not_started, erlang_python}} -> ok
    end.

%% Polls until Fun returns true, with a deadline; fails with the last value.
-spec wait_until(fun(() -> true | term())) -> ok.
wait_until(Fun) ->
    wait_until(Fun, erlang:monotonic_time(millisecond) + ?DEADLINE).

wait_until(Fun, Deadline) ->
    case Fun() of
        true ->
            ok;
        Other ->
            case erlang:monotonic_time(millisecond) > Deadline of
                true -> error({still_not_true, Other});
                false -> receive after 5 -> wait_until(Fun, Deadline) end
            end
    end.

%% Waits until the pool has exactly this many free workers and nothing pending.
-spec wait_available(non_neg_integer()) -> ok.
wait_available(Count) ->
    wait_until(fun() ->
        case py_pool:get_stats() of
            #{available_workers := Count, pending_requests := 0} -> true;
            Stats -> Stats
        end
    end).

%% Waits until a pool has this many workers, all of them are free, and nothing is pending.
-spec wait_whole(py_pool:name(), pos_integer()) -> ok.
wait_whole(Name, Count) ->
    wait_until(fun() ->
        case py_pool:get_stats(Name) of
            #{num_workers := Count, available_workers := Count, pending_requests := 0} -> true;
            Stats -> Stats
        end
    end).

%% Waits until this many jobs are accepted and not replied.
-spec wait_pending(non_neg_integer()) -> ok.
wait_pending(Count) ->
    wait_until(fun() ->
        case py_pool:get_stats() of
            #{pending_requests := Count} -> true;
            Stats -> Stats
        end
    end).

%% Returns a context whose worker waits at a gate, in the call of another process, until the gate is
%% opened.
-spec blocked_context() -> {py:context(), Gate :: reference() | pid(), Blocker :: pid()}.
blocked_context() ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"import erlang, threading; ran = []">>),
    {Gate, Code} = gate(Ctx, is_on_processes()),
    Self = self(),
    Wait = <<"(erlang.send(test, 'at the gate'), ", Code/binary, ")[1]">>,
    Blocker = spawn(fun() -> Self ! {self(), py:ctx_eval(Ctx, Wait, #{test => Self, gate => Gate})} end),
    %% A job that is pending may still be in the queue of the context, and take a place there.
    receive <<"at the gate">> -> ok after ?DEADLINE -> error(not_at_the_gate) end,
    {Ctx, Gate, Blocker}.

%% Returns a gate, and the code that waits for it. No other child process can open an event of one, so the
%% gate of a child is a process.
gate(_Ctx, true) ->
    ok = py:register_function(py_test_gate, fun([Gate]) ->
        Monitor = monitor(process, Gate),
        receive {'DOWN', Monitor, process, Gate, _} -> true end
    end),
    {spawn(fun() -> receive open -> ok end end), <<"erlang.call('py_test_gate', gate)">>};
gate(Ctx, false) ->
    {ok, Gate} = py:ctx_eval(Ctx, <<"threading.Event()">>),
    {Gate, <<"gate.wait(30)">>}.

%% Opens a gate; false if the call that does it is refused.
-spec try_gate(Gate :: reference() | pid()) -> boolean().
try_gate(Gate) when is_pid(Gate) ->
    Gate ! open,
    true;
try_gate(Gate) ->
    py:eval(<<"gate.set()">>, #{gate => Gate}) =:= {ok, none}.

-spec open_gate(Gate :: reference() | pid(), Blocker :: pid()) -> ok.
open_gate(Gate, Blocker) when is_pid(Gate) ->
    Gate ! open,
    receive {Blocker, {ok, true}} -> ok after ?DEADLINE -> error(gate_is_shut) end;
open_gate(Gate, Blocker) ->
    {ok, none} = py:eval(<<"gate.set()">>, #{gate => Gate}),
    receive {Blocker, {ok, true}} -> ok after ?DEADLINE -> error(gate_is_shut) end.

%% Starts a call that no interrupt ends, of a context or of the calling process, and returns when it
%% is stuck. `free_stuck/1' ends its thread.
-spec stuck_call(py:context() | none) -> py:pending().
stuck_call(Target) ->
    stuck_call(Target, <<"lock.acquire">>).

%% Starts a call that is stuck in Wait, a function in C. No bytecode stands between the message and
%% that function, so no exception is raised there.
-spec stuck_call(py:context() | none, Wait :: binary()) -> py:pending().
stuck_call(Target, Wait) ->
    Args = [<<"
import erlang, functools, operator, sys, threading
lock = vars(sys).setdefault('py_test_lock', threading.Lock())
lock.acquire(False)
list(map(operator.call, (functools.partial(erlang.send, test, 'stuck'), ", Wait/binary, ")))
">>, #{test => self()}],
    Call = case Target of
        none -> py:call_async(builtins, exec, Args);
        Context -> py:ctx_call_async(Context, builtins, exec, Args)
    end,
    receive <<"stuck">> -> Call after ?DEADLINE -> error(does_not_run) end.

%% Has a call time out that is stuck. A timeout given to the call itself might be over before its code
%% runs.
-spec time_out_stuck(py:context() | none) -> ok.
time_out_stuck(Target) ->
    {error, timeout} = py:await(stuck_call(Target), 0),
    ok.

%% Ends abandoned threads that are stuck, one by one, until Count are left.
-spec free_stuck(Count :: non_neg_integer()) -> ok.
free_stuck(Count) ->
    case abandoned() of
        Count ->
            ok;
        More when More > Count ->
            %% A call is refused, and has not run, until another worker is in the place of the last one.
            ok = wait_until(fun() -> ok =:= py:exec(<<"import sys; sys.py_test_lock.release()">>) end),
            ok = wait_for_abandoned(More - 1),
            free_stuck(Count)
    end.

-spec assert_empty_mailbox() -> ok.
assert_empty_mailbox() ->
    {messages, []} = process_info(self(), messages),
    ok.

%% Returns the result of Fun in a process of its own.
-spec in_process(fun(() -> Result)) -> Result.
in_process(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({returned, Fun()}) end),
    receive
        {'DOWN', Monitor, process, Pid, {returned, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    after 2 * ?DEADLINE -> error(in_process_timeout)
    end.

%% Asserts that every worker is free, and removes the mark of `wait_for_mark/0'.
-spec begin_case(Workers :: pos_integer()) -> ok.
begin_case(Workers) ->
    ok = wait_available(Workers),
    py:exec(<<"import sys\nif hasattr(sys, 'py_test_mark'): del sys.py_test_mark">>).

%% Asserts that a case has left nothing.
-spec end_case(Workers :: pos_integer()) -> ok.
end_case(Workers) ->
    ok = py:unbind(),
    ok = wait_available(Workers),
    assert_empty_mailbox().

%% Calls Fun in a process of its own. The result is for `result/1'.
-spec start_call(fun(() -> term())) -> pid().
start_call(Fun) ->
    Self = self(),
    spawn_link(fun() -> Self ! {self(), Fun()} end).

-spec result(pid()) -> term().
result(Caller) ->
    receive {Caller, Result} -> Result after 3 * ?DEADLINE -> error(no_result) end.

%% Returns what Fun returns, or the reason of the error or exit that ends it.
-spec caught(fun(() -> Value)) -> Value | {raised | exited, Reason :: term()}.
caught(Fun) ->
    try
        Fun()
    catch
        error:Reason -> {raised, Reason};
        exit:Reason -> {exited, Reason}
    end.

%% Waits until some code has set the mark, `sys.py_test_mark', and removes it.
-spec wait_for_mark() -> ok.
wait_for_mark() ->
    Look = <<"hasattr(__import__('sys'), 'py_test_mark')">>,
    ok = wait_until(fun() -> {ok, true} =:= py:eval(Look) end),
    ok = py:exec(<<"import sys; del sys.py_test_mark">>).

%% Returns an expression of Python that runs for Seconds without the GIL, and that nothing interrupts:
%% `system' of C waits for its child again after a signal. `time.sleep' is interrupted from Python 3.15 on.
-spec stuck(Seconds :: number()) -> binary().
stuck(Seconds) ->
    iolist_to_binary(io_lib:format("__import__('os').system('sleep ~p')", [Seconds])).

-spec abandoned() -> non_neg_integer().
abandoned() ->
    maps:get(abandoned, py_pool:get_stats()).

-spec wait_for_abandoned(non_neg_integer()) -> ok.
wait_for_abandoned(Count) ->
    wait_until(fun() -> abandoned() =:= Count orelse abandoned() end).

%% Returns a name for a node, another one each time: suites run side by side, and nodes of all of them,
%% also those in containers, may be known to one epmd.
-spec node_name() -> atom().
node_name() ->
    list_to_atom("py_test_" ++ integer_to_list(rand:uniform(1 bsl 60), 36)).

%% Fails with both texts unless the first has the second as a part.
-spec contains(unicode:chardata(), Part :: unicode:chardata()) -> ok.
contains(Text, Part) ->
    case string:find(Text, Part) of
        nomatch -> ct:fail("~ts~n--- does not contain ---~n~ts", [Text, Part]);
        _ -> ok
    end.
