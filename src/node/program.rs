//! Programs of the machine that is set up, run with its root directory as theirs.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::machine::Machine;
use crate::sys;

/// Where programs are looked for, whatever the caller's own `PATH` is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program of the machine, not yet started.
///
/// # Errors
/// The root directory cannot be opened.
pub fn command(machine: &Machine, program: &Path) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    if machine.root() != Path::new("/") {
        // systemctl does nothing in a changed root unless it is told that this is meant.
        command.env_clear().env("PATH", PATH).env("SYSTEMD_IGNORE_CHROOT", "1");
        let root = File::open(machine.root())?;
        sys::process::isolate(&mut command, Some(root.into()));
    }
    Ok(command)
}

/// What a program of the machine writes to its standard output.
///
/// # Errors
/// It cannot be started, or says that it failed.
pub fn output(machine: &Machine, program: &Path, args: &[&str]) -> io::Result<String> {
    let output = command(machine, program)?.args(args).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        return Err(io::Error::other(format!("{}: {last}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
