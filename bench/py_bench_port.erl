%% @private
%% Python processes beside the VM: Python alone as a floor, and a port that speaks external terms as
%% the alternative.
-module(py_bench_port).

-export([open_peer/0, ask/2, open_floor/0, times/4, close/1]).

-define(TIMEOUT, 60000).

%% @doc Starts a python3 that evaluates external terms; its python has the library for that.
-spec open_peer() -> port().
open_peer() ->
    open(os:getenv("PY_BENCH_PEER_PYTHON"), "peer.py").

%% @doc Returns the answer of the peer.
-spec ask(port(), term()) -> term().
ask(Port, Order) ->
    binary_to_term(exchange(Port, term_to_binary(Order))).

%% @doc Starts a python3 of the same build as the one in this VM.
-spec open_floor() -> port().
open_floor() ->
    open(os:getenv("ERLANG_PYTHON"), "floor.py").

%% @doc Returns the nanoseconds of some work in Python alone: Repeat times, each the mean of Number
%% runs.
-spec times(port(), Work :: atom(), Repeat :: pos_integer(), Number :: pos_integer()) ->
    [float(), ...].
times(Port, Work, Repeat, Number) ->
    Order = io_lib:format("~ts ~b ~b", [Work, Repeat, Number]),
    [Time || <<Time/float>> <= exchange(Port, Order)].

-spec close(port()) -> ok.
close(Port) ->
    true = port_close(Port),
    ok.

%% Opens a port on a Python, whose path is in a variable that scripts/bench sets.
open(false, Script) ->
    error({run_it_with_scripts_bench, Script});
open(Python, Script) ->
    Path = filename:join(os:getenv("PY_BENCH_SOURCES", "bench"), Script),
    open_port({spawn_executable, Python},
              [{args, ["-u", Path]}, {packet, 4}, binary, exit_status, hide]).

exchange(Port, Order) ->
    true = port_command(Port, Order),
    receive
        {Port, {data, Answer}} -> Answer;
        {Port, {exit_status, Status}} -> error({python_ended, Status})
    after ?TIMEOUT ->
        error(timeout)
    end.
