%% Does every worker of a pool have the new module after `py:reload/1', or all of them the old one?
-module(py_reload_SUITE).
-compile([export_all, nowarn_export_all]).

-define(WORKERS, 3).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [every_worker_has_the_new_module,
     a_module_that_was_not_loaded_is_loaded,
     a_binding_reloads_in_its_pool,
     a_context_of_another_process_has_the_new_module,
     a_module_that_fails_to_load_is_what_it_was,
     a_failure_in_one_worker_spoils_no_job,
     an_endless_module_is_stopped,
     built_in_modules_are_refused,
     names_that_are_none_are_badarg,
     a_spare_child_loads_it_too].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "modules"),
    ok = filelib:ensure_dir(filename:join(Dir, "any")),
    ok = py_test:start_with([{num_workers, ?WORKERS}, {paths, [Dir]}, {interrupt_grace, 500}, {import_grace, 500}]),
    [{dir, Dir} | Config].

end_per_testcase(_Case, _Config) ->
    ok = py_test:end_case(?WORKERS).

%% Writes a module, with another size for each version: Python takes a compiled file of the same second and
%% size for the compiled form of a source.
write(Name, Version, Config) ->
    write_text(Name, ["version = ", integer_to_list(Version), "\n", lists:duplicate(Version, "# later\n")], Config).

write_text(Name, Text, Config) ->
    ok = file:write_file(filename:join(proplists:get_value(dir, Config), atom_to_list(Name) ++ ".py"), Text).

%% Returns what every worker sees, each in a context.
seen(Name) ->
    Contexts = contexts(),
    Seen = [py:ctx_eval(Ctx, version(Name)) || Ctx <- Contexts],
    ok = unbind(Contexts),
    lists:usort(Seen).

version(Name) ->
    ["__import__('", atom_to_list(Name), "').version"].

contexts() ->
    [begin {ok, Ctx} = py:bind(new, #{wait => 20000}), Ctx end || _ <- lists:seq(1, ?WORKERS)].

unbind(Contexts) ->
    [ok = py:unbind(Ctx) || Ctx <- Contexts],
    py_test:wait_available(?WORKERS).

every_worker_has_the_new_module(Config) ->
    ok = write(every_mod, 1, Config),
    [{ok, 1}] = seen(every_mod),
    ok = write(every_mod, 2, Config),
    [{ok, 1}] = seen(every_mod),
    ok = py:reload(every_mod),
    [{ok, 2}] = seen(every_mod),
    ok = write(every_mod, 3, Config),
    ok = py:reload(<<"every_mod">>),
    ok = write(every_mod, 4, Config),
    ok = py:reload("every_mod"),
    [{ok, 4}] = seen(every_mod).

a_module_that_was_not_loaded_is_loaded(Config) ->
    ok = write(first_mod, 1, Config),
    ok = py:reload(first_mod),
    [{ok, 1}] = seen(first_mod),
    {error, {'ModuleNotFoundError', _}} = py:reload(no_such_module_at_all).

a_binding_reloads_in_its_pool(Config) ->
    ok = write(bound_mod, 1, Config),
    [{ok, 1}] = seen(bound_mod),
    ok = py:bind(),
    ok = py:exec(<<"import bound_mod; kept = bound_mod">>),
    ok = write(bound_mod, 2, Config),
    ok = py:reload(bound_mod),
    {ok, {2, true}} = py:eval(<<"(kept.version, kept is bound_mod)">>),
    ok = py:unbind(),
    ok = py_test:wait_available(?WORKERS),
    [{ok, 2}] = seen(bound_mod).

a_context_of_another_process_has_the_new_module(Config) ->
    ok = write(other_mod, 1, Config),
    {ok, Ctx} = py:bind(new),
    {ok, 1} = py:ctx_eval(Ctx, version(other_mod)),
    ok = write(other_mod, 2, Config),
    ok = py_test:in_process(fun() -> py:reload(other_mod) end),
    {ok, 2} = py:ctx_eval(Ctx, version(other_mod)),
    ok = py:unbind(Ctx).

a_module_that_fails_to_load_is_what_it_was(Config) ->
    ok = write(broken_mod, 1, Config),
    [{ok, 1}] = seen(broken_mod),
    ok = write_text(broken_mod, "version = 2\nother = 3\nraise ValueError('not today')\n", Config),
    {error, {'ValueError', #{message := <<"not today">>}}} = py:reload(broken_mod),
    [{ok, 1}] = seen(broken_mod),
    {ok, false} = py:eval(<<"hasattr(__import__('broken_mod'), 'other')">>),
    ok = write_text(broken_mod, "version = = 2\n", Config),
    {error, {'SyntaxError', _}} = py:reload(broken_mod),
    ok = file:delete(filename:join(proplists:get_value(dir, Config), "broken_mod.py")),
    {error, {'ModuleNotFoundError', _}} = py:reload(broken_mod),
    [{ok, 1}] = seen(broken_mod),
    ok = write(broken_mod, 5, Config),
    ok = py:reload(broken_mod),
    [{ok, 5}] = seen(broken_mod).

%% The module loads in the worker of the call, and later, in child processes, in no other one.
a_failure_in_one_worker_spoils_no_job(Config) ->
    ok = write(once_mod, 1, Config),
    [{ok, 1}] = seen(once_mod),
    Mark = filename:join(proplists:get_value(dir, Config), "once"),
    ok = write_text(once_mod, ["import os\nos.open('", Mark, "', os.O_CREAT | os.O_EXCL)\nversion = 2\n"], Config),
    ok = py:reload(once_mod),
    Seen = seen(once_mod),
    [] = Seen -- [{ok, 1}, {ok, 2}],
    {ok, 2} = py:eval(<<"1 + 1">>).

%% An import that has begun is not interrupted: see `import_grace'.
an_endless_module_is_stopped(Config) ->
    ok = write(endless_mod, 1, Config),
    [{ok, 1}] = seen(endless_mod),
    Stop = filename:join(proplists:get_value(dir, Config), "stop"),
    ok = write_text(endless_mod, ["import os, time\nversion = 2\n"
                                  "while not os.path.exists('", Stop, "'):\n    time.sleep(0.01)\n"], Config),
    Self = self(),
    Caller = spawn(fun() -> Self ! {self(), py:reload(endless_mod)} end),
    ok = py_test:wait_until(fun() -> ok =:= py:interrupt(Caller) end),
    {error, interrupted} = receive {Caller, Result} -> Result after 60000 -> error(goes_on) end,
    ok = file:write_file(Stop, ""),
    ok = py_test:wait_until(fun() -> py_test:abandoned() =:= 0 end),
    ok = py_test:wait_until(fun() -> {ok, 2} =:= py:eval(<<"1 + 1">>) end).

