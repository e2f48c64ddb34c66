//! Where packed files come from, and where they go in the bundle.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use pybundle_bundle::{limits, manifest, name};

/// A folder whose files are packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// Its path in the bundle: empty for the environment.
    pub(crate) folder: Vec<u8>,
    /// Its path here, symlinks resolved.
    pub(crate) real: PathBuf,
    /// Its path here as it was given or found, where that differs.
    pub(crate) given: Option<PathBuf>,
}

/// The roots of a bundle; the first is the environment.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    list: Vec<Root>,
    /// Where things of the base prefix go: they keep their places below it.
    base: Option<Vec<u8>>,
}

impl Roots {
    /// The environment alone; both paths absolute.
    pub(crate) fn new(given: PathBuf, real: PathBuf) -> Self {
        Self {
            list: vec![Root {
                folder: Vec::new(),
                given: (given != real).then_some(given),
                real,
            }],
            base: None,
        }
    }

    /// Adds a folder unless it lies below a root already; its path in the bundle.
    pub(crate) fn add(&mut self, given: &Path, real: &Path) -> Vec<u8> {
        if let Some(path) = self.bundle_path(real) {
            return path;
        }
        let folder = self.next_folder();
        self.list.push(Root {
            folder: folder.clone(),
            real: real.to_owned(),
            given: (given != real).then(|| given.to_owned()),
        });
        folder
    }

    /// Adds a folder of the base prefix, which keeps its place below the prefix; its path in the
    /// bundle.
    pub(crate) fn add_base(&mut self, prefix: &Path, real: &Path) -> Vec<u8> {
        if let Some(path) = self.bundle_path(real) {
            return path;
        }
        let folder = self.base_path(prefix, real);
        self.list.push(Root {
            folder: folder.clone(),
            real: real.to_owned(),
            given: None,
        });
        folder
    }

    /// The path in the bundle of something of the base prefix that belongs to no root.
    pub(crate) fn base_path(&mut self, prefix: &Path, real: &Path) -> Vec<u8> {
        let next = self.next_folder();
        let base = self.base.get_or_insert(next);
        // Outside of the prefix is what a distributor has moved: its own name is enough.
        let last = real.file_name().unwrap_or_default();
        let inside = real.strip_prefix(prefix).unwrap_or(Path::new(last));
        join(base, inside.as_os_str().as_bytes())
    }

    /// A folder that nothing has yet: roots below the base's folder leave numbers out, and an
    /// environment that was unpacked has those in it that it was packed with.
    fn next_folder(&self) -> Vec<u8> {
        let environment = &self.list[0].real;
        let mut number = self.list.len() + usize::from(self.base.is_some());
        loop {
            let folder = format!("{}/{number}", limits::ROOTS_FOLDER);
            let mut others = self.list.iter();
            if !others.any(|root| root.folder == folder.as_bytes())
                && environment.join(&folder).symlink_metadata().is_err()
            {
                return folder.into_bytes();
            }
            number += 1;
        }
    }

    /// Where a path of this machine, symlinks resolved, lies in the bundle; innermost root first.
    pub(crate) fn bundle_path(&self, real: &Path) -> Option<Vec<u8>> {
        let below = |root: &Root| {
            let rest = real.strip_prefix(&root.real).ok()?;
            Some(join(&root.folder, rest.as_os_str().as_bytes()))
        };
        self.list
            .iter()
            .max_by_key(|root| {
                let inside = real.starts_with(&root.real);
                (inside, root.real.as_os_str().len())
            })
            .and_then(below)
    }

    /// Where a path in the bundle lies on this machine.
    pub(crate) fn real_path(&self, path: &[u8]) -> Option<PathBuf> {
        self.list
            .iter()
            .filter(|root| is_below(path, &root.folder))
            .max_by_key(|root| root.folder.len())
            .map(|root| {
                let rest = &path[root.folder.len()..];
                let rest = rest.strip_prefix(b"/").unwrap_or(rest);
                root.real.join(OsStr::from_bytes(rest))
            })
    }

    /// The same as [`Self::bundle_path`] for a path that may go through the root's given path.
    pub(crate) fn bundle_path_of_given(&self, path: &Path) -> Option<Vec<u8>> {
        self.bundle_path(path).or_else(|| {
            self.list.iter().find_map(|root| {
                let rest = path.strip_prefix(root.given.as_ref()?).ok()?;
                Some(join(&root.folder, rest.as_os_str().as_bytes()))
            })
        })
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Root> {
        self.list.iter()
    }

    /// As the manifest has them.
    pub(crate) fn to_manifest(&self) -> Vec<manifest::Root> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        self.list
            .iter()
            .map(|root| manifest::Root {
                folder: name::escape(&root.folder),
                paths: root
                    .given
                    .iter()
                    .map(|given| text(given))
                    .chain([text(&root.real)])
                    .collect(),
            })
            .collect()
    }
}

/// `folder/rest`, where either may be empty.
pub(crate) fn join(folder: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut path = folder.to_vec();
    if !folder.is_empty() && !rest.is_empty() {
        path.push(b'/');
    }
    path.extend(rest);
    path
}

/// Is `path` the folder `above` or below it? Everything is below the empty path.
pub(crate) fn is_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty()
        || path
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The text of a symlink at `from` that names `to`, both paths in the bundle.
pub(crate) fn relative(from: &[u8], to: &[u8]) -> Vec<u8> {
    let names = |path: &'_ [u8]| -> Vec<Vec<u8>> {
        path.split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (from, to) = (names(name::split(from).0), names(to));
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut parts = vec![b"..".to_vec(); from.len() - common];
    parts.extend_from_slice(&to[common..]);
    if parts.is_empty() {
        return b".".to_vec();
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_inside_another_needs_no_folder() {
        let mut roots = Roots::new("/e".into(), "/real/e".into());
        assert_eq!(roots.add(Path::new("/x"), Path::new("/real/e/lib")), b"lib");
        let folder = roots.add(Path::new("/x"), Path::new("/x"));
        assert_eq!(folder, b"META-INF/pybundle/roots/1");
        assert_eq!(
            roots.bundle_path(Path::new("/x/y")).unwrap(),
            b"META-INF/pybundle/roots/1/y"
        );
        assert_eq!(roots.bundle_path(Path::new("/real/ex")), None);
        assert_eq!(roots.bundle_path_of_given(Path::new("/e/a")).unwrap(), b"a");
        let manifest = roots.to_manifest();
        assert_eq!(manifest[0].paths, ["/e", "/real/e"]);
        assert_eq!(manifest[1].paths, ["/x"]);
    }

    #[test]
    fn relative_links() {
        for (from, to, text) in [
            ("lib64", "lib", "lib"),
            ("a/b/c", "a/d", "../d"),
            ("a/b", "a", "."),
            ("a/b/c", "", "../.."),
        ] {
            assert_eq!(relative(from.as_bytes(), to.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn below_is_by_whole_names() {
        assert!(is_below(b"a/b", b"a") && is_below(b"a", b"a") && is_below(b"a", b""));
        assert!(!is_below(b"ab", b"a"));
    }
}
