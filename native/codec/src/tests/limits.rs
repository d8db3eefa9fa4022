//! Tests of the limits in both directions, and of how soon a conversion stops.

use pyo3::prelude::*;
use std::cell::Cell;

use super::{attached, decoded, encode, eval, exec, failure};
use crate::{CHECK_INTERVAL, Error, Keys, MAX_DEPTH, NoneAtom, Term, Writer, Written, write};

/// A writer that drops all parts.
struct Nothing;

impl Writer for Nothing {
    fn none(&mut self, _atom: NoneAtom) -> Written {
        Ok(())
    }
    fn boolean(&mut self, _: bool) -> Written {
        Ok(())
    }
    fn atom(&mut self, _: &'static str) -> Written {
        Ok(())
    }
    fn integer(&mut self, _: i64) -> Written {
        Ok(())
    }
    fn big_integer(&mut self, _: bool, _: &[u8]) -> Written {
        Ok(())
    }
    fn float(&mut self, _: f64) -> Written {
        Ok(())
    }
    fn binary(&mut self, _: &[u8], _: Option<&Bound<'_, PyAny>>) -> Written {
        Ok(())
    }
    fn opaque(&mut self, _: &Term) -> Written {
        Ok(())
    }
    fn object(&mut self, _: &Bound<'_, PyAny>) -> Written {
        Ok(())
    }
    fn begin_list(&mut self, _: usize) -> Written {
        Ok(())
    }
    fn end_list(&mut self, _: usize) -> Written {
        Ok(())
    }
    fn begin_tuple(&mut self, _: usize) -> Written {
        Ok(())
    }
    fn end_tuple(&mut self, _: usize) -> Written {
        Ok(())
    }
    fn begin_map(&mut self, _: usize) -> Written {
        Ok(())
    }
    fn end_map(&mut self, _: usize, _: Keys) -> Written {
        Ok(())
    }
}

fn walk(object: &Bound<'_, PyAny>) -> String {
    failure(write(object, &mut Nothing, &|| false))
}

#[test]
fn what_is_too_large_is_an_error() {
    attached(|py| {
        for (value, what) in [
            ("[[[0] * 512] * 512] * 256", "int"),
            ("['a' * (1 << 20)] * 2049", "bytes"),
            ("[b'a' * (1 << 20)] * 2049", "bytes"),
            ("[bytearray(1 << 20)] * 2049", "bytes"),
            ("(0,) * (1 << 24)", "tuple"),
            ("1 << 4194240", "int"),
            ("[1 << 4194239] * 1025", "int"),
        ] {
            let expected = format!("cannot convert (TooLarge): {what}");
            assert_eq!(walk(&eval(py, value)), expected, "{value}");
        }
        for value in [
            "['a' * (1 << 20)] * 2048",
            "1 << 4194239",
            "-(1 << 4194239)",
        ] {
            assert_eq!(walk(&eval(py, value)), "nothing", "{value}");
        }
    });
}

#[test]
fn cycles_are_found_and_shared_parts_are_not() {
    attached(|py| {
        for (code, class) in [
            ("x = []; x.append(x)", "list"),
            ("y = {}; x = [y]; y['x'] = [1, (x,)]", "list"),
            ("x = {}; x['x'] = x", "dict"),
            ("x = []; t = (x,); x.append(t)", "list"),
        ] {
            let object = exec(py, code).get_item("x").unwrap().unwrap();
            let expected = format!("cannot convert (Cycle): {class}");
            assert_eq!(walk(&object), expected, "{code}");
        }
        let shared = exec(py, "y = [1]; x = [y, y, {'y': y}]");
        let shared = shared.get_item("x").unwrap().unwrap();
        assert_eq!(walk(&shared), "nothing");
    });
}

#[test]
fn nesting_is_bounded_both_ways() {
    attached(|py| {
        for wrap in ["[x]", "(x,)", "{'a': x}", "{x}"] {
            for (depth, is_fine) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false)] {
                let wrap = wrap.replace("{x}", "frozenset({x})");
                let code = format!("x = 0\nfor _ in range({depth}): x = {wrap}");
                let object = exec(py, &code).get_item("x").unwrap().unwrap();
                let encoded = encode(&object);
                assert_eq!(encoded.is_ok(), is_fine, "{wrap} {depth}");
                if let Ok(bytes) = encoded {
                    assert!(decoded(py, &bytes).is_ok(), "{wrap}");
                }
            }
        }
    });
}

/// Makes a `must_stop` that returns `true` from the second call on.
fn at_second_call() -> impl Fn() -> bool {
    let calls = Cell::new(0);
    move || {
        calls.set(calls.get() + 1);
        calls.get() > 1
    }
}

#[test]
fn a_walk_stops_when_it_must() {
    attached(|py| {
        let small = eval(py, &format!("[0] * {}", CHECK_INTERVAL - 2));
        let big = eval(py, &format!("[0] * {}", 2 * CHECK_INTERVAL));
        let nested = eval(
            py,
            &format!("[{{'a': [n]}} for n in range({CHECK_INTERVAL})]"),
        );
        let stopped = "the conversion was interrupted";
        assert_eq!(failure(write(&small, &mut Nothing, &|| true)), "nothing");
        for object in [big, nested] {
            let ended = write(&object, &mut Nothing, &at_second_call());
            assert_eq!(failure(ended), stopped);
        }
    });
}

#[test]
fn a_reader_stops_when_it_must() {
    attached(|py| {
        for value in [
            "list(range({}))",
            "{{n: n for n in range({})}}",
            "[[n] for n in range({})]",
        ] {
            let value = value.replace("{{", "{").replace("}}", "}");
            let object = eval(py, &value.replace("{}", &(2 * CHECK_INTERVAL).to_string()));
            let bytes = encode(&object).unwrap();
            let read = crate::etf::decode(py, &bytes, &at_second_call());
            assert!(matches!(read, Err(Error::Interrupted)), "{value}");
        }
    });
}

#[test]
fn text_with_lone_surrogates_is_an_error() {
    attached(|py| {
        let expected = "cannot convert (NotUnicode): a\u{fffd}\u{fffd}\u{fffd}";
        for value in [
            "'a\\ud800'",
            "['a\\ud800']",
            "{'a\\ud800': 1}",
            "{1: 'a\\ud800'}",
        ] {
            assert_eq!(walk(&eval(py, value)), expected, "{value}");
            // No exception of Python is left set.
            assert!(PyErr::take(py).is_none());
        }
    });
}
