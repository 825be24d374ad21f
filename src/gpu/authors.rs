//! Who may have written the annotations of a container.
//!
//! Docker takes annotations from whoever starts a container, and containerd hands on those that
//! its administrator lists. Two engines hand on more: podman copies the annotations of the image's
//! manifest, CRI-O those of the pod. Both resolve CDI names themselves, so nothing is lost where
//! such annotations do not count.

use std::collections::HashMap;

/// Podman's and CRI-O's name for themselves.
pub const MANAGER: &str = "io.container.manager";

/// How other annotations of CRI-O begin, some of which podman sets too.
const CRIO: &str = "io.kubernetes.cri-o.";

/// Whether an image or the author of a pod may have written some of these annotations. That a mark
/// of such an engine is there counts, not what it says: podman leaves the value that an image has
/// for it, but nobody can take it away.
pub fn are_anyones<'a>(mut keys: impl Iterator<Item = &'a str>) -> bool {
    keys.any(|key| key == MANAGER || key.starts_with(CRIO))
}

/// [`are_anyones`] for a whole map, in which one annotation is looked up. `None`: it is not there,
/// or does not count.
#[must_use]
pub fn trusted<'a>(annotations: &'a HashMap<String, String>, key: &str) -> Option<&'a String> {
    let value = annotations.get(key)?;
    (!are_anyones(annotations.keys().map(String::as_str))).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_podman_and_crio_count_whatever_they_say() {
        for (keys, expected) in [
            (&[][..], false),
            (&["cdi.k8s.io/x", "org.criu.config"], false),
            (&["io.kubernetes.cri.container-type", "io.kubernetes.pod.namespace"], false),
            (&["cdi.k8s.io/x", "io.container.manager"], true),
            (&["io.kubernetes.cri-o.ContainerType"], true),
            (&["io.kubernetes.cri-o.Created"], true),
        ] {
            assert_eq!(are_anyones(keys.iter().copied()), expected, "{keys:?}");
        }
    }

    #[test]
    fn an_annotation_counts_where_only_the_manager_of_the_machine_can_write_it() {
        let file = || ("org.criu.config".to_owned(), "/etc/c".to_owned());
        let mut annotations = HashMap::from([file()]);
        assert_eq!(trusted(&annotations, "org.criu.config"), Some(&file().1));
        assert_eq!(trusted(&annotations, "org.criu"), None);
        annotations.insert(MANAGER.to_owned(), "anything".to_owned());
        assert_eq!(trusted(&annotations, "org.criu.config"), None);
    }
}
