//! The command line of `run`: options of ours, then a program in one of Python's four forms.

use std::{ffi::OsString, path::PathBuf};

/// How to use it, for `--help` and after a mistake.
pub(super) const USAGE: &str = "\
usage: python -m pybundle run [OPTION]... (SCRIPT | -m MODULE | -c COMMAND | -) [ARG]...

Runs a Python program whose modules come from a bundle. Under mpiexec or srun one rank reads the
bundle and broadcasts it, and the ranks of a node share one copy.

options:
  --bundle FILE   bundle to load (else $PYBUNDLE, else the file ENV.pybundle beside the
                  environment of this Python)
  --receipt FILE  write what the run did, as JSON (also $PYBUNDLE_RECEIPT)
  --strict        fail where a node would fall back to the environment itself
  --keep          leave the node images for the next run
  --all-files     place every file of the bundle before the program starts
  -h, --help      print this and exit
";

/// The program, in Python's own forms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    /// A file, or a folder or zip file that holds a `__main__`.
    Script(OsString),
    /// `-m`.
    Module(String),
    /// `-c`.
    Command(String),
    /// `-`.
    Stdin,
}

/// Options of ours.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) receipt: Option<PathBuf>,
    pub(crate) strict: bool,
    pub(crate) keep: bool,
    pub(crate) all_files: bool,
}

/// A parsed command line.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Arguments {
    /// `--help`.
    Help,
    /// A program to run.
    Run {
        options: Options,
        program: Program,
        /// What follows the program, for its `sys.argv[1:]`.
        rest: Vec<OsString>,
    },
}

/// Reads the arguments that follow `run`.
///
/// # Errors
/// What is wrong, in one line.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Arguments, String> {
    let mut options = Options::default();
    let mut arguments = arguments.into_iter();
    let program = loop {
        let Some(argument) = arguments.next() else {
            return Err("no program is given: a script, -m MODULE, -c COMMAND or -".to_owned());
        };
        let Some(text) = argument.to_str() else {
            break Program::Script(argument);
        };
        // As in `--bundle=FILE`; a path that is not UTF-8 must stand on its own.
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) if text.starts_with("--") => (name, Some(value)),
            _ => (text, None),
        };
        let flag = |switch: &mut bool| {
            *switch = true;
            let mistake = || Err(format!("option {name} takes no value"));
            attached.map_or(Ok(()), |_| mistake())
        };
        let mut value = |what: &str| {
            let next = attached.map(OsString::from).or_else(|| arguments.next());
            next.ok_or_else(|| format!("option {name} needs {what}"))
        };
        let text_value = |value: OsString| {
            value
                .into_string()
                .map_err(|value| format!("{name}: not UTF-8: `{}`", value.display()))
        };
        match name {
            "-h" | "--help" => return Ok(Arguments::Help),
            "--bundle" => options.bundle = Some(value("a file")?.into()),
            "--receipt" => options.receipt = Some(value("a file")?.into()),
            "--strict" => flag(&mut options.strict)?,
            "--keep" => flag(&mut options.keep)?,
            "--all-files" => flag(&mut options.all_files)?,
            "-m" => break Program::Module(text_value(value("a module")?)?),
            "-c" => break Program::Command(text_value(value("a command")?)?),
            "-" => break Program::Stdin,
            // As Python has it: `-mMODULE`, `-cCOMMAND`.
            _ if text.starts_with("-m") => break Program::Module(text[2..].to_owned()),
            _ if text.starts_with("-c") => break Program::Command(text[2..].to_owned()),
            _ if text.starts_with('-') => {
                return Err(format!(
                    "unknown option {name}; Python's own options come before `-m pybundle`"
                ));
            }
            _ => break Program::Script(argument),
        }
    };
    Ok(Arguments::Run {
        options,
        program,
        rest: arguments.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Arguments, String> {
        parse(arguments.iter().map(OsString::from).collect())
    }

    fn program(arguments: &[&str]) -> (Options, Program, Vec<OsString>) {
        match parsed(arguments).unwrap() {
            Arguments::Run {
                options,
                program,
                rest,
            } => (options, program, rest),
            Arguments::Help => panic!("help"),
        }
    }

    #[test]
    fn the_four_forms_take_what_follows_as_their_own() {
        let rest = vec![OsString::from("--strict"), OsString::from("-m")];
        for (given, expected) in [
            (&["app.py"][..], Program::Script("app.py".into())),
            (&["-m", "pkg.mod"], Program::Module("pkg.mod".to_owned())),
            (&["-mpkg"], Program::Module("pkg".to_owned())),
            (&["-c", "pass"], Program::Command("pass".to_owned())),
            (&["-cpass"], Program::Command("pass".to_owned())),
            (&["-"], Program::Stdin),
        ] {
            let given = [given, &["--strict", "-m"]].concat();
            assert_eq!(
                program(&given),
                (Options::default(), expected, rest.clone()),
                "{given:?}"
            );
        }
    }

    #[test]
    fn options_come_before_the_program() {
        let (options, program, rest) = program(&[
            "--bundle",
            "a.pybundle",
            "--receipt=r=1.json",
            "--strict",
            "--keep",
            "--all-files",
            "x.py",
        ]);
        assert_eq!(options.bundle, Some("a.pybundle".into()));
        assert_eq!(options.receipt, Some("r=1.json".into()));
        assert!(options.strict && options.keep && options.all_files);
        assert_eq!((program, rest), (Program::Script("x.py".into()), vec![]));
        assert_eq!(parsed(&["--strict", "-h"]).unwrap(), Arguments::Help);
    }

    #[test]
    fn mistakes_are_named() {
        for (given, expected) in [
            (&[][..], "no program is given"),
            (&["--bundle"], "option --bundle needs a file"),
            (&["-m"], "option -m needs a module"),
            (&["--strict=1", "x.py"], "option --strict takes no value"),
            (&["-O", "x.py"], "unknown option -O"),
        ] {
            let error = parsed(given).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
