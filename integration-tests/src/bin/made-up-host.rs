//! `made-up-host DIR [GPUS]`: builds a made-up NVIDIA machine in DIR, for trying gpurun on a
//! machine without a GPU. Prints the configuration file to name in `GPURUN_CONFIG`.
//! `made-up-host --vendor amd|intel|habana DIR [GPUS]`: another maker's.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost};
use integration_tests::stub_driver;
use integration_tests::vendor_host::VendorHost;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    let vendor = args.next_if(|arg| arg == "--vendor").map(|_| args.next().unwrap_or_default());
    let (Some(dir), count, None) = (args.next(), args.next(), args.next()) else {
        eprintln!("usage: made-up-host [--vendor amd|intel|habana] DIR [GPUS]");
        return ExitCode::from(2);
    };
    let count = match count.map(|c| c.to_str().and_then(|c| c.parse().ok())) {
        None => 2,
        Some(Some(count @ 1..=16)) => count,
        Some(_) => {
            eprintln!("made-up-host: GPUS is a number from 1 to 16");
            return ExitCode::from(2);
        }
    };
    if let Some(vendor) = vendor {
        return other(&vendor, &PathBuf::from(dir), count);
    }
    match build(&PathBuf::from(dir), count) {
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

/// A machine of another maker; panics when it cannot be built.
fn other(vendor: &OsStr, dir: &Path, count: u32) -> ExitCode {
    if let Err(error) = std::fs::create_dir_all(dir) {
        eprintln!("made-up-host: {}: {error}", dir.display());
        return ExitCode::FAILURE;
    }
    let host = VendorHost::new(dir, "[amd]\ngpu-tracker = \"none\"");
    match vendor.to_str() {
        Some("amd") => host.amd(count.min(15), 1),
        Some("intel") => host.intel(),
        Some("habana") => host.gaudi(count),
        _ => {
            eprintln!("made-up-host: --vendor is one of amd, intel, habana");
            return ExitCode::from(2);
        }
    }
    println!("{}", host.config().display());
    ExitCode::SUCCESS
}

/// The driver root goes into the same directory, so that removing it removes everything.
fn build(dir: &Path, count: u32) -> io::Result<MadeUpHost> {
    let driver_root = dir.join("driver");
    stub_driver::build(&driver_root, DRIVER_VERSION)?;
    let driver_root = Some(driver_root.canonicalize()?);
    MadeUpHost::build(dir, &Layout { driver_root, ..Layout::with_gpus(count) })
}
