//! containerd's CRI plugin with the runtime under test as handler, called as the kubelet calls it:
//! every form in which device plugins hand a pod its GPUs.

mod cri_cases;

use std::fs;
use std::process::{Command, ExitCode};

use cri_cases::{CUDA_IMAGE, Cri, IMAGE, annotation, envs, knows_cdi};
use integration_tests::cases::{self, Case};
use integration_tests::daemon::mounts_below;
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::{Runtime, skipped, wait_for};
use k8s_cri::v1::{CdiDevice, Device, Mount};

/// What the cases share.
struct Node {
    cri: Cri,
    host: MadeUpHost,
}

const CASES: &[Case<Node>] = &[
    ("a_pod_without_gpus", a_pod_without_gpus),
    ("an_image_that_asks_for_all_gets_none", an_image_that_asks_for_all_gets_none),
    ("a_trusted_pod_gets_all", a_trusted_pod_gets_all),
    ("the_plugins_envvar_strategy", the_plugins_envvar_strategy),
    ("the_plugins_volume_mounts_strategy", the_plugins_volume_mounts_strategy),
    ("the_plugins_cdi_annotations_strategy", the_plugins_cdi_annotations_strategy),
    ("cdi_devices_of_the_protocol", cdi_devices_of_the_protocol),
    ("device_specs_alone", device_specs_alone),
    ("the_handler_nvidia", the_handler_nvidia),
    ("a_gpu_that_does_not_exist_is_named", a_gpu_that_does_not_exist_is_named),
    ("nothing_is_left_behind", nothing_is_left_behind),
];

fn main() -> ExitCode {
    let cases = cases::selected(CASES);
    if cases.is_empty() {
        return ExitCode::SUCCESS;
    }
    if Command::new("containerd").arg("--version").output().is_err() {
        skipped("no containerd in PATH (Debian: containerd)");
        return ExitCode::SUCCESS;
    }
    if !Runtime::is_gpurun() {
        skipped("GPUs are gpurun's business");
        return ExitCode::SUCCESS;
    }
    let machine = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(machine.path(), &Layout::with_gpus(2)).expect("made-up host");
    let mut config = fs::read_to_string(host.config()).expect("the configuration");
    config.push_str("accept-nvidia-visible-devices-as-volume-mounts = true\n");
    fs::write(host.config(), config).expect("the configuration");
    let cri = Cri::start(&host.config(), ["gpurun", "nvidia"]).expect("start containerd");
    cases::run(&cases, &Node { cri, host })
}

const GPU_1_ALONE: &str = "195:1 ENXIO\n195:255 ENXIO\n195:0 EPERM";
const PROBE: [&str; 5] = ["nodes", "make", "195:1", "195:255", "195:0"];

fn a_pod_without_gpus(node: &Node) {
    let pod = node.cri.pod("gpurun", "default");
    let container = pod.run(pod.container(IMAGE));
    assert_eq!(container.exec(&["cat", "/proc/1/comm"]), "sleep");
    assert_eq!(container.exec(&["nodes", "make", "195:1"]), "195:1 EPERM");
    let mut ending = pod.container(IMAGE);
    ending.command = ["sh", "-c", "exit 7"].map(str::to_owned).to_vec();
    assert_eq!(pod.run(ending).wait(), 7);
}

