%% Is anything lost or mixed up when Python and Erlang call each other, and are interrupted or
%% killed?
-module(py_reentry_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, stops}, {group, places}, {group, stuck}, {group, server}, {group, values}].

groups() ->
    [{stops, [], [interrupts_at_any_moment_hit_their_call_only, short_timeouts_leave_nothing,
                  fifty_levels_are_interrupted_at_once, each_of_fifty_levels_is_interrupted,
                  an_interrupted_function_goes_on, the_death_of_a_function_stops_what_it_runs,
                  the_pool_dies_under_callbacks, the_application_stops_under_fifty_levels,
                  the_vm_halts_in_a_callback]},
     {places, [], [everybody_calls_at_once, many_threads_of_python_reenter, finalizers_reenter,
                   endless_recursion_is_an_error_and_no_crash]},
     {stuck, [], [nobody_waits_for_a_thread_that_has_crashed,
                  code_that_calls_while_it_swallows_interrupts_is_abandoned,
                  a_finalizer_that_calls_for_ever_is_stopped,
                  a_finalizer_whose_nested_code_hangs_costs_no_worker,
                  a_finalizer_of_an_object_of_erlang_is_stopped,
                  a_finalizer_may_ask_why_a_process_is_down,
                  the_first_error_may_be_one_of_recursion]},
     {server, [], [what_is_no_process_does_no_harm, a_long_wait_is_no_error,
                   watched_processes_cost_callbacks_nothing,
                   garbage_is_collected_whoever_looks]},
     {values, [], [what_has_no_form_is_an_error, a_reason_without_a_form_stays_as_it_is]}].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

