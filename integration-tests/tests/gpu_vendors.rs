//! What containers get that ask for the devices of other makers than NVIDIA, and of several at
//! once, on a made-up machine: `ENXIO` where the device rules allow a node, `EPERM` where not.

use std::fs;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{Layout, MadeUpHost, Node};
use integration_tests::vendor_host::{
    ACCEL_MAJOR, DAVINCI_MAJOR, RENDER, VIDEO, VendorHost, amd_nodes, amd_unique_id, gaudi_nodes,
    intel_nodes,
};
use integration_tests::{Config, Runtime, Value, gpurun_only, json};
use tempfile::TempDir;

fn machine(lines: &str) -> (VendorHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    (VendorHost::new(directory.path(), lines), directory)
}

fn given(runtime: Runtime, host: &VendorHost, config: Config) -> Vec<Node> {
    gpu_nodes(GpuContainer::with_configuration(runtime, &host.config(), config).run().ok())
}

fn with_env(runtime: Runtime, host: &VendorHost, env: &str) -> Vec<Node> {
    given(runtime, host, config(&[env], &["nodes", "nodes"]))
}

fn annotated(names: &str, env: &[&str], program: &[&str]) -> Config {
    config(env, program).set("/annotations", json!({"cdi.k8s.io/test_device": names}))
}

#[test]
fn amd_gpus_come_with_their_nodes_for_every_form_of_list() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine("");
    host.amd(8, 1);
    let all: Vec<u32> = (0..8).collect();
    let id = format!("{:#x}", amd_unique_id(3));
    for runtime in Runtime::each() {
        for (env, expected) in [
            ("AMD_VISIBLE_DEVICES=all", all.as_slice()),
            ("AMD_VISIBLE_DEVICES=2,0", &[0, 2]),
            ("AMD_VISIBLE_DEVICES=6-20,nonsense,6", &[6, 7]),
            ("AMD_VISIBLE_DEVICES=none", &[]),
            ("AMD_VISIBLE_DEVICES=void", &[]),
            ("AMD_VISIBLE_DEVICES=", &[]),
            ("AMD_VISIBLE_DEVICES=99", &[]),
            (&format!("DOCKER_RESOURCE_AMD_GPU={id}"), &[3]),
            ("DOCKER_RESOURCE_GPU=GPU-5e1f0000-9d0a-4c1b-8f00-00c0ffee0000", &[]),
        ] {
            assert_eq!(with_env(runtime, &host, env), amd_nodes(expected), "{runtime:?} {env}");
        }
    }
}

#[test]
fn one_amd_gpu_and_a_partitioned_one_are_found_and_nothing_else_can_be_opened() {
    gpurun_only!("other runtimes know no GPU requests");
    for (gpus, partitions, request, expected) in [
        (1, 1, "0".to_owned(), vec![0]),
        (8, 8, "9".to_owned(), vec![9]),
        (8, 8, "63,64".to_owned(), vec![63]),
        (8, 8, format!("{:x}", amd_unique_id(2)), (16..24).collect()),
    ] {
        let (host, _directory) = machine("");
        host.amd(gpus, partitions);
        // With one more, which no request gives: KFD does not know that partition.
        let everything = amd_nodes(&(0..=gpus * partitions).collect::<Vec<_>>());
        let granted = amd_nodes(&expected);
        let numbers: Vec<String> =
            everything.iter().map(|(_, major, minor)| format!("{major}:{minor}")).collect();
        let variable = format!("AMD_VISIBLE_DEVICES={request}");
        for runtime in Runtime::each() {
            assert_eq!(with_env(runtime, &host, &variable), granted, "{runtime:?} {variable}");
            let mut program = vec!["nodes", "make"];
            program.extend(numbers.iter().map(String::as_str));
            let config = config(&[&variable], &program);
            let output = GpuContainer::with_configuration(runtime, &host.config(), config).run();
            let verdicts: Vec<String> = everything
                .iter()
                .map(|node| match granted.contains(node) {
                    true => format!("{}:{} ENXIO", node.1, node.2),
                    false => format!("{}:{} EPERM", node.1, node.2),
                })
                .collect();
            assert_eq!(output.ok().lines().collect::<Vec<_>>(), verdicts, "{runtime:?} {variable}");
        }
    }
}

