//! `update`: other limits for a container that runs.

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxMemory, LinuxResources, Spec};
use serde_json::Value;

use super::id::ContainerId;
use super::lock::Lock;
use super::resctrl::ResctrlError;
use super::state::{Container, Status};
use super::store::Store;
use super::{gpus, more_gpus};
use crate::cgroup::devices::DeviceRules;
use crate::log;

/// The container `id` and the lock on it: each change starts from what the one before has left.
///
/// # Errors
/// It does not run, or another command keeps the lock.
pub fn begin(store: &Store, id: &ContainerId) -> Result<(Container, Lock)> {
    let before = Container::load(store, id)?;
    refuse_ended(&before)?;
    let lock = Lock::take(&before.dir).with_context(|| format!("cannot update container {id}"))?;
    let container = Container::load(store, id)?;
    refuse_ended(&container)?;
    Ok((container, lock))
}

fn refuse_ended(container: &Container) -> Result<()> {
    if matches!(container.status(), Status::Stopped | Status::Creating) {
        bail!("container not running");
    }
    Ok(())
}

/// Applies `resources` to the container's cgroup, and remembers them: a later change starts from
/// them. Device rules in them replace those of the spec; what the container's GPUs need is kept in
/// any case, and the change is one step.
///
/// # Errors
/// A limit is refused, or what is changed cannot be written down. Then the limits are as before, as
/// far as the spec had any, and so are the device rules.
pub fn update(container: &mut Container, resources: &LinuxResources) -> Result<()> {
    let spec = container.spec()?;
    let before = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    let mut resources = resources.clone();
    if let Some(memory) = resources.memory_mut() {
        complete(memory, before.as_ref().and_then(|before| before.memory().as_ref()));
    }
    let devices = container.state.devices.clone();
    let changed = change(container, &spec, &resources);
    if changed.is_err() {
        // What failed first is what the caller needs to hear.
        if let Some(before) = &before {
            let _ = container.state.cgroup.set(before);
        }
        let _ = container.save_spec(&spec);
        if container.state.devices_unsettled {
            take_back(container, devices);
        }
    }
    changed
}

/// The change itself, which may end half-way.
fn change(container: &mut Container, spec: &Spec, resources: &LinuxResources) -> Result<()> {
    container.state.cgroup.set(resources)?;
    let devices = set_devices(container, spec, resources)?;
    let mut spec = spec.clone();
    remember(&mut spec, resources)?;
    container.save_spec(&spec)?;
    if let Some(devices) = devices {
        container.state.devices = devices;
        container.state.devices_unsettled = false;
        container.save().inspect_err(|_| container.state.devices_unsettled = true)?;
    }
    Ok(())
}

/// Sets the device rules from before a change that failed, however far it came.
fn take_back(container: &mut Container, devices: DeviceRules) {
    let set = container.state.cgroup.set_devices(&devices);
    container.state.devices = devices;
    container.state.devices_unsettled = set.is_err();
    if let Err(error) = set {
        log::warn(format!(
            "the device rules are not what they were before the update: {error}; \
             the next update sets them again"
        ));
    }
    // Where this cannot be written down, what is there still says that they are not settled.
    let _ = container.save();
}

/// Swap is counted together with memory, so one of the two alone is a change of the other as well:
/// what is not given is what it was.
fn complete(memory: &mut LinuxMemory, before: Option<&LinuxMemory>) {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let Some(before) = before else { return };
    match (given(memory.limit()), given(memory.swap())) {
        (Some(limit), None) if limit != -1 => {
            memory.set_swap(given(before.swap()));
        }
        (None, Some(swap)) if swap != -1 => {
            memory.set_limit(given(before.limit()));
        }
        _ => {}
    }
}

