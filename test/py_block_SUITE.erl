%% Does `py:run' return the value of the last statement, with the lines of the source?
-module(py_block_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [the_last_expression_is_the_value, other_statements_have_none, lines_keep_their_numbers, names_stay_in_the_binding,
     locals_are_gone_afterwards, future_statements_hold_for_the_value, a_coroutine_is_awaited, code_that_does_not_compile,
     options_of_a_run, runs_in_a_context, many_blocks].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(2),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(2).

the_last_expression_is_the_value(_Config) ->
    {ok, 7} = py:run(<<"x = 3\nx + 4">>),
    {ok, 1} = py:run(<<"1">>),
    {ok, [0, 1, 4]} = py:run(<<"def square(x):\n    return x * x\n\n[square(i) for i in range(3)]  # three\n\n">>),
    {ok, <<"only a string">>} = py:run(<<"'only a string'">>),
    {ok, {1, 2}} = py:run("a = 1; b = 2; a, b"),
    {ok, 3} = py:run(["x = ", "3", <<"\n">>, "x"]).

other_statements_have_none(_Config) ->
    [{ok, none} = py:run(Code)
     || Code <- [<<>>, <<"# nothing">>, <<"x = 1">>, <<"if True:\n    5">>, <<"def f(): return 1">>, <<"pass">>,
                 <<"for i in range(3):\n    i">>, <<"None">>]].

lines_keep_their_numbers(_Config) ->
    {error, {'ZeroDivisionError', #{traceback := [Last]}}} = py:run(<<"x = 1\n\n\nx / 0\n">>),
    #{line := 4, source := <<"x / 0">>} = Last,
    {error, {'ZeroDivisionError', #{traceback := [Outer, Inner]}}} =
        py:run(<<"def f():\n    return 1 / 0\n\nf()">>),
    #{line := 4, source := <<"f()">>} = Outer,
    #{line := 2, source := <<"    return 1 / 0">>, function := <<"f">>} = Inner.

names_stay_in_the_binding(_Config) ->
    ok = py:bind(),
    {ok, 1} = py:run(<<"n = 0\ndef up():\n    global n\n    n += 1\n    return n\nup()">>),
    {ok, 2} = py:eval(<<"up()">>),
    {ok, 3} = py:run(<<"up()">>).

locals_are_gone_afterwards(_Config) ->
    ok = py:bind(),
    {ok, 12} = py:run(<<"y = x * 2\ny + z">>, [{x, 5}, {z, 2}]),
    {ok, 10} = py:run(<<"y">>),
    {error, {'NameError', _}} = py:run(<<"z">>).

future_statements_hold_for_the_value(_Config) ->
    {ok, #{<<"return">> := <<"Undefined">>}} =
        py:run(<<"from __future__ import annotations\ndef f() -> Undefined: pass\nf.__annotations__">>).

a_coroutine_is_awaited(_Config) ->
    {ok, 5} = py:run(<<"import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 5\nf()">>).

code_that_does_not_compile(_Config) ->
    {error, {'SyntaxError', #{syntax := #{line := 2}}}} = py:run(<<"x = 1\nx +">>),
    {error, {'IndentationError', _}} = py:run(<<"  x = 1">>),
    {error, {'SyntaxError', _}} = py:run(<<"return 1">>),
    {error, {'SyntaxError', _}} = py:run(<<"x = 1", 0>>).

options_of_a_run(_Config) ->
    {ok, Handle} = py:run(<<"[1, 2]">>, #{}, #{return => object, timeout => 5000}),
    true = py:is_object(Handle),
    {error, timeout} = py:run(<<"import time\ntime.sleep(60)">>, #{}, 50),
    {raised, badarg} = py_test:caught(fun() -> py:run(<<"1">>, #{}, #{no_such => option}) end),
    {raised, badarg} = py_test:caught(fun() -> py:run(1) end).

runs_in_a_context(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, 3} = py:ctx_run(Ctx, <<"k = 3\nk">>),
    {ok, 4} = py:ctx_run(Ctx, <<"k + d">>, #{d => 1}),
    {ok, 5} = py:ctx_run(Ctx, <<"k + d">>, #{d => 2}, 5000),
    ok = py:unbind(Ctx),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_run(Ctx, <<"1">>) end).

%% More than the cache of compiled code holds.
many_blocks(_Config) ->
    ok = py:bind(),
    [begin
         N = I * 2,
         {ok, N} = py:run(["x = ", integer_to_list(I), "\nx * 2"])
     end || I <- lists:seq(1, 1500)],
    ok.
