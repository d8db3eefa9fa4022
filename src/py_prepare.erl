%% @private
%% Prepares the running Python for the code of a user: sets `sys.path' and `os.environ', and runs `preload',
%% in a pool of one worker that no other process knows. Called at each start of the application, before its
%% pool takes the first job.
-module(py_prepare).

-export([run/1]).

%% @doc Applies the options one after the other. Returns what has gone wrong, with what Python said.
-spec run(py_options:options()) -> ok | {error, Message :: binary()}.
run(#{preload_timeout := Timeout} = Options) ->
    case environment(Options) ++ preload(Options) of
        [] -> ok;
        Jobs ->
            ok = py_nif:set_preload(true),
            try in_process(fun() -> in_pool(Jobs, Timeout) end) after ok = py_nif:set_preload(false) end
    end.

%% A directory that `sys.path' has already moves to the front.
environment(#{paths := [], env := Variables}) when Variables =:= #{} ->
    [];
environment(#{paths := Paths, env := Variables}) ->
    [{"what sets the keys 'paths' and 'env'",
      <<"import os, sys\n"
        "os.environ.update(variables)\n"
        "sys.path[:] = dict.fromkeys(paths + sys.path)">>,
      #{<<"paths">> => Paths, <<"variables">> => Variables}}].

%% Returns a job for each item: in its order, and in a namespace of its own.
preload(#{preload := Items}) ->
    [{["item ", integer_to_binary(N), " of the key 'preload', ", title(Item), ","], code(Item), locals(Item)}
     || {N, Item} <- lists:zip(lists:seq(1, length(Items)), Items)].

title(Module) when is_atom(Module) -> ["the module ", atom_to_binary(Module)];
title(_Code) -> "a piece of code".

code(Module) when is_atom(Module) -> <<"__import__(name)">>;
code(Code) -> Code.

locals(Module) when is_atom(Module) -> #{<<"name">> => atom_to_binary(Module)};
locals(_Code) -> #{}.

%% The process has the messages that a pool sends to the one that opened it.
in_process(Fun) ->
    Ref = make_ref(),
    Caller = self(),
    {Pid, Monitor} = spawn_opt(fun() -> Caller ! {Ref, Fun()} end, [link, monitor]),
    %% Ends: the jobs have a deadline, unless the user wants none.
    receive
        {Ref, Result} ->
            true = demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            exit(Reason)
    end.

in_pool(Jobs, Timeout) ->
    [Grace, ImportGrace, MaxAbandoned] =
        [Value || Key <- [interrupt_grace, import_grace, max_abandoned],
                  {ok, Value} <- [application:get_env(erlang_python, Key)]],
    Pool = py_nif:open_pool(default, 1, 1, Grace, ImportGrace, MaxAbandoned),
    Result = case py_nif:start_worker(Pool, 1) of
        ok -> run(Jobs, Pool, py_call:deadline(erlang:monotonic_time(millisecond), Timeout), Timeout);
        {error, Text} -> py_discovery:message("the worker for the key 'preload' does not start: ~ts", [Text])
    end,
    ok = py_nif:close_pool(Pool),
    Result.

run([], _Pool, _Deadline, _Timeout) ->
    ok;
run([{What, Code, Locals} | Jobs], Pool, Deadline, Timeout) ->
    case py_call:submit(Pool, {exec, Code, Locals}, py_call:remaining(Deadline)) of
        ok ->
            run(Jobs, Pool, Deadline, Timeout);
        {error, timeout} ->
            py_discovery:message("~ts has not ended within ~b ms, the time of the key 'preload_timeout'",
                                 [What, Timeout]);
        {error, Reason} ->
            py_discovery:message("~ts has failed:~n~ts", [What, py_error:format(Reason)])
    end.
