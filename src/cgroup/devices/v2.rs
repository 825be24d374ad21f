//! The device program of a cgroup v2 directory: load, attach, replace.
//!
//! Programs of one cgroup and of its ancestors are all asked and all must agree, so an old
//! program that stays attached beside a new one can only make the rules stricter.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{DeviceError, DeviceRules, program};
use crate::sys::bpf::{self, Insn};

/// How often a load that is to be tried again is tried.
const LOAD_TRIES: usize = 30;
/// Room for the verifier's text, of which the end matters.
const LOG_SIZE: usize = 64 * 1024;
/// How much of it goes into the error.
const LOG_TAIL: usize = 1024;

/// Attaches the program for `rules` to a cgroup that has just been made and so has none.
pub(in crate::cgroup) fn attach(
    dir: &Path,
    fd: BorrowedFd<'_>,
    rules: &DeviceRules,
) -> Result<(), DeviceError> {
    if rules.allows_everything() {
        return Ok(());
    }
    let new = load(dir, &program::assemble(rules)?)?;
    bpf::attach_device_program(fd, new.as_fd(), None).map_err(failed("attach", dir))
}

/// Makes the program for `rules` the only one of the cgroup: replaced in one step where the
/// kernel can, else the new one is attached before the old ones go.
pub(in crate::cgroup) fn replace(
    dir: &Path,
    fd: BorrowedFd<'_>,
    rules: &DeviceRules,
) -> Result<(), DeviceError> {
    let old = attached(dir, fd)?;
    if rules.allows_everything() {
        return detach(dir, fd, &old);
    }
    let new = load(dir, &program::assemble(rules)?)?;
    if let [only] = old.as_slice() {
        match bpf::attach_device_program(fd, new.as_fd(), Some(only.as_fd())) {
            Ok(()) => return Ok(()),
            // Before Linux 5.6 there is no BPF_F_REPLACE.
            Err(err) if err.raw_os_error() == Some(libc::EINVAL) => {}
            Err(err) => return Err(failed("replace", dir)(err)),
        }
    }
    bpf::attach_device_program(fd, new.as_fd(), None).map_err(failed("attach", dir))?;
    detach(dir, fd, &old)
}

/// The programs of the cgroup itself that the caller may open.
fn attached(dir: &Path, fd: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, DeviceError> {
    let mut programs = Vec::new();
    for id in bpf::device_programs(fd).map_err(failed("list", dir))? {
        match bpf::open_program(id) {
            Ok(program) => programs.push(program),
            // Gone meanwhile, or put there by another namespace's owner, who keeps it.
            Err(err)
                if matches!(
                    err.raw_os_error(),
                    Some(libc::ENOENT | libc::EPERM | libc::EACCES)
                ) => {}
            Err(err) => return Err(failed("open", dir)(err)),
        }
    }
    Ok(programs)
}

fn detach(dir: &Path, fd: BorrowedFd<'_>, programs: &[OwnedFd]) -> Result<(), DeviceError> {
    for program in programs {
        match bpf::detach_device_program(fd, program.as_fd()) {
            Err(err) if err.raw_os_error() != Some(libc::ENOENT) => {
                return Err(failed("detach", dir)(err));
            }
            _ => {}
        }
    }
    Ok(())
}

fn load(dir: &Path, insns: &[Insn]) -> Result<OwnedFd, DeviceError> {
    let err = match try_load(insns) {
        // Before Linux 5.11 a program counts against RLIMIT_MEMLOCK, whose default it exceeds.
        Err(err) if err.raw_os_error() == Some(libc::EPERM) => {
            match with_unlimited_memlock(|| try_load(insns)) {
                Ok(program) => return Ok(program),
                Err(err) => err,
            }
        }
        Err(err) => err,
        Ok(program) => return Ok(program),
    };
    // EACCES is the verifier's.
    if err.raw_os_error() == Some(libc::EPERM) {
        let action = "load";
        return Err(DeviceError::NotPermitted { action, cgroup: dir.to_owned(), source: err });
    }
    // Only now, because the log makes a load several times slower.
    let mut log = vec![0; LOG_SIZE];
    match bpf::load_device_program(insns, LICENSE, Some(&mut log)) {
        Ok(program) => Ok(program),
        Err(_) => Err(DeviceError::Load { source: err, log: tail(&log) }),
    }
}

/// The programs call no function that asks for a GPL one.
const LICENSE: &std::ffi::CStr = c"Apache-2.0";

fn try_load(insns: &[Insn]) -> io::Result<OwnedFd> {
    let mut tries = 1;
    loop {
        match bpf::load_device_program(insns, LICENSE, None) {
            Err(err) if err.raw_os_error() == Some(libc::EAGAIN) && tries < LOAD_TRIES => {
                tries += 1;
            }
            done => return done,
        }
    }
}

/// Runs `load` with RLIMIT_MEMLOCK raised as far as the caller may, and puts it back: the
/// container's init would inherit it.
fn with_unlimited_memlock<T>(load: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Memlock);
    let raised = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })
        .or_else(|_| {
            let current = before.maximum;
            setrlimit(Resource::Memlock, Rlimit { current, maximum: before.maximum })
        })
        .is_ok();
    let done = load();
    if raised {
        // Lowering a limit is always allowed.
        let _ = setrlimit(Resource::Memlock, before);
    }
    done
}

/// The end of the verifier's text, on one line.
fn tail(log: &[u8]) -> String {
    let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let text = text.trim().replace('\n', " | ");
    let mut start = text.len().saturating_sub(LOG_TAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default().to_owned()
}

fn is_permission(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

fn failed(action: &'static str, dir: &Path) -> impl FnOnce(io::Error) -> DeviceError {
    let cgroup = dir.to_owned();
    move |source| {
        if is_permission(&source) {
            DeviceError::NotPermitted { action, cgroup, source }
        } else {
            DeviceError::Program { action, cgroup, source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_s_text_is_in_the_error_of_a_refused_program() {
        // Returns without a verdict.
        let bad = [Insn { code: program::EXIT, regs: 0, off: 0, imm: 0 }];
        match load(Path::new("/"), &bad) {
            Err(err @ DeviceError::NotPermitted { .. }) => println!("skipped: {err}"),
            Err(err) => assert!(err.to_string().contains("R0"), "{err}"),
            Ok(_) => panic!("the verifier accepted a program without a verdict"),
        }
    }

    #[test]
    fn the_end_of_a_long_log_is_kept_on_one_line() {
        let mut log = vec![b'x'; 3000];
        log.extend_from_slice("é\nlast\0rest".as_bytes());
        let text = tail(&log);
        assert!(text.len() <= LOG_TAIL && text.ends_with("é | last"), "{text}");
    }
}
