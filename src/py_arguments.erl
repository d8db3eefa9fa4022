%% @private
%% What is wrong with the arguments of a function of `py': the texts that a shell, a log or Elixir shows
%% below an error, as EEP 54 has them.
%%
%% An argument is looked at again when its error is shown, by any process: nothing here runs in a call that
%% works.
-module(py_arguments).

-export([format_error/2]).

-include("py_call.hrl").

-type role() :: any | code | name | callee | object | function_name | args | kwargs | locals | context | target | bound_target | profile_time
              | stream | count | pending | calls | call_options | ctx_options | exec_options | timeout
              | bind_options | bind_or_new | logging_options | body | body0 | function | atom | integer | reference.
%% The kind of an argument.

%% @doc Returns a text for each wrong argument, by its position; or one for all of them.
-spec format_error(Reason :: term(), erlang:stacktrace()) -> #{pos_integer() | general => unicode:chardata()}.
format_error(badarg, [{py, Function, Args, _} | _]) when is_list(Args) ->
    Roles = roles(Function, length(Args)),
    Positions = lists:zip3(lists:seq(1, length(Args)), Roles, Args),
    case [{Position, Text} || {Position, Role, Arg} <- Positions, Text <- wrong(Role, Arg)] of
        [] -> #{general => general(Function)};
        Wrong -> maps:from_list(Wrong)
    end;
format_error(context_not_bound, [{py, Function, Args, _} | _]) when is_list(Args) ->
    Is = fun(Role) -> Role =:= context orelse Role =:= bound_target end,
    case lists:splitwith(fun(Role) -> not Is(Role) end, roles(Function, length(Args))) of
        {Before, [_ | _]} ->
            At = length(Before) + 1,
            #{At => ended(lists:nth(At, Args))};
        {_, []} ->
            #{general => "the binding or the context of the call has ended"}
    end;
format_error(_Reason, _Stacktrace) ->
    #{}.

ended(Pid) when is_pid(Pid) -> "the process has no binding";
ended(_Context) -> "the context has ended: it was unbound, or its owner or its worker has died".

%% Returns the roles of the arguments of a function.
-spec roles(atom(), arity()) -> [role()].
roles(register_function, 3) ->
    [function_name, atom, atom];
roles(Stream, 1) when Stream =:= stream; Stream =:= stream_start ->
    [object];
roles(ctx_stream, 2) ->
    [context, object];
roles(Function, Arity) ->
    Roles = roles(Function),
    lists:sublist(Roles, Arity) ++ lists:duplicate(max(0, Arity - length(Roles)), any).

roles(bind) -> [bind_or_new, bind_options];
roles(Function) when Function =:= unbind; Function =:= monitor -> [context];
roles(demonitor) -> [reference];
roles(check_response) -> [any, pending];
roles(with_context) -> [bind_options, body];
roles(Call) when Call =:= call; Call =:= cast; Call =:= stream -> [callee, name, args, kwargs, call_options];
roles(Run) when Run =:= eval_async; Run =:= exec_async -> [code, locals];
roles(Run) when Run =:= ctx_eval_async; Run =:= ctx_exec_async -> [context, code, locals];
roles(Call) when Call =:= call_async; Call =:= async_call; Call =:= stream_start -> [callee, name, args, kwargs];
roles(Call) when Call =:= ctx_call; Call =:= ctx_cast; Call =:= ctx_call_async; Call =:= ctx_async_call;
                 Call =:= ctx_stream ->
    [context, callee, name, args, kwargs, ctx_options];
roles(Run) when Run =:= eval; Run =:= run; Run =:= stream_eval; Run =:= stream_eval_start ->
    [code, locals, call_options];
roles(exec) -> [code, locals, exec_options];
roles(Run) when Run =:= ctx_eval; Run =:= ctx_run -> [context, code, locals, ctx_options];
roles(ctx_exec) -> [context, code, locals, timeout];
roles(call_method) -> [object, name, args, kwargs, call_options];
roles(ctx_call_method) -> [context, object, name, args, kwargs, ctx_options];
roles(getattr) -> [object, name];
roles(ctx_getattr) -> [context, object, name];
roles(to_term) -> [object];
roles(ctx_to_term) -> [context, object];
roles(Text) when Text =:= ctx_str; Text =:= ctx_repr; Text =:= ctx_type -> [context, any];
roles(with_output) -> [body0];
roles(configure_logging) -> [logging_options];
roles(stream_next) -> [stream, count];
roles(stream_close) -> [stream];
roles(Await) when Await =:= await; Await =:= async_await -> [pending, timeout];
roles(async_gather) -> [calls, timeout];
roles(interrupt) -> [target];
roles(dump) -> [bound_target];
roles(profile) -> [bound_target, profile_time];
roles(register_function) -> [function_name, function];
roles(unregister_function) -> [function_name];
roles(reload) -> [function_name];
roles(state_incr) -> [any, integer];
roles(_) -> [].

general(Await) when Await =:= check_response; Await =:= await; Await =:= async_await; Await =:= async_gather ->
    "a call under way is awaited once, by the process that made it";
general(stream_next) ->
    "only the process that has started the stream may ask for items";
general(state_incr) ->
    "the value of the key is no integer";
general(_) ->
    "the environment key default_timeout is neither a number of milliseconds nor infinity".

%% Returns `[]', or a text.
wrong(any, _) -> [];
wrong(code, Code) -> text(Code, "code");
wrong(name, Name) when is_atom(Name) -> [];
wrong(name, Name) -> text(Name, "an atom or text");
wrong(callee, Object) when is_reference(Object) -> wrong(object, Object);
wrong(callee, Name) -> wrong(name, Name);
wrong(object, Object) ->
    case is_object(Object) of
        true -> [];
        false -> ["not a handle of a Python object"]
    end;
