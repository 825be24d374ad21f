//! The content of a CDI file.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// A CDI file (specs-go `config.go`). Unknown fields are errors, as in the reference
/// implementation: an edit that is not understood must not be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiSpec {
    /// The format's version.
    #[serde(default)]
    pub cdi_version: String,
    /// `vendor/class`.
    #[serde(default)]
    pub kind: String,
    /// Free for the vendor's use.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The devices.
    #[serde(default, deserialize_with = "or_default")]
    pub devices: Vec<CdiDevice>,
    /// Applied once when any of the devices is asked for.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub container_edits: ContainerEdits,
}

/// One device of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiDevice {
    /// Its name within the kind.
    #[serde(default)]
    pub name: String,
    /// Free for the vendor's use.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What the device brings.
    #[serde(default, deserialize_with = "or_default")]
    pub container_edits: ContainerEdits,
}

/// Changes to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerEdits {
    /// `NAME=VALUE`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<CdiDeviceNode>,
    /// Network interfaces moved into the container.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<CdiNetDevice>,
    /// Hooks.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<CdiHook>,
    /// Mounts.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<CdiMount>,
    /// Cache and memory bandwidth allocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<CdiIntelRdt>,
    /// Supplementary groups; 0 is left out when they are applied.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiDeviceNode {
    /// Where it appears in the container.
    #[serde(default)]
    pub path: String,
    /// Where it is on the host; empty: at `path`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub host_path: String,
    /// `b`, `c`, `u`, `p`, or empty: as on the host.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    /// Major number; 0: as on the host.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub major: i64,
    /// Minor number.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub minor: i64,
    /// Permission bits; absent: as on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Access of the device rule: some of `rwm`, empty for all, or `none`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub permissions: String,
    /// Owning user; absent: the container's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Owning group; absent: the container's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiNetDevice {
    /// Its name on the host.
    #[serde(default)]
    pub host_interface_name: String,
    /// Its name in the container.
    #[serde(default)]
    pub name: String,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiMount {
    /// What is mounted.
    #[serde(default)]
    pub host_path: String,
    /// Where.
    #[serde(default)]
    pub container_path: String,
    /// Mount options.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Filesystem type.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub r#type: String,
}

/// A hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiHook {
    /// The phase, named as in the OCI runtime specification.
    #[serde(default)]
    pub hook_name: String,
    /// The program.
    #[serde(default)]
    pub path: String,
    /// Its arguments, with its name first.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds until it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// Intel RDT.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiIntelRdt {
    /// The class of service.
    #[serde(
        default,
        rename = "closID",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub clos_id: String,
    /// The L3 cache schema.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// The memory bandwidth schema.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Lines for the schemata file.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Whether the container gets a monitoring group.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub enable_monitoring: bool,
}

impl CdiSpec {
    /// Parses a file. JSON is a part of YAML, and the reference implementation reads both as
    /// YAML whatever the file is called. The words of the error name line and column.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let options = serde_saphyr::options! {
            // `fileMode: 0666` is octal in the YAML 1.1 that CDI files are written in.
            legacy_octal_numbers: true,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
    }

    /// The device of this name.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<&CdiDevice> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// The edits of the file and of each device.
    pub fn edits(&self) -> impl Iterator<Item = &ContainerEdits> {
        let of_devices = self.devices.iter().map(|device| &device.container_edits);
        std::iter::once(&self.container_edits).chain(of_devices)
    }
}

/// `null` is an absent field, as it is in Go.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "\
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: \"0\"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: /dev/nvidia0
      fileMode: 0666
      permissions: rw
- name: all
  containerEdits:
    deviceNodes:
    - {path: /dev/nvidia0, major: 195, type: c, fileMode: 438}
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, update-ldcache, --folder, /usr/lib]
    timeout: 3
  mounts:
  - hostPath: /usr/bin/nvidia-smi
    containerPath: /usr/bin/nvidia-smi
    options: [ro, nosuid, nodev, rbind]
  intelRdt: null
  additionalGids: null
";

    #[test]
    fn yaml_and_json_mean_the_same() {
        let spec = CdiSpec::parse(YAML).unwrap();
        assert_eq!(spec.kind, "nvidia.com/gpu");
        let zero = spec.device("0").unwrap();
        assert_eq!(zero.container_edits.device_nodes[0].file_mode, Some(0o666));
        assert_eq!(
            spec.device("all").unwrap().container_edits.device_nodes[0].file_mode,
            Some(438)
        );
        assert_eq!(spec.container_edits.hooks[0].timeout, Some(3));
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(CdiSpec::parse(&json).unwrap(), spec);
        let yaml = serde_saphyr::to_string(&spec).unwrap();
        assert_eq!(CdiSpec::parse(&yaml).unwrap(), spec);
    }

    #[test]
    fn errors_name_the_place() {
        for (text, words) in [
            ("cdiVersion: 0.5.0\nkinds: a/b\n", "kinds"),
            ("devices: {}\n", "1"),
            ("cdiVersion: 0.5.0\ndevices:\n- name: [1]\n", "3"),
            ("a: b: c", "1"),
            ("kind: a\nkind: b\n", "kind"),
            ("containerEdits: {intelRdt: {enableCMT: true}}", "enableCMT"),
            ("containerEdits: {additionalGids: [-1]}", "1"),
        ] {
            let error = CdiSpec::parse(text).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let (name, below) = (char::from(b'a' + level), char::from(b'a' + level - 1));
            bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{below}"); 9].join(","));
        }
        assert!(CdiSpec::parse(&bomb).is_err());
        assert!(CdiSpec::parse(&"[".repeat(1_000_000)).is_err());
        assert!(CdiSpec::parse(&format!("devices: {}", "[".repeat(100_000))).is_err());
    }
}
