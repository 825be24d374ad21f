//! Made-up machines for tests: a scratch directory and the smallest ELF files with a SONAME.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, removed on drop.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gpurun-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, making its parents.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Makes a directory and its parents.
    pub fn directory(&self, relative: &str) {
        std::fs::create_dir_all(self.0.join(relative)).unwrap();
    }

    /// Makes a symbolic link, and its parents.
    pub fn link(&self, target: &str, relative: &str) {
        let path = self.0.join(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Makes a character device; `false` where mknod is not allowed.
    pub fn node(&self, relative: &str, major: u32, minor: u32, mode: u32) -> bool {
        use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
        let path = self.0.join(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let made =
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), makedev(major, minor));
        made.is_ok() && rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).is_ok()
    }

    /// Writes an executable file.
    pub fn program(&self, relative: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(relative, "\x7fELF");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.0.join(relative), mode).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The test's result stands whether or not the directory could be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A minimal shared object: header, PT_LOAD and PT_DYNAMIC, a dynamic section, a string table.
pub fn elf(wide: bool, machine: u16, soname: Option<&str>) -> Vec<u8> {
    let (head, entry) = if wide { (64u64, 56u64) } else { (52, 32) };
    let base = 0x1000u64;
    let dynamic = head + 2 * entry;
    let dynamic_size = 3 * if wide { 16 } else { 8 };
    let strings = dynamic + dynamic_size;
    let names = [b"\0", soname.unwrap_or("").as_bytes(), b"\0"].concat();
    let total = strings + names.len() as u64;
    let mut out = Vec::new();
    let word = |out: &mut Vec<u8>, value: u64| {
        let bytes = value.to_le_bytes();
        out.extend_from_slice(if wide { &bytes } else { &bytes[..4] });
    };
    let half = |out: &mut Vec<u8>, value: u16| out.extend_from_slice(&value.to_le_bytes());
    let long = |out: &mut Vec<u8>, value: u32| out.extend_from_slice(&value.to_le_bytes());
    out.extend_from_slice(b"\x7fELF");
    out.extend_from_slice(&[if wide { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    half(&mut out, 3);
    half(&mut out, machine);
    long(&mut out, 1);
    word(&mut out, 0);
    word(&mut out, head);
    word(&mut out, 0);
    long(&mut out, 0);
    for value in [head as u16, entry as u16, 2, 0, 0, 0] {
        half(&mut out, value);
    }
    for (kind, offset, size) in [(1, 0, total), (2, dynamic, dynamic_size)] {
        long(&mut out, kind);
        if wide {
            long(&mut out, 4);
        }
        for value in [offset, base + offset, base + offset, size, size] {
            word(&mut out, value);
        }
        if !wide {
            long(&mut out, 4);
        }
        word(&mut out, 0x1000);
    }
    let name_tag = if soname.is_some() { 14 } else { 0 };
    for (tag, value) in [(5, base + strings), (name_tag, 1), (0, 0)] {
        word(&mut out, tag);
        word(&mut out, value);
    }
    out.extend_from_slice(&names);
    out
}
