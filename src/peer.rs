//! The program at the other end of a unix socket, which may hang: whoever waits for it holds a
//! container's lock or keeps an engine waiting.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::sys;

/// How long a peer may take to accept a connection, or a message.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often is looked whether the process still lives that this is done for.
const GLANCE: Duration = Duration::from_millis(100);

/// Connects to the socket at `path`. Waits while as many connections as the peer wants wait to be
/// accepted, for [`PATIENCE`] and as long as the process behind `client` lives, if one is given. To
/// send on the connection can fail with `EAGAIN`, for [`patiently`].
///
/// # Errors
/// `ENOENT`, `ECONNREFUSED`, `EACCES` and the like; those of [`patiently`].
pub fn connect(path: &Path, client: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let socket = sys::net::unix_socket(GLANCE)?;
    patiently(client, || sys::net::connect_unix(&socket, path))?;
    Ok(socket)
}

/// Does it again as long as it fails with `EAGAIN`, which must take its time to do so.
///
/// # Errors
/// The peer has not been ready within [`PATIENCE`], or the process behind `client` has ended.
pub fn patiently<T>(
    client: Option<BorrowedFd<'_>>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().map_err(|error| (Errno::from_io_error(&error), error)) {
            Err((Some(Errno::INTR), _)) => {}
            Err((Some(Errno::AGAIN), _)) if client.is_some_and(has_ended) => {
                return Err(io::Error::other(
                    "the process that it is for has ended meanwhile: was it killed?",
                ));
            }
            Err((Some(Errno::AGAIN), _)) if Instant::now() < deadline => {}
            Err((Some(Errno::AGAIN), _)) => {
                return Err(io::Error::other(format!(
                    "nobody takes what comes there within {} s: does the program hang that \
                     listens there?",
                    PATIENCE.as_secs()
                )));
            }
            done => return done.map_err(|(_, error)| error),
        }
    }
}

fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_peer_that_accepts_late_is_waited_for_and_one_that_nobody_needs_any_more_is_not() {
        let dir = std::env::temp_dir().join(format!("gpurun-peer-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("directory");
        let path = dir.join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        rustix::net::listen(&listener, 0).expect("a short queue");
        let waiting = UnixStream::connect(&path).expect("room for one");

        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        let pidfd = pidfd.expect("a descriptor");
        let error = connect(&path, Some(pidfd.as_fd())).expect_err("nobody accepts");
        assert!(error.to_string().contains("has ended meanwhile"), "{error}");
        child.wait().expect("reaped");

        let begin = Instant::now();
        let late = std::thread::spawn(move || {
            std::thread::sleep(3 * GLANCE);
            listener.accept().map(|_| listener)
        });
        connect(&path, None).expect("accepted in the end");
        assert!(begin.elapsed() >= 3 * GLANCE && begin.elapsed() < PATIENCE);
        drop((waiting, late.join()));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
