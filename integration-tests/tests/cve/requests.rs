//! Who may ask for what: annotations, checkpoints from elsewhere, and device rules that a container
//! would like to be wider.

use crate::Scene;
use integration_tests::cgroup::Version;
use integration_tests::checkpoint::{COUNTER, Checkpointed};
use integration_tests::gpu_container::{GpuContainer, config};
use integration_tests::gpu_host::{GATED_NODES, Layout, MadeUpHost};
use integration_tests::{
    Config, Container, Runtime, Value, gpurun_only, json, needs_criu, probe, skipped, wait_for,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// containerd's, and CRI-O's CVE-2024-8676: what an untrusted checkpoint says of annotations, devices
/// and mounts is believed at restore.
#[test]
fn cve_2026_53492_a_restore_takes_requests_from_its_bundle_alone() {
    needs_criu!();
    gpurun_only!("GPUs are gpurun's");
    let directory = tempfile::tempdir().unwrap();
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(1)).unwrap();
    let mut it = Checkpointed::new(Runtime::native(), Config::sh(COUNTER));
    it.environment = Some(host.config());
    it.start();
    it.counts_beyond(2);
    it.checkpoint(&[]).silent();
    it.container.delete(&["--force"]).ok();
    // The files in which engines keep the spec of a checkpoint, and those of runtimes.
    let hostile = Config::sh(COUNTER)
        .set("/annotations", json!({"cdi.k8s.io/x": "nvidia.com/gpu=all"}))
        .push("/process/env", json!("NVIDIA_VISIBLE_DEVICES=all"))
        .push(
            "/linux/devices",
            json!({"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0}),
        )
        .mount("/host", "bind", "/", &["rbind"]);
    for name in ["config.json", "config.dump", "spec.dump", "state.json"] {
        fs::write(it.container.path("images").join(name), hostile.json().to_string()).unwrap();
    }
    it.restore(&[]);
    wait_for("the restored program", || it.container.status() == "running");
    assert_eq!(it.container.state()["annotations"], Value::Null);
    let seen = it.container.sh("ls /dev; cat /proc/self/mountinfo; ls -d /host; true");
    assert!(!seen.contains("nvidia") && !seen.contains("/host"), "{seen}");
}

/// Every literal in the sources that is an annotation's key.
fn keys_in_the_sources() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../src")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        // Tests make annotations up, `features` is what is tested, and `node` reads no container.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_node = path.components().any(|part| part.as_os_str() == "node");
        if is_node
            || path.ends_with("commands/features.rs")
            || !code.to_lowercase().contains("annotation")
        {
            continue;
        }
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            keys.extend(
                line.split('"').skip(1).step_by(2).filter(|s| is_key(s)).map(str::to_owned),
            );
        }
    }
    keys
}

/// What looks like a key and is none that gives a container anything.
const OTHERS: [&str; 16] = [
    // Kinds of CDI devices, which are values of annotations.
    "amd.com/gpu",
    "intel.com/gaudi",
    "intel.com/gpu",
    "intel.com/npu",
    "management.nvidia.com/gpu",
    "nvidia.com/gpu",
    "runtime.nvidia.com/gpu",
    // A pod's, by which requests are turned down: without them more counts, not less.
    "io.container.manager",
    "io.kubernetes.cri-o.",
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.cri-o.Namespace",
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri.sandbox-namespace",
    "io.kubernetes.pod.namespace",
    // What `state` answers.
    "gpurun.gpu.devices",
    "gpurun.gpu.uuids",
];

/// As Kubernetes and runtimes name them: a domain turned around, or with a slash.
fn is_key(text: &str) -> bool {
    let domains = ["org.", "run.", "io.", "com.", "cdi.", "dev.", "net."];
    let part = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let slashed = text.split_once('/').is_some_and(|(domain, _)| {
        domain.contains('.')
            && domain.chars().all(|c| c.is_ascii_lowercase() || "0123456789.-".contains(c))
    });
    text.len() > 6
        // systemd's, on the bus.
        && !text.starts_with("org.freedesktop.")
        && !OTHERS.contains(&text)
        && text.chars().all(part)
        && !text.starts_with(['/', '.'])
        && (slashed
            || domains.iter().any(|domain| text.starts_with(domain))
                && text.matches('.').count() > 1)
}

