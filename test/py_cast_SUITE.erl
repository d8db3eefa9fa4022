%% Does a cast run, wherever it is made, and does each failure show in the log?
-module(py_cast_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [the_result_is_dropped,
     keywords_cross,
     an_exception_is_logged,
     arguments_without_a_form_are_logged,
     a_timeout_is_logged,
     the_default_timeout_holds,
     the_code_runs_for_the_caller,
     casts_of_a_binding_keep_their_order,
     a_cast_runs_in_its_context,
     a_cast_of_a_callback_runs_within,
     a_full_pool_refuses,
     leased_workers_refuse,
     an_unbound_cast_outlives_its_caller,
     a_cast_in_a_binding_ends_with_it,
     a_cast_is_interrupted_with_its_caller,
     a_named_pool_runs_it,
     bad_arguments_leave_nothing].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(Case, Config) ->
    Env = case Case of
        a_full_pool_refuses -> [{max_pending, 1}];
        the_default_timeout_holds -> [{default_timeout, 50}];
        _ -> []
    end,
    ok = py_test:start_with([{num_workers, ?WORKERS} | Env]),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = logger:remove_handler(?MODULE),
    ok = py_test:end_case(?WORKERS).

%% The handler of the log.
log(#{msg := {report, #{what := cast_failed} = Report}}, #{config := Pid}) ->
    Pid ! Report,
    ok;
log(_Event, _Config) ->
    ok.

failure() ->
    receive #{what := cast_failed} = Report -> Report after 20000 -> error(nothing_logged) end.

%% Waits for a message that Python code sends.
told(Message) ->
    receive Message -> ok after 20000 -> error({not_told, Message}) end.

the_result_is_dropped(_Config) ->
    Self = self(),
    ok = py:register_function(tell, fun([Message]) -> Self ! {told, Message}, Message end),
    ok = py:cast(erlang, call, [tell, 1]),
    ok = told({told, 1}),
    ok = py_test:wait_available(?WORKERS).

keywords_cross(_Config) ->
    ok = py:cast(builtins, exec, [<<"import erlang; erlang.send(erlang.self(), dict(a=1))">>, #{}], #{}),
    ok = told(#{<<"a">> => 1}),
    ok = py:cast(json, loads, [<<"{">>], #{parse_int => none}),
    #{module := json, function := loads} = failure().

an_exception_is_logged(_Config) ->
    Self = self(),
    ok = py:cast(operator, truediv, [1, 0]),
    #{what := cast_failed, module := operator, function := truediv, caller := Self, reason := Why} = failure(),
    ok = py_test:contains(Why, "ZeroDivisionError"),
    ok = py:cast("no_such_module", <<"x">>, []),
    #{module := <<"no_such_module">>, function := <<"x">>, reason := Missing} = failure(),
    ok = py_test:contains(Missing, "ModuleNotFoundError").

arguments_without_a_form_are_logged(_Config) ->
    ok = py:cast(builtins, str, [[1 | 2]]),
    #{reason := Why} = failure(),
    ok = py_test:contains(Why, "improper list").

a_timeout_is_logged(_Config) ->
    ok = py:cast(time, sleep, [30], #{}, 20),
    #{reason := <<"the call took longer than its timeout">>} = failure(),
    ok = py:cast(time, sleep, [30], #{}, #{timeout => 20}),
    #{reason := <<"the call took longer than its timeout">>} = failure().

the_default_timeout_holds(_Config) ->
    ok = py:cast(time, sleep, [30]),
    #{reason := <<"the call took longer than its timeout">>} = failure().

the_code_runs_for_the_caller(_Config) ->
    Self = self(),
    ok = py:register_function(who, fun([Pid]) -> Self ! {get('$callers'), Pid}, ok end),
    ok = py:cast(builtins, exec, [<<"import erlang; erlang.who(erlang.self())">>, #{}]),
    ok = told({[Self], Self}).

casts_of_a_binding_keep_their_order(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"seen = []">>),
    [ok = py:cast('__main__', 'seen.append', [N]) || N <- lists:seq(1, 100)],
    Expected = lists:seq(1, 100),
    {ok, Expected} = py:eval(<<"seen">>).

a_cast_runs_in_its_context(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"seen = {}">>),
    ok = py:ctx_cast(Ctx, '__main__', 'seen.update', [], #{a => 1}),
    ok = py:ctx_cast(Ctx, '__main__', 'seen.update', [#{b => 2}]),
    {ok, #{<<"a">> := 1, <<"b">> := 2}} = py:ctx_eval(Ctx, <<"seen">>),
    ok = py:ctx_cast(Ctx, time, sleep, [30], #{}, 20),
    #{reason := <<"the call took longer than its timeout">>} = failure(),
    {raised, badarg} = py_test:caught(fun() -> py:ctx_cast(Ctx, time, sleep, [0], #{}, #{pool => default}) end),
    ok = py:unbind(Ctx),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_cast(Ctx, time, sleep, [0]) end).

a_cast_of_a_callback_runs_within(_Config) ->
    ok = py:register_function(cast, fun([]) -> py:cast('__main__', 'seen.append', [1]) end),
    ok = py:bind(),
    ok = py:exec(<<"
import erlang
seen = []
erlang.cast()
assert seen == [1]
">>).

a_full_pool_refuses(_Config) ->
    Self = self(),
    ok = py:register_function(gate, fun([]) ->
        Self ! {at_the_gate, self()},
        receive open -> ok end
    end),
    {ok, Ctx} = py:bind(new),
    Call = py:ctx_call_async(Ctx, erlang, call, [gate]),
    Gate = receive {at_the_gate, Pid} -> Pid after 20000 -> error(not_at_the_gate) end,
    {error, overloaded} = py:cast(time, sleep, [0]),
    {error, overloaded} = py:ctx_cast(Ctx, time, sleep, [0]),
    Gate ! open,
    {ok, <<"ok">>} = py:await(Call),
    ok = py:unbind(Ctx).

leased_workers_refuse(_Config) ->
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, ?WORKERS)],
    {error, no_workers_available} = py:cast(time, sleep, [0]),
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    ok = py_test:wait_available(?WORKERS),
    ok = py:cast(time, sleep, [0]),
    ok = py_test:wait_available(?WORKERS).

an_unbound_cast_outlives_its_caller(_Config) ->
    Self = self(),
    ok = py:register_function(gate, fun([Pid]) ->
        Monitor = monitor(process, Pid),
        Self ! at_the_gate,
        receive {'DOWN', Monitor, process, Pid, _} -> ok end
    end),
    {Caller, Monitor} = spawn_monitor(fun() ->
        ok = py:cast(builtins, exec, [<<"import erlang; erlang.gate(pid); erlang.send(test, 'alive')">>,
                                      #{pid => self(), test => Self}]),
        receive die -> ok end
    end),
    ok = told(at_the_gate),
    Caller ! die,
    receive {'DOWN', Monitor, process, Caller, _} -> ok end,
    ok = told(<<"alive">>).

a_cast_in_a_binding_ends_with_it(_Config) ->
    Self = self(),
    Caller = spawn(fun() ->
        ok = py:bind(),
        ok = py:cast(builtins, exec, [<<"import erlang, time; erlang.send(test, 'runs'); time.sleep(30)">>,
                                      #{test => Self}]),
        receive die -> ok end
    end),
    ok = told(<<"runs">>),
    Caller ! die,
    #{caller := Caller, reason := Why} = failure(),
    ok = py_test:contains(Why, "interrupted").

a_cast_is_interrupted_with_its_caller(_Config) ->
    Self = self(),
    ok = py:cast(builtins, exec, [<<"import erlang, time; erlang.send(test, 'runs')\nwhile True: time.sleep(0.01)">>,
                                  #{test => Self}]),
    ok = told(<<"runs">>),
    ok = py:interrupt(Self),
    #{caller := Self, reason := Why} = failure(),
    ok = py_test:contains(Why, "interrupted").

a_named_pool_runs_it(_Config) ->
    ok = py_pool:start(casts, #{num_workers => 1}),
    ok = py:cast(erlang, send, [self(), 1], #{}, #{pool => casts}),
    ok = told(1),
    {raised, badarg} = py_test:caught(fun() -> py:cast(time, sleep, [0], #{}, #{pool => nowhere}) end),
    ok = py:bind(#{pool => casts}),
    ok = py:cast('__main__', exec, [<<"import erlang; x = erlang.send(erlang.self(), 2)">>]),
    _ = failure(),
    ok = py:exec(<<"import erlang; send = erlang.send">>),
    ok = py:cast('__main__', send, [self(), 3], #{}, #{pool => casts}),
    ok = told(3),
    ok = py:unbind(),
    ok = py_pool:stop(casts).

bad_arguments_leave_nothing(_Config) ->
    Before = length(processes()),
    [{raised, badarg} = py_test:caught(fun() -> py:cast(M, F, A, K, T) end)
     || {M, F, A, K, T} <- [{1, f, [], #{}, 10}, {m, [16#d800], [], #{}, 10}, {m, f, x, #{}, 10},
                            {m, f, [], [x], 10}, {m, f, [], #{1 => 2}, 10},
                            {m, f, [], #{}, soon}, {m, f, [], #{}, #{no => 1}}, {m, f, [], #{}, #{pool => "x"}}]],
    {raised, badarg} = py_test:caught(fun() -> py:ctx_cast(self(), m, f, []) end),
    ok = py_test:wait_until(fun() -> length(processes()) =< Before orelse length(processes()) end).
