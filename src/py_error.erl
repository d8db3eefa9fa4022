%% @private
%% Errors as text for a person.
-module(py_error).

-export([format/1, unbound/1]).

%% @doc Returns the result of a call without a binding, with a mark at a `NameError' of a name that the
%% namespace of the call did not have.
-spec unbound(Result) -> Result.
unbound({error, {'NameError', #{unknown_name := _} = Exception}}) ->
    {error, {'NameError', Exception#{unbound => true}}};
unbound(Result) ->
    Result.

%% @doc Returns the text that Python would print for an exception; a sentence for other errors.
-spec format(term()) -> binary().
format({error, Reason}) ->
    format(Reason);
format({'NameError', #{unbound := true, unknown_name := Name} = Exception}) when is_binary(Name) ->
    Text = py_traceback:print(maps:remove(unbound, Exception)),
    <<Text/binary, "\n\nThe call had no binding, and so a namespace of its own: what another call has assigned to '",
      (py_traceback:text(Name))/binary, "' is not there. py:bind/0 keeps variables from one call to the next.">>;
format({Type, #{class := _, message := _, traceback := _} = Exception}) when is_atom(Type) ->
    py_traceback:print(Exception);
format({unconvertible, #{reason := Reason, value := Value} = Info}) ->
    <<"cannot convert: ", (why(Reason))/binary, ": ", (py_traceback:text(Value))/binary,
      (place(maps:get(path, Info, [])))/binary>>;
format(timeout) ->
    <<"the call took longer than its timeout">>;
format(interrupted) ->
    <<"the call was interrupted, or its context ended under it">>;
format(not_running) ->
    <<"no call runs there">>;
format(no_workers_available) ->
    <<"every worker is leased; see py_pool:get_stats()">>;
format(overloaded) ->
    <<"too many calls wait already">>;
format(busy) ->
    <<"a demand of the stream is open">>;
format(worker_crashed) ->
    <<"the worker crashed under the call; its context has ended">>;
format({worker_exited, #{limit := memory}}) ->
    <<"the child process of the call was killed, since it had more memory than its limit">>;
format({worker_exited, #{signal := Signal}}) ->
    <<"the child process of the call was ended by signal ", (integer_to_binary(Signal))/binary>>;
format({worker_exited, #{status := Status}}) when is_integer(Status) ->
    <<"the child process of the call has ended with status ", (integer_to_binary(Status))/binary>>;
format({worker_exited, #{}}) ->
    <<"the child process of the call has ended">>;
format(context_not_bound) ->
    <<"the context has ended">>;
format({Kind, Message}) when Kind =:= python_unavailable, is_binary(Message);
                             Kind =:= python_not_prepared, is_binary(Message) ->
    Message;
format(Other) ->
    py_traceback:written(Other).

%% Returns the place of a value in a result, as Python would write it.
place([]) ->
    <<>>;
place(Path) when is_list(Path) ->
    Steps = [case Step of
                 Number when is_integer(Number) -> [$[, integer_to_binary(Number), $]];
                 Key -> ["[\"", Key, "\"]"]
             end || Step <- Path],
    unicode:characters_to_binary([", at result" | Steps]);
place(_) ->
    <<>>.

why(improper_list) -> <<"an improper list">>;
why(too_deep) -> <<"nested more than 1000 deep">>;
why(cycle) -> <<"it contains itself">>;
why(key_collision) -> <<"two keys become one">>;
why(unhashable_key) -> <<"a key that Python cannot hash">>;
why(not_unicode) -> <<"text with lone surrogates">>;
why(too_large) -> <<"too large">>;
why(foreign_object) -> <<"an object of another worker">>;
why(unknown_atom) -> <<"an atom that does not exist">>;
why(Other) -> py_traceback:text(Other).