#[test]
fn an_ordinary_user_of_the_container_may_open_the_nodes_by_their_groups() {
    gpurun_only!("other runtimes know no GPU requests");
    for (lines, verdict) in
        [("", "ENXIO"), ("[amd]\nno-additional-gids-for-device-nodes = true", "EACCES")]
    {
        let (host, _directory) = machine(lines);
        host.amd(1, 1);
        let nodes = amd_nodes(&[0]);
        let mut program = vec!["nodes", "open"];
        program.extend(nodes.iter().map(|(path, ..)| path.as_str()));
        let config = config(&["AMD_VISIBLE_DEVICES=0"], &program)
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let container = GpuContainer::with_configuration(Runtime::native(), &host.config(), config);
        for line in container.run().ok().lines() {
            assert!(line.ends_with(verdict), "{lines}: {line}");
        }
    }
    assert_ne!(VIDEO, RENDER);
}

#[test]
fn a_missing_driver_is_named_and_nothing_is_created() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine("[vendors]\nenabled = [\"ascend\"]");
    for (config, phrase) in [
        (config(&["AMD_VISIBLE_DEVICES=all"], &["true"]), "amdgpu kernel driver is not loaded"),
        (config(&["HABANA_VISIBLE_DEVICES=0"], &["true"]), "modprobe habanalabs"),
        (config(&["ASCEND_VISIBLE_DEVICES=0"], &["true"]), "no device of ascend"),
        (annotated("intel.com/gpu=card0", &[], &["true"]), "no device intel.com/gpu=card0"),
    ] {
        let container = GpuContainer::with_configuration(Runtime::native(), &host.config(), config);
        container.run().refused(1, &[phrase]);
    }
    for env in ["AMD_VISIBLE_DEVICES=void", "AMD_VISIBLE_DEVICES=none", "HABANA_VISIBLE_DEVICES="] {
        assert_eq!(with_env(Runtime::native(), &host, env), []);
    }
}

#[test]
fn intel_devices_are_given_by_name_without_a_file_and_links_stay_links() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine("");
    host.intel();
    let npu = vec![("/dev/accel/accel20".to_owned(), ACCEL_MAJOR, 200)];
    for runtime in Runtime::each() {
        for (names, expected) in [
            ("intel.com/gpu=card0", intel_nodes(&[0])),
            ("intel.com/gpu=0000-e0-00-1-0x56c0", intel_nodes(&[21])),
            // The divided card is its parts.
            ("intel.com/gpu=all", intel_nodes(&[0, 21, 22])),
            ("intel.com/npu=accel20", npu.clone()),
            ("intel.com/npu=all,intel.com/gpu=card22", [npu.clone(), intel_nodes(&[22])].concat()),
        ] {
            let nodes = given(runtime, &host, annotated(names, &[], &["nodes", "nodes"]));
            assert_eq!(nodes, expected, "{runtime:?} {names}");
        }
    }
    let script = "cd /dev/dri/by-path && for l in *; do echo $l $(readlink $l); done";
    let config = annotated("intel.com/gpu=card21", &[], &["sh", "-c", script]);
    let output = GpuContainer::with_configuration(Runtime::native(), &host.config(), config).run();
    assert_eq!(
        output.ok(),
        "pci-0000:e0:00.1-card ../card21\npci-0000:e0:00.1-render ../renderD249"
    );
    let refused = annotated("intel.com/gpu=card20", &[], &["true"]);
    let container = GpuContainer::with_configuration(Runtime::native(), &host.config(), refused);
    container.run().refused(1, &["no device intel.com/gpu=card20", "card21 (0000-e0-00-1-0x56c0)"]);
}

