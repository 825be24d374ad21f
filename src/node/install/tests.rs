use super::*;
use crate::host::testing::Scratch;
use std::fs;
use std::os::unix::fs::symlink;

/// The names of the first and the second version that differ.
const FIRST: &str = env!("CARGO_PKG_VERSION");
const SECOND: &str = concat!(env!("CARGO_PKG_VERSION"), "-2");

/// A machine with containerd, and two versions of a program that runs in it.
struct Node {
    root: Scratch,
    sources: Scratch,
}

const CONFIG: &str = "version = 2\n# ours\n";

impl Node {
    fn new() -> Self {
        let node = Self { root: Scratch::new(), sources: Scratch::new() };
        node.root.write("etc/containerd/config.toml", CONFIG);
        node.root.directory("proc");
        for version in ["one", "two", "three"] {
            node.sources.program(version);
            node.sources.write(version, format!("#!/bin/sh\necho {version}\n"));
        }
        node.sources.program("broken");
        node.sources.write("broken", "#!/bin/sh\nexit 1\n");
        node.install().carry_out(&node.machine(), &node.source("one")).unwrap();
        node
    }

    fn machine(&self) -> Machine {
        Machine::open(self.root.path(), None).unwrap()
    }

    fn source(&self, name: &str) -> PathBuf {
        self.sources.path().join(name)
    }

    fn install(&self) -> Install {
        Install {
            dir: "/usr/local/gpurun".into(),
            engine: Some(Engine::Containerd),
            config: None,
            names: vec![Name::parse("gpurun").unwrap(), Name::parse("nvidia").unwrap()],
            default: false,
            restart: RestartMode::None,
            socket: None,
        }
    }

    fn current(&self) -> String {
        let path = self.root.path().join("usr/local/gpurun/current/gpurun");
        fs::read_to_string(path).unwrap()
    }

    fn versions(&self) -> Vec<String> {
        self.machine().tree().names("usr/local/gpurun/versions").unwrap()
    }
}

#[test]
fn a_second_run_changes_nothing_and_an_upgrade_keeps_what_is_in_use() {
    let node = Node::new();
    let (machine, install) = (node.machine(), node.install());
    let config = fs::read_to_string(node.root.path().join("etc/containerd/config.toml")).unwrap();
    assert!(config.contains("BinaryName = \"/usr/local/gpurun/current/gpurun\""), "{config}");
    assert_eq!(install.carry_out(&machine, &node.source("one")).unwrap(), [""; 0]);
    assert_eq!(install.missing(&machine, &node.source("one")).unwrap(), None);
    let missing = install.missing(&machine, &node.source("two")).unwrap();
    assert!(missing.unwrap().ends_with("/current/gpurun is not this program"));

    // A process of the machine runs the first version.
    let old = node.root.path().join(format!("usr/local/gpurun/versions/{FIRST}/gpurun"));
    let process = node.root.path().join("proc/77");
    node.root.directory("proc/77");
    symlink(&old, process.join("exe")).unwrap();
    let done = install.carry_out(&machine, &node.source("two")).unwrap();
    assert_eq!(done, [format!("installed version {SECOND} in /usr/local/gpurun")]);
    assert!(node.current().contains("two"));
    assert_eq!(node.versions(), [FIRST, SECOND]);
    assert_eq!(install.carry_out(&machine, &node.source("two")).unwrap(), [""; 0]);

    fs::remove_dir_all(&process).unwrap();
    let done = install.carry_out(&machine, &node.source("two")).unwrap();
    assert_eq!(done, [format!("removed version {FIRST}, which nobody uses")]);
    let again = fs::read_to_string(node.root.path().join("etc/containerd/config.toml")).unwrap();
    assert_eq!(again, config, "an upgrade is no change of the engine's configuration");
}

#[test]
fn an_interrupted_or_broken_version_leaves_the_old_one_working() {
    let node = Node::new();
    let (machine, install) = (node.machine(), node.install());
    node.root.write("usr/local/gpurun/versions/.unfinished/gpurun", "#!/bin/sh\nec");
    node.root.link("versions/nothing", "usr/local/gpurun/.next");
    assert!(node.current().contains("one"));
    let error = install.carry_out(&machine, &node.source("broken")).unwrap_err().to_string();
    assert!(error.contains("does not run (choose a directory"), "{error}");
    assert!(node.current().contains("one"));
    let done = install.carry_out(&machine, &node.source("three")).unwrap();
    assert_eq!(done, [format!("installed version {SECOND} in /usr/local/gpurun")]);
    assert!(node.current().contains("three"));
    assert_eq!(node.versions(), [FIRST, SECOND]);
}

#[test]
fn undoing_leaves_the_machine_as_it_was() {
    let node = Node::new();
    let (machine, install) = (node.machine(), node.install());
    let done = install.undo(&machine).unwrap();
    assert!(done.contains(&format!("removed version {FIRST}")), "{done:?}");
    let config = fs::read_to_string(node.root.path().join("etc/containerd/config.toml")).unwrap();
    assert_eq!(config, CONFIG);
    assert_eq!(machine.tree().names("etc/containerd").unwrap(), ["config.toml"]);
    assert_eq!(machine.tree().names("usr/local").unwrap(), [""; 0]);
    assert_eq!(install.undo(&machine).unwrap(), [""; 0]);
}

#[test]
fn the_engine_is_found_by_what_it_leaves_on_the_machine() {
    for (path, expected) in [
        ("var/lib/rancher/k3s/agent/etc/containerd/config.toml", Some(Engine::K3s)),
        ("etc/crio/crio.conf", Some(Engine::Crio)),
        ("etc/containerd/config.toml", Some(Engine::Containerd)),
        ("etc/docker/daemon.json", None),
    ] {
        let scratch = Scratch::new();
        scratch.write(path, "");
        let machine = Machine::open(scratch.path(), None).unwrap();
        assert_eq!(detect(&machine), expected, "{path}");
    }
}

#[test]
fn a_restart_that_failed_is_made_up_for_by_the_next_run() {
    let node = Node::new();
    let machine = node.machine();
    // CRI-O has no use for a signal.
    let install =
        Install { engine: Some(Engine::Crio), restart: RestartMode::Signal, ..node.install() };
    for _ in 0..2 {
        let error = install.carry_out(&machine, &node.source("one")).unwrap_err().to_string();
        assert!(error.contains("--restart-mode systemd"), "{error}");
        let missing = install.missing(&machine, &node.source("one")).unwrap();
        assert_eq!(missing.unwrap(), "CRI-O has not read its configuration again");
    }
    node.root.directory("run/systemd/system");
    let install = Install { restart: RestartMode::Systemd, ..install };
    let done = install.carry_out(&machine, &node.source("one")).unwrap();
    assert_eq!(done, ["CRI-O does not run: it reads the file when it starts"]);
    assert_eq!(install.carry_out(&machine, &node.source("one")).unwrap(), [""; 0]);
    assert_eq!(install.missing(&machine, &node.source("one")).unwrap(), None);
}
