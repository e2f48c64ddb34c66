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
    let result = match arguments.command {
        Command::Pack(options) => commands::pack::run(&options),
        Command::Inspect(options) => commands::inspect::run(&options),
        Command::Verify(options) => commands::verify::run(&options),
        Command::Receipt(options) => commands::receipt::run(&options),
        Command::Clean(options) => commands::clean::run(&options),
        Command::Stage(options) => commands::stage::stage(&options),
        Command::Unstage(options) => commands::stage::unstage(&options),
        Command::Run(options) => commands::python::run("run", &options.arguments),
        Command::Site(options) => commands::python::site(&options),
        Command::Mpi(options) => commands::python::run("mpi", &options.arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}
