//! What is placed together.
//!
//! A group is a distribution, the tests of one, or files that no distribution owns. Two groups are
//! eager: metadata, and what lies below no importable folder, since anything may open that by path.

use std::collections::{BTreeMap, BTreeSet};

use pybundle_bundle::{
    limits::{self, TESTS_GROUP},
    name,
};

use crate::{
    classify::{Class, class, first, is_library_name, is_test, place},
    distributions::{Distributions, normalise},
    roots::is_below,
    scan::{Tree, What},
    site::Site,
};

/// Name of the group of `*.dist-info` and the like.
pub(crate) const METADATA: &str = "(metadata)";
/// Name of the group of files below no importable folder.
pub(crate) const ENVIRONMENT: &str = "(environment)";
/// Files of the environment's own are eager together up to this many bytes; above, those that a
/// distribution owns are placed with it.
const EAGER_BYTES: u64 = 64 << 20;
/// Headers and the like come with their distribution up to this many bytes (`numpy.get_include()`
/// names a folder that a compiler then reads); above, on request only.
const HEADER_BYTES: u64 = 4 << 20;

/// The distribution whose programs start a bundle: nothing that runs from one needs them.
const OURS: &str = "pybundle";

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: String,
    /// Groups that come with it, transitively.
    pub(crate) companions: BTreeSet<usize>,
    /// Placed before imports begin.
    pub(crate) eager: bool,
}

impl Group {
    /// Holds tests alone.
    pub(crate) fn is_tests(&self) -> bool {
        self.name.ends_with(TESTS_GROUP)
    }
}

/// Groups, sorted by name, and what is in them.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// By number.
    pub(crate) list: Vec<Group>,
    /// By position in the tree: number of the group.
    pub(crate) of: Vec<usize>,
    /// By position in the tree.
    pub(crate) class: Vec<Class>,
    /// By position in the tree: below a folder of the standard library.
    pub(crate) stdlib: Vec<bool>,
}

impl Groups {
    /// The class of each thing of the tree.
    pub(crate) fn classes(tree: &Tree, site: &Site) -> Vec<Class> {
        tree.iter()
            .map(|found| {
                let executable = found.mode & 0o111 != 0 && matches!(found.what, What::File(_));
                class(&found.path, place(&found.path, &site.sys_path), executable)
            })
            .collect()
    }

    /// Sorts the tree into groups, as yet without companions.
    pub(crate) fn new(tree: &Tree, site: &Site, distributions: &Distributions) -> Self {
        let class = Self::classes(tree, site);
        let eager_bytes: u64 = tree
            .iter()
            .enumerate()
            .filter(|&(position, found)| {
                class[position] != Class::Development
                    && class[position] != Class::Metadata
                    && is_environment(&found.path, site)
            })
            .map(|(position, _)| tree.size(position))
            .sum();
        let names: Vec<String> = tree
            .iter()
            .enumerate()
            .map(|(position, found)| {
                let owner = distributions
                    .owner(position)
                    .map(|number| distributions.list[number].name.as_str());
                let small = eager_bytes <= EAGER_BYTES;
                group_name(&found.path, class[position], site, owner, small)
            })
            .collect();
        let sorted: BTreeSet<&String> = names.iter().collect();
        let numbers: BTreeMap<&String, usize> = sorted
            .into_iter()
            .enumerate()
            .map(|(number, name)| (name, number))
            .collect();
        let of = names.iter().map(|name| numbers[name]).collect();
        let list = numbers
            .keys()
            .map(|&name| Group {
                name: name.clone(),
                companions: BTreeSet::new(),
                eager: name == METADATA || name == ENVIRONMENT,
            })
            .collect();
        let stdlib = tree.iter().map(|found| site.is_stdlib(&found.path));
        let stdlib = stdlib.collect();
        Self {
            list,
            of,
            class,
            stdlib,
        }
    }

    /// The number of the group with a name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.list
            .binary_search_by(|group| group.name.as_str().cmp(name))
            .ok()
    }

    /// By number: whether what a group has for building software is placed on request only. So is
    /// what the environment has: nothing imports it.
    pub(crate) fn of_large_headers(&self, tree: &Tree) -> Vec<bool> {
        let mut bytes = vec![0; self.list.len()];
        for (position, class) in self.class.iter().enumerate() {
            if *class == Class::Development {
                bytes[self.of[position]] += tree.size(position);
            }
        }
        let large = |(group, bytes): (&Group, u64)| group.eager || bytes > HEADER_BYTES;
        self.list.iter().zip(bytes).map(large).collect()
    }

    /// Completes the companions: the groups of libraries that files need, by position; the
    /// distribution of tests; GPU libraries that a distribution requires and opens by path.
    pub(crate) fn join(
        &mut self,
        needs: &BTreeMap<usize, Vec<usize>>,
        distributions: &Distributions,
    ) {
        let mut direct: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.list.len()];
        for (&file, libraries) in needs {
            direct[self.of[file]].extend(libraries.iter().map(|&library| self.of[library]));
        }
        for (number, group) in self.list.iter().enumerate() {
            let tested = group
                .name
                .strip_suffix(TESTS_GROUP)
                .and_then(|name| self.find(name));
            direct[number].extend(tested);
        }
        for distribution in &distributions.list {
            let Some(number) = self.find(&distribution.name) else {
                continue;
            };
            let gpu = distribution
                .requires
                .iter()
                .filter(|name| name.starts_with("nvidia-"));
            direct[number].extend(gpu.filter_map(|name| self.find(name)));
        }
        for number in 0..self.list.len() {
            let mut all = BTreeSet::new();
            let mut open: Vec<usize> = direct[number].iter().copied().collect();
            while let Some(other) = open.pop() {
                if other != number && !self.list[other].eager && all.insert(other) {
                    open.extend(&direct[other]);
                }
            }
            self.list[number].companions = all;
        }
    }
}

