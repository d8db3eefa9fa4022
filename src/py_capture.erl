%% @private
%% A group leader that keeps what is written to it, for `py:with_output/1'. Other requests, such as one for
%% a line of input, go on to the group leader before it. The process ends with its owner.
-module(py_capture).

-export([run/2, text/2]).

%% @doc The body of the process.
-spec run(Owner :: pid(), Leader :: pid()) -> ok.
run(Owner, Leader) ->
    Monitor = monitor(process, Owner),
    loop(Monitor, Leader, []).

%% @doc Returns what was written so far. Called by the owner, which monitors the process.
-spec text(pid(), Monitor :: reference()) -> binary().
text(Capture, Monitor) ->
    Ref = make_ref(),
    Capture ! {text, self(), Ref},
    %% Ends: the process answers or is down.
    receive
        {Ref, Text} -> Text;
        {'DOWN', Monitor, process, Capture, Reason} -> exit(Reason)
    end.

loop(Owner, Leader, Written) ->
    receive
        {io_request, From, ReplyAs, Request} ->
            case chars(Request) of
                {ok, Text} ->
                    From ! {io_reply, ReplyAs, ok},
                    loop(Owner, Leader, [Written, Text]);
                {error, Reason} ->
                    From ! {io_reply, ReplyAs, {error, Reason}},
                    loop(Owner, Leader, Written);
                other ->
                    Leader ! {io_request, From, ReplyAs, Request},
                    loop(Owner, Leader, Written)
            end;
        {text, From, Ref} ->
            From ! {Ref, iolist_to_binary(Written)},
            loop(Owner, Leader, Written);
        {'DOWN', Owner, process, _, _} ->
            ok;
        _ ->
            loop(Owner, Leader, Written)
    end.

%% Returns the UTF-8 that a request writes; `other' for one that writes nothing.
chars({put_chars, Encoding, Chars}) -> encoded(Chars, Encoding);
chars({put_chars, Encoding, Module, Function, Args}) -> applied(Module, Function, Args, Encoding);
chars({put_chars, Chars}) -> encoded(Chars, latin1);
chars({put_chars, Module, Function, Args}) -> applied(Module, Function, Args, latin1);
chars({requests, Requests}) when is_list(Requests) -> all(Requests, []);
chars(_) -> other.

all([], Texts) ->
    {ok, lists:reverse(Texts)};
all([Request | Requests], Texts) ->
    case chars(Request) of
        {ok, Text} -> all(Requests, [Text | Texts]);
        Other -> Other
    end.

applied(Module, Function, Args, Encoding) ->
    try apply(Module, Function, Args) of
        Chars -> encoded(Chars, Encoding)
    catch
        _:_ -> {error, Function}
    end.

encoded(Chars, Encoding) when Encoding =:= unicode; Encoding =:= latin1; Encoding =:= utf8 ->
    try unicode:characters_to_binary(Chars, Encoding) of
        Text when is_binary(Text) -> {ok, Text};
        _ -> {error, {no_translation, Encoding, utf8}}
    catch
        error:badarg -> {error, {no_translation, Encoding, utf8}}
    end;
encoded(_, _) ->
    {error, request}.
