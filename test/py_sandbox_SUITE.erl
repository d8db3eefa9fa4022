%% Do the limits and the sandbox of a child process hold, and does the VM live with children that break
%% the protocol?
-module(py_sandbox_SUITE).

-export([all/0, init_per_testcase/2, end_per_testcase/2]).
-export([limits_hold/1, a_sandbox_holds/1, a_sandbox_that_no_kernel_has_is_an_error/1,
         hostile_children_are_killed/1, random_frames_harm_no_other/1]).

-define(POOL, workers).

all() ->
    [limits_hold, a_sandbox_holds, a_sandbox_that_no_kernel_has_is_an_error, hostile_children_are_killed,
     random_frames_harm_no_other].

init_per_testcase(_Case, Config) ->
    ct:timetrap({seconds, 100}),
    ok = py_test:start_with([{interrupt_grace, 500}]),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:stop().

limits_hold(_Config) ->
    ok = start(#{num_workers => 1, spares => 0,
                 limits => #{memory => 1 bsl 30, open_files => 64, file_size => 1000, cpu_seconds => 2}}),
    Run = fun(Code) -> py:exec(Code, #{}, #{pool => ?POOL}) end,
    {error, {'MemoryError', _}} = Run(<<"x = bytearray(2 << 30)">>),
    {error, {'OSError', _}} = Run(<<"files = [open('/dev/null') for _ in range(100)]">>),
    {error, {'OSError', _}} = Run(<<"
import signal, tempfile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with tempfile.TemporaryFile() as f:
    f.write(b'x' * 2000)
    f.flush()
">>),
    {error, {worker_exited, #{signal := 24}}} = Run(<<"while True: pass">>),
    ok = py_test:wait_until(fun() -> maps:get(available_workers, py_pool:get_stats(?POOL)) =:= 1 end),
    ok = Run(<<"x = 1">>).

a_sandbox_holds(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    [Read, Write] = [filename:join(Dir, Name) || Name <- ["read", "write"]],
    [ok = filelib:ensure_path(Path) || Path <- [Read, Write]],
    ok = file:write_file(filename:join(Read, "file"), "content"),
    Outside = filename:join(Dir, "secret"),
    ok = file:write_file(Outside, "secret"),
    Options = #{num_workers => 1, spares => 0, sandbox => #{read => [Read], write => [Write]}},
    case start(Options) of
        ok -> try_to_get_out(Read, Write, Outside);
        %% This kernel has not what it takes, and says so.
        {error, {python_not_prepared, Message}} -> ok = py_test:contains(Message, <<"cannot enforce the sandbox">>)
    end.

try_to_get_out(Read, Write, Outside) ->
    Locals = #{read => unicode:characters_to_binary(Read), write => unicode:characters_to_binary(Write),
               outside => unicode:characters_to_binary(Outside)},
    Run = fun(Code) -> py:exec(Code, Locals, #{pool => ?POOL}) end,
    [ok = Run(Code) || Code <- [
        <<"assert open(read + '/file').read() == 'content'">>,
        <<"open(write + '/new', 'w').write('x'); import os; os.mkdir(write + '/d'); os.rename(write + '/new', write + '/d/n')">>,
        <<"import asyncio, json, decimal, sqlite3, zoneinfo; asyncio.run(asyncio.sleep(0))">>,
        <<"import threading; t = threading.Thread(target=print); t.start(); t.join()">>]],
    Refused = [
        <<"open(outside).read()">>,
        <<"open(outside, 'w')">>,
        <<"open(read + '/file', 'w')">>,
        <<"open(read + '/new', 'w')">>,
        <<"import os; os.symlink(outside, write + '/link'); open(write + '/link').read()">>,
        <<"import os; os.link(outside, write + '/hard')">>,
        <<"import os; os.rename(read + '/file', write + '/stolen')">>,
        <<"import os; os.unlink(read + '/file')">>,
        <<"import os; os.truncate(outside, 0)">>,
        <<"import os; os.chmod(outside, 0o777)">>,
        <<"import os; os.listdir('/')">>,
        <<"open('/proc/self/mem', 'rb')">>,
        <<"import os; open(f'/proc/{os.getppid()}/environ').read()">>,
        <<"import os; open(write + '/../secret').read()">>,
        <<"import socket; socket.socket()">>,
        <<"import socket; socket.socket(socket.AF_UNIX)">>,
        <<"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)">>,
        <<"import subprocess; subprocess.run(['/bin/true'])">>,
        <<"import os; fd = os.memfd_create('x'); os.write(fd, b'#!/bin/true'); os.execve(fd, ['x'], {})">>,
        <<"import os; os.kill(os.getppid(), 0)">>,
        <<"import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)">>],
    [case Run(Code) of
         {error, {'PermissionError', _}} -> ok;
         %% Landlock says so of a link or a move to a place with other rights.
         {error, {'OSError', #{message := <<"[Errno 18]", _/binary>>}}} -> ok;
         Other -> error({Code, Other})
     end || Code <- Refused],
    %% The same by C, past every check of Python.
    ok = Run(<<"
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def refused(result):
    assert result == -1 and ctypes.get_errno() in (errno.EACCES, errno.EPERM), (result, ctypes.get_errno())
refused(libc.open(outside.encode(), 0))
refused(libc.unshare(0x10000000))
refused(libc.ptrace(16, os.getppid(), 0, 0))
refused(libc.syscall(425, 8, 0))
refused(libc.execve(b'/bin/true', None, None))
refused(libc.socket(2, 1, 0))
">>),
    %% Also in a thread, and in what a fork in C leaves.
    ok = Run(<<"
import threading
found = []
def read():
    try:
        found.append(open(outside).read())
    except PermissionError as error:
        found.append(error)
t = threading.Thread(target=read)
t.start()
t.join()
assert isinstance(found[0], PermissionError), found
">>),
    {ok, <<"secret">>} = file:read_file(Outside),
    {ok, <<"content">>} = file:read_file(filename:join(Read, "file")).

a_sandbox_that_no_kernel_has_is_an_error(_Config) ->
    {error, {python_not_prepared, Text}} = start(#{sandbox => #{network => loopback}}),
    ok = py_test:contains(Text, <<"loopback">>),
    {error, {python_not_prepared, Missing}} = start(#{sandbox => #{read => ["/no/such/place"]}}),
    ok = py_test:contains(Missing, <<"/no/such/place">>).

%% A child that breaks the protocol is killed, and its call told so; the VM and other pools go on.
hostile_children_are_killed(Config) ->
    ok = py_pool:start(others, #{level => process, num_workers => 1, spares => 0}),
    {ok, Others} = py:eval(<<"__import__('os').getpid()">>, #{}, #{pool => others}),
    Script = filename:join(proplists:get_value(priv_dir, Config), "hostile"),
    ok = file:write_file(Script, ["#!", py_peer:interpreter(), "\n", hostile()]),
    ok = file:change_mode(Script, 8#755),
    ok = py:register_function(sleep, fun(_) -> timer:sleep(infinity) end),
    Before = erlang:system_info(atom_count),
    [begin
         ok = start(#{num_workers => 1, spares => 0, python => Script, env => #{"MODE" => Mode}}),
         {Mode, {error, Reason}} = {Mode, py:eval(<<"1">>, #{}, #{pool => ?POOL, timeout => 20000})},
         true = lists:member(Reason, Expected) orelse error({Mode, Reason}),
         ok = py_pool:stop(?POOL)
     end || {Mode, Expected} <- [
         {"garbage", killed()}, {"half", killed()}, {"huge", killed()}, {"kind", killed()},
         {"other", killed()}, {"lease", killed()}, {"closed", killed()}, {"call", killed()},
         {"term", killed()}, {"items", killed()}, {"status", killed()}, {"deep", killed()},
         {"deferred", killed()}, {"ready", killed()}, {"control", killed()}, {"stacks", killed()},
         {"frames", killed()}, {"profile", killed()},
         {"calls", killed()}, {"watches", killed()}, {"unsealed", killed()}, {"shrinks", killed()},
         {"file", killed()}, {"no memory", killed()}, {"a descriptor", killed()}, {"descriptors", killed()},
         {"sockets", killed()}, {"holes", killed()}, {"tiny", killed()}, {"not a term", killed()}, {"memory in memory", killed()},
         {"atom", [{unconvertible, #{reason => unknown_atom, value => <<"an atom, or a fun, of no module">>}}]}]],
    [{error, {python_not_prepared, _}} = start(#{num_workers => 1, python => Script, env => #{"MODE" => Mode}})
     || Mode <- ["version", "alone"]],
    ok = py:unregister_function(sleep),
    %% The atoms of what the test itself has loaded.
    true = erlang:system_info(atom_count) - Before < 50,
    {ok, Others} = py:eval(<<"__import__('os').getpid()">>, #{}, #{pool => others}).

%% Children that say frames of random kinds and fields, some with descriptors. Any answer is right: the VM, other
%% pools and what they hold stay as they were. PY_FUZZ_SEED repeats a run.
random_frames_harm_no_other(Config) ->
    ok = py_pool:start(others, #{level => process, num_workers => 1, spares => 0}),
    {ok, Context} = py:bind(new, #{pool => others}),
    ok = py:ctx_exec(Context, <<"kept = 1">>),
    Script = filename:join(proplists:get_value(priv_dir, Config), "hostile"),
    ok = file:write_file(Script, ["#!", py_peer:interpreter(), "\n", hostile()]),
    ok = file:change_mode(Script, 8#755),
    First = list_to_integer(os:getenv("PY_FUZZ_SEED", integer_to_list(rand:uniform(1 bsl 30)))),
    ct:log("PY_FUZZ_SEED=~b", [First]),
    Files = length(filelib:wildcard("/proc/self/fd/*")),
    [begin
         ok = start(#{num_workers => 2, spares => 0, python => Script,
                      env => #{"MODE" => "random", "SEED" => integer_to_list(Seed)}}),
         %% One child has a lease, the other a job without one; either may end before.
         _ = py_test:caught(fun() ->
             py:with_context(#{pool => ?POOL, wait => 1000}, fun(Bound) -> py:ctx_eval(Bound, <<"1">>, #{}, 200) end)
         end),
         _ = py:eval(<<"1">>, #{}, #{pool => ?POOL, timeout => 200}),
         ok = py_pool:stop(?POOL)
     end || Seed <- lists:seq(First, First + 19)],
    {ok, 1} = py:ctx_eval(Context, <<"kept">>),
    ok = py:unbind(Context),
    ok = py_test:wait_until(fun() -> length(filelib:wildcard("/proc/self/fd/*")) =< Files end),
    flush().

%% Drops what the children have sent to this process, which is their caller.
flush() ->
    receive _ -> flush() after 0 -> ok end.

killed() ->
    [{worker_exited, #{killed => malformed}}, {worker_exited, #{signal => 9}}, {worker_exited, #{status => 0}}].

%% The program of a child that says what no child says.
hostile() ->
    <<"
import fcntl, os, re, socket, struct, sys, time
size = int.from_bytes(os.read(3, 4), 'big')
config = b''
while len(config) < size:
    config += os.read(3, size - len(config))
address = re.search(rb'erlang_python-[0-9]+-[0-9a-f]{32}', config)[0]
data, control = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
data.connect(b'\\0' + address)
mode = os.environ['MODE']
if mode != 'alone':
    control.connect(b'\\0' + address)
word = lambda number: struct.pack('<Q', number)
frame = lambda kind, payload: word(len(payload) << 8 | kind) + payload
data.sendall(frame(1, word(99 if mode == 'version' else 4)))
data.sendall(frame(2, b''))
data.recv(1)
reply = lambda status, term, job=1: frame(4, word(job) + bytes([status, 0]) + term)
says = {
    'garbage': os.urandom(5000) + b'\\xff' * 5000,
    'half': reply(1, b'\\x83a\\x01')[:-1],
    'huge': word(1 << 60),
    'kind': frame(77, b''),
    'other': reply(1, b'\\x83a\\x01', job=12345),
    'lease': frame(10, word(0)),
    'closed': frame(11, b''),
    'call': frame(5, word(1) + word(777) + b'\\x01\\x00' + word(0) + b'\\x00\\x83j'),
    'term': reply(1, b'\\x83l\\xff\\xff\\xff\\xffa'),
    'items': reply(3, b'\\x83j'),
    'status': reply(200, b''),
    'deep': frame(4, word(1) + b'\\x01\\x01' + b'\\x83' + b'l\\0\\0\\0\\x01' * 2000 + b'j' * 2001),
    'deferred': reply(2, b''),
    'ready': frame(2, b''),
    'stacks': frame(16, word(1) + word(1 << 60)),
    'frames': frame(16, word(1) + word(1) + word(5) + b'a.py'),
    'profile': frame(17, word(1) + b'f 1'),
    'no memory': frame(255, b'\\x04' + word(1) + b'\\x01\\x00'),
    'calls': b''.join(frame(5, word(i) + word(0) + b'\\x01\\x00' + word(5) + b'sleep' + b'\\x00\\x83j')
                      for i in range(1, 70000)),
    'watches': frame(8, word(1) + b'\\x01\\x04' + b'\\x83m\\0\\0\\0\\x07py_pool') * 70000,
    'atom': reply(1, b'\\x83w\\x20an_atom_that_hostile_code_makes_'),
}
payload = lambda term: word(1) + b'\\x01\\x00' + term
inner = frame(255, b'\\x04' + payload(b'\\x83a\\x01'))
def memory(content, seals, size=0):
    fd = os.memfd_create('hostile', os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    if size:
        os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
whole = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
big = payload(b'\\x83m\\x00\\x10\\x00\\x00' + bytes(1 << 20))
passes = {
    'unsealed': lambda: [memory(big, 0)],
    'shrinks': lambda: [memory(big, whole & ~fcntl.F_SEAL_SHRINK)],
    'file': lambda: [os.open(sys.executable, os.O_RDONLY)],
    'descriptors': lambda: [memory(big, whole)] * 2,
    'sockets': lambda: [data.fileno()],
    'holes': lambda: [memory(payload(b'\\x83m\\x40\\x00\\x00\\x00'), whole, 1 << 30)],
    'tiny': lambda: [memory(payload(b'\\x83a\\x01'), whole)],
    'not a term': lambda: [memory(big[:-1], whole)],
    'memory in memory': lambda: [memory(inner, whole)],
}
def random_frames(count):
    import random
    random.seed(int(os.environ['SEED']))
    terms = [b'\\x83j', b'\\x83a\\x01', b'\\x83h\\x02a\\x01j', b'\\x83m\\0\\0\\0\\x07py_pool', b'\\x83w\\x02ok', b'\\x83\\x01' + bytes(8),
             b'\\x83l\\0\\0\\0\\x01a\\x01j', b'\\x83t\\0\\0\\0\\x01j' + b'a\\x01', b'', b'erlang', bytes(70)]
    field = lambda: random.choice([
        lambda: bytes([random.randrange(12)]), lambda: word(random.randrange(8)), lambda: random.choice(terms),
        lambda: word(1) + b'\\x01\\0' + random.choice(terms), lambda: random.randbytes(random.randrange(20)),
        lambda: (lambda term: word(len(term)) + term)(random.choice(terms))])()
    for _ in range(count):
        kind = random.choice([4] * 6 + list(range(18)) + [255])
        said = frame(kind, (word(random.randrange(5)) if kind in (4, 5, 6, 7, 8) else b'') +
                     b''.join(field() for _ in range(random.randrange(5))))
        if random.randrange(12) == 0:
            said = frame(255, b'\\x04' + word(1))
            fds = [memory(random.choice([big, payload(b'\\x83a\\x01'), inner, b'']), random.choice([whole, whole, 0, 15]))]
            socket.send_fds(data, [said], fds * random.choice([1, 1, 1, 2]))
            os.close(fds[0])
        else:
            data.sendall(said)
if mode == 'random':
    try:
        random_frames(30)
        time.sleep(0.3)
    except OSError:
        pass
    sys.exit(0)
elif mode == 'control':
    control.sendall(b'x')
elif mode in passes:
    fds = passes[mode]()
    socket.send_fds(data, [inner if mode != 'memory in memory' else frame(255, b'\\xff' + bytes(24))], fds)
    if mode == 'shrinks':
        os.ftruncate(fds[0], 10)
elif mode == 'a descriptor':
    socket.send_fds(data, [frame(9, word(1))], [0])
else:
    data.sendall(says[mode])
if mode == 'half':
    sys.exit(0)
time.sleep(60)
">>.

start(Options) ->
    py_pool:start(?POOL, Options#{level => process}).
