//! Devices asked for by their CDI names, and hooks that engines put into a spec when they resolve
//! such names themselves: no program of a vendor is on the machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost, NVIDIA_MAJOR};
use integration_tests::{Config, Output, Runtime, gpurun_only, json, runtime};
use tempfile::TempDir;

/// A made-up machine whose CDI files are in a directory of their own.
struct Machine {
    host: MadeUpHost,
    directory: TempDir,
}

fn machine() -> Machine {
    let directory = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(&directory.path().join("host"), &Layout::with_gpus(2))
        .expect("build a made-up machine");
    let mut text = fs::read_to_string(host.config()).expect("read the configuration");
    let low = directory.path().join("low");
    let high = directory.path().join("high");
    text += &format!("\n[cdi]\nspec-dirs = [{low:?}, {high:?}]\n");
    fs::write(host.config(), text).expect("write the configuration");
    fs::create_dir(low).expect("mkdir");
    fs::create_dir(high).expect("mkdir");
    Machine { host, directory }
}

impl Machine {
    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).expect("write a CDI file");
        path
    }

    fn run(&self, runtime: Runtime, config: Config) -> Output {
        GpuContainer::new(runtime, &self.host, config).run()
    }

    fn cdi(&self, args: &[&str]) -> Output {
        let mut command = Command::new(Runtime::binary());
        command.env("GPURUN_CONFIG", self.host.config()).arg("cdi").args(args);
        runtime::finish(&mut command, b"")
    }
}

fn annotated(config: Config, names: &str) -> Config {
    config.set("/annotations", json!({"cdi.k8s.io/test_device": names}))
}

/// A vendor that gpurun has never heard of.
const FOREIGN: &str = "\
cdiVersion: 0.7.0
kind: example.org/accelerator
devices:
- name: one
  containerEdits:
    deviceNodes:
    - {path: /dev/accelerator1, type: c, major: 195, minor: 1, fileMode: 0640, permissions: rw}
    env: [DEVICE=one]
    additionalGids: [0, 4711]
- name: two
  containerEdits:
    deviceNodes:
    - {path: /dev/accelerator2, type: c, major: 195, minor: 2}
    env: [DEVICE=two]
containerEdits:
  env: [ACCELERATOR=yes]
  mounts:
  - {hostPath: DIRECTORY, containerPath: /opt/driver, options: [ro, rbind, nosuid, nodev]}
";

#[test]
fn a_device_of_any_vendor_brings_its_node_rule_mount_variables_and_groups() {
    gpurun_only!("other runtimes leave CDI to the engine");
    let machine = machine();
    let driver = machine.directory.path().join("driver");
    fs::create_dir(&driver).expect("mkdir");
    fs::write(driver.join("firmware"), "blob").expect("write");
    machine.file("low/example.yaml", &FOREIGN.replace("DIRECTORY", driver.to_str().unwrap()));
    let script = "nodes open /dev/accelerator1; nodes make 195:1 195:2; cat /opt/driver/firmware; \
                  echo \" $ACCELERATOR $DEVICE\"; id -G; stat -c %a /dev/accelerator1; \
                  touch /opt/driver/x 2>&1";
    for runtime in Runtime::each() {
        let config = config(&["DEVICE=none"], &["sh", "-c", script]);
        let output = machine.run(runtime, annotated(config, "example.org/accelerator=one"));
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(lines[0], "/dev/accelerator1 ENXIO", "{output:?}");
        assert_eq!(lines[1..3], ["195:1 ENXIO", "195:2 EPERM"], "{output:?}");
        assert_eq!(lines[3], "blob yes one");
        assert!(lines[4].ends_with("4711"), "{output:?}");
        assert_eq!(lines[5], "640");
        assert!(lines[6].contains("Read-only file system"), "{output:?}");
    }
}

