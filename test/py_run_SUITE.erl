%% Do statements run, and is the value of the last one returned?
-module(py_run_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [the_last_expression_is_the_value, assignments_stay_in_the_namespace, locals_end_with_the_run,
     offered_variables_are_seen_only_by_code_that_reads_them, a_coroutine_is_awaited_with_its_locals,
     future_statements_hold_for_the_last_expression, a_traceback_begins_with_the_code,
     a_traceback_has_the_lines_of_the_file, a_syntax_error_names_file_and_line,
     a_context_is_used, a_pool_is_used, a_timeout_stops_the_code_and_ends_the_locals, bad_options_are_badarg].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

the_last_expression_is_the_value(_Config) ->
    {ok, 6} = py_run:run(<<"x = 2\nx * 3">>),
    {ok, 3} = py_run:run("1 + 2"),
    {ok, <<"text">>} = py_run:run(<<"'text'  # a comment\n\n">>),
    [{ok, none} = py_run:run(Code) || Code <- [<<>>, <<"# nothing\n">>, <<"x = 1">>, <<"None">>,
                                              <<"def f(): return 1">>]],
    {ok, Text} = py_run:run(unicode:characters_to_binary("x = 'é'\nx")),
    Text = unicode:characters_to_binary("é").

assignments_stay_in_the_namespace(_Config) ->
    ok = py:bind(),
    {ok, none} = py_run:run(<<"import math\ncount = 1\ndef f(): return count">>),
    {ok, 2} = py_run:run(<<"count += 1\nf()">>),
    {ok, {2, true}} = py:eval(<<"(count, math.pi > 3)">>).

locals_end_with_the_run(_Config) ->
    ok = py:bind(),
    {ok, {1, 20, 3}} = py_run:run(<<"(true, b, c)">>, #{locals => #{true => 1, <<"b">> => 20, c => 3}}),
    {ok, false} = py:eval(<<"bool({'true', 'b', 'c'} & set(globals()))">>),
    ok = py:exec(<<"a = 'old'; b = 'old'; c = 'old'">>),
    {ok, [1000, 2000]} = py_run:run(<<"b = 'new'\ndel c\n[a, d]">>,
                                    #{locals => #{a => 1000, b => 1000, c => 1000, d => 2000}}),
    {ok, {<<"old">>, <<"new">>, <<"old">>}} = py:eval(<<"(a, b, c)">>),
    {error, {'NameError', _}} = py_run:run(<<"missing">>, #{locals => #{e => 1000}}),
    {ok, false} = py:eval(<<"'e' in globals()">>).

offered_variables_are_seen_only_by_code_that_reads_them(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"total = 'global'\nclass C: pass\ndef f(): return total">>),
    Offered = #{total => 1000, x => 2000},
    [{ok, <<"global">>} = py_run:run(Code, #{offered => Offered})
     || Code <- [<<"f()">>, <<"c = C(); c.total = 1; f()  # total">>, <<"dict(total=f())['total']">>,
                 <<"(lambda total: f())('total')">>]],
    [{ok, 1000} = py_run:run(Code, #{offered => Offered})
     || Code <- [<<"total">>, <<"f() and total">>, <<"[total for _ in 'a'][0]">>, <<"int(f'{total}')">>,
                 <<"def g():\n  return lambda: total\ng()()">>, <<"class D:\n  y = total\nD.y">>]],
    {ok, 2001} = py_run:run(<<"x += 1\nx">>, #{offered => Offered}),
    {ok, <<"locals">>} = py_run:run(<<"total">>, #{offered => Offered, locals => #{total => <<"locals">>}}).

a_coroutine_is_awaited_with_its_locals(_Config) ->
    ok = py:bind(),
    Code = <<"import asyncio\nasync def f():\n  await asyncio.sleep(0)\n  return a\nf()">>,
    {ok, 1000} = py_run:run(Code, #{locals => #{a => 1000}}),
    {ok, 2000} = py_run:run(Code, #{offered => #{a => 2000}}),
    {ok, false} = py:eval(<<"'a' in globals()">>),
    {error, {'NameError', #{traceback := [#{function := <<"f">>}]}}} = py_run:run(Code).

future_statements_hold_for_the_last_expression(_Config) ->
    Code = <<"from __future__ import annotations\ndef f(x: missing): pass\nf.__annotations__['x']">>,
    {ok, <<"missing">>} = py_run:run(Code),
    {ok, <<"'1'">>} = py_run:run(<<"from __future__ import annotations\n(lambda: repr('1'))()">>).

a_traceback_begins_with_the_code(_Config) ->
    Error = py_run:run(<<"def f(x):\n    return 1 / x\n\nf(0)">>),
    <<"Traceback (most recent call last):\n  File \"<erlang>\", line 4, in <module>\n    f(0)\n"
      "  File \"<erlang>\", line 2, in f\nZeroDivisionError: division by zero">> = py:format_error(Error),
    {error, {'KeyError', #{traceback := [#{line := 1, source := <<"{}['a']">>}]}}} = py_run:run(<<"{}['a']">>),
    %% The outermost frames of a deep recursion are lost.
    Deep = <<"def f(n): return f(n - 1) if n else 1 / 0\nf(500)">>,
    {error, {'ZeroDivisionError', #{traceback := Frames}}} = py_run:run(Deep),
    [<<"<erlang>">>] = lists:usort([File || #{file := File} <- Frames]).

a_traceback_has_the_lines_of_the_file(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "lines.ex"),
    ok = file:write_file(File, "one\ntwo\nthree()\n"),
    Error = py_run:run(<<"x = 1\nthree()">>, #{file => File, line => 2}),
    {error, {'NameError', #{traceback := [#{file := Name, line := 3, function := <<"<module>">>}]}}} = Error,
    Name = unicode:characters_to_binary(File),
    ok = py_test:contains(py:format_error(Error), "lines.ex\", line 3, in <module>\n    three()\nNameError").

a_syntax_error_names_file_and_line(_Config) ->
    {error, {'SyntaxError', #{syntax := Syntax, traceback := []}}} =
        py_run:run(<<"x = 1\nx ++ )">>, #{file => "a.ex", line => 10}),
    #{file := <<"a.ex">>, line := 11} = Syntax,
    {error, {'IndentationError', _}} = py_run:run(<<"  x = 1">>),
    {error, {_, #{class := _}}} = py_run:run(<<"x = '\0'">>).

a_context_is_used(_Config) ->
    {ok, Context} = py:bind(new),
    {ok, none} = py_run:run(<<"x = 1">>, #{context => Context}),
    {ok, 1} = py_run:run(<<"x">>, #{context => Context, timeout => 5000}),
    {error, {'NameError', _}} = py_run:run(<<"x">>),
    ok = py:unbind(Context),
    {raised, context_not_bound} = py_test:caught(fun() -> py_run:run(<<"x">>, #{context => Context}) end).

a_pool_is_used(_Config) ->
    %% A spare could have the place of the child that has answered first.
    ok = py_pool:start(?MODULE, #{level => process, num_workers => 1, spares => 0}),
    Pid = <<"import os\nos.getpid()">>,
    {ok, Vm} = py_run:run(Pid),
    {ok, Child} = py_run:run(Pid, #{pool => ?MODULE, timeout => 10000}),
    false = Vm =:= Child,
    ok = py:bind(#{pool => ?MODULE}),
    {ok, none} = py_run:run(<<"x = 1">>, #{pool => ?MODULE}),
    {ok, {1, Child}} = py_run:run(<<"import os\nx, os.getpid()">>, #{pool => ?MODULE}),
    ok = py:unbind(),
    ok = py_pool:stop(?MODULE),
    {raised, badarg} = py_test:caught(fun() -> py_run:run(Pid, #{pool => ?MODULE}) end),
    py:with_context(fun(Context) ->
        {raised, badarg} = py_test:caught(fun() -> py_run:run(Pid, #{pool => default, context => Context}) end)
    end).

a_timeout_stops_the_code_and_ends_the_locals(_Config) ->
    ok = py:bind(),
    {error, timeout} = py_run:run(<<"y = x\nwhile True: pass">>, #{locals => #{x => 1000}, timeout => 100}),
    {ok, {1000, false}} = py:eval(<<"(y, 'x' in globals())">>).

bad_options_are_badarg(_Config) ->
    [{raised, badarg} = py_test:caught(fun() -> py_run:run(<<"1">>, Options) end)
     || Options <- [#{unknown => 1}, #{locals => []}, #{locals => #{1 => 1}}, #{locals => #{<<255>> => 1}},
                    #{locals => #{a => 1, <<"a">> => 2}}, #{offered => x}, #{timeout => -1}, #{context => x},
                    #{file => 1}, #{file => <<255>>}, #{line => 0}, #{line => 1.0}, #{line => 1 bsl 64}, []]],
    [{raised, badarg} = py_test:caught(fun() -> py_run:run(Code) end) || Code <- [1, <<255>>, [-1], atom]],
    {error, {unconvertible, #{reason := improper_list}}} = py_run:run(<<"x">>, #{locals => #{x => [1 | 2]}}).
