//! linux.seccomp: profiles as engines write them.

use integration_tests::{Config, Container, Value, json, skipped};

fn with(script: &str, profile: Value) -> Container {
    Container::native(Config::sh(script).set("/linux/seccomp", profile))
}

fn rule(names: &[&str], action: &str) -> Value {
    json!({"names": names, "action": action})
}

/// An x86_64 program of three instructions: exit_group(42).
const EXIT_42: &[u8] = b"\
      \x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00\
      \x01\x00\x00\x00\x78\x00\x40\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\
      \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40\x00\x38\x00\x01\x00\x00\x00\
      \x00\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
      \x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x84\x00\x00\x00\
      \x00\x00\x00\x00\x84\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\
      \xbf\x2a\x00\x00\x00\xb8\xe7\x00\x00\x00\x0f\x05\
";

/// Enough for a busybox shell and a few applets; everything else gets EPERM, as with Docker.
fn docker_like() -> Value {
    let allowed = [
        "access",
        "arch_prctl",
        "brk",
        "capget",
        "capset",
        "chdir",
        "chmod",
        "clone",
        "clone3",
        "close",
        "close_range",
        "dup",
        "dup2",
        "dup3",
        "epoll_pwait",
        "execve",
        "exit",
        "exit_group",
        "faccessat",
        "faccessat2",
        "fchdir",
        "fcntl",
        "fstat",
        "fstatfs",
        "futex",
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getgroups",
        "getpgrp",
        "getpid",
        "getppid",
        "getrandom",
        "getrlimit",
        "gettid",
        "getuid",
        "ioctl",
        "lseek",
        "lstat",
        "madvise",
        "mmap",
        "mprotect",
        "munmap",
        "nanosleep",
        "newfstatat",
        "open",
        "openat",
        "openat2",
        "pipe",
        "pipe2",
        "poll",
        "ppoll",
        "prctl",
        "pread64",
        "prlimit64",
        "read",
        "readlink",
        "readlinkat",
        "readv",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sched_getaffinity",
        "sched_yield",
        "sendfile",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setgroups",
        "setpgid",
        "setsid",
        "setuid",
        "sigaltstack",
        "stat",
        "statfs",
        "statx",
        "sysinfo",
        "tgkill",
        "time",
        "umask",
        "uname",
        "vfork",
        "wait4",
        "waitid",
        "write",
        "writev",
        "clock_nanosleep",
        "clock_gettime",
        "kill",
    ];
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": allowed.as_slice(), "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
            {"names": ["a_call_of_the_future", "another_one"], "action": "SCMP_ACT_ALLOW"}
        ]
    })
}

#[test]
fn a_profile_like_dockers_lets_a_shell_work_and_the_rest_fail() {
    let script = "grep -E '^Seccomp:' /proc/self/status; mkdir /tmp/x; ln -s a /tmp/y; echo end";
    let output = with(script, docker_like()).run();
    assert_eq!(output.ok(), "Seccomp:\t2\nend");
    assert_eq!(output.stderr.matches("Operation not permitted").count(), 2, "{output:?}");
}

#[test]
fn the_profile_works_for_a_user_without_privileges_and_without_no_new_privs() {
    let config = Config::sh("grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status")
        .set("/linux/seccomp", docker_like())
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .capabilities(&[], false);
    for no_new_privileges in [true, false] {
        let c = Container::native(
            config.clone().set("/process/noNewPrivileges", no_new_privileges.into()),
        );
        let seen = format!(
            "CapEff:\t0000000000000000\nNoNewPrivs:\t{}\nSeccomp:\t2",
            u8::from(no_new_privileges)
        );
        assert_eq!(c.run().ok(), seen);
    }
}

