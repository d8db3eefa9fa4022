%% Are the errors of exceptions whose classes override their attributes right, and can nothing in
%% them keep a worker, or the whole of Python?
-module(py_exceptions_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 2).
%% Characters of a message, of a name, of all texts of an error.
-define(MAX_TEXT, 262144).
-define(MAX_NAME, 4096).
-define(MAX_TEXTS, 1048576).

suite() ->
    [{timetrap, {seconds, 30}}].

all() ->
    [overridden_causes_are_not_asked, overridden_notes_are_not_asked,
     a_metaclass_is_not_asked, an_mro_without_exceptions_has_no_type,
     the_fields_of_a_syntax_error_may_be_anything, texts_of_their_own_classes_run_no_code,
     every_line_end_of_python_ends_a_line, an_overridden_setattr_is_not_asked,
     the_term_of_an_erlang_error_cannot_be_replaced,
     an_erlang_error_can_be_pickled, a_copy_of_an_erlang_error_is_as_good,
     long_texts_are_cut, all_texts_of_an_error_are_bounded,
     long_class_names_are_cut, a_traceback_of_a_million_is_read,
     an_endless_str_is_interrupted, an_endless_str_of_a_cause_is_interrupted,
     an_endless_str_of_a_note_is_interrupted, an_endless_str_in_a_stream_is_interrupted,
     an_endless_str_in_a_nested_call_is_interrupted,
     an_endless_str_in_a_coroutine_is_interrupted,
     a_str_that_is_interrupted_by_itself_is_told,
     an_endless_traceback_attribute_is_not_asked, {group, exception_groups}].

groups() ->
    [{exception_groups, [], [a_group_has_its_exceptions, an_overridden_group_is_not_asked,
                             a_group_is_bounded, nested_groups_are_bounded,
                             a_member_may_be_caused_by_its_group]}].

init_per_group(exception_groups, Config) ->
    Config.

end_per_group(_Group, _Config) ->
    ok.

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, ?WORKERS}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:wait_available(?WORKERS),
    Config.

