//! What a load will do, as root finds it in the bundle and tells every rank.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use pybundle_bundle::{
    Head, Identity, Index, Manifest, layout,
    record::{ENTRY_LAZY, Entry, GROUP_EAGER, Kind},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    known::{self, Known, Source, Stamp},
    nodes::nonce,
    room::{Need, Room},
};

/// Bytes of a memory page: what a small file takes.
const PAGE: u64 = 4096;

/// Files and folders of an image beside its tree.
const OWN_FILES: u64 = 16;

/// Numbers of a bundle that decide what an image needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sizes {
    /// Bytes of the index.
    pub(crate) index_len: u64,
    /// Bytes of the manifest.
    pub(crate) manifest_len: u64,
    /// Bytes of the bundle.
    pub(crate) file_len: u64,
    /// Rows of entries.
    pub(crate) entries: u32,
    /// Rows of folders.
    pub(crate) folders: u32,
    /// Rows of groups.
    pub(crate) groups: u32,
    /// Packed code, all blocks.
    pub(crate) code_len: u64,
    /// Modules with code: each gets the tree's path put in.
    pub(crate) code_modules: u64,
    /// Packed code of hot blocks.
    pub(crate) hot_code: u64,
    /// Pages of hot files, in bytes.
    pub(crate) hot_files_len: u64,
    /// Hot files.
    pub(crate) hot_files: u64,
    /// Offset after the last entry that is needed before imports begin.
    pub(crate) load_end: u64,
    /// Offset of the first entry that is not: what lies before is needed no more after the load.
    pub(crate) cold_start: u64,
    /// Offset after the last entry.
    pub(crate) data_end: u64,
    /// Pages of the cold files of the largest group, in bytes.
    pub(crate) group_len: u64,
    /// Cold files of the group with the most.
    pub(crate) group_files: u64,
    /// The longest file of the tree.
    pub(crate) longest: u64,
    /// Pages of all files, in bytes.
    pub(crate) all_len: u64,
    /// All files.
    pub(crate) all_files: u64,
}

/// Must the entry be in place before imports begin?
pub(crate) fn is_early<B: AsRef<[u8]>>(index: &Index<B>, entry: &Entry) -> bool {
    if entry.kind == Kind::Manifest as u8 {
        return false;
    }
    let eager = index
        .group(entry.group)
        .is_some_and(|group| group.flags & GROUP_EAGER != 0);
    index.is_hot(entry) || eager && entry.flags & ENTRY_LAZY == 0
}

impl Sizes {
    /// The numbers of a bundle.
    pub(crate) fn of<B: AsRef<[u8]>>(index: &Index<B>, manifest_len: u64) -> Self {
        let header = index.header();
        let mut sizes = Self {
            index_len: header.index_len,
            manifest_len,
            file_len: header.file_len,
            entries: index.entries(),
            folders: index.folders(),
            groups: index.groups(),
            code_len: header.code_len,
            load_end: layout::first_header(index),
            cold_start: header.directory,
            data_end: header.directory,
            ..Self::default()
        };
        let has_code = |row: &u32| {
            let module = index.module(*row);
            module.is_some_and(|module| module.code_at != u64::MAX)
        };
        sizes.code_modules = (0..index.modules()).take_while(has_code).count() as u64;
        let mut groups = vec![(0, 0); index.groups() as usize];
        for entry in (0..index.entries()).filter_map(|row| index.entry(row)) {
            let early = is_early(index, &entry);
            if early {
                sizes.load_end = sizes.load_end.max(entry.offset + entry.stored);
            } else if entry.kind != Kind::Manifest as u8 {
                sizes.cold_start = sizes.cold_start.min(entry.offset);
            }
            if entry.kind == Kind::Code as u8 {
                sizes.hot_code += if early { entry.size } else { 0 };
                continue;
            }
            let pages = entry.size.next_multiple_of(PAGE);
            sizes.longest = sizes.longest.max(entry.size);
            sizes.all_len += pages;
            sizes.all_files += 1;
            if early {
                sizes.hot_files_len += pages;
                sizes.hot_files += 1;
            } else if let Some((len, files)) = groups.get_mut(entry.group as usize) {
                *len += pages;
                *files += 1;
                sizes.group_len = sizes.group_len.max(*len);
                sizes.group_files = sizes.group_files.max(*files);
            }
        }
        sizes
    }

    /// Compressed bytes of what is not needed before imports begin.
    pub(crate) fn cold_len(&self) -> u64 {
        self.data_end - self.cold_start
    }

    /// What an image needs: what lies there when the load is done and the largest group has been
    /// placed, or the peak while hot compressed bytes still lie there, whichever is more; and a
    /// tenth more.
    pub(crate) fn need(&self, prefix_len: usize, keep: Keep) -> Need {
        let prefixes = self.code_modules * prefix_len as u64;
        let code = self.hot_code + if self.hot_code > 0 { prefixes } else { 0 };
        let own = self.index_len + self.manifest_len + 64 * PAGE;
        let cold = if keep == Keep::Bundle {
            0
        } else {
            self.cold_len()
        };
        let (files_len, files, rest) = match keep {
            Keep::All => (
                self.all_len,
                self.all_files,
                self.code_len + prefixes - code,
            ),
            _ => (
                self.hot_files_len + self.group_len,
                self.hot_files + self.group_files,
                0,
            ),
        };
        let done = own + code + rest + files_len + cold;
        let loading = own + code + self.hot_files_len + cold + self.load_end;
        let most = done.max(loading);
        Need {
            bytes: most + most / 10,
            files: files + u64::from(self.folders) + OWN_FILES,
            longest: self
                .longest
                .max(self.code_len + prefixes)
                .max(self.data_end),
        }
    }

