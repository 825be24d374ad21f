//! JSON documents from outside.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};

/// Reads a JSON object. serde would also take an array for a struct, field by field in their
/// order; nobody who writes a spec means that.
///
/// # Errors
/// What is wrong, with line and column.
pub fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') | None => serde_json::from_slice(bytes),
        Some(_) => Err(serde_json::Error::custom("it is not a JSON object")),
    }
}

/// Gives a spec's `process` that names no user the one that Go's runtimes read there: root.
pub fn default_user(process: &mut serde_json::Value) {
    if let Some(members) = process.as_object_mut() {
        members.entry("user").or_insert_with(|| serde_json::json!({"uid": 0, "gid": 0}));
    }
}

/// Reads a file, at most `limit` bytes. What it names comes from a command line and may be a
/// fifo, which is read as long as somebody writes to it, or a device without an end.
///
/// # Errors
/// The file's, and one that is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Opening a fifo that nobody writes to would wait for ever; then there is nothing to read.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - rustix::fs::OFlags::NONBLOCK)?;
    read_from(file, limit)
}

/// Reads to the end, at most `limit` bytes.
///
/// # Errors
/// The reader's, and one that has more.
pub fn read_from(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {} MiB", limit >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_fifo_without_a_writer_nor_a_device_without_an_end_is_read_for_ever() {
        let dir = std::env::temp_dir().join(format!("gpurun-json-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("directory");
        let fifo = dir.join("fifo");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).expect("fifo");
        assert_eq!(read(&fifo, 1 << 20).expect("empty"), b"");
        let text = read(Path::new("/dev/zero"), 1 << 20).expect_err("too long").to_string();
        assert_eq!(text, "it is larger than 1 MiB");
        assert!(object::<serde_json::Value>(b"").is_err());
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
