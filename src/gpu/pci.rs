//! PCI addresses, in every spelling in which tools print them.

use std::fmt;

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
