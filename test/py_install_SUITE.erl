%% Does the compile hook leave the right native libraries, or say in one sentence why it cannot? Each
%% case runs scripts/build_native in a tree of its own, with a PATH that has few programs.
-module(py_install_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [{group, build}, {group, archive}, {group, refusals}].

groups() ->
    [{build, [parallel],
      [cargo_builds_both_libraries, portable_alone_is_built_on_request, without_a_python_the_portable_one_is_built,
       a_python_that_does_not_run_stops, a_build_that_is_asked_for_says_what_it_lacks,
       a_build_that_fails_stops, an_unknown_choice_stops, the_project_itself_has_one_library,
       rebar3_builds_a_built_dependency_for_another_python, mix_builds_a_built_dependency_for_another_python]},
     {archive, [parallel],
      [an_old_cargo_takes_an_archive, a_build_that_is_refused_takes_an_archive,
       an_archive_comes_from_a_directory, an_archive_comes_from_a_file_url,
       an_archive_comes_from_a_server_once, an_archive_comes_from_a_server_of_a_known_authority,
       libraries_of_another_machine_are_kept]},
     {refusals, [parallel],
      [without_rust_or_archive_there_are_three_ways, another_archive_is_refused,
       a_truncated_archive_is_refused, a_directory_listing_is_refused,
       a_directory_in_place_of_the_archive_is_refused, a_missing_archive_is_named,
       a_missing_page_is_named, a_server_that_hangs_is_left, a_server_that_drips_is_left,
       a_server_that_hangs_up_is_named, a_server_that_never_stops_is_left, an_error_page_that_never_ends_is_left,
       no_server_is_named, a_url_without_a_host_is_named, a_server_of_an_unknown_authority_is_refused,
       a_certificate_for_another_host_is_refused, a_file_without_certificates_is_named, an_archive_of_other_sources_is_refused,
       an_archive_with_other_files_is_refused, a_target_without_archive_is_named,
       musl_and_windows_are_refused, a_timeout_that_is_none_stops, a_full_disk_leaves_what_was_there]}].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    ok.

init_per_testcase(Case, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Case),
    Files = ["scripts/build_native", "scripts/native_archive.erl", "scripts/doc_chunks",
             "scripts/install", "src/erlang_python.app.src", "native/Cargo.toml",
             "native/nif/build.rs", "c_src/py_loader.c", "Makefile", "rebar.config", "rebar.config.script",
             "mix.exs"],
    Tree = filename:join(Dir, "erlang_python"),
    [begin
         ok = filelib:ensure_dir(filename:join(Tree, File)),
         {ok, _} = file:copy(filename:join(py_peer:root(), File), filename:join(Tree, File))
     end || File <- Files],
    Bin = filename:join(Dir, "bin"),
    ok = filelib:ensure_dir(filename:join(Bin, "any")),
    [ok = file:make_symlink(os:find_executable(Name), filename:join(Bin, Name))
     || Name <- ["sh", "env", "erl", "escript", "sed", "cat", "dirname", "basename", "mkdir"]],
    Archives = filename:join(Dir, "archives"),
    Archive = filename:join(Archives, archive_name()),
    ok = filelib:ensure_dir(Archive),
    Files1 = [{"py_loader.so", <<"loader">>}, {"py_nif.abi3.so", binary:copy(<<"nif">>, 100000)}],
    ok = erl_tar:create(Archive, Files1, [compressed]),
    Config1 = [{tree, Tree}, {bin, Bin}, {archives, Archives}, {archive, Archive} | Config],
    ok = write_checksums(Config1),
    Config1.

end_per_testcase(_Case, _Config) ->
    py_test:assert_empty_mailbox().

%% Helpers

get(Key, Config) ->
    proplists:get_value(Key, Config).

host() ->
    "x86_64-linux-gnu".

archive_name() ->
    _ = application:load(erlang_python),
    {ok, Version} = application:get_key(erlang_python, vsn),
    "erlang_python-" ++ Version ++ "-" ++ host() ++ ".tar.gz".

%% Writes the checksums of what is the archive now.
write_checksums(Config) ->
    {0, Digest} = hook(Config, [], ["--digest"]),
    {ok, Content} = file:read_file(get(archive, Config)),
    Checksum = string:lowercase(binary:encode_hex(crypto:hash(sha256, Content))),
    file:write_file(filename:join(get(tree, Config), "prebuilt.sha256"),
                    ["# sources ", Digest, "# rustc 1.2.3\n", Checksum, "  ", archive_name(), "\n"]).

%% Runs the hook; returns its status and what it said.
hook(Config, Env) ->
    hook(Config, Env, []).

hook(Config, Env, Arguments) ->
    py_peer:command(filename:join(get(bin, Config), "escript"),
                    [filename:join(get(tree, Config), "scripts/build_native") | Arguments],
                    get(tree, Config), [{"ERLANG_PYTHON_TARGET", host()} | environment(Config, Env)]).

environment(Config, Env) ->
    Unset = ["PYTHON", "PORTABLE", "CARGO", "REBAR_ROOT_DIR", "ERLANG_PYTHON_BUILD", "ERLANG_PYTHON_PREBUILT",
             "SSL_CERT_FILE"],
    Clean = [{Name, false} || Name <- Unset, not lists:keymember(Name, 1, Env)],
    [{"PATH", get(bin, Config)} | Clean ++ Env].

%% Adds a program to the PATH of the hook.
program(Config, Name, Lines) ->
    File = filename:join(get(bin, Config), Name),
    ok = file:write_file(File, ["#!/bin/sh\n" | [[Line, "\n"] || Line <- Lines]]),
    ok = file:change_mode(File, 8#755).

%% Adds programs that stand for Rust, a compiler and Python. `make' writes down what it was asked for,
%% and leaves a library for each target.
toolchain(Config, CargoVersion) ->
    ok = program(Config, "cargo", ["echo cargo " ++ CargoVersion ++ " \\(abc 2026-01-01\\)"]),
    ok = program(Config, "cc", []),
    ok = program(Config, "python3", ["echo cp311 True"]),
    ok = program(Config, "python3.13", ["echo cp313 True"]),
    program(Config, "make", ["cd " ++ get(tree, Config), "echo $* >>asked",
                             "mkdir -p priv", "for target in $*; do case $target in",
                             "native) tag=cp311; test -z \"$PYTHON\" || tag=cp313; echo >priv/py_nif.$tag.so;;",
                             "portable) echo >priv/py_nif.abi3.so;; esac; done", "echo >priv/py_loader.so"]).

%% The targets of each run of `make'.
asked(Config) ->
    {ok, Text} = file:read_file(filename:join(get(tree, Config), "asked")),
    [lists:nthtail(4, string:lexemes(Line, " ")) || Line <- string:lexemes(binary_to_list(Text), "\n")].

priv(Config) ->
    case file:list_dir(filename:join(get(tree, Config), "priv")) of
        {ok, Names} -> lists:sort(Names);
        {error, enoent} -> []
    end.

%% Asserts that the hook stops with one sentence that has these parts, and leaves nothing.
refused(Config, Env, Parts) ->
    Before = priv(Config),
    {1, Said} = hook(Config, Env),
    ct:log("~ts", [Said]),
    <<"erlang_python: ", Sentence/binary>> = Said,
    [] = [Part || Part <- Parts, string:find(Sentence, Part) =:= nomatch],
    1 = length(string:lexemes(Sentence, "\n")),
    Before = priv(Config),
    ok.

from_archives(Config) ->
    [{"ERLANG_PYTHON_PREBUILT", get(archives, Config)}].

installed(Config) ->
    ["built_from", "py_loader.so", "py_nif.abi3.so"] = priv(Config),
    {ok, <<"loader">>} = file:read_file(filename:join(get(tree, Config), "priv/py_loader.so")),
    ok.

%% Build

cargo_builds_both_libraries(Config) ->
    ok = toolchain(Config, "1.91.0"),
    {0, _} = hook(Config, from_archives(Config)),
    [["native", "portable"]] = asked(Config),
    ["built_from", "py_loader.so", "py_nif.abi3.so", "py_nif.cp311.so"] = priv(Config).

portable_alone_is_built_on_request(Config) ->
    ok = toolchain(Config, "2.0.0"),
    {0, _} = hook(Config, [{"PORTABLE", "1"}]),
    [["portable"]] = asked(Config).

without_a_python_the_portable_one_is_built(Config) ->
    ok = toolchain(Config, "1.95.0"),
    ok = program(Config, "python3", ["echo cp39 False"]),
    {0, Old} = hook(Config, []),
    ok = py_test:contains(Old, "python3 is cp39"),
    ok = file:delete(filename:join(get(bin, Config), "python3")),
    {0, None} = hook(Config, []),
    ok = py_test:contains(None, "there is no Python python3"),
    [["portable"], ["portable"]] = asked(Config).

a_python_that_does_not_run_stops(Config) ->
    ok = toolchain(Config, "1.95.0"),
    ok = refused(Config, [{"PYTHON", "python3.99"}], ["there is no Python python3.99"]),
    ok = program(Config, "python3", ["echo cp313 True t"]),
    ok = refused(Config, [{"PYTHON", "python3"}], ["python3 is a special build of Python: t"]).

a_build_that_is_asked_for_says_what_it_lacks(Config) ->
    Env = [{"ERLANG_PYTHON_BUILD", "1"} | from_archives(Config)],
    ok = refused(Config, Env, ["cargo is not on PATH, make is not on PATH, there is no C compiler"]),
    ok = toolchain(Config, "1.90.1"),
    ok = refused(Config, Env, ["cargo 1.90 is older than 1.91"]).

a_build_that_fails_stops(Config) ->
    ok = toolchain(Config, "1.91.0"),
    ok = program(Config, "make", ["echo no space left", "exit 2"]),
    {1, Said} = hook(Config, from_archives(Config)),
    ok = py_test:contains(Said, "no space left\n"),
    ok = py_test:contains(Said, "make native portable has ended with 2"),
    ok = py_test:contains(Said, "ERLANG_PYTHON_BUILD=0"),
    [] = priv(Config).

an_unknown_choice_stops(Config) ->
    refused(Config, [{"ERLANG_PYTHON_BUILD", "yes"}], ["it may be 1 or 0"]).

the_project_itself_has_one_library(Config) ->
    ok = toolchain(Config, "1.91.0"),
    {0, _} = hook(Config, [{"REBAR_ROOT_DIR", get(tree, Config) ++ "/."}]),
    [["native"]] = asked(Config).

%% rebar3 does not compile a dependency again that has all its artifacts. Elixir is not on its PATH.
rebar3_builds_a_built_dependency_for_another_python(Config) ->
    Project = project(Config, ["rebar3"], [
        {"src/project.app.src",
         "{application, project, [{vsn, \"1\"}, {description, \"\"}, {applications, [kernel]}]}."},
        {"rebar.config",
         ["{deps, [{erlang_python, {git, \"file://", get(tree, Config), "\", {branch, \"main\"}}}]}."]}]),
    built_for_another_python(Config, Project, "_build/default/lib/erlang_python", ["rebar3 compile"]).

%% Mix does not compile a dependency again that was not fetched again.
mix_builds_a_built_dependency_for_another_python(Config) ->
    Project = project(Config, ["mix", "elixir"], [
        {"mix.exs",
         ["defmodule Project.MixProject do\n"
          "  use Mix.Project\n"
          "  def project, do: [app: :project, version: \"1.0.0\", deps: [\n"
          "    {:erlang_python, git: \"file://", get(tree, Config), "\", branch: \"main\"}]]\n"
          "end\n"]}]),
    built_for_another_python(Config, Project, "deps/erlang_python", ["mix deps.get && mix compile"]).

%% Returns a project that depends on the tree, which becomes a repository.
project(Config, Programs, Files) ->
    ok = toolchain(Config, "1.91.0"),
    [ok = file:make_symlink(os:find_executable(Name), filename:join(get(bin, Config), Name))
     || Name <- Programs ++ ["git", "ls", "readlink", "uname", "rm", "cp", "mv", "expr"]],
    Project = filename:join(filename:dirname(get(tree, Config)), "project"),
    [begin
         File = filename:join(Project, Name),
         ok = filelib:ensure_dir(File),
         ok = file:write_file(File, Text)
     end || {Name, Text} <- Files],
    Git = fun(Arguments) ->
        {0, _} = py_peer:command(os:find_executable("git"), ["-c", "user.name=x", "-c", "user.email=x" | Arguments],
                                 get(tree, Config), [])
    end,
    lists:foreach(Git, [["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "All"]]),
    Project.

built_for_another_python(Config, Project, Place, Command) ->
    Dependency = filename:join(Project, Place),
    %% The dependency is compiled in the project, so `make' works there.
    Make = filename:join(get(bin, Config), "make"),
    {ok, Script} = file:read_file(Make),
    ok = file:write_file(Make, string:replace(Script, get(tree, Config), Dependency)),
    In = [{tree, Dependency} | Config],
    Compile = fun(Env) ->
        {Status, Said} = py_peer:command(filename:join(get(bin, Config), "sh"), ["-c" | Command], Project,
                                         [{"ERLANG_PYTHON_TARGET", host()}, {"HEX_OFFLINE", "1"}, {"MIX_ENV", "prod"}
                                          | environment(Config, Env)]),
        Status =:= 0 orelse ct:fail("~ts", [Said])
    end,
    Compile([]),
    Compile([]),
    [["native", "portable"]] = asked(In),
    Compile([{"PYTHON", "python3.13"}]),
    Compile([{"PYTHON", "python3.13"}]),
    [["native", "portable"], ["native", "portable"]] = asked(In),
    true = lists:member("py_nif.cp313.so", priv(In)),
    ok = file:delete(filename:join(Dependency, "priv/py_nif.abi3.so")),
    Compile([]),
    Compile([{"PORTABLE", "1"}]),
    [_, _, ["portable"]] = asked(In),
    Compile([]),
    3 = length(asked(In)).

%% Archives

an_old_cargo_takes_an_archive(Config) ->
    ok = toolchain(Config, "1.63.0"),
    {0, Said} = hook(Config, from_archives(Config)),
    ok = py_test:contains(Said, "was taken from"),
    ok = installed(Config).

a_build_that_is_refused_takes_an_archive(Config) ->
    ok = toolchain(Config, "1.95.0"),
    {0, _} = hook(Config, [{"ERLANG_PYTHON_BUILD", "0"} | from_archives(Config)]),
    ok = installed(Config),
    %% The variables that name a Python are met by the portable library.
    {0, <<"priv/py_loader.so\npriv/py_nif.abi3.so\n">>} =
        hook(Config, [{"ERLANG_PYTHON_BUILD", "0"}, {"PYTHON", "python3.13"}], ["--wanted"]).

an_archive_comes_from_a_directory(Config) ->
    {0, _} = hook(Config, from_archives(Config)),
    ok = installed(Config).

an_archive_comes_from_a_file_url(Config) ->
    {0, _} = hook(Config, [{"ERLANG_PYTHON_PREBUILT", "file://" ++ get(archives, Config)}]),
    ok = installed(Config).

an_archive_comes_from_a_server_once(Config) ->
    {ok, Content} = file:read_file(get(archive, Config)),
    {Prefix, Server} = py_server:start(fun(Socket) -> py_server:answer(Socket, "200 OK", Content, byte_size(Content)) end),
    Env = [{"ERLANG_PYTHON_PREBUILT", Prefix}],
    {0, _} = hook(Config, Env),
    ok = installed(Config),
    ok = py_server:stop(Server),
    {0, <<>>} = hook(Config, Env),
    ok = installed(Config).

an_archive_comes_from_a_server_of_a_known_authority(Config) ->
    {ok, Content} = file:read_file(get(archive, Config)),
    {Prefix, Authority, Server} = py_server:start_tls(get(tree, Config), "localhost", Content),
    {0, _} = hook(Config, [{"ERLANG_PYTHON_PREBUILT", Prefix}, {"SSL_CERT_FILE", Authority}]),
    ok = installed(Config),
    py_server:stop(Server).

libraries_of_another_machine_are_kept(Config) ->
    {0, _} = hook(Config, from_archives(Config)),
    {0, <<>>} = hook(Config, []),
    ok = file:write_file(filename:join(get(tree, Config), "c_src/py_loader.c"), "changed"),
    {1, _} = hook(Config, []).

%% Refusals

without_rust_or_archive_there_are_three_ways(Config) ->
    {1, Said} = hook(Config, []),
    [ok = py_test:contains(Said, Part)
     || Part <- ["cargo is not on PATH", "1. Install Rust 1.91 or newer", "2. Set ERLANG_PYTHON_PREBUILT",
                 archive_name(), "3. Compile on another machine"]],
    [] = priv(Config).

another_archive_is_refused(Config) ->
    ok = erl_tar:create(get(archive, Config), [{"py_loader.so", <<"evil">>}], [compressed]),
    refused(Config, from_archives(Config), ["is refused", "SHA-256", "another archive", "Nothing was installed"]).

a_truncated_archive_is_refused(Config) ->
    {ok, Content} = file:read_file(get(archive, Config)),
    ok = file:write_file(get(archive, Config), binary:part(Content, 0, byte_size(Content) - 1)),
    refused(Config, from_archives(Config), ["is refused", "or a part of it"]).

a_directory_listing_is_refused(Config) ->
    Page = <<"<!DOCTYPE html><title>Index of /</title>">>,
    {Prefix, Server} = py_server:start(fun(Socket) -> py_server:answer(Socket, "200 OK", Page, byte_size(Page)) end),
    ok = refused(Config, [{"ERLANG_PYTHON_PREBUILT", Prefix}], ["is refused", "no archive (40 bytes)"]),
    py_server:stop(Server).

a_directory_in_place_of_the_archive_is_refused(Config) ->
    ok = file:delete(get(archive, Config)),
    ok = file:make_dir(get(archive, Config)),
    refused(Config, from_archives(Config), ["cannot be read", "directory"]).

a_missing_archive_is_named(Config) ->
    refused(Config, [{"ERLANG_PYTHON_PREBUILT", "/nonexistent"}],
            ["/nonexistent/" ++ archive_name(), "no such file"]).

a_missing_page_is_named(Config) ->
    {Prefix, Server} = py_server:start(fun(Socket) -> py_server:answer(Socket, "404 Not Found", <<"no">>, 2) end),
    ok = refused(Config, [{"ERLANG_PYTHON_PREBUILT", Prefix ++ "/"}], [Prefix ++ "/" ++ archive_name(), "404"]),
    py_server:stop(Server).

a_server_that_hangs_is_left(Config) ->
    left(Config, fun(_Socket) -> ok end).

a_server_that_drips_is_left(Config) ->
    left(Config, fun(Socket) -> py_server:answer(Socket, "200 OK", <<"a">>, 1000000) end).

left(Config, Fun) ->
    {Prefix, Server} = py_server:start(fun(Socket) -> Fun(Socket), gen_tcp:recv(Socket, 0) end),
    Env = [{"ERLANG_PYTHON_PREBUILT", Prefix}, {"ERLANG_PYTHON_TIMEOUT", "1"}],
    ok = refused(Config, Env, ["no complete answer within 1 seconds"]),
    py_server:stop(Server).

a_server_that_hangs_up_is_named(Config) ->
    {Prefix, Server} = py_server:start(fun(Socket) -> py_server:answer(Socket, "200 OK", <<"half">>, 1000000) end),
    ok = refused(Config, [{"ERLANG_PYTHON_PREBUILT", Prefix}], ["has closed the connection"]),
    py_server:stop(Server).

a_server_that_never_stops_is_left(Config) ->
    never_stops(Config, "200 OK").

%% The client gathers the page of an error, which does not interest the hook.
an_error_page_that_never_ends_is_left(Config) ->
    never_stops(Config, "500 Internal Server Error").

never_stops(Config, Status) ->
    Part = binary:copy(<<0>>, 1 bsl 20),
    {Prefix, Server} = py_server:start(fun(Socket) ->
        ok = gen_tcp:send(Socket, ["HTTP/1.1 ", Status, "\r\n\r\n"]),
        Send = fun Send() -> gen_tcp:send(Socket, Part) =:= ok andalso Send() end,
        Send()
    end),
    ok = refused(Config, [{"ERLANG_PYTHON_PREBUILT", Prefix}], ["is larger than any archive"]),
    py_server:stop(Server).

a_url_without_a_host_is_named(Config) ->
    refused(Config, [{"ERLANG_PYTHON_PREBUILT", "http://"}], ["http:/"]).

a_server_of_an_unknown_authority_is_refused(Config) ->
    {Prefix, _Authority, Server} = py_server:start_tls(get(tree, Config), "localhost", <<>>),
    ok = refused(Config, [{"ERLANG_PYTHON_PREBUILT", Prefix}],
                 ["the certificate of localhost:", "is refused: unknown_ca"]),
    py_server:stop(Server).

a_certificate_for_another_host_is_refused(Config) ->
    {Prefix, Authority, Server} = py_server:start_tls(get(tree, Config), "example.org", <<>>),
    ok = refused(Config, [{"ERLANG_PYTHON_PREBUILT", Prefix}, {"SSL_CERT_FILE", Authority}],
                 ["the certificate of localhost:", "is refused: handshake_failure"]),
    py_server:stop(Server).

a_file_without_certificates_is_named(Config) ->
    refused(Config, [{"ERLANG_PYTHON_PREBUILT", "https://localhost"}, {"SSL_CERT_FILE", "/nonexistent"}],
            ["no certificates of authorities", "no such file", "SSL_CERT_FILE"]).

no_server_is_named(Config) ->
    {Prefix, Server} = py_server:start(fun(_Socket) -> ok end),
    ok = py_server:stop(Server),
    refused(Config, [{"ERLANG_PYTHON_PREBUILT", Prefix}], ["no connection to", "econnrefused"]).

an_archive_of_other_sources_is_refused(Config) ->
    ok = file:write_file(filename:join(get(tree, Config), "native/nif/build.rs"), "fn main() {}"),
    refused(Config, from_archives(Config), ["no archive fits these sources"]).

an_archive_with_other_files_is_refused(Config) ->
    ok = erl_tar:create(get(archive, Config), [{"../../evil.so", <<"evil">>}], [compressed]),
    ok = write_checksums(Config),
    ok = refused(Config, from_archives(Config), ["does not belong to it: ../../evil.so"]),
    ok = file:write_file(get(archive, Config), "no archive"),
    ok = write_checksums(Config),
    refused(Config, from_archives(Config), ["cannot be unpacked"]).

a_target_without_archive_is_named(Config) ->
    refused(Config, [{"ERLANG_PYTHON_TARGET", "riscv64-linux-gnu"} | from_archives(Config)],
            ["no archive for riscv64-linux-gnu", archive_name()]).

musl_and_windows_are_refused(Config) ->
    ok = toolchain(Config, "1.95.0"),
    ok = refused(Config, [{"ERLANG_PYTHON_TARGET", "x86_64-linux-musl"}], ["musl (Alpine Linux)"]),
    refused(Config, [{"ERLANG_PYTHON_TARGET", "x86_64-windows"}], ["Windows", "WSL 2"]).

a_timeout_that_is_none_stops(Config) ->
    refused(Config, [{"ERLANG_PYTHON_PREBUILT", "http://127.0.0.1:1"}, {"ERLANG_PYTHON_TIMEOUT", "soon"}],
            ["it is a number of seconds"]).

%% A small file system stands for a full disk, in a mount namespace of its own.
a_full_disk_leaves_what_was_there(Config) ->
    Priv = filename:join(get(tree, Config), "priv"),
    ok = file:make_dir(Priv),
    Run = ["mount -t tmpfs -o size=64k tmpfs ", Priv, " && echo old >", Priv, "/py_loader.so && { PATH=",
           get(bin, Config), " ERLANG_PYTHON_TARGET=", host(), " ERLANG_PYTHON_PREBUILT=", get(archives, Config),
           " escript ", get(tree, Config), "/scripts/build_native; echo status $?; cat ", Priv, "/*; ls ", Priv, "; }"],
    Unshare = fun(Command) ->
        py_peer:command(os:find_executable("unshare"), ["--mount", "--map-root-user", "sh", "-c", Command], ".", [])
    end,
    case Unshare("mount -t tmpfs tmpfs /mnt") of
        {0, _} ->
            {0, Said} = Unshare(unicode:characters_to_list(Run)),
            ct:log("~ts", [Said]),
            ok = py_test:contains(Said, "no space left on device. Nothing was installed"),
            ok = py_test:contains(Said, "status 1\nold\npy_loader.so\n");
        {_, Why} ->
            {skip, unicode:characters_to_list(["no mount namespace: ", Why])}
    end.
