//! Which paths the bundle answers for.
//!
//! A rule is a folder and what stands for it in the bundle; the longest rule that a path lies below
//! decides. The node image's tree and the original roots are claimed, the folders of the program
//! are exempt. The environment is claimed whole: what the index doesn't know below it doesn't
//! exist. Of other roots (`/usr`, a base prefix) only what the index knows is claimed.

use std::borrow::Cow;

use pybundle_bundle::Manifest;

/// What a rule says of the paths below its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// They lie below this folder of the bundle, and nowhere else.
    Whole(Vec<u8>),
    /// They lie below this folder of the bundle, if the index knows them.
    Known(Vec<u8>),
    /// They are the program's own.
    Exempt,
}

/// A claimed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// The path inside the bundle.
    pub(crate) inside: Vec<u8>,
    /// Nothing but the bundle may answer, even if the index doesn't know the path.
    pub(crate) whole: bool,
}

/// The rules, longest folder first.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    rules: Vec<(Vec<u8>, Target)>,
}

impl Claims {
    /// The rules for a manifest, with the image's tree and the folders of the program.
    pub(crate) fn new(manifest: &Manifest, tree: &[u8], program: &[Vec<u8>]) -> Self {
        let mut claims = Self::default();
        for folder in program {
            claims.add(folder, Target::Exempt);
        }
        claims.add(tree, Target::Whole(Vec::new()));
        for root in &manifest.roots {
            for path in &root.paths {
                claims.add_root(path.as_bytes(), root.folder.as_bytes());
            }
            // A program that lies in the environment's own folder must not take the packages with
            // it, so the folders of `sys.path` have rules of their own.
            for entry in &manifest.sys_path {
                let Some(rest) = below(root.folder.as_bytes(), entry.as_bytes()) else {
                    continue;
                };
                if rest.is_empty() || (root.folder.is_empty() && is_other_root(entry.as_bytes())) {
                    continue;
                }
                for path in &root.paths {
                    claims.add_root(&join(path.as_bytes(), rest), entry.as_bytes());
                }
            }
        }
        claims
    }

    /// Claims another original path of a folder of the bundle.
    pub(crate) fn add_root(&mut self, path: &[u8], inside: &[u8]) {
        let target = if is_other_root(inside) {
            Target::Known(inside.to_vec())
        } else {
            Target::Whole(inside.to_vec())
        };
        self.add(path, target);
    }

    fn add(&mut self, path: &[u8], target: Target) {
        let Some(path) = normal(path) else { return };
        // The first rule for a folder stays: the program's come first.
        if self.rules.iter().any(|(known, _)| *known == *path) {
            return;
        }
        let at = self
            .rules
            .partition_point(|(known, _)| known.len() >= path.len());
        self.rules.insert(at, (path.into_owned(), target));
    }

    /// The claim on a path, given as bytes.
    pub(crate) fn claim(&self, path: &[u8]) -> Option<Claimed> {
        let path = normal(path)?;
        let (rest, target) = self
            .rules
            .iter()
            .find_map(|(folder, target)| Some((below(folder, &path)?, target)))?;
        let (inside, whole) = match target {
            Target::Exempt => return None,
            Target::Whole(inside) => (inside, true),
            Target::Known(inside) => (inside, false),
        };
        Some(Claimed {
            inside: join(inside, rest),
            whole,
        })
    }
}

/// Does a path inside the bundle lie below a root other than the environment?
pub(crate) fn is_other_root(inside: &[u8]) -> bool {
    below(pybundle_bundle::limits::ROOTS_FOLDER.as_bytes(), inside).is_some()
}

/// The part of `path` below `folder`, without a leading `/`; `None` if it lies elsewhere.
pub(crate) fn below<'a>(folder: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if folder.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(folder)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// `folder/rest`, where either may be empty.
pub(crate) fn join(folder: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + rest.len());
    path.extend(folder);
    if !folder.is_empty() && !rest.is_empty() {
        path.push(b'/');
    }
    path.extend(rest);
    path
}

/// An absolute path without empty, `.` and `..` names and without `/` at its end; `None` for a
/// relative path. `..` is resolved by name: links below claimed folders are resolved later, by the
/// index.
fn normal(path: &[u8]) -> Option<Cow<'_, [u8]>> {
    let relative = path.strip_prefix(b"/")?;
    let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    if relative.split(|&byte| byte == b'/').all(plain) {
        return Some(Cow::Borrowed(path));
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for name in relative.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for name in names {
        clean.push(b'/');
        clean.extend(name);
    }
    Some(Cow::Owned(clean))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(program: &[&str]) -> Claims {
        let mut claims = Claims::default();
        for folder in program {
            claims.add(folder.as_bytes(), Target::Exempt);
        }
        claims.add(b"/node/tree", Target::Whole(Vec::new()));
        claims.add_root(b"/env", b"");
        claims.add_root(
            b"/env/lib/python3.11/site-packages",
            b"lib/python3.11/site-packages",
        );
        claims.add_root(b"/usr", b"META-INF/pybundle/roots/1");
        claims
    }

    fn inside(claims: &Claims, path: &str) -> Option<String> {
        claims
            .claim(path.as_bytes())
            .map(|claimed| String::from_utf8(claimed.inside).unwrap())
    }

    #[test]
    fn tree_and_roots_are_claimed() {
        let claims = claims(&[]);
        let at = |path| inside(&claims, path);
        assert_eq!(at("/node/tree/lib/x").as_deref(), Some("lib/x"));
        assert_eq!(at("/env").as_deref(), Some(""));
        assert_eq!(at("/env/lib/").as_deref(), Some("lib"));
        assert_eq!(at("/env//bin/../lib/./a").as_deref(), Some("lib/a"));
        assert_eq!(at("/environment"), None);
        assert_eq!(at("env"), None);
        assert_eq!(at("/home/program"), None);
        let usr = claims.claim(b"/usr/lib").unwrap();
        assert!(!usr.whole && usr.inside == b"META-INF/pybundle/roots/1/lib");
    }

    #[test]
    fn a_program_in_the_environment_keeps_its_paths() {
        let claims = claims(&["/env", "/env/scripts"]);
        let at = |path| inside(&claims, path);
        assert_eq!(at("/env/package"), None);
        assert_eq!(at("/env/scripts/package"), None);
        assert_eq!(
            at("/env/lib/python3.11/site-packages/numpy").as_deref(),
            Some("lib/python3.11/site-packages/numpy")
        );
    }
}
