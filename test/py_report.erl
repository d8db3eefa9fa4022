%% A hook of Common Test that prints the case that failed, and why. scripts/test installs it and
%% prints its lines again at the end of a run. At the level `process' it skips the cases that test what
%% only threads of the VM have.
-module(py_report).

-export([init/2, pre_init_per_testcase/4, on_tc_fail/4]).

-spec init(Id :: term(), Options :: term()) -> {ok, State :: none}.
init(_Id, _Options) ->
    {ok, none}.

-spec pre_init_per_testcase(module(), atom(), Config :: [term()], none) -> {Config | {skip, iodata()}, none} when
    Config :: [term()].
pre_init_per_testcase(Suite, Case, Config, none) ->
    case os:getenv("PY_TEST_LEVEL") =:= "process" andalso needs(Suite, Case) of
        false -> {Config, none};
        Reason -> {{skip, Reason}, none}
    end.

%% What a case needs that a pool of child processes does not have, or false.
needs(py_affinity_SUITE, a_function_from_an_unbound_call_keeps_its_globals) -> "one interpreter for all contexts";
needs(py_async_ends_SUITE, a_coroutine_that_cannot_be_stopped_costs_the_context) -> "a thread that is abandoned";
needs(py_stream_ends_SUITE, a_finally_that_hangs_costs_the_context) -> "a thread that is abandoned";
needs(py_reentry_SUITE, Case) when Case =:= code_that_calls_while_it_swallows_interrupts_is_abandoned;
                                  Case =:= a_finalizer_whose_nested_code_hangs_costs_no_worker ->
    "a thread that is abandoned";
needs(py_callback_ends_SUITE, code_that_swallows_interrupts_is_abandoned) -> "a thread that is abandoned";
needs(py_loop_SUITE, the_loop_is_closed_though_it_is_set_no_more) -> "one interpreter for all contexts";
needs(py_await_SUITE, a_full_context_is_overloaded) -> "one interpreter for all contexts";
needs(py_import_SUITE, Case) when Case =:= an_import_without_end_is_abandoned;
                                 Case =:= code_that_goes_on_importing_is_abandoned ->
    "a thread that is abandoned";
needs(py_interrupt_SUITE, trace_functions_go_on) -> "a thread that is abandoned";
needs(py_interrupt_SUITE, threads_that_the_code_starts_are_not_hit) -> "one interpreter for all contexts";
needs(py_threads_SUITE, a_thread_sees_its_context_and_no_other) -> "functions of other contexts";
needs(py_thread_state_SUITE, the_name_of_the_thread) -> "workers that are threads with names";
needs(py_isolation_SUITE, signals_to_the_vm) -> "signals to its process that hit the VM";
needs(py_recovery_SUITE, an_import_hook_that_was_left_harms_nobody) -> "one interpreter for all contexts";
needs(py_recovery_SUITE, a_crash_while_the_pool_closes_strands_no_caller) -> "a worker that ends after its pool";
needs(py_garbage_SUITE, code_that_disables_collections_is_obeyed) -> "one interpreter for all contexts";
needs(py_types_SUITE, views) -> "the memory of the VM";
needs(py_types_SUITE, big_binaries_arrive_whole) -> "the memory of the VM";
needs(py_types_SUITE, objects_cross_contexts) -> "one interpreter for all contexts";
needs(py_types_SUITE, opaque_objects_are_released) -> "one interpreter for all contexts";
needs(py_callback_SUITE, errors_are_caught_in_python) -> "one interpreter for all contexts";
needs(py_callback_SUITE, a_nested_call_in_a_thread_is_stopped) -> "interrupts of other threads than the worker";
needs(py_message_SUITE, an_atom_is_made_when_asked) -> "atoms made by Python code";
needs(py_message_SUITE, atoms_have_at_most_255_characters) -> "atoms made by Python code";
needs(py_message_SUITE, terms_show_themselves) -> "the names that the VM prints for its own pids";
needs(py_timeout_SUITE, no_message_comes_after_a_timeout) -> "one interpreter for all contexts";
needs(py_timeout_SUITE, a_sleeping_worker_delays_nobody) -> "one interpreter for all contexts";
needs(py_lease_SUITE, what_a_namespace_held_is_freed_at_once) -> "one interpreter for all contexts";
needs(py_lease_SUITE, the_default_size_follows_the_schedulers) -> "the default number of threads";
needs(_, _) -> false.

-spec on_tc_fail(module(), Name :: term(), Reason :: term(), none) -> none.
on_tc_fail(Suite, Name, Reason, none) ->
    io:format(user, "FAILED ~p:~p~n~tP~n", [Suite, Name, Reason, 60]),
    none.
