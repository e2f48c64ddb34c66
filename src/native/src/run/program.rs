//! Runs a program in `__main__` as `python` itself would: same `sys.argv`, `sys.path[0]`, module
//! attributes, messages and statuses.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use pyo3::{
    exceptions::PySystemExit,
    intern,
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyString},
};

use super::arguments::Program;
use crate::{importer, start::Source};

/// What a zip file ends with: its end record, then a comment of at most 65,535 bytes.
const ZIP_END: &[u8] = b"PK\x05\x06";

/// Sets what the program sees, then runs it. Comes back when its main module is done.
///
/// # Errors
/// What the program raised, `SystemExit` included; its traceback begins with the program's frames.
pub(crate) fn run(
    py: Python<'_>,
    program: &Program,
    rest: &[OsString],
    source: Option<Source>,
) -> PyResult<()> {
    let main = fresh_main(py)?;
    let argv0 = match program {
        Program::Script(path) => path.clone(),
        Program::Module(_) => "-m".into(),
        Program::Command(_) => "-c".into(),
        Program::Stdin => "-".into(),
    };
    let argv = std::iter::once(&argv0).chain(rest).map(OsString::as_os_str);
    let sys = py.import(intern!(py, "sys"))?;
    sys.setattr(intern!(py, "argv"), argv.collect::<Vec<_>>())?;
    match program {
        Program::Script(path) => script(py, &main, path, source),
        Program::Module(name) => {
            if let Ok(folder) = std::env::current_dir() {
                set_first_path(py, folder.as_os_str())?;
            }
            module(py, name, true)
        }
        Program::Command(source) => {
            set_first_path(py, OsStr::new(""))?;
            let source = if py.version_info() < (3, 14) {
                source.into()
            } else {
                dedented(source)
            };
            let source = source.into_pyobject(py)?;
            let code = compile(py, source.as_any(), "<string>".as_ref())?;
            remember_source(py, &code, &source)?;
            execute(py, &code, &main)
        }
        Program::Stdin => {
            set_first_path(py, OsStr::new(""))?;
            let source = match source {
                Some(source) => PyBytes::new(py, &source.content).into_any(),
                None => sys.getattr("stdin")?.call_method0("read")?,
            };
            main.set_item("__file__", "<stdin>")?;
            main.set_item("__cached__", py.None())?;
            let code = compile(py, &source, "<stdin>".as_ref())?;
            execute(py, &code, &main)
        }
    }
}

/// The dictionary of `__main__` as the interpreter makes it, in the module that it made.
fn fresh_main(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let main = py.import("__main__")?.dict();
    let builtins = py.import("builtins")?;
    let annotations = main.contains("__annotations__")?;
    let loader = py.import("_frozen_importlib")?.getattr("BuiltinImporter")?;
    main.clear();
    main.set_item("__name__", "__main__")?;
    for name in ["__doc__", "__package__"] {
        main.set_item(name, py.None())?;
    }
    main.set_item("__loader__", loader)?;
    main.set_item("__spec__", py.None())?;
    if annotations {
        main.set_item("__annotations__", PyDict::new(py))?;
    }
    main.set_item("__builtins__", builtins)?;
    Ok(main)
}

/// Takes the working folder, which `python -m pybundle` has put there, from the front of
/// `sys.path`: lines of `.pth` files run before Python puts anything there, and may do so too.
pub(crate) fn drop_first_path(py: Python<'_>) -> PyResult<()> {
    let sys = py.import(intern!(py, "sys"))?;
    let path = sys.getattr("path")?.cast_into::<PyList>()?;
    if safe_path(&sys)? || path.is_empty() {
        return Ok(());
    }
    path.del_item(0)
}

/// Puts the program's folder in front of `sys.path`.
fn set_first_path(py: Python<'_>, first: &OsStr) -> PyResult<()> {
    let sys = py.import(intern!(py, "sys"))?;
    if safe_path(&sys)? {
        return Ok(());
    }
    let path = sys.getattr("path")?.cast_into::<PyList>()?;
    path.insert(0, first)
}

/// Whether Python was told to leave `sys.path[0]` out: `-I`, `-P`, `PYTHONSAFEPATH`.
pub(crate) fn safe_path(sys: &Bound<'_, PyModule>) -> PyResult<bool> {
    let flags = sys.getattr("flags")?;
    // Since 3.11; `-I` sets it as well.
    match flags.getattr_opt("safe_path")? {
        Some(flag) => flag.is_truthy(),
        None => flags.getattr("isolated")?.is_truthy(),
    }
}

