//! MIG devices by their UUIDs, which only the driver's `nvidia-smi` knows.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use integration_tests::gpu_container::{GpuContainer, config, gpu_nodes};
use integration_tests::gpu_host::{Layout, MadeUpHost, Mig, Node};
use integration_tests::stub_smi::{StubSmi, script};
use integration_tests::{Config, Runtime, gpurun_only, json};
use tempfile::TempDir;

/// On the GPU with index 2 and minor 3, and on the one with index 3 and minor 2. The indexes of the
/// first GPU do not count in the order of the instance ids.
const MIG: [(Mig, &str); 3] = [
    (Mig { gpu_minor: 3, gi: 9, ci: 0 }, "MIG-ffda444c-c706-57c6-98c9-67c441a0b109"),
    (Mig { gpu_minor: 3, gi: 2, ci: 1 }, "MIG-fe9bc608-60f5-5479-8cc4-1827021d27a9"),
    (Mig { gpu_minor: 2, gi: 1, ci: 0 }, "MIG-90075af8-1349-5b67-83b7-e31b0590b922"),
];
const UNKNOWN: &str = "MIG-00000000-1349-5b67-83b7-e31b0590b922";

struct Machine {
    host: MadeUpHost,
    smi: StubSmi,
    directory: TempDir,
}

fn machine() -> Machine {
    machine_with_driver("")
}

/// A machine whose driver is in this directory below its `driver-root`.
fn machine_with_driver(below: &str) -> Machine {
    let directory = tempfile::tempdir().expect("temporary directory");
    let driver_root = directory.path().join("driver");
    let smi = StubSmi::build(&driver_root.join(below), "");
    let layout = Layout {
        mig: MIG.iter().map(|(mig, _)| *mig).collect(),
        driver_root: Some(driver_root),
        ..Layout::with_gpus(4)
    };
    let host = MadeUpHost::build(&directory.path().join("host"), &layout).expect("a machine");
    smi.says(&script(&host.gpus, &MIG));
    Machine { host, smi, directory }
}

impl Machine {
    /// Keeps answers, for this boot of the machine.
    fn with_cache(self) -> Self {
        let directory = self.directory.path().join("cache");
        let text = fs::read_to_string(self.host.config()).expect("read the configuration");
        let text = text.replace("[host]\n", &format!("[host]\ncache = {directory:?}\n"));
        fs::write(self.host.config(), text).expect("write the configuration");
        self.boots("first");
        self
    }

    fn boots(&self, id: &str) {
        let path = self.host.root.join("proc/sys/kernel/random");
        fs::create_dir_all(&path).expect("create a directory");
        fs::write(path.join("boot_id"), format!("{id}\n")).expect("write the boot id");
    }

    fn container(&self, config: Config) -> GpuContainer {
        GpuContainer::new(Runtime::native(), &self.host, config)
    }

    fn asks(&self, devices: &str) -> GpuContainer {
        let variable = format!("NVIDIA_VISIBLE_DEVICES={devices}");
        self.container(config(&[&variable], &["nodes", "nodes"]))
    }

    /// The nodes besides those that every container with a GPU has.
    fn given(&self, config: Config) -> Vec<Node> {
        let nodes = gpu_nodes(self.container(config).run().ok());
        let usual = MadeUpHost::control_nodes();
        nodes.into_iter().filter(|node| !usual.contains(node)).collect()
    }

    #[track_caller]
    fn gives(&self, devices: &str, parts: &[Mig]) {
        let variable = format!("NVIDIA_VISIBLE_DEVICES={devices}");
        let given = self.given(config(&[&variable], &["nodes", "nodes"]));
        assert_eq!(given, nodes_of(parts), "{devices}");
    }
}

/// The nodes of these MIG devices and their GPUs, sorted by path.
fn nodes_of(parts: &[Mig]) -> Vec<Node> {
    let gpu = |mig: &Mig| (format!("/dev/nvidia{}", mig.gpu_minor), 195, mig.gpu_minor);
    let mut nodes: Vec<Node> = parts.iter().map(gpu).collect();
    nodes.extend(parts.iter().flat_map(Mig::nodes));
    nodes.sort();
    nodes.dedup();
    nodes
}

