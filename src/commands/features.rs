//! `gpurun features`: what engines ask before they offer an option.
//! runtime-spec, features.md and features-linux.md.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::init::rootfs;
use crate::seccomp::support;

/// The newest version of the specification whose fields are understood.
pub const OCI_VERSION_MAX: &str = "1.3.0";

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
                    "systemd": false,
                    "systemdUser": false,
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
                "intelRdt": { "enabled": false },
                "mountExtensions": { "idmap": { "enabled": false } },
                "netDevices": { "enabled": false },
            },
            "potentiallyUnsafeConfigAnnotations": ["org.criu.config"],
            "annotations": {
                "org.opencontainers.runc.checkpoint.enabled": "true",
                "io.github.gpurun.version": env!("CARGO_PKG_VERSION"),
            },
        });
        println!("{}", serde_json::to_string_pretty(&features).context("cannot print features")?);
        Ok(())
    }
}
