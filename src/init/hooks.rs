//! Running the spec's hooks.
//!
//! A hook gets the container's state on stdin and nothing else of ours: its environment is what
//! the spec gives it, no descriptor of the runtime is open in it (CVE-2025-23266 came from hooks
//! that inherited more). It starts where runc's start: [`Surroundings`]. runtime-spec, config.md,
//! "POSIX-platform Hooks".

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{ContainerState, Hook, Spec, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags};
use serde::Serialize;

use crate::sys;

/// How much of a failed hook's output is repeated.
const OUTPUT_LIMIT: u64 = 2048;

/// What every hook of a container is told, but for status and pid.
#[derive(Debug, Clone)]
pub struct HookState {
    /// The spec's `ociVersion`.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// The bundle.
    pub bundle: PathBuf,
    /// The spec's annotations.
    pub annotations: HashMap<String, String>,
}

/// A hook that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// A relative path.
    #[error("{phase} hook {path:?}: the path must be absolute")]
    Relative {
        /// The phase.
        phase: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// It could not be started or waited for.
    #[error("error running {phase} hook #{index}: cannot run {path}: {source}")]
    Io {
        /// The phase.
        phase: &'static str,
        /// Its place among the hooks of the phase, from 0.
        index: usize,
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It ran and failed.
    #[error("error running {phase} hook #{index}: {path}: {status}, output: {output:?}")]
    Failed {
        /// The phase.
        phase: &'static str,
        /// Its place among the hooks of the phase, from 0.
        index: usize,
        /// The path.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote.
        output: String,
    },
    /// It ran for too long and was killed.
    #[error(
        "error running {phase} hook #{index}: {path} ran longer than its timeout of {seconds} s \
         and was killed"
    )]
    Timeout {
        /// The phase.
        phase: &'static str,
        /// Its place among the hooks of the phase, from 0.
        index: usize,
        /// The path.
        path: PathBuf,
        /// The spec's timeout.
        seconds: i64,
    },
    /// The container that it was for has ended, and it was killed.
    #[error(
        "error running {phase} hook #{index}: the container's init was killed while {path} ran; \
         it was killed as well"
    )]
    InitEnded {
        /// The phase.
        phase: &'static str,
        /// Its place among the hooks of the phase, from 0.
        index: usize,
        /// The path.
        path: PathBuf,
    },
    /// The state has no JSON form.
    #[error("cannot write the state for hooks: {0}")]
    State(serde_json::Error),
}

impl HookState {
    /// The JSON on a hook's stdin (runtime.md, "State"): a container with this status and init.
    #[must_use]
    pub fn document(&self, status: ContainerState, pid: Option<i32>) -> State {
        let mut state = State::default();
        state
            .set_version(self.oci_version.clone())
            .set_id(self.id.clone())
            .set_status(status)
            .set_pid(pid)
            .set_bundle(self.bundle.clone())
            .set_annotations(Some(self.annotations.clone()).filter(|all| !all.is_empty()));
        state
    }

    /// As seen by the init itself while it is being set up.
    #[must_use]
    pub fn creating_here(&self) -> State {
        self.document(ContainerState::Creating, own_pid())
    }

    /// As seen by the init itself when it has been started.
    #[must_use]
    pub fn created_here(&self) -> State {
        self.document(ContainerState::Created, own_pid())
    }
}

fn own_pid() -> Option<i32> {
    i32::try_from(std::process::id()).ok()
}

/// Where the hooks of a phase start. By default in `/`, with the environment of the spec's hook.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The working directory; `None` is that of the calling process.
    pub directory: Option<&'a Path>,
    /// The environment of a hook that has none.
    pub env: &'a [CString],
    /// A pidfd of the container's init. Its end is the end of a hook: so `delete --force` ends a
    /// `create` whose hook hangs.
    pub init: Option<BorrowedFd<'a>>,
}

impl Default for Surroundings<'_> {
    fn default() -> Self {
        Self { directory: Some(Path::new("/")), env: &[], init: None }
    }
}

/// Runs the hooks that find the namespaces of a new container from outside, prestart and
/// createRuntime. `pid` is its init, and `init` a descriptor on it.
///
/// # Errors
/// The first failure.
pub fn run_on_host(
    spec: &Spec,
    state: &HookState,
    pid: i32,
    init: BorrowedFd<'_>,
) -> Result<(), HookError> {
    let Some(all) = spec.hooks() else { return Ok(()) };
    let document = state.document(ContainerState::Creating, Some(pid));
    let in_bundle = Surroundings {
        directory: Some(&state.bundle),
        init: Some(init),
        ..Surroundings::default()
    };
    #[allow(deprecated, reason = "prestart is what Docker still uses")]
    let prestart = all.prestart().as_deref().unwrap_or_default();
    run("prestart", prestart, &document, &in_bundle)?;
    let create_runtime = all.create_runtime().as_deref().unwrap_or_default();
    run("createRuntime", create_runtime, &document, &in_bundle)
}

/// Runs the hooks of one phase in order, each with `state` on stdin, up to the first that fails.
///
/// # Errors
/// The first failure.
pub fn run(
    phase: &'static str,
    hooks: &[Hook],
    state: &impl Serialize,
    surroundings: &Surroundings<'_>,
) -> Result<(), HookError> {
    if hooks.is_empty() {
        return Ok(());
    }
    let json = serde_json::to_vec(state).map_err(HookError::State)?;
    let mut all = hooks.iter().enumerate();
    all.try_for_each(|numbered| run_one(phase, numbered, &json, surroundings))
}

