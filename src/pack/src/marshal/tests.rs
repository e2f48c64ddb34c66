//! Hand-made data: what merges, what doesn't, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const V39: PythonVersion = PythonVersion { major: 3, minor: 9 };
const V311: PythonVersion = PythonVersion {
    major: 3,
    minor: 11,
};

/// A code object of 3.11 with these constants (marshalled, each).
fn code(constants: &[&[u8]]) -> Vec<u8> {
    nested(constants, &[b"z\x04file"])
}

/// `filename` is the record of the file name.
fn nested(constants: &[&[u8]], filename: &[&[u8]]) -> Vec<u8> {
    let mut data = b"\xe3".to_vec();
    data.extend([0; 20]);
    data.extend(b"s\x02\0\0\0\x97\0");
    data.extend([b')', constants.len() as u8]);
    data.extend(constants.concat());
    data.extend(b")\0)\0s\0\0\0\0");
    data.extend(filename.concat());
    data.extend(b"\xda\x08<module>\xda\x08<module>\x01\0\0\0s\0\0\0\0s\0\0\0\0");
    data
}

/// The constants of the canonical form, marshalled.
fn constants(data: &[u8]) -> Vec<u8> {
    let bytes = canonical(data, V311, "x").unwrap().bytes;
    assert_eq!(canonical(&bytes, V311, "x").unwrap().bytes, bytes);
    let end = bytes
        .windows(9)
        .position(|window| window == b")\0)\0s\0\0\0\0")
        .unwrap();
    bytes[1 + 20 + 7..end].to_vec()
}

#[test]
fn the_file_name_is_one_record_at_the_reported_place() {
    let inner = code(&[]);
    let data = code(&[&inner, &inner]);
    let result = canonical(&data, V311, "pkg/mödule.py").unwrap();
    let record = &result.bytes[result.filename_at as usize..];
    assert!(record.starts_with(b"\xf5\x0e\0\0\0pkg/m\xc3\xb6dule.py"));
    assert_eq!(
        result
            .bytes
            .windows(4)
            .filter(|window| window == b"file")
            .count(),
        0
    );
    assert_eq!(
        result
            .bytes
            .windows(4)
            .filter(|window| window == b"\xb6dul")
            .count(),
        1
    );
}

#[test]
fn equal_constants_become_references_by_first_use() {
    let data = code(&[
        b"\xfa\x03a b",
        b"z\x03a b",
        b"s\x03\0\0\0a b",
        b"i\0\0\x01\0",
        b"l\x02\0\0\0\0\0\x02\0",
    ]);
    assert_eq!(
        constants(&data),
        b")\x05\xfa\x03a br\0\0\0\0s\x03\0\0\0a b\xe9\0\0\x01\0r\x01\0\0\0"
    );
}

#[test]
fn small_integers_and_empty_tuples_are_written_out() {
    let data = code(&[b"\xe9\x05\0\0\0", b"r\x01\0\0\0", b"\xa9\0", b"r\x02\0\0\0"]);
    assert_eq!(constants(&data), b")\x04i\x05\0\0\0i\x05\0\0\0)\0)\0");
}

#[test]
fn zeros_of_both_signs_and_other_types_stay_apart() {
    let zero = [b"g".as_slice(), &0_f64.to_le_bytes()].concat();
    let minus = [b"g".as_slice(), &(-0_f64).to_le_bytes()].concat();
    let data = code(&[&zero, &minus, b"i\0\0\0\0", b"F", b"T", b"i\x01\0\0\0"]);
    let expected = [
        b")\x06".as_slice(),
        &zero,
        &minus,
        b"i\0\0\0\0FTi\x01\0\0\0",
    ]
    .concat();
    assert_eq!(constants(&data), expected);
}

#[test]
fn a_nan_keeps_its_identity() {
    let nan = [b"g".as_slice(), &f64::NAN.to_le_bytes()].concat();
    let flagged = [b"\xe7".as_slice(), &f64::NAN.to_le_bytes()].concat();
    let apart = code(&[&nan, &nan]);
    assert_eq!(
        constants(&apart),
        [b")\x02".as_slice(), &nan, &nan].concat()
    );
    let shared = code(&[&flagged, b"r\x01\0\0\0"]);
    assert_eq!(
        constants(&shared),
        [b")\x02".as_slice(), &flagged, b"r\0\0\0\0"].concat()
    );
}

#[test]
fn frozensets_are_sorted_by_content() {
    let one = code(&[b">\x04\0\0\0z\x01bz\x01ai\x07\0\0\0i\xff\xff\xff\xff"]);
    let other = code(&[b">\x04\0\0\0i\xff\xff\xff\xffZ\x01ai\x07\0\0\0\xfa\x01b"]);
    assert_eq!(constants(&one), constants(&other));
    assert_eq!(
        constants(&one),
        b")\x01>\x04\0\0\0i\xff\xff\xff\xffi\x07\0\0\0Z\x01aZ\x01b"
    );
}

#[test]
fn interning_depends_on_the_value_and_on_what_cpython_wrote() {
    // A name, a character that the process may have interned by chance, a text, a text interned.
    let data = code(&[
        b"z\x04name",
        b"Z\x01-",
        b"z\x03a b",
        b"Z\x03c d",
        b"z\x03c d",
    ]);
    assert_eq!(
        constants(&data),
        b")\x05Z\x04namez\x01-z\x03a b\xda\x03c dr\0\0\0\0"
    );
}

