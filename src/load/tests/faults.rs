//! Processes that die, meet, or find no room: `examples/load_check.rs` plays them.

#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps says enough when it fails"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

/// A folder for node images and a bundle beside it.
struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(case.node()).unwrap();
        let made = case.check(&["make", "e.pybundle", "small"]);
        assert!(made.status.success(), "{made:?}");
        case
    }

    fn node(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command
            .current_dir(self.folder.path())
            .env("PYBUNDLE_NODE_DIR", self.node())
            .env("CHECK_STRICT", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn check(&self, words: &[&str]) -> Output {
        self.command().args(words).output().unwrap()
    }

    /// A process that has loaded, and its image.
    fn hold(&self) -> (Child, PathBuf) {
        let (child, line) = start(self.command().args(["hold", "e.pybundle"]));
        (child, line.into())
    }

    fn left(&self) -> usize {
        fs::read_dir(self.node()).unwrap().count()
    }
}

/// The program: built here, since not every way to run tests builds examples.
fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let tests = std::env::current_exe().unwrap();
        let folder = tests.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--package",
            "pybundle-load",
            "--example",
            "load_check",
        ]);
        cargo.arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
        folder.join("examples/load_check")
    });
    &PROGRAM
}

/// Starts a process and reads its first line.
fn start(command: &mut Command) -> (Child, String) {
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (child, line.trim_end().to_owned())
}

