//! What the policy leaves of plans, on made-up machines.

use super::testing::Machine;
use crate::gpu::plan::Plan;
use crate::gpu::request::Request;
use crate::gpu::resolve;

#[test]
fn managing_gpus_is_for_the_privileged_whichever_way_it_is_asked_for() {
    const NAME: &str = "management.nvidia.com/gpu=all";
    let machine = Machine::new();
    // Whether the machine has no node to manage is asked only where it counts.
    let counts = |lines: &str, by: &str, namespace: &str, bounding: &[&str], file: bool| {
        let mut annotations = serde_json::json!({
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-namespace": namespace,
        });
        let (mut env, mut mounts) = (vec![], vec![]);
        match by {
            "annotation" => annotations["cdi.k8s.io/x"] = NAME.into(),
            "variable" => env.push(format!("NVIDIA_VISIBLE_DEVICES={NAME}")),
            _ => mounts.push(serde_json::json!({
                "source": "/dev/null",
                "destination": "/var/run/nvidia-container-devices/cdi/management.nvidia.com/gpu/all"
            })),
        }
        let spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "annotations": annotations,
            "mounts": mounts,
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": env,
                        "capabilities": {"bounding": bounding}}
        }))
        .unwrap();
        let directories = if file { vec![machine.files.path().join("cdi")] } else { vec![] };
        let settings = machine.settings(&format!(
            "accept-nvidia-visible-devices-as-volume-mounts = true\n{lines}\n\
             [cdi]\nspec-dirs = {directories:?}"
        ));
        let request = Request::read(&spec, Some(&settings)).unwrap();
        match resolve(&request, vec![], &spec, &settings, &machine.host()) {
            Ok(plan) if plan.env.is_empty() => {
                assert!(plan.notes.join("\n").contains("kubernetes-trusted-namespaces"));
                false
            }
            Ok(_) => true,
            Err(error) => error.to_string().contains("has no device node of the NVIDIA driver"),
        }
    };
    machine.files.write(
        "cdi/management.json",
        r#"{"cdiVersion": "0.6.0", "kind": "management.nvidia.com/gpu",
            "devices": [{"name": "all", "containerEdits": {"env": ["FROM_FILE=1"]}}]}"#,
    );
    for by in ["annotation", "variable", "mount"] {
        for file in [false, true] {
            assert!(!counts("", by, "web", &[], file), "{by} {file}");
            assert!(counts("", by, "gpu-operator", &[], file), "{by} {file}");
            assert!(counts("", by, "web", &["CAP_SYS_ADMIN"], file), "{by} {file}");
            let mine = "kubernetes-trusted-namespaces = [\"web\"]";
            assert!(counts(mine, by, "web", &[], file), "{by} {file}");
        }
    }
}

#[test]
fn where_variables_do_not_count_they_add_nothing_to_gpus_of_mounts() {
    let machine = Machine::new();
    let nodes = [("gdrdrv", 240), ("nvidia-nvswitchctl", 504), ("infiniband/uverbs0", 231)];
    for (path, major) in nodes {
        if !machine.files.node(&format!("dev/{path}"), major, 0, 0o600) {
            println!("skipped: mknod is not allowed here");
            return;
        }
    }
    let plan = |accept: bool, bounding: &[&str]| {
        let spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "mounts": [{"source": "/dev/null",
                        "destination": "/var/run/nvidia-container-devices/0"}],
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
                        "env": ["NVIDIA_GDRCOPY=enabled", "NVIDIA_NVSWITCH=enabled",
                                "NVIDIA_MOFED=enabled"],
                        "capabilities": {"bounding": bounding}}
        }))
        .unwrap();
        let settings = machine.settings(&format!(
            "accept-nvidia-visible-devices-as-volume-mounts = true\n\
             accept-nvidia-visible-devices-envvar-when-unprivileged = {accept}"
        ));
        let request = Request::read(&spec, Some(&settings)).unwrap();
        resolve(&request, vec![], &spec, &settings, &machine.host()).unwrap()
    };
    let has = |plan: &Plan| {
        assert_eq!(plan.grants.len(), 1);
        let given = |path: &str| {
            plan.devices
                .iter()
                .any(|node| node.destination == std::path::Path::new("/dev").join(path))
        };
        nodes.map(|(path, _)| given(path))
    };
    assert_eq!(has(&plan(true, &[])), [true; 3]);
    assert_eq!(has(&plan(false, &["CAP_SYS_ADMIN"])), [true; 3]);
    let strict = plan(false, &[]);
    assert_eq!(has(&strict), [false; 3]);
    assert!(strict.notes.join("\n").contains("NVIDIA_GDRCOPY=enabled: ignored"));
}
