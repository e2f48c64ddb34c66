//! `pybundle-python`: a Python whose files all come from a bundle.
//!
//! The process joins its job and loads the bundle before there is a Python in it. Then it opens the
//! packed libpython, which lies in the node image like everything else, and starts it with the rest
//! of the command line. The extension module takes over when the interpreter is about to import
//! `site`; from then on all is as with `python -m pybundle run`.
//!
//! | module | holds |
//! | --- | --- |
//! | [`arguments`] | the command line |
//! | [`libpython`] | the packed library |

mod arguments;
mod libpython;

use std::{
    ffi::{CString, OsStr, OsString},
    io::{IsTerminal, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    process,
    sync::Arc,
};

use pybundle_bundle::Head;
use pybundle_load::{
    Image, Loaded, Settings,
    failure::{self, Error},
    join, load, package,
    transport::{Group, Transport, plugin},
};

use arguments::{Arguments, Only, Program};
use libpython::{End, Libpython};

/// Python that reads [`literal`].
const TEXT: &str = "import sys
coding = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
text = lambda digits: bytes.fromhex(digits).decode(*coding)";

/// What Python runs in place of the program, which it is told of otherwise.
const MAIN: &str = "import sys; sys.modules['pybundle._native'].main(sys.argv[1:])";

fn main() {
    let arguments = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(mistake) => {
            let usage = arguments::USAGE.lines().next().unwrap_or_default();
            failure::once(|| say(&format!("error: {mistake}\n{usage}\n")));
            process::exit(2);
        }
    };
    match arguments.only {
        Some(Only::Help) => {
            let _ = std::io::stdout().write_all(arguments::USAGE.as_bytes());
        }
        Some(Only::Version) => process::exit(version(&arguments)),
        None => run(arguments),
    }
}

/// Prints the version of the bundle's Python; the status.
fn version(arguments: &Arguments) -> i32 {
    let read = settings(arguments).and_then(|settings| {
        let mut file = fs_err::File::open(&settings.bundle).map_err(Error::Io)?;
        let head = Head::read(&mut file).map_err(pybundle_load::Error::from)?;
        Ok(head.manifest.python.version)
    });
    match read {
        Ok(version) => {
            let _ = writeln!(std::io::stdout(), "Python {version}");
            0
        }
        Err(error) => {
            failure::alone(&error);
            1
        }
    }
}

/// The environment's settings with the command line's over them.
fn settings(arguments: &Arguments) -> Result<Settings, Error> {
    let mut settings = join::settings(arguments.bundle.as_deref())?;
    settings.receipt = arguments.receipt.clone().or(settings.receipt);
    settings.keep |= arguments.keep;
    settings.all_files |= arguments.all_files;
    // There is no environment to fall back to: its interpreter is another program.
    settings.strict = true;
    Ok(settings)
}

/// Runs the program; ends the process.
fn run(arguments: Arguments) -> ! {
    let elsewhere = libpython::forget("PYTHONHOME");
    let begun = settings(&arguments).and_then(|settings| {
        let package = package::folder()?;
        let transport = join::transport(&settings, Some(&package.folder))?;
        Ok((settings, package, transport))
    });
    let (settings, package, mut transport) = begun.unwrap_or_else(|error| {
        failure::alone(&error);
        process::exit(1)
    });
    let ready = load(&settings, &mut *transport, &mut || Ok(()))
        .map_err(Error::from)
        .and_then(|loaded| {
            let prepared = prepare(&loaded);
            let what = "all ranks to find their Python";
            let prepared = failure::agree(prepared, what, &settings, &mut *transport)?;
            Ok((loaded, prepared))
        });
    let (loaded, (image, executable, python)) = ready.unwrap_or_else(|error| {
        failure::end(&error, &settings, &mut *transport, false);
        process::exit(1)
    });
    if elsewhere && transport.rank(Group::WORLD) == 0 {
        say("pybundle: PYTHONHOME is ignored: the bundle has its own Python\n");
    }
    let interactive = std::io::stdin().is_terminal();
    let program = match arguments.program {
        // Root reads the standard input for all, unless somebody is typing.
        Some(Program { form: "stdin", .. }) if interactive => None,
        program => program,
    };
    let mut argv: Vec<OsString> = vec![executable.into_os_string()];
    argv.extend(arguments.options);
    let words = argv.iter().cloned().chain(arguments.words);
    let words: Vec<_> = words.chain(arguments.rest.iter().cloned()).collect();
    if program.is_some() {
        argv.extend(["-c".into(), MAIN.into()]);
    }
    argv.extend(arguments.rest);
    let texts = texts(
        &package.native,
        &image,
        &loaded,
        &*transport,
        &words,
        program.as_ref(),
    );
    let job = Arc::clone(&loaded.job);
    drop(loaded);
    let held = Arc::clone(&image);
    // From then on the extension module holds the image and the place in the job.
    let let_go = Box::new(move || held.leave());
    match python.run(argv, texts, let_go) {
        End::Ran(status) => process::exit(status),
        End::Answered(status) => {
            job.leave();
            image.leave();
            let _ = transport.finalise();
            process::exit(status)
        }
    }
}

