//! `descriptors.json` of a checkpoint: what stdin, stdout and stderr of the container were.
//!
//! A pipe that leads out of the container is named in it by its inode (`pipe:[1234]`), and whoever
//! restores the container puts the pipe's successor in the same place. runc's file, with runc's
//! content.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rust_criu::rust_criu_protobuf::rpc::Inherit_fd;

use crate::container::json;

/// The file's name, in the directory of the images.
const NAME: &str = "descriptors.json";

/// What the name of a pipe starts with.
const PIPE: &str = "pipe:";

/// The longest such file.
const LIMIT: u64 = 1 << 16;

/// What our own stdin, stdout and stderr are, as links of `/proc/self/fd` have it; nothing when
/// there is no pipe among them.
#[must_use]
pub fn pipes() -> Vec<String> {
    let link = |number: i32| {
        let target = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
        target.to_string_lossy().into_owned()
    };
    let all: Vec<String> = (0..3).map(link).collect();
    if all.iter().any(|name| name.starts_with(PIPE)) { all } else { Vec::new() }
}

/// Writes the file, for its owner alone as criu's own.
///
/// # Errors
/// Write errors.
pub fn save(images: &Path, descriptors: &[String]) -> Result<()> {
    let path = images.join(NAME);
    let text = serde_json::to_vec(descriptors).context("cannot write descriptors.json")?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true);
    let open = options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&path);
    open.and_then(|mut file| file.write_all(&text))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the file: the pipes to be replaced by our own descriptors of the same number.
///
/// # Errors
/// It is missing (this is no checkpoint of a container) or damaged.
pub fn inherited(images: &Path) -> Result<Vec<Inherit_fd>> {
    let path = images.join(NAME);
    let bytes = json::read(&path, LIMIT).with_context(|| {
        format!("cannot read {}: is it the directory of a checkpoint?", path.display())
    })?;
    let found: Vec<String> =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
    let pipe = |(number, name): (i32, String)| {
        name.starts_with(PIPE).then(|| {
            let mut inherit = Inherit_fd::new();
            inherit.set_key(name);
            inherit.set_fd(number);
            inherit
        })
    };
    Ok((0..3).zip(found).filter_map(pipe).collect())
}
