//! Mounts that the runtime has made in a container's root and on which it builds more.
//!
//! Whoever shares the rootfs with other mount namespaces may rename a directory there that is a
//! mount point here, and the mount goes along. What is masked, mounted or created below such a
//! mount must not be looked for under its name once more: it would be found in whatever has the
//! name now, and the mount itself would stay open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, StatxFlags, statx};

/// The places of such mounts.
const PLACES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The mount at each of [`PLACES`], where there is one.
#[derive(Debug, Default)]
pub(super) struct Held([Option<OwnedFd>; PLACES.len()]);

impl Held {
    /// Keeps `mount`, which was made at `place`, if that is one of the places.
    pub fn keep(&mut self, place: &Path, mount: OwnedFd) {
        for (known, held) in PLACES.iter().zip(&mut self.0) {
            if place == Path::new(known) {
                *held = Some(mount);
                return;
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &OwnedFd)> {
        let both = PLACES.into_iter().zip(&self.0);
        both.filter_map(|(place, held)| Some((place, held.as_ref()?)))
    }

    /// The mount that `path` leads to, and the rest of the way.
    pub fn below<'p>(&self, path: &'p Path) -> Option<(&OwnedFd, &'p Path)> {
        let inside = |place: &str| {
            let rest = path.strip_prefix(place).ok()?;
            // It may lead anywhere.
            (!rest.components().any(|part| part == Component::ParentDir)).then_some(rest)
        };
        let (mount, rest) = self.all().find_map(|(place, held)| Some((held, inside(place)?)))?;
        Some((mount, if rest.as_os_str().is_empty() { Path::new(".") } else { rest }))
    }

    /// The first of the places at which something else than its mount is seen from `root`.
    pub fn find_moved(&self, root: BorrowedFd<'_>) -> io::Result<Option<&'static str>> {
        for (place, held) in self.all() {
            let made = mount_id(held.as_fd(), "", AtFlags::EMPTY_PATH)?;
            match mount_id(root, place.trim_start_matches('/'), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(seen) if seen == made => {}
                Ok(_) => return Ok(Some(place)),
                Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Some(place)),
                Err(err) => return Err(err),
            }
        }
        Ok(None)
    }
}

/// The id of the mount that something is on.
pub(super) fn mount_id(start: BorrowedFd<'_>, path: &str, flags: AtFlags) -> io::Result<u64> {
    Ok(statx(start, path, flags, StatxFlags::MNT_ID)?.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_below_a_held_mount_starts_there() {
        let mut held = Held::default();
        let root = || OwnedFd::from(std::fs::File::open("/").expect("open /"));
        held.keep(Path::new("/proc"), root());
        held.keep(Path::new("/tmp"), root());
        let rest = |path: &'static str| held.below(Path::new(path)).map(|(_, rest)| rest);
        assert_eq!(rest("/proc/sys/kernel"), Some(Path::new("sys/kernel")));
        assert_eq!(rest("//./proc//keys/"), Some(Path::new("keys")));
        assert_eq!(rest("/proc"), Some(Path::new(".")));
        for other in ["/process", "/proc/../etc", "/etc/../proc/keys", "/sys/kernel", "/tmp/x", "/"]
        {
            assert_eq!(rest(other), None, "{other}");
        }
    }

    #[test]
    fn something_else_at_the_place_of_a_held_mount_is_noticed() {
        let open = |path: &str| OwnedFd::from(std::fs::File::open(path).expect("open"));
        let mut held = Held::default();
        held.keep(Path::new("/proc"), open("/proc"));
        assert_eq!(held.find_moved(open("/").as_fd()).expect("statx"), None);
        held.keep(Path::new("/proc"), open("/"));
        assert_eq!(held.find_moved(open("/").as_fd()).expect("statx"), Some("/proc"));
    }
}
