%% @private
%% The supervisor of the pools that have a name of their own.
-module(py_pools_sup).
-behaviour(supervisor).

-export([start_link/0, start_pool/2, stop_pool/1, names/0, checked/2]).
-export([init/1]).

%% @doc Starts the pools of the environment key `pools'.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

-spec start_pool(py_pool:name(), py_pool:options()) -> ok | {error, py_pool:start_error()}.
start_pool(default, _Options) ->
    {error, already_started};
start_pool(Name, Given) ->
    case py_pool_options:check(Given) of
        {ok, Options} ->
            case supervisor:start_child(?MODULE, spec(Name, Options)) of
                {ok, _Pid} -> ok;
                {error, {already_started, _Pid}} -> {error, already_started};
                {error, already_present} -> {error, already_started};
                {error, {{shutdown, Reason}, _Child}} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

-spec stop_pool(py_pool:name()) -> ok | {error, not_found}.
stop_pool(Name) ->
    case supervisor:terminate_child(?MODULE, Name) of
        %% Another process may have removed it in between.
        ok -> _ = supervisor:delete_child(?MODULE, Name), ok;
        {error, not_found} -> {error, not_found}
    end.

-spec names() -> [py_pool:name()].
names() ->
    lists:sort([Name || {Name, _, _, _} <- supervisor:which_children(?MODULE)]).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    ok = py_pool:retract_named(),
    {ok, Pools} = application:get_env(erlang_python, pools),
    Specs = [checked(Name, py_pool_options:check(Given))
             || {Name, Given} <- lists:sort(maps:to_list(Pools)), Name =/= default],
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10}, Specs}}.

%% @doc Returns the specification of a pool, for its supervisor. Fails for options that are wrong: the
%% application does not start then.
-spec checked(py_pool:name(), {ok, py_pool_options:options()} | {error, py_pool:start_error()}) ->
    supervisor:child_spec().
checked(Name, {ok, Options}) -> spec(Name, Options);
checked(Name, {error, Reason}) -> exit({pool, Name, Reason}).

spec(Name, Options) ->
    #{id => Name, start => {py_pool_server, start_link, [Name, Options]}}.
