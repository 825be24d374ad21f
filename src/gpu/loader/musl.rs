//! musl's path file. Without it musl searches `/lib`, `/usr/local/lib` and `/usr/lib`; with it,
//! only what it names. See [musl's manual](https://musl.libc.org/doc/1.1.24/manual.html).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What musl searches without a path file.
const BUILT_IN: &[u8] = b"/lib\n/usr/local/lib\n/usr/lib\n";

/// Where musl's loader of this architecture looks for its path file.
#[must_use]
pub fn path_file() -> String {
    format!("/etc/ld-musl-{}.path", std::env::consts::ARCH)
}

/// The content that the path file needs so that `dirs` are searched; `None`: they are already.
/// `existing` is the content of the image's file, if it has one.
#[must_use]
pub fn extended<'p>(
    existing: Option<&[u8]>,
    dirs: impl IntoIterator<Item = &'p Path>,
) -> Option<Vec<u8>> {
    let old = existing.unwrap_or(BUILT_IN);
    let mut text = old.to_vec();
    for dir in dirs {
        let dir = dir.as_os_str().as_bytes();
        let is_separator = |byte: &u8| matches!(byte, b'\n' | b':');
        if dir.iter().any(is_separator) || text.split(is_separator).any(|known| known == dir) {
            continue;
        }
        if text.last().is_some_and(|byte| !is_separator(byte)) {
            text.push(b'\n');
        }
        text.extend_from_slice(dir);
        text.push(b'\n');
    }
    (text.len() != old.len()).then_some(text)
}

/// Whether [`extended`] made this content for an image that had no path file.
#[must_use]
pub fn is_own(content: &[u8]) -> bool {
    content.starts_with(BUILT_IN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_added_once() {
        let dirs = [Path::new("/usr/lib"), Path::new("/opt/gpu")];
        let changed = extended(Some(b"/lib:/usr/local/lib"), dirs).unwrap();
        assert_eq!(changed, b"/lib:/usr/local/lib\n/usr/lib\n/opt/gpu\n");
        assert_eq!(extended(Some(&changed), dirs), None);
    }

    #[test]
    fn no_file_is_made_for_what_musl_searches_anyway() {
        assert_eq!(extended(None, [Path::new("/usr/lib")]), None);
        let made = extended(None, [Path::new("/opt/gpu")]).unwrap();
        assert_eq!(made, b"/lib\n/usr/local/lib\n/usr/lib\n/opt/gpu\n");
    }
}
