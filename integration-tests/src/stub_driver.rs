//! A driver root with stubs: libraries with NVIDIA's names, SONAMEs and links but next to no code, small
//! static programs, firmware and configuration files. Made once per version and kept in the
//! test cache, because nothing writes to it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache;

/// One stub library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Library {
    /// The part before `.so`, with a subdirectory where it lives in one.
    pub stem: &'static str,
    /// The number in its SONAME; `None` where the SONAME is the versioned file name itself.
    pub soname: Option<u32>,
    /// The driver capabilities that bring it.
    pub capabilities: &'static [&'static str],
    /// Functions that it defines, each returning 0.
    pub functions: &'static [&'static str],
}

const fn library(
    stem: &'static str,
    soname: Option<u32>,
    capabilities: &'static [&'static str],
) -> Library {
    Library { stem, soname, capabilities, functions: &[] }
}

/// The libraries of the stub driver. The capability of each follows NVIDIA's own lists.
pub const LIBRARIES: &[Library] = &[
    Library {
        functions: &["cuInit", "cuDriverGetVersion", "cuDeviceGetCount"],
        ..library("libcuda", Some(1), &["compute"])
    },
    Library {
        functions: &["nvmlInit_v2", "nvmlShutdown"],
        ..library("libnvidia-ml", Some(1), &["utility"])
    },
    library("libnvidia-cfg", Some(1), &["utility"]),
    library("libcudadebugger", Some(1), &["compute"]),
    library("libnvidia-allocator", Some(1), &["compute", "graphics"]),
    library("libnvidia-nvvm", Some(4), &["compute"]),
    library("libnvidia-opencl", Some(1), &["compute"]),
    library("libnvidia-ptxjitcompiler", Some(1), &["compute"]),
    library("libnvcuvid", Some(1), &["video"]),
    library("libnvidia-encode", Some(1), &["video"]),
    library("libnvidia-opticalflow", Some(1), &["video"]),
    library("vdpau/libvdpau_nvidia", Some(1), &["video"]),
    library("libEGL_nvidia", Some(0), &["graphics"]),
    library("libGLESv1_CM_nvidia", Some(1), &["graphics"]),
    library("libGLESv2_nvidia", Some(2), &["graphics"]),
    library("libGLX_nvidia", Some(0), &["graphics"]),
    library("libnvidia-eglcore", None, &["graphics"]),
    library("libnvidia-fbc", Some(1), &["graphics"]),
    library("libnvidia-glcore", None, &["graphics"]),
    library("libnvidia-glsi", None, &["graphics"]),
    library("libnvidia-glvkspirv", None, &["graphics"]),
    library("libnvidia-rtcore", None, &["graphics"]),
    library("libnvidia-tls", None, &["graphics"]),
    library("libnvoptix", Some(1), &["graphics"]),
    library("libnvidia-ngx", Some(1), &["ngx"]),
];

/// Stub libraries that exist for 32-bit programs too (capability `compat32`).
pub const LIBRARIES_32: &[&str] = &["libcuda", "libnvidia-ml"];

impl Library {
    /// Whether one of these driver capabilities brings it.
    pub fn is_for(&self, capabilities: &[&str]) -> bool {
        self.capabilities.iter().any(|own| capabilities.contains(own))
    }

    /// The file name without directory, such as `libcuda.so.535.261.03`.
    pub fn file_name(&self, version: &str) -> String {
        format!("{}.so.{version}", self.base())
    }

    /// The SONAME, such as `libcuda.so.1`.
    pub fn soname(&self, version: &str) -> String {
        match self.soname {
            Some(number) => format!("{}.so.{number}", self.base()),
            None => self.file_name(version),
        }
    }

    fn base(&self) -> &'static str {
        self.stem.rsplit('/').next().unwrap_or(self.stem)
    }
}

/// The stub driver root of this version, made on first use.
pub fn cached(version: &str) -> io::Result<PathBuf> {
    cache::entry(&format!("stub-driver-{version}"), |dir| build(dir, version))
}

