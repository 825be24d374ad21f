//! Filters in the running kernel. A filter binds the thread that loads it and what that starts, so
//! most of these tests load it in a thread of their own; those that kill run this test binary
//! again.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use oci_spec::runtime::LinuxSeccomp;

use super::profile;
use crate::seccomp::{Arch, compile};
use crate::sys::seccomp::raw;

fn load(profile: &LinuxSeccomp) {
    let filter = compile(profile).expect("compiles");
    filter.check_kernel().expect("supported");
    rustix::thread::set_no_new_privs(true).expect("no_new_privs");
    assert!(filter.load().expect("loads").is_none());
}

/// Runs `test` in a thread under `profile`.
fn under<T: Send>(profile: &LinuxSeccomp, test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                load(profile);
                test()
            })
            .join()
            .expect("thread")
    })
}

fn errno(number: i64, first: u64) -> Option<i32> {
    raw(number, [first, 0, 0, 0, 0, 0]).err().and_then(|error| error.raw_os_error())
}

#[test]
fn the_kernel_answers_as_the_profile_says() {
    let profile = profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
              {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
              {"names": ["personality"], "action": "SCMP_ACT_ERRNO",
               "args": [{"index": 0, "value": 4294967295, "op": "SCMP_CMP_NE"}]},
              {"names": ["sync"], "action": "SCMP_ACT_LOG"}]}"#,
    );
    under(&profile, || {
        assert_eq!(errno(libc::SYS_getppid, 0), Some(95));
        assert_eq!(errno(libc::SYS_getpid, 0), None);
        assert_eq!(errno(libc::SYS_personality, 0xffff_ffff), None);
        assert_eq!(errno(libc::SYS_personality, 8), Some(libc::EPERM));
    });
    assert_eq!(errno(libc::SYS_getppid, 0), None);
}

#[test]
fn a_deny_by_default_filter_of_three_abis_loads_and_unknown_calls_are_enosys() {
    // What a thread needs to end, and one newer call to draw the line.
    let profile = profile(
        r#"{"defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
                              "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
            "syscalls": [{"action": "SCMP_ACT_ALLOW", "names": ["exit", "futex", "madvise",
              "munmap", "mmap", "mprotect", "brk", "rt_sigprocmask", "sigaltstack", "write",
              "gettid", "getpid", "set_robust_list", "rseq", "openat2"]}]}"#,
    );
    let answers = under(&profile, || {
        [
            errno(libc::SYS_getpid, 0),
            errno(libc::SYS_getppid, 0),
            errno(libc::SYS_openat2 + 1, 0),
            errno(5000, 0),
        ]
    });
    assert_eq!(answers, [None, Some(libc::EPERM), Some(libc::ENOSYS), Some(libc::ENOSYS)]);
}

#[test]
fn flags_are_taken_by_the_kernel() {
    for flags in [
        "[]",
        r#"["SECCOMP_FILTER_FLAG_LOG"]"#,
        r#"["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]"#,
    ] {
        let profile = profile(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": {flags},
                "syscalls": [{{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}}]}}"#
        ));
        assert_eq!(under(&profile, || errno(libc::SYS_getppid, 0)), Some(libc::EPERM), "{flags}");
    }
}

#[test]
fn without_privileges_the_filter_is_refused_with_a_hint() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: gives up CAP_SYS_ADMIN, which only root has");
        return;
    }
    let profile = profile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#);
    let error = std::thread::spawn(move || {
        // Raw, because it must not reach the other threads.
        raw(libc::SYS_setresuid, [1, 1, 1, 0, 0, 0]).expect("setresuid");
        compile(&profile).expect("compiles").load().err().map(|error| error.to_string())
    })
    .join()
    .expect("thread");
    assert!(error.is_some_and(|error| error.contains("no_new_privs or CAP_SYS_ADMIN")));
}

#[test]
fn killed_processes_die_of_sigsys() {
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let status = run_again("child_that_is_killed", action);
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{action}: {status:?}");
    }
}

#[test]
fn child_that_is_killed() {
    let Ok(action) = std::env::var("SECCOMP_TEST_CHILD") else {
        return;
    };
    load(&profile(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{{"names": ["getppid"], "action": "{action}"}}]}}"#
    )));
    let _ = raw(libc::SYS_getppid, [0; 6]);
}

#[test]
fn tsync_goes_together_with_a_listener() {
    assert!(run_again("child_with_tsync", "").success());
}

#[test]
fn child_with_tsync() {
    if std::env::var_os("SECCOMP_TEST_CHILD").is_none() {
        return;
    }
    // The other threads of the test harness are bound as well, so this is a process of its own.
    let profile = profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent",
            "flags": ["SECCOMP_FILTER_FLAG_TSYNC"],
            "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]}"#,
    );
    let filter = compile(&profile).expect("compiles");
    filter.check_kernel().expect("supported");
    rustix::thread::set_no_new_privs(true).expect("no_new_privs");
    assert!(filter.load().expect("loads").is_some());
}

/// Runs one test of this binary in a process of its own.
fn run_again(test: &str, what: &str) -> ExitStatus {
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", &format!("seccomp::tests::kernel::{test}"), "--test-threads=1"])
        .env("SECCOMP_TEST_CHILD", what)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("runs")
}

