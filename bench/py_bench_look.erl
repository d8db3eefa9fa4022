%% @private
%% The costs of a look at the workers: dumps, and what a profile costs the code that it samples.
-module(py_bench_look).

-export([rows/0]).

-define(LEASES, 1000).
%% Seconds that a call sleeps, within which the dumps are made.
-define(SLEEP, 8).
%% Milliseconds of a profile, which begins before the sampled code and ends after it.
-define(PROFILE, 300).
-define(BEFORE, 20).

-spec rows() -> [py_bench_row:row()].
rows() ->
    ok = py_bench:start(?LEASES + 1),
    Contexts = [begin {ok, Context} = py:bind(new), Context end || _ <- lists:seq(1, ?LEASES)],
    [ok = py:ctx_exec(Context, <<"import time">>) || Context <- Contexts],
    Idle = dumps(),
    Calls = [py:ctx_call_async(Context, time, sleep, [?SLEEP]) || Context <- Contexts],
    ok = timer:sleep(2000),
    Running = dumps(),
    Row = fun(Name, Stats, Target) ->
        py_bench_row:row(#{name => Name, unit => ms, stats => Stats, target => Target})
    end,
    Rows = [Row("dump of 1,000 idle leases", Idle, {most, 20}), Row("dump of 1,000 that run", Running, {most, 20})],
    [{ok, none} = py:await(Call) || Call <- Calls],
    [ok = py:unbind(Context) || Context <- Contexts],
    Rows ++ sampled_rows().

dumps() ->
    #{dump := Stats} = py_bench_stat:together([
        {dump, fun() -> ?LEASES = length(py:dump()) end}
    ], #{each => 20, warm_up => 5}),
    Stats.

sampled_rows() ->
    ok = py_bench:start(2),
    {ok, Context} = py:bind(new),
    ok = py:ctx_exec(Context, <<"def step(i): return i * i\n"
                                "def work():\n"
                                "    total = 0\n"
                                "    for i in range(1000000): total += step(i)\n"
                                "    return total">>),
    Work = fun() -> {ok, _} = py:ctx_call(Context, '__main__', work, []) end,
    Time = fun() -> {Microseconds, _} = timer:tc(Work), Microseconds * 1000 end,
    #{alone := #{p50 := Alone}, sampled := Sampled} = py_bench_stat:together([
        {alone, own, Time},
        {sampled, own, fun() -> sampled(Context, Time) end}
    ], #{batches => 40, each => 1, warm_up => 3}),
    [py_bench_row:row(#{name => "code that is sampled", unit => ms, stats => Sampled,
                        floor => {"the same without", Alone}, target => {ratio, 1.02}})].

sampled(Context, Time) ->
    Self = self(),
    Profile = spawn_link(fun() -> Self ! {self(), py:profile(Context, ?PROFILE)} end),
    ok = timer:sleep(?BEFORE),
    Taken = Time(),
    receive {Profile, {ok, _}} -> Taken end.
