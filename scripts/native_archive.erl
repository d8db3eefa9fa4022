%% The archives of native libraries: takes one from a directory or a server, checks and unpacks it.
%% scripts/build_native compiles this module when it takes an archive; see "Getting the native library" in
%% docs/deployment.md.
-module(native_archive).

-export([files/4]).

-define(LIBRARIES, ["py_loader.so", "py_nif.abi3.so", "py_child.abi3.so"]).
%% Bytes that no archive has, and no download either.
-define(MAX_SIZE, (1 bsl 26)).
%% Milliseconds between two looks at the memory, while an error page may be on its way.
-define(GLANCE, 100).

%% Returns the files of an archive, or a sentence that says why they cannot be had. Seconds bounds a download as a
%% whole: a server may send a byte now and then for ever.
-spec files(Where :: string(), Name :: string(), Checksum :: string(), Seconds :: pos_integer()) ->
    {ok, [{string(), binary()}]} | {error, Sentence :: iodata()}.
files(Where, Name, Checksum, Seconds) ->
    case fetch(Where, Name, Seconds) of
        {ok, Content} -> checked(Where, Name, Checksum, Content);
        {error, Sentence} -> {error, Sentence}
    end.

%% Refuses bytes that are not those of the repository's archive.
checked(Where, Name, Checksum, Content) ->
    case string:lowercase(binary_to_list(binary:encode_hex(crypto:hash(sha256, Content)))) of
        Checksum ->
            unpacked(Name, erl_tar:extract({binary, Content}, [compressed, memory]));
        Other ->
            Kind = case Content of
                <<16#1f, 16#8b, _/binary>> -> "another archive, or a part of it";
                _ -> "no archive"
            end,
            said("~ts from ~ts is refused: its SHA-256 is ~ts, and prebuilt.sha256 has ~ts. What came is ~ts (~b bytes). "
                 "Nothing was installed", [Name, Where, Other, Checksum, Kind, byte_size(Content)])
    end.

unpacked(Name, {error, Reason}) ->
    said("~ts cannot be unpacked: ~ts", [Name, erl_tar:format_error(Reason)]);
unpacked(Name, {ok, Files}) ->
    case [File || {File, _} <- Files, not lists:member(File, ?LIBRARIES)] of
        [] -> {ok, Files};
        [File | _] -> said("~ts has a file that does not belong to it: ~ts", [Name, File])
    end.

fetch("http://" ++ _ = Prefix, Name, Seconds) ->
    download(url(Prefix, Name), Seconds, []);
fetch("https://" ++ _ = Prefix, Name, Seconds) ->
    {ok, _} = application:ensure_all_started(ssl),
    case authorities() of
        {ok, Certificates} ->
            Check = [{match_fun, public_key:pkix_verify_hostname_match_fun(https)}],
            Options = [{verify, verify_peer}, {cacerts, Certificates}, {customize_hostname_check, Check},
                       {log_level, none}],
            download(url(Prefix, Name), Seconds, [{ssl, Options}]);
        {error, Reason} ->
            said("there are no certificates of authorities to check ~ts with: ~ts. On Debian they are in the package "
                 "ca-certificates; SSL_CERT_FILE names another file of them", [Prefix, file:format_error(Reason)])
    end;
fetch("file:" ++ _ = Url, Name, Seconds) ->
    case uri_string:parse(Url) of
        #{path := Path, scheme := "file"} -> fetch(uri_string:percent_decode(Path), Name, Seconds);
        _ -> said("ERLANG_PYTHON_PREBUILT is no URL: ~ts", [Url])
    end;
fetch(Directory, Name, _Seconds) ->
    File = filename:join(Directory, Name),
    case file:read_file(File) of
        {ok, Content} -> {ok, Content};
        {error, Reason} -> said("~ts, in what ERLANG_PYTHON_PREBUILT names, cannot be read: ~ts",
                                [File, file:format_error(Reason)])
    end.

