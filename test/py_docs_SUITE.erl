%% Do the documents say the truth?
-module(py_docs_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [every_link_resolves,
     a_link_that_leads_nowhere_is_found,
     every_environment_key_is_documented,
     every_log_event_is_documented,
     every_target_of_make_is_in_its_help,
     ci_calls_targets_of_make,
     every_change_of_the_interpreter_is_documented,
     every_function_that_the_readme_offers_exists,
     every_file_that_a_page_names_exists,
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

%% A link leads to a file or a directory of the sources, and to a heading if it has an anchor.
every_link_resolves(_Config) ->
    Pages = py_docs:pages(),
    true = length(Pages) > 15,
    [] = [{Page, Link} || Page <- Pages, Link <- py_docs:links(Page), not py_docs:resolves(Page, Link)].

a_link_that_leads_nowhere_is_found(_Config) ->
    [true, true, true, false, false, false] =
        [py_docs:resolves("docs/isolation.md", Link)
         || Link <- ["reliability.md", "../README.md#limits-and-safety", "#the-thread",
                     "no_page.md", "reliability.md#no-heading", "#no-heading"]].

every_environment_key_is_documented(_Config) ->
    Page = py_docs:read("docs/operations.md"),
    Keys = [Key || {Key, _} <- application:get_all_env(erlang_python),
                   Key =/= included_applications],
    [] = [Key || Key <- Keys, not py_docs:mentions(Page, ["| `", atom_to_list(Key), "` |"])].

%% The events are the maps of the macros of `logger' in the sources: each has the key `what'.
every_log_event_is_documented(_Config) ->
    Sources = [py_docs:read(File) || File <- filelib:wildcard("src/*.erl", py_docs:root())],
    {match, Macros} = re:run(Sources, "\\?LOG_[A-Z]+\\(", [global]),
    {match, Events} = re:run(Sources, "\\?LOG_([A-Z]+)\\(#{what => (\\w+)",
                             [global, {capture, all_but_first, binary}]),
    true = length(Events) =:= length(Macros),
    Page = py_docs:read("docs/operations.md"),
    {match, Rows} = re:run(Page, "^\\| (`\\w+`(?:, `\\w+`)*) \\| (error|warning|notice|info|debug) \\|",
                           [global, multiline, {capture, all_but_first, binary}]),
    Documented = [{Event, string:uppercase(Level)}
                  || [Names, Level] <- Rows, Event <- string:lexemes(Names, "`, ")],
    Logged = lists:usort([{Event, Level} || [Level, Event] <- Events]),
    Logged = lists:usort(Documented).

every_target_of_make_is_in_its_help(_Config) ->
    Help = os:cmd("make --no-print-directory -s -C " ++ py_docs:root() ++ " help"),
    {match, Lines} = re:run(Help, "^make (\\S+) +(\\S.*)$", [global, multiline, {capture, [1], binary}]),
    Targets = lists:sort(targets()),
    true = length(Targets) > 10,
    Targets = lists:sort(lists:append(Lines)).

targets() ->
    {match, [Phony]} = re:run(py_docs:read("Makefile"), "^\\.PHONY:((?:.*\\\\\n)*.*)$",
                              [multiline, {capture, all_but_first, binary}]),
    string:lexemes(Phony, " \t\n\\").

ci_calls_targets_of_make(_Config) ->
    {match, Calls} = re:run(py_docs:read(".github/workflows/ci.yml"), "\\bmake ([a-z-]+)",
                            [global, {capture, all_but_first, binary}]),
    [] = lists:usort(lists:append(Calls)) -- targets(),
    [] = [<<"lint">>, <<"docs">>, <<"test">>] -- lists:append(Calls).

%% Asks the running Python for the functions that are replaced, and looks their names up in the table.
every_change_of_the_interpreter_is_documented(_Config) ->
    [_, Section] = binary:split(py_docs:read("docs/isolation.md"), <<"## What we change in your interpreter">>),
    {ok, Replaced} = py:with_context(fun() ->
        ok = py:exec(replaced()),
        py:eval(<<"found">>)
    end),
    true = length(Replaced) > 20,
    Names = lists:usort([lists:last(binary:split(Path, <<".">>, [global])) || Path <- Replaced]),
    [] = [Name || Name <- Names, nomatch =:= re:run(Section, ["\\b", Name, "`"])],
    {match, Files} = re:run(Section, "`([a-z_]+(?:/[a-z_]+)?\\.(?:py|rs))`",
                            [global, {capture, all_but_first, list}]),
    [] = [File || [File] <- Files,
                  not filelib:is_regular(filename:join([py_docs:root(), "native/engine/src", File]))].

%% Code that leaves the paths of all functions whose code is ours in `found'.
replaced() ->
    <<"
import asyncio, multiprocessing, signal, subprocess, sys, threading, types

def ours(value):
    code = getattr(value, '__code__', None)
    return (type(value).__module__ == 'erlang'
            or isinstance(code, types.CodeType) and code.co_filename.startswith('<erlang_python/'))

found = []
for name, module in list(sys.modules.items()):
    if name.split('.')[0] not in ('erlang', '__main__'):
        for key, value in list(vars(module).items()):
            if ours(value):
                found.append(f'{name}.{key}')
            elif isinstance(value, type) and value.__module__ == name:
                found += [f'{name}.{key}.{k}' for k, v in list(vars(value).items()) if ours(v)]
">>.

%% The tables of README.md and `py' name functions with their arities.
every_function_that_the_readme_offers_exists(_Config) ->
    {match, Named} = re:run(py_docs:read("README.md"), "`(py\\w*):(\\w+)/(\\d)`",
                            [global, {capture, all_but_first, list}]),
    true = length(Named) > 15,
    Functions = [{list_to_atom(Module), list_to_atom(Name), list_to_integer(Arity)}
                 || [Module, Name, Arity] <- Named],
    [] = [Function || {Module, Name, Arity} = Function <- Functions,
                      not lists:member({Name, Arity}, Module:module_info(exports))].

every_file_that_a_page_names_exists(_Config) ->
    Named = [{Page, Path} || Page <- py_docs:pages(), Path <- py_docs:paths(Page)],
    true = length(Named) > 50,
    [] = [{Page, Path} || {Page, Path} <- Named, not filelib:is_file(filename:join(py_docs:root(), Path))].

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
                              {max_abandoned, [-1, infinity, 1025, 1 bsl 40, 1 bsl 64]},
                              {max_state, [-1, infinity, 1.5, 1 bsl 41, 1 bsl 64]},
                              {callable, [lists, [<<"lists">>], [{lists, "seq"}], [{lists, seq, -1}],
                                          [{lists, seq, 256}], [{lists, seq, 2, 3}], [lists | seq], [[lists]]]}],
            Value <- Values],
    ok = py_test:start().

