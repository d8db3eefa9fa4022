%% Do keyword arguments reach Erlang functions, and may Python code call what the environment allows?
-module(py_apply_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).
-define(CALLABLE, [string, {lists, reverse}, {lists, seq, 2}, {?MODULE, work}, {?MODULE, 'no such function'}]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [keywords_reach_a_fun_of_two, no_keywords_are_an_empty_map, a_fun_of_one_takes_no_keywords,
     a_keyword_may_have_any_name, keywords_of_a_coroutine, big_keywords_cross, a_keyword_without_a_form_is_refused,
     allowed_functions_are_called, others_are_refused, nothing_is_allowed_by_default, names_make_no_atoms,
     bad_names_and_arguments_are_type_errors, an_error_is_an_erlang_error, a_missing_function_is_undef,
     a_call_that_never_returns_is_stopped, the_function_belongs_to_the_caller, a_function_may_call_python].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(nothing_is_allowed_by_default, Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}]),
    Config;
init_per_testcase(_Case, Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {callable, ?CALLABLE}]),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py_test:end_case(?WORKERS),
    py_test:wait_until(fun() -> [] =:= supervisor:which_children(py_callback) end).

%%% Keyword arguments

both(Args, Kwargs) -> {Args, Kwargs}.

keywords_reach_a_fun_of_two(_Config) ->
    ok = py:register_function(both, fun both/2),
    {ok, {[1], #{<<"x">> := 2, <<"y">> := [3]}}} = py:eval(<<"__import__('erlang').both(1, x=2, y=[3])">>),
    {ok, {[], #{<<"x">> := none}}} = py:eval(<<"__import__('erlang').call('both', x=None)">>),
    ok = py:exec(<<"
from erlang import both
assert both(**{'x': 1}) == ([], {'x': 1})
import threading
found = []
thread = threading.Thread(target=lambda: found.append(both(x=1)))
thread.start()
thread.join()
assert found == [([], {'x': 1})]
">>),
    %% An external fun is found anew at each call.
    ok = py:register_function(both, fun ?MODULE:both/2),
    {ok, {[], #{<<"x">> := 1}}} = py:eval(<<"__import__('erlang').both(x=1)">>).

no_keywords_are_an_empty_map(_Config) ->
    ok = py:register_function(both, fun both/2),
    {ok, {[1, 2], Empty}} = py:eval(<<"__import__('erlang').both(1, 2)">>),
    0 = map_size(Empty),
    {ok, {[], Empty}} = py:eval(<<"__import__('erlang').both(**{})">>).

a_fun_of_one_takes_no_keywords(_Config) ->
    ok = py:register_function(one, fun(Args) -> Args end),
    ok = py:register_function(pair, ?MODULE, both),
    [begin
         {error, {'TypeError', #{message := Why}}} = py:eval(Code),
         ok = py_test:contains(Why, "takes no keyword arguments")
     end || Code <- [<<"__import__('erlang').one(1, x=2)">>, <<"__import__('erlang').call('one', x=2)">>,
                     <<"__import__('erlang').pair(x=2)">>,
                     <<"__import__('asyncio').run(__import__('erlang').acall('one', x=2))">>]],
    {ok, [1]} = py:eval(<<"__import__('erlang').one(1)">>),
    {error, {'LookupError', #{class := <<"erlang.NotRegistered">>}}} =
        py:eval(<<"__import__('erlang').call('nobody', x=2)">>),
    {raised, badarg} = py_test:caught(fun() -> py:register_function(three, fun(A, B, C) -> {A, B, C} end) end).

%% The names are those of parameters of the functions on the way, too.
a_keyword_may_have_any_name(_Config) ->
    ok = py:register_function(both, fun both/2),
    ok = py:exec(<<"
import asyncio, erlang
names = ['name', 'args', 'kwargs', 'self', 'function', 'waker', 'a b', '', 'true', 'None', '\\u00e9']
wanted = ([], {name: name for name in names})
assert erlang.both(**wanted[1]) == wanted
assert erlang.call('both', **wanted[1]) == wanted
assert asyncio.run(erlang.acall('both', **wanted[1])) == wanted
try:
    erlang.both(**{'x': 1}, **{'x': 2})
except TypeError as error:
    assert 'multiple values' in str(error)
else:
    assert False
">>).

keywords_of_a_coroutine(_Config) ->
    ok = py:register_function(both, fun both/2),
    ok = py:bind(),
    ok = py:exec(<<"
import erlang
async def ask():
    return await erlang.acall('both', 1, x=2)
">>),
    {ok, {[1], #{<<"x">> := 2}}} = py:async_await(py:async_call('__main__', ask, [])).

big_keywords_cross(_Config) ->
    ok = py:register_function(size, fun(Args, Kwargs) ->
        {length(Args), map_size(Kwargs), byte_size(maps:get(<<"big">>, Kwargs))}
    end),
    {ok, {1, 1001, 1000000}} =
        py:eval(<<"__import__('erlang').size(1, big=b'x' * 1000000, **{f'k{i}': 'v' for i in range(1000)})">>).

a_keyword_without_a_form_is_refused(_Config) ->
    ok = py:register_function(both, fun both/2),
    {error, {_, #{message := Why}}} = py:eval(<<"__import__('erlang').both(x='\\ud800')">>),
    ok = py_test:contains(Why, "NotUnicode"),
    {error, _} = py:eval(<<"__import__('erlang').both(**{'\\ud800': 1})">>),
    {ok, {[], #{<<"x">> := 1}}} = py:eval(<<"__import__('erlang').both(x=1)">>).

%%% erlang.apply

allowed_functions_are_called(_Config) ->
    ok = py:exec(<<"
import erlang
assert erlang.apply('string', 'uppercase', ['abc']) == 'ABC'
assert erlang.apply('string', 'length', ('abc',)) == 3
assert erlang.apply('lists', 'reverse', [[1, 2]]) == [2, 1]
assert erlang.apply('lists', 'reverse', [[1, 2], [3]]) == [2, 1, 3]
assert erlang.apply('lists', 'seq', (1, 3)) == [1, 2, 3]
assert erlang.apply(erlang.atom('lists'), erlang.atom('seq'), (1, 3)) == [1, 2, 3]
">>).

refused(Call) ->
    {error, {'PermissionError', #{class := <<"erlang.NotAllowed">>, message := Why}}} =
        py:eval([<<"__import__('erlang').apply(">>, Call, <<")">>]),
    ok = py_test:contains(Why, "callable").

others_are_refused(_Config) ->
    [ok = refused(Call) || Call <- [<<"'lists', 'seq', (1, 3, 1)">>, <<"'lists', 'sort', ([],)">>,
                                    <<"'erlang', 'halt'">>, <<"'os', 'cmd', ['ls']">>, <<"'', ''">>,
                                    <<"'Lists', 'seq', (1, 3)">>]].

nothing_is_allowed_by_default(_Config) ->
    [ok = refused(Call) || Call <- [<<"'lists', 'seq', (1, 3)">>, <<"'string', 'uppercase', ['a']">>]].

names_make_no_atoms(_Config) ->
    Code = <<"
import erlang
refused = 0
for i in range(1000):
    for names in ((f'{seed}_m{i}', 'f'), ('lists', f'{seed}_f{i}'), ('x' * 300, 'y' * 300)):
        try:
            erlang.apply(*names)
        except erlang.NotAllowed:
            refused += 1
    try:
        erlang.apply('string', f'{seed}_g{i}')
    except erlang.ErlangError as error:
        assert error.reason == 'undef'
        refused += 1
assert refused == 4000
">>,
    ok = py:exec(Code, #{seed => <<"first">>}),
    Count = erlang:system_info(atom_count),
    ok = py:exec(Code, #{seed => <<"second">>}),
    true = erlang:system_info(atom_count) < Count + 100.

bad_names_and_arguments_are_type_errors(_Config) ->
    [{error, {'TypeError', _}} = py:eval([<<"__import__('erlang').apply(">>, Call, <<")">>])
     || Call <- [<<"1, 'seq'">>, <<"'lists', None">>, <<"b'lists', 'seq'">>, <<"'lists', 'reverse', 'abc'">>,
                 <<"'lists', 'reverse', {1: 2}">>, <<"'lists', 'reverse', None">>, <<"">>, <<"'lists'">>]],
    {error, {_, _}} = py:eval(<<"__import__('erlang').apply('lists', 'reverse', ['\\ud800'])">>).

an_error_is_an_erlang_error(_Config) ->
    {error, {'Exception', #{class := <<"erlang.ErlangError">>, erlang := {error, function_clause, [_ | _]}}}} =
        py:eval(<<"__import__('erlang').apply('lists', 'seq', (3, 1))">>),
    {error, {'Exception', #{erlang := {exit, why, _}}}} =
        py:eval(<<"__import__('erlang').apply(mod, 'work', ['exit'])">>, #{mod => ?MODULE}).

a_missing_function_is_undef(_Config) ->
    [{error, {'Exception', #{erlang := {error, undef, _}}}} =
         py:eval(<<"__import__('erlang').apply(m, f, ())">>, #{m => M, f => F})
     || {M, F} <- [{string, <<"never an atom, ever">>}, {string, uppercase}, {?MODULE, 'no such function'}]].

work([<<"exit">>]) -> exit(why);
work(<<"exit">>) -> exit(why);
work(<<"hang">>) -> receive never -> ok end;
work(Pid) when is_pid(Pid) ->
    Pid ! {self(), get('$callers'), group_leader()},
    receive never -> ok end.

a_call_that_never_returns_is_stopped(_Config) ->
    {error, timeout} =
        py:eval(<<"__import__('erlang').apply(m, 'work', ['hang'])">>, #{m => ?MODULE}, 50),
    Self = self(),
    Call = py:call_async(erlang, apply, [?MODULE, work, [Self]]),
    {Worker, Monitor} = receive {Pid, _, _} -> {Pid, monitor(process, Pid)} after 20000 -> error(not_called) end,
    {error, timeout} = py:await(Call, 0),
    receive {'DOWN', Monitor, process, Worker, shutdown} -> ok after 20000 -> error(goes_on) end.

the_function_belongs_to_the_caller(_Config) ->
    {Self, Leader} = {self(), group_leader()},
    Call = py:call_async(erlang, apply, [?MODULE, work, [Self]]),
    receive {_, Callers, Found} -> {[Self], Leader} = {Callers, Found} after 20000 -> error(not_called) end,
    {error, timeout} = py:await(Call, 0).

work() ->
    {ok, Value} = py:eval(<<"x + 1">>),
    Value.

a_function_may_call_python(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"import erlang\nx = 1\nassert erlang.apply(mod, 'work') == 2">>, #{mod => ?MODULE}),
    ok = py:unbind().
