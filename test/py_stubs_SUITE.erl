%% Do the types and the double of `python/' say the truth about the module `erlang'?
-module(py_stubs_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [{group, inside}, {group, outside}].

groups() ->
    [{inside, [], [the_stub_has_the_names_of_the_module, the_stub_has_the_parameters_of_the_module,
                   the_built_in_module_wins]},
     {outside, [], [right_code_passes_mypy, wrong_code_does_not, the_double_is_as_the_stub_says,
                    code_is_tested_with_the_double]}].

init_per_suite(Config) ->
    ok = py_test:start(),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

%% The tests that need packages run where `make test' has made a venv.
init_per_group(outside, Config) ->
    case os:getenv("PY_TEST_VENV", "") of
        "" -> {skip, "there is no venv of the tests: PY_TEST_VENV"};
        Base ->
            case output(["'", Base, "/bin/python' -c 'import mypy, setuptools'"]) of
                {0, _} -> [{python, install(Base, Config)} | Config];
                _ -> {skip, "the venv of the tests has no mypy"}
            end
    end;
init_per_group(inside, Config) ->
    Config.

end_per_group(_Group, _Config) ->
    ok.

end_per_testcase(_Case, _Config) ->
    py_test:assert_empty_mailbox().

%% Installs the package as a user does, into a venv that sees the packages of another one.
install(Base, Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    {Venv, Source} = {filename:join(Dir, "venv"), filename:join(Dir, "source")},
    %% A build writes into the source.
    ok = ran(["cp -r '", filename:join(py_docs:root(), "python"), "' '", Source, "'"]),
    ok = ran(["'", Base, "/bin/python' -m venv --without-pip '", Venv, "'"]),
    Python = filename:join([Venv, "bin", "python"]),
    ok = ran(["'", Base, "/bin/python' -c \"import sysconfig; print(sysconfig.get_path('purelib'))\""
              " > \"$('", Python, "' -c \"import sysconfig; print(sysconfig.get_path('purelib'))\")/base.pth\""]),
    ok = ran(["'", Base, "/bin/python' -m pip --python '", Python, "' install --disable-pip-version-check --no-index"
              " --no-deps --no-build-isolation '", Source, "'"]),
    Python.

ran(Command) ->
    {0, _} = output(Command),
    ok.

%% Returns the exit status of a command, and what it has printed.
output(Command) ->
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", unicode:characters_to_list(Command)]}, binary, exit_status, stderr_to_stdout]),
    output(Port, <<>>).

output(Port, Text) ->
    receive
        {Port, {data, Data}} -> output(Port, <<Text/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> ct:log("~b~n~ts", [Status, Text]), {Status, Text}
    after 240000 -> error({no_end, Text})
    end.

%%% Inside the VM

stub() ->
    py_docs:read("python/src/erlang/__init__.pyi").

the_stub_has_the_names_of_the_module(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"
import ast, erlang
nodes = ast.parse(stub).body
names = [n.name if hasattr(n, 'name') else n.target.id for n in nodes
         if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.AnnAssign))]
public = sorted(n for n in names if not n.startswith('_'))
assert public == dir(erlang), (public, dir(erlang))

def members(value):
    return {n for n in dir(value) if not n.startswith('_')}

for node in nodes:
    if isinstance(node, ast.ClassDef):
        real = type(erlang.state) if node.name == '_State' else getattr(erlang, node.name)
        stubbed = {n.name for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith('_')}
        base = next((b for b in real.__mro__[1:] if b.__module__ != 'erlang'), object)
        own = {n for n in members(real) if not any(n in vars(b) for b in real.__mro__[1:])}
        assert own <= stubbed, (node.name, own, stubbed)
        assert stubbed <= members(real), (node.name, stubbed)
        bases = {b.id if isinstance(b, ast.Name) else b.value.id for b in node.bases}
        assert bases == {b.__name__ for b in real.__bases__ if b is not object}, (node.name, bases)
">>, #{stub => stub()}),
    ok = py:unbind().

%% Compares the names and the kinds of the parameters, and which of them have defaults.
the_stub_has_the_parameters_of_the_module(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"
import ast, erlang, inspect

def of_stub(node):
    a = node.args
    defaults = len(a.defaults)
    plain = [*a.posonlyargs, *a.args]
    found = [(p.arg, 'only' if p in a.posonlyargs else 'any', i >= len(plain) - defaults)
             for i, p in enumerate(plain)]
    found += [(a.vararg.arg, '*', False)] if a.vararg else []
    found += [(p.arg, 'keyword', d is not None) for p, d in zip(a.kwonlyargs, a.kw_defaults)]
    return found + ([(a.kwarg.arg, '**', False)] if a.kwarg else [])

P = inspect.Parameter
kinds = {P.POSITIONAL_ONLY: 'only', P.POSITIONAL_OR_KEYWORD: 'any', P.VAR_POSITIONAL: '*', P.VAR_KEYWORD: '**',
         P.KEYWORD_ONLY: 'keyword'}

def of_module(function):
    return [(p.name, kinds[p.kind], p.default is not P.empty) for p in inspect.signature(function).parameters.values()]

checked = 0
for node in ast.parse(stub).body:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        real = getattr(erlang, node.name)
        assert of_stub(node) == of_module(real), (node.name, of_stub(node), of_module(real))
        assert inspect.iscoroutinefunction(real) == isinstance(node, ast.AsyncFunctionDef)
        checked += 1
    elif isinstance(node, ast.ClassDef) and node.name in ('_State', 'Monitor'):
        real = type(erlang.state) if node.name == '_State' else erlang.Monitor
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.decorator_list:
                found = of_module(getattr(real, method.name))
                assert of_stub(method) == found, (method.name, of_stub(method), found)
                checked += 1
assert checked > 20
">>, #{stub => stub()}),
    ok = py:unbind().

%% With the package on the path.
the_built_in_module_wins(_Config) ->
    Path = filename:join(py_docs:root(), "python/src"),
    ok = py:exec(<<"
import sys
sys.path.insert(0, path)
try:
    import erlang, erlang_testing
    assert not hasattr(erlang, '_is_double') and erlang.self() == caller
    try:
        erlang_testing.register('f', print)
    except RuntimeError as error:
        assert 'outside of the BEAM' in str(error)
    else:
        assert False
finally:
    sys.path.remove(path)
    sys.modules.pop('erlang_testing', None)
">>, #{path => unicode:characters_to_binary(Path), caller => self()}),
    {error, {'ImportError', _}} = py:reload(erlang).

%%% Outside

run(Config, Arguments) ->
    output(["'", proplists:get_value(python, Config), "' ", Arguments]).

written(Name, Text, Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, Text),
    File.

mypy(Config, File) ->
    run(Config, ["-m mypy --strict --cache-dir=/dev/null --python-executable '", proplists:get_value(python, Config),
                 "' '", File, "'"]).

right_code_passes_mypy(Config) ->
    File = written("right.py", <<"
from collections.abc import MutableMapping
from typing import Any

import erlang
import erlang_testing

hits: int = erlang.state.incr('hits', 2)
settings: MutableMapping[Any, Any] = erlang.state
erlang.state['a'] = [1]
pid: erlang.Term = erlang.self()
erlang.send(pid, ('a', 1))
erlang.send(('name', 'node@host'), 1)
price = erlang.price('tea', unit='cup')
price2 = erlang.call('price', 'tea', unit='cup')
watched: erlang.Monitor = erlang.monitor(pid)
if watched.wait(0.5) and watched.is_down:
    print(watched.reason)
found: erlang.Term | None = erlang.whereis('inbox')
erlang.apply('lists', 'reverse', ([1, 2],))


async def ask() -> Any:
    return await erlang.acall('ask', 1, x=2)


try:
    erlang.call('f')
except (erlang.NotRegistered, erlang.NotAllowed, erlang.StateFull, erlang.Overloaded) as error:
    print(error)
except erlang.ErlangError as error:
    print(error.cls, error.reason, error.stacktrace)
erlang_testing.register('f', lambda: 1)
">>, Config),
    {0, _} = mypy(Config, File).

wrong_code_does_not(Config) ->
    File = written("wrong.py", <<"
import erlang
erlang.state.incr('hits', 'two')
erlang.send('inbox')
number: int = erlang.self()
erlang.apply('lists', 'reverse', 'abc')
erlang.demonitor(1)
erlang.monitor('inbox').wait('long')
">>, Config),
    {1, Text} = mypy(Config, File),
    [ok = py_test:contains(Text, ["wrong.py:", integer_to_list(Line), ": error"]) || Line <- lists:seq(3, 8)].

%% `stubtest' imports the double, and compares the parameters of all that is public.
the_double_is_as_the_stub_says(Config) ->
    {0, _} = run(Config, "-m mypy.stubtest erlang").

code_is_tested_with_the_double(Config) ->
    File = written("test_double.py", <<"
import asyncio
import erlang
import erlang_testing as testing

testing.reset()
testing.register('price', lambda name, factor=1: {'tea': 2}[name] * factor)
assert erlang.price('tea') == erlang.call('price', 'tea') == 2
assert erlang.price('tea', factor=3) == 6
assert asyncio.run(erlang.acall('price', 'tea', factor=2)) == 4
from erlang import price
assert price('tea') == 2 and 'price' in dir(erlang)
for missing in (lambda: erlang.call('nobody'), lambda: erlang.nobody):
    try:
        missing()
    except erlang.NotRegistered as error:
        assert isinstance(error, (AttributeError, LookupError))
    else:
        assert False

erlang.send(erlang.self(), 1)
assert testing.sent == [(testing.caller(), 1)]
inbox = testing.process('inbox')
assert erlang.whereis('inbox') == inbox and erlang.whereis('other') is None
watch = erlang.monitor('inbox')
assert not watch.is_down and not watch.wait(0.1) and watch.reason is None
testing.end(inbox, 'enough')
assert watch.wait() and watch.reason == 'enough' and erlang.whereis('inbox') is None
erlang.demonitor(watch)
assert not watch.is_down

s = erlang.state
s['a'] = kept = [1]
kept.append(2)
assert s['a'] == [1] and s.incr('n') == 1 and s.incr('n', 4) == 5 and len(s) == 2 and sorted(s) == ['a', 'n']
s[1], s[1.0], s[True] = 'int', 'float', 'bool'
assert (s[1], s[1.0], s[True]) == ('int', 'float', 'bool')
assert s.pop('a') == [1] and s.pop('a', 7) == 7 and s.setdefault('b', 3) == 3
for wrong in (lambda: s.incr(1), lambda: s.__setitem__(object(), 1)):
    try:
        wrong()
    except TypeError:
        pass
    else:
        assert False

testing.allow('lists', 'reverse', lambda items: items[::-1])
assert erlang.apply('lists', 'reverse', [[1, 2]]) == [2, 1]
try:
    erlang.apply('os', 'cmd', ['ls'])
except erlang.NotAllowed as error:
    assert isinstance(error, PermissionError)
else:
    assert False
testing.reset()
assert testing.sent == [] and len(s) == 0 and 'price' not in dir(erlang)
print('tested')
">>, Config),
    {0, Text} = run(Config, ["'", File, "'"]),
    ok = py_test:contains(Text, "tested").
