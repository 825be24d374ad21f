//! spec and features: what a user starts from, and what an engine asks.

use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json};
use std::fs;

fn written(c: &Container, options: &[&str]) -> Value {
    let directory = c.path("new");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("config.json");
    let _ = fs::remove_file(&path);
    let mut args = vec!["spec", "--bundle", text(&directory)];
    args.extend(options);
    c.call(&args).silent();
    serde_json::from_slice(&fs::read(path).unwrap()).expect("JSON")
}

fn namespaces(spec: &Value) -> Vec<&str> {
    let all = spec["linux"]["namespaces"].as_array().expect("namespaces");
    all.iter().filter_map(|namespace| namespace["type"].as_str()).collect()
}

#[test]
fn a_new_spec_runs_a_shell_in_a_terminal_without_rights() {
    let c = Container::native(Config::idle());
    let spec = written(&c, &[]);
    assert_eq!(
        (&spec["process"]["args"], &spec["process"]["terminal"]),
        (&json!(["sh"]), &json!(true))
    );
    assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": true}));
    assert_eq!(spec["process"]["noNewPrivileges"], true);
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    assert_eq!(spec["process"]["capabilities"]["bounding"], caps);
    assert_eq!(spec["process"]["rlimits"][0]["hard"], 1024);
    assert_eq!(spec["mounts"].as_array().map(Vec::len), Some(7));
    for kind in ["pid", "network", "ipc", "uts", "mount"] {
        assert!(namespaces(&spec).contains(&kind), "{kind}");
    }
}

#[test]
fn a_new_spec_runs_as_it_is() {
    let c = Container::native(Config::idle());
    let mut spec = written(&c, &[]);
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["/bin/busybox", "id", "-u"]);
    spec["linux"]["cgroupsPath"] = format!("/{}", c.id()).into();
    fs::write(c.bundle().join("config.json"), spec.to_string()).unwrap();
    assert_eq!(c.run().ok(), "0");
}

#[test]
fn a_rootless_spec_has_a_user_namespace_and_no_limits() {
    let c = Container::native(Config::idle());
    let spec = written(&c, &["--rootless"]);
    assert!(namespaces(&spec).contains(&"user") && !namespaces(&spec).contains(&"network"));
    assert_eq!(spec["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    assert!(spec["linux"]["resources"].is_null());
    let sys =
        spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == "/sys");
    assert_eq!(sys.unwrap()["options"][0], "rbind");
    assert!(!spec["mounts"].to_string().contains("gid="));
}

#[test]
fn a_spec_that_is_there_is_not_overwritten() {
    let c = Container::native(Config::idle());
    let before = fs::read(c.bundle().join("config.json")).unwrap();
    let output = c.call(&["spec", "--bundle", text(&c.bundle())]);
    output.refused(1, &["config.json exists. Remove it first"]);
    assert_eq!(fs::read(c.bundle().join("config.json")).unwrap(), before);
    c.call(&["spec", "--bundle", "/no/such/directory"]).refused(1, &["no such file or directory"]);
}

#[test]
fn features_answer_every_question_of_runc_1_4() {
    gpurun_only!("runc 1.1 answers fewer");
    let features = Runtime::native().call(&["features"]).json();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["ociVersionMax"].as_str().is_some_and(|version| version.starts_with("1.")));
    for (pointer, elements) in [
        ("/hooks", &["prestart", "poststop"][..]),
        ("/mountOptions", &["rro", "bind", "tmpcopyup", "nosuid"]),
        ("/linux/namespaces", &["user", "time", "cgroup"]),
        ("/linux/capabilities", &["CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"]),
        ("/linux/seccomp/actions", &["SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY"]),
        ("/linux/seccomp/operators", &["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"]),
        ("/linux/seccomp/archs", &["SCMP_ARCH_X86_64"]),
        ("/linux/seccomp/knownFlags", &["SECCOMP_FILTER_FLAG_LOG"]),
        ("/linux/memoryPolicy/modes", &["MPOL_BIND", "MPOL_INTERLEAVE"]),
        ("/linux/memoryPolicy/flags", &["MPOL_F_STATIC_NODES"]),
    ] {
        let list = features.pointer(pointer).and_then(Value::as_array);
        let list = list.unwrap_or_else(|| panic!("{pointer}: {features}"));
        for element in elements {
            assert!(list.contains(&json!(element)), "{element} in {pointer}");
        }
    }
    for pointer in [
        "/linux/cgroup/v1",
        "/linux/cgroup/v2",
        "/linux/cgroup/systemd",
        "/linux/cgroup/systemdUser",
        "/linux/cgroup/rdma",
        "/linux/seccomp/enabled",
        "/linux/apparmor/enabled",
        "/linux/selinux/enabled",
        "/linux/intelRdt/enabled",
        "/linux/mountExtensions/idmap/enabled",
        "/linux/netDevices/enabled",
    ] {
        assert!(features.pointer(pointer).is_some_and(Value::is_boolean), "{pointer}");
    }
    assert!(features["potentiallyUnsafeConfigAnnotations"].is_array());
    assert!(features["annotations"].is_object());
}
