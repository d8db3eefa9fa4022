//! The one table of atoms, filled when the library is loaded. The functions run on any thread and
//! never block. No atom is ever made from user data.

rustler::atoms! {
    ok,
    external,
    error,
    raise,
    true_ = "true",
    false_ = "false",
    none,
    nil,
    undefined,
    nan,
    infinity,
    neg_infinity,

    // Jobs and handles.
    call,
    eval,
    exec,
    open,
    next,
    collect,
    async_ = "async",
    empty,
    cancelled,
    replied,
    idle,
    busy,
    already,

    // Counters.
    size,
    leased,
    pending,
    left_threads,
    jobs,
    contexts,
    objects,
    callbacks,
    streams,

    // Messages to `py_pool`.
    py_lease,
    py_worker,
    py_threads,
    ended,
    crashed,
    lost,
    abandoned,
    not_replaced,
    replaced,

    // Streams.
    py_stream,
    items,
    done,
    sending,

    // Messages to `py_callback`, and its answers.
    py_callback,
    py_send,
    py_monitor,
    wait_down,
    not_registered,
    exit,
    killed,

    // Reasons.
    no_workers_available,
    overloaded,
    worker_crashed,
    context_not_bound,
    interrupted,
    unconvertible,
    improper_list,
    too_deep,
    cycle,
    key_collision,
    unhashable_key,
    not_unicode,
    too_large,

    // Keys of maps.
    reason,
    value,
    class,
    message,
    traceback,
    cause,
    chain,
    context,
    notes,
    syntax,
    erlang,
    exceptions,
    file,
    line,
    function,
    source,
    offset,
    end_offset,
    text,

    // Types that have a tagged form.
    bytes,
    view,
}
