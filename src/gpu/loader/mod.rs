//! The files by which a dynamic loader finds libraries, as data.
//!
//! Here belongs: where an image's distribution keeps libraries ([`layout`]), glibc's
//! `/etc/ld.so.cache` ([`cache`]) and `/etc/ld.so.conf` ([`conf`]), and musl's path file
//! ([`musl`]). Everything is bytes in, bytes out; what is read comes from an image and is hostile.
//! Here does not belong: opening, writing or mounting anything; that is `crate::init::gpu`.

pub mod cache;
pub mod conf;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod layout;
pub mod mounted;
pub mod musl;

/// The largest file of a loader that is read from an image: 4 MiB. A cache of 10 000 libraries
/// has less than 1 MiB.
pub const READ_LIMIT: u64 = 4 << 20;
