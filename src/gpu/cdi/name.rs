//! `vendor/class=device`, the name of a device.

use std::fmt;

/// A name that is not `vendor/class=device`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a CDI device name (vendor/class=device): {reason}")]
pub struct InvalidName {
    /// The name as given.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A fully qualified device name. Ordered by its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// `vendor/class`.
    pub kind: String,
    /// The device's name within its kind.
    pub device: String,
}

impl QualifiedName {
    /// Reads a name.
    ///
    /// # Errors
    /// A part is missing or has characters that such a part cannot have.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let invalid = |reason: String| InvalidName { name: name.to_owned(), reason };
        let (kind, device) =
            name.split_once('=').ok_or_else(|| invalid("there is no \"=\"".to_owned()))?;
        check_kind(kind).map_err(invalid)?;
        check_device(device).map_err(invalid)?;
        Ok(Self { kind: kind.to_owned(), device: device.to_owned() })
    }

    /// Whether the text is a fully qualified name.
    #[must_use]
    pub fn is_qualified(name: &str) -> bool {
        Self::parse(name).is_ok()
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

/// Checks `vendor/class`: split at the first slash, each part a letter, then letters, digits,
/// `_`, `-` and `.`, ending in a letter or digit. Returns what is wrong.
///
/// # Errors
/// What is wrong, in words.
pub fn check_kind(kind: &str) -> Result<(), String> {
    let Some((vendor, class)) = kind.split_once('/') else {
        return Err(format!("kind {kind:?} has no \"/\" between vendor and class"));
    };
    for (what, part) in [("vendor", vendor), ("class", class)] {
        if !part.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(format!("{what} {part:?} does not begin with a letter"));
        }
        check_rest(what, part, &['_', '-', '.'])?;
    }
    Ok(())
}

/// Checks a device's name: a letter or digit, then also `_`, `-`, `.` and `:`, ending in a letter
/// or digit.
///
/// # Errors
/// What is wrong, in words.
pub fn check_device(device: &str) -> Result<(), String> {
    if !device.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err(format!("device {device:?} does not begin with a letter or digit"));
    }
    check_rest("device", device, &['_', '-', '.', ':'])
}

fn check_rest(what: &str, part: &str, also: &[char]) -> Result<(), String> {
    if let Some(bad) = part.chars().find(|c| !c.is_ascii_alphanumeric() && !also.contains(c)) {
        return Err(format!("{what} {part:?} has the character {bad:?}"));
    }
    match part.ends_with(|last: char| last.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err(format!("{what} {part:?} does not end in a letter or digit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_are_taken_apart() {
        for (text, kind, device) in [
            ("nvidia.com/gpu=0", "nvidia.com/gpu", "0"),
            ("nvidia.com/gpu=0:1", "nvidia.com/gpu", "0:1"),
            ("amd.com/gpu=all", "amd.com/gpu", "all"),
            ("v/c.d_e-f=GPU-1.2_3", "v/c.d_e-f", "GPU-1.2_3"),
        ] {
            let name = QualifiedName::parse(text).unwrap();
            assert_eq!((name.kind.as_str(), name.device.as_str()), (kind, device));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        for (text, reason) in [
            ("0", "there is no \"=\""),
            ("", "there is no \"=\""),
            ("gpu=0", "has no \"/\""),
            ("/gpu=0", "vendor \"\" does not begin with a letter"),
            ("1v/gpu=0", "vendor \"1v\" does not begin with a letter"),
            ("v/=0", "class \"\" does not begin with a letter"),
            ("a/b/c=d", "class \"b/c\" has the character '/'"),
            ("v./c=0", "does not end in a letter or digit"),
            ("v/c=", "device \"\" does not begin"),
            ("v/c=-1", "does not begin with a letter or digit"),
            ("v/c=0:", "does not end in a letter or digit"),
            ("v/c=a=b", "has the character '='"),
            ("v/c=a b", "has the character ' '"),
            ("v/c=../x", "does not begin"),
            ("v/c=\u{e9}", "does not begin"),
        ] {
            let error = QualifiedName::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
