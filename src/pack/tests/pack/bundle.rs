//! A bundle, read back.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use fs_err as fs;
use pybundle_bundle::{
    Head, Index,
    reader::{Decoder, check, verify},
    record::{ENTRY_LAZY, ENTRY_SOURCE, Entry, GROUP_EAGER, Kind, Node, some},
};
use serde_json::json;

/// What the loader would put before the paths of modules.
const PREFIX: &str = "/prefix/";

/// A bundle that was verified.
pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) head: Head,
}

impl Bundle {
    /// Opens and verifies.
    pub(crate) fn open(path: &Path) -> Self {
        verify(path, |_| ()).unwrap();
        let head = Head::read(&mut fs::File::open(path).unwrap()).unwrap();
        Self {
            path: path.to_owned(),
            head,
        }
    }

    pub(crate) fn index(&self) -> &Index<Vec<u8>> {
        &self.head.index
    }

    /// The entry at a path.
    pub(crate) fn entry(&self, path: &str) -> Option<Entry> {
        match self.index().find(path.as_bytes())? {
            Node::Entry(row) => self.index().entry(row),
            Node::Folder(_) => None,
        }
    }

    /// The kind of the entry at a path.
    pub(crate) fn kind(&self, path: &str) -> Option<Kind> {
        self.entry(path)
            .and_then(|entry| Kind::from_number(entry.kind))
    }

    /// Paths of all entries but code and manifest.
    pub(crate) fn paths(&self) -> Vec<String> {
        (0..self.index().entries())
            .filter_map(|row| self.index().entry(row))
            .filter(|entry| entry.kind < Kind::Code as u8)
            .map(|entry| self.index().entry_name(&entry))
            .collect()
    }

    /// The decoded content of an entry.
    pub(crate) fn content(&self, entry: &Entry) -> Vec<u8> {
        let file = fs::read(&self.path).unwrap();
        let from = entry.offset as usize;
        let stored = &file[from..from + entry.stored as usize];
        check(self.index(), entry, stored).unwrap();
        let mut content = vec![0; entry.size as usize];
        Decoder::new()
            .unwrap()
            .decode(self.index(), entry, stored, &mut content)
            .unwrap();
        content
    }

    /// The content of the entry at a path.
    pub(crate) fn read(&self, path: &str) -> String {
        let entry = self.entry(path).unwrap_or_else(|| panic!("{path}"));
        String::from_utf8(self.content(&entry)).unwrap()
    }

    /// The name of the group of the entry at a path.
    pub(crate) fn group(&self, path: &str) -> String {
        let entry = self.entry(path).unwrap_or_else(|| panic!("{path}"));
        self.group_name(entry.group)
    }

    fn group_name(&self, row: u32) -> String {
        let group = self.index().group(row).unwrap();
        String::from_utf8(self.index().text(group.name).to_vec()).unwrap()
    }

    /// Names of a group's companions.
    pub(crate) fn companions(&self, name: &str) -> Vec<String> {
        let group = (0..self.index().groups())
            .find(|&row| self.group_name(row) == name)
            .and_then(|row| self.index().group(row))
            .unwrap_or_else(|| panic!("{name}"));
        self.index()
            .companions(&group)
            .map(|row| self.group_name(row))
            .collect()
    }

    /// Checks the order: hot entries are code and the eager groups', each group's cold entries lie
    /// together.
    pub(crate) fn check_order(&self) {
        let mut seen: Vec<(u32, bool)> = Vec::new();
        for entry in (1..self.index().entries()).filter_map(|row| self.index().entry(row)) {
            let eager = some(entry.group)
                .and_then(|group| self.index().group(group))
                .is_some_and(|group| group.flags & GROUP_EAGER != 0);
            let name = self.index().entry_name(&entry);
            let code = entry.kind == Kind::Code as u8;
            let hot = code && !name.contains("_tests-") || eager && entry.flags & ENTRY_LAZY == 0;
            assert_eq!(self.index().is_hot(&entry), hot, "{name}");
            let late = entry.flags & (ENTRY_LAZY | ENTRY_SOURCE) != 0;
            if !hot && !code && seen.last() != Some(&(entry.group, late)) {
                assert!(!seen.contains(&(entry.group, late)));
                seen.push((entry.group, late));
            }
        }
    }

    /// Module rows by folder and name, as `file`.
    pub(crate) fn modules(&self) -> BTreeMap<(String, String), String> {
        let index = self.index();
        (0..index.modules())
            .filter_map(|row| index.module(row))
            .map(|module| {
                let folder = index.path(Node::Folder(module.folder)).unwrap();
                let file = index.path(Node::Entry(module.file)).unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                ((text(folder), text(index.text(module.name))), text(file))
            })
            .collect()
    }

    /// The decoded code of all blocks, as the packed code.
    fn packed_code(&self) -> Vec<u8> {
        let mut code = Vec::new();
        for block in (0..self.index().blocks()).filter_map(|row| self.index().block(row)) {
            assert_eq!(block.at, code.len() as u64);
            code.extend(self.content(&self.index().entry(block.entry).unwrap()));
        }
        code
    }

    /// Lets the interpreter compare the module table with what its own finder finds in the
    /// environment, and the code with what it compiles: folders, modules, codes compared.
    pub(crate) fn compare(&self, interpreter: &Path) -> (usize, usize, usize) {
        let folder = tempfile::tempdir().unwrap();
        let packed = self.packed_code();
        let index = self.index();
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        let rows = (0..index.modules()).map(|row| {
            let module = index.module(row).unwrap();
            let mut file = None;
            if module.code_at != u64::MAX {
                let from = module.code_at as usize;
                let code = &packed[from..from + module.code_len as usize];
                let path = folder.path().join(row.to_string());
                fs::write(&path, complete(code, some(module.filename_at))).unwrap();
                file = Some(path);
            }
            json!({
                "folder": text(index.path(Node::Folder(module.folder))),
                "name": text(Some(index.text(module.name))),
                "kind": module.kind,
                "file": text(index.path(Node::Entry(module.file))),
                "package": some(module.package).is_some(),
                "code": file,
            })
        });
        let roots: Vec<(&str, &str)> = self
            .head
            .manifest
            .roots
            .iter()
            .map(|root| (root.folder.as_str(), root.paths.last().unwrap().as_str()))
            .collect();
        let dump = json!({
            "roots": roots,
            "sys_path": self.head.manifest.sys_path,
            "modules": rows.collect::<Vec<_>>(),
        });
        let path = folder.path().join("dump.json");
        fs::write(&path, dump.to_string()).unwrap();
        let output = Command::new(interpreter)
            .args(["-I", "-B", "-W", "ignore"])
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/python/file_finder.py"
            ))
            .arg(&path)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let numbers: Vec<usize> = String::from_utf8(output.stdout)
            .unwrap()
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        (numbers[0], numbers[1], numbers[2])
    }
}

/// The code as the loader completes it.
fn complete(code: &[u8], filename_at: Option<u32>) -> Vec<u8> {
    let Some(at) = filename_at else {
        return code.to_vec();
    };
    let at = at as usize + 1;
    let (before, rest) = code.split_at(at);
    let (len, rest) = rest.split_first_chunk::<4>().unwrap();
    let len = u32::from_le_bytes(*len) + PREFIX.len() as u32;
    [before, &len.to_le_bytes(), PREFIX.as_bytes(), rest].concat()
}
