//! Makes lists, tuples and maps of terms. Called by the writer on workers; `small_map` also by NIFs
//! on scheduler threads. Nothing here blocks or needs the GIL.

use rustler::sys::{self, ErlNifTerm};
use rustler::{Atom, Encoder, Env, Term};
use std::mem::MaybeUninit;

/// `enif_make_map_from_arrays` with 129 keys or more crashes the VM when called off a scheduler
/// thread (OTP 25, in `erts_qsort`). Bigger maps are grown by `enif_make_map_put`, which is safe.
pub(super) const MAX_MAP_FROM_ARRAYS: usize = 128;

/// Makes a list; `None` if there are more items than `enif_make_list_from_array` takes.
pub(super) fn make_list(env: Env<'_>, items: &[ErlNifTerm]) -> Option<ErlNifTerm> {
    let length = u32::try_from(items.len()).ok()?;
    // SAFETY: `items` holds `length` terms of `env`, and the list is made in `env`.
    Some(unsafe { sys::enif_make_list_from_array(env.as_c_arg(), items.as_ptr(), length) })
}

/// Makes a tuple; `None` if there are more elements than `enif_make_tuple_from_array` takes.
pub(super) fn make_tuple(env: Env<'_>, elements: &[ErlNifTerm]) -> Option<ErlNifTerm> {
    let arity = u32::try_from(elements.len()).ok()?;
    // SAFETY: `elements` holds `arity` terms of `env`, which the codec keeps within the limit.
    Some(unsafe { sys::enif_make_tuple_from_array(env.as_c_arg(), elements.as_ptr(), arity) })
}

/// Makes a map of `entries`, in which keys and values alternate; `None` if two keys are the same
/// term.
pub(super) fn make_map(env: Env<'_>, entries: &[ErlNifTerm]) -> Option<ErlNifTerm> {
    let c_env = env.as_c_arg();
    let (pairs, _) = entries.as_chunks::<2>();
    let (first, rest) = pairs.split_at(pairs.len().min(MAX_MAP_FROM_ARRAYS));
    let (keys, values): (Vec<_>, Vec<_>) = first.iter().map(|[key, value]| (*key, *value)).unzip();
    let mut map = MaybeUninit::uninit();
    // SAFETY: `keys` and `values` hold `first.len()` terms of `env` each, few enough of them for
    // the function to be safe off a scheduler thread.
    let made = unsafe {
        let (keys, values) = (keys.as_ptr(), values.as_ptr());
        sys::enif_make_map_from_arrays(c_env, keys, values, first.len(), map.as_mut_ptr())
    };
    if made == 0 {
        return None;
    }
    // SAFETY: `enif_make_map_from_arrays` has not returned 0, so `map` is initialised.
    let mut map = unsafe { map.assume_init() };
    for [key, value] in rest {
        let old = map;
        // SAFETY: `old` is a map of `env`; `map` is written when 1 is returned.
        if unsafe { sys::enif_make_map_put(c_env, old, *key, *value, &mut map) } == 0 {
            return None;
        }
    }
    let mut size = 0;
    // SAFETY: `map` is a map of `env`; writes to `size`.
    unsafe { sys::enif_get_map_size(c_env, map, &mut size) };
    (size == pairs.len()).then_some(map)
}

/// Makes a small map with distinct atoms as keys.
pub(crate) fn small_map<'a>(env: Env<'a>, pairs: &[(Atom, Term<'a>)]) -> Term<'a> {
    let put = |map: Term<'a>, (key, value): &(Atom, Term<'a>)| {
        // `map_put` fails only if `map` is no map.
        map.map_put(key.encode(env), *value).unwrap_or(map)
    };
    pairs.iter().fold(Term::map_new(env), put)
}
