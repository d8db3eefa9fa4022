%% @doc Statements that have a value: that of the last one, if it is an expression.
%%
%% ```
%% {ok, 6} = py_run:run(<<"x = 2\nx * 3">>).
%% '''
%%
%% One call, so it also keeps its variables together in a process that is not bound. The Python half is
%% `priv/py_run.py', which is loaded at the first call. The sigil `~PY' of Elixir uses this module.
-module(py_run).

-export([run/1, run/2]).

-export_type([options/0]).

-type options() :: #{locals => py:locals(), offered => py:locals(), timeout => timeout(),
                     context => py:context(), pool => py_pool:name(), file => unicode:chardata(), line => pos_integer()}.
%% `locals': variables for the code, as those of {@link py:exec/2}. `offered': the same, but only
%% for the names that the code itself looks up. `timeout': as that of {@link py:exec/3}. `context': runs
%% there, and not in the binding of the calling process. `pool': as that of {@link py:exec/3}, not
%% together with `context'. `file' and `line': where the code begins, for
%% tracebacks; `<<"<erlang>">>' and 1, if nothing is said.

-define(FILE_NAME, <<"<erlang>">>).
-define(HELPER_FILE, "py_run.py").
%% The name of that file in tracebacks.
-define(HELPER, <<"<erlang_python/py_run.py>">>).
-define(MAX_LINE, 1000000).

%% The parameters are `request' and `path'. Python compiles the expression once.
-define(EXPRESSION, <<
    "(lambda modules, name: modules.get(name) or (lambda module: ("
    "exec(compile(__import__('pathlib').Path(path).read_text('utf-8'), '<erlang_python/py_run.py>', 'exec'), module.__dict__), "
    "modules.setdefault(name, module))[1])(__import__('types').ModuleType(name)))"
    "(__import__('sys').modules, '_erlang_run').run(*request, globals())">>).

%% @equiv run(Code, #{})
-spec run(py:code()) -> py:result().
run(Code) ->
    run(Code, #{}).

%% @doc Runs Python statements, and returns the value of the last one; `none' if it is no expression.
%%
%% Assignments stay in the namespace, as those of {@link py:exec/1}. Raises `badarg' for an unknown
%% option or a wrong value, and `context_not_bound' if the context has ended.
-spec run(py:code(), options()) -> py:result().
run(Code, Options) when is_map(Options) ->
    [] = [error(badarg) || Key <- maps:keys(Options),
                           not lists:member(Key, [locals, offered, timeout, context, pool, file, line])],
    Source = text(Code),
    File = text(maps:get(file, Options, ?FILE_NAME)),
    Line = maps:get(line, Options, 1),
    is_integer(Line) andalso Line > 0 andalso Line =< ?MAX_LINE orelse error(badarg),
    Path = text(filename:join(py_runtime:priv_dir(), ?HELPER_FILE)),
    Request = {Source, File, Line, variables(locals, Options), variables(offered, Options)},
    Result = eval(#{<<"request">> => Request, <<"path">> => Path}, Options),
    shown(Result, Source, File, Line);
run(_Code, _Options) ->
    error(badarg).

eval(_Locals, #{context := _, pool := _}) ->
    error(badarg);
eval(Locals, #{context := Context, timeout := Timeout}) ->
    py:ctx_eval(Context, ?EXPRESSION, Locals, Timeout);
eval(Locals, #{context := Context}) ->
    py:ctx_eval(Context, ?EXPRESSION, Locals);
eval(Locals, #{} = Options) ->
    py:eval(?EXPRESSION, Locals, maps:with([timeout, pool], Options)).

%% Returns UTF-8: any other binary would arrive as `bytes'.
text(Chardata) ->
    case unicode:characters_to_binary(Chardata) of
        Text when is_binary(Text) -> Text;
        _ -> error(badarg)
    end.

%% Returns the variables under names that are text, also `true' and `none'.
variables(Key, Options) ->
    case maps:get(Key, Options, #{}) of
        Map when is_map(Map) ->
            Named = maps:from_list([{variable(Name), Value} || {Name, Value} <- maps:to_list(Map)]),
            map_size(Named) =:= map_size(Map) orelse error(badarg),
            Named;
        _ ->
            error(badarg)
    end.

variable(Name) when is_atom(Name) -> atom_to_binary(Name);
variable(Name) when is_binary(Name) -> text(Name);
variable(_) -> error(badarg).

%% Returns the result with a traceback that begins with the code.
shown({error, {Type, #{traceback := Frames} = Exception}}, Source, File, Line) ->
    {error, {Type, Exception#{traceback := frames(Frames, Source, File, Line)}}};
shown(Result, _Source, _File, _Line) ->
    Result.

%% Removes the frames of the helper and those around it. A deep recursion may have lost them already.
frames(Frames, Source, File, Line) ->
    IsHelper = fun(#{file := Name}) -> Name =:= ?HELPER end,
    case lists:dropwhile(fun(Frame) -> not IsHelper(Frame) end, Frames) of
        [] ->
            Frames;
        Inner ->
            case lists:filter(fun(Frame) -> not IsHelper(Frame) end, Inner) of
                [#{file := File, function := <<"<module>">>} = First | Rest] ->
                    [with_source(First, Source, Line) | Rest];
                Kept ->
                    Kept
            end
    end.

%% Adds the line of the source, which is in no file that a traceback could read.
with_source(#{file := ?FILE_NAME, line := Number} = Frame, Source, Line) when Number >= Line ->
    Lines = binary:split(Source, [<<"\r\n">>, <<"\r">>, <<"\n">>], [global]),
    case Number - Line < length(Lines) andalso py_source:trimmed(lists:nth(Number - Line + 1, Lines)) of
        Text when is_binary(Text) -> Frame#{source => lists:nth(Number - Line + 1, Lines)};
        _ -> Frame
    end;
with_source(Frame, _Source, _Line) ->
    Frame.
