//! Device nodes and the usual links in /dev.
//!
//! /dev may be the image's own directory. It is opened once, must not be a link, and everything
//! is created below that descriptor without following a link.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount};
use rustix::fs::{
    Access, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, access, chmod, chownat,
    fstat, makedev, mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

use super::error::Reason;
use super::umask::NoUmask;
use super::{detached, target};
use crate::gpu::plan::DeviceNode;
use crate::init::journal::{Created, Device, Journal};
use crate::init::root::{Root, mount_id};

/// The nodes that the runtime-spec promises every container, all character devices with mode 0666.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links that the runtime-spec promises, by name in /dev.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// What /dev/ptmx is a link to.
const PTMX: &str = "pts/ptmx";

/// What it may be in an image as well.
const PTMX_DEVICE: Device = Device { kind: FileType::CharacterDevice, major: 5, minor: 2 };

/// The mode of a node for which the spec has none.
const ANYONE: u32 = 0o666;

/// Why /dev could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// /dev is a link or a file of the image.
    #[error(
        "\"/dev\" of the rootfs is not a directory (a link there is refused); mount a tmpfs on /dev"
    )]
    DevIsNotADirectory,
    /// /dev is a directory of the host.
    #[error(
        "\"/dev\" is covered by a mount of another place, to which a link in the rootfs leads (or that \
         is in the rootfs already): remove the link, or mount a tmpfs on /dev"
    )]
    DevIsCovered,
    /// Numbers or a type that no device node has.
    #[error("device {path:?}: {what}")]
    Invalid {
        /// The path in the spec.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Something else has the name of the device.
    #[error("device {path:?}: something else is there already; remove it from the rootfs")]
    Occupied {
        /// The path in the spec.
        path: PathBuf,
    },
    /// The host's node, which stands in for one that cannot be made, is another device.
    #[error("device {path:?}: the host's node of that name is not {major}:{minor}")]
    OtherOnHost {
        /// The path in the spec.
        path: PathBuf,
        /// The number in the spec.
        major: u32,
        /// The number in the spec.
        minor: u32,
    },
    /// A node that can only be bound from the host is not there.
    #[error(
        "device {path:?}: the host has no node {major}:{minor} for it, and none can be made in the \
         container (a user namespace, or mknod is forbidden); create it on the host with the \
         driver's own tool"
    )]
    NotOnHost {
        /// The path in the spec.
        path: PathBuf,
        /// The number in the spec.
        major: u32,
        /// The number in the spec.
        minor: u32,
    },
    /// A system call failed.
    #[error("device {path:?}: cannot {doing}: {reason}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The path in the container.
        path: PathBuf,
        /// The kernel's answer.
        reason: Reason,
    },
}

/// Whether the runtime fills /dev: not when the spec shows the host's there, by a bind mount or as a
/// devtmpfs, which all have in common.
#[must_use]
pub fn needs_dev(mounts: &[Mount]) -> bool {
    !mounts.iter().any(|mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        let of_the_host = matches!(mount.typ().as_deref(), Some("bind" | "devtmpfs"))
            || options.iter().any(|option| option == "bind" || option == "rbind");
        of_the_host && target::clean(mount.destination()) == Path::new("/dev")
    })
}

/// What is to be in /dev.
#[derive(Debug, Clone, Copy, Default)]
pub struct Devices<'a> {
    /// The spec's devices.
    pub list: &'a [LinuxDevice],
    /// Where the nodes of some of them are on the host; those of the others have the same path.
    pub planned: &'a [DeviceNode],
    /// Bind the host's nodes instead of making some, as a user namespace demands.
    pub bind: bool,
    /// The mount of the filesystem that the runtime has made for /dev
    /// ([`Mounted::dev`](super::Mounted::dev)).
    pub filesystem: Option<u64>,
}

