//! The machine's GPUs and who has them, as a table for a person and as JSON for a program.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use super::claim::{Claim, Machine, Unit};
use super::inventory::Device;

/// What is said where there is nothing to list.
pub const NOTHING: &str =
    "This machine has no GPU that a loaded driver shows: there is nothing to give to containers.";

/// How much of a container's id of 64 digits, and of a UUID, a narrow table shows.
const SHORT: usize = 12;

/// A container that has GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its id.
    pub id: String,
    /// The directory of its state is in this one (`--root`).
    pub root: PathBuf,
    /// Its bundle.
    pub bundle: PathBuf,
    /// The pid of its init, 0 while it has none.
    pub pid: i32,
    /// Its status.
    pub status: String,
}

/// The GPUs with their holders.
#[derive(Debug)]
pub struct Listing<'a> {
    /// The GPUs.
    pub machine: &'a Machine,
    /// The containers, with what they have.
    pub holders: Vec<(Holder, Claim)>,
}

impl Listing<'_> {
    /// Who has a unit, and who of them alone. A part is listed for itself.
    fn holders(&self, unit: Unit) -> impl Iterator<Item = (&Holder, bool)> {
        self.holders.iter().filter_map(move |(holder, claim)| {
            let found = claim.units.iter().find(|(known, _)| *known == unit)?;
            Some((holder, found.1))
        })
    }

    /// One JSON document: an array `gpus` with the fields of [`Device`], and `holders` for each
    /// GPU and each part; `failures` where a vendor's GPUs could not be read.
    #[must_use]
    pub fn json(&self) -> Value {
        let holders = |device, part| -> Value {
            let all = self.holders(Unit { device, part }).map(|(holder, alone)| {
                let mut holder = json!(holder);
                holder["exclusive"] = alone.into();
                holder
            });
            all.collect()
        };
        let gpus = self.machine.devices.iter().enumerate().map(|(index, device)| {
            let mut all = json!(device);
            for part in 0..device.parts.len() {
                all["parts"][part]["holders"] = holders(index, Some(part));
            }
            all["holders"] = holders(index, None);
            all
        });
        let mut all = json!({ "gpus": gpus.collect::<Vec<_>>() });
        let failures = self.machine.failures.iter();
        let failures: Value = failures
            .map(|failure| json!({"vendor": failure.vendor, "reason": failure.error.to_string()}))
            .collect();
        if failures != json!([]) {
            all["failures"] = failures;
        }
        all
    }

    /// A row for each GPU, below it one for each part of it. `wide`: with everything in full.
    #[must_use]
    pub fn table(&self, wide: bool) -> String {
        let heading: &[&str] = match wide {
            true => &["GPU", "MODEL", "BUS ID", "UUID", "NUMA", "DRIVER", "NODES", "HELD BY"],
            false => &["GPU", "MODEL", "BUS ID", "UUID", "NUMA", "HELD BY"],
        };
        let mut rows = vec![heading.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()];
        for (index, device) in self.machine.devices.iter().enumerate() {
            let or_none = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
            let uuid = device.uuid.as_ref().map(|uuid| self.uuid(uuid, wide));
            let numa = device.numa_node.map(|node| node.to_string());
            let mut row = vec![
                format!("{}={}", device.kind, device.name),
                or_none(device.model.as_ref()),
                or_none(device.bus_id.as_ref()),
                or_none(uuid.as_ref()),
                or_none(numa.as_ref()),
            ];
            if wide {
                row.push(or_none(device.driver.as_ref()));
                row.push(paths(&device.nodes));
            }
            row.push(self.held(Unit { device: index, part: None }, device, wide));
            rows.push(row);
            for (at, part) in device.parts.iter().enumerate() {
                let uuid = part.uuid.as_ref().map(|uuid| self.uuid(uuid, wide)).unwrap_or_default();
                let mut row =
                    vec![format!("  {}", part.name), part.what.clone(), String::new(), uuid];
                row.resize(5, String::new());
                if wide {
                    row.extend([String::new(), paths(&part.nodes)]);
                }
                row.push(self.held(Unit { device: index, part: Some(at) }, device, wide));
                rows.push(row);
            }
        }
        aligned(&rows)
    }

    /// Of two that begin alike both are shown in full.
    fn uuid(&self, uuid: &str, wide: bool) -> String {
        let Some(short) = uuid.get(..SHORT).filter(|_| !wide) else { return uuid.to_owned() };
        let all = self.machine.devices.iter().flat_map(|device| {
            let parts = device.parts.iter().map(|part| &part.uuid);
            std::iter::once(&device.uuid).chain(parts).flatten()
        });
        let alike = all.filter(|known| known.starts_with(short)).count();
        if alike == 1 { short.to_owned() } else { uuid.to_owned() }
    }

    fn held(&self, unit: Unit, device: &Device, wide: bool) -> String {
        let names = self.holders(unit).map(|(holder, alone)| {
            let id = if wide { &holder.id } else { short_id(&holder.id) };
            if alone { format!("{id} (exclusive)") } else { id.to_owned() }
        });
        let names = names.collect::<Vec<_>>().join(", ");
        match names.is_empty() {
            false => names,
            // What is divided is not had as a whole.
            true if unit.part.is_none() && !device.parts.is_empty() => String::new(),
            true => "-".to_owned(),
        }
    }
}

