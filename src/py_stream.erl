%% @private
%% Streams: starts them, makes their demands, closes them. Runs in the calling process.
-module(py_stream).

-export([start/1, start_in/2, next/2, close/1]).

-include("py_call.hrl").

%% @doc Starts a stream of what `Source' returns: in the binding of the calling process, or in a context
%% of its own, which ends with the stream.
-spec start(py_nif:source()) -> py:result(py:stream()).
start(Source) ->
    case py:is_bound() andalso py_pool:binding(self()) of
        {ok, Lease} ->
            %% A process that has just lost its binding has none.
            try open(Lease, false, Source)
            catch error:context_not_bound -> start_alone(Source)
            end;
        _ -> start_alone(Source)
    end.

start_alone(Source) ->
    case py:bind(new) of
        {ok, Context} -> open(Context, true, Source);
        {error, Reason} -> {error, Reason}
    end.

%% @doc Starts a stream in a context.
-spec start_in(py:context(), py_nif:source()) -> py:result(py:stream()).
start_in(Context, Source) ->
    open(Context, false, Source).

open(Target, OwnsLease, Source) ->
    Stream = py_nif:stream(Target, OwnsLease),
    try py_call:submit(py_call:within(Target), {open, Stream, Source}, ?DEFAULT) of
        ok -> {ok, Stream};
        {error, Reason} -> ok = close(Stream), {error, Reason}
    catch
        error:Reason -> ok = close(Stream), error(Reason)
    end.

%% @doc Makes a demand, see {@link py:stream_next/2}.
-spec next(py:stream(), pos_integer()) -> ok | {error, busy | overloaded}.
next(Stream, Count) ->
    case py_nif:stream_next(Stream, Count, get('$callers'), py_callback:current()) of
        {ok, ok} -> ok;
        {ok, done} -> reply(Stream, done);
        {ok, sending} ->
            %% The message of the demand before is about to be sent: a few instructions.
            erlang:yield(),
            next(Stream, Count);
        {error, context_not_bound} -> reply(Stream, {error, context_not_bound});
        {error, Reason} -> {error, Reason}
    end.

%% Answers a demand that no worker will answer.
reply(Stream, What) ->
    self() ! {py_stream, Stream, What},
    ok.

%% @doc Closes a stream, see {@link py:stream_close/1}.
-spec close(py:stream()) -> ok.
close(Stream) ->
    case py_nif:stream_close(Stream) of
        ok ->
            forget_messages(Stream);
        sending ->
            %% A message is about to be sent: a few instructions.
            erlang:yield(),
            close(Stream)
    end.

forget_messages(Stream) ->
    receive {py_stream, Stream, _} -> forget_messages(Stream) after 0 -> ok end.
