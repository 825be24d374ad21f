//! config.json's `process`: who runs, where, with what.

use integration_tests::container::text;
use integration_tests::{Config, Container, Value, gpurun_only, json, runtime};
use std::fs;

/// Runs the script in a container made by `change` and returns what it printed.
#[track_caller]
fn run(script: &str, change: impl FnOnce(Config) -> Config) -> String {
    Container::native(change(Config::sh(script))).run().ok().to_owned()
}

/// A container whose config is changed by `change` must be refused before it exists.
#[track_caller]
fn refused(phrases: &[&str], change: impl FnOnce(Config) -> Config) {
    let c = Container::native(change(Config::args(&["true"])));
    c.create().refused(1, phrases);
    c.assert_gone();
}

#[test]
fn user_and_group_are_set() {
    let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [20, 30]});
    assert_eq!(
        run("id -u; id -g; id -G", |c| c.set("/process/user", user)),
        "1000\n1001\n1001 20 30"
    );
}

#[test]
fn no_additional_groups_means_none_at_all() {
    assert_eq!(run("grep ^Groups: /proc/self/status", |c| c), "Groups:");
}

#[test]
fn a_user_number_that_is_none_is_refused() {
    for bad in [json!(-1), json!(4_294_967_296_u64), json!("0"), json!(1.5)] {
        refused(&[], |c| c.set("/process/user/uid", bad.clone()));
        refused(&[], |c| c.set("/process/user/gid", bad));
    }
}

#[test]
fn the_umask_is_set_and_is_0022_otherwise() {
    assert_eq!(run("umask", |c| c), "0022");
    assert_eq!(run("umask", |c| c.set("/process/user/umask", 0o77.into())), "0077");
}

#[test]
fn the_umask_of_the_caller_is_nothing_to_the_container() {
    let c = Container::native(Config::sh("umask"));
    let inner = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    let mut outer = std::process::Command::new("sh");
    outer.args(["-c", "umask 077; exec \"$0\" \"$@\""]);
    outer.arg(inner.get_program()).args(inner.get_args());
    assert_eq!(runtime::finish(&mut outer, b"").ok(), "0022");
}

#[test]
fn limits_are_set() {
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 200, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 512, "hard": 1024},
        {"type": "RLIMIT_AS", "soft": 1_000_000_000, "hard": 2_000_000_000}
    ]);
    let seen = run("ulimit -Sn; ulimit -Sc; ulimit -Hc; ulimit -Sv", |c| {
        c.set("/process/rlimits", limits)
    });
    assert_eq!(seen, "200\n1\n2\n976562");
}

#[test]
fn a_limit_that_does_not_exist_is_refused() {
    let limit = |kind: &str| json!([{"type": kind, "soft": 1, "hard": 1}]);
    refused(&["RLIMIT_NOPE"], |c| c.set("/process/rlimits", limit("RLIMIT_NOPE")));
    refused(&[], |c| c.set("/process/rlimits", limit("")));
}

#[test]
fn a_soft_limit_above_the_hard_one_is_refused() {
    refused(&["rlimit"], |c| {
        c.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}]))
    });
}

#[test]
fn the_working_directory_is_set_and_made_where_it_is_missing() {
    assert_eq!(run("pwd", |c| c.set("/process/cwd", "/usr/bin".into())), "/usr/bin");
    let c = Container::native(Config::sh("pwd").set("/process/cwd", "/new/deep/dir".into()));
    assert_eq!(c.run().ok(), "/new/deep/dir");
}

#[test]
fn a_working_directory_has_to_be_an_absolute_path() {
    refused(&["cwd", "absolute path"], |c| c.set("/process/cwd", "tmp".into()));
    refused(&[], |c| c.set("/process/cwd", "".into()));
    refused(&[], |c| c.remove("/process/cwd"));
}

#[test]
fn a_working_directory_that_is_a_file_is_refused() {
    refused(&["/etc/passwd"], |c| c.set("/process/cwd", "/etc/passwd".into()));
}

#[test]
fn a_working_directory_through_a_leaked_descriptor_is_refused() {
    let c = Container::native(Config::args(&["ls", "../../../../.."]));
    for n in 3..24 {
        let cwd = format!("/proc/self/fd/{n}");
        c.configure(Config::args(&["ls", "../../../../.."]).set("/process/cwd", cwd.into()));
        let output = c.run();
        assert!(output.code != 0 && output.stdout.is_empty(), "fd {n}: {output:?}");
        c.assert_gone();
    }
}

