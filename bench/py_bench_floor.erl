%% @private
%% The costs of the same way without Python: no call can be cheaper than these.
-module(py_bench_floor).
-behaviour(gen_server).

-export([ping_pong/0, server/0, empty/1, parked/0, nothing/0, copy/2]).
-export([init/1, handle_call/3, handle_cast/2]).
-export([wake/1]).

-on_load(load/0).
-nifs([wake/1, nothing/0, copy/2]).

%% Milliseconds far beyond the time of any floor: a lost message is an error, not a hang.
-define(TIMEOUT, 30000).

-spec load() -> ok | {error, {py_nif:load_error(), string()}}.
load() ->
    Ebin = filename:dirname(code:which(?MODULE)),
    erlang:load_nif(filename:join(Ebin, "py_bench_floor"), 0).

%% @doc Returns a fun that sends to another process and receives its answer.
-spec ping_pong() -> fun(() -> ok).
ping_pong() ->
    %% The process ends with the one that started it: no other process sends to it.
    Pong = spawn_link(fun Pong() -> receive {From, Ref} -> From ! {Ref, ok}, Pong() end end),
    fun() ->
        Ref = make_ref(),
        Pong ! {self(), Ref},
        receive {Ref, ok} -> ok after ?TIMEOUT -> error(timeout) end
    end.

%% @doc Returns a fun that calls a gen_server, which does nothing.
-spec server() -> fun(() -> ok).
server() ->
    {ok, Server} = gen_server:start_link(?MODULE, [], []),
    fun() -> ok = gen_server:call(Server, nothing) end.

%% @doc Returns `ok' when a job that does nothing has gone the whole way: queue, thread, and back.
-spec empty(py_nif:pool() | py_nif:lease() | py_nif:context()) -> ok.
empty(Target) ->
    Ref = make_ref(),
    {ok, _Ticket} = py_nif:submit(Target, Ref, empty, undefined),
    receive {Ref, ok} -> ok after ?TIMEOUT -> error(timeout) end.

%% @doc Returns `ok' when a thread has been woken and has answered.
-spec parked() -> ok.
parked() ->
    Ref = make_ref(),
    ok = wake(Ref),
    receive {Ref, ok} -> ok after ?TIMEOUT -> error(timeout) end.

-spec wake(reference()) -> ok.
wake(_Ref) ->
    erlang:nif_error(not_loaded).

%% @doc Returns `ok', from a dirty scheduler.
-spec nothing() -> ok.
nothing() ->
    erlang:nif_error(not_loaded).

%% @doc Returns the nanoseconds of one memcpy, into memory that the process had before or takes
%% anew.
-spec copy(binary(), IsWarm :: boolean()) -> non_neg_integer().
copy(_Binary, _IsWarm) ->
    erlang:nif_error(not_loaded).

-spec init([]) -> {ok, none}.
init([]) ->
    {ok, none}.

-spec handle_call(nothing, gen_server:from(), none) -> {reply, ok, none}.
handle_call(nothing, _From, none) ->
    {reply, ok, none}.

-spec handle_cast(term(), none) -> {stop, {unexpected, term()}, none}.
handle_cast(Message, none) ->
    {stop, {unexpected, Message}, none}.
