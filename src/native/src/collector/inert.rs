#![expect(
    unsafe_code,
    reason = "asks CPython how a type frees its objects, and which objects are tracked"
)]
//! Is there anything left that would do more than free memory when it is finalised?
//!
//! Every object that the collector tracks and all that these hold is looked at, by its type: once
//! for each type, with a few objects asked themselves. A class that a program has written is as
//! inert as the type in C that it builds on, unless it has `__del__`. A type in C is inert if it is
//! known to be: files, sockets with data, databases and whatever a library nobody listed here has
//! may write when they go.

use std::{
    collections::HashMap,
    ffi::{c_int, c_void},
    hash::{BuildHasherDefault, Hasher},
};

use pyo3::{
    exceptions::PyBaseException,
    ffi, intern,
    prelude::*,
    types::{PyDict, PyList, PyTuple, PyType},
};

use super::Gc;

/// Objects whose referents are asked for at once.
const BATCH: usize = 8192;

/// Deepest nesting of containers that the collector doesn't track.
const DEPTH: usize = 32;

/// Instructions of 3.9 and 3.10 after which closing a generator may run code of its own:
/// `SETUP_FINALLY`, `SETUP_WITH`, `SETUP_ASYNC_WITH`.
const HANDLERS: [u8; 3] = [122, 143, 154];

/// Types that CPython says are in `builtins`, many under no name there; NumPy's `f2py` has one.
const BUILTINS: &[&str] = &[
    "Context",
    "ContextVar",
    "NoDefaultType",
    "NoneType",
    "NotImplementedType",
    "PyCapsule",
    "StgDict",
    "bool",
    "builtin_function_or_method",
    "builtin_method",
    "bytearray",
    "bytearray_iterator",
    "bytes",
    "bytes_iterator",
    "callable_iterator",
    "cell",
    "classmethod",
    "classmethod_descriptor",
    "code",
    "complex",
    "dict",
    "dict_itemiterator",
    "dict_items",
    "dict_keyiterator",
    "dict_keys",
    "dict_valueiterator",
    "dict_values",
    "ellipsis",
    "enumerate",
    "filter",
    "float",
    "fortran",
    "frame",
    "frozenset",
    "function",
    "getset_descriptor",
    "hamt",
    "hamt_array_node",
    "hamt_bitmap_node",
    "hamt_collision_node",
    "instancemethod",
    "int",
    "iterator",
    "list",
    "list_iterator",
    "list_reverseiterator",
    "longrange_iterator",
    "managedbuffer",
    "map",
    "mappingproxy",
    "member_descriptor",
    "memoryview",
    "method",
    "method-wrapper",
    "method_descriptor",
    "module",
    "moduledef",
    "object",
    "property",
    "range",
    "range_iterator",
    "reversed",
    "set",
    "slice",
    "staticmethod",
    "stderrprinter",
    "str",
    "super",
    "traceback",
    "tuple",
    "type",
    "weakref",
    "wrapper_descriptor",
    "zip",
];

/// Modules, with all below them, whose types in C hold memory and nothing else.
const MODULES: &[&str] = &[
    // The standard library's.
    "Token",
    "_abc",
    "_ast",
    "_blake2",
    "_bz2",
    "_collections",
    "_contextvars",
    "_csv",
    "_ctypes",
    "_datetime",
    "_decimal",
    "_elementtree",
    "_functools",
    "_hashlib",
    "_json",
    "_lzma",
    "_md5",
    "_operator",
    "_pickle",
    "_queue",
    "_random",
    "_sha1",
    "_sha2",
    "_sre",
    "_ssl",
    "_struct",
    "_thread",
    "_typing",
    "_weakref",
    "_zoneinfo",
    "array",
    "ast",
    "collections",
    "contextvars",
    "ctypes",
    "datetime",
    "decimal",
    "functools",
    "itertools",
    "operator",
    "os",
    "posix",
    "pwd",
    "pyexpat",
    "random",
    "re",
    "resource",
    "sys",
    "time",
    "types",
    "typing",
    "unicodedata",
    "weakref",
    "zlib",
    // Ours.
    "pybundle._native",
    // Of others. Files of theirs are Python's, or asked below.
    "PIL",
    "charset_normalizer",
    "contourpy",
    "h5py",
    "kiwisolver",
    "llvmlite",
    "matplotlib",
    "mpi4py",
    "numba",
    "numpy",
    "pandas",
    "pybind11_builtins",
    "scipy",
    "sklearn",
    "uarray",
    "yaml",
];

/// What a type says of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// They only free memory.
    Inert,
    /// So do they, but they may hold others that nobody else names: tuples and dictionaries that
    /// the collector has stopped to track.
    Container,
    /// Each is to be asked.
    Ask(Question),
    /// Nobody knows.
    Unknown,
}