/// Engines make ids of 64 digits, of which people know the first twelve.
fn short_id(id: &str) -> &str {
    let is_generated = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.get(..SHORT).filter(|_| is_generated).unwrap_or(id)
}

fn paths(nodes: &[PathBuf]) -> String {
    let nodes = nodes.iter().map(|path| path.display().to_string());
    let nodes = nodes.collect::<Vec<_>>().join(" ");
    if nodes.is_empty() { "-".to_owned() } else { nodes }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::inventory::Part;

    fn machine() -> Machine {
        let gpu = |index: u32, uuid: &str, parts: Vec<Part>| Device {
            kind: "nvidia.com/gpu".into(),
            name: index.to_string(),
            uuid: Some(uuid.to_owned()),
            bus_id: Some(format!("0000:{index}b:00.0")),
            model: Some("NVIDIA H100 80GB HBM3".to_owned()),
            driver: Some("nvidia 535.261.03".to_owned()),
            numa_node: (index == 0).then_some(1),
            nodes: vec![format!("/dev/nvidia{index}").into()],
            parts,
            ..Device::default()
        };
        let part = |index: u32| Part {
            name: format!("1:{index}"),
            what: format!("MIG device {index} (GI 2, CI {index})"),
            uuid: (index == 1).then(|| "MIG-ffda444c-c706-57c6-98c9-67c441a0b109".to_owned()),
            nodes: vec![format!("/dev/nvidia-caps/nvidia-cap{index}").into()],
        };
        Machine::of(vec![
            gpu(0, "GPU-5e1f0000-9d0a-4c1b-8f00-00c0ffee0000", vec![]),
            gpu(1, "GPU-5e1f0001-9d0a-4c1b-8f00-00c0ffee0001", vec![part(0), part(1)]),
        ])
    }

    fn holder(id: &str, units: &[(usize, Option<usize>, bool)]) -> (Holder, Claim) {
        let holder = Holder {
            id: id.to_owned(),
            root: "/run/gpurun".into(),
            bundle: "/b".into(),
            pid: 42,
            status: "running".to_owned(),
        };
        let unit = |(device, part, alone): &(usize, Option<usize>, bool)| {
            (Unit { device: *device, part: *part }, *alone)
        };
        (holder, Claim { units: units.iter().map(unit).collect() })
    }

    #[test]
    fn a_row_for_each_gpu_and_each_part_with_its_holders() {
        let machine = machine();
        let generated = "0123456789abcdef".repeat(4);
        let listing = Listing {
            machine: &machine,
            holders: vec![
                holder("web", &[(0, None, false), (1, Some(1), true)]),
                holder(&generated, &[(0, None, false)]),
            ],
        };
        assert_eq!(
            listing.table(false),
            "\
GPU               MODEL                      BUS ID        UUID          NUMA  HELD BY
nvidia.com/gpu=0  NVIDIA H100 80GB HBM3      0000:0b:00.0  GPU-5e1f0000  1     web, 0123456789ab
nvidia.com/gpu=1  NVIDIA H100 80GB HBM3      0000:1b:00.0  GPU-5e1f0001  -
  1:0             MIG device 0 (GI 2, CI 0)                                    -
  1:1             MIG device 1 (GI 2, CI 1)                MIG-ffda444c        web (exclusive)
"
        );
        let wide = listing.table(true);
        for part in
            [&*generated, "GPU-5e1f0000-9d0a-4c1b-8f00-00c0ffee0000", "/dev/nvidia0", "535.261.03"]
        {
            assert!(wide.contains(part), "{part}: {wide}");
        }
        let json = listing.json();
        assert_eq!(json["gpus"][0]["holders"][1]["id"], generated);
        assert_eq!(json["gpus"][0]["holders"][0]["exclusive"], false);
        assert_eq!(json["gpus"][1]["holders"], json!([]));
        assert_eq!(json["gpus"][1]["parts"][0]["holders"], json!([]));
        assert_eq!(json["gpus"][1]["parts"][1]["holders"][0]["exclusive"], true);
        assert_eq!(json["gpus"][1]["numa_node"], Value::Null);
    }

    #[test]
    fn uuids_that_begin_alike_are_shown_in_full() {
        let mut devices = machine().devices;
        devices[1].uuid = Some("GPU-5e1f0000-ffff-4c1b-8f00-00c0ffee0001".to_owned());
        let machine = Machine::of(devices);
        let table = Listing { machine: &machine, holders: vec![] }.table(false);
        assert!(table.contains("GPU-5e1f0000-9d0a-4c1b-8f00-00c0ffee0000"), "{table}");
        assert!(table.contains("GPU-5e1f0000-ffff-4c1b-8f00-00c0ffee0001"), "{table}");
    }
}
