//! exec: a second process in a container that runs, under the container's own restrictions.

use integration_tests::cgroup::{self, Version};
use integration_tests::console::ConsoleSocket;
use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, skipped, wait_for};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

#[test]
fn the_exit_code_of_the_process_is_the_exit_code_of_exec() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        for code in [0, 1, 42, 126, 127, 255] {
            assert_eq!(c.exec(&["sh", "-c", &format!("exit {code}")]).code, code);
        }
        assert_eq!(c.exec(&["sh", "-c", "kill -9 $$"]).code, 137);
        assert_eq!(c.exec(&["sh", "-c", "kill -TERM $$"]).code, 143);
    }
}

#[test]
fn the_streams_are_passed_through() {
    let c = Container::idle();
    let output = c.call_with(&["exec", c.id(), "sh", "-c", "cat; echo err >&2"], b"in\n");
    assert_eq!((output.ok(), &*output.stderr), ("in", "err\n"));
}

#[test]
fn the_process_is_in_every_namespace_and_cgroup_of_the_container() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle().namespace("cgroup", Some("")));
        let pid = c.pid();
        for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
            let of_first = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert_eq!(c.sh(&format!("readlink /proc/self/ns/{name}")), text(&of_first));
        }
        let of_first = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        c.call_on("ps", &[]).ok();
        let pid_file = c.path("exec.pid");
        c.call(&["exec", "-d", "--pid-file", text(&pid_file), c.id(), "sleep", "1000"]).silent();
        let pid = fs::read_to_string(&pid_file).unwrap();
        let of_second = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert_eq!(of_first, of_second);
    }
}

#[test]
fn a_detached_exec_returns_at_once_and_writes_its_pid() {
    let c = Container::idle();
    let pid_file = c.path("exec.pid");
    let args = ["exec", "--detach", "--pid-file", text(&pid_file), c.id(), "sleep", "500"];
    c.call(&args).silent();
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert!(pid.parse::<i32>().is_ok(), "{pid:?} is a bare number");
    let command = || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if !Runtime::is_gpurun() {
        // runc 1.1 returns a moment earlier.
        wait_for("the process", || command() == "sleep\x00500\0");
    }
    assert_eq!(command(), "sleep\x00500\0", "exec returns only once the process is there");
}

#[test]
fn a_process_file_says_everything() {
    let c = Container::idle();
    let file = c.path("process.json");
    let process = json!({
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [7, 8], "umask": 0o77},
        "args": ["sh", "-c", "id -u; id -G; pwd; echo $FROM; umask; ulimit -n"],
        "env": ["PATH=/bin", "FROM=file"], "cwd": "/tmp",
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 66, "hard": 66}]
    });
    fs::write(&file, process.to_string()).unwrap();
    let output = c.call(&["exec", "--process", text(&file), c.id()]);
    // runc 1.1 ignores the umask of exec.
    let umask = if Runtime::is_gpurun() { "0077" } else { "0022" };
    assert_eq!(output.ok(), format!("1000\n1000 7 8\n/tmp\nfile\n{umask}\n66"));
    fs::write(&file, "{ not json").unwrap();
    c.call(&["exec", "--process", text(&file), c.id()]).refused(255, &[]);
    c.call(&["exec", "--process", "/no/such/file", c.id()]).refused(255, &["/no/such/file"]);
}

#[test]
fn what_a_process_file_leaves_open_is_as_the_container_has_it() {
    let config = Config::idle()
        .capabilities(&["CAP_KILL", "CAP_NET_RAW"], false)
        .set("/process/user", json!({"uid": 0, "gid": 0, "umask": 0o27}));
    let c = Container::running(Runtime::native(), config);
    let file = c.path("process.json");
    let script = "grep -E '^(CapBnd|NoNewPrivs):' /proc/self/status; ulimit -n; umask";
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", script],
                         "env": ["PATH=/bin"], "cwd": "/"});
    fs::write(&file, process.to_string()).unwrap();
    let output = c.call(&["exec", "--process", text(&file), c.id()]);
    // runc takes an absent noNewPrivileges for false.
    let no_new_privs = u8::from(Runtime::is_gpurun());
    let expected = format!("CapBnd:\t0000000000002020\nNoNewPrivs:\t{no_new_privs}\n1024\n0027");
    assert_eq!(output.ok(), expected);
}

