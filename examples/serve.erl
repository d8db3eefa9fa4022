%% A model behind a supervised group of contexts: 50 callers, progress from Python, a restart, and a clean stop. With
%% scikit-learn where the Python that runs has it, else with a model of a few lines. Run it with:
%% scripts/example serve
-module(serve).
-behaviour(supervisor).

-export([main/0]).
-export([init/1]).

-define(CONTEXTS, 2).

-define(MODEL, <<"
import erlang

try:
    from sklearn.linear_model import LogisticRegression
except ImportError:
    class LogisticRegression:
        '''Takes the class whose mean is nearest.'''
        def fit(self, rows, labels):
            groups = {}
            for row, label in zip(rows, labels):
                groups.setdefault(label, []).append(row)
            self.means = {label: [sum(column) / len(group) for column in zip(*group)]
                          for label, group in groups.items()}
            return self
        def predict(self, rows):
            def distance(row, mean):
                return sum((a - b) ** 2 for a, b in zip(row, mean))
            return [min(self.means, key=lambda label: distance(row, self.means[label])) for row in rows]

def train():
    rows = [[x / 50, 1 - x / 50] for x in range(50)]
    return LogisticRegression().fit(rows, [int(x >= 25) for x in range(50)])

def score(rows, progress_to=None):
    labels = []
    for done, row in enumerate(rows, 1):
        labels.extend(int(label) for label in model.predict([row]))
        if progress_to is not None and done % 100 == 0:
            erlang.send(progress_to, (erlang.atom('scored'), done))
    return labels

model = train()
served = 0
">>).

-spec main() -> no_return().
main() ->
    %% The end of a context on purpose would be reported.
    ok = logger:set_primary_config(level, critical),
    {ok, _} = application:ensure_all_started(erlang_python),
    Self = self(),
    ok = py:register_function(model_stops, fun([Served]) -> Self ! {served, Served}, ok end),
    {ok, Sup} = supervisor:start_link(?MODULE, []),
    %% Fifty callers at once: each takes one of the contexts, where calls run one after the other.
    Callers = [spawn_link(fun() -> Self ! {self(), ask(N)} end) || N <- lists:seq(1, 50)],
    [receive {Caller, {ok, [0, 1]}} -> ok end || Caller <- Callers],
    %% A long call tells how far it is.
    Pending = py:ctx_call_async(py_context:context(name(0)), '__main__', score, [lists:duplicate(300, [0.9, 0.1])],
                                #{progress_to => self()}),
    [receive {scored, Count} -> ok end || Count <- [100, 200, 300]],
    {ok, Labels} = py:await(Pending),
    [1] = lists:usort(Labels),
    %% A context that ends is replaced by its supervisor, with the model in it.
    Old = whereis(name(1)),
    ok = py:unbind(py_context:context(Old)),
    ok = wait_for_another(name(1), Old),
    {ok, [0, 1]} = ask(1),
    %% A stop runs the last code of each context.
    true = unlink(Sup),
    true = exit(Sup, shutdown),
    Served = [receive {served, Count} -> Count after 10000 -> error(no_clean_stop) end || _ <- lists:seq(1, ?CONTEXTS)],
    io:format("calls of the contexts that were stopped: ~p~n", [Served]),
    halt().

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Children = [py_context:child_spec(#{name => {local, name(N)}, init => [?MODEL],
                                        terminate => [<<"erlang.model_stops(served)">>]})
                || N <- lists:seq(0, ?CONTEXTS - 1)],
    {ok, {#{strategy => one_for_one}, Children}}.

name(N) -> lists:nth(1 + N rem ?CONTEXTS, [scorer_0, scorer_1]).

ask(N) ->
    py_context:run(name(N), <<"served += 1\nscore(rows)">>, #{rows => [[0.1, 0.9], [0.9, 0.1]]}).

wait_for_another(Name, Old) ->
    case whereis(Name) of
        Pid when is_pid(Pid), Pid =/= Old -> ok;
        _ -> timer:sleep(5), wait_for_another(Name, Old)
    end.
