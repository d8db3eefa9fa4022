%% @doc Python from Erlang, with context affinity.
%%
%% A call, an eval or an exec of a process that is not bound runs on any free worker, in a
%% namespace of its own. {@link bind/0} gives the calling process a worker; {@link bind/1} with
%% `new' returns a context, which is one worker behind a handle. Variables, imports and objects
%% stay there from one call to the next.
%%
%% <dl>
%% <dt>the result of a function, of an expression</dt>
%%     <dd>{@link call/3}, {@link eval/1}</dd>
%% <dt>to run statements; and their last value</dt>
%%     <dd>{@link exec/1}; {@link run/1}</dd>
%% <dt>to use an object that stays in Python</dt>
%%     <dd>{@link call_method/3}, {@link getattr/2}</dd>
%% <dt>variables that stay, for my process</dt>
%%     <dd>{@link bind/0}, {@link with_context/1}</dd>
%% <dt>several states, or one for many processes</dt>
%%     <dd>{@link bind/1}, {@link ctx_eval/2}</dd>
%% <dt>a call of any function, awaited later</dt>
%%     <dd>{@link call_async/3}, {@link await/1}</dd>
%% <dt>many `async def' functions on one worker</dt>
%%     <dd>{@link async_call/3}, {@link async_gather/1}</dd>
%% <dt>the items of an iterator</dt>
%%     <dd>{@link stream/3}, {@link stream_start/3}</dd>
%% <dt>Python to call Erlang</dt>
%%     <dd>{@link register_function/2}</dd>
%% <dt>Python on several cores, crashes contained</dt>
%%     <dd>{@link py_pool:start/2}</dd>
%% <dt>a call whose result nobody needs</dt>
%%     <dd>{@link cast/3}</dd>
%% <dt>values that all Python code and Erlang share</dt>
%%     <dd>{@link state_store/2}, {@link state_incr/1}</dd>
%% <dt>changed Python code, without a restart</dt>
%%     <dd>{@link reload/1}</dd>
%% <dt>what a call prints</dt>
%%     <dd>{@link with_output/1}</dd>
%% <dt>to stop a call of another process</dt>
%%     <dd>{@link interrupt/1}</dd>
%% <dt>what the workers do right now, and where the time goes</dt>
%%     <dd>{@link dump/0}, {@link top/0}, {@link profile/2}</dd>
%% <dt>an error as text</dt>
%%     <dd>{@link format_error/1}</dd>
%% </dl>
%%
%% ```
%% ok = py:bind(),
%% ok = py:exec(<<"counter = 1">>),
%% {ok, 2} = py:eval(<<"counter + 1">>),
%% ok = py:unbind().
%% '''
%%
%% Expected failures are returned as `{error, Reason}', see {@type error_reason()}; the caller's
%% mistakes are raised: `badarg', `context_not_bound' for a context that has ended,
%% `{not_started, erlang_python}' when the application does not run.
-module(py).

-export([bind/0, bind/1, bind/2, unbind/0, unbind/1, is_bound/0, with_context/1, with_context/2]).
-export([call/3, call/4, call/5, eval/1, eval/2, eval/3, exec/1, exec/2, exec/3]).
-export([ctx_call/4, ctx_call/5, ctx_call/6, ctx_eval/2, ctx_eval/3, ctx_eval/4, ctx_exec/2, ctx_exec/3, ctx_exec/4]).
-export([run/1, run/2, run/3, ctx_run/2, ctx_run/3, ctx_run/4]).
-export([is_object/1, getattr/2, ctx_getattr/3, call_method/3, call_method/4, call_method/5, ctx_call_method/4,
         ctx_call_method/5, ctx_call_method/6, str/1, ctx_str/2, repr/1, ctx_repr/2, type/1, ctx_type/2, to_term/1,
         ctx_to_term/2]).
-export([with_output/1, configure_logging/0, configure_logging/1, interrupt/1]).
-export([monitor/1, demonitor/1]).
-export([dump/0, dump/1, top/0, profile/2]).
-export([eval_async/1, eval_async/2, ctx_eval_async/2, ctx_eval_async/3, exec_async/1, exec_async/2,
         ctx_exec_async/2, ctx_exec_async/3, check_response/2]).
-export([call_async/3, call_async/4, ctx_call_async/4, ctx_call_async/5, await/1, await/2, async_call/3, async_call/4,
         ctx_async_call/4, ctx_async_call/5, async_await/1, async_await/2, async_gather/1, async_gather/2]).
-export([stream/1, stream/3, stream/4, stream/5, stream_eval/1, stream_eval/2, stream_eval/3, stream_start/1,
         stream_start/3, stream_start/4, stream_eval_start/1, stream_eval_start/2, ctx_stream/2, ctx_stream/4,
         ctx_stream/5, stream_next/2, stream_close/1]).
-export([register_function/2, register_function/3, unregister_function/1]).
-export([cast/3, cast/4, cast/5, ctx_cast/4, ctx_cast/5, ctx_cast/6, reload/1, gc/0, memory_stats/0]).
-export([state_store/2, state_fetch/1, state_remove/1, state_keys/0, state_incr/1, state_incr/2, state_clear/0]).
-export([version/0, python_info/0, format_error/1]).

-export_type([context/0, object/0, callee/0, stream/0, stream_message/0, pending/0, name/0, code/0, args/0, kwargs/0,
              locals/0, bind_options/0, call_options/0, logging_options/0, worker_info/0, running_call/0, result/1, result/0, error_reason/0,
              exception/0, exception_type/0, frame/0, syntax/0, unconvertible/0, python_info/0, memory_stats/0]).

-type context() :: py_nif:context().
%% An explicit context. A context ends with {@link unbind/1}, with the death of the process that
%% made it, or when its last handle is garbage collected. Any process that has a handle may use it.

-type stream() :: py_nif:stream().
%% An iterator of Python. A stream ends with {@link stream_close/1}, with the death of its consumer,
%% the process that started it, when its last handle is garbage collected, or with its context.

-type stream_message() :: {py_stream, stream(), {items, [term()]} | done | {error, error_reason()}}.
%% The message that answers a demand, see {@link stream_next/2}. `done' and `{error, _}' end the
%% stream.

-opaque pending() :: py_call:pending().
%% A call under way. The result is sent to the process that made the call. A call is cancelled when
%% no handle on it is left.

-type name() :: atom() | unicode:chardata().
%% Name of a module, of a function, possibly dotted, or of a variable.

-type code() :: unicode:chardata().
%% Python source. A binary is UTF-8.

-type args() :: [term()].
%% Positional arguments.

-type object() :: py_nif:object().
%% A handle of an object that stays in Python, since it has no form in Erlang or since the call wanted
%% `#{return => object}'. The object lives as long as a handle on it.

-type callee() :: name() | object().
%% A module, or an object whose methods are called.

-type kwargs() :: #{atom() | binary() => term()} | [{atom() | binary(), term()}].
%% Keyword arguments, in a map or in a keyword list, in which no name stands twice.

-type locals() :: #{atom() | binary() => term()} | [{atom() | binary(), term()}].
%% Variables for one call, visible in every nested scope of the code, and gone after it.

-type bind_options() :: #{wait => timeout(), pool => py_pool:name()}.
%% `wait': how long to wait for a free worker, in milliseconds, first come first served.
%% Default: 0, which fails at once. `pool': the pool of the worker; default: `default'.

