//! JSON documents from outside.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::de::DeserializeOwned;

/// A document that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not even an object. serde would also take an array for a struct, field by field in
    /// their order; nobody who writes a spec means that.
    #[error("it is not a JSON object: {0}")]
    NotAnObject(&'static str),
    /// What is wrong, with the field's path, and line and column.
    #[error("{0}")]
    Field(String),
}

/// Reads a JSON object.
///
/// # Errors
/// What is wrong and where.
pub fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {}
        None => return Err(JsonError::NotAnObject("it is empty")),
        Some(_) if bytes.starts_with(b"\xef\xbb\xbf") => {
            return Err(JsonError::NotAnObject("it starts with a byte order mark"));
        }
        Some(_) => return Err(JsonError::NotAnObject("it does not start with '{'")),
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    // Once more, now keeping track of the path, which costs more than what is usually fine.
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
    let value = T::deserialize(tracked);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(error) => {
            let reason = in_json_words(&error.to_string());
            let path = track.path().to_string();
            // A question mark stands for a name that has not been read, a dot for the document.
            Err(JsonError::Field(match path.trim_end_matches(['.', '?']) {
                "" => reason,
                path => format!("{path}: {reason}"),
            }))
        }
    }
}

/// What serde calls by Rust's names, as somebody knows it who writes JSON.
fn in_json_words(reason: &str) -> String {
    let Some((found, rest)) = reason.split_once(", expected ") else { return reason.to_owned() };
    let (expected, place) = match rest.rfind(" at line ") {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let expected = match expected {
        "a sequence" => "an array",
        "path string" => "a string",
        "a map" => "an object",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number that is not negative",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" | "isize" => "a whole number",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    let found = found.replace("type: sequence", "type: array").replace("type: map", "type: object");
    format!("{found}, expected {expected}{place}")
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
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_mistake_is_named_by_its_path_in_the_words_of_json() {
        type Document = HashMap<String, HashMap<String, Vec<u32>>>;
        let text = |json: &[u8]| object::<Document>(json).expect_err("refused").to_string();
        assert_eq!(
            text(br#"{"a": {"b": [1, -2]}}"#),
            "a.b[1]: invalid value: integer `-2`, expected a whole number from 0 to 4294967295 \
             at line 1 column 18"
        );
        assert!(text(br#"{"a": {"b": "x"}}"#).starts_with("a.b: invalid type: string"));
        assert!(text(br#"{"a": {"b": "x"}}"#).contains("expected an array at line 1"));
        assert!(text(br#"{"a": []}"#).contains("a: invalid type: array, expected an object"));
        assert!(text(b"{} x").starts_with("trailing characters"));
        assert!(text(b"{").starts_with("EOF while parsing"));
        assert!(text(b" ").contains("empty"));
        assert!(text(b"[]").contains("not a JSON object"));
        assert!(text(b"\xef\xbb\xbf{}").contains("byte order mark"));
    }

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
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
