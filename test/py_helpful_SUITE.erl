%% Does an error say which argument is wrong, and why a name is unknown?
-module(py_helpful_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [a_wrong_argument_is_named,
     every_wrong_argument_of_a_call_is_named,
     an_ended_context_is_named,
     a_call_that_is_awaited_twice_says_so,
     a_right_call_of_a_fun_raises_its_own_error,
     every_function_that_takes_arguments_has_texts,
     the_shell_prints_the_text,
     unknown_terms_do_no_harm,
     an_unbound_call_says_that_it_shares_nothing,
     a_bound_call_does_not,
     other_name_errors_say_nothing].

init_per_suite(Config) ->
    ok = py_test:start(),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    ok = py:unbind(),
    py_test:assert_empty_mailbox().

%% Returns the reason, and the text that a shell prints.
raised(Fun) ->
    try Fun() of
        Value -> error({returned, Value})
    catch
        error:Reason:Stacktrace ->
            {Reason, unicode:characters_to_binary(erl_error:format_exception(error, Reason, Stacktrace))}
    end.

%% Asserts that a call raises `badarg', and that the text has this part.
badarg(Part, Fun) ->
    {badarg, Text} = raised(Fun),
    py_test:contains(Text, Part).

a_wrong_argument_is_named(_Config) ->
    {ok, Stream} = py:stream_start(itertools, count, [1]),
    ok = badarg("argument 4: neither a map nor a keyword list", fun() -> py:call(json, loads, [], [a]) end),
    ok = badarg("argument 4: neither a map nor a keyword list", fun() -> py:call(json, loads, [], x) end),
    ok = badarg("argument 4: a keyword list in which a name stands twice",
                fun() -> py:call(json, loads, [], [{a, 1}, {a, 2}]) end),
    ok = badarg("argument 5: not a map of options; is it a keyword list?",
                fun() -> py:call(json, loads, [], #{}, [{timeout, 1}]) end),
    ok = badarg("argument 1: not a handle of a Python object", fun() -> py:getattr(make_ref(), x) end),
    ok = badarg("argument 1: not a handle of a Python object", fun() -> py:call(make_ref(), x, []) end),
    ok = badarg("argument 3: the option return is handle", fun() -> py:eval("1", #{}, #{return => handle}) end),
    ok = badarg("argument 1: the option level is loud", fun() -> py:configure_logging(#{level => loud}) end),
    ok = badarg("argument 1: not a fun of no argument", fun() -> py:with_output(x) end),
    ok = badarg("argument 3: not a list of arguments", fun() -> py:call(json, loads, <<"{}">>) end),
    ok = badarg("argument 1: not an atom or text", fun() -> py:call(1, loads, []) end),
    ok = badarg("argument 2: not UTF-8", fun() -> py:call(json, <<255>>, []) end),
    ok = badarg("argument 1: not code", fun() -> py:eval(x) end),
    ok = badarg("argument 1: not UTF-8", fun() -> py:exec(<<255>>) end),
    ok = badarg("argument 2: the key 1 is neither an atom nor UTF-8 text", fun() -> py:eval("1", #{1 => 2}) end),
    ok = badarg("argument 3: neither milliseconds", fun() -> py:eval("1", #{}, -1) end),
    ok = badarg("argument 3: the option poool does not exist; there are: timeout, pool",
                fun() -> py:eval("1", #{}, #{poool => x}) end),
    ok = badarg("argument 3: there is no pool nowhere", fun() -> py:eval("1", #{}, #{pool => nowhere}) end),
    ok = badarg("argument 3: the option timeout is neither", fun() -> py:exec("1", #{}, #{timeout => soon}) end),
    ok = badarg("argument 1: not a context", fun() -> py:ctx_eval(make_ref(), "1") end),
    ok = badarg("argument 5: neither a map", fun() -> py:ctx_call(context(), m, f, [], x, 5) end),
    ok = badarg("argument 1: not a map of options; is it a keyword list?", fun() -> py:bind([{wait, 1}]) end),
    ok = badarg("argument 2: there is no pool nowhere", fun() -> py:bind(new, #{pool => nowhere}) end),
    ok = badarg("argument 1: not a map of options", fun() -> py:bind(old, #{}) end),
    ok = badarg("argument 1: not a context", fun() -> py:unbind(x) end),
    ok = badarg("argument 2: not a fun", fun() -> py:with_context(fun(_, _) -> x end) end),
    ok = badarg("argument 2: not a positive integer", fun() -> py:stream_next(Stream, 0) end),
    ok = badarg("only the process that has started the stream",
                fun() -> {R, S} = py_test:in_process(fun() -> try py:stream_next(Stream, 1)
                                                              catch error:Reason:Stack -> {Reason, Stack} end end),
                         erlang:raise(error, R, S) end),
    ok = badarg("argument 1: not a stream", fun() -> py:stream_next(x, 1) end),
    ok = badarg("argument 1: not a call under way", fun() -> py:await(x) end),
    ok = badarg("argument 1: neither a context nor a process", fun() -> py:interrupt(x) end),
    ok = badarg("argument 2: not a fun", fun() -> py:register_function(f, fun() -> x end) end),
    ok = badarg("argument 1: an empty name", fun() -> py:register_function(<<>>, fun(_) -> x end) end),
    ok = badarg("argument 2: not an atom", fun() -> py:register_function(f, <<"lists">>, sum) end),
    ok = badarg("argument 1: not an atom or text", fun() -> py:unregister_function({f}) end),
    ok = badarg("argument 5: neither milliseconds", fun() -> py:cast(m, f, [], #{}, soon) end),
    ok = badarg("argument 1: an empty name", fun() -> py:reload("") end),
    ok = badarg("argument 2: not an integer", fun() -> py:state_incr(key, 1.5) end),
    ok = py:state_store(key, x),
    ok = badarg("the value of the key is no integer", fun() -> py:state_incr(key) end),
    ok = py:state_clear(),
    ok = py:stream_close(Stream).

context() ->
    {ok, Context} = py:bind(new),
    Context.

every_wrong_argument_of_a_call_is_named(_Config) ->
    {badarg, Text} = raised(fun() -> py:call(1, {2}, x, y, soon) end),
    [ok = py_test:contains(Text, ["argument ", integer_to_list(N), ": "]) || N <- lists:seq(1, 5)],
    ok = py_test:contains(Text, "py:call/5").

an_ended_context_is_named(_Config) ->
    {ok, Context} = py:bind(new),
    ok = py:unbind(Context),
    [begin
         {context_not_bound, Text} = raised(Call),
         ok = py_test:contains(Text, "argument 1: the context has ended")
     end || Call <- [fun() -> py:ctx_eval(Context, "1") end, fun() -> py:ctx_exec(Context, "1", #{}, 5) end,
                     fun() -> py:ctx_call(Context, math, sqrt, [1]) end,
                     fun() -> py:ctx_cast(Context, math, sqrt, [1]) end,
                     fun() -> py:ctx_call_async(Context, math, sqrt, [1]) end,
                     fun() -> py:ctx_stream(Context, itertools, count, []) end]].

a_call_that_is_awaited_twice_says_so(_Config) ->
    Call = py:call_async(math, sqrt, [4]),
    {ok, 2.0} = py:await(Call),
    ok = badarg("is awaited once, by the process that made it", fun() -> py:await(Call) end),
    ok = badarg("is awaited once, by the process that made it", fun() -> py:async_gather([Call]) end).

%% The error of a user's own fun is not ours.
a_right_call_of_a_fun_raises_its_own_error(_Config) ->
    [begin
         try py:with_context(Fun) of _ -> error(returned)
         catch error:badarg:Stacktrace -> [{erlang, atom_to_list, [1], _} | _] = Stacktrace
         end
     end || Fun <- [fun() -> atom_to_list(id(1)) end, fun(_) -> atom_to_list(id(1)) end]].

id(X) -> X.

%% A function that is added has to be added to `py_arguments', too.
every_function_that_takes_arguments_has_texts(_Config) ->
    Never = [module_info, is_bound, version, python_info, format_error, gc, memory_stats, state_store, state_fetch,
             state_remove, state_keys, state_clear],
    Functions = [{F, A} || {F, A} <- py:module_info(exports), A > 0, not lists:member(F, Never)],
    true = length(Functions) > 50,
    [] = [{F, A} || {F, A} <- Functions, {badarg, _} <- [wrong(F, A)], no_texts(F, A)].

wrong(F, A) ->
    try apply(py, F, lists:duplicate(A, {x})) of
        _ -> returned
    catch
        error:Reason:Stacktrace -> {Reason, Stacktrace}
    end.

no_texts(F, A) ->
    {badarg, [Top | _] = Stacktrace} = wrong(F, A),
    case Top of
        {py, _, Args, Info} when is_list(Args) ->
            #{module := Module} = proplists:get_value(error_info, Info, #{module => none}),
            Module =:= none orelse 0 =:= map_size(Module:format_error(badarg, Stacktrace));
        _ ->
            true
    end.

the_shell_prints_the_text(Config) ->
    Input = filename:join(proplists:get_value(priv_dir, Config), "input"),
    ok = file:write_file(Input, "py:call(1, loads, [], x).\n"),
    Ebin = filename:dirname(code:which(py)),
    Output = os:cmd("erl -pa '" ++ Ebin ++ "' < '" ++ Input ++ "' 2>&1"),
    ok = py_test:contains(Output, "bad argument"),
    ok = py_test:contains(Output, "argument 4: neither a map nor a keyword list").

unknown_terms_do_no_harm(_Config) ->
    Stacks = [[], [{py, call, 5, []}], [{py, no_such_function, [1, 2], []}], [{py, call, lists:seq(1, 20), []}],
              [{other, call, [1], []}]],
    [true = is_map(py_arguments:format_error(Reason, Stack))
     || Reason <- [badarg, context_not_bound, other], Stack <- Stacks].

%%% Unknown names

hint() ->
    "The call had no binding".

an_unbound_call_says_that_it_shares_nothing(_Config) ->
    ok = py:exec(<<"x = 1">>),
    Errors = [py:eval(<<"x + 1">>), py:eval(<<"x + y">>, #{y => 1}), py:exec(<<"x += 1">>),
              py:exec(<<"def f():\n    return x\nf()">>), py:stream_eval(<<"(n for n in x)">>),
              py:eval(<<"x">>, #{}, #{pool => default})],
    [begin
         {error, {'NameError', #{unknown_name := <<"x">>, unbound := true}}} = Error,
         Text = py:format_error(Error),
         ok = py_test:contains(Text, "NameError: name 'x' is not defined"),
         ok = py_test:contains(Text, hint())
     end || Error <- Errors].

a_bound_call_does_not(_Config) ->
    ok = py:bind(),
    {error, {'NameError', #{unknown_name := <<"x">>} = Bound}} = py:eval(<<"x">>),
    false = is_map_key(unbound, Bound),
    nomatch = string:find(py:format_error({'NameError', Bound}), hint()),
    ok = py:unbind(),
    {ok, Context} = py:bind(new),
    {error, {'NameError', InContext}} = py:ctx_eval(Context, <<"x">>),
    nomatch = string:find(py:format_error({'NameError', InContext}), hint()),
    ok = py:unbind(Context),
    %% A call of a callback sees the variables of the code that waits.
    Self = self(),
    ok = py:register_function(nested, fun([]) -> Self ! {nested, py:eval(<<"x">>)}, ok end),
    ok = py:exec(<<"import erlang; erlang.nested()">>),
    Nested = receive {nested, Result} -> Result after 20000 -> error(not_called) end,
    {error, {'NameError', #{unknown_name := <<"x">>}}} = Nested,
    nomatch = string:find(py:format_error(Nested), hint()).

other_name_errors_say_nothing(_Config) ->
    Codes = [<<"raise NameError('x')">>,
             <<"raise NameError(\"name 'x' is not defined\")">>,
             <<"x = 1\nraise NameError(\"name 'x' is not defined\", name='x')">>,
             <<"class E(NameError): pass\nraise E(\"name 'x' is not defined\", name='x')">>,
             <<"def f():\n    if 0: a = 1\n    def g(): return a\n    g()\nf()">>,
             <<"def f():\n    b\n    b = 1\nf()">>,
             <<"exec('x')">>,
             <<"import types\nm = types.ModuleType('m')\nexec(compile('def f(): x', '/srv/m.py', 'exec'), vars(m))\nm.f()">>,
             <<"try:\n    x\nexcept NameError as e:\n    raise ValueError from e">>],
    [begin
         {error, {_, Info}} = Error = py:exec(Code),
         {Code, false} = {Code, is_map_key(unbound, Info)},
         nomatch = string:find(py:format_error(Error), hint())
     end || Code <- Codes].