/// Sets the rules of `resources`, and those of the state where an update was killed while it
/// changed them. That they are being changed is written down before; the rules that are in force
/// now are returned, to be written down when the rest of the update has succeeded.
fn set_devices(
    container: &mut Container,
    spec: &Spec,
    resources: &LinuxResources,
) -> Result<Option<DeviceRules>> {
    let state = &mut container.state;
    let (wanted, covers_gpus) = match resources.devices().as_deref() {
        Some(rules) if !rules.is_empty() => {
            let nodes = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref());
            let mut wanted = DeviceRules::for_container(rules, nodes.unwrap_or_default())?;
            let covers_gpus = gpus::may_cover_gpus(&wanted, None);
            wanted.allow_each(&state.gpu_rules)?;
            (wanted, covers_gpus)
        }
        _ => (state.devices.clone(), false),
    };
    // Engines send the rules along with every other limit. To set those that are set would stop
    // the container for a moment, and on v1 can fail: where there are cgroups below.
    if wanted == state.devices && !state.devices_unsettled {
        return Ok(None);
    }
    state.devices_unsettled = true;
    container.save()?;
    if covers_gpus {
        more_gpus::take(container, spec, &wanted)?;
    }
    container.state.cgroup.set_devices(&wanted)?;
    Ok(Some(wanted))
}

/// Puts what was given into the spec's resources. The rules of devices are not kept there but in
/// the state, where the GPUs' are among them.
fn remember(spec: &mut Spec, resources: &LinuxResources) -> Result<()> {
    let mut given = serde_json::to_value(resources).context("cannot remember the limits")?;
    if let Some(fields) = given.as_object_mut() {
        fields.remove("devices");
    }
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let mut all = serde_json::to_value(linux.resources()).context("cannot remember the limits")?;
    merge(&mut all, given);
    linux.set_resources(serde_json::from_value(all).context("cannot remember the limits")?);
    Ok(())
}

/// Objects are merged field by field; anything else replaces what was there, except for null.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Other schemata for the container's resctrl group: `L3:…` and `MB:…`.
///
/// # Errors
/// The container has no such group, or the kernel refuses.
pub fn update_rdt(container: &Container, l3: Option<&str>, memory: Option<&str>) -> Result<()> {
    let resctrl = container.state.resctrl.as_ref().ok_or(ResctrlError::NotConfigured)?;
    Ok(resctrl.update(l3, memory)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: Value) -> LinuxResources {
        serde_json::from_value(json).expect("resources")
    }

    #[test]
    fn what_is_not_given_stays_as_it_was() {
        let mut spec = Spec::default();
        let linux = spec.linux_mut().as_mut().expect("linux");
        linux.set_resources(Some(resources(serde_json::json!(
            {"cpu": {"shares": 5, "quota": 7}, "pids": {"limit": 3},
             "devices": [{"allow": false, "access": "rwm"}]}))));
        let given = serde_json::json!({"cpu": {"quota": 9}, "memory": {"limit": 1},
                                       "devices": [{"allow": true}]});
        remember(&mut spec, &resources(given)).expect("merged");
        let now = serde_json::to_value(spec.linux().as_ref().expect("linux").resources());
        let now = now.expect("json");
        assert_eq!(now["cpu"], serde_json::json!({"shares": 5, "quota": 9}));
        assert_eq!((&now["pids"]["limit"], &now["memory"]["limit"]), (&3.into(), &1.into()));
        assert_eq!(now["devices"][0]["allow"], false);
    }

    #[test]
    fn memory_and_swap_complete_each_other() {
        let memory = |json: Value| -> LinuxMemory { serde_json::from_value(json).expect("memory") };
        let before = memory(serde_json::json!({"limit": 10, "swap": 30}));
        for (given, limit, swap) in [
            (serde_json::json!({"limit": 20}), Some(20), Some(30)),
            (serde_json::json!({"swap": 40}), Some(10), Some(40)),
            (serde_json::json!({"limit": -1}), Some(-1), None),
            (serde_json::json!({"swap": -1}), None, Some(-1)),
            (serde_json::json!({"reservation": 5}), None, None),
        ] {
            let mut now = memory(given);
            complete(&mut now, Some(&before));
            assert_eq!((now.limit(), now.swap()), (limit, swap));
        }
    }
}
