//! Who has what of the machine's GPUs, as sets that can be compared.
//!
//! A container has a GPU, or a part of one, because gpurun granted it, or because its device rules
//! let it open the GPU's own nodes: engines give devices as well, by CDI or by name.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::error::GpuError;
use super::exclusive::Exclusive;
use super::inventory::{self, Device, Failure, Inventory, Part};
use super::plan::Grant;
use super::vendor::VENDORS;
use crate::host::{Host, HostError, Settings};

/// Major and minor number of a device node.
type Number = (u32, u32);

/// Where the kernel's subsystems for graphics and for other accelerators put their nodes.
const SUBSYSTEMS: [&str; 2] = ["/dev/dri", "/dev/accel"];

/// Whether a device node of this path is that of one GPU: whoever has it has the GPU. The machine
/// is not looked at.
#[must_use]
pub fn is_gpu_node(path: &Path) -> bool {
    !is_control(path)
        && (SUBSYSTEMS.iter().any(|directory| path.starts_with(directory))
            || VENDORS.iter().any(|vendor| vendor.is_gpu_node(path)))
}

/// NVIDIA's major number and those of the two subsystems, in the kernel's list of devices.
const NVIDIA: u32 = 195;
const DRM: u32 = 226;
const ACCEL: u32 = 261;

/// The major numbers that the kernel gives out when a driver is loaded: who has one differs from
/// machine to machine, and other vendors' GPUs are among them.
const GIVEN_OUT: [RangeInclusive<u32>; 2] = [234..=254, 384..=511];

/// Whether a character device of this number is one GPU's own, whatever its path. False where only
/// the machine knows.
#[must_use]
pub fn is_gpu_number(major: u32, minor: u32) -> bool {
    match major {
        // 254 is nvidia-modeset, 255 nvidiactl.
        NVIDIA => minor < 254,
        // From 64 on are nodes for control, from 128 on those for rendering.
        DRM => !(64..128).contains(&minor),
        ACCEL => true,
        _ => false,
    }
}

/// Whether one GPU's own device may be among the character devices of these numbers; `None`: any.
#[must_use]
pub fn may_be_gpu(major: Option<u32>, minor: Option<u32>) -> bool {
    let Some(major) = major else { return true };
    let is_known = match minor {
        Some(minor) => is_gpu_number(major, minor),
        None => [NVIDIA, DRM, ACCEL].contains(&major),
    };
    is_known || GIVEN_OUT.iter().any(|range| range.contains(&major))
}

/// Whether it is a GPU's own and yet only for watching it, as in `/dev/accel/accel_controlD0`.
fn is_control(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.contains("control"))
}

/// A GPU or a part of one, by its place in [`Machine::devices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// The GPU.
    pub device: usize,
    /// The part of it; `None`: all of it.
    pub part: Option<usize>,
}

impl Unit {
    /// Whether the two have something in common: a part has with the whole and with itself.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let is_whole = self.part.is_none() || other.part.is_none();
        self.device == other.device && (is_whole || self.part == other.part)
    }
}

/// What one container has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// Each unit, and whether no other container may have it.
    pub units: Vec<(Unit, bool)>,
}

impl Claim {
    /// The first unit of this claim that cannot be had beside the other claim, and whether it is
    /// this claim that wants it alone.
    #[must_use]
    pub fn conflict(&self, other: &Self) -> Option<(Unit, bool)> {
        self.units.iter().find_map(|(own, alone)| {
            let both = other.units.iter().filter(|(theirs, _)| own.overlaps(*theirs));
            let mut both = both.filter(|(_, theirs_alone)| *alone || *theirs_alone);
            both.next().map(|(_, theirs_alone)| (*own, !theirs_alone))
        })
    }
}

/// The GPUs of the machine with the numbers of their nodes.
#[derive(Debug)]
pub struct Machine {
    /// The GPUs.
    pub devices: Vec<Device>,
    /// The vendors whose GPUs are not among them, because they could not be read.
    pub failures: Vec<Failure>,
    numbers: Vec<Numbers>,
}

