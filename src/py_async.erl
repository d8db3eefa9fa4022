%% @private
%% The context in which the asynchronous calls of processes without a binding run, all of them at
%% once: a binding of this process, made for the first and given back when there are none.
-module(py_async).
-behaviour(gen_server).

-export([start_link/0, start/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

%% Milliseconds between two looks; a binding without any call from one to the next ends.
-define(ROUND, 500).

%% `quiet_at': the number of calls that the binding had had when it was found without one.
%% `timer': the next look; a timer, since a timeout of the server would begin anew with each message.
-record(state, {quiet_at = none :: non_neg_integer() | none,
                timer = none :: reference() | none}).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Starts a job of the calling process: in its binding, in the context that waits for it, or in
%% the common one.
-spec start(py_nif:job()) -> py_call:pending().
start(Job) ->
    case py:is_bound() orelse py_callback:current() of
        undefined -> start(Job, py_pool:binding(server()));
        _ -> py_call:start(Job)
    end.

start(Job, {ok, Lease}) ->
    try
        py_call:start_at(Lease, Job)
    catch
        %% It has just been given back.
        error:context_not_bound -> start(Job, none)
    end;
start(Job, none) ->
    case bind() of
        %% By now it may have been given back again.
        {ok, Lease} -> start(Job, {ok, Lease});
        {error, no_workers_available} -> py_call:failed(no_workers_available);
        {error, NotStarted} -> error(NotStarted)
    end.

bind() ->
    try
        gen_server:call(server(), bind, infinity)
    catch
        exit:{_, {gen_server, call, _}} -> {error, {not_started, erlang_python}}
    end.

server() ->
    case whereis(?MODULE) of
        undefined -> error({not_started, erlang_python});
        Pid -> Pid
    end.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, {ok, py_nif:lease()} | {error, term()}, #state{}}.
handle_call(bind, _From, #state{timer = none}) ->
    {reply, bound(), look_later(#state{})};
handle_call(bind, _From, State) ->
    {reply, bound(), State#state{quiet_at = none}};
handle_call(_Request, _From, State) ->
    {reply, {error, not_supported}, State}.

bound() ->
    try py:bind() of
        ok ->
            case py_pool:binding(self()) of
                {ok, Lease} -> {ok, Lease};
                %% It has ended since, or the pool has died, which the next one tells.
                none -> bound()
            end;
        {error, Reason} ->
            {error, Reason}
    catch
        %% The pool has died, and starts again.
        error:{not_started, _} = NotStarted -> {error, NotStarted}
    end.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_cast, message => Message}),
    {noreply, State}.

-spec handle_info(term(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, hibernate}.
handle_info({timeout, Timer, look}, #state{quiet_at = QuietAt, timer = Timer}) ->
    case py_pool:binding(self()) of
        none ->
            {noreply, #state{}};
        {ok, Lease} ->
            %% Not by the pool: it may be busy, and calls come meanwhile.
            case QuietAt =/= none andalso py_nif:end_idle(Lease, QuietAt) of
                true ->
                    ok = py:unbind(),
                    %% What it knew of the lease is garbage, which holds it.
                    {noreply, #state{}, hibernate};
                false ->
                    {noreply, look_later(#state{quiet_at = quiet_at(Lease)})}
            end
    end;
handle_info(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_message, message => Message}),
    {noreply, State}.

look_later(State) ->
    State#state{timer = erlang:start_timer(?ROUND, self(), look)}.

%% In this order: a call that comes in between is not in the count, and shows at the next look.
quiet_at(Lease) ->
    Submitted = py_nif:submitted(Lease),
    case py_nif:is_idle(Lease) of
        true -> Submitted;
        false -> none
    end.