#[test]
fn a_name_that_cannot_be_resolved_fails_the_create_and_says_why() {
    gpurun_only!("other runtimes leave CDI to the engine");
    let machine = machine();
    machine.file("low/a.json", &one_device("v/c", "0", "A"));
    machine.file("low/b.json", &one_device("v/c", "0", "B"));
    machine.file("low/broken.yaml", "kind: [");
    let refused = |names: &str, phrases: &[&str]| {
        machine
            .run(Runtime::native(), annotated(Config::args(&["true"]), names))
            .refused(1, phrases);
    };
    refused("v/c=0", &["unresolvable CDI devices v/c=0", "also defined in", "broken.yaml"]);
    refused("v/c=9,w/c=1", &["unresolvable CDI devices v/c=9, w/c=1"]);
    refused("all", &["annotation cdi.k8s.io/test_device", "\"all\" is not a CDI device name"]);
    // A directory of higher priority settles the conflict.
    machine.file("high/c.json", &one_device("v/c", "0", "C"));
    let config = annotated(Config::sh("echo $D"), "v/c=0");
    assert_eq!(machine.run(Runtime::native(), config).ok(), "C");
}

fn one_device(kind: &str, name: &str, value: &str) -> String {
    let edits = json!({"env": [format!("D={value}")]});
    json!({"cdiVersion": "0.5.0", "kind": kind, "devices": [{"name": name, "containerEdits": edits}]})
        .to_string()
}

#[test]
fn an_nvidia_name_needs_no_file_and_a_stale_file_is_passed_over() {
    gpurun_only!("other runtimes leave CDI to the engine");
    let machine = machine();
    let mut expected = MadeUpHost::control_nodes();
    expected.push((machine.host.gpus[1].node(), NVIDIA_MAJOR, machine.host.gpus[1].minor));
    expected.sort();
    let natively = |what: &str| {
        // An image's own wish does not count beside a name in an annotation.
        let config = config(&["NVIDIA_VISIBLE_DEVICES=all"], &["nodes", "nodes"]);
        let output = machine.run(Runtime::native(), annotated(config, "nvidia.com/gpu=1"));
        assert_eq!(gpu_nodes(output.ok()), expected, "{what}");
    };
    natively("no file");
    let edits = json!({"mounts": [{"hostPath": "/nonexistent/libcuda.so.1", "containerPath": "/x",
                                   "options": ["rbind"]}]});
    let stale = json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
                       "devices": [{"name": "1", "containerEdits": edits}]});
    machine.file("low/nvidia.yaml", &stale.to_string());
    natively("a stale file");
    let config = config(&["NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=1"], &["nodes", "nodes"]);
    assert_eq!(gpu_nodes(machine.run(Runtime::native(), config).ok()), expected, "variable");
}

