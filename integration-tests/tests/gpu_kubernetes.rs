//! Pods: a container whose engine says that it belongs to one gets no GPU for a variable that its
//! image has. containerd's and CRI-O's annotations are set by hand here.

use std::fs;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::{Runtime, Value, gpurun_only, json};
use tempfile::TempDir;

fn one_gpu(lines: &str) -> (MadeUpHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(1)).expect("a machine");
    let text = fs::read_to_string(host.config()).expect("read the configuration");
    fs::write(host.config(), format!("{text}{lines}\n")).expect("write the configuration");
    (host, directory)
}

fn containerd(kind: &str, namespace: &str) -> Value {
    json!({
        "io.kubernetes.cri.container-name": "main",
        "io.kubernetes.cri.container-type": kind,
        "io.kubernetes.cri.image-name": "docker.io/nvidia/cuda:12.4.1-base",
        "io.kubernetes.cri.sandbox-namespace": namespace,
    })
}

fn crio(kind: &str, namespace: &str) -> Value {
    json!({
        "io.container.manager": "cri-o",
        "io.kubernetes.cri-o.ContainerType": kind,
        "io.kubernetes.pod.namespace": namespace,
    })
}

#[test]
fn a_pod_gets_no_gpu_for_the_all_of_its_image() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = one_gpu("");
    let uuid = format!("NVIDIA_VISIBLE_DEVICES={}", host.gpus[0].uuid);
    let all = "NVIDIA_VISIBLE_DEVICES=all";
    type Mark = fn(&str, &str) -> Value;
    for mark in [containerd as Mark, crio] {
        for (variable, kind, namespace, has_gpu) in [
            (all, "container", "web", false),
            (uuid.as_str(), "container", "web", true),
            ("NVIDIA_VISIBLE_DEVICES=0", "container", "web", true),
            (all, "container", "kube-system", true),
            (all, "container", "nvidia-device-plugin", true),
            (all, "sandbox", "kube-system", false),
            (&uuid, "sandbox", "web", false),
        ] {
            let unprivileged = config(&[variable], &["nodes", "nodes"]);
            let marked = unprivileged
                .capabilities(&["CAP_CHOWN"], true)
                .set("/annotations", mark(kind, namespace));
            let container = GpuContainer::new(Runtime::native(), &host, marked);
            let nodes = gpu_nodes(container.run().ok());
            assert_eq!(!nodes.is_empty(), has_gpu, "{variable} {kind} {namespace} {nodes:?}");
        }
    }
}

#[test]
fn the_log_says_why_and_the_configuration_and_privilege_change_it() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, directory) = one_gpu("");
    let pod = |capabilities: &[&str]| {
        let config = config(&["NVIDIA_VISIBLE_DEVICES=all"], &["nodes", "nodes"]);
        config.capabilities(capabilities, true).set("/annotations", containerd("container", "web"))
    };
    let log = directory.path().join("log");
    let container = GpuContainer::new(Runtime::native(), &host, pod(&["CAP_CHOWN"]));
    let bundle = container.container.bundle();
    let bundle = bundle.to_str().expect("UTF-8 path");
    let log_path = log.to_str().expect("UTF-8 path");
    container.call(&["--log", log_path, "run", "--bundle", bundle, container.container.id()]).ok();
    let said = fs::read_to_string(&log).expect("read the log");
    let line = said.lines().find(|line| line.contains("level=warning")).expect("a warning");
    for part in ["NVIDIA_VISIBLE_DEVICES=all", "web", "kubernetes-trusted-namespaces"] {
        assert!(line.contains(part), "{part}: {said}");
    }
    let explained = container.call(&["explain", "--bundle", bundle]);
    assert!(explained.ok().contains("kubernetes-trusted-namespaces"), "{explained:?}");

    let given = |host: &MadeUpHost, config| {
        !gpu_nodes(GpuContainer::new(Runtime::native(), host, config).run().ok()).is_empty()
    };
    assert!(given(&host, pod(&["CAP_SYS_ADMIN"])));
    let (open, _directory) = one_gpu("kubernetes-trusted-namespaces = [\"*\"]");
    assert!(given(&open, pod(&["CAP_CHOWN"])));
    let (own, _directory) = one_gpu("kubernetes-trusted-namespaces = [\"web\"]");
    assert!(given(&own, pod(&["CAP_CHOWN"])));
}

/// CRI-O hands the annotations of a pod's author on; containerd what its administrator lists.
#[test]
fn annotations_of_a_pods_author_give_no_gpu_and_those_that_an_administrator_lists_do() {
    gpurun_only!("other runtimes leave CDI to the engine");
    let always = "accept-cdi-annotations = \"always\"";
    let never = "accept-cdi-annotations = \"never\"";
    type Mark = fn(&str, &str) -> Value;
    for (mark, kind, line, has_gpu) in [
        (crio as Mark, "container", "", false),
        (crio, "container", always, true),
        (crio, "sandbox", always, false),
        (containerd, "container", "", true),
        (containerd, "container", never, false),
        (containerd, "sandbox", "", false),
    ] {
        let (host, _directory) = one_gpu("");
        let text = fs::read_to_string(host.config()).expect("read the configuration");
        let text = text.replacen("[gpu]\n", &format!("[gpu]\n{line}\n"), 1);
        fs::write(host.config(), text).expect("write the configuration");
        let mut annotations = mark(kind, "web");
        annotations["cdi.k8s.io/evil"] = json!("nvidia.com/gpu=all");
        let asking = config(&[], &["nodes", "nodes"])
            .capabilities(&["CAP_CHOWN"], true)
            .set("/annotations", annotations);
        let nodes = gpu_nodes(GpuContainer::new(Runtime::native(), &host, asking).run().ok());
        assert_eq!(!nodes.is_empty(), has_gpu, "{kind} {line} {nodes:?}");
    }
}
