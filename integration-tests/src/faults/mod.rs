//! A runtime whose system calls fail, or that is killed before one: `probe/faults.c`, called.

pub mod scene;

use crate::runtime::{self, Output};
use crate::{Container, Runtime, probe, v2};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A call that takes longer hangs.
const SECONDS: &str = "20";

/// One system call of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Which process makes it: 0 is the runtime, 1 its init.
    pub process: u32,
    /// Its number among the calls of that process.
    pub number: u64,
    /// Its name.
    pub call: String,
    /// The error that is plausible for it; 0 where it cannot fail.
    pub error: i32,
    /// A path or two arguments.
    pub detail: String,
}

impl Point {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        Some(Self {
            process: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
            call: words.next()?.to_owned(),
            error: words.next()?.parse().ok()?,
            detail: words.next()?.to_owned(),
        })
    }

    /// Whether what fails is the memory of the program itself, which ends it as a signal does.
    pub fn is_memory(&self) -> bool {
        ["mmap", "mprotect", "mremap", "munmap", "brk", "sigaltstack"].contains(&&*self.call)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, number, call, error, detail } = self;
        let error = std::io::Error::from_raw_os_error(*error);
        write!(f, "process {process}, call {number}: {call} {detail:?} ({error})")
    }
}

/// What happens to a command.
#[derive(Debug, Clone, Copy)]
pub enum Disturbance<'a> {
    /// Nothing: its calls are listed.
    List,
    /// The call fails.
    Fail(&'a Point),
    /// The runtime is killed before the call, whoever makes it.
    Kill(&'a Point),
    /// The process that makes the call is killed before it.
    KillCaller(&'a Point),
}

/// What a disturbed command did.
#[derive(Debug)]
pub struct Disturbed {
    /// The runtime's own end.
    pub output: Output,
    /// All calls, or the one that was disturbed; none where that was not made this time.
    pub points: Vec<Point>,
    /// It did not end by itself.
    pub hung: bool,
}

/// `command` (as [`Container::call`] takes it) of a container, with an environment, and traced
/// together with a process that exists (0: none).
#[track_caller]
pub fn disturb(
    c: &Container,
    env: &[(&str, PathBuf)],
    command: &[&str],
    also: i64,
    how: Disturbance<'_>,
) -> Disturbed {
    let tracer = probe::faults().expect("compile the probe");
    let out = c.path("calls");
    let mut call = match c.runtime() {
        Runtime { cgroup: crate::cgroup::Version::V2 } if is_v1() => v2::wrap(&tracer),
        _ => Command::new(tracer),
    };
    call.arg(&out).arg(SECONDS).arg(also.to_string());
    let mut which = |what: &str, point: &Point, how: i32| {
        let numbers = [point.process.to_string(), point.number.to_string(), how.to_string()];
        call.arg(what).args(numbers);
    };
    match how {
        Disturbance::List => {
            call.arg("list");
        }
        Disturbance::Fail(point) => which("fail", point, point.error),
        Disturbance::Kill(point) => which("kill", point, 0),
        Disturbance::KillCaller(point) => which("kill", point, 1),
    }
    call.arg(Runtime::binary()).arg("--root").arg(c.state_root()).args(command);
    call.envs(env.iter().map(|(name, value)| (name, value)));
    let output = runtime::finish(&mut call, b"");
    let said = read(&out);
    let points = said.lines().filter_map(Point::parse).collect();
    Disturbed { output, points, hung: said.lines().any(|line| line == "hang") }
}

fn is_v1() -> bool {
    Runtime::native().cgroup == crate::cgroup::Version::V1
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
