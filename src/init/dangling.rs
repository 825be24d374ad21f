//! Paths through links that lead nowhere: where what is missing has to be created.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, FileType};
use rustix::io::Errno;

use super::root::Root;

/// As many links as the kernel follows on one path.
const MOST_LINKS: usize = 40;

/// Where a path that does not exist has to be created: links on the way are replaced by what
/// they say, seen from the root. An image's /etc/resolv.conf is often a link to a file that
/// only a running system has.
///
/// Only a suggestion: whoever creates something resolves the result in the root again.
///
/// # Errors
/// `ELOOP`, `ENOTDIR`.
pub fn through_links(root: &Root, path: &Path) -> io::Result<PathBuf> {
    let mut done = PathBuf::from("/");
    let mut links = 0;
    let parts = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut pending = parts(path);
    while let Some(part) = pending.pop() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => {
                done.pop();
            }
            Some(Component::RootDir) => done = PathBuf::from("/"),
            Some(Component::Normal(name)) => {
                done.push(name);
                let Some(fd) = lookup(root, &done)? else { continue };
                if FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) != FileType::Symlink {
                    continue;
                }
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = fs::readlinkat(&fd, c"", Vec::new())?;
                done.pop();
                pending.extend(parts(Path::new(OsStr::from_bytes(target.as_bytes()))));
            }
            _ => {}
        }
    }
    Ok(done)
}

fn lookup(root: &Root, path: &Path) -> io::Result<Option<OwnedFd>> {
    match root.resolve_nofollow(path) {
        Err(err) if Errno::from_io_error(&err) == Some(Errno::NOENT) => Ok(None),
        done => done.map(Some),
    }
}