/// The numbers of the nodes of one GPU.
#[derive(Debug)]
struct Numbers {
    own: Vec<Number>,
    parts: Vec<Vec<Number>>,
}

impl Machine {
    /// Looks at all of the machine: whoever is not seen may have anything.
    ///
    /// # Errors
    /// A driver's files or nodes that cannot be read, or a configuration that is wrong.
    pub fn read(settings: &Settings, host: &Host) -> Result<Self, GpuError> {
        let mut machine = Self::seen(settings, host)?;
        match machine.failures.pop() {
            Some(failure) => Err(failure.error),
            None => Ok(machine),
        }
    }

    /// What can be seen of the machine.
    ///
    /// # Errors
    /// Nodes that cannot be read.
    pub fn seen(settings: &Settings, host: &Host) -> Result<Self, GpuError> {
        let Inventory { devices, failures } = inventory::read(settings, host);
        let numbers = devices.iter().map(|device| Numbers::read(device, host));
        let numbers = numbers.collect::<Result<_, HostError>>()?;
        Ok(Self { devices, failures, numbers })
    }

    /// A machine with these GPUs, whose nodes nobody has made.
    #[cfg(test)]
    pub(crate) fn of(devices: Vec<Device>) -> Self {
        let numbers = devices
            .iter()
            .map(|device| Numbers { own: Vec::new(), parts: vec![Vec::new(); device.parts.len()] });
        Self { numbers: numbers.collect(), devices, failures: Vec::new() }
    }

    /// What a container with these grants has, whose device rules let it open the devices for
    /// which `may_open` is true, and that wants some of it alone.
    pub fn claim(
        &self,
        grants: &[Grant],
        may_open: impl Fn(u32, u32) -> bool,
        exclusive: &Exclusive,
    ) -> Claim {
        let may_open = |(major, minor): &Number| may_open(*major, *minor);
        let mut units = Vec::new();
        for (index, (device, numbers)) in self.devices.iter().zip(&self.numbers).enumerate() {
            let mut parts: Vec<Option<usize>> = Vec::new();
            for grant in grants.iter().filter(|grant| is_of(grant, device)) {
                // A part that does not exist any more may have been any of it.
                let part = grant
                    .part
                    .as_ref()
                    .and_then(|part| device.parts.iter().position(|known| known.what == *part));
                parts.push(part);
            }
            if parts.is_empty() {
                parts = numbers.opened(may_open);
            }
            for (at, part) in parts.iter().enumerate() {
                if !parts[..at].contains(part) {
                    let unit = Unit { device: index, part: *part };
                    let alone = exclusive.covers(device, self.part(unit));
                    units.push((unit, alone));
                }
            }
        }
        Claim { units }
    }

    /// The part that a unit is, if it is one.
    #[must_use]
    pub fn part(&self, unit: Unit) -> Option<&Part> {
        self.devices.get(unit.device)?.parts.get(unit.part?)
    }

    /// What a unit is called in messages, such as `nvidia.com/gpu=0 (0000:65:00.0, GPU-…)`.
    #[must_use]
    pub fn name(&self, unit: Unit) -> String {
        let Some(device) = self.devices.get(unit.device) else { return String::new() };
        if let Some(part) = self.part(unit) {
            return format!("{}={} ({})", device.kind, part.name, part.what);
        }
        let ids: Vec<&str> =
            [&device.bus_id, &device.uuid].into_iter().filter_map(|id| id.as_deref()).collect();
        format!("{}={} ({})", device.kind, device.name, ids.join(", "))
    }
}

impl Numbers {
    fn read(device: &Device, host: &Host) -> Result<Self, HostError> {
        let of = |nodes: &[PathBuf]| -> Result<Vec<Number>, HostError> {
            let mut numbers = Vec::new();
            for path in nodes.iter().filter(|path| !is_control(path)) {
                let below = path.strip_prefix("/dev").unwrap_or(path);
                // A node that nobody has made yet is in no container but by a grant.
                if let Some(status) = host.dev.link_status(below)?
                    && status.kind == FileType::CharacterDevice
                {
                    numbers.push((status.major, status.minor));
                }
            }
            Ok(numbers)
        };
        let parts = device.parts.iter().map(|part| of(&part.nodes)).collect::<Result<_, _>>()?;
        Ok(Self { own: of(&device.nodes)?, parts })
    }

