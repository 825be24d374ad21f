//! Container ids.

use std::fmt;

/// The longest id: a state directory of this name must exist.
const MAX_LEN: usize = 255;

/// A checked container id: it names a directory and a cgroup, so it can hold no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerId(String);

/// An id that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("container id cannot be empty")]
    Empty,
    /// Longer than a file name may be.
    #[error("invalid container id: {0} bytes long, at most {MAX_LEN} are possible")]
    TooLong(usize),
    /// Other characters than runc allows.
    #[error(
        "invalid container ID format: {0:?}: use letters, digits, '_', '+', '-' and '.', \
         and neither '.' nor '..'"
    )]
    Format(String),
}

impl ContainerId {
    /// Checks `id` as runc does.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(id: &str) -> Result<Self, IdError> {
        if id.is_empty() {
            return Err(IdError::Empty);
        }
        if id.len() > MAX_LEN {
            return Err(IdError::TooLong(id.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if id == "." || id == ".." || !id.chars().all(allowed) {
            return Err(IdError::Format(id.to_owned()));
        }
        Ok(Self(id.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_paths_or_too_long_are_refused() {
        for bad in ["", ".", "..", "a/b", "/a", "a b", "a\0b", "é", &"x".repeat(5000)] {
            assert!(ContainerId::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "0", "web-1.2_x+y", &"x".repeat(255)] {
            assert!(ContainerId::parse(good).is_ok(), "{good:?}");
        }
    }
}
