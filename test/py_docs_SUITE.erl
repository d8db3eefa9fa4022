%% Do the documents say the truth?
-module(py_docs_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [examples_of_the_readme_run,
     examples_of_the_callbacks_run,
     examples_of_the_streams_run,
     examples_of_coroutines_run,
     every_environment_key_is_documented,
     every_invalid_value_of_the_environment_is_refused,
     the_bounds_of_the_environment_work,
     every_error_reason_is_documented,
     every_unconvertible_reason_is_documented,
     every_part_is_in_the_overview,
     every_case_that_proves_a_promise_exists,
     nif_stubs_and_table_are_the_same].

init_per_suite(Config) ->
    ok = py_test:start(),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    py_test:assert_empty_mailbox().

root() ->
    %% test/../ in the source tree: the suite is compiled from there.
    Source = proplists:get_value(source, ?MODULE:module_info(compile)),
    root(filename:dirname(Source)).

root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "README.md")) of
        true -> Dir;
        false when Dir =/= "/" -> root(filename:dirname(Dir))
    end.

read(Name) ->
    {ok, Text} = file:read_file(filename:join(root(), Name)),
    Text.

examples_of_the_readme_run(_Config) ->
    true = run_examples("README.md") >= 5.

examples_of_the_callbacks_run(_Config) ->
    true = run_examples("docs/guide/callbacks.md") >= 5.

examples_of_the_streams_run(_Config) ->
    true = run_examples("docs/guide/streams.md") >= 2.

examples_of_coroutines_run(_Config) ->
    true = run_examples("docs/guide/async.md") >= 4.

run_examples(Page) ->
    Blocks = blocks(read(Page)),
    [begin
         {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Block)),
         {ok, Expressions} = erl_parse:parse_exprs(Tokens),
         ct:log("~ts", [Block]),
         {value, _, _} = erl_eval:exprs(Expressions, [])
     end || Block <- Blocks],
    length(Blocks).

blocks(Text) ->
    {match, Blocks} = re:run(Text, "```erlang\n(.*?)```",
                             [global, dotall, {capture, [1], binary}]),
    lists:append(Blocks).

every_environment_key_is_documented(_Config) ->
    Page = read("docs/operations.md"),
    Keys = [Key || {Key, _} <- application:get_all_env(erlang_python),
                   Key =/= included_applications],
    [] = [Key || Key <- Keys, not mentions(Page, ["| `", atom_to_list(Key), "` |"])].

every_invalid_value_of_the_environment_is_refused(_Config) ->
    [begin
         try py_test:start_with([{Key, Value}]) of
             ok -> error({started_with, Key, Value})
         catch
             error:{badmatch, {error, {erlang_python, {Reason, _}}}} ->
                 {invalid_env, Key, Value} = Reason
         end
     end || {Key, Values} <- [{python, [python3, 3, [0, -1], {"python3"}, [atom], <<255>>, [], <<>>]},
                              {num_workers, [0, -1, many, 1.5, 1025, 1 bsl 40, 1 bsl 64]},
                              {max_pending, [0, undefined, 1 bsl 24 + 1, 1 bsl 33, 1 bsl 64]},
                              {default_timeout, [-1, soon, 1 bsl 32, 1 bsl 33, 1 bsl 64]},
                              {interrupt_grace, [0, infinity, 1.5, 1 bsl 32, 1 bsl 64]},
                              {import_grace, [0, infinity, 1.5, 1 bsl 32, 1 bsl 64]},
                              {max_abandoned, [-1, infinity, 1025, 1 bsl 40, 1 bsl 64]}],
            Value <- Values],
    ok = py_test:start().

