//! Which libraries belong to which driver capability.
//!
//! The table follows NVIDIA's own lists. A library with the driver's version that it does not
//! name belongs to compute and graphics, so that no library of a newer driver is lost.

use super::capabilities::Capabilities;
use super::kernel::is_version;

const UTILITY: Capabilities = Capabilities::UTILITY;
const COMPUTE: Capabilities = Capabilities::COMPUTE;
const VIDEO: Capabilities = Capabilities::VIDEO;
const NGX: Capabilities = Capabilities::NGX;
/// Display brings what graphics brings.
const GRAPHICS: Capabilities = Capabilities::GRAPHICS.or(Capabilities::DISPLAY);
const COMPUTE_GRAPHICS: Capabilities = COMPUTE.or(GRAPHICS);

const TABLE: [(&str, Capabilities); 48] = [
    ("libnvidia-ml", UTILITY),
    ("libnvidia-cfg", UTILITY),
    ("libnvidia-nscq", UTILITY),
    ("libnvsdm", UTILITY),
    ("libnvidia-sandboxutils", UTILITY),
    ("libcuda", COMPUTE),
    ("libcudadebugger", COMPUTE),
    ("libnvidia-opencl", COMPUTE),
    ("libnvidia-ptxjitcompiler", COMPUTE),
    ("libnvidia-fatbinaryloader", COMPUTE),
    ("libnvidia-compiler", COMPUTE),
    ("libnvidia-pkcs11", COMPUTE),
    ("libnvidia-pkcs11-openssl3", COMPUTE),
    ("libnvidia-nvvm", COMPUTE),
    ("libnvidia-nvvm70", COMPUTE),
    ("libnvidia-tileiras", COMPUTE),
    ("libnvidia-gpucomp", COMPUTE_GRAPHICS),
    ("libnvidia-allocator", COMPUTE_GRAPHICS),
    ("libvdpau_nvidia", VIDEO),
    ("libnvidia-encode", VIDEO),
    ("libnvidia-opticalflow", VIDEO),
    ("libnvcuvid", VIDEO),
    ("libnvidia-eglcore", GRAPHICS),
    ("libnvidia-glcore", GRAPHICS),
    ("libnvidia-tls", GRAPHICS),
    ("libnvidia-glsi", GRAPHICS),
    ("libnvidia-fbc", GRAPHICS),
    ("libnvidia-ifr", GRAPHICS),
    ("libnvidia-rtcore", GRAPHICS),
    ("libnvoptix", GRAPHICS),
    ("libGLX_nvidia", GRAPHICS),
    ("libEGL_nvidia", GRAPHICS),
    ("libGLESv2_nvidia", GRAPHICS),
    ("libGLESv1_CM_nvidia", GRAPHICS),
    ("libnvidia-glvkspirv", GRAPHICS),
    ("libnvidia-cbl", GRAPHICS),
    ("libnvidia-vulkan-producer", GRAPHICS),
    ("libnvidia-egl-gbm", GRAPHICS),
    ("libnvidia-egl-wayland", GRAPHICS),
    ("libnvidia-egl-wayland2", GRAPHICS),
    ("libnvidia-egl-xcb", GRAPHICS),
    ("libnvidia-egl-xlib", GRAPHICS),
    ("libnvidia-present", GRAPHICS),
    ("libnvidia-vksc-core", GRAPHICS),
    ("libnvidia-wayland-client", GRAPHICS),
    ("libnvidia-gtk2", Capabilities::DISPLAY),
    ("libnvidia-gtk3", Capabilities::DISPLAY),
    ("libnvidia-ngx", NGX),
];

/// X server modules lie among the libraries of some distributions; they are no libraries.
const MODULES: [&str; 2] = ["libglxserver_nvidia", "nvidia_drv"];

/// Prefix of the libraries that bring a version of their own.
const EGL_PLATFORM: &str = "libnvidia-egl-";

/// The capabilities that a file of a library directory belongs to, with its name before `.so.`.
/// `None`: it is no library of this driver.
pub fn classify<'a>(name: &'a str, version: &str) -> Option<(&'a str, Capabilities)> {
    let (stem, suffix) = name.split_once(".so.")?;
    let known = TABLE.iter().find(|(known, _)| *known == stem).map(|(_, set)| *set);
    let own_version = (stem.starts_with(EGL_PLATFORM) && is_version(suffix))
        || (stem == "libnvidia-nvvm70" && suffix.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    if MODULES.contains(&stem) || !(suffix == version || own_version && known.is_some()) {
        return None;
    }
    Some((stem, known.unwrap_or(COMPUTE_GRAPHICS)))
}

/// What to look for in the table: video needs compute's libraries.
pub fn expanded(wanted: Capabilities) -> Capabilities {
    if wanted.any(VIDEO) { wanted.or(COMPUTE) } else { wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Option<Capabilities> {
        classify(name, "535.1.2").map(|(_, set)| set)
    }

    #[test]
    fn known_names_have_their_capability_and_new_ones_compute_and_graphics() {
        assert_eq!(set("libcuda.so.535.1.2"), Some(COMPUTE));
        assert_eq!(set("libnvidia-ml.so.535.1.2"), Some(UTILITY));
        assert_eq!(set("libnvidia-brandnew.so.535.1.2"), Some(COMPUTE_GRAPHICS));
        assert_eq!(set("libnvidia-egl-gbm.so.1.1.0"), Some(GRAPHICS));
        assert_eq!(set("libnvidia-nvvm70.so.4"), Some(COMPUTE));
    }

    #[test]
    fn other_versions_links_and_modules_are_not_the_drivers_libraries() {
        for name in [
            "libcuda.so.535.1.3",
            "libcuda.so.1",
            "libcuda.so",
            "libc.so.6",
            "libnvidia-egl-gbm.so.1",
            "libglxserver_nvidia.so.535.1.2",
            "libnvidia-egl-other.so.1.1.0",
            "nvidia_drv.so",
        ] {
            assert_eq!(set(name), None, "{name}");
        }
    }
}
