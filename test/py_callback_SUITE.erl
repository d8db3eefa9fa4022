%% Does Python code call Erlang functions, wherever it runs?
-module(py_callback_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).
-define(GRACE, 500).

suite() ->
    [{timetrap, {seconds, 120}}].

%% The same cases from a bound process, in a context and unbound.
all() ->
    [{group, bound}, {group, context}, {group, unbound}, {group, names}, {group, places},
     {group, threads}].

groups() ->
    Anywhere = [three_ways_to_call, arguments_and_values_cross, big_arguments_and_values_cross,
                errors_are_caught_in_python, uncaught_errors_come_back_as_they_were,
                an_error_is_the_cause_of_another, a_callback_lands_in_the_same_context,
                fifty_callbacks_in_one_another, a_timeout_bounds_what_runs_within,
                a_nested_timeout_stops_the_nested_code_only, callers_are_known],
    [{bound, [], Anywhere},
     {context, [], Anywhere},
     {unbound, [], Anywhere},
     {names, [], [unknown_names_are_attribute_errors, a_module_function_is_found_anew,
                  the_last_registration_counts, what_is_no_function_is_badarg,
                  names_are_listed, four_thousand_names_are_registered_one_by_one, it_is_looked_at_like_a_supervisor,
                  functions_survive_a_crash_of_their_server]},
     {places, [], [strangers_wait_meanwhile, an_explicit_context_is_recognised,
                   a_callback_may_bind_a_worker_of_its_own,
                   every_worker_may_wait_and_none_is_missing,
                   nested_calls_are_not_refused]},
     {threads, [], [threads_of_python_call, a_thread_pool_calls,
                    a_thread_lands_in_the_namespace_of_its_context,
                    a_nested_call_in_a_thread_is_stopped]}].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, ?GRACE}]),
    [{place, Group} | Config].

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    case proplists:get_value(place, Config) of
        bound ->
            [{eval, fun py:eval/3}, {exec, fun py:exec/3}, {bind, true} | Config];
        context ->
            {ok, Ctx} = py:bind(new),
            [{eval, fun(Code, Locals, T) -> py:ctx_eval(Ctx, Code, Locals, T) end},
             {exec, fun(Code, Locals, T) -> py:ctx_exec(Ctx, Code, Locals, T) end},
             {context, Ctx} | Config];
        _ ->
            [{eval, fun py:eval/3}, {exec, fun py:exec/3} | Config]
    end.

end_per_testcase(_Case, Config) ->
    case proplists:get_value(context, Config) of
        undefined -> ok;
        Ctx -> ok = py:unbind(Ctx)
    end,
    ok = py_test:end_case(?WORKERS),
    ok = no_callback_runs().

no_callback_runs() ->
    py_test:wait_until(fun() -> [] =:= supervisor:which_children(py_callback) end).

