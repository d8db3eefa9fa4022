%% @private
%% The costs of bringing values over and back: beside a copy in Python alone for many small ones,
%% beside memcpy for big ones.
-module(py_bench_data).

-export([rows/0]).

-define(BIG, (64 bsl 20)).
-define(EACH, 4).
-define(TIMEOUT, 60000).

-spec rows() -> [py_bench_row:row()].
rows() ->
    ok = py_bench:start(8),
    {ok, Context} = py:bind(new),
    ok = py:ctx_exec(Context, <<"identity = lambda x: x">>),
    small_rows(Context) ++ port_rows(Context) ++ big_rows(Context).

small_rows(Context) ->
    Port = py_bench_port:open_floor(),
    Rows = [small_row(Context, Port, Spec) || Spec <- [
        {"100k ints and back", ints, lists:seq(1, 100000), 100000, 40},
        {"100k floats and back", floats, [N + 0.5 || N <- lists:seq(1, 100000)], 100000, 40},
        {"100k binaries of 8 bytes and back", binaries,
         [key(N) || N <- lists:seq(1, 100000)], 100000, 120},
        {"map of 10k and back", map,
         maps:from_list([{key(N), N} || N <- lists:seq(1, 10000)]), 10000, 250}]],
    ok = py_bench_port:close(Port),
    Rows.

key(N) ->
    iolist_to_binary(io_lib:format("~8..0b", [N])).

small_row(Context, Port, {Name, Work, Value, Count, Limit}) ->
    %% Compared once, outside of the time that is measured: it takes as long as a conversion.
    {ok, Value} = same(Context, Value),
    #{ours := Ours, alone := #{p50 := Alone}} = py_bench_stat:together([
        {ours, fun() -> {ok, _} = same(Context, Value) end},
        {alone, own, fun() -> [Time] = py_bench_port:times(Port, Work, 1, 1), Time end}
    ], #{each => ?EACH, before => fun garbage_collect/0}),
    py_bench_row:row(#{name => Name, unit => {per_element, Count}, stats => Ours,
                       floor => {"copy in Python alone", Alone}, target => {most, Limit}}).

same(Context, Value) ->
    py:ctx_call(Context, '__main__', identity, [Value]).

port_rows(Context) ->
    Port = py_bench_port:open_peer(),
    Rows = [port_row(Context, Port, Name, Value) || {Name, Value} <- [
        {"10k ints and back, beside a port", lists:seq(1, 10000)},
        %% The first byte makes the value bytes: text is another row.
        {"binary of 1 MiB and back, beside a port", <<255, (rand:bytes(1048575))/binary>>}]],
    ok = py_bench_port:close(Port),
    Rows.

port_row(Context, Port, Name, Value) ->
    {ok, Value} = same(Context, Value),
    Value = py_bench_port:ask(Port, {same, Value}),
    #{ours := Ours, port := #{p50 := Peer}} = py_bench_stat:together([
        {ours, fun() -> {ok, _} = same(Context, Value) end},
        {port, fun() -> py_bench_port:ask(Port, {same, Value}) end}
    ], #{each => ?EACH, before => fun garbage_collect/0}),
    py_bench_row:row(#{name => Name, unit => us, stats => Ours,
                       floor => {"python3 behind a port", Peer}}).

big_rows(Context) ->
    Text = binary:copy(<<"a">>, ?BIG),
    Bytes = <<255, (binary:copy(<<"a">>, ?BIG - 1))/binary>>,
    ok = py:ctx_exec(Context, <<"text = 'a' * size; data = b'\\xff' * size">>,
                     #{size => ?BIG}),
    Stats = py_bench_stat:together([
        {warm, own, fun() -> py_bench_floor:copy(Bytes, true) end},
        {fresh, own, fun() -> py_bench_floor:copy(Bytes, false) end},
        {view, len(Context, {view, Bytes})},
        {bytes_back, back(Context, <<"data">>)},
        {bytes_in, len(Context, {bytes, Bytes})},
        {text_in, len(Context, Text)},
        {text_back, back(Context, <<"text">>)}
    ], #{batches => 5, each => 6, before => fun garbage_collect/0}),
    #{warm := #{p50 := Warm}, fresh := #{p50 := Fresh}} = Stats,
    %% Python always takes new memory for a value of this size; Erlang uses memory that it had
    %% before.
    [py_bench_row:row(#{name => Name, unit => us, stats => maps:get(Key, Stats)})
     || {Name, Key} <- [{"floor: memcpy of 64 MiB, warm memory", warm},
                        {"floor: memcpy of 64 MiB, new memory", fresh}]]
    ++ [py_bench_row:row(#{name => Name, unit => us, stats => maps:get(Key, Stats),
                           floor => {FloorName, Floor}, target => {ratio, Limit}})
        || {Name, Key, FloorName, Floor, Limit} <- [
            {"{view, 64 MiB} in", view, "memcpy, warm memory", Warm, 0.01},
            {"bytes of 64 MiB back", bytes_back, "memcpy, warm memory", Warm, 0.01},
            {"{bytes, 64 MiB} in", bytes_in, "memcpy, new memory", Fresh, 1.2},
            {"64 MiB as str in", text_in, "memcpy, new memory", Fresh, 3},
            {"str of 64 MiB back", text_back, "memcpy, warm memory", Warm, 3}]].

len(Context, Value) ->
    fun() -> {ok, ?BIG} = py:ctx_call(Context, builtins, len, [Value], #{}, ?TIMEOUT) end.

back(Context, Name) ->
    fun() ->
        {ok, Value} = py:ctx_eval(Context, Name, #{}, ?TIMEOUT),
        ?BIG = byte_size(Value)
    end.
