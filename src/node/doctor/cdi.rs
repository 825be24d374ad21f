//! CDI files that cannot be used, or that name what is gone since they were made.

use std::path::Path;

use rustix::fs::FileType;

use super::Machine;
use crate::finding::Finding;
use crate::gpu::cdi::registry::File;
use crate::gpu::cdi::spec::{CdiDeviceNode, ContainerEdits};
use crate::gpu::cdi::{Config, Registry, edits};
use crate::gpu::vendor::VENDORS;

/// How many things of one file are named.
const SHOWN: usize = 3;

/// Looks at every file of the configured directories.
#[must_use]
pub fn check(machine: &Machine) -> Vec<Finding> {
    let registry = Config::read(&machine.settings)
        .map_err(|error| error.to_string())
        .and_then(|config| Registry::read(&config.dirs).map_err(|error| error.to_string()));
    let registry = match registry {
        Ok(registry) => registry,
        Err(error) => {
            return vec![Finding::error(
                "directories",
                &error,
                "correct spec-dirs in the [cdi] table of the configuration file",
            )];
        }
    };
    let mut findings: Vec<_> = registry
        .problems()
        .iter()
        .map(|problem| {
            Finding::yellow(
                "file",
                format!("{}: {}", problem.path.display(), problem.reason),
                "correct or remove it, or generate it again",
            )
        })
        .collect();
    findings.extend(registry.files().filter_map(|file| stale(machine, file)));
    let count = registry.names().count();
    if findings.is_empty() && count > 0 {
        findings.push(Finding::green("files", format!("{count} devices, nothing of them gone")));
    }
    findings
}

fn stale(machine: &Machine, file: &File) -> Option<Finding> {
    let mut gone = Vec::new();
    let all = std::iter::once(&file.spec.container_edits)
        .chain(file.spec.devices.iter().map(|device| &device.container_edits));
    for edits in all {
        for reason in missing(machine, edits) {
            if !gone.contains(&reason) {
                gone.push(reason);
            }
        }
    }
    let more = gone.len().saturating_sub(SHOWN);
    let mut shown: Vec<_> = gone.iter().take(SHOWN).cloned().collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    let found = format!("{}: {}", file.path.display(), shown.join(", "));
    let kind = &file.spec.kind;
    let native = VENDORS.iter().any(|vendor| vendor.kinds().contains(&kind.as_str()));
    (!gone.is_empty()).then(|| match native {
        true => Finding::yellow(
            "stale file",
            found,
            format!(
                "remove it (gpurun takes {kind} from the machine itself) or, for other runtimes, \
                 generate it again"
            ),
        ),
        false => Finding::red("stale file", found, "generate it again with the vendor's tool"),
    })
}

fn missing(machine: &Machine, edits: &ContainerEdits) -> Vec<String> {
    let sources = edits::sources(edits)
        .filter(|path| !path.exists())
        .map(|path| format!("{} is gone", path.display()));
    let nodes = edits.device_nodes.iter().filter_map(|node| changed(machine, node));
    sources.chain(nodes).collect()
}

/// What is wrong with a node that a file describes.
fn changed(machine: &Machine, node: &CdiDeviceNode) -> Option<String> {
    let path = if node.host_path.is_empty() { &node.path } else { &node.host_path };
    // Elsewhere than in /dev, nodes are made by whoever wrote the file.
    let below = Path::new(path).strip_prefix("/dev").ok()?;
    let is_described = !node.r#type.is_empty() && node.major != 0;
    let Some(status) = machine.host.dev.link_status(below).ok()? else {
        return (!is_described).then(|| format!("{path} is gone"));
    };
    let is_node = matches!(status.kind, FileType::CharacterDevice | FileType::BlockDevice);
    if !is_node {
        return Some(format!("{path} is no device"));
    }
    let now = (i64::from(status.major), i64::from(status.minor));
    (is_described && now != (node.major, node.minor))
        .then(|| format!("{path} is {}:{} now, not {}:{}", now.0, now.1, node.major, node.minor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::doctor::testing::{MadeUp, all_green, expect};

    /// A machine with one CDI file of this kind: a mount of `root/lib` and the node `/dev/n`.
    fn machine(kind: &str, major: u32) -> MadeUp {
        let mut made_up = MadeUp::new();
        let at = |name: &str| made_up.files.path().join(name);
        let (dir, library) = (at("cdi"), at("root/lib/libx.so.1"));
        made_up.files.write("root/lib/libx.so.1", "");
        let file = serde_json::json!({
            "cdiVersion": "0.6.0",
            "kind": kind,
            "devices": [{"name": "0", "containerEdits": {
                "deviceNodes": [{"path": "/dev/n", "type": "c", "major": major, "minor": 7}],
                "mounts": [{"hostPath": library, "containerPath": "/lib/libx.so.1",
                            "options": ["bind", "ro"]}],
            }}],
        });
        made_up.files.write("cdi/a.json", file.to_string());
        made_up.config = format!("[cdi]\nspec-dirs = [{:?}]\n", dir.to_str().unwrap());
        made_up
    }

    #[test]
    fn a_file_of_things_that_are_there_is_green() {
        let made_up = machine("v.com/c", 200);
        let found = check(&made_up.machine());
        all_green(&found);
        expect(&found, "files", "green", "1 devices", "");
        assert!(check(&MadeUp::new().machine()).iter().all(|one| one.found.contains("/cdi")));
    }

    #[test]
    fn files_that_vanished_make_a_file_stale_unless_gpurun_needs_none() {
        for (kind, word, remedy) in [
            ("v.com/c", "red", "generate it again"),
            (VENDORS[0].kinds()[0], "yellow", "remove it"),
        ] {
            let made_up = machine(kind, 200);
            std::fs::remove_dir_all(made_up.files.path().join("root/lib")).unwrap();
            let found = check(&made_up.machine());
            expect(&found, "stale file", word, "libx.so.1 is gone", remedy);
        }
    }

    #[test]
    fn numbers_that_changed_make_a_file_stale() {
        let made_up = machine("v.com/c", 200);
        if !made_up.files.node("dev/n", 201, 7, 0o666) {
            println!("skipped: no right to make device nodes");
            return;
        }
        let found = check(&made_up.machine());
        expect(&found, "stale file", "red", "is 201:7 now, not 200:7", "generate");
        std::fs::remove_file(made_up.files.path().join("dev/n")).unwrap();
        made_up.files.node("dev/n", 200, 7, 0o666);
        all_green(&check(&made_up.machine()));
    }

    #[test]
    fn a_file_that_is_no_cdi_file_is_named() {
        let made_up = machine("v.com/c", 200);
        made_up.files.write("cdi/b.yaml", "kind: [");
        expect(&check(&made_up.machine()), "file", "yellow", "b.yaml", "correct or remove");
    }
}
