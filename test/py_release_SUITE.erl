%% Does a release run on a machine that has only a Python? Builds one with rebar3 and one with Mix, from
%% projects that depend on this application and have no Rust, moves them away from all sources, and
%% runs them with few programs on PATH. The dependency has the files of the package only.
-module(py_release_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [{group, rebar3}, {group, mix}, the_example_for_docker_runs].

groups() ->
    Cases = [a_release_runs_with_a_python_of_any_minor, a_release_without_python_says_so],
    [{rebar3, [], Cases}, {mix, [], Cases}].

%% Commits the files of the package, and nothing else, with the checksums of the archives of this run.
init_per_suite(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Sources = filename:join(Dir, "sources"),
    ok = filelib:ensure_dir(filename:join(Sources, "any")),
    {ok, [{application, erlang_python, Keys}]} =
        file:consult(filename:join(py_peer:root(), "src/erlang_python.app.src")),
    [begin
         Names = filelib:wildcard(Pattern, py_peer:root()),
         Names =/= [] orelse ct:fail("no file is ~ts, of the files in erlang_python.app.src", [Pattern]),
         {0, _} = sh(py_peer:root(), ["cp --archive --parents ", lists:join(" ", Names), " '", Sources, "'"], [])
     end || Pattern <- proplists:get_value(files, Keys)],
    %% The sources of the libraries are complete.
    {0, Digest} = digest(py_peer:root()),
    {0, Digest} = digest(Sources),
    false = filelib:is_dir(filename:join(Sources, "native/target")),
    {ok, _} = file:copy(filename:join(archives(), "prebuilt.sha256"), filename:join(Sources, "prebuilt.sha256")),
    {0, _} = sh(Sources, "git init -q -b main && git add . && "
                         "git -c user.name=x -c user.email=x commit -q -m All", []),
    Programs = filename:join(Dir, "bin"),
    ok = programs(Programs),
    [{sources, Sources}, {programs, Programs} | Config].

end_per_suite(_Config) ->
    ok.

init_per_group(Tool, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Tool),
    ok = filelib:ensure_dir(filename:join(Dir, "project/lib/any")),
    ok = filelib:ensure_dir(filename:join(Dir, "project/src/any")),
    Project = filename:join(Dir, "project"),
    [ok = file:write_file(filename:join(Project, Name), Text)
     || {Name, Text} <- project(Tool, proplists:get_value(sources, Config))],
    ok = py_test:contains(built_by(Config, Project, command(Tool)), "was taken from"),
    Release = filename:join(Dir, "elsewhere"),
    ok = file:rename(filename:join(Project, built(Tool)), Release),
    ok = file:rename(Project, Project ++ ".away"),
    _ = Tool =:= rebar3 andalso unname(Release),
    [{release, Release}, {tool, Tool} | Config].

end_per_group(_Tool, _Config) ->
    ok.

%% Returns what a command says that builds a release.
built_by(Config, Project, Command) ->
    Programs = proplists:get_value(programs, Config),
    Env = [{"PATH", Programs ++ "/tools:" ++ Programs}, {"ERLANG_PYTHON_PREBUILT", archives()},
           {"MIX_REBAR3", os:find_executable("rebar3")}, {"MIX_ENV", "prod"}, {"HEX_OFFLINE", "1"},
           {"PYTHON", false}, {"PORTABLE", false}],
    {Status, Said} = sh(Project, Command, Env),
    ct:log("~ts", [Said]),
    0 = Status,
    Said.

%% Removes the name of the node from a release of rebar3: epmd refuses a name that another run of the
%% tests has, or that a node had which has just ended.
unname(Release) ->
    [File] = filelib:wildcard(filename:join(Release, "releases/*/vm.args")),
    {ok, Named} = file:read_file(File),
    Unnamed = re:replace(Named, "^-sname .*$", "-sname undefined", [multiline]),
    true = iolist_to_binary(Unnamed) =/= Named,
    file:write_file(File, Unnamed).

digest(Dir) ->
    py_peer:command(os:find_executable("escript"), ["scripts/build_native", "--digest"], Dir, []).

archives() ->
    os:getenv("PY_TEST_ARCHIVE").

sh(Dir, Script, Env) ->
    py_peer:command("/bin/sh", ["-c", unicode:characters_to_list(Script)], Dir, Env).

%% Fills a directory with the programs of this machine that are neither Python nor for development;
%% `tools' in it has those that build a release.
programs(Dir) ->
    ok = filelib:ensure_dir(filename:join(Dir, "tools/any")),
    Tools = ["erl", "erlc", "escript", "rebar3", "mix", "elixir", "git"],
    Develop = "^(erl|escript|rebar3|mix|elixir|iex|git|make|gcc|cc|clang|cargo|rust|ld|python|pypy|uv)",
    Names = lists:append([element(2, {ok, _} = file:list_dir(Folder)) || Folder <- ["/usr/bin", "/bin"]]),
    [ok = file:make_symlink(os:find_executable(Name, "/usr/bin:/bin"), filename:join(Dir, Name))
     || Name <- lists:usort(Names), re:run(Name, Develop) =:= nomatch,
        os:find_executable(Name, "/usr/bin:/bin") =/= false],
    [ok = file:make_symlink(os:find_executable(Name), filename:join([Dir, "tools", Name])) || Name <- Tools],
    false = os:find_executable("python3", Dir),
    false = os:find_executable("cargo", Dir ++ "/tools:" ++ Dir),
    ok.

%% Returns the files of a project whose application prints which Python runs, and ends the VM.
project(rebar3, Sources) ->
    [{"rebar.config",
      ["{deps, [{erlang_python, {git, \"file://", Sources, "\", {branch, \"main\"}}}]}.\n"
       "{relx, [{release, {project, \"1\"}, [project]}, {mode, prod}]}.\n"]},
     {"src/project.app.src",
      "{application, project, [{vsn, \"1\"}, {description, \"A test\"}, {registered, []},\n"
      "                        {mod, {project, []}}, {applications, [kernel, stdlib, erlang_python]}]}.\n"},
     {"src/project.erl",
      "-module(project).\n"
      "-export([start/2, stop/1]).\n"
      "start(_, _) ->\n"
      "    {ok, #{abi := Abi, version := Version}} = py:python_info(),\n"
      "    {ok, Answer} = py:eval(<<\"6 * 7\">>),\n"
      "    io:format(\"~ts ~ts ~p~n\", [Abi, Version, Answer]),\n"
      "    init:stop(),\n"
      "    {ok, spawn_link(fun() -> receive stop -> ok end end)}.\n"
      "stop(_) -> ok.\n"}];
project(mix, Sources) ->
    %% Without a mix.exs of its own the dependency is compiled by rebar3.
    Manager = case filelib:is_regular(filename:join(Sources, "mix.exs")) of
        true -> "";
        false -> ", manager: :rebar3"
    end,
    [{"mix.exs",
      ["defmodule Project.MixProject do\n"
       "  use Mix.Project\n"
       "  def project, do: [app: :project, version: \"1.0.0\", deps: [\n"
       "    {:erlang_python, git: \"file://", Sources, "\", branch: \"main\"", Manager, "}]]\n"
       "  def application, do: [mod: {Project, []}]\n"
       "end\n"]},
     {"lib/project.ex",
      "defmodule Project do\n"
      "  use Application\n"
      "  def start(_, _) do\n"
      "    {:ok, %{abi: abi, version: version}} = :py.python_info()\n"
      "    {:ok, answer} = :py.eval(\"6 * 7\")\n"
      "    IO.puts(\"#{abi} #{version} #{answer}\")\n"
      "    :init.stop()\n"
      "    {:ok, spawn_link(fn -> receive(do: (:stop -> :ok)) end)}\n"
      "  end\n"
      "end\n"}].

command(rebar3) -> "rebar3 release";
command(mix) -> "mix deps.get && mix release".

built(rebar3) -> "_build/default/rel/project";
built(mix) -> "_build/prod/rel/project".

%% Runs the release with nothing in its environment but these variables.
run(Config, Env) ->
    Start = case proplists:get_value(tool, Config) of
        rebar3 -> "/bin/project foreground";
        mix -> "/bin/project start"
    end,
    Home = proplists:get_value(priv_dir, Config),
    Common = [{"HOME", Home}, {"LANG", "C.UTF-8"}, {"RELEASE_DISTRIBUTION", "none"}],
    Set = [[" ", Name, "='", Value, "'"] || {Name, Value} <- Common ++ Env],
    {Status, Said} = sh(Home, ["exec env -i", Set, " ERL_CRASH_DUMP=/dev/null ",
                               proplists:get_value(release, Config), Start, " 2>&1"], []),
    ct:log("~ts", [Said]),
    {Status, Said}.

%% The Pythons of scripts/pythons, one of each minor; the archive has the portable library only.
a_release_runs_with_a_python_of_any_minor(Config) ->
    {0, Listed} = sh(py_peer:root(), "scripts/pythons", []),
    Pythons = string:lexemes(unicode:characters_to_list(Listed), "\n"),
    true = length(Pythons) > 0,
    Dir = filename:join(proplists:get_value(release, Config), "python"),
    ok = filelib:ensure_path(Dir),
    [begin
         %% A directory of its own, since several may share theirs.
         ok = file:make_symlink(Python, filename:join(Dir, "python3")),
         {0, Said} = run(Config, [{"PATH", Dir ++ ":" ++ proplists:get_value(programs, Config)}]),
         ok = file:delete(filename:join(Dir, "python3")),
         Version = py_peer:ask(Python, "print(sys.version)"),
         ok = py_test:contains(Said, ["abi3 ", Version, " 42\n"])
     end || Python <- Pythons].

a_release_without_python_says_so(Config) ->
    {Status, Said} = run(Config, [{"PATH", proplists:get_value(programs, Config)}]),
    true = Status =/= 0,
    ok = py_test:contains(Said, "no Python found: there is no python3 on PATH. Install Python 3.11").

%% The venv of the tests, which has numpy, stands for the one that the Dockerfile makes.
the_example_for_docker_runs(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "docker"),
    ok = filelib:ensure_dir(filename:join(Dir, "_checkouts/any")),
    {0, _} = sh(filename:join(py_peer:root(), "examples/docker"), ["cp -r rebar.config src config '", Dir, "'"], []),
    ok = file:make_symlink(proplists:get_value(sources, Config), filename:join(Dir, "_checkouts/erlang_python")),
    ok = filelib:ensure_dir(filename:join(Dir, "priv/any")),
    ok = file:make_symlink(os:getenv("PY_TEST_VENV"), filename:join(Dir, "priv/venv")),
    _ = built_by(Config, Dir, "rebar3 release"),
    Release = filename:join(Dir, "_build/default/rel/docker_example"),
    ok = unname(Release),
    {0, Said} = sh(Dir, ["exec env -i PATH='", proplists:get_value(programs, Config), "' LANG=C.UTF-8 '", Release,
                         "/bin/docker_example' foreground 2>&1"], []),
    ct:log("~ts", [Said]),
    {match, _} = re:run(Said, "Python 3[.][0-9.]+, numpy [0-9.]+: 6\n").
