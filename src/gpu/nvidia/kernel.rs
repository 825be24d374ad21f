//! What the loaded kernel modules say of themselves: version and device numbers.

use super::error::Error;
use super::trouble;
use crate::host::Host;

/// The version file, below proc.
pub const VERSION_FILE: &str = "driver/nvidia/version";

/// Text files of the kernel are never larger.
const LIMIT: usize = 64 * 1024;

/// Major numbers, `None` where the module is not loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Majors {
    /// GPUs, nvidiactl and nvidia-modeset.
    pub nvidia: Option<u32>,
    /// nvidia-uvm and nvidia-uvm-tools; dynamic, another one after each boot.
    pub uvm: Option<u32>,
}

/// The module's own words about its version; `None` where no module is loaded.
pub fn loaded(host: &Host) -> Result<Option<String>, Error> {
    Ok(host.proc.read_text(VERSION_FILE, LIMIT)?)
}

/// The version of the loaded module, such as `535.104.05`: digits and dots only.
pub fn version(host: &Host) -> Result<String, Error> {
    version_in(loaded(host)?, host)
}

/// [`version`] in what [`loaded`] has given.
pub fn version_in(loaded: Option<String>, host: &Host) -> Result<String, Error> {
    let Some(text) = loaded else {
        return Err(trouble::no_driver(host)?);
    };
    parse_version(&text).map(str::to_owned).ok_or_else(|| Error::NoVersion {
        path: host.proc.at(VERSION_FILE),
        content: text.lines().next().unwrap_or("").chars().take(120).collect(),
    })
}

/// Whether the loaded module is the open one, which cannot do without the GPU's own firmware.
pub fn is_open(host: &Host) -> bool {
    let text = host.proc.read_text(VERSION_FILE, LIMIT).ok().flatten();
    text.is_some_and(|text| text.contains("Open Kernel Module"))
}

/// The device numbers of the loaded modules.
pub fn majors(host: &Host) -> Result<Majors, Error> {
    let text = host.proc.read_text("devices", LIMIT)?.unwrap_or_default();
    Ok(parse_majors(&text))
}

/// Finds the version in the `NVRM version:` line of the proprietary and of the open module.
pub(super) fn parse_version(text: &str) -> Option<&str> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("NVRM version:"))?;
    line.split_whitespace().find(|word| is_version(word))
}

/// Two to four numbers with dots between them.
pub fn is_version(word: &str) -> bool {
    let parts = word.split('.').count();
    (2..=4).contains(&parts)
        && word.len() <= 32
        && word
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn parse_majors(text: &str) -> Majors {
    let mut majors = Majors::default();
    let characters = text
        .lines()
        .skip_while(|line| !line.starts_with("Character devices"))
        .take_while(|line| !line.starts_with("Block devices"));
    for line in characters {
        let mut words = line.split_whitespace();
        let (Some(number), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match name {
            // Up to 550 the one name, later the others.
            "nvidia" | "nvidia-frontend" | "nvidiactl" => majors.nvidia = Some(number),
            "nvidia-uvm" => majors.uvm = Some(number),
            _ => {}
        }
    }
    majors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_line_of_every_kind_of_module_is_understood() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 \
                      01:15:15 UTC 2023\nGCC version:  gcc version 11.4.0\n";
        assert_eq!(parse_version(closed), Some("535.104.05"));
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release \
                    Build  (dvs-builder@U16)  Thu Feb 22 01:25:25 UTC 2024\n";
        assert_eq!(parse_version(open), Some("550.54.14"));
        let arm = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.65  Release\n";
        assert_eq!(parse_version(arm), Some("580.65"));
    }

    #[test]
    fn garbage_is_no_version() {
        for text in ["", "GCC version: 11.4.0", "NVRM version: x", "NVRM version: ../1.2", "\u{0}"]
        {
            assert_eq!(parse_version(text), None, "{text:?}");
        }
        assert!(!is_version("535") && !is_version("535..1") && !is_version("1.2.3.4.5"));
    }

    #[test]
    fn majors_of_old_and_new_drivers_are_read_and_blocks_are_not() {
        let old = "Character devices:\n  1 mem\n195 nvidia-frontend\n511 nvidia-uvm\n\n\
                   Block devices:\n  8 nvidia\n";
        assert_eq!(parse_majors(old), Majors { nvidia: Some(195), uvm: Some(511) });
        let new = "Character devices:\n195 nvidia\n195 nvidia-modeset\n195 nvidiactl\nx y\n9";
        assert_eq!(parse_majors(new), Majors { nvidia: Some(195), uvm: None });
        assert_eq!(parse_majors("Block devices:\n8 nvidia\n"), Majors::default());
    }
}
