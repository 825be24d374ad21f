//! Whether the machine has a GPU or another accelerator at all, before any driver is loaded.

use super::error::GpuError;
use super::inventory::{self, Inventory};
use super::pci::Address;
use crate::host::{Host, HostError, Settings};

/// Makers of GPUs and accelerators, by their PCI vendor id. Display controllers of others
/// (management processors, virtual machines) are no GPUs.
const MAKERS: &[(u32, &str)] = &[
    (0x10de, "NVIDIA"),
    (0x1002, "AMD"),
    (0x8086, "Intel"),
    (0x1da3, "Habana Labs"),
    (0x19e5, "Huawei"),
    (0x1ed5, "Moore Threads"),
    (0x9999, "MetaX"),
    (0x1d94, "Hygon"),
    (0xcabc, "Cambricon"),
    (0x1e3e, "Iluvatar"),
];

/// The PCI base classes of display controllers and of processing accelerators.
const CLASSES: [u32; 2] = [0x03, 0x12];

/// A GPU or accelerator on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accelerator {
    /// Its address.
    pub address: Address,
    /// Who made it.
    pub maker: &'static str,
}

/// Whether containers could want a GPU of this machine: one is on the PCI bus, or a driver lists
/// one that is not (of a system on a chip, of a virtual machine's host).
///
/// # Errors
/// `/sys` or a driver's files cannot be read.
pub fn is_any(settings: &Settings, host: &Host) -> Result<bool, GpuError> {
    if !on_the_bus(host)?.is_empty() {
        return Ok(true);
    }
    let Inventory { devices, failures } = inventory::read(settings, host);
    match failures.into_iter().next() {
        Some(failure) if devices.is_empty() => Err(failure.error),
        _ => Ok(!devices.is_empty()),
    }
}

/// The GPUs and accelerators that the kernel found on the PCI bus, in the order of their
/// addresses.
///
/// # Errors
/// `/sys` cannot be read.
pub fn on_the_bus(host: &Host) -> Result<Vec<Accelerator>, HostError> {
    let mut found = Vec::new();
    for name in host.sys.names("bus/pci/devices")? {
        let Some(address) = Address::parse(&name) else { continue };
        let number = |file: &str| -> Result<Option<u32>, HostError> {
            let text = host.sys.read_text(format!("bus/pci/devices/{name}/{file}"), 64)?;
            let text = text.unwrap_or_default();
            Ok(u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())
        };
        let Some(class) = number("class")? else { continue };
        if !CLASSES.contains(&(class >> 16)) {
            continue;
        }
        let vendor = number("vendor")?;
        let maker = MAKERS.iter().find(|(id, _)| Some(*id) == vendor);
        found.extend(maker.map(|(_, maker)| Accelerator { address, maker }));
    }
    found.sort_by_key(|accelerator| accelerator.address);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    fn host(functions: &[(&str, &str, &str)]) -> (Scratch, Host) {
        let scratch = Scratch::new();
        for tree in ["proc", "sys", "dev"] {
            scratch.directory(tree);
        }
        for (address, vendor, class) in functions {
            scratch.write(&format!("sys/bus/pci/devices/{address}/vendor"), vendor);
            scratch.write(&format!("sys/bus/pci/devices/{address}/class"), class);
        }
        let at = |name| scratch.path().join(name);
        let host = Host::at(at("proc"), at("sys"), at("dev")).unwrap();
        (scratch, host)
    }

    #[test]
    fn gpus_and_accelerators_are_told_from_other_functions_without_a_driver() {
        let (_scratch, host) = host(&[
            ("0000:65:00.0", "0x10de\n", "0x030200\n"),
            ("0000:03:00.0", "0x1002\n", "0x120000\n"),
            // A network card, an audio function of a GPU, a management processor, QEMU's display.
            ("0000:01:00.0", "0x8086\n", "0x020000\n"),
            ("0000:65:00.1", "0x10de\n", "0x040300\n"),
            ("0000:02:00.0", "0x1a03\n", "0x030000\n"),
            ("0000:00:01.0", "0x1234\n", "0x030000\n"),
            ("0000:00:02.0", "rubbish", "rubbish"),
        ]);
        let found = on_the_bus(&host).unwrap();
        let found: Vec<_> = found.iter().map(|it| (it.address.to_string(), it.maker)).collect();
        let expected = [("0000:03:00.0", "AMD"), ("0000:65:00.0", "NVIDIA")];
        assert_eq!(found, expected.map(|(address, maker)| (address.to_owned(), maker)));
    }

    #[test]
    fn a_machine_without_a_pci_bus_has_none() {
        let (_scratch, host) = host(&[]);
        assert_eq!(on_the_bus(&host).unwrap(), []);
    }
}
