//! `made-up-host DIR [GPUS]`: builds a made-up NVIDIA machine in DIR, for trying gpurun on a
//! machine without a GPU. Prints the configuration file to name in `GPURUN_CONFIG`.

use std::path::PathBuf;
use std::process::ExitCode;

use integration_tests::gpu_host::{Layout, MadeUpHost};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), count, None) = (args.next(), args.next(), args.next()) else {
        eprintln!("usage: made-up-host DIR [GPUS]");
        return ExitCode::from(2);
    };
    let count = match count.map(|c| c.to_str().and_then(|c| c.parse().ok())) {
        None => 2,
        Some(Some(count @ 1..=5)) => count,
        Some(_) => {
            eprintln!("made-up-host: GPUS is a number from 1 to 5");
            return ExitCode::from(2);
        }
    };
    match MadeUpHost::build(&PathBuf::from(dir), &Layout::with_gpus(count)) {
        Ok(host) => {
            println!("{}", host.config().display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("made-up-host: {error}");
            ExitCode::FAILURE
        }
    }
}
