//! What a scan found, searched by path.

use std::{os::unix::fs::MetadataExt as _, path::PathBuf};

use pybundle_bundle::name;
use serde::{Deserialize, Serialize};

use crate::roots::join;

/// More links in a row than this lead nowhere, as for the kernel.
const LINKS: usize = 40;

/// One thing to pack.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its path in the bundle.
    pub(crate) path: Vec<u8>,
    /// Where its content is; may be a symlink to it.
    pub(crate) source: PathBuf,
    /// `st_mode`.
    pub(crate) mode: u32,
    /// What it is.
    pub(crate) what: What,
}

/// What a thing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A regular file, and how it was when it was found.
    File(Stamp),
    /// A symlink and its text.
    Link(Vec<u8>),
    /// A folder that holds nothing.
    Folder,
}

/// Tells whether a file was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// Bytes.
    pub(crate) size: u64,
    /// Modification time, seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
    /// Time of the last change of content or inode, which no program can set.
    pub(crate) changed: (i64, i64),
    /// Device and inode.
    pub(crate) file: (u64, u64),
}

impl Stamp {
    /// The stamp of a file.
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            file: (metadata.dev(), metadata.ino()),
        }
    }
}

/// What a path of the tree leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A regular file, by position.
    File(usize),
    /// A folder, by path.
    Folder(Vec<u8>),
}

/// Everything to pack, sorted by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(Vec<Found>);

impl Tree {
    /// Sorts; of two things at one path the first is kept.
    pub(crate) fn new(mut found: Vec<Found>) -> Self {
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.dedup_by(|later, earlier| later.path == earlier.path);
        Self(found)
    }

    /// The tree with more in it.
    pub(crate) fn with(self, more: Vec<Found>) -> Self {
        if more.is_empty() {
            return self;
        }
        let mut found = self.0;
        found.extend(more);
        Self::new(found)
    }

    /// All things in order.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Found> {
        self.0.iter()
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The thing at a position.
    pub(crate) fn get(&self, position: usize) -> Option<&Found> {
        self.0.get(position)
    }

    /// The position of the thing at a path.
    pub(crate) fn find(&self, path: &[u8]) -> Option<usize> {
        self.0
            .binary_search_by(|found| found.path.as_slice().cmp(path))
            .ok()
    }

    /// Bytes of the file at a position; 0 for anything else.
    pub(crate) fn size(&self, position: usize) -> u64 {
        match self.0.get(position).map(|found| &found.what) {
            Some(What::File(stamp)) => stamp.size,
            _ => 0,
        }
    }

    /// Is there a folder at this path, itself no link?
    pub(crate) fn is_folder(&self, path: &[u8]) -> bool {
        if path.is_empty() {
            return true;
        }
        if let Some(position) = self.find(path) {
            return self.0[position].what == What::Folder;
        }
        let mut inside = path.to_vec();
        inside.push(b'/');
        let first = self.0.partition_point(|found| found.path < inside);
        self.0
            .get(first)
            .is_some_and(|found| found.path.starts_with(&inside))
    }

    /// What a path leads to, every link on the way followed inside the tree.
    pub(crate) fn resolve(&self, path: &[u8]) -> Option<Node> {
        self.follow(path, &mut 0).and_then(|path| {
            if self.is_folder(&path) {
                return Some(Node::Folder(path));
            }
            let position = self.find(&path)?;
            matches!(self.0[position].what, What::File(_)).then_some(Node::File(position))
        })
    }

    /// The path without links; what it ends at needn't exist.
    fn follow(&self, path: &[u8], links: &mut usize) -> Option<Vec<u8>> {
        let mut at: Vec<u8> = Vec::new();
        for part in path.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." if at.is_empty() => return None,
                b".." => {
                    at.truncate(name::split(&at).0.len());
                    continue;
                }
                _ => {}
            }
            let next = join(&at, part);
            let found = self.find(&next).map(|position| &self.0[position].what);
            if let Some(What::Link(text)) = found {
                *links += 1;
                if *links > LINKS || text.starts_with(b"/") {
                    return None;
                }
                at = self.follow(&[&at[..], b"/", text].concat(), links)?;
            } else {
                at = next;
            }
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(rows: &[(&str, &str)]) -> Tree {
        let stamp = Stamp {
            size: 1,
            ..Stamp::default()
        };
        let found = rows.iter().map(|&(path, text)| Found {
            path: path.into(),
            source: PathBuf::new(),
            mode: 0,
            what: match text {
                "" => What::File(stamp),
                "/" => What::Folder,
                text => What::Link(text.into()),
            },
        });
        Tree::new(found.collect())
    }

    #[test]
    fn links_are_followed_inside() {
        let tree = tree(&[
            ("lib/a-b", ""),
            ("lib/a/x", ""),
            ("lib/e", "/"),
            ("lib64", "lib"),
            ("m/up", "../lib64/a/x"),
            ("m/round", "round"),
            ("m/out", "../../x"),
            ("m/far", "/usr"),
            ("m/none", "q"),
        ]);
        let file = |path| Some(Node::File(tree.find(path).unwrap()));
        assert_eq!(tree.resolve(b"lib64/a/x"), file(b"lib/a/x"));
        assert_eq!(tree.resolve(b"m/up"), file(b"lib/a/x"));
        assert_eq!(
            tree.resolve(b"lib64/a"),
            Some(Node::Folder(b"lib/a".into()))
        );
        assert_eq!(
            tree.resolve(b"lib64/e"),
            Some(Node::Folder(b"lib/e".into()))
        );
        for path in ["m/round", "m/out", "m/far", "m/none", "zz"] {
            assert_eq!(tree.resolve(path.as_bytes()), None, "{path}");
        }
        assert!(tree.is_folder(b"lib/a") && tree.is_folder(b"") && !tree.is_folder(b"li"));
    }
}
