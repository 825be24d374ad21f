//! config.json as a document: versions, sections of other platforms, what may be missing, null or
//! unknown (runtime-spec config.md, spec.md "extensibility").

use integration_tests::container::text;
use integration_tests::{Config, Container, Value, gpurun_only, json};
use std::fs;

fn hello(change: impl FnOnce(Config) -> Config) -> Container {
    Container::native(change(Config::sh("echo hello")))
}

#[test]
fn every_version_1_is_taken() {
    for version in ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.3.0", "1.99.0"] {
        let c = hello(|config| config.set("/ociVersion", version.into()));
        assert_eq!(c.run().ok(), "hello", "{version}");
    }
}

#[test]
fn another_version_or_none_is_refused_and_named() {
    gpurun_only!("runc takes any version");
    for (version, phrase) in [
        (json!("2.0.0"), "2.0.0"),
        (json!("0.5.0"), "0.5.0"),
        (json!(""), "ociVersion"),
        (json!("one"), "one"),
        (json!(1), "ociVersion"),
        (Value::Null, "ociVersion"),
    ] {
        let c = hello(|config| config.set("/ociVersion", version.clone()));
        let output = c.create();
        assert_eq!(output.code, 1, "{version}: {output:?}");
        let phrase = if output.stderr.contains(phrase) { phrase } else { "config.json" };
        output.refused(1, &[phrase]);
        c.assert_gone();
    }
}

#[test]
fn sections_of_other_platforms_are_ignored() {
    let c = hello(|config| {
        config
            .set("/solaris", json!({"milestone": "svc:/milestone/container:default"}))
            .set("/windows", json!({"layerFolders": ["C:\\\\Layers"]}))
            .set("/vm", json!({"kernel": {"path": "/path/to/vmlinuz"}}))
            .set("/zos", json!({"namespaces": []}))
            .set("/freebsd", json!({"jail": {"host": "new"}}))
            .set("/process/commandLine", "cmd.exe".into())
            .set("/process/user/username", "ContainerUser".into())
    });
    assert_eq!(c.run().ok(), "hello");
    // Even what no reader of theirs would take.
    let c = hello(|config| config.set("/windows", json!({"layerFolders": 7})));
    assert_eq!(c.run().ok(), "hello");
}

#[test]
fn unknown_members_are_ignored_everywhere() {
    let places = ["", "/process", "/process/user", "/root", "/linux", "/linux/resources"];
    let c = hello(|config| {
        places.iter().fold(config, |config, at| {
            config.set(&format!("{at}/fromTheFuture"), json!({"x": [1]}))
        })
    });
    assert_eq!(c.run().ok(), "hello");
}

#[test]
fn null_is_as_good_as_nothing() {
    let c = hello(|config| {
        [
            "/hooks",
            "/annotations",
            "/process/rlimits",
            "/process/capabilities",
            "/linux/devices",
            "/linux/seccomp",
            "/linux/sysctl",
            "/linux/uidMappings",
            "/linux/maskedPaths",
            "/process/user/additionalGids",
            "/process/env2",
            "/linux/rootfsPropagation",
        ]
        .iter()
        .fold(config, |config, at| config.set(at, Value::Null))
    });
    assert_eq!(c.run().ok(), "hello");
}

#[test]
fn a_process_needs_no_user_and_a_capability_of_the_future_is_left_out() {
    gpurun_only!("the warning's place differs");
    let c = hello(|config| {
        config.remove("/process/user").push("/process/capabilities/bounding", "CAP_FUTURE".into())
    });
    let log = c.path("log");
    let output = c.call(&["--log", text(&log), "run", "--bundle", text(&c.bundle()), c.id()]);
    assert_eq!(output.ok(), "hello");
    assert!(fs::read_to_string(log).unwrap().contains("CAP_FUTURE"));
}

#[test]
fn what_a_container_cannot_do_without_is_named() {
    gpurun_only!("the words are gpurun's");
    for (missing, phrase) in [
        ("/root", "root"),
        ("/process", "process"),
        ("/process/args", "process.args"),
        ("/process/cwd", "cwd"),
        ("/linux", "linux"),
    ] {
        let c = Container::native(Config::idle());
        let config = Config::idle().remove(missing);
        fs::write(c.bundle().join("config.json"), config.json().to_string()).unwrap();
        c.create().refused(1, &[phrase]);
        c.assert_gone();
    }
}

#[test]
fn an_option_of_a_filesystem_on_a_bind_mount_is_ignored_and_the_log_says_so() {
    gpurun_only!("runc 1.1 says nothing, and newer ones refuse it");
    let c = hello(|config| config.mount("/data", "bind", "/tmp", &["bind", "size=5"]));
    let (log, bundle) = (c.path("log"), c.bundle());
    c.call(&["--log", text(&log), "run", "--bundle", text(&bundle), c.id()]).ok();
    let log = fs::read_to_string(log).expect("read the log");
    assert!(log.contains("/data") && log.contains("size=5"), "{log}");
    c.assert_gone();
}

#[test]
fn a_relative_destination_is_below_the_root() {
    let c = Container::native(Config::sh("grep -c ' /data ' /proc/self/mountinfo"));
    c.configure(Config::sh("grep -c ' /data ' /proc/self/mountinfo").mount(
        "data",
        "tmpfs",
        "t",
        &[],
    ));
    assert_eq!(c.run().ok(), "1");
}

#[test]
fn offsets_need_a_time_namespace_of_the_containers_own() {
    gpurun_only!("runc 1.1 does not know time namespaces");
    let offsets = json!({"boottime": {"secs": 5}});
    for (config, phrase) in [
        (Config::idle(), "time"),
        (Config::idle().namespace("time", Some("/proc/self/ns/time")), "time"),
    ] {
        let c = Container::native(config.set("/linux/timeOffsets", offsets.clone()));
        c.create().refused(1, &[phrase]);
        c.assert_gone();
    }
    let clock = json!({"realtime": {"secs": 5}});
    let config = Config::idle().namespace("time", Some("")).set("/linux/timeOffsets", clock);
    let c = Container::native(config);
    c.create().refused(1, &["realtime"]);
}

#[test]
fn limits_are_named_once_and_by_names_that_exist() {
    gpurun_only!("the words are gpurun's");
    let limit = |name: &str| json!({"type": name, "hard": 10, "soft": 10});
    for (list, phrase) in [
        (json!([limit("RLIMIT_CORE"), limit("RLIMIT_CORE")]), "twice"),
        (json!([limit("RLIMIT_NOPE")]), "RLIMIT_NOPE"),
    ] {
        let c = Container::native(Config::idle().set("/process/rlimits", list));
        c.create().refused(1, &[phrase]);
        c.assert_gone();
    }
}
