//! RUNPATHs of an interpreter's own files, made to name folders beside them.
//!
//! A copy that still named the prefix it was built for would make `ld.so` search there, which is on
//! the file system that nobody is to touch. Folders below the prefix become relative to the file,
//! others go. The file keeps its size and every offset.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use goblin::{
    container::{Container, Ctx, Endian},
    elf::{
        Elf,
        dynamic::{DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_SONAME, Dynamic},
        program_header::{PT_DYNAMIC, ProgramHeader},
    },
};

use super::symbols::{self, Strings};
use crate::roots::relative;

/// Bytes of an entry of the dynamic section: its tag and its value.
const ENTRY: usize = 16;

/// Rewrites RPATH and RUNPATH of the ELF file `bytes`, which lies at `file` below `prefix`. The one
/// that the file has names `first` too, if given and if there is room, and is then searched before
/// `LD_LIBRARY_PATH`: a RUNPATH becomes an RPATH.
///
/// True unless a folder of the prefix had to stay as it was: there is no room for the new text, or
/// something else uses the old one. What isn't ELF is left alone.
pub(crate) fn relocate(bytes: &mut [u8], file: &Path, prefix: &Path, first: Option<&str>) -> bool {
    let Some(Section {
        start,
        entries,
        names,
    }) = read(bytes)
    else {
        return true;
    };
    let mut complete = true;
    let mut kept = Vec::with_capacity(entries.len());
    for (tag, value) in entries {
        let path = names
            .iter()
            .find(|name| matches!(tag, DT_RPATH | DT_RUNPATH) && name.value == value);
        let Some(path) = path else {
            kept.push((tag, value));
            continue;
        };
        let room = if path.shared { 0 } else { path.text.len() };
        let text = folders(&path.text, file, prefix);
        let led = first.and_then(|first| led(first, &text, room));
        let tag = if led.is_some() { DT_RPATH } else { tag };
        let text = led.unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        kept.push((tag, value));
        if text == path.text {
            continue;
        }
        if text.len() > room {
            complete = false;
            continue;
        }
        if let Some(place) = bytes.get_mut(path.at..path.at + path.text.len()) {
            place.fill(0);
            place[..text.len()].copy_from_slice(text.as_bytes());
        }
    }
    for (place, (tag, value)) in bytes[start..]
        .chunks_exact_mut(ENTRY)
        .zip(kept.into_iter().chain([(DT_NULL, 0)]))
    {
        place[..8].copy_from_slice(&tag.to_le_bytes());
        place[8..].copy_from_slice(&value.to_le_bytes());
    }
    complete
}

/// The dynamic section.
struct Section {
    /// Its offset in the file.
    start: usize,
    /// Tags and values.
    entries: Vec<(u64, u64)>,
    /// The search paths that they name.
    names: Vec<Name>,
}

/// A search path in the string table.
struct Name {
    /// Its offset in the table.
    value: u64,
    /// Its offset in the file.
    at: usize,
    text: String,
    /// Another name ends like it and lies inside it.
    shared: bool,
}

fn read(bytes: &[u8]) -> Option<Section> {
    let header = Elf::parse_header(bytes).ok()?;
    let context = Ctx::new(Container::Big, Endian::Little);
    let offset = usize::try_from(header.e_phoff).ok()?;
    let segments =
        ProgramHeader::parse(bytes, offset, usize::from(header.e_phnum), context).ok()?;
    let segment = segments
        .iter()
        .find(|segment| segment.p_type == PT_DYNAMIC)?;
    let start = usize::try_from(segment.p_offset).ok()?;
    let dynamic = Dynamic::parse(bytes, &segments, context).ok()??;
    let info = &dynamic.info;
    let strings = Strings::new(bytes, info.strtab, info.strsz);
    let entries: Vec<(u64, u64)> = dynamic
        .dyns
        .iter()
        .map(|entry| (entry.d_tag, entry.d_val))
        .take_while(|&(tag, _)| tag != DT_NULL)
        .collect();
    // The end of the section is one more, which ends it.
    bytes.get(start..start.checked_add((entries.len() + 1) * ENTRY)?)?;
    let name = |value: u64| {
        let text = strings.get(value).ok()?.to_owned();
        let inside = value + 1..=value + text.len() as u64;
        let shared = symbols::names(bytes, info).any(|at| inside.contains(&at))
            || entries.iter().any(|(tag, other)| {
                matches!(*tag, DT_NEEDED | DT_SONAME | DT_RPATH | DT_RUNPATH)
                    && inside.contains(other)
            });
        let at = info.strtab.checked_add(usize::try_from(value).ok()?)?;
        Some(Name {
            value,
            at,
            text,
            shared,
        })
    };
    let names = entries
        .iter()
        .filter(|(tag, _)| matches!(*tag, DT_RPATH | DT_RUNPATH))
        .filter_map(|&(_, value)| name(value))
        .collect();
    Some(Section {
        start,
        entries,
        names,
    })
}

