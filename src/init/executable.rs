//! Finding the user's program in the container and becoming it.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::Access;

use super::program::Program;
use super::root::Root;

/// The largest /etc/passwd that is read.
const PASSWD_LIMIT: u64 = 1 << 20;

/// A program that cannot be executed, in the words that engines look for.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// A bare name that is in no directory of `PATH`.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    /// A path that cannot be executed.
    #[error("exec: {name:?}: {reason}")]
    Path {
        /// argv\[0\].
        name: String,
        /// In the words of the C library.
        reason: String,
    },
}

/// Finds the program as execvp would, after the container's root and user are in force.
///
/// # Errors
/// Not found, not executable by this user, a directory.
pub fn find(program: &Program) -> Result<CString, ExecError> {
    let Some(name) = program.args.first() else {
        return Err(ExecError::NotInPath(String::new()));
    };
    let text = name.to_string_lossy().into_owned();
    if name.as_bytes().contains(&b'/') {
        return match executable(Path::new(OsStr::from_bytes(name.as_bytes()))) {
            Ok(()) => Ok(name.clone()),
            Err(err) => Err(ExecError::Path { name: text.clone(), reason: reason(&err, &text) }),
        };
    }
    let mut refused = None;
    for directory in program.env("PATH").unwrap_or_default().split(|&b| b == b':') {
        // As Go's LookPath, which engines' users know: nothing is taken from the current directory.
        if !directory.starts_with(b"/") {
            continue;
        }
        let path =
            PathBuf::from(OsStr::from_bytes(directory)).join(OsStr::from_bytes(name.as_bytes()));
        match executable(&path) {
            Ok(()) => {
                if let Ok(path) = CString::new(path.into_os_string().as_bytes()) {
                    return Ok(path);
                }
            }
            Err(err) if err.raw_os_error() == Some(libc::EACCES) => refused = Some(err),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(err) => ExecError::Path { reason: reason(&err, &text), name: text },
        None => ExecError::NotInPath(text),
    })
}

fn executable(path: &Path) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if meta.mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    rustix::fs::accessat(rustix::fs::CWD, path, Access::EXEC_OK, rustix::fs::AtFlags::EACCESS)?;
    Ok(())
}

fn reason(err: &io::Error, name: &str) -> String {
    let words = match err.raw_os_error() {
        Some(libc::ENOENT) => return format!("stat {name}: no such file or directory"),
        Some(libc::EACCES) => "permission denied",
        Some(libc::EISDIR) => "is a directory",
        Some(libc::ENOTDIR) => return format!("stat {name}: not a directory"),
        Some(other) => return Errno::from_raw(other).desc().to_lowercase(),
        None => return err.to_string(),
    };
    words.to_owned()
}

/// Adds `HOME` where the spec has none or an empty one: from the container's /etc/passwd, or `/`,
/// as runc does.
pub fn add_home(program: &mut Program, root: &Root) {
    if program.env("HOME").is_some_and(|home| !home.is_empty()) {
        return;
    }
    program.env.retain(|entry| entry.as_bytes() != b"HOME=");
    let passwd = root.read(Path::new("/etc/passwd"), PASSWD_LIMIT).ok().flatten();
    let home = passwd.as_deref().and_then(|text| home_of(text, program.uid)).unwrap_or(b"/");
    let entry = [b"HOME=", home].concat();
    if let Ok(entry) = CString::new(entry) {
        program.env.push(entry);
    }
}

pub(super) fn home_of(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    passwd.split(|&b| b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let id: u32 = std::str::from_utf8(fields.get(2)?).ok()?.parse().ok()?;
        (id == uid).then(|| fields.get(5).copied()).flatten().filter(|home| !home.is_empty())
    })
}

/// Becomes the program; returns only when that fails.
#[must_use]
pub fn exec(path: &CStr, program: &Program) -> ExecError {
    let Err(errno) = nix::unistd::execve(path, &program.args, &program.env);
    let name = path.to_string_lossy().into_owned();
    let err = io::Error::from(errno);
    ExecError::Path { reason: reason(&err, &name), name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_comes_from_the_line_of_the_uid() {
        let passwd = b"root:x:0:0:r:/root:/bin/sh\nbad\nu:x:7:7::/home/u:\nn:x:8:8:::\n";
        assert_eq!(home_of(passwd, 0), Some(&b"/root"[..]));
        assert_eq!(home_of(passwd, 7), Some(&b"/home/u"[..]));
        assert_eq!(home_of(passwd, 8), None);
        assert_eq!(home_of(b"", 0), None);
    }
}