#[test]
fn hardly_a_call_of_the_runtimes_own_is_made_under_the_profile() {
    if cfg!(not(target_arch = "x86_64")) {
        return skipped("its program is for x86_64");
    }
    let denied = [
        "access",
        "capget",
        "chdir",
        "close_range",
        "faccessat",
        "faccessat2",
        "fchdir",
        "fcntl",
        "getcwd",
        "getgroups",
        "getresuid",
        "memfd_create",
        "newfstatat",
        "openat",
        "openat2",
        "prlimit64",
        "setgid",
        "setgroups",
        "setresgid",
        "setresuid",
        "setsid",
        "setuid",
        "socket",
        "stat",
        "statx",
        "umask",
    ];
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
                         "syscalls": [rule(&denied, "SCMP_ACT_KILL_PROCESS")]});
    for no_new_privileges in [true, false] {
        // Nothing but exit(2): what a program itself calls is another matter.
        let config = Config::args(&["/nothing"])
            .set("/linux/seccomp", profile.clone())
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .set("/process/noNewPrivileges", no_new_privileges.into());
        let c = Container::native(config);
        let program = c.rootfs().join("nothing");
        std::fs::write(&program, EXIT_42).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        assert_eq!(c.run().code, 42, "noNewPrivileges {no_new_privileges}");
    }
}

#[test]
fn a_rule_chooses_its_own_error() {
    let mut deny = rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO");
    deny["errnoRet"] = json!(95);
    let output =
        with("mkdir /tmp/x", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [deny]})).run();
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("Operation not supported"), "{output:?}");
}

#[test]
fn an_error_without_a_number_is_eperm() {
    let deny = rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO");
    let output =
        with("mkdir /tmp/x", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [deny]})).run();
    assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
}

#[test]
fn kill_actions_kill() {
    for action in
        ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"]
    {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
                             "syscalls": [rule(&["mkdir", "mkdirat"], action)]});
        let output = with("mkdir /tmp/x; echo $?", profile).run();
        // SIGSYS is 31.
        assert_eq!(output.ok(), "159", "{action}");
    }
}

#[test]
fn log_lets_the_call_through() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
                         "syscalls": [rule(&["mkdir", "mkdirat"], "SCMP_ACT_LOG")]});
    with("mkdir /tmp/x", profile).run().silent();
}

#[test]
fn argument_conditions_are_compared() {
    // The call is kill(pid, 10).
    for (op, value, two, refused) in [
        ("SCMP_CMP_EQ", 10, 0, true),
        ("SCMP_CMP_EQ", 11, 0, false),
        ("SCMP_CMP_NE", 11, 0, true),
        ("SCMP_CMP_LT", 11, 0, true),
        ("SCMP_CMP_LE", 10, 0, true),
        ("SCMP_CMP_GT", 10, 0, false),
        ("SCMP_CMP_GE", 10, 0, true),
        ("SCMP_CMP_MASKED_EQ", 0xf, 10, true),
        ("SCMP_CMP_MASKED_EQ", 0x3, 3, false),
    ] {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
             "args": [{"index": 1, "value": value, "valueTwo": two, "op": op}]}]});
        let output = with("trap '' USR1; kill -10 $$", profile).run();
        assert_eq!(output.stderr.contains("not supported"), refused, "{op} {value}: {output:?}");
    }
}

#[test]
fn an_action_an_operator_or_an_architecture_that_does_not_exist_is_refused() {
    let allow = |syscalls: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls});
    for profile in [
        json!({"defaultAction": "SCMP_ACT_NOPE"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOPE"]}),
        allow(json!([rule(&["mkdir"], "SCMP_ACT_NOPE")])),
        allow(json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                      "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_NOPE"}]}])),
    ] {
        let c = with("true", profile);
        c.create().refused(1, &["NOPE"]);
        c.assert_gone();
    }
}

#[test]
fn an_argument_index_above_5_is_refused() {
    let c = with(
        "true",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
    );
    c.create().refused(1, &["mkdir"]);
    c.assert_gone();
}

#[test]
fn a_profile_without_rules_changes_nothing() {
    with("mkdir /tmp/x", json!({"defaultAction": "SCMP_ACT_ALLOW"})).run().silent();
    with("mkdir /tmp/x", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []})).run().silent();
}

#[test]
fn a_notify_action_without_a_listener_is_refused() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
                         "syscalls": [rule(&["mkdir"], "SCMP_ACT_NOTIFY")]});
    let c = with("true", profile);
    c.create().refused(1, &["listener"]);
    c.assert_gone();
}
