//! How a failed system call is worded.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// The reason of a failed system call, in the words that engines look for: `strerror` in lower
/// case and without a number, as `no such file or directory`.
#[derive(Debug)]
pub struct Reason {
    err: io::Error,
    detail: Option<String>,
}

impl Reason {
    /// Whether the kernel's error is `errno`.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        self.err.raw_os_error() == Some(errno.raw_os_error())
    }

    /// `errno` with the kernel's own explanation.
    pub(super) fn explained(errno: Errno, detail: &str) -> Self {
        Self { err: errno.into(), detail: Some(detail.to_owned()) }
    }
}

impl From<io::Error> for Reason {
    fn from(err: io::Error) -> Self {
        Self { err, detail: None }
    }
}

impl From<Errno> for Reason {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.err.to_string();
        if self.err.raw_os_error().is_none() {
            return f.write_str(&text);
        }
        let text = text.split(" (os error").next().unwrap_or(&text);
        let mut letters = text.chars();
        if let Some(first) = letters.next() {
            write!(f, "{}{}", first.to_ascii_lowercase(), letters.as_str())?;
        }
        if self.is(Errno::NOSYS) {
            f.write_str(" (gpurun needs Linux 5.12 or newer)")?;
        }
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_reads_as_engines_expect() {
        assert_eq!(Reason::from(Errno::NOENT).to_string(), "no such file or directory");
    }

    #[test]
    fn a_missing_system_call_names_the_kernel_that_has_it() {
        assert!(Reason::from(Errno::NOSYS).to_string().contains("Linux 5.12"));
    }
}
