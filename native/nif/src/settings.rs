//! The NIFs by which the application sets how its values are converted. Called before it takes a job; they
//! block on nothing.

use py_codec::NoneAtom;
use py_engine::namespace::conversion;
use rustler::{Atom, Error as NifError, NifResult};

use crate::atoms;

/// Sets how values are converted: the atom that `None` becomes. Called at each start of the application.
#[rustler::nif]
fn configure(none: &str) -> NifResult<Atom> {
    conversion::set_none(NoneAtom::from_name(none).ok_or(NifError::BadArg)?);
    Ok(atoms::ok())
}

/// Begins or ends a preload: the encoders and decoders that its code registers are those of all leases.
#[rustler::nif]
fn set_preload(is_preload: bool) -> Atom {
    conversion::set_preload(is_preload);
    atoms::ok()
}

