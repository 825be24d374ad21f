//! What passes between the caller of the runtime and the container's processes: nothing but what the
//! spec says. Each attribute that a process inherits is set to something odd in the caller, listed in
//! the container, and the other way round.

use std::ffi::CString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use integration_tests::checkpoint::Checkpointed;
use integration_tests::container::text;
use integration_tests::{
    Config, Container, Output, Runtime, gpurun_only, json, needs_criu, runtime, wait_for,
};

/// Lists, one `name: value` each, what a process has inherited.
/// The descriptors first: the shell itself opens some for `$( )`.
const LIST: &str = "n=0; for f in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$f ] && n=$((n+1)); done; echo fds: $n; \
    echo env: $(env | sort | tr '\\n' ' '); echo cwd: $(readlink /proc/self/cwd); \
    echo groups: $(grep ^Groups /proc/self/status); echo umask: $(umask); \
    echo blocked: $(grep SigBlk /proc/self/status); echo ignored: $(grep SigIgn /proc/self/status); \
    echo oom: $(cat /proc/self/oom_score_adj); echo timers: $(grep -c . /proc/self/timers 2>/dev/null); \
    echo nice: $(cut -d' ' -f19 /proc/self/stat); echo cpus: $(grep Cpus_allowed: /proc/self/status); \
    echo nofile: $(ulimit -n); echo core: $(ulimit -c); echo personality: $(cat /proc/self/personality 2>/dev/null); \
    echo tty: $(cut -d' ' -f7 /proc/self/stat); echo slack: $(cat /proc/self/timerslack_ns); \
    echo dumpable: $(stat -c %u /proc/self/environ); echo coredump: $(cat /proc/self/coredump_filter); \
    echo caps: $(grep Cap /proc/self/status); echo keys: $(cat /proc/keys 2>/dev/null | wc -l); \
    echo subreaper: $(grep NoNewPrivs /proc/self/status)";

/// What an odd caller does before it executes the runtime.
const ODD: &str = "cd /tmp; umask 0111; export SECRET=1 LD_PRELOAD= PATH=$PATH:/odd; \
    exec 3</etc/passwd 5</etc 7>/dev/null; echo 500 > /proc/self/oom_score_adj 2>/dev/null; \
    echo 0x7f > /proc/self/coredump_filter; ulimit -Sc 77; trap '' USR1 USR2 PIPE HUP WINCH; \
    renice -n 5 $$ > /dev/null";

fn oddly(command: &Command) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{ODD}; exec \"$@\""), "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    runtime::finish(&mut shell, b"")
}

/// The lines that differ.
fn difference(plain: &str, odd: &str) -> Vec<String> {
    let pairs = plain.lines().zip(odd.lines()).filter(|(one, other)| one != other);
    pairs.map(|(one, other)| format!("{one:?} became {other:?}")).collect()
}

/// What a container without an own setting has from whoever calls, as with runc: the nice value. A
/// limit that the spec does not name, and the filter of core dumps, are the caller's too.
const SHARED: [&str; 4] = ["nice:", "core:", "coredump:", "oom:"];

#[track_caller]
fn assert_same(plain: &Output, odd: &Output) {
    assert!(plain.ok().lines().count() > 15, "{plain:?}");
    let changed = difference(plain.ok(), odd.ok());
    let changed: Vec<_> = changed
        .iter()
        .filter(|line| !SHARED.iter().any(|own| line[1..].starts_with(own)))
        .collect();
    assert!(changed.is_empty(), "{changed:#?}");
    assert!(!odd.stdout.contains("SECRET") && !odd.stdout.contains("/odd"), "{odd:?}");
}

#[test]
fn nothing_of_an_odd_caller_arrives_in_the_program() {
    let c = Container::native(Config::sh(LIST));
    let bundle = c.bundle();
    let run = || c.command(&["run", "--bundle", text(&bundle), c.id()]);
    assert_same(&runtime::finish(&mut run(), b""), &oddly(&run()));
}

#[test]
fn nothing_of_an_odd_caller_arrives_in_a_second_process() {
    gpurun_only!("runc 1.1 leaves some of it");
    let c = Container::idle();
    let exec = || c.command(&["exec", c.id(), "sh", "-c", LIST]);
    assert_same(&runtime::finish(&mut exec(), b""), &oddly(&exec()));
}

