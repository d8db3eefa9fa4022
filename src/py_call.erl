%% @private
%% The path of a call: from the request to the native side to the result in the mailbox of the
%% caller.
%%
%% Runs in the calling process. Each `make_ref' and its `receive' stand here: once for calls that
%% are waited for, and once for calls under way.
-module(py_call).

-export([job/4, code_job/3, run/2, run_in/3, submit/3, bind_options/1, start/1, start_in/2, start_at/2, within/1, failed/1,
         await/2, announced/1, check_response/2, settled/1, result/1, discard/2, deadline/2, remaining/1, name/1, code/1]).

-export_type([pending/0, options/0]).

-include("py_call.hrl").
-include("py_pool.hrl").

-type pending() :: {py_pending, Owner :: pid(), reference(),
                      py_nif:ticket() | {error, py:error_reason()}}.

-type options() :: py:call_options().
%% A map: the timeout alone is handled before.

-type target() :: py_nif:target().

%% Milliseconds to wait for a message that is about to be sent.
-define(GRACE_MS, 1000).

-spec job(py:callee(), py:name(), py:args(), py:kwargs()) -> py_nif:source().
job(Object, Function, Args, Kwargs) when is_reference(Object) ->
    {call, Object, name(Function), Args, names(Kwargs)};
job(Module, Function, Args, Kwargs) ->
    {call, name(Module), name(Function), Args, names(Kwargs)}.

%% @doc Returns the request of source code: `eval', `exec' or `run'.
-spec code_job(eval | exec | run, py:code(), py:locals()) -> py_nif:source().
code_job(Kind, Code, Locals) ->
    {Kind, code(Code), names(Locals)}.

%% Keyword arguments or variables, in a map or in a list of pairs. The native side checks the map.
names(List) when is_list(List) ->
    Map = maps:from_list(List),
    %% Python refuses a keyword that is repeated, too.
    map_size(Map) =:= length(List) orelse error(badarg),
    Map;
names(Map) ->
    Map.

