%% Timeouts, for the modules that take them.

%% The timeout of a call that names none.
-define(DEFAULT, '$default').
-define(MAX_TIMEOUT, 16#ffffffff).
-define(IS_TIMEOUT(T), (T =:= infinity orelse
                        (is_integer(T) andalso T >= 0 andalso T =< ?MAX_TIMEOUT))).
