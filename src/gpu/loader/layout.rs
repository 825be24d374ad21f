//! Where an image's distribution keeps its libraries.

use std::path::Path;

use crate::gpu::plan::Abi;

/// What is at a path of the image; the last component is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Anything else.
    Other,
}

/// A way to arrange library directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Debian and what comes from it: `/usr/lib/<triplet>`. With and without merged `/usr`.
    Debian,
    /// `/usr/lib64` for 64-bit and `/usr/lib` for 32-bit libraries: Fedora, RHEL, SUSE, Amazon
    /// Linux, and images that show no layout at all.
    Lib64,
    /// Everything in `/usr/lib`, with `lib64` a link to it: Arch.
    Flat,
    /// musl: everything in `/usr/lib`.
    Musl,
}

/// The Debian triplet of this machine's own ABI.
#[cfg(target_arch = "aarch64")]
const TRIPLET: &str = "aarch64-linux-gnu";
/// The Debian triplet of this machine's own ABI.
#[cfg(not(target_arch = "aarch64"))]
const TRIPLET: &str = "x86_64-linux-gnu";

/// The directory of native libraries under [`Layout::Debian`].
#[cfg(target_arch = "aarch64")]
const MULTIARCH: &str = "/usr/lib/aarch64-linux-gnu";
/// The directory of native libraries under [`Layout::Debian`].
#[cfg(not(target_arch = "aarch64"))]
const MULTIARCH: &str = "/usr/lib/x86_64-linux-gnu";

impl Layout {
    /// Decides from what `look` sees in the image.
    pub fn decide(mut look: impl FnMut(&str) -> Seen) -> Self {
        // Debian may have musl installed beside glibc, so this comes first.
        if look("/etc/debian_version") != Seen::Nothing || look(MULTIARCH) == Seen::Directory {
            return Self::Debian;
        }
        if look(&format!("/lib/ld-musl-{}.so.1", std::env::consts::ARCH)) != Seen::Nothing {
            return Self::Musl;
        }
        match look("/usr/lib64") {
            Seen::Link => Self::Flat,
            _ => Self::Lib64,
        }
    }

    /// The directory for libraries of this ABI.
    #[must_use]
    pub fn library_dir(self, abi: Abi) -> &'static Path {
        Path::new(match (self, abi) {
            (Self::Debian, Abi::Native) => MULTIARCH,
            (Self::Debian, Abi::I386) => "/usr/lib/i386-linux-gnu",
            (Self::Lib64, Abi::Native) => "/usr/lib64",
            (Self::Lib64, Abi::I386) | (Self::Flat | Self::Musl, Abi::Native) => "/usr/lib",
            (Self::Flat | Self::Musl, Abi::I386) => "/usr/lib32",
        })
    }

    /// Whether the image's loader and ldconfig look into `dir` without being told.
    #[must_use]
    pub fn is_built_in(self, dir: &Path) -> bool {
        let Some(dir) = dir.to_str() else {
            return false;
        };
        let dir = dir.strip_prefix("/usr").unwrap_or(dir);
        match self {
            Self::Debian => dir == "/lib" || dir.strip_prefix("/lib/") == Some(TRIPLET),
            Self::Lib64 | Self::Flat => dir == "/lib" || dir == "/lib64",
            Self::Musl => dir == "/lib" || dir == "/local/lib",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(image: &[(&str, Seen)]) -> Layout {
        Layout::decide(|path| {
            image.iter().find(|(name, _)| *name == path).map_or(Seen::Nothing, |(_, seen)| *seen)
        })
    }

    #[test]
    fn each_family_of_distributions_is_recognised() {
        assert_eq!(decide(&[("/etc/debian_version", Seen::Other)]), Layout::Debian);
        assert_eq!(decide(&[(MULTIARCH, Seen::Directory)]), Layout::Debian);
        assert_eq!(decide(&[("/usr/lib64", Seen::Directory)]), Layout::Lib64);
        assert_eq!(decide(&[("/usr/lib64", Seen::Link)]), Layout::Flat);
        let musl = format!("/lib/ld-musl-{}.so.1", std::env::consts::ARCH);
        assert_eq!(decide(&[(&musl, Seen::Other)]), Layout::Musl);
        assert_eq!(decide(&[(&musl, Seen::Other), (MULTIARCH, Seen::Directory)]), Layout::Debian);
        assert_eq!(decide(&[]), Layout::Lib64);
    }

    #[test]
    fn the_native_directory_is_always_one_that_the_loader_searches() {
        for layout in [Layout::Debian, Layout::Lib64, Layout::Flat, Layout::Musl] {
            assert!(layout.is_built_in(layout.library_dir(Abi::Native)), "{layout:?}");
        }
        assert!(!Layout::Debian.is_built_in(Layout::Debian.library_dir(Abi::I386)));
        assert!(!Layout::Debian.is_built_in(Path::new("/usr/lib64")));
        assert!(!Layout::Lib64.is_built_in(Path::new("/usr/lib/wsl/lib")));
    }
}