/// Creates the default devices, those of `devices`, and the links in /dev.
///
/// Where mknod(2) is forbidden, the host's nodes are bound too. A node of the image that exists with
/// the right type and number is given the right mode and owner; one that is mounted there, itself or
/// with its directory, is the host's and stays as it is.
///
/// # Errors
/// [`DeviceError`].
pub fn create_devices(
    root: &Root,
    devices: Devices<'_>,
    journal: &mut Journal,
) -> Result<(), DeviceError> {
    let _umask = NoUmask::set();
    let mut dev = Dev::open(root, devices, journal)?;
    let devices = devices.list;
    for (path, major, minor) in DEFAULT {
        if devices.iter().any(|device| device.path().as_path() == Path::new(path)) {
            continue;
        }
        let kind = FileType::CharacterDevice;
        let path = PathBuf::from(path);
        dev.create(&Node { path, kind, major, minor, mode: ANYONE, uid: 0, gid: 0 })?;
    }
    for device in devices {
        // A device without a path is in the spec for its cgroup rule.
        if !device.path().as_os_str().is_empty() {
            dev.create(&Node::of(device)?)?;
        }
    }
    dev.links()
}

/// A device node to be.
#[derive(Debug)]
struct Node {
    path: PathBuf,
    kind: FileType,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Node {
    fn of(device: &LinuxDevice) -> Result<Self, DeviceError> {
        let invalid = |what| DeviceError::Invalid { path: device.path().clone(), what };
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => return Err(invalid("type \"a\" is for cgroup rules only")),
        };
        let number = |number: i64| {
            u32::try_from(number).map_err(|_| invalid("the major or minor number is out of range"))
        };
        let (major, minor) = match kind {
            FileType::Fifo => (0, 0),
            _ => (number(device.major())?, number(device.minor())?),
        };
        Ok(Self {
            path: target::clean(device.path()),
            kind,
            major,
            minor,
            mode: device.file_mode().unwrap_or(ANYONE) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        })
    }

    fn device(&self) -> Device {
        Device { kind: self.kind, major: self.major, minor: self.minor }
    }

    /// Whether `stat` is of this device.
    fn is(&self, stat: &Stat) -> bool {
        self.device().is(stat)
    }

    fn failed<E: Into<Reason>>(&self, doing: &'static str) -> impl FnOnce(E) -> DeviceError {
        let path = self.path.clone();
        move |err| DeviceError::System { doing, path, reason: err.into() }
    }
}

/// The container's /dev.
#[derive(Debug)]
struct Dev<'a> {
    root: &'a Root,
    dir: Rc<OwnedFd>,
    devices: Devices<'a>,
    in_image: bool,
    journal: &'a mut Journal,
}