%% Binds the process of the case: Common Test runs a case in another process than its init.
eval(Config, Code) -> eval(Config, Code, #{}, 30000).
eval(Config, Code, Locals, Timeout) ->
    ok = bind(Config),
    (proplists:get_value(eval, Config))(Code, Locals, Timeout).

exec(Config, Code) -> exec(Config, Code, 30000).
exec(Config, Code, Timeout) ->
    ok = bind(Config),
    (proplists:get_value(exec, Config))(Code, #{}, Timeout).

bind(Config) ->
    case proplists:get_bool(bind, Config) of
        true -> py:bind();
        false -> ok
    end.

%%% From anywhere

three_ways_to_call(Config) ->
    ok = py:register_function(add, fun([A, B]) -> A + B end),
    {ok, 3} = eval(Config, <<"__import__('erlang').call('add', 1, 2)">>),
    {ok, 3} = eval(Config, <<"__import__('erlang').add(1, 2)">>),
    ok = exec(Config, <<"from erlang import add\nassert add(1, 2) == 3">>).

arguments_and_values_cross(Config) ->
    ok = py:register_function(echo, fun(Args) -> Args end),
    Self = self(),
    {ok, [1, 2.5, <<"text">>, [true, none], {1, 2}, #{<<"a">> := 1}, Self]} =
        eval(Config, <<"__import__('erlang').echo(1, 2.5, 'text', [True, None], (1, 2), "
                       "{'a': 1}, p)">>,
             #{p => Self}, 5000),
    {ok, []} = eval(Config, <<"__import__('erlang').echo()">>).

big_arguments_and_values_cross(Config) ->
    ok = py:register_function(echo, fun(Args) -> Args end),
    ok = py:register_function(size, fun([Map]) -> map_size(Map) end),
    ok = py:register_function(map, fun([N]) ->
        maps:from_list([{I, I} || I <- lists:seq(1, N)])
    end),
    {ok, 10000} = eval(Config, <<"__import__('erlang').size({str(i): i for i in range(10000)})">>),
    {ok, 10000} = eval(Config, <<"len(__import__('erlang').map(10000))">>),
    {ok, 1000000} = eval(Config, <<"len(__import__('erlang').echo(b'x' * 1000000)[0])">>).

errors_are_caught_in_python(Config) ->
    ok = py:register_function(fail, fun([C, R]) -> erlang:raise(class(C), {why, R}, []) end),
    [{ok, {Class, {<<"why">>, 1}, true}} = eval(Config, <<"(lambda e: ["
        "(x.cls, x.reason, isinstance(x.stacktrace, list)) for x in [e]][0])("
        "(lambda f: f(c))(lambda c: __import__('contextlib') and catch(c)))">>,
        #{c => Class, 'catch' => catcher(Config)}, 5000)
     || Class <- [<<"error">>, <<"exit">>, <<"throw">>]].

class(<<"error">>) -> error;
class(<<"exit">>) -> exit;
class(<<"throw">>) -> throw.

%% A Python function that returns the exception that a call of `fail' raises.
catcher(Config) ->
    ok = bind(Config),
    {ok, Catcher} = py:eval(<<"(lambda ns: (exec('''
import erlang
def catch(c):
    try:
        erlang.fail(c, 1)
    except erlang.ErlangError as e:
        return e
''', ns), ns['catch'])[1])({})">>),
    Catcher.

uncaught_errors_come_back_as_they_were(Config) ->
    Reason = {badthing, make_ref(), self(), 'an atom', <<1:3>>},
    ok = py:register_function(fail, fun([]) -> error(Reason) end),
    Error = exec(Config, <<"import erlang\nerlang.fail()">>),
    {error, {'Exception', #{class := <<"erlang.ErlangError">>, erlang := Origin}}} = Error,
    {error, Reason, [{?MODULE, _, _, _} | _]} = Origin,
    true = mentions(py:format_error(Error), <<"erlang.ErlangError: error: ">>).

mentions(Text, Part) ->
    binary:match(Text, Part) =/= nomatch.

an_error_is_the_cause_of_another(Config) ->
    ok = py:register_function(fail, fun([]) -> throw(ball) end),
    {error, {'ValueError', #{cause := #{erlang := {throw, ball, _}}}}} = exec(Config, <<"
import erlang
try:
    erlang.fail()
except erlang.ErlangError as e:
    raise ValueError('no') from e
">>).

a_callback_lands_in_the_same_context(Config) ->
    ok = py:register_function(within, fun([]) ->
        {ok, Thread} = py:call(threading, get_native_id, []),
        {ok, 5} = py:eval(<<"x">>),
        ok = py:exec(<<"x = 6">>),
        {ok, 7} = py:call('__main__', f, [1]),
        Thread
    end),
    ok = exec(Config, <<"
import erlang, threading
x = 5
def f(n): return x + n
assert erlang.within() == threading.get_native_id()
assert x == 6
">>).

fifty_callbacks_in_one_another(Config) ->
    ok = py:register_function(down, fun([0]) ->
        0;
    ([N]) ->
        {ok, V} = py:eval(<<"1 + __import__('erlang').down(n - 1)">>, #{n => N}),
        V
    end),
    {ok, 50} = eval(Config, <<"__import__('erlang').down(50)">>).

a_timeout_bounds_what_runs_within(Config) ->
    Self = self(),
    ok = py:register_function(within, fun([]) ->
        process_flag(trap_exit, true),
        Self ! {nested, py:exec(<<"while True: pass">>, #{}, 60000)}
    end),
    {error, timeout} = exec(Config, <<"import erlang\nerlang.within()">>, 300),
    %% The nested call has no timeout of its own: its code was stopped by that of the outer one.
    receive {nested, {error, interrupted}} -> ok after 5000 -> error(still_runs) end,
    {ok, 2} = eval(Config, <<"1 + 1">>).

a_nested_timeout_stops_the_nested_code_only(Config) ->
    ok = py:register_function(within, fun([]) ->
        {error, timeout} = py:exec(<<"while True: pass">>, #{}, 100),
        {ok, V} = py:eval(<<"1 + 1">>),
        V
    end),
    {ok, 3} = eval(Config, <<"__import__('erlang').within() + 1">>).

callers_are_known(Config) ->
    ok = py:register_function(callers, fun([]) -> get('$callers') end),
    Self = self(),
    {ok, [Self]} = eval(Config, <<"__import__('erlang').callers()">>),
    Other = spawn(fun() -> ok end),
    put('$callers', [Other]),
    {ok, [Self, Other]} = eval(Config, <<"__import__('erlang').callers()">>),
    erase('$callers'),
    ok = py:register_function(deep, fun([]) ->
        {ok, Callers} = py:eval(<<"__import__('erlang').callers()">>),
        Callers
    end),
    {ok, [Deep, Self]} = eval(Config, <<"__import__('erlang').deep()">>),
    true = is_pid(Deep).

%%% Names

unknown_names_are_attribute_errors(_Config) ->
    {error, {'LookupError', #{class := <<"erlang.NotRegistered">>}}} =
        py:eval(<<"__import__('erlang').call('nobody')">>),
    {error, {'LookupError', #{class := <<"erlang.NotRegistered">>}}} =
        py:eval(<<"__import__('erlang').nobody">>),
    {ok, false} = py:eval(<<"hasattr(__import__('erlang'), 'nobody')">>),
    {ok, true} = py:eval(<<"issubclass(__import__('erlang').NotRegistered, AttributeError)">>),
    {error, {'ImportError', _}} = py:exec(<<"from erlang import nobody">>),
    ok = py:register_function(somebody, fun(_) -> ok end),
    ok = py:exec(<<"from erlang import somebody">>),
    ok = py:unregister_function(somebody),
    ok = py:unregister_function(somebody),
    {error, {'ImportError', _}} = py:exec(<<"from erlang import somebody">>).

a_module_function_is_found_anew(_Config) ->
    ok = py:register_function(sum, lists, sum),
    {error, {'Exception', #{erlang := {error, badarith, _}}}} =
        py:eval(<<"__import__('erlang').sum('no list')">>),
    {ok, 6} = py:eval(<<"__import__('erlang').sum(1, 2, 3)">>),
    ok = py:register_function(undef, no_such_module, no_such_function),
    {error, {'Exception', #{erlang := {error, undef, _}}}} =
        py:eval(<<"__import__('erlang').undef()">>).

the_last_registration_counts(_Config) ->
    ok = py:register_function("name", fun(_) -> 1 end),
    {ok, 1} = py:eval(<<"__import__('erlang').name()">>),
    ok = py:register_function(<<"name">>, fun(_) -> 2 end),
    {ok, 2} = py:eval(<<"__import__('erlang').name()">>),
    ok = py:register_function(<<"häuser"/utf8>>, fun(_) -> 3 end),
    {ok, 3} = py:eval(<<"__import__('erlang').häuser()"/utf8>>).

what_is_no_function_is_badarg(_Config) ->
    Bad = [fun() -> py:register_function(f, fun() -> 1 end) end,
           fun() -> py:register_function(f, fun(_, _, _) -> 1 end) end,
           fun() -> py:register_function(1, fun(_) -> 1 end) end,
           fun() -> py:register_function(<<>>, fun(_) -> 1 end) end,
           fun() -> py:register_function(<<255>>, fun(_) -> 1 end) end,
           fun() -> py:register_function(f, <<"lists">>, sum) end,
           fun() -> py:unregister_function({f}) end],
    [{raised, badarg} = py_test:caught(Call) || Call <- Bad].

%% Regression: the NIF got all names at each registration, which took 4 seconds. Counts the names.
four_thousand_names_are_registered_one_by_one(_Config) ->
    Count = 4000,
    Names = [<<"many_", (integer_to_binary(N))/binary>> || N <- lists:seq(1, Count)],
    Server = whereis(py_callback),
    1 = erlang:trace(Server, true, [call]),
    true = 0 < erlang:trace_pattern({py_nif, '_', '_'}, true, [global]),
    [ok = py:register_function(Name, fun([N]) -> N end) || Name <- Names],
    {ok, Count} = py:eval(<<"(lambda e: len([n for n in dir(e) if n.startswith('many_')]))"
                            "(__import__('erlang'))">>),
    {ok, Sum} = py:eval(<<"(lambda e: sum(e.call(f'many_{i}', i) for i in range(1, n + 1)))"
                          "(__import__('erlang'))">>, #{n => Count}),
    Sum = Count * (Count + 1) div 2,
    [ok = py:unregister_function(Name) || Name <- Names],
    1 = erlang:trace(Server, false, [call]),
    _ = erlang:trace_pattern({py_nif, '_', '_'}, false, [global]),
    Told = names_told(Server, 0),
    ct:log("~b names", [Told]),
    true = Told =:= 2 * Count,
    {ok, []} = py:eval(<<"[n for n in dir(__import__('erlang')) if n.startswith('many_')]">>).

names_told(Server, Count) ->
    receive
        {trace, Server, call, {py_nif, serve_callbacks, [Names]}} ->
            names_told(Server, Count + length(Names));
        {trace, Server, call, {py_nif, Function, [Name]}} when
                Function =:= add_function orelse Function =:= remove_function, is_binary(Name) ->
            names_told(Server, Count + 1);
        {trace, Server, call, _} ->
            names_told(Server, Count)
    after 0 ->
        Count
    end.

it_is_looked_at_like_a_supervisor(_Config) ->
    Self = self(),
    ok = py:register_function(pause, fun([]) -> Self ! {runs, self()}, receive go -> 1 end end),
    Call = py_test:start_call(fun() -> py:eval(<<"__import__('erlang').pause()">>) end),
    Pid = receive {runs, P} -> P after 5000 -> error(not_called) end,
    [{undefined, Pid, worker, [py_callback]}] = supervisor:which_children(py_callback),
    [{specs, 1}, {active, 1}, {supervisors, 0}, {workers, 1}] =
        supervisor:count_children(py_callback),
    {error, not_supported} = supervisor:terminate_child(py_callback, Pid),
    {error, not_supported} = supervisor:get_childspec(py_callback, pause),
    Pid ! go,
    {ok, 1} = py_test:result(Call).

names_are_listed(_Config) ->
    ok = py:register_function(a_function, fun(_) -> 1 end),
    {ok, true} = py:eval(<<"{'a_function', 'call', 'send'} <= set(dir(__import__('erlang')))">>).

functions_survive_a_crash_of_their_server(_Config) ->
    ok = py:register_function(add, fun([A, B]) -> A + B end),
    Old = whereis(py_callback),
    exit(Old, kill),
    ok = py_test:wait_until(fun() -> not lists:member(whereis(py_callback), [Old, undefined]) end),
    ok = py_test:wait_until(fun() ->
        {ok, 3} =:= py:eval(<<"__import__('erlang').add(1, 2)">>)
    end).

%%% Places

strangers_wait_meanwhile(_Config) ->
    {ok, Ctx} = py:bind(new),
    Self = self(),
    ok = py:register_function(pause, fun([]) -> Self ! {paused, self()}, receive go -> 1 end end),
    ok = py:ctx_exec(Ctx, <<"import erlang\norder = []">>),
    First = py_test:start_call(fun() ->
        py:ctx_exec(Ctx, <<"erlang.pause()\norder.append('first')">>)
    end),
    Pid = receive {paused, P} -> P after 5000 -> error(not_called) end,
    Second = py_test:start_call(fun() -> py:ctx_exec(Ctx, <<"order.append('second')">>) end),
    ok = py_test:wait_pending(2),
    Pid ! go,
    ok = py_test:result(First),
    ok = py_test:result(Second),
    {ok, [<<"first">>, <<"second">>]} = py:ctx_eval(Ctx, <<"order">>),
    ok = py:unbind(Ctx).

an_explicit_context_is_recognised(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, Other} = py:bind(new),
    ok = py:register_function(within, fun([]) ->
        {ok, 1} = py:ctx_eval(Ctx, <<"x">>),
        {ok, 2} = py:ctx_eval(Other, <<"x">>),
        ok
    end),
    ok = py:ctx_exec(Other, <<"x = 2">>),
    ok = py:ctx_exec(Ctx, <<"import erlang\nx = 1\nerlang.within()">>),
    [ok = py:unbind(C) || C <- [Ctx, Other]].

a_callback_may_bind_a_worker_of_its_own(_Config) ->
    ok = py:bind(),
    ok = py:register_function(apart, fun([]) ->
        false = py:is_bound(),
        py:with_context(fun() -> {error, {'NameError', _}} = py:eval(<<"x">>) end),
        {ok, 1} = py:eval(<<"x">>)
    end),
    ok = py:exec(<<"import erlang\nx = 1\nerlang.apart()">>).

every_worker_may_wait_and_none_is_missing(_Config) ->
    ok = py:register_function(within, fun([N]) ->
        {ok, V} = py:eval(<<"n + 1">>, #{n => N}),
        V
    end),
    Code = <<"__import__('erlang').within(n)">>,
    Calls = [{N, py_test:start_call(fun() -> py:eval(Code, #{n => N}) end)}
             || N <- lists:seq(1, 20 * ?WORKERS)],
    [{N, {ok, M}} = {N, py_test:result(Pid)} || {N, Pid} <- Calls, M <- [N + 1]].

%% Jobs within a callback are accepted beyond the bound: without them the accepted ones could not
%% end.
nested_calls_are_not_refused(_Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {max_pending, 2}]),
    Self = self(),
    ok = py:register_function(within, fun([]) ->
        Self ! {runs, self()},
        receive go -> ok end,
        {ok, V} = py:eval(<<"1 + 1">>),
        V
    end),
    Calls = [py_test:start_call(fun() -> py:eval(<<"__import__('erlang').within()">>) end)
             || _ <- [1, 2]],
    Pids = [receive {runs, Pid} -> Pid after 5000 -> error(not_called) end || _ <- Calls],
    {error, overloaded} = py:eval(<<"1">>),
    [Pid ! go || Pid <- Pids],
    [{ok, 2} = py_test:result(Call) || Call <- Calls],
    py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, ?GRACE}]).

%%% Threads of Python code

threads_of_python_call(_Config) ->
    ok = py:register_function(double, fun([N]) -> 2 * N end),
    {ok, Sum} = py:eval(<<"(lambda ns: (exec('''
import erlang, threading
out = []
threads = [threading.Thread(target=lambda n=n: out.append(erlang.double(n))) for n in range(20)]
for t in threads: t.start()
for t in threads: t.join()
''', ns), sum(ns['out']))[1])({})">>),
    380 = Sum.

a_thread_pool_calls(_Config) ->
    ok = py:bind(),
    ok = py:register_function(double, fun([N]) -> 2 * N end),
    ok = py:exec(<<"
import erlang
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    out = list(pool.map(erlang.double, range(100)))
">>),
    Expected = [2 * N || N <- lists:seq(0, 99)],
    {ok, Expected} = py:eval(<<"out">>).

a_thread_lands_in_the_namespace_of_its_context(_Config) ->
    ok = py:bind(),
    ok = py:register_function(within, fun([]) ->
        ok = py:exec(<<"seen.append(threading.current_thread().name)">>)
    end),
    ok = py:exec(<<"
import erlang, threading
seen = []
t = threading.Thread(target=erlang.within, name='mine')
t.start()
t.join()
">>),
    {ok, [<<"mine">>]} = py:eval(<<"seen">>).

a_nested_call_in_a_thread_is_stopped(_Config) ->
    ok = py:bind(),
    ok = py:register_function(within, fun([]) ->
        {error, timeout} = py:exec(<<"while True: pass">>, #{}, 100),
        {ok, V} = py:eval(<<"1 + 1">>),
        V
    end),
    ok = py:exec(<<"
import erlang, threading
out = []
t = threading.Thread(target=lambda: out.append(erlang.within()))
t.start()
t.join()
">>),
    {ok, [2]} = py:eval(<<"out">>).
