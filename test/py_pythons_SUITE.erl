%% Does one portable build run on every Python of this machine? The cases of other suites run on
%% each of them, in a VM of its own. PYTHONS names them, separated by colons; without it,
%% scripts/pythons is asked.
-module(py_pythons_SUITE).
-compile([export_all, nowarn_export_all]).

-define(SUITES, [py_contract_SUITE, py_affinity_SUITE, py_types_SUITE, py_errors_SUITE,
                 py_exceptions_SUITE, py_thread_state_SUITE, py_threads_SUITE, py_recovery_SUITE,
                 py_isolation_SUITE, py_interrupt_SUITE, py_abandon_SUITE, py_hostile_SUITE,
                 py_callback_SUITE, py_callback_ends_SUITE, py_message_SUITE, py_reentry_SUITE,
                 py_stream_SUITE, py_stream_ends_SUITE, py_collect_SUITE, py_async_SUITE,
                 py_async_ends_SUITE, py_await_SUITE, py_loop_SUITE]).

%% Milliseconds of one case.
-define(TIMEOUT, 180000).

suite() ->
    [{timetrap, {minutes, 30}}].

all() ->
    [the_portable_build_runs_on_every_python,
     the_exact_build_is_preferred].

init_per_suite(Config) ->
    case filelib:is_regular(filename:join(py_runtime:priv_dir(), "py_nif.abi3.so")) of
        true -> Config;
        false -> ct:fail("no priv/py_nif.abi3.so: run `make portable' first")
    end.

end_per_suite(_Config) ->
    ok.

the_portable_build_runs_on_every_python(Config) ->
    Pythons = pythons(),
    true = length(Pythons) >= 1,
    Ebin = py_peer:copy_application(dir(Config, "portable"), ["py_loader.so", "py_nif.abi3.so"]),
    Cases = [run_suites(Python, Ebin, Config) || Python <- Pythons],
    {comment, unicode:characters_to_list(lists:join("; ", Cases))}.

the_exact_build_is_preferred(Config) ->
    Python = py_peer:interpreter(),
    Libraries = ["py_loader.so", "py_nif.abi3.so", py_peer:library(Python)],
    Ebin = py_peer:copy_application(dir(Config, "both"), Libraries),
    Peer = py_peer:start(#{"ERLANG_PYTHON" => Python}, Ebin),
    {ok, _} = py_peer:start_python(Peer, []),
    {ok, #{abi := Abi}} = py_peer:run(Peer, fun() -> py:python_info() end),
    "py_nif." ++ Exact = filename:rootname(py_peer:library(Python)),
    Exact = binary_to_list(Abi),
    ok = py_peer:stop(Peer).

dir(Config, Name) ->
    filename:join(proplists:get_value(priv_dir, Config), Name).

pythons() ->
    case os:getenv("PYTHONS", "") of
        "" -> string:lexemes(os:cmd(filename:join(root(), "scripts/pythons")), "\n");
        List -> string:lexemes(List, ":")
    end.

root() ->
    Source = proplists:get_value(source, ?MODULE:module_info(compile)),
    root(filename:dirname(Source)).

root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "scripts/pythons")) of
        true -> Dir;
        false when Dir =/= "/" -> root(filename:dirname(Dir))
    end.

%% Runs every case of the suites; fails with those that failed.
run_suites(Python, Ebin, Config) ->
    Version = py_peer:ask(Python, "print(sys.version)"),
    %% The packages that the tests import are in the venv of the default Python only.
    Peer = py_peer:start(#{"ERLANG_PYTHON" => Python, "PY_TEST_VENV" => ""}, Ebin),
    {ok, _} = py_peer:start_python(Peer, []),
    {ok, #{abi := <<"abi3">>, version := Version}} =
        py_peer:run(Peer, fun() -> py:python_info() end),
    Results = [{Suite, Case, run_case(Peer, Suite, Case, Config)}
               || Suite <- ?SUITES, Case <- cases(Suite)],
    ok = py_peer:stop(Peer),
    [] = [Failed || {_, _, Result} = Failed <- Results, not is_passed(Result)],
    true = length(Results) > 50,
    [hd(string:split(Version, " ")), ": ", integer_to_list(length(Results)), " cases"].

%% Returns the cases with their groups, or none.
cases(Suite) ->
    lists:append([case Entry of
                      {group, Group} -> [{Group, Case} || Case <- group(Suite, Group)];
                      Case -> [{none, Case}]
                  end || Entry <- Suite:all()]).

group(Suite, Group) ->
    {Group, _, Cases} = lists:keyfind(Group, 1, Suite:groups()),
    Cases.

run_case(Peer, Suite, {Group, Case}, Config0) ->
    py_peer:run(Peer, fun() ->
        try
            Config1 = Suite:init_per_suite(Config0),
            Result = case init_group(Suite, Group, Config1) of
                {skip, Reason} -> {skip, Reason};
                Config2 -> run_in_group(Suite, Case, Config2)
            end,
            _ = Suite:end_per_suite(Config1),
            {returned, Result}
        catch
            Class:Error:Stack -> {Class, Error, Stack}
        end
    end, ?TIMEOUT).

init_group(Suite, Group, Config) ->
    case erlang:function_exported(Suite, init_per_group, 2) of
        true when Group =/= none -> Suite:init_per_group(Group, Config);
        _ -> Config
    end.

run_in_group(Suite, Case, Config0) ->
    Config = Suite:init_per_testcase(Case, Config0),
    Result = Suite:Case(Config),
    _ = Suite:end_per_testcase(Case, Config),
    Result.

is_passed({returned, {'EXIT', _}}) -> false;
is_passed({returned, {skip, _}}) -> true;
is_passed({returned, _}) -> true;
is_passed(_) -> false.