%% Nothing is stuck in the group `stops': fifty levels have time to end on a busy machine.
init_per_group(stops, Config) ->
    ok = start(20000),
    Config;
init_per_group(_Group, Config) ->
    ok = start(500),
    Config.

end_per_group(_Group, _Config) ->
    ok.

start(Grace) ->
    py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, Grace}]).

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    ok = py:register_function(id, fun([X]) -> X end),
    ok = py:register_function(reenter, fun([X]) -> value(erlang(<<"id(x) + 1">>, X)) end),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py_test:end_case(?WORKERS),
    ok = py_test:wait_until(fun() -> [] =:= supervisor:which_children(py_callback) end),
    py_test:wait_until(fun() ->
        case py_pool:get_stats() of
            #{resources := #{callbacks := 0, jobs := 0, objects := 0}} -> true;
            Stats -> Stats
        end
    end).

erlang(Code) ->
    py:eval(<<"__import__('erlang').", Code/binary>>).

erlang(Code, X) ->
    py:eval(<<"__import__('erlang').", Code/binary>>, #{x => X}, 30000).

value({ok, Value}) -> Value;
value({error, Reason}) -> error(Reason).

any(List) ->
    lists:nth(rand:uniform(length(List)), List).

%% Spins, since a sleep takes a millisecond at least.
spin(0) -> ok;
spin(N) -> _ = erlang:phash2(N), spin(N - 1).

received() ->
    receive Message -> Message after 10000 -> error(no_message) end.

%%% Stops

interrupts_at_any_moment_hit_their_call_only(_Config) ->
    py:with_context(fun(Ctx) ->
        ok = py:ctx_exec(Ctx, <<"import erlang">>),
        lists:foreach(fun(_) -> interrupt_somewhere(Ctx) end, lists:seq(1, 2000))
    end).

interrupt_somewhere(Ctx) ->
    Code = any([<<"erlang.id(2)">>, <<"erlang.reenter(1)">>,
                <<"[erlang.reenter(1) for _ in range(5)][0]">>]),
    Call = py_test:start_call(fun() -> py:ctx_eval(Ctx, Code) end),
    spin(rand:uniform(3000)),
    Interrupted = py:interrupt(any([Ctx, Call])),
    case {Interrupted, py_test:result(Call)} of
        {ok, {error, interrupted}} -> ok;
        {{error, not_running}, {ok, 2}} -> ok
    end,
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>).

short_timeouts_leave_nothing(_Config) ->
    ok = py:bind(),
    Codes = [<<"[e.id(1) for _ in range(50)][0]">>, <<"[e.reenter(0) for _ in range(9)][0]">>],
    ok = py:exec(<<"import erlang as e">>),
    Results = [py:eval(any(Codes), #{}, rand:uniform(3) - 1) || _ <- lists:seq(1, 2000)],
    [] = [Result || Result <- Results, Result =/= {ok, 1}, Result =/= {error, timeout}],
    ok = py_test:assert_empty_mailbox().

%% Registers a function that says at which level its process is, and calls the next level.
register_levels() ->
    Self = self(),
    py:register_function(level, fun([0]) ->
        Self ! {level, 0, self()},
        receive never -> ok end;
    ([N]) ->
        Self ! {level, N, self()},
        case erlang(<<"level(x - 1)">>, N) of
            {error, interrupted} -> N;
            Result -> value(Result)
        end
    end).

levels(N) ->
    Pid = fun(Level) ->
        receive {level, Level, P} -> P after 5000 -> error({no_level, Level}) end
    end,
    maps:from_list([{Level, Pid(Level)} || Level <- lists:seq(N, 0, -1)]).

are_gone(Pids) ->
    py_test:wait_until(fun() -> not lists:any(fun is_process_alive/1, Pids) end).

fifty_levels_are_interrupted_at_once(_Config) ->
    ok = register_levels(),
    py:with_context(fun(Ctx) ->
        Code = <<"__import__('erlang').level(50)">>,
        Call = py_test:start_call(fun() -> py:ctx_eval(Ctx, Code) end),
        Levels = levels(50),
        ok = py:interrupt(Ctx),
        {error, interrupted} = py_test:result(Call),
        ok = are_gone(maps:values(Levels)),
        {ok, 1} = py:ctx_eval(Ctx, <<"1">>)
    end).

each_of_fifty_levels_is_interrupted(_Config) ->
    ok = register_levels(),
    ok = py:exec(<<"import erlang">>),
    [begin
         Call = py_test:start_call(fun() -> py:eval(<<"__import__('erlang').level(50)">>) end),
         #{Level := Pid} = levels(50),
         ok = py:interrupt(Pid),
         %% The call of that process was interrupted, and the process goes on, as do those above.
         {ok, Level} = py_test:result(Call)
     end || Level <- lists:seq(1, 50)].

an_interrupted_function_goes_on(_Config) ->
    Self = self(),
    ok = py:register_function(nested, fun([]) ->
        Self ! {runs, self()},
        {error, interrupted} = py:exec(<<"while True: pass">>),
        {ok, 2} = py:eval(<<"1 + 1">>),
        done
    end),
    Call = py_test:start_call(fun() -> erlang(<<"nested()">>) end),
    Pid = receive {runs, P} -> P after 5000 -> error(never_ran) end,
    ok = py_test:wait_until(fun() -> ok =:= py:interrupt(Pid) end),
    {ok, <<"done">>} = py_test:result(Call).

%% The code above gets an exit, and goes on.
the_death_of_a_function_stops_what_it_runs(_Config) ->
    ok = py:bind(),
    Killer = spawn_link(fun() ->
        {runs, Pid} = received(),
        ok = py_test:wait_for_mark(),
        exit(Pid, kill)
    end),
    ok = py:register_function(nested, fun([]) ->
        Killer ! {runs, self()},
        py:exec(<<"import sys\nsys.py_test_mark = 1\nwhile True: pass">>)
    end),
    {ok, {<<"exit">>, <<"killed">>}} = py:eval(<<"(lambda ns: (exec('''
import erlang
try:
    erlang.nested()
except erlang.ErlangError as e:
    r = (e.cls, e.reason)
''', ns), ns['r'])[1])({})">>).

the_pool_dies_under_callbacks(_Config) ->
    Self = self(),
    ok = py:register_function(hang, fun([]) -> Self ! {runs, self()}, receive never -> ok end end),
    Calls = [py_test:start_call(fun() ->
                 _ = Bind andalso py:bind(),
                 erlang(<<"hang()">>)
             end) || Bind <- [true, true, false]],
    Functions = [receive {runs, Pid} -> Pid after 5000 -> error(never_ran) end || _ <- Calls],
    ok = logger:set_module_level(supervisor, none),
    exit(whereis(py_pool), kill),
    [{error, interrupted} = py_test:result(Call) || Call <- Calls],
    ok = are_gone(Functions),
    ok = logger:unset_module_level(supervisor).

the_application_stops_under_fifty_levels(_Config) ->
    ok = register_levels(),
    Call = py_test:start_call(fun() -> erlang(<<"level(50)">>) end),
    Levels = levels(50),
    ok = py_test:stop(),
    %% The end of the functions, or that of the pool, decides: either may come first.
    case py_test:result(Call) of
        {error, interrupted} -> ok;
        {error, {'Exception', #{erlang := {exit, _, []}}}} -> ok
    end,
    false = lists:any(fun is_process_alive/1, maps:values(Levels)),
    ok = start(20000).

the_vm_halts_in_a_callback(_Config) ->
    Peer = py_peer:start(#{"ERLANG_PYTHON" => py_peer:interpreter()}),
    {ok, _} = py_peer:start_python(Peer, []),
    true = unlink(Peer),
    Monitor = monitor(process, Peer),
    Halt = fun() ->
        ok = py:register_function(leave, fun([]) -> halt(0) end),
        py:eval(<<"__import__('erlang').leave()">>)
    end,
    {exited, _} = py_test:caught(fun() -> py_peer:run(Peer, Halt) end),
    receive {'DOWN', Monitor, process, Peer, _} -> ok after 10000 -> error(still_there) end.

%%% Places

everybody_calls_at_once(_Config) ->
    Calls = [py_test:start_call(fun() ->
                 _ = N rem 8 =:= 0 andalso (ok = py:bind()),
                 [{ok, K} = erlang(<<"reenter(x)">>, K - 1) || K <- lists:seq(1, 500)],
                 ok = py:unbind()
             end) || N <- lists:seq(1, 16)],
    [ok = py_test:result(Call) || Call <- Calls].

%% The code has no locals, which are variables of the one namespace that the threads share.
many_threads_of_python_reenter(_Config) ->
    ok = py:register_function(reenter_plain, fun([N]) ->
        value(erlang(<<"id(", (integer_to_binary(N))/binary, ") + 1">>))
    end),
    ok = py:bind(),
    ok = py:exec(<<"
import erlang, threading
out, failed = [], []
def work():
    try:
        for i in range(20): out.append(erlang.reenter_plain(i))
    except BaseException as e:
        failed.append(repr(e))
for _ in range(3):
    threads = [threading.Thread(target=work) for _ in range(40)]
    for t in threads: t.start()
    for t in threads: t.join()
assert not failed, failed
assert len(out) == 2400 and sum(out) == 120 * 210
">>).

%% Finalizers run at the end of a call, of a context, and in any garbage collection.
finalizers_reenter(_Config) ->
    Code = <<"
import erlang
class Last:
    def __init__(self): self.me = self
    def __del__(self, reenter=erlang.reenter): reenter(1)
for _ in range(20): Last()
kept = [Last() for _ in range(3)]
lists = [[i] for i in range(2000)]
">>,
    [ok = py:exec(Code) || _ <- lists:seq(1, 20)],
    [ok = py:with_context(fun() -> py:exec(Code) end) || _ <- lists:seq(1, 20)],
    ok = py:exec(<<"import gc; gc.collect()">>).

%% Each of some thousand levels captures the error of the level within it: that takes a busy machine
%% longer than the default timeout.
endless_recursion_is_an_error_and_no_crash() ->
    [{timetrap, {minutes, 5}}].

endless_recursion_is_an_error_and_no_crash(_Config) ->
    Endless = <<"__import__('erlang').endless()">>,
    ok = py:register_function(endless, fun([]) -> py:eval(Endless, #{}, infinity) end),
    Deep = <<"
import erlang, sys, threading
limit = sys.getrecursionlimit()
sys.setrecursionlimit(10000)
try:
    erlang.endless()
    t = threading.Thread(target=erlang.endless)
    t.start()
    t.join()
finally:
    sys.setrecursionlimit(limit)
">>,
    ok = py:exec(Deep, #{}, infinity).

%%% Stuck code

%% Regression: the callback stayed open, and the next job of the function was never answered.
nobody_waits_for_a_thread_that_has_crashed(_Config) ->
    Self = self(),
    ok = logger:set_module_level(py_pool, none),
    ok = py:register_function(crash, fun([]) ->
        process_flag(trap_exit, true),
        {error, worker_crashed} = py:exec(<<"
raise [c for c in BaseException.__subclasses__() if c.__name__ == 'PanicException'][0]('no')
">>),
        Self ! {then, py_test:caught(fun() -> py:eval(<<"1">>, #{}, infinity) end)}
    end),
    {error, worker_crashed} = erlang(<<"crash()">>),
    {then, {raised, context_not_bound}} = received(),
    ok = logger:unset_module_level(py_pool).

%% Regression: each nested call put off the end of the grace.
code_that_calls_while_it_swallows_interrupts_is_abandoned(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = logger:set_module_level(py_pool, none),
    {error, timeout} = py:ctx_exec(Ctx, <<"
import erlang, time
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        erlang.reenter(1)
    except BaseException:
        pass
">>, #{}, 50),
    ok = py_test:wait_for_abandoned(1),
    ok = py_test:wait_for_abandoned(0),
    ok = logger:unset_module_level(py_pool).

a_finalizer_that_calls_for_ever_is_stopped(_Config) ->
    ok = exec_in_context(<<"
class Last:
    def __del__(self, reenter=erlang.reenter):
        while True: reenter(1)
last = Last()
">>),
    py_test:wait_until(fun() ->
        true = garbage_collect(whereis(py_pool)),
        #{resources := #{contexts := Contexts}} = py_pool:get_stats(),
        Contexts =:= 0 orelse Contexts
    end).

exec_in_context(Code) ->
    py:with_context(fun() -> py:exec(<<"import erlang\n", Code/binary>>) end).

%% Regression: the context ended with its job, and the worker alone could give it back, but the
%% watchdog looked at the nested job only.
a_finalizer_whose_nested_code_hangs_costs_no_worker(_Config) ->
    Self = self(),
    ok = logger:set_module_level(py_pool, none),
    ok = py:register_function(hang, fun([]) ->
        py:exec(py_test:stuck(2), #{}, 50)
    end),
    Owner = spawn(fun() ->
        ok = py:bind(),
        ok = py:exec(<<"
import erlang
class Last:
    def __del__(self, hang=erlang.hang): hang()
last = Last()
">>),
        Self ! bound,
        py:exec(<<"import sys\nsys.py_test_mark = 1\nwhile True: pass">>)
    end),
    bound = received(),
    ok = py_test:wait_for_mark(),
    exit(Owner, kill),
    ok = py_test:wait_for_abandoned(1),
    ok = py_test:wait_available(?WORKERS),
    ok = py_test:wait_for_abandoned(0),
    ok = logger:unset_module_level(py_pool).

%% Regression: the thread waited without being watched.
a_finalizer_of_an_object_of_erlang_is_stopped(_Config) ->
    Self = self(),
    ok = py:register_function(hang, fun([]) -> Self ! {runs, self()}, receive never -> ok end end),
    _ = py_test:in_process(fun() ->
        {ok, Object} = py:eval(<<"type('Last', (), {'__del__': "
                                 "lambda self, hang=__import__('erlang').hang: hang()})()">>),
        is_reference(Object)
    end),
    {runs, Pid} = received(),
    ok = are_gone([Pid]),
    0 = py_test:abandoned(),
    ok = py:exec(<<"import gc; gc.collect()">>).

%% Regression: the lock of the answer was held while its Python form was made.
a_finalizer_may_ask_why_a_process_is_down(_Config) ->
    ok = py:bind(),
    Pid = spawn(fun() -> receive Reason -> exit(Reason) end end),
    ok = py:exec(<<"import erlang\nm = erlang.monitor(p)">>, #{p => Pid}),
    Pid ! [[[N]] || N <- lists:seq(1, 5000)],
    ok = py:exec(<<"
assert m.wait(5)
class Cycle:
    def __init__(self): self.me = self
    def __del__(self): m.is_down
for _ in range(100): Cycle()
assert len(m.reason) == 5000
">>).

%% Regression: PyO3 made a class at the first error, could not at the limit, and waited for itself.
the_first_error_may_be_one_of_recursion(_Config) ->
    Peer = py_peer:start(#{"ERLANG_PYTHON" => py_peer:interpreter()}),
    {ok, _} = py_peer:start_python(Peer, []),
    ok = py_peer:run(Peer, fun() ->
        ok = py:register_function(down, fun([N]) -> py:eval(<<"1 + down(n)">>, #{n => N + 1}) end),
        ok = py:bind(),
        ok = py:exec(<<"import erlang\ndef down(n): return erlang.down(n)">>),
        {error, {'TypeError', _}} = py:eval(<<"1 + down(0)">>),
        ok
    end),
    ok = py_peer:stop(Peer).

%%% The server

what_is_no_process_does_no_harm(_Config) ->
    Server = whereis(py_callback),
    ok = logger:set_module_level(py_callback, none),
    Terms = [fun() -> 1 end, make_ref(), <<1:3>>, hd(erlang:ports())],
    [case py:eval(<<"(getattr(__import__('erlang'), f)(*args), None)[1]">>,
                  #{f => Function, args => [Term | Rest]}) of
         {ok, none} -> ok;
         {error, {'TypeError', _}} -> ok
     end || {Function, Rest} <- [{send, [1]}, {monitor, []}], Term <- Terms],
    case py:eval(<<"__import__('erlang').monitor(('ok', 'ok')).wait(5)">>) of
        {ok, true} -> ok;
        {error, {'TypeError', _}} -> ok
    end,
    {ok, 1} = erlang(<<"id(x)">>, 1),
    ok = logger:unset_module_level(py_callback),
    Server = whereis(py_callback),
    ok.

a_long_wait_is_no_error(_Config) ->
    Pid = spawn_link(fun() -> receive stop -> ok end end),
    {error, timeout} = py:eval(<<"__import__('erlang').monitor(p).wait(1e9)">>, #{p => Pid}, 50),
    Pid ! stop,
    ok.

%% Regression: each end of a callback looked at every watch.
watched_processes_cost_callbacks_nothing(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"import erlang">>),
    Few = reductions_of_callbacks(),
    ok = py:exec(<<"ms = [erlang.monitor(p) for _ in range(3000)]">>, #{p => self()}),
    Many = reductions_of_callbacks(),
    true = Many < 3 * Few orelse {Few, Many}.

reductions_of_callbacks() ->
    Reductions = fun() -> element(2, process_info(whereis(py_callback), reductions)) end,
    Before = Reductions(),
    ok = py:exec(<<"for i in range(200): erlang.id(i)">>),
    Reductions() - Before.

%% Regression: the last message of the server was a call, and the garbage before it was not
%% collected.
garbage_is_collected_whoever_looks(_Config) ->
    {ok, <<"x">>} = erlang(<<"id(x)">>, <<"x">>),
    [] = [Child || Child <- supervisor:which_children(py_callback), is_pid(Child)],
    py_test:wait_until(fun() ->
        #{resources := #{callbacks := Callbacks}} = py_pool:get_stats(),
        Callbacks =:= 0 orelse Callbacks
    end).

%%% Values

what_has_no_form_is_an_error(_Config) ->
    ok = py:register_function(improper, fun([]) -> [1 | 2] end),
    Deep = lists:foldl(fun(_, List) -> [List] end, [], lists:seq(1, 3000)),
    ok = py:register_function(deep, fun([]) -> Deep end),
    [{error, {'ValueError', _}} = erlang(Code)
     || Code <- [<<"improper()">>, <<"deep()">>, <<"id([x.append(x) or x for x in [[]]][0])">>]],
    [{error, {'TypeError', _}} = erlang(Code)
     || Code <- [<<"call()">>, <<"call(1)">>, <<"id(x=1)">>, <<"send(1)">>, <<"monitor(1)">>]],
    [{error, {'UnicodeEncodeError', _}} = erlang(Code)
     || Code <- [<<"call('\\ud800')">>, <<"atom('\\ud800')">>]].

a_reason_without_a_form_stays_as_it_is(_Config) ->
    ok = py:register_function(fail, fun([]) -> error([1 | 2]) end),
    {error, {'Exception', #{erlang := {error, [1 | 2], _}}}} = erlang(<<"fail()">>),
    ok = py:exec(<<"
import erlang
try:
    erlang.fail()
except erlang.ErlangError as e:
    assert isinstance(e.reason, erlang.Term)
    # A child process does not print such a term.
    assert repr(e.reason) in ('<erlang.Term [1|2]>', '<erlang.Term #Term>')
">>).
