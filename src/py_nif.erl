%% @private
%% The stubs of native/nif/src/settings.rs, nif.rs, process/nifs.rs and inspect.rs. A NIF module cannot be
%% upgraded, so all other code lives elsewhere. No `-on_load' loads the library: the one that fits is
%% known when the application has asked the chosen Python.
-module(py_nif).
-on_load(keep/0).

-export([load/1]).
-export([configure/1, serve_output/1, take_output/0, output_written/2, set_logging/1, set_preload/1, start_python/2,
         is_object/1, open_pool/6, open_process_pool/5, resize_pool/2, reload_module/2,
         open_child/1, child_started/2, child_exited/2, kill_child/1, close_pool/1, is_closed/1, start_worker/2, pool_info/1,
         resources/0, lease/3, end_lease/1, lease_id/1, lease_manager/1, is_leased/1, is_idle/1, submitted/1,
         end_idle/2, context/1, submit/4, submit_cast/5, cancel/1, is_pending/1, take/1, interrupt/1,
         serve_callbacks/1, add_function/1, remove_function/1, answer/2, sent/1, stream/2,
         stream_next/4, stream_close/1, dump/2, profile/3]).

-export_type([log_place/0, worker_state/0, running/0, pool/0, group/0, child/0, object/0, lease/0, context/0, ticket/0, callback/0, stream/0, outgoing/0,
              target/0, job/0, source/0, outcome/0, refusal/0,
              load_error/0]).

-type pool() :: reference().
-type group() :: reference().
-type child() :: reference().
-type lease() :: reference().
-type context() :: reference().
-type ticket() :: reference().
-type callback() :: reference().
-type stream() :: reference().
-type outgoing() :: reference().
-type object() :: reference().
%% The queue that a job goes to. With the mark, the handle is nothing but a context or a lease.
-type target() :: pool() | lease() | callback() | {context, context() | lease()}.
-type name() :: atom() | binary().
-type source() :: {call, name() | object(), name(), [term()], #{name() => term()}}
                | {eval | exec | run, binary(), #{name() => term()}}
                | {object, object()}.
-type job() :: source() | {open, stream(), source()} | {collect | async, source()} | empty
             | {form, Bits :: byte(), source() | {collect, source()}}.
-type outcome() :: {ok, term()} | {error | exit | throw, Reason :: term(), list()} | not_registered | no_keywords.
-type load_error() :: bad_lib | load | load_failed | old_code | reload | upgrade.
-type refusal() :: no_workers_available | overloaded | context_not_bound.

-type running() :: {Key :: non_neg_integer(), Caller :: pid(), Milliseconds :: non_neg_integer(), Code :: binary()}.
-type worker_state() :: {{{py_pool:name(), thread | process}, Worker :: pos_integer() | none}, State :: atom(),
                         Calls :: [running()], Tasks :: [running()],
                         Gil :: own | holds | {waits, Milliseconds :: non_neg_integer()} | none,
                         Lease :: {pos_integer(), implicit | explicit, Owner :: pid(), Queued :: non_neg_integer()}
                                | none}.

-type log_place() :: {log, Level :: non_neg_integer(), Logger :: binary(), File :: binary(),
                      Line :: non_neg_integer(), Function :: binary(), Lease :: none | pos_integer()}.

-define(LOADED, {?MODULE, loaded}).

-spec load(file:filename()) -> ok | {error, {load_error(), string()}}.
load(Path) ->
    case erlang:load_nif(Path, 0) of
        ok -> persistent_term:put(?LOADED, true);
        {error, Reason} -> {error, Reason}
    end.

%% Refuses a second copy of this module: it would have stubs only, since the library is not loaded
%% twice.
keep() ->
    case persistent_term:get(?LOADED, false) of
        false -> ok;
        true -> {error, cannot_be_upgraded}
    end.

-spec configure(None :: binary()) -> ok.
configure(_None) ->
    erlang:nif_error(not_loaded).

-spec serve_output(Inherits :: boolean()) -> boolean().
serve_output(_Inherits) ->
    erlang:nif_error(not_loaded).

-spec take_output() -> [{none | pid(), stdout | stderr | log_place(), binary(), Cost :: pos_integer()}].
take_output() ->
    erlang:nif_error(not_loaded).

-spec set_logging(Configuration :: non_neg_integer()) -> ok.
set_logging(_Configuration) ->
    erlang:nif_error(not_loaded).

-spec output_written(none | pid(), Cost :: non_neg_integer()) -> boolean().
output_written(_Caller, _Cost) ->
    erlang:nif_error(not_loaded).

-spec set_preload(boolean()) -> ok.
set_preload(_IsPreload) ->
    erlang:nif_error(not_loaded).

-spec start_python(Executable :: binary(), Variables :: [{binary(), binary()}]) ->
    ok | {error, binary()}.
start_python(_Executable, _Variables) ->
    erlang:nif_error(not_loaded).

-spec is_object(term()) -> boolean().
is_object(_Term) ->
    erlang:nif_error(not_loaded).

-spec open_pool(py_pool:name(), Size :: pos_integer(), MaxPending :: pos_integer(),
                InterruptGrace :: non_neg_integer(), ImportGrace :: non_neg_integer(),
                MaxAbandoned :: non_neg_integer()) -> pool().
open_pool(_Name, _Size, _MaxPending, _InterruptGrace, _ImportGrace, _MaxAbandoned) ->
    erlang:nif_error(not_loaded).

-spec close_pool(pool()) -> ok.
close_pool(_Pool) ->
    erlang:nif_error(not_loaded).

-spec is_closed(pool()) -> boolean().
is_closed(_Pool) ->
    erlang:nif_error(not_loaded).

-spec start_worker(pool(), Id :: pos_integer()) -> ok | {error, binary()}.
start_worker(_Pool, _Id) ->
    erlang:nif_error(not_loaded).

-spec pool_info(pool()) ->
    #{size := non_neg_integer(), leased := non_neg_integer(), pending := non_neg_integer(),
      abandoned := non_neg_integer(), left_threads := non_neg_integer(), leases := non_neg_integer(),
      accepted := non_neg_integer(), replied := non_neg_integer(), failed := non_neg_integer(),
      cancelled := non_neg_integer()}.
pool_info(_Pool) ->
    erlang:nif_error(not_loaded).

-spec resources() ->
    #{jobs := non_neg_integer(), contexts := non_neg_integer(), objects := non_neg_integer(),
      callbacks := non_neg_integer(), streams := non_neg_integer()}.
resources() ->
    erlang:nif_error(not_loaded).

-spec lease(pool(), implicit | explicit, Owner :: pid()) -> {ok, lease()} | {error, refusal()}.
lease(_Pool, _Kind, _Owner) ->
    erlang:nif_error(not_loaded).

-spec end_lease(lease()) -> idle | busy | already.
end_lease(_Lease) ->
    erlang:nif_error(not_loaded).

-spec lease_id(lease() | context()) -> pos_integer().
lease_id(_Target) ->
    erlang:nif_error(not_loaded).

-spec lease_manager(lease() | context()) -> pid().
lease_manager(_Target) ->
    erlang:nif_error(not_loaded).

-spec is_leased(lease() | context()) -> boolean().
is_leased(_Target) ->
    erlang:nif_error(not_loaded).

-spec is_idle(lease()) -> boolean().
is_idle(_Lease) ->
    erlang:nif_error(not_loaded).

-spec submitted(lease()) -> non_neg_integer().
submitted(_Lease) ->
    erlang:nif_error(not_loaded).

-spec end_idle(lease(), Submitted :: non_neg_integer()) -> boolean().
end_idle(_Lease, _Submitted) ->
    erlang:nif_error(not_loaded).

-spec context(lease()) -> context().
context(_Lease) ->
    erlang:nif_error(not_loaded).

-spec submit(target(), reference(), job(),
             Callers :: [pid()] | undefined) -> {ok, ticket()} | {error, refusal()}.
submit(_Target, _Ref, _Job, _Callers) ->
    erlang:nif_error(not_loaded).

-spec submit_cast(target(), reference(), job(), Callers :: [pid()] | undefined, Server :: pid()) ->
    {ok, ticket()} | {error, refusal()}.
submit_cast(_Target, _Ref, _Job, _Callers, _Server) ->
    erlang:nif_error(not_loaded).

-spec cancel(ticket()) -> cancelled | replied.
cancel(_Ticket) ->
    erlang:nif_error(not_loaded).

-spec is_pending(ticket()) -> boolean().
is_pending(_Ticket) ->
    erlang:nif_error(not_loaded).

-spec take(ticket()) -> boolean().
take(_Ticket) ->
    erlang:nif_error(not_loaded).

-spec interrupt(lease() | context() | pid()) -> boolean().
interrupt(_Target) ->
    erlang:nif_error(not_loaded).

-spec serve_callbacks(Functions :: [binary()]) -> ok.
serve_callbacks(_Functions) ->
    erlang:nif_error(not_loaded).

-spec add_function(Name :: binary()) -> ok.
add_function(_Name) ->
    erlang:nif_error(not_loaded).

-spec remove_function(Name :: binary()) -> ok.
remove_function(_Name) ->
    erlang:nif_error(not_loaded).

-spec answer(callback(), outcome()) -> ok.
answer(_Callback, _Outcome) ->
    erlang:nif_error(not_loaded).

-spec sent(outgoing()) -> ok.
sent(_Outgoing) ->
    erlang:nif_error(not_loaded).

-spec stream(lease() | context(), Own :: boolean()) -> stream().
stream(_Target, _Own) ->
    erlang:nif_error(not_loaded).

-spec stream_next(stream(), Count :: pos_integer(), Callers :: [pid()] | undefined,
                  Current :: py_callback:current() | undefined) ->
    {ok, ok | done | sending} | {error, busy | overloaded | context_not_bound}.
stream_next(_Stream, _Count, _Callers, _Current) ->
    erlang:nif_error(not_loaded).

-spec stream_close(stream()) -> ok | sending.
stream_close(_Stream) ->
    erlang:nif_error(not_loaded).

-spec open_process_pool(py_pool:name(), Size :: pos_integer(), MaxPending :: pos_integer(),
                        {InterruptGrace :: non_neg_integer(), ImportGrace :: non_neg_integer()},
                        {MaxJobs :: non_neg_integer(), MaxRss :: non_neg_integer(),
                         Memory :: non_neg_integer()}) ->
    {ok, {pool(), group()}} | {error, binary()}.
open_process_pool(_Name, _Size, _MaxPending, _Graces, _Bounds) ->
    erlang:nif_error(not_loaded).

-spec resize_pool(pool(), Size :: non_neg_integer()) -> ok.
resize_pool(_Pool, _Size) ->
    erlang:nif_error(not_loaded).

-spec reload_module(pool() | lease(), Module :: binary()) -> ok.
reload_module(_Target, _Module) ->
    erlang:nif_error(not_loaded).

-spec open_child(group()) -> {ok, {child(), Id :: pos_integer(), Address :: binary()}} | {error, binary()}.
open_child(_Group) ->
    erlang:nif_error(not_loaded).

-spec child_started(child(), Pid :: pos_integer()) -> ok | {error, binary()}.
child_started(_Child, _Pid) ->
    erlang:nif_error(not_loaded).

-spec child_exited(child(), Status :: non_neg_integer()) -> ok.
child_exited(_Child, _Status) ->
    erlang:nif_error(not_loaded).

-spec kill_child(child()) -> ok.
kill_child(_Child) ->
    erlang:nif_error(not_loaded).

-spec dump(Number :: pos_integer(), none | lease() | context()) -> {[worker_state()], Messages :: non_neg_integer()}.
dump(_Number, _Target) ->
    erlang:nif_error(not_loaded).

-spec profile(lease() | context(), Milliseconds :: pos_integer(), Number :: pos_integer()) -> boolean().
profile(_Target, _Milliseconds, _Number) ->
    erlang:nif_error(not_loaded).
