//! `gpurun node configure`, held against the engines that read its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::containerd::Containerd;
use integration_tests::dockerd::Docker;
use integration_tests::gpu_host::{Layout, MadeUpHost};
use integration_tests::runtime::finish;
use integration_tests::{Output, Runtime, gpurun_only, skipped, wait_for};

/// Only what is asked for: device 1 and its control node, not device 0.
const NODES: [&str; 5] = ["nodes", "make", "195:1", "195:255", "195:0"];
const GIVEN: &str = "195:1 ENXIO\n195:255 ENXIO\n195:0 EPERM";

fn made_up_host() -> (tempfile::TempDir, PathBuf) {
    let machine = tempfile::tempdir().expect("temporary directory");
    let host = MadeUpHost::build(machine.path(), &Layout::with_gpus(2)).expect("made-up host");
    let config = host.config();
    (machine, config)
}

/// `gpurun node ARGS... --path GPURUN`, on a machine with the GPUs of this configuration.
fn node(config: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(Runtime::binary());
    command.env("GPURUN_CONFIG", config).arg("node").args(args);
    finish(command.arg("--path").arg(Runtime::binary()), b"")
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn docker_runs_a_gpu_container_under_both_names_and_as_its_default() {
    gpurun_only!("it configures gpurun");
    if !has("dockerd") {
        return skipped("no dockerd in PATH (Debian: docker.io)");
    }
    let (machine, config) = made_up_host();
    let file = machine.path().join("daemon.json");
    let before =
        "{\n    \"log-driver\": \"json-file\",\n    \"features\": {\"buildkit\": true}\n}\n";
    fs::write(&file, before).expect("write");
    let path = file.to_str().expect("UTF-8");
    let args = ["configure", "docker", "--config", path, "--as", "nvidia", "--set-as-default"];
    assert!(node(&config, &args).ok().starts_with(&format!("changed {path}\n")));

    let options = [format!("--config-file={path}")];
    let docker = Docker::start_with(&config, &options).expect("start dockerd");
    for runtime in [&[][..], &["--runtime", "gpurun"], &["--runtime", "nvidia"]] {
        let request = ["--env", "NVIDIA_VISIBLE_DEVICES=1"];
        let output = docker.run(&[runtime, &request[..]].concat(), &NODES);
        assert_eq!(output.ok(), GIVEN, "{runtime:?}");
    }
    let info = docker.call(&["info", "--format", "{{.DefaultRuntime}} {{.LoggingDriver}}"]);
    assert_eq!(info.ok(), "gpurun json-file");

    the_installers_image_sets_a_node_up_and_leaves_it_so(&docker, machine.path());

    let undo = ["unconfigure", "docker", "--config", path];
    node(&config, &undo).ok();
    assert_eq!(fs::read_to_string(&file).expect("read"), before);
    assert!(!machine.path().join("daemon.json.before-gpurun").exists());
}

/// hack/kubernetes: the image, run as the DaemonSet does, for a node in a directory.
fn the_installers_image_sets_a_node_up_and_leaves_it_so(docker: &Docker, dir: &Path) {
    let (root, context) = (dir.join("node"), dir.join("context"));
    for dir in ["etc/containerd", "proc", "sys/bus/pci/devices/0000:65:00.0", "dev"] {
        fs::create_dir_all(root.join(dir)).expect("directory");
    }
    let gpu = root.join("sys/bus/pci/devices/0000:65:00.0");
    fs::write(gpu.join("class"), "0x030200\n").expect("write");
    fs::write(gpu.join("vendor"), "0x10de\n").expect("write");
    fs::create_dir_all(&context).expect("directory");
    fs::copy(Runtime::binary(), context.join("gpurun")).expect("copy");
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/kubernetes/Dockerfile");
    let recipe = recipe.to_str().expect("UTF-8");
    let mut build = docker.command(&["build", "--quiet", "--tag", "installer", "--file", recipe]);
    // The builder that needs no plug-in.
    finish(build.arg(&context).env("DOCKER_BUILDKIT", "0"), b"").ok();

    let volume = format!("{}:/host", root.display());
    let fixed = ["run", "--detach", "--name", "installer", "--privileged", "--pid", "host"];
    let node = ["--volume", &volume, "--env", "HOST_ROOT_MOUNT=/host", "--read-only"];
    let names = ["--env", "CONTAINERD_RUNTIME_CLASS=nvidia", "installer"];
    docker.call(&[&fixed[..], &node, &names].concat()).ok();
    let ready = ["exec", "installer", "/gpurun", "node", "install", "--check"];
    wait_for("the readiness probe", || docker.call(&ready).code == 0);
    docker.call(&["stop", "installer"]).ok();
    let log = docker.call(&["logs", "installer"]);
    assert!(log.ok().ends_with("SIGTERM: ending"), "{log:?}");
    docker.call(&["rm", "installer"]).ok();

    let config = fs::read_to_string(root.join("etc/containerd/config.toml")).expect("read");
    let binary = "BinaryName = \"/usr/local/gpurun/current/gpurun\"";
    assert!(config.contains("runtimes.nvidia]") && config.contains(binary), "{config}");
    let program = root.join("usr/local/gpurun/current/gpurun");
    assert!(finish(Command::new(program).arg("--version"), b"").ok().starts_with("gpurun"));
}

#[test]
fn containerd_starts_its_cri_plugin_with_the_configured_runtime() {
    gpurun_only!("it configures gpurun");
    if !has("containerd") {
        return skipped("no containerd in PATH (Debian: containerd)");
    }
    let (_machine, config) = made_up_host();
    // Plain, as a package leaves it: containerd has its runc by itself.
    let lines = "# ours\n";
    let edit = |file: &Path| {
        let path = file.to_str().expect("UTF-8");
        let args = ["configure", "containerd", "--config", path, "--as", "nvidia"];
        node(&config, &args).ok();
    };
    let containerd = Containerd::start_with(&config, lines, edit).expect("start containerd");
    let plugin = containerd.call(&["plugins", "list", "--detailed", "id==cri"]);
    assert!(plugin.ok().contains("CRIVersion"), "{plugin:?}");
    assert!(!plugin.ok().contains("runtime"), "it found every runtime: {plugin:?}");

    let file = containerd.daemon.dir.join("config.toml");
    let mut dump = Command::new("containerd");
    dump.arg("--config").arg(&file).args(["config", "dump"]);
    let dump = finish(&mut dump, b"");
    let binary = format!("BinaryName = \"{}\"", Runtime::binary().display());
    for (name, expected) in
        [("gpurun", &*binary), ("nvidia", &binary), ("runc", "io.containerd.runc.v2")]
    {
        let table = format!("containerd.runtimes.{name}]");
        let (_, rest) = dump.ok().split_once(&table).unwrap_or_else(|| panic!("{dump:?}"));
        let entry: Vec<&str> = rest.lines().take(14).collect();
        assert!(entry.iter().any(|line| line.contains(expected)), "no {expected} in {entry:#?}");
    }
    let request = ["--env", "NVIDIA_VISIBLE_DEVICES=1"];
    assert_eq!(containerd.run("configured", &request, &NODES).ok(), GIVEN);
}

#[test]
fn podman_finds_the_runtime_by_its_name() {
    gpurun_only!("it configures gpurun");
    if !has("podman") {
        return skipped("no podman in PATH (Debian: podman)");
    }
    let (machine, config) = made_up_host();
    let root = machine.path().join("root");
    fs::create_dir_all(root.join("etc/containers")).expect("directory");
    let mut command = Command::new("cp");
    command.args(["-a", "/etc/containers/."]).arg(root.join("etc/containers"));
    finish(&mut command, b"").ok();
    let root_name = root.to_str().expect("UTF-8");
    let args = ["configure", "podman", "--root", root_name, "--force", "--set-as-default"];
    node(&config, &[&args[..], &["--as", "nvidia"]].concat()).ok();

    // podman's own directory, with the machine's configuration covered by the made-up one's.
    let script = "mount --bind \"$0\" /etc/containers && exec podman \"$@\"";
    let store = machine.path().join("store");
    for name in ["gpurun", "nvidia"] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(root.join("etc/containers"));
        command.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
        command.arg("--tmpdir").arg(store.join("tmp")).args(["--storage-driver", "vfs"]);
        if name != "gpurun" {
            command.args(["--runtime", name]);
        }
        command.args(["info", "--format", "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}"]);
        let output = finish(&mut command, b"");
        assert_eq!(output.ok(), format!("{name} {}", Runtime::binary().display()));
    }
}

