//! The file that `--pid-file` names.

use std::fs;
use std::io::{self, Write};
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
    // A new file: one that is there may have another owner, who could write another number into it,
    // or be a fifo that nobody reads.
    let open = || fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary);
    let replace = || {
        let mut file = match open() {
            // Left by a process that was killed here.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&temporary)?;
                open()?
            }
            file => file?,
        };
        write!(file, "{pid}")?;
        fs::rename(&temporary, path)
    };
    replace().with_context(|| format!("cannot write the pid file {}", path.display()))
}
