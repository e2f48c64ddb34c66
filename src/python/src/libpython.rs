#![expect(unsafe_code, reason = "starts a Python that is found at run time")]
//! A Python started from its shared library, by the functions that CPython 3.9 to 3.14 export.

use std::{
    ffi::{CStr, CString, OsString, c_char, c_int, c_void},
    mem::ManuallyDrop,
    os::unix::ffi::OsStringExt,
    path::Path,
    ptr,
    sync::Mutex,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW, Symbol};

/// `PyStatus`: how a step of the initialisation ended.
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    kind: c_int,
    function: *const c_char,
    message: *const c_char,
    exit_code: c_int,
}

/// Room for a `PyConfig`, whose fields and size depend on the version; nobody but Python looks
/// inside. That of 3.14 takes less than a kilobyte.
#[repr(C, align(16))]
struct Config([u8; 16 << 10]);

type Object = *mut c_void;
type AuditHook = unsafe extern "C" fn(*const c_char, Object, *mut c_void) -> c_int;

/// `Py_file_input`: a text is a sequence of statements.
const FILE_INPUT: c_int = 257;

/// The library, opened; its functions.
pub(crate) struct Libpython {
    init_config: Symbol<unsafe extern "C" fn(*mut Config)>,
    set_argv: Symbol<unsafe extern "C" fn(*mut Config, isize, *const *mut c_char) -> Status>,
    initialise: Symbol<unsafe extern "C" fn(*const Config) -> Status>,
    clear_config: Symbol<unsafe extern "C" fn(*mut Config)>,
    is_exception: Symbol<unsafe extern "C" fn(Status) -> c_int>,
    is_exit: Symbol<unsafe extern "C" fn(Status) -> c_int>,
    exit_with: Symbol<unsafe extern "C" fn(Status) -> !>,
    run_main: Symbol<unsafe extern "C" fn() -> c_int>,
    add_audit_hook: Symbol<unsafe extern "C" fn(AuditHook, *mut c_void) -> c_int>,
    inside: Inside,
}

/// The functions that are called while the interpreter runs.
struct Inside {
    tuple_item: Symbol<unsafe extern "C" fn(Object, isize) -> Object>,
    utf8: Symbol<unsafe extern "C" fn(Object) -> *const c_char>,
    builtins: Symbol<unsafe extern "C" fn() -> Object>,
    new_dict: Symbol<unsafe extern "C" fn() -> Object>,
    set_item: Symbol<unsafe extern "C" fn(Object, *const c_char, Object) -> c_int>,
    run: Symbol<unsafe extern "C" fn(*const c_char, c_int, Object, Object, Object) -> Object>,
    print_error: Symbol<unsafe extern "C" fn()>,
    release: Symbol<unsafe extern "C" fn(Object)>,
}

/// What is run once the interpreter can import, before it imports `site`.
struct Early {
    inside: Inside,
    texts: [CString; 2],
    /// Called between them.
    between: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// How a Python ended, or did not begin.
pub(crate) enum End {
    /// It has run; its status.
    Ran(i32),
    /// It has answered a question on its command line; its status.
    Answered(i32),
}

impl Libpython {
    /// Opens the library, with global symbol scope: extension modules look for its functions.
    ///
    /// # Errors
    /// The dynamic linker's words.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        // SAFETY: the initialisers of libpython have no preconditions.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
        // Never closed: the symbols below must not outlive it.
        let library = ManuallyDrop::new(library.map_err(|error| reason(&error))?);
        // SAFETY: functions of these names have these types in every version from 3.9 on.
        unsafe {
            Ok(Self {
                init_config: get(&library, "PyConfig_InitPythonConfig")?,
                set_argv: get(&library, "PyConfig_SetBytesArgv")?,
                initialise: get(&library, "Py_InitializeFromConfig")?,
                clear_config: get(&library, "PyConfig_Clear")?,
                is_exception: get(&library, "PyStatus_Exception")?,
                is_exit: get(&library, "PyStatus_IsExit")?,
                exit_with: get(&library, "Py_ExitStatusException")?,
                run_main: get(&library, "Py_RunMain")?,
                add_audit_hook: get(&library, "PySys_AddAuditHook")?,
                inside: Inside {
                    tuple_item: get(&library, "PyTuple_GetItem")?,
                    utf8: get(&library, "PyUnicode_AsUTF8")?,
                    builtins: get(&library, "PyEval_GetBuiltins")?,
                    new_dict: get(&library, "PyDict_New")?,
                    set_item: get(&library, "PyDict_SetItemString")?,
                    run: get(&library, "PyRun_StringFlags")?,
                    print_error: get(&library, "PyErr_Print")?,
                    release: get(&library, "Py_DecRef")?,
                },
            })
        }
    }

