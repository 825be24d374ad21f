//! The kernel's lists, the journal of what was created, and lists in the spec.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::journal::{Created, Journal};
use super::rootfs::MountOptions;
use super::{affinity, executable};
use crate::fuzzing::{Choices, Target, text};
use crate::mountinfo;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "mountinfo", run: mountinfo },
    Target { name: "journal", run: journal },
    Target { name: "mount_options", run: mount_options },
    Target { name: "cpu_list", run: cpu_list },
    Target { name: "passwd", run: passwd },
];

/// As the kernel writes it (`mangle`, fs/proc_namespace.c).
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => text.extend(format!("\\{byte:03o}").bytes()),
            other => text.push(*other),
        }
    }
    text
}

fn mountinfo(data: &[u8]) {
    let mounts = mountinfo::parse(data);
    assert!(mounts.len() <= data.split(|byte| *byte == b'\n').count());
    // Any two paths, as the kernel would list them.
    let mut choices = Choices(data);
    let [root, point] = [choices.bytes(), choices.bytes()];
    let line = [
        b"22 1 8:1 ",
        escaped(root).as_slice(),
        b" ",
        escaped(point).as_slice(),
        b" rw,relatime shared:1 - ext4 /dev/sda1 rw",
    ]
    .concat();
    let read = mountinfo::parse(&line);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].root.as_os_str().as_bytes(), root);
    assert_eq!(read[0].point.as_os_str().as_bytes(), point);
    assert_eq!((read[0].device.as_str(), read[0].fstype.as_str()), ("8:1", "ext4"));
}

fn journal(data: &[u8]) {
    let records: Vec<(Created<'_>, &Path)> = Journal::records(data).collect();
    let mut written = Vec::new();
    for (kind, path) in &records {
        written.extend(super::journal::record(*kind, path));
    }
    assert!(Journal::records(&written).eq(records.iter().copied()));
    // Whatever was cut off, what came before it is the same.
    for cut in [data.len() / 2, data.len().saturating_sub(1)] {
        let cut: Vec<_> = Journal::records(&data[..cut]).collect();
        assert!(records.starts_with(&cut), "{cut:?} is not the start of {records:?}");
    }
}

/// Options, one a line.
fn mount_options(data: &[u8]) {
    let list: Vec<String> = text(data).lines().map(str::to_owned).collect();
    let options = MountOptions::parse(&list);
    for attrs in [options.attrs, options.recursive] {
        let atime = libc::MOUNT_ATTR__ATIME;
        assert_eq!(attrs.set & attrs.clear & !atime, 0, "set and cleared: {attrs:?}");
        assert!(attrs.set & atime == 0 || attrs.clear & atime == atime, "{attrs:?}");
    }
    assert!(options.data.iter().all(|option| list.iter().any(|known| known == option)));
    let twice: Vec<String> = list.iter().chain(&list).cloned().collect();
    let twice = MountOptions::parse(&twice);
    assert_eq!((twice.attrs, twice.recursive), (options.attrs, options.recursive));
    assert_eq!((twice.bind, twice.idmap), (options.bind, options.idmap));
}

fn cpu_list(data: &[u8]) {
    let Ok(mask) = affinity::parse(text(data)) else { return };
    let is_set = |cpu: &usize| mask[cpu / 64] & 1 << (cpu % 64) != 0;
    let list: Vec<String> =
        (0..mask.len() * 64).filter(is_set).map(|cpu| cpu.to_string()).collect();
    assert_eq!(affinity::parse(&list.join(",")), Ok(mask));
}

/// The image's `/etc/passwd`.
fn passwd(data: &[u8]) {
    for uid in [0, 7, u32::MAX] {
        if let Some(home) = executable::home_of(data, uid) {
            assert!(!home.is_empty() && !home.contains(&b'\n') && !home.contains(&b':'));
        }
    }
}