#[test]
fn a_process_file_without_an_end_or_without_a_writer_is_refused_at_once() {
    gpurun_only!("runc reads it for ever");
    let c = Container::idle();
    c.call(&["exec", "--process", "/dev/zero", c.id()]).refused(255, &["/dev/zero", "larger"]);
    let fifo = c.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    c.call(&["exec", "--process", text(&fifo), c.id()]).refused(255, &["fifo"]);
    c.call(&["update", "--resources", text(&fifo), c.id()]).refused(1, &["fifo"]);
}

#[test]
fn flags_change_environment_directory_and_user() {
    let c = Container::idle();
    let script = "echo $A-$B; pwd; id -u; id -g";
    let options = ["--env", "A=1", "--env", "B=2 3", "--cwd", "/etc", "--user", "1000:1001"];
    assert_eq!(c.exec_with(&options, &["sh", "-c", script]).ok(), "1-2 3\n/etc\n1000\n1001");
}

#[test]
fn user_is_a_number_or_two_and_nothing_else() {
    let c = Container::idle();
    assert_eq!(c.exec_with(&["--user", "1"], &["id", "-u"]).ok(), "1");
    assert_eq!(c.exec_with(&["-u", "1:2"], &["sh", "-c", "id -u; id -g"]).ok(), "1\n2");
    if !Runtime::is_gpurun() {
        return; // runc 1.1 wraps a number that is too large
    }
    for bad in ["-1", "x", "1:x", "99999999999", "1:99999999999", "1:2:3", "0x0"] {
        let output = c.exec_with(&[&format!("--user={bad}")], &["id", "-u"]);
        assert!(output.code != 0 && output.stdout.is_empty(), "{bad:?} became {output:?}");
    }
}

#[test]
fn additional_groups_are_given() {
    let c = Container::idle();
    let groups = c.exec_with(&["-g", "100", "-g", "65534"], &["id", "-G"]);
    assert_eq!(groups.ok(), "0 100 65534");
    let config =
        Config::idle().set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [5]}));
    let c = Container::running(Runtime::native(), config);
    assert_eq!(c.exec_with(&["-g", "100"], &["id", "-G"]).ok(), "0 5 100");
}

fn status_field(c: &Container, options: &[&str], field: &str) -> String {
    let output = c.exec_with(options, &["grep", &format!("^{field}:"), "/proc/self/status"]);
    output.ok().split_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn the_user_capabilities_and_no_new_privs_of_the_container_apply() {
    let config = Config::idle()
        .set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5]}))
        .capabilities(&["CAP_KILL", "CAP_NET_RAW"], false);
    let c = Container::running(Runtime::native(), config);
    assert_eq!(c.sh("id -u; id -g; id -G"), "1000\n1001\n1001 5");
    assert_eq!(status_field(&c, &[], "NoNewPrivs"), "1");
    assert_eq!(status_field(&c, &[], "CapBnd"), "0000000000002020");
    assert_eq!(status_field(&c, &[], "CapInh"), "0000000000000000");
    assert_eq!(status_field(&c, &[], "CapAmb"), "0000000000000000");
}

#[test]
fn an_added_capability_is_effective_and_never_inheritable() {
    let c = Container::idle();
    const NET_ADMIN: u64 = 1 << 12;
    let set = |options: &[&str], field: &str| {
        u64::from_str_radix(&status_field(&c, options, field), 16).unwrap()
    };
    assert_eq!(set(&[], "CapEff") & NET_ADMIN, 0);
    for field in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(set(&["--cap", "CAP_NET_ADMIN"], field) & NET_ADMIN, NET_ADMIN, "{field}");
    }
    assert_eq!(set(&["--cap", "CAP_NET_ADMIN"], "CapInh"), 0);
    c.exec_with(&["--cap", "CAP_NOPE"], &["true"]);
}

#[test]
fn the_seccomp_profile_of_the_container_applies() {
    let config = Config::idle().set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW",
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}),
    );
    let c = Container::running(Runtime::native(), config);
    assert_eq!(status_field(&c, &[], "Seccomp"), "2");
    let output = c.exec(&["mkdir", "/tmp/new"]);
    assert!(output.stderr.contains("not supported"), "{output:?}");
}

#[test]
fn the_limits_of_the_container_apply() {
    let config = Config::idle().set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 88, "hard": 88},
               {"type": "RLIMIT_CORE", "soft": 512, "hard": 1024}]),
    );
    let c = Container::running(Runtime::native(), config.set("/process/oomScoreAdj", 321.into()));
    assert_eq!(
        c.sh("ulimit -n; ulimit -c; ulimit -Hc; cat /proc/self/oom_score_adj"),
        "88\n1\n2\n321"
    );
}

