//! Documents that engines, criu and earlier gpuruns wrote.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{Process, Spec};
use protobuf::Message;
use rust_criu::rust_criu_protobuf::rpc::Criu_resp;

use super::as_hook::{self, Called};
use super::criu::fuzzing as criu;
use super::id::ContainerId;
use super::resctrl::fuzzing as resctrl;
use super::state::State;
use super::traces::Traces;
use super::{bundle, holders, json, lenient, lock, net_devices, process, state};
use crate::cgroup::devices::DeviceRules;
use crate::fuzzing::{Target, text};
use crate::gpu::request::Request;
use crate::init::program::Program;
use crate::init::rootfs::{self, SysctlNamespaces};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "config_json", run: config_json },
    Target { name: "process_json", run: process_json },
    Target { name: "state_json", run: state_json },
    Target { name: "criu_answer", run: criu_answer },
    Target { name: "criu_texts", run: criu::texts },
    Target { name: "resctrl_schemata", run: resctrl::schemata },
    Target { name: "proc_stat", run: proc_stat },
    Target { name: "proc_locks", run: proc_locks },
    Target { name: "traces", run: traces },
    Target { name: "holder_entry", run: holder_entry },
    Target { name: "hook_call", run: hook_call },
];

fn one_line(error: impl std::fmt::Display) {
    let error = error.to_string();
    assert!(!error.contains('\n') && !error.is_empty(), "not one line: {error:?}");
}

/// Everything that `create` decides from the spec alone.
fn config_json(data: &[u8]) {
    let spec: Spec = match lenient::spec(data) {
        Ok(spec) => spec,
        Err(error) => return one_line(error),
    };
    // The spec is kept beside the state, and read back by `start`, `exec` and `delete`.
    let kept = serde_json::to_vec(&spec).expect("JSON");
    let again: Spec = serde_json::from_slice(&kept).expect("what was written can be read");
    assert_eq!(again, spec);
    if let Err(error) = bundle::check(&spec) {
        return one_line(error);
    }
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    for userns in [false, true] {
        if let Err(error) = rootfs::validate_mounts(mounts, userns) {
            one_line(error);
        }
    }
    rootfs::ignored_options(mounts).iter().for_each(one_line);
    let Some(linux) = spec.linux() else { return };
    let sysctls = linux.sysctl().iter().flatten().map(|(key, _)| key);
    if let Err(error) = rootfs::validate_sysctls(sysctls, SysctlNamespaces::default()) {
        one_line(error);
    }
    if let Some(devices) = linux.net_devices()
        && let Err(error) = net_devices::validate(devices, true, false)
    {
        one_line(error);
    }
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_deref());
    let nodes = linux.devices().as_deref().unwrap_or_default();
    if let Err(error) = DeviceRules::for_container(rules.unwrap_or_default(), nodes) {
        one_line(error);
    }
    if let Some(profile) = linux.seccomp()
        && let Err(error) = crate::seccomp::compile(profile)
    {
        one_line(error);
    }
    if let Some(process) = spec.process()
        && let Err(error) = Program::new(process)
    {
        one_line(error);
    }
    if !Request::needs_settings(&spec)
        && let Err(error) = Request::read(&spec, None)
    {
        one_line(error);
    }
}

/// The file of `exec --process`, and the one of `update --resources`.
fn process_json(data: &[u8]) {
    match lenient::process::<Process>(data) {
        Ok(process) => drop(Program::new(&process).map_err(one_line)),
        Err(error) => one_line(error),
    }
    if let Err(error) = json::object::<oci_spec::runtime::LinuxResources>(data) {
        one_line(error);
    }
}

fn state_json(data: &[u8]) {
    let id = ContainerId::parse("fuzz").expect("an id");
    let state: State = match state::parse(data, &id) {
        Ok(state) => state,
        Err(error) => return one_line(error),
    };
    assert_eq!(state.id, id.as_str());
    let written = serde_json::to_vec(&state).expect("JSON");
    let again = state::parse(&written, &id).expect("what was written can be read");
    assert_eq!(
        serde_json::to_value(&again).expect("JSON"),
        serde_json::to_value(&state).expect("JSON")
    );
}

