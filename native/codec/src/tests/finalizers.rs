//! Tests with finalizers that run in the middle of a walk and change its objects. Up to Python 3.11 a
//! collection starts at any allocation; from 3.12 on only between instructions, and these tests only
//! compare.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::{attached, encode, eval, exec};

/// Python code with a class whose objects are cycles: the finalizer of one calls `change`, and makes
/// another one.
const CHANGER: &str = "
import gc
class Changer:
    def __init__(self): self.me = self
    def __del__(self):
        global runs
        runs += 1
        if runs < 2000: Changer()
        change()
runs = 0
";

/// Serializes the tests, since the interpreter has one threshold for collections. Locked detached: a
/// thread that waited for the lock with the GIL would block the thread that has the lock.
static THRESHOLD: Mutex<()> = Mutex::new(());

/// Encodes `x` while a collection runs at each allocation; each set in `x` is an allocation. Returns
/// whether the walk has succeeded.
fn walk(globals: &Bound<'_, PyDict>, py: Python<'_>) -> bool {
    py.run(c"gc.set_threshold(1, 1, 1); Changer()", Some(globals), None)
        .unwrap();
    let object = globals.get_item("x").unwrap().unwrap();
    let encoded = encode(&object);
    py.run(c"gc.set_threshold(700, 10, 10)", Some(globals), None)
        .unwrap();
    encoded.is_ok()
}

fn walk_with(code: &str) {
    let _guard = THRESHOLD.lock();
    attached(|py| {
        let globals = exec(py, &format!("{CHANGER}{code}"));
        let runs = || -> u32 {
            globals
                .get_item("runs")
                .unwrap()
                .unwrap()
                .extract()
                .unwrap()
        };
        for _ in 0..100 {
            walk(&globals, py);
            if runs() > 0 {
                break;
            }
            // Another thread of this process is in the middle of a collection, which admits no other.
            py.detach(|| thread::sleep(Duration::from_millis(1)));
        }
        let (major, minor) = (py.version_info().major, py.version_info().minor);
        assert!(
            runs() > 0 || (major, minor) > (3, 11),
            "no finalizer has run"
        );
    });
}

#[test]
fn a_list_may_shrink() {
    walk_with("x = [{n} for n in range(1000)]\ndef change(): x and x.pop()");
    walk_with("x = [[{n}, 'a' * 50] for n in range(1000)]\ndef change(): x.clear()");
}

#[test]
fn a_list_may_grow() {
    walk_with("x = [{n} for n in range(100)]\ndef change(): x.extend([{1}, 'a', 2**70] * 3)");
}

#[test]
fn items_may_be_replaced() {
    walk_with(
        "x = [[{n}, 2**70 + n, 'a%d' % n] for n in range(500)]
def change():
    for item in x: item[:] = ['b', {2}, 2**80]",
    );
}

#[test]
fn a_dict_may_change() {
    walk_with(
        "x = [{'a': {1}, 'b': 2**70, 'c': 'd' * 40, 'e': [{2}]} for n in range(500)]
def change():
    for item in x:
        item.clear()
        item.update({('k', runs): {3}, 'b': 2**71, b'b%d' % runs: 'x'})",
    );
    walk_with(
        "x = [{frozenset({n}): ['v%d' % n, str(n) * 40]} for n in range(500)]
def change():
    for item in x: item.clear()",
    );
    walk_with("x = {n: {n} for n in range(500)}\ndef change(): x[runs + 1000] = x.pop(runs, {1})");
}

#[test]
fn text_that_is_an_error_may_go() {
    walk_with(
        "x = [{1}] * 50 + [chr(0xd800) + str(n) for n in range(50)]\ndef change(): x.clear()",
    );
}

/// Checks that parts of an object from before and after a change make a well-formed term.
#[test]
fn what_was_written_is_a_term() {
    let _guard = THRESHOLD.lock();
    attached(|py| {
        let code = "x = [{'k%d' % n: {n}, 'l': [n]} for n in range(300)]
def change():
    for item in x: item['m%d' % runs] = {1}";
        let globals = exec(py, &format!("{CHANGER}{code}"));
        py.run(
            c"gc.set_threshold(1, 1, 1); Changer()",
            Some(&globals),
            None,
        )
        .unwrap();
        let encoded = encode(&globals.get_item("x").unwrap().unwrap());
        py.run(c"gc.set_threshold(700, 10, 10)", Some(&globals), None)
            .unwrap();
        assert!(super::decoded(py, &encoded.unwrap()).is_ok());
    });
}

/// Checks that no finalizer finds a list with null items, whose use would crash the process.
#[test]
fn a_list_is_not_found_before_it_is_full() {
    let _guard = THRESHOLD.lock();
    attached(|py| {
        let code = "def change():
    for found in gc.get_objects():
        if type(found) is list: list(found)";
        let globals = exec(py, &format!("{CHANGER}{code}"));
        let bytes = encode(&eval(py, "[[[n], (n,)] for n in range(50)]")).unwrap();
        py.run(
            c"gc.set_threshold(1, 1, 1); Changer()",
            Some(&globals),
            None,
        )
        .unwrap();
        let read = super::decoded(py, &bytes);
        py.run(c"gc.set_threshold(700, 10, 10)", Some(&globals), None)
            .unwrap();
        assert!(read.unwrap().len().unwrap() == 50);
    });
}
