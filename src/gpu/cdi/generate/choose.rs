//! Which devices of the machine a CDI file describes.

use oci_spec::runtime::Spec;

use super::{ALL, GenerateError, Options};
use crate::gpu::error::GpuError;
use crate::gpu::inventory::{self, Device, Part};
use crate::gpu::plan::Plan;
use crate::gpu::request::Asked;
use crate::gpu::vendor::{VENDORS, Vendor, Wish};
use crate::host::{Host, Settings};

/// Devices of one kind, and the vendor that gives them.
pub(super) struct Family {
    pub vendor: &'static dyn Vendor,
    pub kind: &'static str,
    pub devices: Vec<Device>,
    /// What of the machine could not be looked at.
    pub notes: Vec<String>,
}

/// A vendor's kinds that the options do not exclude.
fn kinds(vendor: &dyn Vendor, options: &Options) -> Vec<&'static str> {
    let all = vendor.kinds().iter().copied();
    all.filter(|kind| options.of.as_ref().is_none_or(|of| of == kind)).collect()
}

/// Every such kind of every vendor.
fn candidates(options: &Options) -> impl Iterator<Item = (&'static dyn Vendor, &'static str)> {
    let vendors = VENDORS.iter().copied();
    vendors.flat_map(|vendor| kinds(vendor, options).into_iter().map(move |kind| (vendor, kind)))
}

/// The devices to describe.
pub(super) fn choose(
    options: &Options,
    settings: &Settings,
    host: &Host,
) -> Result<Family, GenerateError> {
    let mut found: Vec<Family> = Vec::new();
    let (mut notes, mut failure) = (Vec::new(), None);
    for vendor in VENDORS.iter().copied() {
        let kinds = kinds(vendor, options);
        let Some(first) = kinds.first() else { continue };
        let devices = match vendor.inventory(settings, host) {
            Ok(devices) => devices,
            // Another vendor's devices are described all the same.
            Err(error) => {
                notes.push(format!("{first}: {error}"));
                failure = failure.or(Some(error));
                continue;
            }
        };
        for kind in kinds {
            let of_kind = devices.iter().filter(|device| device.kind == kind);
            let devices: Vec<Device> = of_kind.cloned().collect();
            if !devices.is_empty() {
                found.push(Family { vendor, kind, devices, notes: Vec::new() });
            }
        }
    }
    if let (true, Some(error)) = (found.is_empty(), failure) {
        return Err(error.into());
    }
    let several = found.iter().map(|family| family.kind).collect::<Vec<_>>().join(", ");
    match (found.pop(), found.is_empty()) {
        (Some(mut one), true) => {
            if let Err(error) = inventory::identify(settings, host, &mut one.devices) {
                notes.push(format!("parts have no names by their ids: {error}"));
            }
            Ok(Family { notes, ..one })
        }
        (Some(_), false) => Err(GenerateError::SeveralKinds { kinds: several }),
        (None, _) => Err(none(options, settings, host)),
    }
}

/// The wish for a device with all that comes with it.
pub(super) fn everything(
    vendor: &dyn Vendor,
    kind: &'static str,
    device: String,
) -> Result<Box<dyn Wish>, GpuError> {
    match vendor.describe() {
        Some(describe) => describe.everything(kind, device),
        None => vendor.native(kind, vec![device], &Asked::of(&Spec::default())),
    }
}

/// Why there is nothing to describe.
fn none(options: &Options, settings: &Settings, host: &Host) -> GenerateError {
    if let Some(kind) = options.of.clone().filter(|_| candidates(options).next().is_none()) {
        let known = candidates(&Options::default()).map(|(_, kind)| kind).collect::<Vec<_>>();
        return GenerateError::UnknownKind { kind, known: known.join(", ") };
    }
    let mut reasons: Vec<String> = Vec::new();
    for (vendor, kind) in candidates(options) {
        let wish = everything(vendor, kind, ALL.to_owned());
        let reason = match wish.and_then(|one| one.resolve(settings, host, &mut Plan::default())) {
            Err(error) => error.to_string(),
            Ok(()) => format!("{kind} has no devices of its own"),
        };
        // A vendor's kinds have the same trouble.
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    GenerateError::NoDevices { reasons: reasons.join("; ") }
}

/// A device or a part of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen<'a> {
    pub device: &'a Device,
    pub part: Option<&'a Part>,
}

impl Chosen<'_> {
    /// The name by which it is asked for.
    pub(super) fn id(&self) -> &str {
        self.part.map_or(&self.device.name, |part| &part.name)
    }

    /// Whether `id` means this one.
    fn is(&self, id: &str) -> bool {
        let same = |known: &str| known.eq_ignore_ascii_case(id);
        let ids = match self.part {
            Some(part) => [&part.uuid, &None],
            None => [&self.device.uuid, &self.device.bus_id],
        };
        same(self.id()) || ids.into_iter().flatten().any(|known| same(known))
    }
}

/// The devices to describe: of one that is divided its parts, unless it is asked for by itself.
pub(super) fn usable<'a>(
    devices: &'a [Device],
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<Vec<Chosen<'a>>, GenerateError> {
    let whole = |device| Chosen { device, part: None };
    let parts = |device: &'a Device| {
        device.parts.iter().map(move |part| Chosen { device, part: Some(part) })
    };
    let known: Vec<Chosen<'a>> = devices
        .iter()
        .flat_map(|device| std::iter::once(whole(device)).chain(parts(device)))
        .collect();
    let is_all = options.ids.is_empty() || options.ids.iter().any(|id| id == ALL);
    if is_all {
        let mut usable = Vec::new();
        for device in devices {
            match &device.trouble {
                Some(trouble) => notes.push(format!("{} left out: {trouble}", device.name)),
                None if device.parts.is_empty() => usable.push(whole(device)),
                None => usable.extend(parts(device)),
            }
        }
        return match usable.is_empty() {
            false => Ok(usable),
            true => Err(GenerateError::NoneUsable { reasons: notes.join("; ") }),
        };
    }
    let mut usable: Vec<Chosen<'a>> = Vec::new();
    for id in &options.ids {
        let Some(one) = known.iter().find(|one| one.is(id)) else {
            let present: Vec<&str> = known.iter().map(Chosen::id).collect();
            let present = present.join(", ");
            return Err(GenerateError::UnknownDevice { id: id.clone(), present });
        };
        if let Some(trouble) = &one.device.trouble {
            return Err(GenerateError::NoneUsable { reasons: trouble.clone() });
        }
        if usable.iter().all(|other| other.id() != one.id()) {
            usable.push(*one);
        }
    }
    Ok(usable)
}