-type call_options() :: timeout() | #{timeout => timeout(), pool => py_pool:name(), return => term | object,
                                      arrays => list | binary, none => none | nil | undefined}.
%% `timeout': how long the call may take, in milliseconds. `pool': the pool that it runs in, if the calling
%% process has no binding there. `return': `object' keeps the value in Python, the result is a handle.
%% `arrays': `binary' makes `{ndarray, #{dtype, shape, data}}' of an array of numpy, instead of nested
%% lists. `none': the atom that `None' becomes; the default is that of the environment key `none'.

-type result(T) :: {ok, T} | {error, error_reason()}.
%% The result of a call.

-type result() :: result(term()).
%% Any value; see `docs/guide/types.md' for its form.

-type worker_info() :: #{pool := py_pool:name(), level := thread | process, worker := pos_integer() | none,
                         context := pos_integer() | none, kind := implicit | explicit | none,
                         owner := pid() | none,
                         state := idle | running | event_loop | cleaning | abandoned | starting,
                         calls := [running_call()], stack := [frame()] | unknown, tasks := [running_call()],
                         queued := non_neg_integer(),
                         gil := holds | {waits, Milliseconds :: non_neg_integer()} | none | own}.
%% What a worker does. `context': the number of the lease, as logs give it; `kind': `implicit' for the binding
%% of its owner, `explicit' for a context; `none' for a worker that runs a call without a lease. `state':
%% `event_loop', it waits for coroutines; `cleaning', it empties a namespace, or collects garbage; `abandoned',
%% its code could not be interrupted, and another worker has its place; `starting', no worker serves the lease yet. `calls':
%% the call that runs, and those in the middle of it. `stack': innermost frame last. `tasks': coroutines under
%% way. `queued': calls that wait in this context. `gil': `holds', the worker has got the GIL last; `own' for a child
%% process, which shares it with no other worker.

-type running_call() :: #{code := binary(), caller := pid(), time := Milliseconds :: non_neg_integer(),
                          stack => [frame()] | unknown}.
%% A call that runs: its function, or the beginning of its code; the process that has made it; and for how long
%% it has run. `stack': where a coroutine waits, innermost frame last.

-type logging_options() :: #{level => logger:level() | all | none, warnings => boolean()}.
%% `level': the least level of the records that become events; the default is the primary level of
%% `logger', and `none' ends it. `warnings': whether Python's `warnings' are logged, too; default: false.

-type error_reason() :: timeout | interrupted | no_workers_available | overloaded | worker_crashed
                      | {worker_exited, worker_exit()}
                      | {unconvertible, unconvertible()}
                      | {exception_type(), exception()}.
%% `timeout': the call took longer than its timeout. `interrupted': a process has called
%% {@link interrupt/1}, or the context of the call ended. `no_workers_available': every worker
%% is leased. `overloaded': `max_pending' jobs, or 256 in this context, wait already.
%% `worker_crashed': the worker died under the call, its binding or context has ended. `{worker_exited, _}':
%% the same of a child process.
%% `{unconvertible, _}': a value has no form on the other side. `{exception_type(), _}': Python code
%% has raised an exception.

-type worker_exit() :: #{signal := pos_integer(), limit => memory} | #{killed := malformed}
                     | #{status := non_neg_integer() | unknown}.
%% How a child process has ended; `limit': it had more memory than that; `malformed': it broke the protocol.

-type exception_type() :: atom().
%% The nearest built-in class of the exception, which `except' would match: a
%% `json.JSONDecodeError' is a `ValueError'.

-type exception() :: #{class := binary(), message := binary(), traceback := [frame()],
                       cause := exception() | none, chain => cause | context,
                       notes => [binary()], syntax => syntax(), unknown_name => binary(), unbound => true,
                       exceptions => [exception()],
                       erlang => {error | exit | throw, Reason :: term(), Stacktrace :: list()}}.
%% `class': the qualified name. `message': `str' of the exception. `cause': the exception that it
%% was raised from (`chain' is `cause') or while handling (`chain' is `context'); at most 32 deep.
%% `notes': the notes that `add_note' added. `syntax': for a `SyntaxError' only. `unknown_name': for a
%% `NameError' of code that was passed in, the name that its namespace did not have; `unbound': the call had
%% no binding, so that this namespace was the call's own. `exceptions': for
%% an exception group only, the exceptions in it. `erlang': for an `erlang.ErlangError' only, the
%% error of an Erlang function.

-type frame() :: #{file := binary(), line := non_neg_integer(), function := binary(),
                   source => binary()}.
%% A frame of a traceback, innermost last, the innermost 256 of them. `file' is
%% `<<"<erlang>">>' for the code that was passed in; `source' is then its line.

-type syntax() :: #{message := binary(), file := binary(), line := non_neg_integer(),
                    offset := non_neg_integer(), end_offset := non_neg_integer(),
                    text := binary()}.
%% The place of the error in the code; columns count from 1.

-type unconvertible() :: #{reason := improper_list | too_deep | cycle | key_collision
                                   | unhashable_key | not_unicode | too_large
                                   | foreign_object | unknown_atom,
                           value := binary(), path => [integer() | binary()]}.
%% The reason why a value cannot cross, and the value or its type, for a person to read. `path': where the
%% value stands in a result, by indices from 0 and keys, outermost first.

-type python_info() :: #{version := binary(), executable := binary(), prefix := binary(),
                         libpython := binary(), abi := binary(), path := [binary()]}.
%% The Python that runs: `sys.version', `sys.executable', `sys.prefix', the path of the shared
%% library, the build of the NIF (`cp311', or `abi3' for the portable one), and `sys.path'.

-type memory_stats() :: #{rss := non_neg_integer() | unknown, allocated_blocks := non_neg_integer(),
                          gc := #{counts := [non_neg_integer()], thresholds := [non_neg_integer()],
                                  collections := [#{collections := non_neg_integer(),
                                                    collected := non_neg_integer(),
                                                    uncollectable := non_neg_integer()}]},
                          traced := #{current := non_neg_integer(), peak := non_neg_integer()} | none}.
%% `rss': bytes of resident memory of the whole operating system process, which is the VM for the level
%% `thread'. `allocated_blocks': blocks that Python's allocator has handed out. `gc': of each generation,
%% the youngest first, how many objects wait for a collection, from how many on one runs, and what the
%% collections have found. `traced': bytes, when `tracemalloc' traces.

-include("py_call.hrl").

%% Raises what Expression raises as an error of the function that the macro stands in, with its arguments
%% and with the module that says which of them is wrong.
-define(EXPLAINED(Args, Expression),
        try
            Expression
        catch
            error:Reason_ when Reason_ =:= badarg; Reason_ =:= context_not_bound -> ?RAISED(Reason_, Args)
        end).
