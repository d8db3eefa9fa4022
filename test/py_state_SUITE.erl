%% Do Erlang and all Python code share one state, within its cap?
-module(py_state_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_value_is_stored_fetched_listed_and_removed,
     python_and_erlang_see_the_same_state,
     every_context_sees_the_same_state,
     the_state_is_a_mutable_mapping,
     keys_are_any_terms,
     an_object_is_no_key,
     an_unconvertible_value_loses_nothing,
     counters_lose_no_increment,
     a_counter_of_no_integer_is_refused,
     a_counter_beyond_all_integers_is_refused,
     the_cap_refuses_and_loses_nothing,
     a_huge_value_is_refused,
     a_crash_of_the_server_loses_nothing,
     the_state_ends_with_the_application].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(the_cap_refuses_and_loses_nothing, Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {max_state, 4000}]),
    Config;
init_per_testcase(_Case, Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}]),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:assert_empty_mailbox().

a_value_is_stored_fetched_listed_and_removed(_Config) ->
    {error, not_found} = py:state_fetch(key),
    ok = py:state_store(key, [1, {two, <<"3">>}]),
    {ok, [1, {two, <<"3">>}]} = py:state_fetch(key),
    ok = py:state_store(key, other),
    {ok, other} = py:state_fetch(key),
    [key] = py:state_keys(),
    ok = py:state_remove(key),
    {error, not_found} = py:state_remove(key),
    [] = py:state_keys(),
    ok = py:state_store(a, 1),
    ok = py:state_store(b, 2),
    [a, b] = lists:sort(py:state_keys()),
    ok = py:state_clear(),
    [] = py:state_keys().

