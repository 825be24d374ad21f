//! Where a bus listens (D-Bus specification, "Server addresses").

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;

use super::DbusError;
use crate::peer;

/// A unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In the file system.
    Path(PathBuf),
    /// Linux's names without a file.
    Abstract(Vec<u8>),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

impl Address {
    /// The first unix socket of a list such as `$DBUS_SESSION_BUS_ADDRESS`.
    ///
    /// # Errors
    /// There is none in it.
    pub fn parse(list: &OsStr) -> Result<Self, DbusError> {
        list.as_bytes()
            .split(|byte| *byte == b';')
            .find_map(Self::parse_one)
            .ok_or_else(|| DbusError::Address(list.to_string_lossy().into_owned()))
    }

    fn parse_one(text: &[u8]) -> Option<Self> {
        let keys = text.strip_prefix(b"unix:")?;
        keys.split(|byte| *byte == b',').find_map(|key| {
            if let Some(path) = key.strip_prefix(b"path=") {
                return Some(Self::Path(OsString::from_vec(unescape(path)?).into()));
            }
            key.strip_prefix(b"abstract=").and_then(unescape).map(Self::Abstract)
        })
    }

    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Self::Path(path) => peer::connect(path, None).map(UnixStream::from),
            Self::Abstract(name) => {
                UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
            }
        }
    }
}

/// `%2f` is a byte in hexadecimal.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unix_socket_of_the_list_is_taken() {
        let parse = |text: &str| Address::parse(text.as_ref());
        let path = |text: &str| Address::Path(text.into());
        assert_eq!(parse("unix:path=/run/user/1000/bus").unwrap(), path("/run/user/1000/bus"));
        assert_eq!(parse("tcp:host=x;unix:guid=1,path=/a%20b").unwrap(), path("/a b"));
        assert_eq!(parse("unix:abstract=/tmp/x").unwrap(), Address::Abstract(b"/tmp/x".to_vec()));
        for bad in ["", "tcp:host=x", "unix:", "unix:path=", "unix:path=%4", "unix:path=%+1"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
