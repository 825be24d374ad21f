//! Hierarchies, controllers, device rules, and systemd.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::Access;

use super::Machine;
use crate::finding::Finding;
use crate::sys::bpf::{Insn, load_device_program};
use crate::sys::clone::{CloneArgs, try_clone};

/// Where cgroups are mounted.
const MOUNT: &str = "sys/fs/cgroup";

/// What containers' limits need.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
const V1_CONTROLLERS: [&str; 7] =
    ["blkio", "cpu", "cpuset", "devices", "freezer", "memory", "pids"];

/// How to get a controller that the kernel has turned off.
const CONTROLLERS: &str = "put cgroup_enable=NAME (memory: cgroup_enable=memory) on the kernel's \
                           command line, or use a kernel with the controller; only containers \
                           with such limits fail";

/// What was tried, on a machine with cgroup v2.
struct Tried {
    device_program: io::Result<()>,
    clone_into: io::Result<()>,
}

/// Looks at the machine's cgroups. For a program with one thread: an attempt forks.
#[must_use]
pub fn check(machine: &Machine) -> Vec<Finding> {
    judge(machine, || Tried { device_program: device_program(), clone_into: clone_into(machine) })
}

fn judge(machine: &Machine, tried: impl FnOnce() -> Tried) -> Vec<Finding> {
    let root = &machine.root;
    let has = |path: &str| matches!(root.status(format!("{MOUNT}/{path}")), Ok(Some(_)));
    let names = |path: &str| {
        let text = root.read_text(format!("{MOUNT}/{path}"), 4096).ok().flatten();
        text.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut findings = Vec::new();
    if has("cgroup.controllers") {
        findings.push(Finding::green("cgroup mode", "v2"));
        findings.extend(controllers(&V2_CONTROLLERS, &names("cgroup.controllers")));
        let Tried { device_program, clone_into } = tried();
        findings.push(attempted(
            machine,
            "device programs",
            device_program,
            "use a kernel with CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL; in a container, one with \
             CAP_BPF and CAP_SYS_ADMIN",
        ));
        findings.push(attempted(
            machine,
            "clone into a cgroup",
            clone_into,
            "use Linux 5.7 or newer",
        ));
    } else {
        let directories = root.names(MOUNT).unwrap_or_default();
        let mounted: Vec<_> =
            directories.iter().flat_map(|name| name.split(',')).map(str::to_owned).collect();
        if !mounted.iter().any(|name| V1_CONTROLLERS.contains(&name.as_str())) {
            return vec![Finding::red(
                "cgroup mode",
                format!("no cgroup file system at {}", root.at(MOUNT).display()),
                "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            )];
        }
        let hybrid = has("unified/cgroup.controllers");
        let mode = if hybrid { "v1, with v2 beside it (hybrid)" } else { "v1" };
        findings.push(Finding::green("cgroup mode", mode));
        if !mounted.iter().any(|name| name == "devices") {
            findings.push(Finding::red(
                "device rules",
                "the controller devices is not mounted: no container can be kept from devices",
                "mount -t cgroup -o devices devices /sys/fs/cgroup/devices",
            ));
        }
        findings.extend(controllers(&V1_CONTROLLERS, &mounted));
    }
    findings.extend(writable(machine));
    findings.extend(systemd(machine));
    findings
}

fn controllers(wanted: &[&str], present: &[String]) -> Vec<Finding> {
    let missing: Vec<&str> =
        wanted.iter().copied().filter(|name| !present.iter().any(|one| one == name)).collect();
    vec![match missing.is_empty() {
        true => Finding::green("controllers", wanted.join(", ")),
        false => {
            Finding::yellow("controllers", format!("missing: {}", missing.join(", ")), CONTROLLERS)
        }
    }]
}

fn attempted(
    machine: &Machine,
    check: &str,
    result: io::Result<()>,
    remedy: &'static str,
) -> Finding {
    match result {
        Ok(()) => Finding::green(check, ""),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            match machine.caller.is_root() {
                true => Finding::red(check, error.to_string(), remedy),
                false => Finding::unseen(check, "only root can try it", "sudo gpurun doctor"),
            }
        }
        Err(error) => Finding::red(check, error.to_string(), remedy),
    }
}

/// In a container the file system is often read-only, which a start would be told too late.
fn writable(machine: &Machine) -> Option<Finding> {
    let path = machine.root.at(MOUNT);
    // Of root only a read-only file system keeps anything.
    let is_refused = machine.caller.is_root()
        && rustix::fs::access(&path, Access::WRITE_OK) == Err(rustix::io::Errno::ROFS);
    is_refused.then(|| {
        Finding::red(
            "cgroup file system",
            format!("{} is read-only", path.display()),
            "mount -o remount,rw /sys/fs/cgroup; for gpurun in a container: start that with a \
             writable cgroup file system (docker run --privileged)",
        )
    })
}

/// Whether systemd can be asked for a cgroup, where it runs.
fn systemd(machine: &Machine) -> Option<Finding> {
    let has = |path: &str| matches!(machine.root.status(path), Ok(Some(_)));
    if !has("run/systemd/system") {
        return None;
    }
    let check = "systemd driver";
    Some(match has("run/systemd/private") || has("run/dbus/system_bus_socket") {
        true => Finding::green(check, ""),
        false => Finding::yellow(
            check,
            "systemd runs, but neither /run/systemd/private nor /run/dbus/system_bus_socket is \
             there: --systemd-cgroup fails",
            "start dbus.socket; in a container, bind these sockets",
        ),
    })
}

/// Loads `return 1`, which ends with its descriptor.
fn device_program() -> io::Result<()> {
    let insn = |code, imm| Insn { code, regs: 0, off: 0, imm };
    // BPF_ALU64 | BPF_MOV | BPF_K, then BPF_JMP | BPF_EXIT.
    load_device_program(&[insn(0xb7, 1), insn(0x95, 0)], c"Apache-2.0", None).map(drop)
}

/// Forks into the caller's own cgroup.
fn clone_into(machine: &Machine) -> io::Result<()> {
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let directory = File::open(machine.root.at(MOUNT).join(own))?;
    match try_clone(&CloneArgs { flags: 0, cgroup: Some(directory.as_fd()) }) {
        // It knows the call: this cgroup has controllers for its children.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::doctor::testing::{MadeUp, all_green, expect};

    fn works() -> Tried {
        Tried { device_program: Ok(()), clone_into: Ok(()) }
    }

    fn unified() -> MadeUp {
        let made_up = MadeUp::new();
        made_up
            .files
            .write("root/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids rdma\n");
        made_up
    }

    #[test]
    fn both_versions_and_their_mixture_are_recognised() {
        all_green(&judge(&unified().machine(), works));
        let old = MadeUp::new();
        for dir in ["blkio", "cpu,cpuacct", "cpuset", "devices", "freezer", "memory", "pids"] {
            old.files.directory(&format!("root/sys/fs/cgroup/{dir}"));
        }
        let never = || -> Tried { panic!("tried on v1") };
        let found = judge(&old.machine(), never);
        all_green(&found);
        expect(&found, "cgroup mode", "green", "v1", "");
        old.files.write("root/sys/fs/cgroup/unified/cgroup.controllers", "");
        expect(&judge(&old.machine(), never), "cgroup mode", "green", "hybrid", "");
        std::fs::remove_dir(old.files.path().join("root/sys/fs/cgroup/devices")).unwrap();
        expect(&judge(&old.machine(), never), "device rules", "red", "devices", "mount");
        let none = judge(&MadeUp::new().machine(), never);
        expect(&none, "cgroup mode", "red", "no cgroup file system", "mount -t cgroup2");
    }

    #[test]
    fn controllers_and_calls_that_are_missing_are_named() {
        let made_up = unified();
        made_up.files.write("root/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
        let found = judge(&made_up.machine(), works);
        expect(&found, "controllers", "yellow", "missing: memory", "cgroup_enable=memory");
        let missing = || Tried {
            device_program: Err(io::Error::from_raw_os_error(libc::EINVAL)),
            clone_into: Err(io::Error::from_raw_os_error(libc::E2BIG)),
        };
        let found = judge(&unified().machine(), missing);
        expect(&found, "device programs", "red", "Invalid", "CONFIG_CGROUP_BPF");
        expect(&found, "clone into a cgroup", "red", "", "5.7");
        let refused = || Tried {
            device_program: Err(io::Error::from_raw_os_error(libc::EPERM)),
            clone_into: Ok(()),
        };
        let found = judge(&MadeUp { uid: 1000, ..unified() }.machine(), refused);
        expect(&found, "device programs", "unseen", "root", "sudo");
    }

    #[test]
    fn a_systemd_that_cannot_be_reached_is_found() {
        let made_up = unified();
        made_up.files.directory("root/run/systemd/system");
        let found = judge(&made_up.machine(), works);
        expect(&found, "systemd driver", "yellow", "--systemd-cgroup", "dbus.socket");
        made_up.files.write("root/run/dbus/system_bus_socket", "");
        all_green(&judge(&made_up.machine(), works));
    }
}
