%% @private
%% The options that prepare a Python for the code of a user: checks them, and returns them in one form,
%% which `py_prepare' and the start of Python apply.
-module(py_options).

-export([is_valid/2, resolve/1, path/1]).

-export_type([given/0, options/0, path/0]).

-type path() :: file:name_all() | {priv, Application :: atom(), file:name_all()}.
%% A path, or one below the directory `priv' of an application.
-type given() :: #{paths := [path()], env := #{unicode:chardata() => unicode:chardata()},
                   preload := [module() | binary()], preload_timeout := timeout()}.
%% The options as a user writes them, checked by `is_valid/2'.
-type options() :: #{paths := [binary()], env := #{binary() => binary()},
                     preload := [module() | binary()], preload_timeout := timeout()}.
%% `paths': absolute directories, for the beginning of `sys.path'. `env': variables of the environment.
%% `preload': modules to import and code to run. `preload_timeout': milliseconds that may take.

%% @doc Returns whether a value is one that the option takes.
-spec is_valid(python | paths | env | preload | preload_timeout, term()) -> boolean().
is_valid(python, undefined) -> true;
is_valid(python, {env, Spec}) -> py_env:is_spec(Spec);
is_valid(python, Value) -> is_path(Value);
is_valid(paths, Value) -> is_list_of(fun is_path/1, Value);
is_valid(env, Value) -> is_map(Value) andalso are_variables(maps:to_list(Value));
is_valid(preload, Value) -> is_list_of(fun is_item/1, Value);
is_valid(preload_timeout, infinity) -> true;
%% The longest timeout of `receive', 49 days.
is_valid(preload_timeout, Value) -> is_integer(Value) andalso Value >= 1 andalso Value =< 16#ffffffff.

%% An improper list is none.
is_list_of(Is, [Item | Items]) -> Is(Item) andalso is_list_of(Is, Items);
is_list_of(_Is, Tail) -> Tail =:= [].

is_path({priv, Application, Path}) -> is_atom(Application) andalso py_discovery:is_path(Path);
is_path(Value) -> py_discovery:is_path(Value).

%% A name may stand in a map twice, as a string and as a binary.
are_variables(Variables) ->
    Names = [text(Name) || {Name, _} <- Variables],
    lists:all(fun is_name/1, Names) andalso length(lists:usort(Names)) =:= length(Names)
        andalso lists:all(fun({_, Value}) -> is_text(text(Value)) end, Variables).

is_name(Name) ->
    is_text(Name) andalso Name =/= <<>> andalso binary:match(Name, <<"=">>) =:= nomatch.

is_item(Code) when is_binary(Code) -> is_text(text(Code));
is_item(Module) -> is_atom(Module).

is_text(Text) ->
    is_binary(Text) andalso binary:match(Text, <<0>>) =:= nomatch.

%% Returns text as UTF-8, or `error'.
text(Text) when is_binary(Text); is_list(Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> error
    catch
        error:badarg -> error
    end;
text(_) ->
    error.

%% @doc Returns the options in the form that is applied, or which directory does not exist.
-spec resolve(given()) -> {ok, options()} | {error, Message :: binary()}.
resolve(#{paths := Paths, env := Variables} = Given) ->
    case directories(Paths, []) of
        {ok, Directories} ->
            Texts = maps:from_list([{text(Name), text(Value)} || {Name, Value} <- maps:to_list(Variables)]),
            {ok, Given#{paths := Directories, env := Texts}};
        {error, Message} ->
            {error, Message}
    end.

directories([], Found) ->
    {ok, lists:reverse(Found)};
directories([Path | Paths], Found) ->
    case directory(Path) of
        {ok, Directory} -> directories(Paths, [Directory | Found]);
        {error, Message} -> {error, Message}
    end.

directory(Path) ->
    case path(Path) of
        {ok, Directory} ->
            case filelib:is_dir(Directory) of
                true -> {ok, unicode:characters_to_binary(Directory)};
                false -> py_discovery:message("~ts, given by the key 'paths', is not a directory",
                                              [Directory])
            end;
        {error, Message} ->
            {error, Message}
    end.

%% @doc Returns the absolute path that an option names.
-spec path(path()) -> {ok, file:filename()} | {error, Message :: binary()}.
path({priv, Application, Path}) ->
    case code:priv_dir(Application) of
        {error, bad_name} ->
            py_discovery:message("~tp names the directory priv of an application that is not in the code path",
                                 [{priv, Application, Path}]);
        Priv ->
            {ok, filename:absname(filename:join(Priv, unicode:characters_to_list(Path)))}
    end;
path(Path) ->
    {ok, filename:absname(unicode:characters_to_list(Path))}.