impl<'a> Dev<'a> {
    fn open(
        root: &'a Root,
        devices: Devices<'a>,
        journal: &'a mut Journal,
    ) -> Result<Self, DeviceError> {
        let path = Path::new("/dev");
        let failed = |err: std::io::Error| DeviceError::System {
            doing: "open /dev",
            path: path.to_owned(),
            reason: err.into(),
        };
        let dir = match root.resolve_nofollow(path) {
            Err(err) if err.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                root.ensure_dir(path, journal).map_err(failed)?;
                root.resolve_nofollow(path).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        let stat = fstat(&dir).map_err(|err| failed(err.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(DeviceError::DevIsNotADirectory);
        }
        let in_image = root.is_own_mount(&dir).map_err(failed)?;
        if !in_image && devices.filesystem != Some(mount_id(&dir).map_err(failed)?) {
            return Err(DeviceError::DevIsCovered);
        }
        Ok(Self { root, dir: Rc::new(dir), devices, in_image, journal })
    }

    fn create(&mut self, node: &Node) -> Result<(), DeviceError> {
        let (parent, name) = self.parent(node)?;
        if self.devices.bind && node.kind != FileType::Fifo {
            return self.bind_node(node, &parent, &name);
        }
        self.note(node, Created::Node(Some(node.device())), &parent, &name)?;
        let mode = Mode::from_raw_mode(node.mode);
        match mknodat(&parent, &name, node.kind, mode, makedev(node.major, node.minor)) {
            Ok(()) if node.uid == 0 && node.gid == 0 => Ok(()),
            Ok(()) => settle(node, &examined(node, &parent, &name)?),
            Err(Errno::EXIST) => {
                let found = examined(node, &parent, &name)?;
                if self.is_mounted(&found.fd).map_err(node.failed("examine it"))? {
                    return Ok(());
                }
                settle(node, &found)
            }
            Err(Errno::PERM) if node.kind != FileType::Fifo => self.bind_node(node, &parent, &name),
            Err(err) => Err(node.failed("create it")(err)),
        }
    }

    /// Whether a node came with a mount of the spec: it is not the container's then, and who may
    /// open it is for its owner to say.
    fn is_mounted(&self, node: &OwnedFd) -> std::io::Result<bool> {
        Ok(!self.root.is_own_mount(node)? && self.devices.filesystem != Some(mount_id(node)?))
    }

    /// The directory that a node is created in and its name there.
    fn parent(&mut self, node: &Node) -> Result<(Rc<OwnedFd>, PathBuf), DeviceError> {
        let invalid = DeviceError::Invalid { path: node.path.clone(), what: "this is not a path" };
        let Some(name) = node.path.file_name().map(PathBuf::from) else {
            return Err(invalid);
        };
        let parent = node.path.parent().unwrap_or(Path::new("/"));
        let failed = node.failed::<std::io::Error>("open its directory");
        let dir = match parent.strip_prefix("/dev") {
            Ok(below) => self.below(below),
            Err(_) => self.root.ensure_dir(parent, self.journal).map(Rc::new),
        };
        Ok((dir.map_err(failed)?, name))
    }

    /// The directory `below` inside /dev, created where missing, without links on the way.
    fn below(&mut self, below: &Path) -> std::io::Result<Rc<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut dir = Rc::clone(&self.dir);
        let mut path = PathBuf::from("/dev");
        for component in below.components() {
            let Component::Normal(name) = component else {
                return Err(Errno::INVAL.into());
            };
            path.push(name);
            dir = Rc::new(match openat2(&dir, name, flags, Mode::empty(), resolve) {
                Err(Errno::NOENT) => {
                    let in_image = self.root.is_own_mount(&dir)?;
                    note(in_image, self.journal, Created::Dir, &path, &dir, Path::new(name))?;
                    match mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(err) => return Err(err.into()),
                    }
                    openat2(&dir, name, flags, Mode::empty(), resolve)?
                }
                other => other?,
            });
        }
        Ok(dir)
    }

    /// Mounts the host's node over an empty file.
    fn bind_node(&mut self, node: &Node, parent: &OwnedFd, name: &Path) -> Result<(), DeviceError> {
        let absent = || {
            let (path, major, minor) = (node.path.clone(), node.major, node.minor);
            DeviceError::NotOnHost { path, major, minor }
        };
        let planned = self
            .devices
            .planned
            .iter()
            .find(|known| target::clean(&known.destination) == node.path);
        let source = match planned {
            None => &node.path,
            Some(known) => known.host_path.as_ref().ok_or_else(absent)?,
        };
        let tree = match detached::clone_path(source, false) {
            Err(err) if err.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                return Err(absent());
            }
            tree => tree.map_err(node.failed("open the host's node"))?,
        };
        if !node.is(&fstat(&tree).map_err(node.failed("examine the host's node"))?) {
            let (path, major, minor) = (node.path.clone(), node.major, node.minor);
            return Err(DeviceError::OtherOnHost { path, major, minor });
        }
        self.note(node, Created::MountPoint, parent, name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY;
        match openat(parent, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(err) => return Err(node.failed("create the mount point")(err)),
        }
        let target = open_nofollow(node, parent, name)?;
        let stat = fstat(&target).map_err(node.failed("examine the mount point"))?;
        if matches!(FileType::from_raw_mode(stat.st_mode), FileType::Symlink | FileType::Directory)
        {
            return Err(DeviceError::Occupied { path: node.path.clone() });
        }
        detached::attach(tree.as_fd(), target.as_fd())
            .map_err(node.failed("attach the host's node"))
    }

