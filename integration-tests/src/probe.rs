//! Small C programs that look at a container from inside, compiled on first use.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;

use crate::{cache, stub_driver};

/// `nodes`: static, needs nothing in the image. See `probe/nodes.c` for its commands.
pub fn nodes() -> io::Result<PathBuf> {
    compiled("nodes", include_str!("probe/nodes.c"), &["-static"])
}

/// `prowl`: static, attacks the runtime's processes from inside. See `probe/prowl.c`.
pub fn prowl() -> io::Result<PathBuf> {
    compiled("prowl", include_str!("probe/prowl.c"), &["-static"])
}

/// `hijack`: static, speaks for the runtime's processes. See `probe/hijack.c`.
pub fn hijack() -> io::Result<PathBuf> {
    compiled("hijack", include_str!("probe/hijack.c"), &["-static"])
}

/// `faults`: lets system calls fail. See `probe/faults.c`.
pub fn faults() -> io::Result<PathBuf> {
    compiled("faults", include_str!("probe/faults.c"), &["-static"])
}

/// `rules`: static, tries to change the device program of a cgroup. See `probe/rules.c`.
pub fn rules() -> io::Result<PathBuf> {
    compiled("rules", include_str!("probe/rules.c"), &["-static"])
}

/// `symbols`: dynamic, for images with glibc.
pub fn symbols() -> io::Result<PathBuf> {
    compiled("symbols", include_str!("probe/symbols.c"), &["-ldl"])
}

fn compiled(name: &str, source: &str, flags: &[&str]) -> io::Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    source.hash(&mut hash);
    let key = format!("probe-{name}-{:016x}", hash.finish());
    let dir = cache::entry(&key, |dir| stub_driver::compile(source, &dir.join(name), flags))?;
    Ok(dir.join(name))
}
