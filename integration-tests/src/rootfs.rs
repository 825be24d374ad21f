//! A root file system made of one static busybox.
//!
//! Each test gets its own: 2 MB copied and a hundred links take about two milliseconds, and no
//! test can disturb another one through a shared file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const APPLETS: &[&str] = &[
    "[", "awk", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dmesg",
    "echo", "env", "false", "find", "grep", "groups", "head", "hostname", "id", "ifconfig", "ip",
    "ipcs", "kill", "ln", "ls", "mkdir", "mkfifo", "mknod", "mktemp", "mount", "mv", "nproc",
    "nsenter", "od", "printenv", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "seq",
    "setsid", "sh", "sleep", "sort", "stat", "stty", "sync", "tail", "tee", "test", "timeout",
    "touch", "tr", "true", "tty", "umount", "uname", "unshare", "wc", "which", "whoami", "yes",
];

/// Where Debian's busybox-static, and others, put a busybox without shared libraries.
const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"];

/// Builds the tree at `path`, which must not exist.
pub fn build(path: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "usr/bin", "var/lib"] {
        fs::create_dir_all(path.join(directory)).expect("create a rootfs directory");
    }
    fs::create_dir(path.join("tmp")).expect("create /tmp");
    fs::set_permissions(path.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod /tmp");
    fs::copy(busybox(), path.join("bin/busybox")).expect("copy busybox");
    for applet in APPLETS {
        symlink("busybox", path.join("bin").join(applet)).expect("link an applet");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
    fs::write(path.join("etc/passwd"), passwd).expect("write /etc/passwd");
    fs::write(path.join("etc/group"), "root:x:0:\nalice:x:1000:\n").expect("write /etc/group");
}

/// Takes away what is at `path`, and makes its parents.
pub fn clear(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path).expect("remove a directory");
    } else {
        let _ = fs::remove_file(path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("make the parents");
    }
}

/// Gives the whole tree to `uid`:`gid`, for containers whose root is that user on the host.
pub fn give_to(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).expect("lchown");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("read the rootfs").flatten() {
            give_to(&entry.path(), uid, gid);
        }
    }
}

fn busybox() -> PathBuf {
    BUSYBOX
        .iter()
        .map(PathBuf::from)
        .find(|path| fs::read(path).is_ok_and(|elf| is_static(&elf)))
        .expect("no static busybox found: install the package busybox-static")
}

/// A static program has no PT_INTERP header, and so does not name a loader.
fn is_static(elf: &[u8]) -> bool {
    let start = elf.get(..4096).unwrap_or(elf);
    elf.starts_with(b"\x7fELF") && !start.windows(8).any(|w| w == b"ld-linux" || w == b"/ld-musl")
}
