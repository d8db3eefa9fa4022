%% Does each example of the documents run as written?
%%
%% The examples of a page run one after the other in a process of the page. Erlang: a block with
%% `-module' is compiled and loaded, any other block is expressions, with variables of its own. Python:
%% a block whose first line is a comment with a file name becomes that file in the working directory,
%% any other block is executed. Elixir: the blocks run in a VM of `elixir', with the modules of lib/.
-module(py_docs_examples_SUITE).
-compile([export_all, nowarn_export_all]).

-define(PAGE_TIME, 60000).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [every_block_names_its_language,
     every_page_of_the_guide_has_an_example,
     every_erlang_and_python_example_runs,
     every_elixir_example_runs,
     the_dependency_lines_fetch_the_application,
     a_block_that_is_wrong_fails].

init_per_suite(Config) ->
    ok = py_test:start(),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    py_test:assert_empty_mailbox().

%%% Cases

%% A block in a language by another name, as `erl' or `py', would not be run. Drawings have no language.
every_block_names_its_language(_Config) ->
    Known = ["erlang", "elixir", "python", "sh", "text", "dockerfile", "toml", "yaml", "json"],
    [] = [{Page, Line, Language}
          || Page <- py_docs:pages(), {Language, Line, _} <- py_docs:blocks(Page),
             not lists:member(Language, Known),
             not (Language =:= "" andalso lists:prefix("docs/internals/", Page))].

every_page_of_the_guide_has_an_example(_Config) ->
    Guide = [Page || Page <- py_docs:pages(), lists:prefix("docs/guide/", Page)],
    true = length(Guide) >= 6,
    Pages = ["README.md", "docs/getting_started.md", "docs/troubleshooting.md" | Guide],
    [] = [Page || Page <- Pages -- ["docs/guide/elixir.md"], examples(Page, ["erlang"]) =:= []],
    [] = [Page || Page <- ["README.md", "docs/getting_started.md", "docs/guide/contexts.md", "docs/guide/elixir.md"],
                  examples(Page, ["elixir"]) =:= []].

every_erlang_and_python_example_runs(Config) ->
    #{available_workers := Workers} = py_pool:get_stats(),
    [begin
         run_page(Page, Config),
         ok = py_test:wait_available(Workers)
     end || Page <- py_docs:pages()],
    ok.

every_elixir_example_runs(Config) ->
    Elixir = os:find_executable("elixir"),
    is_list(Elixir) orelse error(no_elixir),
    Script = filename:join(directory(elixir, Config), "examples.exs"),
    ok = file:write_file(Script, script(Config)),
    Args = ["-pa", filename:dirname(code:which(py)), "-pa", elixir_modules(Config), Script],
    {0, Output} = output(Elixir, Args, directory(elixir, Config)),
    ct:log("~ts", [Output]).

%% The lines of getting_started.md, with a repository on this machine as the address.
the_dependency_lines_fetch_the_application(Config) ->
    case os:find_executable("git") of
        false -> {skip, "git is not installed"};
        _ -> fetch(directory(fetched, Config))
    end.

fetch(Dir) ->
    Repository = filename:join(Dir, "repository"),
    ok = write_files(Repository, [{"src/erlang_python.app.src", py_docs:read("src/erlang_python.app.src")},
                                  {"rebar.config", "{deps, []}.\n"}]),
    ok = run(Repository, "git init --quiet --initial-branch=main && git add . && git -c user.name=Test "
                         "-c user.email=test@localhost commit --quiet --message=One"),
    [Rebar] = [Text || {_, _, Text} <- examples("docs/getting_started.md", ["erlang"]),
                       py_docs:mentions(Text, "{deps, ")],
    [Mix] = [Text || {_, _, Text} <- examples("docs/getting_started.md", ["elixir"]),
                     py_docs:mentions(Text, "[{:erlang_python,")],
    ok = write_files(Dir, [{"rebar/rebar.config", here(Rebar, Repository)},
                           {"rebar/src/user.app.src", "{application, user, [{vsn, \"1\"}]}.\n"},
                           {"mix/mix.exs", ["defmodule User.MixProject do\n  use Mix.Project\n"
                                            "  def project, do: [app: :user, version: \"1.0.0\", deps: deps()]\n"
                                            "  defp deps, do: ", here(Mix, Repository), "end\n"]}]),
    ok = run(filename:join(Dir, "rebar"), "rebar3 get-deps"),
    ok = run(filename:join(Dir, "mix"), "HEX_OFFLINE=1 MIX_REBAR3=$(command -v rebar3) mix deps.get"),
    [true, true] = [filelib:is_regular(filename:join([Dir, Deps, "erlang_python/src/erlang_python.app.src"]))
                    || Deps <- ["rebar/_build/default/lib", "mix/deps"]],
    ok.

here(Text, Repository) ->
    {match, [Address]} = re:run(Text, "https://[^\"]+", [{capture, first, list}]),
    string:replace(Text, Address, "file://" ++ Repository).

write_files(Dir, Files) ->
    lists:foreach(fun({Name, Text}) ->
        File = filename:join(Dir, Name),
        ok = filelib:ensure_dir(File),
        ok = file:write_file(File, Text)
    end, Files).

