//! The directories that criu reads images from and writes to.
//!
//! criu does with the runtime's rights what images say: it gives processes any capability and mounts
//! what it is told to. And it opens the files in these directories by name, following links. So
//! nobody else may have a hand in them, as in the runtime's configuration.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};

use crate::container::rootless;
use crate::host::trust::{self, Other};

/// The link that criu makes from images to the earlier ones that they are the difference to.
const PARENT: &str = "parent";

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A longer row of earlier images leads in a circle.
const LONGEST_ROW: usize = 1000;

/// Opens a directory of images.
///
/// # Errors
/// It cannot be opened; with root's rights: others than root have a hand in it, in its files, or in
/// the earlier images that it is the difference to.
pub fn images(path: &Path) -> Result<OwnedFd> {
    let dir = open(path)?;
    if !rootless::is_confined() {
        check(&dir, path)?;
    }
    Ok(dir)
}

/// Opens a directory for logs, in which there may be anything else.
///
/// # Errors
/// It cannot be opened; with root's rights: others than root can make links in it.
pub fn work(path: &Path) -> Result<OwnedFd> {
    let dir = open(path)?;
    if !rootless::is_confined() {
        refuse(&fstat(&dir).with_context(|| unseen(path))?, path)?;
    }
    Ok(dir)
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
        .with_context(|| format!("cannot open the directory {}", path.display()))
}

fn unseen(path: &Path) -> String {
    format!("cannot look into the directory {}", path.display())
}

/// A directory of images with those that it is the difference to.
fn check(dir: &OwnedFd, path: &Path) -> Result<()> {
    let mut above: Option<OwnedFd> = None;
    for _ in 0..LONGEST_ROW {
        let here = above.as_ref().unwrap_or(dir);
        check_one(here, path)?;
        match openat(here, PARENT, DIRECTORY, Mode::empty()) {
            Ok(parent) => above = Some(parent),
            // criu says what it misses.
            Err(_) => return Ok(()),
        }
    }
    bail!("{}: more than {LONGEST_ROW} earlier images behind each other", path.display())
}

fn check_one(dir: &OwnedFd, path: &Path) -> Result<()> {
    refuse(&fstat(dir).with_context(|| unseen(path))?, path)?;
    for entry in Dir::read_from(dir).with_context(|| unseen(path))? {
        let entry = entry.with_context(|| unseen(path))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).with_context(|| unseen(path))?;
        let path = path.join(name.to_string_lossy().as_ref());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if name.to_bytes() == PARENT.as_bytes() => {}
            FileType::Symlink => {
                bail!("{} is a link, which criu would follow: remove it", path.display())
            }
            _ => refuse(&stat, &path)?,
        }
    }
    Ok(())
}

/// Refuses what others than root can write.
fn refuse(stat: &Stat, path: &Path) -> Result<()> {
    if let Some(other) = trust::besides_root(stat.st_mode, stat.st_uid, stat.st_gid) {
        let fault = match other {
            Other::Owner(user) => format!("belongs to user {user}"),
            Other::Everyone => "can be written by everyone".to_owned(),
            Other::Group(group) => format!("can be written by group {group}"),
        };
        bail!(
            "{} {fault}: criu does with root's rights what images say; give them to root alone \
             (chown -R root, chmod -R go-w), or have them in another directory",
            path.display()
        );
    }
    Ok(())
}
