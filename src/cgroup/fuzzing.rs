//! The kernel's lists of cgroups and mounts, and what its counters look like.

use std::path::Path;

use super::locate::{Wanted, locate_v1, locate_v2};
use super::stats;
use crate::fuzzing::{Target, text};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "cgroup_place", run: place },
    Target { name: "cgroup_counters", run: stats::fuzzing::counters },
];

/// A `cgroupsPath`, an empty line, `/proc/self/cgroup`, an empty line, mountinfo.
fn place(data: &[u8]) {
    let mut parts = text(data).splitn(3, "\n\n");
    let [path, own, mounts] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let Ok(wanted) = Wanted::parse(Some(Path::new(path)), "id") else { return };
    for found in [locate_v1(&wanted, mounts, own), locate_v2(Path::new("/c"), &wanted, own)] {
        let Ok(cgroup) = found else { continue };
        for hierarchy in &cgroup.hierarchies {
            let inside = &hierarchy.path;
            let is_plain =
                |c: std::path::Component<'_>| matches!(c, std::path::Component::Normal(_));
            assert!(inside.components().all(is_plain), "{inside:?} leads elsewhere");
            assert_ne!(inside.as_os_str(), "", "a container in the root of a hierarchy");
            assert!(hierarchy.dir().starts_with(&hierarchy.mount));
        }
        let _ = cgroup.mounts_for_container();
    }
}