/// What an object is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// A file: is it closed, one of the standard streams, or for reading alone?
    File,
    /// A generator: would it do anything if it were closed?
    Generator,
    /// An object with `__del__`: is an attribute `None`, or not `None`?
    IsNone(&'static str),
    NotNone(&'static str),
    /// A handle of something open: is it false, closed or none?
    IsFalse,
}

/// The first object that is left and would, or might, do more than free memory.
pub(super) fn exception<'py>(py: Python<'py>, gc: &Gc) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut look = Look::new(py)?;
    let referents = gc.get_referents.bind(py);
    let tracked = gc.get_objects.bind(py).call0()?.cast_into::<PyList>()?;
    for first in (0..tracked.len()).step_by(BATCH) {
        let mut batch = tracked.get_slice(first, first + BATCH);
        for object in batch.iter() {
            let verdict = look.verdict(&object)?;
            if !look.is_inert(&object, verdict)? {
                return Ok(Some(object));
            }
        }
        // What nobody tracks is found in what holds it.
        for depth in 0.. {
            let held = referents.call1(batch.to_tuple())?.cast_into::<PyList>()?;
            let untracked = PyList::empty(py);
            for object in held.iter() {
                let verdict = look.verdict(&object)?;
                // Tracked ones have their own turn.
                if verdict == Verdict::Inert || is_tracked(&object) {
                    continue;
                }
                if depth == DEPTH || !look.is_inert(&object, verdict)? {
                    return Ok(Some(object));
                }
                if verdict == Verdict::Container {
                    untracked.append(object)?;
                }
            }
            if untracked.is_empty() {
                break;
            }
            batch = untracked;
        }
    }
    Ok(None)
}

/// A type's module and name. A class may say what it likes there; a type in C says what it is.
pub(super) fn name_of(class: &Bound<'_, PyType>) -> (String, String) {
    let text = |name| class.getattr(name).and_then(|text| text.extract());
    (
        text("__module__").unwrap_or_default(),
        text("__name__").unwrap_or_default(),
    )
}

fn is_tracked(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive; CPython looks at its head alone.
    unsafe { ffi::PyObject_GC_IsTracked(object.as_ptr()) == 1 }
}

/// Hashes an address, which nobody chooses to make others collide: it is asked for every object.
#[derive(Default)]
struct Address(u64);

impl Hasher for Address {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(byte.into());
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The low bits of an address are all alike.
        self.0.rotate_left(32)
    }
}

/// What was found out so far.
struct Look<'py> {
    py: Python<'py>,
    verdicts: HashMap<*mut ffi::PyTypeObject, Verdict, BuildHasherDefault<Address>>,
    /// How objects of classes written in Python are freed.
    class: *mut c_void,
    /// The standard streams, what is below them included.
    streams: Vec<Bound<'py, PyAny>>,
}

impl<'py> Look<'py> {
    fn new(py: Python<'py>) -> PyResult<Self> {
        let namespace = PyDict::new(py);
        let class = py
            .get_type::<PyType>()
            .call1(("Plain", PyTuple::empty(py), namespace))?;
        let class = slot(class.cast::<PyType>()?, ffi::Py_tp_dealloc);
        let sys = py.import("sys")?;
        let mut streams = Vec::new();
        for name in ["stdin", "stdout", "stderr"] {
            for name in [name.to_owned(), format!("__{name}__")] {
                let mut stream = sys.getattr_opt(name.as_str())?;
                for below in ["buffer", "raw"] {
                    let Some(found) = stream else { break };
                    stream = found.getattr_opt(below)?;
                    streams.push(found);
                }
                streams.extend(stream);
            }
        }
        Ok(Self {
            py,
            verdicts: HashMap::default(),
            class,
            streams,
        })
    }

    fn verdict(&mut self, object: &Bound<'py, PyAny>) -> PyResult<Verdict> {
        let class = object.get_type_ptr();
        if let Some(&verdict) = self.verdicts.get(&class) {
            return Ok(verdict);
        }
        let verdict = self.judge(&object.get_type())?;
        self.verdicts.insert(class, verdict);
        Ok(verdict)
    }

    /// Would this object, of this verdict, do nothing but free memory?
    fn is_inert(&self, object: &Bound<'py, PyAny>, verdict: Verdict) -> PyResult<bool> {
        match verdict {
            Verdict::Inert | Verdict::Container => Ok(true),
            Verdict::Ask(question) => self.ask(object, question),
            Verdict::Unknown => Ok(false),
        }
    }

