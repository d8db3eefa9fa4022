%% Do streams end whatever happens, and is nothing left of them?
-module(py_stream_ends_SUITE).
-compile([export_all, nowarn_export_all]).

-import(py_stream_SUITE, [count/0, noting/0, start/3, next/2, message/1, wait_closed/0,
                          spin_until/1]).

-define(WORKERS, 4).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [the_death_of_the_consumer_closes_it, the_death_of_the_consumer_takes_its_demand,
     the_death_of_the_consumer_stops_its_demand, a_refused_demand_is_forgotten,
     a_collected_handle_closes_it, unbind_closes_it, the_end_of_a_context_answers_an_open_demand,
     one_demand_is_told_of_the_end,
     an_unbound_context_says_so, an_interrupt_ends_it, an_interrupt_that_is_swallowed_ends_it,
     an_iterator_of_c_code_is_stopped, a_finally_that_hangs_costs_the_context,
     close_that_fails_is_no_harm, the_application_stops_under_it, the_youngest_is_closed_first,
     a_callback_within_a_stream, a_stream_within_a_callback,
     a_demand_after_the_end_of_a_callback_ends_it, the_code_of_a_stream_cannot_ask_it,
     close_cancels_an_open_demand, another_process_closes_it,
     no_stream_is_left].

init_per_suite(Config) ->
    ok = start_application(),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

start_application() ->
    py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, 500}]).

the_death_of_the_consumer_closes_it(Config) ->
    {ok, Ctx} = py:bind(new),
    [begin
         Pid = spawn(fun() ->
             {ok, S} = case Where of
                 unbound -> start(Config, noting(), [10]);
                 context -> py:ctx_stream(Ctx, '__main__', make, [10])
             end,
             ok = py:stream_next(S, 1),
             receive never -> S end
         end),
         ok = py_test:wait_until(fun() -> notes_or_none() =:= [0] end),
         exit(Pid, kill),
         ok = wait_closed(),
         ok = py:exec(<<"del __import__('sys').py_stream_notes">>)
     end || Where <- [unbound, context],
            Where =:= unbound orelse ok =:= py:ctx_exec(Ctx, noting())],
    %% The context is not affected.
    {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>),
    ok = py:unbind(Ctx).

notes_or_none() ->
    {ok, Notes} = py:eval(<<"getattr(__import__('sys'), 'py_stream_notes', None)">>),
    Notes.

%% Regression: a refused demand counted as open for every demand after it.
a_refused_demand_is_forgotten(_Config) ->
    {Ctx, Blocker} = with_a_gate(),
    {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
    Blocked = Blocker(),
    Calls = call_until_refused(Ctx),
    [{error, overloaded} = py:stream_next(S, 1) || _ <- [1, 2]],
    ok = open_gate(Blocked),
    [{ok, 1} = py:await(Call) || Call <- Calls],
    {items, [0]} = next(S, 1),
    done = next(S, 1),
    %% A stream that is over says so at once.
    Again = Blocker(),
    done = next(S, 1),
    ok = open_gate(Again),
    ok = py:unbind(Ctx).

call_until_refused(Ctx) ->
    case py:ctx_call_async(Ctx, builtins, int, [1]) of
        {py_pending, _, _, {error, overloaded}} -> [];
        Call -> [Call | call_until_refused(Ctx)]
    end.

%% Returns a context whose function `wait' waits at a gate, and a fun that has `wait' called.
with_a_gate() ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys, threading
sys.py_stream_gate = threading.Event()
gate = sys.py_stream_gate
def wait():
    gate.clear()
    sys.py_test_mark = 1
    return gate.wait(30)
def gen():
    yield 0
">>),
    {Ctx, fun() ->
        Blocker = py_test:start_call(fun() -> py:ctx_eval(Ctx, <<"wait()">>) end),
        ok = py_test:wait_for_mark(),
        Blocker
    end}.

open_gate(Blocker) ->
    ok = py:exec(<<"import sys\nsys.py_stream_gate.set()">>),
    {ok, true} = py_test:result(Blocker),
    ok.

the_death_of_the_consumer_takes_its_demand(_Config) ->
    {Ctx, Blocker} = with_a_gate(),
    Consumer = consumer(Ctx),
    Blocked = Blocker(),
    Consumer ! ask,
    ok = py_test:wait_pending(2),
    exit(Consumer, kill),
    ok = py_test:wait_pending(1),
    ok = open_gate(Blocked),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx),
    wait_nothing_left().

