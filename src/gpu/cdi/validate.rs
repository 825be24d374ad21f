//! What a CDI file must fulfil beyond its syntax (`pkg/cdi/spec.go`, `container-edits.go` of the
//! reference implementation).

use super::name;
use super::spec::{CdiIntelRdt, CdiSpec, ContainerEdits};
use super::version::Version;

/// The phases that a hook can name.
pub const HOOK_NAMES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The longest class of service, as a file name.
const MAX_CLOS_ID: usize = 4096;

impl CdiSpec {
    /// Checks the file. A file that fails is not used at all.
    ///
    /// # Errors
    /// What is wrong, in words that name the field.
    pub fn validate(&self) -> Result<(), String> {
        let declared = Version::parse(&self.cdi_version)
            .ok_or_else(|| format!("cdiVersion {:?} is no version of CDI", self.cdi_version))?;
        let required = Version::required(self);
        if declared < required {
            return Err(format!(
                "cdiVersion {declared} is too old for what the file uses: {required} is needed"
            ));
        }
        name::check_kind(&self.kind)?;
        self.container_edits.validate().map_err(|reason| format!("containerEdits: {reason}"))?;
        if self.devices.is_empty() {
            return Err("it has no devices".to_owned());
        }
        for (at, device) in self.devices.iter().enumerate() {
            name::check_device(&device.name)?;
            let named = |reason: String| format!("device {:?}: {reason}", device.name);
            if self.devices.iter().take(at).any(|earlier| earlier.name == device.name) {
                return Err(named("it is there twice".to_owned()));
            }
            if device.container_edits.is_empty() {
                return Err(named("it has no containerEdits".to_owned()));
            }
            device.container_edits.validate().map_err(named)?;
        }
        Ok(())
    }
}

