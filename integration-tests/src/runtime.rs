//! The runtime binary under test and one call of it.

use crate::cgroup::Version;
use crate::v2;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No call of a runtime may take longer; one that does is killed and fails the test.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The runtime under test, seen from one cgroup world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runtime {
    /// The cgroup version that the runtime finds on /sys/fs/cgroup.
    pub cgroup: Version,
}

impl Runtime {
    /// The runtime in the cgroup version that this host has.
    pub fn native() -> Runtime {
        Runtime { cgroup: Version::of_host() }
    }

    /// The runtime once for each cgroup version that this host can offer.
    pub fn each() -> Vec<Runtime> {
        let native = Runtime::native();
        if native.cgroup == Version::V1 && v2::possible() {
            return vec![native, Runtime { cgroup: Version::V2 }];
        }
        vec![native]
    }

    /// Whether the binary is gpurun and not some other runtime put into `RUNTIME`.
    pub fn is_gpurun() -> bool {
        Runtime::binary().file_name().is_some_and(|n| n.to_string_lossy().starts_with("gpurun"))
    }

    /// `$RUNTIME`, else the newer of the workspace's release and debug builds.
    pub fn binary() -> PathBuf {
        if let Some(path) = std::env::var_os("RUNTIME") {
            let path = PathBuf::from(path);
            if path.components().count() > 1 {
                return path.canonicalize().unwrap_or(path);
            }
            return std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .map(|dir| dir.join(&path))
                .find(|candidate| candidate.exists())
                .unwrap_or_else(|| panic!("RUNTIME={} is not in PATH", path.display()));
        }
        let target = target_directory();
        ["release", "debug"]
            .iter()
            .map(|profile| target.join(profile).join("gpurun"))
            .filter_map(|candidate| Some((candidate.metadata().ok()?.modified().ok()?, candidate)))
            .max()
            .map(|(_, candidate)| candidate)
            .unwrap_or_else(|| {
                panic!(
                    "no gpurun in {}/{{release,debug}}: build it (cargo build) or set RUNTIME",
                    target.display()
                )
            })
    }

    /// A command that runs the binary in this cgroup world; arguments are still to be added.
    pub fn command(&self) -> Command {
        self.command_of(&Runtime::binary())
    }

    /// As [`Runtime::command`], of another program.
    pub fn command_of(&self, program: &Path) -> Command {
        if self.cgroup == Version::V2 && Version::of_host() == Version::V1 {
            return v2::wrap(program);
        }
        Command::new(program)
    }

    /// Calls the binary with `args` alone (no `--root`).
    pub fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        let mut command = self.command();
        command.args(args);
        finish(&mut command, b"")
    }
}

/// The folder of this build's profile folders: `target/<triple>`, two above the test binary's
/// own folder `<profile>/deps`.
fn target_directory() -> PathBuf {
    let own = std::env::current_exe().expect("the test binary has a path");
    own.ancestors().nth(3).map(Path::to_path_buf).unwrap_or_default()
}

/// What one call left: exit code as a shell would show it (128 + signal), and both streams.
#[derive(Debug)]
pub struct Output {
    /// Exit code, or 128 + the signal that ended the runtime.
    pub code: i32,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Output {
    /// Fails the test unless the exit code is 0; returns standard output without outer whitespace.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "expected success: {self:?}");
        self.stdout.trim()
    }

    /// Fails the test unless the call exited with 0 and wrote nothing at all.
    #[track_caller]
    pub fn silent(&self) {
        self.ok();
        assert_eq!((&*self.stdout, &*self.stderr), ("", ""), "expected no output");
    }

    /// Fails the test unless the call was refused in an orderly way: exit code `code` and one line
    /// on standard error (not a panic, not a backtrace) that contains each of `phrases`.
    #[track_caller]
    pub fn refused(&self, code: i32, phrases: &[&str]) {
        assert_eq!(self.code, code, "expected exit code {code}: {self:?}");
        assert!(!self.stderr.trim().is_empty(), "an error must say why: {self:?}");
        assert!(!self.stderr.contains("panicked at"), "a panic is not an error message: {self:?}");
        // A mistake on the command line may be answered with a hint at the usage below the reason.
        if Runtime::is_gpurun() && !self.stderr.contains("--help") {
            assert_eq!(self.stderr.trim().lines().count(), 1, "an error is one line: {self:?}");
        }
        // logrus' text form quotes the message and escapes the quotes in it.
        let said = self.stderr.replace("\\\"", "\"").to_lowercase();
        for phrase in phrases {
            assert!(said.contains(&phrase.to_lowercase()), "expected {phrase:?} in: {self:?}");
        }
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }
}

/// A call in progress.
///
/// The streams are files, not pipes: a detached container keeps them open, and a pipe would never
/// reach its end.
#[derive(Debug)]
pub struct Running {
    /// The process, which is the runtime itself.
    pub child: Child,
    stdout: File,
    stderr: File,
}

impl Running {
    /// Waits for the end and reads the streams.
    pub fn wait(mut self) -> Output {
        let deadline = Instant::now() + TIME_LIMIT;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!(
                    "the runtime did not end within {TIME_LIMIT:?}; stderr: {}",
                    text(&self.stderr)
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        Output {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
        }
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }
}

/// Reads a captured stream from its beginning, without moving the offset that the file shares
/// with the processes still writing to it.
fn text(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16384];
    loop {
        let read = file.read_at(&mut chunk, bytes.len() as u64).expect("read captured output");
        if read == 0 {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// Starts `command` with `stdin` on its standard input and captured output.
#[track_caller]
pub fn start(command: &mut Command, stdin: &[u8]) -> Running {
    let mut input = tempfile::tempfile().expect("temporary file");
    input.write_all(stdin).and_then(|()| input.rewind()).expect("write standard input");
    let stdout = tempfile::tempfile().expect("temporary file");
    let stderr = tempfile::tempfile().expect("temporary file");
    command
        .stdin(input)
        .stdout(stdout.try_clone().expect("dup"))
        .stderr(stderr.try_clone().expect("dup"));
    let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    // The command keeps its copies of the files open otherwise.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running { child, stdout, stderr }
}

/// Runs `command` to its end.
#[track_caller]
pub fn finish(command: &mut Command, stdin: &[u8]) -> Output {
    start(command, stdin).wait()
}