/// What a rank needs to start Python.
type Prepared = (Arc<Image>, std::path::PathBuf, Libpython);

/// Places and opens the packed Python.
fn prepare(loaded: &Loaded) -> Result<Prepared, Error> {
    let image = loaded.image.clone();
    let image = image.ok_or_else(|| Error::refused("this node has no image of the bundle", ""))?;
    if loaded.manifest.python.executable.is_none() {
        return Err(Error::refused(
            "the bundle holds no Python",
            "pack the environment again without `--no-stdlib`",
        ));
    }
    if loaded.manifest.python.libpython.is_none() {
        return Err(Error::refused(
            "the bundle's Python has no libpython: it can't be started inside another program",
            "use `pybundle stage`, which starts its executable, or `python -m pybundle run`",
        ));
    }
    if !image.is_executable() {
        return Err(Error::refused(
            "libraries can't be loaded from the node image: its file system is mounted noexec",
            "name a folder that allows execution with `PYBUNDLE_NODE_DIR`",
        ));
    }
    let interpreter = image.place_interpreter()?;
    let missing = || {
        Error::refused(
            "the bundle's libpython is missing",
            "pack the environment again",
        )
    };
    let library = interpreter.libpython.ok_or_else(missing)?;
    if !library.exists() {
        let text = format!(
            "libpython is gone from the node image: `{}`",
            library.display()
        );
        let hint = "remove the image with `pybundle unstage`, or `pybundle clean`";
        return Err(Error::refused(text, hint));
    }
    let python = Libpython::open(&library).map_err(|reason| {
        let text = format!(
            "the bundle's Python can't be loaded: {reason}: `{}`",
            library.display()
        );
        Error::refused(&text, "pack the environment on a machine like this one")
    })?;
    Ok((image, interpreter.executable, python))
}

/// What the interpreter runs before it imports `site`: the extension module holds what was loaded,
/// then it takes over.
fn texts(
    native: &Path,
    image: &Image,
    loaded: &Loaded,
    transport: &dyn Transport,
    words: &[OsString],
    program: Option<&Program>,
) -> [CString; 2] {
    let plugin = transport.flavour().and_then(|_| plugin::path());
    let words: Vec<_> = words.iter().map(|word| literal(word)).collect();
    let (form, value) = program.map_or(("", OsStr::new("")), |it| (it.form, &it.value));
    let hold = format!(
        "{TEXT}
def hold():
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import ExtensionFileLoader, spec_from_file_location
    name, path = 'pybundle._native', text({native})
    spec = spec_from_file_location(name, path, loader=ExtensionFileLoader(name, path))
    native = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(native)
    native.hold(text({image}), {job:?}, text({plugin}) or None)
hold()
",
        native = literal(native.as_os_str()),
        plugin = literal(plugin.map_or(OsStr::new(""), Path::as_os_str)),
        image = literal(image.dir().as_os_str()),
        job = loaded.job.variable(),
    );
    let take_over = format!(
        "{TEXT}
words = [text(digits) for digits in [{words}]]
sys.modules['pybundle._native'].take_over(words, {form:?}, text({value}))
",
        words = words.join(", "),
        value = literal(value),
    );
    [hold, take_over].map(|text| CString::new(text).unwrap_or_default())
}

/// Any bytes, as a Python string of hexadecimal digits.
fn literal(bytes: &OsStr) -> String {
    let digits = |text: String, byte: &u8| text + &format!("{byte:02x}");
    format!("'{}'", bytes.as_bytes().iter().fold(String::new(), digits))
}

/// Ends this process, and its job, after an error that was printed.
fn give_up() -> ! {
    if plugin::path().is_some() {
        plugin::abort_now(1);
    }
    process::exit(1)
}

fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
