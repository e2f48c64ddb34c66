//! The same environment gives the same bytes; ordinary tools read them.

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use fs_err as fs;

use crate::{environment::Environment, support::pythons};

#[test]
fn bytes_do_not_depend_on_jobs_or_times() {
    let Some(python) = pythons().into_iter().next() else {
        return;
    };
    let environment = Environment::new(&python);
    let names: Vec<String> = (0..300).map(|n| format!("p{}/m{n}.py", n % 7)).collect();
    let texts: Vec<String> = (0..300)
        .map(|n| format!("x = {n} * {{'a', 'b'}}\n"))
        .collect();
    let files: Vec<(&str, &str)> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    environment.write(&files);
    let mut bytes = Vec::new();
    for jobs in [1, 2, 5] {
        let mut request = environment.request();
        request.jobs = Some(jobs);
        request.output = Some(environment.top().join(format!("{jobs}.pybundle")));
        let (bundle, summary) = environment.pack_as(&request);
        assert_eq!(summary.jobs, jobs);
        bytes.push(fs::read(&bundle.path).unwrap());
        // Another time of change and valid bytecode make no difference.
        environment.write(&files[..50]);
        environment.run(&["-m", "compileall", "-q", "."]);
    }
    assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]));
    // Neither does packing over an older bundle, the environment's own file included.
    let mut request = environment.request();
    request.output = Some(environment.path().join("inside.pybundle"));
    for _ in 0..2 {
        let (bundle, _) = environment.pack_as(&request);
        assert_eq!(fs::read(&bundle.path).unwrap(), bytes[0]);
    }
    let mode = fs::metadata(request.output.unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o600, 0o600);
}

#[test]
fn bsdtar_unpacks_a_working_environment() {
    let Some(python) = pythons().into_iter().next() else {
        return;
    };
    if Command::new("bsdtar").arg("--version").output().is_err() {
        eprintln!("not tested, not found: bsdtar");
        return;
    }
    let environment = Environment::new(&python);
    environment.write(&[
        ("p/__init__.py", "from .m import x\n"),
        ("p/m.py", "x = 41 + 1\n"),
        ("p/brim.txt", &"brim".repeat(32 << 10)),
        ("p/brims.txt", &"brim".repeat(96 << 10)),
    ]);
    let (bundle, _) = environment.pack();
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("bsdtar")
        .arg("-xf")
        .arg(&bundle.path)
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let output = Command::new(folder.path().join("bin/python"))
        .args(["-I", "-c", "import p; print(p.x, p.__file__)"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let top = fs::canonicalize(folder.path()).unwrap();
    assert!(
        text.starts_with("42 ") && text.contains(top.to_str().unwrap()),
        "{text}"
    );
}
