//! Root file systems that differ in where libraries live and how they are found.
//!
//! Each is made once and copied for every test.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::nvidia_packages::run;
use crate::{cache, probe, rootfs};

const ARCH: &str = std::env::consts::ARCH;

/// A Debian of the machine's own release, so that programs compiled here run in it. Made with
/// debootstrap from Debian's archive; without documentation and package lists.
pub fn debian() -> io::Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release")?;
    let value = |key: &str| release.lines().find_map(|line| line.strip_prefix(key));
    let codename = match (value("ID="), value("VERSION_CODENAME=")) {
        (Some("debian"), Some(codename)) => codename.trim_matches('"'),
        _ => return Err(io::Error::other("this machine does not run Debian")),
    };
    cache::entry(&format!("debian-{codename}"), |dir| {
        run(Command::new("debootstrap").args(["--variant=minbase", codename]).arg(dir))?;
        for left_out in [
            "var/cache/apt",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/locale",
            "usr/share/man",
        ] {
            fs::remove_dir_all(dir.join(left_out))?;
            fs::create_dir_all(dir.join(left_out))?;
        }
        // debootstrap leaves nodes that only a container's own /dev should have.
        fs::remove_dir_all(dir.join("dev"))?;
        fs::create_dir(dir.join("dev"))?;
        add_probes(dir)
    })
}

/// glibc and busybox in Debian's layout, without ldconfig and without a loader cache.
pub fn without_ldconfig() -> io::Result<PathBuf> {
    cache::entry("image-without-ldconfig", |dir| {
        base(dir)?;
        let libraries = dir.join(format!("usr/lib/{ARCH}-linux-gnu"));
        fs::create_dir_all(&libraries)?;
        fs::create_dir_all(dir.join("usr/lib64"))?;
        symlink("usr/lib", dir.join("lib"))?;
        symlink("usr/lib64", dir.join("lib64"))?;
        fs::write(dir.join("etc/debian_version"), "12.0\n")?;
        copy_glibc(dir, &libraries)
    })
}

/// Fedora's layout: everything in `/usr/lib64`, found through the loader's cache alone, because
/// the loader at hand is Debian's and does not look there by itself.
pub fn fedora_like() -> io::Result<PathBuf> {
    cache::entry("image-fedora-like", |dir| {
        base(dir)?;
        let libraries = dir.join("usr/lib64");
        fs::create_dir_all(&libraries)?;
        fs::create_dir_all(dir.join("usr/lib"))?;
        fs::create_dir_all(dir.join("usr/sbin"))?;
        fs::create_dir_all(dir.join("etc/ld.so.conf.d"))?;
        symlink("usr/lib", dir.join("lib"))?;
        symlink("usr/lib64", dir.join("lib64"))?;
        symlink("usr/sbin", dir.join("sbin"))?;
        fs::write(dir.join("etc/os-release"), "ID=fedora\nVERSION_ID=42\n")?;
        fs::write(dir.join("etc/ld.so.conf"), "include ld.so.conf.d/*.conf\n")?;
        fs::write(dir.join("etc/ld.so.conf.d/lib64.conf"), "/usr/lib64\n")?;
        copy_glibc(dir, &libraries)?;
        fs::copy("/sbin/ldconfig", dir.join("usr/sbin/ldconfig"))?;
        run(Command::new("/sbin/ldconfig").arg("-r").arg(dir))
    })
}

/// Alpine's layout: musl as loader and C library, and a probe linked with it. Needs Debian's
/// packages musl and musl-tools.
pub fn alpine_like() -> io::Result<PathBuf> {
    cache::entry("image-alpine-like", |dir| {
        base(dir)?;
        let loader = format!("lib/ld-musl-{ARCH}.so.1");
        fs::create_dir_all(dir.join("lib"))?;
        fs::create_dir_all(dir.join("usr/lib"))?;
        fs::copy(Path::new("/").join(&loader), dir.join(&loader))?;
        fs::write(dir.join("etc/alpine-release"), "3.22.0\n")?;
        fs::write(dir.join("etc/os-release"), "ID=alpine\n")?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/probe/symbols.c");
        run(Command::new("musl-gcc").arg(source).arg("-o").arg(dir.join("bin/symbols")))
    })
}

/// Copies an image to `target`, replacing what is there.
pub fn install(image: &Path, target: &Path) -> io::Result<()> {
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    run(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(image).arg(target))
}

/// Every file below `root` but those in `except`: type, mode, owner, size, link text and, but
/// for directories, the time of the last change of content.
pub fn listing(root: &Path, except: &[&str]) -> io::Result<Vec<String>> {
    let format = "%P %y %m %U:%G %l";
    let output = Command::new("find")
        .arg(root)
        .args(["-mindepth", "1", "-type", "d", "-printf", &format!("{format}\\n")])
        .args(["-o", "-mindepth", "1", "-printf", &format!("{format} %s %T@\\n")])
        .output()?;
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !except.iter().any(|path| line.split(' ').next() == Some(path)))
        .map(str::to_owned)
        .collect();
    lines.sort();
    Ok(lines)
}

fn base(dir: &Path) -> io::Result<()> {
    fs::remove_dir(dir)?;
    rootfs::build(dir);
    fs::copy(probe::nodes()?, dir.join("bin/nodes")).map(|_| ())
}

fn add_probes(dir: &Path) -> io::Result<()> {
    fs::copy(probe::nodes()?, dir.join("usr/bin/nodes"))?;
    fs::copy(probe::symbols()?, dir.join("usr/bin/symbols")).map(|_| ())
}

/// Copies the probe `symbols` and the libraries that it and the driver's libraries need, as the
/// machine's own loader finds them.
fn copy_glibc(dir: &Path, libraries: &Path) -> io::Result<()> {
    let probe = probe::symbols()?;
    fs::copy(&probe, dir.join("bin/symbols"))?;
    let listed = Command::new("ldd").arg(&probe).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for path in paths.map(Path::new) {
        let name = path.file_name().unwrap_or_default().to_os_string();
        let is_loader = name.to_string_lossy().starts_with("ld-linux");
        let target = if is_loader { dir.join("usr/lib64") } else { libraries.to_owned() };
        fs::copy(path, target.join(name))?;
    }
    for name in ["libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"] {
        let path = Path::new("/lib").join(format!("{ARCH}-linux-gnu")).join(name);
        fs::copy(path, libraries.join(name))?;
    }
    Ok(())
}