#[test]
fn a_working_directory_that_only_the_user_may_enter_is_entered_as_the_user() {
    let config = Config::sh("pwd")
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .set("/process/cwd", "/private".into());
    let c = Container::native(config.capabilities(&[], false));
    fs::create_dir(c.rootfs().join("private")).unwrap();
    std::os::unix::fs::chown(c.rootfs().join("private"), Some(1000), Some(1000)).unwrap();
    fs::set_permissions(
        c.rootfs().join("private"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    assert_eq!(c.run().ok(), "/private");
}

#[test]
fn the_environment_keeps_its_order() {
    let env = json!(["PATH=/bin", "HOME=/", "ZZ=1", "A=2", "M=x=y", "EMPTY="]);
    let c = Container::native(Config::args(&["env"]).set("/process/env", env));
    assert_eq!(c.run().stdout, "PATH=/bin\nHOME=/\nZZ=1\nA=2\nM=x=y\nEMPTY=\n");
}

#[test]
fn of_two_variables_with_one_name_the_last_wins() {
    let env = json!(["PATH=/bin", "A=first", "B=x", "A=last", "HOME=/"]);
    let c = Container::native(Config::args(&["env"]).set("/process/env", env));
    let seen = c.run();
    let of_a: Vec<&str> = seen.ok().lines().filter(|line| line.starts_with("A=")).collect();
    assert_eq!(of_a, ["A=last"]);
}

#[test]
fn home_comes_from_the_containers_passwd_when_the_environment_has_none() {
    let path = json!(["PATH=/bin"]);
    assert_eq!(run("echo $HOME", |c| c.set("/process/env", path.clone())), "/root");
    let alice = json!({"uid": 1000, "gid": 1000});
    let seen = run("echo $HOME", |c| c.set("/process/env", path).set("/process/user", alice));
    assert_eq!(seen, "/home/alice");
}

#[test]
fn a_variable_without_a_name_or_with_a_nul_is_refused() {
    gpurun_only!("runc 1.1 passes some of these on");
    for bad in ["=value", "no equals sign", "A=b\0c"] {
        refused(&["env"], |c| c.push("/process/env", bad.into()));
    }
}

#[test]
fn nothing_of_the_runtimes_environment_is_inherited() {
    let c = Container::native(Config::args(&["env"]));
    let mut run = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    run.env("LEAKED", "secret");
    let output = runtime::finish(&mut run, b"");
    assert_eq!(output.stdout, "PATH=/bin:/usr/bin\nHOME=/root\n");
}

#[test]
fn the_oom_score_is_set() {
    let seen = run("cat /proc/self/oom_score_adj", |c| c.set("/process/oomScoreAdj", 222.into()));
    assert_eq!(seen, "222");
}

#[test]
fn no_new_privileges_is_set_as_asked() {
    let script = "grep ^NoNewPrivs: /proc/self/status";
    assert_eq!(run(script, |c| c), "NoNewPrivs:\t1");
    assert_eq!(run(script, |c| c.set("/process/noNewPrivileges", false.into())), "NoNewPrivs:\t0");
    assert_eq!(run(script, |c| c.remove("/process/noNewPrivileges")), "NoNewPrivs:\t0");
}

const CAPS: &str = "sed -n 's/^Cap\\(...\\):\\t/\\1 /p' /proc/self/status";

fn sets(bits: [u64; 5]) -> String {
    let [inh, prm, eff, bnd, amb] = bits;
    format!("Inh {inh:016x}\nPrm {prm:016x}\nEff {eff:016x}\nBnd {bnd:016x}\nAmb {amb:016x}")
}

#[test]
fn each_capability_set_is_set_on_its_own() {
    let caps = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "inheritable": ["CAP_KILL"], "ambient": []
    });
    // Bits: chown 0, kill 5, net_raw 13.
    let seen = run(CAPS, |c| c.set("/process/capabilities", caps));
    assert_eq!(seen, sets([0x20, 0x2021, 0x2021, 0x2021, 0]));
}

#[test]
fn no_capabilities_means_none() {
    assert_eq!(run(CAPS, |c| c.remove("/process/capabilities")), sets([0; 5]));
    assert_eq!(run(CAPS, |c| c.set("/process/capabilities", json!({}))), sets([0; 5]));
}

#[test]
fn ambient_capabilities_reach_a_process_that_is_not_root() {
    let user = json!({"uid": 1000, "gid": 1000});
    let with = |ambient: bool| {
        run(CAPS, |c| c.set("/process/user", user.clone()).capabilities(&["CAP_NET_RAW"], ambient))
    };
    assert_eq!(with(true), sets([0x2000; 5]));
    assert_eq!(with(false), sets([0, 0, 0, 0x2000, 0]));
}

#[test]
fn host_and_domain_name_are_set() {
    assert_eq!(run("hostname", |c| c.set("/hostname", "some-host".into())), "some-host");
    assert_eq!(run("hostname", |c| c.set("/hostname", "ü".into())), "ü");
}

#[test]
fn the_domain_name_is_set() {
    gpurun_only!("runc 1.1 does not know domainname");
    let seen =
        run("cat /proc/sys/kernel/domainname", |c| c.set("/domainname", "example.org".into()));
    assert_eq!(seen, "example.org");
}

#[test]
fn a_host_name_without_a_uts_namespace_is_refused() {
    refused(&["hostname"], |c| c.namespace("uts", None));
}

