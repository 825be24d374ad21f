//! `gpurun exec`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use oci_spec::runtime::{Box, BoxBuilder, Process};
use rustix::termios::Winsize;

use crate::cli::Global;
use crate::container::exec::{self, Changes, Options};
use crate::container::foreground::Supervisor;
use crate::container::terminal::{self, Terminal};
use crate::container::{console, json, lenient, sealed};

/// The largest process file that is read.
const PROCESS_LIMIT: u64 = 4 << 20;

/// Run another process in a container.
#[derive(Debug, Args)]
pub struct Exec {
    /// A unix socket that gets the terminal's master
    #[arg(long, value_name = "PATH")]
    console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// User id and perhaps group id
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// More supplementary groups
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// A file with the process as JSON
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Do not wait for it
    #[arg(short, long)]
    detach: bool,
    /// A file that gets the process's pid
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// No new privileges
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = crate::cli::parse_bool)]
    no_new_privs: Option<bool>,
    /// Add a capability
    #[arg(short, long = "cap", value_name = "CAP_NAME")]
    cap: Vec<String>,
    /// A unix socket that gets a pidfd of the process
    #[arg(long, value_name = "PATH")]
    pidfd_socket: Option<PathBuf>,
    /// How many descriptors after stderr the process keeps
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Run in this cgroup below the container's, which must exist
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,
    /// Also into a paused container
    #[arg(long)]
    ignore_paused: bool,
    /// The container's id
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Exec {
    /// Runs it and returns the program's exit status, 0 when detached.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run(self, global: &Global) -> Result<u8> {
        sealed::seal()?;
        let container = super::load(global, &self.id)?;
        let spec = container.spec()?;
        let mut process = match &self.process {
            Some(file) => {
                let mut process = read_process(file)?;
                exec::inherit(&spec, &mut process)?;
                process
            }
            None => exec::process_of(&spec, self.changes()?)?,
        };
        let mut options = Options {
            console_socket: self.console_socket,
            console: None,
            pid_file: self.pid_file,
            preserve_fds: self.preserve_fds,
            ignore_paused: self.ignore_paused,
            sub_cgroups: self.cgroup,
            pidfd_socket: self.pidfd_socket,
        };
        let supervisor = (!self.detach).then(|| Supervisor::new(false)).transpose()?;
        let terminal = process.terminal().unwrap_or(false);
        let socket = options.console_socket.is_some();
        let (line, console) = console::attached(self.detach, terminal, socket)?;
        options.console = console;
        if line.is_some()
            && let Some(size) = terminal::own_size()
        {
            // The program runs before its terminal has arrived here.
            process.set_console_size(size_of(size));
        }
        let child = exec::exec(&container, &spec, &process, options)?;
        let Some(supervisor) = supervisor else { return Ok(0) };
        let terminal = line.map(|line| Terminal::receive(line.as_fd())).transpose()?;
        Ok(u8::try_from(supervisor.wait(child.pid, terminal, None)?).unwrap_or(u8::MAX))
    }

    fn changes(&self) -> Result<Changes> {
        if self.args.is_empty() {
            bail!("exec args cannot be empty: name a program, or a file with --process");
        }
        Ok(Changes {
            args: self.args.clone(),
            cwd: self.cwd.clone(),
            env: self.env.clone(),
            terminal: self.tty,
            user: self.user.as_deref().map(parse_user).transpose()?,
            additional_gids: self.additional_gids.clone(),
            capabilities: self.cap.clone(),
            apparmor: self.apparmor.clone(),
            selinux: self.process_label.clone(),
            no_new_privs: self.no_new_privs,
        })
    }
}

fn size_of(window: Winsize) -> Option<Box> {
    BoxBuilder::default().height(window.ws_row).width(window.ws_col).build().ok()
}

fn read_process(file: &Path) -> Result<Process> {
    let bytes = json::read(file, PROCESS_LIMIT)
        .with_context(|| format!("cannot read {}", file.display()))?;
    lenient::process(&bytes)
        .with_context(|| format!("{} is not a process of an OCI spec", file.display()))
}

/// Numbers only: names are the engine's to resolve. What is not a number is refused, never taken
/// for 0 (CVE-2026-30892).
pub(super) fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        let valid = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| part.parse::<u32>().ok()).flatten().filter(|id| *id != u32::MAX)
    };
    let parsed = match text.split_once(':') {
        Some((uid, gid)) => number(uid).zip(number(gid)).map(|(uid, gid)| (uid, Some(gid))),
        None => number(text).map(|uid| (uid, None)),
    };
    parsed.with_context(|| format!("invalid --user {text:?}: use UID or UID:GID as numbers"))
}

#[cfg(test)]
mod tests {
    use super::parse_user;

    #[test]
    fn a_user_is_one_or_two_numbers_and_never_zero_by_accident() {
        assert_eq!(parse_user("1").expect("uid"), (1, None));
        assert_eq!(parse_user("1:2").expect("both"), (1, Some(2)));
        assert_eq!(parse_user("01").expect("leading zero"), (1, None));
        for bad in ["", "-1", "4294967295", "4294967296", "root", "1:", ":1", "1:2:3", "+1", " 1"] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
    }
}
