%% Do streams bring the items that are asked for, and nothing else?
-module(py_stream_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 4).
-define(GRACE, 500).

suite() ->
    [{timetrap, {seconds, 60}}].

%% The same cases from a bound process, in a context and unbound.
all() ->
    [{group, bound}, {group, context}, {group, unbound}].

groups() ->
    Anywhere = [items_come_in_batches, a_short_batch_comes_before_done, nothing_is_produced_unasked,
                demands_are_met_in_order, a_second_demand_is_busy,
                a_demand_is_open_until_its_message_is_sent,
                a_demand_of_another_process_is_badarg, an_error_comes_after_the_items_before_it,
                an_error_at_the_start_is_returned, what_is_no_iterable_is_an_error,
                what_is_no_asynchronous_iterator_is_an_error,
                an_iterator_that_ceases_to_be_one_fails,
                an_item_without_a_form_is_an_error, asynchronous_generators,
                a_stream_that_is_over_says_done, demands_past_the_end_are_done, close_runs_finally,
                close_stops_what_runs, close_closes_what_runs, close_leaves_no_message],
    [{bound, [], Anywhere},
     {context, [], [other_calls_run_in_between, a_stream_keeps_its_context,
                    an_error_comes_before_the_done_after_it | Anywhere]},
     {unbound, [], [a_stream_has_a_worker_until_it_is_done, no_worker_is_an_error,
                    what_is_asked_wrongly_is_badarg | Anywhere]}].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    ok = start_pool(?GRACE),
    [{place, Group} | Config].

start_pool(Grace) ->
    py_test:start_with([{num_workers, ?WORKERS}, {interrupt_grace, Grace}]).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(?WORKERS),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(?WORKERS).

%% Starts a stream of the result of `make(*Args)', which Code defines. One call makes both, so the worker that has
%% the stream has the function.
start(Config, Code, Args) ->
    Names = #{names => #{}, code => Code, args => Args},
    Made = [<<"(exec(code, names), names['make'](*args))[1]">>, Names],
    case proplists:get_value(place, Config) of
        bound ->
            ok = py:bind(),
            py:stream_start(builtins, eval, Made);
        context ->
            ok = leave(),
            {ok, Ctx} = py:bind(new),
            Started = py:ctx_stream(Ctx, builtins, eval, Made),
            _ = erlang:put(context, Ctx),
            Started;
        _ ->
            py:stream_start(builtins, eval, Made)
    end.

count() ->
    <<"
def make(n):
    for i in range(n):
        yield i
">>.

%% Code of a generator that notes its steps in `sys'.
noting() ->
    <<"
import sys
sys.py_stream_notes = []
notes = sys.py_stream_notes
def make(n):
    try:
        for i in range(n):
            notes.append(i)
            yield i
    finally:
        notes.append('closed')
">>.

notes() ->
    {ok, Notes} = py:eval(<<"__import__('sys').py_stream_notes">>),
    Notes.

wait_closed() ->
    py_test:wait_until(fun() -> lists:last([none | notes()]) =:= <<"closed">> orelse notes() end).

next(Stream, Count) ->
    ok = py:stream_next(Stream, Count),
    message(Stream).

message(Stream) ->
    receive {py_stream, Stream, What} -> What after 5000 -> error(no_message) end.

close(Stream) ->
    ok = py:stream_close(Stream),
    leave().

%% Ends the context that `start' has made, if it has.
leave() ->
    case erlang:erase(context) of
        undefined -> ok;
        Ctx -> py:unbind(Ctx)
    end.

%%% From anywhere

items_come_in_batches(Config) ->
    {ok, S} = start(Config, count(), [5]),
    {items, [0, 1]} = next(S, 2),
    {items, [2, 3]} = next(S, 2),
    {items, [4]} = next(S, 2),
    done = next(S, 2),
    close(S).

a_short_batch_comes_before_done(Config) ->
    {ok, S} = start(Config, count(), [3]),
    {items, [0, 1, 2]} = next(S, 100),
    done = next(S, 100),
    close(S),
    {ok, Empty} = start(Config, count(), [0]),
    done = next(Empty, 1),
    close(Empty).

nothing_is_produced_unasked(Config) ->
    {ok, S} = start(Config, noting(), [10]),
    [] = notes(),
    {items, [0, 1]} = next(S, 2),
    [0, 1] = notes(),
    close(S),
    ok = wait_closed(),
    [0, 1, <<"closed">>] = notes().

demands_are_met_in_order(Config) ->
    {ok, S} = start(Config, count(), [100]),
    Items = [N || _ <- lists:seq(1, 100), {items, [N]} <- [next(S, 1)]],
    Items = lists:seq(0, 99),
    close(S).

a_second_demand_is_busy(Config) ->
    {ok, S} = start(Config, gated(), [2]),
    ok = py:stream_next(S, 1),
    ok = py_test:in_process(fun py_test:wait_for_mark/0),
    [{error, busy} = py:stream_next(S, Count) || Count <- [1, 5, 1 bsl 40]],
    ok = py_test:in_process(fun open_gate/0),
    {items, [0]} = message(S),
    %% The refused demands have led to nothing.
    {items, [1]} = next(S, 10),
    done = next(S, 1),
    close(S).

%% Code of a generator that waits for `open_gate/0' before each item.
gated() ->
    <<"