#[test]
fn gaudi_devices_with_two_digits_are_told_from_those_with_one() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = machine("");
    host.gaudi(12);
    let all: Vec<u32> = (0..12).collect();
    for runtime in Runtime::each() {
        for (env, expected) in [
            ("HABANA_VISIBLE_DEVICES=1", &[1][..]),
            ("HABANA_VISIBLE_DEVICES=11", &[11]),
            ("HABANA_VISIBLE_DEVICES=all", &all),
            ("HABANA_VISIBLE_DEVICES=", &[]),
            // Nobody asked.
            ("A=1", &[]),
        ] {
            assert_eq!(with_env(runtime, &host, env), gaudi_nodes(expected), "{runtime:?} {env}");
        }
    }
    let named = annotated("intel.com/gaudi=accel10", &[], &["nodes", "nodes"]);
    assert_eq!(given(Runtime::native(), &host, named), gaudi_nodes(&[10]));
}

#[test]
fn a_vendor_of_the_table_counts_when_it_is_enabled() {
    gpurun_only!("other runtimes know no GPU requests");
    for (lines, is_given) in [("", false), ("[vendors]\nenabled = [\"ascend\"]", true)] {
        let (host, _directory) = machine(lines);
        host.ascend(3);
        let expected = match is_given {
            true => vec![
                ("/dev/davinci0".to_owned(), DAVINCI_MAJOR, 0),
                ("/dev/davinci2".to_owned(), DAVINCI_MAJOR, 2),
                ("/dev/davinci_manager".to_owned(), DAVINCI_MAJOR, 255),
            ],
            false => Vec::new(),
        };
        let env = "ASCEND_VISIBLE_DEVICES=Ascend910-2,0";
        assert_eq!(with_env(Runtime::native(), &host, env), expected, "{lines}");
    }
}

/// Of AMD, Habana and the table alike: what an image may say by itself counts in no pod.
#[test]
fn a_pod_gets_no_device_for_the_all_of_its_image_whoever_made_it() {
    gpurun_only!("other runtimes know no GPU requests");
    let strict = "[gpu]\naccept-visible-devices-envvar-when-unprivileged = false\n";
    let open = "[gpu]\nkubernetes-trusted-namespaces = [\"web\"]\n";
    for (lines, kind, value, capability, has_devices) in [
        ("", "container", "all", "CAP_CHOWN", false),
        ("", "container", "0", "CAP_CHOWN", true),
        ("", "container", "all", "CAP_SYS_ADMIN", true),
        ("", "sandbox", "0", "CAP_SYS_ADMIN", false),
        (open, "container", "all", "CAP_CHOWN", true),
        (strict, "container", "0", "CAP_CHOWN", false),
    ] {
        let table =
            "[vendors.own]\nvariable = \"OWN_VISIBLE_DEVICES\"\ndevices = [\"/dev/davinci{}\"]\n";
        let (host, _directory) = machine(&format!("{lines}{table}"));
        host.amd(1, 1);
        host.gaudi(1);
        host.ascend(1);
        for vendor in ["AMD", "HABANA", "OWN"] {
            let annotations = json!({
                "io.kubernetes.cri.container-type": kind,
                "io.kubernetes.cri.sandbox-namespace": "web",
            });
            let variable = format!("{vendor}_VISIBLE_DEVICES={value}");
            let asking = config(&[&variable], &["nodes", "nodes"])
                .capabilities(&[capability], true)
                .set("/annotations", annotations);
            let nodes = given(Runtime::native(), &host, asking);
            assert_eq!(!nodes.is_empty(), has_devices, "{lines} {kind} {variable} {nodes:?}");
        }
    }
}

