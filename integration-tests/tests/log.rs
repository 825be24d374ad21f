//! What engines read besides exit codes: the log file, version, features, spec.

use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json};
use std::fs;

fn entries(path: &std::path::Path) -> Vec<Value> {
    let log = fs::read_to_string(path).unwrap_or_default();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}")))
        .collect()
}

#[test]
fn the_reason_of_a_failure_is_the_last_error_of_the_json_log() {
    let c = Container::native(Config::args(&["nope"]));
    let log = c.path("log.json");
    let bundle = c.bundle();
    let call = |command: &[&str]| {
        let mut args = vec!["--log", text(&log), "--log-format", "json"];
        args.extend(command);
        c.call(&args)
    };
    call(&["create", "--bundle", text(&bundle), c.id()]).refused(1, &["executable file not found"]);
    let first = entries(&log);
    let last = first.last().expect("an entry");
    assert_eq!(last["level"], "error", "{last}");
    let message = last["msg"].as_str().unwrap_or_default();
    assert!(message.contains("exec: \"nope\": executable file not found in $PATH"), "{message}");
    let time = last["time"].as_str().unwrap_or_default();
    assert!(time.len() >= 20 && time.as_bytes().get(10) == Some(&b'T'), "RFC 3339: {time}");
    assert!(
        time.ends_with('Z') || time.as_bytes().get(19).is_some_and(|b| b"+-.".contains(b)),
        "{time}"
    );

    // The file is shared by every call for the container: it is appended to.
    call(&["start", c.id()]).refused(1, &["container does not exist"]);
    let second = entries(&log);
    assert_eq!(second[..first.len()], first[..]);
    assert!(second.last().unwrap()["msg"].as_str().unwrap().contains("container does not exist"));
}

#[test]
fn success_writes_no_errors_to_the_log_and_nothing_to_the_streams() {
    let c = Container::native(Config::idle());
    let log = c.path("log.json");
    let bundle = c.bundle();
    for command in [
        &["create", "--bundle", text(&bundle), c.id()][..],
        &["start", c.id()],
        &["exec", c.id(), "true"],
        &["pause", c.id()],
        &["resume", c.id()],
        &["kill", c.id(), "KILL"],
    ] {
        let mut args = vec!["--log", text(&log), "--log-format", "json"];
        args.extend(command);
        c.call(&args).silent();
    }
    assert!(!entries(&log).iter().any(|entry| entry["level"] == "error"));
    c.wait_until("stopped");
    c.delete(&[]).silent();
}

#[test]
fn an_error_is_one_line_on_standard_error_and_nothing_on_standard_output() {
    let c = Container::native(Config::idle());
    let output = c.call(&["start", c.id()]);
    assert_eq!((output.code, &*output.stdout), (1, ""));
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert!(output.stderr.ends_with('\n'), "{output:?}");
}

#[test]
fn a_text_log_names_level_and_message() {
    let c = Container::native(Config::idle());
    let log = c.path("log.txt");
    c.call(&["--log", text(&log), "start", c.id()]).refused(1, &["container does not exist"]);
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("level=error") && log.contains("container does not exist"), "{log}");
}

#[test]
fn debug_adds_entries_and_keeps_the_streams_clean() {
    let c = Container::native(Config::sh("echo out"));
    let log = c.path("log.json");
    let bundle = c.bundle();
    let args = [
        "--debug",
        "--log",
        text(&log),
        "--log-format",
        "json",
        "run",
        "--bundle",
        text(&bundle),
        c.id(),
    ];
    let output = c.call(&args);
    assert_eq!(output.ok(), "out");
    for entry in entries(&log) {
        assert!(
            entry["level"].is_string() && entry["msg"].is_string() && entry["time"].is_string()
        );
    }
}

#[test]
fn an_unknown_log_format_is_refused() {
    let c = Container::native(Config::idle());
    c.call(&["--log-format", "xml", "list"]).refused(1, &["log-format"]);
}

#[test]
fn a_log_that_cannot_be_written_is_refused_and_named() {
    let c = Container::native(Config::idle());
    c.call(&["--log", "/no/such/directory/log", "list"]).refused(1, &["/no/such/directory/log"]);
}

#[test]
fn messages_with_quotes_and_newlines_stay_one_json_line() {
    let c = Container::native(Config::args(&["a \"quoted\"\nname\t\u{1}"]));
    let log = c.path("log.json");
    let bundle = c.bundle();
    let args =
        ["--log", text(&log), "--log-format", "json", "create", "--bundle", text(&bundle), c.id()];
    assert_eq!(c.call(&args).code, 1);
    assert!(!entries(&log).is_empty());
}

