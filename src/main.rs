//! The gpurun program.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use gpurun::cli::{Cli, LogFormat, Refused};
use gpurun::commands::{self, Failure};
use gpurun::{container, gpu, log, sys};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().and_then(|arg| Path::new(arg).file_name()?.to_str());
    if let Some(advice) = name.and_then(gpu::toolkit::impersonated) {
        log::to_stderr(advice);
        return ExitCode::FAILURE;
    }
    if name.is_some_and(gpu::absorb::is_hook_program) {
        args.insert(1, "hook".into());
    }
    sys::signal::hear_of_children();
    let cli = match Cli::from_args(args) {
        Ok(cli) => cli,
        Err(Refused::Help(help)) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(Refused::Usage(usage)) => {
            let _ = log::open(usage.log.as_deref(), log_format(usage.log_format), false);
            log::fatal(&usage.message);
            log::to_stderr(&usage.hint());
            return ExitCode::from(usage.status);
        }
    };
    let format = log_format(cli.global.log_format);
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

fn log_format(format: LogFormat) -> log::Format {
    match format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    }
}
