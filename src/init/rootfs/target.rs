//! Where a mount goes: the mount point as a descriptor, created when it is missing, and the
//! places on which nothing may be mounted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, PROC_SUPER_MAGIC, fstat, fstatfs};
use rustix::io::Errno;

use super::mounts::Cause;
use crate::init::journal::Journal;
use crate::init::root::{Root, Whereabouts};

/// The files in /proc that may be covered: what lxcfs and CRIU provide themselves.
const COVERABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
];

/// `path` without `.` and `..`, from the root.
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            _ => {}
        }
    }
    cleaned
}

/// A directory to mount on, created where missing.
pub fn directory(root: &Root, dest: &Path, journal: &mut Journal) -> Result<OwnedFd, Cause> {
    root.ensure_dir(dest, journal).map_err(Cause::system("create the mount point"))
}

/// Something to mount a file on: an empty file is created where nothing is.
pub fn file(root: &Root, dest: &Path, journal: &mut Journal) -> Result<OwnedFd, Cause> {
    root.ensure_file(dest, journal).map_err(Cause::system("create the mount point"))
}

/// A directory for procfs or sysfs, whose last component must not be a link: a link would put
/// what the kernel's security relies on somewhere else than where everyone looks for it.
pub fn ordinary_directory(
    root: &Root,
    dest: &Path,
    fstype: &str,
    journal: &mut Journal,
) -> Result<OwnedFd, Cause> {
    let is_directory = |fd: &OwnedFd| {
        fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    let refused = || Cause::NotOrdinaryDirectory { fstype: fstype.to_owned() };
    for _ in 0..2 {
        match root.resolve_nofollow(dest) {
            Ok(fd) if is_directory(&fd).map_err(Cause::system("examine the mount point"))? => {
                return Ok(fd);
            }
            Ok(_) => return Err(refused()),
            Err(err) if err.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                // Followed links do not matter here: the result is looked up once more.
                directory(root, dest, journal)?;
            }
            Err(err) => return Err(Cause::system("open the mount point")(err)),
        }
    }
    Err(refused())
}

/// Refuses mounts on the root itself, and those that would give the container a false /proc.
///
/// `procfs` says that what is mounted is a procfs itself. The name of the destination is looked
/// at, and so is where it led: a link in the rootfs may point to the root or into /proc.
pub fn check(root: &Root, dest: &Path, target: BorrowedFd<'_>, procfs: bool) -> Result<(), Cause> {
    let dest = clean(dest);
    if dest == Path::new("/") {
        return Err(Cause::OntoRoot);
    }
    let led = root.whereabouts(target).map_err(Cause::system("examine the mount point"))?;
    if led == Whereabouts::Root {
        return Err(Cause::LinkToRoot);
    }
    if dest == Path::new("/proc") {
        return if procfs { Ok(()) } else { Err(Cause::NotProc) };
    }
    if COVERABLE.iter().any(|path| dest == Path::new(path)) {
        return Ok(());
    }
    if dest.starts_with("/proc") {
        return Err(Cause::InsideProc);
    }
    if !procfs && led == Whereabouts::OtherMount && is_procfs(target)? {
        return Err(Cause::InsideProc);
    }
    Ok(())
}

/// Whether `fd` is on a procfs.
pub fn is_procfs(fd: BorrowedFd<'_>) -> Result<bool, Cause> {
    let stat = fstatfs(fd.as_fd()).map_err(Cause::system("examine the mount point"))?;
    Ok(stat.f_type == PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_cleaned_without_leaving_the_root() {
        assert_eq!(clean(Path::new("//proc/../../proc/./sys")), Path::new("/proc/sys"));
        assert_eq!(clean(Path::new("relative/x")), Path::new("/relative/x"));
    }

    #[test]
    fn only_named_files_of_proc_may_be_covered() {
        let root = Root::open(Path::new("/")).expect("the root directory opens");
        let etc = root.resolve(Path::new("/etc")).expect("a directory opens");
        let check = |dest: &str, procfs| check(&root, Path::new(dest), etc.as_fd(), procfs);
        assert!(matches!(check("/proc", false), Err(Cause::NotProc)));
        assert!(check("/proc", true).is_ok());
        assert!(check("/proc/./cpuinfo", false).is_ok());
        assert!(matches!(check("/x/../proc/self", false), Err(Cause::InsideProc)));
        assert!(matches!(check("/proc/self", true), Err(Cause::InsideProc)));
        assert!(matches!(check("/a/..", true), Err(Cause::OntoRoot)));
        assert!(check("/process", false).is_ok());
        let link = super::check(&root, Path::new("/data"), root.as_fd(), false);
        assert!(matches!(link, Err(Cause::LinkToRoot)));
    }
}
