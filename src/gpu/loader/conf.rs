//! glibc's `/etc/ld.so.conf`, from which a later `ldconfig` in the container rebuilds the cache.
//!
//! Directories that ldconfig does not scan by itself go into one file with a fixed name. See
//! [ldconfig(8)](https://man7.org/linux/man-pages/man8/ldconfig.8.html).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// ldconfig's configuration.
pub const CONF: &str = "/etc/ld.so.conf";
/// gpurun's file; the name sorts before the distributions' and never changes.
pub const DROP_IN: &str = "/etc/ld.so.conf.d/00-gpurun.conf";
/// The content of [`CONF`] where the image has none.
pub const INCLUDE_ALL: &[u8] = b"include /etc/ld.so.conf.d/*.conf\n";

/// The content of [`DROP_IN`]. A directory whose name ldconfig could not read back (white space,
/// `#`, `=`) is left out.
#[must_use]
pub fn drop_in<'p>(dirs: impl IntoIterator<Item = &'p Path>) -> Vec<u8> {
    let mut text = b"# Written by gpurun at every start of this container.\n".to_vec();
    for dir in dirs {
        let name = dir.as_os_str().as_bytes();
        if !name.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | b'#' | b'=')) {
            text.extend_from_slice(name);
            text.push(b'\n');
        }
    }
    text
}

/// The content that [`CONF`] needs so that ldconfig reads [`DROP_IN`]; `None`: it does already.
#[must_use]
pub fn including(conf: Option<&[u8]>) -> Option<Vec<u8>> {
    let Some(conf) = conf else {
        return Some(INCLUDE_ALL.to_vec());
    };
    let includes = |line: &[u8]| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.next() == Some(b"include".as_slice()) && words.any(reaches)
    };
    if conf.split(|byte| *byte == b'\n').any(includes) {
        return None;
    }
    // First, because the order of directories is the order of preference.
    Some([b"include ", DROP_IN.as_bytes(), b"\n", conf].concat())
}

/// Whether an `include` of this pattern reads [`DROP_IN`]; relative ones start at `/etc`.
fn reaches(pattern: &[u8]) -> bool {
    let pattern = pattern.strip_prefix(b"/etc/").unwrap_or(pattern);
    matches!(pattern, b"ld.so.conf.d/*.conf" | b"ld.so.conf.d/*" | b"ld.so.conf.d/00-gpurun.conf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_configurations_need_no_change() {
        for conf in [
            "include /etc/ld.so.conf.d/*.conf\n",
            "/usr/local/lib\n\n  include ld.so.conf.d/*.conf # all\n",
            "include /etc/ld.so.conf.d/a.conf /etc/ld.so.conf.d/*.conf",
        ] {
            assert_eq!(including(Some(conf.as_bytes())), None, "{conf}");
        }
    }

    #[test]
    fn a_configuration_without_the_include_gets_it_once() {
        let changed = including(Some(b"/opt/lib\n# include /etc/ld.so.conf.d/*.conf\n")).unwrap();
        assert!(changed.starts_with(b"include /etc/ld.so.conf.d/00-gpurun.conf\n/opt/lib\n"));
        assert_eq!(including(Some(&changed)), None);
        assert_eq!(including(None).as_deref(), Some(INCLUDE_ALL));
    }

    #[test]
    fn a_directory_cannot_bring_a_second_line() {
        let text = drop_in([Path::new("/a\ninclude /b"), Path::new("/usr/lib/wsl/lib")]);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), ["/usr/lib/wsl/lib"]);
    }
}