#[test]
fn a_process_file_without_an_oom_score_has_the_containers() {
    let config = Config::idle().set("/process/oomScoreAdj", 321.into());
    let c = Container::running(Runtime::native(), config);
    let file = c.path("process.json");
    let mut process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
        "args": ["cat", "/proc/self/oom_score_adj"]});
    let score = |process: &Value| {
        fs::write(&file, process.to_string()).unwrap();
        c.call(&["exec", "--process", text(&file), c.id()]).ok().to_owned()
    };
    assert_eq!(score(&process), "321");
    if Runtime::is_gpurun() {
        process["oomScoreAdj"] = 654.into();
        assert_eq!(score(&process), "654");
    }
}

#[test]
fn the_umask_of_the_container_applies() {
    gpurun_only!("runc 1.1 ignores the umask of exec");
    let config = Config::idle().set("/process/user/umask", 0o27.into());
    let c = Container::running(Runtime::native(), config);
    assert_eq!(c.sh("umask"), "0027");
}

#[test]
fn the_environment_is_the_containers_and_home_is_the_users() {
    let config = Config::idle().set("/process/env", json!(["PATH=/bin", "FOO=bar"]));
    let c = Container::running(Runtime::native(), config);
    assert_eq!(c.sh("echo $FOO; echo $HOME"), "bar\n/root");
    assert_eq!(c.exec_with(&["-u", "1000"], &["sh", "-c", "echo $HOME"]).ok(), "/home/alice");
    assert_eq!(c.exec_with(&["-e", "FOO=new"], &["sh", "-c", "echo $FOO"]).ok(), "new");
}

#[test]
fn a_terminal_comes_over_the_console_socket() {
    let c = Container::idle();
    let socket = ConsoleSocket::listen(&c.path("tty.sock"));
    let path = c.path("tty.sock");
    let options = ["--tty", "--detach", "--console-socket", text(&path)];
    c.exec_with(&options, &["sh", "-c", "tty; read x; echo got-$x"]).silent();
    let mut terminal = socket.receive();
    terminal.read_until("/dev/pts/");
    terminal.write("word\n");
    terminal.read_until("got-word");
}

#[test]
fn exec_works_in_a_container_that_is_only_created() {
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        c.create().silent();
        assert_eq!(c.sh("hostname"), "box");
        assert_eq!(c.status(), "created");
    }
}

#[test]
fn a_created_container_does_not_show_the_runtimes_binary() {
    let c = Container::native(Config::idle());
    c.create().silent();
    let output = c.exec(&["readlink", "/proc/1/exe"]);
    assert!(output.code != 0 && output.stdout.is_empty(), "{output:?}");
}

#[test]
fn exec_into_a_stopped_or_paused_container_is_refused() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        c.call_on("pause", &[]).silent();
        c.exec(&["true"]).refused(255, &["paused"]);
        c.call_on("resume", &[]).silent();
        c.stop();
        let output = c.exec(&["true"]);
        assert_eq!(output.code, 255, "{output:?}");
        let known = ["stopped container", "container not running"];
        assert!(known.iter().any(|text| output.stderr.contains(text)), "{output:?}");
    }
}

#[test]
fn what_cannot_be_executed_is_named_as_engines_expect_it() {
    let c = Container::idle();
    c.exec(&["nope"]).refused(255, &["exec: \"nope\": executable file not found in $PATH"]);
    c.exec(&["/bin/nope"]).refused(255, &["/bin/nope", "no such file or directory"]);
    fs::write(c.rootfs().join("notexec"), "").unwrap();
    c.exec(&["/notexec"]).refused(255, &["/notexec", "permission denied"]);
    c.exec_with(&["--cwd", "relative"], &["true"]).refused(255, &["absolute path"]);
    assert_eq!(c.status(), "running");
}

#[test]
fn exec_needs_a_command() {
    let c = Container::idle();
    let output = c.call(&["exec", c.id()]);
    assert!(output.code != 0 && !output.stderr.contains("panicked"), "{output:?}");
}