#[test]
fn a_host_name_that_is_too_long_is_refused() {
    refused(&[], |c| c.set("/hostname", "a".repeat(65).into()));
}

#[test]
fn there_has_to_be_a_process_with_arguments() {
    refused(&["args"], |c| c.set("/process/args", json!([])));
    refused(&["args"], |c| c.remove("/process/args"));
    refused(&[], |c| c.set("/process/args", json!([""])));
    refused(&[], |c| c.set("/process/args", json!("true")));
}

#[test]
fn an_argument_with_a_nul_is_refused() {
    gpurun_only!("runc 1.1 reports it in other words");
    refused(&["args"], |c| c.push("/process/args", "a\0b".into()));
}

#[test]
fn arguments_arrive_byte_for_byte() {
    let args = ["printf", "%s|", "", " ", "a b", "ü\n", "\"'$HOME`"];
    let c = Container::native(Config::args(&args));
    assert_eq!(c.run().stdout, "| |a b|ü\n|\"'$HOME`|");
}

#[test]
fn an_absolute_program_needs_no_path_variable() {
    let c = Container::native(Config::args(&["/bin/echo", "fine"]).set("/process/env", json!([])));
    assert_eq!(c.run().ok(), "fine");
}

#[test]
fn a_program_is_looked_up_in_the_containers_path() {
    let c = Container::native(
        Config::args(&["tool"]).set("/process/env", json!(["PATH=/nothing:/opt/tools:/bin"])),
    );
    fs::create_dir_all(c.rootfs().join("opt/tools")).unwrap();
    fs::copy(c.rootfs().join("bin/busybox"), c.rootfs().join("opt/tools/tool")).unwrap();
    let output = c.run();
    assert!(output.stderr.contains("tool: applet not found"), "{output:?}");
}

#[test]
fn the_process_runs_in_its_own_session() {
    let seen = run("cut -d' ' -f5,6 /proc/1/stat", |c| c);
    assert_eq!(seen, "1 1", "process group and session of the first process");
}

#[test]
fn no_signal_is_blocked_and_a_broken_pipe_is_not_ignored() {
    let seen = run("grep -E '^Sig(Blk|Ign):' /proc/self/status", |c| c);
    let set = |name: &str| {
        let line = seen.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        u64::from_str_radix(line.rsplit('\t').next().unwrap_or_default(), 16).unwrap()
    };
    assert_eq!(set("SigBlk"), 0, "{seen}");
    // SIGPIPE is 13. Rust programs start with it ignored, and exec keeps that.
    assert_eq!(set("SigIgn") & (1 << 12), 0, "{seen}");
}

#[test]
fn an_apparmor_profile_is_applied_or_refused() {
    if !fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|s| s.starts_with('Y'))
    {
        integration_tests::skipped("AppArmor is not enabled on this host");
        return;
    }
    refused(&["apparmor"], |c| c.set("/process/apparmorProfile", "gpurun-no-such-profile".into()));
    let seen = run("cat /proc/self/attr/current", |c| {
        c.set("/process/apparmorProfile", "unconfined".into())
    });
    assert!(seen.starts_with("unconfined"), "{seen}");
}

#[test]
fn a_label_is_never_left_out_because_its_security_module_is_not_seen() {
    let enabled = |file: &str| fs::read_to_string(file).is_ok_and(|s| s.starts_with(['Y', '1']));
    if !enabled("/sys/module/apparmor/parameters/enabled") {
        refused(&["apparmor", "gpurun-none"], |c| {
            c.set("/process/apparmorProfile", "gpurun-none".into())
        });
    }
    if !enabled("/sys/fs/selinux/enforce") {
        refused(&["selinux"], |c| {
            c.set("/process/selinuxLabel", "system_u:system_r:container_t:s0".into())
        });
    }
}

#[test]
fn fields_that_nobody_knows_are_ignored() {
    let c = Container::native(
        Config::args(&["true"])
            .set("/future", json!({"a": [1, 2]}))
            .set("/process/future", Value::Null)
            .set("/linux/future", true.into()),
    );
    c.run().silent();
}

#[test]
fn signals_that_the_caller_ignores_are_not_ignored_in_the_container() {
    let c = Container::native(Config::args(&["grep", "SigIgn", "/proc/self/status"]));
    let mut run = std::process::Command::new("sh");
    run.args(["-c", "trap '' INT QUIT HUP PIPE USR1; exec \"$@\"", "sh"]);
    let inner = c.command(&["run", "--bundle", text(&c.bundle()), c.id()]);
    run.arg(inner.get_program()).args(inner.get_args());
    let output = runtime::finish(&mut run, b"");
    let mask = output.stdout.split_whitespace().last().unwrap_or_default();
    if !integration_tests::Runtime::is_gpurun() {
        // runc 1.1 passes on what Go leaves ignored.
        return;
    }
    assert_eq!(u64::from_str_radix(mask, 16), Ok(0), "{output:?}");
}
