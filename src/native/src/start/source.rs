//! The program and its own modules, read once for all ranks.
//!
//! Launchers give standard input to rank 0 alone, and a script on a shared file system, and all that
//! lies beside it, would be read by every rank. Root reads them and broadcasts them; a rank that was
//! told to run another program, or in another folder, reads for itself.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use pybundle_load::{
    ProgramFiles, Settings,
    transport::{Group, Result, Transport, Wait},
};
use pyo3::prelude::*;

use super::Runner;
use crate::{
    program::{Bytecode, Files, Message, reach},
    run::{self, Program},
};

/// Larger ones are not programs but data appended to them: each rank reads its own.
const LARGEST: u64 = 64 << 20;

/// The text of this rank's program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its bytes; none if the program is a folder.
    pub(crate) content: Vec<u8>,
    /// The script's folder, links resolved, if root has looked.
    pub(crate) folder: Option<PathBuf>,
    /// The program is a folder.
    pub(crate) is_folder: bool,
}

/// What a rank knows of its program before it looks.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The text; `None` where the rank has to read it: the program is no file, or root could not
    /// read it, or runs another one.
    pub(super) source: Option<Source>,
    /// The folder that becomes `sys.path[0]`.
    pub(super) folder: Option<PathBuf>,
    /// What lies in it. Root itself uses the disk, as Python does.
    pub(super) files: Option<Files>,
    /// Whether the program or one of its modules mentions mpi4py.
    pub(super) names_mpi4py: Option<bool>,
    /// What root has sent, on root.
    pub(super) report: Option<ProgramFiles>,
}

/// Gives root's program to every rank that runs the same.
pub(super) fn share(
    program: &Program,
    runner: Runner,
    transport: &mut dyn Transport,
    settings: &Settings,
) -> Result<Shared> {
    if transport.size(Group::WORLD) == 1 {
        let content = (runner == Runner::Us).then(|| read(program)).flatten();
        let source = content.map(|content| Source {
            content,
            ..Source::default()
        });
        return Ok(Shared {
            source,
            ..Shared::default()
        });
    }
    let wait = &mut Wait::asleep("the program's text", settings.timeout);
    let interpreter = Interpreter::of_this_process();
    let (mut bytes, mut report) = (Vec::new(), None);
    let root = transport.rank(Group::WORLD) == 0;
    if root {
        let (message, read) = message(program, runner, &interpreter);
        (bytes, report) = (message.to_bytes(), read);
    }
    let mut header = (bytes.len() as u64).to_le_bytes();
    transport.broadcast(Group::WORLD, 0, &mut header, wait)?;
    bytes.resize(u64::from_le_bytes(header) as usize, 0);
    transport.broadcast(Group::WORLD, 0, &mut bytes, wait)?;
    let Some(message) = Message::from_bytes(&bytes) else {
        return Ok(Shared::default());
    };
    let mut shared = received(message, program, runner, &interpreter);
    if root {
        (shared.files, shared.report) = (None, report);
    }
    Ok(shared)
}

/// What root reads, and what the receipt says of it.
fn message(
    program: &Program,
    runner: Runner,
    interpreter: &Interpreter,
) -> (Message, Option<ProgramFiles>) {
    // The interpreter has standard input for itself.
    let reads = runner == Runner::Us || *program != Program::Stdin;
    let mut message = Message {
        name: name(program),
        text: reads.then(|| read(program)).flatten(),
        interpreter: interpreter.name.clone(),
        ..Message::default()
    };
    let folder = folder(program);
    message.is_folder = matches!(program, Program::Script(_))
        && message.text.is_none()
        && folder.as_deref().is_some_and(Path::is_dir);
    let text = match program {
        Program::Module(name) => format!("{name} __main__").into_bytes(),
        Program::Command(text) => text.clone().into_bytes(),
        _ if message.is_folder => b"__main__".to_vec(),
        _ => message.text.clone().unwrap_or_default(),
    };
    let is_script = matches!(program, Program::Script(_));
    message.names_mpi4py = mentions_mpi4py(&text) || (!reads && !is_script);
    // A zip file stands on `sys.path` itself.
    let is_zip = is_script && run::is_zip(&text);
    let script_without_text = is_script && message.text.is_none() && !message.is_folder;
    let mut report = None;
    if let (Some(folder), Some(bytecode), false, false) =
        (&folder, &interpreter.bytecode, is_zip, script_without_text)
    {
        let reach = reach(folder, &text, bytecode);
        message.names_mpi4py |= reach.mentions(MPI4PY);
        message.files = reach.files;
        report = Some(reach.report);
    }
    message.folder = folder
        .filter(|_| !is_zip && !script_without_text)
        .map(|folder| folder.into_os_string().into_vec());
    if runner != Runner::Us {
        // Every interpreter reads its script itself.
        message.text = None;
    }
    (message, report)
}

