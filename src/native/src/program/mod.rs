//! A program's own modules: those in the folder that becomes `sys.path[0]`, read once for all ranks.
//!
//! Root reads what the program can reach there and sends it to the others, which then neither look
//! into that folder nor open anything in it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`listing`] | names in a folder, as far as `import` cares |
//! | [`words`] | names that a text mentions |
//! | [`bytecode`] | `.pyc` files that importlib would take |
//! | [`read`] | what root reads, and where it stops |
//! | [`wire`] | the form in which it travels |

mod bytecode;
mod listing;
mod read;
mod wire;
mod words;

use std::collections::{HashMap, HashSet};

pub(crate) use bytecode::Bytecode;
pub(crate) use read::reach;
pub(crate) use wire::Message;

/// The folders that root has listed, by their absolute paths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    folders: HashMap<Vec<u8>, Folder>,
}

/// One of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Folder {
    /// Names that a module in it may have. What isn't among them isn't there.
    names: HashSet<Vec<u8>>,
    /// What root has found for some of them.
    found: HashMap<Vec<u8>, Found>,
    /// Metadata of distributions lies in it.
    metadata: bool,
}

/// What a folder has for the last part of a module's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A source module or package.
    Module(Module),
    /// A folder without `__init__`: a portion of a namespace package.
    Portion,
}

/// A source module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its file is the `__init__.py` of a folder.
    pub(crate) package: bool,
    pub(crate) content: Content,
}

/// What it runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Marshalled code, from a valid `.pyc` file.
    Code(Vec<u8>),
    /// The source.
    Text(Vec<u8>),
}

/// The answer for a name in a listed folder.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    /// Known without looking.
    Found(&'a Found),
    /// Something of this name is there, but root hasn't sent it.
    OnDisk,
    /// Nothing has this name.
    Absent,
}

impl Files {
    /// Was this folder listed?
    pub(crate) fn has(&self, folder: &[u8]) -> bool {
        self.folders.contains_key(folder)
    }

    /// Does no metadata of a distribution lie in this folder?
    pub(crate) fn is_bare(&self, folder: &[u8]) -> bool {
        self.folders
            .get(folder)
            .is_some_and(|folder| !folder.metadata)
    }

    /// What a listed folder has for the last part of a module's name.
    pub(crate) fn find(&self, folder: &[u8], tail: &[u8]) -> Answer<'_> {
        let Some(folder) = self.folders.get(folder) else {
            return Answer::OnDisk;
        };
        match folder.found.get(tail) {
            Some(found) => Answer::Found(found),
            None if folder.names.contains(tail) => Answer::OnDisk,
            None => Answer::Absent,
        }
    }

    /// What the module in this file runs.
    pub(crate) fn content(&self, file: &[u8]) -> Option<&Content> {
        let (folder, name) = split(file)?;
        let stem = name.strip_suffix(b".py")?;
        let (folder, tail, package) = if stem == b"__init__" {
            let (above, last) = split(folder)?;
            (above, last, true)
        } else {
            (folder, stem, false)
        };
        match self.folders.get(folder)?.found.get(tail)? {
            Found::Module(module) if module.package == package => Some(&module.content),
            _ => None,
        }
    }
}

/// Folder and last name of an absolute path.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = path.iter().rposition(|&byte| byte == b'/')?;
    // The folder of what lies in `/` has a name too.
    Some((&path[..at.max(1)], &path[at + 1..]))
}

/// `folder/name`.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    [folder, b"/", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(package: bool, text: &str) -> Found {
        Found::Module(Module {
            package,
            content: Content::Text(text.into()),
        })
    }

    #[test]
    fn names_and_files_are_found() {
        let names = ["one", "package", "there"].map(|name| name.as_bytes().to_vec());
        let found = [
            (b"one".to_vec(), module(false, "1")),
            (b"package".to_vec(), module(true, "2")),
        ];
        let folder = Folder {
            names: names.into(),
            found: found.into(),
            metadata: false,
        };
        let files = Files {
            folders: [(b"/home".to_vec(), folder)].into(),
        };
        let text = |file: &str| match files.content(file.as_bytes())? {
            Content::Text(text) => Some(text.as_slice()),
            Content::Code(_) => None,
        };
        assert_eq!(text("/home/one.py"), Some(b"1".as_slice()));
        assert_eq!(text("/home/package/__init__.py"), Some(b"2".as_slice()));
        assert_eq!(text("/home/package.py"), None);
        assert_eq!(text("/home/one/__init__.py"), None);
        assert_eq!(text("/other/one.py"), None);
        assert!(matches!(files.find(b"/home", b"one"), Answer::Found(_)));
        assert!(matches!(files.find(b"/home", b"there"), Answer::OnDisk));
        assert!(matches!(files.find(b"/home", b"numpy"), Answer::Absent));
        assert!(matches!(files.find(b"/other", b"numpy"), Answer::OnDisk));
        assert!(files.is_bare(b"/home") && !files.is_bare(b"/other"));
    }

    #[test]
    fn paths_are_joined_as_importlib_does() {
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"/home", b"a"), b"/home/a");
        assert_eq!(split(b"/a"), Some((b"/".as_slice(), b"a".as_slice())));
        assert_eq!(
            split(b"/home/a"),
            Some((b"/home".as_slice(), b"a".as_slice()))
        );
    }
}
