//! Which distribution a file belongs to: `RECORD`, else conda's records, else an egg-info's list.

mod lists;

use std::{collections::HashMap, path::PathBuf};

use fs_err as fs;
use pybundle_bundle::name;

use crate::{
    Result,
    classify::first,
    roots::{Roots, is_below, join},
    scan::{Node, Tree, What},
};

/// A distribution that is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// Its name, normalised as by PEP 503.
    pub(crate) name: String,
    /// Names, normalised, of distributions that it requires.
    pub(crate) requires: Vec<String>,
}

/// Distributions and what they own.
#[derive(Debug, Default)]
pub(crate) struct Distributions {
    /// By number.
    pub(crate) list: Vec<Distribution>,
    /// Position in the tree to number.
    owner: HashMap<usize, usize>,
}

impl Distributions {
    /// Reads the records of all distributions.
    ///
    /// # Errors
    /// [`crate::Error::Io`] for a record that can't be read.
    pub(crate) fn read(tree: &Tree, roots: &Roots, site_packages: &[Vec<u8>]) -> Result<Self> {
        let mut all = Self::default();
        for suffix in [&b".dist-info"[..], b".egg-info"] {
            if suffix == b".egg-info" {
                all.read_conda(tree)?;
            }
            for site in site_packages {
                for folder in info_folders(tree, site, suffix) {
                    all.read_info(tree, roots, site, &folder)?;
                }
            }
        }
        Ok(all)
    }

    /// The number of the distribution that owns what is at a position.
    pub(crate) fn owner(&self, position: usize) -> Option<usize> {
        self.owner.get(&position).copied()
    }

    fn add(&mut self, name: &str, requires: Vec<String>) -> usize {
        let name = normalise(name);
        if let Some(number) = self.list.iter().position(|one| one.name == name) {
            let known = &mut self.list[number].requires;
            known.extend(requires);
            return number;
        }
        self.list.push(Distribution { name, requires });
        self.list.len() - 1
    }

    /// The first claim counts.
    fn claim(&mut self, tree: &Tree, path: &[u8], number: usize) {
        let position = tree.find(path).or_else(|| match tree.resolve(path) {
            Some(Node::File(position)) => Some(position),
            _ => None,
        });
        if let Some(position) = position {
            self.owner.entry(position).or_insert(number);
        }
    }

    /// A `dist-info` or `egg-info` folder.
    fn read_info(&mut self, tree: &Tree, roots: &Roots, site: &[u8], info: &[u8]) -> Result<()> {
        let text = |name: &str| -> Result<Option<String>> {
            let Some(Node::File(position)) = tree.resolve(&join(info, name.as_bytes())) else {
                return Ok(None);
            };
            let source = tree.get(position).map(|found| fs::read(&found.source));
            let bytes = source.transpose()?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let metadata = match text("METADATA")? {
            None => text("PKG-INFO")?,
            some => some,
        };
        let metadata = lists::metadata(metadata.as_deref().unwrap_or_default());
        let name = metadata.name.unwrap_or_else(|| {
            let last = String::from_utf8_lossy(name::split(info).1);
            let stem = last
                .trim_end_matches(".dist-info")
                .trim_end_matches(".egg-info");
            stem.split('-').next().unwrap_or_default().to_owned()
        });
        let number = self.add(&name, metadata.requires);
        if let Some(record) = text("RECORD")? {
            for path in lists::record(&record) {
                let inside = if path.starts_with('/') {
                    roots.bundle_path_of_given(&PathBuf::from(path.as_ref()))
                } else {
                    lists::normalise(site, path.as_bytes())
                };
                if let Some(inside) = inside {
                    self.claim(tree, &inside, number);
                }
            }
        } else if let Some(installed) = text("installed-files.txt")? {
            for line in installed.lines() {
                if let Some(path) = lists::normalise(info, line.as_bytes()) {
                    self.claim(tree, &path, number);
                }
            }
        } else {
            if let Some(names) = text("top_level.txt")? {
                for top in names.lines().filter(|line| !line.trim().is_empty()) {
                    self.claim_top(tree, &join(site, top.trim().as_bytes()), number);
                }
            }
            for line in text("SOURCES.txt")?.unwrap_or_default().lines() {
                if let Some(path) = lists::normalise(site, line.as_bytes()) {
                    self.claim(tree, &path, number);
                }
            }
        }
        Ok(())
    }

    /// A top-level module or package: `top/…`, `top.py`, `top.*.so`.
    fn claim_top(&mut self, tree: &Tree, top: &[u8], number: usize) {
        for (position, found) in tree.iter().enumerate() {
            let module = found
                .path
                .strip_prefix(top)
                .is_some_and(|rest| rest.starts_with(b".") && !rest.contains(&b'/'));
            if module || is_below(&found.path, top) {
                self.owner.entry(position).or_insert(number);
            }
        }
    }

    /// `conda-meta/*.json`.
    fn read_conda(&mut self, tree: &Tree) -> Result<()> {
        for found in tree.iter() {
            let is_record = found.path.starts_with(b"conda-meta/")
                && found.path.ends_with(b".json")
                && matches!(found.what, What::File(_));
            if !is_record {
                continue;
            }
            // A record that isn't one owns nothing.
            let Some(record) = lists::conda(&fs::read(&found.source)?) else {
                continue;
            };
            let number = self.add(&record.name, Vec::new());
            for path in &record.files {
                self.claim(tree, path.as_bytes(), number);
            }
        }
        Ok(())
    }
}

/// Folders `*.dist-info` (or `*.egg-info`) of a site folder, sorted.
fn info_folders(tree: &Tree, site: &[u8], suffix: &[u8]) -> Vec<Vec<u8>> {
    let mut folders: Vec<Vec<u8>> = tree
        .iter()
        .filter_map(|found| {
            let inner = found.path.strip_prefix(site)?;
            let inner = inner.strip_prefix(b"/").unwrap_or(inner);
            let top = first(inner);
            (top.ends_with(suffix) && top.len() < inner.len()).then(|| join(site, top))
        })
        .collect();
    folders.dedup();
    folders
}

/// A distribution's name as PEP 503 compares it.
pub(crate) fn normalise(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for character in name.trim().chars() {
        if matches!(character, '-' | '_' | '.') {
            if !out.ends_with('-') {
                out.push('-');
            }
        } else {
            out.extend(character.to_lowercase());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_pep_503_says() {
        assert_eq!(normalise("Foo__Bar.-baz "), "foo-bar-baz");
    }
}
