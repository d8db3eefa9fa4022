%% Does code that switches stacks, by greenlet, leave a thread in order?
-module(py_greenlet_SUITE).
-compile([export_all, nowarn_export_all]).

%% A greenlet belongs to one thread.
-define(WORKERS, 1).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_job_may_end_before_one_nested_in_it, a_nested_job_that_never_goes_on_leaves_nothing,
     unbound_calls_may_end_before_one_nested_in_them].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}]),
    case py:exec(<<"import greenlet">>) of
        ok -> Config;
        {error, _} -> {skip, "no greenlet"}
    end.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Self = self(),
    ok = py:register_function(nest, fun([]) ->
        Self ! {nested, py:eval(<<"leave()">>, #{}, 10000)},
        done
    end),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:unregister_function(nest),
    ok = py_test:wait_until(fun() ->
        #{resources := #{callbacks := Callbacks}} = py_pool:get_stats(),
        Callbacks =:= 0 orelse Callbacks
    end),
    py_test:end_case(?WORKERS).

%% `second' calls Erlang, which calls back; the nested code then switches to `first', which returns.
-define(SWITCH, "
import erlang, greenlet
first = greenlet.getcurrent()
def leave():
    return first.switch('left')
def call():
    return erlang.nest()
second = greenlet.greenlet(call)
left = second.switch()
").

a_job_may_end_before_one_nested_in_it(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?SWITCH>>),
    {ok, <<"left">>} = py:ctx_eval(Ctx, <<"left">>),
    %% The nested job goes on in the middle of another one.
    {ok, <<"done">>} = py:ctx_eval(Ctx, <<"second.switch('back')">>),
    receive {nested, {error, interrupted}} -> ok after 10000 -> error(no_answer) end,
    {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>),
    ok = py:unbind(Ctx).

a_nested_job_that_never_goes_on_leaves_nothing(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?SWITCH>>),
    {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>),
    ok = py:unbind(Ctx),
    receive {nested, {error, _}} -> ok after 15000 -> error(no_answer) end.

unbound_calls_may_end_before_one_nested_in_them(_Config) ->
    ok = py:exec(<<?SWITCH "
import sys
sys.py_greenlet = second
">>),
    [{ok, 2} = py:eval(<<"1 + 1">>) || _ <- lists:seq(1, 20)],
    %% The greenlet is collected here: on another thread, it would end only when this one uses
    %% greenlets again.
    ok = py:exec(<<"import gc, sys; del sys.py_greenlet; gc.collect()">>),
    receive {nested, {error, _}} -> ok after 15000 -> error(no_answer) end,
    [{ok, 2} = py:eval(<<"1 + 1">>) || _ <- lists:seq(1, 20)].
