//! `gpurun features`: what engines ask before they offer an option.
//! runtime-spec, features.md and features-linux.md.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::output;
use crate::gpu;
use crate::init::rootfs;
use crate::seccomp::support;

/// The newest version of the specification whose fields are understood.
pub const OCI_VERSION_MAX: &str = "1.3.0";

/// The runc whose commands and fields this is to be compared with. runc's own documentation of
/// the annotation asks other runtimes for it.
const COMPATIBLE_RUNC: &str = "1.4.3";

/// The modes of linux.memoryPolicy.
const MEMORY_POLICY_MODES: [&str; 7] = [
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// The flags of linux.memoryPolicy.
const MEMORY_POLICY_FLAGS: [&str; 3] =
    ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// The annotations that change what a container may do, names and (with a dot or a slash at the
/// end) how they begin.
const UNSAFE_ANNOTATIONS: [&str; 4] = [
    gpu::exclusive::ANNOTATION,
    "org.criu.config",
    "org.systemd.property.",
    "run.oci.keep_original_groups",
];

fn unsafe_annotations() -> Vec<String> {
    let devices = gpu::annotation_prefixes().into_iter();
    let mut all: Vec<String> = devices.chain(UNSAFE_ANNOTATIONS.map(str::to_owned)).collect();
    all.sort();
    all
}

/// Print what this runtime can do as JSON.
#[derive(Debug, Args)]
pub struct Features {}

impl Features {
    /// Prints it.
    ///
    /// # Errors
    /// stdout is closed.
    pub fn run(self) -> Result<()> {
        let capabilities: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
        let features = json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": OCI_VERSION_MAX,
            "hooks": [
                "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
                "poststop",
            ],
            "mountOptions": rootfs::MountOptions::known(),
            "linux": {
                "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
                "capabilities": capabilities,
                "cgroup": {
                    "v1": true,
                    "v2": true,
                    "systemd": true,
                    "systemdUser": true,
                    "rdma": true,
                },
                "seccomp": {
                    "enabled": !support::archs().is_empty(),
                    "actions": support::ACTIONS,
                    "operators": support::OPERATORS,
                    "archs": support::archs().iter().map(|arch| arch.profile_name()).collect::<Vec<_>>(),
                    "knownFlags": support::FLAGS,
                    "supportedFlags": support::supported_flags(),
                },
                "apparmor": { "enabled": true },
                "selinux": { "enabled": true },
                "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
                "memoryPolicy": {
                    "modes": MEMORY_POLICY_MODES,
                    "flags": MEMORY_POLICY_FLAGS,
                },
                "mountExtensions": { "idmap": { "enabled": true } },
                "netDevices": { "enabled": true },
            },
            "potentiallyUnsafeConfigAnnotations": unsafe_annotations(),
            "annotations": {
                "org.opencontainers.runc.checkpoint.enabled": "true",
                "io.github.gpurun.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.runc.version": COMPATIBLE_RUNC,
            },
        });
        let text = serde_json::to_string_pretty(&features).context("cannot print features")?;
        output::print(&format!("{text}\n"))
    }
}
