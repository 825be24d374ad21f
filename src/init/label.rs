//! `linux.mountLabel`: the SELinux label of everything in a filesystem that the runtime makes.
//!
//! Without it such a filesystem has a label of its type (`tmpfs_t`), which a confined container may
//! not use. What is bound from the host keeps the label that it has there.

/// The mount parameter for a label. `None`: there is no label.
#[must_use]
pub fn parameter(label: Option<&str>) -> Option<(&'static str, &str)> {
    label.filter(|label| !label.is_empty()).map(|label| ("context", label))
}

/// The same as one option, `context=…`.
#[must_use]
pub fn option(label: Option<&str>) -> Option<String> {
    parameter(label).map(|(name, label)| format!("{name}={label}"))
}

/// Whether this kernel knows such labels; one that does not refuses the parameter.
#[cfg(test)]
pub(super) fn are_known() -> bool {
    std::path::Path::new("/sys/fs/selinux/enforce").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_label_is_one() {
        assert_eq!((parameter(None), option(Some(""))), (None, None));
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        let expected = "context=system_u:object_r:container_file_t:s0:c1,c2";
        assert_eq!(option(Some(label)).as_deref(), Some(expected));
    }
}
