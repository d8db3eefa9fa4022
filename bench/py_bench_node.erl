%% @private
%% A fresh VM: Python is never finalized, so the cost of its start can be seen once in each.
-module(py_bench_node).

-export([start/0, call/4, stop/1, resident/0]).

-define(TIMEOUT, 60000).

-spec start() -> pid().
start() ->
    Paths = [filename:dirname(code:which(Module)) || Module <- [?MODULE, py]],
    {ok, Node, _} = peer:start_link(#{connection => standard_io,
                                      args => ["-pa" | Paths], wait_boot => ?TIMEOUT}),
    %% The log of the VM would come out among the rows.
    ok = call(Node, logger, set_primary_config, [level, warning]),
    Node.

-spec call(pid(), module(), atom(), [term()]) -> term().
call(Node, Module, Function, Args) ->
    peer:call(Node, Module, Function, Args, ?TIMEOUT).

-spec stop(pid()) -> ok.
stop(Node) ->
    peer:stop(Node).

%% @doc Returns the resident bytes of this VM, after a collection of garbage.
-spec resident() -> non_neg_integer().
resident() ->
    lists:foreach(fun garbage_collect/1, processes()),
    {ok, Status} = file:read_file("/proc/self/status"),
    {match, [KiB]} = re:run(Status, "VmRSS:\\s*([0-9]+)", [{capture, [1], binary}]),
    binary_to_integer(KiB) * 1024.