    /// Runs Python with a command line, as its own program does. `texts` are Python's, run as soon
    /// as modules can be imported, before `site` is; `between` is called between the two.
    pub(crate) fn run(
        self,
        argv: Vec<OsString>,
        texts: [CString; 2],
        between: Box<dyn FnOnce() + Send>,
    ) -> End {
        // Python may look at its arguments as long as it runs.
        let words = argv.into_iter().map(|word| {
            let word = CString::new(word.into_vec()).unwrap_or_default();
            word.into_raw()
        });
        let words: &mut Vec<*mut c_char> = Box::leak(Box::new(words.collect()));
        words.push(ptr::null_mut());
        let count = words.len().cast_signed() - 1;
        let early: &Early = Box::leak(Box::new(Early {
            inside: self.inside,
            texts,
            between: Mutex::new(Some(between)),
        }));
        let mut config = Box::new(Config([0; 16 << 10]));
        // SAFETY: the calls are those of CPython's own main program, in its order, on this thread,
        // with memory that lives as long as they need it; the hook's data lives for ever.
        unsafe {
            (self.init_config)(&raw mut *config);
            let mut status = (self.set_argv)(&raw mut *config, count, words.as_ptr());
            if (self.is_exception)(status) == 0 {
                // Not before the command line is read, which may choose another allocator.
                (self.add_audit_hook)(audit, ptr::from_ref(early).cast_mut().cast());
                status = (self.initialise)(&raw const *config);
            }
            (self.clear_config)(&raw mut *config);
            if (self.is_exit)(status) != 0 {
                return End::Answered(status.exit_code);
            }
            if (self.is_exception)(status) != 0 {
                (self.exit_with)(status);
            }
            // With `-S` nobody has imported `site`.
            early.once();
            End::Ran((self.run_main)())
        }
    }
}

impl Early {
    /// Runs the texts, if nobody has; what goes wrong in them ends this process.
    ///
    /// # Safety
    /// The interpreter runs, and this thread holds its lock.
    unsafe fn once(&self) {
        let taken = self.between.lock().map(|mut between| between.take());
        let Ok(Some(between)) = taken else { return };
        let [first, second] = &self.texts;
        // SAFETY: the caller's promise.
        let held = unsafe { self.inside.run_text(first) };
        // In any case: what nobody holds goes.
        between();
        // SAFETY: as above.
        if !held || !unsafe { self.inside.run_text(second) } {
            crate::give_up();
        }
    }
}

impl Inside {
    /// Runs statements in a namespace of their own; false after an error, which is printed.
    ///
    /// # Safety
    /// As for [`Early::once`].
    unsafe fn run_text(&self, text: &CStr) -> bool {
        // SAFETY: the caller's promise; each result is checked before it is used.
        unsafe {
            let names = (self.new_dict)();
            let set = |name: &CStr, value| (self.set_item)(names, name.as_ptr(), value) == 0;
            let done = if !names.is_null() && set(c"__builtins__", (self.builtins)()) {
                (self.run)(text.as_ptr(), FILE_INPUT, names, names, ptr::null_mut())
            } else {
                ptr::null_mut()
            };
            if !names.is_null() {
                (self.release)(names);
            }
            if done.is_null() {
                (self.print_error)();
            } else {
                (self.release)(done);
            }
            !done.is_null()
        }
    }
}

/// Called for every audit event: waits for the import of `site`.
unsafe extern "C" fn audit(event: *const c_char, args: Object, data: *mut c_void) -> c_int {
    // SAFETY: Python gives a text that ends with NUL.
    if unsafe { CStr::from_ptr(event) } != c"import" {
        return 0;
    }
    // SAFETY: the pointer that `run` gave, to what lives for ever.
    let early = unsafe { &*data.cast::<Early>() };
    // SAFETY: the event's arguments are a tuple that begins with the module's name, and hooks are
    // called by a thread that holds the interpreter's lock.
    unsafe {
        let name = (early.inside.tuple_item)(args, 0);
        let name = if name.is_null() {
            ptr::null()
        } else {
            (early.inside.utf8)(name)
        };
        if !name.is_null() && CStr::from_ptr(name) == c"site" {
            early.once();
        }
    }
    0
}

/// # Safety
/// The library exports a function of this name and type, and is never closed.
unsafe fn get<T>(library: &Library, name: &str) -> Result<Symbol<T>, String> {
    // SAFETY: the caller's promise.
    unsafe { library.get(name.as_bytes()) }.map_err(|error| reason(&error))
}

fn reason(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.unwrap_or_else(|| error.to_string())
}

/// Takes a variable out of the environment; true if it was there. To be called before this process
/// has threads.
pub(crate) fn forget(name: &str) -> bool {
    let known = std::env::var_os(name).is_some();
    // SAFETY: the caller's promise: nobody reads the environment meanwhile.
    unsafe { std::env::remove_var(name) };
    known
}
