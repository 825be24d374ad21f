//! Parts of names that nobody knows beforehand.

use std::io;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Sixteen hexadecimal digits from the kernel's random numbers: who could tell a name before it is
/// taken could take it first, or put a link in its way.
///
/// # Errors
/// Of getrandom(2); it waits where the kernel has no random numbers yet.
pub fn part() -> io::Result<String> {
    let mut bytes = [0; 8];
    loop {
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(read) if read == bytes.len() => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