/// Below no folder of `sys.path`, or loose files that are no modules beside packages.
fn is_environment(path: &[u8], site: &Site) -> bool {
    match place(path, &site.sys_path) {
        None => !is_below(path, limits::ROOTS_FOLDER.as_bytes()),
        Some(place) => place.inner.ends_with(b".pth") && !place.inner.contains(&b'/'),
    }
}

fn group_name(
    path: &[u8],
    class: Class,
    site: &Site,
    owner: Option<&str>,
    small_environment: bool,
) -> String {
    if class == Class::Metadata {
        return METADATA.to_owned();
    }
    if is_environment(path, site) {
        return match owner {
            Some(owner) if !small_environment || owner == OURS => owner.to_owned(),
            _ => ENVIRONMENT.to_owned(),
        };
    }
    let place = place(path, &site.sys_path);
    let Some(inside) = place else {
        // Libraries from outside the environment.
        return name::escape(name::split(path).0);
    };
    // What conda calls `python` is a whole standard library and more: too much to place at once.
    let in_stdlib = site.stdlib.iter().any(|folder| folder == inside.folder);
    let name = match owner.filter(|_| !in_stdlib) {
        Some(owner) => owner.to_owned(),
        None => top_name(inside.inner),
    };
    if is_test(place) {
        name + TESTS_GROUP
    } else {
        name
    }
}

/// The name of the top-level package or module that a path below a folder of `sys.path` is of.
fn top_name(inner: &[u8]) -> String {
    let top = first(inner);
    // `x.libs` is a folder of its own, `x.py` and `x.cpython-311.so` are the module `x`.
    let is_file = top.len() == inner.len();
    let is_module = is_file && (top.ends_with(b".py") || is_library_name(top));
    let stem = if is_module {
        top.split(|&byte| byte == b'.').next().unwrap_or_default()
    } else {
        top
    };
    normalise(&name::escape(stem))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::scan::{Found, Stamp};

    fn groups(rows: &[(&str, u64)]) -> (Tree, Groups) {
        let found = rows.iter().map(|&(path, size)| Found {
            path: path.into(),
            source: PathBuf::new(),
            mode: 0o644,
            what: What::File(Stamp {
                size,
                ..Stamp::default()
            }),
        });
        let tree = Tree::new(found.collect());
        let site = Site {
            sys_path: vec![b"lib/sp".to_vec()],
            ..Site::default()
        };
        let groups = Groups::new(&tree, &site, &Distributions::default());
        (tree, groups)
    }

    #[test]
    fn groups_without_records() {
        let rows = [
            ("bin/x", "(environment)"),
            ("lib/sp/Foo_bar/a.py", "foo-bar"),
            ("lib/sp/Foo_bar/tests/a.py", "foo-bar tests"),
            ("lib/sp/a.libs/libx.so", "a-libs"),
            ("lib/sp/foo_bar.cpython-311.so", "foo-bar"),
            ("lib/sp/q-1.dist-info/METADATA", "(metadata)"),
            ("lib/sp/x.pth", "(environment)"),
        ];
        let (tree, groups) = groups(&rows.map(|(path, _)| (path, 1)));
        for (path, name) in rows {
            let position = tree.find(path.as_bytes()).unwrap();
            assert_eq!(groups.list[groups.of[position]].name, name, "{path}");
        }
    }

    #[test]
    fn programs_come_first_but_our_own() {
        let name = |path: &str, owner| {
            group_name(
                path.as_bytes(),
                Class::Data,
                &Site::default(),
                Some(owner),
                true,
            )
        };
        assert_eq!(name("bin/ninja", "ninja"), ENVIRONMENT);
        assert_eq!(name("bin/pybundle", OURS), OURS);
    }

    #[test]
    fn companions_are_transitive_and_never_eager() {
        let (tree, mut groups) = groups(&[
            ("lib/l.so", 1),
            ("lib/sp/a/x.so", 1),
            ("lib/sp/a/tests/t.so", 1),
            ("lib/sp/b/x.so", 1),
            ("lib/sp/c/x.so", 1),
        ]);
        let at = |path: &str| tree.find(path.as_bytes()).unwrap();
        let needs = BTreeMap::from([
            (
                at("lib/sp/a/x.so"),
                vec![at("lib/sp/b/x.so"), at("lib/l.so")],
            ),
            (at("lib/sp/b/x.so"), vec![at("lib/sp/c/x.so")]),
            (at("lib/sp/c/x.so"), vec![at("lib/sp/a/x.so")]),
        ]);
        groups.join(&needs, &Distributions::default());
        let names = |group: &str| -> Vec<&str> {
            let group = &groups.list[groups.find(group).unwrap()];
            group
                .companions
                .iter()
                .map(|&one| groups.list[one].name.as_str())
                .collect()
        };
        assert_eq!(names("a"), ["b", "c"]);
        assert_eq!(names("c"), ["a", "b"]);
        assert_eq!(names("a tests"), ["a", "b", "c"]);
    }
}
