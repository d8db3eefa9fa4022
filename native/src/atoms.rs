//! The one table of atoms. No atom is ever made from user data.

rustler::atoms! {
    ok,
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
    cancelled,
    replied,
    idle,
    busy,
    already,

    // Notes to `py_pool`.
    py_lease,
    py_worker,
    py_threads,
    ended,
    crashed,
    lost,
    abandoned,
    not_replaced,
    replaced,

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