/// A machine with everything: two GPUs of NVIDIA's, two of AMD's, Intel's, Gaudi and Ascend.
fn mixed() -> (MadeUpHost, VendorHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let nvidia = MadeUpHost::build(directory.path(), &Layout::with_gpus(2)).expect("machine");
    let cdi = directory.path().join("cdi");
    let mut text = fs::read_to_string(nvidia.config()).expect("configuration");
    text += &format!("\n[cdi]\nspec-dirs = [{cdi:?}]\n[vendors]\nenabled = [\"ascend\"]\n");
    fs::write(nvidia.config(), text).expect("write the configuration");
    fs::create_dir(cdi).expect("mkdir");
    let others = VendorHost::beside(&nvidia.root);
    others.amd(2, 1);
    others.intel();
    others.gaudi(2);
    others.ascend(1);
    (nvidia, others, directory)
}

fn nvidia_nodes(gpu: u32) -> Vec<Node> {
    let mut nodes = MadeUpHost::control_nodes();
    nodes.push((format!("/dev/nvidia{gpu}"), 195, gpu));
    nodes
}

#[test]
fn one_container_can_have_devices_of_several_vendors() {
    gpurun_only!("other runtimes know no GPU requests");
    let (_nvidia, host, _directory) = mixed();
    let variables = [
        "NVIDIA_VISIBLE_DEVICES=1",
        "AMD_VISIBLE_DEVICES=0",
        "HABANA_VISIBLE_DEVICES=1",
        "ASCEND_VISIBLE_DEVICES=0",
    ];
    let ascend = ["davinci0", "davinci_manager"].into_iter().zip([0, 255]);
    let ascend = ascend.map(|(name, minor)| (format!("/dev/{name}"), DAVINCI_MAJOR, minor));
    let by_variables = [nvidia_nodes(1), amd_nodes(&[0]), gaudi_nodes(&[1]), ascend.collect()];
    let by_names = [nvidia_nodes(0), amd_nodes(&[1]), intel_nodes(&[0]), gaudi_nodes(&[0])];
    let names = "nvidia.com/gpu=0,amd.com/gpu=1,intel.com/gpu=card0,intel.com/gaudi=0";
    for runtime in Runtime::each() {
        let mut expected = by_variables.concat();
        expected.sort();
        let nodes = given(runtime, &host, config(&variables, &["nodes", "nodes"]));
        assert_eq!(nodes, expected, "{runtime:?}");

        let mut expected = by_names.concat();
        expected.sort();
        // What an administrator's names say, not what the image's variables say.
        let config = annotated(names, &variables, &["nodes", "nodes"]);
        assert_eq!(given(runtime, &host, config), expected, "{runtime:?}");
        let variable = format!("NVIDIA_VISIBLE_DEVICES={names}");
        let config = config_of(&variable);
        assert_eq!(given(runtime, &host, config), expected, "{runtime:?}");
    }
}

fn config_of(variable: &str) -> Config {
    config(&[variable], &["nodes", "nodes"])
}

#[test]
fn a_vendor_with_a_cdi_file_and_one_without_go_together() {
    gpurun_only!("other runtimes know no GPU requests");
    let (_nvidia, host, directory) = mixed();
    let file = "cdiVersion: 0.6.0\nkind: amd.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    \
                deviceNodes:\n    - {path: /dev/kfd, type: c, major: 503, minor: 0}\n    env:\n    \
                - FROM=file\n";
    fs::write(directory.path().join("cdi/amd.yaml"), file).expect("write a CDI file");
    let names = "amd.com/gpu=0,intel.com/gpu=card21";
    let config = annotated(names, &[], &["nodes", "nodes"]);
    let mut expected = intel_nodes(&[21]);
    expected.push(("/dev/kfd".to_owned(), 503, 0));
    assert_eq!(given(Runtime::native(), &host, config), expected);
    let program = ["sh", "-c", "echo $FROM"];
    let config = annotated(names, &[], &program);
    let output = GpuContainer::with_configuration(Runtime::native(), &host.config(), config).run();
    assert_eq!(output.ok(), "file");
    // One name that nothing defines spoils them all.
    let refused = annotated("intel.com/gpu=card21,amd.com/gpu=7", &[], &["true"]);
    let container = GpuContainer::with_configuration(Runtime::native(), &host.config(), refused);
    container.run().refused(1, &["no AMD GPU \"7\""]);
}

