//! The file that `--pid-file` names.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The number alone, no newline: engines parse the whole file. In one step, because they wait for
/// the file to appear.
///
/// # Errors
/// Write errors; what is there already is no regular file.
pub fn write(path: &Path, pid: i32) -> Result<()> {
    let name =
        path.file_name().with_context(|| format!("--pid-file {} names no file", path.display()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let temporary = path.with_file_name(hidden);
    // The rename below would replace it, and /dev/null is somebody else's as well.
    if let Ok(meta) = fs::metadata(path)
        && !meta.is_file()
    {
        bail!("--pid-file {} is there and is not a regular file", path.display());
    }
    let replace = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        write!(file, "{pid}")?;
        fs::rename(&temporary, path)
    };
    replace().with_context(|| format!("cannot write the pid file {}", path.display()))
}
