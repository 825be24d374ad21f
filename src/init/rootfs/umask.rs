//! Exact modes for what is created.

use rustix::fs::Mode;
use rustix::process::umask;

/// Sets the file mode creation mask to 0 for as long as it lives.
#[derive(Debug)]
pub struct NoUmask(Mode);

impl NoUmask {
    /// Sets the mask to 0.
    pub fn set() -> Self {
        Self(umask(Mode::empty()))
    }
}

impl Drop for NoUmask {
    fn drop(&mut self) {
        umask(self.0);
    }
}
