//! The command line as Go programs take it, help, and what is said about mistakes.

use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, gpurun_only, json};
use std::fs;
use std::process::Stdio;

const COMMANDS: [&str; 15] = [
    "create", "delete", "events", "exec", "kill", "list", "pause", "ps", "resume", "run", "spec",
    "start", "state", "update", "features",
];

#[test]
fn every_command_has_a_page_of_help() {
    let name = Runtime::binary().file_name().expect("a name").to_string_lossy().into_owned();
    for command in COMMANDS {
        for option in ["-h", "--help", "-help"] {
            let output = Runtime::native().call(&[command, option]);
            let lines: Vec<&str> = output.ok().lines().collect();
            assert!(lines[0].starts_with("NAME:"), "{output:?}");
            assert!(lines[1].contains(&format!("{name} {command}")), "{output:?}");
        }
    }
}

#[test]
fn mistakes_are_named_and_end_with_1() {
    for (args, phrase) in [
        (&["create"][..], "\"create\" requires exactly 1 argument(s)"),
        (&["state", "a", "b"], "\"state\" requires exactly 1 argument(s)"),
        (&["kill"], "\"kill\" requires a minimum of 1 argument(s)"),
        (&["kill", "a", "b", "c"], "\"kill\" requires a maximum of 2 argument(s)"),
        (&["list", "x"], "\"list\" requires exactly 0 argument(s)"),
        (&["create", "--nope", "x"], "flag provided but not defined: -nope"),
        (&["-nope", "list"], "flag provided but not defined: -nope"),
        (&["run", "-d=maybe", "x"], "invalid boolean value \"maybe\" for -d"),
        (&["create", "--preserve-fds", "x", "y"], "invalid value \"x\" for flag -preserve-fds"),
        (&["--log-format", "x", "list"], "invalid log-format: x"),
        (&["list", "--format", "x"], "invalid format option"),
    ] {
        let output = Runtime::native().call(args);
        output.refused(1, &[phrase]);
    }
    for args in [&["foo"][..], &["foo", "-h"]] {
        Runtime::native().call(args).refused(3, &["No help topic for 'foo'"]);
    }
}

#[test]
fn help_is_a_command_and_an_option() {
    for args in [&["help"][..], &["h"], &["--help"], &["-h"]] {
        let output = Runtime::native().call(args);
        assert!(output.ok().contains("checkpoint"), "{output:?}");
    }
    for args in [&["help", "create"][..], &["create", "--help"]] {
        let output = Runtime::native().call(args);
        assert!(output.ok().contains("--console-socket"), "{output:?}");
    }
}

#[test]
fn a_mistake_is_in_the_log_where_engines_look() {
    let c = Container::native(Config::idle());
    let log = c.path("log.json");
    let mut command = c.runtime().command();
    command.args(["--log", text(&log), "--log-format", "json", "create", "--nope", c.id()]);
    assert!(!command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let line: integration_tests::Value =
        serde_json::from_str(fs::read_to_string(&log).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!(
        (&line["level"], &line["msg"]),
        (&json!("error"), &json!("flag provided but not defined: -nope"))
    );
}

#[test]
fn switches_may_be_turned_on_and_off_by_value() {
    let c = Container::native(Config::idle());
    let bundle = c.bundle();
    c.call(&["-debug=false", "run", "-bundle", text(&bundle), "-d=true", "--keep=0", c.id()])
        .silent();
    assert_eq!(c.status(), "running");
    c.call(&["delete", "-force=1", c.id()]).silent();
}

#[test]
fn of_an_option_given_twice_the_last_counts_and_an_empty_one_not_at_all() {
    let c = Container::native(Config::idle());
    let bundle = c.bundle();
    let args = ["create", "--bundle", "/none", "--bundle", text(&bundle), "--pid-file", "", c.id()];
    c.call(&args).silent();
    assert_eq!(c.status(), "created");
}

#[test]
fn options_may_follow_the_id() {
    let c = Container::idle();
    c.call(&["delete", c.id(), "--force"]).silent();
    c.assert_gone();
}

#[test]
fn two_dashes_end_the_options() {
    let c = Container::idle();
    assert_eq!(c.call(&["exec", "--", c.id(), "echo", "-e", "--", "x"]).ok(), "-- x");
}

#[test]
fn the_state_root_is_not_the_root_directory() {
    gpurun_only!("runc 1.1 takes it");
    for root in ["/", "/..", "../../../../../../../../.."] {
        let output = Runtime::native().call(&["--root", root, "list"]);
        output.refused(1, &["--root argument should not be set to /"]);
    }
}

#[test]
fn a_reader_that_has_gone_is_no_crash() {
    let mut command = Runtime::native().command();
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    drop(reader);
    let output = command.arg("features").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn the_version_has_the_lines_that_engines_read() {
    let name = if Runtime::is_gpurun() { "gpurun" } else { "runc" };
    for option in ["--version", "-v"] {
        let output = Runtime::native().call(&[option]);
        assert!(output.ok().starts_with(&format!("{name} version ")), "{output:?}");
        assert!(output.stdout.contains("\nspec: 1."), "{output:?}");
    }
}

#[test]
fn a_container_that_cannot_be_read_is_named_and_the_others_are_listed() {
    let c = Container::idle();
    fs::create_dir(c.state_root().join("broken")).unwrap();
    let output = c.call(&["list", "-q"]);
    assert_eq!(output.ok(), c.id());
    assert!(output.stderr.contains("broken"), "{output:?}");
    fs::remove_dir(c.state_root().join("broken")).unwrap();
}
