%% What things cost. Every figure is taken in this run, beside the floor that it stands on; `make
%% bench' prints them.
-module(py_bench).

-export([main/0]).

-define(WARM_UP, 2000).

-spec main() -> ok.
main() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = print_machine(),
    io:format("~-44s ~8s ~10s ~10s ~7s~n", ["", "n", "median us", "p99 us", "floors"]),
    Floor = report("floor: ping and pong of two processes", 50000, ping_pong(), none),
    ok = py:bind(),
    _ = report("eval in a binding", 50000, fun() -> {ok, 1} = py:eval(<<"1">>) end, Floor),
    _ = report("call in a binding", 50000,
               fun() -> {ok, _} = py:call(math, sqrt, [2]) end, Floor),
    ok = py:unbind(),
    _ = report("eval without a binding", 20000, fun() -> {ok, 1} = py:eval(<<"1">>) end, Floor),
    _ = report("a clean lease: bind, unbind", 20000,
               fun() -> ok = py:bind(), ok = py:unbind() end, Floor),
    _ = report("a clean lease with one eval", 20000,
               fun() -> py:with_context(fun() -> {ok, 1} = py:eval(<<"1">>) end) end, Floor),
    Hundred = <<"vars().update({f'v{n}': [n] for n in range(100)})">>,
    _ = report("a clean lease with 100 variables", 5000,
               fun() -> py:with_context(fun() -> ok = py:exec(Hundred) end) end, Floor),
    {Caller, Interrupt} = interrupted(),
    _ = report("interrupt of a loop, until its caller hears", 200, Interrupt, Floor),
    true = exit(Caller, kill),
    io:format("~nan unbound call is cleaned up after its reply: the next one pays for it~n").

print_machine() ->
    {ok, #{version := Version, abi := Abi}} = py:python_info(),
    {ok, Cpus} = file:read_file("/proc/cpuinfo"),
    {match, [Model]} = re:run(Cpus, "model name\\s*: (.*)", [{capture, [1], binary}]),
    io:format("~ts, ~b schedulers; OTP ~s; Python ~ts (~ts)~n",
              [Model, erlang:system_info(schedulers_online), erlang:system_info(otp_release),
               hd(string:split(Version, " ")), Abi]).

ping_pong() ->
    Pong = spawn_link(fun Pong() -> receive {From, Ref} -> From ! Ref, Pong() end end),
    fun() ->
        Ref = make_ref(),
        Pong ! {self(), Ref},
        receive Ref -> ok end
    end.

%% A process that loops in Python whenever it is not interrupted.
interrupted() ->
    Self = self(),
    Caller = spawn_link(fun Loop() ->
        {error, interrupted} = py:exec(<<"while True: pass">>, #{}, infinity),
        Self ! heard,
        Loop()
    end),
    true = unlink(Caller),
    Interrupt = fun Interrupt() ->
        case py:interrupt(Caller) of
            ok -> receive heard -> ok end;
            {error, not_running} -> Interrupt()
        end
    end,
    {Caller, Interrupt}.

%% Prints a line, and returns the median in nanoseconds.
report(Name, Count, Fun, Floor) ->
    repeat(min(Count, ?WARM_UP), Fun),
    Times = lists:sort([time(Fun) || _ <- lists:seq(1, Count)]),
    Median = lists:nth(max(1, Count div 2), Times),
    P99 = lists:nth(max(1, Count * 99 div 100), Times),
    Ratio = case Floor of
        none -> "1";
        _ -> io_lib:format("~.1f", [Median / Floor])
    end,
    io:format("~-44s ~8b ~10.2f ~10.2f ~7s~n", [Name, Count, Median / 1000, P99 / 1000, Ratio]),
    Median.

time(Fun) ->
    Start = erlang:monotonic_time(nanosecond),
    _ = Fun(),
    erlang:monotonic_time(nanosecond) - Start.

repeat(0, _Fun) -> ok;
repeat(Count, Fun) -> _ = Fun(), repeat(Count - 1, Fun).