/// Makes a stub driver root in `dir`. Needs `cc`.
pub fn build(dir: &Path, version: &str) -> io::Result<()> {
    let arch = std::env::consts::ARCH;
    let libdir = dir.join(format!("usr/lib/{arch}-linux-gnu"));
    for library in LIBRARIES {
        compile_library(&libdir, library, version, &[])?;
    }
    if arch == "x86_64" {
        for library in LIBRARIES.iter().filter(|l| LIBRARIES_32.contains(&l.stem)) {
            compile_library(&dir.join("usr/lib/i386-linux-gnu"), library, version, &["-m32"])?;
        }
    }
    symlink("libcuda.so.1", libdir.join("libcuda.so"))?;

    let bin = dir.join("usr/bin");
    fs::create_dir_all(&bin)?;
    compile(
        SMI_SOURCE,
        &bin.join("nvidia-smi"),
        &["-static", &format!("-DVERSION=\"{version}\"")],
    )?;
    for name in [
        "nvidia-debugdump",
        "nvidia-persistenced",
        "nvidia-cuda-mps-control",
        "nvidia-cuda-mps-server",
    ] {
        fs::copy(bin.join("nvidia-smi"), bin.join(name))?;
    }
    let firmware = dir.join("lib/firmware/nvidia").join(version);
    fs::create_dir_all(&firmware)?;
    for name in ["gsp_ga10x.bin", "gsp_tu10x.bin"] {
        fs::write(firmware.join(name), "stub firmware\n")?;
    }
    for (path, text) in DATA {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, text)?;
    }
    Ok(())
}

const DATA: &[(&str, &str)] = &[
    ("etc/OpenCL/vendors/nvidia.icd", "libnvidia-opencl.so.1\n"),
    (
        "usr/share/glvnd/egl_vendor.d/10_nvidia.json",
        "{\"file_format_version\":\"1.0.0\",\"ICD\":{\"library_path\":\"libEGL_nvidia.so.0\"}}\n",
    ),
    (
        "usr/share/vulkan/icd.d/nvidia_icd.json",
        "{\"file_format_version\":\"1.0.0\",\"ICD\":{\"library_path\":\"libGLX_nvidia.so.0\",\"api_version\":\"1.3\"}}\n",
    ),
];

/// Prints what NVIDIA's tool prints first: the version, and one line per GPU node in /dev.
const SMI_SOURCE: &str = r#"
#include <dirent.h>
#include <stdio.h>
#include <ctype.h>
#include <string.h>
int main(void) {
    int found = 0;
    printf("NVIDIA-SMI (stub)  Driver Version: %s\n", VERSION);
    DIR *dev = opendir("/dev");
    for (struct dirent *e; dev && (e = readdir(dev));)
        if (!strncmp(e->d_name, "nvidia", 6) && isdigit((unsigned char)e->d_name[6]))
            found++, printf("GPU node: /dev/%s\n", e->d_name);
    if (!found) puts("No devices found.");
    return 0;
}
"#;

fn compile_library(dir: &Path, library: &Library, version: &str, flags: &[&str]) -> io::Result<()> {
    let file = dir.join(format!("{}.so.{version}", library.stem));
    let parent = file.parent().unwrap_or(dir);
    fs::create_dir_all(parent)?;
    let source: String =
        library.functions.iter().map(|f| format!("int {f}(void) {{ return 0; }}\n")).collect();
    let soname = library.soname(version);
    let soname_flag = format!("-Wl,-soname,{soname}");
    let mut args = vec!["-shared", "-fPIC", "-nostdlib", &soname_flag];
    args.extend(flags);
    compile(&source, &file, &args)?;
    if soname != library.file_name(version) {
        symlink(library.file_name(version), parent.join(soname))?;
    }
    Ok(())
}

/// Compiles C source text with `cc`.
pub fn compile(source: &str, output: &Path, flags: &[&str]) -> io::Result<()> {
    let mut child = Command::new("cc")
        .args(["-O1", "-x", "c", "-", "-o"])
        .arg(output)
        .args(flags)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("run cc (a C compiler is needed): {e}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(source.as_bytes())?;
    }
    let done = child.wait_with_output()?;
    if !done.status.success() {
        let text = String::from_utf8_lossy(&done.stderr);
        return Err(io::Error::other(format!("cc -o {}: {text}", output.display())));
    }
    fs::set_permissions(output, fs::Permissions::from_mode(0o755))
}
