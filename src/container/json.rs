//! JSON documents from outside.

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
