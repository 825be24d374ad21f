//! Things that are slow to make or to fetch and that no test changes, kept in
//! `target/test-cache`, or where others can read it: stub drivers, unpacked packages, base root file systems. Never committed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The cache directory: `GPURUN_TEST_CACHE`, else `target/test-cache` of the workspace. Containers
/// of ordinary users and of user namespaces read from it, so where a directory on the way lets
/// nobody else pass (`/root`), it is a directory in `/var/tmp`.
pub fn dir() -> PathBuf {
    if let Some(path) = std::env::var_os("GPURUN_TEST_CACHE") {
        return PathBuf::from(path);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let passes = |dir: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
    };
    match workspace.canonicalize() {
        Ok(path) if path.ancestors().all(passes) => path.join("target/test-cache"),
        _ => {
            let user = rustix::process::getuid().as_raw();
            PathBuf::from(format!("/var/tmp/gpurun-test-cache-{user}"))
        }
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
