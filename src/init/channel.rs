//! The line between the parent (host side) and the init it has forked.
//!
//! A `SOCK_SEQPACKET` pair, so that a message arrives whole or not at all and the death of either
//! side is an end of file. Both sides are the same program image: a message is one letter and,
//! where needed, a few bytes; nothing is serialised.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use crate::log::shortened;

/// The longest text of an error that crosses the line.
const MAX_TEXT: usize = 3000;

/// What the init says.
#[derive(Debug)]
pub enum FromInit {
    /// The process that will be the init, where an intermediate process had to make it.
    Pid(i32),
    /// The namespaces are there: time for the host's interfaces that move into the network.
    MoveNetDevices,
    /// The mounts are there, the root is not yet changed: time for prestart and createRuntime.
    RunHooks,
    /// The init's descriptor of a seccomp listener, to fetch and hand on.
    SeccompListener(RawFd),
    /// About to become the program's user: time for its resource limits.
    SetLimits,
    /// Everything is done; waiting for [`FromParent::Commit`].
    Ready,
    /// A step failed; the init exits.
    Failed(String),
}

/// What the parent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromParent {
    /// Id maps are written and the cgroup is joined.
    Go,
    /// What was asked for is done.
    Done,
    /// The container exists; the init outlives its parent from here on.
    Commit,
}

/// One end of the line.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Channel {
    /// Both ends, closed on exec: the parent sees the exec as an end of file.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends a message of the init.
    ///
    /// # Errors
    /// `EPIPE` when the parent is gone.
    pub fn report(&self, message: &FromInit) -> io::Result<()> {
        match message {
            FromInit::Pid(pid) => self.write(&numbered(b'P', *pid)),
            FromInit::MoveNetDevices => self.write(b"N"),
            FromInit::RunHooks => self.write(b"H"),
            FromInit::SetLimits => self.write(b"M"),
            FromInit::Ready => self.write(b"R"),
            FromInit::Failed(text) => {
                self.write(&[b"E", shortened(text, MAX_TEXT).as_bytes()].concat())
            }
            // A number, not the descriptor: the new filter may hold back sendmsg(2) until its
            // agent answers, and the agent is who the descriptor is for. write(2) it cannot.
            FromInit::SeccompListener(fd) => self.write(&numbered(b'L', *fd)),
        }
    }

    /// Waits for a message of the init. `None`: it ended, or has exec'd.
    ///
    /// # Errors
    /// `EPROTO` for what no init of this program sends.
    pub fn next(&self) -> io::Result<Option<FromInit>> {
        let mut bytes = [0u8; MAX_TEXT + 1];
        let received = loop {
            match rustix::io::read(&self.0, &mut bytes) {
                Err(Errno::INTR) => {}
                // The init was killed with unread messages of ours in its queue.
                Err(Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let protocol = || io::Error::from_raw_os_error(libc::EPROTO);
        let number = |rest: &[u8]| rest.try_into().map(i32::from_ne_bytes).map_err(|_| protocol());
        let Some((letter, rest)) = bytes[..received].split_first() else { return Ok(None) };
        Ok(Some(match letter {
            b'P' => FromInit::Pid(number(rest)?),
            b'N' => FromInit::MoveNetDevices,
            b'H' => FromInit::RunHooks,
            b'M' => FromInit::SetLimits,
            b'R' => FromInit::Ready,
            b'E' => FromInit::Failed(String::from_utf8_lossy(rest).into_owned()),
            b'L' => FromInit::SeccompListener(number(rest)?),
            _ => return Err(protocol()),
        }))
    }

    /// Sends a message of the parent.
    ///
    /// # Errors
    /// `EPIPE` when the init is gone.
    pub fn tell(&self, message: FromParent) -> io::Result<()> {
        self.write(match message {
            FromParent::Go => b"G",
            FromParent::Done => b"D",
            FromParent::Commit => b"C",
        })
    }

    /// Waits for exactly this message of the parent.
    ///
    /// # Errors
    /// `EPIPE` when the parent is gone: the container is not to be.
    pub fn wait_for(&self, expected: FromParent) -> io::Result<()> {
        let mut byte = [0u8; 1];
        let received = loop {
            match rustix::io::read(&self.0, &mut byte) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        let letter = match expected {
            FromParent::Go => b'G',
            FromParent::Done => b'D',
            FromParent::Commit => b'C',
        };
        match received {
            0 => Err(io::Error::from_raw_os_error(libc::EPIPE)),
            _ if byte[0] == letter => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EPROTO)),
        }
    }

    /// Plain write(2), which every seccomp profile allows; SIGPIPE is ignored by the Rust
    /// runtime until just before exec.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.0, bytes)?;
        Ok(())
    }
}

/// A message with a number.
fn numbered(letter: u8, number: i32) -> [u8; 5] {
    let mut bytes = [letter; 5];
    bytes[1..].copy_from_slice(&number.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_any_length_arrives_with_its_end() {
        let (ours, theirs) = Channel::pair().expect("pair");
        for size in [0, 1, MAX_TEXT, MAX_TEXT + 1, 100_000] {
            let text = format!("{}the reason", "é".repeat(size / 2));
            theirs.report(&FromInit::Failed(text.clone())).expect("sent");
            match ours.next().expect("received") {
                Some(FromInit::Failed(arrived)) => {
                    assert!(arrived.len() <= MAX_TEXT && arrived.ends_with("the reason"));
                    assert!(text.len() > MAX_TEXT || arrived == text);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
