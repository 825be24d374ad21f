//! Mounts that are not attached anywhere yet: how they are made, changed and put in place.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    move_mount, open_tree, unmount,
};
use rustix::process::fchdir;

use super::error::Reason;

/// A copy of the mount that holds `path` (host side), rooted at `path`.
pub fn clone_path(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags(recursive))?)
}

/// A copy of the mount that `fd` is in, rooted at `fd`.
pub fn clone_fd(fd: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(fd, c"", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Puts `tree` on `target`, on top of what may be mounted there. `tree` goes on referring to it.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", target, c"", flags)?)
}

/// What a new filesystem is made from.
#[derive(Debug, Clone, Copy)]
pub struct Blueprint<'a> {
    /// The kernel's name of the filesystem type.
    pub fstype: &'a str,
    /// What stands in the first column of /proc/mounts; for many filesystems without a meaning.
    pub source: Option<&'a Path>,
    /// Superblock parameters, `key` or `key=value`.
    pub data: &'a [&'a str],
    /// `MOUNT_ATTR_*` of the new mount.
    pub attrs: u64,
    /// The classic `MS_*` superblock flags (`MS_RDONLY`, `MS_SYNCHRONOUS`, …).
    pub superblock: u64,
}

/// The superblock flags that have a name in the new mount API.
const NAMED: [(u64, &str); 5] = [
    (libc::MS_RDONLY, "ro"),
    (libc::MS_SYNCHRONOUS, "sync"),
    (libc::MS_DIRSYNC, "dirsync"),
    (libc::MS_MANDLOCK, "mand"),
    (libc::MS_LAZYTIME, "lazytime"),
];

/// fsconfig(2) takes strings of up to 255 bytes.
const LONGEST_PARAMETER: usize = 255;
/// mount(2) takes one page with the end marker.
const LONGEST_DATA: usize = 4095;

impl Blueprint<'_> {
    /// Makes the filesystem, visible nowhere. `target` is the directory on which it will be
    /// attached; what the new API cannot express is mounted in private on top of it first.
    ///
    /// # Errors
    /// The kernel's, with its explanation where it gives one.
    pub fn make(&self, target: BorrowedFd<'_>) -> Result<OwnedFd, Reason> {
        let unnamed = NAMED.iter().fold(self.superblock, |flags, (flag, _)| flags & !flag);
        let length = self.data.iter().map(|item| item.len() + 1).sum::<usize>();
        let long = self.data.iter().any(|item| value(item).len() > LONGEST_PARAMETER);
        if unnamed == 0 && (!long || length > LONGEST_DATA) {
            return self.make_detached();
        }
        self.make_staged(target)
    }

    /// As [`Blueprint::make`], for what fsopen, fsconfig and fsmount can express.
    pub fn make_detached(&self) -> Result<OwnedFd, Reason> {
        let context = fsopen(self.fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
        let explain = |errno: Errno| explained(&context, errno);
        if let Some(source) = self.source {
            fsconfig_set_string(&context, "source", source).map_err(explain)?;
        }
        for (flag, name) in NAMED {
            if self.superblock & flag != 0 {
                fsconfig_set_flag(&context, name).map_err(explain)?;
            }
        }
        for item in self.data {
            match item.split_once('=') {
                None => fsconfig_set_flag(&context, *item).map_err(explain)?,
                // Too long as a whole, but each of its layers can be given on its own.
                Some(("lowerdir", layers)) if layers.len() > LONGEST_PARAMETER => {
                    for layer in layers_of(layers) {
                        fsconfig_set_string(&context, "lowerdir+", layer).map_err(explain)?;
                    }
                }
                Some((key, value)) => {
                    fsconfig_set_string(&context, key, value).map_err(explain)?;
                }
            }
        }
        fsconfig_create(&context).map_err(explain)?;
        let attrs = MountAttrFlags::from_bits_retain(u32::try_from(self.attrs).unwrap_or(0));
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attrs).map_err(explain)
    }

    /// mount(2), which takes a path: a directory of a private tmpfs on top of `target`, from
    /// where the mount is cloned and the tmpfs taken away again.
    fn make_staged(&self, target: BorrowedFd<'_>) -> Result<OwnedFd, Reason> {
        let data = CString::new(classic_data(self.data)).map_err(|_| Errno::INVAL)?;
        if data.as_bytes().len() > LONGEST_DATA {
            return Err(Errno::TOOBIG.into());
        }
        let stage = Blueprint {
            fstype: "tmpfs",
            source: None,
            data: &[],
            attrs: libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID,
            superblock: 0,
        }
        .make_detached()?;
        let before = working_directory()?;
        attach(stage.as_fd(), target)?;
        let made = (|| -> Result<OwnedFd, Reason> {
            fchdir(&stage)?;
            rustix::fs::mkdirat(&stage, "m", Mode::RWXU)?;
            let source = self.source.unwrap_or(Path::new("none"));
            let flags = self.superblock | classic_flags(self.attrs);
            let flags = MountFlags::from_bits_retain(u32::try_from(flags).unwrap_or(0));
            mount(source, c"m", self.fstype, flags, data.as_c_str())?;
            let tree = open_tree(&stage, c"m", clone_flags(true));
            unmount(c"m", UnmountFlags::DETACH)?;
            Ok(tree?)
        })();
        fchdir(&stage)?;
        unmount(c".", UnmountFlags::DETACH)?;
        fchdir(&before)?;
        made
    }
}