#[test]
fn mig_device_by_uuid_gets_parent_node_and_two_caps() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let [(a, a_uuid), (b, b_uuid), (c, c_uuid)] = MIG;
    machine.gives(a_uuid, &[a]);
    // A GPU with one MIG device leaves no doubt about it.
    machine.smi.calls();
    machine.gives(c_uuid, &[c]);
    assert_eq!(machine.smi.calls(), ["-L"]);
    let gpu = &machine.host.gpus[2].uuid;
    machine.gives(b_uuid, &[b]);
    assert_eq!(machine.smi.calls(), ["-L".to_owned(), format!("-q -x -i {gpu}")]);
    machine
        .gives(&format!("{a_uuid},{},{c_uuid},3:0", b_uuid.replace("fe9bc", "FE9BC")), &[a, b, c]);
}

#[test]
fn the_uuid_counts_in_every_form_of_request() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let mut file = fs::File::options().append(true).open(machine.host.config()).expect("open");
    writeln!(file, "accept-nvidia-visible-devices-as-volume-mounts = true\n[cdi]\nspec-dirs = []")
        .expect("write the configuration");
    let (mig, uuid) = MIG[1];
    let plain = |env: &[&str]| config(env, &["nodes", "nodes"]);
    let marker = |name: String| {
        let destination = format!("/var/run/nvidia-container-devices/{name}");
        let mount = json!({"source": "/dev/null", "destination": destination, "type": "bind",
                           "options": ["bind", "ro"]});
        plain(&[]).push("/mounts", mount)
    };
    let name = format!("nvidia.com/gpu={uuid}");
    for (form, config) in [
        ("name in the variable", plain(&[&format!("NVIDIA_VISIBLE_DEVICES={name}")])),
        ("automatic", plain(&[&format!("NVIDIA_VISIBLE_DEVICES=runtime.{name}")])),
        ("mount", marker(uuid.to_owned())),
        ("mount of a name", marker(format!("cdi/nvidia.com/gpu/{uuid}"))),
        ("annotation", plain(&[]).set("/annotations", json!({"cdi.k8s.io/x": name}))),
    ] {
        assert_eq!(machine.given(config), nodes_of(&[mig]), "{form}");
    }
    let container = machine.asks(uuid);
    let bundle = container.container.bundle();
    let output = container.call(&["explain", "--bundle", bundle.to_str().expect("UTF-8 path")]);
    assert!(output.ok().contains("(GI 2, CI 1)") && output.ok().contains(uuid), "{output:?}");
}

#[test]
fn nvidia_smi_is_run_for_such_an_id_only() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    for devices in ["all", "2:0", "0", "none"] {
        machine.asks(devices).run().ok();
    }
    assert_eq!(machine.smi.calls(), [""; 0]);
}

#[test]
fn it_runs_in_the_drivers_root_with_nothing_of_the_containers() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let answer = script(&machine.host.gpus, &MIG);
    machine.smi.says(&format!("{{ env; pwd; ls /; }} >>/seen\n{answer}"));
    let devices = format!("NVIDIA_VISIBLE_DEVICES={}", MIG[2].1);
    let env = ["SECRET=1", "LD_PRELOAD=/evil.so", &devices];
    machine.given(config(&env, &["nodes", "nodes"]));
    let seen = fs::read_to_string(machine.smi.root.join("seen")).expect("what it saw");
    assert!(seen.contains("\n/\n") && seen.contains("\ncalled\n"), "{seen}");
    for foreign in ["SECRET", "LD_PRELOAD", "GPURUN", "NVIDIA_", "CARGO"] {
        assert!(!seen.contains(foreign), "{foreign} in {seen}");
    }
}

#[test]
fn a_driver_container_below_the_driver_root_is_its_root() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine_with_driver("run/nvidia/driver");
    let (mig, uuid) = MIG[2];
    machine.gives(uuid, &[mig]);
    assert_eq!(machine.smi.calls(), ["-L"]);
}

