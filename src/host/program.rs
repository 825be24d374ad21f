//! Asking a program of the machine: its output, within limits.
//!
//! It starts with the environment that it is given and nothing of the caller's: no descriptor, no
//! working directory, a process group of its own. It is killed when it takes too long or says too
//! much, and does not outlive its caller.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::Tree;
use crate::sys;

/// How much of a failed program's words is repeated.
const QUOTED: usize = 300;

/// How long a killed program is waited for. One that hangs in a driver ends when the driver lets
/// go of it.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// A program in the root that it belongs to.
#[derive(Debug)]
pub struct Program<'a> {
    /// The root; the program starts chrooted into it unless that is `/`.
    pub root: &'a Tree,
    /// Its path in the root, absolute.
    pub path: PathBuf,
    /// Its whole environment.
    pub env: Vec<(&'static str, String)>,
}

/// What a program may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From its start to its end.
    pub time: Duration,
    /// Bytes of output.
    pub output: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("cannot run {command}{place}: {source}")]
    Start {
        /// The program with its arguments.
        command: String,
        /// In which root, or nothing.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// It ended badly.
    #[error("{command} failed ({status}): {said}")]
    Failed {
        /// The program with its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// It took too long.
    #[error("{command} did not answer within {seconds} seconds and was killed{stuck}")]
    Late {
        /// The program with its arguments.
        command: String,
        /// The limit.
        seconds: u64,
        /// That it has not ended even so, or nothing.
        stuck: &'static str,
    },
    /// It said more than any answer.
    #[error("{command} wrote more than {limit} bytes and was killed")]
    TooMuch {
        /// The program with its arguments.
        command: String,
        /// The limit.
        limit: usize,
    },
}

/// How the reading of the output ended.
enum Heard {
    All,
    Late,
    TooMuch,
}

impl Program<'_> {
    /// Runs it with these arguments and returns what it writes to its standard output.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn output(&self, args: &[&str], limits: Limits) -> Result<Vec<u8>, ProgramError> {
        let named = self.root.at(&self.path);
        let command =
            || std::iter::once(named.display().to_string()).chain(args.iter().map(|a| (*a).into()));
        let command = || command().collect::<Vec<String>>().join(" ");
        let inside = self.root.path() != Path::new("/");
        let failed = |source| {
            let root = self.root.path().display();
            let place = if inside { format!(" with {root} as its root") } else { String::new() };
            ProgramError::Start { command: command(), place, source }
        };
        let deadline = Instant::now() + limits.time;
        let mut child = self.start(args, inside).map_err(failed)?;
        let (mut said, mut complaint) = (Vec::new(), Vec::new());
        let mut heard = listen(&mut child, deadline, limits.output, &mut said, &mut complaint);
        if matches!(heard, Ok(Heard::All)) && !has_ended(&child, deadline) {
            heard = Ok(Heard::Late);
        }
        // Whatever happened, nothing of it stays.
        let status = end(&mut child);
        match heard.map_err(failed)? {
            Heard::Late => Err(ProgramError::Late {
                command: command(),
                seconds: limits.time.as_secs(),
                stuck: if status.is_some() { "" } else { "; it hangs in the kernel" },
            }),
            Heard::TooMuch => {
                Err(ProgramError::TooMuch { command: command(), limit: limits.output })
            }
            Heard::All => match status {
                Some(status) if status.success() => Ok(said),
                status => Err(ProgramError::Failed {
                    command: command(),
                    status: status.map_or_else(|| "it cannot be waited for".to_owned(), in_words),
                    said: quoted(if complaint.is_empty() { &said } else { &complaint }),
                }),
            },
        }
    }

    fn start(&self, args: &[&str], inside: bool) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let root = if inside { Some(self.root.root().try_clone_to_owned()?) } else { None };
        sys::signal::default_in(&mut command);
        sys::process::isolate(&mut command, root);
        command.spawn()
    }
}

/// Reads both outputs until both are closed, the time is over or there is too much.
fn listen(
    child: &mut Child,
    deadline: Instant,
    limit: usize,
    said: &mut Vec<u8>,
    complaint: &mut Vec<u8>,
) -> io::Result<Heard> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    while out.is_some() || err.is_some() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Heard::Late);
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(2);
        fds.extend(out.as_ref().map(|out| PollFd::from_borrowed_fd(out.as_fd(), PollFlags::IN)));
        fds.extend(err.as_ref().map(|err| PollFd::from_borrowed_fd(err.as_fd(), PollFlags::IN)));
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready =
            fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>().into_iter();
        if out.is_some() && ready.next() == Some(true) {
            read_some(&mut out, said)?;
        }
        if err.is_some() && ready.next() == Some(true) {
            read_some(&mut err, complaint)?;
        }
        if said.len() > limit || complaint.len() > limit {
            return Ok(Heard::TooMuch);
        }
    }
    Ok(Heard::All)
}

