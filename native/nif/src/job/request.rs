//! The request of a job: the term that `py` submits, decoded and checked. Runs on scheduler
//! threads, and decodes once more on the worker. Nothing here blocks or needs the GIL.

use rustler::types::tuple::get_tuple;
use rustler::{Atom, Binary, Error as NifError, MapIterator, NifResult, ResourceArc, Term};

use crate::atoms;
use crate::term::{Object, ProcessObject};
use py_codec::Form;
use py_engine::python::code_cache::Mode;

/// The number of arguments that are looked at to tell whether a request is small.
const MAX_LOOK: usize = 8;

/// A request, of one of the forms that `py.erl` submits. The module of a call may be a handle of an object.
pub(crate) enum Request<'a> {
    Call {
        module: Term<'a>,
        function: Term<'a>,
        args: Term<'a>,
        kwargs: Term<'a>,
    },
    Run {
        mode: Mode,
        source: &'a str,
        locals: Term<'a>,
    },
    /// The object of a handle.
    Object { handle: Term<'a> },
    /// Returns the value of `job` in a form of its own.
    InForm { form: Form, job: Term<'a> },
    /// Keeps an iterator over the value of `source`, a call or an expression, for a stream.
    Open { stream: Term<'a>, source: Term<'a> },
    /// Returns at most `count` next items of the stream that the job is a demand of.
    Next { count: usize },
    /// Returns the list of all items of the value of `source`.
    Collect { source: Term<'a> },
    /// Runs the coroutine that `source` returns as a task, while the worker does other things.
    Async { source: Term<'a> },
    /// Does nothing: `make bench` measures other requests against the path of this one.
    Empty,
}

impl<'a> Request<'a> {
    pub(crate) fn decode(term: Term<'a>) -> NifResult<Self> {
        if atoms::empty() == term {
            return Ok(Self::Empty);
        }
        let elements = get_tuple(term)?;
        let is = |tag: Term<'a>, atom: Atom| atom == tag;
        match *elements {
            [tag, module, function, args, kwargs] if is(tag, atoms::call()) => Ok(Self::Call {
                module,
                function,
                args,
                kwargs,
            }),
            [tag, source, locals] if is(tag, atoms::eval()) => Ok(Self::Run {
                mode: Mode::Eval,
                source: text(source)?,
                locals,
            }),
            [tag, source, locals] if is(tag, atoms::exec()) => Ok(Self::Run {
                mode: Mode::Exec,
                source: text(source)?,
                locals,
            }),
            [tag, source, locals] if is(tag, atoms::run()) => Ok(Self::Run {
                mode: Mode::Block,
                source: text(source)?,
                locals,
            }),
            [tag, handle] if is(tag, atoms::object()) => Ok(Self::Object { handle }),
            [tag, bits, job] if is(tag, atoms::form()) => Ok(Self::InForm {
                form: Form::from_bits(bits.decode()?),
                job,
            }),
            [tag, stream, source] if is(tag, atoms::open()) => Ok(Self::Open { stream, source }),
            [tag, count] if is(tag, atoms::next()) => Ok(Self::Next {
                count: count.decode()?,
            }),
            [tag, source] if is(tag, atoms::collect()) => Ok(Self::Collect { source }),
            [tag, source] if is(tag, atoms::async_()) => Ok(Self::Async { source }),
            _ => Err(NifError::BadArg),
        }
    }

    /// Decodes the source of a request: a call, an expression or an object. Raises `badarg` for another
    /// request.
    pub(crate) fn source(term: Term<'a>) -> NifResult<Self> {
        match Self::decode(term)? {
            request @ (Self::Call { .. } | Self::Run { .. } | Self::Object { .. }) => Ok(request),
            _ => Err(NifError::BadArg),
        }
    }

    /// Returns `true` if the request is copied quickly: its binaries are shared or short, and it
    /// holds few other terms.
    pub(crate) fn is_small(&self) -> bool {
        match self {
            Self::Call { args, kwargs, .. } => is_empty(*kwargs) && is_short(*args),
            Self::Run { locals, .. } => is_empty(*locals),
            Self::Open { source, .. } | Self::Collect { source } | Self::Async { source } => {
                Self::source(*source).is_ok_and(|source| source.is_small())
            }
            Self::InForm { job, .. } => Self::decode(*job).is_ok_and(|job| job.is_small()),
            Self::Empty | Self::Next { .. } | Self::Object { .. } => true,
        }
    }

    /// Raises `badarg` in the caller for a name that is none, or arguments that are no list.
    pub(super) fn check(&self) -> NifResult<()> {
        match self {
            Self::Call {
                module,
                function,
                args,
                kwargs,
            } => {
                if !is_handle(*module) {
                    check_name(*module)?;
                }
                check_name(*function)?;
                check_names(*kwargs)?;
                if args.is_list() {
                    Ok(())
                } else {
                    Err(NifError::BadArg)
                }
            }
            Self::Run { locals, .. } => check_names(*locals),
            Self::Open { source, .. } | Self::Collect { source } | Self::Async { source } => {
                Self::source(*source)?.check()
            }
            Self::Object { handle } if is_handle(*handle) => Ok(()),
            Self::Object { .. } => Err(NifError::BadArg),
            Self::InForm { job, .. } => match Self::decode(*job)? {
                job @ (Self::Call { .. }
                | Self::Run { .. }
                | Self::Object { .. }
                | Self::Collect { .. }) => job.check(),
                _ => Err(NifError::BadArg),
            },
            Self::Empty => Ok(()),
            // Only `Stream::ask` makes a demand, and does not check it.
            Self::Next { .. } => Err(NifError::BadArg),
        }
    }
}

/// Returns `true` for a list of fewer than `MAX_LOOK` terms that hold no others. The tail may be
/// any term.
fn is_short(list: Term<'_>) -> bool {
    let is_flat = |term: Term<'_>| !(term.is_list() || term.is_tuple() || term.is_map());
    let mut rest = list;
    for _ in 0..MAX_LOOK {
        match rest.list_get_cell() {
            Ok((item, tail)) if is_flat(item) => rest = tail,
            Ok(_) => return false,
            Err(_) => return true,
        }
    }
    false
}

/// Whether a term is a handle of a Python object.
pub(crate) fn is_handle(term: Term<'_>) -> bool {
    term.is_ref()
        && (term.decode::<ResourceArc<Object>>().is_ok()
            || term.decode::<ResourceArc<ProcessObject>>().is_ok())
}

fn text(term: Term<'_>) -> NifResult<&str> {
    let binary = Binary::from_term(term)?;
    std::str::from_utf8(binary.as_slice()).map_err(|_| NifError::BadArg)
}

fn check_name(term: Term<'_>) -> NifResult<()> {
    if term.is_atom() {
        Ok(())
    } else {
        text(term).map(|_| ())
    }
}

fn check_names(map: Term<'_>) -> NifResult<()> {
    let mut entries = MapIterator::new(map).ok_or(NifError::BadArg)?;
    entries.try_for_each(|(key, _)| check_name(key))
}

pub(crate) fn is_empty(map: Term<'_>) -> bool {
    map.map_size().is_ok_and(|size| size == 0)
}
