%% Which library serves which Python? scripts/test runs many suites, and this one, once with the
%% library for one version, and once for each Python of the machine with the portable library alone:
%% PY_TEST_ABI is set to "abi3" then, and ERLANG_PYTHON names the Python.
-module(py_pythons_SUITE).
-compile([export_all, nowarn_export_all]).

all() ->
    [the_library_is_the_one_under_test,
     the_exact_build_is_preferred].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py_test:stop().

the_library_is_the_one_under_test(_Config) ->
    Python = py_peer:interpreter(),
    Abi = list_to_binary(os:getenv("PY_TEST_ABI", exact(Python))),
    Version = py_peer:ask(Python, "print(sys.version)"),
    ok = py_test:start(),
    {ok, #{abi := Abi, version := Version}} = py:python_info().

the_exact_build_is_preferred(Config) ->
    case os:getenv("PY_TEST_ABI") of
        false -> prefer_exact(Config);
        _ -> {skip, "only the portable library is there"}
    end.

prefer_exact(Config) ->
    Python = py_peer:interpreter(),
    Dir = filename:join(proplists:get_value(priv_dir, Config), "both"),
    Libraries = ["py_loader.so", py_peer:library(Python)],
    Ebin = py_peer:copy_application(Dir, Libraries),
    Portable = filename:join(os:getenv("PY_TEST_ARCHIVE"), "../portable/erlang_python/priv/py_nif.abi3.so"),
    {ok, _} = file:copy(Portable, filename:join(Dir, "erlang_python/priv/py_nif.abi3.so")),
    Peer = py_peer:start(#{"ERLANG_PYTHON" => Python}, Ebin),
    {ok, _} = py_peer:start_python(Peer, []),
    {ok, #{abi := Abi}} = py_peer:run(Peer, fun() -> py:python_info() end),
    Abi = list_to_binary(exact(Python)),
    ok = py_peer:stop(Peer).

%% Returns the tag of the library for one version of Python only, such as "cp311".
exact(Python) ->
    "py_nif." ++ Tag = filename:rootname(py_peer:library(Python)),
    Tag.