    fn judge(&self, class: &Bound<'py, PyType>) -> PyResult<Verdict> {
        let mut solid = class.clone();
        while is_heap(&solid) && slot(&solid, ffi::Py_tp_dealloc) == self.class {
            let Some(base) = solid
                .getattr(intern!(self.py, "__base__"))?
                .cast_into()
                .ok()
            else {
                break;
            };
            solid = base;
        }
        let (module, in_c) = name_of(&solid);
        let known = is_known(&module, &in_c) || solid.is_subclass_of::<PyBaseException>()?;
        if module == "_io" {
            return Ok(match in_c.as_str() {
                // A program's own kind of file would be asked by code of the program's.
                _ if !solid.is(class) => Verdict::Unknown,
                "BytesIO" | "StringIO" | "IncrementalNewlineDecoder" => Verdict::Inert,
                _ => Verdict::Ask(Question::File),
            });
        }
        if (module.as_str(), in_c.as_str()) == ("builtins", "generator") {
            return Ok(Verdict::Ask(Question::Generator));
        }
        if !known {
            return Ok(Verdict::Unknown);
        }
        let is_handle = match module.as_str() {
            "mpi4py.MPI" => in_c == "File",
            "h5py.h5a" | "h5py.h5d" | "h5py.h5f" | "h5py.h5g" => in_c.ends_with("ID"),
            _ => false,
        };
        if is_handle {
            return Ok(Verdict::Ask(Question::IsFalse));
        }
        // Not by its name: a metaclass may make an attribute of anything that it is asked for.
        if is_heap(class) && !slot(class, ffi::Py_tp_finalize).is_null() {
            let (module, written) = name_of(class);
            return Ok(match (module.as_str(), written.as_str()) {
                (module, "ResourceTracker") if module.ends_with(".resource_tracker") => {
                    Verdict::Ask(Question::IsNone("_fd"))
                }
                ("subprocess", "Popen") => Verdict::Ask(Question::NotNone("returncode")),
                _ => Verdict::Unknown,
            });
        }
        let is_container =
            class.is(self.py.get_type::<PyTuple>()) || class.is(self.py.get_type::<PyDict>());
        Ok(if is_container {
            Verdict::Container
        } else {
            Verdict::Inert
        })
    }

    fn ask(&self, object: &Bound<'py, PyAny>, question: Question) -> PyResult<bool> {
        match question {
            Question::File => {
                if self.streams.iter().any(|stream| stream.is(object)) {
                    return Ok(true);
                }
                let is = |name: &str| object.getattr(name)?.is_truthy();
                // One that can't tell has been detached, or is half made.
                Ok(is("closed").unwrap_or(false)
                    || object
                        .call_method0("writable")
                        .and_then(|writable| writable.is_truthy())
                        .is_ok_and(|writable| !writable))
            }
            Question::Generator => does_nothing_when_closed(object),
            Question::IsNone(name) => Ok(object.getattr(name)?.is_none()),
            Question::NotNone(name) => Ok(!object.getattr(name)?.is_none()),
            Question::IsFalse => Ok(!object.is_truthy()?),
        }
    }
}

/// Is this a type in C that holds memory and nothing else?
fn is_known(module: &str, name: &str) -> bool {
    let is_below = |known: &&str| {
        let rest = module.strip_prefix(*known);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    // What Cython makes for functions: themselves, defaults, closures.
    let by_cython = matches!(name, "cython_function_or_method" | "fused_cython_function")
        || name.starts_with("__pyx_defaults")
        || name.starts_with("__pyx_scope_struct")
        || module.starts_with("_cython_")
        || module == "_cyutility";
    let in_builtins = module == "builtins" && BUILTINS.contains(&name);
    in_builtins || by_cython || MODULES.iter().any(is_below)
}

/// Would a generator run any of its code if it were closed where it stands?
fn does_nothing_when_closed(generator: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = generator.py();
    let frame = generator.getattr(intern!(py, "gi_frame"))?;
    if frame.is_none() {
        return Ok(true);
    }
    let code = generator.getattr("gi_code")?;
    if py.version_info() >= (3, 11) {
        let flag = |name| generator.getattr(name)?.is_truthy();
        if !flag("gi_suspended")? {
            // It runs, or has not begun.
            return flag("gi_running").map(|running| !running);
        }
        // The first byte of each entry has its highest bit set. Since 3.12 one entry turns
        // StopIteration into another error.
        let table: Vec<u8> = code.getattr("co_exceptiontable")?.extract()?;
        let entries = table.iter().filter(|&byte| byte & 0x80 != 0).count();
        return Ok(entries <= usize::from(py.version_info() >= (3, 12)));
    }
    if frame.getattr("f_lasti")?.extract::<i64>()? == -1 {
        return Ok(true);
    }
    let code: Vec<u8> = code.getattr("co_code")?.extract()?;
    Ok(!code
        .iter()
        .step_by(2)
        .any(|number| HANDLERS.contains(number)))
}

fn is_heap(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: the type is alive.
    let flags = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
    flags & ffi::Py_TPFLAGS_HEAPTYPE != 0
}

/// What a type made at run time does in a slot; null if nothing.
fn slot(class: &Bound<'_, PyType>, number: c_int) -> *mut c_void {
    // SAFETY: the type is alive and has slots, as all that are made at run time do.
    unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), number) }
}
