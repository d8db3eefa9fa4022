%% Is an environment of Python packages made once, whole or not at all, and does a failure say why? The
%% package is a wheel that this suite writes, so no index is asked.
-module(py_env_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [{group, pip}, {group, uv}, {group, interrupted}, {group, use}].

groups() ->
    Both = [packages_and_their_scripts_run, a_missing_package_leaves_nothing, a_pyproject_names_packages],
    [{pip, [parallel], Both},
     {uv, [parallel],
      Both ++ [a_present_environment_needs_no_installer, a_changed_file_makes_another_environment,
               a_fixed_place_is_made_anew, many_callers_in_many_vms_have_one_builder]},
     {interrupted, [parallel],
      [a_timeout_ends_the_installer, the_death_of_the_caller_ends_the_installer,
       a_caller_that_dies_while_the_installer_starts_ends_it,
       the_death_of_the_vm_ends_the_installer, what_a_killed_builder_leaves_is_removed]},
     {use, [parallel],
      [the_application_makes_its_environment, a_spec_that_is_none_is_refused, a_missing_file_is_named,
       a_missing_python_is_named, a_file_that_is_no_pyproject_is_named, a_full_disk_is_told,
       the_program_for_releases_makes_one]}].

init_per_suite(Config) ->
    Wheels = filename:join(proplists:get_value(priv_dir, Config), "wheels"),
    ok = filelib:ensure_dir(filename:join(Wheels, "any")),
    ok = wheel(Wheels),
    [{wheels, Wheels}, {path, os:getenv("PATH")} | Config].

end_per_suite(_Config) ->
    ok.

init_per_group(pip, Config) ->
    true = os:putenv("PATH", "/usr/bin:/bin"),
    false = os:find_executable("uv"),
    Config;
init_per_group(Group, Config) ->
    Venv = os:getenv("PY_TEST_VENV"),
    %% The installer of the interrupted ones stops in the middle.
    Programs = case Group of
        interrupted -> hanging_uv(Config) ++ ":";
        _ -> filename:join(Venv, "bin") ++ ":"
    end,
    true = os:putenv("PATH", Programs ++ "/usr/bin:/bin"),
    true = is_list(os:find_executable("uv")),
    [{uv, filename:join(Venv, "bin/uv")} | Config].

end_per_group(_Group, Config) ->
    true = os:putenv("PATH", proplists:get_value(path, Config)),
    ok.

init_per_testcase(Case, Config) ->
    Group = proplists:get_value(name, proplists:get_value(tc_group_properties, Config)),
    Dir = filename:join([proplists:get_value(priv_dir, Config), Group, Case]),
    ok = filelib:ensure_dir(filename:join(Dir, "any")),
    [{dir, Dir} | Config].

end_per_testcase(_Case, _Config) ->
    py_test:assert_empty_mailbox().

%% Helpers

%% Writes the wheel of a package with a module and a program, both of the name `tiny'.
wheel(Dir) ->
    Files = [{"tiny.py", "VALUE = 42\ndef main():\n    print('tiny runs')\n"},
             {"tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"},
             {"tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
             {"tiny-1.0.dist-info/entry_points.txt", "[console_scripts]\ntiny = tiny:main\n"},
             {"tiny-1.0.dist-info/RECORD", ""}],
    Members = [{Name, list_to_binary(Text)} || {Name, Text} <- Files],
    {ok, _} = zip:create(filename:join(Dir, "tiny-1.0-py3-none-any.whl"), Members),
    ok.

%% Writes a uv that, asked to install, notes its process and hangs, once for each folder of a case;
%% returns its folder.
hanging_uv(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "hanging"),
    File = filename:join(Dir, "uv"),
    ok = filelib:ensure_dir(File),
    Real = filename:join(os:getenv("PY_TEST_VENV"), "bin/uv"),
    ok = file:write_file(File, ["#!/bin/sh\n"
        "if [ \"$1\" = venv ] || [ -e hung ]; then exec ", Real, " \"$@\"; fi\n"
        "echo $$ >hung.new; mv hung.new hung; echo hangs; exec sleep 100000\n"]),
    ok = file:change_mode(File, 8#755),
    Dir.

spec(Config, Requirements) ->
    #{requirements => Requirements, dir => proplists:get_value(dir, Config), python => py_peer:interpreter(),
      progress => fun(Line) -> ct:log("~ts", [Line]) end}.

packages(Config, Names) ->
    [<<"--no-index">>, unicode:characters_to_binary(["--find-links ", proplists:get_value(wheels, Config)]) | Names].

tiny(Config) ->
    spec(Config, packages(Config, [<<"tiny==1.0">>])).

has_tiny(Dir) ->
    <<"42">> = py_peer:ask(filename:join(Dir, "bin/python3"), "import tiny; print(tiny.VALUE)"),
    ok.

%% The names in the directory of a case but those of locks, of hidden files and of what a case notes.
left(Config) ->
    {ok, Names} = file:list_dir(proplists:get_value(dir, Config)),
    [Name || Name <- Names, filename:extension(Name) =/= ".lock", hd(Name) =/= $., Name =/= "hung"].

failed(Spec, Parts) ->
    {error, Message} = py_env:ensure(Spec),
    ct:log("~ts", [Message]),
    lists:foreach(fun(Part) -> ok = py_test:contains(Message, Part) end, Parts).

%% With pip and with uv

packages_and_their_scripts_run(Config) ->
    {ok, Dir} = py_env:ensure(tiny(Config)),
    ok = has_tiny(Dir),
    {0, <<"tiny runs\n">>} = py_peer:command(filename:join(Dir, "bin/tiny"), [], "/", []),
    Prefix = py_peer:ask(filename:join(Dir, "bin/python3"), "print(sys.prefix)"),
    Prefix = Dir,
    true = [filename:basename(Dir)] =:= [unicode:characters_to_binary(Name) || Name <- left(Config)].

a_missing_package_leaves_nothing(Config) ->
    ok = failed(spec(Config, packages(Config, [<<"no-such-package-of-tiny==9">>])),
                ["cannot be made with " ++ py_peer:interpreter(), "no-such-package-of-tiny"]),
    [] = left(Config).

a_pyproject_names_packages(Config) ->
    File = filename:join(proplists:get_value(dir, Config), ".pyproject.toml"),
    Wheel = ["tiny @ file://", proplists:get_value(wheels, Config), "/tiny-1.0-py3-none-any.whl"],
    ok = file:write_file(File, ["[project]\nname = 'x'\nversion = '1'\ndependencies = [\"", Wheel, "\"]\n"]),
    {ok, Dir} = py_env:ensure(spec(Config, {pyproject, File})),
    ok = has_tiny(Dir).

%% Once

a_present_environment_needs_no_installer(Config) ->
    Spec = tiny(Config),
    {ok, Dir} = py_env:ensure(Spec),
    {ok, Dir} = py_env:ensure(Spec#{progress := fun(Line) -> error({made_again, Line}) end}),
    %% A file that is gone is found, and the environment made anew.
    ok = file:delete(filename:join(Dir, "bin/python3")),
    {ok, Dir} = py_env:ensure(Spec),
    has_tiny(Dir).

a_changed_file_makes_another_environment(Config) ->
    Folder = filename:join(proplists:get_value(dir, Config), ".files"),
    [Main, Extra] = [filename:join(Folder, Name) || Name <- ["main.txt", "more/extra.txt"]],
    ok = filelib:ensure_dir(Extra),
    ok = file:write_file(Main, lists:join("\n", packages(Config, [<<"-r more/extra.txt">>]))),
    ok = file:write_file(Extra, "# nothing yet\n"),
    {ok, First} = py_env:ensure(spec(Config, {file, Main})),
    {ok, First} = py_env:ensure(spec(Config, {file, Main})),
    ok = file:write_file(Extra, "tiny\n-r ../main.txt\n"),
    Read = fun() -> py_env:ensure(spec(Config, {file, Main})) end,
    ok = file:write_file(Extra, "tiny\n"),
    {ok, Second} = Read(),
    true = First =/= Second,
    ok = has_tiny(Second),
    true = filelib:is_dir(First).

a_fixed_place_is_made_anew(Config) ->
    Into = filename:join(proplists:get_value(dir, Config), "venv"),
    Spec = maps:remove(dir, (spec(Config, []))#{into => Into}),
    {ok, Dir} = py_env:ensure(Spec),
    {ok, Dir} = py_env:ensure(Spec#{requirements := packages(Config, [<<"tiny">>])}),
    ok = has_tiny(Dir),
    ok = failed(Spec#{requirements := packages(Config, [<<"no-such-package">>])}, ["no-such-package"]),
    ok = has_tiny(Dir),
    ["venv"] = left(Config).

%% Counts the builders by the environments that they make: a uv before the true one notes each.
many_callers_in_many_vms_have_one_builder(Config) ->
    Folder = proplists:get_value(dir, Config),
    Counting = filename:join(Folder, ".bin/uv"),
    ok = filelib:ensure_dir(Counting),
    ok = file:write_file(Counting, ["#!/bin/sh\necho $1 >>", Folder, "/.asked\nexec ",
                                    proplists:get_value(uv, Config), " \"$@\"\n"]),
    ok = file:change_mode(Counting, 8#755),
    Spec = maps:remove(progress, tiny(Config)),
    Path = filename:dirname(Counting) ++ ":/usr/bin:/bin",
    Peers = [py_peer:start(#{"PATH" => Path}) || _ <- [1, 2]],
    Self = self(),
    Callers = [spawn_link(fun() ->
        Self ! {self(), py_peer:run(Peer, fun() -> py_env:ensure(Spec) end)}
    end) || Peer <- Peers, _ <- [1, 2, 3]],
    [Dir] = lists:usort([receive {Caller, {ok, Dir}} -> Dir end || Caller <- Callers]),
    ok = has_tiny(Dir),
    {ok, <<"venv\npip\n">>} = file:read_file(filename:join(Folder, ".asked")),
    lists:foreach(fun py_peer:stop/1, Peers).

%% Interrupted

%% A spec whose installer hangs, and then does not: it runs in the directory of the file.
hanging(Config) ->
    File = filename:join(proplists:get_value(dir, Config), ".requirements.txt"),
    ok = file:write_file(File, lists:join("\n", packages(Config, [<<"tiny">>]))),
    spec(Config, {file, File}).

%% Returns the process of the installer, when it hangs.
hung(Config) ->
    File = filename:join(proplists:get_value(dir, Config), "hung"),
    ok = py_test:wait_until(fun() -> filelib:is_regular(File) end),
    {ok, Pid} = file:read_file(File),
    string:trim(binary_to_list(Pid)).

%% The next builder makes the environment, whatever has ended the one before.
is_mended(Config, Spec, Installer) ->
    ok = is_gone(Installer),
    {ok, Dir} = py_env:ensure(Spec),
    ok = has_tiny(Dir),
    [_] = left(Config),
    ok.

is_gone(Installer) ->
    Process = filename:join("/proc", Installer),
    py_test:wait_until(fun() -> not filelib:is_dir(Process) orelse is_zombie(Process) end).

%% A process whose parent has died may wait for the first process to take its status.
is_zombie(Process) ->
    case file:read_file(filename:join(Process, "stat")) of
        {ok, Stat} -> re:run(Stat, "\\) Z ") =/= nomatch;
        {error, _} -> true
    end.

a_timeout_ends_the_installer(Config) ->
    Spec = hanging(Config),
    ok = failed(Spec#{timeout => 10000}, ["no end within 10000 ms", "hangs"]),
    is_mended(Config, Spec, hung(Config)).

the_death_of_the_caller_ends_the_installer(Config) ->
    Spec = hanging(Config),
    {Caller, Monitor} = spawn_monitor(fun() -> py_env:ensure(Spec) end),
    Installer = hung(Config),
    true = exit(Caller, kill),
    receive {'DOWN', Monitor, process, Caller, killed} -> ok end,
    is_mended(Config, Spec, Installer).

%% Regression: the installer ran on if its caller died before the builder knew the process. The
%% builder is slow at that place, for longer than an end that does not wait for it takes.
a_caller_that_dies_while_the_installer_starts_ends_it(Config) ->
    Slow = "
import os, runpy, subprocess, sys, threading
ended, read = threading.Event(), os.read
def read_input(fd, size):
    data = read(fd, size)
    if fd == 0 and not data:
        ended.set()
    return data
class SlowPopen(subprocess.Popen):
    def __init__(self, command, **options):
        super().__init__(command, **options)
        if command[1] == 'pip':
            ended.wait()
            threading.Event().wait(1)
os.read, subprocess.Popen = read_input, SlowPopen
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
",
    Dir = proplists:get_value(dir, Config),
    Port = open_port({spawn_executable, py_peer:interpreter()},
                     [{cd, Dir}, stderr_to_stdout, hide,
                      {args, ["-c", Slow, filename:join(py_runtime:priv_dir(), "py_env.py"), filename:join(Dir, "venv"),
                              "hash", os:find_executable("uv"), "list", "tiny"]}]),
    Installer = hung(Config),
    true = port_close(Port),
    ok = is_gone(Installer),
    drop_output(Port).

drop_output(Port) ->
    receive {Port, {data, _}} -> drop_output(Port) after 0 -> ok end.

the_death_of_the_vm_ends_the_installer(Config) ->
    Spec = maps:remove(progress, hanging(Config)),
    Peer = py_peer:start(#{"PATH" => os:getenv("PATH")}),
    Vm = py_peer:run(Peer, fun os:getpid/0),
    true = unlink(Peer),
    py_peer:cast(Peer, fun() -> py_env:ensure(Spec) end),
    Installer = hung(Config),
    {0, _} = py_peer:command("/bin/kill", ["-KILL", Vm], "/", []),
    is_mended(Config, Spec, Installer).

%% The lock is released, and the half of an environment has another name.
what_a_killed_builder_leaves_is_removed(Config) ->
    Spec = hanging(Config),
    Self = self(),
    Caller = spawn_link(fun() -> Self ! {self(), py_env:ensure(Spec)} end),
    Installer = hung(Config),
    {ok, Stat} = file:read_file(["/proc/", Installer, "/stat"]),
    {match, [Builder]} = re:run(Stat, "\\) \\S (\\d+)", [{capture, [1], list}]),
    {0, _} = py_peer:command("/bin/kill", ["-KILL", Builder], "/", []),
    receive {Caller, {error, Message}} -> ok = py_test:contains(Message, "cannot be made") end,
    [Half] = left(Config),
    {match, _} = re:run(Half, "[.]new-"),
    %% The installer may have ended: nothing reads what it prints.
    {_, _} = py_peer:command("/bin/kill", ["-KILL", Installer], "/", []),
    is_mended(Config, Spec, Installer).

%% Use

the_application_makes_its_environment(Config) ->
    Peer = py_peer:start(#{"PATH" => os:getenv("PATH")}),
    Spec = maps:remove(progress, tiny(Config)),
    Wrong = Spec#{requirements := packages(Config, [<<"no-such-package">>])},
    {error, {erlang_python, {{python_unavailable, Message}, _}}} =
        py_peer:start_python(Peer, [{python, {env, Wrong}}]),
    ok = py_test:contains(Message, "no-such-package"),
    {ok, _} = py_peer:start_python(Peer, [{python, {env, Spec}}]),
    {ok, 42} = py_peer:run(Peer, fun() -> py:eval(<<"__import__('tiny').VALUE">>) end),
    {ok, _} = py_peer:start_python(Peer, [{python, {env, Spec}}]),
    {error, {erlang_python, {{invalid_env, python, {env, #{}}}, _}}} =
        py_peer:start_python(Peer, [{python, {env, #{}}}]),
    ok = py_peer:stop(Peer).

a_spec_that_is_none_is_refused(_Config) ->
    Good = #{requirements => []},
    [{raised, badarg} = py_test:caught(fun() -> py_env:ensure(Spec) end)
     || Spec <- [#{}, none, #{requirements => six}, #{requirements => [six]}, #{requirements => [<<"a\nb">>]},
                 #{requirements => [<<255>>]}, #{requirements => {file, 3}}, #{requirements => {url, "x"}},
                 Good#{dir => "a", into => "b"}, Good#{timeout => 0}, Good#{progress => fun() -> ok end},
                 Good#{python => ""}, Good#{unknown => 1}]],
    ok.

a_missing_file_is_named(Config) ->
    ok = failed(spec(Config, {file, "/nonexistent/requirements.txt"}), ["/nonexistent/requirements.txt", "no such file"]),
    ok = failed(spec(Config, {pyproject, "/nonexistent/p.toml"}), ["/nonexistent/p.toml", "no such file"]),
    [] = left(Config).

a_missing_python_is_named(Config) ->
    failed((spec(Config, []))#{python := "/nonexistent/python3"}, ["/nonexistent/python3", "does not exist"]).

a_file_that_is_no_pyproject_is_named(Config) ->
    File = filename:join(proplists:get_value(dir, Config), ".wrong.toml"),
    [begin
         ok = file:write_file(File, Text),
         ok = failed(spec(Config, {pyproject, File}), [File ++ " is no pyproject.toml"])
     end || Text <- ["no toml", "[tool]\n", <<255>>]],
    [] = left(Config).

%% A small file system stands for a full disk, in a mount namespace of its own.
a_full_disk_is_told(Config) ->
    Dir = proplists:get_value(dir, Config),
    Run = ["mount -t tmpfs -o size=16k tmpfs ", Dir, " && { ", make_env(), " --python ", py_peer:interpreter(),
           " --dir ", Dir, " tiny; echo status $?; ls ", Dir, "; }"],
    Unshare = fun(Command) ->
        py_peer:command(os:find_executable("unshare"), ["--mount", "--map-root-user", "sh", "-c", Command], "/", [])
    end,
    case Unshare("mount -t tmpfs tmpfs /mnt") of
        {0, _} ->
            {0, Said} = Unshare(unicode:characters_to_list(Run)),
            ct:log("~ts", [Said]),
            ok = py_test:contains(Said, "No space left on device"),
            {match, _} = re:run(Said, "status 1\n[0-9a-f]+[.]lock\n$");
        {_, Why} ->
            {skip, unicode:characters_to_list(["no mount namespace: ", Why])}
    end.

make_env() ->
    filename:join(py_peer:root(), "scripts/make_env").

the_program_for_releases_makes_one(Config) ->
    Into = filename:join(proplists:get_value(dir, Config), "priv/venv"),
    Run = fun(Arguments) -> py_peer:command(os:find_executable("escript"), [make_env() | Arguments], "/", []) end,
    Common = ["--python", py_peer:interpreter(), "--into", Into],
    File = Into ++ ".txt",
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, lists:join("\n", packages(Config, [<<"tiny">>]))),
    {0, Said} = Run(Common ++ ["-r", File]),
    ok = py_test:contains(Said, [Into, "\n"]),
    ok = has_tiny(Into),
    {1, Usage} = Run(Common ++ ["--wrong"]),
    ok = py_test:contains(Usage, "usage: make_env"),
    {1, Usage} = Run(Common),
    {1, Missing} = Run(Common ++ ["-r", "/nonexistent"]),
    ok = py_test:contains(Missing, "/nonexistent cannot be read").
