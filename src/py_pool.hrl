%% A pool that runs, as its callers know it.
-record(pool, {native :: py_nif:pool(), level :: thread | process, server :: pid(),
               totals :: py_totals:totals(),
               %% The supervisor of the application, which tells one start of it from another.
               supervisor :: pid() | undefined}).
