//! A small synchronous D-Bus client ([specification](https://dbus.freedesktop.org/doc/dbus-specification.html)).
//!
//! What belongs here: the wire format, finding and joining a bus, one call at a time, waiting for
//! a signal. What does not: anything that knows systemd.
//!
//! | file | holds |
//! |---|---|
//! | `value` | what a message carries, and writing it |
//! | `message` | a message: its header, and reading what others sent |
//! | `address` | where a bus listens |
//! | `connection` | the socket: authentication, calls, signals, time limits |
//!
//! Of the crates, zbus needs an async runtime with threads; rustbus (0.19) is synchronous but
//! brings second copies of nix, bitflags, syn and thiserror, and its last release is from before
//! them; libcgroups' client panics on replies it does not expect and has no type for device rules.
//! A driver that makes five calls needs none of what they have beyond this.

mod address;
mod connection;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod message;
mod value;

pub use address::Address;
pub use connection::{Call, Connection, Deadline, Identity};
pub use message::Message;
pub use value::Value;

use std::io;

/// Why talking over D-Bus failed.
#[derive(Debug, thiserror::Error)]
pub enum DbusError {
    /// Nobody listens, or the caller may not connect.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The bus's address.
        address: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An address that is not of a unix socket.
    #[error("no usable D-Bus address in {0:?}: it has no unix:path= or unix:abstract=")]
    Address(String),
    /// Nothing says where the user's bus is.
    #[error(
        "no bus of this user: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set; log in \
         through logind, or start the user's systemd with `loginctl enable-linger`"
    )]
    NoUserBus,
    /// The bus does not believe who the caller is.
    #[error("{address} refuses the caller: {answer}")]
    Refused {
        /// The bus's address.
        address: String,
        /// What it said.
        answer: String,
    },
    /// The connection broke.
    #[error("the D-Bus connection broke: {0}")]
    Broken(#[from] io::Error),
    /// No answer in time.
    #[error("no answer to {0} in time")]
    Timeout(String),
    /// Something that no correct peer sends.
    #[error("the D-Bus peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// The called program answered with an error.
    #[error("{message} ({name})")]
    Answer {
        /// The error's name, such as `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// Its text.
        message: String,
    },
    /// A text with a NUL byte, which D-Bus cannot carry.
    #[error("{0:?} has a NUL byte in it")]
    Nul(String),
    /// A message beyond what D-Bus allows.
    #[error("a message of {0} bytes is too large for D-Bus")]
    TooLarge(usize),
}

impl DbusError {
    /// Whether the peer went away in the middle, as systemd does when it executes itself anew; to
    /// be tried again on a new connection.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::Connect { source, .. } => source.kind() == io::ErrorKind::ConnectionRefused,
            Self::Answer { name, .. } => matches!(
                name.as_str(),
                "org.freedesktop.DBus.Error.NoReply"
                    | "org.freedesktop.DBus.Error.Disconnected"
                    | "org.freedesktop.DBus.Error.NameHasNoOwner"
                    | "org.freedesktop.DBus.Error.ServiceUnknown"
            ),
            _ => false,
        }
    }

    /// Whether it is the answer with this error name.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Answer { name, .. } if name == wanted)
    }
}
