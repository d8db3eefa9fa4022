//! Tests of arguments, keyword arguments, names and views, and of the text of a term in an error.

use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use super::{attached, decoded, encode, eval, reader, repr};
use crate::etf::{Encoder, Part, Parts, opaque_term};
use crate::frame::Body;
use crate::{read_arguments, read_kwargs, read_name, write};

fn never() -> bool {
    false
}

#[test]
fn arguments_are_the_items_of_a_list() {
    attached(|py| {
        let bytes = encode(&eval(py, "[1, [2], 'a']")).unwrap();
        let arguments = read_arguments(py, &mut reader(&bytes), &never).unwrap();
        let arguments: Vec<_> = arguments.iter().map(repr).collect();
        assert_eq!(arguments, ["1", "[2]", "'a'"]);
        // A list that is encoded as bytes.
        let arguments = read_arguments(py, &mut reader(&[131, 107, 0, 2, 7, 8]), &never).unwrap();
        assert_eq!(arguments.len(), 2);
        for (bytes, text) in [
            (&[131, 97, 1][..], "1"),
            (&[131, 104, 1, 97, 1], "{1}"),
            (&[131, 108, 0, 0, 0, 1, 97, 1, 97, 2], "[1|2]"),
        ] {
            let error = read_arguments(py, &mut reader(bytes), &never).unwrap_err();
            let expected = format!("cannot convert (ImproperList): {text}");
            assert_eq!(error.to_string(), expected);
        }
    });
}

#[test]
fn keyword_arguments_have_names() {
    attached(|py| {
        // Keys: an atom, a binary, and an atom that is a constant as a value.
        let bytes = b"\x83t\0\0\0\x03w\x01aa\x01m\0\0\0\x01bw\x04nonew\x04truea\x03";
        let kwargs = read_kwargs(py, &mut reader(bytes), &never).unwrap();
        assert_eq!(repr(&kwargs), "{'a': 1, 'b': None, 'true': 3}");
        for (bytes, text) in [
            (
                &b"\x83t\0\0\0\x01a\x01a\x02"[..],
                "cannot convert (NotUnicode): 1",
            ),
            (
                b"\x83t\0\0\0\x01m\0\0\0\x01\xffa\x02",
                "cannot convert (NotUnicode): <<\"\u{fffd}\">>",
            ),
            (
                b"\x83t\0\0\0\x02w\x01aa\x01m\0\0\0\x01aa\x02",
                "cannot convert (KeyCollision): #{a => 1,<<\"a\">> => 2}",
            ),
            (b"\x83j", "malformed external term at byte 2: not a map"),
        ] {
            let error = read_kwargs(py, &mut reader(bytes), &never).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    });
}

#[test]
fn a_name_is_the_text_of_an_atom_or_a_binary() {
    attached(|py| {
        for bytes in [&b"\x83w\x04true"[..], b"\x83m\0\0\0\x04true"] {
            let name = read_name(py, &mut reader(bytes)).unwrap();
            assert_eq!(name.to_string(), "true");
        }
        assert!(read_name(py, &mut reader(b"\x83M\0\0\0\x01\x04\xf0")).is_err());
    });
}

#[test]
fn a_view_is_read_only_and_outlives_the_input() {
    attached(|py| {
        let input = b"\x83h\x02w\x04viewm\0\0\0\x03abc".to_vec();
        let view = decoded(py, &input).unwrap();
        drop(input);
        assert!(view.is_instance_of::<PyMemoryView>());
        assert_eq!(repr(&view.call_method0("tobytes").unwrap()), "b'abc'");
        assert!(view.getattr("readonly").unwrap().is_truthy().unwrap());
        assert!(view.set_item(0, 1).is_err());
    });
}

#[test]
fn opaque_terms_are_compared_and_hashed() {
    attached(|py| {
        let pid = |id: u8| {
            let bytes = [131, 88, 119, 1, b'a', 0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0, 0];
            decoded(py, &bytes).unwrap()
        };
        let reference = decoded(py, &[131, 101, 119, 1, b'a', 0, 0, 0, 1, 0]).unwrap();
        assert!(pid(1).eq(pid(1)).unwrap() && pid(1).ne(pid(2)).unwrap());
        assert_eq!(pid(1).hash().unwrap(), pid(1).hash().unwrap());
        assert!(pid(1).lt(pid(2)).unwrap() && reference.lt(pid(1)).unwrap());
        assert!(!pid(1).eq(1).unwrap());
        assert_eq!(
            pid(1).get_type().getattr("__module__").unwrap().to_string(),
            "erlang"
        );
    });
}

#[test]
fn the_text_of_a_term_is_its_beginning() {
    attached(|py| {
        let long = "{1: 'v', 1.0 + 0.5: list(range(10**5)), True + 1: -2**70, (): b'\\xff' * 300}";
        let mut bytes = encode(&eval(py, long)).unwrap();
        // Adds an entry, with a key that the map has already.
        bytes[5] += 1;
        bytes.extend([97, 1, 106]);
        let error = decoded(py, &bytes).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot convert (KeyCollision): #{1 => <<\"v\">>,1.5 => [0,1,2,3")
        );
        assert!(error.ends_with("…]…}") && error.len() < 300, "{error}");
        for (key, text) in [
            ("[2**70]", "[<big integer>]"),
            (
                "[b'a' * 300]",
                &format!("[<<\"{}\"…>>]", "a".repeat(200))[..],
            ),
            ("[1.5, 'a', (1,), {}]", "[1.5,<<\"a\">>,{1},#{}]"),
        ] {
            let mut bytes = vec![131, 116, 0, 0, 0, 1];
            bytes.extend(&encode(&eval(py, key)).unwrap()[1..]);
            bytes.extend([97, 1]);
            let error = decoded(py, &bytes).unwrap_err().to_string();
            assert_eq!(error, format!("cannot convert (UnhashableKey): {text}"));
        }
    });
}

#[test]
fn a_term_without_a_form_is_given_back_whole() {
    attached(|py| {
        // `[1 | 2]`.
        let list = [108, 0, 0, 0, 1, 97, 1, 97, 2];
        let term = Bound::new(py, opaque_term(&list)).unwrap();
        let mut encoder = Encoder::after(Body::default(), None);
        assert!(write(term.as_any(), &mut encoder, &|| false).is_ok());
        assert!(encoder.is_special());
        let body = encoder.into_body();
        let mut parts = Parts::new(&body.bytes).unwrap();
        assert_eq!(parts.take().unwrap(), Part::Opaque(&list));
        parts.finish().unwrap();
    });
}
