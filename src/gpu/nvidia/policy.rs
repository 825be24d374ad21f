//! Which wishes are turned down, though they can be met.
//!
//! NVIDIA's CUDA images ask for `all`, so the terms on which variables count
//! ([`crate::gpu::variables`]) matter most here. Managing GPUs gives the right to divide them, and
//! is for few, however it is asked for.

use super::config::{Config, SECTION};
use super::management;
use super::wish::NvidiaWish;
use crate::gpu::request::Selection;
use crate::gpu::variables::{NAMESPACES_KEY, Origin};

/// NVIDIA's terms. The namespaces are where the charts and manifests of NVIDIA's own pods, which
/// rely on the `all` of their images, install them.
pub static ORIGIN: Origin = Origin {
    table: SECTION,
    unprivileged_key: "accept-nvidia-visible-devices-envvar-when-unprivileged",
    namespaces: &[
        "kube-system",
        "gpu-operator",
        "gpu-operator-resources",
        "nvidia-gpu-operator",
        "nvidia-device-plugin",
        "nvidia-dra-driver-gpu",
    ],
    instead: "a pod gets GPUs by requesting nvidia.com/gpu",
};

/// Why a wish does not count, for the log. `None`: it does.
pub fn refusal(wish: &NvidiaWish, config: &Config) -> Option<String> {
    let is_all = asks_for_all(&wish.devices);
    let refusal = || config.variables.refusal(&wish.source, &wish.standing, is_all);
    wish.from_variables.then(refusal).flatten()
}

/// Why a wish to manage GPUs does not count, wherever it was found. `None`: it does.
pub fn management_refusal(wish: &NvidiaWish, config: &Config) -> Option<String> {
    (!config.variables.trust(&wish.standing)).then(|| {
        format!(
            "{}: ignored, because managing GPUs is for privileged containers and, in Kubernetes, \
             for the namespaces of {NAMESPACES_KEY} of [{SECTION}]",
            management::KIND
        )
    })
}

/// Whether the devices are all of the machine, also as a CDI name.
fn asks_for_all(devices: &Selection) -> bool {
    match devices {
        Selection::All => true,
        Selection::None => false,
        Selection::Ids(ids) => ids.iter().any(|id| id.ends_with("=all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::nvidia::testing::Machine;
    use crate::gpu::request::Asked;
    use oci_spec::runtime::Spec;

    const PLAIN: &[(&str, &str)] = &[];
    const SANDBOX: &[(&str, &str)] = &[
        ("io.kubernetes.cri.container-type", "sandbox"),
        ("io.kubernetes.cri.sandbox-namespace", "kube-system"),
    ];

    fn in_namespace(name: &'static str) -> [(&'static str, &'static str); 2] {
        [
            ("io.kubernetes.cri.container-type", "container"),
            ("io.kubernetes.cri.sandbox-namespace", name),
        ]
    }

    fn refused(
        lines: &str,
        annotations: &[(&str, &str)],
        env: &[&str],
        bounding: &[&str],
    ) -> Option<String> {
        let machine = Machine::new();
        let map: serde_json::Map<_, _> =
            annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "annotations": map,
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env,
                        "capabilities": {"bounding": bounding}}
        }))
        .unwrap();
        let config = Config::read(&machine.settings(lines)).unwrap();
        let wish = NvidiaWish::read(&Asked::of(&spec), Some(&config)).unwrap().unwrap();
        let names = wish.qualified_names().unwrap_or_default();
        let manages = names.iter().any(|name| name.kind == management::KIND);
        let managing = || manages.then(|| management_refusal(&wish, &config)).flatten();
        refusal(&wish, &config).or_else(managing)
    }

    #[test]
    fn all_does_not_count_for_an_ordinary_pod_and_everything_else_does() {
        const UUID: &str = "NVIDIA_VISIBLE_DEVICES=GPU-00000002-0000-0000-0000-000000000000,MIG-x";
        let all = "NVIDIA_VISIBLE_DEVICES=all";
        let manage = "NVIDIA_VISIBLE_DEVICES=management.nvidia.com/gpu=all";
        let legacy = "CUDA_VERSION=8.0";
        let web = &in_namespace("web")[..];
        let plugin = &in_namespace("nvidia-device-plugin")[..];
        let unknown = &web[..1];
        let open = "kubernetes-trusted-namespaces = [\"*\"]";
        let mine = "kubernetes-trusted-namespaces = [\"web\"]";
        let admin: &[&str] = &["CAP_SYS_ADMIN"];
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a [&'a str], bool);
        let table: &[Case<'_>] = &[
            ("", PLAIN, all, &[], false),
            ("", web, all, &[], true),
            ("", web, legacy, &[], true),
            ("", web, "NVIDIA_VISIBLE_DEVICES=0,all", &[], true),
            ("", web, "NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=all", &[], true),
            ("", web, "NVIDIA_VISIBLE_DEVICES=runtime.nvidia.com/gpu=all", &[], true),
            ("", web, UUID, &[], false),
            ("", web, "NVIDIA_VISIBLE_DEVICES=0,1", &[], false),
            ("", web, "NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0", &[], false),
            ("", web, "NVIDIA_VISIBLE_DEVICES=none", &[], false),
            ("", web, all, admin, false),
            ("", plugin, all, &[], false),
            ("", &in_namespace("kube-system"), legacy, &[], false),
            ("", unknown, all, &[], true),
            ("", PLAIN, manage, &[], true),
            ("", web, manage, &[], true),
            (open, PLAIN, manage, &[], true),
            ("", PLAIN, manage, admin, false),
            ("", plugin, manage, &[], false),
            (open, web, manage, &[], false),
            (open, web, all, &[], false),
            (open, unknown, all, &[], false),
            (mine, web, all, &[], false),
            (mine, plugin, all, &[], true),
            ("kubernetes-trusted-namespaces = []", plugin, all, &[], true),
            // Whoever it belongs to, the sandbox runs nothing.
            ("", SANDBOX, all, &[], true),
            (open, SANDBOX, UUID, admin, true),
        ];
        for (lines, annotations, env, bounding, expected) in table {
            let reason = refused(lines, annotations, &[env], bounding);
            assert_eq!(reason.is_some(), *expected, "{lines} {annotations:?} {env} {reason:?}");
        }
    }

    #[test]
    fn the_log_names_the_variable_the_namespace_and_the_key() {
        let reason =
            refused("", &in_namespace("web"), &["NVIDIA_VISIBLE_DEVICES=all"], &[]).unwrap();
        for part in ["NVIDIA_VISIBLE_DEVICES=all", "\"web\"", NAMESPACES_KEY, "nvidia.com/gpu"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
    }

    #[test]
    fn mounts_count_whatever_the_namespace() {
        let machine = Machine::new();
        let mut spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "mounts": [{"source": "/dev/null",
                        "destination": "/var/run/nvidia-container-devices/all"}]
        }))
        .unwrap();
        let annotations = in_namespace("web").map(|(k, v)| (k.to_owned(), v.to_owned()));
        spec.set_annotations(Some(annotations.into_iter().collect()));
        let lines = "accept-nvidia-visible-devices-as-volume-mounts = true";
        let config = Config::read(&machine.settings(lines)).unwrap();
        let wish = NvidiaWish::read(&Asked::of(&spec), Some(&config)).unwrap().unwrap();
        assert_eq!(refusal(&wish, &config), None);
    }
}
