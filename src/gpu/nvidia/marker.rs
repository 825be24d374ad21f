//! Requests by mounts: `/dev/null` bound below a directory of markers, whose names are the request.
//!
//! An image cannot set mounts, as it can set variables. NVIDIA's Kubernetes device plugin asks this
//! way with its strategy `volume-mounts`.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use crate::gpu::request::Asked;

/// The directory of the markers.
pub const DIRECTORY: &str = "/var/run/nvidia-container-devices";

/// What the markers of a container say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markers {
    /// Device ids and CDI names.
    pub devices: Vec<String>,
    /// IMEX channels.
    pub imex: Vec<String>,
    /// Markers that mean nothing, for the log.
    pub notes: Vec<String>,
}

/// Whether there is a marker, as far as the paths say.
pub fn any(asked: &Asked<'_>) -> bool {
    asked.mounts().any(|(source, destination)| name(source, destination).is_some())
}

/// Reads the markers, in the order of the mounts, each destination once.
pub fn read(asked: &Asked<'_>) -> Markers {
    let mut markers = Markers::default();
    let mut seen: Vec<PathBuf> = Vec::new();
    for (source, destination) in asked.mounts() {
        let Some(name) = name(source, destination) else {
            continue;
        };
        if seen.contains(&name) {
            continue;
        }
        match name.to_str() {
            Some(text) => markers.add(text),
            None => markers.notes.push(ignored(&name.to_string_lossy())),
        }
        seen.push(name);
    }
    markers
}

impl Markers {
    fn add(&mut self, name: &str) {
        if let Some(channel) = name.strip_prefix("imex/") {
            self.imex.push(channel.to_owned());
        } else if let Some(cdi) = name.strip_prefix("cdi/") {
            match cdi.splitn(3, '/').collect::<Vec<_>>()[..] {
                [_, class] if class.contains('=') => self.devices.push(cdi.to_owned()),
                [vendor, class, device] => self.devices.push(format!("{vendor}/{class}={device}")),
                _ => self.notes.push(ignored(name)),
            }
        } else {
            self.devices.push(name.to_owned());
        }
    }
}

fn ignored(name: &str) -> String {
    format!("the mount {DIRECTORY}/{name} names no device: ignored")
}

/// The part of the destination below the directory of markers, if this is one.
fn name(source: &Path, destination: &Path) -> Option<PathBuf> {
    if cleaned(source) != Path::new("/dev/null") {
        return None;
    }
    let name = cleaned(destination).strip_prefix(DIRECTORY).ok()?.to_owned();
    (name.as_os_str() != OsStr::new("")).then_some(name)
}

/// The path without `.`, `..` and doubled slashes, by its text alone.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Spec;

    fn read_mounts(mounts: &[(&str, &str)]) -> Markers {
        let mounts: Vec<_> = mounts
            .iter()
            .map(|(source, destination)| {
                serde_json::json!({"source": source, "destination": destination})
            })
            .collect();
        let spec: Spec =
            serde_json::from_value(serde_json::json!({"ociVersion": "1.0.2", "mounts": mounts}))
                .unwrap();
        read(&Asked::of(&spec))
    }

    #[test]
    fn each_kind_of_marker_is_understood() {
        for (name, devices, imex) in [
            ("all", &["all"][..], &[][..]),
            ("/0/", &["0"], &[]),
            ("0:1", &["0:1"], &[]),
            ("GPU-1/../GPU-2", &["GPU-2"], &[]),
            ("MIG-GPU-x/1/0", &["MIG-GPU-x/1/0"], &[]),
            ("imex/0", &[], &["0"]),
            ("imex/channel3", &[], &["channel3"]),
            ("cdi/nvidia.com/gpu=0", &["nvidia.com/gpu=0"], &[]),
            ("cdi/nvidia.com/gpu/GPU-1", &["nvidia.com/gpu=GPU-1"], &[]),
            ("", &[], &[]),
            (".", &[], &[]),
            ("../nvidia-container-devices-of-others/0", &[], &[]),
        ] {
            let markers = read_mounts(&[("/dev/null", &format!("{DIRECTORY}/{name}"))]);
            assert_eq!(markers.devices, devices, "{name}");
            assert_eq!(markers.imex, imex, "{name}");
            assert!(markers.notes.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_name_of_no_device_is_noted() {
        for name in ["cdi/x", "cdi/vendor/class"] {
            let markers = read_mounts(&[("/dev/null", &format!("{DIRECTORY}/{name}"))]);
            assert_eq!(markers.devices, [""; 0], "{name}");
            assert!(markers.notes[0].contains(name), "{:?}", markers.notes);
        }
    }

    #[test]
    fn only_dev_null_below_the_directory_itself_counts() {
        for (source, destination) in [
            ("/dev/zero", "/var/run/nvidia-container-devices/0"),
            ("/dev/null", "/var/run/nvidia-container-devices"),
            ("/dev/null", "/var/run/nvidia-container-devicesX/0"),
            ("/dev/null", "/run/nvidia-container-devices/0"),
        ] {
            assert_eq!(read_mounts(&[(source, destination)]), Markers::default(), "{destination}");
        }
        let twice = ("/dev/../dev//null", "/var/run/nvidia-container-devices/./0");
        let markers = read_mounts(&[twice, ("/dev/null", "/var/run/nvidia-container-devices/0")]);
        assert_eq!(markers.devices, ["0"]);
    }
}
