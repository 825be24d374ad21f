//! A container's terminal shown on ours: keys go in, output comes out, the window's size follows.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{self, OptionalActions, OutputModes, Termios, Winsize};

use super::console;

/// How much output waits for our stdout before the container has to wait, in bytes.
const OUTPUT_LIMIT: usize = 64 << 10;
/// A pipe that poll(2) calls writable takes this much without blocking (`PIPE_BUF`).
const PIECE: usize = 4096;

/// The master of a container's terminal, connected to our stdin and stdout.
///
/// Nothing here blocks: whoever waits for stdout to drain could not hear signals meanwhile.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    /// Our terminal's settings before it became raw.
    saved: Option<Termios>,
    /// Keys that the container has not taken yet.
    input: Vec<u8>,
    /// Output that our stdout has not taken yet.
    output: VecDeque<u8>,
    stdin_open: bool,
    /// Every slave is closed. One may be opened again (/dev/console) while the process lives.
    hung_up: bool,
    given_up: bool,
}

/// What to wait for, or what has come, on each descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// The master.
    pub master: PollFlags,
    /// Our stdin.
    pub stdin: PollFlags,
    /// Our stdout.
    pub stdout: PollFlags,
}

impl Ready {
    /// None of them.
    pub const NOTHING: Self =
        Self { master: PollFlags::empty(), stdin: PollFlags::empty(), stdout: PollFlags::empty() };
}

impl Terminal {
    /// Receives the master that the container has sent through `line`, gives it the size of our
    /// terminal, and makes ours raw until this value is dropped.
    ///
    /// # Errors
    /// When none was sent, or ours cannot be made raw.
    pub fn receive(line: BorrowedFd<'_>) -> Result<Self> {
        let master = console::receive_master(line)?;
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
        let terminal = Self {
            master,
            saved,
            input: Vec::new(),
            output: VecDeque::new(),
            stdin_open: true,
            hung_up: false,
            given_up: false,
        };
        terminal.resize();
        Ok(terminal)
    }

    /// Gives the container's terminal the size of ours.
    pub fn resize(&self) {
        if let Some(size) = own_size() {
            let _ = termios::tcsetwinsize(&self.master, size);
        }
    }

    /// Whether the terminal has to be looked at now and then, because poll(2) would report its
    /// hang-up for ever and nothing else.
    #[must_use]
    pub fn hung_up(&self) -> bool {
        self.hung_up
    }

    /// The descriptors to wait for, and what for.
    #[must_use]
    pub fn wants(&self) -> Ready {
        let when = |wanted, flags| if wanted { flags } else { PollFlags::empty() };
        let mut master = PollFlags::empty();
        if !self.hung_up && self.output.len() < OUTPUT_LIMIT {
            master = PollFlags::IN | when(!self.input.is_empty(), PollFlags::OUT);
        }
        Ready {
            master,
            stdin: when(self.stdin_open && self.input.is_empty(), PollFlags::IN),
            stdout: when(!self.output.is_empty(), PollFlags::OUT),
        }
    }

    /// The master, for poll(2).
    #[must_use]
    pub fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Moves what can be moved now.
    pub fn pump(&mut self, ready: Ready) {
        if !ready.stdin.is_empty() {
            self.read_keys();
        }
        if !self.input.is_empty() {
            self.pass_keys_on();
        }
        if self.hung_up || !ready.master.is_empty() {
            self.fetch();
        }
        if !ready.stdout.is_empty() {
            self.show();
        }
    }

    /// After the process has ended: takes what it wrote, and says whether all of it is shown.
    pub fn is_drained(&mut self) -> bool {
        while self.output.len() < OUTPUT_LIMIT && self.fetch() {}
        self.given_up || self.output.is_empty()
    }

    /// What has not been shown will not be: the user does not want to wait for it.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }

    fn read_keys(&mut self) {
        let mut bytes = [0u8; PIECE];
        match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(0) => self.stdin_open = false,
            Ok(count) => self.input.extend(bytes.get(..count).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.stdin_open = false,
        }
    }

    fn pass_keys_on(&mut self) {
        match rustix::io::write(&self.master, &self.input) {
            Ok(count) => drop(self.input.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads there any more.
            Err(_) => self.input.clear(),
        }
    }

    /// Fetches one piece of output; false when there is none now.
    fn fetch(&mut self) -> bool {
        let mut bytes = [0u8; 4 * PIECE];
        match rustix::io::read(&self.master, &mut bytes) {
            Ok(count) if count > 0 => {
                self.hung_up = false;
                self.output.extend(bytes.get(..count).unwrap_or_default());
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => {
                self.hung_up = false;
                false
            }
            // EIO
            _ => {
                self.hung_up = true;
                false
            }
        }
    }

    fn show(&mut self) {
        let (front, _) = self.output.as_slices();
        let piece = front.get(..PIECE).unwrap_or(front);
        match rustix::io::write(rustix::stdio::stdout(), piece) {
            Ok(count) => drop(self.output.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody looks any more; the program goes on.
            Err(_) => self.output.clear(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
        }
    }
}

/// The size of our own terminal, where stdin or stdout is one.
#[must_use]
pub fn own_size() -> Option<Winsize> {
    [rustix::stdio::stdin(), rustix::stdio::stdout()]
        .into_iter()
        .find_map(|ours| termios::tcgetwinsize(ours).ok())
}
