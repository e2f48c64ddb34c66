//! The formats in which installers list files.

use std::borrow::Cow;

use serde::Deserialize;

use super::normalise as normalise_name;
use crate::roots::join;

/// What matters of a `METADATA` or `PKG-INFO` file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) name: Option<String>,
    pub(super) requires: Vec<String>,
}

/// Reads the headers, up to the first empty line.
pub(super) fn metadata(text: &str) -> Metadata {
    let mut metadata = Metadata::default();
    for line in text.lines().take_while(|line| !line.is_empty()) {
        let Some((field, value)) = line.split_once(':') else {
            continue;
        };
        match field {
            "Name" => metadata.name = Some(value.trim().to_owned()),
            "Requires-Dist" => {
                let stop = |c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
                let name = value.trim_start().split(stop).next().unwrap_or_default();
                metadata.requires.push(normalise_name(name));
            }
            _ => {}
        }
    }
    metadata
}

/// The paths of a `RECORD`: first field of each CSV line.
pub(super) fn record(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| match line.strip_prefix('"') {
            None => Cow::Borrowed(line.split(',').next().unwrap_or_default()),
            Some(quoted) => {
                let mut field = String::new();
                let mut characters = quoted.chars().peekable();
                while let Some(character) = characters.next() {
                    if character == '"' && characters.next_if_eq(&'"').is_none() {
                        break;
                    }
                    field.push(character);
                }
                Cow::Owned(field)
            }
        })
}

/// A file of `conda-meta`.
#[derive(Debug, Deserialize)]
pub(super) struct Conda {
    pub(super) name: String,
    #[serde(default)]
    pub(super) files: Vec<String>,
}

/// Reads a file of `conda-meta`.
pub(super) fn conda(bytes: &[u8]) -> Option<Conda> {
    serde_json::from_slice(bytes).ok()
}

/// `folder/path` without `.` and `..`; `None` if it climbs over the top.
pub(super) fn normalise(folder: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let whole = join(folder, path);
    for part in whole.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_with_quotes() {
        let text = "a/b.py,sha256=x,1\n\"c,\"\"d\"\".py\",,\n\n../../bin/x,,\n";
        let got: Vec<_> = record(text).collect();
        assert_eq!(got, ["a/b.py", "c,\"d\".py", "../../bin/x"]);
    }

    #[test]
    fn headers_alone_are_read() {
        let got = metadata(
            "Name: A_b\nRequires-Dist: NVidia-cublas_cu12 (==1) ; x\nRequires-Dist: q[z]>1\n\nName: no",
        );
        assert_eq!(got.name.as_deref(), Some("A_b"));
        assert_eq!(got.requires, ["nvidia-cublas-cu12", "q"]);
    }

    #[test]
    fn paths_are_normalised() {
        assert_eq!(normalise(b"lib/sp", b"../../bin/./x").unwrap(), b"bin/x");
        assert_eq!(normalise(b"lib", b"../../x"), None);
        assert_eq!(normalise(b"", b"x//y").unwrap(), b"x/y");
    }
}
