//! `gpurun spec`: a config.json to start from, as runc writes it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

/// Write a config.json to start from.
#[derive(Debug, Args)]
pub struct Spec {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a container that an ordinary user runs
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    /// Writes it.
    ///
    /// # Errors
    /// There is one already.
    pub fn run(self) -> Result<()> {
        let path = self.bundle.join("config.json");
        let mut spec = default_spec();
        // As runc: where each controller has its own hierarchy, people expect to see the whole path.
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
            && let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut()
        {
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
        }
        if self.rootless {
            make_rootless(&mut spec);
        }
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("File {} exists. Remove it first", path.display())
            }
            other => other.with_context(|| format!("cannot create {}", path.display()))?,
        };
        let text = serde_json::to_string_pretty(&spec).context("cannot write the spec")?;
        writeln!(file, "{text}").with_context(|| format!("cannot write {}", path.display()))
    }
}

fn default_spec() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": super::features::OCI_VERSION_MAX,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "gpurun",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": [
                    "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5",
                ],
            },
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
            {
                "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
            },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi", "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

/// The caller's ids as root, no network of its own, no limits, the host's /sys.
fn make_rootless(spec: &mut Value) {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("resources");
        linux.insert("uidMappings".into(), json!([{ "containerID": 0, "hostID": uid, "size": 1 }]));
        linux.insert("gidMappings".into(), json!([{ "containerID": 0, "hostID": gid, "size": 1 }]));
    }
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
    }
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        for mount in mounts.iter_mut() {
            if mount["destination"] == "/sys" {
                *mount = json!({
                    "destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
                });
            }
            if let Some(options) = mount.get_mut("options").and_then(Value::as_array_mut) {
                options.retain(|option| option != "gid=5");
            }
        }
    }
}