#[test]
fn an_answer_is_kept_until_something_changes() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine().with_cache();
    let [(a, a_uuid), (b, b_uuid), (c, c_uuid)] = MIG;
    machine.gives(a_uuid, &[a]);
    assert_eq!(machine.smi.calls().len(), 2);
    machine.gives(b_uuid, &[b]);
    assert_eq!(machine.smi.calls(), [""; 0], "known from the first answer");
    machine.gives(c_uuid, &[c]);
    assert_eq!(machine.smi.calls(), ["-L"], "another GPU");
    machine.gives(&format!("{a_uuid},{c_uuid}"), &[a, c]);
    assert_eq!(machine.smi.calls(), [""; 0], "both are known");

    machine.asks(UNKNOWN).run().refused(1, &[UNKNOWN]);
    assert_eq!(machine.smi.calls(), ["-L"], "an unknown id is asked for");
    machine.boots("second");
    machine.gives(a_uuid, &[a]);
    assert_eq!(machine.smi.calls().len(), 2, "another boot");

    // MIG is configured anew: the device's instance is gone, and the UUID is another's.
    let capabilities = machine.host.root.join("proc/driver/nvidia/capabilities/gpu3/mig");
    fs::rename(capabilities.join("gi9"), capabilities.join("gi5")).expect("move an instance");
    let moved = Mig { gi: 5, ..a };
    machine.smi.says(&script(&machine.host.gpus, &[(moved, a_uuid), MIG[1], MIG[2]]));
    machine.gives(a_uuid, &[moved]);
    assert_eq!(machine.smi.calls().len(), 2, "other instances");
    machine.gives(c_uuid, &[c]);

    // The same ids for an instance that was made anew, with another UUID.
    let access = machine.host.root.join("proc/driver/nvidia/capabilities/gpu2/mig/gi1/ci0/access");
    let text = fs::read(&access).expect("read the instance's file");
    fs::remove_file(&access).expect("remove the instance");
    fs::write(&access, text).expect("make it anew");
    machine.smi.says(&script(&machine.host.gpus, &[(moved, a_uuid), MIG[1], (c, UNKNOWN)]));
    machine.asks(c_uuid).run().refused(1, &["no MIG device", c_uuid]);
    machine.gives(UNKNOWN, &[c]);

    // A file that somebody has touched is not believed.
    let file = machine.directory.path().join("cache/nvidia-mig-uuids.json");
    fs::write(&file, "garbage").expect("spoil the cache");
    machine.smi.calls();
    machine.gives(b_uuid, &[b]);
    assert_eq!(machine.smi.calls().len(), 2);
}

#[test]
fn a_list_that_does_not_fit_the_machine_is_not_believed() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine().with_cache();
    let [(a, a_uuid), second, third] = MIG;
    for lie in [
        vec![(Mig { gi: 7, ..a }, a_uuid), second, third],
        vec![(Mig { gpu_minor: 0, ..a }, a_uuid), second, third],
    ] {
        machine.smi.says(&script(&machine.host.gpus, &lie));
        machine.asks(a_uuid).run().refused(1, &[a_uuid, "lists other MIG devices", "try again"]);
    }
    machine.smi.says(&script(&machine.host.gpus, &MIG));
    machine.gives(a_uuid, &[a]);
}

#[test]
fn an_nvidia_smi_that_does_not_answer_is_an_error_that_says_how() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let list = format!("GPU 0: X (UUID: {})", machine.host.gpus[2].uuid);
    for (said, phrases) in [
        (
            "echo 'NVIDIA-SMI has failed because it could not communicate.'; exit 9".to_owned(),
            &["/usr/bin/nvidia-smi -L failed (exit status 9): NVIDIA-SMI has failed", "0:1"][..],
        ),
        ("echo broken >&2; kill -SEGV $$".to_owned(), &["failed (signal 11): broken"]),
        ("echo '\u{1b}[31mwhat?'".to_owned(), &["nvidia-smi -L lists no GPU: [31mwhat?"]),
        ("exit 0".to_owned(), &["-L lists no GPU: it said nothing"]),
        ("yes".to_owned(), &["wrote more than 4194304 bytes and was killed"]),
        (format!("echo '{list}'"), &["no MIG device", "nvidia-smi lists none"]),
        (
            format!(
                "echo '{list}'; echo '  MIG 1g Device 0: (UUID: {})'; \
                 echo '  MIG 1g Device 1: (UUID: {})'",
                MIG[0].1, MIG[1].1
            ),
            &["nvidia-smi -q -x lists no GPU: GPU 0: X"],
        ),
        ("sleep 1000".to_owned(), &["-L did not answer within 10 seconds and was killed"]),
    ] {
        machine.smi.says(&said);
        let container = machine.asks(MIG[0].1);
        let output = container.run();
        output.refused(1, &[MIG[0].1]);
        output.refused(1, phrases);
        container.container.assert_gone();
    }
    fs::remove_file(machine.smi.root.join("usr/bin/nvidia-smi")).expect("remove nvidia-smi");
    machine.asks(MIG[0].1).run().refused(1, &[MIG[0].1, "there is none below", "binary-paths"]);
    // As where its loader is missing in that root.
    let path = machine.smi.root.join("usr/bin/nvidia-smi");
    fs::write(&path, "#!/no/such/loader\n").expect("write nvidia-smi");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod nvidia-smi");
    machine.asks(MIG[0].1).run().refused(1, &["cannot run", "as its root"]);
}