%% The keys but `num_workers', whose upper bound would start a thousand threads.
the_bounds_of_the_environment_work(_Config) ->
    [begin
         ok = py_test:start_with([{num_workers, 1} | Env]),
         {ok, 2} = py:eval(<<"1 + 1">>)
     end || Env <- [[{max_pending, 1}, {interrupt_grace, 1}, {import_grace, 1},
                     {max_abandoned, 0}],
                    [{max_pending, 1 bsl 24}, {default_timeout, 16#ffffffff},
                     {interrupt_grace, 16#ffffffff}, {import_grace, 16#ffffffff},
                     {max_abandoned, 1024}]]],
    ok = py_test:start().

every_error_reason_is_documented(_Config) ->
    Page = read("docs/guide/errors.md"),
    [] = [Reason || Reason <- ["timeout", "interrupted", "not_running",
                               "no_workers_available", "overloaded", "worker_crashed",
                               "{unconvertible, Info}", "{Type, Exception}", "badarg",
                               "context_not_bound", "{not_started, erlang_python}",
                               "{python_unavailable, Message}", "{invalid_env, Key, Value}"],
                    not mentions(Page, ["`", Reason, "`"])].

every_unconvertible_reason_is_documented(_Config) ->
    {match, Reasons} = re:run(read("native/nif/src/error.rs"), "=> atoms::(\\w+)\\(\\),",
                              [global, {capture, [1], list}]),
    Page = read("docs/guide/types.md"),
    [] = [Reason || [Reason] <- Reasons, not mentions(Page, ["`", Reason, "`"])].

%% The Erlang modules, the crates, and the files on the path of a call. The modules of a crate are in its lib.rs, which
%% a test of the engine compares with the sources.
every_part_is_in_the_overview(_Config) ->
    Page = read("docs/internals/overview.md"),
    Erlang = filelib:wildcard("py*.erl", filename:join(root(), "src")),
    Crates = [filename:dirname(filename:dirname(File))
              || File <- filelib:wildcard("native/*/src/lib.rs", root())],
    3 = length(Crates),
    [] = [File || File <- Erlang ++ Crates, not mentions(Page, [filename:rootname(File)])],
    {match, Steps} = re:run(Page, "`((?:nif|engine|codec)/src/[a-z_/]+\\.rs)`", [global, {capture, [1], list}]),
    Files = lists:usort(lists:append(Steps)),
    true = length(Files) > 8 andalso length(Files) =< 14,
    [] = [File || File <- Files, not filelib:is_regular(filename:join([root(), "native", File]))].

every_case_that_proves_a_promise_exists(_Config) ->
    {match, Cells} = re:run(read("docs/reliability.md"), "\\| ([^|\n]*) \\|\n",
                            [global, {capture, [1], binary}]),
    Names = lists:append([names(Cell) || [Cell] <- Cells]),
    true = length(Names) > 20,
    Suites = [list_to_atom(filename:basename(File, ".erl"))
              || File <- filelib:wildcard("*_SUITE.erl", filename:join(root(), "test"))],
    Cases = lists:append([[Suite | cases(Suite)] || Suite <- Suites]),
    Known = [atom_to_binary(Case) || Case <- Cases],
    [] = [Name || Name <- Names, not lists:member(Name, Known)].

%% `py_x_SUITE:case', a suite, a case or a group, each in backquotes.
names(Cell) ->
    case re:run(Cell, "`([a-zA-Z_:]+)`", [global, {capture, [1], binary}]) of
        {match, Quoted} -> lists:append([binary:split(Q, <<":">>) || [Q] <- Quoted]);
        nomatch -> []
    end.

cases(Suite) ->
    {module, Suite} = code:ensure_loaded(Suite),
    [Name || {Name, 1} <- Suite:module_info(exports)]
        ++ [Group || erlang:function_exported(Suite, groups, 0), {Group, _, _} <- Suite:groups()].

%% Compares the order, which is for the reader. One NIF too many or too few and the whole module
%% would fail to load.
nif_stubs_and_table_are_the_same(_Config) ->
    {match, Natives} = re:run(read("native/nif/src/nif.rs"),
                              "#\\[rustler::nif[^\\]]*\\]\\s*fn (\\w+)",
                              [global, {capture, [1], list}]),
    {match, Stubs} = re:run(read("src/py_nif.erl"), "\n(\\w+)\\([^)]*\\) ->\n    erlang:nif_error",
                            [global, {capture, [1], list}]),
    Stubs = Natives,
    Exported = [Name || {Name, _} <- py_nif:module_info(exports), Name =/= module_info,
                        Name =/= load],
    [] = lists:sort(Exported) -- [list_to_atom(Name) || [Name] <- Stubs],
    true = length(Exported) =:= length(Stubs).

mentions(Text, Phrase) ->
    binary:match(Text, unicode:characters_to_binary(Phrase)) =/= nomatch.
