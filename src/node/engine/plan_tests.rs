use std::fs;

use super::*;
use crate::host::testing::Scratch;
use crate::node::engine::Name;

fn wish(names: &[&str], default: bool) -> Wish {
    let names = names.iter().map(|name| Name::parse(name).unwrap()).collect();
    Wish { names, binary: "/usr/local/bin/gpurun".into(), default }
}

fn it() -> Ours {
    Ours { binary: "/usr/local/bin/gpurun".into() }
}

/// A machine, and what happens to it.
struct Node(Scratch);

impl Node {
    fn new(path: &str, text: &str) -> Self {
        let scratch = Scratch::new();
        scratch.write(path.trim_start_matches('/'), text);
        Self(scratch)
    }

    fn machine(&self) -> Machine {
        Machine::open(self.0.path(), None).unwrap()
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path.trim_start_matches('/'))).unwrap()
    }

    fn configure(&self, engine: Engine, names: &[&str]) {
        let plan = configure(engine, &wish(names, false), &self.machine(), None).unwrap();
        plan.changes.iter().for_each(|change| change.apply(&self.machine()).unwrap());
    }

    fn unconfigure(&self, engine: Engine) {
        let plan = unconfigure(engine, &it(), &self.machine(), None).unwrap();
        for change in &plan.changes {
            change.apply(&self.machine()).unwrap();
            change.drop_backup(&self.machine()).unwrap();
        }
    }
}

const DAEMON: &str = "/etc/docker/daemon.json";

#[test]
fn a_name_that_was_taken_over_later_is_given_back_too() {
    let node = Node::new(DAEMON, "{}\n");
    node.configure(Engine::Docker, &["gpurun"]);
    // Another toolkit comes, and gpurun takes its name.
    let theirs = "\"nvidia\": {\"path\": \"nvidia-container-runtime\", \"args\": []}";
    let text =
        node.text(DAEMON).replace("\"runtimes\": {", &format!("\"runtimes\": {{\n    {theirs},"));
    node.0.write(&DAEMON[1..], text);
    node.configure(Engine::Docker, &["gpurun", "nvidia"]);
    assert!(!node.text(DAEMON).contains("nvidia-container-runtime"));
    node.unconfigure(Engine::Docker);
    let text = node.text(DAEMON);
    assert!(text.contains(theirs) && !text.contains("gpurun"), "{text}");
    assert_eq!(node.machine().tree().names("etc/docker").unwrap(), ["daemon.json"]);
}

#[test]
fn a_file_that_others_changed_meanwhile_keeps_their_changes() {
    let node = Node::new(DAEMON, "{\n  \"debug\": true\n}\n");
    node.configure(Engine::Docker, &["gpurun"]);
    let text = node.text(DAEMON).replace("true", "false");
    node.0.write(&DAEMON[1..], text);
    node.unconfigure(Engine::Docker);
    assert_eq!(node.text(DAEMON), "{\n  \"debug\": false\n}\n");
}

#[test]
fn a_name_that_k3s_makes_itself_is_refused_where_it_would_be_there_twice() {
    let made = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let text = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.'nvidia']\n\
                runtime_type = 'io.containerd.runc.v2'\n";
    let node = Node::new(made, text);
    let both = wish(&["gpurun", "nvidia"], false);
    let error = configure(Engine::K3s, &both, &node.machine(), None).unwrap_err().to_string();
    assert!(error.contains("config.toml.tmpl: ") && error.contains("--as nvidia"), "{error}");
    node.configure(Engine::K3s, &["gpurun"]);
    let template = node.text("/var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl");
    assert!(template.contains("'io.containerd.grpc.v1.cri'"), "{template}");
    // k3s has made its file of the template: what is there is gpurun's own.
    node.0.write(
        &made[1..],
        template.replace("{{ template \"base\" . }}", text).replace("{{ .SystemdCgroup }}", "true"),
    );
    let plan = configure(Engine::K3s, &wish(&["gpurun"], false), &node.machine(), None).unwrap();
    assert!(!plan.is_needed());
    node.unconfigure(Engine::K3s);
    let names = node.machine().tree().names("var/lib/rancher/k3s/agent/etc/containerd").unwrap();
    assert_eq!(names, ["config.toml"]);
}

#[test]
fn a_plugin_that_is_turned_off_is_noted() {
    let node = Node::new("/etc/containerd/config.toml", "disabled_plugins = [\"cri\"]\n");
    let plan = configure(Engine::Containerd, &wish(&["gpurun"], false), &node.machine(), None);
    let notes = plan.unwrap().notes;
    assert!(notes[0].contains("disabled_plugins"), "{notes:?}");
}

#[test]
fn crio_gets_a_drop_in_that_is_read_after_those_of_other_toolkits() {
    let node = Node::new(
        "/etc/crio/crio.conf.d/99-nvidia.conf",
        "[crio.runtime.runtimes.nvidia]\nruntime_path = \"/usr/bin/nvidia-container-runtime\"\n",
    );
    node.configure(Engine::Crio, &["gpurun", "nvidia"]);
    let names = node.machine().tree().names("etc/crio/crio.conf.d").unwrap();
    assert_eq!(names, ["99-nvidia.conf", "zz-gpurun.conf"]);
    node.unconfigure(Engine::Crio);
    let names = node.machine().tree().names("etc/crio/crio.conf.d").unwrap();
    assert_eq!(names, ["99-nvidia.conf"]);
}

#[test]
fn lines_end_as_they_did() {
    for (engine, path, text) in [
        (Engine::Docker, DAEMON, "{\r\n  \"debug\": true\r\n}\r\n"),
        (Engine::Containerd, "/etc/containerd/config.toml", "version = 2\r\n[grpc]\r\ngid = 1\r\n"),
    ] {
        let node = Node::new(path, text);
        node.configure(engine, &["gpurun"]);
        let done = node.text(path);
        assert_eq!(done.matches('\n').count(), done.matches("\r\n").count(), "{done:?}");
        node.unconfigure(engine);
        assert_eq!(node.text(path), text);
    }
}

#[test]
fn what_is_no_file_is_not_replaced() {
    let node = Node::new("/etc/docker/daemon.json/x", "");
    let wish = wish(&["gpurun"], false);
    let error = configure(Engine::Docker, &wish, &node.machine(), None).unwrap_err().to_string();
    assert!(error.ends_with("daemon.json is a directory"), "{error}");
    let fifo = node.0.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let path = Some(Path::new("/fifo"));
    let error = configure(Engine::Docker, &wish, &node.machine(), path).unwrap_err().to_string();
    assert!(error.ends_with("fifo is not a regular file"), "{error}");
}

#[test]
fn a_template_with_windows_line_ends_loses_gpuruns_block_again() {
    let text = "# mine\r\n{{ template \"base\" . }}\r\n";
    let path = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl";
    let node = Node::new(path, text);
    let file = Some(Path::new(path));
    let machine = node.machine();
    let plan = configure(Engine::K3s, &wish(&["gpurun"], false), &machine, file).unwrap();
    plan.changes.iter().for_each(|change| change.apply(&machine).unwrap());
    assert!(node.text(path).contains("# gpurun: begin\r\n"), "{}", node.text(path));
    let plan = unconfigure(Engine::K3s, &it(), &machine, file).unwrap();
    plan.changes.iter().for_each(|change| change.apply(&machine).unwrap());
    assert_eq!(node.text(path), text);
}
