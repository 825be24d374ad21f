//! The options of a spec mount, read once into what the kernel calls need.
//!
//! The names and their meanings are those of mount(8) and of the runtime-spec ("Linux mount
//! options"). Of two options that contradict each other the later one counts. What is not in the
//! table is a parameter of the filesystem.

use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME, MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME,
    MS_MANDLOCK, MS_POSIXACL, MS_PRIVATE, MS_SHARED, MS_SILENT, MS_SLAVE, MS_SYNCHRONOUS,
    MS_UNBINDABLE,
};

use oci_spec::runtime::{LinuxIdMapping, Mount};

/// `MOUNT_ATTR_*` bits that were asked to be on and off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Bits to set, an access time mode included.
    pub set: u64,
    /// Bits to clear, and `MOUNT_ATTR__ATIME` whenever an access time mode was named.
    pub clear: u64,
}

impl Attrs {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn set(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn clear(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }

    fn atime(&mut self, mode: u64) {
        self.set = (self.set & !MOUNT_ATTR__ATIME) | mode;
        self.clear |= MOUNT_ATTR__ATIME;
    }
}

/// Everything that the options of one mount say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions<'a> {
    /// `bind` or `rbind`.
    pub bind: bool,
    /// `rbind`.
    pub recursive_bind: bool,
    /// `remount`.
    pub remount: bool,
    /// `tmpcopyup`: a new tmpfs starts with what was in the directory below it.
    pub copy_up: bool,
    /// Attributes of the mount itself.
    pub attrs: Attrs,
    /// Attributes of the mount and all below it (`rro`, …).
    pub recursive: Attrs,
    /// Classic `MS_*` flags of the superblock, without `MS_RDONLY`.
    pub superblock: u64,
    /// Propagation types to apply in this order: `MS_*` and whether to all below it.
    pub propagation: Vec<(u64, bool)>,
    /// `idmap` (false) or `ridmap` (true: also what is mounted below).
    pub idmap: Option<bool>,
    /// Parameters of the filesystem.
    pub data: Vec<&'a str>,
}

/// How the owners of an id-mapped mount are shown (runtime-spec, config.md, "POSIX-platform
/// Mounts"): as `container_id` on the filesystem, as `host_id` outside of user namespaces.
#[derive(Debug, Clone, Copy)]
pub struct IdMapping<'a> {
    /// The map of users; empty with `gids`: that of the container's user namespace.
    pub uids: &'a [LinuxIdMapping],
    /// The map of groups.
    pub gids: &'a [LinuxIdMapping],
    /// Whether it is for all that is mounted below as well.
    pub recursive: bool,
}

impl<'a> IdMapping<'a> {
    /// That of a mount, where it is an id-mapped one: by an option, or because it has maps.
    #[must_use]
    pub fn of(mount: &'a Mount, options: &MountOptions<'_>) -> Option<Self> {
        let uids = mount.uid_mappings().as_deref().unwrap_or_default();
        let gids = mount.gid_mappings().as_deref().unwrap_or_default();
        let asked = options.idmap.is_some() || !uids.is_empty() || !gids.is_empty();
        asked.then(|| Self { uids, gids, recursive: options.idmap == Some(true) })
    }
}

/// What one option does.
#[derive(Debug, Clone, Copy)]
enum Effect {
    Nothing,
    Bind { recursive: bool },
    Remount,
    CopyUp,
    Idmap { recursive: bool },
    Set(u64),
    Clear(u64),
    Atime(u64),
    SetBelow(u64),
    ClearBelow(u64),
    AtimeBelow(u64),
    Superblock(u64),
    NoSuperblock(u64),
    Propagate(u64, bool),
}