/// What an engine makes of `--device nvidia.com/gpu=0` with a file of `nvidia-ctk cdi generate`.
fn resolved_by_an_engine(host: &MadeUpHost, program: &[&str]) -> Config {
    let lib = "/usr/lib/x86_64-linux-gnu";
    let hook = |args: &[&str]| {
        let args: Vec<&str> = ["nvidia-cdi-hook"].iter().chain(args).copied().collect();
        json!({"path": "/nonexistent/nvidia-cdi-hook", "args": args})
    };
    let cuda = format!("libcuda.so.{DRIVER_VERSION}");
    let source = find(&host.driver_root, &cuda);
    config(&["NVIDIA_VISIBLE_DEVICES=void"], program)
        .mount(&format!("{lib}/{cuda}"), "bind", source.to_str().unwrap(), &["ro", "rbind"])
        .push(
            "/linux/devices",
            json!({"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0}),
        )
        .hook(
            "createContainer",
            hook(&[
                "create-symlinks",
                "--link",
                &format!("libcuda.so.1::{lib}/libcuda.so"),
                "--link",
                "../nvidia0::/dev/dri/by-path/x",
            ]),
        )
        .hook(
            "createContainer",
            hook(&["enable-cuda-compat", "--host-driver-version", DRIVER_VERSION]),
        )
        .hook("createContainer", hook(&["update-ldcache", "--folder", lib]))
        .hook("createContainer", hook(&["disable-device-node-modification"]))
        .hook("createContainer", hook(&["update-application-profile"]))
        .hook("createContainer", hook(&["chmod", "--mode", "755", "--path", "/dev/dri"]))
}

fn find(root: &std::path::Path, name: &str) -> PathBuf {
    let output = Command::new("find").arg(root).args(["-name", name]).output().expect("find");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut paths = text.lines().filter(|path| !path.contains("i386") && !path.contains("lib32"));
    PathBuf::from(paths.next().expect("the stub driver has it"))
}

#[test]
fn nvidias_hooks_are_not_run_and_their_work_is_done() {
    gpurun_only!("other runtimes run the hooks");
    let machine = machine();
    let script = "cd /usr/lib/x86_64-linux-gnu; readlink libcuda.so; readlink libcuda.so.1; \
                  readlink /dev/dri/by-path/x; stat -c %a /dev/dri; \
                  grep -c libcuda.so.1 /etc/ld.so.cache; \
                  cat /etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";
    let config = resolved_by_an_engine(&machine.host, &["sh", "-c", script]);
    let output = machine.run(Runtime::native(), config);
    let lines: Vec<&str> = output.ok().lines().collect();
    let cuda = format!("libcuda.so.{DRIVER_VERSION}");
    assert_eq!(lines[..5], ["libcuda.so.1", &cuda, "../nvidia0", "755", "1"], "{output:?}");
    let profile: serde_json::Value = serde_json::from_str(&lines[5..].join("\n")).expect("JSON");
    assert_eq!(profile["profiles"][0]["settings"], json!(["EGLVisibleDGPUDevices", 1]));
}

#[test]
fn a_hook_that_is_not_known_is_run_as_it_is_given() {
    gpurun_only!("other runtimes run all hooks");
    let machine = machine();
    let hook =
        json!({"path": "/nonexistent/nvidia-cdi-hook", "args": ["nvidia-cdi-hook", "invented"]});
    let config = Config::args(&["true"]).hook("createContainer", hook);
    machine.run(Runtime::native(), config).refused(1, &["/nonexistent/nvidia-cdi-hook"]);
}

#[test]
fn newer_libraries_of_the_image_are_used_only_when_they_are_newer_than_the_driver() {
    gpurun_only!("other runtimes leave this to a hook");
    let machine = machine();
    for (version, is_used) in [("999.10.5", true), ("400.1.1", false)] {
        let program = ["grep", "-c", "/usr/local/cuda/compat/libcuda", "/etc/ld.so.cache"];
        let config = config(&["NVIDIA_VISIBLE_DEVICES=0"], &program);
        let container = GpuContainer::new(Runtime::native(), &machine.host, config);
        let compat = container.container.rootfs().join("usr/local/cuda/compat");
        fs::create_dir_all(&compat).expect("mkdir");
        let driver = find(&machine.host.driver_root, &format!("libcuda.so.{DRIVER_VERSION}"));
        fs::copy(driver, compat.join(format!("libcuda.so.{version}"))).expect("copy");
        let output = container.run();
        assert_eq!(output.stdout.trim() != "0", is_used, "{version}: {output:?}");
    }
}

#[test]
fn cdi_list_and_validate_name_devices_files_and_problems() {
    gpurun_only!("gpurun's own command");
    let machine = machine();
    let good = machine.file("low/good.json", &one_device("v/c", "0", "A"));
    let list = machine.cdi(&["list"]);
    assert_eq!(list.ok(), format!("v/c=0  {}", good.display()));
    machine.cdi(&["validate"]).ok();
    let bad = machine.file("high/bad.yaml", "cdiVersion: 0.5.0\nkind: v/c\ndevicez: []\n");
    let invalid = machine.cdi(&["validate"]);
    invalid.refused(1, &["1 CDI file is not valid"]);
    for part in ["good.json: valid", "bad.yaml: ", "`devicez`", "line 3"] {
        assert!(invalid.stdout.contains(part), "{part}: {invalid:?}");
    }
    machine.cdi(&["validate", good.to_str().unwrap()]).ok();
    machine.cdi(&["validate", bad.to_str().unwrap(), "/nonexistent"]).refused(1, &["/nonexistent"]);
    let list = machine.cdi(&["list", "--json"]).json();
    assert_eq!(list["devices"][0]["name"], "v/c=0");
    assert!(list["problems"][0]["file"].as_str().unwrap().ends_with("bad.yaml"));
}

#[test]
fn names_of_cdi_files_do_not_steer_the_terminal() {
    gpurun_only!("gpurun's own command");
    let machine = machine();
    machine.file("low/a\x1b[2J.json", &one_device("v/c", "0", "A"));
    machine.file("low/b\x1b[2J.json", "[]");
    for command in ["list", "validate"] {
        let output = machine.cdi(&[command]);
        assert!(output.stdout.contains("a\u{fffd}[2J.json"), "{output:?}");
        assert!(!format!("{}{}", output.stdout, output.stderr).contains('\x1b'), "{output:?}");
    }
}

#[test]
fn the_log_warns_of_a_stale_file_and_not_of_none() {
    gpurun_only!("other runtimes leave CDI to the engine");
    let machine = machine();
    let logged = || {
        let config = annotated(Config::args(&["true"]), "nvidia.com/gpu=1");
        let container = GpuContainer::new(Runtime::native(), &machine.host, config);
        let bundle = container.container.bundle();
        let (bundle, log) = (bundle.to_str().expect("path"), container.container.path("log"));
        let explained = container.call(&["explain", "--bundle", bundle]);
        assert!(explained.ok().contains("taken from the machine itself"), "{explained:?}");
        let run = ["--log", log.to_str().expect("path"), "run", "--bundle", bundle];
        container.call(&[&run[..], &[container.container.id()]].concat()).ok();
        fs::read_to_string(log).unwrap_or_default()
    };
    assert_eq!(logged(), "");
    let stale = json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
        "devices": [{"name": "1", "containerEdits": {"mounts": [
            {"hostPath": "/nonexistent/x", "containerPath": "/x", "options": ["bind"]}]}}]});
    machine.file("low/nvidia.yaml", &stale.to_string());
    assert!(logged().contains("is stale: /nonexistent/x"));
    machine.file("low/nvidia.yaml", &one_device("nvidia.com/gpu", "0", "x"));
    assert!(logged().contains("no CDI file defines nvidia.com/gpu=1"));
}

