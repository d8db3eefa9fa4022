%% Fuzzes the conversion of values, both ways: `make fuzz', and py_fuzz_SUITE.
%%
%% An input is bytes. As `terms' they are in the external term format, and the result from Python is
%% compared with py_fuzz_oracle; as `objects' they are a program of build.py, and the result from
%% Erlang is compared with oracle.py. A difference from docs/guide/types.md is a finding.
-module(py_fuzz).

-export([start/1, stop/0, corpus/1, check/2, run/4, shrink/2, main/1, atoms/0]).

-export_type([direction/0, verdict/0, corpora/0, finding/0]).

-type direction() :: terms | objects.
-type verdict() :: ok | skipped | {finding, Info :: term()}.
%% `skipped': the bytes are no term, or too big a one.
-type corpora() :: #{direction() := [{Name :: string(), Input :: binary()}]}.
-type finding() :: #{direction := direction(), input := binary(), info := term()}.

-define(WORKERS, 2).
%% Words of a term: the oracle walks it several times.
-define(MAX_SIZE, 50000).
-define(MAX_BYTES, 20000).
%% Inputs between two looks at the pool.
-define(INTERVAL, 100).
%% Mutated inputs that are kept to be mutated again, beside the corpus.
-define(KEPT, 200).

%%% Checks

%% Gives the calling process a worker, with the functions that the checks call.
-spec start(DataDir :: file:filename()) -> ok.
start(DataDir) ->
    %% The oracles may be slow under a memory checker; a call that hangs is a finding.
    ok = py_test:start_with([{num_workers, ?WORKERS}, {default_timeout, 120000}]),
    ok = py:bind(),
    lists:foreach(fun(Name) ->
        {ok, Source} = file:read_file(filename:join(DataDir, Name)),
        ok = py:exec(Source)
    end, ["build.py", "oracle.py"]),
    ok = py:exec(<<"def positional(*args): return list(args)\n"
                   "def named(**kwargs): return kwargs\n">>).

%% Asserts that nothing is left of the inputs.
-spec stop() -> ok.
stop() ->
    ok = py_test:wait_until(fun() ->
        true = erlang:garbage_collect(),
        %% Collected each time: an object that contained itself was no garbage while Erlang had a
        %% handle of it.
        {ok, none} = py:call('__main__', forget, []),
        case py:call('__main__', alive, []) of
            {ok, 0} -> true;
            Alive -> Alive
        end
    end),
    ok = py:unbind(),
    ok = py_test:wait_available(?WORKERS),
    ok = py_test:assert_empty_mailbox(),
    py_test:stop().

-spec corpus(DataDir :: file:filename()) -> corpora().
corpus(DataDir) ->
    maps:from_list([{Direction, files(filename:join([DataDir, "corpus", Direction]))}
                    || Direction <- [terms, objects]]).

files(Dir) ->
    {ok, Names} = file:list_dir(Dir),
    [begin
         {ok, Input} = file:read_file(filename:join(Dir, Name)),
         {Name, Input}
     end || Name <- lists:sort(Names)].

%% Sends one input both ways.
-spec check(direction(), binary()) -> verdict().
check(terms, Input) ->
    case decode(Input) of
        {ok, Term} -> check_term(Term);
        skipped -> skipped
    end;
check(objects, Input) ->
    case py:call('__main__', plan, [{bytes, Input}]) of
        {ok, {First, Second}} -> check_object(First, Second);
        Other -> {finding, {plan, Other}}
    end.

%% The atoms of the corpus, and some that the conversion treats: `safe' makes no atoms.
-spec atoms() -> [atom()].
atoms() ->
    [true, false, none, nil, undefined, nan, infinity, neg_infinity, bytes, view, ok, '',
     'with space', '日本', 'é', a, b, k, x].

%% Decodes an input: `safe' makes no atoms. A compressed term says its size, which is not checked
%% yet.
decode(<<131, 80, Size:32, _/binary>>) when Size > ?MAX_BYTES ->
    skipped;
decode(Input) when byte_size(Input) > ?MAX_BYTES ->
    skipped;
decode(Input) ->
    try binary_to_term(Input, [safe]) of
        Term ->
            case erts_debug:flat_size(Term) =< ?MAX_SIZE of
                true -> {ok, Term};
                false -> skipped
            end
    catch
        error:badarg -> skipped
    end.

