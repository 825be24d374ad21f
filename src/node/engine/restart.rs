//! Having an engine read its configuration again, through systemd.

use std::io;
use std::path::{Path, PathBuf};

use super::{Engine, places};
use crate::node::machine::Machine;
use crate::node::program;

/// How the engine is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Without an end of the daemon.
    Reload,
    /// The daemon ends and begins. Containers go on.
    Restart,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }
}

/// Why an engine was not told.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// Nobody to ask.
    #[error("this machine is not run by systemd: leave out --{0}, and {0} {1} by its own means")]
    NoSystemd(&'static str, Engine),
    /// The engine reads runtimes only at its start.
    #[error("{0} does not read its runtimes again while it runs: use --restart")]
    NoReload(Engine),
    /// systemd did not do it.
    #[error("cannot {action} {unit}: {source}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// On what.
        unit: &'static str,
        /// What systemctl says.
        source: io::Error,
    },
}

/// Whether the engine is a process that has read its configuration already.
pub fn has_daemon(engine: Engine, machine: &Machine) -> bool {
    !places::units(engine, machine).is_empty()
}

/// Whether the engine can be told. To be asked before anything changes.
///
/// # Errors
/// It cannot.
pub fn check(action: Action, engine: Engine, machine: &Machine) -> Result<(), RestartError> {
    let reloads = matches!(engine, Engine::Docker | Engine::Crio | Engine::Podman);
    if action == Action::Reload && !reloads {
        return Err(RestartError::NoReload(engine));
    }
    if !machine.has(Path::new("/run/systemd/system")) {
        return Err(RestartError::NoSystemd(action.verb(), engine));
    }
    Ok(())
}

/// Tells those of the engine's units that run; returns what was done.
///
/// # Errors
/// systemd did not do it.
pub fn run(action: Action, engine: Engine, machine: &Machine) -> Result<String, RestartError> {
    let units = places::units(engine, machine);
    if units.is_empty() {
        return Ok(format!("{engine} has no daemon: nothing to {}", action.verb()));
    }
    let mut done = Vec::new();
    for &unit in units {
        if call(machine, &["is-active", "--quiet", unit]).is_err() {
            continue;
        }
        let failed = |source| RestartError::Failed { action: action.verb(), unit, source };
        call(machine, &[action.verb(), unit]).map_err(failed)?;
        done.push(format!("{}ed {unit}", action.verb()));
    }
    match done.is_empty() {
        true => Ok(format!("{engine} does not run: it reads the file when it starts")),
        false => Ok(done.join(", ")),
    }
}

fn call(machine: &Machine, args: &[&str]) -> io::Result<String> {
    let candidates =
        ["/usr/bin/systemctl", "/bin/systemctl", "/run/current-system/sw/bin/systemctl"];
    let found = candidates.iter().map(Path::new).find(|path| machine.has_program(path));
    let program = found.map_or_else(|| PathBuf::from("systemctl"), Path::to_path_buf);
    let user: &[&str] = if machine.user().is_some() { &["--user"] } else { &[] };
    program::output(machine, &program, &[user, args].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    /// A machine that systemd runs, where this unit is not active; the calls end up in `log`.
    fn machine(inactive: &str) -> Option<(Scratch, Machine)> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let Some(busybox) = busybox.into_iter().find(|path| path.exists()) else {
            eprintln!("skipped: no busybox");
            return None;
        };
        let scratch = Scratch::new();
        scratch.directory("run/systemd/system");
        scratch.directory("bin");
        std::fs::copy(busybox, scratch.path().join("bin/sh")).unwrap();
        scratch.program("usr/bin/systemctl");
        let script = format!(
            "#!/bin/sh\necho \"$SYSTEMD_IGNORE_CHROOT $*\" >>/log\n\
             [ \"$1 $3\" != \"is-active {inactive}\" ] || exit 3\n\
             [ \"$2\" != crio.service ] || {{ echo no such job >&2; exit 5; }}\n"
        );
        scratch.write("usr/bin/systemctl", script);
        let machine = Machine::open(scratch.path(), None).unwrap();
        match call(&machine, &["--version"]) {
            Ok(_) => Some((scratch, machine)),
            Err(error) => {
                eprintln!("skipped: nothing runs in another root directory: {error}");
                None
            }
        }
    }

    #[test]
    fn the_units_that_run_are_restarted_in_the_machines_own_root() {
        let Some((scratch, machine)) = machine("k3s.service") else { return };
        let done = run(Action::Restart, Engine::K3s, &machine).unwrap();
        assert_eq!(done, "restarted k3s-agent.service");
        let log = std::fs::read_to_string(scratch.path().join("log")).unwrap();
        let calls: Vec<&str> = log.lines().skip(1).collect();
        let expected = [
            "1 is-active --quiet k3s.service",
            "1 is-active --quiet k3s-agent.service",
            "1 restart k3s-agent.service",
        ];
        assert_eq!(calls, expected);
    }

    #[test]
    fn an_engine_that_does_not_run_is_left_alone_and_a_failure_is_named() {
        let Some((_scratch, machine)) = machine("docker.service") else { return };
        let done = run(Action::Reload, Engine::Docker, &machine).unwrap();
        assert_eq!(done, "docker does not run: it reads the file when it starts");
        let error = run(Action::Reload, Engine::Crio, &machine).unwrap_err().to_string();
        assert_eq!(error, "cannot reload crio.service: exit status: 5: no such job");
    }

    #[test]
    fn what_cannot_be_told_is_said_before_anything_changes() {
        let scratch = Scratch::new();
        let machine = Machine::open(scratch.path(), None).unwrap();
        let error = check(Action::Restart, Engine::Docker, &machine).unwrap_err().to_string();
        assert!(error.contains("not run by systemd: leave out --restart"), "{error}");
        let error = check(Action::Reload, Engine::Containerd, &machine).unwrap_err().to_string();
        assert!(error.contains("use --restart"), "{error}");
        scratch.directory("run/systemd/system");
        assert!(check(Action::Restart, Engine::Containerd, &machine).is_ok());
    }
}