#[test]
fn a_second_process_is_as_the_first_one() {
    gpurun_only!("runc 1.1 leaves some of it");
    let config = Config::sh(&format!("({LIST}) > /tmp/first; sleep 1000"))
        .set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [7, 8], "umask": 0o77}))
        .set("/process/oomScoreAdj", 321.into())
        .set("/process/cwd", "/var".into())
        .push("/process/rlimits", json!({"type": "RLIMIT_CORE", "hard": 512, "soft": 512}))
        .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    let c = Container::running(Runtime::native(), config);
    wait_for("the first listing", || {
        fs::read_to_string(c.rootfs().join("tmp/first"))
            .is_ok_and(|text| text.contains("subreaper"))
    });
    let first = fs::read_to_string(c.rootfs().join("tmp/first")).unwrap();
    // The script is in both environments' `_`, and nowhere else.
    let second = c.exec(&["sh", "-c", &format!("({LIST})")]);
    let changed = difference(first.trim(), second.ok());
    assert!(changed.is_empty(), "{changed:#?}");
    assert!(first.contains("Groups: 7 8") && first.contains("umask: 0077"), "{first}");
    assert!(first.contains("oom: 321") && first.contains("cwd: /var"), "{first}");
    let seccomp = c.exec(&["grep", "-c", "Seccomp:.2", "/proc/self/status"]);
    assert_eq!(seccomp.ok(), "1");
}

#[test]
fn nothing_of_the_container_arrives_in_the_caller() {
    // The runtime in the foreground waits in the same place, with the same attributes, as before.
    let config = Config::sh("sleep 1000")
        .set(
            "/process/user",
            json!({"uid": 1000, "gid": 1000, "additionalGids": [7], "umask": 0o77}),
        )
        .set("/process/oomScoreAdj", 321.into());
    let c = Container::native(config);
    let bundle = c.bundle();
    let marker = c.path("here");
    fs::create_dir(&marker).unwrap();
    let mut command = c.command(&["run", "--bundle", text(&bundle), c.id()]);
    command.current_dir(&marker);
    let running = runtime::start(&mut command, b"");
    wait_for("the container", || c.call_on("state", &[]).stdout.contains("running"));
    let proc = |name: &str| format!("/proc/{}/{name}", running.child.id());
    assert_eq!(fs::read_link(proc("cwd")).unwrap(), marker);
    assert_eq!(fs::read_link(proc("root")).unwrap().to_str(), Some("/"));
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "pid_for_children"] {
        let theirs = fs::read_link(proc(&format!("ns/{kind}"))).unwrap();
        assert_eq!(theirs, fs::read_link(format!("/proc/self/ns/{kind}")).unwrap(), "{kind}");
    }
    let score = fs::read_to_string(proc("oom_score_adj")).unwrap();
    assert_eq!(score, fs::read_to_string("/proc/self/oom_score_adj").unwrap());
    let status = fs::read_to_string(proc("status")).unwrap();
    assert!(status.contains("Uid:\t0\t0\t0\t0") && status.contains("Seccomp:\t0"), "{status}");
    // What it holds open leads to nothing of the container's.
    for entry in fs::read_dir(proc("fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        assert!(!target.starts_with(c.rootfs()), "{}", target.display());
    }
    c.stop_quietly();
    let _ = running.wait();
}

/// Whoever joins the container before its start may be able to look at what its init has open.
#[test]
fn numbers_that_are_preserved_and_free_hold_nothing_of_the_runtime() {
    gpurun_only!("runc wants each of them to be there");
    let c = Container::native(Config::idle());
    c.create_with(&["--preserve-fds", "1000"]).silent();
    let open = fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().flatten();
    let open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let own: Vec<_> = open.filter(|to| to.starts_with(c.state_root())).collect();
    assert!(own.len() == 1 && own[0].ends_with("start.fifo"), "{own:?}");
}

/// Calls with a key in the session keyring of the caller. /proc/keys shows every key of the same
/// user, and says of a keyring how many are in it.
fn with_key(mut command: Command) -> Output {
    // SAFETY: two system calls between fork and exec, with static strings.
    #[allow(unsafe_code, reason = "no crate of the tests wraps add_key(2)")]
    unsafe {
        command.pre_exec(|| {
            keyctl::join_session(c"canary_ring");
            keyctl::add(c"user", c"canary_key");
            Ok(())
        });
    }
    runtime::finish(&mut command, b"")
}

fn keys() -> String {
    fs::read_to_string("/proc/keys").unwrap()
}