/// As [`run`], for phases whose failures do not stop anything: all hooks run, and the failures
/// are returned.
pub fn run_all(phase: &'static str, hooks: &[Hook], state: &impl Serialize) -> Vec<HookError> {
    match serde_json::to_vec(state) {
        Ok(json) => {
            let around = Surroundings::default();
            let all = hooks.iter().enumerate();
            all.filter_map(|numbered| run_one(phase, numbered, &json, &around).err()).collect()
        }
        Err(err) => vec![HookError::State(err)],
    }
}

fn run_one(
    phase: &'static str,
    (index, hook): (usize, &Hook),
    state: &[u8],
    surroundings: &Surroundings<'_>,
) -> Result<(), HookError> {
    let path = hook.path().clone();
    if !path.is_absolute() {
        return Err(HookError::Relative { phase, path });
    }
    let failed = |source: io::Error| HookError::Io { phase, index, path: path.clone(), source };

    // Files, not pipes: neither side can block or break on the other.
    let mut stdin = memory_file(c"hook-state").map_err(failed)?;
    stdin.write_all(state).and_then(|()| stdin.rewind()).map_err(failed)?;
    let mut output = memory_file(c"hook-output").map_err(failed)?;
    let (out, err) = (output.try_clone().map_err(failed)?, output.try_clone().map_err(failed)?);

    let mut command = Command::new(&path);
    if let Some((name, rest)) = hook.args().as_deref().unwrap_or_default().split_first() {
        use std::os::unix::process::CommandExt;
        command.arg0(name).args(rest);
    }
    command.env_clear();
    if let Some(directory) = surroundings.directory {
        command.current_dir(directory);
    }
    let own = hook.env().as_ref().map(|list| list.iter().map(|entry| entry.as_bytes()));
    let default = surroundings.env.iter().map(|entry| entry.as_bytes());
    let entries: Vec<&[u8]> = own.map_or_else(|| default.collect(), |own| own.collect());
    for entry in entries {
        let mut parts = entry.splitn(2, |byte| *byte == b'=');
        if let (Some(name), Some(value)) = (parts.next(), parts.next())
            && !name.is_empty()
        {
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
    }
    command.stdin(Stdio::from(stdin)).stdout(Stdio::from(out)).stderr(Stdio::from(err));
    sys::signal::default_in(&mut command);
    sys::fd::only_streams_in(&mut command);
    let mut child = command.spawn().map_err(failed)?;

    let timeout = hook.timeout().filter(|seconds| *seconds > 0);
    let too_late = match wait(child.id(), timeout, surroundings.init).map_err(failed)? {
        Woken::Ended => None,
        Woken::InitEnded => Some(HookError::InitEnded { phase, index, path: path.clone() }),
        Woken::TimedOut(seconds) => {
            Some(HookError::Timeout { phase, index, path: path.clone(), seconds })
        }
    };
    if let Some(error) = too_late {
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
        return Err(error);
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    output.rewind().map_err(failed)?;
    output.take(OUTPUT_LIMIT).read_to_end(&mut text).map_err(failed)?;
    let output = String::from_utf8_lossy(&text).trim_end().to_owned();
    Err(HookError::Failed { phase, index, path, status, output })
}

fn memory_file(name: &std::ffi::CStr) -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?))
}

/// Why waiting for a hook is over.
enum Woken {
    /// The hook has ended.
    Ended,
    /// The container's init has ended, and the hook has not.
    InitEnded,
    /// So many seconds are over.
    TimedOut(i64),
}

/// Waits for a child of ours, at most `seconds`, and for as long as there is an init.
fn wait(pid: u32, seconds: Option<i64>, init: Option<BorrowedFd<'_>>) -> io::Result<Woken> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    // `None`: never, as what is later than the clock can count.
    let end = seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(init.map(|init| PollFd::from_borrowed_fd(init, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(Woken::TimedOut(seconds.unwrap_or(0))),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(err) => return Err(err.into()),
        }
        // The hook first: both may have ended.
        return match fds.first().is_some_and(|hook| !hook.revents().is_empty()) {
            true => Ok(Woken::Ended),
            false => Ok(Woken::InitEnded),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: serde_json::Value) -> Hook {
        serde_json::from_value(json).expect("hook")
    }

    #[test]
    fn a_hook_sees_its_state_and_only_its_own_environment() {
        let state = HookState {
            oci_version: "1.2.0".into(),
            id: "a".into(),
            bundle: "/b".into(),
            annotations: HashMap::new(),
        };
        let check = r#"grep -q '"status":"creating"' && test "$(env | grep -c ^HOME)" = 0 && test "$A" = 1 && test "$PWD" = /"#;
        let good = hook(serde_json::json!({
            "path": "/bin/sh", "args": ["sh", "-c", check], "env": ["A=1", "PATH=/usr/bin:/bin"]
        }));
        let around = Surroundings::default();
        run("prestart", &[good], &state.document(ContainerState::Creating, Some(7)), &around)
            .expect("hook");
    }

    #[test]
    fn a_failing_or_endless_hook_is_an_error_with_its_output() {
        let state = State::default();
        let bad = hook(serde_json::json!({
            "path": "/bin/sh", "args": ["sh", "-c", "echo broken >&2; exit 3"]
        }));
        let around = Surroundings::default();
        let text = run("prestart", &[bad], &state, &around).expect_err("fails").to_string();
        assert!(text.contains("broken") && text.contains('3'), "{text}");
        let slow =
            hook(serde_json::json!({"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}));
        assert!(matches!(
            run("prestart", &[slow], &state, &around),
            Err(HookError::Timeout { .. })
        ));
        let none = hook(serde_json::json!({"path": "/nonexistent"}));
        assert!(matches!(run("prestart", &[none], &state, &around), Err(HookError::Io { .. })));
    }
}