/// What criu sends.
fn criu_answer(data: &[u8]) {
    let Ok(answer) = Criu_resp::parse_from_bytes(data) else { return };
    let written = answer.write_to_bytes().expect("a message");
    assert_eq!(Criu_resp::parse_from_bytes(&written).expect("what was written"), answer);
    let _ = (answer.type_(), answer.cr_errmsg().trim_end(), answer.notify.script());
    if let Some(version) = answer.version.as_ref() {
        criu::version(version);
    }
}

/// `/proc/PID/stat`, whose second field the container chooses.
fn proc_stat(data: &[u8]) {
    let Some((letter, start)) = process::parse_stat(data) else { return };
    let stat = format!("1 (a) ) {} {}{start} 0", char::from(letter), "0 ".repeat(18));
    let again = process::parse_stat(stat.as_bytes());
    assert!(!letter.is_ascii() || again == Some((letter, start)), "{stat}");
}

fn proc_locks(data: &[u8]) {
    let text = text(data);
    if let Some(pid) = lock::holder(text, rustix::fs::makedev(8, 1), 77) {
        assert!(text.contains("08:01:77") && (pid == 0 || text.contains(&pid.to_string())));
    }
}

/// What a container says that it has on the host.
fn traces(data: &[u8]) {
    let Ok(traces) = serde_json::from_slice::<Traces>(data) else { return };
    let written = serde_json::to_value(&traces).expect("JSON");
    let again: Traces = serde_json::from_value(written.clone()).expect("what was written");
    assert_eq!(serde_json::to_value(&again).expect("JSON"), written);
}

/// Where an entry among the holders of GPUs leads.
fn holder_entry(data: &[u8]) {
    // What the owner of the machine has entered; its names may be anything but two lines.
    let bytes: Vec<u8> = data.iter().copied().filter(|byte| !matches!(byte, 0 | b'\n')).collect();
    let state = Path::new(OsStr::from_bytes(&bytes));
    let name = holders::name_of(state);
    assert!(name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match holders::load(state) {
        Ok(container) => assert!(container.is_none(), "a container at {}", state.display()),
        Err(error) => one_line(error),
    }
}

/// The hooks of a container, words one a line, with an empty line between two.
fn hook_call(data: &[u8]) {
    let hooks: Vec<Called> = text(data)
        .split("\n\n")
        .take(8)
        .map(|hook| Called { words: hook.lines().map(str::to_owned).collect() })
        .filter(|hook| !hook.words.is_empty())
        .collect();
    let args = |words: &[String]| {
        let own = ["gpurun", "hook"].map(str::to_owned);
        own.into_iter().chain(words.iter().cloned()).collect::<Vec<_>>()
    };
    let listed: Vec<_> = hooks
        .iter()
        .map(|hook| serde_json::json!({"path": "/usr/bin/gpurun", "args": args(&hook.words)}))
        .collect();
    let spec: Spec = serde_json::from_value(serde_json::json!({
        "ociVersion": "1.2.0", "hooks": {"createContainer": listed}
    }))
    .expect("a spec");
    let (mut at_work, mut refused) = (Vec::new(), 0);
    for hook in &hooks {
        for name in ["config", "container-spec"] {
            let value = hook.option(name);
            assert!(value.is_none_or(|value| !value.is_empty()));
        }
        match as_hook::due(hook, &spec) {
            Ok(due) if due.is_empty() => {}
            Ok(_) => at_work.push(&hook.words),
            Err(error) => {
                one_line(&error);
                refused += 1;
            }
        }
    }
    // One does the work, unless it is called like the end of another.
    at_work.dedup();
    let ends = |a: &Vec<String>, b: &Vec<String>| a.ends_with(b) || b.ends_with(a);
    assert!(refused == 0 || at_work.is_empty(), "some do, some are refused");
    if let [one, others @ ..] = &at_work[..] {
        assert!(others.iter().all(|other| ends(one, other)), "{at_work:?} all do the work");
    }
}
