//! What is to be packed, and to whom it belongs: what packing and comparing begin with.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use pybundle_bundle::{installed, limits, manifest::Installed};

use crate::{
    Progress, Result, Skipped,
    distributions::Distributions,
    environment::Environment,
    exclude::Exclude,
    groups::Groups,
    interpreter::Own,
    libraries::{self, Shared},
    previous::Previous,
    roots::{Roots, is_below, join},
    scan::{Rules, Scanner, Tree, is_host},
    site::Site,
};

/// An environment that was walked.
pub(crate) struct Walked {
    environment: Environment,
    roots: Roots,
    site: Site,
    own: Own,
    installed: Vec<Installed>,
    tree: Tree,
    skipped: Vec<Skipped>,
}

/// Everything to pack, sorted into groups.
pub(crate) struct Gathered {
    /// The environment.
    pub(crate) environment: Environment,
    /// Where its files come from.
    pub(crate) roots: Roots,
    /// What `site` does in it.
    pub(crate) site: Site,
    /// The interpreter's own files.
    pub(crate) own: Own,
    /// What is installed in its own folders.
    pub(crate) installed: Vec<Installed>,
    /// Files, links, empty folders.
    pub(crate) tree: Tree,
    /// What was left out or is not packed as it is.
    pub(crate) skipped: Vec<Skipped>,
    /// The shared libraries.
    pub(crate) shared: Shared,
    /// ELF files and the libraries that each needs, by position.
    pub(crate) needs: BTreeMap<usize, Vec<usize>>,
    /// What is placed together.
    pub(crate) groups: Groups,
}

impl Walked {
    /// Asks what belongs to an environment and walks it. `bundle` is never taken along.
    ///
    /// # Errors
    /// [`crate::Error`] for what can't be read.
    pub(crate) fn new(
        environment: Environment,
        exclude: &Exclude,
        stdlib: bool,
        bundle: &Path,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut roots = Roots::new(environment.given.clone(), environment.real.clone());
        let site = Site::read(&environment.python, &mut roots, exclude, stdlib)?;
        let own = Own::find(&environment.python, &site, &mut roots);
        // Before the walk: what is installed during it shows later.
        let installed = installed(&site, &roots)?;
        let rules = Rules {
            exclude,
            left_out: &site.left_out,
            importable: &site.sys_path,
            roots: &roots,
            own: &own,
            output: bundle,
        };
        let (tree, skipped) = scan(&environment, rules, progress)?;
        let tree = tree.with(own.found()?);
        Ok(Self {
            environment,
            roots,
            site,
            own,
            installed,
            tree,
            skipped,
        })
    }

    /// Adds the libraries from outside that it needs, and sorts everything into groups.
    ///
    /// # Errors
    /// [`crate::Error`] for what can't be read.
    pub(crate) fn resolve(
        self,
        previous: Option<&Previous>,
        jobs: usize,
        progress: &dyn Progress,
    ) -> Result<Gathered> {
        let (mut roots, site, own) = (self.roots, self.site, self.own);
        let (environment, tree) = (self.environment, self.tree);
        let class = Groups::classes(&tree, &site);
        let shared =
            libraries::resolve(&tree, &class, &environment.python, previous, jobs, progress)?;
        // Positions in the tree are those in this one from here on.
        let (tree, outside) = add_outside(tree, shared.outside(&site, &own), &mut roots)?;
        let needs = shared.needs(&tree, &outside);
        let distributions = Distributions::read(&tree, &roots, &site.install)?;
        let mut groups = Groups::new(&tree, &site, &distributions);
        groups.join(&needs, &distributions);
        Ok(Gathered {
            environment,
            roots,
            site,
            own,
            installed: self.installed,
            tree,
            skipped: self.skipped,
            shared,
            needs,
            groups,
        })
    }
}

/// What is installed in each folder of the environment itself that is for that. A folder whose path
/// is no text is left out.
///
/// # Errors
/// [`crate::Error::Io`] for a folder that can't be read.
pub(crate) fn installed(site: &Site, roots: &Roots) -> Result<Vec<Installed>> {
    let mut all = Vec::new();
    let own = |folder: &&Vec<u8>| !is_below(folder, limits::ROOTS_FOLDER.as_bytes());
    for folder in site.install.iter().filter(own) {
        let (Some(real), Ok(text)) = (roots.real_path(folder), str::from_utf8(folder)) else {
            continue;
        };
        all.extend(installed::names(&real)?.map(|names| Installed {
            folder: text.to_owned(),
            names,
        }));
    }
    Ok(all)
}

/// Everything below the roots. Of a prefix that belongs to the host, only what Python reaches.
fn scan(
    environment: &Environment,
    rules: Rules<'_>,
    progress: &dyn Progress,
) -> Result<(Tree, Vec<Skipped>)> {
    let (roots, importable) = (rules.roots, rules.importable);
    let mut scanner = Scanner::new(rules, progress);
    if is_host(&environment.real) {
        for path in importable {
            if let Some(real) = roots.real_path(path) {
                scanner.folder(&real, path)?;
            }
        }
    } else {
        for root in roots.iter() {
            scanner.folder(&root.real, &root.folder)?;
        }
    }
    Ok(scanner.finish())
}

/// Adds libraries from outside the environment; where each went in the bundle.
fn add_outside<'a>(
    tree: Tree,
    libraries: impl IntoIterator<Item = &'a Path>,
    roots: &mut Roots,
) -> Result<(Tree, HashMap<PathBuf, Vec<u8>>)> {
    let mut places = HashMap::new();
    let mut more = Vec::new();
    for library in libraries {
        let (Some(folder), Some(last)) = (library.parent(), library.file_name()) else {
            continue;
        };
        let path = join(&roots.add(folder, folder), last.as_encoded_bytes());
        more.push(Scanner::one(library, path.clone())?);
        places.insert(library.to_owned(), path);
    }
    Ok((tree.with(more), places))
}