url(Prefix, Name) ->
    string:trim(Prefix, trailing, "/") ++ "/" ++ Name.

%% Returns the certificates that a server's one is checked with: of the system, or of a file with those of an
%% authority of one's own, by the variable that OpenSSL has for it.
authorities() ->
    Loaded = case os:getenv("SSL_CERT_FILE", "") of
        "" -> public_key:cacerts_load();
        File -> public_key:cacerts_load(File)
    end,
    case Loaded of
        ok -> {ok, public_key:cacerts_get()};
        {error, Reason} -> {error, Reason}
    end.

download(Url, Seconds, Options) ->
    {ok, _} = application:ensure_all_started(inets),
    Deadline = erlang:monotonic_time(millisecond) + Seconds * 1000,
    %% Each part of the body is asked for: no more of it is in memory than was taken.
    How = [{sync, false}, {stream, {self, once}}, {body_format, binary}],
    Answer = case httpc:request(get, {Url, []}, [{connect_timeout, 10000}, {timeout, infinity} | Options], How) of
        {ok, Request} -> receive_start(Request, Deadline, erlang:memory(total) + ?MAX_SIZE);
        {error, Reason} -> {error, reason(Reason)}
    end,
    case Answer of
        {ok, Content} -> {ok, Content};
        timeout -> said("~ts: no complete answer within ~b seconds (ERLANG_PYTHON_TIMEOUT)", [Url, Seconds]);
        too_large -> said("~ts is larger than any archive", [Url]);
        {error, Text} -> said("~ts: ~ts", [Url, Text])
    end.

%% Receives the beginning of the answer. The page of an error comes as a whole: the memory of this program, which
%% does nothing else, bounds it.
receive_start(Request, Deadline, MaxMemory) ->
    Left = remaining(Deadline),
    receive
        {http, {Request, stream_start, _Headers, Handler}} ->
            receive_parts(Request, Handler, Deadline, [], 0);
        {http, {Request, {{_Version, Status, Text}, _Headers, _Body}}} ->
            {error, io_lib:format("the server answers ~b ~ts", [Status, Text])};
        {http, {Request, {error, Reason}}} ->
            {error, reason(Reason)}
    after min(Left, ?GLANCE) ->
        case erlang:memory(total) > MaxMemory of
            true -> too_large;
            false when Left =:= 0 -> timeout;
            false -> receive_start(Request, Deadline, MaxMemory)
        end
    end.

receive_parts(_Request, _Handler, _Deadline, _Parts, Size) when Size > ?MAX_SIZE ->
    too_large;
receive_parts(Request, Handler, Deadline, Parts, Size) ->
    ok = httpc:stream_next(Handler),
    receive
        {http, {Request, stream, Part}} ->
            receive_parts(Request, Handler, Deadline, [Part | Parts], Size + byte_size(Part));
        {http, {Request, stream_end, _Headers}} ->
            {ok, iolist_to_binary(lists:reverse(Parts))};
        {http, {Request, {error, Reason}}} ->
            {error, reason(Reason)}
    after remaining(Deadline) ->
        timeout
    end.

remaining(Deadline) ->
    max(0, Deadline - erlang:monotonic_time(millisecond)).

reason({failed_connect, [{to_address, {Host, Port}} | Rest]}) ->
    case element(3, lists:last(Rest)) of
        {tls_alert, {Alert, _Text}} ->
            io_lib:format("the certificate of ~ts:~b, or its encryption, is refused: ~ts", [Host, Port, Alert]);
        Reason ->
            io_lib:format("no connection to ~ts:~b: ~0tp", [Host, Port, Reason])
    end;
reason(Closed) when Closed =:= socket_closed_remotely; Closed =:= {shutdown, server_closed} ->
    "the server has closed the connection before the end of the archive";
reason(Reason) ->
    io_lib:format("~0tP", [Reason, 20]).

said(Format, Arguments) ->
    {error, io_lib:format(Format, Arguments)}.
