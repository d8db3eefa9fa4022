%% Is the right Python chosen, is it whole inside the VM, and does a bad choice say so? A VM starts
%% Python once, so most cases have VMs of their own.
-module(py_runtime_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [{group, choice}, {group, failures}, {group, inside}, {group, loader}].

groups() ->
    [{choice, [],
      [the_key_may_be_an_executable, the_key_may_be_a_venv, the_key_may_be_a_command,
       erlang_python_is_next, virtual_env_is_next, python3_on_path_is_last,
       a_venv_brings_its_site_packages, a_second_python_is_refused,
       the_python_tells_the_truth_about_itself]},
     {failures, [],
      [a_missing_file, a_directory_that_is_no_venv,
       a_file_that_is_not_executable, a_program_that_fails, a_program_that_is_no_python,
       a_python_that_is_too_old, a_true_python_3_10_is_too_old, another_implementation, a_free_threaded_build,
       no_shared_library, a_library_that_is_none, a_version_without_a_build, a_broken_venv,
       no_python_at_all]},
     {inside, [],
      [extension_modules_load, subprocesses_tell_their_status, multiprocessing_spawns,
       multiprocessing_spawns_by_default, code_may_choose_another_start_method, a_data_loader_has_workers,
       no_signal_handlers_are_installed, the_vm_keeps_its_locale]},
     {loader, [],
      [a_missing_library_is_an_error, a_file_that_is_no_library_is_an_error,
       a_path_that_is_none_is_badarg]}].

init_per_suite(Config) ->
    Python = py_peer:interpreter(),
    Venv = filename:join(proplists:get_value(priv_dir, Config), "venv"),
    <<>> = py_peer:ask(Python, ["import venv; venv.create(r'", Venv, "', symlinks=True)"]),
    [{python, Python}, {venv, Venv} | Config].

end_per_suite(_Config) ->
    ok.

init_per_group(inside, Config) ->
    ok = py_test:start_with([{num_workers, 4}]),
    Config;
init_per_group(_Group, Config) ->
    Config.

end_per_group(_Group, _Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    py_test:assert_empty_mailbox().

python(Config) ->
    proplists:get_value(python, Config).

venv(Config) ->
    proplists:get_value(venv, Config).

venv_python(Config) ->
    unicode:characters_to_binary(filename:join([venv(Config), "bin", "python3"])).

%% Returns the executable and the prefix of the Python that runs with these choices.
chosen(Env, AppEnv) ->
    Peer = py_peer:start(Env),
    {ok, _} = py_peer:start_python(Peer, AppEnv),
    {ok, #{executable := Executable, prefix := Prefix}} =
        py_peer:run(Peer, fun() -> py:python_info() end),
    ok = py_peer:stop(Peer),
    {Executable, Prefix}.

is_venv({Executable, Prefix}, Config) ->
    Bin = unicode:characters_to_binary(filename:join(venv(Config), "bin")),
    Bin = filename:dirname(Executable),
    Prefix = unicode:characters_to_binary(venv(Config)),
    ok.

is_python({Executable, _Prefix}, Config) ->
    Executable = unicode:characters_to_binary(python(Config)),
    ok.

the_key_may_be_an_executable(Config) ->
    ok = is_python(chosen(#{}, [{python, python(Config)}]), Config),
    ok = is_venv(chosen(#{}, [{python, venv_python(Config)}]), Config).

the_key_may_be_a_venv(Config) ->
    Others = #{"ERLANG_PYTHON" => python(Config), "VIRTUAL_ENV" => "/nonexistent"},
    ok = is_venv(chosen(Others, [{python, venv(Config)}]), Config),
    ok = is_venv(chosen(#{}, [{python, unicode:characters_to_binary(venv(Config))}]), Config).

the_key_may_be_a_command(Config) ->
    Path = filename:join(venv(Config), "bin") ++ ":" ++ os:getenv("PATH"),
    ok = is_venv(chosen(#{"PATH" => Path}, [{python, "python3"}]), Config).

erlang_python_is_next(Config) ->
    Env = #{"ERLANG_PYTHON" => venv(Config), "VIRTUAL_ENV" => "/nonexistent"},
    ok = is_venv(chosen(Env, []), Config),
    ok = is_python(chosen(Env#{"ERLANG_PYTHON" := python(Config)}, []), Config).

virtual_env_is_next(Config) ->
    ok = is_venv(chosen(#{"VIRTUAL_ENV" => venv(Config)}, []), Config).

python3_on_path_is_last(Config) ->
    Path = filename:join(venv(Config), "bin") ++ ":" ++ os:getenv("PATH"),
    ok = is_venv(chosen(#{"PATH" => Path}, []), Config).

a_venv_brings_its_site_packages(Config) ->
    Purelib = <<"print(__import__('sysconfig').get_path('purelib'))">>,
    Site = unicode:characters_to_list(py_peer:ask(venv_python(Config), Purelib)),
    Extra = filename:join(proplists:get_value(priv_dir, Config), "extra"),
    ok = filelib:ensure_dir(filename:join(Extra, "any")),
    ok = file:write_file(filename:join(Site, "only_in_the_venv.py"), "x = 1\n"),
    ok = file:write_file(filename:join(Extra, "only_by_pth.py"), "x = 2\n"),
    ok = file:write_file(filename:join(Site, "extra.pth"), [Extra, "\n"]),
    Peer = py_peer:start(#{"VIRTUAL_ENV" => venv(Config)}),
    {ok, _} = py_peer:start_python(Peer, []),
    {ok, {1, 2}} = py_peer:run(Peer, fun() ->
        py:eval(<<"(__import__('only_in_the_venv').x, __import__('only_by_pth').x)">>)
    end),
    ok = py_peer:stop(Peer).

a_second_python_is_refused(Config) ->
    Peer = py_peer:start(#{}),
    {ok, _} = py_peer:start_python(Peer, [{python, python(Config)}]),
    Message = refused(Peer, [{python, venv(Config)}]),
    ok = py_test:contains(Message, "restart the VM"),
    {ok, _} = py_peer:start_python(Peer, [{python, python(Config)}]),
    {ok, 2} = py_peer:run(Peer, fun() -> py:eval(<<"1 + 1">>) end),
    ok = py_peer:stop(Peer).

the_python_tells_the_truth_about_itself(Config) ->
    Python = python(Config),
    Ask = fun(Code) -> py_peer:ask(Python, ["print(", Code, ")"]) end,
    Peer = py_peer:start(#{"ERLANG_PYTHON" => Python}),
    {ok, _} = py_peer:start_python(Peer, []),
    {ok, Version} = py_peer:run(Peer, fun() -> py:version() end),
    {ok, Info} = py_peer:run(Peer, fun() -> py:python_info() end),
    ok = py_peer:stop(Peer),
    Version = Ask("sys.version.split()[0]"),
    #{version := Long, executable := Executable, prefix := Prefix, path := Path,
      libpython := Libpython, abi := Abi} = Info,
    Long = Ask("sys.version"),
    Executable = Ask("sys.executable"),
    Prefix = Ask("sys.prefix"),
    %% The first entry of a `python3 -c' is the working directory.
    Path = binary:split(Ask("chr(10).join(sys.path[1:])"), <<"\n">>, [global]),
    true = filelib:is_regular(Libpython),
    Library = <<"py_nif.", Abi/binary, ".so">>,
    true = filelib:is_regular(filename:join(py_runtime:priv_dir(), Library)),
    6 = map_size(Info).

%% Returns the message of a start that fails; the VM lives, and starts another Python afterwards.
refusal(Config, Python) ->
    refusal(Config, #{}, [{python, Python}]).

refusal(Config, Env, AppEnv) ->
    Peer = py_peer:start(Env),
    Message = refused(Peer, AppEnv),
    {ok, _} = py_peer:start_python(Peer, [{python, python(Config)}]),
    {ok, 2} = py_peer:run(Peer, fun() -> py:eval(<<"1 + 1">>) end),
    ok = py_peer:stop(Peer),
    Message.

refused(Peer, AppEnv) ->
    {error, {erlang_python, {{python_unavailable, Message}, _}}} =
        py_peer:start_python(Peer, AppEnv),
    Message = py_peer:run(Peer, fun() -> py:format_error({python_unavailable, Message}) end),
    ct:log("~ts", [Message]),
    Message.

script(Config, Name, Lines) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, ["#!/bin/sh\n" | [[Line, "\n"] || Line <- Lines]]),
    ok = file:change_mode(File, 8#755),
    File.

%% Writes a program that answers as Python does, with these answers in place of true ones.
fake(Config, Name, Answers) ->
    True = #{"version" => "3.11.0", "series" => "311", "supported" => "True",
             "implementation" => "cpython", "abiflags" => "", "executable" => "/fake/python3",
             "prefix" => "/fake", "looked_for" => "/fake/libpython3.11.so",
             "libpython" => "/fake/libpython3.11.so"},
    Lines = [["echo erlang_python::", Key, ":", string:lowercase(binary:encode_hex(
                  unicode:characters_to_binary(Value)))]
             || {Key, Value} <- maps:to_list(maps:merge(True, Answers))],
    script(Config, Name, Lines).

a_missing_file(Config) ->
    Message = refusal(Config, "/nonexistent/python3"),
    ok = py_test:contains(Message, "/nonexistent/python3"),
    ok = py_test:contains(Message, "'python'"),
    ok = py_test:contains(refusal(Config, #{"ERLANG_PYTHON" => "/nonexistent"}, []), "ERLANG_PYTHON"),
    ok = py_test:contains(refusal(Config, #{"VIRTUAL_ENV" => "/nonexistent"}, []), "VIRTUAL_ENV"),
    ok = py_test:contains(refusal(Config, "no-such-command"), "does not exist").

a_directory_that_is_no_venv(Config) ->
    Message = refusal(Config, proplists:get_value(priv_dir, Config)),
    ok = py_test:contains(Message, "no venv"),
    ok = py_test:contains(Message, "python3 -m venv").

a_file_that_is_not_executable(Config) ->
    File = script(Config, "not_executable", ["exit 0"]),
    ok = file:change_mode(File, 8#644),
    ok = py_test:contains(refusal(Config, File), "cannot be run").

a_program_that_fails(Config) ->
    Message = refusal(Config, script(Config, "fails", ["echo out of order >&2", "exit 3"])),
    ok = py_test:contains(Message, "status 3"),
    ok = py_test:contains(Message, "out of order").

a_program_that_is_no_python(Config) ->
    Message = refusal(Config, script(Config, "garbage", ["echo hello"])),
    ok = py_test:contains(Message, "is not Python"),
    ok = py_test:contains(Message, "hello"),
    Partly = ["echo erlang_python::version:332e3131", "echo erlang_python::series:zz"],
    ok = py_test:contains(refusal(Config, script(Config, "partly", Partly)), "is not Python").

a_python_that_is_too_old(Config) ->
    Old = #{"version" => "3.9.1", "series" => "39", "supported" => "False"},
    Message = refusal(Config, fake(Config, "old", Old)),
    ok = py_test:contains(Message, "3.9.1"),
    ok = py_test:contains(Message, "CPython 3.11 or newer").

%% The last version that was supported, if this machine has it.
a_true_python_3_10_is_too_old(Config) ->
    case lists:filter(fun is_python_3_10/1, pythons_3_10()) of
        [] ->
            {skip, "no Python 3.10"};
        [Python | _] ->
            Message = refusal(Config, Python),
            ok = py_test:contains(Message, "cpython 3.10."),
            ok = py_test:contains(Message, "CPython 3.11 or newer")
    end.

pythons_3_10() ->
    OfPyenv = "command -v pyenv >/dev/null && for version in $(pyenv versions --bare | grep '^3[.]10[.]'); "
              "do echo \"$(pyenv prefix $version)/bin/python3\"; done",
    string:lexemes(os:cmd(OfPyenv), "\n") ++ [Found || Found <- [os:find_executable("python3.10")], Found =/= false].

%% A launcher of pyenv runs only if its version is chosen.
is_python_3_10(Path) ->
    Ask = " -c 'import sys; print(sys.version_info[:2])' 2>&1",
    "(3, 10)\n" =:= os:cmd("'" ++ Path ++ "'" ++ Ask).

another_implementation(Config) ->
    Message = refusal(Config, fake(Config, "pypy", #{"implementation" => "pypy"})),
    ok = py_test:contains(Message, "pypy"),
    ok = py_test:contains(Message, "CPython").

a_free_threaded_build(Config) ->
    ok = py_test:contains(refusal(Config, fake(Config, "free", #{"abiflags" => "t"})), "free-threaded").

no_shared_library(Config) ->
    Message = refusal(Config, fake(Config, "static", #{"libpython" => ""})),
    ok = py_test:contains(Message, "Looked for: /fake/libpython3.11.so"),
    ok = py_test:contains(Message, "--enable-shared").

a_library_that_is_none(Config) ->
    File = script(Config, "libpython3.so", []),
    Series = py_peer:ask(python(Config), "print('%d%d' % sys.version_info[:2])"),
    Answers = #{"libpython" => File, "series" => binary_to_list(Series)},
    ok = py_test:contains(refusal(Config, fake(Config, "no_library", Answers)), "does not load").

a_version_without_a_build(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "without"),
    Ebin = py_peer:copy_application(Dir, ["py_loader.so"]),
    Peer = py_peer:start(#{"ERLANG_PYTHON" => python(Config)}, Ebin),
    Message = refused(Peer, []),
    ok = py_test:contains(Message, "make portable"),
    ok = py_test:contains(Message, "PORTABLE=1 rebar3 compile"),
    ok = py_test:contains(Message, "_build/default/lib/erlang_python/priv"),
    ok = py_test:contains(Message, py_peer:library(python(Config))),
    ok = py_peer:stop(Peer).

a_broken_venv(Config) ->
    Bin = filename:join([proplists:get_value(priv_dir, Config), "broken", "bin"]),
    ok = filelib:ensure_dir(filename:join(Bin, "any")),
    ok = file:make_symlink("/nonexistent/python3", filename:join(Bin, "python3")),
    ok = py_test:contains(refusal(Config, filename:dirname(Bin)), "no venv").

no_python_at_all(Config) ->
    Peer = py_peer:start(#{}),
    true = py_peer:run(Peer, fun() -> os:putenv("PATH", "/nonexistent") end),
    Message = refused(Peer, []),
    ok = py_test:contains(Message, "no python3 on PATH"),
    ok = py_test:contains(Message, "ERLANG_PYTHON"),
    {ok, _} = py_peer:start_python(Peer, [{python, python(Config)}]),
    ok = py_peer:stop(Peer).

extension_modules_load(Config) ->
    [begin
         Alone = try py_peer:ask(python(Config), ["import ", Module]) of
             <<>> -> there
         catch
             error:{exit_status, _, _} -> missing
         end,
         case py:exec(["import ", Module]) of
             ok -> ok;
             {error, {'ModuleNotFoundError', _}} when Alone =:= missing -> ok
         end
     end || Module <- ["_decimal", "_ssl", "_ctypes", "sqlite3", "zlib", "_hashlib", "asyncio"]],
    {ok, <<"0.3">>} = py:eval(<<"(lambda D: str(D('0.1') + D('0.2')))"
                                "(__import__('decimal').Decimal)">>),
    {ok, 5} = py:eval(<<"__import__('ctypes').c_int(5).value">>).

subprocesses_tell_their_status(_Config) ->
    Run = <<"__import__('subprocess').run(['sh', '-c', command], capture_output=True)">>,
    {ok, 3} = py:eval(<<Run/binary, ".returncode">>, #{command => <<"exit 3">>}),
    {ok, 0} = py:eval(<<Run/binary, ".returncode">>, #{command => <<"exit 0">>}),
    {ok, <<"hi\n">>} = py:eval(<<Run/binary, ".stdout">>, #{command => <<"echo hi">>}),
    {ok, 1792} = py:eval(<<"__import__('os').system('exit 7')">>),
    %% The ports of the VM still work.
    "hello\n" = os:cmd("echo hello").

multiprocessing_spawns(_Config) ->
    {ok, [1, 2]} = py:eval(<<"
(lambda mp: (lambda p: (p.map(abs, [-1, -2]), p.terminate(), p.join())[0])
 (mp.get_context('spawn').Pool(1)))(__import__('multiprocessing'))">>, #{}, 60000).

%% Code that names no start method has spawned children, on every version of Python.
multiprocessing_spawns_by_default(_Config) ->
    {ok, <<"spawn">>} = py:eval(<<"__import__('multiprocessing').get_start_method()">>),
    {ok, [1, 2]} = py:eval(<<"
(lambda pool: (pool.map(abs, [-1, -2]), pool.terminate(), pool.join())[0])(
 __import__('multiprocessing').Pool(2))">>, #{}, 60000),
    {ok, [1, 2]} = py:eval(<<"
(lambda pool: (list(pool.map(abs, [-1, -2])), pool.shutdown())[0])(
 __import__('concurrent.futures').futures.ProcessPoolExecutor(2))">>, #{}, 60000),
    {error, {'RuntimeError', #{message := <<"os.fork()", _/binary>>}}} =
        py:exec(<<"
import multiprocessing
multiprocessing.get_context('fork').Process(target=print).start()">>).

code_may_choose_another_start_method(Config) ->
    Peer = py_peer:start(#{"ERLANG_PYTHON" => python(Config)}),
    {ok, _} = py_peer:start_python(Peer, []),
    {ok, <<"forkserver">>} = py_peer:run(Peer, fun() ->
        ok = py:exec(<<"import multiprocessing; multiprocessing.set_start_method('forkserver')">>),
        py:eval(<<"__import__('multiprocessing').get_start_method()">>)
    end),
    ok = py_peer:stop(Peer).

%% The way of torch's DataLoader with workers: queues, an event, daemonic processes that run a
%% function of a module, and batches that come back in order.
a_data_loader_has_workers(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "loader"),
    ok = filelib:ensure_dir(filename:join(Dir, "any")),
    ok = file:write_file(filename:join(Dir, "py_test_loader.py"), <<"
import multiprocessing

class Squares:
    def __getitem__(self, index):
        return index * index

def work(dataset, indices, batches, done):
    while True:
        asked = indices.get()
        if asked is None:
            break
        number, batch = asked
        batches.put((number, [dataset[index] for index in batch]))
    batches.close()
    done.set()

def load(dataset, batches, num_workers):
    answers, done = multiprocessing.Queue(), multiprocessing.Event()
    queues = [multiprocessing.Queue() for _ in range(num_workers)]
    workers = [multiprocessing.Process(target=work, args=(dataset, queue, answers, done), daemon=True)
               for queue in queues]
    for worker in workers:
        worker.start()
    for number, batch in enumerate(batches):
        queues[number % num_workers].put((number, batch))
    found = dict(answers.get() for _ in batches)
    for queue in queues:
        queue.put(None)
    for worker in workers:
        worker.join()
    return [found[number] for number in sorted(found)], done.is_set(), [w.exitcode for w in workers]
">>),
    ok = py:exec(<<"import sys; sys.path.append(dir)">>, #{dir => list_to_binary(Dir)}),
    {ok, {[[0, 1], [4, 9], [16, 25]], true, [0, 0]}} =
        py:eval(<<"(lambda m: m.load(m.Squares(), [[0, 1], [2, 3], [4, 5]], 2))(__import__('py_test_loader'))">>,
                #{}, 60000),
    ok = py:exec(<<"import sys; sys.path.remove(dir)">>, #{dir => list_to_binary(Dir)}).

no_signal_handlers_are_installed(Config) ->
    %% SIGURG breaks system calls; SIGILL, SIGABRT, SIGBUS, SIGFPE and SIGSEGV have Python's
    %% faulthandler write before the VM dies.
    Ours = lists:sum([1 bsl (Signal - 1) || Signal <- [23, 4, 6, 7, 8, 11]]),
    %% The default action of SIGINT is there with `+Bd', and the import of `signal' would change
    %% that.
    [begin
         Caught = peer_caught(Flags, []) bor Ours,
         Caught = peer_caught(Flags, [{python, python(Config)}])
     end || Flags <- [["+Bd"], ["+Bi"], ["+Bc"]]],
    ok.

%% Returns the signals that a VM catches, without Python or with one that has imported `signal'.
peer_caught(Flags, AppEnv) ->
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        args => Flags ++ ["-pa", filename:dirname(code:which(py)),
                          filename:dirname(code:which(?MODULE))]
    }),
    AppEnv =:= [] orelse begin
        {ok, _} = py_peer:start_python(Peer, AppEnv),
        ok = py_peer:run(Peer, fun() -> py:exec(<<"import signal, asyncio, subprocess">>) end)
    end,
    {ok, Status} = py_peer:run(Peer, fun() -> file:read_file("/proc/self/status") end),
    {match, [Caught]} = re:run(Status, "SigCgt:\\s*([0-9a-f]+)", [{capture, [1], binary}]),
    ok = peer:stop(Peer),
    binary_to_integer(Caught, 16).

the_vm_keeps_its_locale(_Config) ->
    {ok, <<"1.5">>} = py:eval(<<"str(1.5)">>),
    "1.5" = lists:flatten(io_lib:format("~p", [1.5])),
    {ok, <<"utf-8">>} = py:eval(<<"__import__('sys').getfilesystemencoding()">>).

a_missing_library_is_an_error(_Config) ->
    {error, Text} = py_loader:open(<<"/nonexistent/libpython.so">>),
    ok = py_test:contains(Text, "/nonexistent/libpython.so").

a_file_that_is_no_library_is_an_error(Config) ->
    File = script(Config, "no_library.so", []),
    {error, Text} = py_loader:open(unicode:characters_to_binary(File)),
    true = is_binary(Text).

a_path_that_is_none_is_badarg(_Config) ->
    [{raised, badarg} = py_test:caught(fun() -> py_loader:open(Path) end)
     || Path <- [<<"a", 0, "b">>, "list", atom, 1, <<1:1>>]],
    ok.
