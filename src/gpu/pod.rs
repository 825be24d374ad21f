//! Containers of Kubernetes, told by the annotations of the engines that serve it.
//!
//! containerd writes `io.kubernetes.cri.container-type` and `…sandbox-namespace`; CRI-O
//! `io.kubernetes.cri-o.ContainerType`, and the kubelet's label `io.kubernetes.pod.namespace` as an
//! annotation after those that a pod's author can choose. Podman marks the containers of its own
//! pods with CRI-O's type as well; they belong to no namespace and are nobody's but their user's.

use super::request::Asked;

const CONTAINERD_TYPE: &str = "io.kubernetes.cri.container-type";
const CONTAINERD_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
const CRIO_TYPE: &str = "io.kubernetes.cri-o.ContainerType";
const CRIO_NAMESPACES: [&str; 2] = ["io.kubernetes.pod.namespace", "io.kubernetes.cri-o.Namespace"];
const MANAGER: &str = "io.container.manager";

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
        let (kind, namespace) = match (get(CRIO_TYPE), get(CONTAINERD_TYPE)) {
            (Some(kind), _) => {
                let namespace = CRIO_NAMESPACES.into_iter().find_map(get);
                let is_podmans = get(MANAGER).is_none_or(|manager| manager != "cri-o");
                if namespace.is_none() && is_podmans {
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
