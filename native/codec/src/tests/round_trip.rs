//! Tests that encode objects and decode them again, and tests of the encoded bytes.

use super::{attached, decoded, encode, eval, failure, repr};

#[test]
fn a_value_comes_back_as_itself() {
    let values = [
        "0",
        "255",
        "256",
        "-1",
        "2**31 - 1",
        "2**31",
        "-2**31",
        "-2**31 - 1",
        "2**63 - 1",
        "2**63",
        "-2**63",
        "-2**63 - 1",
        "2**64",
        "10**100",
        "-10**1000",
        "2**(8*255)",
        "2**(8*256)",
        "0.0",
        "-0.0",
        "1.5",
        "5e-324",
        "1.7976931348623157e308",
        "True",
        "False",
        "None",
        "''",
        "'abc'",
        "'grün'",
        "'日本'",
        "'\\x00'",
        "'x' * 100000",
        "[]",
        "()",
        "{}",
        "[1, 2.0, 'a', None, True]",
        "(1, (2,), [3])",
        "tuple(range(300))",
        "list(range(70000))",
        "{'a': 1, 'b': {'c': [2]}}",
        "{n: str(n) for n in range(1000)}",
        "{(1, 'a'): ()}",
        "{1.5: 'a', 'b': 2, None: 3, True: 4}",
        "b'\\xff\\x00'",
        "{'k': [{'n': (None, [])}]}",
        "[[[]], [[], [()]]]",
        "{'a': 2**70, 'b': 1, 'c': [1], 'd': 'e'}",
    ];
    attached(|py| {
        for value in values {
            let object = eval(py, value);
            let bytes = encode(&object).unwrap();
            let again = decoded(py, &bytes).unwrap();
            assert_eq!(repr(&again), repr(&object), "{value}");
        }
    });
}

#[test]
fn a_value_with_another_form_comes_back_in_it() {
    let values = [
        ("bytearray(b'ab')", "'ab'"),
        ("memoryview(b'\\xfe')", "b'\\xfe'"),
        ("memoryview(b'abcdef')[::2]", "'ace'"),
        ("{7}", "[7]"),
        ("frozenset({'a'})", "['a']"),
        ("float('nan')", "'nan'"),
        ("float('inf')", "'infinity'"),
        ("float('-inf')", "'neg_infinity'"),
        ("b'text'", "'text'"),
        ("type('N', (int,), {'__index__': None})(7)", "7"),
        (
            "type('N', (int,), {'bit_length': None, 'to_bytes': None, '__abs__': None})(-2**70)",
            "-1180591620717411303424",
        ),
        ("type('F', (float,), {'__float__': None})(1.5)", "1.5"),
        ("type('S', (str,), {'encode': None})('s')", "'s'"),
        (
            "type('L', (list,), {'__iter__': None, '__len__': None})([1])",
            "[1]",
        ),
        (
            "type('D', (dict,), {'__iter__': None, 'items': None})({'a': 1})",
            "{'a': 1}",
        ),
        (
            "type('T', (tuple,), {'__getitem__': None})((1, 2))",
            "(1, 2)",
        ),
        ("type('B', (bytes,), {'__bytes__': None})(b'b')", "'b'"),
        ("type('S', (set,), {'__iter__': None})({1})", "[1]"),
    ];
    attached(|py| {
        for (value, expected) in values {
            let bytes = encode(&eval(py, value)).unwrap();
            assert_eq!(repr(&decoded(py, &bytes).unwrap()), expected, "{value}");
        }
    });
}

/// Checks that a value has the same bytes as `term_to_binary` writes.
#[test]
fn the_bytes_of_a_value_are_those_of_the_beam() {
    let values: [(&str, &[u8]); 16] = [
        ("200", &[97, 200]),
        ("-1", &[98, 255, 255, 255, 255]),
        ("2**31", &[110, 4, 0, 0, 0, 0, 128]),
        ("-2**63", &[110, 8, 1, 0, 0, 0, 0, 0, 0, 0, 128]),
        ("2**64", &[110, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ("1.0", &[70, 63, 240, 0, 0, 0, 0, 0, 0]),
        ("True", b"w\x04true"),
        ("False", b"w\x05false"),
        ("None", b"w\x04none"),
        ("'a'", &[109, 0, 0, 0, 1, 97]),
        ("[]", &[106]),
        ("[7]", &[108, 0, 0, 0, 1, 97, 7, 106]),
        ("()", &[104, 0]),
        ("(7,)", &[104, 1, 97, 7]),
        ("{}", &[116, 0, 0, 0, 0]),
        ("{1: 2}", &[116, 0, 0, 0, 1, 97, 1, 97, 2]),
    ];
    attached(|py| {
        for (value, expected) in values {
            let bytes = encode(&eval(py, value)).unwrap();
            assert_eq!(bytes[0], 131);
            assert_eq!(&bytes[1..], expected, "{value}");
        }
    });
}

#[test]
fn what_cannot_be_carried_is_refused() {
    attached(|py| {
        for value in [
            "object()",
            "[1, [object()]]",
            "{'a': len}",
            "range(3)",
            "1j",
        ] {
            assert_eq!(failure(encode(&eval(py, value))), "refused", "{value}");
        }
        let mut encoder = crate::etf::Encoder::new(3);
        let refused = crate::write(&eval(py, "['abc', b'abcd']"), &mut encoder, &|| false);
        assert_eq!(failure(refused), "refused");
    });
}

#[test]
fn two_keys_that_become_one_are_an_error() {
    let collision = "cannot convert (KeyCollision): dict";
    attached(|py| {
        for value in [
            "{'a': 1, b'a': 2}",
            "{(1, 'a'): 1, 5: 2, (1, b'a'): 3}",
            "[{None: 1, 2: 3}, {frozenset({7}): 1, frozenset({7, 7}): 2, 'x': 3, b'x': 4}]",
        ] {
            assert_eq!(failure(encode(&eval(py, value))), collision, "{value}");
        }
        // The keys of these become different terms.
        for value in ["{1: 1, 1.5: 2, True + 1: 3}", "{'true': 1, True: 2}"] {
            assert!(encode(&eval(py, value)).is_ok(), "{value}");
        }
    });
}