/// A machine whose GPU tracker is on, with two GPUs of which the second is for one container.
fn tracked() -> (VendorHost, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let tracker = directory.path().canonicalize().expect("path").join("gpu-tracker.json");
    let host = VendorHost::new(directory.path(), &format!("[amd]\ngpu-tracker = {tracker:?}"));
    host.amd(2, 1);
    host.track(2, &[1]);
    (host, directory)
}

#[test]
fn amds_tracker_knows_a_container_while_it_exists_and_keeps_others_from_an_exclusive_gpu() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = tracked();
    let new = |value: &str| {
        let config = config(&[&format!("AMD_VISIBLE_DEVICES={value}")], &["sleep", "100"]);
        GpuContainer::with_configuration(Runtime::native(), &host.config(), config)
    };
    let first = new("all");
    first.run_detached();
    let id = first.container.id();
    assert_eq!((host.holders(0), host.holders(1)), (json!([id]), json!([id])));

    let phrase = format!("GPUs [1] are exclusive and already in use by {id}");
    let second = new("0,1");
    second.run().refused(1, &[&phrase, "amd-ctk gpu-tracker"]);
    assert_eq!(host.holders(0), json!([id]));
    let third = new("0");
    third.run_detached();
    assert_eq!(host.holders(0), json!([id, third.container.id()]));

    first.call(&["delete", "--force", id]).silent();
    assert_eq!((host.holders(0), host.holders(1)), (json!([third.container.id()]), json!([])));
    third.call(&["delete", "--force", third.container.id()]).silent();
    assert_eq!(host.holders(0), json!([]));
}

#[test]
fn amds_release_hook_is_not_run_and_its_work_is_done_at_delete() {
    gpurun_only!("other runtimes run the hook");
    let (host, _directory) = tracked();
    let config = config(&["AMD_VISIBLE_DEVICES=1"], &["sleep", "100"]);
    let container = GpuContainer::with_configuration(Runtime::native(), &host.config(), config);
    let id = container.container.id();
    // As AMD's runtime leaves them when it calls gpurun: entered, with a hook that does not exist.
    let text = fs::read_to_string(host.tracker()).expect("tracker");
    let entered = text.replace("\"containerIds\":[]", &format!("\"containerIds\":[\"{id}\"]"));
    assert_ne!(text, entered);
    fs::write(host.tracker(), entered).expect("tracker");
    let path = container.container.bundle().join("config.json");
    let mut spec: Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("config.json")).expect("JSON");
    let hook = json!({"path": "/usr/local/bin/amd-ctk", "args": ["amd-ctk", "gpu-tracker", "release", id]});
    spec["hooks"] = json!({"poststop": [hook]});
    fs::write(&path, spec.to_string()).expect("config.json");

    container.run_detached();
    assert_eq!(host.holders(1), json!([id]));
    container.call(&["delete", "--force", id]).silent();
    assert_eq!((host.holders(0), host.holders(1)), (json!([]), json!([])));
}

#[test]
fn a_tracker_of_other_gpus_is_an_error_that_says_how_to_reset_it() {
    gpurun_only!("other runtimes know no GPU requests");
    let (host, _directory) = tracked();
    host.track(3, &[]);
    let config = config(&["AMD_VISIBLE_DEVICES=0"], &["true"]);
    let container = GpuContainer::with_configuration(Runtime::native(), &host.config(), config);
    container.run().refused(1, &["GPU info mismatch", "please reset GPU Tracker"]);
}