-define(RAISED(Reason, Args), error(Reason, Args, [{error_info, #{module => py_arguments}}])).

%%% Contexts

%% @equiv bind(#{})
-spec bind() -> ok | {error, no_workers_available}.
bind() ->
    bind(#{}).

%% @doc Returns `ok' when the calling process has a worker of its own, a new one or the one that it
%% had before; or, for `new', a context.
%%
%% The binding ends with {@link unbind/0} or with the process.
-spec bind(new) -> {ok, context()} | {error, no_workers_available};
          (bind_options()) -> ok | {error, no_workers_available}.
bind(new) ->
    bind(new, #{});
bind(Options) ->
    ?EXPLAINED([Options], bind_process(py_call:bind_options(Options))).

bind_process({Pool, Wait}) ->
    case is_bound() of
        true ->
            ok;
        false ->
            case py_pool:bind(Pool, implicit, Wait) of
                {ok, _Lease} -> ok;
                {error, Reason} -> {error, Reason}
            end
    end.

%% @doc Returns a new context: a worker with a namespace of its own. A process may hold any number.
-spec bind(new, bind_options()) -> {ok, context()} | {error, no_workers_available}.
bind(new, Options) ->
    ?EXPLAINED([new, Options], new_context(py_call:bind_options(Options)));
bind(Other, Options) ->
    ?RAISED(badarg, [Other, Options]).

new_context({Pool, Wait}) ->
    case py_pool:lease(Pool, Wait) of
        %% The handle is made by the caller: in the heap of the pool it would never be garbage.
        {ok, Lease} -> {ok, py_nif:context(Lease)};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Returns `ok' when the calling process has no worker of its own any more, or had none.
-spec unbind() -> ok.
unbind() ->
    case py_pool:binding(self()) of
        {ok, Lease} -> py_pool:unbind(Lease);
        none -> ok
    end.

%% @doc Returns `ok' when the context has ended, now or before.
%%
%% The namespace is emptied and the worker goes back to the pool. `context_not_bound' is raised in
%% callers that wait in the context.
-spec unbind(context()) -> ok.
unbind(Context) ->
    case ?EXPLAINED([Context], py_nif:is_leased(Context)) of
        true -> py_pool:unbind(Context);
        false -> ok
    end.

%% @doc Returns whether the calling process has a worker of its own.
-spec is_bound() -> boolean().
is_bound() ->
    case py_pool:binding(self()) of
        {ok, Lease} -> py_nif:is_leased(Lease);
        none -> false
    end.

%% @doc Calls Fun with a worker of its own, and returns its result. The worker goes back however Fun
%% ends.
%%
%% A fun of no argument runs in the binding of the process; an existing binding is used and left as
%% it was. A fun of one argument gets a new context. Raises `no_workers_available' when every worker
%% is leased.
-spec with_context(fun(() -> Result) | fun((context()) -> Result)) -> Result.
with_context(Fun) ->
    with_context(#{}, Fun).

%% @doc Calls Fun as {@link with_context/1} does, with the options of {@link bind/2}.
-spec with_context(bind_options(), fun(() -> Result) | fun((context()) -> Result)) -> Result.
with_context(Options, Fun) when is_function(Fun, 0) ->
    case is_bound() of
        true ->
            Fun();
        false ->
            ok = bound(bind(Options)),
            try Fun() after unbind() end
    end;
with_context(Options, Fun) when is_function(Fun, 1) ->
    {ok, Context} = bound(bind(new, Options)),
    try Fun(Context) after unbind(Context) end;
with_context(Options, Fun) ->
    ?RAISED(badarg, [Options, Fun]).

bound({error, Reason}) -> error(Reason);
bound(Bound) -> Bound.

%% @doc Has the end of a context told to the calling process, by one message `{'DOWN', Reference, process,
%% Pid, Reason}'.
%%
%% Reference is what this function returns, and Pid a process that stands for the context. Reason is `unbound',
%% `owner_down' (the process that made it has died), `pool_down' (its pool has ended or crashed), or `ended':
%% its worker crashed, was abandoned or exited, or the last handle was garbage collected; `noproc' for a
%% context that had ended before. A monitor does not hold the context alive. {@link demonitor/1} ends it.
-spec monitor(context()) -> reference().
monitor(Context) ->
    ?EXPLAINED([Context], py_monitor:start(Context)).

%% @doc Returns `ok' when no message of this monitor is, or will be, in the mailbox of the calling process.
-spec demonitor(reference()) -> ok.
demonitor(Reference) ->
    ?EXPLAINED([Reference], py_monitor:stop(Reference)).

%%% Calls of a process: in its binding, or on any free worker.

%% @equiv call(Module, Function, Args, #{})
-spec call(callee(), name(), args()) -> result().
call(Module, Function, Args) ->
    call(Module, Function, Args, #{}).

%% @equiv call(Module, Function, Args, Kwargs, DefaultTimeout)
-spec call(callee(), name(), args(), kwargs()) -> result().
call(Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Module, Function, Args, Kwargs],
               py_call:run(py_call:job(Module, Function, Args, Kwargs), ?DEFAULT)).

%% @doc Calls a Python function and returns its result.
%%
%% Module is imported if need be; `` '__main__' '' is the namespace of the context. A handle of an object
%% may stand for it. Function may be dotted, as `path.join' of `os'. Timeout is in milliseconds; the default
%% is that of the environment key `default_timeout', 30 seconds. When the time is over, the call returns
%% `{error, timeout}' at once and the code is stopped, as by {@link interrupt/1}.
-spec call(callee(), name(), args(), kwargs(), call_options()) -> result().
call(Module, Function, Args, Kwargs, Timeout) ->
    ?EXPLAINED([Module, Function, Args, Kwargs, Timeout],
               py_call:run(py_call:job(Module, Function, Args, Kwargs), Timeout)).

%% @equiv eval(Code, #{})
-spec eval(code()) -> result().
eval(Code) ->
    eval(Code, #{}).

%% @equiv eval(Code, Locals, DefaultTimeout)
-spec eval(code(), locals()) -> result().
eval(Code, Locals) ->
    ?EXPLAINED([Code, Locals], py_call:run(py_call:code_job(eval, Code, Locals), ?DEFAULT)).

%% @doc Returns the value of a Python expression.
-spec eval(code(), locals(), call_options()) -> result().
eval(Code, Locals, Timeout) ->
    ?EXPLAINED([Code, Locals, Timeout], py_call:run(py_call:code_job(eval, Code, Locals), Timeout)).

%% @equiv exec(Code, #{})
-spec exec(code()) -> ok | {error, error_reason()}.
exec(Code) ->
    exec(Code, #{}).

%% @equiv exec(Code, Locals, DefaultTimeout)
-spec exec(code(), locals()) -> ok | {error, error_reason()}.
exec(Code, Locals) ->
    ?EXPLAINED([Code, Locals], py_call:run(py_call:code_job(exec, Code, Locals), ?DEFAULT)).

%% @doc Returns `ok' when the Python statements have run. Their assignments stay in the namespace.
-spec exec(code(), locals(), call_options()) -> ok | {error, error_reason()}.
exec(Code, Locals, Timeout) ->
    ?EXPLAINED([Code, Locals, Timeout], py_call:run(py_call:code_job(exec, Code, Locals), Timeout)).

%% @equiv run(Code, #{})
-spec run(code()) -> result().
run(Code) ->
    run(Code, #{}).

%% @equiv run(Code, Locals, DefaultTimeout)
-spec run(code(), locals()) -> result().
run(Code, Locals) ->
    ?EXPLAINED([Code, Locals], py_call:run(py_call:code_job(run, Code, Locals), ?DEFAULT)).

%% @doc Runs Python statements as {@link exec/3} does. Returns the value of the last one if it is an
%% expression, else that of `None'.
-spec run(code(), locals(), call_options()) -> result().
run(Code, Locals, Timeout) ->
    ?EXPLAINED([Code, Locals, Timeout], py_call:run(py_call:code_job(run, Code, Locals), Timeout)).

%%% Calls in an explicit context.

%% @equiv ctx_call(Context, Module, Function, Args, #{})
-spec ctx_call(context(), callee(), name(), args()) -> result().
ctx_call(Context, Module, Function, Args) ->
    ctx_call(Context, Module, Function, Args, #{}).

%% @equiv ctx_call(Context, Module, Function, Args, Kwargs, DefaultTimeout)
-spec ctx_call(context(), callee(), name(), args(), kwargs()) -> result().
ctx_call(Context, Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Context, Module, Function, Args, Kwargs],
               py_call:run_in(Context, py_call:job(Module, Function, Args, Kwargs), ?DEFAULT)).

%% @doc Calls a function as {@link call/5} does, in a context. Raises `context_not_bound' when it
%% has ended.
-spec ctx_call(context(), callee(), name(), args(), kwargs(), call_options()) -> result().
ctx_call(Context, Module, Function, Args, Kwargs, Timeout) ->
    ?EXPLAINED([Context, Module, Function, Args, Kwargs, Timeout],
               py_call:run_in(Context, py_call:job(Module, Function, Args, Kwargs), Timeout)).

%% @equiv ctx_eval(Context, Code, #{})
-spec ctx_eval(context(), code()) -> result().
ctx_eval(Context, Code) ->
    ctx_eval(Context, Code, #{}).

%% @equiv ctx_eval(Context, Code, Locals, DefaultTimeout)
-spec ctx_eval(context(), code(), locals()) -> result().
ctx_eval(Context, Code, Locals) ->
    ?EXPLAINED([Context, Code, Locals], py_call:run_in(Context, py_call:code_job(eval, Code, Locals), ?DEFAULT)).

%% @doc Evaluates as {@link eval/3} does, in a context. Raises `context_not_bound' when it has
%% ended.
-spec ctx_eval(context(), code(), locals(), call_options()) -> result().
ctx_eval(Context, Code, Locals, Timeout) ->
    ?EXPLAINED([Context, Code, Locals, Timeout],
               py_call:run_in(Context, py_call:code_job(eval, Code, Locals), Timeout)).

%% @equiv ctx_exec(Context, Code, #{})
-spec ctx_exec(context(), code()) -> ok | {error, error_reason()}.
ctx_exec(Context, Code) ->
    ctx_exec(Context, Code, #{}).

%% @equiv ctx_exec(Context, Code, Locals, DefaultTimeout)
-spec ctx_exec(context(), code(), locals()) -> ok | {error, error_reason()}.
ctx_exec(Context, Code, Locals) ->
    ?EXPLAINED([Context, Code, Locals], py_call:run_in(Context, py_call:code_job(exec, Code, Locals), ?DEFAULT)).

%% @doc Executes as {@link exec/3} does, in a context. Raises `context_not_bound' when it has ended.
-spec ctx_exec(context(), code(), locals(), call_options()) -> ok | {error, error_reason()}.
ctx_exec(Context, Code, Locals, Timeout) ->
    ?EXPLAINED([Context, Code, Locals, Timeout],
               py_call:run_in(Context, py_call:code_job(exec, Code, Locals), Timeout)).

%% @equiv ctx_run(Context, Code, #{})
-spec ctx_run(context(), code()) -> result().
ctx_run(Context, Code) ->
    ctx_run(Context, Code, #{}).

%% @equiv ctx_run(Context, Code, Locals, DefaultTimeout)
-spec ctx_run(context(), code(), locals()) -> result().
ctx_run(Context, Code, Locals) ->
    ?EXPLAINED([Context, Code, Locals], py_call:run_in(Context, py_call:code_job(run, Code, Locals), ?DEFAULT)).

%% @doc Runs statements as {@link run/3} does, in a context. Raises `context_not_bound' when it has ended.
-spec ctx_run(context(), code(), locals(), call_options()) -> result().
ctx_run(Context, Code, Locals, Timeout) ->
    ?EXPLAINED([Context, Code, Locals, Timeout], py_call:run_in(Context, py_call:code_job(run, Code, Locals), Timeout)).

%%% Objects

%% @doc Returns whether a term is a handle of a Python object.
-spec is_object(term()) -> boolean().
is_object(Term) ->
    is_reference(Term) andalso py_nif:is_object(Term).

%% @doc Returns an attribute of an object. Name may be dotted.
%%
%% This function, and the others of objects, run in the binding of the calling process, or on any free
%% worker; those that begin with `ctx_' in a context. An object of a child process can be used in that
%% process alone: elsewhere the result is `{error, {unconvertible, #{reason := foreign_object}}}'.
-spec getattr(object(), name()) -> result().
getattr(Object, Name) ->
    ?EXPLAINED([Object, Name], py_call:run(py_object:getattr(Object, Name), ?DEFAULT)).

%% @doc Returns an attribute as {@link getattr/2} does, in a context.
-spec ctx_getattr(context(), object(), name()) -> result().
ctx_getattr(Context, Object, Name) ->
    ?EXPLAINED([Context, Object, Name], py_call:run_in(Context, py_object:getattr(Object, Name), ?DEFAULT)).

%% @equiv call_method(Object, Name, Args, #{})
-spec call_method(object(), name(), args()) -> result().
call_method(Object, Name, Args) ->
    call_method(Object, Name, Args, #{}).

%% @equiv call_method(Object, Name, Args, Kwargs, DefaultTimeout)
-spec call_method(object(), name(), args(), kwargs()) -> result().
call_method(Object, Name, Args, Kwargs) ->
    ?EXPLAINED([Object, Name, Args, Kwargs], py_call:run(py_object:call(Object, Name, Args, Kwargs), ?DEFAULT)).

%% @doc Calls a method of an object. {@link call/5} does the same for a handle; this function takes
%% nothing else.
-spec call_method(object(), name(), args(), kwargs(), call_options()) -> result().
call_method(Object, Name, Args, Kwargs, Timeout) ->
    ?EXPLAINED([Object, Name, Args, Kwargs, Timeout], py_call:run(py_object:call(Object, Name, Args, Kwargs), Timeout)).

%% @equiv ctx_call_method(Context, Object, Name, Args, #{})
-spec ctx_call_method(context(), object(), name(), args()) -> result().
ctx_call_method(Context, Object, Name, Args) ->
    ctx_call_method(Context, Object, Name, Args, #{}).

%% @equiv ctx_call_method(Context, Object, Name, Args, Kwargs, DefaultTimeout)
-spec ctx_call_method(context(), object(), name(), args(), kwargs()) -> result().
ctx_call_method(Context, Object, Name, Args, Kwargs) ->
    ?EXPLAINED([Context, Object, Name, Args, Kwargs],
               py_call:run_in(Context, py_object:call(Object, Name, Args, Kwargs), ?DEFAULT)).

%% @doc Calls a method as {@link call_method/5} does, in a context.
-spec ctx_call_method(context(), object(), name(), args(), kwargs(), call_options()) -> result().
ctx_call_method(Context, Object, Name, Args, Kwargs, Timeout) ->
    ?EXPLAINED([Context, Object, Name, Args, Kwargs, Timeout],
               py_call:run_in(Context, py_object:call(Object, Name, Args, Kwargs), Timeout)).

%% @doc Returns `str' of a value: of an object, or of the Python form of any other term.
-spec str(object() | term()) -> result(binary()).
str(Value) ->
    ?EXPLAINED([Value], py_call:run(py_object:str(Value), ?DEFAULT)).

%% @doc Returns `str' as {@link str/1} does, in a context.
-spec ctx_str(context(), object() | term()) -> result(binary()).
ctx_str(Context, Value) ->
    ?EXPLAINED([Context, Value], py_call:run_in(Context, py_object:str(Value), ?DEFAULT)).

%% @doc Returns `repr' of a value.
-spec repr(object() | term()) -> result(binary()).
repr(Value) ->
    ?EXPLAINED([Value], py_call:run(py_object:repr(Value), ?DEFAULT)).

%% @doc Returns `repr' as {@link repr/1} does, in a context.
-spec ctx_repr(context(), object() | term()) -> result(binary()).
ctx_repr(Context, Value) ->
    ?EXPLAINED([Context, Value], py_call:run_in(Context, py_object:repr(Value), ?DEFAULT)).

%% @doc Returns the name of the class of a value, with its module unless that is `builtins':
%% `<<"collections.Counter">>', `<<"int">>'.
-spec type(object() | term()) -> result(binary()).
type(Value) ->
    ?EXPLAINED([Value], py_call:run(py_object:type(Value), ?DEFAULT)).

%% @doc Returns the name of a class as {@link type/1} does, in a context.
-spec ctx_type(context(), object() | term()) -> result(binary()).
ctx_type(Context, Value) ->
    ?EXPLAINED([Context, Value], py_call:run_in(Context, py_object:type(Value), ?DEFAULT)).

%% @doc Returns the value of an object as a call would, in its form in Erlang: a list that `return => object'
%% has kept in Python becomes a list. An object without such a form is a handle again.
-spec to_term(object()) -> result().
to_term(Object) ->
    ?EXPLAINED([Object], py_call:run({object, Object}, ?DEFAULT)).

%% @doc Returns the value of an object as {@link to_term/1} does, in a context.
-spec ctx_to_term(context(), object()) -> result().
ctx_to_term(Context, Object) ->
    ?EXPLAINED([Context, Object], py_call:run_in(Context, {object, Object}, ?DEFAULT)).

%%% Streams

%% @doc Returns all items of an object that can be iterated over, asynchronously or not.
-spec stream(object()) -> result([term()]).
stream(Object) ->
    ?EXPLAINED([Object], py_call:run({collect, {object, Object}}, ?DEFAULT)).

%% @equiv stream(Module, Function, Args, #{})
-spec stream(callee(), name(), args()) -> result([term()]).
stream(Module, Function, Args) ->
    stream(Module, Function, Args, #{}).

%% @doc Returns all items of the result of a Python function: a generator, or anything that can be
%% iterated over, asynchronous or not.
-spec stream(callee(), name(), args(), kwargs()) -> result([term()]).
stream(Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Module, Function, Args, Kwargs],
               py_call:run({collect, py_call:job(Module, Function, Args, Kwargs)}, ?DEFAULT)).

%% @doc Returns all items as {@link stream/4} does, within a timeout, in milliseconds, for all of them.
-spec stream(callee(), name(), args(), kwargs(), call_options()) -> result([term()]).
stream(Module, Function, Args, Kwargs, Timeout) ->
    ?EXPLAINED([Module, Function, Args, Kwargs, Timeout],
               py_call:run({collect, py_call:job(Module, Function, Args, Kwargs)}, Timeout)).

%% @equiv stream_eval(Code, #{})
-spec stream_eval(code()) -> result([term()]).
stream_eval(Code) ->
    stream_eval(Code, #{}).

%% @doc Returns all items of the value of a Python expression.
-spec stream_eval(code(), locals()) -> result([term()]).
stream_eval(Code, Locals) ->
    ?EXPLAINED([Code, Locals], py_call:run({collect, py_call:code_job(eval, Code, Locals)}, ?DEFAULT)).

%% @doc Returns all items as {@link stream_eval/2} does, within a timeout, in milliseconds.
-spec stream_eval(code(), locals(), call_options()) -> result([term()]).
stream_eval(Code, Locals, Timeout) ->
    ?EXPLAINED([Code, Locals, Timeout], py_call:run({collect, py_call:code_job(eval, Code, Locals)}, Timeout)).

%% @doc Returns a stream of the items of an object, as {@link stream_start/4} does.
-spec stream_start(object()) -> result(stream()).
stream_start(Object) ->
    ?EXPLAINED([Object], py_stream:start({object, Object})).

%% @equiv stream_eval_start(Code, #{})
-spec stream_eval_start(code()) -> result(stream()).
stream_eval_start(Code) ->
    stream_eval_start(Code, #{}).

%% @doc Returns a stream of the items of the value of an expression, as {@link stream_start/4} does.
-spec stream_eval_start(code(), locals()) -> result(stream()).
stream_eval_start(Code, Locals) ->
    ?EXPLAINED([Code, Locals], py_stream:start(py_call:code_job(eval, Code, Locals))).

%% @equiv stream_start(Module, Function, Args, #{})
-spec stream_start(callee(), name(), args()) -> result(stream()).
stream_start(Module, Function, Args) ->
    stream_start(Module, Function, Args, #{}).

%% @doc Returns a stream: the items of the result of a Python function, on demand.
%%
%% The stream lives in the binding of the calling process. Without a binding it has a worker of its
%% own until it ends, so `no_workers_available' is possible. No item is produced before
%% {@link stream_next/2} asks for it, and in between the context does other work.
-spec stream_start(callee(), name(), args(), kwargs()) -> result(stream()).
stream_start(Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Module, Function, Args, Kwargs],
               py_stream:start(py_call:job(Module, Function, Args, Kwargs))).

%% @doc Returns a stream of the items of an object, in a context.
-spec ctx_stream(context(), object()) -> result(stream()).
ctx_stream(Context, Object) ->
    ?EXPLAINED([Context, Object], py_stream:start_in(Context, {object, Object})).

%% @equiv ctx_stream(Context, Module, Function, Args, #{})
-spec ctx_stream(context(), callee(), name(), args()) -> result(stream()).
ctx_stream(Context, Module, Function, Args) ->
    ctx_stream(Context, Module, Function, Args, #{}).

%% @doc Starts a stream as {@link stream_start/4} does, in a context. The context lasts as long as
%% the stream.
-spec ctx_stream(context(), callee(), name(), args(), kwargs()) -> result(stream()).
ctx_stream(Context, Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Context, Module, Function, Args, Kwargs],
               py_stream:start_in(Context, py_call:job(Module, Function, Args, Kwargs))).

%% @doc Returns `ok' when one {@type stream_message()} will come for this demand: with Count items,
%% or with fewer, if there are no more.
%%
%% The caller must be the process that started the stream, its consumer: others raise `badarg'. A
%% stream has one open demand at most: `{error, busy}' is returned until the message of the demand
%% before has been sent. `{error, overloaded}' is a demand that was refused, as a call may be. After
%% either no message comes, and the stream goes on.
-spec stream_next(stream(), Count :: pos_integer()) -> ok | {error, busy | overloaded}.
stream_next(Stream, Count) when is_integer(Count), Count > 0 ->
    ?EXPLAINED([Stream, Count], py_stream:next(Stream, Count));
stream_next(Stream, Count) ->
    ?RAISED(badarg, [Stream, Count]).

%% @doc Returns `ok' when the stream is over, and none of its messages is, or will be, in the
%% mailbox of the calling process.
%%
%% A generator is closed: `GeneratorExit' is raised where it stands, and its `finally' runs. An open
%% demand is cancelled, and its code interrupted.
-spec stream_close(stream()) -> ok.
stream_close(Stream) ->
    ?EXPLAINED([Stream], py_stream:close(Stream)).

%%% Calls under way

%% @equiv call_async(Module, Function, Args, #{})
-spec call_async(callee(), name(), args()) -> pending().
call_async(Module, Function, Args) ->
    call_async(Module, Function, Args, #{}).

%% @doc Starts a call as {@link call/4}, and returns at once. {@link await/2} waits for the result.
%%
%% Calls of a bound process run one after the other, others on any free worker. For `async def'
%% functions see {@link async_call/4}, which runs any number of them on one worker at once.
-spec call_async(callee(), name(), args(), kwargs()) -> pending().
call_async(Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Module, Function, Args, Kwargs], py_call:announced(py_call:start(py_call:job(Module, Function, Args, Kwargs)))).

%% @equiv ctx_call_async(Context, Module, Function, Args, #{})
-spec ctx_call_async(context(), callee(), name(), args()) -> pending().
ctx_call_async(Context, Module, Function, Args) ->
    ctx_call_async(Context, Module, Function, Args, #{}).

%% @doc Starts a call as {@link call_async/4} does, in a context.
-spec ctx_call_async(context(), callee(), name(), args(), kwargs()) -> pending().
ctx_call_async(Context, Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Context, Module, Function, Args, Kwargs],
               py_call:announced(py_call:start_in(Context, py_call:job(Module, Function, Args, Kwargs)))).

%% @equiv eval_async(Code, #{})
-spec eval_async(code()) -> pending().
eval_async(Code) ->
    eval_async(Code, #{}).

%% @doc Starts an eval as {@link eval/2}, and returns at once.
-spec eval_async(code(), locals()) -> pending().
eval_async(Code, Locals) ->
    ?EXPLAINED([Code, Locals], py_call:announced(py_call:start(py_call:code_job(eval, Code, Locals)))).

%% @equiv ctx_eval_async(Context, Code, #{})
-spec ctx_eval_async(context(), code()) -> pending().
ctx_eval_async(Context, Code) ->
    ctx_eval_async(Context, Code, #{}).

%% @doc Starts an eval as {@link eval_async/2} does, in a context.
-spec ctx_eval_async(context(), code(), locals()) -> pending().
ctx_eval_async(Context, Code, Locals) ->
    ?EXPLAINED([Context, Code, Locals],
               py_call:announced(py_call:start_in(Context, py_call:code_job(eval, Code, Locals)))).

%% @equiv exec_async(Code, #{})
-spec exec_async(code()) -> pending().
exec_async(Code) ->
    exec_async(Code, #{}).

%% @doc Starts an exec as {@link exec/2}, and returns at once. Its result is `ok'.
-spec exec_async(code(), locals()) -> pending().
exec_async(Code, Locals) ->
    ?EXPLAINED([Code, Locals], py_call:announced(py_call:start(py_call:code_job(exec, Code, Locals)))).

%% @equiv ctx_exec_async(Context, Code, #{})
-spec ctx_exec_async(context(), code()) -> pending().
ctx_exec_async(Context, Code) ->
    ctx_exec_async(Context, Code, #{}).

%% @doc Starts an exec as {@link exec_async/2} does, in a context.
-spec ctx_exec_async(context(), code(), locals()) -> pending().
ctx_exec_async(Context, Code, Locals) ->
    ?EXPLAINED([Context, Code, Locals],
               py_call:announced(py_call:start_in(Context, py_call:code_job(exec, Code, Locals)))).

%% @doc Returns what a message is to a call under way, for a process that waits for many things, such as a
%% `gen_server' in `handle_info/2'.
%%
%% A call under way has one message, `{Reference, _}', to the process that made it: when it has a result, or
%% at once if it was refused. `{reply, Result}': the message is that of the call, and this is what {@link
%% await/1} would have returned. `{error, Reason}': the same, and `await' would have raised Reason. `no_reply':
%% the message is another one. Raises `badarg' for a call of another process, and for one that was awaited.
%% A call whose handle is garbage is cancelled, and its message may come or not.
-spec check_response(Message :: term(), pending()) -> {reply, result() | ok} | {error, term()} | no_reply.
check_response(Message, Pending) ->
    ?EXPLAINED([Message, Pending], py_call:check_response(Message, Pending)).

%% @equiv await(Pending, DefaultTimeout)
-spec await(pending()) -> result().
await(Pending) ->
    ?EXPLAINED([Pending], py_call:await(Pending, ?DEFAULT)).

%% @doc Waits for a call under way, and returns its result. {@link async_await/2} is the same
%% function.
%%
%% The timeout is in milliseconds. When it is over, the result is `{error, timeout}' and the call is
%% stopped. Raises `badarg' if the call was awaited before, and in any process but the one that made
%% it.
-spec await(pending(), timeout()) -> result().
await(Pending, Timeout) ->
    ?EXPLAINED([Pending, Timeout], py_call:await(Pending, Timeout)).

%% @equiv async_call(Module, Function, Args, #{})
-spec async_call(callee(), name(), args()) -> pending().
async_call(Module, Function, Args) ->
    async_call(Module, Function, Args, #{}).

%% @doc Starts a call of an `async def' function, and returns at once. {@link async_await/2} waits
%% for the result.
%%
%% Any number of such calls run on one worker at once, in the event loop of the binding of the
%% calling process. Without a binding they run in a context that all of them share, and that is
%% there while one of them is under way. A function that returns no coroutine has its result as the
%% result of the call. For functions that compute or block see {@link call_async/4}, which runs each
%% on a worker.
-spec async_call(callee(), name(), args(), kwargs()) -> pending().
async_call(Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Module, Function, Args, Kwargs],
               py_call:announced(py_async:start({async, py_call:job(Module, Function, Args, Kwargs)}))).

%% @equiv ctx_async_call(Context, Module, Function, Args, #{})
-spec ctx_async_call(context(), callee(), name(), args()) -> pending().
ctx_async_call(Context, Module, Function, Args) ->
    ctx_async_call(Context, Module, Function, Args, #{}).

%% @doc Starts a call as {@link async_call/4} does, in the event loop of a context.
-spec ctx_async_call(context(), callee(), name(), args(), kwargs()) -> pending().
ctx_async_call(Context, Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Context, Module, Function, Args, Kwargs],
               py_call:announced(py_call:start_in(Context, {async, py_call:job(Module, Function, Args, Kwargs)}))).

%% @equiv async_await(Pending, DefaultTimeout)
-spec async_await(pending()) -> result().
async_await(Pending) ->
    ?EXPLAINED([Pending], py_call:await(Pending, ?DEFAULT)).

%% @doc The same function as {@link await/2}. When the time is over a coroutine is cancelled:
%% `asyncio.CancelledError' is raised where it waits.
-spec async_await(pending(), timeout()) -> result().
async_await(Pending, Timeout) ->
    ?EXPLAINED([Pending, Timeout], py_call:await(Pending, Timeout)).

%% @equiv async_gather(Calls, DefaultTimeout)
-spec async_gather([pending() | {callee(), name(), args()} | {callee(), name(), args(), kwargs()}]) ->
    result([term()]).
async_gather(Calls) ->
    ?EXPLAINED([Calls], py_gather:gather(fun under_way/1, Calls, ?DEFAULT)).

%% @doc Returns the values of all calls, in their order, or the first error that comes.
%%
%% Takes any number of calls. One that is refused as overloaded is made again when another one has
%% finished; the result is `{error, overloaded}' when there is no other. Timeout milliseconds are
%% for all calls together. The calls that are still under way after an error are cancelled. Raises
%% `badarg' as {@link await/2} does.
-spec async_gather([pending() | {callee(), name(), args()} | {callee(), name(), args(), kwargs()}],
                   timeout()) -> result([term()]).
async_gather(Calls, Timeout) ->
    ?EXPLAINED([Calls, Timeout], py_gather:gather(fun under_way/1, Calls, Timeout)).

under_way({Module, Function, Args}) when is_list(Args) ->
    async_call(Module, Function, Args);
under_way({Module, Function, Args, Kwargs}) when is_list(Args) ->
    async_call(Module, Function, Args, Kwargs);
under_way(Pending) ->
    Pending.

%%% Output

%% @doc Runs Fun, and returns its result and what was written meanwhile: by Python code that the calling
%% process has called, and by the process itself, to its group leader.
%%
%% Text of other processes, and of their Python code, goes on to where it went.
-spec with_output(fun(() -> Result)) -> {Result, binary()}.
with_output(Fun) when is_function(Fun, 0) ->
    _ = py_pool:native(),
    py_output:capture(Fun);
with_output(Fun) ->
    ?RAISED(badarg, [Fun]).

%% @equiv configure_logging(#{})
-spec configure_logging() -> ok.
configure_logging() ->
    configure_logging(#{}).

%% @doc Has the records of Python's `logging' become events of `logger', from the next call on, in all
%% pools.
%%
%% The level of Python's root logger is set, so records below it are dropped by Python at the usual cost.
%% An event has the domain `[python]', `file' and `line', the process that the code runs for as `pid', and
%% a map `python' with `logger', `function', `level' (the number) and `context' (the number of the lease).
-spec configure_logging(logging_options()) -> ok.
configure_logging(Options) ->
    _ = py_pool:native(),
    ?EXPLAINED([Options], py_logging:configure(Options)).

%%% Interruptions

%% @doc Returns `ok' when a call runs in the target, which now returns `{error, interrupted}' to its
%% caller.
%%
%% The call of a process is the one that it waits for, in any context; that of a context is the one
%% that runs in it, of any caller. An exception is raised in the code, `erlang.Interrupted', which
%% no `except Exception' catches; the context and its variables stay. Code that does not end within
%% `interrupt_grace' milliseconds loses its worker, and so its context. `not_running': no call runs
%% in the target, which may be gone, or its call waits in a queue.
-spec interrupt(context() | pid()) -> ok | {error, not_running}.
interrupt(Target) when node(Target) =:= node() ->
    case ?EXPLAINED([Target], py_nif:interrupt(Target)) of
        true -> ok;
        false -> {error, not_running}
    end;
interrupt(Target) ->
    ?RAISED(badarg, [Target]).

%%% What the workers do

%% @doc Returns what each worker does that serves a lease, or runs a call without one; and each lease that waits
%% for its worker to start.
%%
%% Answers within 100 ms. While C code keeps the GIL, the stacks of Python code are `unknown'; all else is known
%% without it. An idle worker without a lease is left out.
-spec dump() -> [worker_info()].
dump() ->
    _ = py_pool:native(),
    py_dump:all().

%% @doc Returns the same of one context, or of the binding of a process. Raises `context_not_bound' when that has
%% ended, or there is none.
-spec dump(context() | pid()) -> worker_info().
dump(Target) ->
    case py_dump:one(?EXPLAINED([Target], lease(Target))) of
        {ok, Info} -> Info;
        none -> ?RAISED(context_not_bound, [Target])
    end.

%% @doc Prints {@link dump/0} as a table.
-spec top() -> ok.
top() ->
    io:put_chars(py_dump:table(dump())).

%% @doc Samples the Python code of a context, or of the binding of a process, a hundred times a second for some
%% milliseconds, at most 600,000.
%%
%% Returns the folded stacks, from which tools draw a flame graph: a line for each stack, its functions from the
%% outermost on, between semicolons, and how many samples had it. The time is that of a clock: a function that
%% sleeps counts as well. Nothing is sampled while the worker is idle, which costs nothing. Waits for as long,
%% and returns what was seen when the context ends meanwhile; `{error, interrupted}' when its worker has died or
%% it had ended, `{error, timeout}' when C code still keeps the GIL a second later.
-spec profile(context() | pid(), Milliseconds :: 1..600000) -> {ok, Folded :: binary()} | {error, interrupted | timeout}.
profile(Target, Milliseconds) when is_integer(Milliseconds), Milliseconds >= 1, Milliseconds =< 600000 ->
    py_dump:profile(?EXPLAINED([Target, Milliseconds], lease(Target)), Milliseconds);
profile(Target, Milliseconds) ->
    ?RAISED(badarg, [Target, Milliseconds]).

%% Returns the lease of a context or of a binding.
lease(Pid) when is_pid(Pid), node(Pid) =:= node() ->
    case py_pool:binding(Pid) of
        {ok, Lease} -> lease(Lease);
        none -> error(context_not_bound)
    end;
lease(Context) ->
    case py_nif:is_leased(Context) of
        true -> Context;
        false -> error(context_not_bound)
    end.

%%% Python calls Erlang

%% @doc Returns `ok' when Python code can call Fun by this name, which replaces a function that had
%% it.
%%
%% Python code writes `erlang.call(name, *args)', `erlang.name(*args)' or `from erlang import name'.
%% A Fun of one argument gets the list of arguments; one of two also gets the keyword arguments, a map
%% whose keys are binaries, empty if there are none. Fun runs in a process of its own, whose `$callers' begin with the
%% process that the Python code runs for. That process may use `eval', `exec' and `call': they run
%% in the context that called, in the middle of the code that waits. An error of Fun is raised in
%% Python as `erlang.ErlangError'. See `docs/guide/callbacks.md'.
-spec register_function(name(), fun(([term()]) -> term())
                                | fun(([term()], #{binary() => term()}) -> term())) -> ok.
register_function(Name, Fun) when is_function(Fun, 1); is_function(Fun, 2) ->
    ?EXPLAINED([Name, Fun], py_callback:register(function_name(Name), Fun));
register_function(Name, Fun) ->
    ?RAISED(badarg, [Name, Fun]).

%% @doc Registers `Module:Function/1' as {@link register_function/2} does. The function is looked up
%% at each call.
-spec register_function(name(), module(), Function :: atom()) -> ok.
register_function(Name, Module, Function) when is_atom(Module), is_atom(Function) ->
    ?EXPLAINED([Name, Module, Function], py_callback:register(function_name(Name), {Module, Function}));
register_function(Name, Module, Function) ->
    ?RAISED(badarg, [Name, Module, Function]).

%% @doc Returns `ok' when no function has this name any more, or none had. Calls that run go on.
-spec unregister_function(name()) -> ok.
unregister_function(Name) ->
    ?EXPLAINED([Name], py_callback:unregister(function_name(Name))).

function_name(Name) when is_atom(Name) -> atom_to_binary(Name);
function_name(Name) ->
    Text = py_call:code(Name),
    case unicode:characters_to_binary(Text) of
        Text when Text =/= <<>> -> Text;
        _ -> error(badarg)
    end.

%%% Casts

%% @equiv cast(Module, Function, Args, #{})
-spec cast(name(), name(), args()) -> ok | {error, no_workers_available | overloaded}.
cast(Module, Function, Args) ->
    cast(Module, Function, Args, #{}).

%% @equiv cast(Module, Function, Args, Kwargs, DefaultTimeout)
-spec cast(name(), name(), args(), kwargs()) -> ok | {error, no_workers_available | overloaded}.
cast(Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Module, Function, Args, Kwargs],
               py_cast:start(py_call:job(Module, Function, Args, Kwargs), ?DEFAULT)).

%% @doc Returns `ok' when a call is accepted, as by {@link call/5}, whose result is dropped.
%%
%% A failure, a timeout included, is logged as the event `cast_failed'. The call runs where a call of the
%% process would run, after the calls and casts that the process has made there before. Without a binding
%% the call outlives the process; in a binding it ends with that. {@link interrupt/1} of the process stops
%% it. A refused cast has not run.
-spec cast(name(), name(), args(), kwargs(), call_options()) ->
    ok | {error, no_workers_available | overloaded}.
cast(Module, Function, Args, Kwargs, Timeout) ->
    ?EXPLAINED([Module, Function, Args, Kwargs, Timeout],
               py_cast:start(py_call:job(Module, Function, Args, Kwargs), Timeout)).

%% @equiv ctx_cast(Context, Module, Function, Args, #{})
-spec ctx_cast(context(), name(), name(), args()) -> ok | {error, overloaded}.
ctx_cast(Context, Module, Function, Args) ->
    ctx_cast(Context, Module, Function, Args, #{}).

%% @equiv ctx_cast(Context, Module, Function, Args, Kwargs, DefaultTimeout)
-spec ctx_cast(context(), name(), name(), args(), kwargs()) -> ok | {error, overloaded}.
ctx_cast(Context, Module, Function, Args, Kwargs) ->
    ?EXPLAINED([Context, Module, Function, Args, Kwargs],
               py_cast:start_in(Context, py_call:job(Module, Function, Args, Kwargs), ?DEFAULT)).

%% @doc Casts as {@link cast/5} does, in a context, whose handle the call keeps until it has ended.
%% Raises `context_not_bound' when the context has ended.
-spec ctx_cast(context(), name(), name(), args(), kwargs(), timeout()) -> ok | {error, overloaded}.
ctx_cast(Context, Module, Function, Args, Kwargs, Timeout) ->
    ?EXPLAINED([Context, Module, Function, Args, Kwargs, Timeout],
               py_cast:start_in(Context, py_call:job(Module, Function, Args, Kwargs), Timeout)).

%%% Shared state

%% @doc Returns `ok' when Value is stored for Key, in place of the value that Key had.
%%
%% The state is shared by all processes and all Python code, which finds it as `erlang.state'. Keys and
%% values are any terms; two keys are one if they are `=:='. The state lasts until the application stops.
%% `{error, state_full}': all entries together would take more than `max_state' bytes; the old value stays.
-spec state_store(Key :: term(), Value :: term()) -> ok | {error, state_full}.
state_store(Key, Value) ->
    py_state:store(Key, Value).

%% @doc Returns the value of a key.
-spec state_fetch(Key :: term()) -> {ok, term()} | {error, not_found}.
state_fetch(Key) ->
    py_state:fetch(Key).

%% @doc Returns `ok' when the key, which had a value, has none any more.
-spec state_remove(Key :: term()) -> ok | {error, not_found}.
state_remove(Key) ->
    py_state:remove(Key).

%% @doc Returns the keys that have a value, in no order.
-spec state_keys() -> [term()].
state_keys() ->
    py_state:keys().

%% @equiv state_incr(Key, 1)
-spec state_incr(Key :: term()) -> integer() | {error, state_full}.
state_incr(Key) ->
    state_incr(Key, 1).

%% @doc Adds to the integer of a key, 0 if the key has no value, and returns the new one.
%%
%% No other operation on the state comes between. Raises `badarg' if the value or the amount is no
%% integer.
-spec state_incr(Key :: term(), Amount :: integer()) -> integer() | {error, state_full}.
state_incr(Key, Amount) when is_integer(Amount) ->
    case py_state:incr(Key, Amount) of
        {error, not_an_integer} -> ?RAISED(badarg, [Key, Amount]);
        Result -> Result
    end;
state_incr(Key, Amount) ->
    ?RAISED(badarg, [Key, Amount]).

%% @doc Returns `ok' when no key has a value.
-spec state_clear() -> ok.
state_clear() ->
    py_state:clear().

%%% Modules and memory

%% @doc Returns `ok' when a Python module was loaded anew, by `importlib.reload', or for the first time.
%%
%% Workers of the level `thread' share the module: all of them have the new one at once. In a pool of child
%% processes, that of the binding or else `default', one child loads the module in the call, and each other
%% child that has the module does so before its next job, the first one once more; the children of other
%% pools keep the module that they have. After an error the module is what it was, and no other child loads
%% it. What code has taken out of the module before, as by `from module import name', stays old.
-spec reload(name()) -> ok | {error, error_reason()}.
reload(Module) ->
    ?EXPLAINED([Module], py_reload:reload(function_name(Module))).

%% @doc Runs Python's garbage collection, and returns how many objects it has found unreachable.
%%
%% Runs in the interpreter that a call of the process would run in: the one of all workers of the level
%% `thread'; of the level `process', that of one child, the binding's.
-spec gc() -> result(non_neg_integer()).
gc() ->
    py_memory:collect().

%% @doc Returns what Python's memory looks like, in the interpreter of {@link gc/0}.
-spec memory_stats() -> result(memory_stats()).
memory_stats() ->
    py_memory:stats().

%%% Information

%% @doc Returns the version of the Python that runs, as `<<"3.11.7">>'.
-spec version() -> {ok, binary()}.
version() ->
    _ = py_pool:native(),
    #{version := Version} = py_runtime:info(),
    {ok, Version}.

%% @doc Returns the version, the paths and the library of the Python that runs.
-spec python_info() -> result(python_info()).
python_info() ->
    _ = py_pool:native(),
    #{libpython := Libpython, abi := Abi} = py_runtime:info(),
    case eval(<<"(lambda s: (s.version, s.executable, s.prefix, s.path))(__import__('sys'))">>) of
        {ok, {Version, Executable, Prefix, Path}} ->
            {ok, #{version => Version, executable => Executable, prefix => Prefix,
                   path => Path, libpython => Libpython, abi => Abi}};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Returns an error as text for a person: for an exception, the text that Python would print,
%% without the carets under a line.
-spec format_error(error_reason() | {error, error_reason()} | term()) -> binary().
format_error(Error) ->
    py_error:format(Error).
