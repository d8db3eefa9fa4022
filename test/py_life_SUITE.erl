%% Does the application start, stop and end with its VM, whatever Python is doing?
-module(py_life_SUITE).
-compile([export_all, nowarn_export_all]).

-define(TIMEOUT, 60000).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [a_hundred_stops_and_starts, stops_with_stuck_code_leave_no_thread,
     the_pool_dies_and_python_goes_on, unknown_requests_end_no_server, modules_can_be_loaded_anew_and_purged,
     the_vm_ends_while_python_runs, the_vm_ends_while_python_is_idle,
     what_c_code_prints_is_not_lost, a_crash_of_c_code_is_told, a_stack_overflow_is_told,
     exit_and_abort_end_the_vm, deep_recursion_is_an_error, closed_standard_files].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    ok = py_test:stop(),
    py_test:assert_empty_mailbox().

a_hundred_stops_and_starts(_Config) ->
    Ids = [begin
               ok = py_test:start_with([{num_workers, 3}]),
               {ok, N} = py:eval(<<"n">>, #{n => N}),
               ok = py:bind(),
               {ok, Ctx} = py:bind(new),
               {ok, N} = py:ctx_eval(Ctx, <<"n">>, #{n => N}),
               {ok, Id} = py:eval(<<"id(__import__('sys').modules)">>),
               ok = py_test:stop(),
               {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
               Id
           end || N <- lists:seq(1, 100)],
    %% Python was started once.
    [_] = lists:usort(Ids).

stops_with_stuck_code_leave_no_thread(_Config) ->
    Grace = {interrupt_grace, 50},
    ok = py_test:start_with([{num_workers, 2}, Grace]),
    Before = threads(),
    [begin
         Calls = [call(fun() -> py:exec(py_test:stuck(3), #{}, infinity) end),
                  call(fun() -> py:exec(<<"while True: pass">>, #{}, infinity) end),
                  call(fun() ->
                      ok = py:bind(),
                      py:exec(py_test:stuck(3), #{}, infinity)
                  end)],
         ok = py_test:wait_pending(3),
         ok = py_test:start_with([{num_workers, 2}, Grace]),
         [ok = is_refused(result(Call)) || Call <- Calls]
     end || _ <- lists:seq(1, 5)],
    {ok, 1} = py:eval(<<"1">>),
    ok = py_test:wait_until(fun() ->
        #{abandoned := Abandoned} = py_pool:get_stats(),
        {Abandoned, threads()} =:= {0, Before} orelse {Abandoned, threads(), Before}
    end).

is_refused({error, interrupted}) -> ok;
%% Regression: the call waited in a binding that ended, and so ran without one, in the pool of the
%% next start.
is_refused(ok) -> ok;
is_refused({error, no_workers_available}) -> ok;
%% The pool had stopped before the call.
is_refused({raised, {not_started, erlang_python}}) -> ok;
is_refused({raised, {badmatch, {error, no_workers_available}}}) -> ok;
is_refused({raised, context_not_bound}) -> ok.

call(Fun) ->
    Self = self(),
    spawn_link(fun() -> Self ! {self(), py_test:caught(Fun)} end).

result(Call) ->
    receive {Call, Result} -> Result after ?TIMEOUT -> error(no_result) end.

%% Counts the threads of workers, abandoned ones included; some libraries have threads that inherit
%% the name of a worker.
threads() ->
    %% A thread may end between the two looks, and has no name then.
    Names = [string:trim(Name) || File <- filelib:wildcard("/proc/self/task/*/comm"),
                                  {ok, Name} <- [file:read_file(File)]],
    length([N || <<"py_", _/binary>> = N <- Names]).

the_pool_dies_and_python_goes_on(_Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    {ok, Ctx} = py:bind(new),
    ok = py:exec(<<"import sys; sys._py_life = 1">>),
    Spin = <<"import erlang\nerlang.send(me, 'runs')\nwhile True: pass">>,
    Me = #{me => self()},
    Calls = [call(fun() -> py:ctx_exec(Ctx, Spin, Me, infinity) end),
             call(fun() -> py:exec(Spin, Me, infinity) end)],
    %% A call that has not begun yet waits for the new pool.
    [receive <<"runs">> -> ok after 10000 -> error(does_not_run) end || _ <- Calls],
    Pool = whereis(py_pool),
    exit(Pool, kill),
    ok = py_test:wait_until(fun() -> not lists:member(whereis(py_pool), [undefined, Pool]) end),
    [ok = is_refused(result(Call)) || Call <- Calls],
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok = py_test:wait_available(2),
    {ok, 1} = py:eval(<<"__import__('sys')._py_life">>),
    ok = py:exec(<<"import sys; del sys._py_life">>).

unknown_requests_end_no_server(_Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    [begin
         Pid = whereis(Server),
         {error, not_supported} = gen_server:call(Server, {nobody, knows, this}),
         Server ! {nobody, knows, this},
         ok = gen_server:cast(Server, {nobody, knows, this}),
         {error, not_supported} = gen_server:call(Server, nothing),
         Pid = whereis(Server)
     end || Server <- [py_pool, py_async, py_callback]],
    {ok, 1} = py:eval(<<"x">>),
    ok = py:unbind().

%% Loads the modules as an upgrade does. Twice, since the purge of old code needs old code; under
%% load, since that kills the processes that still run it.
modules_can_be_loaded_anew_and_purged(_Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    {Caller, Monitor} = spawn_monitor(fun() -> py:exec(<<"while True: pass">>) end),
    ok = py_test:wait_pending(1),
    {ok, Modules} = application:get_key(erlang_python, modules),
    true = lists:member(py_nif, Modules),
    [begin
         _ = code:purge(Module),
         case code:load_file(Module) of
             {module, Module} -> ok;
             %% The library would not be loaded again: the first copy stays.
             {error, on_load_failure} when Module =:= py_nif -> ok
         end,
         _ = code:purge(Module)
     end || Module <- Modules ++ Modules],
    %% The process waited in `py', in code that became old.
    receive {'DOWN', Monitor, process, Caller, killed} -> ok end,
    {ok, 1} = py:eval(<<"x">>),
    ok = py:unbind(),
    ok = py_test:wait_available(2),
    ok = py_test:start_with([{num_workers, 2}]),
    {ok, 1} = py:eval(<<"1">>).

%%% The end of the VM

%% Runs Expression in a VM of its own, which ends; returns its status and its output.
vm(Flags, Expression) ->
    vm(Flags, Expression, []).

vm(Flags, Expression, Env) ->
    Erl = os:find_executable("erl"),
    Args = ["-noshell" | Flags] ++ ["-pa", filename:dirname(code:which(py)),
            filename:dirname(code:which(?MODULE)), "-eval", lists:flatten(Expression)],
    Variables = [{"ERL_CRASH_DUMP_SECONDS", "0"} | Env],
    Port = open_port({spawn_executable, Erl}, [{args, Args}, {env, Variables}, binary,
                                               exit_status, stderr_to_stdout, hide]),
    vm_output(Port, <<>>).

vm_output(Port, Output) ->
    receive
        {Port, {data, Data}} -> vm_output(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    after ?TIMEOUT ->
        {os_pid, Pid} = erlang:port_info(Port, os_pid),
        os:cmd("kill -9 " ++ integer_to_list(Pid)),
        error({hangs, Output})
    end.

%% The number of workers, one more than `busy_vm' needs.
start_vm() ->
    start_vm(200).

start_vm(Grace) ->
    ["ok = py_test:start_with([{num_workers, 5}, {interrupt_grace, ", integer_to_list(Grace), "}]), "].

%% Runs Code on four workers, and then ends the VM.
busy_vm(Code, End) ->
    [start_vm(),
     "Code = <<\"__import__('sys').__dict__.setdefault('py_life', []).append(1)\\n", Code, "\">>, "
     "[spawn(fun() -> py:exec(Code, #{}, infinity) end) || _ <- lists:seq(1, 4)], "
     "ok = py_test:wait_until(fun() -> {ok, 4} =:= "
     "py:eval(<<\"len(__import__('sys').__dict__.get('py_life', []))\">>) end), ", End, "."].

the_vm_ends_while_python_runs(_Config) ->
    Codes = ["while True: pass", "import time; time.sleep(1000000)",
             "import hashlib\\nwhile True: hashlib.sha256(b'x' * 1000000)",
             "import threading; l = threading.Lock(); l.acquire(); l.acquire()"
             | numpy(["import numpy\\na = numpy.ones((300, 300))\\nwhile True: a @ a"])],
    Ends = [{"init:stop(), timer:sleep(infinity)", 0}, {"halt(3)", 3},
            {"erlang:halt(4, [{flush, false}])", 4}],
    Times = [begin
                 Start = erlang:monotonic_time(millisecond),
                 {Code, End, {Status, Output}} = {Code, End, vm([], busy_vm(Code, End))},
                 {Status, _} = {Status, Output},
                 Time = erlang:monotonic_time(millisecond) - Start,
                 ct:log("~s; ~s: status ~b after ~b ms~n~ts", [Code, End, Status, Time, Output]),
                 Time
             end || Code <- Codes, {End, Status} <- Ends],
    {comment, io_lib:format("start to end: at most ~b ms", [lists:max(Times)])}.

%% Skips without a venv of the suites that has numpy.
numpy(Codes) ->
    case os:getenv("PY_TEST_VENV", "") of
        "" -> [];
        _ -> Codes
    end.

the_vm_ends_while_python_is_idle(_Config) ->
    [{Status, <<>>} = vm([], [start_vm(), "{ok, 1} = py:eval(<<\"1\">>), ", End, "."])
     || {End, Status} <- [{"init:stop()", 0}, {"halt(3)", 3}]],
    ok.

%% An end without Python running is an end as usual, which writes the buffers of C out.
what_c_code_prints_is_not_lost(_Config) ->
    {0, Output} = vm([], [start_vm(),
        "{ok, _} = py:eval(<<\"__import__('ctypes').CDLL(None).printf(b'from C')\">>), "
        "halt(0)."]),
    <<"from C">> = Output.

a_crash_of_c_code_is_told(_Config) ->
    {Status, Output} = vm([], [start_vm(),
        "py:exec(<<\"import ctypes\\ndef guilty(): ctypes.string_at(0)\\nguilty()\">>), halt(0)."]),
    true = Status =/= 0,
    {match, _} = re:run(Output, "Segmentation fault"),
    {match, _} = re:run(Output, "in guilty").

%% The parser of regular expressions in glibc calls itself for each parenthesis; no limit of Python
%% governs that.
a_stack_overflow_is_told(_Config) ->
    {Status, Output} = vm([], [start_vm(),
        "py:exec(<<\"import ctypes\\nctypes.CDLL(None).regcomp("
        "ctypes.create_string_buffer(1024), b'(' * 20000000, 1)\">>), halt(0)."]),
    true = Status =/= 0,
    {match, _} = re:run(Output, "Segmentation fault").

exit_and_abort_end_the_vm(_Config) ->
    {7, _} = vm([], [start_vm(), "py:exec(<<\"import os; os._exit(7)\">>), halt(0)."]),
    {Status, _} = vm([], [start_vm(), "py:exec(<<\"import os; os.abort()\">>), halt(0)."]),
    true = Status =/= 0.

deep_recursion_is_an_error(_Config) ->
    Endless = ["def f(n): return f(n + 1)\\nf(0)",
             "def f(n): return sorted([1], key=lambda _: f(n + 1))\\nf(0)",
             "class A:\\n  def __getattr__(self, name): return getattr(self, name + 'x')\\nA().x",
             "class A:\\n  def __repr__(self): return repr(self)\\nrepr(A())",
             "import functools\\n"
             "def f(n): return functools.reduce(lambda a, b: f(n + 1), [1, 2])\\nf(0)",
             "class A:\\n  def __eq__(self, other): return [self] == [other]\\nA() == A()"
             | numpy(["import numpy\\nclass A:\\n  def __add__(self, other):\\n"
                      "    return numpy.array([self], dtype=object) + other\\n"
                      "numpy.array([A()], dtype=object) + 1"])],
    %% From Python 3.14 on these are bounded by the size of the stack, and some pass.
    Deep = ["import copy\\nx = []\\nfor _ in range(200000): x = [x]\\ncopy.deepcopy(x)",
            "import pickle\\nx = []\\nfor _ in range(200000): x = [x]\\npickle.dumps(x)",
            "import json\\nx = []\\nfor _ in range(200000): x = [x]\\njson.dumps(x)",
            "compile('a' + '.a' * 100000, 'x', 'eval')",
            "import json\\njson.loads('[' * 200000 + ']' * 200000)"],
    Run = [recursion(Endless, "endless"), recursion(Deep, "true"),
           "{ok, 10000} = py:eval(<<\"__import__('sys').getrecursionlimit()\">>), ",
           "{error, {'ValueError', _}} = "
           "py:exec(<<\"__import__('sys').setrecursionlimit(0)\">>), halt(0)."],
    %% To free 200000 nested lists may take a busy machine a while, and clean-up is interrupted after
    %% the grace.
    {0, <<>>} = vm([], [start_vm(20000), Run]).

%% Returns expressions that run each of the codes. Passes: what stands for a code that ends well.
recursion(Codes, Passes) ->
    Limit = "import sys; sys.setrecursionlimit(10 ** 9)\\n",
    ["[begin true = case py:exec(Code, #{}, infinity) of "
     "ok -> ", Passes, "; {error, {Class, _}} -> "
     "lists:member(Class, ['RecursionError', 'MemoryError']) orelse {Code, Class} end, "
     "{ok, 2} = py:eval(<<\"1 + 1\">>) end || Code <- [",
     lists:join(", ", [["<<\"", Limit, Code, "\">>"] || Code <- Codes]), "]], "].

%% The streams belong to the VM, which lives without them, as does Python.
closed_standard_files(_Config) ->
    [begin
         {0, _} = vm([], [start_vm(),
             "ok = py:exec(<<\"import os\\nfor fd in ", Files, ": os.close(fd)\">>), "
             "{ok, 2} = py:eval(<<\"1 + 1\">>), "
             "case py:exec(<<\"print(1)\">>) of ok -> ok; {error, {'OSError', _}} -> ok end, "
             "{ok, 3} = py:eval(<<\"1 + 2\">>), halt(0)."])
     end || Files <- ["[0]", "[1]", "[2]", "[0, 1, 2]"]],
    ok.
