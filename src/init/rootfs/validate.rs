//! What can be refused on the host, from the spec alone.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount};

use super::options::{IdMapping, MountOptions};
use super::{sysctl, target};

/// A mount that cannot be made, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("mount {dest:?}: {what}")]
pub struct InvalidMount {
    /// The destination in the spec.
    pub dest: PathBuf,
    /// What is wrong and what to do.
    pub what: String,
}

/// Looks for mounts that no kernel can make. `userns` says that the container is in a user
/// namespace of its own, whose id maps an id-mapped mount without its own then takes.
///
/// # Errors
/// The first of them.
pub fn validate_mounts(mounts: &[Mount], userns: bool) -> Result<(), InvalidMount> {
    for mount in mounts {
        invalidity(mount, userns)
            .map_or(Ok(()), |what| Err(InvalidMount { dest: mount.destination().clone(), what }))?;
    }
    Ok(())
}

/// Options of bind mounts that nothing can be made of: they are a filesystem's, and that one has
/// been mounted already. runc 1.1 takes no notice of them, newer ones refuse them; here they are
/// ignored and said.
#[must_use]
pub fn ignored_options(mounts: &[Mount]) -> Vec<String> {
    let ignored = |mount: &Mount| {
        let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
        let bind = options.bind || mount.typ().as_deref() == Some("bind");
        let option = options.data.first().filter(|_| bind && !options.remount)?;
        let dest = mount.destination();
        Some(format!("mount {dest:?}: a bind mount has no option {option:?}; it is ignored"))
    };
    mounts.iter().filter_map(ignored).collect()
}

fn invalidity(mount: &Mount, userns: bool) -> Option<String> {
    let dest = mount.destination();
    let list = mount.options().as_deref().unwrap_or_default();
    let options = MountOptions::parse(list);
    let fstype = mount.typ().as_deref().unwrap_or_default();
    let bind = options.bind || fstype == "bind";
    let has_nul = |bytes: &[u8]| bytes.contains(&0);

    if dest.as_os_str().is_empty() {
        return Some("the destination is empty".to_owned());
    }
    if target::clean(dest) == Path::new("/") {
        return Some("nothing can be mounted on the root; change root.path instead".to_owned());
    }
    if has_nul(dest.as_os_str().as_bytes())
        || mount.source().as_ref().is_some_and(|source| has_nul(source.as_os_str().as_bytes()))
        || list.iter().any(|option| has_nul(option.as_bytes()))
        || has_nul(fstype.as_bytes())
    {
        return Some("a NUL byte in a path or option".to_owned());
    }
    let ids = IdMapping::of(mount, &options);
    if ids.is_some() && (!bind || options.remount) {
        return Some("id-mapped mounts are only supported for bind mounts".to_owned());
    }
    match ids {
        Some(ids) if ids.uids.is_empty() != ids.gids.is_empty() => {
            return Some(
                "id-mapped mounts need both uidMappings and gidMappings, or neither".to_owned(),
            );
        }
        Some(ids) if ids.uids.is_empty() && !userns => {
            return Some(
                "id-mapped mounts must have both uidMappings and gidMappings specified: the \
                 container has no user namespace whose maps they could take"
                    .to_owned(),
            );
        }
        _ => {}
    }
    if options.copy_up && fstype != "tmpfs" {
        return Some("tmpcopyup is for mounts of type tmpfs; remove it".to_owned());
    }
    let no_source = mount.source().as_ref().is_none_or(|source| source.as_os_str().is_empty());
    if bind && !options.remount && no_source {
        return Some("a bind mount needs a source".to_owned());
    }
    if !bind && !options.remount && fstype.is_empty() {
        return Some("the type is missing; give one, or the option bind".to_owned());
    }
    None
}

/// Which namespaces of its own a container has, as far as sysctls care.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SysctlNamespaces {
    /// An ipc namespace.
    pub ipc: bool,
    /// A network namespace other than the host's.
    pub net: bool,
    /// A uts namespace.
    pub uts: bool,
    /// A user namespace.
    pub user: bool,
}

impl SysctlNamespaces {
    /// Those of a spec. A network namespace given by path is compared with the host's: the only
    /// look at the machine, and only in that case.
    #[must_use]
    pub fn of(namespaces: &[LinuxNamespace]) -> Self {
        let get = |typ| namespaces.iter().find(|namespace| namespace.typ() == typ);
        let has = |typ| get(typ).is_some();
        let net = get(LinuxNamespaceType::Network).is_some_and(|net| match net.path() {
            Some(path) if !path.as_os_str().is_empty() => !is_host_net(path),
            _ => true,
        });
        Self {
            ipc: has(LinuxNamespaceType::Ipc),
            net,
            uts: has(LinuxNamespaceType::Uts),
            user: has(LinuxNamespaceType::User),
        }
    }
}

/// Whether `path` is the network namespace of this process. What cannot be examined counts as
/// the host's.
fn is_host_net(path: &Path) -> bool {
    match (rustix::fs::stat(path), rustix::fs::stat(c"/proc/self/ns/net")) {
        (Ok(theirs), Ok(ours)) => (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino),
        _ => true,
    }
}

