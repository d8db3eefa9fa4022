%% @private
%% The context in which the asynchronous calls of processes without a binding run, all of them at
%% once: a binding of this process, made for the first and given back when there are none.
-module(py_async).
-behaviour(gen_server).

-export([start_link/0, start/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

%% Milliseconds between two looks whether any call is under way; two quiet ones end the binding.
-define(ROUND, 500).

-record(state, {is_quiet = false :: boolean()}).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Starts a job of the calling process: in its binding, in the context that waits for it, or in
%% the common one.
-spec start(py_nif:job()) -> py_call:pending().
start(Job) ->
    case py:is_bound() orelse py_callback:place() of
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
        {ok, Lease} -> py_call:start_at(Lease, Job);
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

-spec handle_call(bind, gen_server:from(), #state{}) ->
    {reply, {ok, py_nif:lease()} | {error, term()}, #state{}, timeout()}.
handle_call(bind, _From, _State) ->
    {reply, bound(), #state{}, ?ROUND}.

bound() ->
    try py:bind() of
        ok ->
            case py_pool:binding(self()) of
                {ok, Lease} -> {ok, Lease};
                %% The pool has died since.
                none -> {error, {not_started, erlang_python}}
            end;
        {error, Reason} ->
            {error, Reason}
    catch
        %% The pool has died, and starts again.
        error:{not_started, _} = NotStarted -> {error, NotStarted}
    end.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}, timeout()}.
handle_cast(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_cast, message => Message}),
    {noreply, State, ?ROUND}.

-spec handle_info(term(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, timeout() | hibernate}.
handle_info(timeout, #state{is_quiet = WasQuiet}) ->
    case py_pool:binding(self()) of
        none ->
            {noreply, #state{}};
        {ok, Lease} ->
            case py_nif:is_idle(Lease) of
                true when WasQuiet ->
                    ok = py:unbind(),
                    %% What it knew of the lease is garbage, which holds it.
                    {noreply, #state{}, hibernate};
                IsIdle ->
                    {noreply, #state{is_quiet = IsIdle}, ?ROUND}
            end
    end;
handle_info(Message, State) ->
    ?LOG_WARNING(#{what => unexpected_message, message => Message}),
    {noreply, State, ?ROUND}.
