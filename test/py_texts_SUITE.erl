%% Do `h(py, call)' and `ht(py, exception)' in a shell print what the sources say?
-module(py_texts_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [every_public_function_has_a_text,
     every_public_type_has_a_text,
     the_shell_prints_the_text_of_a_function,
     the_shell_prints_the_text_of_a_module,
     the_shell_prints_a_type,
     what_is_old_is_made_anew].

modules() ->
    [py, py_pool, py_env, py_run].

docs(Module) ->
    {ok, Docs} = code:get_doc(Module),
    {docs_v1, _, erlang, _, _, _, Entries} = Docs,
    Entries.

every_public_function_has_a_text(_Config) ->
    Without = [{Module, Name, Arity} || Module <- modules(), {{function, Name, Arity}, _, _, none, _} <- docs(Module)],
    [] = Without,
    Known = [{Name, Arity} || {{function, Name, Arity}, _, _, _, _} <- docs(py)],
    [] = [Function || Function <- py:module_info(exports), not lists:member(Function, Known),
                      element(1, Function) =/= module_info].

every_public_type_has_a_text(_Config) ->
    [] = [{Module, Name} || Module <- modules(), {{type, Name, _}, _, _, none, _} <- docs(Module)].

%% Returns what a shell prints for an expression, without the breaks of its lines.
printed(Expression, Config) ->
    Input = filename:join(proplists:get_value(priv_dir, Config), "input"),
    ok = file:write_file(Input, [Expression, ".\n"]),
    Ebin = filename:dirname(code:which(py)),
    Output = os:cmd("TERM=dumb erl -pa '" ++ Ebin ++ "' < '" ++ Input ++ "' 2>&1"),
    re:replace(Output, "(\\s|\e\\[[0-9;]*m)+", " ", [global, unicode, {return, binary}]).

the_shell_prints_the_text_of_a_function(Config) ->
    Text = printed("h(py, call)", Config),
    ok = py_test:contains(Text, "Calls a Python function and returns its result."),
    ok = py_test:contains(Text, "Timeout is in milliseconds"),
    ok = py_test:contains(printed("h(py, state_incr, 2)", Config), "Adds to the integer of a key"),
    ok = py_test:contains(printed("h(py_pool, start)", Config), "Starts a pool").

the_shell_prints_the_text_of_a_module(Config) ->
    Text = printed("h(py)", Config),
    ok = py_test:contains(Text, "Python from Erlang, with context affinity."),
    ok = py_test:contains(Text, "to run statements; and their last value: exec/1").

the_shell_prints_a_type(Config) ->
    ok = py_test:contains(printed("ht(py, exception)", Config), "the qualified name").

what_is_old_is_made_anew(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "application"),
    Script = filename:join([py_docs:root(), "scripts", "doc_chunks"]),
    Run = fun() -> os:cmd("escript '" ++ Script ++ "' '" ++ Dir ++ "' 2>&1") end,
    "" = Run(),
    [Chunk | _] = Chunks = [filename:join([Dir, "doc", "chunks", atom_to_list(Module) ++ ".chunk"]) || Module <- modules()],
    [] = [File || File <- Chunks, not filelib:is_regular(File)],
    {ok, Made} = file:read_file(Chunk),
    %% A chunk that is not older than its source stays.
    ok = file:write_file(Chunk, "newer"),
    "" = Run(),
    {ok, <<"newer">>} = file:read_file(Chunk),
    ok = file:change_time(Chunk, {{2000, 1, 1}, {0, 0, 0}}),
    "" = Run(),
    {ok, Made} = file:read_file(Chunk).
