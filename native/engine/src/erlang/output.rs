//! The standard output and error of Python code: the streams, and how they find the job of the code that
//! writes. Called on any thread that runs Python code, attached; blocks only as [`Host::output`] does.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::asyncio;
use crate::call_stack;
use crate::host::{Host, Stream};
use crate::interpreter;
use crate::python::code_cache::load;
use crate::python::output;

/// Replaces `sys.stdout` and `sys.stderr`. Called once, by `start`, when the interpreter is set up.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let module = load(py, "output", include_str!("output.py"))?;
    module.setattr("_write", wrap_pyfunction!(write, &module)?)?;
    module.setattr("_write_bytes", wrap_pyfunction!(write_bytes, &module)?)?;
    module.setattr("_flush", wrap_pyfunction!(flush, &module)?)?;
    module.setattr("_inherits", wrap_pyfunction!(inherits, &module)?)?;
    let sys = interpreter::find(py)?.sys.bind(py);
    for (number, name) in ["stdout", "stderr"].into_iter().enumerate() {
        let original = sys.getattr(name)?;
        // A process without the descriptor has no stream.
        if !original.is_none() {
            let stream = module.call_method1("Output", (number, format!("<{name}>"), original))?;
            sys.setattr(name, stream)?;
        }
    }
    Ok(())
}

/// Sets whether text goes to the descriptors of the process instead of the host. Called at each start of
/// the host.
pub fn set_inherits(inherits: bool) {
    if let Some(interpreter) = interpreter::get() {
        interpreter
            .inherits_output
            .store(inherits, Ordering::Relaxed);
    }
}

/// Returns the host of the output of a thread that the running code starts; `None` if the code belongs to
/// no job.
pub(crate) fn host_of_new_thread(py: Python<'_>) -> Option<Arc<dyn Host>> {
    if call_stack::innermost().is_none() {
        return output::thread_host();
    }
    asyncio::host(py).ok()?.of_threads()
}

/// Returns the host that gets what the running code writes and logs.
pub(super) fn host(py: Python<'_>) -> PyResult<Arc<dyn Host>> {
    if call_stack::innermost().is_none()
        && let Some(host) = output::thread_host()
    {
        return Ok(host);
    }
    asyncio::host(py)
}

#[pyfunction]
fn inherits() -> bool {
    interpreter::get().is_none_or(|found| found.inherits_output.load(Ordering::Relaxed))
}

/// Writes text; returns the number of its characters.
#[pyfunction]
#[pyo3(signature = (stream, original, text, /))]
fn write<'py>(
    stream: usize,
    original: &Bound<'py, PyAny>,
    text: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = text.py();
    if inherits() {
        return original.call_method1(intern!(py, "write"), (text,));
    }
    let Ok(text) = text.cast::<PyString>() else {
        let text = format!(
            "write() argument must be str, not {}",
            text.get_type().name()?
        );
        return Err(PyTypeError::new_err(text));
    };
    let stream = stream_of(stream);
    match text.to_str() {
        Ok(whole) => output::write(py, &host(py)?, stream, whole),
        // Lone surrogates have no form in UTF-8.
        Err(_) => {
            let escape = (intern!(py, "utf-8"), intern!(py, "backslashreplace"));
            let bytes: Vec<u8> = text
                .call_method1(intern!(py, "encode"), escape)?
                .extract()?;
            let escaped = String::from_utf8_lossy(&bytes).into_owned();
            output::write(py, &host(py)?, stream, &escaped);
        }
    }
    text.len()?
        .into_pyobject(py)
        .map(Bound::into_any)
        .map_err(PyErr::from)
}

/// Writes bytes, the text of which is UTF-8; returns their number.
#[pyfunction]
#[pyo3(signature = (stream, original, data, /))]
fn write_bytes<'py>(
    stream: usize,
    original: &Bound<'py, PyAny>,
    data: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    if inherits() {
        let buffer = original.getattr(intern!(py, "buffer"))?;
        return buffer.call_method1(intern!(py, "write"), (data,));
    }
    output::write_bytes(py, &host(py)?, stream_of(stream), data.as_bytes());
    data.len()?
        .into_pyobject(py)
        .map(Bound::into_any)
        .map_err(PyErr::from)
}

fn stream_of(number: usize) -> Stream {
    if number == 0 {
        Stream::Stdout
    } else {
        Stream::Stderr
    }
}

#[pyfunction]
#[pyo3(signature = (original, /))]
fn flush(py: Python<'_>, original: &Bound<'_, PyAny>) -> PyResult<()> {
    if inherits() {
        original.call_method0(intern!(py, "flush"))?;
    } else {
        output::flush(py);
    }
    Ok(())
}
