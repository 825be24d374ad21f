//! How well the machine's GPUs and drivers are, vendor by vendor.

use super::inventory::Device;
use super::vendor::{VENDORS, Vendor};
use crate::finding::Finding;
use crate::host::{Host, Settings, Tree};

/// What a vendor looks at.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// `/proc`, `/sys` and `/dev`.
    pub host: &'a Host,
    /// The root of the file system: what is installed.
    pub root: &'a Tree,
}

/// What every vendor finds. A vendor without hardware and driver finds nothing.
#[must_use]
pub fn all(machine: Machine<'_>) -> Vec<Finding> {
    let found: Vec<_> = VENDORS.iter().flat_map(|vendor| vendor.checkup(machine)).collect();
    if !found.is_empty() {
        return found;
    }
    vec![Finding::yellow(
        "GPUs",
        "this machine has no GPU of a vendor that gpurun serves; containers that ask for none run",
        "if there should be one: see lspci -nn | grep -e 0300 -e 0302 -e 1200, and whether it is \
         passed through to this virtual machine",
    )]
}

/// What a vendor's devices say of themselves: each that has a trouble, and how many have none.
#[must_use]
pub fn devices(vendor: &(impl Vendor + ?Sized), machine: Machine<'_>) -> Vec<Finding> {
    let check = format!("{} GPUs", vendor.name());
    match vendor.inventory(machine.settings, machine.host) {
        Ok(devices) => judge(&check, &devices),
        Err(error) => vec![Finding::error(check, &error.to_string(), "see the kernel log (dmesg)")],
    }
}

fn judge(check: &str, devices: &[Device]) -> Vec<Finding> {
    let ill = devices.iter().filter_map(|device| Some((device, device.trouble.as_deref()?)));
    let mut findings: Vec<_> = ill
        .map(|(device, trouble)| {
            let trouble = match trouble.contains(&device.name) {
                true => trouble.to_owned(),
                false => format!("GPU {}: {trouble}", device.name),
            };
            Finding::error(check, &trouble, "take it out of the way of who asks for it by name")
                .softened()
        })
        .collect();
    let mut well: Vec<(&str, usize)> = Vec::new();
    for device in devices.iter().filter(|device| device.trouble.is_none()) {
        let model = device.model.as_deref().unwrap_or("GPU");
        match well.iter_mut().find(|(known, _)| *known == model) {
            Some((_, count)) => *count += 1,
            None => well.push((model, 1)),
        }
    }
    if !well.is_empty() {
        let list: Vec<_> = well.iter().map(|(model, count)| format!("{count} × {model}")).collect();
        findings.insert(0, Finding::green(check, list.join(", ")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    fn device(name: &str, trouble: Option<&str>) -> Device {
        Device {
            name: name.to_owned(),
            model: Some("M1".to_owned()),
            trouble: trouble.map(str::to_owned),
            ..Device::default()
        }
    }

    #[test]
    fn gpus_that_are_well_are_counted_and_the_others_named() {
        let devices =
            [device("0", None), device("1", Some("it fell; reseat it")), device("2", None)];
        let [well, ill] = &judge("x GPUs", &devices)[..] else { panic!("two findings") };
        assert_eq!(well, &Finding::green("x GPUs", "2 × M1"));
        assert_eq!(ill.found, "GPU 1: it fell");
        assert_eq!(ill.verdict, Verdict::Yellow("reseat it".to_owned()));
        assert!(judge("x GPUs", &[]).is_empty());
    }
}
