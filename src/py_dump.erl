%% @private
%% What the workers do at one moment, and what the code of a lease does over a while: `py:dump/0,1',
%% `py:top/0', `py:profile/2'.
%%
%% A process is made for each request: the messages that come for it when it waits no longer go with it.
-module(py_dump).

-export([all/0, one/1, profile/2, table/1]).

%% How long the stacks may take, in milliseconds. The whole answer is to take at most 100.
-define(PATIENCE, 80).
%% How long a profile may take beyond its time.
-define(PROFILE_PATIENCE, 1000).
%% How long to wait for a worker that does not serve the lease yet.
-define(PAUSE, 10).

%% @doc Returns what each worker does that serves a lease, or runs a call without one.
-spec all() -> [py:worker_info()].
all() ->
    aside(fun() -> collect(none) end).

%% @doc Returns the same of one lease; `none' for one that has ended.
-spec one(py_nif:lease() | py_nif:context()) -> {ok, py:worker_info()} | none.
one(Lease) ->
    case py_nif:is_leased(Lease) andalso aside(fun() -> collect(Lease) end) of
        [Info | _] -> {ok, Info};
        _ -> none
    end.

%% Returns what Fun returns, in a process of its own, which ends with the caller.
aside(Fun) ->
    Caller = self(),
    Reference = make_ref(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        _ = monitor(process, Caller),
        Caller ! {Reference, Fun()}
    end),
    receive
        {Reference, Result} -> true = demonitor(Monitor, [flush]), Result;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

number() ->
    erlang:unique_integer([positive]).

collect(Target) ->
    End = now_ms() + ?PATIENCE,
    Number = number(),
    {States, Messages} = py_nif:dump(Number, Target),
    Stacks = stacks(Number, Messages, End, #{}),
    lists:sort(fun is_before/2, [info(State, Index, Stacks)
                                 || {Index, State} <- lists:zip(lists:seq(0, length(States) - 1), States)]).

is_before(#{pool := PoolA} = A, #{pool := PoolB} = B) ->
    {PoolA, maps:get(worker, A)} =< {PoolB, maps:get(worker, B)}.

%% Returns the stacks that come in time, by the index of the worker.
stacks(_Number, 0, _End, Found) ->
    Found;
stacks(Number, Messages, End, Found) ->
    receive
        {py_stacks, Number, Stacks} ->
            New = maps:from_list([{Index, {Stack, Tasks}} || {Index, Stack, Tasks} <- Stacks]),
            stacks(Number, Messages - 1, End, maps:merge(Found, New))
    after max(0, End - now_ms()) ->
        Found
    end.

info({{{Pool, Level}, Worker}, State, Calls, Tasks, Gil, Lease}, Index, Stacks) ->
    {Stack, TaskStacks} = case Stacks of
        #{Index := {Found, OfTasks}} -> {frames(Found), maps:from_list(OfTasks)};
        %% Nothing was asked for a worker without code.
        _ when State =:= idle, Tasks =:= []; State =:= starting -> {[], #{}};
        _ -> {unknown, #{}}
    end,
    Info = #{pool => Pool, level => Level, worker => Worker, state => State, gil => Gil, stack => Stack,
             calls => [running(Call) || Call <- Calls],
             tasks => [task(Task, TaskStacks) || Task <- Tasks]},
    maps:merge(Info, lease(Lease)).

lease(none) -> #{context => none, kind => none, owner => none, queued => 0};
lease({Id, Kind, Owner, Queued}) -> #{context => Id, kind => Kind, owner => Owner, queued => Queued}.

running({_Key, Caller, Milliseconds, Code}) ->
    #{code => Code, caller => Caller, time => Milliseconds}.

task({Key, _, _, _} = Running, Stacks) ->
    Stack = case Stacks of
        #{Key := Found} -> frames(Found);
        _ -> unknown
    end,
    (running(Running))#{stack => Stack}.

%% Innermost last, as in a traceback.
frames(Frames) ->
    lists:reverse([#{file => File, line => Line, function => Function} || {File, Line, Function} <- Frames]).

%% @doc Samples the code of a lease for some milliseconds.
-spec profile(py_nif:lease() | py_nif:context(), pos_integer()) -> {ok, binary()} | {error, interrupted | timeout}.
profile(Lease, Milliseconds) ->
    aside(fun() -> start_profile(Lease, number(), now_ms() + Milliseconds) end).

start_profile(Lease, Number, End) ->
    Left = End - now_ms(),
    case Left > 0 andalso py_nif:profile(Lease, Left, Number) of
        true ->
            wait_for_profile(Number, Left + ?PROFILE_PATIENCE);
        false when Left =< 0 ->
            {ok, <<>>};
        false ->
            case py_nif:is_leased(Lease) of
                true -> ok = timer:sleep(?PAUSE), start_profile(Lease, Number, End);
                false -> {error, interrupted}
            end
    end.

wait_for_profile(Number, Patience) ->
    receive
        {py_profile, Number, ended} -> {error, interrupted};
        {py_profile, Number, Folded} -> {ok, Folded};
        %% The caller waits no longer.
        {'DOWN', _Monitor, process, _Pid, _Reason} -> {error, interrupted}
    after Patience ->
        {error, timeout}
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).

%% @doc Returns a table of a dump.
-spec table([py:worker_info()]) -> unicode:chardata().
table(Infos) ->
    Head = ["POOL", "WORKER", "LEVEL", "CONTEXT", "OWNER", "STATE", "MS", "GIL", "QUEUED", "TASKS", "CODE"],
    Rows = [Head | [row(Info) || Info <- Infos]],
    Widths = lists:foldl(fun(Row, Widths) -> lists:zipwith(fun max/2, lengths(Row), Widths) end,
                         lengths(Head), Rows),
    [line(Row, Widths) || Row <- Rows].

row(#{pool := Pool, worker := Worker, level := Level, context := Context, owner := Owner, state := State,
      calls := Calls, gil := Gil, queued := Queued, tasks := Tasks, stack := Stack}) ->
    Time = case Calls of
        [] -> "-";
        [#{time := Outermost} | _] -> integer_to_list(Outermost)
    end,
    [text(Pool), text(Worker), text(Level), text(Context), text(Owner), text(State), Time, gil(Gil),
     integer_to_list(Queued), integer_to_list(length(Tasks)), [code(Calls), place(Stack)]].

text(none) -> "-";
text(Term) -> io_lib:format("~0tp", [Term]).

gil({waits, Milliseconds}) -> io_lib:format("waits ~b ms", [Milliseconds]);
gil(none) -> "-";
gil(Gil) -> atom_to_list(Gil).

code([]) -> "";
code(Calls) -> maps:get(code, lists:last(Calls)).

%% Where the code is: its innermost function.
place(unknown) -> " (its stack is not known: other code keeps the GIL)";
place([]) -> "";
place(Stack) ->
    #{file := File, line := Line, function := Function} = lists:last(Stack),
    io_lib:format(" in ~ts (~ts:~b)", [Function, filename:basename(File), Line]).

lengths(Row) ->
    [string:length(Cell) || Cell <- Row].

%% The last cell is not padded.
line([Cell], [_]) -> [Cell, $\n];
line([Cell | Cells], [Width | Widths]) -> [string:pad(Cell, Width + 2), line(Cells, Widths)].
