//! SELinux and AppArmor.

use std::path::Path;

use super::Machine;
use crate::finding::Finding;

/// The type that lets a runtime start containers in their own domain.
const RUNTIME_TYPE: &str = "container_runtime_exec_t";

/// What lets containers use nodes that keep the host's label: those bound in user namespaces.
const DEVICES: &str = "container_use_devices";

/// Looks at the machine's security modules.
#[must_use]
pub fn check(machine: &Machine) -> Vec<Finding> {
    let binary = std::env::current_exe().unwrap_or_else(|_| "gpurun".into());
    let mut label = vec![0; 256];
    let label = rustix::fs::getxattr(&binary, "security.selinux", &mut label[..])
        .ok()
        .map(|length| String::from_utf8_lossy(&label[..length]).into_owned());
    judge(machine, &binary, label.as_deref().unwrap_or_default())
}

fn judge(machine: &Machine, binary: &Path, label: &str) -> Vec<Finding> {
    let first = |path: &str| {
        let text = machine.root.read_text(format!("sys/{path}"), 64).ok().flatten()?;
        Some(text.trim().chars().next().unwrap_or_default())
    };
    let mut findings = Vec::new();
    match first("fs/selinux/enforce") {
        None => findings.push(Finding::green("SELinux", "not used")),
        Some('1') => {
            findings.push(Finding::green("SELinux", "enforcing"));
            findings.extend(selinux(machine, binary, label));
        }
        Some(_) => findings.push(Finding::green("SELinux", "permissive: it only logs")),
    }
    findings.push(match first("module/apparmor/parameters/enabled") {
        Some('Y') => Finding::green("AppArmor", "on"),
        _ => Finding::green("AppArmor", "not used"),
    });
    findings
}

fn selinux(machine: &Machine, binary: &Path, label: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !label.contains(RUNTIME_TYPE) {
        let binary = binary.display();
        findings.push(Finding::yellow(
            "label of gpurun",
            format!("{binary} is not {RUNTIME_TYPE}: containers may run in the engine's domain"),
            format!(
                "semanage fcontext -a -t {RUNTIME_TYPE} {binary} && restorecon {binary} (package \
                 container-selinux)"
            ),
        ));
    }
    let boolean = machine.root.read_text(format!("sys/fs/selinux/booleans/{DEVICES}"), 64);
    let is_off = matches!(boolean, Ok(Some(text)) if text.starts_with('0'));
    if is_off {
        findings.push(Finding::yellow(
            DEVICES,
            "off: containers in user namespaces, where devices are the host's bound nodes, are \
             refused GPUs; root's other containers get nodes with the container's label",
            format!("setsebool -P {DEVICES} on, if there are such containers"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::doctor::testing::{MadeUp, all_green, expect};

    const LABEL: &str = "system_u:object_r:container_runtime_exec_t:s0";

    #[test]
    fn a_machine_without_security_modules_is_green() {
        all_green(&judge(&MadeUp::new().machine(), Path::new("/usr/bin/gpurun"), ""));
    }

    #[test]
    fn an_enforcing_selinux_wants_a_label_and_a_boolean() {
        let made_up = MadeUp::new();
        let binary = Path::new("/usr/bin/gpurun");
        made_up.files.write("root/sys/fs/selinux/enforce", "1");
        made_up.files.write("root/sys/fs/selinux/booleans/container_use_devices", "0 0");
        let found = judge(&made_up.machine(), binary, "system_u:object_r:bin_t:s0");
        expect(&found, "label of gpurun", "yellow", "/usr/bin/gpurun", "restorecon");
        expect(&found, DEVICES, "yellow", "off", "setsebool");
        made_up.files.write("root/sys/fs/selinux/booleans/container_use_devices", "1 1");
        let found = judge(&made_up.machine(), binary, LABEL);
        all_green(&found);
        expect(&found, "SELinux", "green", "enforcing", "");
        made_up.files.write("root/sys/fs/selinux/enforce", "0");
        all_green(&judge(&made_up.machine(), binary, ""));
    }

    #[test]
    fn apparmor_is_named() {
        let made_up = MadeUp::new();
        made_up.files.write("root/sys/module/apparmor/parameters/enabled", "Y\n");
        let found = judge(&made_up.machine(), Path::new("/usr/bin/gpurun"), "");
        expect(&found, "AppArmor", "green", "on", "");
    }
}
