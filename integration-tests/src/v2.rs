//! Cgroup v2 on a host that runs v1.
//!
//! A hybrid host has a cgroup2 hierarchy beside the v1 controllers. In a private mount namespace a
//! second mount of it on /sys/fs/cgroup makes a runtime believe that the host is a v2 one; device
//! programs, freezing and killing are real there, limits only where v1 left a controller free.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

const SCRIPT: &str = r#"mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$0" "$@""#;

/// A command that runs `program` where /sys/fs/cgroup is a cgroup2 mount.
///
/// Each step is an `exec`, so the process started is `program` itself: a signal sent to it
/// arrives there.
pub fn wrap(program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT]).arg(program);
    command
}

/// Whether this host lets us do that: it needs a visible cgroup2 hierarchy to read results from.
pub fn possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| {
        let possible = crate::cgroup::unified().is_some()
            && wrap(Path::new("true")).status().is_ok_and(|status| status.success());
        if !possible {
            crate::skipped("the cgroup v2 variants: no cgroup2 mount, or no right to make one");
        }
        possible
    })
}
