//! The gpurun program.

use std::path::Path;
use std::process::ExitCode;

use gpurun::cli::{Cli, LogFormat};
use gpurun::commands::{self, Failure};
use gpurun::{container, gpu, log, sys};

fn main() -> ExitCode {
    let mut args = std::env::args_os().peekable();
    let name = args.peek().and_then(|arg| Path::new(arg).file_name()?.to_str());
    if let Some(advice) = name.and_then(gpu::absorb::impersonated) {
        log::to_stderr(advice);
        return ExitCode::FAILURE;
    }
    sys::signal::hear_of_children();
    let cli = match Cli::from_args(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 1 } else { 0 });
        }
    };
    let format = match cli.global.log_format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    if let Err(error) = log::open(cli.global.log.as_deref(), format, cli.global.debug) {
        let path = cli.global.log.unwrap_or_default();
        log::to_stderr(&format!("cannot open the log {path:?}: {error}"));
        return ExitCode::FAILURE;
    }
    let done = container::sealed::refuse_borrowed_binary()
        .map_err(Failure::from)
        .and_then(|()| commands::run(cli));
    match done {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            log::fatal(&log::one_line(&failure.error));
            ExitCode::from(failure.status)
        }
    }
}
