//! What root reads of a program's folder, and where it stops.
//!
//! A home directory may hold a million files, so it is not what lies there that is read but what
//! the program mentions: a module is read when its name stands, as a word, in the program's text or
//! in that of a module read before. Whatever else is imported later comes from the disk.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::OsStr,
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use pybundle_load::{LeftOut, ProgramFiles};

use super::{
    Bytecode, Content, Files, Folder, Found, Module, join,
    listing::{Kinds, Listing, list},
    words::words,
};

/// Where reading stops: every rank keeps what was read in its memory.
#[derive(Clone, Copy, Debug)]
struct Limits {
    files: u64,
    bytes: u64,
    /// Folders that are listed.
    folders: u64,
    /// Folders within one another below the program's.
    depth: u32,
}

const LIMITS: Limits = Limits {
    files: 4096,
    bytes: 16 << 20,
    folders: 1024,
    depth: 16,
};

/// Beyond that a text is data, and its words mean nothing.
const LONGEST_TEXT: usize = 4 << 20;

/// Names of what was left out that the receipt has room for.
const NAMED: usize = 50;

/// What the program reaches.
pub(crate) struct Reach {
    /// For the ranks; empty if the folder can't be listed.
    pub(crate) files: Files,
    /// For the receipt.
    pub(crate) report: ProgramFiles,
    words: HashSet<Vec<u8>>,
}

impl Reach {
    /// Does the program, or a module that it reaches, mention this word?
    pub(crate) fn mentions(&self, word: &[u8]) -> bool {
        self.words.contains(word)
    }
}

/// Reads what a program with this text reaches in its folder, which has an absolute path.
pub(crate) fn reach(folder: &Path, text: &[u8], bytecode: &Bytecode) -> Reach {
    within(LIMITS, folder, text, bytecode)
}

fn within(limits: Limits, folder: &Path, text: &[u8], bytecode: &Bytecode) -> Reach {
    let mut reader = Reader {
        limits,
        bytecode,
        files: Files::default(),
        report: ProgramFiles {
            folder: folder.to_owned(),
            ..ProgramFiles::default()
        },
        words: HashSet::new(),
        waiting: HashMap::new(),
        reached: VecDeque::new(),
    };
    reader.see(text);
    let top = folder.as_os_str().as_bytes();
    if let Some(listing) = reader.list(top) {
        reader.add(top, 0, listing);
    }
    while let Some(next) = reader.reached.pop_front() {
        reader.resolve(&next);
    }
    Reach {
        files: reader.files,
        report: reader.report,
        words: reader.words,
    }
}

/// A name in a listed folder.
struct Candidate {
    folder: Vec<u8>,
    depth: u32,
    name: Vec<u8>,
    kinds: Kinds,
}

struct Reader<'a> {
    limits: Limits,
    bytecode: &'a Bytecode,
    files: Files,
    report: ProgramFiles,
    /// All words so far.
    words: HashSet<Vec<u8>>,
    /// What nobody has mentioned so far, by name.
    waiting: HashMap<Vec<u8>, Vec<Candidate>>,
    /// What somebody has, first come first served.
    reached: VecDeque<Candidate>,
}

