//! The plan: what will be done to one container, decided on the host.
//!
//! Pure data. A plan can be printed (`gpurun explain`), compared in a test and merged into a spec;
//! it has no side effects. Paths named `destination` are absolute inside the container.

use std::path::PathBuf;

use oci_spec::runtime::{Hook, LinuxIntelRdt, Mount};
use serde::{Deserialize, Serialize};

use super::register::Register;
use crate::host::elf::{EM_386, EM_AARCH64, EM_X86_64, Identity};

/// Everything that a container's GPU request leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The GPUs that the container gets, in the order in which it asked.
    pub grants: Vec<Grant>,
    /// Device nodes to create, each with the access that its device rule allows.
    pub devices: Vec<DeviceNode>,
    /// Files and directories of the host to bind into the container.
    pub files: Vec<FileMount>,
    /// Symbolic links to create.
    pub links: Vec<Link>,
    /// Files that mounts of the spec bring to where links lead: they are shown under a link's name
    /// where the image has that name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub brought: Vec<FileMount>,
    /// Files with made-up content, mounted read-only over a path that must exist (in `/proc`).
    pub masks: Vec<Mask>,
    /// Directories (of `/proc`) that show only some of their entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Environment variables to set, replacing a variable of the same name.
    pub env: Vec<(String, String)>,
    /// Supplementary groups for the container's user.
    pub gids: Vec<u32>,
    /// Mounts that join the spec's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Hooks that join the spec's, each with its phase as in the spec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<(String, Hook)>,
    /// Network interfaces that join the spec's: the name on the host and in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<(String, String)>,
    /// What replaces the spec's cache and memory bandwidth allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<LinuxIntelRdt>,
    /// Directories of the container whose mounted libraries its loader must find.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub library_dirs: Vec<PathBuf>,
    /// Those libraries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<MountedLibrary>,
    /// Files with made-up content at places of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub generated: Vec<Mask>,
    /// Libraries of the image that may take the place of the driver's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<Compatibility>,
    /// Lists of the vendors' tools in which the container is entered while it exists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registers: Vec<Register>,
    /// Hooks of the spec that are not run, because the plan does their work.
    pub absorbed_hooks: Vec<AbsorbedHook>,
    /// What was left out or looked unusual, for `explain` and the log.
    pub notes: Vec<String>,
    /// What is as usual and yet explains the plan, for `explain` and whoever debugs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// One GPU given to the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The vendor's CDI name, such as `nvidia.com/gpu`.
    pub kind: String,
    /// The vendor's index of the GPU.
    pub index: u32,
    /// The GPU's UUID.
    pub uuid: String,
    /// The PCI bus id, such as `0000:65:00.0`.
    pub bus_id: String,
    /// The product name.
    pub model: String,
    /// What of the GPU it is, when not the whole, such as `MIG device 1 (GI 2, CI 0)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The part of the request that asked for it, such as `0` or `all`.
    pub asked_as: String,
}

/// Character or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// A device node in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceNode {
    /// Where it appears in the container.
    pub destination: PathBuf,
    /// The node on the host, bound where mknod is not allowed (a user namespace). `None`: the
    /// host has no such node and it can only be made.
    pub host_path: Option<PathBuf>,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owning user on the host's side of the spec (container id).
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// The device rule's access: some of `r`, `w`, `m`.
    pub access: String,
    /// Why it is there, in a few words.
    pub why: String,
}

/// The instruction set that a library is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Abi {
    /// The machine's own 64-bit ABI.
    Native,
    /// 32-bit x86 on a 64-bit host.
    I386,
}

impl Abi {
    /// That of a library; `None` where this machine cannot run it.
    #[must_use]
    pub fn of(identity: &Identity) -> Option<Self> {
        match (std::env::consts::ARCH, identity.is_64_bit, identity.machine) {
            ("x86_64", true, EM_X86_64) | ("aarch64", true, EM_AARCH64) => Some(Self::Native),
            ("x86_64", false, EM_386) => Some(Self::I386),
            _ => None,
        }
    }
}

/// Where something goes in the container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// This path.
    Path(PathBuf),
    /// In the directory where the container's distribution keeps libraries of this ABI: the
    /// path is relative to it (`libcuda.so.1`, `vdpau/libvdpau_nvidia.so.1`).
    Library(Abi, PathBuf),
}

/// A file, directory or socket of the host, bound into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileMount {
    /// The path on the host, links resolved.
    pub source: PathBuf,
    /// Where it appears.
    pub destination: Place,
    /// What it is.
    pub kind: FileKind,
    /// Why it is there, in a few words.
    pub why: String,
}

/// What a [`FileMount`] is, which decides its mount flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A shared library: read-only, nosuid, nodev. It is entered in the loader cache under its
    /// SONAME and its own name.
    Library {
        /// The `DT_SONAME`, where the library has one.
        soname: Option<String>,
        /// What it is for.
        abi: Abi,
    },
    /// A program: read-only, nosuid, nodev.
    Binary,
    /// Data (firmware, configuration): read-only, nosuid, nodev, noexec.
    Data,
    /// A socket or a directory of sockets and pipes: writable, nosuid, nodev, noexec.
    Ipc,
}

/// A symbolic link in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Where the link is.
    pub destination: Place,
    /// Its text.
    pub target: PathBuf,
    /// Why it is there, in a few words.
    pub why: String,
}

/// A file with made-up content over an existing path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mask {
    /// The path, which must exist in the container's own proc.
    pub destination: PathBuf,
    /// What is read there.
    pub content: String,
    /// Why it is there, in a few words.
    pub why: String,
}

/// A directory that shows only some of its entries, read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// The directory, in the container's own proc; where there is none, nothing is done.
    pub destination: PathBuf,
    /// The names of the directories in it that stay visible.
    pub keep: Vec<String>,
    /// Why the others are hidden, in a few words.
    pub why: String,
}

/// A library that a mount of the spec brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MountedLibrary {
    /// Where it is in the container.
    pub path: PathBuf,
    /// The file on the host.
    pub source: PathBuf,
    /// Its `DT_SONAME`.
    pub soname: Option<String>,
    /// What it is for.
    pub abi: Abi,
}

/// A directory of the image with newer driver libraries than the host's (CUDA forward
/// compatibility), and what decides whether they are used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compatibility {
    /// The directory in the container, when it exists there.
    pub directory: PathBuf,
    /// The version of the host's driver.
    pub host_driver: Option<String>,
    /// The version of CUDA that the host's driver has, where that decides.
    pub host_cuda: Option<String>,
}

/// A hook of the spec whose work the plan does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AbsorbedHook {
    /// The hook's phase as in the spec: `prestart`, `createContainer`, ….
    pub phase: String,
    /// The hook's path.
    pub path: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// What gpurun does instead.
    pub instead: String,
}
