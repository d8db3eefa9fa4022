%% @private
%% Samples and their percentiles. Samplers that are compared run in turns, so that noise of the
%% machine hits all of them.
-module(py_bench_stat).

-export([together/2, clock/0, recorder/1, record/3, times/2, stats/1, figure/2]).

-export_type([sampler/0, options/0, stats/0, recorder/0]).

-type sampler() :: {Name :: atom(), Timed :: fun(() -> term())}
                 | {Name :: atom(), own, Nanoseconds :: fun(() -> number())}.
%% `own': the fun measures itself, better than a clock around it.

-type options() :: #{batches => pos_integer(), each := pos_integer(),
                     warm_up => non_neg_integer(), before => fun(() -> term()),
                     guide => atom()}.
%% `each': samples of each batch. `before': runs before each sample and is not timed. `guide': the
%% sampler that says which rounds count. The kernel moves two threads that talk to each other every
%% few seconds, and their messages take 2, 6, 12 or 45 us by that. Rounds count, for all samplers,
%% if the guide is near its best in them; with the others, chance would decide the ratios.

-type stats() :: #{n := non_neg_integer(), p50 := number(), p99 := number() | null,
                   p999 := number() | null, max := number() | null}.

-type recorder() :: atomics:atomics_ref().

-define(BATCHES, 10).
-define(NEAR, 1.5).

%% @doc Returns the figures of each sampler, in nanoseconds.
-spec together([sampler()], options()) -> #{Name :: atom() => stats()}.
together(Samplers, #{each := Each} = Options) ->
    Batches = maps:get(batches, Options, ?BATCHES),
    WarmUp = maps:get(warm_up, Options, min(Each, 200)),
    Before = maps:get(before, Options, fun() -> ok end),
    Recorders = [{Sampler, recorder(Batches * Each)} || Sampler <- Samplers],
    Warm = recorder(max(1, WarmUp)),
    lists:foreach(fun({Sampler, _}) -> batch(1, WarmUp, Sampler, Before, Warm) end, Recorders),
    lists:foreach(fun(Batch) ->
        lists:foreach(fun({Sampler, Recorder}) ->
            batch((Batch - 1) * Each + 1, Batch * Each, Sampler, Before, Recorder)
        end, Recorders)
    end, lists:seq(1, Batches)),
    Rounds = [{element(1, Sampler), rounds(times(Recorder, Batches * Each), Each)}
              || {Sampler, Recorder} <- Recorders],
    Counted = counted(Rounds, Options),
    maps:from_list([{Name, stats(lists:append(Counted(Times)))} || {Name, Times} <- Rounds]).

rounds([], _Each) -> [];
rounds(Times, Each) ->
    {Round, Rest} = lists:split(Each, Times),
    [Round | rounds(Rest, Each)].

counted(Rounds, #{guide := Guide}) ->
    {Guide, Times} = lists:keyfind(Guide, 1, Rounds),
    Medians = [maps:get(p50, stats(Round)) || Round <- Times],
    Near = ?NEAR * lists:min(Medians),
    fun(All) -> [Round || {Median, Round} <- lists:zip(Medians, All), Median =< Near] end;
counted(_Rounds, _Options) ->
    fun(All) -> All end.

batch(Index, Last, _Sampler, _Before, _Recorder) when Index > Last ->
    ok;
batch(Index, Last, Sampler, Before, Recorder) ->
    _ = Before(),
    ok = record(Recorder, Index, sample(Sampler)),
    batch(Index + 1, Last, Sampler, Before, Recorder).

sample({_Name, Fun}) ->
    Start = erlang:monotonic_time(nanosecond),
    _ = Fun(),
    erlang:monotonic_time(nanosecond) - Start;
sample({_Name, own, Fun}) ->
    round(Fun()).

%% @doc Returns the cost of reading the clock twice: the least that any sample shows.
-spec clock() -> non_neg_integer().
clock() ->
    #{clock := #{p50 := Cost}} = together([{clock, fun() -> ok end}], #{each => 1000}),
    Cost.

%% @doc Returns room for Size samples.
%%
%% The samples are in an array outside of any heap: a list would be copied by the collector amid the
%% calls.
-spec recorder(Size :: pos_integer()) -> recorder().
recorder(Size) ->
    atomics:new(Size, []).

%% @doc Adds a sample. Raises `badarg' past the size: a sample that is left out would be the slow
%% one.
-spec record(recorder(), Index :: pos_integer(), Time :: integer()) -> ok.
record(Recorder, Index, Time) ->
    atomics:put(Recorder, Index, Time).

%% @doc Returns the first Count samples.
-spec times(recorder(), Count :: non_neg_integer()) -> [integer()].
times(Recorder, Count) ->
    [atomics:get(Recorder, Index) || Index <- lists:seq(1, Count)].

-spec stats([number(), ...]) -> stats().
stats(Times) ->
    Sorted = list_to_tuple(lists:sort(Times)),
    Count = tuple_size(Sorted),
    At = fun(PerMille) -> element(max(1, ceil(Count * PerMille / 1000)), Sorted) end,
    #{n => Count, p50 => At(500), p99 => At(990), p999 => At(999), max => At(1000)}.

%% @doc Returns one figure that has no distribution, as a sum over a fixed time.
-spec figure(number(), N :: non_neg_integer()) -> stats().
figure(Value, N) ->
    #{n => N, p50 => Value, p99 => null, p999 => null, max => null}.