%% Regression: the demand blocked the context for good.
the_death_of_the_consumer_stops_its_demand(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys
def gen():
    sys.py_test_mark = 1
    while True: pass
    yield
">>),
    Consumer = consumer(Ctx),
    Consumer ! ask,
    ok = py_test:wait_for_mark(),
    exit(Consumer, kill),
    {ok, 2} = py:ctx_eval(Ctx, <<"1 + 1">>, #{}, 5000),
    ok = py:unbind(Ctx).

%% Starts a process with a stream of `gen', which makes a demand when it is told to.
consumer(Ctx) ->
    Self = self(),
    Pid = spawn(fun() ->
        {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
        Self ! {self(), started},
        receive ask -> ok end,
        ok = py:stream_next(S, 1),
        receive never -> S end
    end),
    receive {Pid, started} -> Pid after 5000 -> error(not_started) end.

a_collected_handle_closes_it(Config) ->
    start_and_forget(Config),
    true = erlang:garbage_collect(),
    ok = wait_closed().

start_and_forget(Config) ->
    {ok, S} = start(Config, noting(), [10]),
    {items, [0]} = next(S, 1),
    ok.

unbind_closes_it(_Config) ->
    ok = py:bind(),
    ok = py:exec(noting()),
    {ok, S} = py:stream_start('__main__', make, [10]),
    {items, [0]} = next(S, 1),
    ok = py:unbind(),
    ok = wait_closed(),
    {error, context_not_bound} = next(S, 1),
    done = next(S, 1).

%% Two streams: the demand of one runs, that of the other waits.
the_end_of_a_context_answers_an_open_demand(_Config) ->
    [begin
         {ok, Ctx} = py:bind(new),
         ok = py:ctx_exec(Ctx, <<"
import sys
def gen():
    sys.py_test_mark = 1
    ", Code/binary, "
    yield
">>),
         {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
         {ok, T} = py:ctx_stream(Ctx, '__main__', gen, []),
         [ok = py:stream_next(Stream, 1) || Stream <- [S, T]],
         ok = py_test:wait_for_mark(),
         ok = py:unbind(Ctx),
         {error, interrupted} = message(S),
         {error, context_not_bound} = message(T),
         [done = next(Stream, 1) || Stream <- [S, T, S, T]],
         ok = py_test:wait_for_abandoned(0)
     end || Code <- [<<"while True: pass">>, py_test:stuck(2)]],
    ok.

%% Regression: two messages said so, if the code had come to its end just before it would have been
%% interrupted.
one_demand_is_told_of_the_end(_Config) ->
    Gen = <<"
def gen():
    while True:
        for _ in range(2000): pass
        yield 0
">>,
    [begin
         %% The workers of the contexts before this one may still clean up.
         {ok, Ctx} = py:bind(new, #{wait => infinity}),
         ok = py:ctx_exec(Ctx, Gen),
         {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
         _ = spawn_link(fun() ->
             ok = spin_until(erlang:monotonic_time(microsecond) + Delay),
             ok = py:unbind(Ctx)
         end),
         {error, Reason} = next_error(S),
         true = lists:member(Reason, [interrupted, context_not_bound]),
         [done = next(S, 1) || _ <- [1, 2]]
     end || Delay <- lists:seq(1, 2000, 5)],
    ok.

next_error(S) ->
    case next(S, 1) of
        {items, [0]} -> next_error(S);
        Other -> Other
    end.

an_unbound_context_says_so(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:unbind(Ctx),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_stream(Ctx, builtins, range, [3]) end),
    ok.

%% The iterator runs no Python code in which an exception could be raised.
an_iterator_of_c_code_is_stopped(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, S} = py:ctx_stream(Ctx, itertools, repeat, [none]),
    ok = py:stream_next(S, 1 bsl 60),
    ok = py_test:wait_until(fun() -> py:interrupt(Ctx) =:= ok end),
    {error, interrupted} = message(S),
    ok = py:stream_close(S),
    ok = py:bind(),
    {error, {'OverflowError', _}} = py:stream_eval(<<"__import__('itertools').repeat(None)">>),
    ok = py:unbind(Ctx).

an_interrupt_ends_it(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
def gen():
    __import__('sys').py_test_mark = 1
    while True: pass
    yield
">>),
    {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
    ok = py:stream_next(S, 1),
    ok = py_test:wait_for_mark(),
    ok = py:interrupt(Ctx),
    {error, interrupted} = message(S),
    done = next(S, 1),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx).

%% Regression: the stream went on, after a demand without items.
an_interrupt_that_is_swallowed_ends_it(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys
sys.py_stream_notes = []
notes = sys.py_stream_notes
def gen():
    try:
        try:
            sys.py_test_mark = 1
            while True: pass
        except BaseException:
            while True: yield 1
    finally:
        notes.append('closed')
">>),
    {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
    ok = py:stream_next(S, 1),
    ok = py_test:wait_for_mark(),
    ok = py:interrupt(Ctx),
    {error, interrupted} = message(S),
    done = next(S, 1),
    ok = wait_closed(),
    ok = py:unbind(Ctx).

a_finally_that_hangs_costs_the_context(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
def gen():
    try:
        yield 1
    finally:
        ", (py_test:stuck(3))/binary, "
">>),
    {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
    {items, [1]} = next(S, 1),
    ok = py:stream_close(S),
    ok = py_test:wait_for_abandoned(1),
    {raised, context_not_bound} = py_test:caught(fun() -> py:ctx_eval(Ctx, <<"1">>) end),
    ok = py_test:wait_for_abandoned(0).

close_that_fails_is_no_harm(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys
seen = []
sys.unraisablehook = lambda u: seen.append(str(u.exc_value))
def gen():
    try:
        yield 1
    finally:
        raise ValueError('on purpose')
">>),
    {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
    {items, [1]} = next(S, 1),
    ok = py:stream_close(S),
    {ok, [<<"on purpose">>]} = py:ctx_eval(Ctx, <<"(seen, setattr(sys, 'unraisablehook', "
                                                   "sys.__unraisablehook__))[0]">>),
    ok = py:unbind(Ctx).

the_application_stops_under_it(Config) ->
    {ok, S} = start(Config, noting(), [10]),
    {items, [0]} = next(S, 1),
    ok = py_test:stop(),
    ok = py:stream_next(S, 1),
    {error, context_not_bound} = message(S),
    ok = py:stream_close(S),
    ok = start_application(),
    ok = wait_closed().

%% Regression: the stream that was asked last was closed first.
the_youngest_is_closed_first(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys
sys.py_stream_notes = []
notes = sys.py_stream_notes
def gen(name):
    try:
        while True: yield name
    finally:
        notes.extend((name, 'closed'))
">>),
    Started = [{Name, py:ctx_stream(Ctx, '__main__', gen, [Name])} || Name <- [1, 2, 3]],
    [{items, [Name]} = next(S, 1) || {Name, {ok, S}} <- lists:reverse(Started)],
    ok = py:unbind(Ctx),
    ok = py_test:wait_until(fun() ->
        {ok, Notes} = py:eval(<<"__import__('sys').py_stream_notes">>),
        length(Notes) =:= 6 orelse Notes
    end),
    {ok, [3, _, 2, _, 1, _]} = py:eval(<<"__import__('sys').py_stream_notes">>).

a_callback_within_a_stream(_Config) ->
    ok = py:bind(),
    ok = py:register_function(double, fun([N]) -> {ok, V} = py:eval(<<"k * n">>, #{n => N}), V end),
    ok = py:exec(<<"
import erlang
k = 2
def gen(n):
    for i in range(n): yield erlang.double(i)
">>),
    {ok, S} = py:stream_start('__main__', gen, [4]),
    {items, [0, 2, 4]} = next(S, 3),
    {items, [6]} = next(S, 3),
    ok = py:stream_close(S).

a_stream_within_a_callback(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:register_function(within, fun([]) ->
        {ok, S} = py:ctx_stream(Ctx, '__main__', gen, [3]),
        {items, [0, 1]} = next(S, 2),
        ok = py:stream_close(S),
        ok
    end),
    ok = py:ctx_exec(Ctx, <<"
import erlang
def gen(n): yield from range(n)
erlang.within()
">>),
    %% The timeout of the call that waits bounds the demand.
    ok = py:register_function(endless, fun([]) ->
        {ok, S} = py:ctx_stream(Ctx, '__main__', stuck, []),
        next(S, 1)
    end),
    {error, timeout} = py:ctx_exec(Ctx, <<"
def stuck():
    while True: pass
    yield
erlang.endless()
">>, #{}, 200),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    %% The registered functions hold the context.
    [ok = py:unregister_function(Name) || Name <- [within, endless]],
    ok = py:unbind(Ctx).

%% Regression: the iterator stayed open for as long as its context.
a_demand_after_the_end_of_a_callback_ends_it(_Config) ->
    Self = self(),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, noting()),
    ok = py:register_function(outlive, fun([]) ->
        _ = process_flag(trap_exit, true),
        {ok, S} = py:ctx_stream(Ctx, '__main__', make, [10]),
        {items, [0]} = next(S, 1),
        receive {'EXIT', _, shutdown} -> ok end,
        Self ! {told, self(), [next(S, 1) || _ <- [1, 2]]},
        receive finish -> S end
    end),
    {error, timeout} = py:ctx_exec(Ctx, <<"__import__('erlang').outlive()">>, #{}, 500),
    {Pid, Told} = receive {told, P, Messages} -> {P, Messages} after 5000 -> error(not_told) end,
    [{error, context_not_bound}, done] = Told,
    ok = wait_closed(),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    Pid ! finish,
    ok = py:unregister_function(outlive),
    ok = py:unbind(Ctx).

%% The process of a function that the code of a stream calls is not the consumer of that stream.
the_code_of_a_stream_cannot_ask_it(_Config) ->
    Self = self(),
    ok = py:register_function(ask, fun([]) ->
        Self ! {asks, self()},
        S = receive {asked, Asked} -> Asked end,
        {raised, badarg} = py_test:caught(fun() -> py:stream_next(S, 1) end),
        none
    end),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, iolist_to_binary([noting(), "
def ask():
    import erlang
    try:
        while True: yield erlang.ask()
    finally:
        notes.append('closed')
"])),
    {ok, S} = py:ctx_stream(Ctx, '__main__', ask, []),
    [begin
         ok = py:stream_next(S, 1),
         receive {asks, Pid} -> Pid ! {asked, S} end,
         {error, busy} = py:stream_next(S, 1),
         {items, [none]} = message(S)
     end || _ <- [1, 2]],
    ok = py:stream_close(S),
    ok = wait_closed(),
    ok = py:unregister_function(ask),
    ok = py:unbind(Ctx),
    wait_nothing_left().

%% The demand waits, so there is no code to interrupt.
close_cancels_an_open_demand(_Config) ->
    {Ctx, Blocker} = with_a_gate(),
    {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
    Blocked = Blocker(),
    ok = py:stream_next(S, 1),
    ok = py_test:wait_pending(2),
    ok = py:stream_close(S),
    ok = py_test:wait_pending(1),
    done = next(S, 1),
    ok = open_gate(Blocked),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py_test:assert_empty_mailbox(),
    ok = py:unbind(Ctx).

%% The stream is closed by another process, under an open demand: no message is sent to the
%% consumer.
another_process_closes_it(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import sys
def gen():
    sys.py_test_mark = 1
    while True: pass
    yield
">>),
    {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
    ok = py:stream_next(S, 1),
    ok = py_test:wait_for_mark(),
    ok = py_test:in_process(fun() -> py:stream_close(S) end),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>),
    ok = py_test:assert_empty_mailbox(),
    done = next(S, 1),
    ok = py:unbind(Ctx).

no_stream_is_left(Config) ->
    [begin
         {ok, S} = start(Config, count(), [3]),
         {items, [0]} = next(S, 1),
         ok = py:stream_close(S)
     end || _ <- lists:seq(1, 100)],
    wait_nothing_left().

wait_nothing_left() ->
    py_test:wait_until(fun() ->
        erlang:garbage_collect(),
        erlang:garbage_collect(whereis(py_pool)),
        case py_pool:get_stats() of
            #{resources := #{streams := 0, jobs := 0, contexts := 0}} -> true;
            Stats -> Stats
        end
    end).
