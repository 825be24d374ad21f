//! Devices beside the GPUs that a container gets only when a variable says `enabled`.

use rustix::fs::FileType;

use super::config::Config;
use super::error::Error;
use super::wish::NvidiaWish;
use crate::gpu::nodes;
use crate::gpu::plan::{FileKind, FileMount, Place, Plan};
use crate::gpu::request::Asked;
use crate::host::{Host, Tree};

/// One such set of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// The variable.
    pub variable: &'static str,
    /// Directory below `/dev`, and how the names of the nodes begin; a whole name without a star.
    nodes: &'static [(&'static str, &'static str)],
    /// Files of the driver root that are given as well where there is a node.
    files: &'static [&'static str],
}

const FEATURES: [Feature; 4] = [
    Feature {
        variable: "NVIDIA_GDS",
        nodes: &[("", "nvidia-fs*")],
        files: &["run/udev", "etc/cufile.json"],
    },
    Feature {
        variable: "NVIDIA_MOFED",
        nodes: &[("infiniband", "uverbs*"), ("infiniband", "rdma_cm")],
        files: &[],
    },
    Feature { variable: "NVIDIA_GDRCOPY", nodes: &[("", "gdrdrv")], files: &[] },
    Feature {
        variable: "NVIDIA_NVSWITCH",
        nodes: &[("", "nvidia-nvswitchctl"), ("", "nvidia-nvswitch*")],
        files: &[],
    },
];

/// The features that a container asks for: `enabled` and no other word.
pub fn read(asked: &Asked<'_>) -> Vec<Feature> {
    let is_enabled = |feature: &Feature| asked.variable(feature.variable) == Some("enabled");
    FEATURES.into_iter().filter(is_enabled).collect()
}

/// The features that count: none where variables do not, as for a container that got its GPUs by
/// mounts.
pub fn counted(wish: &NvidiaWish, config: &Config, plan: &mut Plan) -> Vec<Feature> {
    let features = &wish.besides.features;
    let Some(reason) = config.variables.distrust(&wish.standing) else {
        return features.clone();
    };
    plan.notes.extend(features.iter().map(|one| format!("{}=enabled: {reason}", one.variable)));
    Vec::new()
}

/// Adds what the machine has of a feature, and a note when that is nothing. `root` is the driver's.
pub fn add(host: &Host, root: &Tree, feature: Feature, plan: &mut Plan) -> Result<(), Error> {
    let mut is_empty = true;
    for (directory, pattern) in feature.nodes {
        let listed = if directory.is_empty() { "." } else { directory };
        for name in host.dev.names(listed)?.into_iter().filter(|name| matches(name, pattern)) {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let why = format!("{}=enabled", feature.variable);
            if let Some(node) = nodes::of_host(host, &path, why)? {
                is_empty = false;
                nodes::add(node, plan);
            }
        }
    }
    if is_empty {
        plan.notes.push(format!(
            "{}=enabled: {} has no such device",
            feature.variable,
            host.dev.path().display()
        ));
        return Ok(());
    }
    for path in feature.files {
        let Some(found) = root.find(path)? else {
            continue;
        };
        if matches!(found.status.kind, FileType::RegularFile | FileType::Directory) {
            plan.files.push(FileMount {
                source: found.path,
                destination: Place::Path(std::path::Path::new("/").join(path)),
                kind: FileKind::Data,
                why: format!("{}=enabled", feature.variable),
            });
        }
    }
    Ok(())
}

fn matches(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}
