//! What becomes of a symlink.
//!
//! | the link | names | becomes |
//! | --- | --- | --- |
//! | anywhere | nothing | itself, reported |
//! | anywhere | a file or folder of a root | itself, absolute text made relative |
//! | below `sys.path` | a folder | that folder: modules are looked up by path |
//! | below `sys.path` | a file outside | that file |
//! | `bin/python*` | an interpreter that is packed | a relative link to it |
//! | `bin/python*` | another interpreter outside | itself |
//! | elsewhere | something of the host (`/usr`, `/etc`, …) | itself, reported |
//! | elsewhere | a file outside | that file |
//! | elsewhere | a folder outside, at most 64 MiB | that folder |
//! | elsewhere | a larger folder outside | itself, reported |

use std::{
    fs::Metadata,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use fs_err as fs;
use pybundle_bundle::name;

use super::Rules;
use crate::{Reason, Result, roots::relative};

/// Folders outside up to this many bytes are taken along.
pub(super) const SMALL_FOLDER: u64 = 64 << 20;

/// What to do.
pub(super) enum Verdict {
    /// Pack a link with this text.
    Keep(Vec<u8>),
    /// Pack the link as it is, and say so.
    Report(Reason),
    /// Pack the file that it names.
    File(Metadata),
    /// Pack the folder that it names.
    Folder(PathBuf, Metadata),
}

/// Decides about the link at `real`, which goes to `path` in the bundle.
pub(super) fn judge(rules: &Rules<'_>, real: &Path, path: &[u8], target: &Path) -> Result<Verdict> {
    // Also a chain of links that never ends names nothing.
    let Ok(end) = fs::canonicalize(real) else {
        return Ok(Verdict::Report(Reason::Dangling));
    };
    let metadata = fs::metadata(&end)?;
    let importable = rules.is_importable(path);
    if metadata.is_dir() && importable {
        return Ok(Verdict::Folder(end, metadata));
    }
    let own = rules.own.bundle_path(&end).map(<[u8]>::to_vec);
    if let Some(inside) = rules.roots.bundle_path(&end).or(own) {
        let text = target.as_os_str().as_bytes();
        let stays = !text.starts_with(b"/") && stays_inside(path, text);
        return Ok(Verdict::Keep(if stays {
            text.to_vec()
        } else {
            relative(path, &inside)
        }));
    }
    if !importable && (is_interpreter(path) || is_host(&end)) {
        return Ok(if is_interpreter(path) {
            Verdict::Keep(target.as_os_str().as_bytes().to_vec())
        } else {
            Verdict::Report(Reason::LeadsOut)
        });
    }
    if metadata.is_file() {
        return Ok(Verdict::File(metadata));
    }
    if metadata.is_dir() && size_up_to(&end, SMALL_FOLDER).is_some() {
        return Ok(Verdict::Folder(end, metadata));
    }
    Ok(Verdict::Report(Reason::LeadsOut))
}

/// Does a relative text stay below the bundle's top, at each step?
fn stays_inside(path: &[u8], text: &[u8]) -> bool {
    let above = name::split(path).0;
    let mut depth = above
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .count();
    for part in text.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return false,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

/// `bin/python3.11` and the like: a virtual environment's links to its base.
fn is_interpreter(path: &[u8]) -> bool {
    path.strip_prefix(b"bin/")
        .is_some_and(|name| name.starts_with(b"python") || name.starts_with(b"pypy"))
}

/// Folders that every machine has its own of.
pub(crate) fn is_host(path: &Path) -> bool {
    const HOST: [&str; 12] = [
        "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/dev", "/proc", "/run",
        "/sys", "/var",
    ];
    !path.starts_with("/usr/local") && HOST.iter().any(|host| path.starts_with(host))
}

/// Bytes of the files below a folder, if they are at most `limit`; what can't be read counts 0.
fn size_up_to(folder: &Path, limit: u64) -> Option<u64> {
    let mut total = 0;
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for item in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match fs::symlink_metadata(item.path()) {
                Ok(metadata) if metadata.is_dir() => open.push(item.path()),
                Ok(metadata) if metadata.is_file() => total += metadata.len(),
                _ => {}
            }
            if total > limit {
                return None;
            }
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_climbs_over_the_top_leaves() {
        assert!(stays_inside(b"a/b/c", b"../../x"));
        assert!(!stays_inside(b"a/b/c", b"../../../x"));
        assert!(!stays_inside(b"a", b"../e/a"));
    }

    #[test]
    fn host_folders() {
        assert!(is_host(Path::new("/usr/lib/x")) && is_host(Path::new("/etc/ssl")));
        assert!(!is_host(Path::new("/usr/local/lib/x")) && !is_host(Path::new("/opt/x")));
    }
}
