%% Do the records of Python's `logging' become events of `logger', with their level and place, and are the
%% others dropped in Python?
-module(py_logging_SUITE).
-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [records_become_events, levels, the_place_of_a_record, exceptions_have_their_traceback, warnings,
     records_below_the_level_stay_in_python, the_default_is_the_level_of_logger, it_can_end, records_of_threads_and_tasks,
     order_is_kept, text_of_any_kind, records_that_cannot_be_formatted, a_handler_that_calls_python, a_handler_that_crashes,
     a_flood_is_bounded, a_flood_of_small_records_is_bounded, a_configuration_can_be_repeated, bad_options, other_pools].

init_per_suite(Config) ->
    ok = py_test:start_with([{num_workers, 2}]),
    ok = logger:set_primary_config(level, notice),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:begin_case(2),
    Filter = {fun logger_filters:domain/2, {log, sub, [python]}},
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{test => self()}, filter_default => stop, filters => [{python, Filter}]}),
    %% The events of the suite are not for the console.
    _ = logger:add_handler_filter(default, python, {fun logger_filters:domain/2, {stop, sub, [python]}}),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:configure_logging(#{level => none}),
    {ok, _} = py:eval(<<"1">>),
    ok = logger:remove_handler(?MODULE),
    _ = events(0),
    py_test:end_case(2).

%% Called by `logger', in a process of py_output.
log(_, #{config := #{hangs := true}}) ->
    timer:sleep(3000);
log(#{level := Level, msg := {Format, Args}, meta := Meta}, #{config := #{test := Test}}) ->
    case Meta of
        #{python := #{logger := <<"calls.python">>}} -> {ok, 4} = py:eval(<<"2 + 2">>);
        #{python := #{logger := <<"crashes">>}} -> error(crash);
        _ -> ok
    end,
    Test ! {event, Level, unicode:characters_to_binary(io_lib:format(Format, Args)), Meta}.

event() ->
    receive {event, Level, Text, Meta} -> {Level, Text, Meta} after 10000 -> ct:fail(no_event) end.

events(Wait) ->
    receive {event, Level, Text, _} -> [{Level, Text} | events(Wait)] after Wait -> [] end.

records_become_events(_Config) ->
    ok = logger:set_primary_config(level, info),
    ok = py:configure_logging(#{level => info}),
    ok = py:exec(<<"import logging\nlogging.getLogger('a.b').info('x = %d', 5)\nlogging.warning('root')">>),
    {info, <<"x = 5">>, #{domain := [python], python := #{logger := <<"a.b">>, level := 20}}} = event(),
    {warning, <<"root">>, #{python := #{logger := <<"root">>}}} = event(),
    ok = logger:set_primary_config(level, notice).

levels(_Config) ->
    ok = logger:set_primary_config(level, all),
    ok = py:configure_logging(#{level => all}),
    ok = py:exec(<<"import logging\nlog = logging.getLogger('levels')\n"
                   "for level in (5, 10, 20, 25, 30, 40, 50, 60, 70): log.log(level, str(level))">>),
    [{debug, <<"5">>}, {debug, <<"10">>}, {info, <<"20">>}, {notice, <<"25">>}, {warning, <<"30">>}, {error, <<"40">>},
     {critical, <<"50">>}, {alert, <<"60">>}, {emergency, <<"70">>}] = events(500),
    ok = logger:set_primary_config(level, notice).

the_place_of_a_record(_Config) ->
    ok = py:configure_logging(),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"import logging\n\ndef f():\n    logging.error('here')\n\nf()">>),
    Self = self(),
    Id = py_nif:lease_id(Ctx),
    {error, <<"here">>, #{file := "<erlang>", line := 4, pid := Self, python := #{function := <<"f">>, context := Id}}} =
        event(),
    ok = py:unbind(Ctx).

exceptions_have_their_traceback(_Config) ->
    ok = py:configure_logging(),
    ok = py:exec(<<"import logging\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('failed')">>),
    {error, Text, _} = event(),
    [ok = py_test:contains(Text, Part)
     || Part <- [<<"failed\nTraceback">>, <<"line 3">>, <<"ZeroDivisionError: division by zero">>]].

warnings(_Config) ->
    ok = py:configure_logging(#{warnings => true}),
    ok = py:exec(<<"import warnings\nwarnings.warn('careful')">>),
    {warning, Text, #{python := #{logger := <<"py.warnings">>}}} = event(),
    ok = py_test:contains(Text, <<"careful">>).

records_below_the_level_stay_in_python(_Config) ->
    ok = py:configure_logging(#{level => error}),
    ok = py:exec(<<"import logging\nlog = logging.getLogger('quiet')\nlog.warning('no')\nlog.error('yes')">>),
    [{error, <<"yes">>}] = events(200),
    {ok, {false, true}} =
        py:run(<<"import logging\nlog = logging.getLogger('quiet')\n(log.isEnabledFor(30), log.isEnabledFor(40))">>),
    ok = py:configure_logging(#{level => warning}),
    ok = py:exec(<<"import logging\nlogging.getLogger('quiet').warning('now')">>),
    [{warning, <<"now">>}] = events(200).

the_default_is_the_level_of_logger(_Config) ->
    ok = py:configure_logging(),
    ok = py:exec(<<"import logging\nlogging.info('no')\nlogging.log(25, 'notice')">>),
    [{notice, <<"notice">>}] = events(200).

it_can_end(_Config) ->
    {ok, Before} = py:run(<<"import logging\nlogging.getLogger().level">>),
    ok = py:configure_logging(#{level => info}),
    {ok, 20} = py:run(<<"import logging\nlogging.getLogger().level">>),
    ok = py:configure_logging(#{level => none}),
    {ok, Before} = py:run(<<"import logging\nlogging.getLogger().level">>),
    {ok, []} = py:run(<<"import logging\n[h for h in logging.getLogger().handlers if 'erlang' in type(h).__module__]">>),
    {{ok, none}, _} = py:with_output(fun() -> py:run(<<"import logging\nlogging.getLogger('x').error('past')">>) end),
    [] = events(200).

records_of_threads_and_tasks(_Config) ->
    ok = py:configure_logging(),
    ok = py:bind(),
    Self = self(),
    ok = py:exec(<<"import logging, threading, asyncio\n"
                   "t = threading.Thread(target=logging.error, args=('thread',))\nt.start()\nt.join()\n"
                   "async def task():\n    await asyncio.sleep(0)\n    logging.error('task')">>),
    {error, <<"thread">>, #{pid := Self}} = event(),
    {ok, none} = py:async_await(py:async_call('__main__', task, [])),
    {error, <<"task">>, #{pid := Self}} = event(),
    ok = py:unbind().

order_is_kept(_Config) ->
    ok = py:configure_logging(),
    ok = py:exec(<<"import logging\nfor i in range(2000): logging.error('%d', i)">>),
    Texts = [Text || {error, Text} <- events(1000)],
    Texts = [integer_to_binary(I) || I <- lists:seq(0, 1999)].

text_of_any_kind(_Config) ->
    ok = py:configure_logging(),
    ok = py:exec(<<"import logging\nlogging.error('\\u00e4~p%s')\nlogging.error('a\\ud800')\nlogging.error({'not': 'text'})\n"
                   "logging.getLogger('x' * 100000).error('long name')\nlogging.error('l' * 500000)">>),
    {error, <<"ä~p%s"/utf8>>, _} = event(),
    {error, <<"a", _/binary>>, _} = event(),
    {error, <<"{'not': 'text'}">>, _} = event(),
    {error, <<"long name">>, _} = event(),
    {error, Long, _} = event(),
    500000 = byte_size(Long).

%% Python itself reports those, to standard error.
records_that_cannot_be_formatted(_Config) ->
    ok = py:configure_logging(),
    {ok, Text} = py:with_output(fun() -> py:exec(<<"import logging\nlogging.error('%d', 'no number')">>) end),
    ok = py_test:contains(Text, <<"--- Logging error ---">>),
    ok = py:exec(<<"import logging\nlogging.error('fine')">>),
    {error, <<"fine">>, _} = event().

a_handler_that_calls_python(_Config) ->
    ok = py:configure_logging(),
    ok = py:exec(<<"import logging\nlog = logging.getLogger('calls.python')\nlog.error('1')\nlog.error('2')">>),
    [{error, <<"1">>}, {error, <<"2">>}] = [begin {L, T, _} = event(), {L, T} end || _ <- [1, 2]].

%% `logger' removes such a handler.
a_handler_that_crashes(_Config) ->
    ok = py:configure_logging(),
    ok = py:exec(<<"import logging\nlogging.getLogger('crashes').error('1')">>),
    py_test:wait_until(fun() -> not lists:member(?MODULE, logger:get_handler_ids()) end),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{test => self()}}),
    ok = py:exec(<<"import logging\nlogging.error('after')">>),
    {error, <<"after">>, _} = event().

%% A handler that hangs: code waits for a moment, and goes on; what is too much is counted.
a_flood_is_bounded(_Config) ->
    ok = py:configure_logging(),
    Self = self(),
    ok = logger:add_handler(hangs, ?MODULE, #{config => #{test => Self, hangs => true}}),
    ok = py:exec(<<"import logging\nfor i in range(40): logging.error('x' * 100000)">>, #{}, 30000),
    {ok, 2} = py:eval(<<"1 + 1">>),
    ok = logger:remove_handler(hangs),
    %% What was in the queue comes yet.
    true = length(events(4000)) =< 40.

%% Regression: only messages were counted, and an empty one costs nothing.
a_flood_of_small_records_is_bounded(_Config) ->
    ok = py:configure_logging(),
    ok = logger:add_handler(hangs, ?MODULE, #{config => #{test => self(), hangs => true}}),
    Before = erlang:memory(binary),
    ok = py:exec(<<"import logging\nlog = logging.getLogger('x' * 10000)\nfor i in range(20000): log.error('')">>, #{}, 60000),
    true = erlang:memory(binary) - Before < 50_000_000,
    ok = logger:remove_handler(hangs),
    true = length(events(4000)) < 20000.

%% Regression: the same configuration was not applied again.
a_configuration_can_be_repeated(_Config) ->
    ok = py:configure_logging(#{level => error}),
    ok = py:exec(<<"import logging, io\nlogging.basicConfig(force=True, stream=io.StringIO())\nlogging.error('lost')">>),
    [] = events(200),
    ok = py:configure_logging(#{level => error}),
    ok = py:exec(<<"import logging\nlogging.error('here')\nlogging.getLogger('a\\ud800').error('name')">>),
    [{error, <<"here">>}, {error, <<"name">>}] = events(200),
    ok = py:configure_logging(#{level => none, warnings => true}),
    {ok, Text} = py:with_output(fun() -> py:exec(<<"import warnings\nwarnings.warn('seen')">>) end),
    ok = py_test:contains(Text, <<"seen">>),
    ok = py:exec(<<"import logging\nlogging.getLogger().handlers.clear()">>).

bad_options(_Config) ->
    [{raised, badarg} = py_test:caught(fun() -> py:configure_logging(Bad) end)
     || Bad <- [#{level => loud}, #{level => 20}, #{warnings => yes}, #{handler => x}, [], info]],
    ok.

other_pools(_Config) ->
    ok = py_pool:start(logging_children, #{level => process, num_workers => 1}),
    {ok, 1} = py:eval(<<"1">>, #{}, #{pool => logging_children}),
    %% A child that runs already.
    ok = py:configure_logging(#{level => error}),
    ok = py:exec(<<"import logging\nlogging.warning('no')\nlogging.error('from a child')">>, #{}, #{pool => logging_children}),
    {error, <<"from a child">>, _} = event(),
    ok = py:configure_logging(#{level => none}),
    {ok, none} = py:run(<<"import logging\nlogging.getLogger('quiet child').error('no')">>, #{}, #{pool => logging_children}),
    [] = events(200),
    ok = py_pool:stop(logging_children).
