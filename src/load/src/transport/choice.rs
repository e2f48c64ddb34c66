//! Which MPI transport plug-in serves this process.

use std::path::{Path, PathBuf};

use super::{Error, Flavour, Launcher, Result, mapped::MpiLibrary};

/// The plug-ins in `folders`: files named `_mpi_*.so`, in the order of the folders, then by name.
/// A folder that is not there holds none.
///
/// # Errors
/// When a folder cannot be read.
pub fn plugins(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in folders {
        let entries = match fs_err::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let mut here = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let named = stem.is_some_and(|stem| stem.starts_with("_mpi_"));
            if named && path.extension().is_some_and(|extension| extension == "so") {
                here.push(path);
            }
        }
        here.sort();
        found.append(&mut here);
    }
    Ok(found)
}

/// Chooses among `plugins`, the earlier ones first: for the MPI library that the program has
/// `mapped` already, else for the launcher's MPI, else for the MPI that is mostly started in its way,
/// else the first.
///
/// # Errors
/// [`Error::NoPlugin`].
pub fn choose<'a>(
    plugins: &'a [PathBuf],
    mapped: &[MpiLibrary],
    launcher: &Launcher,
) -> Result<&'a Path> {
    let claim = launcher.claim();
    let said = || format!("`{}={}`", claim.variable, claim.value);
    let (flavour, evidence) = match mapped {
        // Two families are mapped: the launcher knows which of them has the job.
        [first, rest @ ..] if rest.iter().all(|other| other.flavour == first.flavour) => (
            Some(first.flavour),
            format!("`{}` is loaded", first.path.display()),
        ),
        _ => (launcher.flavour(), said()),
    };
    let fits = |plugin: &&PathBuf| match Flavour::of_plugin(plugin) {
        Some(of_plugin) => flavour.is_none_or(|flavour| flavour == of_plugin),
        None => flavour.is_none(),
    };
    // Several MPIs of one family may be installed: the one that the program has loaded is meant.
    let linked = |plugin: &&PathBuf| {
        fits(plugin)
            && mapped
                .iter()
                .any(|library| names(plugin, &library.soname()))
    };
    // A name that tells nothing comes last: the plug-in itself will.
    let unnamed = |plugin: &&PathBuf| Flavour::of_plugin(plugin).is_none();
    let likely =
        |plugin: &&PathBuf| fits(plugin) && launcher.likely_flavour() == Flavour::of_plugin(plugin);
    let several = plugins.iter().filter(fits).count() > 1;
    let chosen = (several.then(|| plugins.iter().find(linked)).flatten())
        .or_else(|| plugins.iter().find(likely))
        .or_else(|| plugins.iter().find(fits))
        .or_else(|| plugins.iter().find(unnamed));
    chosen.map(PathBuf::as_path).ok_or_else(|| Error::NoPlugin {
        flavour: Error::flavour_name(flavour),
        evidence,
        installed: if plugins.is_empty() {
            "there is none at all".to_owned()
        } else {
            let names = plugins.iter().map(|path| format!("`{}`", path.display()));
            format!("there is {}", names.collect::<Vec<_>>().join(", "))
        },
    })
}

/// Whether a plug-in names a library among those it needs; false if it cannot be read.
fn names(plugin: &Path, soname: &str) -> bool {
    let name = [b"\0", soname.as_bytes(), b"\0"].concat();
    fs_err::read(plugin).is_ok_and(|bytes| bytes.windows(name.len()).any(|found| found == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launcher(variable: &'static str) -> Launcher {
        Launcher::from_variables(|name| (name == variable).then(|| "4".to_owned())).unwrap()
    }

    fn both() -> Vec<PathBuf> {
        ["/p/_mpi_mpich.so", "/p/_mpi_openmpi.so"]
            .map(PathBuf::from)
            .to_vec()
    }

    #[test]
    fn the_launcher_chooses() {
        let plugins = both();
        let chosen = |variable| choose(&plugins, &[], &launcher(variable)).unwrap();
        assert_eq!(chosen("PMI_SIZE"), plugins[0]);
        assert_eq!(chosen("OMPI_COMM_WORLD_SIZE"), plugins[1]);
        assert_eq!(chosen("SLURM_STEP_NUM_TASKS"), plugins[0]);
        assert_eq!(chosen("PMIX_RANK"), plugins[1]);
        let only = &plugins[1..];
        assert_eq!(
            choose(only, &[], &launcher("SLURM_STEP_NUM_TASKS")).unwrap(),
            only[0]
        );
    }

    #[test]
    fn a_library_that_the_program_has_loaded_wins() {
        let path = PathBuf::from("/lib/libmpi.so.40");
        let mapped = [MpiLibrary {
            path,
            flavour: Flavour::OpenMpi,
        }];
        let plugins = both();
        assert_eq!(
            choose(&plugins, &mapped, &launcher("PMI_SIZE")).unwrap(),
            plugins[1]
        );
    }

    #[test]
    fn among_several_of_a_family_the_loaded_librarys_own_wins() {
        let folder = tempfile::tempdir().unwrap();
        let plugins = ["_mpi_mpich.so", "_mpi_mpich_2.so"].map(|name| folder.path().join(name));
        fs_err::write(&plugins[0], b"\0libmpi.so.12\0").unwrap();
        fs_err::write(&plugins[1], b"\0libmpich.so.12\0").unwrap();
        for (library, expected) in [
            ("libmpich.so.12.2.2", 1),
            ("libmpi.so.12.5.2", 0),
            ("libmpi_gnu.so.12", 0),
        ] {
            let path = PathBuf::from("/lib").join(library);
            let mapped = [MpiLibrary {
                path,
                flavour: Flavour::Mpich,
            }];
            let chosen = choose(&plugins, &mapped, &launcher("PMI_SIZE")).unwrap();
            assert_eq!(chosen, plugins[expected], "{library}");
        }
    }

    #[test]
    fn a_missing_plugin_is_named_with_its_cure() {
        let plugins = both();
        let error = choose(&plugins[..1], &[], &launcher("OMPI_COMM_WORLD_SIZE")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("no MPI transport for Open MPI is installed"),
            "{text}"
        );
        assert!(text.contains("`OMPI_COMM_WORLD_SIZE=4`"), "{text}");
        assert!(text.contains("there is `/p/_mpi_mpich.so`"), "{text}");
        assert!(text.contains("`pybundle mpi add MPICC`"), "{text}");
        let error = choose(&[], &[], &launcher("PMIX_RANK"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("there is none at all"), "{error}");
    }

    #[test]
    fn a_plugin_of_another_name_serves_where_no_other_fits() {
        let plugins = [PathBuf::from("/p/_mpi_site.so")];
        assert_eq!(
            choose(&plugins, &[], &launcher("PMI_SIZE")).unwrap(),
            plugins[0]
        );
    }

    #[test]
    fn plugins_are_found_in_the_order_of_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        let (user, site) = (folder.path().join("user"), folder.path().join("site"));
        for (folder, names) in [
            (&user, ["_mpi_openmpi.so", "notes.txt"]),
            (&site, ["_mpi_mpich.so", "_native.so"]),
        ] {
            fs_err::create_dir(folder).unwrap();
            for name in names {
                fs_err::write(folder.join(name), "").unwrap();
            }
        }
        let found = plugins(&[site.clone(), folder.path().join("none"), user.clone()]).unwrap();
        assert_eq!(
            found,
            [site.join("_mpi_mpich.so"), user.join("_mpi_openmpi.so")]
        );
    }
}
