//! What changed in an environment since a bundle was packed from it.
//!
//! The environment is walked by the rules of a packing, with the bundle's own options, and what a
//! packing would take is compared with the bundle's index: kind, permissions, size, CRC-32 of the
//! content or of a link's text. Nothing is compiled, and of the bundle only its head is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use fs_err as fs;
use pybundle_bundle::{
    Head, Index, limits, name, pipeline,
    record::{Entry, Kind},
};
use serde::Serialize;

use crate::{
    Error, Phase, Progress, Result,
    classify::{first, place},
    content::Reader,
    distributions::normalise,
    environment::{self, Environment},
    exclude::Exclude,
    gather::{Gathered, Walked},
    groups::METADATA,
    scan::{Found, PYCACHE, Tree, What},
    stages::jobs,
};

/// What changed since a bundle was packed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// The bundle's identity, 64 hexadecimal digits.
    pub identity: String,
    /// The environment's Python, if it is another version now.
    pub python: Option<Versions>,
    /// Entries that the bundle hasn't.
    pub added: usize,
    /// Entries that the environment no longer has.
    pub removed: usize,
    /// Entries that are not what they were.
    pub changed: usize,
    /// The same by distribution, sorted by name; only those with a difference.
    pub distributions: Vec<Changes>,
}

/// What changed in a distribution, or in files of none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Its name as the bundle's groups have it; what is in a `dist-info` folder counts for the
    /// distribution that the folder is of.
    pub name: String,
    /// Its version in the bundle and now.
    pub version: Versions,
    /// Paths that the bundle hasn't, sorted.
    pub added: Vec<String>,
    /// Paths that the environment no longer has, sorted.
    pub removed: Vec<String>,
    /// What is not what it was, sorted by path.
    pub changed: Vec<Change>,
}

/// Two states of a version; `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// In the bundle.
    pub packed: Option<String>,
    /// In the environment.
    pub now: Option<String>,
}

/// An entry that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its path in the bundle, with bytes that aren't UTF-8 escaped.
    pub path: String,
    /// What is different.
    pub what: Vec<Aspect>,
}

/// What may be different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// It was a file and is a link now, or the like.
    Kind,
    /// Permissions.
    Mode,
    /// The bytes of a file, or the text of a link.
    Content,
}

impl Differences {
    /// Is the environment what it was?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.python.is_none() && self.distributions.is_empty()
    }
}

/// Compares an environment with the bundle at `path`, whose head was read. Writes nothing.
///
/// # Errors
/// [`Error`] for what is no environment, and for what can't be read.
pub fn diff(
    path: &Path,
    head: &Head,
    environment: &Path,
    progress: &dyn Progress,
) -> Result<Differences> {
    let (jobs, options) = (jobs(None), &head.manifest.options);
    let exclude = Exclude::new(&options.exclude)?;
    progress.update(Phase::Scan, 0, None);
    let environment = Environment::open(environment)?;
    let bundle = fs::canonicalize(path)?;
    let walked = Walked::new(environment, &exclude, options.stdlib, &bundle, progress)?;
    let now = walked.resolve(None, jobs, progress)?;

    let mut gone = entries(&head.index);
    let (mut added, mut common) = (Vec::new(), Vec::new());
    for (position, found) in now.tree.iter().enumerate() {
        match gone.remove(found.path.as_slice()) {
            Some(entry) => common.push((position, entry)),
            None => added.push(position),
        }
    }
    let changed = changed(&now, &common, jobs, progress)?;

    let (was, is) = (Packed::new(head), Now::new(&now));
    let mut all = Sorted::default();
    for position in added {
        if let Some(found) = now.tree.get(position)
            && counts(&found.path)
            && !(found.what == What::Folder && head.index.find_folder(&found.path).is_some())
        {
            all.of(is.owner(position, &found.path))
                .added
                .push(name::escape(&found.path));
        }
    }
    for (path, entry) in gone {
        let stays = entry.kind == Kind::Folder as u8 && now.tree.is_folder(path);
        if counts(path) && !stays {
            all.of(was.owner(&entry, path))
                .removed
                .push(name::escape(path));
        }
    }
    for (position, what) in changed {
        if let Some(found) = now.tree.get(position) {
            all.of(is.owner(position, &found.path))
                .changed
                .push(Change {
                    path: name::escape(&found.path),
                    what,
                });
        }
    }
    let version = (
        head.manifest.python.version.clone(),
        environment::version(&now.environment.python),
    );
    let distributions = all.finish(&was.versions, &is.versions);
    let count = |list: fn(&Changes) -> usize| distributions.iter().map(list).sum();
    Ok(Differences {
        identity: head.identity.to_string(),
        python: (version.0 != version.1).then_some(Versions {
            packed: Some(version.0),
            now: Some(version.1),
        }),
        added: count(|one| one.added.len()),
        removed: count(|one| one.removed.len()),
        changed: count(|one| one.changed.len()),
        distributions,
    })
}

