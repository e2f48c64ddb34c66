//! The order in which libraries are opened before the file that needs them.

use super::resolve::{Libraries, Place};

impl Libraries {
    /// Files that `file` needs, directly or not, each before those that need it.
    ///
    /// Where files need each other the one met first comes last; `ld.so`, which opens
    /// all of them when it opens one, takes them in any order.
    pub fn load_order(&self, file: usize) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.all.len()];
        seen[file] = true;
        // Files whose dependencies are being visited, with the number of the next one.
        let mut path = vec![(file, 0)];
        while let Some((current, next)) = path.last_mut() {
            let Some(dependency) = self.all[*current].dependencies.get(*next) else {
                if *current != file {
                    order.push(*current);
                }
                path.pop();
                continue;
            };
            *next += 1;
            if let Place::Library(found) = dependency.place
                && !std::mem::replace(&mut seen[found], true)
            {
                path.push((found, 0));
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::elf::{Machine, Resolver, Scan, SearchPath};

    /// Files `lib0`, `lib1`, …, each with the numbers of those that it needs.
    fn libraries(needs: &[&[usize]]) -> Libraries {
        let folder = tempfile::tempdir().unwrap();
        let mut resolver = Resolver::new(SearchPath::default());
        for (number, needs) in needs.iter().enumerate() {
            let path = folder.path().join(format!("lib{number}"));
            std::fs::write(&path, "").unwrap();
            let scan = Scan {
                machine: Machine::X86_64,
                soname: None,
                needed: needs.iter().map(|need| format!("lib{need}")).collect(),
                rpath: vec!["$ORIGIN".into()],
                runpath: None,
                glibc: None,
                extension_module: false,
                calls_mpi: false,
                program: false,
                build_id: None,
            };
            resolver.add(path, scan);
        }
        resolver.resolve()
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let libraries = libraries(&[&[1, 2], &[3], &[3, 4], &[4], &[]]);
        assert_eq!(libraries.load_order(0), [4, 3, 1, 2]);
        assert_eq!(libraries.load_order(2), [4, 3]);
        assert!(libraries.load_order(4).is_empty());
    }

    #[test]
    fn files_that_need_each_other_end_the_walk() {
        let libraries = libraries(&[&[1], &[2], &[1, 0, 2]]);
        assert_eq!(libraries.load_order(0), [2, 1]);
        assert_eq!(libraries.load_order(1), [0, 2]);
    }

    #[test]
    fn a_long_chain_takes_no_stack() {
        let chain: Vec<Vec<usize>> = (1..2000).map(|next| vec![next]).chain([vec![]]).collect();
        let needs: Vec<&[usize]> = chain.iter().map(Vec::as_slice).collect();
        assert_eq!(
            libraries(&needs).load_order(0),
            (1..2000).rev().collect::<Vec<_>>()
        );
    }
}
