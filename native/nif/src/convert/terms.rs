//! Terms made of terms, off a scheduler thread; and what `rustler` would read too generously.

use rustler::sys::{self, ErlNifTerm};
use rustler::{Encoder, Env, Term};
use std::mem::MaybeUninit;

use super::MAX_MAP_FROM_ARRAYS;
use crate::atoms;
use crate::error::{Error, Why};

pub(super) fn make_list<'a>(env: Env<'a>, items: &[ErlNifTerm]) -> Result<Term<'a>, Error> {
    let length = u32::try_from(items.len());
    let length = length.map_err(|_| Error::unconvertible(Why::TooLarge, "list"))?;
    // SAFETY: `items` holds `length` terms of `env`, and the list is made in `env`.
    unsafe {
        let list = sys::enif_make_list_from_array(env.as_c_arg(), items.as_ptr(), length);
        Ok(Term::new(env, list))
    }
}

/// `None` when two keys became the same term.
pub(super) fn make_map<'a>(
    env: Env<'a>,
    keys: &[ErlNifTerm],
    values: &[ErlNifTerm],
) -> Option<Term<'a>> {
    let c_env = env.as_c_arg();
    let first = keys.len().min(MAX_MAP_FROM_ARRAYS);
    let mut map = MaybeUninit::uninit();
    // SAFETY: `keys` and `values` hold at least `first` terms of `env` each; few enough of them
    // for this function to be safe off a scheduler thread.
    let made = unsafe {
        let (keys, values) = (keys.as_ptr(), values.as_ptr());
        sys::enif_make_map_from_arrays(c_env, keys, values, first, map.as_mut_ptr())
    };
    if made == 0 {
        return None;
    }
    // SAFETY: initialised by the successful call above.
    let mut map = unsafe { map.assume_init() };
    for (key, value) in keys.iter().zip(values).skip(first) {
        let old = map;
        // SAFETY: `old` is a map of `env`; `map` is written when 1 is returned.
        if unsafe { sys::enif_make_map_put(c_env, old, *key, *value, &mut map) } == 0 {
            return None;
        }
    }
    // SAFETY: `map` was made in `env`.
    let map = unsafe { Term::new(env, map) };
    (map.map_size().ok()? == keys.len()).then_some(map)
}

pub(super) fn float<'a>(env: Env<'a>, value: f64) -> Term<'a> {
    if value.is_finite() {
        value.encode(env)
    } else if value.is_nan() {
        atoms::nan().encode(env)
    } else if value > 0.0 {
        atoms::infinity().encode(env)
    } else {
        atoms::neg_infinity().encode(env)
    }
}

/// The value of a float. `decode` would take an integer for one.
pub(super) fn as_float(term: Term<'_>) -> Option<f64> {
    let mut value = 0.0;
    // SAFETY: a term and its environment; writes to `value` when 1 is returned.
    let found =
        unsafe { sys::enif_get_double(term.get_env().as_c_arg(), term.as_c_arg(), &mut value) };
    (found == 1).then_some(value)
}