/// The folders as the copy is to name them.
fn folders(text: &str, file: &Path, prefix: &Path) -> String {
    let folders = text.split(':').filter_map(|folder| {
        if !folder.starts_with('/') {
            return folder.starts_with('$').then(|| folder.to_owned());
        }
        let inside = normalised(Path::new(folder))
            .strip_prefix(prefix)
            .ok()?
            .to_owned();
        let way = relative(file.as_os_str().as_bytes(), inside.as_os_str().as_bytes());
        match std::str::from_utf8(&way).ok()? {
            "." => Some("$ORIGIN".to_owned()),
            way => Some(format!("$ORIGIN/{way}")),
        }
    });
    folders.collect::<Vec<_>>().join(":")
}

/// Folders behind `first`, or that one alone, as there is room.
fn led(first: &str, folders: &str, room: usize) -> Option<String> {
    let rest = folders
        .split(':')
        .filter(|folder| !folder.is_empty() && *folder != first);
    let all: Vec<_> = [first].into_iter().chain(rest).collect();
    let texts = [all.join(":"), first.to_owned()];
    texts.into_iter().find(|text| text.len() <= room)
}

/// Without `.` and `..`, by the text alone.
fn normalised(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn folders_of_the_prefix_become_relative() {
        for (text, file, expected) in [
            ("/p/lib", "bin/python3", "$ORIGIN/../lib"),
            ("/p/bin/../lib:/other", "bin/python3", "$ORIGIN/../lib"),
            ("/p/lib", "lib/python3.11/lib-dynload/x.so", "$ORIGIN/../.."),
            ("$ORIGIN/../lib:/p2/lib", "bin/x", "$ORIGIN/../lib"),
            ("/p", "x", "$ORIGIN"),
            ("/other::relative", "bin/x", ""),
        ] {
            let got = folders(text, Path::new(file), Path::new("/p"));
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn the_first_folder_is_named_if_there_is_room() {
        for (folders, room, expected) in [
            ("", 14, Some("$ORIGIN/../lib")),
            ("", 13, None),
            ("$ORIGIN/../lib", 14, Some("$ORIGIN/../lib")),
            (
                "$ORIGIN/../x:$ORIGIN/../lib",
                40,
                Some("$ORIGIN/../lib:$ORIGIN/../x"),
            ),
            ("$ORIGIN/../x", 20, Some("$ORIGIN/../lib")),
        ] {
            let got = led("$ORIGIN/../lib", folders, room);
            assert_eq!(got.as_deref(), expected, "{folders} {room}");
        }
    }

    #[test]
    fn damaged_files_are_left_alone() {
        let mut bytes = std::fs::read("/proc/self/exe").unwrap();
        let whole = bytes.clone();
        assert!(relocate(
            &mut bytes,
            Path::new("bin/x"),
            Path::new("/p"),
            None
        ));
        assert_eq!(bytes.len(), whole.len());
        for end in (0..512).chain((0..64).map(|part| whole.len() / 64 * part)) {
            let mut part = whole[..end].to_vec();
            let _ = relocate(
                &mut part,
                Path::new("bin/x"),
                Path::new("/p"),
                Some("$ORIGIN"),
            );
        }
    }
}
