%% What crosses between the VM and child processes: objects by handles, big values by sealed memory, no atoms.
-module(py_process_values_SUITE).

-export([all/0, init_per_testcase/2, end_per_testcase/2]).
-export([objects_stay_in_their_child/1, dropped_objects_are_released/1, python_code_makes_no_atoms/1,
         big_values_cross_both_ways/1, big_binaries_are_shared/1, big_values_need_no_file/1,
         a_child_without_descriptors_is_told_so/1, a_vm_without_descriptors_loses_no_child/1]).

-define(POOL, workers).

all() ->
    [objects_stay_in_their_child, dropped_objects_are_released, python_code_makes_no_atoms, big_values_cross_both_ways,
     big_binaries_are_shared, big_values_need_no_file, a_child_without_descriptors_is_told_so,
     a_vm_without_descriptors_loses_no_child].

init_per_testcase(_Case, Config) ->
    ct:timetrap({seconds, 100}),
    ok = py_test:start(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:stop().

objects_stay_in_their_child(_Config) ->
    ok = start(#{num_workers => 2}),
    {ok, A} = py:bind(new, #{pool => ?POOL}),
    {ok, B} = py:bind(new, #{pool => ?POOL}),
    {ok, Object} = py:ctx_eval(A, <<"{1: object()}[1]">>),
    {ok, Same} = py:ctx_eval(A, <<"(o, [o])">>, #{o => Object}),
    {ok, true} = py:ctx_eval(A, <<"s[0] is o and s[1][0] is o">>, #{o => Object, s => Same}),
    Foreign = fun({error, {unconvertible, #{reason := foreign_object}} = Reason}) -> py:format_error(Reason) end,
    <<"cannot convert: an object of another worker", _/binary>> = Foreign(py:ctx_eval(B, <<"o">>, #{o => Object})),
    _ = Foreign(py:eval(<<"o">>, #{o => Object})),
    {ok, OfVm} = py:eval(<<"object()">>),
    _ = Foreign(py:ctx_eval(A, <<"o">>, #{o => OfVm})),
    _ = Foreign(py:ctx_call(A, builtins, repr, [[#{k => OfVm}]])),
    {ok, 1} = py:ctx_eval(A, <<"1">>),
    %% The answer of a callback crosses, too, and fails as in the VM.
    ok = py:register_function(foreign, fun([]) -> OfVm end),
    {error, {'ValueError', _}} =
        py:ctx_eval(A, <<"__import__('erlang').foreign()">>),
    ok = py:unregister_function(foreign),
    [ok = py:unbind(C) || C <- [A, B]],
    ok = py_test:wait_whole(?POOL, 2).

dropped_objects_are_released(_Config) ->
    ok = start(#{num_workers => 1}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    ok = py:ctx_exec(Context, <<"ends = []\nclass Seen:\n    def __del__(self):\n        ends.append(1)">>),
    ok = py_test:in_process(fun() ->
        {ok, _} = py:ctx_eval(Context, <<"[Seen() for _ in range(10)]">>),
        ok
    end),
    ok = py_test:wait_until(fun() -> py:ctx_eval(Context, <<"len(ends)">>) =:= {ok, 10} end),
    ok = py:unbind(Context).

python_code_makes_no_atoms(_Config) ->
    ok = start(#{num_workers => 1}),
    Name = <<"an_atom_that_no_module_has_", (integer_to_binary(erlang:unique_integer([positive])))/binary>>,
    {error, {'ValueError', _}} = py:eval(<<"__import__('erlang').atom(name, create=True)">>, #{name => Name},
                                         #{pool => ?POOL}),
    {ok, default} = py:eval(<<"__import__('erlang').atom('default')">>, #{}, #{pool => ?POOL}),
    {ok, _} = py:eval(<<"name">>, #{name => Name}, #{pool => ?POOL}),
    {raised, badarg} = py_test:caught(fun() -> binary_to_existing_atom(Name) end).

big_values_cross_both_ways(_Config) ->
    ok = start(#{num_workers => 1}),
    Big = binary:copy(<<"0123456789abcdef">>, 1 bsl 20),
    {ok, Big} = py:eval(<<"b">>, #{b => {bytes, Big}}, #{pool => ?POOL}),
    {ok, {<<"bytes">>, Size}} = py:eval(<<"(type(v).__name__, len(v))">>, #{v => {view, Big}}, #{pool => ?POOL}),
    Size = byte_size(Big),
    List = lists:seq(1, 100000),
    {ok, List} = py:eval(<<"list(v)">>, #{v => List}, #{pool => ?POOL}),
    Map = maps:from_list([{integer_to_binary(N), {N, [N / 2, none, true]}} || N <- lists:seq(1, 10000)]),
    {ok, Map} = py:eval(<<"v">>, #{v => Map}, #{pool => ?POOL}),
    Deep = lists:foldl(fun(_, Inner) -> [Inner] end, [], lists:seq(1, 990)),
    {ok, Deep} = py:eval(<<"v">>, #{v => Deep}, #{pool => ?POOL}),
    {error, {unconvertible, #{reason := too_deep}}} =
        py:eval(<<"v">>, #{v => lists:foldl(fun(_, Inner) -> [Inner] end, [], lists:seq(1, 2000))}, #{pool => ?POOL}),
    {error, {unconvertible, #{reason := improper_list}}} = py:eval(<<"v">>, #{v => [1 | 2]}, #{pool => ?POOL}),
    {error, {unconvertible, #{reason := not_unicode}}} = py:eval(<<"'\\ud800'">>, #{}, #{pool => ?POOL}).

%% A big binary of a result is the memory that the child has written: it outlives the child.
big_binaries_are_shared(_Config) ->
    ok = start(#{num_workers => 1}),
    Mapped = fun() -> length(binary:matches(element(2, file:read_file("/proc/self/maps")), <<"memfd:erlang_python">>)) end,
    0 = Mapped(),
    Size = 1 bsl 20,
    Pool = #{pool => ?POOL, timeout => 20000},
    {Pid, Monitor} = spawn_monitor(fun() ->
        {ok, {Bytes, Text, [Part]}} = py:eval(<<"(b'\\xff' * n, 'ab' * n, [b'\\xfe' * n])">>, #{n => Size}, Pool),
        _ = py:eval(<<"__import__('os')._exit(1)">>, #{}, Pool),
        true = Bytes =:= binary:copy(<<255>>, Size),
        true = Text =:= binary:copy(<<"ab">>, Size),
        true = Part =:= binary:copy(<<254>>, Size),
        1 = Mapped()
    end),
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
    ok = py_test:wait_until(fun() -> Mapped() =:= 0 end),
    Bytes = binary:copy(<<255>>, Size),
    %% There and back, as arguments and as the arguments and the result of a callback.
    ok = py:register_function(double, fun([B]) -> <<B/binary, B/binary>> end),
    Length = 4 * Size,
    {ok, Length} = py:eval(<<"2 * len(b) + len(__import__('erlang').double(b))">>, #{b => {bytes, Bytes}}, Pool),
    ok = py:unregister_function(double),
    %% Keys that must be compared, with a big value between them.
    {ok, Map} = py:eval(<<"{1: b, 'a': 2, (3,): [b]}">>, #{b => {bytes, Bytes}}, Pool),
    #{1 := Bytes, <<"a">> := 2, {3} := [Bytes]} = Map,
    {error, {unconvertible, #{reason := key_collision}}} =
        py:eval(<<"{'a': b, b'a': b}">>, #{b => {bytes, Bytes}}, Pool),
    {ok, [Bytes, Bytes]} = py:eval(<<"[b, b]">>, #{b => {bytes, Bytes}}, Pool),
    garbage_collect(),
    ok = py_test:wait_until(fun() -> Mapped() =:= 0 end).

%% A limit on the size of files is one on such memory: the value goes through the socket.
big_values_need_no_file(_Config) ->
    ok = start(#{num_workers => 1, limits => #{file_size => 1 bsl 16}}),
    Big = binary:copy(<<255>>, 1 bsl 20),
    {ok, Big} = py:eval(<<"b">>, #{b => {bytes, Big}}, #{pool => ?POOL, timeout => 20000}),
    {error, {'OSError', _}} = py:exec(<<"open('/tmp/py_process_too_big', 'wb').write(bytes(1 << 20))">>, #{}, #{pool => ?POOL}),
    _ = file:delete("/tmp/py_process_too_big"),
    ok.

a_child_without_descriptors_is_told_so(_Config) ->
    ok = start(#{num_workers => 1, limits => #{open_files => 40}}),
    Big = binary:copy(<<255>>, 1 bsl 20),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    ok = py:ctx_exec(Context, <<"
import os
kept = []
try:
    while True:
        kept.append(os.open('/dev/null', os.O_RDONLY))
except OSError as e:
    code = e.errno
">>),
    {ok, 24} = py:ctx_eval(Context, <<"code">>),
    {error, {'OSError', #{message := Message}}} = py:ctx_eval(Context, <<"len(b)">>, #{b => {bytes, Big}}),
    ok = py_test:contains(Message, <<"a big value of Erlang">>),
    ok = py:register_function(big, fun([]) -> {bytes, Big} end),
    {error, {'OSError', _}} = py:ctx_eval(Context, <<"len(__import__('erlang').big())">>),
    %% Its own big values go through the socket.
    {ok, Big} = py:ctx_eval(Context, <<"b'\\xff' * (1 << 20)">>),
    %% In the middle of a call, too.
    ok = py:register_function(nested, fun([]) -> {error, {Type, _}} = py:eval(<<"len(b)">>, #{b => {bytes, Big}}), Type end),
    {ok, <<"OSError">>} = py:ctx_eval(Context, <<"str(__import__('erlang').nested())">>),
    %% One descriptor is enough.
    {ok, none} = py:ctx_eval(Context, <<"os.close(kept.pop())">>),
    {ok, 1048576} = py:ctx_eval(Context, <<"len(b)">>, #{b => {bytes, Big}}),
    {ok, 4} = py:ctx_eval(Context, <<"[os.close(fd) for fd in kept] and 4">>),
    {ok, Size} = py:ctx_eval(Context, <<"len(b)">>, #{b => {bytes, Big}}),
    Size = byte_size(Big),
    [ok = py:unregister_function(Name) || Name <- [big, nested]],
    ok = py:unbind(Context).


%% A result whose memory the VM cannot take is an error of the call, and the context goes on.
a_vm_without_descriptors_loses_no_child(_Config) ->
    ok = start(#{num_workers => 1, spares => 0}),
    {ok, Context} = py:bind(new, #{pool => ?POOL}),
    ok = py:ctx_exec(Context, <<"big = b'\\xff' * (1 << 20)">>),
    {ok, Open} = file:list_dir("/proc/self/fd"),
    Most = 8 + lists:max([list_to_integer(Descriptor) || Descriptor <- Open]),
    [Before] = string:lexemes(prlimit("--output=SOFT --noheadings --nofile"), " \n"),
    [] = prlimit("--nofile=" ++ integer_to_list(Most) ++ ":"),
    Files = all_files(),
    Result = py:ctx_eval(Context, <<"big">>),
    Small = py:ctx_eval(Context, <<"len(big)">>),
    [ok = file:close(File) || File <- Files],
    [] = prlimit("--nofile=" ++ Before ++ ":"),
    {error, {unconvertible, #{reason := too_large}}} = Result,
    {ok, 1048576} = Small,
    {ok, <<255, _/binary>>} = py:ctx_eval(Context, <<"big">>),
    ok = py:unbind(Context).

prlimit(Arguments) ->
    os:cmd("prlimit --pid " ++ os:getpid() ++ " " ++ Arguments).

all_files() ->
    case file:open("/dev/null", [raw, read]) of
        {ok, File} -> [File | all_files()];
        {error, emfile} -> []
    end.

start(Options) ->
    py_pool:start(?POOL, Options#{level => process}).
