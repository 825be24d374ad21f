//! `/proc/driver/nvidia/params`, whose `ModifyDeviceFiles: 1` makes the driver's libraries create
//! nodes for GPUs that the container did not ask for.

use super::error::Error;
use crate::gpu::plan::Mask;
use crate::host::Host;

/// The file, below proc.
const FILE: &str = "driver/nvidia/params";
/// The file in a container.
pub const DESTINATION: &str = "/proc/driver/nvidia/params";
const KEY: &str = "ModifyDeviceFiles:";

/// The file as the container shall read it; `None` when it says so already or does not exist.
pub fn mask(host: &Host) -> Result<Option<Mask>, Error> {
    let Some(text) = host.proc.read_text(FILE, 64 * 1024)? else {
        return Ok(None);
    };
    Ok(without_modification(&text).map(|content| Mask {
        destination: DESTINATION.into(),
        content,
        why: "the driver's libraries must not create device nodes".to_owned(),
    }))
}

pub(super) fn without_modification(text: &str) -> Option<String> {
    let is_on = |line: &str| line.trim_start().strip_prefix(KEY).is_some_and(|v| v.trim() == "1");
    if !text.lines().any(is_on) {
        return None;
    }
    let mut content = String::with_capacity(text.len());
    for line in text.lines() {
        if is_on(line) {
            content.push_str(KEY);
            content.push_str(" 0");
        } else {
            content.push_str(line);
        }
        content.push('\n');
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_allows_modification_is_masked_and_only_that_line_changes() {
        let text = "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileMode: 438\n";
        let masked = "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 0\nDeviceFileMode: 438\n";
        assert_eq!(without_modification(text).as_deref(), Some(masked));
        assert_eq!(without_modification(masked), None);
        assert_eq!(without_modification(""), None);
    }
}
