//! What a file is to a program, by its path alone.

use pybundle_bundle::name;

use crate::roots::is_below;

/// What a file is to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    /// Extension module, shared library or program: judged by name, confirmed by content later.
    Native,
    /// Anything that a program may open by its path.
    Data,
    /// `*.dist-info`, `*.egg-info`: what `importlib.metadata` reads.
    Metadata,
    /// `.py` below a folder of `sys.path`.
    Source,
    /// Needed to build software, hardly to run it: headers, static libraries, conda's records.
    Development,
}

/// Where a path lies relative to `sys.path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// The innermost folder of `sys.path` above it.
    pub(crate) folder: &'a [u8],
    /// The path from there on.
    pub(crate) inner: &'a [u8],
}

/// The place of a path, unless it is below no folder of `sys.path`.
pub(crate) fn place<'a>(path: &'a [u8], sys_path: &'a [Vec<u8>]) -> Option<Place<'a>> {
    let folder = sys_path
        .iter()
        .filter(|folder| is_below(path, folder) && path.len() > folder.len())
        .max_by_key(|folder| folder.len())?;
    let inner = &path[folder.len()..];
    Some(Place {
        folder,
        inner: inner.strip_prefix(b"/").unwrap_or(inner),
    })
}

/// What the file at `path` is; `executable` if its mode says so.
pub(crate) fn class(path: &[u8], place: Option<Place<'_>>, executable: bool) -> Class {
    let (above, last) = name::split(path);
    let extension = last.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    let has_extension = extension.len() < last.len();
    if let Some(place) = place {
        let top = first(place.inner);
        if top.len() < place.inner.len()
            && [&b".dist-info"[..], b".egg-info", b"EGG-INFO"]
                .iter()
                .any(|end| top.ends_with(end))
            || top.ends_with(b".egg-info")
        {
            return Class::Metadata;
        }
        if has_extension && extension == b"py" {
            return Class::Source;
        }
    }
    let headers: [&[u8]; 8] = [b"h", b"hh", b"hpp", b"hxx", b"inc", b"cuh", b"pxd", b"ipp"];
    let in_include = above
        .split(|&byte| byte == b'/')
        .any(|part| part == b"include");
    if has_extension && extension == b"a"
        || first(path) == b"conda-meta"
        || in_include && (place.is_none() || has_extension && headers.contains(&extension))
    {
        return Class::Development;
    }
    if is_library_name(last) || executable && !has_script_extension(extension, has_extension) {
        return Class::Native;
    }
    Class::Data
}

/// `x.so`, `libx.so.1.2`.
pub(crate) fn is_library_name(name: &[u8]) -> bool {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let mut parts: Vec<_> = name.split(|&byte| byte == b'.').collect();
    while parts.len() > 2 && parts.last().is_some_and(|part| digits(part)) {
        parts.pop();
    }
    parts.len() > 1 && parts.last() == Some(&&b"so"[..])
}

/// Does the path go through a folder of tests below a folder of `sys.path`?
pub(crate) fn is_test(place: Option<Place<'_>>) -> bool {
    place.is_some_and(|place| {
        name::split(place.inner)
            .0
            .split(|&byte| byte == b'/')
            .any(|part| part == b"tests" || part == b"test")
    })
}

/// The first name of a path.
pub(crate) fn first(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'/').next().unwrap_or_default()
}

fn has_script_extension(extension: &[u8], has_extension: bool) -> bool {
    has_extension && [&b"py"[..], b"sh", b"bash", b"pl", b"csh", b"fish"].contains(&extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let sys_path = [b"lib".to_vec(), b"lib/sp".to_vec()];
        let check = |path: &str, executable, expected| {
            let got = class(
                path.as_bytes(),
                place(path.as_bytes(), &sys_path),
                executable,
            );
            assert_eq!(got, expected, "{path}");
        };
        for (path, expected) in [
            ("lib/sp/a/b.py", Class::Source),
            ("bin/b.py", Class::Data),
            ("lib/sp/a/b.cpython-311-x86_64-linux-gnu.so", Class::Native),
            ("lib/sp/a.libs/libq-1a2b.so.3.1", Class::Native),
            ("lib/sp/a/b.so.txt", Class::Data),
            ("lib/sp/a-1.dist-info/RECORD", Class::Metadata),
            ("lib/sp/a-1.dist-info/licenses/x.py", Class::Metadata),
            ("lib/sp/a-1.egg-info", Class::Metadata),
            ("lib/sp/a/include/x.h", Class::Development),
            ("lib/sp/a/include/x.json", Class::Data),
            ("lib/sp/include/x.py", Class::Source),
            ("include/x/y.json", Class::Development),
            ("lib/libx.a", Class::Development),
            ("conda-meta/x.json", Class::Development),
            ("share/x", Class::Data),
        ] {
            check(path, false, expected);
        }
        check("bin/tool", true, Class::Native);
        check("bin/tool.sh", true, Class::Data);
    }

    #[test]
    fn places_and_tests() {
        let sys_path = [b"lib".to_vec(), b"lib/sp".to_vec()];
        let at = |path: &'static str| place(path.as_bytes(), &sys_path);
        assert_eq!(at("lib/sp/a/b").unwrap().inner, b"a/b");
        assert_eq!(at("lib/json/b").unwrap().inner, b"json/b");
        assert_eq!(at("share/x"), None);
        assert_eq!(at("lib/sp").unwrap().inner, b"sp");
        assert!(is_test(at("lib/sp/a/tests/x")) && is_test(at("lib/test/x")));
        assert!(!is_test(at("lib/sp/a/testing/x")) && !is_test(at("lib/sp/tests")));
        assert!(!is_test(at("share/tests/x")));
    }
}
