//! Staying with an attached process: signals go to it, its terminal to ours, and its exit status
//! becomes ours.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::WaitOptions;

use super::notify_socket::NotifySocket;
use super::process;
use super::terminal::{Ready, Terminal};

/// How often a terminal is looked at that nobody has open: see [`Terminal::hung_up`].
const HUNG_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

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

    /// Waits for the process `pid`, a child of ours, until it has ended and its output is shown,
    /// and returns its exit status, 128 + n for one that signal n ended. `notify` is heard until
    /// it has said that it is ready.
    ///
    /// # Errors
    /// When waiting itself fails.
    pub fn wait(
        self,
        pid: i32,
        mut terminal: Option<Terminal>,
        mut notify: Option<NotifySocket>,
    ) -> Result<i32> {
        // The supervisor itself is the main process to whoever waits for it.
        let own = rustix::process::getpid().as_raw_pid();
        let mut ended = reap(pid)?;
        loop {
            if let Some(status) = ended
                && terminal.as_mut().is_none_or(Terminal::is_drained)
            {
                return Ok(status);
            }
            let ready = self.poll(terminal.as_ref(), notify.as_ref(), ended.is_some())?;
            notify = notify.filter(|notify| !notify.pass_on(own));
            if let Some(terminal) = &mut terminal {
                terminal.pump(ready);
            }
            while let Ok(Some(info)) = self.signals.read_signal() {
                let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                match ended {
                    None => pass_on(number, pid, terminal.as_ref()),
                    Some(_) => give_up(number, terminal.as_mut()),
                }
            }
            if ended.is_none() {
                ended = reap(pid)?;
            }
        }
    }

    /// Sleeps until there is something to do; of a process that has ended only the output is left.
    fn poll(
        &self,
        terminal: Option<&Terminal>,
        notify: Option<&NotifySocket>,
        ended: bool,
    ) -> Result<Ready> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let mut wants = terminal.map_or(Ready::NOTHING, Terminal::wants);
        let mut timeout = None;
        if ended {
            wants = Ready { stdout: wants.stdout, ..Ready::NOTHING };
        } else if terminal.is_some_and(Terminal::hung_up) {
            timeout = Some(&HUNG_UP);
        }
        // poll(2) reports hang-ups and errors of every descriptor it is given, asked for or not.
        if let Some(terminal) = terminal {
            for (fd, flags) in [
                (terminal.master(), wants.master),
                (rustix::stdio::stdin(), wants.stdin),
                (rustix::stdio::stdout(), wants.stdout),
            ] {
                if !flags.is_empty() {
                    fds.push(PollFd::from_borrowed_fd(fd, flags));
                }
            }
        }
        fds.extend(notify.map(|notify| PollFd::from_borrowed_fd(notify.as_fd(), PollFlags::IN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err).context("cannot wait for the container"),
        }
        let mut events = fds.iter().skip(1).map(PollFd::revents);
        let mut of = |wanted: PollFlags| match wanted.is_empty() {
            true => PollFlags::empty(),
            false => events.next().unwrap_or(PollFlags::empty()),
        };
        Ok(Ready { master: of(wants.master), stdin: of(wants.stdin), stdout: of(wants.stdout) })
    }
}

/// A signal of ours goes to the process, which has not been reaped yet: its pid is its own.
fn pass_on(number: i32, pid: i32, terminal: Option<&Terminal>) {
    match (Signal::try_from(number), terminal) {
        // About our own children and pipes, not about the container.
        (Ok(Signal::SIGCHLD | Signal::SIGPIPE | Signal::SIGURG), _) => {}
        (Ok(Signal::SIGWINCH), Some(terminal)) => terminal.resize(),
        // It may have ended just now.
        _ => {
            let _ = process::send(pid, number);
        }
    }
}

/// The process has ended and our stdout does not take its last output: whoever wants us to end
/// does not want that output.
fn give_up(number: i32, terminal: Option<&mut Terminal>) {
    if let Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT) =
        Signal::try_from(number)
        && let Some(terminal) = terminal
    {
        terminal.give_up();
    }
}

/// Takes every child that has ended out of the process table; the status of `main`, if it is one
/// of them.
fn reap(main: i32) -> Result<Option<i32>> {
    let mut ended = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if pid.as_raw_pid() == main {
                    ended = status.exit_status().or(status.terminating_signal().map(|n| 128 + n));
                }
            }
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(ended),
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err).context("cannot wait for the container"),
        }
    }
}
