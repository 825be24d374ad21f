//! SCMP_ACT_NOTIFY: an agent gets the listener and the container's state
//! (runtime-spec config-linux.md, "Seccomp", "The Container Process State").

use integration_tests::console::ConsoleSocket;
use integration_tests::container::text;
use integration_tests::{Config, Container, Runtime, Value, gpurun_only, json, wait_for};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What one connection to the agent brings: the document and the descriptors.
fn receive(listener: &UnixListener) -> (Value, Vec<OwnedFd>) {
    let (mut stream, _) = listener.accept().expect("accept");
    let mut bytes = vec![0; 1 << 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg(&stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC);
    let received = message.expect("recvmsg").bytes;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    bytes.truncate(received);
    stream.read_to_end(&mut bytes).expect("the rest");
    (serde_json::from_slice(&bytes).expect("JSON"), descriptors)
}

/// An agent that takes `count` listeners and drops them: calls that ask it then fail with ENOSYS.
fn agent(c: &Container, count: usize) -> JoinHandle<Vec<(Value, usize)>> {
    let listener = UnixListener::bind(c.path("agent.sock")).expect("bind");
    std::thread::spawn(move || {
        let taken = (0..count).map(|_| receive(&listener));
        taken.map(|(document, descriptors)| (document, descriptors.len())).collect()
    })
}

fn profile(c: &Container) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": text(&c.path("agent.sock")),
        "listenerMetadata": "some metadata",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]
    })
}

#[test]
fn the_agent_gets_the_listener_with_the_state_and_the_metadata() {
    gpurun_only!("runc needs a libseccomp with notifications");
    for runtime in Runtime::each() {
        let c = Container::new(runtime, Config::idle());
        let config = Config::idle().set("/linux/seccomp", profile(&c));
        c.configure(config.set("/annotations", json!({"a": "b"})));
        let agent = agent(&c, 1);
        c.run_detached();
        let taken = agent.join().unwrap();
        let (document, descriptors) = &taken[0];
        assert_eq!(*descriptors, 1);
        assert_eq!(document["fds"], json!(["seccompFd"]));
        assert_eq!(document["metadata"], "some metadata");
        assert_eq!(document["pid"], c.pid());
        assert!(document["ociVersion"].is_string(), "{document}");
        let state = &document["state"];
        assert_eq!(state["id"], c.id());
        assert_eq!(state["status"], "creating");
        assert_eq!(state["pid"], c.pid());
        assert_eq!(state["bundle"], text(&c.bundle()));
        assert_eq!(state["annotations"], json!({"a": "b"}));
        // Nobody listens any more.
        let output = c.call(&["exec", c.id(), "true"]);
        output.refused(255, &["agent.sock"]);
    }
}

#[test]
fn the_listener_of_an_exec_goes_to_the_agent_too() {
    gpurun_only!("runc needs a libseccomp with notifications");
    let c = Container::native(Config::idle());
    c.configure(Config::idle().set("/linux/seccomp", profile(&c)));
    let agent = agent(&c, 2);
    c.run_detached();
    let output = c.call(&["exec", c.id(), "sh", "-c", "mkdir /tmp/new || echo refused"]);
    assert_eq!(output.stdout.trim(), "refused", "{output:?}");
    let taken = agent.join().unwrap();
    assert_ne!(taken[0].0["pid"], taken[1].0["pid"]);
    // The process is the new one, the state that of the container.
    let state = &taken[1].0["state"];
    assert_eq!(state["id"], c.id());
    assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(c.pid())));
}

#[test]
fn the_agent_is_told_that_a_container_with_an_exec_is_only_created() {
    gpurun_only!("runc needs a libseccomp with notifications");
    let c = Container::native(Config::idle());
    c.configure(Config::idle().set("/linux/seccomp", profile(&c)));
    let agent = agent(&c, 2);
    c.create().silent();
    c.exec(&["true"]).ok();
    let state = &agent.join().unwrap()[1].0["state"];
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(c.pid())));
}

#[test]
fn an_agent_that_is_not_there_fails_create_and_leaves_nothing() {
    gpurun_only!("runc needs a libseccomp with notifications");
    let c = Container::native(Config::idle());
    c.configure(Config::idle().set("/linux/seccomp", profile(&c)));
    c.create().refused(1, &["agent.sock"]);
    c.assert_gone();
}

#[test]
fn a_create_whose_agent_takes_nothing_ends_when_the_container_is_deleted_by_force() {
    gpurun_only!("runc needs a libseccomp with notifications");
    for accepts in [false, true] {
        let c = Container::native(Config::idle());
        let config = Config::idle().set("/linux/seccomp", profile(&c));
        // More than fits into a socket.
        c.configure(config.set("/annotations", json!({"long": "x".repeat(1 << 20)})));
        let (listener, first) = ConsoleSocket::jammed(&c.path("agent.sock"));
        let accepted = accepts.then(|| listener.accept());
        let (bundle, begin) = (c.bundle(), Instant::now());
        let create = c.start_call(&["create", "--bundle", text(&bundle), c.id()]);
        wait_for("the container", || c.state_root().join(c.id()).exists());
        std::thread::sleep(Duration::from_millis(700));
        c.delete(&["--force"]).silent();
        create.wait().refused(1, &["agent.sock", "ended meanwhile"]);
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
        c.assert_gone();
        drop((accepted, first));
    }
}

#[test]
fn every_flag_is_taken_alone_and_with_the_others() {
    gpurun_only!("runc 1.1 does not know all flags");
    let flags = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"];
    let flags = flags.map(|flag| format!("SECCOMP_FILTER_FLAG_{flag}"));
    let allow = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]});
    let lists = flags[..3].iter().map(|flag| vec![flag.clone()]).chain([flags[..3].to_vec()]);
    for list in lists {
        let mut profile = allow.clone();
        profile["flags"] = json!(list);
        let script = "mkdir /tmp/x; grep Seccomp: /proc/self/status | cut -f2";
        let c = Container::native(Config::sh(script).set("/linux/seccomp", profile));
        let output = c.run();
        assert_eq!(output.ok(), "2", "{list:?}");
        assert!(output.stderr.contains("not implemented"), "{list:?}: {output:?}");
    }
    // This one is for listeners.
    let c = Container::native(Config::idle());
    let mut profile = profile(&c);
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    c.configure(Config::idle().set("/linux/seccomp", profile));
    let agent = agent(&c, 1);
    c.run_detached();
    assert_eq!(agent.join().unwrap().len(), 1);
    wait_for("the container to run", || c.status() == "running");
}

#[test]
fn a_flag_that_does_not_exist_is_refused() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NOPE"]});
    let c = Container::native(Config::idle().set("/linux/seccomp", profile));
    c.create().refused(1, &["SECCOMP_FILTER_FLAG_NOPE"]);
    c.assert_gone();
}