#[test]
fn a_working_directory_outside_of_the_container_is_refused() {
    let c = Container::idle();
    for n in 3..16 {
        let directory = format!("/proc/self/fd/{n}");
        let output = c.exec_with(&["--cwd", &directory], &["ls", "../../../.."]);
        assert!(output.code != 0 && output.stdout.is_empty(), "{directory}: {output:?}");
    }
}

#[test]
fn only_the_streams_are_open() {
    let c = Container::idle();
    let output = c.exec(&["sh", "-c", "ls /proc/$$/fd; true"]);
    let low: Vec<&str> = output.ok().lines().filter(|n| n.len() == 1).collect();
    assert_eq!(low, ["0", "1", "2"]);
}

#[test]
fn many_at_once_all_work() {
    let c = Container::idle();
    let calls: Vec<_> =
        (0..16).map(|n| c.start_call(&["exec", c.id(), "echo", &n.to_string()])).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.wait().ok(), n.to_string());
    }
}

#[test]
fn a_process_that_outlives_exec_dies_with_the_container() {
    let c = Container::idle();
    c.exec_with(&["--detach"], &["sleep", "600"]).silent();
    c.stop();
    c.delete(&[]).silent();
    wait_for("no process", || integration_tests::leak::processes(c.id()).is_empty());
}

/// As systemd or Docker in a container do it: with controllers handed down, the container's cgroup
/// itself can hold no process any more. The names below are the container's to choose.
#[test]
fn a_container_that_has_divided_its_cgroup_can_be_joined() {
    let Some(runtime) = Runtime::each().into_iter().find(|r| r.cgroup == Version::V2) else {
        return skipped("no cgroup v2 on this machine");
    };
    let c = Container::running(runtime, Config::idle());
    let own = cgroup::directory(Version::V2, "", c.pid()).expect("the container's cgroup");
    let handed_down = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
    let Some(controller) = handed_down.split_whitespace().next() else {
        return skipped("cgroup v2 has no controllers here");
    };
    let below = own.join(OsStr::from_bytes(b"below\xff"));
    fs::create_dir(&below).expect("a cgroup below");
    fs::write(below.join("cgroup.procs"), c.pid().to_string()).expect("the init in it");
    fs::write(own.join("cgroup.subtree_control"), format!("+{controller}")).expect("divided");
    assert!(c.exec(&["cat", "/proc/self/cgroup"]).ok().ends_with("/below\u{fffd}"));
    c.stop();
    c.delete(&[]).silent();
}

#[test]
fn a_cgroup_below_the_containers_can_be_chosen() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        let controller = if runtime.cgroup == Version::V1 { "pids" } else { "" };
        let own = cgroup::directory(runtime.cgroup, controller, c.pid()).expect("its cgroup");
        fs::create_dir(own.join("below")).expect("a cgroup below");
        let argument = match runtime.cgroup {
            Version::V1 => "pids:below",
            Version::V2 => "below",
        };
        let output = c.exec_with(&["--cgroup", argument], &["cat", "/proc/self/cgroup"]);
        let below = |line: &&str| line.ends_with("/below");
        assert_eq!(output.ok().lines().filter(below).count(), 1, "{output:?}");
        c.exec_with(&["--cgroup", "/"], &["true"]).ok();
    }
}

#[test]
fn a_cgroup_that_is_elsewhere_or_nowhere_is_refused() {
    for runtime in Runtime::each() {
        let c = Container::running(runtime, Config::idle());
        let refused = |options: &[&str], why: &str| {
            c.exec_with(options, &["true"]).refused(255, &[why]);
        };
        refused(&["--cgroup", "nowhere"], "no such file or directory");
        if !Runtime::is_gpurun() {
            continue; // runc 1.1 says less
        }
        refused(&["--cgroup", ".."], "bad sub cgroup path");
        refused(&["--cgroup", "a", "--cgroup", "b"], "missing <controller>: prefix");
        if runtime.cgroup == Version::V1 {
            refused(&["--cgroup", "what:/"], "unknown controller what");
            refused(&["--cgroup", "pids:a", "--cgroup", "pids:b"], "multiple times");
        }
    }
}

#[test]
fn no_new_privileges_can_be_turned_on_and_off() {
    let c = Container::idle();
    assert_eq!(status_field(&c, &["--no-new-privs"], "NoNewPrivs"), "1");
    assert_eq!(status_field(&c, &["--no-new-privs=false"], "NoNewPrivs"), "0");
    assert_eq!(status_field(&c, &[], "NoNewPrivs"), "1");
}
