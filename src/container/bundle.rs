//! A bundle: the directory with `config.json`, read once, checked, and never written.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libcontainer::validator::Validator;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{Mode, OFlags};

use super::lenient;

/// The largest config.json that is read: some hundred times what an engine writes.
const CONFIG_LIMIT: u64 = 16 << 20;

/// A loaded bundle.
#[derive(Debug)]
pub struct Bundle {
    /// Its absolute path, links resolved.
    pub path: PathBuf,
    /// Its spec.
    pub spec: Spec,
    /// The rootfs's absolute path, links resolved.
    pub rootfs: PathBuf,
}

/// A bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// No such directory.
    #[error("cannot open bundle {path}: {source}")]
    Directory {
        /// The path as given.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// config.json cannot be read.
    #[error("cannot read {path}: {source}{}", absent(source))]
    Read {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// config.json is not a spec.
    #[error("{path} is not a valid OCI spec: {reason}")]
    Parse {
        /// Its path.
        path: PathBuf,
        /// The parser's words with line and column.
        reason: String,
    },
    /// The rootfs is missing.
    #[error("cannot use root.path {path}: {source}")]
    Rootfs {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A field that cannot be honoured.
    #[error("invalid spec: {0}")]
    Invalid(String),
}

fn absent(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::NotFound => {
            "; name the bundle's directory with --bundle (gpurun spec writes a config.json)"
        }
        _ => "",
    }
}

impl Bundle {
    /// Reads and checks the bundle at `path`.
    ///
    /// # Errors
    /// Names the file or field.
    pub fn load(path: &Path) -> Result<Self, BundleError> {
        let path = real_directory(path)
            .map_err(|source| BundleError::Directory { path: path.to_owned(), source })?;
        let config = path.join("config.json");
        let mut spec = read_spec(&config)?;
        check(&spec).map_err(|err| match err {
            BundleError::Invalid(reason) => BundleError::Parse { path: config, reason },
            other => other,
        })?;
        let rootfs = rootfs(&path, &spec)?;
        destinations_in(&rootfs, &mut spec);
        Ok(Self { path, spec, rootfs })
    }
}

impl Bundle {
    /// Reads the bundle of a container that another runtime has created. What that one did not
    /// mind is not checked.
    ///
    /// # Errors
    /// Names the file or field.
    pub fn of_another_runtime(path: &Path) -> Result<Self, BundleError> {
        let path = real_directory(path)
            .map_err(|source| BundleError::Directory { path: path.to_owned(), source })?;
        let mut spec = read_spec(&path.join("config.json"))?;
        if spec.root().as_ref().is_none_or(|root| root.path().as_os_str().is_empty()) {
            return Err(BundleError::Invalid(
                "root.path is missing: there is no rootfs".to_owned(),
            ));
        }
        let rootfs = rootfs(&path, &spec)?;
        destinations_in(&rootfs, &mut spec);
        Ok(Self { path, spec, rootfs })
    }
}

fn rootfs(bundle: &Path, spec: &Spec) -> Result<PathBuf, BundleError> {
    let rootfs = bundle.join(spec.root().as_ref().map_or(Path::new(""), |root| root.path()));
    real_directory(&rootfs).map_err(|source| BundleError::Rootfs { path: rootfs, source })
}

/// Destinations that somebody wrote as paths of the host, below the rootfs, are seen from it: runc
/// takes them so.
fn destinations_in(rootfs: &Path, spec: &mut Spec) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if let Ok(inside) = mount.destination().strip_prefix(rootfs)
            && rootfs != Path::new("/")
        {
            let inside = Path::new("/").join(inside);
            mount.set_destination(inside);
        }
    }
}

/// The absolute path of a directory, links resolved: in three calls and not one per component.
fn real_directory(path: &Path) -> io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