built_in_modules_are_refused(_Config) ->
    [{error, {'ImportError', #{message := Why}}} = py:reload(Name)
     || Name <- [erlang, '__main__'], Why <- [message(Name)]],
    {ok, true} = py:eval(<<"hasattr(__import__('erlang'), 'send')">>),
    ok = py:reload(json).

message(Name) ->
    <<"the module ", (atom_to_binary(Name))/binary, " has no source that could be loaded anew">>.

names_that_are_none_are_badarg(_Config) ->
    [{raised, badarg} = py_test:caught(fun() -> py:reload(Name) end) || Name <- [1, <<>>, "", <<255>>, {a}]],
    {error, {'TypeError', _}} = py:reload(<<".relative">>).

%% A spare is a child that serves nobody until another one ends.
a_spare_child_loads_it_too(Config) ->
    Dir = proplists:get_value(dir, Config),
    ok = write(spare_mod, 1, Config),
    ok = py_pool:start(spares, #{level => process, num_workers => 1, spares => 1, paths => [Dir],
                                 preload => [spare_mod]}),
    ok = py:bind(#{pool => spares}),
    {ok, 1} = py:eval(version(spare_mod)),
    ok = write(spare_mod, 2, Config),
    ok = py:reload(spare_mod),
    {ok, First} = py:eval(<<"__import__('os').getpid()">>),
    {error, _} = py:exec(<<"import os; os._exit(1)">>),
    ok = py:bind(#{pool => spares, wait => 20000}),
    {ok, Second} = py:eval(<<"__import__('os').getpid()">>),
    true = First =/= Second,
    {ok, 2} = py:eval(version(spare_mod)),
    ok = py:unbind(),
    ok = py_pool:stop(spares).
