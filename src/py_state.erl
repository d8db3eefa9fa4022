%% @private
%% The state that Erlang and all Python code share: one table of keys and values, with a cap.
%%
%% Reads go to the table; each write goes through this server, so that the cap is exact and an
%% operation is atomic. The supervisor owns the table, which outlives this server.
-module(py_state).
-behaviour(gen_server).

-export([create_table/0, start_link/0, store/2, fetch/1, remove/1, keys/0, incr/2, clear/0]).
%% Internal: for Python code.
-export([operate/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

%% The entries are `{Key, Value, Size}'.
-define(TABLE, py_state).
%% The cap, which callers read so that a value that is too big for it is not copied.
-define(MAX, {?MODULE, max}).
%% Milliseconds without a message, after which the server collects its garbage.
-define(QUIET, 100).
%% Bytes that the table takes for an entry beside its terms.
-define(ENTRY, 64).

%% `used': the sizes of all entries together, in bytes.
-record(state, {used :: non_neg_integer(), max :: non_neg_integer()}).

-type request() :: {store | store_new, Key :: term(), Value :: term(), Size :: pos_integer()}
                 | {incr, Key :: term(), integer()} | {take, Key :: term()} | clear.

-spec create_table() -> ok.
create_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, set, {read_concurrency, true}]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec store(Key :: term(), Value :: term()) -> ok | {error, state_full}.
store(Key, Value) ->
    stored(store, Key, Value).

stored(Request, Key, Value) ->
    Size = size(Key, Value),
    case Size > persistent_term:get(?MAX, Size) of
        true -> {error, state_full};
        false -> call({Request, Key, Value, Size})
    end.

-spec fetch(Key :: term()) -> {ok, term()} | {error, not_found}.
fetch(Key) ->
    read(fun() ->
        case ets:lookup(?TABLE, Key) of
            [{_, Value, _}] -> {ok, Value};
            [] -> {error, not_found}
        end
    end).

-spec remove(Key :: term()) -> ok | {error, not_found}.
remove(Key) ->
    case call({take, Key}) of
        [_] -> ok;
        [] -> {error, not_found}
    end.

-spec keys() -> [term()].
keys() ->
    read(fun() -> ets:select(?TABLE, [{{'$1', '_', '_'}, [], ['$1']}]) end).

-spec incr(Key :: term(), integer()) -> integer() | {error, state_full | not_an_integer}.
incr(Key, Amount) ->
    call({incr, Key, Amount}).

-spec clear() -> ok.
clear() ->
    call(clear).

read(Read) ->
    try
        Read()
    catch
        error:badarg -> error({not_started, erlang_python})
    end.

-spec call(request()) -> term().
call(Request) ->
    try
        gen_server:call(?MODULE, Request, infinity)
    catch
        exit:{_, {gen_server, call, _}} -> error({not_started, erlang_python})
    end.

%% Returns about how many bytes an entry takes: the words of its terms, and the bytes of its binaries,
%% which are not among them. The external size counts those, and the rest once more.
size(Key, Value) ->
    Entry = {Key, Value},
    ?ENTRY + erts_debug:flat_size(Entry) * erlang:system_info(wordsize) + erlang:external_size(Entry).

%% @doc Runs an operation of `erlang.state', with its name as the first argument. Called in the process
%% of a callback; the answers are those that `erlang/module.py' reads.
-spec operate([term(), ...]) -> term().
operate([<<"fetch">>, Key]) -> [Value || {ok, Value} <- [fetch(Key)]];
operate([<<"has">>, Key]) -> read(fun() -> ets:member(?TABLE, Key) end);
operate([<<"keys">>]) -> keys();
operate([<<"size">>]) -> read(fun() -> ets:info(?TABLE, size) end);
operate([<<"store">>, Key, Value]) -> ok =:= store(Key, Value);
operate([<<"store_new">>, Key, Value]) -> or_nothing(stored(store_new, Key, Value));
operate([<<"remove">>, Key]) -> [] =/= call({take, Key});
operate([<<"take">>, Key]) -> call({take, Key});
operate([<<"clear">>]) -> clear();
operate([<<"incr">>, Key, Amount]) when is_integer(Amount) ->
    case incr(Key, Amount) of
        {error, Reason} -> Reason;
        Value -> Value
    end.

or_nothing({error, state_full}) -> [];
or_nothing({ok, Value}) -> [Value].

-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, Max} = application:get_env(erlang_python, max_state),
    ok = persistent_term:put(?MAX, Max),
    Used = ets:foldl(fun({_, _, Size}, Sum) -> Size + Sum end, 0, ?TABLE),
    {ok, #state{used = Used, max = Max}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}, timeout()}.
handle_call({store, Key, Value, Size}, _From, State) ->
    put(Key, Value, Size, ok, State);
handle_call({store_new, Key, Value, Size}, _From, State) ->
    case ets:lookup(?TABLE, Key) of
        [{_, Old, _}] -> {reply, {ok, Old}, State, ?QUIET};
        [] -> put(Key, Value, Size, {ok, Value}, State)
    end;
handle_call({incr, Key, Amount}, _From, State) ->
    case ets:lookup(?TABLE, Key) of
        [{_, Old, _}] when is_integer(Old) ->
            try Old + Amount of
                Sum -> put_integer(Key, Sum, State)
            catch
                %% No integer is that big.
                error:system_limit -> {reply, {error, state_full}, State, ?QUIET}
            end;
        [] -> put_integer(Key, Amount, State);
        [_] -> {reply, {error, not_an_integer}, State, ?QUIET}
    end;
handle_call({take, Key}, _From, #state{used = Used} = State) ->
    case ets:take(?TABLE, Key) of
        [{_, Value, Size}] -> {reply, [Value], State#state{used = Used - Size}, ?QUIET};
        [] -> {reply, [], State, ?QUIET}
    end;
handle_call(clear, _From, State) ->
    true = ets:delete_all_objects(?TABLE),
    {reply, ok, State#state{used = 0}, ?QUIET};
handle_call(_Request, _From, State) ->
    {reply, {error, not_supported}, State, ?QUIET}.

put_integer(Key, Value, State) ->
    put(Key, Value, size(Key, Value), Value, State).

%% Replaces the value of a key if there is room for the new one in place of the old one.
put(Key, Value, Size, Reply, #state{used = Used, max = Max} = State) ->
    case Used - used_by(Key) + Size of
        More when More > Max ->
            {reply, {error, state_full}, State, ?QUIET};
        Now ->
            true = ets:insert(?TABLE, {Key, Value, Size}),
            {reply, Reply, State#state{used = Now}, ?QUIET}
    end.

%% Returns the size of the entry of a key, without a copy of its value.
used_by(Key) ->
    try
        ets:lookup_element(?TABLE, Key, 3)
    catch
        error:badarg -> 0
    end.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}, timeout()}.
handle_cast(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_cast, message => Message}),
    {noreply, State, ?QUIET}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}, timeout() | hibernate}.
handle_info(timeout, State) ->
    %% The garbage of this process holds the values that were stored.
    {noreply, State, hibernate};
handle_info(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_message, message => Message}),
    {noreply, State, ?QUIET}.
