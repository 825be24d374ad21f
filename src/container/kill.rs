//! `kill`: a signal to a container's init, or to all its processes.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

use nix::sys::signal::Signal;

use super::members;
use super::state::{Container, Status};
use crate::log;

/// Parses a signal as runc's users write it: `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`.
///
/// # Errors
/// It is not a signal.
pub fn parse_signal(text: &str) -> Result<i32> {
    // Linux has signals 1 to 64; 0 asks whether the process is there.
    if let Ok(number) = text.parse::<i32>() {
        if (0..=64).contains(&number) {
            return Ok(number);
        }
        bail!("unknown signal {text:?}: numbers go from 0 to 64");
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(known) = format!("SIG{name}").parse::<Signal>() {
        return Ok(known as i32);
    }
    real_time(name)
        .with_context(|| format!("unknown signal {text:?}: use a name such as TERM or a number"))
}

/// `RTMIN`, `RTMIN+n`, `RTMAX`, `RTMAX-n`, as the C library counts them (34 to 64).
fn real_time(name: &str) -> Option<i32> {
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<i32>().ok().filter(|n| (0..=30).contains(n)),
    };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => Some(34 + offset(rest, '+')?),
        (_, Some(rest)) => Some(64 - offset(rest, '-')?),
        _ => None,
    }
}

/// Sends `signal` to the init, or to every process of the container.
///
/// # Errors
/// The container does not run ("container not running", which engines look for).
pub fn kill(container: &Container, signal: i32, all: bool) -> Result<()> {
    if all {
        // Engines call this when the init has died and others share its pid namespace; a
        // container that has none left is fine.
        return members::kill_all(container, signal);
    }
    let status = container.status();
    if status == Status::Stopped
        && signal == libc::SIGKILL
        && !container.state.own_pid_namespace
        && !container.state.cgroup.is_refused()
        && !container.state.cgroup.pids()?.is_empty()
    {
        // The init has gone, others that it shared the pid namespace with have not.
        return members::kill_all(container, signal);
    }
    let init = match status {
        Status::Stopped | Status::Creating => bail!("container not running"),
        _ => container.state.init.context("container not running")?,
    };
    match init.signal(signal) {
        Err(Errno::ESRCH) => bail!("container not running"),
        Err(err) => return Err(err).context("cannot signal the container's init"),
        Ok(()) if signal != libc::SIGKILL => return Ok(()),
        Ok(()) => {}
    }
    if !container.state.own_pid_namespace {
        // Nothing ends the others when the init of a shared pid namespace dies.
        if container.state.cgroup.is_refused() {
            // What runc does: the init is dead, and the others cannot be told from strangers.
            log::warn("the container has no cgroup: some of its processes may be left");
        } else {
            members::kill_all(container, signal)?;
        }
    }
    // A frozen process dies only when it is thawed (cgroup v1). Asked now: a `pause` may have come
    // meanwhile; one that comes after this sees what its process is going to die of.
    if container.state.cgroup.is_frozen().unwrap_or(false) {
        container.state.cgroup.thaw().context("cannot thaw the container that was killed")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn signals_are_names_in_any_case_or_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("hup", 1),
            ("0", 0),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(parse_signal(text).expect(text), number);
        }
        for bad in ["", "SIG", "FOO", "-1", "65", "99999999999", "RTMIN+99", "RTMIN-1"] {
            assert!(parse_signal(bad).is_err(), "{bad:?}");
        }
    }
}