impl Reader<'_> {
    /// Takes note of a text's words.
    fn see(&mut self, text: &[u8]) {
        for word in words(&text[..text.len().min(LONGEST_TEXT)]) {
            if !self.words.contains(word) {
                self.words.insert(word.to_vec());
                self.reached
                    .extend(self.waiting.remove(word).into_iter().flatten());
            }
        }
    }

    /// The names in a folder; `None` if they are left to the ranks.
    fn list(&mut self, folder: &[u8]) -> Option<Listing> {
        if self.report.folders >= self.limits.folders {
            self.leave_out(folder, "too many folders");
            return None;
        }
        self.report.folders += 1;
        match list(path_of(folder), &self.bytecode.extensions) {
            Ok(Some(listing)) => Some(listing),
            Ok(None) => {
                self.leave_out(folder, "too many names in it");
                None
            }
            Err(error) => {
                self.leave_out(folder, &error.to_string());
                None
            }
        }
    }

    /// Answers for a listed folder from now on.
    fn add(&mut self, folder: &[u8], depth: u32, listing: Listing) {
        let entry = Folder {
            names: listing.names.keys().cloned().collect(),
            found: HashMap::new(),
            metadata: listing.metadata,
        };
        self.files.folders.insert(folder.to_vec(), entry);
        for (name, kinds) in listing.names {
            // A package's own file is read with the package.
            if name == b"__init__" {
                continue;
            }
            let candidate = Candidate {
                folder: folder.to_vec(),
                depth,
                name,
                kinds,
            };
            if self.words.contains(&candidate.name) {
                self.reached.push_back(candidate);
            } else {
                let known = self.waiting.entry(candidate.name.clone()).or_default();
                known.push(candidate);
            }
        }
    }

    /// Finds what importlib would find for a name, in its order.
    fn resolve(&mut self, candidate: &Candidate) {
        let path = join(&candidate.folder, &candidate.name);
        let mut portion = None;
        if candidate.kinds.folder && path_of(&path).is_dir() {
            if candidate.depth >= self.limits.depth {
                return self.leave_out(&path, "too deep");
            }
            let Some(listing) = self.list(&path) else {
                return;
            };
            match listing.names.get(b"__init__".as_slice()).copied() {
                Some(kinds) if kinds.source && !kinds.extension => {
                    if self.read(candidate, &join(&path, b"__init__.py"), true) {
                        self.add(&path, candidate.depth + 1, listing);
                    }
                    return;
                }
                Some(kinds) if kinds.extension || kinds.bytecode => {
                    return self.leave_out(&path, "no source");
                }
                _ => portion = Some(listing),
            }
        }
        let kinds = candidate.kinds;
        if kinds.extension {
            self.leave_out(&path, "extension module");
        } else if kinds.source {
            self.read(candidate, &[&path, b".py".as_slice()].concat(), false);
        } else if kinds.bytecode {
            self.leave_out(&path, "no source");
        } else if let Some(listing) = portion {
            self.found(candidate, Found::Portion);
            self.add(&path, candidate.depth + 1, listing);
        }
    }

    /// Reads the source of a module; false if it is left to the ranks.
    fn read(&mut self, candidate: &Candidate, file: &[u8], package: bool) -> bool {
        let left = self.limits.bytes.saturating_sub(self.report.bytes);
        if self.report.files >= self.limits.files {
            self.leave_out(file, "too many files");
            return false;
        }
        let path = path_of(file);
        let (text, found) = match source(path, left) {
            Ok(Some(read)) => read,
            Ok(None) => {
                self.leave_out(file, "too many bytes");
                return false;
            }
            Err(error) => {
                self.leave_out(file, &error.to_string());
                return false;
            }
        };
        self.see(&text);
        let content = match self.bytecode.cached(path, &found, &text, left) {
            Some(code) => Content::Code(code),
            None => Content::Text(text),
        };
        let (Content::Code(bytes) | Content::Text(bytes)) = &content;
        self.report.files += 1;
        self.report.bytes += bytes.len() as u64;
        self.found(candidate, Found::Module(Module { package, content }));
        true
    }

    fn found(&mut self, candidate: &Candidate, found: Found) {
        if let Some(folder) = self.files.folders.get_mut(&candidate.folder) {
            folder.found.insert(candidate.name.clone(), found);
        }
    }

    fn leave_out(&mut self, path: &[u8], why: &str) {
        self.report.left_out += 1;
        if self.report.left_out_named.len() < NAMED {
            self.report.left_out_named.push(LeftOut {
                path: String::from_utf8_lossy(path).into_owned(),
                why: why.to_owned(),
            });
        }
    }
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// A source file; `None` if it is longer than that.
fn source(path: &Path, most: u64) -> io::Result<Option<(Vec<u8>, Metadata)>> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if found.len() > most {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(Some((text, found)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Answer;

    /// A folder with these files; a link where the text begins with `->`.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("->") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => std::fs::write(path, text).unwrap(),
            }
        }
        folder
    }

    fn kind(reach: &Reach, folder: &Path, inside: &str, name: &str) -> &'static str {
        let folder = join(folder.as_os_str().as_bytes(), inside.as_bytes());
        let folder = folder.strip_suffix(b"/").unwrap_or(&folder);
        match reach.files.find(folder, name.as_bytes()) {
            Answer::Found(Found::Portion) => "portion",
            Answer::Found(Found::Module(module)) if module.package => "package",
            Answer::Found(Found::Module(_)) => "module",
            Answer::OnDisk => "disk",
            Answer::Absent => "absent",
        }
    }

    #[test]
    fn what_is_mentioned_is_read_and_nothing_else() {
        let home = folder(&[
            ("app.py", ""),
            ("one.py", "from package import inner\nimport space.leaf"),
            ("other.py", "import never"),
            ("package/__init__.py", ""),
            ("package/inner.py", "import_module('by_name')"),
            ("package/unused.py", ""),
            ("by_name.py", ""),
            ("space/leaf.py", ""),
            ("both/x.py", ""),
            ("both.py", ""),
            ("compiled.so", ""),
            ("compiled.py", ""),
            ("linked.py", "->other.py"),
        ]);
        let text = b"import one, numpy, both, compiled, linked";
        let reach = reach(home.path(), text, &Bytecode::none());
        let at = |inside, name| kind(&reach, home.path(), inside, name);
        assert_eq!(at("", "one"), "module");
        assert_eq!(at("", "package"), "package");
        assert_eq!(at("package", "inner"), "module");
        assert_eq!(at("package", "unused"), "disk");
        assert_eq!(at("package", "numpy"), "absent");
        assert_eq!(at("", "by_name"), "module");
        assert_eq!(at("", "space"), "portion");
        assert_eq!(at("space", "leaf"), "module");
        assert_eq!(at("", "both"), "module");
        assert_eq!(at("", "compiled"), "disk");
        assert_eq!(at("", "linked"), "module");
        assert_eq!(at("", "other"), "disk");
        assert_eq!(at("", "numpy"), "absent");
        assert_eq!(reach.report.files, 7);
        assert_eq!(reach.report.left_out, 1);
        assert_eq!(reach.report.left_out_named[0].why, "extension module");
        assert!(reach.mentions(b"never") && !reach.mentions(b"mpi4py"));
    }

    #[test]
    fn limits_leave_the_rest_to_the_ranks() {
        let home = folder(&[
            ("a.py", "b c"),
            ("b.py", "0123456789"),
            ("c.py", ""),
            ("d/d/d/x.py", ""),
            ("e", "->."),
        ]);
        let read =
            |limits, text: &str| within(limits, home.path(), text.as_bytes(), &Bytecode::none());
        let two = Limits { files: 2, ..LIMITS };
        let reach = read(two, "a");
        assert_eq!((reach.report.files, reach.report.left_out), (2, 1));
        assert_eq!(kind(&reach, home.path(), "", "c"), "disk");
        let short = Limits { bytes: 9, ..LIMITS };
        let reach = read(short, "a");
        assert_eq!(reach.report.left_out_named[0].why, "too many bytes");
        assert_eq!(kind(&reach, home.path(), "", "b"), "disk");
        assert_eq!(kind(&reach, home.path(), "", "c"), "module");
        let flat = Limits { depth: 2, ..LIMITS };
        let reach = read(flat, "d");
        assert_eq!(kind(&reach, home.path(), "d/d", "d"), "disk");
        // A link that leads back ends somewhere.
        let reach = read(LIMITS, "e");
        assert_eq!(reach.report.folders, u64::from(LIMITS.depth) + 1);
    }

    #[test]
    fn what_cant_be_read_is_left_to_the_ranks() {
        let home = folder(&[("a.py/x", ""), ("b.py", "->absent")]);
        let reach = reach(home.path(), b"a b", &Bytecode::none());
        assert_eq!(kind(&reach, home.path(), "", "a"), "disk");
        assert_eq!(kind(&reach, home.path(), "", "b"), "disk");
        assert_eq!(reach.report.left_out, 2);
        let absent = super::reach(&home.path().join("absent"), b"a", &Bytecode::none());
        assert_eq!(absent.files, Files::default());
    }
}
