//! The `pybundle` command: what needs neither MPI nor a running Python is done here, the rest is
//! handed to `python -m pybundle`.

use std::process::ExitCode;

use clap::Parser;

mod arguments;
mod commands;
mod output;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    // A reader that goes away (`pybundle inspect … | head`) ends the program quietly.
    let arguments = Arguments::parse();
    let failed = match &arguments.command {
        Command::Diff(_) => ExitCode::from(commands::diff::TROUBLE),
        _ => ExitCode::FAILURE,
    };
    let result = match arguments.command {
        Command::Diff(options) => return ended(commands::diff::run(&options), failed),
        Command::Pack(options) => commands::pack::run(&options),
        Command::Inspect(options) => commands::inspect::run(&options),
        Command::Verify(options) => commands::verify::run(&options),
        Command::Unpack(options) => commands::unpack::run(&options),
        Command::Receipt(options) => commands::receipt::run(&options),
        Command::Clean(options) => commands::clean::run(&options),
        Command::Stage(options) => commands::stage::stage(&options),
        Command::Unstage(options) => commands::stage::unstage(&options),
        Command::Run(options) => commands::python::run("run", &options.arguments),
        Command::Site(options) => commands::python::site(&options),
        Command::Mpi(options) => commands::python::run("mpi", &options.arguments),
    };
    ended(result.map(|()| ExitCode::SUCCESS), failed)
}

/// The status of a command, whose error is printed.
fn ended(result: anyhow::Result<ExitCode>, failed: ExitCode) -> ExitCode {
    match result {
        Ok(status) => status,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            failed
        }
    }
}
