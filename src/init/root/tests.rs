//! What an image may do while it is read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use super::Root;

/// Whoever waits to write to a FIFO goes on when somebody opens it for reading, if only for a
/// moment.
#[test]
fn a_file_exchanged_for_a_fifo_is_never_opened() {
    let rootfs = std::env::temp_dir().join(format!("gpurun-reopen-{}", std::process::id()));
    std::fs::create_dir_all(&rootfs).expect("directory");
    let (file, fifo) = (rootfs.join("file"), rootfs.join("fifo"));
    std::fs::write(&file, "content").expect("file");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("fifo");
    // A second name, so that it can be waited for wherever the first one is.
    let waiting = rootfs.join("waiting");
    std::fs::hard_link(&fifo, &waiting).expect("link");
    let opened = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&opened);
    let name = waiting.clone();
    let waiter = std::thread::spawn(move || {
        let _ = std::fs::OpenOptions::new().write(true).open(name);
        seen.store(true, Ordering::SeqCst);
    });
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (one, other) = (file.clone(), fifo.clone());
    let racer = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let _ = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
        }
    });
    let root = Root::open(&rootfs).expect("root");
    let end = Instant::now() + Duration::from_secs(2);
    let mut read = 0;
    while Instant::now() < end {
        let content = root.read(Path::new("/file"), 100).expect("read");
        read += u32::from(content.as_deref() == Some(b"content"));
    }
    let was_opened = opened.load(Ordering::SeqCst);
    stop.store(true, Ordering::Relaxed);
    racer.join().expect("racer");
    // Lets the waiter go.
    drop(std::fs::OpenOptions::new().read(true).write(true).open(&waiting));
    waiter.join().expect("waiter");
    std::fs::remove_dir_all(&rootfs).expect("remove");
    assert!(read > 0, "nothing was read");
    assert!(!was_opened, "the FIFO was opened");
}