impl ContainerEdits {
    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn validate(&self) -> Result<(), String> {
        check_env("env", &self.env)?;
        for node in &self.device_nodes {
            let named = |reason: &str| format!("deviceNode {:?}: {reason}", node.path);
            if node.path.is_empty() {
                return Err("a deviceNode has no path".to_owned());
            }
            if !["", "b", "c", "u", "p"].contains(&node.r#type.as_str()) {
                return Err(named(&format!("type {:?} is none of b, c, u, p", node.r#type)));
            }
            if node.permissions != "none" && node.permissions.chars().any(|c| !"rwm".contains(c)) {
                return Err(named(&format!(
                    "permissions {:?} are not some of r, w, m",
                    node.permissions
                )));
            }
            for (what, number) in [("major", node.major), ("minor", node.minor)] {
                if u32::try_from(number).is_err() {
                    return Err(named(&format!("{what} {number} is no device number")));
                }
            }
        }
        for (at, device) in self.net_devices.iter().enumerate() {
            if device.host_interface_name.is_empty() || device.name.is_empty() {
                return Err("a netDevice lacks hostInterfaceName or name".to_owned());
            }
            let same = |other: &&super::spec::CdiNetDevice| {
                other.host_interface_name == device.host_interface_name || other.name == device.name
            };
            if let Some(other) = self.net_devices.iter().take(at).find(same) {
                return Err(format!(
                    "netDevices {:?} and {:?} have a name in common",
                    other.host_interface_name, device.host_interface_name
                ));
            }
        }
        for hook in &self.hooks {
            if !HOOK_NAMES.contains(&hook.hook_name.as_str()) {
                return Err(format!(
                    "hookName {:?} is none of {}",
                    hook.hook_name,
                    HOOK_NAMES.join(", ")
                ));
            }
            if hook.path.is_empty() {
                return Err(format!("a {} hook has no path", hook.hook_name));
            }
            check_env(&format!("env of hook {:?}", hook.path), &hook.env)?;
        }
        for mount in &self.mounts {
            if mount.host_path.is_empty() || mount.container_path.is_empty() {
                return Err(format!(
                    "mount {:?} -> {:?} lacks hostPath or containerPath",
                    mount.host_path, mount.container_path
                ));
            }
        }
        self.intel_rdt.as_ref().map_or(Ok(()), CdiIntelRdt::validate)
    }
}

impl CdiIntelRdt {
    /// The class is the name of a directory, or `/` for the root class.
    fn validate(&self) -> Result<(), String> {
        let id = self.clos_id.as_str();
        let bad = id != "/"
            && (id.len() >= MAX_CLOS_ID || id == "." || id == ".." || id.contains(['/', '\n']));
        match bad {
            true => Err(format!("intelRdt.closID {id:?} cannot be the name of a directory")),
            false => Ok(()),
        }
    }
}

fn check_env(what: &str, env: &[String]) -> Result<(), String> {
    match env.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
        Some(entry) => Err(format!("{what}: {entry:?} is not NAME=VALUE")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(value: Value) -> Result<(), String> {
        serde_json::from_value::<CdiSpec>(value).unwrap().validate()
    }

    fn with_edits(edits: Value) -> Result<(), String> {
        check(json!({"cdiVersion": "1.1.0", "kind": "v/c",
                     "devices": [{"name": "a", "containerEdits": edits}]}))
    }

    #[test]
    fn good_edits_pass() {
        for edits in [
            json!({"env": ["A=", "B=c=d"]}),
            json!({"deviceNodes": [{"path": "/dev/x"}, {"path": "/dev/y", "type": "p", "permissions": "none"}]}),
            json!({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}),
            json!({"hooks": [{"hookName": "poststop", "path": "/h", "env": ["A=b"]}]}),
            json!({"mounts": [{"hostPath": "/a", "containerPath": "/b"}]}),
            json!({"intelRdt": {"closID": "/"}}),
            json!({"additionalGids": [0]}),
        ] {
            assert_eq!(with_edits(edits), Ok(()));
        }
    }

    #[test]
    fn bad_edits_are_named() {
        for (edits, words) in [
            (json!({}), "has no containerEdits"),
            (json!({"env": ["A"]}), "\"A\" is not NAME=VALUE"),
            (json!({"env": ["=b"]}), "\"=b\" is not NAME=VALUE"),
            (json!({"deviceNodes": [{"path": ""}]}), "a deviceNode has no path"),
            (json!({"deviceNodes": [{"path": "/d", "type": "x"}]}), "type \"x\""),
            (json!({"deviceNodes": [{"path": "/d", "permissions": "rx"}]}), "permissions \"rx\""),
            (json!({"deviceNodes": [{"path": "/d", "major": -1}]}), "major -1"),
            (json!({"deviceNodes": [{"path": "/d", "minor": 4294967296_i64}]}), "minor 4294967296"),
            (json!({"netDevices": [{"hostInterfaceName": "a"}]}), "a netDevice lacks"),
            (
                json!({"netDevices": [{"hostInterfaceName": "a", "name": "x"},
                                   {"hostInterfaceName": "b", "name": "x"}]}),
                "in common",
            ),
            (json!({"hooks": [{"hookName": "startup", "path": "/h"}]}), "hookName \"startup\""),
            (json!({"hooks": [{"hookName": "prestart"}]}), "prestart hook has no path"),
            (
                json!({"hooks": [{"hookName": "prestart", "path": "/h", "env": ["x"]}]}),
                "\"x\" is not",
            ),
            (json!({"mounts": [{"hostPath": "/a"}]}), "lacks hostPath or containerPath"),
            (json!({"intelRdt": {"closID": ".."}}), "closID"),
            (json!({"intelRdt": {"closID": "a/b"}}), "closID"),
        ] {
            let error = with_edits(edits).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_frame_is_checked() {
        let device = |name: &str| json!({"name": name, "containerEdits": {"env": ["A=b"]}});
        let spec = |version: &str, kind: &str, devices: Vec<Value>| {
            check(json!({"cdiVersion": version, "kind": kind, "devices": devices}))
        };
        assert_eq!(spec("0.5.0", "v/c", vec![device("0"), device("1")]), Ok(()));
        for (result, words) in [
            (spec("0.9.0", "v/c", vec![device("a")]), "is no version of CDI"),
            (spec("", "v/c", vec![device("a")]), "is no version of CDI"),
            (spec("0.3.0", "v/c", vec![device("0")]), "0.5.0 is needed"),
            (spec("0.5.0", "vc", vec![device("a")]), "has no \"/\""),
            (spec("0.5.0", "v/c", vec![]), "it has no devices"),
            (spec("0.5.0", "v/c", vec![device("a"), device("a")]), "it is there twice"),
            (spec("0.5.0", "v/c", vec![device("a/b")]), "has the character '/'"),
        ] {
            let error = result.unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
