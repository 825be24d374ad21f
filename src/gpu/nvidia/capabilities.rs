//! NVIDIA's driver capabilities: which part of the driver a container gets.

/// A set of driver capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u8);

const NAMES: [(&str, Capabilities); 7] = [
    ("compute", Capabilities::COMPUTE),
    ("compat32", Capabilities::COMPAT32),
    ("graphics", Capabilities::GRAPHICS),
    ("utility", Capabilities::UTILITY),
    ("video", Capabilities::VIDEO),
    ("display", Capabilities::DISPLAY),
    ("ngx", Capabilities::NGX),
];

/// The words that can be written, for messages.
pub const KNOWN: &str = "compute, compat32, graphics, utility, video, display, ngx, all, none";

impl Capabilities {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// CUDA and OpenCL.
    pub const COMPUTE: Self = Self(1);
    /// 32-bit libraries.
    pub const COMPAT32: Self = Self(2);
    /// OpenGL, Vulkan and EGL.
    pub const GRAPHICS: Self = Self(4);
    /// nvidia-smi and NVML.
    pub const UTILITY: Self = Self(8);
    /// Video encoding and decoding.
    pub const VIDEO: Self = Self(16);
    /// X11.
    pub const DISPLAY: Self = Self(32);
    /// NGX.
    pub const NGX: Self = Self(64);
    /// Every capability.
    pub const ALL: Self = Self(127);
    /// What a container gets that does not say.
    pub const DEFAULT: Self = Self::UTILITY.or(Self::COMPUTE);

    /// The union.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of `other` is in the set.
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What is in this set and not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Reads a comma-separated list. The error is the word that is none of [`KNOWN`].
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut set = Self::NONE;
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            set = set.or(match word {
                "all" => Self::ALL,
                "none" => Self::NONE,
                _ => match NAMES.iter().find(|(name, _)| *name == word) {
                    Some((_, one)) => *one,
                    None => return Err(word.to_owned()),
                },
            });
        }
        Ok(set)
    }

    /// The names of what is in the set.
    pub fn names(self) -> Vec<&'static str> {
        NAMES.iter().filter(|(_, one)| self.any(*one)).map(|(name, _)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_word_is_read_and_others_are_named() {
        assert_eq!(Capabilities::parse("utility, compute,"), Ok(Capabilities::DEFAULT));
        assert_eq!(Capabilities::parse("video,all"), Ok(Capabilities::ALL));
        assert_eq!(Capabilities::parse("none"), Ok(Capabilities::NONE));
        assert_eq!(Capabilities::parse("compute,gaming"), Err("gaming".to_owned()));
        assert_eq!(Capabilities::ALL.names().len(), NAMES.len());
        for word in KNOWN.split(", ") {
            assert!(Capabilities::parse(word).is_ok(), "{word}");
        }
    }
}
