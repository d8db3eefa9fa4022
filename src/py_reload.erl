%% @private
%% Loads a Python module anew, in every worker of a pool. Runs in the calling process.
-module(py_reload).

-export([reload/1]).

%% @doc Loads the module in the worker of a call. If that works, the child processes of the same pool load
%% it before their next job; threads share the module.
-spec reload(binary()) -> ok | {error, py:error_reason()}.
reload(Module) ->
    case py:call(erlang, '_reload', [Module]) of
        {ok, none} -> py_nif:reload_module(target(), Module);
        {error, Reason} -> {error, Reason}
    end.

%% Returns the binding, or the pool of calls without one.
target() ->
    case py_pool:binding(self()) of
        {ok, Lease} -> Lease;
        none -> py_pool:native()
    end.