    /// What of the GPU can be used: the parts all of whose nodes can be opened, or else the whole
    /// if any of its own can.
    fn opened(&self, may_open: impl Fn(&Number) -> bool) -> Vec<Option<usize>> {
        if !self.own.is_empty() && !self.own.iter().any(&may_open) {
            return Vec::new();
        }
        let usable = |numbers: &Vec<Number>| !numbers.is_empty() && numbers.iter().all(&may_open);
        let parts = self.parts.iter().enumerate().filter(|(_, numbers)| usable(numbers));
        let parts: Vec<_> = parts.map(|(index, _)| Some(index)).collect();
        match parts.is_empty() && !self.own.is_empty() {
            true => vec![None],
            false => parts,
        }
    }
}

fn is_of(grant: &Grant, device: &Device) -> bool {
    let same =
        |known: &Option<String>, given: &str| !given.is_empty() && known.as_deref() == Some(given);
    grant.kind == device.kind
        && (same(&device.bus_id, &grant.bus_id)
            || same(&device.uuid, &grant.uuid)
            || grant.bus_id.is_empty()
                && grant.uuid.is_empty()
                && grant.index.to_string() == device.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two GPUs; the second has two parts in one GPU instance (5) with rights 6 and 7.
    fn machine() -> Machine {
        let gpu = |index: u32, parts: Vec<Part>| Device {
            kind: "nvidia.com/gpu".into(),
            name: index.to_string(),
            uuid: Some(format!("GPU-{index}")),
            bus_id: Some(format!("0000:0{index}:00.0")),
            parts,
            ..Device::default()
        };
        let part = |name: &str| Part {
            name: name.to_owned(),
            what: format!("MIG {name}"),
            ..Part::default()
        };
        Machine {
            failures: Vec::new(),
            devices: vec![gpu(0, vec![]), gpu(1, vec![part("1:0"), part("1:1")])],
            numbers: vec![
                Numbers { own: vec![(195, 0), (226, 128)], parts: vec![] },
                Numbers {
                    own: vec![(195, 1), (226, 129)],
                    parts: vec![vec![(508, 5), (508, 6)], vec![(508, 5), (508, 7)]],
                },
            ],
        }
    }

    fn grant(index: u32, part: Option<&str>) -> Grant {
        Grant {
            kind: "nvidia.com/gpu".to_owned(),
            index,
            uuid: format!("GPU-{index}"),
            bus_id: format!("0000:0{index}:00.0"),
            model: String::new(),
            part: part.map(|part| format!("MIG {part}")),
            asked_as: String::new(),
        }
    }

    fn unit(device: usize, part: Option<usize>) -> Unit {
        Unit { device, part }
    }

    #[test]
    fn control_nodes_are_not_those_of_a_gpu() {
        for (path, expected) in [
            ("/dev/nvidia0", true),
            ("/dev/nvidia17", true),
            ("/dev/dri/renderD128", true),
            ("/dev/accel/accel0", true),
            ("/dev/hl0", true),
            ("/dev/hl11", true),
            ("/dev/davinci3", true),
            ("/dev/cambricon_dev0", true),
            ("/dev/cambricon_ipcm0", false),
            ("/dev/iluvatar1", true),
            ("/dev/dxg", true),
            ("/dev/accel/accel_controlD0", false),
            ("/dev/dri/controlD64", false),
            ("/dev/hl_controlD0", false),
            ("/dev/davinci_manager", false),
            ("/dev/davinci", false),
            ("/dev/mxcd", false),
            ("/dev/hlx", false),
            ("/dev/nvidia", false),
            ("/dev/nvidiactl", false),
            ("/dev/nvidia-uvm", false),
            ("/dev/nvidia-caps/nvidia-cap3", false),
            ("/dev/kfd", false),
            ("/dev/driver", false),
            ("/dev/fuse", false),
        ] {
            assert_eq!(is_gpu_node(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn numbers_tell_gpus_whatever_their_paths() {
        for (major, minor, is_own, may_be) in [
            (195, 0, true, true),
            (195, 254, false, false),
            (195, 255, false, false),
            (226, 1, true, true),
            (226, 64, false, false),
            (226, 128, true, true),
            (261, 3, true, true),
            (240, 0, false, true),
            (511, 1, false, true),
            (1, 3, false, false),
            (10, 229, false, false),
            (136, 0, false, false),
        ] {
            let found = (is_gpu_number(major, minor), may_be_gpu(Some(major), Some(minor)));
            assert_eq!(found, (is_own, may_be), "{major}:{minor}");
        }
        assert!(may_be_gpu(None, None) && may_be_gpu(Some(195), None));
        assert!(!may_be_gpu(Some(136), None));
    }

    #[test]
    fn what_a_container_may_open_is_what_it_has() {
        let machine = machine();
        for (open, expected) in [
            (&[][..], vec![]),
            (&[(195, 255), (508, 1)], vec![]),
            (&[(195, 0)], vec![unit(0, None)]),
            (&[(226, 128)], vec![unit(0, None)]),
            (&[(195, 0), (195, 1)], vec![unit(0, None), unit(1, None)]),
            (&[(195, 1), (508, 5), (508, 7)], vec![unit(1, Some(1))]),
            (&[(195, 1), (508, 5), (508, 6), (508, 7)], vec![unit(1, Some(0)), unit(1, Some(1))]),
            (&[(195, 1), (508, 5)], vec![unit(1, None)]),
            (&[(508, 5), (508, 6)], vec![]),
        ] {
            let may_open = |major, minor| open.contains(&(major, minor));
            let claim = machine.claim(&[], may_open, &Exclusive::None);
            assert_eq!(claim.units.iter().map(|(unit, _)| *unit).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn grants_say_more_than_the_rules_do() {
        let machine = machine();
        let everything = |_, _| true;
        let grants = [grant(1, Some("1:1")), grant(1, Some("1:1"))];
        let claim = machine.claim(&grants, everything, &Exclusive::None);
        assert_eq!(claim.units, [(unit(0, None), false), (unit(1, Some(1)), false)]);
        // Made anew in another shape since.
        let claim = machine.claim(&[grant(1, Some("1:9"))], |_, _| false, &Exclusive::All);
        assert_eq!(claim.units, [(unit(1, None), true)]);
    }

    #[test]
    fn parts_are_their_own_and_conflict_with_the_whole() {
        let claim = |part, alone| Claim { units: vec![(unit(1, part), alone)] };
        for (own, other, expected) in [
            (claim(None, false), claim(None, false), None),
            (claim(None, true), claim(None, false), Some((unit(1, None), true))),
            (claim(None, false), claim(None, true), Some((unit(1, None), false))),
            (claim(Some(0), true), claim(Some(1), true), None),
            (claim(Some(0), true), claim(Some(0), false), Some((unit(1, Some(0)), true))),
            (claim(Some(0), false), claim(None, true), Some((unit(1, Some(0)), false))),
            (claim(None, true), claim(Some(0), false), Some((unit(1, None), true))),
            (claim(None, true), Claim { units: vec![(unit(0, None), true)] }, None),
        ] {
            assert_eq!(own.conflict(&other), expected, "{own:?} {other:?}");
        }
    }

    #[test]
    fn units_have_names_that_can_be_asked_for() {
        let machine = machine();
        assert_eq!(machine.name(unit(0, None)), "nvidia.com/gpu=0 (0000:00:00.0, GPU-0)");
        assert_eq!(machine.name(unit(1, Some(1))), "nvidia.com/gpu=1:1 (MIG 1:1)");
    }
}