#[test]
fn nothing_is_written_where_nothing_changes_and_a_dry_run_writes_nothing() {
    gpurun_only!("it configures gpurun");
    let (machine, config) = made_up_host();
    let dir = machine.path().join("etc");
    fs::create_dir(&dir).expect("directory");
    let file = dir.join("daemon.json");
    let path = file.to_str().expect("UTF-8");
    let args = ["configure", "docker", "--config", path];
    let diff = node(&config, &[&args[..], &["--dry-run"]].concat());
    assert!(diff.ok().starts_with(&format!("--- /dev/null\n+++ {path}\n@@ -0,0 +1,")), "{diff:?}");
    assert!(!file.exists());
    node(&config, &args).ok();
    let written = fs::metadata(&file).and_then(|meta| meta.modified()).expect("time");
    let again = node(&config, &args);
    assert_eq!(again.ok(), format!("nothing to change in {path}"));
    assert_eq!(fs::metadata(&file).and_then(|meta| meta.modified()).expect("time"), written);
    let restart = node(&config, &[&args[..], &["--restart"]].concat());
    assert_eq!(restart.ok(), format!("nothing to change in {path}"));
    node(&config, &["unconfigure", "docker", "--config", path]).ok();
    assert_eq!(fs::read_dir(&dir).expect("list").count(), 0, "nothing was there, nothing is left");
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_the_file_as_it_is() {
    gpurun_only!("it configures gpurun");
    let (machine, config) = made_up_host();
    let file = machine.path().join("containerd.toml");
    let path = file.to_str().expect("UTF-8");
    fs::write(&file, "version = 2\n[plugins\n").expect("write");
    let args = ["configure", "containerd", "--config", path];
    node(&config, &args).refused(1, &[path, "line 2"]);
    assert_eq!(fs::read_to_string(&file).expect("read"), "version = 2\n[plugins\n");
    fs::write(&file, "version = 2\n").expect("write");
    node(&config, &[&args[..], &["--reload"]].concat()).refused(1, &["use --restart"]);
    if !Path::new("/run/systemd/system").exists() {
        let restart = node(&config, &[&args[..], &["--restart"]].concat());
        restart.refused(1, &["not run by systemd"]);
    }
    assert_eq!(fs::read_to_string(&file).expect("read"), "version = 2\n");

    let docker = ["configure", "docker", "--config", path, "--runtime-class", "runc"];
    node(&config, &docker).refused(1, &["runc", "choose another"]);
    let name = ["configure", "docker", "--as", "no name"];
    node(&config, &name).refused(1, &["no name", "letters"]);
    let mut missing = Command::new(Runtime::binary());
    missing.env("GPURUN_CONFIG", &config).args(["node", "configure", "docker"]);
    missing.args(["--path", "/nowhere/gpurun"]);
    finish(&mut missing, b"").refused(1, &["/nowhere/gpurun", "--path"]);
}

#[test]
fn a_machine_without_a_gpu_stays_as_it_is_unless_forced() {
    gpurun_only!("it configures gpurun");
    let root = tempfile::tempdir().expect("temporary directory");
    for dir in ["proc", "sys", "dev", "usr/local/bin"] {
        fs::create_dir_all(root.path().join(dir)).expect("directory");
    }
    fs::copy(Runtime::binary(), root.path().join("usr/local/bin/gpurun")).expect("copy");
    let call = |more: &[&str]| {
        let mut command = Command::new(Runtime::binary());
        command.args(["node", "configure", "containerd", "--root"]).arg(root.path()).args(more);
        finish(&mut command, b"")
    };
    assert!(call(&[]).ok().starts_with("this machine has no GPU: nothing to change"));
    assert!(!root.path().join("etc").exists());
    // One on the bus is enough, without its driver.
    let gpu = root.path().join("sys/bus/pci/devices/0000:65:00.0");
    fs::create_dir_all(&gpu).expect("directory");
    fs::write(gpu.join("class"), "0x030200\n").expect("write");
    fs::write(gpu.join("vendor"), "0x10de\n").expect("write");
    assert!(call(&[]).ok().starts_with("changed /etc/containerd/config.toml"));
    fs::remove_dir_all(&gpu).expect("remove");
    assert!(call(&["--force", "--as", "nvidia"]).ok().starts_with("changed"));
}

#[test]
fn an_installer_that_is_killed_at_any_moment_leaves_a_program_that_runs() {
    gpurun_only!("it installs gpurun");
    let root = tempfile::tempdir().expect("temporary directory");
    fs::create_dir_all(root.path().join("etc/containerd")).expect("directory");
    let sources = tempfile::tempdir().expect("temporary directory");
    let current = root.path().join("usr/local/gpurun/current/gpurun");
    let install = |source: &Path| {
        let mut command = Command::new(source);
        // The variable of these tests is one of the installer as well.
        command.env_remove("RUNTIME");
        command.args(["node", "install", "--force", "--restart-mode", "none", "--root"]);
        command.arg(root.path()).stdout(std::process::Stdio::null());
        command
    };
    assert!(install(&Runtime::binary()).status().expect("start").success());
    for round in 0..8u64 {
        // Another version each time: the same program with a few bytes behind its end.
        let source = sources.path().join(format!("gpurun-{round}"));
        let mut bytes = fs::read(Runtime::binary()).expect("read");
        bytes.extend_from_slice(&round.to_le_bytes());
        fs::write(&source, bytes).expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&source, mode).expect("chmod");
        let mut child = install(&source).spawn().expect("start");
        std::thread::sleep(std::time::Duration::from_millis(round * 7));
        let _ = child.kill();
        child.wait().expect("wait");
        let output = finish(Command::new(&current).arg("--version"), b"");
        assert!(output.ok().starts_with("gpurun version"), "round {round}: {output:?}");
        fs::remove_file(&source).expect("remove");
    }
    assert!(install(&Runtime::binary()).status().expect("start").success());
    let versions = fs::read_dir(root.path().join("usr/local/gpurun/versions")).expect("list");
    let names: Vec<_> = versions.flatten().map(|entry| entry.file_name()).collect();
    assert!(names.len() <= 2, "versions that nobody uses are removed: {names:?}");
    let config = fs::read_to_string(root.path().join("etc/containerd/config.toml")).expect("read");
    assert_eq!(config.matches("BinaryName").count(), 1, "{config}");
}
