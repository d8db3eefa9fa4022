%% Does every example of the contract run as written?
-module(py_contract_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [process_implicit_binding,
     checking_binding_status,
     explicit_contexts,
     context_aware_functions,
     scoped_helper_with_implicit_binding,
     scoped_helper_with_explicit_context,
     process_death_returns_the_worker,
     worker_crash_cleans_up_the_binding,
     stateful_computation,
     database_connections,
     incremental_processing,
     pool_statistics,
     no_workers_available,
     context_not_bound].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 8}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(8),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:unbind(),
    ok = py_test:wait_available(8),
    py_test:assert_empty_mailbox().

process_implicit_binding(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"counter = 0">>),
    ok = py:exec(<<"counter += 1">>),
    {ok, 1} = py:eval(<<"counter">>),
    ok = py:exec(<<"counter += 1">>),
    {ok, 2} = py:eval(<<"counter">>),
    ok = py:unbind().

checking_binding_status(_Config) ->
    false = py:is_bound(),
    ok = py:bind(),
    true = py:is_bound(),
    ok = py:unbind(),
    false = py:is_bound().

explicit_contexts(_Config) ->
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    ok = py:ctx_exec(Ctx1, <<"x = 'context one'">>),
    ok = py:ctx_exec(Ctx2, <<"x = 'context two'">>),
    {ok, <<"context one">>} = py:ctx_eval(Ctx1, <<"x">>),
    {ok, <<"context two">>} = py:ctx_eval(Ctx2, <<"x">>),
    ok = py:unbind(Ctx1),
    ok = py:unbind(Ctx2).

context_aware_functions(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, 4.0} = py:ctx_call(Ctx, math, sqrt, [16]),
    Dumps = #{sort_keys => true, separators => {<<",">>, <<":">>}},
    {ok, <<"{\"a\":1,\"b\":2}">>} = py:ctx_call(Ctx, json, dumps, [#{b => 2, a => 1}], Dumps),
    {ok, <<"[]">>} = py:ctx_call(Ctx, json, dumps, [[]], #{}, 5000),
    {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>),
    {ok, 5} = py:ctx_eval(Ctx, <<"x + y">>, #{x => 2, y => 3}),
    {ok, 6} = py:ctx_eval(Ctx, <<"x * y">>, #{x => 2, y => 3}, 5000),
    ok = py:ctx_exec(Ctx, <<"z = 1">>),
    ok = py:ctx_exec(Ctx, <<"z += n">>, #{n => 2}),
    ok = py:ctx_exec(Ctx, <<"z += n">>, #{n => 3}, 5000),
    {ok, 6} = py:ctx_eval(Ctx, <<"z">>),
    ok = py:unbind(Ctx).

scoped_helper_with_implicit_binding(_Config) ->
    Result = py:with_context(fun() ->
        ok = py:exec(<<"total = 0">>),
        ok = py:exec(<<"for i in range(10): total += i">>),
        py:eval(<<"total">>)
    end),
    {ok, 45} = Result,
    false = py:is_bound().

scoped_helper_with_explicit_context(_Config) ->
    Result = py:with_context(fun(Ctx) ->
        ok = py:ctx_exec(Ctx, <<"import json">>),
        ok = py:ctx_exec(Ctx, <<"data = {'key': 'value'}">>),
        py:ctx_eval(Ctx, <<"json.dumps(data)">>)
    end),
    {ok, <<"{\"key\": \"value\"}">>} = Result.

process_death_returns_the_worker(_Config) ->
    Self = self(),
    Pid = spawn(fun() ->
        ok = py:bind(),
        ok = py:exec(<<"work = 'some'">>),
        Self ! {self(), py_pool:get_stats()},
        exit(normal)
    end),
    receive {Pid, #{available_workers := 7, checked_out := 1}} -> ok end,
    ok = py_test:wait_available(8).

%% A Rust panic that passes through Python is the only way to crash a worker and not the VM.
worker_crash_cleans_up_the_binding(_Config) ->
    ok = py:bind(),
    {error, {'ZeroDivisionError', _}} = py:eval(<<"1 / 0">>),
    {error, worker_crashed} = py:exec(<<"
panic = next(c for c in BaseException.__subclasses__() if c.__name__ == 'PanicException')
raise panic('on purpose')
">>),
    false = py:is_bound(),
    ok = py:bind(),
    {ok, false} = py:eval(<<"'panic' in globals()">>),
    ok = py:unbind().

stateful_computation(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "model.pkl"),
    ok = py:exec(<<"
import pickle
from collections import OrderedDict
with open(path, 'wb') as f:
    pickle.dump(OrderedDict(weights=[1, 10, 100]), f)
">>, #{path => unicode:characters_to_binary(File)}),
    {<<"model">>, 321, 654} = py:with_context(fun() ->
        ok = py:exec(<<"
import pickle
class Model:
    def __init__(self, weights):
        self.weights = weights
    def predict(self, rows):
        return sum(w * x for w, x in zip(self.weights, rows[0]))
with open(path, 'rb') as f:
    model = Model(pickle.load(f)['weights'])
">>, #{path => unicode:characters_to_binary(File)}),
        {ok, Pred1} = py:eval(<<"model.predict([[1, 2, 3]])">>),
        {ok, Pred2} = py:eval(<<"model.predict([[4, 5, 6]])">>),
        {<<"model">>, Pred1, Pred2}
    end).

database_connections(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"
import sqlite3
conn = sqlite3.connect(':memory:')
cursor = conn.cursor()
cursor.execute('CREATE TABLE users (id INTEGER, name TEXT)')
">>),
    ok = py:exec(<<"cursor.execute('INSERT INTO users VALUES (1, \"Alice\")')">>),
    ok = py:exec(<<"cursor.execute('INSERT INTO users VALUES (2, \"Bob\")')">>),
    {ok, Users} = py:eval(<<"cursor.execute('SELECT * FROM users').fetchall()">>),
    [{1, <<"Alice">>}, {2, <<"Bob">>}] = Users,
    ok = py:exec(<<"conn.close()">>),
    ok = py:unbind().

incremental_processing(_Config) ->
    Items = [1, 2, 3],
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
def process_item(item):
    return item * item
">>),
    ok = py:ctx_exec(Ctx, <<"results = []">>),
    lists:foreach(fun(Item) ->
        ok = py:ctx_exec(Ctx, <<"results.append(process_item(item))">>,
                         #{item => Item})
    end, Items),
    {ok, Results} = py:ctx_eval(Ctx, <<"results">>),
    [1, 4, 9] = Results,
    ok = py:unbind(Ctx).

pool_statistics(_Config) ->
    {ok, Ctx1} = py:bind(new),
    {ok, Ctx2} = py:bind(new),
    Stats = py_pool:get_stats(),
    #{
        num_workers := 8,
        available_workers := 6, %% 2 workers are checked out
        checked_out := 2,
        pending_requests := 0
    } = Stats,
    ok = py:unbind(Ctx1),
    ok = py:unbind(Ctx2).

no_workers_available(_Config) ->
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, 8)],
    {error, no_workers_available} = py:bind(),
    {error, no_workers_available} = py:bind(new),
    lists:foreach(fun(Ctx) -> ok = py:unbind(Ctx) end, Contexts),
    ok = py:bind(),
    ok = py:unbind().

context_not_bound(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:unbind(Ctx),
    try py:ctx_eval(Ctx, <<"1 + 1">>) of
        Result -> error({unexpected, Result})
    catch
        error:context_not_bound -> ok
    end.
