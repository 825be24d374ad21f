//! The kernel's list of a mount namespace's mounts:
//! [proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The filesystem's device, `major:minor`.
    pub device: String,
    /// Which part of the filesystem it shows.
    pub root: PathBuf,
    /// Where it is, as the namespace's processes see it.
    pub point: PathBuf,
    /// The filesystem's type, without a subtype.
    pub fstype: String,
}

/// The mounts that the process `pid` sees, in their order.
///
/// # Errors
/// Read errors.
pub fn of(pid: i32) -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read(format!("/proc/{pid}/mountinfo"))?))
}

/// The mounts that the calling process sees.
///
/// # Errors
/// Read errors.
pub fn own() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = String::from_utf8_lossy(fields.nth(2)?).into_owned();
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    // Any number of optional fields, then a dash.
    let fstype = String::from_utf8_lossy(fields.skip_while(|field| *field != b"-").nth(1)?);
    let fstype = fstype.split('.').next().unwrap_or_default().to_owned();
    Some(Mount { device, root, point, fstype })
}

/// A path as it is written there: blanks, tabs, newlines and backslashes are `\ooo`.
#[must_use]
pub fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A mount as `device root point fstype`.
    pub fn mount(text: &str) -> Mount {
        let fields: Vec<_> = text.split(' ').collect();
        Mount {
            device: fields[0].into(),
            root: fields[1].into(),
            point: fields[2].into(),
            fstype: fields[3].into(),
        }
    }

    #[test]
    fn optional_fields_and_escaped_blanks_are_understood() {
        let text =
            b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw\n\
            40 35 0:31 / /x\\134y rw - fuse.lxcfs lxcfs rw\nnonsense\n";
        assert_eq!(
            parse(text),
            [
                Mount {
                    device: "98:0".into(),
                    root: "/mnt1".into(),
                    point: "/mnt 2".into(),
                    fstype: "ext3".into(),
                },
                Mount {
                    device: "0:31".into(),
                    root: "/".into(),
                    point: "/x\\y".into(),
                    fstype: "fuse".into(),
                },
            ]
        );
    }
}
