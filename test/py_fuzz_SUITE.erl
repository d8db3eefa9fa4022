%% Does every value of the corpus, and every mutation of one, cross as the table of types says?
%% PY_FUZZ_COUNT sets the number of mutations, PY_FUZZ_SEED repeats a run; `make fuzz' goes on
%% for longer.
-module(py_fuzz_SUITE).
-compile([export_all, nowarn_export_all]).

-include_lib("common_test/include/ct.hrl").

suite() ->
    [{timetrap, {seconds, 300}}].

all() ->
    [corpus_of_terms, corpus_of_objects, a_short_run_finds_nothing,
     errors_about_big_integers_are_quick, terms_equal_but_not_identical_are_two_keys].

init_per_testcase(_Case, Config) ->
    ok = py_fuzz:start(?config(data_dir, Config)),
    Config.

end_per_testcase(_Case, _Config) ->
    try
        py_fuzz:stop()
    catch
        %% The case fails with the input.
        error:Reason -> {fail, Reason}
    end.

corpus_of_terms(Config) ->
    check_corpus(terms, Config).

corpus_of_objects(Config) ->
    check_corpus(objects, Config).

check_corpus(Direction, Config) ->
    #{Direction := Files} = py_fuzz:corpus(?config(data_dir, Config)),
    [] = [{Name, Verdict} || {Name, Input} <- Files,
                             Verdict <- [py_fuzz:check(Direction, Input)], Verdict =/= ok],
    ok.

a_short_run_finds_nothing(Config) ->
    Count = list_to_integer(os:getenv("PY_FUZZ_COUNT", "1200")),
    Random = integer_to_list(erlang:unique_integer([positive]) bxor erlang:system_time()),
    Seed = list_to_integer(os:getenv("PY_FUZZ_SEED", Random)),
    ct:log("PY_FUZZ_SEED=~b PY_FUZZ_COUNT=~b", [Seed, Count]),
    Until = fun(N) -> N >= Count end,
    {ok, Count} = py_fuzz:run(py_fuzz:corpus(?config(data_dir, Config)), Seed, Until,
                              fun(_Direction, _Input) -> ok end).

%% Inputs too big for a file of the corpus. Regression: each of these was printed as a whole, which
%% takes minutes.
errors_about_big_integers_are_quick(_Config) ->
    Big = 1 bsl 4000000,
    refused(key_collision, <<"#{1 => <big integer>,true => <big integer>}">>,
            #{1 => Big, true => Big}),
    refused(improper_list, <<"[<big integer>|<big integer>]">>, [Big | -Big]),
    refused(unhashable_key, <<"[<big integer>]">>, #{[Big] => 1}).

refused(Reason, Text, Term) ->
    Info = #{reason => Reason, value => Text},
    {error, {unconvertible, Info}} = py:eval(<<"x">>, #{x => Term}),
    ok.

%% Regression: the conversion compared by `==', for which one of the funs is the other.
terms_equal_but_not_identical_are_two_keys(_Config) ->
    [One, Float] = [fun() -> N end || N <- [1, 1.0]],
    true = One == Float andalso One =/= Float,
    Both = #{One => 1, Float => 2},
    {ok, Both} = py:eval(<<"x">>, #{x => Both}),
    {ok, {false, true, true}} =
        py:eval(<<"(a == b, a != b, a == again)">>, #{a => One, b => Float, again => One}).