#[test]
fn a_32_bit_program_meets_its_own_numbers() {
    if Arch::native() != Some(Arch::X86_64) {
        println!("skipped: runs an i386 program");
        return;
    }
    let Some(program) = Program32::build() else {
        return;
    };
    let answers = |archs: &str| {
        let profile = profile(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": {archs}, "syscalls": [
                {{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}},
                {{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 96}}]}}"#
        ));
        under(&profile, || Command::new(program.path()).status()).expect("runs")
    };
    assert_eq!(answers(r#"["SCMP_ARCH_X86"]"#).code(), Some(0));
    assert_eq!(answers(r#"["SCMP_ARCH_X86_64"]"#).signal(), Some(libc::SIGSYS));
}

/// An i386 program that is content when getppid is 95, and socket 96 by both of its doors.
struct Program32(std::path::PathBuf);

impl Program32 {
    fn build() -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("seccomp-m32-{}", std::process::id()));
        std::fs::create_dir_all(&dir).ok()?;
        let built = Self(dir);
        let source = built.0.join("main.c");
        std::fs::write(
            &source,
            "static int call(int nr, int a, int b) { int ret; \
             __asm__ volatile(\"int $0x80\" : \"=a\"(ret) : \"a\"(nr), \"b\"(a), \"c\"(b) : \
             \"memory\"); return ret; }\n\
             void _start(void) { int bad = 0; \
             if (call(64, 0, 0) != -95) bad |= 1; \
             if (call(359, 1, 1) != -96) bad |= 2; \
             if (call(102, 1, 0) != -96) bad |= 4; \
             if (call(102, 2, 0) != -14) bad |= 8; \
             call(1, bad, 0); }\n",
        )
        .ok()?;
        let status = Command::new("cc")
            .args(["-m32", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-o"])
            .args([built.path(), source])
            .stderr(Stdio::null())
            .status();
        if status.is_ok_and(|status| status.success()) {
            return Some(built);
        }
        println!("skipped: no C compiler for i386");
        None
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.join("main")
    }
}

impl Drop for Program32 {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An agent in this process: listens, answers one call, tells what it was sent.
mod agent {
    use std::io::{IoSliceMut, Read};
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    pub fn receive(listener: &UnixListener) -> (String, Vec<OwnedFd>) {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; 1 << 16];
        let got = rustix::net::recvmsg(
            &stream,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .expect("recvmsg");
        bytes.truncate(got.bytes);
        stream.read_to_end(&mut bytes).expect("rest");
        let fds = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        (String::from_utf8(bytes).expect("UTF-8"), fds)
    }
}

/// A descriptor on a process that lives on.
fn own_pidfd() -> std::os::fd::OwnedFd {
    let own = rustix::process::getpid();
    rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()).expect("pidfd")
}

#[test]
fn a_notified_call_waits_for_the_agent_that_got_the_descriptor() {
    use crate::seccomp::notify;

    let path = std::env::temp_dir().join(format!("seccomp-agent-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let agent = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    let profile = profile(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "{}",
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls": [{{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}}]}}"#,
        path.display()
    ));
    let filter = compile(&profile).expect("compiles");
    filter.check_kernel().expect("supported");

    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let caller = scope.spawn(move || {
            rustix::thread::set_no_new_privs(true).expect("no_new_privs");
            sender.send(filter.load().expect("loads").expect("listener")).expect("send");
            raw(libc::SYS_getppid, [0; 6])
        });
        let listener = receiver.recv().expect("listener");
        let state: oci_spec::runtime::State = serde_json::from_str(
            r#"{"ociVersion": "1.2.0", "id": "c1", "status": "creating", "pid": 42, "bundle": "/b"}"#,
        )
        .expect("state");
        let message = notify::message(42, Some("meta"), &state).expect("message");
        let received = scope.spawn(|| agent::receive(&agent));
        notify::send(&path, &message, listener.as_fd(), own_pidfd().as_fd()).expect("send");
        drop(listener);
        let (json, mut fds) = received.join().expect("agent");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["fds"], serde_json::json!(["seccompFd"]));
        assert_eq!(json["ociVersion"], "1.2.0");
        assert_eq!(json["pid"], 42);
        assert_eq!(json["metadata"], "meta");
        assert_eq!(json["state"]["id"], "c1");
        assert_eq!(fds.len(), 1);
        // An agent that goes away leaves its callers with ENOSYS.
        let fd = fds.pop().expect("descriptor");
        let mut poll = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut poll, None).expect("poll");
        drop(fd);
        let answer = caller.join().expect("caller");
        assert_eq!(
            answer.err().and_then(|error: io::Error| error.raw_os_error()),
            Some(libc::ENOSYS)
        );
    });
    let _ = std::fs::remove_file(&path);
}

#[test]
fn an_absent_agent_is_an_error_that_names_its_path() {
    use crate::seccomp::notify;

    let listener = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("fd");
    let path = std::path::Path::new("/nonexistent/agent.sock");
    let error = notify::send(path, b"{}", listener.as_fd(), own_pidfd().as_fd()).err();
    assert!(error.is_some_and(|error| error.to_string().contains("/nonexistent/agent.sock")));
}