%% Asserts that no worker is lost or replaced by a case.
end_per_testcase(_Case, _Config) ->
    ok = py_test:wait_available(?WORKERS),
    0 = py_test:abandoned(),
    {ok, 1} = py:eval(<<"1">>, #{}, 5000),
    py_test:assert_empty_mailbox().

exec_error(Code) ->
    {error, {Type, Exception}} = py:exec(Code, #{}, 10000),
    {Type, Exception}.

%%% Attributes that a class overrides

an_endless_traceback_attribute_is_not_asked(_Config) ->
    {'ValueError', #{message := <<"x">>, traceback := [#{line := 8, function := <<"<module>">>}]}} =
        exec_error(<<"
import types
ns = types.SimpleNamespace(tb_lineno=1)
ns.tb_next = ns
class E(ValueError):
    __traceback__ = property(lambda self: ns)

raise E('x')
">>).

overridden_causes_are_not_asked(_Config) ->
    {'ValueError', Exception} = exec_error(<<"
asked = []
class E(ValueError):
    def __getattribute__(self, name):
        asked.append(name)
        while True:
            pass
    __cause__ = __context__ = __suppress_context__ = property(lambda self: self)
try:
    1 / 0
except ZeroDivisionError:
    raise E('x')
">>),
    #{class := <<"__main__.E">>, message := <<"x">>, chain := context,
      cause := #{class := <<"ZeroDivisionError">>, cause := none}} = Exception.

overridden_notes_are_not_asked(_Config) ->
    Class = <<"
class Notes(list):
    def __iter__(self):
        while True:
            pass
    __len__ = __getitem__ = __iter__
class E(ValueError):
    @property
    def __notes__(self):
        while True:
            pass
e = E('x')
vars(e)['__notes__'] = ">>,
    Notes = fun(Text) ->
        {'ValueError', E} = exec_error([Class, Text, "\nraise e\n"]),
        maps:get(notes, E, none)
    end,
    [<<"a">>, <<"1">>] = Notes("Notes(['a', 1])"),
    [<<"a">>] = Notes("('a',)"),
    none = Notes("'text'"),
    none = Notes("iter([])"),
    [<<"<note str() failed>">>, <<"b">>] =
        Notes("[type('N', (), {'__str__': lambda self: 1 / 0})(), 'b']").

a_metaclass_is_not_asked(_Config) ->
    {'KeyError', #{class := <<"__main__.E">>, message := <<"'x'">>}} = exec_error(<<"
class Meta(type):
    def __getattribute__(cls, name):
        while True:
            pass
class E(KeyError, metaclass=Meta):
    pass
raise E('x')
">>).

an_mro_without_exceptions_has_no_type(_Config) ->
    {error, #{class := <<"__main__.E">>}} = exec_error(<<"
class Meta(type):
    def mro(cls):
        return [cls, object] if hidden else super().mro()
hidden = False
class E(KeyError, metaclass=Meta):
    pass
e = E('x')
hidden = True
E.__bases__ = (LookupError,)
raise e
">>).

the_fields_of_a_syntax_error_may_be_anything(_Config) ->
    {'SyntaxError', #{syntax := Syntax}} = exec_error(<<"
class Loop:
    def __index__(self):
        while True:
            pass
    __int__ = __str__ = __repr__ = __index__
class Text(str):
    def __str__(self):
        while True:
            pass
    __repr__ = encode = __str__
class E(SyntaxError):
    def __getattribute__(self, name):
        while True:
            pass
    def __str__(self):
        return ''
loop = Loop()
raise E(Text('bad'), (loop, loop, 2 ** 70, [], -1, loop))
">>),
    #{message := <<"bad">>, file := <<"<unknown>">>, line := 0, offset := 0, end_offset := 0,
      text := <<>>} = Syntax.

texts_of_their_own_classes_run_no_code(_Config) ->
    {'ValueError', Exception} = exec_error(<<"
class Text(str):
    def __str__(self):
        while True:
            pass
    __repr__ = __eq__ = __ne__ = __iter__ = __len__ = encode = __str__
    __hash__ = str.__hash__
class E(ValueError):
    def __str__(self):
        return Text('text')
def f():
    raise e
E.__qualname__ = Text('Name')
type.__setattr__(E, '__module__', Text('module'))
e = E()
e.__notes__ = [Text('note')]
f()
">>),
    #{message := <<"text">>, notes := [<<"note">>], class := <<"module.Name">>} = Exception.

every_line_end_of_python_ends_a_line(_Config) ->
    [{'ZeroDivisionError', #{traceback := [#{line := 4, source := <<"1 / 0">>}]}} =
         exec_error([<<"a = 1  # \f \v">>, End, <<"b = '\x{85}\x{2028}'\r\n"/utf8>>, End, <<"1 / 0">>, Last])
     || End <- ["\r", "\n", "\r\n"], Last <- ["", End]].

an_overridden_setattr_is_not_asked(_Config) ->
    {'ValueError', #{traceback := [#{line := 7}]}} = exec_error(<<"
class E(ValueError):
    def __setattr__(self, name, value):
        while True:
            pass
e = E('x')
raise e
">>).

the_term_of_an_erlang_error_cannot_be_replaced(_Config) ->
    {'Exception', Exception} = exec_error(<<"
import erlang
class E(erlang.ErlangError):
    @property
    def _term(self):
        while True:
            pass
    @_term.setter
    def _term(self, value):
        pass
    __class__ = _term
raise E('error', 'x')
">>),
    none = maps:get(erlang, Exception, none).

-define(CATCH, "
import copy, erlang, pickle
class Own(erlang.ErlangError):
    def __init__(self, *args):
        super().__init__('throw', *args)
        self.args = args
try:
    erlang.call('fails')
except erlang.ErlangError as error:
    caught = error
").

an_erlang_error_can_be_pickled(_Config) ->
    ok = py:register_function(fails, fun([]) -> exit({for_a, <<"reason">>}) end),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?CATCH "
def same(error):
    other = pickle.loads(pickle.dumps(error))
    return (type(other) is type(error) and str(other) == str(error)
            and (other.cls, other.reason, other.stacktrace, other.args)
            == (error.cls, error.reason, error.stacktrace, error.args))
caught.add = 1
">>),
    {ok, true} = py:ctx_eval(Ctx, <<"same(caught)">>),
    {ok, true} = py:ctx_eval(Ctx, <<"same(erlang.ErlangError('error', 'x'))">>),
    {ok, true} = py:ctx_eval(Ctx, <<"same(Own('x'))">>),
    {ok, 1} = py:ctx_eval(Ctx, <<"pickle.loads(pickle.dumps(caught)).add">>),
    ok = py:unbind(Ctx),
    ok = py:unregister_function(fails).

a_copy_of_an_erlang_error_is_as_good(_Config) ->
    ok = py:register_function(fails, fun([]) -> exit({for_a, <<"reason">>}) end),
    {'Exception', #{erlang := {exit, {for_a, <<"reason">>}, _}}} =
        exec_error(<<?CATCH "raise copy.copy(caught)">>),
    ok = py:unregister_function(fails).

%%% Sizes

long_texts_are_cut(_Config) ->
    {'ValueError', #{message := Message, notes := [Note]}} = exec_error(<<"
e = ValueError('\\U0001F600' * 10_000_000)
e.__notes__ = ['n' * 10_000_000]
raise e
">>),
    {?MAX_TEXT, cut} = length_of(Message),
    {?MAX_TEXT, cut} = length_of(Note),
    {'ValueError', #{message := Whole}} = exec_error(<<"raise ValueError('x' * 262_144)">>),
    {?MAX_TEXT, whole} = length_of(Whole).

%% The number of characters of a text, and whether it was cut.
length_of(Text) ->
    case string:split(Text, <<"…"/utf8>>, trailing) of
        [Whole] -> {string:length(Whole), whole};
        [Start, <<>>] -> {string:length(Start), cut}
    end.

all_texts_of_an_error_are_bounded(_Config) ->
    {'ValueError', Exception} = exec_error(<<"
e = None
for n in range(32):
    last, e = e, ValueError('x' * 1_000_000)
    e.__cause__ = last
    e.__notes__ = ['n' * 1_000_000] * 32
raise e
">>),
    Size = size_of(Exception),
    true = Size >= ?MAX_TEXTS,
    true = Size < ?MAX_TEXTS + 10000.

size_of(Binary) when is_binary(Binary) -> byte_size(Binary);
size_of(Map) when is_map(Map) -> size_of(maps:values(Map));
size_of(List) when is_list(List) -> lists:sum([size_of(Item) || Item <- List]);
size_of(_Other) -> 0.

long_class_names_are_cut(_Config) ->
    {'ValueError', #{class := <<"m.", Class/binary>>, traceback := [Outer, Inner]}} =
        exec_error(<<"
def f():
    raise type('E' * 10_000, (ValueError,), {'__module__': 'm'})
f.__code__ = f.__code__.replace(co_name='f' * 10_000, co_filename='g' * 10_000)
f()  # ", (binary:copy(<<"long ">>, 2000))/binary>>),
    {?MAX_NAME, cut} = length_of(Class),
    #{source := Source} = Outer,
    {?MAX_NAME, cut} = length_of(Source),
    #{function := Function, file := File} = Inner,
    {?MAX_NAME, cut} = length_of(Function),
    {?MAX_NAME, cut} = length_of(File).

a_traceback_of_a_million_is_read(_Config) ->
    {'ValueError', #{traceback := Frames}} = exec_error(<<"
import sys, types
tb = None
for _ in range(1_000_000):
    tb = types.TracebackType(tb, sys._getframe(), 0, 7)
raise ValueError('x').with_traceback(tb)
">>),
    256 = length(Frames),
    #{line := 7} = lists:last(Frames).

%%% Code that runs while an exception is captured

-define(ENDLESS, "
class Endless(ValueError):
    def __str__(self):
        while True:
            pass
").

an_endless_str_is_interrupted(_Config) ->
    {error, timeout} = py:exec(<<?ENDLESS "raise Endless()">>, #{}, 300),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?ENDLESS "kept = 1">>),
    {error, timeout} = py:ctx_exec(Ctx, <<"raise Endless()">>, #{}, 300),
    {ok, 1} = py:ctx_eval(Ctx, <<"kept">>),
    Call = py_test:start_call(fun() -> py:ctx_exec(Ctx, <<"raise Endless()">>) end),
    ok = py_test:wait_until(fun() -> py:interrupt(Ctx) =:= ok end),
    {error, interrupted} = py_test:result(Call),
    {ok, 1} = py:ctx_eval(Ctx, <<"kept">>),
    ok = py:unbind(Ctx).

an_endless_str_of_a_cause_is_interrupted(_Config) ->
    {error, timeout} =
        py:exec(<<?ENDLESS "raise KeyError('x') from Endless()">>, #{}, 300).

an_endless_str_of_a_note_is_interrupted(_Config) ->
    {error, timeout} =
        py:exec(<<?ENDLESS "e = KeyError('x'); e.__notes__ = [Endless()]; raise e">>, #{}, 300).

an_endless_str_in_a_stream_is_interrupted(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?ENDLESS "
def items():
    yield 1
    raise Endless()
">>),
    {ok, Stream} = py:ctx_stream(Ctx, '__main__', items, []),
    ok = py:stream_next(Stream, 300),
    receive {py_stream, Stream, {items, [1]}} -> ok after 5000 -> error(no_items) end,
    ok = py:stream_next(Stream, 300),
    ok = py:stream_close(Stream),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>, #{}, 10000),
    ok = py:unbind(Ctx).

%% The interruption is for the outer job, while the exception of an inner one is captured.
an_endless_str_in_a_nested_call_is_interrupted(_Config) ->
    Self = self(),
    ok = py:register_function(fails, fun([]) ->
        Self ! {inner, py:exec(<<"raise Endless()">>)}
    end),
    {error, timeout} = py:exec(<<?ENDLESS "
import erlang
erlang.call('fails')
">>, #{}, 500),
    receive {inner, Result} -> {error, interrupted} = Result after 10000 -> error(no_result) end,
    ok = py:unregister_function(fails).

a_str_that_is_interrupted_by_itself_is_told(_Config) ->
    {error, interrupted} = py:exec(<<"
import erlang
class E(ValueError):
    def __str__(self):
        raise erlang.Interrupted()
raise E()
">>).

an_endless_str_in_a_coroutine_is_interrupted(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<?ENDLESS "
async def fails():
    raise Endless()
">>),
    {error, timeout} = py:ctx_call(Ctx, '__main__', fails, [], #{}, 300),
    Call = py:ctx_call_async(Ctx, '__main__', fails, []),
    {error, timeout} = py:await(Call, 300),
    Flight = py:ctx_async_call(Ctx, '__main__', fails, []),
    {error, timeout} = py:async_await(Flight, 300),
    {ok, 1} = py:ctx_eval(Ctx, <<"1">>, #{}, 10000),
    ok = py:unbind(Ctx).

%%% Exception groups

a_group_has_its_exceptions(_Config) ->
    {'ExceptionGroup', Group} = exec_error(<<"
try:
    1 / 0
except ZeroDivisionError as error:
    raise ExceptionGroup('some', [error, ValueError('x'), ExceptionGroup('in', [KeyError(1)])])
">>),
    #{class := <<"ExceptionGroup">>, message := <<"some (3 sub-exceptions)">>,
      exceptions := [#{class := <<"ZeroDivisionError">>, message := <<"division by zero">>,
                       traceback := [#{line := 3}]} = First,
                     #{class := <<"ValueError">>, traceback := [], cause := none},
                     #{class := <<"ExceptionGroup">>,
                       exceptions := [#{class := <<"KeyError">>, message := <<"1">>}]}]} = Group,
    false = maps:is_key(exceptions, First).

an_overridden_group_is_not_asked(_Config) ->
    {'ExceptionGroup', #{exceptions := [#{message := <<"x">>}]}} = exec_error(<<"
class E(ExceptionGroup):
    def __getattribute__(self, name):
        while True:
            pass
    exceptions = __iter__ = __len__ = property(__getattribute__)
raise E('some', [ValueError('x')])
">>).

a_group_is_bounded(_Config) ->
    {'ExceptionGroup', #{exceptions := Exceptions}} = exec_error(<<"
raise ExceptionGroup('many', [ValueError(n) for n in range(100_000)])
">>),
    Messages = [integer_to_binary(N) || N <- lists:seq(0, 63)],
    Messages = [Message || #{message := Message} <- Exceptions].

%% Groups are bounded in number over all, and in depth.
nested_groups_are_bounded(_Config) ->
    {'ExceptionGroup', Wide} = exec_error(<<"
group = ValueError()
for _ in range(20):
    group = ExceptionGroup('wide', [group] * 20)
raise group
">>),
    256 = count(Wide),
    {'ExceptionGroup', Deep} = exec_error(<<"
group = ValueError()
for _ in range(300):
    group = ExceptionGroup('deep', [group])
raise group
">>),
    32 = count(Deep).

count(#{cause := Cause} = Exception) ->
    Members = maps:get(exceptions, Exception, []),
    1 + lists:sum([count(Member) || Member <- [Cause | Members], is_map(Member)]).

a_member_may_be_caused_by_its_group(_Config) ->
    {'ExceptionGroup', Group} = exec_error(<<"
member = ValueError('member')
group = ExceptionGroup('group', [member, member])
member.__cause__ = group
raise group
">>),
    #{exceptions := [#{cause := none} = Member, Member], cause := none} = Group.