%% Runs a command of the shell; fails with its output.
run(Dir, Command) ->
    Shell = os:find_executable("sh"),
    case output(Shell, ["-c", Command], Dir) of
        {0, _} -> ok;
        {Status, Output} -> error({failed, Command, Status, Output})
    end.

a_block_that_is_wrong_fails(Config) ->
    Dir = directory(wrong, Config),
    [{raised, _} = py_test:caught(fun() -> run_block(Language, list_to_binary(Text), Dir) end)
     || {Language, Text} <- [{"erlang", "1 = 2."}, {"erlang", "1 = "}, {"erlang", "-module(m).\nf() -> ."},
                             {"erlang", "[{erlang_python, [{no_key, 1}]}]."}, {"python", "assert False"}]],
    ok.

%%% Pages

run_page(Page, Config) ->
    Blocks = examples(Page, ["erlang", "python"]),
    Dir = directory(Page, Config),
    {ok, Cwd} = file:get_cwd(),
    ok = file:set_cwd(Dir),
    try
        {Pid, Monitor} = spawn_monitor(fun() -> run_blocks(Page, Blocks, Dir) end),
        receive
            {'DOWN', Monitor, process, Pid, normal} -> ok;
            {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
        after ?PAGE_TIME -> error({no_end, Page})
        end
    after
        ok = file:set_cwd(Cwd)
    end.

run_blocks(Page, Blocks, Dir) ->
    [try
         run_block(Language, Text, Dir)
     catch
         Class:Reason:Stack -> exit({failed, Page, Line, Class, Reason, Stack})
     end || {Language, Line, Text} <- Blocks],
    ok.

run_block("python", Text, Dir) ->
    case re:run(Text, "^# ([\\w./]+\\.py)\n", [{capture, [1], list}]) of
        {match, [Name]} ->
            File = filename:join(Dir, Name),
            ok = filelib:ensure_dir(File),
            ok = file:write_file(File, Text);
        nomatch ->
            ok = py:exec(Text)
    end;
run_block("erlang", Text, Dir) ->
    case re:run(Text, "^-module\\((\\w+)\\)\\.", [multiline, {capture, [1], list}]) of
        {match, [Name]} -> load(Name, Text, Dir);
        nomatch -> check_environment(evaluate(Text))
    end.

load(Name, Text, Dir) ->
    File = filename:join(Dir, Name ++ ".erl"),
    ok = file:write_file(File, Text),
    {ok, Module, Binary} = compile:file(File, [binary, warnings_as_errors, return_errors]),
    {module, Module} = code:load_binary(Module, File, Binary),
    ok.

evaluate(Text) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    {value, Value, _} = erl_eval:exprs(Expressions, []),
    Value.

%% The value of an example of the application environment has keys of the application only.
check_environment([{erlang_python, Env}]) ->
    {ok, Known} = application:get_all_key(erlang_python),
    [] = [Key || {Key, _} <- Env, not lists:keymember(Key, 1, proplists:get_value(env, Known))],
    ok;
check_environment(_) ->
    ok.

%%% Elixir

%% Returns a directory with the modules of lib/.
elixir_modules(Config) ->
    Dir = directory(lib, Config),
    Sources = filelib:wildcard(filename:join(py_docs:root(), "lib/**/*.ex")),
    Args = ["-pa", filename:dirname(code:which(py)), "--warnings-as-errors", "-o", Dir | Sources],
    {0, _} = output(os:find_executable("elixirc"), Args, Dir),
    Dir.

script(Config) ->
    Files = [write(Page, Block, Config) || Page <- py_docs:pages(), Block <- examples(Page, ["elixir"])],
    true = length(Files) >= 3,
    ["{:ok, _} = Application.ensure_all_started(:erlang_python)\n",
     [["IO.puts(\"", File, "\")\n{_, _} = Code.eval_file(\"", File, "\")\n"] || File <- Files]].

write(Page, {"elixir", Line, Text}, Config) ->
    File = filename:join(directory(elixir, Config), lists:concat([name(Page), "_", Line, ".exs"])),
    ok = file:write_file(File, Text),
    File.

%% Returns the status and the output of a program.
output(Program, Args, Dir) ->
    Options = [{args, Args}, {cd, Dir}, binary, exit_status, stderr_to_stdout, hide],
    output(open_port({spawn_executable, Program}, Options), <<>>).

output(Port, Output) ->
    receive
        {Port, {data, Data}} -> output(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    after ?PAGE_TIME -> error({no_end, Output})
    end.

%%% Places

examples(Page, Languages) ->
    [Block || {Language, _, _} = Block <- py_docs:blocks(Page), lists:member(Language, Languages)].

directory(Page, Config) ->
    Dir = filename:join([proplists:get_value(priv_dir, Config), "pages", name(Page)]),
    ok = filelib:ensure_dir(filename:join(Dir, "any")),
    Dir.

name(Page) when is_atom(Page) -> atom_to_list(Page);
name(Page) -> re:replace(Page, "\\W+", "_", [global, {return, list}]).
