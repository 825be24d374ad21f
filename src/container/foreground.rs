//! Staying with an attached process: signals go to it, its terminal to ours, and its exit status
//! becomes ours.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::termios::{self, OptionalActions, OutputModes, Termios};

use super::process;

/// Blocked signals and their descriptor. Made before the process is, so that neither its end nor
/// a Ctrl-C can be missed.
#[derive(Debug)]
pub struct Supervisor {
    signals: SignalFd,
}

impl Supervisor {
    /// Takes the signals of this process over. With `subreaper`, orphans of the container become
    /// our children and are reaped while we wait.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new(subreaper: bool) -> Result<Self> {
        let all = SigSet::all();
        all.thread_block().context("cannot block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&all, flags).context("cannot receive signals")?;
        if subreaper {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .context("cannot become a subreaper")?;
        }
        Ok(Self { signals })
    }

    /// Waits for the process `pid`, a child of ours, and returns its exit status, 128 + n for one
    /// that signal n ended. `master` is its terminal.
    ///
    /// # Errors
    /// When waiting itself fails.
    pub fn wait(self, pid: i32, master: Option<OwnedFd>) -> Result<i32> {
        let mut terminal = master.map(Terminal::new).transpose()?;
        let mut status = self.reap(pid)?;
        while status.is_none() {
            let wants = terminal.as_ref().map(Terminal::wants);
            let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
            if let (Some(terminal), Some((master, stdin))) = (&terminal, wants) {
                fds.push(PollFd::new(&terminal.master, master));
                if stdin {
                    fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
                }
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err).context("cannot wait for the container"),
            }
            let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            let ready = |index: usize| ready.get(index).copied().unwrap_or(PollFlags::empty());
            if let Some(terminal) = &mut terminal {
                terminal.pump(ready(1), ready(2));
            }
            while let Ok(Some(info)) = self.signals.read_signal() {
                self.handle(info.ssi_signo, pid, terminal.as_ref());
            }
            status = self.reap(pid)?;
        }
        if let Some(terminal) = &mut terminal {
            terminal.drain();
        }
        status.context("the container's process has no exit status")
    }

    fn handle(&self, number: u32, pid: i32, terminal: Option<&Terminal>) {
        let number = i32::try_from(number).unwrap_or(0);
        match Signal::try_from(number) {
            // About our own children and pipes, not about the container.
            Ok(Signal::SIGCHLD | Signal::SIGPIPE | Signal::SIGURG) => {}
            Ok(Signal::SIGWINCH) if terminal.is_some() => {
                if let Some(terminal) = terminal {
                    terminal.resize();
                }
            }
            // It may have ended just now.
            _ => {
                let _ = process::send(pid, number);
            }
        }
    }

    /// Takes every child that has ended out of the process table.
    fn reap(&self, main: i32) -> Result<Option<i32>> {
        let mut status = None;
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == main => status = Some(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == main => {
                    status = Some(128 + signal as i32);
                }
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(status),
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(err) => return Err(err).context("cannot wait for the container"),
            }
        }
    }
}

/// The container's terminal shown on ours.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    /// Our terminal's settings before it became raw.
    saved: Option<Termios>,
    /// Input that the container has not taken yet.
    pending: Vec<u8>,
    stdin_open: bool,
    master_open: bool,
}

impl Terminal {
    fn new(master: OwnedFd) -> Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master).context("cannot use the terminal")?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)
            .context("cannot use the terminal")?;
        let stdin = rustix::stdio::stdin();
        let saved = termios::tcgetattr(stdin).ok();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            raw.make_raw();
            // As runc: the container's terminal does not turn newlines into two characters (see
            // `console::receive_master`), so ours has to.
            raw.output_modes |= OutputModes::OPOST;
            termios::tcsetattr(stdin, OptionalActions::Now, &raw)
                .context("cannot make our terminal raw")?;
        }
        let terminal =
            Self { master, saved, pending: Vec::new(), stdin_open: true, master_open: true };
        terminal.resize();
        Ok(terminal)
    }

    /// Gives the container's terminal the size of ours.
    fn resize(&self) {
        for ours in [rustix::stdio::stdin(), rustix::stdio::stdout()] {
            if let Ok(size) = termios::tcgetwinsize(ours) {
                let _ = termios::tcsetwinsize(&self.master, size);
                return;
            }
        }
    }

    /// What to wait for: on the master, and whether on stdin.
    fn wants(&self) -> (PollFlags, bool) {
        let mut master = PollFlags::empty();
        if self.master_open {
            master |= PollFlags::IN;
        }
        if !self.pending.is_empty() {
            master |= PollFlags::OUT;
        }
        (master, self.stdin_open && self.pending.is_empty())
    }

    fn pump(&mut self, master: PollFlags, stdin: PollFlags) {
        if stdin.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            let mut bytes = [0u8; 4096];
            match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
                Ok(0) => self.stdin_open = false,
                Ok(count) => self.pending.extend_from_slice(&bytes[..count]),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => self.stdin_open = false,
            }
        }
        if !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // Nobody reads there any more.
                Err(_) => self.pending.clear(),
            }
        }
        if master.intersects(PollFlags::IN | PollFlags::HUP) {
            self.show();
        }
    }

    /// Copies one piece of output; false when there is none now.
    fn show(&mut self) -> bool {
        let mut bytes = [0u8; 16384];
        match rustix::io::read(&self.master, &mut bytes) {
            Ok(count) if count > 0 => {
                let _ = write_all(&bytes[..count]);
                true
            }
            Err(rustix::io::Errno::INTR) => true,
            Err(rustix::io::Errno::AGAIN) => false,
            // EIO: every slave is closed. One may be opened again while the process lives, but
            // polling would spin on the hang-up until then.
            _ => {
                self.master_open = false;
                false
            }
        }
    }

    /// What the process wrote before it ended.
    fn drain(&mut self) {
        while self.show() {}
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
        }
    }
}

/// Writes to stdout, whatever mode its other users have put it in.
fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    let stdout = rustix::stdio::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(stdout.as_fd(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None);
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}
