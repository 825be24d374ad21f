//! Somebody who exchanges files while a runtime works with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A thread that exchanges pairs of paths (renameat2 with `RENAME_EXCHANGE`) until it is dropped.
#[derive(Debug)]
pub struct Racer {
    stop: Arc<AtomicBool>,
    exchanges: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Racer {
    /// Starts it. All paths exist, each pair on one file system.
    pub fn start(pairs: Vec<(PathBuf, PathBuf)>) -> Racer {
        for (one, other) in &pairs {
            exchange(one, other).unwrap_or_else(|err| panic!("exchange {one:?}: {err}"));
        }
        let (stop, exchanges) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&exchanges));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (one, other) in &pairs {
                    let done = exchange(one, other).is_ok();
                    counted.fetch_add(u64::from(done), Ordering::Relaxed);
                }
            }
        });
        Racer { stop, exchanges, thread: Some(thread) }
    }

    /// How often it has exchanged a pair.
    pub fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Relaxed)
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn exchange(one: &Path, other: &Path) -> rustix::io::Result<()> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
}