fn read_spec(path: &Path) -> Result<Spec, BundleError> {
    let read = || {
        let meta = fs::metadata(path)?;
        // A FIFO or a device would block or never end.
        if !meta.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::with_capacity(meta.len().min(CONFIG_LIMIT) as usize);
        File::open(path)?.take(CONFIG_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > CONFIG_LIMIT {
            return Err(io::Error::other("it is larger than 16 MiB"));
        }
        Ok(bytes)
    };
    let bytes = read().map_err(|source| BundleError::Read { path: path.to_owned(), source })?;
    lenient::spec(&bytes)
        .map_err(|err| BundleError::Parse { path: path.to_owned(), reason: err.to_string() })
}

/// What runc's validator refuses, as far as it is not checked where the field is used.
pub(super) fn check(spec: &Spec) -> Result<(), BundleError> {
    let invalid = |text: String| Err(BundleError::Invalid(text));
    let version = spec.version();
    if version.split('.').next() != Some("1") {
        return invalid(format!("ociVersion {version:?} is not 1.x"));
    }
    if spec.process().is_none() {
        return invalid("process is missing: there is no program to run".to_owned());
    }
    if spec.root().as_ref().is_none_or(|root| root.path().as_os_str().is_empty()) {
        return invalid("root.path is missing: there is no rootfs".to_owned());
    }
    // The kernel's __NEW_UTS_LEN.
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let name = name.as_deref().unwrap_or_default();
        if name.len() > 64 || name.contains('\0') {
            return invalid(format!("{field} {name:?} is longer than 64 bytes or has a NUL byte"));
        }
    }
    let priority = spec.process().as_ref().and_then(|process| process.io_priority().as_ref());
    if let Some(priority) = priority.map(|io| io.priority()).filter(|n| !(0..=7).contains(n)) {
        return invalid(format!("process.ioPriority.priority {priority} is outside 0..7"));
    }
    // Sections for other platforms are theirs: ignored, as runc does.
    let Some(linux) = spec.linux() else {
        return invalid("linux is missing: a container needs linux.namespaces".to_owned());
    };
    for (field, paths) in [
        ("linux.maskedPaths", linux.masked_paths()),
        ("linux.readonlyPaths", linux.readonly_paths()),
    ] {
        if let Some(path) = paths.iter().flatten().find(|path| !path.starts_with('/')) {
            return invalid(format!("{field}: {path:?} is not an absolute path"));
        }
    }
    for device in linux.devices().iter().flatten() {
        if !device.path().is_absolute() {
            return invalid(format!("linux.devices: {:?} is not an absolute path", device.path()));
        }
        // To the kernel this number means "no change".
        if [device.uid(), device.gid()].contains(&Some(u32::MAX)) {
            return invalid(format!(
                "linux.devices: {:?} cannot belong to id {}: the kernel reserves it",
                device.path(),
                u32::MAX
            ));
        }
    }
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let has = |kind| namespaces.iter().any(|ns| ns.typ() == kind);
    if !has(LinuxNamespaceType::Mount) && has(LinuxNamespaceType::User) {
        return invalid(
            "a user namespace needs a mount namespace: without one nothing can be mounted".into(),
        );
    }
    // Hostname without a uts namespace, maps without a user namespace, offsets without a time
    // namespace, contradictions in sysctls and priorities.
    Validator::validate_spec(spec).map_err(|err| BundleError::Invalid(err.to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(linux: serde_json::Value) -> Spec {
        serde_json::from_value(serde_json::json!({
            "ociVersion": "1.2.0",
            "process": {"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"},
            "hostname": "h",
            "linux": linux,
        }))
        .expect("spec")
    }

    #[test]
    fn fields_that_need_a_namespace_are_refused_without_it() {
        let fails = |linux| check(&spec(linux)).expect_err("refused").to_string();
        let user = serde_json::json!({"namespaces": [{"type": "user"}, {"type": "uts"}]});
        assert!(fails(user).contains("mount namespace"));
        let mount = serde_json::json!({"namespaces": [{"type": "mount"}]});
        assert!(fails(mount).contains("UTS"));
        let both = serde_json::json!([{"type": "mount"}, {"type": "uts"}]);
        let map = serde_json::json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        assert!(
            fails(serde_json::json!({"namespaces": both, "uidMappings": map})).contains("user")
        );
        check(&spec(serde_json::json!({"namespaces": both}))).expect("valid");
        let device = serde_json::json!(
            {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "gid": u32::MAX});
        assert!(
            fails(serde_json::json!({"namespaces": both, "devices": [device]})).contains("/dev/x")
        );
    }

    #[test]
    fn a_config_that_is_no_spec_is_named_with_its_place() {
        let dir = std::env::temp_dir().join(format!("gpurun-bundle-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("directory");
        fs::write(dir.join("config.json"), "{\n\"ociVersion\": 1}").expect("file");
        let text = Bundle::load(&dir).expect_err("refused").to_string();
        assert!(text.contains("config.json") && text.contains("line 2"), "{text}");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