/// What a rank takes of root's message.
fn received(
    message: Message,
    program: &Program,
    runner: Runner,
    interpreter: &Interpreter,
) -> Shared {
    if message.name != name(program) {
        return Shared::default();
    }
    let folder = message.folder.map(|path| OsString::from_vec(path).into());
    let own = match program {
        Program::Script(_) => folder.clone(),
        _ => std::env::current_dir().ok(),
    };
    let text = message.text.or_else(|| message.is_folder.then(Vec::new));
    let source = text.filter(|_| runner == Runner::Us).map(|content| Source {
        content,
        folder: folder.clone(),
        is_folder: message.is_folder,
    });
    let same_folder = folder.is_some() && own == folder;
    // Bytecode of another interpreter would be refused, or be of another optimisation level; and
    // where `-P` keeps the folder off `sys.path`, nobody looks into it.
    let fits = interpreter.bytecode.is_some() && message.interpreter == interpreter.name;
    Shared {
        source,
        folder: folder.filter(|_| same_folder),
        files: (same_folder && fits).then_some(message.files),
        names_mpi4py: Some(message.names_mpi4py),
        report: None,
    }
}

/// What matters of the interpreter that will import the program's modules.
struct Interpreter {
    /// Equal for those that take the same bytecode.
    name: Vec<u8>,
    /// `None` if its `sys.path` has no place for the program's folder.
    bytecode: Option<Bytecode>,
}

impl Interpreter {
    fn of_this_process() -> Self {
        let known = Python::attach(|py| -> PyResult<Option<Bytecode>> {
            let safe = run::safe_path(&py.import("sys")?)?;
            (!safe).then(|| Bytecode::of(py)).transpose()
        });
        // An interpreter that can't say reads for itself.
        let bytecode = known.ok().flatten();
        let name = bytecode.as_ref().map(|bytecode| {
            let mut name = bytecode.magic.clone();
            name.push(bytecode.optimize);
            name
        });
        Self {
            name: name.unwrap_or_default(),
            bytecode,
        }
    }
}

/// What the program is, in words that ranks compare.
fn name(program: &Program) -> Vec<u8> {
    match program {
        Program::Script(path) => [b"script ", absolute(path).as_os_str().as_bytes()].concat(),
        Program::Module(name) => [b"module ", name.as_bytes()].concat(),
        Program::Command(text) => [b"command ", text.as_bytes()].concat(),
        Program::Stdin => b"stdin".to_vec(),
    }
}

fn absolute(path: &OsStr) -> PathBuf {
    std::env::current_dir().map_or_else(|_| path.into(), |folder| folder.join(path))
}

/// The folder that becomes `sys.path[0]`, as Python names it.
fn folder(program: &Program) -> Option<PathBuf> {
    match program {
        Program::Script(path) => {
            let path = absolute(path);
            if path.is_dir() {
                return Some(path);
            }
            Some(path.canonicalize().ok()?.parent()?.to_path_buf())
        }
        _ => std::env::current_dir().ok(),
    }
}

const MPI4PY: &[u8] = b"mpi4py";

/// Whether a program's text names mpi4py.
pub(super) fn mentions_mpi4py(text: &[u8]) -> bool {
    text.windows(MPI4PY.len()).any(|window| window == MPI4PY)
}

/// The text of a program that has one outside its arguments.
fn read(program: &Program) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    match program {
        Program::Stdin => {
            io::stdin().lock().read_to_end(&mut content).ok()?;
        }
        Program::Script(path) => {
            let file = std::fs::File::open(path).ok()?;
            let found = file.metadata().ok()?;
            if !found.is_file() || found.len() > LARGEST {
                return None;
            }
            file.take(LARGEST).read_to_end(&mut content).ok()?;
        }
        Program::Module(_) | Program::Command(_) => return None,
    }
    Some(content)
}
