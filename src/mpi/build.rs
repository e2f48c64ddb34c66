//! Asks the compiler wrapper which MPI it stands for and where its library lies.
//!
//! The bindings crate links against it; what is left is to embed the library's folder, so that the
//! plug-in finds it without `LD_LIBRARY_PATH`, and to tell Open MPI from the others.

use std::{
    env,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

fn main() {
    println!("cargo:rerun-if-env-changed=MPICC");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(open_mpi)");
    let mpicc = env::var("MPICC").unwrap_or_else(|_| "mpicc".to_owned());
    if macros(&mpicc).is_some_and(|macros| macros.contains("#define OPEN_MPI ")) {
        println!("cargo:rustc-cfg=open_mpi");
    }
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
    for folder in folders(&mpicc) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}

/// The macros that `mpi.h` defines.
fn macros(mpicc: &str) -> Option<String> {
    let mut child = Command::new(mpicc)
        .args(["-E", "-dM", "-x", "c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(b"#include <mpi.h>\n").ok()?;
    let output = child.wait_with_output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The library folders that the wrapper names, without those that are searched anyway.
fn folders(mpicc: &str) -> Vec<String> {
    let Ok(output) = Command::new(mpicc).arg("-show").output() else {
        return Vec::new();
    };
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut folders: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let Some(folder) = word.strip_prefix("-L") else {
            continue;
        };
        let folder = folder.trim_matches(['"', '\'']);
        let system = ["/lib", "/usr/lib"].iter().any(|prefix| {
            let rest = folder.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest == "64" || rest.ends_with("-linux-gnu"))
        });
        if !system && Path::new(folder).is_dir() && folders.iter().all(|known| known != folder) {
            folders.push(folder.to_owned());
        }
    }
    folders
}