fn script(
    py: Python<'_>,
    main: &Bound<'_, PyDict>,
    given: &OsStr,
    source: Option<Source>,
) -> PyResult<()> {
    // Not normalised, as in Python.
    let path = std::env::current_dir().map_or_else(|_| PathBuf::from(given), |at| at.join(given));
    let read = || std::fs::read(&path).map(|content| (content, false));
    let (source, folder) = source.map_or((None, None), |source| {
        (Some((source.content, source.is_folder)), source.folder)
    });
    let (content, is_folder) = match source.map_or_else(read, Ok) {
        Ok(read) => read,
        Err(_) if path.is_dir() => (Vec::new(), true),
        Err(error) => {
            let executable = py.import("sys")?.getattr("executable")?;
            let shown = path.as_os_str().into_pyobject(py)?.repr()?;
            let number = error.raw_os_error().unwrap_or_default();
            let reason = py.import("os")?.call_method1("strerror", (number,))?;
            eprintln!("{executable}: can't open file {shown}: [Errno {number}] {reason}");
            return Err(PySystemExit::new_err(2));
        }
    };
    if (is_folder || is_zip(&content)) && has_importer(py, path.as_os_str())? {
        let sys_path = py.import("sys")?.getattr("path")?;
        // Also where `-P` keeps folders of programs out.
        sys_path.call_method1("insert", (0, path.as_os_str()))?;
        return module(py, "__main__", false);
    }
    let folder = folder.or_else(|| {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        real.parent().map(Path::to_path_buf)
    });
    if let Some(folder) = folder {
        set_first_path(py, folder.as_os_str())?;
    }
    main.set_item("__file__", path.as_os_str())?;
    main.set_item("__cached__", py.None())?;
    let compiled = path.extension().is_some_and(|extension| extension == "pyc");
    let external = py.import("_frozen_importlib_external")?;
    let class = if compiled {
        "SourcelessFileLoader"
    } else {
        "SourceFileLoader"
    };
    let loader = external
        .getattr(class)?
        .call1(("__main__", path.as_os_str()))?;
    main.set_item("__loader__", &loader)?;
    let code = if compiled {
        loader.call_method1("get_code", ("__main__",))?
    } else {
        compile(py, PyBytes::new(py, &content).as_any(), path.as_os_str())?
    };
    execute(py, &code, main)
}

/// Whether a script's text ends as a zip file does.
pub(crate) fn is_zip(content: &[u8]) -> bool {
    content[content.len().saturating_sub(ZIP_END.len() + 18 + 0xffff)..]
        .windows(ZIP_END.len())
        .any(|window| window == ZIP_END)
}

/// Whether one of `sys.path_hooks` takes `path`: a folder or zip file.
fn has_importer(py: Python<'_>, path: &OsStr) -> PyResult<bool> {
    let importer = py
        .import("pkgutil")?
        .call_method1("get_importer", (path,))?;
    Ok(!importer.is_none())
}

/// What the interpreter itself calls for `-m` and for folders.
fn module(py: Python<'_>, name: &str, alter_argv: bool) -> PyResult<()> {
    let run = py.import("runpy")?.getattr("_run_module_as_main")?;
    run.call1((name, alter_argv)).map(drop)
}

fn compile<'py>(
    py: Python<'py>,
    source: &Bound<'py, PyAny>,
    file: &OsStr,
) -> PyResult<Bound<'py, PyAny>> {
    let compiled = if let Ok(source) = source.cast::<PyBytes>() {
        importer::compile(py, source.as_bytes(), file)?
    } else {
        match source.cast::<PyString>()?.to_cow() {
            // Since 3.10 a command has no encoding: what looks like one is a comment.
            Ok(text) if !text.contains("coding") || py.version_info() < (3, 10) => {
                importer::compile(py, text.as_bytes(), file)?
            }
            _ => None,
        }
    };
    if let Some(code) = compiled {
        return Ok(code);
    }
    let compile = py.import("builtins")?.getattr("compile")?;
    // No flags, and none inherited from a caller.
    compile.call1((source, file, "exec", 0, true))
}

fn execute(py: Python<'_>, code: &Bound<'_, PyAny>, main: &Bound<'_, PyDict>) -> PyResult<()> {
    let exec = py.import("builtins")?.getattr("exec")?;
    exec.call1((code, main)).map(drop)
}

/// A `-c` command as Python compiles it: since 3.14 it may be indented as a whole. `textwrap`, which
/// the program may not need, has other rules for blank lines.
fn dedented(source: &str) -> Cow<'_, str> {
    let is_blank = |line: &str| line.bytes().all(|byte| matches!(byte, b' ' | b'\t'));
    let mut lines = source.split('\n').filter(|line| !is_blank(line));
    let first = lines.next().unwrap_or_default();
    let indent = first.len() - first.trim_start_matches([' ', '\t']).len();
    let shared = lines.fold(indent, |shared, line| {
        let pairs = first[..shared].bytes().zip(line.bytes());
        pairs.take_while(|(ours, theirs)| ours == theirs).count()
    });
    if shared == 0 {
        return source.into();
    }
    let lines = source
        .split('\n')
        .map(|line| if is_blank(line) { "" } else { &line[shared..] });
    lines.collect::<Vec<_>>().join("\n").into()
}

/// Since 3.13 Python shows the lines of a `-c` command in tracebacks.
fn remember_source(
    py: Python<'_>,
    code: &Bound<'_, PyAny>,
    source: &Bound<'_, PyString>,
) -> PyResult<()> {
    if py.version_info() < (3, 13) {
        return Ok(());
    }
    let linecache = py.import("linecache")?;
    let Some(register) = linecache.getattr_opt("_register_code")? else {
        return Ok(());
    };
    // By file name first, then by code.
    if linecache.hasattr("_interactive_cache")? {
        register.call1((code, source, "<string>")).map(drop)
    } else {
        register.call1(("<string>", source, "<string>")).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_lines_begin_with_is_taken_off() {
        for (source, expected) in [
            ("", ""),
            (" \n\t", " \n\t"),
            ("a\n \n  b", "a\n \n  b"),
            ("  a\n \n   b\n \n  c", "a\n\n b\n\nc"),
            ("\n \ta\n \tb\n ", "\na\nb\n"),
            ("\n \ta\n  b", "\n\ta\n b"),
            ("\ta\n b", "\ta\n b"),
            (" a\r\n \r\n", "a\r\n\r\n"),
        ] {
            assert_eq!(dedented(source), expected, "{source:?}");
        }
    }
}