check_term(Term) ->
    Local = {local, fun() -> py:eval(<<"x">>, #{x => Term}) end,
             py_fuzz_oracle:expected_local(Term)},
    Args = [{args, fun() -> py:call('__main__', positional, Term) end,
             py_fuzz_oracle:expected_args(Term)} || is_list(Term)],
    Kwargs = [{kwargs, fun() -> py:call('__main__', named, [], Term) end,
               py_fuzz_oracle:expected_kwargs(Term)} || is_map(Term)],
    first_finding([Local] ++ Args ++ Kwargs).

first_finding([]) ->
    ok;
first_finding([{Way, Call, Wanted} | Rest]) ->
    Seen = outcome(Call),
    case py_fuzz_oracle:agrees(Seen, Wanted) of
        true -> first_finding(Rest);
        false -> {finding, #{way => Way, seen => Seen, wanted => Wanted}}
    end.

outcome(Call) ->
    try Call() of
        {ok, Value} ->
            {ok, Value};
        {error, {unconvertible, #{reason := Reason, value := Text} = Info}}
          when is_binary(Text) ->
            Path = maps:get(path, Info, []),
            IsStep = fun(Step) -> is_integer(Step) orelse unicode:characters_to_binary(Step) =:= Step end,
            IsPlain = lists:all(IsStep, Path) andalso map_size(maps:remove(path, Info)) =:= 2,
            case unicode:characters_to_binary(Text) of
                Text when IsPlain -> {unconvertible, Reason};
                _ -> {undocumented, Info}
            end;
        Other ->
            {undocumented, Other}
    catch
        error:badarg -> badarg
    end.

%% Compares. First is the outcome that must happen on the way to Erlang, Second one that may on the
%% way back.
check_object(First, Second) ->
    case {outcome(fun() -> py:call('__main__', built, []) end), Second} of
        {{ok, Value}, []} when First =:= <<"ok">> ->
            judge(outcome(fun() -> py:call('__main__', verdict, [Value]) end));
        {{ok, Value}, _} when First =:= <<"ok">> ->
            Back = error_name(outcome(fun() -> py:call('__main__', verdict, [Value]) end)),
            wanted(Back, Second);
        {Seen, _} ->
            wanted(error_name(Seen), [First])
    end.

judge({ok, <<"ok">>}) -> ok;
judge(Other) -> {finding, {verdict, Other}}.

wanted(Seen, Wanted) ->
    case lists:member(Seen, Wanted) of
        true -> ok;
        false -> {finding, #{seen => Seen, wanted => Wanted}}
    end.

error_name({unconvertible, Reason}) -> atom_to_binary(Reason);
error_name({undocumented, {error, {Type, #{class := _}}}}) -> atom_to_binary(Type);
error_name(Other) -> Other.

%% Looks for jobs that have not ended, workers that were not returned, messages that were not
%% received.
check_pool() ->
    {messages, Messages} = process_info(self(), messages),
    case py_pool:get_stats() of
        #{pending_requests := 0, checked_out := 1, num_workers := ?WORKERS}
          when Messages =:= [] -> ok;
        Stats -> {finding, {pool, Stats, Messages}}
    end.

%%% Runs

%% Mutates the corpus until Until(N) is true before the Nth input, or there is a finding. Note is
%% called with each input before it is sent, for inputs that end the VM.
-spec run(corpora(), Seed :: integer(), Until :: fun((non_neg_integer()) -> boolean()),
          Note :: fun((direction(), binary()) -> ok)) ->
    {ok, Count :: non_neg_integer()} | {finding, finding()}.
run(Corpora, Seed, Until, Note) ->
    _ = rand:seed(exsss, Seed),
    Pools = maps:map(fun(_, Files) -> array:from_list([Input || {_, Input} <- Files]) end,
                     Corpora),
    Sizes = maps:map(fun(_, Pool) -> array:size(Pool) end, Pools),
    loop(0, Pools, Sizes, Until, Note).

loop(N, Pools, Sizes, Until, Note) ->
    case Until(N) of
        true -> {ok, N};
        false -> step(N, Pools, Sizes, Until, Note)
    end.

step(N, Pools, Sizes, Until, Note) ->
    Direction = lists:nth(1 + N rem 2, [terms, objects]),
    #{Direction := Pool0} = Pools,
    Input = py_fuzz_mutate:mutate(Direction, Pool0),
    ok = Note(Direction, Input),
    case {check(Direction, Input), N rem ?INTERVAL =:= 0 andalso check_pool()} of
        {skipped, _} ->
            loop(N, Pools, Sizes, Until, Note);
        {ok, Pool} when Pool =/= false, Pool =/= ok ->
            {finding, #{direction => Direction, input => Input, info => Pool}};
        {ok, _} ->
            Kept = maps:get(Direction, Sizes) + rand:uniform(?KEPT) - 1,
            Pool1 = array:set(min(Kept, array:size(Pool0)), Input, Pool0),
            loop(N + 1, Pools#{Direction := Pool1}, Sizes, Until, Note);
        {{finding, Info}, _} ->
            {finding, #{direction => Direction, input => Input, info => Info}}
    end.

%% Returns a shorter input that is a finding as well.
-spec shrink(direction(), binary()) -> binary().
shrink(Direction, Input) ->
    shrink(Direction, Input, byte_size(Input) div 2, 0).

shrink(_Direction, Input, 0, _At) ->
    Input;
shrink(Direction, Input, Width, At) when At + Width > byte_size(Input) ->
    shrink(Direction, Input, Width div 2, 0);
shrink(Direction, Input, Width, At) ->
    <<Before:At/binary, _:Width/binary, After/binary>> = Input,
    Shorter = <<Before/binary, After/binary>>,
    case check(Direction, Shorter) of
        {finding, _} -> shrink(Direction, Shorter, Width, At);
        _ -> shrink(Direction, Input, Width, At + max(1, Width div 2))
    end.

%%% Command line, see scripts/fuzz and scripts/asan

%% Ends the VM: with status 0 without a finding.
-spec main([string()]) -> no_return().
main(["run", DataDir, OutDir, Unit, Amount, Seed]) ->
    ok = start(DataDir),
    Until = until(Unit, list_to_integer(Amount)),
    case run(corpus(DataDir), list_to_integer(Seed), Until, note(OutDir)) of
        {ok, Count} ->
            ok = stop(),
            io:format("~b inputs, nothing found~n", [Count]),
            halt(0);
        {finding, #{direction := Direction, input := Input, info := Info}} ->
            %% The binding has ended after a crash, and is still busy after a timeout: there is
            %% nothing to shrink with.
            Small = case py:is_bound() andalso py:eval(<<"1">>, #{}, 1000) of
                {ok, 1} -> shrink(Direction, Input);
                _ -> Input
            end,
            Name = io_lib:format("~s-~8.16.0b", [Direction, erlang:crc32(Small)]),
            File = filename:join(OutDir, Name),
            ok = file:write_file(File, Small),
            report(Direction, Small, Info),
            io:format("~nIt is in ~s. Again:~n    scripts/fuzz ~s ~s~n", [File, Direction, File]),
            halt(1)
    end;
main(["check", DataDir, Direction0, File]) ->
    ok = start(DataDir),
    Direction = list_to_existing_atom(Direction0),
    {ok, Input} = file:read_file(File),
    case check(Direction, Input) of
        {finding, Info} ->
            report(Direction, Input, Info),
            halt(1);
        Verdict ->
            io:format("~s~n", [Verdict]),
            halt(0)
    end;
main(["corpus", DataDir, OutDir]) ->
    ok = start(DataDir),
    Note = note(OutDir),
    Verdicts = [{Direction, Name, check_noted(Direction, Input, Note)}
                || {Direction, Files} <- maps:to_list(corpus(DataDir)), {Name, Input} <- Files],
    ok = stop(),
    Found = [Verdict || {_, _, Is} = Verdict <- Verdicts, Is =/= ok],
    io:format("~b files of the corpus, findings: ~P~n", [length(Verdicts), Found, 100]),
    halt(min(length(Found), 1)).

check_noted(Direction, Input, Note) ->
    ok = Note(Direction, Input),
    check(Direction, Input).

%% Writes the current input to a file, in case the VM ends.
note(OutDir) ->
    fun(Direction, Input) ->
        file:write_file(filename:join(OutDir, ["current.", atom_to_list(Direction)]), Input)
    end.

until("seconds", Seconds) ->
    Deadline = erlang:monotonic_time(second) + Seconds,
    fun(_) -> erlang:monotonic_time(second) >= Deadline end;
until("inputs", Count) ->
    fun(N) -> N >= Count end.

report(Direction, Input, Info) ->
    io:format("found: ~P~nin: ~P~n", [Info, 25, printed(Direction, Input), 25]).

printed(terms, Input) -> binary_to_term(Input, [safe]);
printed(objects, Input) -> Input.
