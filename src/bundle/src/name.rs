//! What a path inside a bundle may be, and how one that isn't UTF-8 is written in a zip.

use std::fmt::Write as _;

use crate::{Error, Result, limits};

/// Checks a path relative to the bundle's top: bytes, `/` between names, no `/` at either end.
///
/// # Errors
/// [`Error::Name`] for an empty, absolute, overlong or escaping path, and for NUL bytes.
pub fn check(path: &[u8]) -> Result<()> {
    let refuse = |why| {
        Err(Error::Name {
            name: escape(path),
            why,
        })
    };
    if path.len() > limits::PATH_BYTES {
        return refuse("path is too long");
    }
    if path.contains(&0) {
        return refuse("NUL byte");
    }
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" => return refuse("empty name or absolute path"),
            b"." | b".." => return refuse("`.` or `..`"),
            _ if name.len() > limits::NAME_BYTES => return refuse("name is too long"),
            _ => {}
        }
    }
    Ok(())
}

/// The path as the zip stores it: itself if it is UTF-8; otherwise every byte that isn't part of
/// valid UTF-8, and every `%`, as `%XX`.
#[must_use]
pub fn escape(path: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(path) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(path.len() + 8);
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' {
                escaped.push_str("%25");
            } else {
                escaped.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// The folder of a path and its last name; the folder of a top-level name is empty.
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_paths_are_refused() {
        for path in ["", "/a", "a/", "a//b", "a/../b", "..", ".", "a/./b", "a\0b"] {
            assert!(check(path.as_bytes()).is_err(), "{path:?}");
        }
        assert!(check(b"a/b.c/..d").is_ok());
        assert!(check(&[b'a'; 256]).is_err());
    }

    #[test]
    fn names_that_are_not_utf8_are_escaped() {
        assert_eq!(escape(b"a%b"), "a%b");
        assert_eq!(escape(b"a%\xff"), "a%25%FF");
    }

    #[test]
    fn split_at_the_last_slash() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"c"), (&b""[..], &b"c"[..]));
    }
}
