//! Pseudo-terminals: the socket over which an engine receives one, and one of our own.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The engine's end of `--console-socket`.
#[derive(Debug)]
pub struct ConsoleSocket(UnixListener);

impl ConsoleSocket {
    /// Listens at `path`.
    pub fn listen(path: &Path) -> ConsoleSocket {
        ConsoleSocket(UnixListener::bind(path).expect("bind the console socket"))
    }

    /// Listens at `path`, where one connection waits to be accepted already and no other finds room.
    pub fn jammed(path: &Path) -> (ConsoleSocket, UnixStream) {
        let socket = ConsoleSocket::listen(path);
        rustix::net::listen(&socket.0, 0).expect("a short queue");
        let first = UnixStream::connect(path).expect("room for one");
        (socket, first)
    }

    /// Accepts one connection.
    pub fn accept(&self) -> UnixStream {
        self.0.accept().expect("accept").0
    }

    /// Accepts one connection and takes the one descriptor from it.
    #[track_caller]
    pub fn receive(&self) -> Terminal {
        readable(&self.0, Duration::from_secs(10)).then_some(()).expect("nobody connected");
        let (stream, _) = self.0.accept().expect("accept");
        let mut name = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .expect("recvmsg");
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        assert_eq!(descriptors.len(), 1, "exactly one descriptor is sent");
        Terminal(File::from(descriptors.remove(0)))
    }
}

/// The master side of a pseudo-terminal.
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// A new pseudo-terminal with a window of this size, and the path of its other side.
    pub fn open(rows: u16, columns: u16) -> (Terminal, String) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let terminal = Terminal(File::from(master));
        terminal.resize(rows, columns);
        (terminal, name.into_string().expect("UTF-8 path"))
    }

    /// Changes the window size; the foreground process group gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size =
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.0, size).expect("set the window size");
    }

    /// Rows and columns of the window.
    pub fn size(&self) -> (u16, u16) {
        let size = rustix::termios::tcgetwinsize(&self.0).expect("get the window size");
        (size.ws_row, size.ws_col)
    }

    /// The terminal's modes, as text to compare: the master sees those of the other side.
    pub fn settings(&self) -> String {
        format!("{:?}", rustix::termios::tcgetattr(&self.0).expect("get the terminal's modes"))
    }

    /// What /proc says about the descriptor, which may also be of another kind.
    pub fn info(&self) -> String {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        std::fs::read_to_string(path).expect("fdinfo")
    }

    /// Types `text`.
    pub fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("write to the terminal");
    }

    /// Reads until `end` appears, or until the other side is closed.
    #[track_caller]
    pub fn read_until(&self, end: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut seen = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&seen);
            if text.contains(end) {
                return text.into_owned();
            }
            assert!(Instant::now() < deadline, "waited for {end:?} on the terminal: {text:?}");
            if !readable(&self.0, Duration::from_millis(100)) {
                continue;
            }
            match rustix::io::read(&self.0, &mut chunk) {
                // The last process on the other side has gone.
                Ok(0) | Err(Errno::IO) => return String::from_utf8_lossy(&seen).into_owned(),
                Ok(count) => seen.extend_from_slice(&chunk[..count]),
                Err(error) => panic!("read from the terminal: {error}"),
            }
        }
    }

    /// Reads until the other side is closed.
    #[track_caller]
    pub fn read_to_end(&self) -> String {
        self.read_until("\0 never printed")
    }
}

/// Makes `command` run in a new session with the terminal at `path` as its controlling terminal
/// and as its three streams.
pub fn on_terminal(command: &Command, path: &str) -> Command {
    let open = || {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        File::from(rustix::fs::open(path, flags, Mode::empty()).expect("open the terminal"))
    };
    let mut wrapped = Command::new("setsid");
    wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
    wrapped.stdin(open()).stdout(open()).stderr(open());
    wrapped
}

fn readable(descriptor: impl std::os::fd::AsFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    let mut wanted = [PollFd::new(&descriptor, PollFlags::IN)];
    poll(&mut wanted, Some(&limit)).is_ok_and(|ready| ready > 0)
}