/// What a bundle holds of its environment, by path.
fn entries(index: &Index<Vec<u8>>) -> BTreeMap<&[u8], Entry> {
    let rows = (0..index.entries()).filter_map(|row| index.entry(row));
    rows.filter(|entry| entry.kind < Kind::Code as u8)
        .map(|entry| (index.text(entry.path), entry))
        .collect()
}

/// Caches beside Python's own, as numba's, are packed, but come and go with what is imported.
fn counts(path: &[u8]) -> bool {
    !path.split(|&byte| byte == b'/').any(|part| part == PYCACHE)
}

/// Which of the entries that both have are different, and in what: files are read side by side.
fn changed(
    now: &Gathered,
    common: &[(usize, Entry)],
    jobs: usize,
    progress: &dyn Progress,
) -> Result<Vec<(usize, Vec<Aspect>)>> {
    let reader = Reader::new(&now.tree, &now.own, &now.groups, &now.needs);
    let total = common.iter().map(|&(position, _)| reader.size(position));
    let (total, done) = (total.sum(), AtomicU64::new(0));
    let mut changed = Vec::new();
    pipeline::run(
        jobs,
        common,
        |&(position, _)| reader.size(position),
        || Ok(()),
        |(), &(position, entry)| {
            let size = reader.size(position);
            let found = now.tree.get(position).filter(|found| counts(&found.path));
            let read = || reader.read(position);
            let what = found.map_or(Ok(Vec::new()), |found| compare(found, &entry, read))?;
            let done = done.fetch_add(size, Ordering::Relaxed) + size;
            progress.update(Phase::Compare, done, Some(total));
            Ok::<_, Error>((what, 0))
        },
        |number, what| {
            if !what.is_empty() {
                changed.push((common[number].0, what));
            }
            Ok(())
        },
    )?;
    Ok(changed)
}

/// What is different between a thing and its entry. `read` gives the content as it is packed, and is
/// called where sizes can't tell.
fn compare(
    found: &Found,
    entry: &Entry,
    read: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<Vec<Aspect>> {
    let (kind, size) = match &found.what {
        What::File(stamp) => (Kind::File, stamp.size),
        What::Link(text) => (Kind::Link, text.len() as u64),
        What::Folder => (Kind::Folder, 0),
    };
    if entry.kind != kind as u8 {
        return Ok(vec![Aspect::Kind]);
    }
    let mut what = Vec::new();
    if (found.mode ^ entry.mode) & 0o777 != 0 {
        what.push(Aspect::Mode);
    }
    if size != entry.size || crc32fast::hash(&read()?) != entry.crc32 {
        what.push(Aspect::Content);
    }
    Ok(what)
}

/// Versions of distributions, by normalised name.
type Installed = BTreeMap<String, BTreeSet<String>>;

/// To whom belongs what a bundle holds.
struct Packed<'a> {
    index: &'a Index<Vec<u8>>,
    sys_path: Vec<Vec<u8>>,
    versions: Installed,
}

impl<'a> Packed<'a> {
    fn new(head: &'a Head) -> Self {
        let index = &head.index;
        let folders = head.manifest.sys_path.iter();
        let sys_path: Vec<Vec<u8>> = folders.map(|path| path.clone().into_bytes()).collect();
        let rows = (0..index.entries()).filter_map(|row| index.entry(row));
        let versions = installed(rows.map(|entry| index.text(entry.path)), &sys_path);
        Self {
            index,
            sys_path,
            versions,
        }
    }

    fn owner(&self, entry: &Entry, path: &[u8]) -> String {
        let group = self.index.group(entry.group);
        let group = group.map(|group| String::from_utf8_lossy(self.index.text(group.name)));
        owner(&group.unwrap_or_default(), path, &self.sys_path)
    }
}

/// To whom belongs what an environment holds.
struct Now<'a> {
    gathered: &'a Gathered,
    versions: Installed,
}

impl<'a> Now<'a> {
    fn new(gathered: &'a Gathered) -> Self {
        let paths = |tree: &'a Tree| tree.iter().map(|found| found.path.as_slice());
        Self {
            gathered,
            versions: installed(paths(&gathered.tree), &gathered.site.sys_path),
        }
    }

    fn owner(&self, position: usize, path: &[u8]) -> String {
        let groups = &self.gathered.groups;
        let group = groups.of.get(position).and_then(|&n| groups.list.get(n));
        let group = group.map(|group| group.name.as_str()).unwrap_or_default();
        owner(group, path, &self.gathered.site.sys_path)
    }
}

/// The group of a path, but for metadata the distribution that it is of: all metadata is one group,
/// whose changes would say nothing. Tests belong to what they test.
fn owner(group: &str, path: &[u8], sys_path: &[Vec<u8>]) -> String {
    let of = (group == METADATA).then(|| distribution(path, sys_path));
    let tested = group.strip_suffix(limits::TESTS_GROUP).unwrap_or(group);
    of.flatten()
        .map_or_else(|| tested.to_owned(), |(name, _)| name)
}

/// What the metadata among these paths says of versions.
fn installed<'a>(paths: impl Iterator<Item = &'a [u8]>, sys_path: &[Vec<u8>]) -> Installed {
    let mut installed = Installed::new();
    for path in paths {
        if let Some((name, Some(version))) = distribution(path, sys_path) {
            installed.entry(name).or_default().insert(version);
        }
    }
    installed
}