    /// The links in /dev. What the image has under these names stays, but /dev/ptmx must lead to
    /// the container's own devpts.
    fn links(&mut self) -> Result<(), DeviceError> {
        for (name, text) in LINKS {
            self.link(name, text)?;
        }
        if access(c"/proc/kcore", Access::EXISTS).is_ok() {
            self.link("core", "/proc/kcore")?;
        }
        self.link("ptmx", PTMX)?;
        match self.has_ptmx() {
            true => Ok(()),
            false => Err(DeviceError::Occupied { path: PathBuf::from("/dev/ptmx") }),
        }
    }

    /// Whether /dev/ptmx is a link to the devpts of /dev/pts, or the device, which the kernel looks
    /// for in `pts` beside it.
    fn has_ptmx(&self) -> bool {
        let links = [PTMX.as_bytes(), b"/dev/pts/ptmx"];
        let name = c"ptmx";
        readlinkat(&self.dir, name, Vec::new()).is_ok_and(|text| links.contains(&text.as_bytes()))
            || statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| PTMX_DEVICE.is(&stat))
    }

    fn link(&mut self, name: &str, text: &str) -> Result<(), DeviceError> {
        let path = Path::new("/dev").join(name);
        let failed = |reason| DeviceError::System { doing: "link it", path: path.clone(), reason };
        let link = Created::Link(Some(text.as_ref()));
        note(self.in_image, self.journal, link, &path, &self.dir, Path::new(name))
            .map_err(|err| failed(err.into()))?;
        match symlinkat(text, &self.dir, name) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(err) => Err(failed(err.into())),
        }
    }

    /// Notes in the journal that `node` is about to be created.
    fn note(
        &mut self,
        node: &Node,
        kind: Created<'_>,
        parent: &OwnedFd,
        name: &Path,
    ) -> Result<(), DeviceError> {
        let in_image = match node.path.parent() {
            Some(dev) if dev == Path::new("/dev") => Ok(self.in_image),
            _ => self.root.is_own_mount(parent),
        };
        in_image
            .and_then(|in_image| note(in_image, self.journal, kind, &node.path, parent, name))
            .map_err(node.failed("note it in the journal"))
    }
}

/// Notes in the journal that `name` is about to be created in `parent`: only in the image, and
/// only what the image does not have already.
fn note(
    in_image: bool,
    journal: &mut Journal,
    kind: Created<'_>,
    path: &Path,
    parent: &OwnedFd,
    name: &Path,
) -> std::io::Result<()> {
    if !in_image {
        return Ok(());
    }
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => journal.record(kind, path),
        _ => Ok(()),
    }
}

/// A node that is there.
#[derive(Debug)]
struct Found {
    fd: OwnedFd,
    stat: Stat,
}

/// What has the name of `node`, if it is that device.
fn examined(node: &Node, parent: &OwnedFd, name: &Path) -> Result<Found, DeviceError> {
    let fd = open_nofollow(node, parent, name)?;
    let stat = fstat(&fd).map_err(node.failed("examine it"))?;
    if !node.is(&stat) {
        return Err(DeviceError::Occupied { path: node.path.clone() });
    }
    Ok(Found { fd, stat })
}

/// Gives a node the right mode and owner.
fn settle(node: &Node, found: &Found) -> Result<(), DeviceError> {
    let Found { fd, stat } = found;
    if (stat.st_uid, stat.st_gid) != (node.uid, node.gid) {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        match chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH) {
            // An image that cannot be changed, or not by the root of a user namespace.
            Err(Errno::PERM | Errno::ROFS) => return Ok(()),
            done => done.map_err(node.failed("set its owner"))?,
        }
    }
    if stat.st_mode & 0o7777 != node.mode {
        // fchmod takes no O_PATH descriptor; this is before pivot_root, so /proc is the host's.
        let path = format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
        chmod(path, Mode::from_raw_mode(node.mode)).map_err(node.failed("set its mode"))?;
    }
    Ok(())
}

fn open_nofollow(node: &Node, parent: &OwnedFd, name: &Path) -> Result<OwnedFd, DeviceError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(node.failed("open it"))
}