/// One read; at the end of the stream it is closed.
fn read_some(stream: &mut Option<impl Read>, to: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 8192];
    let read = stream.as_mut().map_or(Ok(0), |stream| stream.read(&mut buffer));
    match read {
        Ok(0) => *stream = None,
        Ok(count) => to.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
        Err(err) => return Err(err),
    }
    Ok(())
}

/// Waits for the child's end, and leaves it to be waited for: its number stays its own.
fn has_ended(child: &Child, deadline: Instant) -> bool {
    let Some(pid) = pid(child) else { return false };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Ok(None) | Err(Errno::INTR) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            ended => return matches!(ended, Ok(Some(_))),
        }
    }
}

/// Kills what is left of the child's process group and waits for the child. `None`: it does not
/// end.
fn end(child: &mut Child) -> Option<ExitStatus> {
    if let Some(pid) = pid(child) {
        // Nothing may be left of it.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    has_ended(child, Instant::now() + LAST_PATIENCE).then(|| child.wait().ok()).flatten()
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => status.to_string(),
    }
}

/// The beginning of a text on one line, without control characters.
#[must_use]
pub fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..QUOTED).unwrap_or(text));
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.is_empty() { "it said nothing".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(20), output: 1000 };

    fn shell(script: &str, limits: Limits) -> Result<String, String> {
        let root = Tree::open(Path::new("/")).unwrap();
        let env = vec![("GREETING", "hello".to_owned())];
        let program = Program { root: &root, path: "/bin/sh".into(), env };
        let said = program.output(&["-c", script], limits).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(said).unwrap())
    }

    #[test]
    fn a_program_gets_its_environment_and_nothing_of_ours() {
        // Open in this process, and not to be closed on exec.
        let _leak = rustix::fs::memfd_create("leak", rustix::fs::MemfdFlags::empty()).unwrap();
        let said = shell("echo $GREETING; env; pwd; ls -l /proc/self/fd", LIMITS).unwrap();
        assert!(said.starts_with("hello\n"), "{said}");
        assert!(said.contains("\n/\n") && !said.contains("CARGO"), "{said}");
        assert!(said.contains("-> pipe:") && !said.contains("memfd:leak"), "{said}");
    }

    #[test]
    fn a_failure_is_told_with_the_programs_words() {
        let error = shell("echo out; printf 'no\\n\\033[1mdriver\\n' >&2; exit 9", LIMITS);
        let error = error.unwrap_err();
        assert!(error.contains("failed (exit status 9): no [1mdriver"), "{error}");
        let error = shell("echo on stdout; exit 1", LIMITS).unwrap_err();
        assert!(error.ends_with("(exit status 1): on stdout"), "{error}");
        let error = shell("kill -SEGV $$", LIMITS).unwrap_err();
        assert!(error.contains("(signal 11): it said nothing"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_or_floods_is_killed_with_its_children() {
        let short = Limits { time: Duration::from_millis(300), ..LIMITS };
        let error = shell("sleep 1000 & sleep 1000", short).unwrap_err();
        assert!(error.contains("did not answer within 0 seconds and was killed"), "{error}");
        // It closes its outputs and goes on.
        let error = shell("exec >&- 2>&-; sleep 1000", short).unwrap_err();
        assert!(error.contains("did not answer"), "{error}");
        for stream in ["", " >&2"] {
            let error = shell(&format!("while :; do echo x{stream}; done"), LIMITS).unwrap_err();
            assert!(error.ends_with("wrote more than 1000 bytes and was killed"), "{error}");
        }
        // What it leaves behind does not stay.
        let said = shell("sleep 1000 >&- 2>&- & echo $!", LIMITS).unwrap();
        let left = Path::new("/proc").join(said.trim()).join("cmdline");
        let is_gone = || std::fs::read(&left).map_or(true, |words| words.is_empty());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_gone() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(is_gone());
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_its_root() {
        let scratch = crate::host::testing::Scratch::new();
        let root = Tree::open(scratch.path()).unwrap();
        let program = Program { root: &root, path: "/usr/bin/absent".into(), env: Vec::new() };
        let error = program.output(&["-L"], LIMITS).unwrap_err().to_string();
        if error.contains("not permitted") {
            println!("skipped: chroot is not allowed here");
            return;
        }
        let root = scratch.path().display();
        let start = format!("cannot run {root}/usr/bin/absent -L with {root} as its root: No such");
        assert!(error.starts_with(&start), "{error}");
    }
}