python_and_erlang_see_the_same_state(_Config) ->
    ok = py:state_store(<<"limits">>, #{<<"max">> => 3}),
    ok = py:exec(<<"
import erlang
assert erlang.state['limits'] == {'max': 3}
erlang.state['seen'] = [1, 2.5, ('x', None)]
assert erlang.state.incr('hits') == 1
assert erlang.state.incr('hits', 10) == 11
">>),
    {ok, [1, 2.5, {<<"x">>, none}]} = py:state_fetch(<<"seen">>),
    12 = py:state_incr(<<"hits">>),
    7 = py:state_incr(<<"hits">>, -5),
    {ok, 7} = py:eval(<<"__import__('erlang').state['hits']">>).

every_context_sees_the_same_state(_Config) ->
    {ok, One} = py:bind(new),
    {ok, Other} = py:bind(new),
    ok = py:ctx_exec(One, <<"import erlang; erlang.state['x'] = 'from one'">>),
    {ok, <<"from one">>} = py:ctx_eval(Other, <<"__import__('erlang').state['x']">>),
    ok = py:unbind(One),
    ok = py:unbind(Other),
    {ok, <<"from one">>} = py:eval(<<"__import__('erlang').state['x']">>).

the_state_is_a_mutable_mapping(_Config) ->
    ok = py:exec(<<"
import collections.abc, erlang
s = erlang.state
assert isinstance(s, collections.abc.MutableMapping)
assert len(s) == 0 and not s and list(s) == [] and s == {}
s['a'] = 1
s.update(b=2, c=3)
assert s == {'a': 1, 'b': 2, 'c': 3} and len(s) == 3 and 'a' in s and 'z' not in s
assert sorted(s.items()) == [('a', 1), ('b', 2), ('c', 3)]
assert s.get('z') is None and s.get('z', 5) == 5
assert s.pop('a') == 1 and s.pop('a', 'gone') == 'gone'
assert s.setdefault('b', 9) == 2 and s.setdefault('d', 9) == 9 and s['d'] == 9
del s['d']
for missing in (lambda: s['d'], lambda: s.pop('d'), lambda: s.__delitem__('d')):
    try:
        missing()
    except KeyError as error:
        assert error.args == ('d',)
    else:
        assert False
assert sorted(s.popitem() for _ in range(2)) == [('b', 2), ('c', 3)]
try:
    s.popitem()
except KeyError:
    pass
else:
    assert False
s['none'] = None
assert s['none'] is None and s.pop('none') is None
s['a'] = [1]
s['a'].append(2)
assert s['a'] == [1]
assert repr(s) == '<erlang.state with 1 keys>'
s.clear()
assert len(s) == 0
">>).

keys_are_any_terms(_Config) ->
    Keys = [atom, '$end_of_table', <<"text">>, <<255>>, 1, 1.0, 1 bsl 70, {tuple, [1]}, #{map => 1}, [1 | 2], [],
            self(), make_ref(), fun lists:reverse/1, <<1:3>>],
    [ok = py:state_store(Key, {value, Key}) || Key <- Keys],
    [{ok, {value, Key}} = py:state_fetch(Key) || Key <- Keys],
    Found = py:state_keys(),
    {[], []} = {Keys -- Found, Found -- Keys},
    {ok, [1, true, true]} =
        py:eval(<<"(lambda s: [s.incr(('k', 1)), pid in s, ref in s])(__import__('erlang').state)">>,
                #{pid => self(), ref => lists:nth(13, Keys)}),
    {ok, 1} = py:state_fetch({<<"k">>, 1}),
    %% A key without a form in Python spoils the list of all keys, and nothing else.
    {error, {_, #{message := Why}}} = py:eval(<<"list(__import__('erlang').state)">>),
    ok = py_test:contains(string:lowercase(Why), "improper"),
    {ok, true} = py:eval(<<"'text' in __import__('erlang').state">>),
    [ok = py:state_remove(Key) || Key <- Keys],
    [{<<"k">>, 1}] = py:state_keys().

an_object_is_no_key(_Config) ->
    ok = py:exec(<<"
import erlang
for key in (object(), (1, [object()]), frozenset(), {'a': print}):
    for use in (lambda: erlang.state.__setitem__(key, 1), lambda: erlang.state[key], lambda: key in erlang.state):
        try:
            use()
        except TypeError as error:
            assert 'cannot be a key' in str(error)
        else:
            assert False
assert len(erlang.state) == 0
">>).

an_unconvertible_value_loses_nothing(_Config) ->
    ok = py:state_store(<<"list">>, [1 | 2]),
    {error, {_, #{message := Why}}} = py:eval(<<"__import__('erlang').state['list']">>),
    ok = py_test:contains(string:lowercase(Why), "improper"),
    {error, {_, _}} = py:eval(<<"__import__('erlang').state.pop('list')">>),
    {ok, [1 | 2]} = py:state_fetch(<<"list">>),
    ok = py:exec(<<"
import erlang
erlang.state['x'] = 1
cycle = []
cycle.append(cycle)
for value in (cycle, '\\ud800', 1 << 5000000):
    try:
        erlang.state['x'] = value
    except Exception as error:
        assert 'convert' in str(error), error
    else:
        assert False
assert erlang.state['x'] == 1
">>),
    {ok, 1} = py:state_fetch(<<"x">>).

counters_lose_no_increment(_Config) ->
    Callers = [py_test:start_call(fun() ->
        ok = py:exec(<<"
import erlang
for _ in range(100):
    erlang.state.incr('n')
">>),
        [py:state_incr(<<"n">>, 2) || _ <- lists:seq(1, 100)],
        done
    end) || _ <- lists:seq(1, ?WORKERS)],
    [done = py_test:result(Caller) || Caller <- Callers],
    {ok, 1200} = py:state_fetch(<<"n">>).

a_counter_of_no_integer_is_refused(_Config) ->
    ok = py:state_store(<<"x">>, 1.5),
    {raised, badarg} = py_test:caught(fun() -> py:state_incr(<<"x">>) end),
    {raised, badarg} = py_test:caught(fun() -> py:state_incr(new, 1.5) end),
    {error, {'TypeError', _}} = py:eval(<<"__import__('erlang').state.incr('x')">>),
    {error, {'TypeError', _}} = py:eval(<<"__import__('erlang').state.incr('new', 1.5)">>),
    {ok, 1.5} = py:state_fetch(<<"x">>),
    [<<"x">>] = py:state_keys(),
    Big = 1 bsl 200,
    Big = py:state_incr(big, Big),
    {ok, true} = py:eval(<<"__import__('erlang').state.incr('other', 1 << 200) == 1 << 200">>).

%% Regression: the sum ended the server.
a_counter_beyond_all_integers_is_refused(_Config) ->
    Server = whereis(py_state),
    Biggest = 1 bsl biggest(1 bsl 20, 1 bsl 40),
    Biggest = py:state_incr(big, Biggest),
    {error, state_full} = py:state_incr(big, Biggest),
    {ok, Biggest} = py:state_fetch(big),
    Server = whereis(py_state).

%% Returns the biggest shift that an integer may have.
biggest(Good, Bad) when Bad - Good =:= 1 ->
    Good;
biggest(Good, Bad) ->
    Middle = (Good + Bad) div 2,
    try 1 bsl Middle of
        _ -> biggest(Middle, Bad)
    catch
        error:system_limit -> biggest(Good, Middle)
    end.

the_cap_refuses_and_loses_nothing(_Config) ->
    Half = binary:copy(<<"x">>, 1500),
    ok = py:state_store(one, Half),
    {error, state_full} = py:state_store(two, binary:copy(Half, 2)),
    %% The value that is replaced makes room for the new one.
    ok = py:state_store(one, binary:copy(<<"y">>, 1600)),
    {error, state_full} = py:state_store(one, binary:copy(<<"z">>, 4000)),
    {ok, <<"yyy", _/binary>>} = py:state_fetch(one),
    [one] = py:state_keys(),
    Filled = fill(0),
    {error, state_full} = py:state_incr(new),
    %% The counters that there are have room to count.
    2 = py:state_incr({count, 1}),
    ok = py:exec(<<"
import erlang
for full in (lambda: erlang.state.__setitem__('new', 1), lambda: erlang.state.incr('new'),
             lambda: erlang.state.setdefault('new', 1)):
    try:
        full()
    except erlang.StateFull as error:
        assert isinstance(error, RuntimeError) and 'max_state' in str(error)
    else:
        assert False
assert 'new' not in erlang.state
">>),
    ok = py:state_remove(one),
    1 = py:state_incr(new),
    true = length(py:state_keys()) =:= Filled + 1,
    ok = py:state_clear(),
    Filled1 = fill(0),
    true = Filled1 > Filled.

%% Adds counters until the state is full; returns how many.
fill(Count) ->
    case py:state_incr({count, Count + 1}) of
        1 -> fill(Count + 1);
        {error, state_full} -> Count
    end.

a_huge_value_is_refused(_Config) ->
    ok = py:state_store(x, kept),
    {error, state_full} = py:state_store(x, binary:copy(<<0>>, 70000000)),
    {error, state_full} = py:state_store(x, lists:duplicate(5000000, 1)),
    {error, {'RuntimeError', #{class := <<"erlang.StateFull">>}}} =
        py:exec(<<"import erlang; erlang.state['x'] = bytes(70000000)">>),
    {ok, kept} = py:state_fetch(x).

a_crash_of_the_server_loses_nothing(_Config) ->
    ok = py:state_store(x, binary:copy(<<"x">>, 1000)),
    Old = whereis(py_state),
    exit(Old, kill),
    {ok, <<"x", _/binary>>} = py:state_fetch(x),
    ok = py_test:wait_until(fun() -> not lists:member(whereis(py_state), [Old, undefined]) end),
    1 = py:state_incr(n),
    {ok, <<"x", _/binary>>} = py:state_fetch(x).

the_state_ends_with_the_application(_Config) ->
    ok = py:state_store(x, 1),
    ok = py_test:stop(),
    [{raised, {not_started, erlang_python}} = py_test:caught(Fun)
     || Fun <- [fun() -> py:state_fetch(x) end, fun() -> py:state_store(x, 1) end, fun() -> py:state_keys() end,
                fun() -> py:state_incr(x) end, fun() -> py:state_clear() end, fun() -> py:state_remove(x) end]],
    ok = py_test:start(),
    [] = py:state_keys().
