//! One device rule.

use std::fmt;
use std::str::FromStr;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde::{Deserialize, Serialize};

/// The kernel's `dev_t` has 12 bits of major number.
const MAX_MAJOR: u32 = 0xfff;
/// … and 20 bits of minor number.
const MAX_MINOR: u32 = 0xf_ffff;

/// Character or block. (The spec's `a` is both.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeviceType {
    /// A character device.
    #[serde(rename = "c")]
    Char,
    /// A block device.
    #[serde(rename = "b")]
    Block,
}

impl DeviceType {
    /// Both types.
    pub const ALL: [Self; 2] = [Self::Char, Self::Block];

    /// The letter of the spec and of cgroup v1.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Char => 'c',
            Self::Block => 'b',
        }
    }
}

/// A set of `r` (read), `w` (write) and `m` (mknod).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Access(u8);

impl Access {
    /// `m`: create a node (`BPF_DEVCG_ACC_MKNOD`).
    pub const MKNOD: Self = Self(1);
    /// `r`: open for reading (`BPF_DEVCG_ACC_READ`).
    pub const READ: Self = Self(2);
    /// `w`: open for writing (`BPF_DEVCG_ACC_WRITE`).
    pub const WRITE: Self = Self(4);
    /// `rwm`.
    pub const ALL: Self = Self(7);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// The bits as in linux/bpf.h.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether everything in `other` is in this set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromStr for Access {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut access = Self::NONE;
        for letter in text.chars() {
            access = access.union(match letter {
                'r' => Self::READ,
                'w' => Self::WRITE,
                'm' => Self::MKNOD,
                _ => {
                    return Err(format!("access {text:?} may only hold the letters r, w and m"));
                }
            });
        }
        if access.is_empty() {
            return Err("access cannot be empty; it holds some of r, w and m".to_owned());
        }
        Ok(access)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if self.contains(bit) {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Access {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Access> for String {
    fn from(access: Access) -> Self {
        access.to_string()
    }
}

/// A set of devices and what may be done to them. Displayed as cgroup v1 writes it: `c 195:* rwm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Character or block.
    #[serde(rename = "type")]
    pub kind: DeviceType,
    /// The major number; `None`: any.
    pub major: Option<u32>,
    /// The minor number; `None`: any.
    pub minor: Option<u32>,
    /// The access.
    pub access: Access,
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.letter())?;
        match self.major {
            Some(major) => write!(f, "{major}:")?,
            None => f.write_str("*:")?,
        }
        match self.minor {
            Some(minor) => write!(f, "{minor}")?,
            None => f.write_str("*")?,
        }
        write!(f, " {}", self.access)
    }
}

/// A rule of the spec, its fields checked. `kind` is `None` for the spec's `a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpecRule {
    pub allow: bool,
    pub kind: Option<DeviceType>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: Access,
}

impl SpecRule {
    /// Whether the rule is about every device and every access, and so sets the default.
    pub fn is_default(&self) -> bool {
        self.kind.is_none()
            && self.major.is_none()
            && self.minor.is_none()
            && self.access == Access::ALL
    }

    /// Checks the fields of a rule of the spec.
    pub fn parse(rule: &LinuxDeviceCgroup) -> Result<Self, String> {
        let kind = match rule.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::C) => Some(DeviceType::Char),
            Some(LinuxDeviceType::B) => Some(DeviceType::Block),
            Some(other) => {
                return Err(format!("type {:?} is not one of a, b and c", other.as_str()));
            }
        };
        Ok(Self {
            allow: rule.allow(),
            kind,
            major: number("major", rule.major(), MAX_MAJOR)?,
            minor: number("minor", rule.minor(), MAX_MINOR)?,
            access: rule.access().as_deref().unwrap_or_default().parse()?,
        })
    }
}

/// A device number of the spec; absent and -1 (which Docker writes for `*`) mean any.
fn number(what: &str, value: Option<i64>, max: u32) -> Result<Option<u32>, String> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(number) if number <= max => Ok(Some(number)),
            _ => Err(format!("{what} {value} is not in 0..={max}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_written_in_the_kernel_s_order_whatever_order_it_had() {
        assert_eq!("mwr".parse::<Access>().unwrap().to_string(), "rwm");
        assert_eq!("mm".parse::<Access>().unwrap(), Access::MKNOD);
        assert!("".parse::<Access>().is_err());
        assert!("rx".parse::<Access>().is_err());
    }

    #[test]
    fn device_numbers_that_no_device_has_are_refused() {
        assert_eq!(number("minor", Some(-1), MAX_MINOR), Ok(None));
        assert_eq!(number("minor", Some(0xf_ffff), MAX_MINOR), Ok(Some(0xf_ffff)));
        for absurd in [-2, i64::MIN, i64::MAX, 0x10_0000, 1 << 32] {
            assert!(number("minor", Some(absurd), MAX_MINOR).is_err(), "{absurd}");
        }
        assert!(number("major", Some(4096), MAX_MAJOR).unwrap_err().contains("major 4096"));
    }
}
