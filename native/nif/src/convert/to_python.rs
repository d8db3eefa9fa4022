//! Terms to Python objects. Runs on workers, attached.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyNone, PyString, PyTuple};
use rustler::sys::ErlNifTermType as Kind;
use rustler::{Atom, Binary, MapIterator, ResourceArc, Term};

use super::describe::describe;
use super::raw::new_dict;
use super::{CHECK_INTERVAL, MAX_DEPTH, check_wanted, integer, names, terms, text, view};
use crate::atoms;
use crate::error::{Error, Why};
use crate::object::{ErlangTerm, Object};
use py_engine::host::Host;

pub(crate) type Converted<'py> = Result<Bound<'py, PyAny>, Error>;

/// Where in a value the conversion stands, and for whom it works.
#[derive(Clone, Copy)]
struct Place<'t> {
    depth: usize,
    host: &'t dyn Host,
}

impl Place<'_> {
    /// In one more container.
    fn inside(self) -> Result<Self, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::unconvertible(Why::TooDeep, "term"));
        }
        let depth = self.depth + 1;
        Ok(Self { depth, ..self })
    }
}

/// The Python forms of a list of terms, for the job of `host`.
pub(crate) fn to_arguments<'py>(
    py: Python<'py>,
    list: Term<'_>,
    host: &dyn Host,
) -> Result<Vec<Bound<'py, PyAny>>, Error> {
    elements(py, list, Place { depth: 0, host })
}

/// The Python form of one term, for the job of `host`.
pub(crate) fn to_object<'py>(py: Python<'py>, term: Term<'_>, host: &dyn Host) -> Converted<'py> {
    convert(py, term, Place { depth: 0, host })
}

/// A name: the text of an atom or of a binary.
pub(crate) fn to_name<'py>(py: Python<'py>, term: Term<'_>) -> Result<Bound<'py, PyString>, Error> {
    if term.is_atom() {
        return Ok(names::find(py, term, || text::of_atom(term)));
    }
    let invalid = || Error::unconvertible(Why::NotUnicode, describe(term));
    let binary = Binary::from_term(term).map_err(|_| invalid())?;
    let text = std::str::from_utf8(binary.as_slice()).map_err(|_| invalid())?;
    Ok(PyString::new(py, text))
}

/// A map with names as keys, as keyword arguments or locals.
pub(crate) fn to_kwargs<'py>(
    py: Python<'py>,
    map: Term<'_>,
    host: &dyn Host,
) -> Result<Bound<'py, PyDict>, Error> {
    let place = Place { depth: 0, host };
    let dict = PyDict::new(py);
    let mut entries = 0;
    for (key, value) in MapIterator::new(map).into_iter().flatten() {
        dict.set_item(to_name(py, key)?, convert(py, value, place)?)?;
        entries += 1;
    }
    check_collision(&dict, entries, map)?;
    Ok(dict)
}

fn convert<'py>(py: Python<'py>, term: Term<'_>, place: Place<'_>) -> Converted<'py> {
    convert_kind(py, term, term.get_erl_type(), place)
}

/// As `convert`, for one of many of a kind: to ask for the number costs as much as to ask what it
/// is. `last` is what the one before was.
fn convert_next<'py>(
    py: Python<'py>,
    term: Term<'_>,
    last: &mut Kind,
    place: Place<'_>,
) -> Converted<'py> {
    if matches!(*last, Kind::ERL_NIF_TERM_TYPE_INTEGER)
        && let Ok(small) = term.decode::<i64>()
    {
        return Ok(PyInt::new(py, small).into_any());
    }
    if matches!(*last, Kind::ERL_NIF_TERM_TYPE_FLOAT)
        && let Some(value) = terms::as_float(term)
    {
        return Ok(PyFloat::new(py, value).into_any());
    }
    *last = term.get_erl_type();
    convert_kind(py, term, *last, place)
}

fn convert_kind<'py>(
    py: Python<'py>,
    term: Term<'_>,
    kind: Kind,
    place: Place<'_>,
) -> Converted<'py> {
    match kind {
        Kind::ERL_NIF_TERM_TYPE_INTEGER => integer(py, term),
        Kind::ERL_NIF_TERM_TYPE_ATOM => Ok(atom(py, term)),
        Kind::ERL_NIF_TERM_TYPE_FLOAT => float(py, term),
        Kind::ERL_NIF_TERM_TYPE_BITSTRING => match Binary::from_term(term) {
            Ok(binary) => Ok(text::of_binary(py, &binary)),
            Err(_) => ErlangTerm::wrap(py, term),
        },
        Kind::ERL_NIF_TERM_TYPE_LIST => list(py, term, place),
        Kind::ERL_NIF_TERM_TYPE_TUPLE => tuple(py, term, place),
        Kind::ERL_NIF_TERM_TYPE_MAP => map(py, term, place),
        Kind::ERL_NIF_TERM_TYPE_REFERENCE => match term.decode::<ResourceArc<Object>>() {
            Ok(object) => Ok(object.bind(py)),
            Err(_) => ErlangTerm::wrap(py, term),
        },
        // Pids, ports and funs.
        _ => ErlangTerm::wrap(py, term),
    }
}

