//! PCI addresses, in every spelling in which tools print them, and what sysfs says of a function.

use std::fmt;

use crate::host::{Host, HostError};

/// The address of a PCI function. Ordered as the bus is enumerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// PCI domain (segment).
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device (slot) number, below 32.
    pub device: u8,
    /// Function number, below 8.
    pub function: u8,
}

impl Address {
    /// Reads `00000000:65:00.0`, `0000:65:00.0`, `65:00.0` and their upper-case forms.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, function) = text.rsplit_once('.')?;
        let (rest, device) = rest.rsplit_once(':')?;
        let (domain, bus) = match rest.rsplit_once(':') {
            Some((domain, bus)) => (hex(domain, 8)?, bus),
            None => (0, rest),
        };
        let address = Self {
            domain,
            bus: hex(bus, 2)?.try_into().ok()?,
            device: hex(device, 2)?.try_into().ok()?,
            function: hex(function, 1)?.try_into().ok()?,
        };
        (address.device < 32 && address.function < 8).then_some(address)
    }
}

impl fmt::Display for Address {
    /// The kernel's spelling, as in `/sys/bus/pci/devices`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

/// A PCI function, as sysfs has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub address: Address,
    /// The maker, such as `0x8086`.
    pub vendor: String,
    /// The maker's number for the product, such as `0x56c0`.
    pub device: String,
    /// The driver that has it.
    pub driver: Option<String>,
}

impl Function {
    /// Reads what is at this path below sys, which may be a link (`class/drm/card0/device`).
    /// `None`: there is no PCI function.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read(host: &Host, directory: &str) -> Result<Option<Self>, HostError> {
        let Some(found) = host.sys.find(directory)? else {
            return Ok(None);
        };
        let name = found.path.file_name().and_then(|name| name.to_str());
        let id = |file: &str| -> Result<Option<String>, HostError> {
            let text = host.sys.read_text(format!("{directory}/{file}"), 64)?;
            Ok(text.map(|text| text.trim().to_lowercase()))
        };
        let (Some(address), Some(vendor), Some(device)) =
            (name.and_then(Address::parse), id("vendor")?, id("device")?)
        else {
            return Ok(None);
        };
        let driver = host.sys.link(format!("{directory}/driver"))?;
        let driver = driver.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        Ok(Some(Self { address, vendor, device, driver }))
    }

    /// The name by which CDI files call the device whatever its place in a list: address and
    /// product, as in `0000-0f-00-0-0x56c0`.
    #[must_use]
    pub fn machine_name(&self) -> String {
        format!("{}-{}", self.address.to_string().replace([':', '.'], "-"), self.device)
    }

    /// Maker and product as `lspci -n` writes them: `8086:56c0`.
    #[must_use]
    pub fn numbers(&self) -> String {
        let digits = |text: &str| text.trim_start_matches("0x").to_owned();
        format!("{}:{}", digits(&self.vendor), digits(&self.device))
    }
}

fn hex(digits: &str, most: usize) -> Option<u32> {
    let valid = !digits.is_empty()
        && digits.len() <= most
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_one_address_is_the_same_address() {
        let address = Address { domain: 0, bus: 0x65, device: 0, function: 0 };
        for text in ["00000000:65:00.0", "0000:65:00.0", "65:00.0"] {
            assert_eq!(Address::parse(text), Some(address), "{text}");
        }
        assert_eq!(address.to_string(), "0000:65:00.0");
        let far = Address::parse("00010000:AB:1F.7").unwrap();
        assert_eq!(far.to_string(), "10000:ab:1f.7");
        assert!(far > address);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "0",
            "0:1",
            "65:00",
            "65:20.0",
            "65:00.8",
            "+1:00.0",
            "123:00.0",
            "x:0.0",
            "1:000000000:65:00.0",
            "GPU-1:2.3",
            "65:00.0 ",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
