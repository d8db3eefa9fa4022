%% @private
%% The NIF that makes a libpython global; see c_src/py_loader.c.
-module(py_loader).

-export([open/1]).

-on_load(load/0).

%% @doc Returns `ok' when the shared library at Path is loaded with its symbols global, for ever.
-spec open(Path :: binary()) -> ok | {error, Message :: binary()}.
open(_Path) ->
    erlang:nif_error(not_loaded).

-spec load() -> ok | {error, {py_nif:load_error(), string()}}.
load() ->
    erlang:load_nif(filename:join(py_runtime:priv_dir(), "py_loader"), 0).
