%% @private
%% The memory of Python: runs its garbage collection, and reads its counters. Runs in the calling process.
-module(py_memory).

-export([collect/0, stats/0]).

-spec collect() -> py:result(non_neg_integer()).
collect() ->
    py:call(gc, collect, []).

-spec stats() -> py:result(py:memory_stats()).
stats() ->
    case py:eval(<<"(lambda gc, sys, trace: (sys.getallocatedblocks(), list(gc.get_count()), list(gc.get_threshold()), "
                   "[(g['collections'], g['collected'], g['uncollectable']) for g in gc.get_stats()], "
                   "trace.get_traced_memory() if trace.is_tracing() else None, __import__('os').getpid()))"
                   "(*map(__import__, ('gc', 'sys', 'tracemalloc')))">>) of
        {ok, {Blocks, Counts, Thresholds, Collections, Traced, Pid}} ->
            Gc = #{counts => Counts, thresholds => Thresholds,
                   collections => [#{collections => Runs, collected => Collected, uncollectable => Uncollectable}
                                   || {Runs, Collected, Uncollectable} <- Collections]},
            {ok, #{rss => rss(Pid), allocated_blocks => Blocks, gc => Gc, traced => traced(Traced)}};
        {error, Reason} ->
            {error, Reason}
    end.

traced(none) -> none;
traced({Current, Peak}) -> #{current => Current, peak => Peak}.

%% Returns the bytes of resident memory of a process, where the system has a file that says so.
rss(Pid) ->
    case file:read_file(["/proc/", integer_to_list(Pid), "/status"]) of
        {ok, Status} ->
            case re:run(Status, "^VmRSS:\\s*(\\d+) kB", [multiline, {capture, [1], binary}]) of
                {match, [Kilobytes]} -> 1024 * binary_to_integer(Kilobytes);
                nomatch -> unknown
            end;
        {error, _} ->
            unknown
    end.
