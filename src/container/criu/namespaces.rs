//! Namespaces that the container joined by path: they belong to somebody else, who has them ready
//! when the container comes back.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rust_criu::rust_criu_protobuf::rpc::{Criu_opts, Inherit_fd, Join_namespace};

use super::client::Criu;

/// What criu calls each kind, and the version from which it takes one from outside by descriptor.
fn describe(kind: LinuxNamespaceType) -> (&'static str, Option<u32>) {
    match kind {
        LinuxNamespaceType::Network => ("net", Some(3_11_00)),
        LinuxNamespaceType::Pid => ("pid", Some(3_15_00)),
        LinuxNamespaceType::Mount => ("mnt", None),
        LinuxNamespaceType::Uts => ("uts", None),
        LinuxNamespaceType::Ipc => ("ipc", None),
        LinuxNamespaceType::User => ("user", None),
        LinuxNamespaceType::Cgroup => ("cgroup", None),
        LinuxNamespaceType::Time => ("time", None),
    }
}

/// `extRootNetNS`: runc's names, so that its images can be restored.
fn key(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    format!("extRoot{}NS", first.chain(letters).collect::<String>())
}

/// The joined namespaces of the spec: kind and path.
fn joined(spec: &Spec) -> impl Iterator<Item = (LinuxNamespaceType, &Path)> {
    let linux = spec.linux().as_ref();
    let list = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    list.iter().filter_map(|namespace| {
        let path = namespace.path().as_deref()?;
        (!path.as_os_str().is_empty()).then_some((namespace.typ(), path))
    })
}

/// Tells a dump which namespaces are not the container's.
///
/// # Errors
/// criu is too old for it, or the namespace has gone.
pub fn declare(spec: &Spec, criu: &Criu, options: &mut Criu_opts) -> Result<()> {
    for (kind, path) in joined(spec) {
        let (name, Some(minimum)) = describe(kind) else { continue };
        if !criu.is_at_least(minimum) {
            bail!(
                "criu lacks support for external {name} namespace during checkpointing process \
                 (old criu version?)"
            );
        }
        let inode = fs::metadata(path)
            .with_context(|| format!("cannot look at the namespace {}", path.display()))?
            .ino();
        options.external.push(format!("{name}[{inode}]:{}", key(name)));
    }
    Ok(())
}

/// Tells a restore where the namespaces are. Returns the open ones, which criu has to inherit.
///
/// # Errors
/// criu cannot join such a namespace, or it has gone.
pub fn provide(spec: &Spec, criu: &Criu, options: &mut Criu_opts) -> Result<Vec<OwnedFd>> {
    let mut open = Vec::new();
    for (kind, path) in joined(spec) {
        let (name, minimum) = describe(kind);
        let Some(minimum) = minimum else {
            if kind == LinuxNamespaceType::Cgroup {
                bail!("criu cannot restore into a cgroup namespace joined by path");
            }
            let mut join = Join_namespace::new();
            join.set_ns(name.to_owned());
            let text = path.to_str().context("the path of a namespace is not UTF-8")?;
            join.set_ns_file(text.to_owned());
            options.join_ns.push(join);
            continue;
        };
        if !criu.is_at_least(minimum) {
            bail!(
                "criu lacks support for external {name} namespace during the restoration process \
                 (old criu version?)"
            );
        }
        let file = File::open(path).with_context(|| {
            format!("Requested {name} namespace {} does not exist", path.display())
        })?;
        let mut inherit = Inherit_fd::new();
        inherit.set_key(key(name));
        inherit.set_fd(file.as_raw_fd());
        options.inherit_fd.push(inherit);
        open.push(file.into());
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_namespaces_in_images_are_runcs() {
        assert_eq!(super::key("net"), "extRootNetNS");
        assert_eq!(super::key("pid"), "extRootPidNS");
    }
}
