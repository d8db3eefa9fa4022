%% Can Erlang use the objects that stay in Python: call their methods, read their attributes, iterate over
%% them? And does an error say where in a result it lies?
-module(py_objects_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_handle_stands_for_a_module, methods, attributes, texts_and_types, values_of_handles, is_object,
     results_that_stay_in_python, streams_of_handles, streams_of_expressions, a_stream_has_a_timeout, calls_under_way,
     in_a_context, handles_of_an_ended_lease, bad_handles, a_handle_of_another_vm, options_that_do_not_fit, keyword_lists,
     a_failed_conversion_says_where, the_place_is_text].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(2),
    ok = py:bind(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:end_case(2).

counter() ->
    {ok, Counter} = py:run(<<"import collections\n"
                             "class Point:\n"
                             "    def __init__(self, x): self.x = x\n"
                             "    def plus(self, y, *, times=1): return self.x + y * times\n"
                             "    async def later(self): return self.x\n"
                             "    def __repr__(self): return f'P({self.x})'\n"
                             "p = Point(3)\n"
                             "p.inner = Point(4)\n"
                             "p">>),
    Counter.

a_handle_stands_for_a_module(_Config) ->
    P = counter(),
    {ok, 8} = py:call(P, plus, [5]),
    {ok, 13} = py:call(P, plus, [5], #{times => 2}),
    {ok, 9} = py:call(P, <<"inner.plus">>, [5]),
    {ok, 9} = py:call(P, "inner.plus", [5], #{}, 1000),
    {error, {'AttributeError', _}} = py:call(P, nothing, []),
    {error, {'TypeError', _}} = py:call(P, x, []),
    {ok, 3} = py:call(P, later, []).

methods(_Config) ->
    P = counter(),
    {ok, 8} = py:call_method(P, plus, [5]),
    {ok, 13} = py:call_method(P, <<"plus">>, [5], #{times => 2}),
    {ok, 13} = py:call_method(P, "plus", [5], [{times, 2}], #{timeout => 1000}),
    {ok, Handle} = py:call_method(P, '__class__', [1], #{}, #{return => object}),
    {ok, <<"P(1)">>} = py:repr(Handle),
    {error, timeout} = py:call_method(element(2, py:eval(<<"__import__('time')">>)), sleep, [60], #{}, 50).

attributes(_Config) ->
    P = counter(),
    {ok, 3} = py:getattr(P, x),
    {ok, 4} = py:getattr(P, <<"inner.x">>),
    {ok, 4} = py:getattr(P, "inner.x"),
    {ok, <<"Point">>} = py:getattr(P, '__class__.__name__'),
    {error, {'AttributeError', _}} = py:getattr(P, y),
    {error, {'AttributeError', _}} = py:getattr(P, <<>>).

texts_and_types(_Config) ->
    P = counter(),
    {ok, <<"P(3)">>} = py:str(P),
    {ok, <<"P(3)">>} = py:repr(P),
    {ok, <<"__main__.Point">>} = py:type(P),
    {ok, <<"a">>} = py:str(<<"a">>),
    {ok, <<"'a'">>} = py:repr(<<"a">>),
    {ok, <<"int">>} = py:type(1),
    {ok, <<"dict">>} = py:type(#{}),
    {ok, <<"NoneType">>} = py:type(none),
    {ok, Counter} = py:run(<<"collections.Counter()">>, #{}, #{return => object}),
    {ok, <<"collections.Counter">>} = py:type(Counter),
    {ok, Bad} = py:run(<<"class Bad:\n    def __str__(self): return 5\nBad()">>),
    {error, {'TypeError', _}} = py:str(Bad).

values_of_handles(_Config) ->
    {ok, List} = py:eval(<<"[1, 'a', None, {2: 3}]">>, #{}, #{return => object}),
    {ok, [1, <<"a">>, none, #{2 := 3}]} = py:to_term(List),
    {ok, none} = py:call(List, append, [4]),
    {ok, [_, _, _, _, 4]} = py:to_term(List),
    P = counter(),
    {ok, Again} = py:to_term(P),
    true = py:is_object(Again),
    {ok, 3} = py:getattr(Again, x).

is_object(_Config) ->
    true = py:is_object(counter()),
    {ok, Ctx} = py:bind(new),
    [false = py:is_object(Term) || Term <- [1, a, <<>>, [], {}, #{}, self(), make_ref(), fun() -> ok end, Ctx, 1.5]],
    ok = py:unbind(Ctx).

results_that_stay_in_python(_Config) ->
    [begin
         {ok, Handle} = Result,
         true = py:is_object(Handle),
         {ok, Value} = py:to_term(Handle)
     end || {Result, Value} <-
         [{py:eval(<<"5">>, #{}, #{return => object}), 5},
          {py:eval(<<"None">>, #{}, #{return => object}), none},
          {py:call(builtins, list, [[1, 2]], #{}, #{return => object}), [1, 2]},
          {py:run(<<"'x'">>, #{}, #{return => object, timeout => infinity}), <<"x">>},
          {py:stream(builtins, range, [3], #{}, #{return => object}), [0, 1, 2]}]],
    {ok, Big} = py:eval(<<"list(range(100000))">>, #{}, #{return => object}),
    {ok, 100000} = py:call(Big, '__len__', []),
    {ok, 5} = py:eval(<<"5">>, #{}, #{return => term}).

streams_of_handles(_Config) ->
    {ok, List} = py:eval(<<"[1, 2, 3]">>, #{}, #{return => object}),
    {ok, [1, 2, 3]} = py:stream(List),
    {ok, [1, 2, 3]} = py:stream(List, '__iter__', []),
    {ok, Stream} = py:stream_start(List),
    ok = py:stream_next(Stream, 2),
    receive {py_stream, Stream, {items, [1, 2]}} -> ok end,
    ok = py:stream_close(Stream),
    {ok, Method} = py:stream_start(List, '__reversed__', []),
    ok = py:stream_next(Method, 10),
    receive {py_stream, Method, {items, [3, 2, 1]}} -> ok end,
    ok = py:stream_close(Method),
    {error, {'TypeError', _}} = py:stream(counter()),
    {error, {'TypeError', _}} = py:stream_start(counter()).

streams_of_expressions(_Config) ->
    {ok, Stream} = py:stream_eval_start(<<"(i * k for i in range(1000000))">>, #{k => 2}),
    ok = py:stream_next(Stream, 3),
    receive {py_stream, Stream, {items, [0, 2, 4]}} -> ok end,
    ok = py:stream_close(Stream),
    {ok, Short} = py:stream_eval_start(<<"'ab'">>),
    ok = py:stream_next(Short, 5),
    receive {py_stream, Short, {items, [<<"a">>, <<"b">>]}} -> ok end,
    ok = py:stream_close(Short),
    {error, {'NameError', _}} = py:stream_eval_start(<<"no_such_name">>).

a_stream_has_a_timeout(_Config) ->
    {error, timeout} = py:stream(itertools, count, [], #{}, 100),
    {error, timeout} = py:stream_eval(<<"__import__('itertools').count()">>, #{}, #{timeout => 100}),
    {ok, [0, 1]} = py:stream_eval(<<"range(n)">>, [{n, 2}], 5000),
    {ok, 1} = py:eval(<<"1">>).

calls_under_way(_Config) ->
    P = counter(),
    {ok, 8} = py:await(py:call_async(P, plus, [5])),
    {ok, 3} = py:async_await(py:async_call(P, later, [])),
    {ok, [3, 8]} = py:async_gather([{P, later, []}, {P, plus, [5]}]).

in_a_context(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, List} = py:ctx_eval(Ctx, <<"[3, 1]">>, #{}, #{return => object}),
    {ok, none} = py:ctx_call(Ctx, List, sort, []),
    {ok, none} = py:ctx_call_method(Ctx, List, append, [7]),
    {ok, none} = py:ctx_call_method(Ctx, List, sort, [], #{reverse => true}),
    {ok, 7} = py:ctx_call_method(Ctx, List, pop, [0], #{}, 1000),
    {ok, [3, 1]} = py:ctx_to_term(Ctx, List),
    {ok, <<"[3, 1]">>} = py:ctx_str(Ctx, List),
    {ok, <<"[3, 1]">>} = py:ctx_repr(Ctx, List),
    {ok, <<"list">>} = py:ctx_type(Ctx, List),
    {ok, <<"list">>} = py:ctx_getattr(Ctx, List, '__class__.__name__'),
    {ok, Stream} = py:ctx_stream(Ctx, List),
    ok = py:stream_next(Stream, 5),
    receive {py_stream, Stream, {items, [3, 1]}} -> ok end,
    ok = py:stream_close(Stream),
    ok = py:unbind(Ctx),
    [{raised, context_not_bound} = py_test:caught(Call)
     || Call <- [fun() -> py:ctx_call(Ctx, List, pop, []) end, fun() -> py:ctx_to_term(Ctx, List) end,
                 fun() -> py:ctx_str(Ctx, List) end, fun() -> py:ctx_stream(Ctx, List) end]],
    ok.

%% The object of a thread outlives its lease; that of a child process is used in that process alone.
handles_of_an_ended_lease(_Config) ->
    {ok, Ctx} = py:bind(new),
    {ok, List} = py:ctx_eval(Ctx, <<"[1]">>, #{}, #{return => object}),
    ok = py:unbind(Ctx),
    case os:getenv("PY_TEST_LEVEL") of
        "process" -> {error, {unconvertible, #{reason := foreign_object}}} = py:to_term(List);
        _ -> {ok, [1]} = py:to_term(List)
    end.

bad_handles(_Config) ->
    {ok, Ctx} = py:bind(new),
    [{raised, badarg} = py_test:caught(Call)
     || Bad <- [make_ref(), Ctx, 1.5, self()],
        Call <- [fun() -> py:call(Bad, f, []) end, fun() -> py:call_method(Bad, f, []) end,
                 fun() -> py:getattr(Bad, f) end, fun() -> py:to_term(Bad) end, fun() -> py:stream(Bad) end,
                 fun() -> py:stream_start(Bad) end]],
    [{raised, badarg} = py_test:caught(Call)
     || Call <- [fun() -> py:call_method(math, sqrt, [4]) end, fun() -> py:getattr(math, pi) end,
                 fun() -> py:to_term([1]) end, fun() -> py:call(counter(), plus, 5) end,
                 fun() -> py:call(counter(), 5, []) end]],
    ok = py:unbind(Ctx).

a_handle_of_another_vm(_Config) ->
    Peer = py_peer:start(#{"ERLANG_PYTHON" => py_peer:interpreter()}),
    {ok, _} = py_peer:start_python(Peer, []),
    {ok, Handle} = py_peer:run(Peer, fun() -> py:eval(<<"object()">>) end),
    true = is_reference(Handle),
    false = py:is_object(Handle),
    [{raised, badarg} = py_test:caught(Call)
     || Call <- [fun() -> py:getattr(Handle, x) end, fun() -> py:call(Handle, x, []) end,
                 fun() -> py:to_term(Handle) end]],
    %% As an argument it is a term as any other.
    {ok, <<"erlang.Term">>} = py:type(Handle),
    {ok, Handle} = py:eval(<<"h">>, #{h => Handle}),
    py_peer:stop(Peer).

options_that_do_not_fit(_Config) ->
    [{raised, badarg} = py_test:caught(fun() -> py:eval(<<"1">>, #{}, Options) end)
     || Options <- [#{return => handle}, #{arrays => tuple}, #{none => null}, #{wait => 1}, #{timeout => #{timeout => 1}}, [{return, object}]]],
    {raised, badarg} = py_test:caught(fun() -> py:exec(<<"1">>, #{}, #{return => object}) end),
    {ok, nil} = py:eval(<<"None">>, #{}, #{none => nil}),
    {ok, [undefined, #{<<"a">> := undefined}]} = py:eval(<<"[None, {'a': None}]">>, #{}, #{none => undefined}),
    {ok, none} = py:eval(<<"None">>).

keyword_lists(_Config) ->
    {ok, 3} = py:eval(<<"a + b">>, [{a, 1}, {<<"b">>, 2}]),
    {ok, [3, 2, 1]} = py:call(builtins, sorted, [[1, 2, 3]], [{reverse, true}]),
    ok = py:exec(<<"z = a">>, [{a, 1}]),
    {ok, []} = py:call(builtins, list, [], []),
    [{raised, badarg} = py_test:caught(fun() -> py:call(builtins, sorted, [[1]], Bad) end)
     || Bad <- [[reverse], [{reverse, true, 1}], [{reverse, true}, {reverse, false}], [{1, 2}], [{a, 1} | b]]],
    ok.

a_failed_conversion_says_where(_Config) ->
    [{error, {unconvertible, #{reason := Reason, path := Path}}} = py:eval(Code)
     || {Code, Reason, Path} <-
         [{<<"{'rows': [1, {'name': (2, '\\ud800')}]}">>, not_unicode, [<<"rows">>, 1, <<"name">>, 1]},
          {<<"{'a': 1, 'b': '\\ud800'}">>, not_unicode, [<<"b">>]},
          {<<"{'a': [1], 'b': '\\ud800'}">>, not_unicode, [<<"b">>]},
          {<<"{'a': [1], 5: [2, '\\ud800'], 'c': 1}">>, not_unicode, [5, 1]},
          {<<"{(1, 2): ['\\ud800'], 'b': 2}">>, not_unicode, [<<"tuple">>, 0]},
          {<<"{'x' * 500: ['\\ud800']}">>, not_unicode, [binary:copy(<<"x">>, 80), 0]},
          {<<"[{1: 2}, {'a': 1, b'a': 2}]">>, key_collision, [1]},
          {<<"[[], [1 << 10_000_000]]">>, too_large, [1, 0]}]],
    {error, {unconvertible, Top}} = py:eval(<<"'\\ud800'">>),
    false = maps:is_key(path, Top),
    {error, {unconvertible, #{reason := cycle, path := [0, <<"me">>]}}} =
        py:run(<<"a = [{}]\na[0]['me'] = a\na">>),
    {error, {unconvertible, #{reason := too_deep, path := Deep}}} =
        py:run(<<"a = []\nfor _ in range(2000): a = [a]\na">>),
    1000 = length(Deep).

the_place_is_text(_Config) ->
    Text = py:format_error(py:eval(<<"{'rows': [1, '\\ud800']}">>)),
    ok = py_test:contains(Text, <<", at result[\"rows\"][1]">>).