#[test]
fn what_an_engine_has_applied_already_is_not_applied_again() {
    gpurun_only!("other runtimes leave CDI to the engine");
    let machine = machine();
    let (driver, other) = (machine.directory.path().join("driver"), machine.directory.path());
    fs::create_dir(&driver).expect("mkdir");
    machine.file("low/example.yaml", &FOREIGN.replace("DIRECTORY", driver.to_str().unwrap()));
    // As an engine leaves it, but for what somebody has changed afterwards: the mount is writable.
    let applied = |variable: &str, source: &std::path::Path| {
        let script = "echo $DEVICE; nodes open /dev/accelerator1; \
                      touch /opt/driver/x 2>/dev/null && echo writable || echo not";
        let config = config(&["ACCELERATOR=yes", variable], &["sh", "-c", script])
            .push(
                "/mounts",
                json!({"source": source, "destination": "/opt/driver",
                                    "type": "bind", "options": ["rbind"]}),
            )
            .set(
                "/linux/devices",
                json!([{"path": "/dev/accelerator1", "type": "c", "major": 195,
                                           "minor": 1, "fileMode": 0o600}]),
            )
            .push(
                "/linux/resources/devices",
                json!({"allow": true, "type": "c", "major": 195,
                                                     "minor": 1, "access": "rw"}),
            );
        let config = annotated(config, "example.org/accelerator=one");
        let container = GpuContainer::new(Runtime::native(), &machine.host, config);
        let bundle = container.container.bundle();
        let explained = container.call(&["explain", "--bundle", bundle.to_str().expect("path")]);
        (container.run().ok().to_owned(), explained.ok().contains("applied already"))
    };
    let (said, is_passed_over) = applied("DEVICE=one", &driver);
    assert_eq!((&*said, is_passed_over), ("one\n/dev/accelerator1 ENXIO\nwritable", true));
    for (variable, source) in [("DEVICE=other", &*driver), ("DEVICE=one", other)] {
        let (said, is_passed_over) = applied(variable, source);
        assert_eq!((&*said, is_passed_over), ("one\n/dev/accelerator1 ENXIO\nnot", false));
    }
}