fn an_image_that_asks_for_all_gets_none(node: &Node) {
    let pod = node.cri.pod("gpurun", "default");
    let container = pod.run(pod.container(CUDA_IMAGE));
    assert_eq!(container.exec(&PROBE), "195:1 EPERM\n195:255 EPERM\n195:0 EPERM");
    let log = container.log();
    for part in ["NVIDIA_VISIBLE_DEVICES=all", "default", "kubernetes-trusted-namespaces"] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

/// The device plugin itself, which relies on its image.
fn a_trusted_pod_gets_all(node: &Node) {
    let pod = node.cri.pod("nvidia", "kube-system");
    let container = pod.run(pod.container(CUDA_IMAGE));
    assert_eq!(container.exec(&PROBE), "195:1 ENXIO\n195:255 ENXIO\n195:0 ENXIO");
}

fn the_plugins_envvar_strategy(node: &Node) {
    let pod = node.cri.pod("gpurun", "default");
    let mut config = pod.container(CUDA_IMAGE);
    config.envs = envs(&[("NVIDIA_VISIBLE_DEVICES", &node.host.gpus[1].uuid)]);
    let container = pod.run(config);
    assert_eq!(container.exec(&PROBE), GPU_1_ALONE);
    let smi = container.exec(&["nvidia-smi"]);
    assert!(smi.contains("/dev/nvidia1") && !smi.contains("/dev/nvidia0"), "{smi}");
}

fn the_plugins_volume_mounts_strategy(node: &Node) {
    let pod = node.cri.pod("gpurun", "default");
    let mut config = pod.container(CUDA_IMAGE);
    let marker = format!("/var/run/nvidia-container-devices/{}", node.host.gpus[1].uuid);
    config.mounts = vec![Mount {
        container_path: marker,
        host_path: "/dev/null".to_owned(),
        ..Default::default()
    }];
    assert_eq!(pod.run(config).exec(&PROBE), GPU_1_ALONE);
}

fn the_plugins_cdi_annotations_strategy(node: &Node) {
    if knows_cdi() {
        return skipped("this containerd resolves CDI names itself");
    }
    let pod = node.cri.pod("gpurun", "default");
    let mut config = pod.container(CUDA_IMAGE);
    let name = format!("nvidia.com/gpu={}", node.host.gpus[1].uuid);
    config.annotations = annotation("cdi.k8s.io/nvidia-device-plugin_1a2b", name);
    assert_eq!(pod.run(config).exec(&PROBE), GPU_1_ALONE);
}

/// The plugin's cdi-cri strategy, and dynamic resource allocation.
fn cdi_devices_of_the_protocol(node: &Node) {
    if !knows_cdi() {
        return skipped("this containerd is older than 1.7 and does not apply CDI devices");
    }
    let dev = node.host.root.join("dev");
    let nodes = ["nvidia1", "nvidiactl"].map(
        |name| serde_json::json!({"path": format!("/dev/{name}"), "hostPath": dev.join(name)}),
    );
    let spec = serde_json::json!({
        "cdiVersion": "0.5.0", "kind": "k8s.gpu.nvidia.com/claim",
        "devices": [{"name": "claim-1", "containerEdits": {"deviceNodes": nodes}}],
        "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"]},
    });
    let directory = node.cri.dir().join("cdi");
    fs::create_dir_all(&directory).expect("the directory of CDI files");
    fs::write(directory.join("claim.json"), spec.to_string()).expect("the CDI file");
    let pod = node.cri.pod("gpurun", "default");
    let mut config = pod.container(CUDA_IMAGE);
    config.cdi_devices = vec![CdiDevice { name: "k8s.gpu.nvidia.com/claim=claim-1".to_owned() }];
    assert_eq!(pod.run(config).exec(&PROBE), GPU_1_ALONE);
}

/// What AMD's and Intel's plugins send, and NVIDIA's with PASS_DEVICE_SPECS besides the variable.
fn device_specs_alone(node: &Node) {
    let pod = node.cri.pod("gpurun", "default");
    let mut config = pod.container(IMAGE);
    let dev = node.host.root.join("dev");
    let device = |name: &str| Device {
        container_path: format!("/dev/{name}"),
        host_path: dev.join(name).display().to_string(),
        permissions: "rw".to_owned(),
    };
    config.devices = ["nvidia1", "nvidiactl", "dri/renderD129"].map(device).to_vec();
    // A link in the machine's /dev, as Intel's plugin mounts those of /dev/dri/by-path.
    let by_path = format!("dri/by-path/pci-{}-render", node.host.gpus[1].bus_id);
    config.mounts = vec![Mount {
        container_path: format!("/dev/{by_path}"),
        host_path: dev.join(&by_path).display().to_string(),
        readonly: true,
        ..Default::default()
    }];
    let container = pod.run(config);
    let paths = ["/dev/nvidia1", "/dev/dri/renderD129", &format!("/dev/{by_path}")];
    let seen = container.exec(&[&["nodes", "open"], &paths[..]].concat());
    let expected: Vec<String> = paths.iter().map(|path| format!("{path} ENXIO")).collect();
    assert_eq!(seen, expected.join("\n"));
    assert_eq!(container.exec(&PROBE), GPU_1_ALONE);
}

fn the_handler_nvidia(node: &Node) {
    let pod = node.cri.pod("nvidia", "default");
    let mut config = pod.container(CUDA_IMAGE);
    config.envs = envs(&[("NVIDIA_VISIBLE_DEVICES", &node.host.gpus[1].uuid)]);
    assert_eq!(pod.run(config).exec(&PROBE), GPU_1_ALONE);
}

fn a_gpu_that_does_not_exist_is_named(node: &Node) {
    let pod = node.cri.pod("gpurun", "default");
    let mut config = pod.container(IMAGE);
    config.envs = envs(&[("NVIDIA_VISIBLE_DEVICES", "GPU-00000000-dead-4c1b-8f00-00c0ffee0000")]);
    let message = pod.start(config).err().expect("the GPU does not exist");
    assert!(message.contains("GPU-00000000-dead-4c1b-8f00-00c0ffee0000"), "{message}");
    assert!(message.contains(&node.host.gpus[0].uuid), "what there is: {message}");
}

fn nothing_is_left_behind(node: &Node) {
    let states = node.cri.dir().join("runtime/k8s.io");
    let left = || fs::read_dir(&states).expect("the runtime's states").count();
    wait_for("the end of all containers", || left() == 0);
    assert!(mounts_below(&node.cri.dir().join("state")).is_empty());
    assert!(!node.cri.log().contains("panicked"), "{}", node.cri.log());
}