%% The keys but `num_workers', whose upper bound would start a thousand threads.
the_bounds_of_the_environment_work(_Config) ->
    [begin
         ok = py_test:start_with([{num_workers, 1} | Env]),
         {ok, 2} = py:eval(<<"1 + 1">>)
     end || Env <- [[{max_pending, 1}, {interrupt_grace, 1}, {import_grace, 1},
                     {max_abandoned, 0}, {max_state, 0}],
                    [{max_pending, 1 bsl 24}, {default_timeout, 16#ffffffff},
                     {interrupt_grace, 16#ffffffff}, {import_grace, 16#ffffffff},
                     {max_abandoned, 1024}, {max_state, 1 bsl 40}]]],
    ok = py_test:start().

every_error_reason_is_documented(_Config) ->
    Page = py_docs:read("docs/guide/errors.md"),
    [] = [Reason || Reason <- ["timeout", "interrupted", "not_running",
                               "no_workers_available", "overloaded", "worker_crashed",
                               "{unconvertible, Info}", "{Type, Exception}", "badarg",
                               "context_not_bound", "{not_started, erlang_python}",
                               "{python_unavailable, Message}", "{invalid_env, Key, Value}"],
                    not py_docs:mentions(Page, ["`", Reason, "`"])].

every_unconvertible_reason_is_documented(_Config) ->
    {match, Reasons} = re:run(py_docs:read("native/nif/src/error.rs"), "=> atoms::(\\w+)\\(\\),",
                              [global, {capture, [1], list}]),
    Page = py_docs:read("docs/guide/types.md"),
    [] = [Reason || [Reason] <- Reasons, not py_docs:mentions(Page, ["`", Reason, "`"])].

%% The Erlang modules, the crates, and the files on the path of a call. The modules of a crate are in its lib.rs, which
%% a test of the engine compares with the sources.
every_part_is_in_the_overview(_Config) ->
    Page = py_docs:read("docs/internals/overview.md"),
    Erlang = filelib:wildcard("py*.erl", filename:join(py_docs:root(), "src")),
    Crates = [filename:dirname(filename:dirname(File))
              || File <- filelib:wildcard("native/*/src/lib.rs", py_docs:root())],
    4 = length(Crates),
    [] = [File || File <- Erlang ++ Crates, not py_docs:mentions(Page, [filename:rootname(File)])],
    {match, Steps} = re:run(Page, "`((?:nif|engine|codec)/src/[a-z_/]+\\.rs)`", [global, {capture, [1], list}]),
    Files = lists:usort(lists:append(Steps)),
    true = length(Files) > 8 andalso length(Files) =< 14,
    [] = [File || File <- Files, not filelib:is_regular(filename:join([py_docs:root(), "native", File]))].

every_case_that_proves_a_promise_exists(_Config) ->
    {match, Cells} = re:run(py_docs:read("docs/reliability.md"), "\\| ([^|\n]*) \\|\n",
                            [global, {capture, [1], binary}]),
    Names = lists:append([names(Cell) || [Cell] <- Cells]),
    true = length(Names) > 20,
    Suites = [list_to_atom(filename:basename(File, ".erl"))
              || File <- filelib:wildcard("*_SUITE.erl", filename:join(py_docs:root(), "test"))],
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
    Files = ["native/nif/src/" ++ File || File <- ["settings.rs", "nif.rs", "process/nifs.rs", "inspect.rs"]],
    {match, Natives} = re:run([py_docs:read(File) || File <- Files],
                              "#\\[rustler::nif[^\\]]*\\]\\s*fn (\\w+)",
                              [global, {capture, [1], list}]),
    {match, Stubs} = re:run(py_docs:read("src/py_nif.erl"), "\n(\\w+)\\([^)]*\\) ->\n    erlang:nif_error",
                            [global, {capture, [1], list}]),
    Stubs = Natives,
    Exported = [Name || {Name, _} <- py_nif:module_info(exports), Name =/= module_info,
                        Name =/= load],
    [] = lists:sort(Exported) -- [list_to_atom(Name) || [Name] <- Stubs],
    true = length(Exported) =:= length(Stubs).
