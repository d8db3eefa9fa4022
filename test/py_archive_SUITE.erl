%% Is the archive of `make dist' what a machine without Rust needs: the libraries and nothing else, for
%% old distributions as well, the same from every machine that builds it? PY_TEST_ARCHIVE is the
%% directory where scripts/test has built it.
-module(py_archive_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [the_libraries_and_nothing_else_are_in_it, no_symbol_needs_a_newer_glibc_than_2_17,
     only_libraries_of_glibc_are_needed, the_libraries_stay_loaded,
     no_path_of_this_machine_is_in_it, nothing_says_when_and_by_whom_it_was_made,
     the_checksum_is_that_of_the_archive].

init_per_suite(Config) ->
    Dir = os:getenv("PY_TEST_ARCHIVE"),
    [Archive] = filelib:wildcard(filename:join(Dir, "erlang_python-*-x86_64-linux-gnu.tar.gz")),
    Unpacked = filename:join(proplists:get_value(priv_dir, Config), "unpacked"),
    ok = erl_tar:extract(Archive, [compressed, {cwd, Unpacked}]),
    [{archive, Archive}, {libraries, filelib:wildcard(filename:join(Unpacked, "*.so"))} | Config].

end_per_suite(_Config) ->
    ok.

archive(Config) ->
    proplists:get_value(archive, Config).

libraries(Config) ->
    proplists:get_value(libraries, Config).

%% Returns what a program of binutils prints of a library.
ask(Program, Option, Library) ->
    {0, Output} = py_peer:command(os:find_executable(Program), [Option, Library], ".", [{"LC_ALL", "C"}]),
    Output.

found(Text, Pattern) ->
    case re:run(Text, Pattern, [global, {capture, [1], list}]) of
        {match, Found} -> lists:usort(lists:append(Found));
        nomatch -> []
    end.

the_libraries_and_nothing_else_are_in_it(Config) ->
    {ok, Names} = erl_tar:table(archive(Config), [compressed]),
    Child = ["py_child.abi3.so" || filelib:is_dir(filename:join(py_peer:root(), "native/child"))],
    Names = Child ++ ["py_loader.so", "py_nif.abi3.so"].

no_symbol_needs_a_newer_glibc_than_2_17(Config) ->
    [begin
         Versions = found(ask("objdump", "-T", Library), "GLIBC_([0-9.]+)"),
         true = length(Versions) > 0,
         [] = [V || V <- Versions, [list_to_integer(P) || P <- string:lexemes(V, ".")] > [2, 17]]
     end || Library <- libraries(Config)].

only_libraries_of_glibc_are_needed(Config) ->
    [begin
         Needed = found(ask("readelf", "-d", Library), "NEEDED.*\\[(.*)\\]"),
         true = length(Needed) > 0,
         [] = Needed -- ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"]
     end || Library <- libraries(Config)].

%% A worker thread may run code of the library when its module is purged.
the_libraries_stay_loaded(Config) ->
    [ok = py_test:contains(ask("readelf", "-d", Library), "NODELETE")
     || Library <- libraries(Config), filename:basename(Library) =/= "py_child.abi3.so"].

no_path_of_this_machine_is_in_it(Config) ->
    Paths = [py_peer:root(), os:getenv("HOME"), code:root_dir()],
    [begin
         {ok, Content} = file:read_file(Library),
         [] = [Path || Path <- Paths, binary:match(Content, list_to_binary(Path ++ "/")) =/= nomatch]
     end || Library <- libraries(Config)].

nothing_says_when_and_by_whom_it_was_made(Config) ->
    {ok, Members} = erl_tar:table(archive(Config), [compressed, verbose]),
    [] = [Member || {_Name, _Type, _Size, Time, Mode, Uid, Gid} = Member <- Members,
                    {Time, Mode, Uid, Gid} =/= {0, 8#755, 0, 0}],
    %% The header of gzip: no flags, and so no name, and no time.
    {ok, <<16#1f, 16#8b, 8, 0, 0:32, _/binary>>} = file:read_file(archive(Config)),
    ok.

the_checksum_is_that_of_the_archive(Config) ->
    {ok, Content} = file:read_file(archive(Config)),
    Checksum = string:lowercase(binary:encode_hex(crypto:hash(sha256, Content))),
    {ok, Sums} = file:read_file(filename:join(filename:dirname(archive(Config)), "prebuilt.sha256")),
    ok = py_test:contains(Sums, [Checksum, "  ", filename:basename(archive(Config)), "\n"]).
