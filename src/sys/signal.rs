//! Signal dispositions.

use std::io;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Gives SIGPIPE its default action back: the Rust runtime ignores it, and an ignored signal
/// stays ignored across exec.
///
/// # Errors
/// None that the kernel is known to give.
pub fn default_sigpipe() -> io::Result<()> {
    // SAFETY: no handler function is installed, so nothing can run in signal context.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    Ok(())
}
