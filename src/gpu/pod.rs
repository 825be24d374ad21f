//! Containers of Kubernetes, told by the annotations of the engines that serve it.
//!
//! containerd writes `io.kubernetes.cri.container-type` and `…sandbox-namespace`; CRI-O
//! `io.kubernetes.cri-o.ContainerType`, and the kubelet's label `io.kubernetes.pod.namespace` as an
//! annotation after those that a pod's author can choose. Podman marks the containers of its own
//! pods with CRI-O's type as well; they belong to no namespace and are nobody's but their user's. An
//! image can have podman write any of these annotations, podman's own name included; the name of
//! the cgroup and podman's mounts it cannot choose.

use std::ffi::OsStr;
use std::path::Path;

use super::authors::MANAGER;
use super::request::Asked;

const CONTAINERD_TYPE: &str = "io.kubernetes.cri.container-type";
const CONTAINERD_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
const CRIO_TYPE: &str = "io.kubernetes.cri-o.ContainerType";
const CRIO_NAMESPACES: [&str; 2] = ["io.kubernetes.pod.namespace", "io.kubernetes.cri-o.Namespace"];

/// How all of them call the container that only holds a pod's namespaces.
const SANDBOX: &str = "sandbox";

/// The pod that a container belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Whether this is the container that only holds the pod's namespaces.
    pub is_sandbox: bool,
    /// The pod's namespace in Kubernetes; `None` where the engine does not say.
    pub namespace: Option<String>,
}

impl Pod {
    /// The pod of a container; `None`: it belongs to none of Kubernetes.
    #[must_use]
    pub fn of(asked: &Asked<'_>) -> Option<Self> {
        let get = |key: &str| {
            let value = asked.annotations().find(|(known, _)| *known == key);
            value.map(|(_, value)| value).filter(|value| !value.is_empty())
        };
        if get(MANAGER) == Some("libpod") || is_podmans(asked) {
            return None;
        }
        let (kind, namespace) = match (get(CRIO_TYPE), get(CONTAINERD_TYPE)) {
            (Some(kind), _) => {
                let namespace = CRIO_NAMESPACES.into_iter().find_map(get);
                if namespace.is_none() && get(MANAGER) != Some("cri-o") {
                    return None;
                }
                (kind, namespace)
            }
            (None, Some(kind)) => (kind, get(CONTAINERD_NAMESPACE)),
            (None, None) => return None,
        };
        Some(Self { is_sandbox: kind == SANDBOX, namespace: namespace.map(str::to_owned) })
    }
}

/// Whether the cgroup has a name that podman gives, `libpod-ID`, with systemd `SLICE:libpod:ID`; or,
/// as an ordinary user's containers may have none, whether podman's file about the container is
/// mounted.
fn is_podmans(asked: &Asked<'_>) -> bool {
    let cgroup = asked.cgroup().and_then(Path::file_name).and_then(OsStr::to_str);
    let has_its_name =
        |name: &str| name.starts_with("libpod-") || name.split(':').nth(1) == Some("libpod");
    let is_its_file = |(source, destination): (&Path, &Path)| {
        source.ends_with(".containerenv") && destination == Path::new("/run/.containerenv")
    };
    cgroup.is_some_and(has_its_name) || asked.mounts().any(is_its_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Spec;

    fn pod(annotations: &[(&str, &str)]) -> Option<(bool, Option<String>)> {
        let map: serde_json::Map<_, _> =
            annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let spec: Spec =
            serde_json::from_value(serde_json::json!({"ociVersion": "1.0.2", "annotations": map}))
                .unwrap();
        Pod::of(&Asked::of(&spec)).map(|pod| (pod.is_sandbox, pod.namespace))
    }

    #[test]
    fn an_image_that_podman_runs_is_in_no_namespace_whatever_it_says() {
        let forged = serde_json::json!({
            MANAGER: "cri-o",
            CRIO_TYPE: "container",
            "io.kubernetes.pod.namespace": "kube-system",
            CONTAINERD_TYPE: "container",
            CONTAINERD_NAMESPACE: "kube-system",
        });
        let file = "/run/containers/storage/overlay-containers/6f1d/userdata/.containerenv";
        for (cgroup, source, expected) in [
            ("", file, false),
            ("/kubepods/pod1/6f1d", "/var/lib/kubelet/pods/1/etc-hosts", true),
            ("/libpod_parent/libpod-6f1d", "", false),
            ("machine.slice:libpod:6f1d", "", false),
            ("kubepods-besteffort-pod1.slice:crio:6f1d", "", true),
            ("/kubepods/besteffort/pod1/crio-6f1d", "", true),
            ("/kubepods/pod1/6f1d", "", true),
        ] {
            let spec: Spec = serde_json::from_value(serde_json::json!({
                "ociVersion": "1.0.2",
                "annotations": forged,
                "mounts": [{"source": source, "destination": "/run/.containerenv"}],
                "linux": {"cgroupsPath": cgroup}
            }))
            .unwrap();
            assert_eq!(Pod::of(&Asked::of(&spec)).is_some(), expected, "{cgroup} {source}");
        }
    }

    #[test]
    fn each_engine_is_understood_and_podman_is_no_kubernetes() {
        let web = || Some("web".to_owned());
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<(bool, Option<String>)>);
        let table: &[Case<'_>] = &[
            (&[], None),
            (&[("io.kubernetes.pod.namespace", "web")], None),
            (
                &[(CONTAINERD_TYPE, "container"), (CONTAINERD_NAMESPACE, "web")],
                Some((false, web())),
            ),
            (&[(CONTAINERD_TYPE, "sandbox"), (CONTAINERD_NAMESPACE, "web")], Some((true, web()))),
            // containerd before 1.5.
            (&[(CONTAINERD_TYPE, "container")], Some((false, None))),
            (
                &[(CRIO_TYPE, "container"), ("io.kubernetes.pod.namespace", "web")],
                Some((false, web())),
            ),
            (
                &[(CRIO_TYPE, "sandbox"), ("io.kubernetes.cri-o.Namespace", "web")],
                Some((true, web())),
            ),
            (&[(CRIO_TYPE, "container"), (MANAGER, "cri-o")], Some((false, None))),
            // A pod's author can choose annotations that are not the engine's own.
            (
                &[
                    (CRIO_TYPE, "container"),
                    ("io.kubernetes.pod.namespace", "web"),
                    (CONTAINERD_TYPE, "container"),
                    (CONTAINERD_NAMESPACE, "kube-system"),
                ],
                Some((false, web())),
            ),
            (&[(CRIO_TYPE, "container"), (MANAGER, "libpod")], None),
            (&[(CRIO_TYPE, "sandbox")], None),
            (&[(CONTAINERD_TYPE, "")], None),
        ];
        for (annotations, expected) in table {
            assert_eq!(pod(annotations), *expected, "{annotations:?}");
        }
    }
}