    /// Do the cold compressed bytes stay on the node? Up to a quarter of what is free.
    pub(crate) fn cold_fits(&self, room: &Room) -> bool {
        self.cold_len() <= room.bytes / 4
    }
}

/// What stays on the node beside what is hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing: cold entries are read from the bundle.
    Bundle,
    /// Cold entries' compressed bytes.
    Cold,
    /// Every file, placed.
    All,
}

/// What root tells every rank.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The bundle, as an absolute path: bytes, since a path need not be text.
    bundle: Vec<u8>,
    /// The bundle's identity, in hexadecimal.
    pub(crate) identity: String,
    /// Its numbers.
    pub(crate) sizes: Sizes,
    /// Its manifest.
    pub(crate) manifest: Manifest,
    /// Where the receipt goes, as an absolute path; without it nobody reports.
    receipt: Option<Vec<u8>>,
    /// Tells this state of the bundle from another, on root.
    stamp: Option<Stamp>,
    /// Tells this run from others that write to the same receipt.
    pub(crate) run: String,
}

/// What root alone has.
pub(crate) struct Opened {
    /// The bundle, for reading.
    pub(crate) file: fs_err::File,
    /// Index and manifest; not read if an image of this node knows the bundle.
    pub(crate) head: Option<Head>,
}

impl Opened {
    /// Reads index and manifest after all.
    pub(crate) fn read(mut self, plan: &Plan) -> Result<Self> {
        if self.head.is_none() {
            let head = Head::read(&mut self.file)?;
            if head.identity != plan.identity() {
                return Err(Error::Changed {
                    path: plan.bundle(),
                    why: format!(
                        "identity: expected {}, got {}",
                        plan.identity, head.identity
                    ),
                });
            }
            self.head = Some(head);
        }
        Ok(self)
    }
}

impl Plan {
    /// Opens the bundle and plans its load. Images are looked for in `folders`.
    pub(crate) fn open(
        bundle: &Path,
        receipt: Option<&Path>,
        folders: &[PathBuf],
    ) -> Result<(Self, Opened)> {
        let mut file = fs_err::File::open(bundle)?;
        let stamp = Stamp::of(&file.metadata()?);
        let known = stamp.and_then(|stamp| known::find(stamp, folders));
        let (known, head) = if let Some(known) = known {
            (known, None)
        } else {
            let head = Head::read(&mut file)?;
            let known = Known {
                identity: head.identity,
                sizes: Sizes::of(&head.index, head.manifest_bytes.len() as u64),
                manifest: head.manifest.clone(),
            };
            (known, Some(head))
        };
        let plan = Self {
            bundle: bytes_of(bundle)?,
            identity: known.identity.to_string(),
            sizes: known.sizes,
            manifest: known.manifest,
            receipt: receipt.map(bytes_of).transpose()?,
            stamp,
            run: format!("{:016x}", nonce()),
        };
        Ok((plan, Opened { file, head }))
    }

    /// What an image of it remembers.
    pub(crate) fn source(&self) -> Source {
        Source {
            bundle: self.bundle.clone(),
            stamp: self.stamp,
            sizes: self.sizes,
        }
    }

    /// Bytes of index and manifest.
    pub(crate) fn head_len(&self) -> u64 {
        self.sizes.index_len + self.sizes.manifest_len
    }

    /// The bundle, as an absolute path.
    pub(crate) fn bundle(&self) -> PathBuf {
        OsString::from_vec(self.bundle.clone()).into()
    }

    /// Where the receipt goes.
    pub(crate) fn receipt(&self) -> Option<PathBuf> {
        let bytes = self.receipt.clone()?;
        Some(OsString::from_vec(bytes).into())
    }

    /// The bundle's identity.
    pub(crate) fn identity(&self) -> Identity {
        let mut bytes = [0; 32];
        let digits = self.identity.as_bytes().as_chunks::<2>().0;
        for (byte, pair) in bytes.iter_mut().zip(digits) {
            let text = std::str::from_utf8(pair).unwrap_or_default();
            *byte = u8::from_str_radix(text, 16).unwrap_or_default();
        }
        Identity(bytes)
    }

    /// The bytes that travel.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::Internal(error.to_string()))
    }

    /// Reads what has travelled.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::Internal(format!("root's plan is not readable: {error}")))
    }

    /// The environment's own folder, if it is still there to fall back to.
    pub(crate) fn original(&self) -> Option<&Path> {
        let root = self.manifest.roots.first()?;
        root.paths.iter().map(Path::new).find(|path| path.is_dir())
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    Ok(std::path::absolute(path)?.into_os_string().into_vec())
}
