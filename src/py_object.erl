%% @private
%% The requests of functions of objects. Run in the calling process, before the submission.
-module(py_object).

-export([call/4, getattr/2, str/1, repr/1, type/1]).

%% @doc Returns the call of a method. Raises `badarg' unless Object is a handle.
-spec call(py:object(), py:name(), py:args(), py:kwargs()) -> py_nif:source().
call(Object, Name, Args, Kwargs) when is_reference(Object) ->
    py_call:job(Object, Name, Args, Kwargs);
call(_Object, _Name, _Args, _Kwargs) ->
    error(badarg).

%% @doc Returns the request of an attribute. Raises `badarg' unless Object is a handle.
-spec getattr(py:object(), py:name()) -> py_nif:source().
getattr(Object, Name) ->
    py:is_object(Object) orelse error(badarg),
    py_call:job(erlang, <<"_getattr">>, [Object, text(py_call:name(Name))], #{}).

text(Name) when is_atom(Name) -> atom_to_binary(Name);
text(Name) -> Name.

-spec str(term()) -> py_nif:source().
str(Value) ->
    py_call:job(builtins, str, [Value], #{}).

-spec repr(term()) -> py_nif:source().
repr(Value) ->
    py_call:job(builtins, repr, [Value], #{}).

-spec type(term()) -> py_nif:source().
type(Value) ->
    py_call:job(erlang, <<"_type_name">>, [Value], #{}).
