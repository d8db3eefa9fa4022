%% @private
%% Functions of modules that Python code may call by `erlang.apply': those that the key `callable' of the
%% environment names, none by default. No atom is made of a name that Python sends.
-module(py_apply).

-export([is_valid/1, create_table/0, run/1]).

-export_type([callable/0]).

-type callable() :: [module() | {module(), Function :: atom()} | {module(), Function :: atom(), arity()}].
%% All functions that a module exports, those of one name, or one function.

%% The items of the key, each one a row. Filled by the supervisor, which owns the table.
-define(TABLE, py_callable).

%% @doc Returns whether a term is a `callable()'.
-spec is_valid(term()) -> boolean().
is_valid([Item | Items]) -> is_item(Item) andalso is_valid(Items);
is_valid(Tail) -> Tail =:= [].

is_item({Module, Function}) -> is_atom(Module) andalso is_atom(Function);
is_item({Module, Function, Arity}) ->
    is_item({Module, Function}) andalso is_integer(Arity) andalso Arity >= 0 andalso Arity =< 255;
is_item(Module) -> is_atom(Module).

-spec create_table() -> ok.
create_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, protected, set, {read_concurrency, true}]),
    {ok, Items} = application:get_env(erlang_python, callable),
    true = ets:insert(?TABLE, [{Item} || Item <- Items]),
    ok.

%% @doc Returns `[Value]' of a function, or `not_allowed'. Called in the process of a callback, which an
%% error of the function ends as it does that of a registered function.
-spec run([term(), ...]) -> [term(), ...] | not_allowed.
run([ModuleName, FunctionName, Args]) ->
    case existing(ModuleName) of
        {ok, Module} -> run(Module, FunctionName, Args, length(Args));
        none -> not_allowed
    end.

run(Module, FunctionName, Args, Arity) ->
    IsOpen = ets:member(?TABLE, Module),
    %% The names of the functions of a module that was never loaded may not be atoms yet.
    _ = IsOpen andalso code:ensure_loaded(Module),
    case existing(FunctionName) of
        {ok, Function} ->
            case IsOpen orelse ets:member(?TABLE, {Module, Function})
                     orelse ets:member(?TABLE, {Module, Function, Arity}) of
                true -> [apply(Module, Function, Args)];
                false -> not_allowed
            end;
        none when IsOpen ->
            error(undef);
        none ->
            not_allowed
    end.

existing(Name) when is_atom(Name) ->
    {ok, Name};
existing(Name) when is_binary(Name) ->
    try
        {ok, binary_to_existing_atom(Name)}
    catch
        error:Reason when Reason =:= badarg; Reason =:= system_limit -> none
    end;
existing(_) ->
    none.
