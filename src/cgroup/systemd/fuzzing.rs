//! What a spec's annotations and paths ask of systemd, and what a bus answers.

use std::collections::HashMap;
use std::path::Path;

use super::dbus::fuzzing as dbus;
use super::devices::driver;
use super::limits::bits;
use super::name::{Name, expand_slice};
use super::{Instance, annotation};
use crate::cgroup::devices::DeviceType;
use crate::fuzzing::{Target, text};

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "dbus_message", run: dbus::message },
    Target { name: "dbus_address", run: dbus::address },
    Target { name: "systemd_property", run: property },
    Target { name: "systemd_name", run: name },
    Target { name: "cpu_bits", run: cpu_bits },
    Target { name: "proc_devices", run: proc_devices },
];

/// The value of an annotation that sets a property.
fn property(data: &[u8]) {
    for name in ["MemoryHigh", "TimeoutStopSec"] {
        let key = format!("org.systemd.property.{name}");
        let annotations = HashMap::from([(key, text(data).to_owned())]);
        match annotation::properties(&annotations, false) {
            Err(error) => assert!(!error.to_string().contains('\n'), "two lines: {error}"),
            Ok(asked) => {
                for property in asked.properties {
                    dbus::call(property.value);
                }
            }
        }
    }
}

/// A `cgroupsPath` of systemd's driver.
fn name(data: &[u8]) {
    let text = text(data);
    if let Ok(Name { slice, unit }) = Name::parse(Some(Path::new(text)), "id", Instance::System) {
        assert!(unit.len() <= 255 && !unit.contains('/') && !unit.contains('\0'), "{unit:?}");
        let path = expand_slice(&slice).expect("a slice");
        assert!(path.is_empty() || path.ends_with(&format!("/{slice}")), "{path:?}");
        assert!(path.split('/').all(|part| part.is_empty() || part.ends_with(".slice")));
        assert!(!unit.ends_with(".slice"));
    }
}

/// A list of processors as systemd's bits.
fn cpu_bits(data: &[u8]) {
    let text = text(data);
    let Some(bits) = bits(text) else { return };
    assert!(bits.len() <= 1 << 13 && bits.last() != Some(&0));
    let is_set = |at: &usize| bits[at / 8] & 1 << (at % 8) != 0;
    let list: Vec<String> = (0..bits.len() * 8).filter(is_set).map(|at| at.to_string()).collect();
    assert_eq!(self::bits(&list.join(",")), Some(bits));
}

fn proc_devices(data: &[u8]) {
    let text = text(data);
    for kind in DeviceType::ALL {
        for major in [0, 1, 195, 4095] {
            let Some(name) = driver(text, kind, major) else { continue };
            assert!(text.contains(name) && name == name.trim());
        }
    }
}
