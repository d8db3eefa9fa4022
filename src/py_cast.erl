%% @private
%% Casts: calls whose result nobody waits for.
%%
%% The calling process submits the job, so that the jobs of a binding keep their order and a refusal is
%% returned. A process of its own for each cast gets the reply, holds the ticket, so that the death of
%% the caller cancels nothing, and logs a failure.
-module(py_cast).

-export([start/2, start_in/3]).

-include_lib("kernel/include/logger.hrl").

-include("py_call.hrl").
-include("py_pool.hrl").

-type refusal() :: no_workers_available | overloaded.

%% @doc Casts a job of the calling process: in its binding, in the code that waits for it, or in a pool.
-spec start(py_nif:source(), py:call_options() | ?DEFAULT) -> ok | {error, refusal()}.
start(Job, Options) ->
    {Pool, Timeout} = options(Options),
    case py_pool:binding(self()) of
        {ok, Lease} ->
            try has_pool(Lease, Pool) andalso submit(Lease, Job, Timeout) of
                false -> start_unbound(Pool, Job, Timeout, undefined);
                Result -> Result
            catch
                %% The binding had ended before: the call was not accepted.
                error:context_not_bound -> start_unbound(default, Job, Timeout, undefined)
            end;
        none ->
            start_unbound(Pool, Job, Timeout, py_callback:current())
    end.

%% @doc Casts a job in a context. Raises `context_not_bound' when that has ended.
-spec start_in(py:context(), py_nif:source(), timeout() | ?DEFAULT) -> ok | {error, refusal()}.
start_in(Context, Job, Timeout) ->
    submit(py_call:within(Context), Job, timeout(Timeout)).

has_pool(_Lease, any) ->
    true;
has_pool(Lease, Name) ->
    case py_pool:find(Name) of
        {ok, #pool{server = Server}} -> py_nif:lease_manager(Lease) =:= Server;
        none -> false
    end.

start_unbound(Name, Job, Timeout, Current) when Current =:= undefined; Name =/= any, Name =/= default ->
    Pool = case Name of any -> default; _ -> Name end,
    case py_restart:run(Pool, fun(Native, _) -> submit(Native, Job, Timeout) end, Timeout) of
        %% The pool has not come back within the time.
        {error, timeout} -> {error, no_workers_available};
        Result -> Result
    end;
start_unbound(_Name, Job, Timeout, {Callback, _Lease}) ->
    submit(Callback, Job, Timeout).

options(#{} = Options) ->
    case {maps:without([pool, timeout], Options), maps:get(pool, Options, any)} of
        {Rest, Pool} when Rest =:= #{}, is_atom(Pool) -> {Pool, timeout(maps:get(timeout, Options, ?DEFAULT))};
        _ -> error(badarg)
    end;
options(Timeout) ->
    {any, timeout(Timeout)}.

timeout(?DEFAULT) -> timeout(application:get_env(erlang_python, default_timeout, 30000));
timeout(Timeout) when ?IS_TIMEOUT(Timeout) -> Timeout;
timeout(_) -> error(badarg).

submit(Target, Job, Timeout) ->
    Ref = make_ref(),
    {call, Module, Function, _, _} = Job,
    Caller = self(),
    Waiter = proc_lib:spawn(fun() -> wait(Caller, Ref, {Module, Function}, Timeout) end),
    try py_nif:submit_cast(Target, Ref, Job, get('$callers'), Waiter) of
        {ok, Ticket} ->
            Waiter ! {ticket, Ref, Ticket},
            ok;
        {error, Reason} ->
            Waiter ! {refused, Ref},
            refused(Reason)
    catch
        error:badarg ->
            Waiter ! {refused, Ref},
            error(badarg)
    end.

refused(context_not_bound) -> error(context_not_bound);
refused(Reason) -> {error, Reason}.

%% The process of a cast. Cannot hang: the caller sends the ticket or the refusal, or dies; the ticket
%% that it has dropped then cancels the job.
wait(Caller, Ref, Called, Timeout) ->
    Monitor = monitor(process, Caller),
    receive
        {ticket, Ref, Ticket} ->
            true = demonitor(Monitor, [flush]),
            ended(result(Ref, Ticket, Timeout), Caller, Called);
        {refused, Ref} ->
            ok;
        {'DOWN', Monitor, process, _, _} ->
            ok
    end.

result(Ref, Ticket, Timeout) ->
    receive
        {Ref, Result} -> Result
    after Timeout ->
        case py_nif:cancel(Ticket) of
            cancelled ->
                {error, timeout};
            replied ->
                %% Cannot hang: the ticket says that the worker sends the reply, or has sent it.
                receive {Ref, Result} -> Result end
        end
    end.

ended({printed, Result}, Caller, Called) ->
    ended(Result, Caller, Called);
ended({Failed, Reason}, Caller, {Module, Function}) when Failed =:= error; Failed =:= raise ->
    ?LOG_ERROR(#{what => cast_failed, module => Module, function => Function, caller => Caller,
                 reason => py_error:format(Reason)});
ended(_Value, _Caller, _Called) ->
    ok.
