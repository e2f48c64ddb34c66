//! The command line: options of ours among Python's own, then a program in one of Python's forms.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

/// For `--help` and after a mistake.
pub(crate) const USAGE: &str = "\
usage: pybundle-python [OPTION]... [python's options] [SCRIPT | -m MODULE | -c COMMAND | -] [ARG]...

Runs a program with the Python that a bundle holds: interpreter, standard library and packages.
Under mpiexec or srun one rank reads the bundle and broadcasts it, and the ranks of a node share
one copy.

options:
  --bundle FILE   bundle to load (else $PYBUNDLE)
  --receipt FILE  write what the run did, as JSON (also $PYBUNDLE_RECEIPT)
  --keep          leave the node images for the next run
  --all-files     place every file of the bundle before the program starts
  -V, --version   print the version of the bundle's Python and exit
  -h, --help      print this and exit
";

/// Python's options that take a value, as `-W` in `-Wignore` or `-W ignore`.
const WITH_VALUE: &[u8] = b"WX";

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) receipt: Option<PathBuf>,
    pub(crate) keep: bool,
    pub(crate) all_files: bool,
    /// Nothing is run.
    pub(crate) only: Option<Only>,
    /// Python's own options.
    pub(crate) options: Vec<OsString>,
    pub(crate) program: Option<Program>,
    /// The words that name it.
    pub(crate) words: Vec<OsString>,
    /// The program's `sys.argv[1:]`.
    pub(crate) rest: Vec<OsString>,
}

/// Questions that need no Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    Help,
    Version,
}

/// The program, as the extension module is told of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// `script`, `module`, `command` or `stdin`.
    pub(crate) form: &'static str,
    /// Its path, name or text.
    pub(crate) value: OsString,
}

/// Reads the arguments that follow the command's name.
///
/// # Errors
/// What is wrong, in one line.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut arguments = arguments.into_iter();
    let mut words_end = false;
    while let Some(word) = arguments.next() {
        let bytes = word.as_bytes();
        if words_end || !bytes.starts_with(b"-") {
            parsed.words.push(word.clone());
            parsed.program = Some(program("script", word));
            break;
        }
        if bytes == b"-" {
            parsed.words.push(word);
            parsed.program = Some(program("stdin", OsString::new()));
            break;
        }
        if bytes == b"--" {
            words_end = true;
            continue;
        }
        if let Some(long) = bytes.strip_prefix(b"--") {
            parsed.long(&word, long, &mut arguments)?;
        } else if parsed.short(&word, &mut arguments)? {
            break;
        }
    }
    parsed.rest = arguments.collect();
    Ok(parsed)
}

fn program(form: &'static str, value: OsString) -> Program {
    Program { form, value }
}

impl Arguments {
    fn long(
        &mut self,
        word: &OsStr,
        long: &[u8],
        more: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), String> {
        let mut parts = long.splitn(2, |&byte| byte == b'=');
        let (name, attached) = (parts.next().unwrap_or_default(), parts.next());
        let mut value = || {
            let attached = attached.map(|value| OsStr::from_bytes(value).to_owned());
            let missing = || format!("option {} needs a value", word.display());
            attached.or_else(|| more.next()).ok_or_else(missing)
        };
        match name {
            b"bundle" => self.bundle = Some(value()?.into()),
            b"receipt" => self.receipt = Some(value()?.into()),
            b"keep" if attached.is_none() => self.keep = true,
            b"all-files" if attached.is_none() => self.all_files = true,
            b"help" => self.only = Some(Only::Help),
            b"version" => self.only = Some(Only::Version),
            b"check-hash-based-pycs" => {
                let value = value()?;
                self.options
                    .extend([OsString::from("--check-hash-based-pycs"), value]);
            }
            _ => return Err(format!("unknown option {}", word.display())),
        }
        Ok(())
    }

    /// Several letters may share a dash. True if one of them has named the program.
    fn short(
        &mut self,
        word: &OsStr,
        more: &mut impl Iterator<Item = OsString>,
    ) -> Result<bool, String> {
        let letters = word.as_bytes();
        for at in 1..letters.len() {
            let mut value = || {
                let attached = &letters[at + 1..];
                let attached =
                    (!attached.is_empty()).then(|| OsString::from_vec(attached.to_vec()));
                let missing = || format!("option -{} needs a value", char::from(letters[at]));
                attached.or_else(|| more.next()).ok_or_else(missing)
            };
            match letters[at] {
                letter @ (b'c' | b'm') => {
                    let form = if letter == b'c' { "command" } else { "module" };
                    let value = value()?;
                    self.words.push(word.to_owned());
                    if at + 1 == letters.len() {
                        self.words.push(value.clone());
                    }
                    self.program = Some(program(form, value));
                    if at > 1 {
                        self.options
                            .push(OsString::from_vec(letters[..at].to_vec()));
                    }
                    return Ok(true);
                }
                b'V' => self.only = Some(Only::Version),
                b'h' | b'?' => self.only = Some(Only::Help),
                b'x' => {
                    return Err("option -x is not supported: remove the script's first line".into());
                }
                letter if WITH_VALUE.contains(&letter) => {
                    let value = value()?;
                    self.options.push(word.to_owned());
                    if at + 1 == letters.len() {
                        self.options.push(value);
                    }
                    return Ok(false);
                }
                _ => {}
            }
        }
        self.options.push(word.to_owned());
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn parsed(words: &[&str]) -> Arguments {
        parse(words.iter().map(OsString::from)).unwrap()
    }

    #[test]
    fn pythons_options_come_before_the_program() {
        let got = parsed(&[
            "-X",
            "dev",
            "--bundle",
            "e.pybundle",
            "-Wignore",
            "-uO",
            "app.py",
            "-c",
            "--keep",
        ]);
        assert_eq!(got.bundle.unwrap(), PathBuf::from("e.pybundle"));
        assert_eq!(got.options, ["-X", "dev", "-Wignore", "-uO"]);
        assert_eq!(got.program, Some(program("script", "app.py".into())));
        assert_eq!(got.rest, ["-c", "--keep"]);
        assert!(!got.keep);
    }

    #[test]
    fn forms_of_programs() {
        let got = parsed(&["-Im", "timeit", "-n", "1"]);
        assert_eq!(got.program, Some(program("module", "timeit".into())));
        assert_eq!(
            (got.options, got.rest),
            (vec!["-I".into()], vec!["-n".into(), "1".into()])
        );
        let got = parsed(&["-cpass", "x"]);
        let value = got.program.unwrap().value;
        assert_eq!((value, got.words), ("pass".into(), vec!["-cpass".into()]));
        assert_eq!(parsed(&["-", "x"]).program.unwrap().form, "stdin");
        assert_eq!(parsed(&["--", "-c"]).program.unwrap().form, "script");
        assert_eq!(parsed(&["-i"]).program, None);
        assert_eq!(parsed(&["-V"]).only, Some(Only::Version));
        assert_eq!(parsed(&["--bundle=a", "--help"]).only, Some(Only::Help));
    }

    #[test]
    fn mistakes_are_named() {
        for (words, text) in [
            (&["--bundel", "x"][..], "unknown option --bundel"),
            (&["--bundle"], "option --bundle needs a value"),
            (&["-W"], "option -W needs a value"),
            (&["-c"], "option -c needs a value"),
            (&["--keep=1"], "unknown option --keep=1"),
        ] {
            assert_eq!(parse(words.iter().map(OsString::from)).unwrap_err(), text);
        }
    }
}