/// Asserts that the container's processes share one keyring with nothing in it.
#[track_caller]
fn assert_own_keyring(c: &Container) {
    // A keyring lives for as long as somebody has it: the caller has ended, so nobody must.
    wait_for("the end of the caller's keyring", || !keys().contains("canary_ring"));
    let (all, ring) = (keys(), format!("_ses.{}", c.id()));
    let own: Vec<&str> = all.lines().filter(|line| line.contains(&ring)).collect();
    assert!(own.len() == 1 && own[0].ends_with(": empty"), "{own:?}");
}

#[test]
fn the_session_keyring_is_the_containers_own_and_empty() {
    gpurun_only!("runc's keyring has other names");
    let c = Container::native(Config::idle().set("/linux/maskedPaths", json!([])));
    let bundle = c.bundle();
    let mut own = Command::new("grep");
    own.args(["canary_ring", "/proc/keys"]);
    let seen = with_key(own);
    assert!(seen.ok().ends_with("canary_ring: 1"), "the caller has a key: {seen:?}");

    with_key(c.command(&["run", "--detach", "--bundle", text(&bundle), c.id()])).ok();
    assert_own_keyring(&c);
    with_key(c.command(&["exec", "--detach", c.id(), "sleep", "1000"])).ok();
    assert_own_keyring(&c);
}

#[test]
fn what_is_restored_does_not_have_its_callers_session_keyring() {
    needs_criu!();
    gpurun_only!("runc's has");
    let it = Checkpointed::running(Runtime::native(), Config::idle());
    it.checkpoint(&[]).silent();
    let (bundle, images) = (it.container.bundle(), it.container.path("images"));
    let places = ["restore", "--detach", "--bundle", text(&bundle), "--image-path", text(&images)];
    with_key(it.container.command(&[&places[..], &[it.container.id()]].concat())).ok();
    assert_own_keyring(&it.container);
    with_key(it.container.command(&["exec", "--detach", it.container.id(), "sleep", "1000"])).ok();
    assert_own_keyring(&it.container);
}

/// Another container of the same user may make a keyring of any name, and let the whole user join.
#[test]
fn a_keyring_that_somebody_has_made_for_the_container_is_not_used() {
    gpurun_only!("runc joins whatever has the name");
    let c = Container::native(Config::idle());
    let ring = format!("_ses.{}", c.id());
    let name = CString::new(ring.clone()).unwrap();
    let mut other = Command::new("sleep");
    other.arg("1000");
    // SAFETY: system calls between fork and exec, with strings that live.
    #[allow(unsafe_code, reason = "no crate of the tests wraps add_key(2)")]
    unsafe {
        other.pre_exec(move || {
            keyctl::join_session(&name);
            keyctl::let_everybody_in();
            keyctl::add(c"user", c"canary_key");
            Ok(())
        });
    }
    let mut other = other.spawn().unwrap();
    c.run_detached();
    let all = fs::read_to_string("/proc/keys").unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    let mut rings: Vec<&str> = all
        .lines()
        .filter(|line| line.contains(&ring))
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    rings.sort_unstable();
    assert_eq!(rings, ["1", "empty"], "{all}");
}

#[allow(unsafe_code, reason = "no crate of the tests wraps keyctl(2)")]
mod keyctl {
    use std::ffi::{CStr, c_long};

    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }

    #[cfg(target_arch = "x86_64")]
    const NUMBERS: (c_long, c_long) = (248, 250);
    #[cfg(not(target_arch = "x86_64"))]
    const NUMBERS: (c_long, c_long) = (217, 219);
    const JOIN_SESSION_KEYRING: c_long = 1;
    const SESSION: c_long = -3;

    pub fn join_session(name: &CStr) {
        // SAFETY: the string lives.
        unsafe { syscall(NUMBERS.1, JOIN_SESSION_KEYRING, name.as_ptr()) };
    }

    pub fn let_everybody_in() {
        let (all, set_permissions): (c_long, c_long) = (0x3f3f_3f3f, 5);
        // SAFETY: numbers only.
        unsafe { syscall(NUMBERS.1, set_permissions, SESSION, all) };
    }

    pub fn add(kind: &CStr, name: &CStr) {
        // SAFETY: the strings live; one byte of payload is read.
        unsafe {
            syscall(NUMBERS.0, kind.as_ptr(), name.as_ptr(), c"x".as_ptr(), 1 as c_long, SESSION)
        };
    }
}
