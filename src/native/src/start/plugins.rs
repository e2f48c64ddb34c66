//! Where MPI transport plug-ins lie.

use std::{env, path::PathBuf};

use crate::package;

/// The folders to look in: the user's own (`pybundle mpi add`), then the package's.
pub(super) fn folders() -> Vec<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    let user = data.map(|data| data.join("pybundle/mpi"));
    user.into_iter().chain(package::folder()).collect()
}