#[test]
fn every_annotation_that_is_honoured_is_listed_as_potentially_unsafe() {
    gpurun_only!("of gpurun's sources");
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("../src").exists() {
        return skipped("gpurun's sources are not on this machine");
    }
    let listed = Runtime::native().call(&["features"]).json();
    let listed = listed["potentiallyUnsafeConfigAnnotations"].as_array().unwrap().clone();
    let listed: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
    let keys = keys_in_the_sources();
    for expected in ["cdi.k8s.io/", "org.criu.config", "run.oci.keep_original_groups"] {
        assert!(keys.contains(expected), "the search misses {expected}: {keys:?}");
    }
    for key in &keys {
        let known = listed
            .iter()
            .any(|name| key == name || (name.ends_with(['.', '/']) && key.starts_with(name)));
        assert!(known, "{key} is read in the sources and not among {listed:?}");
    }
}

#[test]
fn prefixes_of_the_configuration_are_listed_as_potentially_unsafe() {
    gpurun_only!("gpurun's configuration");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    for (text, expected) in [
        ("[cdi]\nannotation-prefixes = [\"gpus.example.com/\"]\n", true),
        ("[cdi]\nannotation-prefixes = 7\n", false),
    ] {
        fs::write(&file, text).unwrap();
        let output =
            Runtime::native().command().arg("features").env("GPURUN_CONFIG", &file).output();
        let features: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        let listed = features["potentiallyUnsafeConfigAnnotations"].as_array().unwrap();
        assert_eq!(listed.contains(&json!("gpus.example.com/")), expected);
        assert!(listed.contains(&json!("cdi.k8s.io/")));
    }
}

#[test]
fn annotations_that_say_what_only_the_caller_says_change_nothing() {
    gpurun_only!("runc 1.1 believes an annotation `bundle`");
    let annotations = json!({
        "bundle": "/etc", "org.opencontainers.runc.bundle": "/etc", "rootfs": "/", "id": "other",
        "org.systemd.property.DevicePolicy": "'auto'", "org.criu.config": "/etc/shadow",
        "io.kubernetes.cri-o.Devices": "/dev/mem:/dev/mem:rwm", "run.oci.hooks.stdout": "/etc/passwd",
        "run.oci.handler": "krun", "krun.vm": "1", "module.wasm.image/variant": "compat",
        "run.oci.mount_context_type": "rootcontext", "run.oci.systemd.subgroup": "",
        "nvidia.com/gpu": "all", "NVIDIA_VISIBLE_DEVICES": "all",
    });
    let scene = Scene::new(Config::idle().set("/annotations", annotations));
    scene.container.run_detached();
    let state = scene.container.state();
    assert_eq!(state["bundle"], scene.container.bundle().to_str().unwrap());
    assert_eq!(state["rootfs"], scene.container.rootfs().to_str().unwrap());
    assert_eq!(state["id"], scene.container.id());
    assert_eq!(scene.container.sh("ls /dev | grep -c -e mem -e nvidia; true"), "0");
    assert_eq!(scene.container.sh("id -G"), "0");
    scene.assert_safe();
}

#[test]
fn an_annotation_with_a_device_that_is_not_there_or_not_a_name_fails_by_its_name() {
    gpurun_only!("other runtimes leave CDI to the engine");
    let directory = tempfile::tempdir().unwrap();
    let host = MadeUpHost::build(directory.path(), &Layout::with_gpus(1)).unwrap();
    for (value, phrase) in [
        ("nvidia.com/gpu=99", "99"),
        ("../../etc/shadow", "../../etc/shadow"),
        ("nvidia.com/gpu=../../x", "../../x"),
        ("nvidia.com/gpu=0,nvidia.com/gpu=nope", "nope"),
        ("vendor.example/x=y", "vendor.example/x"),
    ] {
        let document = config(&[], &["true"]).set("/annotations", json!({"cdi.k8s.io/x": value}));
        let gpu = GpuContainer::new(Runtime::native(), &host, document);
        gpu.run().refused(1, &[phrase]);
    }
}