/// The options of [`MountOptions`] by name.
#[rustfmt::skip]
const TABLE: &[(&str, Effect)] = {
    use Effect::{Atime, AtimeBelow, Bind, Clear, ClearBelow, CopyUp, Idmap, NoSuperblock, Nothing,
                 Propagate, Remount, Set, SetBelow, Superblock};
    &[
        ("acl", Superblock(MS_POSIXACL)), ("noacl", NoSuperblock(MS_POSIXACL)),
        ("async", NoSuperblock(MS_SYNCHRONOUS)), ("sync", Superblock(MS_SYNCHRONOUS)),
        ("atime", Atime(MOUNT_ATTR_RELATIME)), ("noatime", Atime(MOUNT_ATTR_NOATIME)),
        ("bind", Bind { recursive: false }), ("rbind", Bind { recursive: true }),
        ("defaults", Nothing),
        ("dev", Clear(MOUNT_ATTR_NODEV)), ("nodev", Set(MOUNT_ATTR_NODEV)),
        ("diratime", Clear(MOUNT_ATTR_NODIRATIME)), ("nodiratime", Set(MOUNT_ATTR_NODIRATIME)),
        ("dirsync", Superblock(MS_DIRSYNC)),
        ("exec", Clear(MOUNT_ATTR_NOEXEC)), ("noexec", Set(MOUNT_ATTR_NOEXEC)),
        ("iversion", Superblock(MS_I_VERSION)), ("noiversion", NoSuperblock(MS_I_VERSION)),
        ("lazytime", Superblock(MS_LAZYTIME)), ("nolazytime", NoSuperblock(MS_LAZYTIME)),
        ("loud", NoSuperblock(MS_SILENT)), ("silent", Superblock(MS_SILENT)),
        ("mand", Superblock(MS_MANDLOCK)), ("nomand", NoSuperblock(MS_MANDLOCK)),
        ("relatime", Atime(MOUNT_ATTR_RELATIME)), ("norelatime", Atime(MOUNT_ATTR_RELATIME)),
        ("strictatime", Atime(MOUNT_ATTR_STRICTATIME)),
        ("nostrictatime", Atime(MOUNT_ATTR_RELATIME)),
        ("remount", Remount),
        ("ro", Set(MOUNT_ATTR_RDONLY)), ("rw", Clear(MOUNT_ATTR_RDONLY)),
        ("suid", Clear(MOUNT_ATTR_NOSUID)), ("nosuid", Set(MOUNT_ATTR_NOSUID)),
        ("symfollow", Clear(MOUNT_ATTR_NOSYMFOLLOW)), ("nosymfollow", Set(MOUNT_ATTR_NOSYMFOLLOW)),
        ("private", Propagate(MS_PRIVATE, false)), ("rprivate", Propagate(MS_PRIVATE, true)),
        ("shared", Propagate(MS_SHARED, false)), ("rshared", Propagate(MS_SHARED, true)),
        ("slave", Propagate(MS_SLAVE, false)), ("rslave", Propagate(MS_SLAVE, true)),
        ("unbindable", Propagate(MS_UNBINDABLE, false)),
        ("runbindable", Propagate(MS_UNBINDABLE, true)),
        ("rro", SetBelow(MOUNT_ATTR_RDONLY)), ("rrw", ClearBelow(MOUNT_ATTR_RDONLY)),
        ("rnosuid", SetBelow(MOUNT_ATTR_NOSUID)), ("rsuid", ClearBelow(MOUNT_ATTR_NOSUID)),
        ("rnodev", SetBelow(MOUNT_ATTR_NODEV)), ("rdev", ClearBelow(MOUNT_ATTR_NODEV)),
        ("rnoexec", SetBelow(MOUNT_ATTR_NOEXEC)), ("rexec", ClearBelow(MOUNT_ATTR_NOEXEC)),
        ("rnodiratime", SetBelow(MOUNT_ATTR_NODIRATIME)),
        ("rdiratime", ClearBelow(MOUNT_ATTR_NODIRATIME)),
        ("rnoatime", AtimeBelow(MOUNT_ATTR_NOATIME)), ("ratime", AtimeBelow(MOUNT_ATTR_RELATIME)),
        ("rrelatime", AtimeBelow(MOUNT_ATTR_RELATIME)),
        ("rnorelatime", AtimeBelow(MOUNT_ATTR_RELATIME)),
        ("rstrictatime", AtimeBelow(MOUNT_ATTR_STRICTATIME)),
        ("rnostrictatime", AtimeBelow(MOUNT_ATTR_RELATIME)),
        ("rnosymfollow", SetBelow(MOUNT_ATTR_NOSYMFOLLOW)),
        ("rsymfollow", ClearBelow(MOUNT_ATTR_NOSYMFOLLOW)),
        ("tmpcopyup", CopyUp),
        ("idmap", Idmap { recursive: false }), ("ridmap", Idmap { recursive: true }),
    ]
};

impl<'a> MountOptions<'a> {
    /// Reads a list of options.
    #[must_use]
    pub fn parse(options: &'a [String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            match TABLE.iter().find(|(name, _)| name == option) {
                Some((_, effect)) => parsed.apply(*effect),
                None => parsed.data.push(option),
            }
        }
        parsed
    }

    /// The names in the table, sorted: what `features` lists as `mountOptions`.
    #[must_use]
    pub fn known() -> Vec<&'static str> {
        let mut names: Vec<_> = TABLE.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Bind { recursive } => {
                self.bind = true;
                self.recursive_bind |= recursive;
            }
            Effect::Remount => self.remount = true,
            Effect::CopyUp => self.copy_up = true,
            Effect::Idmap { recursive } => self.idmap = Some(recursive),
            Effect::Set(bits) => self.attrs.set(bits),
            Effect::Clear(bits) => self.attrs.clear(bits),
            Effect::Atime(mode) => self.attrs.atime(mode),
            Effect::SetBelow(bits) => self.recursive.set(bits),
            Effect::ClearBelow(bits) => self.recursive.clear(bits),
            Effect::AtimeBelow(mode) => self.recursive.atime(mode),
            Effect::Superblock(flag) => self.superblock |= flag,
            Effect::NoSuperblock(flag) => self.superblock &= !flag,
            Effect::Propagate(kind, recursive) => self.propagation.push((kind, recursive)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(options: &[&str]) -> Vec<String> {
        options.iter().map(|&option| option.to_owned()).collect()
    }

    #[test]
    fn the_later_of_two_contradicting_options_counts() {
        let options = list(&["ro", "rw", "noexec", "dev", "nodev"]);
        let parsed = MountOptions::parse(&options);
        assert_eq!(parsed.attrs.set, MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV);
        assert_eq!(parsed.attrs.clear, MOUNT_ATTR_RDONLY);
    }

    #[test]
    fn access_time_modes_replace_each_other() {
        let options = list(&["noatime", "strictatime", "rnoatime", "rrelatime"]);
        let parsed = MountOptions::parse(&options);
        assert_eq!(parsed.attrs.set, MOUNT_ATTR_STRICTATIME);
        assert_eq!(parsed.attrs.clear, MOUNT_ATTR__ATIME);
        assert_eq!(parsed.recursive, Attrs { set: 0, clear: MOUNT_ATTR__ATIME });
    }

    #[test]
    fn unknown_options_are_parameters_of_the_filesystem() {
        let options = list(&["mode=755", "nosuid", "size=64k", "newinstance"]);
        assert_eq!(MountOptions::parse(&options).data, ["mode=755", "size=64k", "newinstance"]);
    }

    #[test]
    fn every_option_name_is_there_once() {
        let mut known = MountOptions::known();
        let count = known.len();
        known.dedup();
        assert_eq!(known.len(), count);
    }
}
