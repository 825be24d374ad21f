//! What an engine does with a CDI file: the edits of a device become part of a config.json.

use serde_json::{Value, json};

use crate::Config;

/// Applies the edits of the device and of the whole file, as engines do.
pub fn apply(file: &Value, device: &str, config: Config) -> Config {
    let devices = file["devices"].as_array().into_iter().flatten();
    let device = devices.filter(|one| one["name"] == device).map(|one| &one["containerEdits"]);
    device.chain([&file["containerEdits"]]).fold(config, |config, edits| add(edits, config))
}

/// In a user namespace runc binds the machine's own nodes, which a made-up GPU has not.
pub fn without_nodes(file: &mut Value) {
    let devices = file["devices"].as_array().map_or(0, Vec::len);
    let edits = (0..devices).map(|at| format!("/devices/{at}/containerEdits"));
    for place in edits.chain(["/containerEdits".to_owned()]) {
        let edits = file.pointer_mut(&place).and_then(Value::as_object_mut).expect("edits");
        edits.remove("deviceNodes");
    }
}

fn add(edits: &Value, mut config: Config) -> Config {
    let list = |name: &str| edits[name].as_array().cloned().unwrap_or_default();
    for variable in list("env") {
        config = config.push("/process/env", variable);
    }
    for gid in list("additionalGids") {
        config = config.push("/process/user/additionalGids", gid);
    }
    for node in list("deviceNodes") {
        let host = node["hostPath"].as_str().or(node["path"].as_str()).unwrap_or_default();
        let stat = rustix::fs::stat(host).expect("the node is on the machine");
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let numbers = (&node["major"], &node["minor"]);
        let (major, minor) = match numbers {
            (Value::Null, Value::Null) => (json!(major), json!(minor)),
            (major, Value::Null) => (major.clone(), json!(0)),
            (major, minor) => (major.clone(), minor.clone()),
        };
        let mode = &node["fileMode"];
        config = config
            .push(
                "/linux/devices",
                json!({"path": node["path"], "type": "c", "major": major, "minor": minor,
                       "fileMode": mode}),
            )
            .push(
                "/linux/resources/devices",
                json!({"allow": true, "type": "c", "major": major, "minor": minor,
                       "access": node["permissions"]}),
            );
    }
    for mount in list("mounts") {
        config = config.push(
            "/mounts",
            json!({"source": mount["hostPath"], "destination": mount["containerPath"],
                   "type": "bind", "options": mount["options"]}),
        );
    }
    for hook in list("hooks") {
        let phase = hook["hookName"].as_str().unwrap_or_default();
        let entry = json!({"path": hook["path"], "args": hook["args"], "env": hook["env"]});
        config = config.hook(phase, entry);
    }
    config
}