#[test]
fn an_image_gets_no_more_than_the_policy_allows() {
    gpurun_only!("other runtimes know no GPU requests");
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::with_gpus(2);
    layout.gated_nodes = true;
    let host = MadeUpHost::build(directory.path(), &layout).unwrap();
    let strict = directory.path().join("strict.toml");
    let text = fs::read_to_string(host.config()).unwrap();
    let policy = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n";
    fs::write(&strict, text + policy).unwrap();
    // Everything that an image can say.
    let env = [
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_DRIVER_CAPABILITIES=all",
        "NVIDIA_MIG_CONFIG_DEVICES=all",
        "NVIDIA_MIG_MONITOR_DEVICES=all",
        "CUDA_VISIBLE_DEVICES=0,1",
    ];
    let gpu = GpuContainer::with_configuration(
        Runtime::native(),
        &strict,
        config(&env, &["nodes", "nodes"]),
    );
    let output = gpu.run();
    assert!(!output.stdout.contains("nvidia"), "{output:?}");
    // Without the policy: the GPUs, and nothing that takes privileges.
    let env = &env[..2];
    let gpu = GpuContainer::new(Runtime::native(), &host, config(env, &["nodes", "nodes"]));
    let output = gpu.run();
    assert!(output.ok().contains("/dev/nvidia0"), "{output:?}");
    for (path, ..) in GATED_NODES {
        assert!(!output.stdout.contains(path), "{path}: {output:?}");
    }
    assert!(!output.stdout.contains("nvidia-cap1"), "{output:?}");
    // The administration of MIG takes CAP_SYS_ADMIN.
    let env = ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_MIG_CONFIG_DEVICES=all"];
    let gpu = GpuContainer::new(Runtime::native(), &host, config(&env, &["nodes", "nodes"]));
    gpu.run().refused(1, &["NVIDIA_MIG_CONFIG_DEVICES"]);
}

/// By writing to the controller (v1), in a cgroup of its own below, in one that it moves to, and by a
/// node that it makes.
#[test]
fn a_container_never_widens_its_device_rules() {
    for runtime in Runtime::each() {
        let config = Config::idle().namespace("cgroup", Some("")).mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["rw", "nosuid", "noexec", "nodev"],
        );
        let c = Container::running(runtime, config);
        let script = "cd /sys/fs/cgroup; for d in $(find . -type d | head -50); do \
              mkdir $d/below 2>/dev/null; \
              for f in $d/devices.allow $d/below/devices.allow; do \
                [ -e $f ] || continue; \
                { echo a > $f; } 2>/dev/null && echo widened $f; \
                { echo 'c 10:229 rwm' > $f; } 2>/dev/null && echo widened $f; \
              done; \
              { echo $$ > $d/below/cgroup.procs; } 2>/dev/null; \
            done; mknod /tmp/fuse c 10 229 2>/dev/null; cat /tmp/fuse; echo tried";
        for how in [&[][..], &["--cap", "CAP_DAC_OVERRIDE"], &["--cap", "CAP_NET_ADMIN"]] {
            let output = c.exec_with(how, &["sh", "-c", script]);
            assert_eq!(output.ok(), "tried", "{runtime:?} {how:?}: {output:?}");
            assert!(output.stderr.contains("not permitted"), "{runtime:?} {how:?}: {output:?}");
        }
        // Neither does a change of other limits, nor a second process with more rights.
        if runtime == Runtime::native() {
            c.call_on("update", &["--pids-limit", "50"]).ok();
        }
        let options = ["--cap", "CAP_MKNOD", "--cap", "CAP_DAC_READ_SEARCH"];
        let output = c.exec_with(&options, &["sh", "-c", "mknod /tmp/m c 1 1; : < /tmp/m"]);
        assert!(output.stderr.contains("not permitted"), "{runtime:?}: {output:?}");
    }
}

/// In cgroup v2 the rules are a program: it can be neither detached nor outvoted by whoever has the
/// right to attach programs of that kind.
#[test]
fn a_container_that_may_attach_programs_does_not_widen_its_device_rules() {
    let Some(runtime) = Runtime::each().into_iter().find(|it| it.cgroup == Version::V2) else {
        return skipped("no cgroup v2");
    };
    let config = Config::idle().namespace("cgroup", Some("")).mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["ro", "nosuid", "noexec", "nodev"],
    );
    let c = Container::new(runtime, config);
    fs::copy(probe::rules().expect("compile the probe"), c.rootfs().join("bin/rules")).unwrap();
    c.run_detached();
    let rights = ["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"];
    for count in 0..=rights.len() {
        let options: Vec<&str> =
            rights[..count].iter().flat_map(|right| ["--cap", right]).collect();
        let output = c.exec_with(&options, &["rules", "/sys/fs/cgroup"]);
        println!("{:?}: {}", &rights[..count], output.ok());
        for line in output.ok().lines() {
            assert!(!line.contains("detach") || !line.ends_with(" ok"), "{options:?}: {output:?}");
        }
        let script = "[ -e /tmp/fuse ] || mknod /tmp/fuse c 10 229; cat /tmp/fuse";
        let output = c.exec(&["sh", "-c", script]);
        assert!(output.stderr.contains("not permitted"), "{options:?}: {output:?}");
    }
}
