//! A FIFO that knows whether somebody has opened it.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A thread waits in open(2), for writing, until somebody opens the FIFO for reading. Then it waits
/// again, so that whoever opens the FIFO does not wait for ever.
#[derive(Debug)]
pub struct Tripwire {
    second: PathBuf,
    opened: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tripwire {
    /// Makes the FIFO, with a second name on the same file system that nobody moves.
    pub fn new(fifo: &Path, second: &Path) -> Tripwire {
        mknodat(CWD, fifo, FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("make a FIFO");
        std::fs::hard_link(fifo, second).expect("give it a second name");
        let (opened, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (seen, stopped, name) = (Arc::clone(&opened), Arc::clone(&stop), second.to_owned());
        let thread = std::thread::spawn(move || {
            loop {
                let file = OpenOptions::new().write(true).open(&name);
                if stopped.load(Ordering::SeqCst) || file.is_err() {
                    break;
                }
                seen.store(true, Ordering::SeqCst);
            }
        });
        Tripwire { second: second.to_owned(), opened, stop, thread: Some(thread) }
    }

    /// Whether somebody has opened the FIFO, if only for a moment.
    pub fn was_opened(&self) -> bool {
        self.opened.load(Ordering::SeqCst)
    }
}

impl Drop for Tripwire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Lets the thread go.
        let _reader = OpenOptions::new().read(true).write(true).open(&self.second);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
