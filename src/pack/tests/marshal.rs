//! Canonical marshal data against real interpreters: equal code after `marshal.loads`,
//! and the same bytes from a fresh compile and from `__pycache__`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use pybundle_pack::marshal::{Canonical, PythonVersion, canonical};

const FILENAME: &str = "lib/some/module.py";
const PREFIX: &str = "/dev/shm/image/";

/// `PYBUNDLE_TEST_SOURCES=everything` compares CPython's own test modules too, another
/// value the sources in that folder instead.
#[test]
fn standard_library_loads_equal_and_pycache_gives_the_same_bytes() {
    let pythons = support::pythons();
    assert!(!pythons.is_empty(), "no interpreter to test with");
    std::thread::scope(|scope| {
        for python in &pythons {
            let (major, minor) = python.version;
            scope.spawn(move || compare(&python.path, PythonVersion { major, minor }));
        }
    });
}

fn compare(interpreter: &Path, version: PythonVersion) {
    let mut command = Command::new(interpreter);
    command.args(["-I", "-S"]).arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/python/marshal_peer.py"
    ));
    command.args(std::env::var_os("PYBUNDLE_TEST_SOURCES"));
    let mut peer = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = peer.stdin.take().unwrap();
    let mut input = BufReader::new(peer.stdout.take().unwrap());
    loop {
        let fresh = receive(&mut input);
        if fresh.is_empty() {
            break;
        }
        let pycache = receive(&mut input);
        let first = canonical(&fresh, version, FILENAME).unwrap();
        let again = canonical(&first.bytes, version, FILENAME).unwrap();
        assert_eq!(again, first, "rewriting changes the canonical form");
        send(&mut output, &first.bytes);
        send(&mut output, &prefixed(&first));
        if pycache.is_empty() {
            send(&mut output, &[]);
        } else {
            send(
                &mut output,
                &canonical(&pycache, version, FILENAME).unwrap().bytes,
            );
        }
        output.flush().unwrap();
    }
    assert!(
        peer.wait().unwrap().success(),
        "Python {version} finds differences"
    );
}

/// What the loader does once per node.
fn prefixed(code: &Canonical) -> Vec<u8> {
    let at = code.filename_at as usize;
    let mut bytes = code.bytes.clone();
    assert_eq!(bytes[at] & 0x7F, b'u');
    let old = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap());
    assert_eq!(old as usize, FILENAME.len());
    let new = old + PREFIX.len() as u32;
    bytes[at + 1..at + 5].copy_from_slice(&new.to_le_bytes());
    bytes.splice(at + 5..at + 5, PREFIX.bytes());
    bytes
}

fn receive(input: &mut impl Read) -> Vec<u8> {
    let mut length = [0; 4];
    input.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut bytes).unwrap();
    bytes
}

fn send(output: &mut impl Write, bytes: &[u8]) {
    output
        .write_all(&(bytes.len() as u32).to_le_bytes())
        .unwrap();
    output.write_all(bytes).unwrap();
}
