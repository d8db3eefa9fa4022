//! Python's `logging` as events of Erlang: the configuration, and the function that the handler calls.
//!
//! A host sets the configuration on any thread, and blocks on nothing; the next job applies it, attached.

use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::atomic::Ordering;

use super::output::host;
use crate::host::LogRecord;
use crate::interpreter::{self, Interpreter};
use crate::python::code_cache::load;

/// The bit of a configuration that has warnings logged, too. The bits below it are the level.
const WARNINGS: u32 = 1 << 16;

/// The lowest bit of the number of the configuration, by which the same one is applied again.
const NUMBER: u32 = 1 << 17;

/// Sets the configuration: the least level of the records that are passed on, as Python counts, 0 for
/// none, with 65536 added if warnings are logged, too; and a number that makes it another one, see
/// [`numbered`]. The next job applies it.
pub fn set_configuration(configuration: u32) {
    if let Some(interpreter) = interpreter::get() {
        let logging = &interpreter.logging;
        logging.wanted.store(configuration, Ordering::Relaxed);
    }
}

/// Applies the configuration. Called by the first job after a change, attached.
pub(crate) fn apply(py: Python<'_>, interpreter: &Interpreter) {
    let logging = &interpreter.logging;
    let before = logging.applied.load(Ordering::Relaxed);
    let wanted = logging.wanted.load(Ordering::Relaxed);
    if logging.applied.swap(wanted, Ordering::Relaxed) == wanted {
        return;
    }
    let configure = || {
        let module = logging.module.get_or_try_init(py, || {
            let module = load(py, "logging", include_str!("logging.py"))?;
            module.setattr("_log", wrap_pyfunction!(log, &module)?)?;
            Ok::<_, PyErr>(module.unbind())
        })?;
        let args = (wanted % WARNINGS, wanted & WARNINGS != 0);
        module.bind(py).call_method1("configure", args).map(drop)
    };
    if let Err(error) = configure() {
        // The next job tries again.
        logging.applied.store(before, Ordering::Relaxed);
        error.write_unraisable(py, None);
    }
}

/// Returns a configuration with a number after that of `last`.
#[must_use]
pub fn numbered(configuration: u32, last: u32) -> u32 {
    (last & !(NUMBER - 1)).wrapping_add(NUMBER) | (configuration % NUMBER)
}

/// Passes a record to the host of the running code.
#[pyfunction]
#[pyo3(signature = (level, message, logger, file, line, function, /))]
fn log(
    py: Python<'_>,
    level: u32,
    message: &Bound<'_, PyAny>,
    logger: &Bound<'_, PyString>,
    file: &Bound<'_, PyString>,
    line: u32,
    function: &Bound<'_, PyString>,
) -> PyResult<()> {
    let text = |name: &Bound<'_, PyString>| name.to_string_lossy().into_owned();
    let record = LogRecord {
        level,
        message: message.str()?.to_string_lossy().into_owned(),
        logger: text(logger),
        file: text(file),
        line,
        function: text(function),
    };
    host(py)?.log(py, record);
    Ok(())
}
