//! `gpurun cdi generate`: the file, and what containers get that any runtime makes from it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{DRIVER_VERSION, Layout, MadeUpHost, Mig};
use integration_tests::{
    Config, Container, Output, Runtime, cdi_file, gpurun_only, images, rootfs, runtime, skipped,
};
use serde_json::Value;
use tempfile::TempDir;

struct Machine {
    host: MadeUpHost,
    directory: TempDir,
}

fn machine(layout: &Layout) -> Machine {
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let host =
        MadeUpHost::build(&directory.path().join("host"), layout).expect("a made-up machine");
    Machine { host, directory }
}

impl Machine {
    fn cdi(&self, args: &[&str]) -> Output {
        let mut command = Command::new(Runtime::binary());
        command.env("GPURUN_CONFIG", self.host.config()).arg("cdi").args(args);
        runtime::finish(&mut command, b"")
    }

    fn generate(&self, args: &[&str]) -> Output {
        self.cdi(&[&["generate"], args].concat())
    }

    fn file(&self, args: &[&str]) -> Value {
        self.generate(&[&["--format", "json"], args].concat()).json()
    }
}

fn names(file: &Value) -> Vec<&str> {
    file["devices"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn devices_are_called_and_chosen_as_the_options_say() {
    gpurun_only!("gpurun's own command");
    let machine = machine(&Layout::with_gpus(2));
    let [zero, one] = [&machine.host.gpus[0].uuid, &machine.host.gpus[1].uuid];
    let named = |args: &[&str], expected: &[&str]| {
        assert_eq!(names(&machine.file(args)), expected, "{args:?}");
    };
    named(&[], &["0", zero, "1", one, "all"]);
    named(&["--device-name-strategy", "index"], &["0", "1", "all"]);
    named(&["--device-name-strategy=type-index", "--no-all-device"], &["gpu0", "gpu1"]);
    let both = ["--device-name-strategy", "uuid", "--device-name-strategy", "index"];
    named(&both, &[zero, "0", one, "1", "all"]);
    named(&["--device-id", "1", "--no-all-device"], &["1", one]);
    named(&["--device-id", one, "--no-all-device"], &["1", one]);
    named(&["--device-id", &machine.host.gpus[1].bus_id, "--no-all-device"], &["1", one]);
    let file = machine.file(&["--vendor", "example.com", "--class", "card"]);
    assert_eq!(file["kind"], "example.com/card");
    for (args, phrases) in [
        (&["--device-id", "7"][..], &["--device-id \"7\"", "present: 0, 1"][..]),
        (&["--vendor", "9x"], &["vendor"]),
        (&["--kind", "a/b"], &["--kind", "nvidia.com/gpu"]),
        (&["--output", "/tmp/x.json", "--format", "yaml"], &["extension"]),
        (&["--output", "/dev/null"], &["/dev/null", "not a regular file"]),
        (&["--hook-path", "relative"], &["absolute"]),
    ] {
        machine.generate(args).refused(1, phrases);
    }
}

#[test]
fn a_divided_gpu_is_described_by_its_mig_devices() {
    gpurun_only!("gpurun's own command");
    let mut layout = Layout::with_gpus(2);
    layout.mig = vec![Mig { gpu_minor: 1, gi: 1, ci: 0 }, Mig { gpu_minor: 1, gi: 2, ci: 0 }];
    let machine = machine(&layout);
    let file = machine.file(&["--device-name-strategy", "type-index"]);
    assert_eq!(names(&file), ["gpu0", "mig1:0", "mig1:1", "all"]);
    let nodes = |at: usize| -> Vec<String> {
        let nodes = file["devices"][at]["containerEdits"]["deviceNodes"].as_array().unwrap();
        nodes.iter().map(|node| node["path"].as_str().unwrap().to_owned()).collect()
    };
    let [gi, ci] = layout.mig[0].nodes().map(|node| node.0);
    assert_eq!(nodes(1), ["/dev/nvidia1".to_owned(), gi, ci]);
    assert!(nodes(0).contains(&"/dev/nvidia0".to_owned()) && nodes(3).len() > nodes(1).len());
}

#[test]
fn the_file_is_replaced_in_one_step_readable_for_all_and_valid() {
    gpurun_only!("gpurun's own command");
    let machine = machine(&Layout::with_gpus(1));
    let path = machine.directory.path().join("new/cdi/nvidia.yaml");
    let text = path.to_str().unwrap();
    let script =
        format!("umask 077; exec {} cdi generate --output {text}", Runtime::binary().display());
    for _ in 0..2 {
        let mut command = Command::new("sh");
        command.env("GPURUN_CONFIG", machine.host.config()).args(["-c", &script]);
        assert_eq!(runtime::finish(&mut command, b"").ok(), "");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
    machine.cdi(&["validate", text]).ok();
    let content = fs::read_to_string(&path).unwrap();
    assert!(content.contains("cdiVersion: \"0.5.0\"\nkind: nvidia.com/gpu\n"), "{content}");
    // The number of this module is another one after each boot.
    let uvm = content.split("- path: /dev/nvidia-uvm\n").nth(1).unwrap();
    assert!(uvm.lines().take(3).all(|line| !line.contains("major")), "{uvm}");
}

/// What the container's files look like.
const SCRIPT: &str = "\
ldconfig -p | grep -c -e 'libcuda.so.1 .*=> /usr/lib/x86_64-linux-gnu/' -e 'libnvidia-ml.so.1 ';
ldconfig -p | grep -c libc.so.6;
cd /usr/lib/x86_64-linux-gnu; for link in libcuda.so libcuda.so.1 gbm/nvidia-drm_gbm.so /dev/dri/by-path/*; do readlink $link; done;
 ls /proc/driver/nvidia/gpus; grep Modify /proc/driver/nvidia/params;
echo x 2>/dev/null > /proc/driver/nvidia/params || echo cannot be written;
grep -c Visible /etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf;
echo $NVIDIA_VISIBLE_DEVICES; nvidia-smi; nodes nodes";

/// Who makes the container. The machine that runs the tests has no driver, so proc's files of one
/// come another way: gpurun can do without a proc filesystem, so the image has them; runc cannot,
/// so a hook mounts them before the hooks of the file are run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    Runc,
    Gpurun,
}

fn bundle(
    machine: &Machine,
    maker: Maker,
    file: &Value,
    device: &str,
    script: &str,
) -> GpuContainer {
    let env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    let config = config(&env, &["sh", "-c", script]);
    let gpu = GpuContainer::new(Runtime::native(), &machine.host, config.clone());
    let rootfs = gpu.container.rootfs();
    let image = images::fedora_like().expect("make an image");
    images::install(&image, &rootfs).expect("copy the image");
    fs::create_dir_all(rootfs.join("proc")).expect("mkdir");
    let (config, driver) = match maker {
        Maker::Gpurun => {
            let config = config
                .without_mount("/proc")
                .remove("/linux/maskedPaths")
                .remove("/linux/readonlyPaths");
            (config, rootfs.join("proc/driver/nvidia"))
        }
        Maker::Runc => {
            let driver = gpu.container.path("driver");
            let place = rootfs.join("proc/driver");
            let args = serde_json::json!(["mount", "--bind", driver, place]);
            let hook = serde_json::json!({"path": "/bin/mount", "args": args});
            (config.hook("createContainer", hook), driver.join("nvidia"))
        }
    };
    for one in &machine.host.gpus {
        fs::create_dir_all(driver.join("gpus").join(&one.bus_id)).expect("make the list of GPUs");
    }
    let params = machine.host.root.join("proc/driver/nvidia/params");
    fs::copy(params, driver.join("params")).expect("copy a file");
    gpu.container.configure(cdi_file::apply(file, device, config));
    gpu
}

/// Debian's runc makes the container, with nothing of gpurun's but the hooks.
fn by_runc(container: &Container) -> Option<Output> {
    let Ok(version) = Command::new("runc").arg("--version").output() else {
        skipped("no runc in PATH (Debian: runc)");
        return None;
    };
    assert!(version.status.success(), "{version:?}");
    let mut command = Command::new("runc");
    command.arg("--root").arg(container.path("runc")).args(["run", "--bundle"]);
    command.arg(container.bundle()).arg(container.id());
    Some(runtime::finish(&mut command, b""))
}

fn check(machine: &Machine, output: &Output) {
    let lines: Vec<&str> = output.ok().lines().collect();
    let cuda = format!("libcuda.so.{DRIVER_VERSION}");
    let expected = [
        "2",
        "1",
        "libcuda.so.1",
        &cuda,
        "../libnvidia-allocator.so.1",
        "../card2",
        "../renderD129",
        &machine.host.gpus[1].bus_id,
        "ModifyDeviceFiles: 0",
        "cannot be written",
        "1",
        "void",
    ];
    assert_eq!(lines[..expected.len()], expected, "{output:?}");
    assert!(output.stdout.contains("GPU node: /dev/nvidia1"), "{output:?}");
    let nodes: Vec<String> = gpu_nodes(&output.stdout).into_iter().map(|node| node.0).collect();
    assert_eq!(
        nodes,
        [
            "/dev/dri/card2",
            "/dev/dri/renderD129",
            "/dev/nvidia-modeset",
            "/dev/nvidia-uvm",
            "/dev/nvidia-uvm-tools",
            "/dev/nvidia1",
            "/dev/nvidiactl"
        ]
    );
}

#[test]
fn runc_and_gpurun_make_the_same_container_of_the_file() {
    gpurun_only!("gpurun's own command");
    let machine = machine(&Layout::with_gpus(2));
    let file = machine.file(&[]);
    let container = bundle(&machine, Maker::Runc, &file, "1", SCRIPT);
    if let Some(output) = by_runc(&container.container) {
        check(&machine, &output);
        // The same rootfs once more, as an engine restarts a container.
        check(&machine, &by_runc(&container.container).unwrap());
    }
    // With gpurun the hooks are not run: they need not even be there.
    let file = machine.file(&["--hook-path", "/nonexistent/gpurun"]);
    let container = bundle(&machine, Maker::Gpurun, &file, "1", SCRIPT);
    check(&machine, &container.run());
    let explained =
        container.call(&["explain", "--bundle", container.container.bundle().to_str().unwrap()]);
    assert!(explained.ok().contains("gpurun hides the other GPUs in proc"), "{explained:?}");
}

#[test]
fn gpurun_is_nvidias_hook_under_its_name() {
    gpurun_only!("gpurun's own command");
    let machine = machine(&Layout::with_gpus(2));
    let hook = machine.directory.path().join("nvidia-cdi-hook");
    symlink(Runtime::binary(), &hook).expect("link");
    let file = machine.file(&["--hook-path", hook.to_str().unwrap()]);
    let text = file.to_string();
    assert!(text.contains("[\"nvidia-cdi-hook\",\"update-ldcache\""), "{text}");
    let script =
        "ldconfig -p | grep -c libcuda.so.1; readlink /usr/lib/x86_64-linux-gnu/libcuda.so";
    let container = bundle(&machine, Maker::Runc, &file, "0", script);
    if let Some(output) = by_runc(&container.container) {
        assert_eq!(output.ok(), "1\nlibcuda.so.1");
    }
}

#[test]
fn hooks_work_in_a_user_namespace_and_see_to_the_images_newer_libcuda() {
    gpurun_only!("gpurun's own command");
    let machine = machine(&Layout::with_gpus(2));
    let script = "ldconfig -p | grep -m 1 libcuda.so.1; id -u; \
                  readlink /usr/lib/x86_64-linux-gnu/libcuda.so";
    let container = bundle(&machine, Maker::Gpurun, &serde_json::json!({}), "0", script);
    let rootfs = container.container.rootfs();
    let compat = rootfs.join("usr/local/cuda/compat");
    fs::create_dir_all(&compat).expect("mkdir");
    let driver = machine.host.driver_root.join(library("libcuda"));
    fs::copy(driver, compat.join("libcuda.so.999.10.5")).expect("copy");
    rootfs::give_to(&rootfs, 200_000, 200_000);
    let mapping = serde_json::json!([{"containerID": 0, "hostID": 200_000, "size": 65_536}]);
    let env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    let config = config(&env, &["sh", "-c", script])
        .namespace("user", Some(""))
        .set("/linux/uidMappings", mapping.clone())
        .set("/linux/gidMappings", mapping);
    let mut file = machine.file(&[]);
    cdi_file::without_nodes(&mut file);
    container.container.configure(cdi_file::apply(&file, "0", config));
    if let Some(output) = by_runc(&container.container) {
        let lines: Vec<&str> = output.ok().lines().map(str::trim).collect();
        assert!(lines[0].contains("/usr/local/cuda/compat/libcuda.so.999.10.5"), "{output:?}");
        assert_eq!(lines[1..3], ["0", "libcuda.so.1"], "{output:?}");
    }
}

/// The command where the bundle's directory is a mount that is shared with others.
fn shared(container: &Container, inner: &Command) -> Output {
    let script = "mount --bind $1 $1 && mount --make-rshared $1 && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "shared", "sh", "-c", script, "sh"]);
    command.arg(container.path(".")).arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    runtime::finish(&mut command, b"")
}

#[test]
fn no_mount_of_the_driver_is_left_on_a_machine_whose_mounts_are_shared() {
    gpurun_only!("gpurun's own command");
    let machine = machine(&Layout::with_gpus(2));
    for maker in [Maker::Runc, Maker::Gpurun] {
        let gpu = bundle(&machine, maker, &serde_json::json!({}), "0", "true");
        let container = &gpu.container;
        let seen = container.path("mounts");
        let count = format!("grep -c bundle/rootfs/ /proc/self/mountinfo > {}", seen.display());
        let hook = serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", count + "; true"]});
        let config = config(&["PATH=/bin:/sbin:/usr/sbin"], &["sh", "-c", "ldconfig -p"])
            .set("/linux/rootfsPropagation", "rshared".into())
            .hook("poststart", hook);
        container.configure(cdi_file::apply(&machine.file(&[]), "0", config));
        let bundle = container.bundle();
        let run = ["run", "--bundle", bundle.to_str().unwrap(), container.id()];
        let output = match maker {
            Maker::Gpurun => shared(container, &gpu.command(&run)),
            Maker::Runc => {
                if by_runc(container).is_none() {
                    continue;
                }
                let mut command = Command::new("runc");
                command.arg("--root").arg(container.path("runc")).args(run);
                shared(container, &command)
            }
        };
        assert!(output.ok().contains("libcuda.so.1"), "{output:?}");
        assert_eq!(fs::read_to_string(seen).expect("the hook has run").trim(), "0");
    }
}

fn library(name: &str) -> String {
    format!("usr/lib/{}-linux-gnu/{name}.so.{DRIVER_VERSION}", std::env::consts::ARCH)
}

#[test]
fn a_hostile_image_leads_a_hook_to_no_file_of_the_machine() {
    gpurun_only!("gpurun's own command");
    let machine = machine(&Layout::with_gpus(2));
    let outside = machine.directory.path().join("outside");
    fs::create_dir(&outside).expect("mkdir");
    fs::write(outside.join("ld.so.cache"), "mine").expect("write");
    let container = bundle(&machine, Maker::Runc, &machine.file(&[]), "0", "true");
    let rootfs = container.container.rootfs();
    let _ = fs::remove_file(rootfs.join("etc/ld.so.cache"));
    symlink(outside.join("ld.so.cache"), rootfs.join("etc/ld.so.cache")).expect("link");
    fs::remove_dir_all(rootfs.join("etc/ld.so.conf.d")).expect("rm");
    symlink(&outside, rootfs.join("etc/ld.so.conf.d")).expect("link");
    symlink(&outside, rootfs.join("etc/nvidia")).expect("link");
    symlink(&outside, rootfs.join("usr/lib/x86_64-linux-gnu")).expect("link");
    if let Some(output) = by_runc(&container.container) {
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("ld.so.cache")).unwrap(), "mine");
    }
}

#[test]
fn a_hook_that_is_called_wrongly_says_so_and_a_newer_one_is_passed_over() {
    gpurun_only!("gpurun's own command");
    let container = Container::native(Config::args(&["true"]));
    let state = serde_json::json!({"ociVersion": "1.0.2", "bundle": container.bundle(),
        "pid": 1, "status": "created", "id": "x"});
    let state = state.to_string();
    let call = |args: &[&str], stdin: &str| {
        let mut command = Command::new(Runtime::binary());
        command.env("LD_PRELOAD", "/nonexistent").arg("hook").args(args);
        runtime::finish(&mut command, stdin.as_bytes())
    };
    let newer = call(&["invented-tomorrow", "--x"], &state);
    assert!(newer.code == 0 && newer.stderr.contains("invented-tomorrow"), "{newer:?}");
    let folder = ["update-ldcache", "--folder", "/lib"];
    call(&folder, "{}").refused(1, &["no container's state"]);
    call(&folder, "").refused(1, &["no container's state"]);
    call(&folder, "{\"bundle\": \"relative\"}").refused(1, &["absolute"]);
    call(&folder, "{\"bundle\": \"/nonexistent\"}").refused(1, &["/nonexistent"]);
    call(&["create-symlinks", "--link", "x"], &state).refused(1, &["create-symlinks --link x"]);
    call(&[], &state).refused(1, &["no command"]);
    // Beside the first process, as a hook of another phase would be.
    let script = format!("printf '%s' '{state}' | \"$0\" hook update-ldcache --folder /lib");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", &script]);
    command.arg(Runtime::binary());
    runtime::finish(&mut command, b"").refused(1, &["createContainer"]);
}
