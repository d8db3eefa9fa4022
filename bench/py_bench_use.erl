%% @private
%% The costs of what code does beside its work: methods of handles, output, log records.
-module(py_bench_use).

-export([rows/0]).

-define(ROUNDS, 40).
-define(EACH, 200).
-define(WARM_UP, 2000).
%% Calls of `print' or `debug' in one call of Erlang.
-define(COUNT, 100).

-spec rows() -> [py_bench_row:row()].
rows() ->
    ok = py_bench:start(8),
    ok = py:bind(),
    ok = py:exec(<<"import logging\n"
                   "class Thing:\n    def value(self): return 1\n"
                   "def value(): return 1\n"
                   "def say(count):\n    for _ in range(count): print('a line of text as long as many are')\n"
                   "log = logging.getLogger('bench')\n"
                   "def debug(count):\n    for _ in range(count): log.debug('%d', 1)\n"
                   "def nothing(count):\n    for _ in range(count): value()">>),
    method_rows() ++ written_rows().

method_rows() ->
    {ok, Thing} = py:eval(<<"Thing()">>),
    Stats = py_bench_stat:together([
        {function, fun() -> {ok, 1} = py:call('__main__', value, []) end},
        {method, fun() -> {ok, 1} = py:call(Thing, value, []) end}
    ], options(function)),
    #{function := #{p50 := Function}, method := Method} = Stats,
    [py_bench_row:row(#{name => "bound call of a method of a handle", unit => us, stats => Method,
                        floor => {"bound call of a function", Function}, target => {ratio, 1.2}})].

%% A group leader that answers nothing: text is dropped after the first second.
written_rows() ->
    ok = py:configure_logging(#{level => warning}),
    Leader = group_leader(),
    Deaf = spawn_link(fun() -> receive stop -> ok end end),
    true = group_leader(Deaf, self()),
    {ok, none} = py:call('__main__', say, [50000]),
    Stats = py_bench_stat:together([
        {nothing, fun() -> {ok, none} = py:call('__main__', nothing, [?COUNT]) end},
        {print, fun() -> {ok, none} = py:call('__main__', say, [?COUNT]) end},
        {debug, fun() -> {ok, none} = py:call('__main__', debug, [?COUNT]) end}
    ], options(nothing)),
    true = group_leader(Leader, self()),
    Deaf ! stop,
    ok = py:configure_logging(#{level => none}),
    #{nothing := #{p50 := Nothing}, print := Print, debug := Debug} = Stats,
    Row = fun(Name, Own, Most) ->
        py_bench_row:row(#{name => Name, unit => {per_element, ?COUNT}, stats => Own,
                           floor => {"a call of a function in Python", Nothing}, target => {most, Most}})
    end,
    [Row("print without a reader", Print, 3000), Row("log record below the level", Debug, 1000)].

options(Guide) ->
    #{batches => ?ROUNDS, each => ?EACH, warm_up => ?WARM_UP, guide => Guide}.