#[test]
fn lists_and_code_keep_their_identity() {
    assert_eq!(
        constants(&code(&[b"[\0\0\0\0", b"[\0\0\0\0"])),
        b")\x02[\0\0\0\0[\0\0\0\0"
    );
    assert_eq!(
        constants(&code(&[b"\xdb\0\0\0\0", b"r\x01\0\0\0"])),
        b")\x02\xdb\0\0\0\0r\0\0\0\0"
    );
    assert_eq!(
        constants(&code(&[b"{z\x01ai\x01\0\0\x000"])),
        b")\x01{Z\x01ai\x01\0\0\x000"
    );
    assert_eq!(
        constants(&code(&[b":Ni\x01\0\0\0N"])),
        b")\x01:Ni\x01\0\0\0N"
    );
}

#[test]
fn lone_surrogates_pass_and_other_bytes_do_not() {
    let data = code(&[b"u\x04\0\0\0\xed\xb2\x80x"]);
    assert_eq!(constants(&data), b")\x01u\x04\0\0\0\xed\xb2\x80x");
    for wrong in [
        b"u\x02\0\0\0\xff\xfe".as_slice(),
        b"z\x01\xe9",
        b"a\x01\0\0\0\x80",
    ] {
        assert!(matches!(
            canonical(&code(&[wrong]), V311, "x"),
            Err(MarshalError::String { .. })
        ));
    }
}

#[test]
fn what_is_not_one_code_object_is_refused() {
    let error = |data: &[u8]| canonical(data, V311, "x").unwrap_err();
    assert_eq!(error(b""), MarshalError::NotCode);
    assert_eq!(error(b"i\x01\0\0\0"), MarshalError::NotCode);
    assert_eq!(
        error(&[code(&[]), vec![0]].concat()),
        MarshalError::Trailing(1)
    );
    assert!(matches!(
        error(&code(&[b"Q"])),
        MarshalError::Type { code: b'Q', .. }
    ));
    assert!(matches!(
        error(&code(&[b"0"])),
        MarshalError::Type { code: b'0', .. }
    ));
    assert!(matches!(
        error(&code(&[b"(\xff\xff\xff\x7f"])),
        MarshalError::Length { .. }
    ));
    assert!(matches!(
        error(&code(&[b"s\xff\xff\xff\xff"])),
        MarshalError::Length { length: -1, .. }
    ));
    assert!(matches!(
        error(&code(&[b"l\x01\0\0\0\0\0"])),
        MarshalError::Integer { .. }
    ));
    assert!(matches!(
        error(&code(&[b"l\0\0\0\x80"])),
        MarshalError::Truncated { .. }
    ));
    let newer = PythonVersion {
        major: 3,
        minor: 15,
    };
    assert_eq!(
        canonical(&code(&[]), newer, "x").unwrap_err(),
        MarshalError::Version(newer)
    );
    // 3.11's code as 3.9's.
    assert!(canonical(&code(&[]), V39, "x").is_err());
    assert!(matches!(
        error(&nested(&[], &[b"N"])),
        MarshalError::Field {
            field: "co_filename",
            ..
        }
    ));
}

#[test]
fn references_name_complete_objects_only() {
    let error = |constant: &[u8]| canonical(&code(&[constant]), V311, "x").unwrap_err();
    // The code object itself, a tuple that would hold itself, an index that doesn't exist.
    assert!(matches!(
        error(b"r\0\0\0\0"),
        MarshalError::Reference { index: 0, .. }
    ));
    assert!(matches!(
        error(b"\xa9\x01r\x01\0\0\0"),
        MarshalError::Reference { index: 1, .. }
    ));
    assert!(matches!(
        error(b"r\xff\xff\xff\xff"),
        MarshalError::Reference {
            index: u32::MAX,
            ..
        }
    ));
}

#[test]
fn nesting_is_limited() {
    let deep = |levels| [b")\x01".repeat(levels), b"N".to_vec()].concat();
    assert!(canonical(&code(&[&deep(1990)]), V311, "x").is_ok());
    assert!(matches!(
        canonical(&code(&[&deep(100_000)]), V311, "x"),
        Err(MarshalError::Depth { .. })
    ));
}

#[test]
fn damaged_data_is_refused_or_read_but_never_panics() {
    let inner = code(&[
        b"z\x03a b",
        b">\x02\0\0\0z\x01bz\x01a",
        b"l\x04\0\0\0\x01\0\x02\0\x03\0\x04\0",
    ]);
    let data = code(&[
        &inner,
        b"\xa9\x02i\x01\0\0\0N",
        b"{z\x01aN0",
        b"u\x02\0\0\0\xc3\xa9",
        b"r\0\0\0\0",
    ]);
    for end in 0..data.len() {
        assert!(canonical(&data[..end], V311, "x").is_err());
    }
    for at in 0..data.len() {
        for byte in 0..=255 {
            let mut damaged = data.clone();
            damaged[at] = byte;
            for version in [V39, V311] {
                if let Ok(result) = canonical(&damaged, version, "x") {
                    assert_eq!(canonical(&result.bytes, version, "x").unwrap(), result);
                }
            }
        }
    }
}