fn finish(mut child: Child) {
    drop(child.stdin.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn processes_share_an_image_and_the_last_one_removes_it() {
    let case = Case::new();
    let (first, dir) = case.hold();
    let (second, same) = case.hold();
    assert_eq!(dir, same);
    finish(first);
    let attached = case.check(&["attach", dir.to_str().unwrap()]);
    assert!(attached.status.success(), "{attached:?}");
    assert!(dir.exists());
    finish(second);
    assert_eq!(case.left(), 0);
}

#[test]
fn a_claim_whose_owner_is_killed_is_taken_over() {
    let case = Case::new();
    let (holder, dir) = case.hold();
    let name = dir.to_str().unwrap();
    let (mut owner, line) = start(case.command().args(["claim", name]));
    assert_eq!(line, "claimed");
    let mut waiting = case.command().args(["attach", name]).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(
        waiting.try_wait().unwrap().is_none(),
        "it waits for the owner"
    );
    owner.kill().unwrap();
    owner.wait().unwrap();
    let killed = Instant::now();
    let ended = waiting.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(killed.elapsed() < Duration::from_secs(5));
    finish(holder);
    assert_eq!(case.left(), 0);
}

#[test]
fn waiting_for_a_claim_takes_no_processor_time() {
    let case = Case::new();
    let (holder, dir) = case.hold();
    let name = dir.to_str().unwrap();
    let (mut owner, _) = start(case.command().args(["claim", name]));
    let waiting = case.command().args(["attach", name]).spawn().unwrap();
    thread::sleep(Duration::from_secs(1));
    let stat = fs::read_to_string(format!("/proc/{}/stat", waiting.id())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    assert!(ticks <= 10, "{ticks} hundredths of a second");
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(waiting.wait_with_output().unwrap().status.success());
    finish(holder);
}

#[test]
fn what_a_killed_process_leaves_is_swept_by_the_next_run() {
    let case = Case::new();
    let (mut holder, dir) = case.hold();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(dir.exists());
    // A run of the same bundle attaches to what is whole and removes it in the end.
    let again = case.check(&["load", "e.pybundle"]);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(case.left(), 0);
    // What is not whole is made anew.
    let (mut holder, dir) = case.hold();
    holder.kill().unwrap();
    holder.wait().unwrap();
    fs::remove_file(dir.join("state")).unwrap();
    // So is an image without a lock file: its maker died before it had one.
    let other = dir.with_file_name("0123456789abcdef");
    fs::create_dir(&other).unwrap();
    let again = case.check(&["load", "e.pybundle"]);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(case.left(), 0);
}

#[test]
fn clean_removes_only_what_nobody_holds() {
    let case = Case::new();
    let (held, dir) = case.hold();
    let run = case.check(&["clean"]);
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(said.contains("held ") && dir.exists(), "{run:?}");
    let mut held = held;
    held.kill().unwrap();
    held.wait().unwrap();
    let run = case.check(&["clean", "--dry-run"]);
    assert!(run.status.success() && dir.exists(), "{run:?}");
    assert!(case.check(&["clean"]).status.success());
    assert_eq!(case.left(), 0);
}

#[test]
fn many_starts_at_once_do_not_disturb_one_another() {
    let case = Case::new();
    let start = |_| case.command().args(["load", "e.pybundle"]).spawn().unwrap();
    for round in 0..3 {
        let children: Vec<_> = (0..12).map(start).collect();
        for child in children {
            let ended = child.wait_with_output().unwrap();
            let said = text(&ended);
            // Whoever isn't the last one finds the image still there: that is what is wanted.
            let fine = ended.status.success() || said.contains("the image is still there");
            assert!(fine, "round {round}: {ended:?}");
        }
        assert_eq!(case.left(), 0, "round {round}");
    }
}

#[test]
fn random_kills_leave_nothing_after_the_next_run() {
    let case = Case::new();
    for round in 0_u64..20 {
        let mut children: Vec<_> = (0..3)
            .map(|_| case.command().args(["load", "e.pybundle"]).spawn().unwrap())
            .collect();
        thread::sleep(Duration::from_millis(round * 7 % 40));
        children[1].kill().unwrap();
        for (number, child) in children.into_iter().enumerate() {
            let ended = child.wait_with_output().unwrap();
            let killed = number == 1 && ended.status.signal() == Some(libc::SIGKILL);
            let said = text(&ended);
            let fine = ended.status.success() || killed || said.contains("still there");
            assert!(fine, "round {round}: {ended:?}");
        }
    }
    assert!(case.check(&["load", "e.pybundle"]).status.success());
    assert_eq!(case.left(), 0);
}

#[test]
fn forked_children_hold_the_image_for_themselves() {
    let case = Case::new();
    // The pipe stays open until the child that outlives its parent has ended.
    let ended = case.check(&["fork", "e.pybundle"]);
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(said.trim(), "removed by the child", "{ended:?}");
    assert_eq!(case.left(), 0);
}

#[test]
fn a_limit_on_file_sizes_is_foreseen() {
    let case = Case::new();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -f 8; exec \"$0\" load e.pybundle"])
        .arg(program())
        .current_dir(case.folder.path())
        .env("PYBUNDLE_NODE_DIR", case.node())
        .env("CHECK_STRICT", "1");
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = text(&ended);
    assert!(
        said.contains("no folder on") && said.contains("`ulimit -f` allows"),
        "{said}"
    );
    assert!(
        said.contains("/dev/shm/pybundle-"),
        "every candidate is named: {said}"
    );
    assert_eq!(case.left(), 0);
}

/// A small memory file system, unmounted when it is dropped; `None` where that isn't allowed.
struct Mount(PathBuf);

impl Mount {
    fn new(folder: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=700");
        let mut command = Command::new("mount");
        let command = command
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(folder);
        let mounted = command.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("skipped: mounting a small tmpfs needs root");
        }
        mounted.then(|| Self(folder.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_folder_that_is_too_small_is_passed_over() {
    let case = Case::new();
    let Some(_mount) = Mount::new(&case.node(), "64k") else {
        return;
    };
    let (child, dir) = case.hold();
    assert!(!dir.starts_with(case.node()), "{dir:?}");
    finish(child);
    assert_eq!(case.left(), 0);
}

#[test]
fn a_file_system_that_fills_up_later_is_an_error_and_no_crash() {
    let case = Case::new();
    let Some(_mount) = Mount::new(&case.node(), "8m") else {
        return;
    };
    let (child, dir) = case.hold();
    let filler = case.node().join("filler");
    let full = fs::write(&filler, vec![0; 16 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    let ended = case.check(&["attach", dir.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = text(&ended);
    assert!(
        said.contains("No space left on device") && said.contains("e.pybundle"),
        "{said}"
    );
    // With room again the same files are placed.
    fs::remove_file(filler).unwrap();
    let ended = case.check(&["attach", dir.to_str().unwrap()]);
    assert!(ended.status.success(), "{ended:?}");
    finish(child);
    assert_eq!(case.left(), 0);
}

#[test]
fn a_folder_without_execution_is_passed_over() {
    let case = Case::new();
    let Some(_mount) = Mount::new(&case.node(), "64m") else {
        return;
    };
    let remount = Command::new("mount")
        .args(["-o", "remount,noexec"])
        .arg(case.node())
        .status();
    assert!(remount.unwrap().success());
    let (child, dir) = case.hold();
    assert!(!dir.starts_with(case.node()), "{dir:?}");
    finish(child);
}