#[test]
fn an_unknown_command_or_option_is_a_usage_error() {
    for args in [
        &["nonsense"][..],
        &["--nonsense"],
        &["state"],
        &["state", "--nonsense", "x"],
        &["create", "a", "b"],
    ] {
        let output = Runtime::native().call(args);
        if Runtime::is_gpurun() || args != ["nonsense"] {
            assert_ne!(output.code, 0, "{args:?}: {output:?}");
        }
        assert!(!output.stderr.contains("panicked"), "{output:?}");
    }
}

#[test]
fn version_names_the_program_and_the_spec() {
    for flag in ["--version", "-v"] {
        let output = Runtime::native().call(&[flag]);
        let first = output.ok().lines().next().unwrap_or_default();
        assert!(first.contains(" version "), "{first}");
        assert!(output.stdout.lines().any(|line| line.starts_with("spec: 1.")), "{output:?}");
    }
}

#[test]
fn help_lists_the_commands_of_runc() {
    let output = Runtime::native().call(&["--help"]);
    for command in [
        "create", "start", "state", "kill", "delete", "run", "exec", "ps", "list", "pause",
        "resume", "update", "spec", "features",
    ] {
        assert!(output.ok().contains(command), "{command} in {output:?}");
    }
}

#[test]
fn a_reason_on_stderr_is_one_line_without_control_characters_and_of_bounded_length() {
    gpurun_only!("runc writes them as they are");
    let odd = "a\nlevel=error msg=\u{1b}[31m\u{9b}1m\rb";
    let long = format!("/{odd}/{}/end", "é".repeat(1 << 20));
    for config in [
        Config::args(&[odd]),
        Config::args(&[&long]),
        Config::idle().set("/linux/sysctl", json!({odd: "1"})),
        Config::idle().set("/linux/cgroupsPath", json!(format!("../{odd}"))),
        Config::idle().set("/root/path", json!(odd)),
        Config::idle().set("/root/path", json!(long)),
    ] {
        let c = Container::native(config);
        let (log, bundle) = (c.path("log.json"), c.bundle());
        for options in [&[][..], &["--log", text(&log), "--log-format", "json"]] {
            let create = ["create", "--bundle", text(&bundle), c.id()];
            let output = c.call(&[options, &create[..]].concat());
            output.refused(1, &["\\n"]);
            let line = output.stderr.strip_suffix('\n').expect("a line");
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(line.len() < 20_000, "{} bytes: {line}", line.len());
        }
        let log = entries(&log);
        assert_eq!(log.len(), 1, "{log:?}");
        c.assert_gone();
    }
}

#[test]
fn features_is_what_engines_decode() {
    let features = Runtime::native().call(&["features"]).json();
    assert!(features["ociVersionMin"].as_str().is_some_and(|v| v.starts_with('1')), "{features}");
    assert!(features["ociVersionMax"].as_str().is_some_and(|v| v.starts_with('1')), "{features}");
    let has = |pointer: &str, name: &str| {
        features
            .pointer(pointer)
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().any(|v| v == name))
    };
    for kind in
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    {
        assert!(has("/hooks", kind), "{kind}");
    }
    for option in ["ro", "rw", "bind", "rbind", "rprivate", "rslave", "nosuid"] {
        assert!(has("/mountOptions", option), "{option}");
    }
    for kind in ["pid", "network", "ipc", "uts", "mount", "user", "cgroup"] {
        assert!(has("/linux/namespaces", kind), "{kind}");
    }
    assert!(has("/linux/capabilities", "CAP_SYS_ADMIN"));
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert!(has("/linux/seccomp/actions", "SCMP_ACT_ERRNO"));
    assert!(has("/linux/seccomp/archs", "SCMP_ARCH_X86_64"));
}

#[test]
fn recursive_read_only_is_announced() {
    gpurun_only!("runc 1.1.5 announces rro only on some builds");
    let features = Runtime::native().call(&["features"]).json();
    let options = features["mountOptions"].as_array().unwrap();
    assert!(options.iter().any(|option| option == "rro"), "Docker asks for it");
}

#[test]
fn the_spec_that_spec_writes_can_be_run() {
    let c = Container::native(Config::args(&["true"]));
    let config = c.bundle().join("config.json");
    let mut spec = c.command(&["spec"]);
    spec.current_dir(c.bundle());
    let again = integration_tests::runtime::finish(&mut spec, b"");
    again.refused(1, &["config.json", "exist"]);
    fs::remove_file(&config).unwrap();
    integration_tests::runtime::finish(&mut spec, b"").silent();
    let mut written: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    assert_eq!(written["process"]["terminal"], true);
    assert_eq!(written["process"]["args"], Value::from(vec!["sh"]));
    assert_eq!(written["root"]["path"], "rootfs");
    written["process"]["terminal"] = false.into();
    written["process"]["args"] = Value::from(vec!["echo", "works"]);
    fs::write(&config, written.to_string()).unwrap();
    assert_eq!(c.run().ok(), "works");
    fs::remove_file(&config).unwrap();
    c.call(&["spec", "--bundle", text(&c.bundle())]).silent();
    assert!(config.exists());
}
