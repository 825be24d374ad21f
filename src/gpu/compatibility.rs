//! CUDA forward compatibility: whether an image's own, newer libcuda takes the place of the
//! host's driver library.
//!
//! Such a libcuda says in an ELF note with which drivers it works. Without the note, it works
//! with older drivers than itself.

use serde::Deserialize;

use crate::gpu::plan::Compatibility;

/// Where CUDA images keep these libraries.
pub const DIRECTORY: &str = "/usr/local/cuda/compat";

/// The section with the note.
pub const SECTION: &[u8] = b".note.cuda.fwd_compatibility";

/// The section holds a short JSON text.
pub const LONGEST_NOTE: usize = 64 * 1024;

/// The note's owner.
pub const OWNER: &[u8] = b"NVIDIA Corporation";

/// What the note says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Note {
    /// The version of CUDA that the library is of.
    #[serde(rename = "CUDA Version", default)]
    cuda: String,
    /// The major versions of the drivers that it works with.
    #[serde(rename = "Driver", default)]
    drivers: Vec<u32>,
}

impl Note {
    /// Reads the note in the content of the section of that name.
    #[must_use]
    pub fn from_section(content: &[u8]) -> Option<Self> {
        descriptor(content).and_then(Self::parse)
    }

    /// The version of CUDA that the library is of; empty when it does not say.
    #[must_use]
    pub fn cuda(&self) -> &str {
        &self.cuda
    }

    /// Reads the note's descriptor; `None` when it is not what such a note holds.
    #[must_use]
    pub fn parse(descriptor: &[u8]) -> Option<Self> {
        let end = descriptor.iter().position(|byte| *byte == 0).unwrap_or(descriptor.len());
        serde_json::from_slice(descriptor.get(..end)?).ok()
    }
}

/// The descriptor of the first note (elf(5), "Notes"), if the driver's maker owns it.
fn descriptor(note: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = note.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let (name, descriptor) = (word(0)?, word(4)?);
    let begin = 12_usize;
    let owner = note.get(begin..begin.checked_add(name)?)?;
    let start = begin.checked_add(name.checked_next_multiple_of(4)?)?;
    (owner.strip_suffix(b"\0").unwrap_or(owner) == OWNER)
        .then(|| note.get(start..start.checked_add(descriptor)?))
        .flatten()
}

/// Whether the image's libcuda, whose file is called `libcuda.so.<version>`, is to be used.
#[must_use]
pub fn is_wanted(asked: &Compatibility, version: &str, note: Option<&Note>) -> bool {
    let driver = asked.host_driver.as_deref().map(numbers);
    let cuda = asked.host_cuda.as_deref().map(numbers);
    let Some(image) = numbers(version) else {
        return false;
    };
    match (note, driver, cuda) {
        (Some(note), Some(Some(host)), _) => {
            let major = host.first().copied().unwrap_or_default();
            note.drivers.contains(&major) && is_newer(&image, &host)
        }
        (Some(note), None, Some(Some(host))) => {
            numbers(&note.cuda).is_some_and(|cuda| is_newer(&cuda, &host))
        }
        // It can only be compared with a driver.
        (None, _, Some(_)) => false,
        (None, Some(Some(host)), None) => host.first() < image.first(),
        _ => false,
    }
}

/// The numbers of a dotted version.
fn numbers(version: &str) -> Option<Vec<u32>> {
    let parts = version.split('.').map(|part| part.parse().ok());
    parts.collect()
}

/// Compared number by number; what is missing counts as 0.
fn is_newer(a: &[u32], b: &[u32]) -> bool {
    let at = |list: &[u32], index| list.get(index).copied().unwrap_or(0);
    (0..a.len().max(b.len())).map(|i| at(a, i).cmp(&at(b, i))).find(|order| order.is_ne())
        == Some(std::cmp::Ordering::Greater)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(driver: Option<&str>, cuda: Option<&str>) -> Compatibility {
        Compatibility {
            directory: DIRECTORY.into(),
            host_driver: driver.map(str::to_owned),
            host_cuda: cuda.map(str::to_owned),
        }
    }

    #[test]
    fn without_a_note_a_newer_major_is_used() {
        let on = |host| asked(Some(host), None);
        assert!(is_wanted(&on("535.104.05"), "550.54.15", None));
        assert!(!is_wanted(&on("550.54.14"), "550.54.15", None));
        assert!(!is_wanted(&on("560.1"), "550.54.15", None));
        assert!(!is_wanted(&on("unknown"), "550.54.15", None));
        assert!(!is_wanted(&on("535.104.05"), "new", None));
        assert!(!is_wanted(&asked(Some("535.1"), Some("12.2")), "550.54.15", None));
        assert!(!is_wanted(&asked(None, None), "550.54.15", None));
    }

    #[test]
    fn a_note_names_the_drivers_and_the_library_must_be_newer() {
        let note = Note::parse(
            br#"{"Format": 1, "CUDA Version": "12.4", "Driver": [535, 550], "Device": [1]}"#,
        );
        let wanted = |host: &str| is_wanted(&asked(Some(host), None), "550.54.15", note.as_ref());
        assert!(wanted("535.104.05"));
        assert!(wanted("550.54"));
        assert!(!wanted("550.54.15"));
        assert!(!wanted("470.82.01"));
        let cuda = |host| is_wanted(&asked(None, Some(host)), "550.54.15", note.as_ref());
        assert!(cuda("12.2") && !cuda("12.4") && !cuda("13"));
    }

    #[test]
    fn a_descriptor_that_is_not_json_is_no_note() {
        for bytes in [&b""[..], b"\0", b"{", b"{\"Driver\": [-1]}", b"\xff"] {
            assert_eq!(Note::parse(bytes), None);
        }
        assert!(Note::parse(b"{\"Driver\": [535]}\0\0\0").is_some());
    }
}