wrong(function_name, Name) when Name =:= <<>>; Name =:= [] -> ["an empty name"];
wrong(function_name, Name) -> wrong(name, Name);
wrong(args, Args) when is_list(Args) -> proper(Args);
wrong(args, _) -> ["not a list of arguments"];
wrong(Names, Map) when Names =:= kwargs; Names =:= locals -> names(Map);
wrong(context, Context) -> handle(Context, "not a context: py:bind(new) returns one");
wrong(bound_target, Target) -> wrong(target, Target);
wrong(profile_time, Time) when is_integer(Time), Time >= 1, Time =< 600000 -> [];
wrong(profile_time, _) -> ["not milliseconds, from 1 to 600000"];
wrong(target, Pid) when is_pid(Pid), node(Pid) =:= node() -> [];
wrong(target, Pid) when is_pid(Pid) -> ["a process of another node"];
wrong(target, Context) -> handle(Context, "neither a context nor a process");
wrong(reference, Reference) when is_reference(Reference) -> [];
wrong(reference, _) -> ["not a reference that py:monitor/1 has returned"];
wrong(stream, Stream) when is_reference(Stream) -> [];
wrong(stream, _) -> ["not a stream: py:stream_start/3 returns one"];
wrong(count, Count) when is_integer(Count), Count > 0 -> [];
wrong(count, _) -> ["not a positive integer"];
wrong(pending, {py_pending, _, _, _}) -> [];
wrong(pending, _) -> ["not a call under way: py:call_async/3 returns one"];
wrong(calls, Calls) when is_list(Calls) -> proper(Calls);
wrong(calls, _) -> ["not a list of calls"];
wrong(timeout, Timeout) when ?IS_TIMEOUT(Timeout); Timeout =:= ?DEFAULT -> [];
wrong(timeout, Map) when is_map(Map) -> options(Map, [timeout]);
wrong(timeout, _) -> ["neither milliseconds, from 0 to 4294967295, nor infinity"];
wrong(ctx_options, Map) when is_map(Map) -> options(Map, [timeout, return, arrays, none]);
wrong(ctx_options, Timeout) -> wrong(timeout, Timeout);
wrong(exec_options, Map) when is_map(Map) -> options(Map, [timeout, pool]);
wrong(exec_options, Timeout) -> wrong(call_options, Timeout);
wrong(call_options, Map) when is_map(Map) -> options(Map, [timeout, pool, return, arrays, none]);
wrong(call_options, Timeout) when ?IS_TIMEOUT(Timeout) -> [];
wrong(call_options, List) when is_list(List) -> ["not a map of options; is it a keyword list?"];
wrong(call_options, _) -> ["neither milliseconds, from 0 to 4294967295, nor infinity, nor a map of options"];
wrong(bind_or_new, new) -> [];
wrong(bind_or_new, Options) -> wrong(bind_options, Options);
wrong(bind_options, Map) when is_map(Map) -> options(Map, [wait, pool]);
wrong(bind_options, List) when is_list(List) -> ["not a map of options; is it a keyword list?"];
wrong(bind_options, _) -> ["not a map of options"];
wrong(body0, Fun) when is_function(Fun, 0) -> [];
wrong(body0, _) -> ["not a fun of no argument"];
wrong(logging_options, Map) when is_map(Map) -> options(Map, [level, warnings]);
wrong(logging_options, _) -> ["not a map of options"];
wrong(body, Fun) when is_function(Fun, 0); is_function(Fun, 1) -> [];
wrong(body, _) -> ["not a fun of no or one argument"];
wrong(function, Fun) when is_function(Fun, 1); is_function(Fun, 2) -> [];
wrong(function, _) -> ["not a fun of the list of arguments, or of that and the keyword arguments"];
wrong(atom, Atom) when is_atom(Atom) -> [];
wrong(atom, _) -> ["not an atom"];
wrong(integer, Integer) when is_integer(Integer) -> [];
wrong(integer, _) -> ["not an integer"].