fn integer<'py>(py: Python<'py>, term: Term<'_>) -> Converted<'py> {
    if let Ok(small) = term.decode::<i64>() {
        return Ok(PyInt::new(py, small).into_any());
    }
    if let Ok(word) = term.decode::<u64>() {
        return Ok(PyInt::new(py, word).into_any());
    }
    let external = term.to_binary();
    let Some((negative, magnitude)) = integer::parse(&external) else {
        return Err(Error::unconvertible(Why::TooLarge, "integer"));
    };
    let from_bytes = py.get_type::<PyInt>().getattr(intern!(py, "from_bytes"))?;
    let value = from_bytes.call1((PyBytes::new(py, magnitude), intern!(py, "little")))?;
    Ok(if negative { value.neg()? } else { value })
}

fn float<'py>(py: Python<'py>, term: Term<'_>) -> Converted<'py> {
    match terms::as_float(term) {
        Some(value) => Ok(PyFloat::new(py, value).into_any()),
        None => Err(Error::unconvertible(Why::TooLarge, "float")),
    }
}

fn atom<'py>(py: Python<'py>, term: Term<'_>) -> Bound<'py, PyAny> {
    let is = |atom: Atom| atom == term;
    if is(atoms::true_()) {
        PyBool::new(py, true).to_owned().into_any()
    } else if is(atoms::false_()) {
        PyBool::new(py, false).to_owned().into_any()
    } else if is(atoms::none()) || is(atoms::nil()) || is(atoms::undefined()) {
        PyNone::get(py).to_owned().into_any()
    } else {
        names::find(py, term, || text::of_atom(term)).into_any()
    }
}

/// Filled in place: a second list of the items would be as big as the first.
fn list<'py>(py: Python<'py>, term: Term<'_>, place: Place<'_>) -> Converted<'py> {
    let place = place.inside()?;
    let improper = || Error::unconvertible(Why::ImproperList, describe(term));
    let length = term.list_length().map_err(|_| improper())?;
    // SAFETY: attached; a new list, or null with an exception set.
    let list = unsafe {
        let list = ffi::PyList_New(length.cast_signed());
        Bound::from_owned_ptr_or_err(py, list)?
    };
    let items = term.into_list_iterator().map_err(|_| improper())?;
    let mut kind = Kind::ERL_NIF_TERM_TYPE_LIST;
    for (index, item) in items.enumerate() {
        if index.is_multiple_of(CHECK_INTERVAL) {
            check_wanted(place.host)?;
        }
        let item = convert_next(py, item, &mut kind, place)?.into_ptr();
        // SAFETY: a list that nobody else has seen, and an index in it that is set once; takes the
        // reference.
        unsafe {
            #[cfg(not(feature = "abi3"))]
            ffi::PyList_SET_ITEM(list.as_ptr(), index.cast_signed(), item);
            #[cfg(feature = "abi3")]
            ffi::PyList_SetItem(list.as_ptr(), index.cast_signed(), item);
        }
    }
    Ok(list)
}

fn elements<'py>(
    py: Python<'py>,
    term: Term<'_>,
    place: Place<'_>,
) -> Result<Vec<Bound<'py, PyAny>>, Error> {
    let improper = || Error::unconvertible(Why::ImproperList, describe(term));
    let length = term.list_length().map_err(|_| improper())?;
    let mut items = Vec::with_capacity(length);
    for item in term.into_list_iterator().map_err(|_| improper())? {
        if items.len().is_multiple_of(CHECK_INTERVAL) {
            check_wanted(place.host)?;
        }
        items.push(convert(py, item, place)?);
    }
    Ok(items)
}

fn tuple<'py>(py: Python<'py>, term: Term<'_>, place: Place<'_>) -> Converted<'py> {
    let elements = tuple_elements(term);
    if let [tag, value] = *elements
        && let Ok(binary) = Binary::from_term(value)
    {
        if atoms::bytes() == tag {
            return Ok(PyBytes::new(py, binary.as_slice()).into_any());
        }
        if atoms::view() == tag {
            return view::over(py, value);
        }
    }
    let place = place.inside()?;
    let convert = |element: &Term<'_>| convert(py, *element, place);
    let items = elements
        .iter()
        .map(convert)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(PyTuple::new(py, items)?.into_any())
}

fn tuple_elements<'a>(term: Term<'a>) -> Vec<Term<'a>> {
    // Fails on a non-tuple only.
    rustler::types::tuple::get_tuple(term).unwrap_or_default()
}

fn map<'py>(py: Python<'py>, term: Term<'_>, place: Place<'_>) -> Converted<'py> {
    let place = place.inside()?;
    let dict = new_dict(py, term.map_size().unwrap_or(0))?;
    let mut entries = 0;
    for (key, value) in MapIterator::new(term).into_iter().flatten() {
        if usize::is_multiple_of(entries, CHECK_INTERVAL) {
            check_wanted(place.host)?;
        }
        let object = convert(py, key, place)?;
        let is_plain = object.is_exact_instance_of::<PyString>();
        if !is_plain && object.hash().is_err() {
            return Err(Error::unconvertible(Why::UnhashableKey, describe(key)));
        }
        dict.set_item(object, convert(py, value, place)?)?;
        entries += 1;
    }
    check_collision(&dict, entries, term)?;
    Ok(dict.into_any())
}

/// Two keys that Python takes for one, as `1` and `true` are, would lose a value.
fn check_collision(dict: &Bound<'_, PyDict>, entries: usize, map: Term<'_>) -> Result<(), Error> {
    if dict.len() == entries {
        return Ok(());
    }
    Err(Error::unconvertible(Why::KeyCollision, describe(map)))
}