import sys, threading
sys.py_stream_gate = threading.Event()
gate = sys.py_stream_gate
def make(n):
    for i in range(n):
        sys.py_test_mark = 1
        gate.wait(30)
        yield i
">>.

open_gate() ->
    py:exec(<<"__import__('sys').py_stream_gate.set()">>).

%% The message of a demand is in the mailbox as soon as the next demand is accepted.
a_demand_is_open_until_its_message_is_sent(Config) ->
    {ok, S} = start(Config, count(), [100000]),
    [begin
         ok = py:stream_next(S, 1),
         ok = ask_when_settled(S),
         {items, [N]} = receive {py_stream, S, What} -> What after 0 -> error(not_sent) end,
         {items, [_]} = message(S),
         %% The demand is open no longer than that.
         {items, [_]} = next(S, 1)
     end || N <- lists:seq(0, 2999, 3)],
    close(S).

ask_when_settled(S) ->
    case py:stream_next(S, 1) of
        {error, busy} -> ask_when_settled(S);
        ok -> ok
    end.

a_demand_of_another_process_is_badarg(Config) ->
    {ok, S} = start(Config, count(), [3]),
    ok = py_test:in_process(fun() -> not_the_consumer(S) end),
    {items, [0]} = next(S, 1),
    ok = py_test:in_process(fun() -> not_the_consumer(S) end),
    {items, [1, 2]} = next(S, 2),
    done = next(S, 1),
    %% A demand on a stream that is over is `badarg' as well.
    ok = py_test:in_process(fun() -> not_the_consumer(S) end),
    close(S).

not_the_consumer(S) ->
    {raised, badarg} = py_test:caught(fun() -> py:stream_next(S, 1) end),
    py_test:assert_empty_mailbox().

an_error_comes_after_the_items_before_it(Config) ->
    {ok, S} = start(Config, <<"
def make():
    yield 1
    yield 2
    raise ValueError('three')
">>, []),
    {items, [1, 2]} = next(S, 10),
    {error, {'ValueError', #{message := <<"three">>}}} = next(S, 10),
    done = next(S, 10),
    close(S).

an_error_at_the_start_is_returned(Config) ->
    {error, {'ValueError', _}} = start(Config, <<"
def make():
    raise ValueError
">>, []),
    leave().

what_is_no_iterable_is_an_error(Config) ->
    {error, {'TypeError', _}} = start(Config, <<"make = int">>, []),
    leave().

%% Regression: the object was asked as an iterator nevertheless, and the VM crashed.
what_is_no_asynchronous_iterator_is_an_error(Config) ->
    {error, {'TypeError', #{message := Text}}} = start(Config, <<"
class make:
    def __aiter__(self): return 5
">>, []),
    %% The text is another one from Python 3.15 on.
    {match, _} = re:run(Text, "async iterator.* '?int'?$"),
    ok = leave(),
    {error, {'TypeError', _}} = start(Config, <<"
class make:
    def __aiter__(self): return self
">>, []),
    leave().

%% Regression: the same crash, in the middle of a stream.
an_iterator_that_ceases_to_be_one_fails(Config) ->
    [begin
         {ok, S} = start(Config, Code, []),
         {items, [1]} = next(S, 1),
         {error, {Type, _}} = next(S, 1),
         done = next(S, 1),
         ok = close(S)
     end || {Type, Code} <- [{'AttributeError', <<"
class make:
    def __aiter__(self): return self
    async def __anext__(self):
        del make.__anext__
        return 1
">>}, {'TypeError', <<"
class Other: pass
class make:
    def __iter__(self): return self
    def __next__(self):
        self.__class__ = Other
        return 1
">>}]],
    ok.

an_item_without_a_form_is_an_error(Config) ->
    {ok, S} = start(Config, <<"
def make():
    yield 1
    x = []
    x.append(x)
    yield x
">>, []),
    {items, [1]} = next(S, 1),
    {error, {unconvertible, #{reason := cycle}}} = next(S, 1),
    done = next(S, 1),
    close(S).

asynchronous_generators(Config) ->
    {ok, S} = start(Config, <<"
import asyncio, sys
sys.py_stream_notes = []
notes = sys.py_stream_notes
async def make(n):
    try:
        for i in range(n):
            await asyncio.sleep(0.001)
            yield i
    finally:
        await asyncio.sleep(0.001)
        notes.append('closed')
">>, [5]),
    {items, [0, 1, 2]} = next(S, 3),
    {items, [3]} = next(S, 1),
    close(S),
    ok = wait_closed(),
    {ok, Whole} = start(Config, <<"
async def make():
    yield 1
">>, []),
    {items, [1]} = next(Whole, 5),
    done = next(Whole, 5),
    close(Whole).

a_stream_that_is_over_says_done(Config) ->
    {ok, S} = start(Config, count(), [0]),
    [done = next(S, 1) || _ <- lists:seq(1, 3)],
    close(S),
    done = next(S, 1),
    ok.

%% Regression: demands on a stream with a worker of its own were told that the context had ended.
demands_past_the_end_are_done(Config) ->
    [begin
         {ok, S} = start(Config, count(), [3]),
         {items, [0, 1, 2]} = next(S, 3),
         [done = next(S, 3) || _ <- lists:seq(2, 20)],
         %% Several answers at once: no demand is open.
         [ok = py:stream_next(S, 3) || _ <- lists:seq(1, 20)],
         [done = message(S) || _ <- lists:seq(1, 20)],
         close(S)
     end || _ <- lists:seq(1, 20)].

close_runs_finally(Config) ->
    {ok, S} = start(Config, noting(), [10]),
    {items, [0]} = next(S, 1),
    close(S),
    close(S),
    ok = wait_closed().

close_stops_what_runs(Config) ->
    {ok, S} = start(Config, <<"
import sys
sys.py_stream_notes = []
notes = sys.py_stream_notes
def make():
    try:
        sys.py_test_mark = 1
        while True: pass
        yield 1
    finally:
        notes.append('closed')
">>, []),
    close_while_it_runs(Config, S).

%% Regression: the iterator was forgotten, since the interruption itself closes a generator only.
close_closes_what_runs(Config) ->
    %% The close takes longer than a twentieth of the grace, after which an exception would be raised
    %% again, and much less than the grace.
    ok = start_pool(5000),
    {ok, S} = start(Config, <<"
import sys, time
sys.py_stream_notes = []
notes = sys.py_stream_notes
class make:
    def __iter__(self): return self
    def __next__(self):
        sys.py_test_mark = 1
        while True: pass
    def close(self):
        for _ in range(3): time.sleep(0.1)
        notes.append('closed')
">>, []),
    close_while_it_runs(Config, S),
    ok = start_pool(?GRACE),
    {ok, T} = start(Config, <<"
import sys
sys.py_stream_notes = []
notes = sys.py_stream_notes
class make:
    def __aiter__(self): return self
    async def __anext__(self):
        sys.py_test_mark = 1
        while True: pass
    async def aclose(self): notes.append('closed')
">>, []),
    close_while_it_runs(Config, T).

close_while_it_runs(Config, S) ->
    ok = py:stream_next(S, 1),
    case proplists:get_value(place, Config) of
        bound -> py_test:in_process(fun py_test:wait_for_mark/0);
        _ -> py_test:wait_for_mark()
    end,
    close(S),
    ok = py_test:in_process(fun wait_closed/0).

close_leaves_no_message(Config) ->
    [begin
         {ok, S} = start(Config, count(), [100]),
         {items, [0, 1, 2]} = next(S, 3),
         ok = py:stream_next(S, 3),
         close(S),
         ok = py_test:assert_empty_mailbox(),
         %% A message does not come later, either. A context that is about to end has its worker still.
         ok = py_test:wait_until(fun() -> {ok, 1} =:= py:eval(<<"1">>) end),
         ok = py_test:assert_empty_mailbox()
     end || _ <- lists:seq(1, 50)].

%%% Contexts

other_calls_run_in_between(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
x = 0
def gen():
    while True: yield x
">>),
    {ok, S} = py:ctx_stream(Ctx, '__main__', gen, []),
    {items, [0]} = next(S, 1),
    ok = py:ctx_exec(Ctx, <<"x = 7">>),
    {items, [7, 7]} = next(S, 2),
    {ok, 7} = py:ctx_eval(Ctx, <<"x">>),
    {ok, T} = py:ctx_stream(Ctx, '__main__', gen, [], #{}),
    {items, [7]} = next(T, 1),
    ok = py:stream_close(T),
    {items, [7]} = next(S, 1),
    ok = py:stream_close(S),
    ok = py:unbind(Ctx).

a_stream_keeps_its_context(_Config) ->
    S = py_test:in_process(fun() -> one_in_a_context() end),
    %% The consumer has ended.
    {raised, badarg} = py_test:caught(fun() -> py:stream_next(S, 1) end),
    Mine = one_in_a_context(),
    true = erlang:garbage_collect(),
    {items, [0]} = next(Mine, 1),
    ok = py:stream_close(Mine).

one_in_a_context() ->
    {ok, Ctx} = py:bind(new),
    {ok, S} = py:ctx_stream(Ctx, builtins, range, [3]),
    S.

%%% Unbound

a_stream_has_a_worker_until_it_is_done(Config) ->
    {ok, S} = start(Config, count(), [1]),
    #{checked_out := 1} = py_pool:get_stats(),
    {items, [0]} = next(S, 10),
    done = next(S, 10),
    ok = py_test:wait_available(?WORKERS),
    {ok, T} = start(Config, count(), [1]),
    ok = py:stream_close(T),
    ok = py_test:wait_available(?WORKERS),
    {error, {'AttributeError', _}} = py:stream_start(math, nothing, []),
    ok = py_test:wait_available(?WORKERS).

no_worker_is_an_error(_Config) ->
    Contexts = [begin {ok, Ctx} = py:bind(new), Ctx end || _ <- lists:seq(1, ?WORKERS)],
    {error, no_workers_available} = py:stream_start(builtins, range, [3]),
    [ok = py:unbind(Ctx) || Ctx <- Contexts].

%% A message that is known at once must not overtake one that is about to be sent.
an_error_comes_before_the_done_after_it(_Config) ->
    {ok, Ctx} = py:bind(new),
    %% The traceback has frames by the hundred.
    {ok, Fail} = py:ctx_eval(Ctx, <<"(lambda f: lambda x: f(f, x))(lambda f, x: f(f, x))">>),
    {Time, ok} = timer:tc(fun() -> fail_and_ask_again(Ctx, Fail, 0) end),
    [ok = fail_and_ask_again(Ctx, Fail, N rem (2 * Time)) || N <- lists:seq(1, 20000, 20)],
    ok = py:unbind(Ctx).

%% Asks a second time Delay microseconds after the first, as soon as that is not refused.
fail_and_ask_again(Ctx, Fail, Delay) ->
    {ok, S} = py:ctx_stream(Ctx, builtins, map, [Fail, [1]]),
    ok = py:stream_next(S, 1),
    ok = spin_until(erlang:monotonic_time(microsecond) + Delay),
    ok = ask_when_settled(S),
    {error, {'RecursionError', _}} = message(S),
    done = message(S),
    py:stream_close(S).

%% Spins, since a sleep takes a millisecond at least.
spin_until(End) ->
    case erlang:monotonic_time(microsecond) < End of
        true -> spin_until(End);
        false -> ok
    end.

what_is_asked_wrongly_is_badarg(_Config) ->
    {ok, S} = py:stream_start(builtins, range, [3]),
    Bad = [fun() -> py:stream_next(S, 0) end, fun() -> py:stream_next(S, a) end,
           fun() -> py:stream_next(make_ref(), 1) end, fun() -> py:stream_close(1) end,
           fun() -> py:ctx_stream(self(), builtins, range, [3]) end,
           fun() -> py:stream(builtins, range, 3) end,
           fun() -> py:stream_start(1, range, []) end],
    [{raised, badarg} = py_test:caught(Call) || Call <- Bad],
    ok = py:stream_close(S).