text(Text, _What) when is_binary(Text) ->
    case unicode:characters_to_binary(Text) of
        Text -> [];
        _ -> ["not UTF-8"]
    end;
text(Text, What) when is_list(Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> [];
        _ -> ["text with a character that is none"]
    catch
        error:badarg -> ["not " ++ What]
    end;
text(_, What) ->
    ["not " ++ What].

proper(List) ->
    try length(List) of
        _ -> []
    catch
        error:badarg -> ["an improper list"]
    end.

names(Map) when is_map(Map) ->
    case [Key || Key <- maps:keys(Map), not is_name(Key)] of
        [] -> [];
        [Key | _] -> [io_lib:format("the key ~0tP is neither an atom nor UTF-8 text", [Key, 10])]
    end;
names(List) when is_list(List) ->
    try maps:from_list(List) of
        Map when map_size(Map) =:= length(List) -> names(Map);
        _ -> ["a keyword list in which a name stands twice"]
    catch
        error:badarg -> ["neither a map nor a keyword list"]
    end;
names(_) ->
    ["neither a map nor a keyword list"].

is_name(Key) ->
    is_atom(Key) orelse is_binary(Key) andalso unicode:characters_to_binary(Key) =:= Key.

is_object(Term) ->
    try is_reference(Term) andalso py_nif:is_object(Term) catch error:not_loaded -> false end.

handle(Context, Text) ->
    try py_nif:lease_id(Context) of
        _ -> []
    catch
        %% The library may not be loaded in the VM that shows the error.
        error:Reason when Reason =:= badarg; Reason =:= not_loaded -> [Text]
    end.

options(Map, Known) ->
    case maps:keys(maps:without(Known, Map)) of
        [] ->
            lists:append([option(Key, maps:get(Key, Map)) || Key <- Known, is_map_key(Key, Map)]);
        [Key | _] ->
            [io_lib:format("the option ~0tP does not exist; there are: ~ts",
                           [Key, 10, lists:join(", ", [atom_to_list(K) || K <- Known])])]
    end.

option(pool, Pool) when is_atom(Pool) ->
    case py_pool:find(Pool) of
        {ok, _} -> [];
        none -> [io_lib:format("there is no pool ~0tp", [Pool])]
    end;
option(pool, _) ->
    ["the option pool is not an atom"];
option(return, Value) -> one_of(return, Value, [term, object]);
option(arrays, Value) -> one_of(arrays, Value, [list, binary]);
option(none, Value) -> one_of(none, Value, [none, nil, undefined]);
option(warnings, Value) -> one_of(warnings, Value, [true, false]);
option(level, Value) ->
    one_of(level, Value, [all, debug, info, notice, warning, error, critical, alert, emergency, none]);
option(_, Timeout) when ?IS_TIMEOUT(Timeout) ->
    [];
option(Key, _) ->
    [io_lib:format("the option ~ts is neither milliseconds, from 0 to 4294967295, nor infinity", [Key])].

one_of(Key, Value, Values) ->
    case lists:member(Value, Values) of
        true -> [];
        false ->
            Known = lists:join(", ", [atom_to_list(Known) || Known <- Values]),
            [io_lib:format("the option ~ts is ~0tP, which is none of ~ts", [Key, Value, 10, Known])]
    end.