/// The current directory, to come back to.
pub fn working_directory() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// The value of a `key=value` parameter, or the key.
fn value(item: &str) -> &str {
    item.split_once('=').map_or(item, |(_, value)| value)
}

/// Parameters as mount(2) takes them. Commas stand between them, and in SELinux's labels, which its
/// parser takes in quotation marks.
fn classic_data(items: &[&str]) -> String {
    let one = |item: &&str| match item.split_once('=') {
        Some(("context", label)) => format!("context=\"{label}\""),
        _ => (*item).to_owned(),
    };
    items.iter().map(one).collect::<Vec<_>>().join(",")
}

/// The layers in overlayfs's `lowerdir=`: separated by colons, which `\` escapes.
fn layers_of(list: &str) -> Vec<String> {
    let mut layers = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match (letter, layers.last_mut()) {
            (':', _) => layers.push(String::new()),
            ('\\', Some(layer)) => layer.extend(letters.next()),
            (letter, Some(layer)) => layer.push(letter),
            (_, None) => {}
        }
    }
    layers
}

/// The `MS_*` flags for a set of `MOUNT_ATTR_*`.
pub fn classic_flags(attrs: u64) -> u64 {
    let mut flags = 0;
    for (attr, flag) in [
        (libc::MOUNT_ATTR_RDONLY, libc::MS_RDONLY),
        (libc::MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
        (libc::MOUNT_ATTR_NODEV, libc::MS_NODEV),
        (libc::MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
        (libc::MOUNT_ATTR_NODIRATIME, libc::MS_NODIRATIME),
        (libc::MOUNT_ATTR_NOATIME, libc::MS_NOATIME),
        (libc::MOUNT_ATTR_STRICTATIME, libc::MS_STRICTATIME),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, libc::MS_NOSYMFOLLOW),
    ] {
        if attrs & attr != 0 {
            flags |= flag;
        }
    }
    flags
}

/// The kernel's own words about a failed fsconfig or fsmount, which it keeps in the context.
fn explained(context: &OwnedFd, errno: Errno) -> Reason {
    let mut message = [0; 256];
    let Ok(length) = rustix::io::read(context, &mut message) else {
        return errno.into();
    };
    let message = String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned();
    // "e " for an error, "w " for a warning, "i " for information.
    match message.trim_end().strip_prefix("e ") {
        Some(text) => Reason::explained(errno, text),
        None => errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_layers_split_at_colons_that_are_not_escaped() {
        assert_eq!(layers_of("/a:/b\\:c:/d"), ["/a", "/b:c", "/d"]);
    }

    #[test]
    fn a_label_with_commas_is_one_parameter_for_mount_2() {
        let items = ["lowerdir=/a:/b", "context=u:object_r:container_file_t:s0:c1,c2", "ro"];
        let expected = "lowerdir=/a:/b,context=\"u:object_r:container_file_t:s0:c1,c2\",ro";
        assert_eq!(classic_data(&items), expected);
    }

    #[test]
    fn attributes_become_the_flags_of_mount_2() {
        let attrs = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NOATIME;
        assert_eq!(classic_flags(attrs), libc::MS_RDONLY | libc::MS_NOEXEC | libc::MS_NOATIME);
    }
}
