//! A cgroup and all below it, walked by descriptors.
//!
//! A container that may make cgroups can nest them deeper than any path reaches (`PATH_MAX`), and
//! more of them than there are descriptors. So each is opened from the one above, the way back
//! leads through `..` (a cgroup is never moved to another parent), and of all of them two are open
//! at a time.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};

use super::{CgroupError, file};

/// A killed process leaves its cgroup a little later.
const BUSY: Duration = Duration::from_secs(1);
/// How much of a name that a container chose an error shows.
const SHOWN: usize = 32;

/// Opens a cgroup's directory. `None`: it is not there.
pub(super) fn open(dir: &Path) -> Result<Option<OwnedFd>, CgroupError> {
    open_in(rustix::fs::CWD, dir.as_os_str().as_bytes()).map_err(|err| failed("open", dir, err))
}

fn open_in(above: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(above, name, flags, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// The processes of a cgroup and of all below it, sorted, each once.
pub(super) fn pids(place: &Path, dir: OwnedFd) -> Result<BTreeSet<i32>, CgroupError> {
    let mut pids = BTreeSet::new();
    let enter = |dir: BorrowedFd<'_>, place: &Path| {
        pids.extend(file::pids(|name| file::read_in(dir, place, name))?);
        Ok(())
    };
    walk(place, dir, enter, |_, _, _| Ok(()))?;
    Ok(pids)
}

/// Removes a cgroup and all below it. One that is not there is fine.
pub(super) fn remove(place: &Path) -> Result<(), CgroupError> {
    let mut patience = None;
    let mut done = fs::remove_dir(place);
    if done.as_ref().is_err_and(is_busy) {
        remove_below(place, &mut patience)?;
        done = patiently(&mut patience, || fs::remove_dir(place));
    }
    match done {
        // Who may not write in the parent hears that first, also of what is not there.
        Err(err)
            if err.kind() == io::ErrorKind::PermissionDenied
                && matches!(place.try_exists(), Ok(false)) =>
        {
            Ok(())
        }
        done => removed(place, done),
    }
}

/// Removes what is below a cgroup, but not that.
pub(super) fn clear(place: &Path) -> Result<(), CgroupError> {
    remove_below(place, &mut None)
}

fn remove_below(place: &Path, patience: &mut Option<Instant>) -> Result<(), CgroupError> {
    let Some(dir) = open(place)? else { return Ok(()) };
    walk(
        place,
        dir,
        |_, _| Ok(()),
        |above, name, place| {
            let remove = || Ok(unlinkat(above, name, AtFlags::REMOVEDIR)?);
            removed(place, patiently(patience, remove))
        },
    )
}

fn removed(place: &Path, done: io::Result<()>) -> Result<(), CgroupError> {
    match done {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(failed("remove", place, err)),
        _ => Ok(()),
    }
}

fn is_busy(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY | libc::EINTR))
}

/// Tries again while it is busy: [`BUSY`] in all, from the first time on that it is.
fn patiently(
    patience: &mut Option<Instant>,
    mut attempt: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        let done = attempt();
        if !done.as_ref().is_err_and(is_busy) {
            return done;
        }
        let deadline = *patience.get_or_insert_with(|| Instant::now() + BUSY);
        if Instant::now() >= deadline {
            return done;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Goes through a cgroup and all below it. `enter` sees each before those below it; `leave` sees
/// each but the first after those below it, by its name in the one above. What goes away meanwhile
/// is left out.
fn walk(
    top: &Path,
    dir: OwnedFd,
    mut enter: impl FnMut(BorrowedFd<'_>, &Path) -> Result<(), CgroupError>,
    mut leave: impl FnMut(BorrowedFd<'_>, &CStr, &Path) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    let mut here = dir;
    let mut trail: Vec<CString> = Vec::new();
    enter(here.as_fd(), top)?;
    // Of each level the names that are still to be seen.
    let mut waiting = vec![children(&here).map_err(|err| failed("read", top, err))?];
    loop {
        if let Some(name) = waiting.last_mut().and_then(Vec::pop) {
            trail.push(name.clone());
            let place = shown(top, &trail);
            let below = open_in(here.as_fd(), name.as_bytes());
            match below.map_err(|err| failed("open", &place, err))? {
                Some(below) => {
                    enter(below.as_fd(), &place)?;
                    waiting.push(children(&below).map_err(|err| failed("read", &place, err))?);
                    here = below;
                }
                None => drop(trail.pop()),
            }
            continue;
        }
        waiting.pop();
        let place = shown(top, &trail);
        let Some(name) = trail.pop() else { return Ok(()) };
        here = open_in(here.as_fd(), b"..")
            .and_then(|above| above.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|err| failed("open what is above", &place, err))?;
        leave(here.as_fd(), &name, &place)?;
    }
}

fn children(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    let entries = match Dir::read_from(dir) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type() != FileType::Directory => {}
            Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
            Ok(entry) => names.push(entry.file_name().to_owned()),
            // It has been removed.
            Err(rustix::io::Errno::NOENT) => break,
            Err(err) => return Err(err.into()),
        }
    }
    Ok(names)
}

/// A path for people: its middle left out, and long names cut.
fn shown(top: &Path, trail: &[CString]) -> PathBuf {
    let cut = |name: &CString| {
        let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
        match name.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
            None => name,
        }
    };
    let mut path = top.to_owned();
    if let [first, between @ .., last] = trail {
        path.push(cut(first));
        if !between.is_empty() {
            path.push("…");
        }
        path.push(cut(last));
    } else if let [only] = trail {
        path.push(cut(only));
    }
    path
}

fn failed(action: &'static str, dir: &Path, source: io::Error) -> CgroupError {
    CgroupError::Directory { action, dir: dir.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    #[test]
    fn a_tree_deeper_than_any_path_is_walked_and_removed_with_few_descriptors() {
        let scratch = Scratch::new();
        let top = scratch.path().join("top");
        fs::create_dir(&top).unwrap();
        let name = CString::new("a".repeat(200)).unwrap();
        let mut here = open(&top).unwrap().unwrap();
        for level in 0..2000 {
            rustix::fs::mkdirat(&here, &name, Mode::from_raw_mode(0o755)).unwrap();
            here = open_in(here.as_fd(), name.as_bytes()).unwrap().unwrap();
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            if level == 1999 {
                rustix::fs::mkdirat(&here, c"side", Mode::from_raw_mode(0o755)).unwrap();
                let file = openat(&here, c"side/cgroup.procs", flags, Mode::RUSR).unwrap();
                rustix::io::write(&file, b"7\n5\n").unwrap();
            }
        }
        let found = pids(&top, open(&top).unwrap().unwrap()).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [5, 7]);
        // In a cgroup the files go with their directory.
        unlinkat(&here, c"side/cgroup.procs", AtFlags::empty()).unwrap();
        drop(here);
        remove(&top).unwrap();
        assert!(!top.exists());
        remove(&top).unwrap();
    }

    #[test]
    fn an_error_shows_where_it_was_without_the_whole_way() {
        let name = |text: &str| CString::new(text).unwrap();
        let top = Path::new("/c");
        assert_eq!(shown(top, &[]), top);
        assert_eq!(shown(top, &[name("a")]), Path::new("/c/a"));
        assert_eq!(shown(top, &[name("a"), name("b")]), Path::new("/c/a/b"));
        let long = name(&"ä".repeat(100));
        let way = [name("a"), long.clone(), long];
        let expected = format!("/c/a/…/{}…", "ä".repeat(32));
        assert_eq!(shown(top, &way), Path::new(&expected));
    }
}
