%% @private
%% The shared context: the asynchronous calls of processes without a binding run in it, all of them
%% at once. It is the binding of this server, made for the first call and given back when none is
%% left.
-module(py_async).
-behaviour(gen_server).

-export([start_link/0, start/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

%% Milliseconds between two checks. A binding without any call from one check to the next ends.
-define(ROUND, 500).

%% `quiet_at': the number of calls that the binding had had when it was last idle; `none' if it was
%% busy at the last check. `timer': the next check; a timer, since a timeout of the server would
%% begin anew with each message.
-record(state, {quiet_at = none :: non_neg_integer() | none,
                timer = none :: reference() | none}).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Starts a job of the calling process: in its binding, in the context that waits for it, or in
%% the shared one.
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
        %% The shared context has just been given back.
        error:context_not_bound -> start(Job, none)
    end;
start(Job, none) ->
    case bind() of
        %% The shared context may have been given back again meanwhile.
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
    {reply, bound(), check_later(#state{})};
handle_call(bind, _From, State) ->
    {reply, bound(), State#state{quiet_at = none}};
handle_call(_Request, _From, State) ->
    {reply, {error, not_supported}, State}.

bound() ->
    try py:bind() of
        ok ->
            case py_pool:binding(self()) of
                {ok, Lease} -> {ok, Lease};
                %% The binding has ended since, or the pool has died: then the next bind says so.
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
handle_info({timeout, Timer, check}, #state{quiet_at = QuietAt, timer = Timer}) ->
    case py_pool:binding(self()) of
        none ->
            {noreply, #state{}};
        {ok, Lease} ->
            %% Ended by the native side, which sees new calls at once: the pool may be busy.
            case QuietAt =/= none andalso py_nif:end_idle(Lease, QuietAt) of
                true ->
                    ok = py:unbind(),
                    %% The garbage of this process holds the lease.
                    {noreply, #state{}, hibernate};
                false ->
                    {noreply, check_later(#state{quiet_at = quiet_at(Lease)})}
            end
    end;
handle_info(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_message, message => Message}),
    {noreply, State}.

check_later(State) ->
    State#state{timer = erlang:start_timer(?ROUND, self(), check)}.

%% Counts the calls before it looks whether the lease is idle: a call in between is not in the
%% count, and shows at the next check.
quiet_at(Lease) ->
    Submitted = py_nif:submitted(Lease),
    case py_nif:is_idle(Lease) of
        true -> Submitted;
        false -> none
    end.