#[test]
fn an_unknown_uuid_is_named_with_those_that_exist() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let phrases = ["no MIG device", UNKNOWN, "nvidia-smi lists", MIG[0].1, MIG[2].1];
    machine.asks(UNKNOWN).run().refused(1, &phrases);
    machine.smi.calls();
    // Nothing to ask for.
    machine.asks("MIG-ffda444c").run().refused(1, &["\"MIG-ffda444c\"", "MIG-<uuid>"]);
    fs::remove_dir_all(machine.host.root.join("proc/driver/nvidia/capabilities")).expect("remove");
    machine.asks(UNKNOWN).run().refused(1, &["no GPU is divided into MIG devices"]);
    assert_eq!(machine.smi.calls(), [""; 0]);
}

#[test]
fn lists_and_cdi_files_have_the_uuids_and_without_an_answer_all_the_rest() {
    gpurun_only!("gpurun's own commands");
    let machine = machine();
    let container = machine.asks("none");
    let cdi_names = |args: &[&str]| -> Vec<String> {
        let generate = ["cdi", "generate", "--format", "json", "--device-name-strategy", "uuid"];
        let file = container.call(&[&generate, args].concat()).json();
        let devices = file["devices"].as_array().expect("devices").iter();
        devices.map(|one| one["name"].as_str().expect("name").to_owned()).collect()
    };
    let [(_, a), (_, b), (_, c)] = MIG;
    let gpus = &machine.host.gpus;
    assert_eq!(cdi_names(&[]), [&gpus[0].uuid, &gpus[1].uuid, b, a, c, "all"]);
    assert_eq!(cdi_names(&["--device-id", a, "--no-all-device"]), [a]);
    let listed = container.call(&["gpu", "list", "--json"]).json();
    let uuids = |gpu: usize| {
        let parts = listed["gpus"][gpu]["parts"].as_array().expect("parts").iter();
        parts.map(|part| part["uuid"].as_str().expect("uuid").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((uuids(2), uuids(3)), (vec![b.to_owned(), a.to_owned()], vec![c.to_owned()]));
    let wide = container.call(&["gpu", "list", "--wide"]);
    assert!([a, b, c].iter().all(|uuid| wide.ok().contains(uuid)), "{wide:?}");

    machine.smi.says("echo no driver >&2; exit 9");
    let listed = container.call(&["gpu", "list"]);
    assert!(listed.ok().contains("2:0") && listed.stderr.contains("no driver"), "{listed:?}");
    let file = container.call(&["cdi", "generate", "--format", "json"]);
    assert!(file.stderr.contains("no driver"), "{file:?}");
    assert!(file.json()["devices"].to_string().contains("\"2:0\""), "{file:?}");
}

#[test]
fn a_machine_without_mig_devices_is_listed_without_nvidia_smi() {
    gpurun_only!("gpurun's own commands");
    let machine = machine();
    fs::remove_dir_all(machine.host.root.join("proc/driver/nvidia/capabilities")).expect("remove");
    let container = machine.asks("none");
    container.call(&["gpu", "list", "--wide"]).ok();
    container.call(&["cdi", "generate"]).ok();
    assert_eq!(machine.smi.calls(), [""; 0]);
}

#[test]
fn a_mig_device_can_be_had_alone_by_its_uuid() {
    gpurun_only!("other runtimes know no GPU requests");
    let machine = machine();
    let alone = |devices: &str, name: &str| {
        let variable = format!("NVIDIA_VISIBLE_DEVICES={devices}");
        let config = config(&[&variable], &["sleep", "1000"]);
        machine.container(config.set("/annotations", json!({"gpurun.gpu.exclusive": name})))
    };
    let [(_, a), (_, b), _] = MIG;
    // By what is in /proc, 2:0 is the second of the two that nvidia-smi lists.
    let first = alone("2:0", b);
    first.run_detached();
    let plain = machine.asks("2:0");
    plain.run().refused(1, &["MIG device 0 (GI 2, CI 1)", "exclusively"]);
    machine.asks("2:1").run().ok();
    alone("2:1", b).run().refused(1, &[b, "does not have"]);
    machine.smi.says("exit 9");
    alone("2:1", a).run().refused(1, &["nvidia-smi -L failed"]);
}