/// The distribution in whose `dist-info` or `egg-info` a path lies, or which it is: its normalised
/// name and, if the folder's name has one, its version.
fn distribution(path: &[u8], sys_path: &[Vec<u8>]) -> Option<(String, Option<String>)> {
    let top = first(place(path, sys_path)?.inner);
    let top = std::str::from_utf8(top).ok()?;
    let (name, version) = if let Some(stem) = top.strip_suffix(".dist-info") {
        let (name, version) = stem.rsplit_once('-')?;
        (name, Some(version))
    } else {
        let mut parts = top.strip_suffix(".egg-info")?.split('-');
        (parts.next()?, parts.next())
    };
    Some((normalise(name), version.map(str::to_owned)))
}

/// Differences by the name of their owner.
#[derive(Default)]
struct Sorted(BTreeMap<String, Changes>);

impl Sorted {
    fn of(&mut self, name: String) -> &mut Changes {
        self.0.entry(name).or_default()
    }

    fn finish(self, was: &Installed, is: &Installed) -> Vec<Changes> {
        let version = |installed: &Installed, name: &str| {
            let versions = installed.get(name)?.iter().map(String::as_str);
            Some(versions.collect::<Vec<_>>().join(", "))
        };
        let changes = self.0.into_iter().map(|(name, mut changes)| {
            changes.version = Versions {
                packed: version(was, &name),
                now: version(is, &name),
            };
            changes.name = name;
            changes
        });
        changes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Stamp;

    #[test]
    fn metadata_is_of_the_distribution_that_its_folder_names() {
        let sys_path = [b"lib".to_vec(), b"lib/sp".to_vec()];
        let of = |path: &str| distribution(path.as_bytes(), &sys_path);
        let some =
            |name: &str, version: Option<&str>| Some((name.to_owned(), version.map(str::to_owned)));
        for (path, expected) in [
            (
                "lib/sp/A_b.c-1.0rc1.dist-info/RECORD",
                some("a-b-c", Some("1.0rc1")),
            ),
            ("lib/sp/a-b-2.dist-info/METADATA", some("a-b", Some("2"))),
            ("lib/sp/a-1-py3.11.egg-info", some("a", Some("1"))),
            ("lib/sp/a.egg-info/PKG-INFO", some("a", None)),
            ("lib/sp/a/b-1.dist-info/RECORD", None),
            ("share/a-1.dist-info/RECORD", None),
            ("lib/sp/a-1.py", None),
        ] {
            assert_eq!(of(path), expected, "{path}");
        }
        assert_eq!(owner(METADATA, b"lib/sp/q-1.dist-info/x", &sys_path), "q");
        assert_eq!(owner(METADATA, b"lib/sp/EGG-INFO/x", &sys_path), METADATA);
        assert_eq!(owner("a", b"lib/sp/q-1.dist-info/x", &sys_path), "a");
    }

    #[test]
    fn caches_do_not_count() {
        assert!(!counts(b"lib/a/__pycache__/b.nbi"));
        assert!(counts(b"lib/a/pycache/b.nbi"));
    }

    #[test]
    fn entries_are_compared_in_every_aspect() {
        let found = |what, mode| Found {
            path: b"x".to_vec(),
            source: "x".into(),
            mode,
            what,
        };
        let file = |size| {
            What::File(Stamp {
                size,
                ..Stamp::default()
            })
        };
        let entry = Entry {
            mode: 0o100_644,
            crc32: crc32fast::hash(b"abc"),
            kind: Kind::File as u8,
            size: 3,
            ..empty_entry()
        };
        let check = |found: &Found, content: &[u8]| {
            compare(found, &entry, || Ok(content.to_vec())).unwrap()
        };
        assert_eq!(check(&found(file(3), 0o100_644), b"abc"), []);
        // What a bundle doesn't keep of a mode doesn't count.
        assert_eq!(check(&found(file(3), 0o104_644), b"abc"), []);
        assert_eq!(check(&found(file(3), 0o100_600), b"abc"), [Aspect::Mode]);
        assert_eq!(check(&found(file(3), 0o100_644), b"abd"), [Aspect::Content]);
        assert_eq!(check(&found(file(4), 0o100_644), b"abc"), [Aspect::Content]);
        let link = found(What::Link(b"abc".to_vec()), 0o777);
        assert_eq!(check(&link, b"abc"), [Aspect::Kind]);
        // Both are said.
        let both = check(&found(file(3), 0o100_755), b"xyz");
        assert_eq!(both, [Aspect::Mode, Aspect::Content]);
        // A file whose size tells is not read.
        let unread = || -> Result<Vec<u8>> { panic!("read") };
        let longer = found(file(9), 0o100_644);
        assert_eq!(compare(&longer, &entry, unread).unwrap(), [Aspect::Content]);
    }

    fn empty_entry() -> Entry {
        use pybundle_bundle::record::Record as _;
        Entry::read(&[0; Entry::WIDTH])
    }
}