/// A sysctl that would change the host, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("sysctl {key:?} {what}")]
pub struct InvalidSysctl {
    /// The key in the spec.
    pub key: String,
    /// What is wrong.
    pub what: &'static str,
}

/// The sysctls of an ipc namespace, besides `fs.mqueue.*`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Accepts only sysctls that belong to a namespace of the container's own, as runc does.
///
/// # Errors
/// The first one that does not.
pub fn validate_sysctls<'a>(
    keys: impl IntoIterator<Item = &'a String>,
    namespaces: SysctlNamespaces,
) -> Result<(), InvalidSysctl> {
    for key in keys {
        if let Some(what) = sysctl_invalidity(&sysctl::dotted(key), namespaces) {
            return Err(InvalidSysctl { key: key.clone(), what });
        }
    }
    Ok(())
}

fn sysctl_invalidity(key: &str, own: SysctlNamespaces) -> Option<&'static str> {
    // `dotted` has made dots of all separators, so an empty name is a `..`, a `//` or an end.
    if key.split('.').any(str::is_empty) || key.contains("/.") || key.contains('\0') {
        return Some("is not a sysctl name");
    }
    if IPC.contains(&key) || key.starts_with("fs.mqueue.") {
        return (!own.ipc).then_some("is not allowed in the hosts ipc namespace");
    }
    if key.starts_with("net.") {
        return (!own.net).then_some("not allowed in host network namespace");
    }
    if key.starts_with("user.") {
        return (!own.user).then_some("is not allowed without a user namespace of its own");
    }
    match key {
        "kernel.domainname" if own.uts => None,
        "kernel.hostname" if own.uts => {
            Some("is not allowed as it conflicts with the OCI \"hostname\" field")
        }
        _ => Some("is not in a separate kernel namespace"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: SysctlNamespaces = SysctlNamespaces { ipc: true, net: true, uts: true, user: true };

    fn check(key: &str, namespaces: SysctlNamespaces) -> Result<(), InvalidSysctl> {
        validate_sysctls(&[key.to_owned()], namespaces)
    }

    #[test]
    fn a_sysctl_needs_the_namespace_that_it_belongs_to() {
        let none = SysctlNamespaces::default();
        for key in ["kernel.shmmax", "fs.mqueue.msg_max", "net/ipv4/ip_forward", "user.max_x"] {
            assert_eq!(check(key, ALL), Ok(()), "{key}");
            assert!(check(key, none).is_err(), "{key}");
        }
        assert_eq!(check("kernel.domainname", ALL), Ok(()));
        assert!(check("kernel.domainname", none).is_err());
    }

    #[test]
    fn host_sysctls_and_escapes_are_refused() {
        for key in [
            "kernel.core_pattern",
            "kernel.hostname",
            "vm.swappiness",
            "net..kernel.core_pattern",
            "net/../kernel/core_pattern",
            "net.",
            "",
            "kernel/shmmax/",
        ] {
            assert!(check(key, ALL).is_err(), "{key}");
        }
    }

    fn mount(json: &str) -> Mount {
        serde_json::from_str(json).expect("a mount")
    }

    fn refusal(json: &str) -> String {
        validate_mounts(&[mount(json)], false).expect_err("a refusal").to_string()
    }

    #[test]
    fn a_filesystems_option_on_a_bind_mount_is_ignored_and_said() {
        let data = r#"{"destination":"/x","source":"/y","options":["rbind","ro","size=5"]}"#;
        let mounts =
            [mount(data), mount(r#"{"destination":"/z","type":"tmpfs","options":["size=5"]}"#)];
        assert_eq!(validate_mounts(&mounts, false), Ok(()));
        let said = ignored_options(&mounts);
        assert!(
            said.len() == 1 && said[0].contains("/x") && said[0].contains("size=5"),
            "{said:?}"
        );
    }

    #[test]
    fn impossible_mounts_are_refused_with_the_remedy() {
        assert!(refusal(r#"{"destination":"/x/..","type":"tmpfs"}"#).contains("root.path"));
        assert!(
            refusal(r#"{"destination":"/x","type":"bind","options":["bind"]}"#).contains("source")
        );
        assert!(
            refusal(r#"{"destination":"/x","source":"/y","options":["bind","idmap"]}"#)
                .contains("uidMappings")
        );
        assert!(
            refusal(r#"{"destination":"/x","type":"tmpfs","options":["idmap"]}"#).contains("bind")
        );
        let half = r#"{"destination":"/x","source":"/y","options":["bind"],
            "gidMappings":[{"containerID":0,"hostID":1,"size":1}]}"#;
        assert!(refusal(half).contains("both"));
        assert!(refusal(r#"{"destination":"/x","source":"/y"}"#).contains("type"));
    }

    #[test]
    fn ordinary_mounts_pass() {
        let mounts = [
            mount(r#"{"destination":"/proc","type":"proc"}"#),
            mount(r#"{"destination":"/x","source":"y","options":["rbind","rro"]}"#),
            mount(r#"{"destination":"/t","type":"tmpfs","options":["tmpcopyup"]}"#),
        ];
        assert_eq!(validate_mounts(&mounts, false), Ok(()));
    }
}
