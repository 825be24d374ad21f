//! NVIDIA's own user space, from Debian's non-free packages, unpacked as a driver root.
//!
//! The libraries are real: their size, SONAMEs, symbols and dependencies are those of a GPU
//! machine. apt runs with a private state, cache and source list, so the system's stay as they
//! are; nothing is installed.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;

const PACKAGES: &[&str] = &[
    "libcuda1",
    "libcudadebugger1",
    "libegl-nvidia0",
    "libgles-nvidia2",
    "libglx-nvidia0",
    "libnvcuvid1",
    "libnvidia-allocator1",
    "libnvidia-cfg1",
    "libnvidia-eglcore",
    "libnvidia-encode1",
    "libnvidia-fbc1",
    "libnvidia-glcore",
    "libnvidia-ml1",
    "libnvidia-nvvm4",
    "libnvidia-opticalflow1",
    "libnvidia-ptxjitcompiler1",
    "nvidia-cuda-mps",
    "nvidia-egl-common",
    "nvidia-opencl-common",
    "nvidia-opencl-icd",
    "nvidia-smi",
    "nvidia-vdpau-driver",
    "nvidia-vulkan-common",
];

/// A driver root of unpacked packages.
#[derive(Debug, Clone)]
pub struct Packages {
    /// The driver root.
    pub root: PathBuf,
    /// The driver's version, from the name of `libcuda`.
    pub version: String,
}

/// The packages' driver root, fetched on first use. Needs Debian's apt and its archive.
pub fn driver_root() -> io::Result<Packages> {
    let root = cache::entry("nvidia-packages", |dir| {
        let apt = dir.join(".apt");
        fetch(&apt)?;
        for archive in fs::read_dir(apt.join("debs"))? {
            run(Command::new("dpkg").arg("-x").arg(archive?.path()).arg(dir))?;
        }
        fs::remove_dir_all(apt)?;
        link_alternatives(dir)
    })?;
    let version = fs::read_dir(root.join(libraries()))?
        .flatten()
        .find_map(|e| Some(e.file_name().to_str()?.strip_prefix("libcuda.so.")?.to_owned()))
        .filter(|version| version.contains('.'));
    // The listing's first match can be the link libcuda.so.1, hence the second look.
    let version = match version {
        Some(version) => version,
        None => fs::read_link(root.join(libraries()).join("libcuda.so.1"))?
            .to_string_lossy()
            .trim_start_matches("libcuda.so.")
            .to_owned(),
    };
    Ok(Packages { root, version })
}

/// Where Debian keeps the driver's libraries, relative to the root.
pub fn libraries() -> String {
    format!("usr/lib/{}-linux-gnu/nvidia/current", std::env::consts::ARCH)
}

/// Makes the links that the packages' scripts make with update-alternatives. They are absolute,
/// so whoever follows them has to stay inside the driver root.
fn link_alternatives(root: &Path) -> io::Result<()> {
    let arch = std::env::consts::ARCH;
    let alternatives = root.join("etc/alternatives");
    fs::create_dir_all(&alternatives)?;
    fs::create_dir_all(root.join("usr/bin"))?;
    symlink("/usr/lib/nvidia/current/nvidia-smi", alternatives.join("nvidia--nvidia-smi"))?;
    symlink("/etc/alternatives/nvidia--nvidia-smi", root.join("usr/bin/nvidia-smi"))?;
    for name in ["libcuda.so.1", "libnvidia-ml.so.1"] {
        let alternative = format!("nvidia--{name}-{arch}-linux-gnu");
        symlink(format!("/{}/{name}", libraries()), alternatives.join(&alternative))?;
        let link = root.join(format!("usr/lib/{arch}-linux-gnu/{name}"));
        symlink(format!("/etc/alternatives/{alternative}"), link)?;
    }
    Ok(())
}

fn fetch(apt: &Path) -> io::Result<()> {
    for dir in ["state/lists/partial", "cache/archives/partial", "debs"] {
        fs::create_dir_all(apt.join(dir))?;
    }
    let sources = apt.join("debian.sources");
    fs::write(&sources, non_free_sources()?)?;
    let options = [
        format!("Dir::State={}", apt.join("state").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Retries=2".to_owned(),
        "Acquire::http::Timeout=20".to_owned(),
    ];
    let apt_get = || {
        let mut command = Command::new("apt-get");
        options.iter().for_each(|option| _ = command.args(["-o", option]));
        command.current_dir(apt.join("debs"));
        command
    };
    run(apt_get().args(["--quiet", "update"]))?;
    run(apt_get().args(["--quiet", "download"]).args(PACKAGES))
}

/// The system's Debian sources with only the component non-free.
fn non_free_sources() -> io::Result<String> {
    let mut stanzas = String::new();
    for entry in fs::read_dir("/etc/apt/sources.list.d")?.flatten() {
        if entry.path().extension().is_some_and(|e| e == "sources") {
            for stanza in fs::read_to_string(entry.path())?.split("\n\n") {
                stanzas.push_str(&rewritten(stanza).unwrap_or_default());
            }
        }
    }
    let list = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    for line in list.lines().filter(|line| line.starts_with("deb ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.iter().position(|word| word.contains("://"));
        if let Some([uri, suite, _, ..]) = place.and_then(|at| words.get(at..))
            && uri.contains("/debian")
        {
            stanzas.push_str(&format!(
                "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: non-free\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
            ));
        }
    }
    if stanzas.is_empty() {
        return Err(io::Error::other("this machine has no Debian package source"));
    }
    Ok(stanzas)
}

/// A Debian stanza with its components replaced; `None` for other archives.
fn rewritten(stanza: &str) -> Option<String> {
    let is_debian = |line: &str| line.starts_with("URIs:") && line.contains("/debian");
    if !stanza.lines().any(is_debian) {
        return None;
    }
    let lines = stanza.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.map(|line| match line.starts_with("Components:") {
        true => "Components: non-free",
        false => line,
    });
    Some(lines.collect::<Vec<_>>().join("\n") + "\n\n")
}

/// Runs a command; its error is what it wrote to stderr.
pub fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {}", text.trim())))
}