%% A process that lost its binding to a crash is a process without one. A call that was accepted in
%% the binding is not run outside of it: the result is `{error, interrupted}' if the binding ends
%% before the call.
-spec run(py_nif:job(), timeout() | options() | ?DEFAULT) -> term().
run(Job0, #{} = Options) ->
    {Pool, Timeout, Form} = options(Options),
    Job = in_form(Form, Job0),
    case py_pool:binding(self()) of
        {ok, Lease} when Pool =/= any -> run_named(Pool, Lease, Job, Timeout);
        none when Pool =/= any, Pool =/= default -> run_unbound(Pool, Job, Timeout, undefined);
        _ -> run(Job, Timeout)
    end;
run(Job, Timeout) ->
    case py_pool:binding(self()) of
        {ok, Lease} ->
            try
                submit(Lease, Job, Timeout)
            catch
                %% The binding had ended before: the call was not accepted.
                error:context_not_bound -> run_unbound(default, Job, Timeout, undefined)
            end;
        none ->
            run_unbound(default, Job, Timeout, py_callback:current())
    end.

%% A binding to a worker of the pool that is named is used; one to another pool is not.
run_named(Name, Lease, Job, Timeout) ->
    case py_pool:find(Name) of
        {ok, #pool{server = Server}} ->
            case py_nif:lease_manager(Lease) of
                Server -> run(Job, Timeout);
                _ -> run_unbound(Name, Job, Timeout, undefined)
            end;
        none ->
            run_unbound(Name, Job, Timeout, undefined)
    end.

%% Returns the pool and the timeout that the options name, and the form of the value, as the bits that the
%% native side knows.
options(Options) ->
    maps:fold(fun option/3, {any, ?DEFAULT, 0}, Options).

option(pool, Pool, {_, Timeout, Form}) when is_atom(Pool) -> {Pool, Timeout, Form};
option(timeout, Timeout, {Pool, _, Form}) when ?IS_TIMEOUT(Timeout) -> {Pool, Timeout, Form};
option(return, term, Options) -> Options;
option(return, object, {Pool, Timeout, Form}) -> {Pool, Timeout, Form bor 1};
option(arrays, list, Options) -> Options;
option(arrays, binary, {Pool, Timeout, Form}) -> {Pool, Timeout, Form bor 2};
option(none, none, {Pool, Timeout, Form}) -> {Pool, Timeout, Form bor 4};
option(none, nil, {Pool, Timeout, Form}) -> {Pool, Timeout, Form bor 8};
option(none, undefined, {Pool, Timeout, Form}) -> {Pool, Timeout, Form bor 12};
option(_, _, _) -> error(badarg).

in_form(0, Job) -> Job;
%% Statements have no value.
in_form(_, {exec, _, _}) -> error(badarg);
in_form(Form, Job) -> {form, Form, Job}.

%% @doc Returns the pool and the time to wait of the options of a binding or a context.
-spec bind_options(py:bind_options()) -> {py_pool:name(), Wait :: timeout()}.
bind_options(#{} = Options) ->
    case {maps:without([pool, wait], Options), maps:get(pool, Options, default), maps:get(wait, Options, 0)} of
        {Rest, Pool, Wait} when Rest =:= #{}, is_atom(Pool), ?IS_TIMEOUT(Wait) -> {Pool, Wait};
        _ -> error(badarg)
    end;
bind_options(_) ->
    error(badarg).

%% A process that answers a callback has its calls run by the thread that waits for the answer.
run_unbound(Name, Job, Timeout, undefined) ->
    py_error:unbound(py_restart:run(Name, fun(Pool, Left) -> submit(Pool, Job, Left) end, Timeout));
run_unbound(_Name, Job, Timeout, {Callback, _Lease}) ->
    submit(Callback, Job, Timeout).

%% Raises `badarg' for a term that is no context. In a context that waits for the calling process,
%% the job runs in the middle of the code that waits.
-spec run_in(py:context(), py_nif:job(), timeout() | options() | ?DEFAULT) -> term().
run_in(Context, Job, #{} = Options) ->
    %% A context has its pool.
    case options(Options) of
        {any, Timeout, Form} -> run_in(Context, in_form(Form, Job), Timeout);
        _ -> error(badarg)
    end;
run_in(Context, Job, Timeout) ->
    submit(within(Context), Job, Timeout).

%% @doc Returns the target of a job for this context: the callback that the calling process answers,
%% if code of the context waits for that; else the context, with a mark by which the native side
%% refuses every other target.
-spec within(py:context() | py_nif:lease()) -> target().
within(Context) ->
    case py_callback:current() of
        undefined ->
            {context, Context};
        {Callback, Lease} ->
            case py_nif:lease_id(Context) of
                Lease -> Callback;
                _ -> Context
            end
    end.

-spec submit(target(), py_nif:job(), timeout() | ?DEFAULT) -> term().
submit(Target, Job, Timeout) when ?IS_TIMEOUT(Timeout); Timeout =:= ?DEFAULT ->
    Ref = make_ref(),
    case py_nif:submit(Target, Ref, Job, get('$callers')) of
        {ok, Ticket} -> await(Ref, Ticket, Timeout);
        {error, context_not_bound} -> error(context_not_bound);
        {error, Reason} -> {error, Reason}
    end;
submit(_Target, _Job, _Timeout) ->
    error(badarg).

%% The default is looked up after the submission, while the worker is busy.
await(Ref, Ticket, ?DEFAULT) ->
    try timeout(?DEFAULT) of
        Timeout -> await(Ref, Ticket, Timeout)
    catch
        error:badarg ->
            ok = discard({py_pending, self(), Ref, Ticket}, ?GRACE_MS),
            error(badarg)
    end;
await(Ref, Ticket, Timeout) ->
    receive
        {Ref, Result} -> result(Result)
    after Timeout ->
        case py_nif:cancel(Ticket) of
            cancelled ->
                {error, timeout};
            replied ->
                %% Cannot hang: the ticket says that the worker sends the reply, or has sent it.
                receive {Ref, Result} -> result(Result) end
        end
    end.

timeout(?DEFAULT) -> timeout(application:get_env(erlang_python, default_timeout, 30000));
timeout(Timeout) when ?IS_TIMEOUT(Timeout) -> Timeout;
timeout(_) -> error(badarg).

%% @doc Returns or raises what a reply says.
-spec result(term()) -> term().
%% A big value is decoded by the caller: into its own heap, on a scheduler.
result({external, Value}) -> {ok, binary_to_term(Value)};
result({child, Value}) -> child_value(Value);
%% What the code has written is where it belongs before its caller goes on.
result({printed, Result}) ->
    ok = py_output:sync(),
    result(Result);
result({raise, Reason}) -> error(Reason);
result(Result) -> Result.

%% @doc Returns the value that a child process has sent. It makes no atoms.
-spec child_value(binary()) -> py:result().
child_value(Value) ->
    try
        {ok, binary_to_term(Value, [safe])}
    catch
        error:badarg ->
            {error, {unconvertible, #{reason => unknown_atom, value => <<"an atom, or a fun, of no module">>}}}
    end.

%% @doc Submits a job as `run/2' does, and returns at once.
-spec start(py_nif:job()) -> pending().
start(Job) ->
    case py_pool:binding(self()) of
        {ok, Lease} ->
            try
                start_at(Lease, Job)
            catch
                error:context_not_bound -> start_unbound(Job, undefined)
            end;
        none ->
            start_unbound(Job, py_callback:current())
    end.

start_unbound(Job, undefined) ->
    case py_restart:run(default, fun(Pool, _) -> start_in_pool(Pool, Job) end, ?DEFAULT) of
        {error, Reason} -> failed(Reason);
        Pending -> Pending
    end;
start_unbound(Job, {Callback, _Lease}) ->
    start_at(Callback, Job).

start_in_pool(Pool, Job) ->
    case start_at(Pool, Job) of
        {py_pending, _, _, {error, Reason}} -> {error, Reason};
        Pending -> Pending
    end.

-spec start_in(py:context(), py_nif:job()) -> pending().
start_in(Context, Job) ->
    start_at(within(Context), Job).

-spec start_at(target(), py_nif:job()) -> pending().
start_at(Target, Job) ->
    Ref = make_ref(),
    case py_nif:submit(Target, Ref, Job, get('$callers')) of
        {ok, Ticket} -> {py_pending, self(), Ref, Ticket};
        {error, context_not_bound} -> error(context_not_bound);
        {error, Reason} -> {py_pending, self(), Ref, {error, Reason}}
    end.

%% @doc Returns a call under way, which has one message, also if it was refused: a server waits for that.
-spec announced(pending()) -> pending().
announced({py_pending, Owner, Ref, {error, _} = Refusal} = Pending) ->
    Owner ! {Ref, Refusal},
    Pending;
announced(Pending) ->
    Pending.

%% Drops the message of a call that was refused. A server may have taken it.
drop_message(Ref) ->
    receive {Ref, _} -> ok after 0 -> ok end.

%% @doc Returns what a message is to a call of the calling process.
-spec check_response(term(), pending()) -> {reply, py:result()} | {error, term()} | no_reply.
check_response({Ref, Result}, {py_pending, Owner, Ref, Ticket}) when Owner =:= self() ->
    case is_tuple(Ticket) orelse py_nif:take(Ticket) of
        true -> replied(Result);
        false -> error(badarg)
    end;
check_response(_Message, {py_pending, Owner, _Ref, _Ticket}) when Owner =:= self() ->
    no_reply;
check_response(_Message, _Pending) ->
    error(badarg).

replied(Result) ->
    try result(Result) of
        Reply -> {reply, Reply}
    catch
        error:Reason -> {error, Reason}
    end.

%% @doc Returns a call under way that was refused.
-spec failed(py:error_reason()) -> pending().
failed(Reason) ->
    {py_pending, self(), make_ref(), {error, Reason}}.

-spec await(pending(), timeout() | ?DEFAULT) -> py:result().
await({py_pending, Owner, _Ref, _}, _Timeout) when Owner =/= self() ->
    %% The reply is sent to the owner: another process would wait in vain.
    error(badarg);
await({py_pending, _Owner, Ref, {error, Reason}}, _Timeout) ->
    ok = drop_message(Ref),
    {error, Reason};
await({py_pending, _Owner, Ref, Ticket}, Timeout0) ->
    Timeout = timeout(Timeout0),
    %% An await takes the reply or cancels the call: a second one would wait in vain.
    py_nif:take(Ticket) orelse error(badarg),
    case py_nif:is_pending(Ticket) of
        true -> await(Ref, Ticket, Timeout);
        false -> result(settled(Ref))
    end;
await(_, _) ->
    error(badarg).

%% @doc Returns the reply to a call that is not pending any more, which is in the mailbox or about
%% to be sent. Raises `badarg' if the caller has taken the message out of its mailbox.
-spec settled(reference()) -> term().
settled(Ref) ->
    receive {Ref, Result} -> Result after ?GRACE_MS -> error(badarg) end.

%% @doc Cancels a call. A reply that is about to be sent is awaited for Grace milliseconds, and
%% dropped.
-spec discard(pending(), Grace :: timeout()) -> ok.
discard({py_pending, _Owner, Ref, {error, _}}, _Grace) ->
    drop_message(Ref);
discard({py_pending, _Owner, Ref, Ticket}, Grace) ->
    case py_nif:cancel(Ticket) of
        cancelled -> ok;
        replied -> receive {Ref, _} -> ok after Grace -> ok end
    end.

%% @doc Returns the monotonic time, in milliseconds, at which the timeout of a call that began at
%% Begin is over.
-spec deadline(Begin :: integer(), timeout() | ?DEFAULT) -> integer() | infinity.
deadline(Begin, Timeout0) ->
    case timeout(Timeout0) of
        infinity -> infinity;
        Timeout -> Begin + Timeout
    end.

%% @doc Returns the milliseconds until a deadline.
-spec remaining(integer() | infinity) -> timeout().
remaining(infinity) -> infinity;
remaining(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

-spec name(py:name()) -> atom() | binary().
name(Name) when is_atom(Name) -> Name;
name(Name) -> code(Name).

-spec code(unicode:chardata()) -> binary().
code(Code) when is_binary(Code) ->
    Code;
code(Code) ->
    case unicode:characters_to_binary(Code) of
        Binary when is_binary(Binary) -> Binary;
        _ -> error(badarg)
    end.
