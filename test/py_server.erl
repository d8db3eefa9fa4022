%% Servers of the suites, on the loopback interface: for one connection after the other, by HTTP or HTTPS.
-module(py_server).

-export([start/1, start_tls/3, answer/4, stop/1]).

%% The extension of a certificate that names its hosts: subjectAltName.
-define(NAMES, {2, 5, 29, 17}).

-type server() :: {pid(), reference()}.

%% Serves each connection with Fun; returns the prefix of its URLs.
-spec start(fun((gen_tcp:socket()) -> term())) -> {Prefix :: string(), server()}.
start(Fun) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listen),
    Server = spawn_monitor(fun() -> accept(Listen, Fun) end),
    ok = gen_tcp:controlling_process(Listen, element(1, Server)),
    {"http://127.0.0.1:" ++ integer_to_list(Port), Server}.

accept(Listen, Fun) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    {ok, _Request} = gen_tcp:recv(Socket, 0),
    _ = Fun(Socket),
    ok = gen_tcp:close(Socket),
    accept(Listen, Fun).

%% Serves Body over TLS, with a certificate for Host by an authority of its own; returns the prefix of the URLs,
%% which is of localhost, and the file of the authority, in Dir.
-spec start_tls(file:filename(), string(), binary()) -> {Prefix :: string(), file:filename(), server()}.
start_tls(Dir, Host, Body) ->
    {ok, _} = application:ensure_all_started(ssl),
    Key = [{digest, sha256}, {key, {namedCurve, secp256r1}}],
    Name = {'Extension', ?NAMES, _IsCritical = false, [{dNSName, Host}]},
    #{server_config := Options, client_config := Client} = public_key:pkix_test_data(
        #{server_chain => #{root => Key, intermediates => [], peer => [{extensions, [Name]} | Key]},
          client_chain => #{root => Key, intermediates => [], peer => Key}}),
    Authority = filename:join(Dir, "authority.pem"),
    Certificates = [{'Certificate', Der, not_encrypted} || Der <- proplists:get_value(cacerts, Client)],
    ok = file:write_file(Authority, public_key:pem_encode(Certificates)),
    Self = self(),
    Server = {Pid, _} = spawn_monitor(fun() ->
        {ok, Listen} = ssl:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}, {log_level, none} | Options]),
        Self ! {self(), ssl:sockname(Listen)},
        accept_tls(Listen, Body)
    end),
    receive
        {Pid, {ok, {_, Port}}} -> {"https://localhost:" ++ integer_to_list(Port), Authority, Server}
    after 20000 -> error(no_server)
    end.

accept_tls(Listen, Body) ->
    {ok, Socket0} = ssl:transport_accept(Listen),
    case ssl:handshake(Socket0) of
        {ok, Socket} ->
            {ok, _Request} = ssl:recv(Socket, 0),
            ok = ssl:send(Socket, head("200 OK", byte_size(Body))),
            ok = ssl:send(Socket, Body),
            ok = ssl:close(Socket);
        %% The client has refused the certificate.
        {error, _} ->
            ok
    end,
    accept_tls(Listen, Body).

%% Sends an answer that promises a body of this length.
-spec answer(gen_tcp:socket(), string(), binary(), non_neg_integer()) -> ok | {error, term()}.
answer(Socket, Status, Body, Length) ->
    gen_tcp:send(Socket, [head(Status, Length), Body]).

head(Status, Length) ->
    ["HTTP/1.1 ", Status, "\r\nContent-Length: ", integer_to_list(Length), "\r\n\r\n"].

-spec stop(server()) -> ok.
stop({Pid, Monitor}) ->
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end.
