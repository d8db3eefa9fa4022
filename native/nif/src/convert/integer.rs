//! Big integers in the external term format, the one door to them that `erl_nif` has. Runs on
//! workers, attached.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};

use crate::error::{Error, Why};

/// Sign and little-endian magnitude of a big integer in the external term format:
/// `131, 110, N:8, Sign:8, …` or `131, 111, N:32, Sign:8, …`
/// (<https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>).
pub(super) fn parse(external: &[u8]) -> Option<(bool, &[u8])> {
    match external {
        [131, 110, _, sign, magnitude @ ..] => Some((*sign != 0, magnitude)),
        [131, 111, _, _, _, _, sign, magnitude @ ..] => Some((*sign != 0, magnitude)),
        _ => None,
    }
}

/// An integer of any size in the external term format; `negative` says its sign.
pub(super) fn format(number: &Bound<'_, PyInt>, negative: bool) -> Result<Vec<u8>, Error> {
    /// Above it the BEAM's own arithmetic ends with `system_limit`: 2^22 bits less one word.
    const MAX_SIZE: usize = (1 << 22) / 8 - 8;
    let too_large = || Error::unconvertible(Why::TooLarge, "int");
    let py = number.py();
    // Subclasses may override these: the methods of `int` itself are called.
    let int = py.get_type::<PyInt>();
    let magnitude = int.call_method1(intern!(py, "__abs__"), (number,))?;
    let bits: usize = int
        .call_method1(intern!(py, "bit_length"), (number,))?
        .extract()?;
    let size = bits.div_ceil(8);
    if size > MAX_SIZE {
        return Err(too_large());
    }
    let little = intern!(py, "little");
    let digits = int.call_method1(intern!(py, "to_bytes"), (magnitude, size, little))?;
    let digits = digits.cast::<PyBytes>().map_err(PyErr::from)?;
    let length = u32::try_from(size).map_err(|_| too_large())?;
    let mut external = Vec::with_capacity(size + 7);
    external.extend([131, 111]); // LARGE_BIG_EXT, which may hold a small one as well.
    external.extend(length.to_be_bytes());
    external.push(u8::from(negative));
    external.extend(digits.as_bytes());
    Ok(external)
}
