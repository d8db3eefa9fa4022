%% @private
%% The measurements of `make bench': costs, each beside a floor that was taken in the same run. A
%% figure alone says more about the machine than about the code.
-module(py_bench).

-export([main/1, start/1, stop/0]).

-define(GROUPS, [{calls, py_bench_calls}, {wake, py_bench_wake}, {load, py_bench_load},
                 {lease, py_bench_lease}, {data, py_bench_data}, {memory, py_bench_memory},
                 {talk, py_bench_talk}, {use, py_bench_use}, {look, py_bench_look},
                 {process, py_bench_process}]).

%% @doc Returns `ok' when the groups of these names have been measured and written; an empty list
%% names all groups.
-spec main([string()]) -> ok.
main(Names) ->
    Start = erlang:monotonic_time(second),
    %% Reports of application:stop would stand amid the tables.
    ok = logger:set_primary_config(level, notice),
    ok = logger:set_application_level(kernel, warning),
    Machine = machine(),
    print_machine(Machine),
    Rows = lists:append([group(Group, Machine) || Group <- chosen(Names)]),
    Missed = length([Row || #{verdict := 'MISS'} = Row <- Rows]),
    Judged = length([Row || #{verdict := Verdict} = Row <- Rows, Verdict =/= none]),
    io:format("~n~b of ~b targets missed; ~b s~n",
              [Missed, Judged, erlang:monotonic_time(second) - Start]).

%% @doc Starts the application anew, so that no group inherits the threads of another.
-spec start(Workers :: pos_integer()) -> ok.
start(Workers) ->
    ok = stop(),
    %% Loading the application later would put the default back.
    ok = load(),
    ok = application:set_env(erlang_python, num_workers, Workers),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok.

load() ->
    case application:load(erlang_python) of
        ok -> ok;
        {error, {already_loaded, erlang_python}} -> ok
    end.

-spec stop() -> ok.
stop() ->
    case application:stop(erlang_python) of
        ok -> ok;
        {error, {not_started, erlang_python}} -> ok
    end.

chosen([]) ->
    ?GROUPS;
chosen(Names) ->
    Known = [{atom_to_list(Name), Group} || {Name, _} = Group <- ?GROUPS],
    [case lists:keyfind(Name, 1, Known) of
         {_, Group} -> Group;
         false -> error({no_such_group, Name, [N || {N, _} <- Known]})
     end || Name <- Names].

%% Runs a group in a process of its own, which owns the bindings and gets the messages, and takes
%% both with it.
group({Name, Module}, Machine) ->
    Self = self(),
    {Pid, Monitor} = spawn_monitor(fun() -> Self ! {rows, self(), Module:rows()} end),
    receive
        {'DOWN', Monitor, process, Pid, normal} ->
            %% Cannot hang: the process has sent the rows before its end.
            Rows = receive {rows, Pid, Sent} -> Sent end,
            ok = stop(),
            ok = py_bench_row:print(Name, Rows),
            ok = write(Name, Rows, Machine),
            Rows;
        %% A deadline is not set: a group that hangs is seen, and a slow machine is no error.
        {'DOWN', Monitor, process, Pid, Reason} ->
            error({group_failed, Name, Reason})
    end.

write(Name, Rows, Machine) ->
    File = filename:join(results(), atom_to_list(Name) ++ ".json"),
    ok = filelib:ensure_dir(File),
    Common = #{group => Name, machine => Machine,
               date => list_to_binary(calendar:system_time_to_rfc3339(os:system_time(second)))},
    file:write_file(File, py_bench_row:json([maps:merge(Row, Common) || Row <- Rows])).

results() ->
    case os:getenv("PY_BENCH_RESULTS") of
        false -> "bench/results";
        Dir -> Dir
    end.

machine() ->
    ok = start(1),
    {ok, #{version := Version, abi := Abi}} = py:python_info(),
    ok = stop(),
    {ok, Cpus} = file:read_file("/proc/cpuinfo"),
    #{cpu => model(Cpus), cores => erlang:system_info(logical_processors_online),
      schedulers => erlang:system_info(schedulers_online),
      otp => list_to_binary(erlang:system_info(otp_release)),
      python => hd(binary:split(Version, <<" ">>)), abi => Abi,
      clock_ns => py_bench_stat:clock()}.

model(Cpus) ->
    case re:run(Cpus, "model name\\s*: (.*)", [{capture, [1], binary}]) of
        {match, [Model]} -> Model;
        %% The file names no model on some architectures.
        nomatch -> list_to_binary(erlang:system_info(system_architecture))
    end.

print_machine(#{cpu := Cpu, cores := Cores, schedulers := Schedulers, otp := Otp,
                python := Python, abi := Abi, clock_ns := Clock}) ->
    io:format("~ts, ~b cores, ~b schedulers; OTP ~ts; Python ~ts (~ts)~n"
              "Each time includes the clock's own ~b ns. 'judged' is the figure that the target "
              "is about.~n"
              "In 'calls', 'lease' and 'talk' only rounds count in which the floor is near its "
              "best: n.~n",
              [Cpu, Cores, Schedulers, Otp, Python, Abi, Clock]).
