//! What containers of an ordinary user need. Root is told about it all the same: it is root who
//! has to mend it.

use std::path::Path;

use super::Machine;
use crate::finding::Finding;

/// The programs that map a range of ids, and the files with the ranges.
const HELPERS: [(&str, &str); 2] = [("newuidmap", "subuid"), ("newgidmap", "subgid")];

/// Controllers that systemd hands over when told to.
const DELEGATED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Looks at what an ordinary user's containers need.
#[must_use]
pub fn check(machine: &Machine) -> Vec<Finding> {
    let mut findings = namespaces(machine);
    for (program, file) in HELPERS {
        findings.push(helper(machine, program));
        findings.push(range(machine, file));
    }
    if !machine.caller.is_root() {
        findings.push(controllers(machine));
        findings.push(runtime_dir(machine));
    }
    findings
}

/// The kernel's and the distributions' switches.
fn namespaces(machine: &Machine) -> Vec<Finding> {
    let sysctl = |name: &str| {
        let path = format!("proc/sys/{}", name.replace('.', "/"));
        machine.root.read_text(path, 64).ok().flatten().map(|text| text.trim().to_owned())
    };
    let check = "user namespaces";
    let mut findings = Vec::new();
    for (name, bad, good) in
        [("user.max_user_namespaces", "0", "15000"), ("kernel.unprivileged_userns_clone", "0", "1")]
    {
        if sysctl(name).as_deref() == Some(bad) {
            findings.push(Finding::yellow(
                check,
                format!("{name} is {bad}: ordinary users can have none"),
                format!("sysctl -w {name}={good}; for every boot: a file in /etc/sysctl.d"),
            ));
        }
    }
    let restriction = "kernel.apparmor_restrict_unprivileged_userns";
    if sysctl(restriction).as_deref() == Some("1") {
        findings.push(Finding::yellow(
            check,
            format!("{restriction} is 1: they have no rights in them without a profile"),
            format!(
                "an AppArmor profile with `userns,` for the engine (podman's comes with it) or for \
                 gpurun; or sysctl -w {restriction}=0"
            ),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::green(check, ""));
    }
    findings
}

/// Whether the program may map ids: with root's rights, by its mode or by file capabilities.
fn helper(machine: &Machine, program: &str) -> Finding {
    let install = "install the package uidmap (shadow-utils on Fedora)";
    let places = ["usr/bin", "usr/local/bin", "bin"].map(|dir| format!("{dir}/{program}"));
    let mut found = places.iter().filter_map(|path| machine.root.find(path).ok().flatten());
    let Some(found) = found.next() else {
        return Finding::yellow(
            program,
            "not installed: an ordinary user can map the own id only",
            install,
        );
    };
    let is_set_uid = found.status.uid == 0 && found.status.mode & 0o4000 != 0;
    let mut value = [0; 64];
    let is_privileged = is_set_uid
        || rustix::fs::getxattr(&found.path, "security.capability", &mut value[..]).is_ok();
    match is_privileged {
        true => Finding::green(program, ""),
        false => Finding::yellow(
            program,
            format!("{} has neither set-user-id nor file capabilities", found.path.display()),
            format!("chmod u+s {}, or {install} again", found.path.display()),
        ),
    }
}

/// Whether somebody (root asks) or the caller has a range of ids.
fn range(machine: &Machine, file: &str) -> Finding {
    let caller = &machine.caller;
    let text = machine
        .root
        .read_text(Path::new("etc").join(file), 1 << 20)
        .ok()
        .flatten()
        .unwrap_or_default();
    let number = caller.uid.to_string();
    let is_callers = |name: &str| caller.name.as_deref() == Some(name) || name == number;
    let has = text.lines().any(|line| {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        let count = fields.nth(1).and_then(|count| count.trim().parse::<u64>().ok());
        count.is_some_and(|count| count > 0) && (caller.is_root() || is_callers(name))
    });
    let found = match (&caller.name, caller.is_root()) {
        (_, true) => format!("nobody has a range of ids in /etc/{file}"),
        (Some(name), _) => format!("user {name} has no range of ids in /etc/{file}"),
        (None, _) => format!("user {number} has no range of ids in /etc/{file}"),
    };
    match has {
        true => Finding::green(file, ""),
        false => Finding::yellow(
            file,
            found,
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        ),
    }
}

/// What systemd has handed over to the caller.
fn controllers(machine: &Machine) -> Finding {
    let check = "delegated controllers";
    let uid = machine.caller.uid;
    let unit = format!("user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers");
    let text = machine.root.read_text(Path::new("sys/fs/cgroup").join(unit), 4096).ok().flatten();
    let Some(text) = text else {
        return Finding::yellow(
            check,
            "no cgroup v2 of systemd's for this user: containers have no limits",
            "boot with systemd.unified_cgroup_hierarchy=1, and log in (loginctl enable-linger)",
        );
    };
    let missing: Vec<&str> = DELEGATED
        .into_iter()
        .filter(|wanted| !text.split_whitespace().any(|one| one == *wanted))
        .collect();
    match missing.is_empty() {
        true => Finding::green(check, ""),
        false => Finding::yellow(
            check,
            format!("without {}: containers cannot be limited in these", missing.join(", ")),
            "in /etc/systemd/system/user@.service.d/delegate.conf: [Service] \
             Delegate=cpu cpuset io memory pids; then systemctl daemon-reload, and log in again",
        ),
    }
}

/// Where an ordinary user's containers are remembered.
fn runtime_dir(machine: &Machine) -> Finding {
    match &machine.caller.runtime_dir {
        Some(_) => Finding::green("XDG_RUNTIME_DIR", ""),
        None => Finding::yellow(
            "XDG_RUNTIME_DIR",
            "not set: there is no place to remember this user's containers",
            "log in with a session (not su), or export XDG_RUNTIME_DIR=/run/user/$(id -u)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::doctor::Caller;
    use crate::node::doctor::testing::{MadeUp, all_green, expect};

    const UNIT: &str =
        "root/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers";

    fn well() -> Option<MadeUp> {
        use std::os::unix::fs::PermissionsExt;
        let made_up = MadeUp { uid: 1000, ..MadeUp::new() };
        for (program, file) in HELPERS {
            made_up.files.program(&format!("root/usr/bin/{program}"));
            let path = made_up.files.path().join(format!("root/usr/bin/{program}"));
            let mode = std::fs::Permissions::from_mode(0o4755);
            std::fs::set_permissions(path, mode).unwrap();
            made_up.files.write(&format!("root/etc/{file}"), "bob:1:5\nalice:100000:65536\n");
        }
        made_up.files.write("root/proc/sys/user/max_user_namespaces", "100\n");
        made_up.files.write(UNIT, "cpuset cpu io memory pids\n");
        // Only root's set-user-id programs count.
        rustix::process::geteuid().is_root().then_some(made_up)
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy_and_nothing_when_all_is_there() {
        let Some(made_up) = well() else {
            println!("skipped: needs root, for set-user-id programs");
            return;
        };
        all_green(&check(&made_up.machine()));
        let harms: [(&str, &str, &str, &str, &str); 7] = [
            ("root/proc/sys/user/max_user_namespaces", "0\n", "user namespaces", "is 0", "sysctl"),
            (
                "root/proc/sys/kernel/unprivileged_userns_clone",
                "0",
                "user namespaces",
                "is 0",
                "sysctl",
            ),
            (
                "root/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "user namespaces",
                "without a profile",
                "userns,",
            ),
            ("root/etc/subuid", "bob:1:5\n", "subuid", "alice has no range", "usermod"),
            ("root/etc/subgid", "alice:1:0\n", "subgid", "alice has no range", "usermod"),
            (UNIT, "memory pids\n", "delegated controllers", "without cpu, cpuset, io", "Delegate"),
            ("root/proc/sys/user/max_user_namespaces", "0", "user namespaces", "", "sysctl.d"),
        ];
        for (file, text, name, words, remedy) in harms {
            let made_up = well().expect("root");
            made_up.files.write(file, text);
            expect(&check(&made_up.machine()), name, "yellow", words, remedy);
        }
        std::fs::remove_file(made_up.files.path().join("root/usr/bin/newuidmap")).unwrap();
        let found = check(&made_up.machine());
        expect(&found, "newuidmap", "yellow", "not installed", "uidmap");
        made_up.files.program("root/usr/bin/newuidmap");
        expect(&check(&made_up.machine()), "newuidmap", "yellow", "set-user-id", "chmod u+s");
    }

    #[test]
    fn a_user_without_a_session_is_told() {
        let mut machine = MadeUp { uid: 1000, ..MadeUp::new() }.machine();
        machine.caller = Caller { runtime_dir: None, ..machine.caller };
        let found = check(&machine);
        expect(&found, "XDG_RUNTIME_DIR", "yellow", "not set", "export");
        expect(&found, "delegated controllers", "yellow", "no cgroup v2", "unified");
    }

    #[test]
    fn root_is_told_what_is_for_everybody() {
        let found = check(&MadeUp::new().machine());
        expect(&found, "subuid", "yellow", "nobody has a range", "usermod");
        assert!(found.iter().all(|one| one.check != "XDG_RUNTIME_DIR"));
    }
}
