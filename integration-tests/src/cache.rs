//! Things that are slow to make or to fetch and that no test changes, kept in
//! `target/test-cache`: stub drivers, unpacked packages, base root file systems. Never committed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The cache directory: `GPURUN_TEST_CACHE`, else `target/test-cache` of the workspace.
pub fn dir() -> PathBuf {
    match std::env::var_os("GPURUN_TEST_CACHE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-cache"),
    }
}

/// The entry of this name, made by `make` in a scratch directory on first use. Tests that make
/// the same entry at the same time wait for the first one; a failed attempt leaves nothing.
pub fn entry(name: &str, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let cache = dir();
    fs::create_dir_all(&cache)?;
    let cache = cache.canonicalize()?;
    let entry = cache.join(name);
    let lock = fs::File::create(cache.join(format!(".{name}.lock")))?;
    lock.lock()?;
    if entry.is_dir() {
        return Ok(entry);
    }
    let scratch = cache.join(format!(".{name}.new"));
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir_all(&scratch)?;
    match make(&scratch).and_then(|()| fs::rename(&scratch, &entry)) {
        Ok(()) => Ok(entry),
        Err(error) => {
            let _ = fs::remove_dir_all(&scratch);
            Err(error)
        }
    }
}
