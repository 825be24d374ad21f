use super::*;
use crate::host::testing::Scratch;
use crate::node::machine::User;

/// A machine with these files; a program that says a version where the text is one.
fn machine(files: &[(&str, &str)]) -> (Scratch, Machine) {
    let scratch = Scratch::new();
    for (path, text) in files {
        scratch.write(path.trim_start_matches('/'), text);
    }
    let machine = Machine::open(scratch.path(), None).unwrap();
    (scratch, machine)
}

fn file(engine: Engine, machine: &Machine) -> String {
    find(engine, machine).unwrap().file.display().to_string()
}

#[test]
fn every_engine_has_its_usual_file() {
    let (_scratch, machine) = machine(&[]);
    for (engine, expected) in [
        (Engine::Docker, "/etc/docker/daemon.json"),
        (Engine::Containerd, "/etc/containerd/config.toml"),
        (Engine::Crio, "/etc/crio/crio.conf.d/zz-gpurun.conf"),
        (Engine::Podman, "/etc/containers/containers.conf.d/zz-gpurun.conf"),
        (Engine::K3s, "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl"),
        (Engine::Rke2, "/var/lib/rancher/rke2/agent/etc/containerd/config-v3.toml.tmpl"),
    ] {
        assert_eq!(file(engine, &machine), expected);
    }
}

#[test]
fn snaps_and_ordinary_users_have_files_of_their_own() {
    let (_scratch, snap) = machine(&[
        ("/var/snap/docker/current/config/daemon.json", "{}"),
        ("/var/snap/microk8s/current/args/containerd-template.toml", "version = 2"),
    ]);
    assert_eq!(file(Engine::Docker, &snap), "/var/snap/docker/current/config/daemon.json");
    let microk8s = "/var/snap/microk8s/current/args/containerd-template.toml";
    assert_eq!(file(Engine::Containerd, &snap), microk8s);
    assert_eq!(units(Engine::Docker, &snap), ["snap.docker.dockerd.service"]);
    let both = [("/var/snap/docker/current/x", ""), ("/etc/docker/daemon.json", "{}")];
    assert_eq!(file(Engine::Docker, &machine(&both).1), "/etc/docker/daemon.json");

    let (scratch, _) = machine(&[("/home/u/.config/docker/daemon.json", "{}")]);
    let user = User { config: "/home/u/.config".into() };
    let own = Machine::open(scratch.path(), Some(user)).unwrap();
    assert_eq!(file(Engine::Docker, &own), "/home/u/.config/docker/daemon.json");
    let podman = "/home/u/.config/containers/containers.conf.d/zz-gpurun.conf";
    assert_eq!(file(Engine::Podman, &own), podman);
    assert_eq!(file(Engine::Containerd, &own), "/home/u/.config/containerd/config.toml");
}

#[test]
fn a_drop_in_is_used_only_where_containerd_merges_it() {
    let imports = "version = 3\nimports = ['/etc/containerd/conf.d/*.toml']\n";
    let (_scratch, machine) = machine(&[("/etc/containerd/config.toml", imports)]);
    let main = PathBuf::from("/etc/containerd/config.toml");
    for (release, expected) in [
        (None, "/etc/containerd/config.toml"),
        (Release::parse("containerd v1.7.28 x"), "/etc/containerd/config.toml"),
        (Release::parse("containerd v2.0.6 x"), "/etc/containerd/config.toml"),
        (Release::parse("containerd v2.1.0 x"), "/etc/containerd/conf.d/zz-gpurun.toml"),
    ] {
        let place = containerd(&machine, main.clone(), release).unwrap();
        assert_eq!(place.file, Path::new(expected), "{release:?}");
    }
}

#[test]
fn an_imported_file_that_replaces_the_plugins_table_is_the_one_to_change() {
    let main = "version = 2\nimports = ['conf.d/*.toml']\n";
    let table = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\n";
    let (_scratch, machine) = machine(&[
        ("/etc/containerd/config.toml", main),
        ("/etc/containerd/conf.d/10-debug.toml", "version = 2\n[debug]\nlevel = 'info'\n"),
        ("/etc/containerd/conf.d/99-nvidia.toml", table),
    ]);
    let place = find(Engine::Containerd, &machine).unwrap();
    assert_eq!(place.file, Path::new("/etc/containerd/conf.d/99-nvidia.toml"));
    assert!(place.note.unwrap().contains("replaces"));
    let all = all(Engine::Containerd, &machine).unwrap();
    assert_eq!(all.len(), 3, "{all:?}");
}

#[test]
fn an_older_k3s_has_the_older_template() {
    let made = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let (_scratch, machine) = machine(&[(made, "version = 2\n")]);
    let expected = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl";
    assert_eq!(file(Engine::K3s, &machine), expected);
}

#[test]
fn a_newer_k3s_has_a_drop_in_and_what_is_between_a_template() {
    let dir = Path::new("/var/lib/rancher/k3s/agent/etc/containerd");
    let made = "version = 3\nimports = \
                ['/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/*.toml']\n";
    let path = dir.join("config.toml").display().to_string();
    let (_scratch, machine) = machine(&[(&path, made)]);
    for (release, expected) in
        [("v2.0.5-k3s2", "config-v3.toml.tmpl"), ("v2.1.5-k3s1", "config-v3.toml.d/zz-gpurun.toml")]
    {
        let place = distribution_place(&machine, dir, Release::parse(release)).unwrap();
        assert_eq!(place.file, dir.join(expected), "{release}");
    }
}

#[test]
fn versions_are_read_as_programs_print_them() {
    for (text, expected) in [
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6)),
        ("containerd containerd.io v2.1.4 75cb2b7193e4e490e9fbdc236c0e811ccaba3376", (2, 1)),
        ("containerd github.com/k3s-io/containerd v1.7.23-k3s2 x", (1, 7)),
    ] {
        let found = Release::parse(text).unwrap();
        assert_eq!((found.major, found.minor), expected);
    }
    assert_eq!(Release::parse("command not found"), None);
}
