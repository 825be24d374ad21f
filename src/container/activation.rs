//! Socket activation: descriptors that systemd (or podman, for a unit with a socket) has opened
//! for the container ([sd_listen_fds(3)](https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html)).
//!
//! They are descriptors 3 and up of whoever starts the runtime, which is told so in its
//! environment; the container's program gets them at the same numbers and is told the same.

use std::ffi::OsStr;

/// More than any service has sockets; a number that is absurd would only be told on.
const MOST: u32 = 1 << 16;

/// Descriptors for the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activation {
    /// How many, from 3 on.
    pub count: u32,
    /// Their names, separated by colons, where they have any.
    names: Option<String>,
}

impl Activation {
    /// What the environment of this process says, if it means this process.
    #[must_use]
    pub fn from_environment() -> Self {
        let get = |name: &str| std::env::var_os(name);
        Self::parse(
            std::process::id(),
            get("LISTEN_PID").as_deref(),
            get("LISTEN_FDS").as_deref(),
            get("LISTEN_FDNAMES").as_deref(),
        )
    }

    pub(crate) fn parse(
        own: u32,
        pid: Option<&OsStr>,
        count: Option<&OsStr>,
        names: Option<&OsStr>,
    ) -> Self {
        let number = |text: Option<&OsStr>| text?.to_str()?.parse::<u32>().ok();
        match number(count).filter(|count| (1..=MOST).contains(count)) {
            Some(count) if number(pid) == Some(own) => {
                Self { count, names: names.and_then(OsStr::to_str).map(str::to_owned) }
            }
            _ => Self::default(),
        }
    }

    /// What the container's program finds in its environment. It is process 1 of its pid namespace.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        if self.count == 0 {
            return Vec::new();
        }
        let mut all = vec![("LISTEN_FDS", self.count.to_string()), ("LISTEN_PID", "1".to_owned())];
        all.extend(self.names.clone().map(|names| ("LISTEN_FDNAMES", names)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process_is_passed_on() {
        let parse = |pid: &str, count: &str| {
            Activation::parse(7, Some(pid.as_ref()), Some(count.as_ref()), Some("a:b".as_ref()))
        };
        let told = parse("7", "2").environment();
        let told: Vec<_> = told.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(told, ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b"]);
        for (pid, count) in [("8", "2"), ("", "2"), ("7", "0"), ("7", "-1"), ("7", "99999999")] {
            assert_eq!(parse(pid, count), Activation::default(), "{pid} {count}");
        }
        assert_eq!(Activation::parse(7, None, None, None), Activation::default());
    }
}
