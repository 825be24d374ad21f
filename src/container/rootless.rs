//! What is different when the runtime does not have root's rights: rules checked on the host, before
//! anything exists. As runc's "rootless" mode, of which there are two kinds:
//!
//! - an **ordinary user** makes containers in user namespaces of their own;
//! - the **root of a user namespace** (rootless podman calls the runtime so) makes any container
//!   that the namespace allows.

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, Process, Spec};

use crate::gpu::plan::Plan;
use crate::sys;

/// The groups of the caller stay the program's; crun's annotation, which
/// `podman run --group-add keep-groups` writes.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// What stands for an id that is not mapped (`/proc/sys/kernel/overflowgid`, whose default nobody
/// changes).
const OVERFLOW_ID: u32 = 65534;

/// A spec that an ordinary user cannot have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootlessError {
    /// No user namespace.
    #[error(
        "rootless container requires user namespaces: add {{\"type\": \"user\"}} to \
         linux.namespaces (`gpurun spec --rootless` shows how), or run gpurun as root"
    )]
    NoUserNamespace,
    /// A mount option with an id that does not exist in the container.
    #[error(
        "cannot specify {option} mount option for rootless container: id {id} is not in \
         linux.{mappings}; remove the option from the mount on {dest:?}"
    )]
    MountId {
        /// `gid=5`.
        option: String,
        /// The id in it.
        id: u32,
        /// `uidMappings` or `gidMappings`.
        mappings: &'static str,
        /// The mount's destination.
        dest: std::path::PathBuf,
    },
    /// Groups where setgroups(2) is off.
    #[error(
        "cannot set any additional groups in a rootless container: mapping only one's own group \
         turns setgroups off; remove process.user.additionalGids, or map a range of /etc/subgid"
    )]
    Groups,
}

/// Whether the caller is an ordinary user.
#[must_use]
pub fn is_ordinary_user() -> bool {
    !nix::unistd::geteuid().is_root()
}

/// Whether this process is in somebody's user namespace. A kernel without them has no map.
#[must_use]
pub fn in_user_namespace() -> bool {
    sys::process::in_user_namespace().unwrap_or(false)
}

/// Whether the runtime has no rights in the machine's own namespaces, and so could not return to
/// one that it left.
#[must_use]
pub fn is_confined() -> bool {
    is_ordinary_user() || in_user_namespace()
}

/// Whether cgroups that are refused are done without: what `--rootless` says, or as the caller's
/// rights suggest.
#[must_use]
pub fn does_without_cgroups(said: Option<bool>) -> bool {
    said.unwrap_or_else(is_confined)
}

/// Checks what only root can have. For everybody else the kernel is the judge.
///
/// # Errors
/// [`RootlessError`].
pub fn check(spec: &Spec) -> Result<(), RootlessError> {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let user = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::User);
    let Some(user) = user else { return Err(RootlessError::NoUserNamespace) };
    if user.path().is_some() {
        return Ok(());
    }
    let list = |maps: Option<&Vec<LinuxIdMapping>>| maps.cloned().unwrap_or_default();
    let uids = list(linux.and_then(|linux| linux.uid_mappings().as_ref()));
    let gids = list(linux.and_then(|linux| linux.gid_mappings().as_ref()));
    for mount in spec.mounts().iter().flatten() {
        check_mount(mount, &uids, &gids)?;
    }
    let user = spec.process().as_ref().map(|process| process.user());
    let groups = user.and_then(|user| user.additional_gids().as_deref()).unwrap_or_default();
    if !groups.is_empty() && matches!(&*gids, [only] if only.size() == 1) {
        return Err(RootlessError::Groups);
    }
    Ok(())
}

fn check_mount(
    mount: &Mount,
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> Result<(), RootlessError> {
    for option in mount.options().iter().flatten() {
        let (id, maps, mappings) = match option.split_once('=') {
            Some(("uid", id)) => (id, uids, "uidMappings"),
            Some(("gid", id)) => (id, gids, "gidMappings"),
            _ => continue,
        };
        // What is no number is the filesystem's business.
        let Ok(id) = id.parse() else { continue };
        if !is_mapped(id, maps) {
            let (option, dest) = (option.clone(), mount.destination().clone());
            return Err(RootlessError::MountId { option, id, mappings, dest });
        }
    }
    Ok(())
}

fn is_mapped(id: u32, maps: &[LinuxIdMapping]) -> bool {
    maps.iter()
        .any(|map| id.checked_sub(map.container_id()).is_some_and(|offset| offset < map.size()))
}

/// Whether the program keeps the caller's supplementary groups: always under an ordinary user who
/// names none, as in runc, because that is how such a user reaches a device of the group `render`;
/// otherwise where an annotation asks for it.
#[must_use]
pub fn keeps_groups(spec: &Spec, process: &Process) -> bool {
    let asked = spec.annotations().as_ref().and_then(|all| all.get(KEEP_GROUPS));
    if asked.is_some_and(|value| value != "0") {
        return true;
    }
    let groups = process.user().additional_gids().as_deref().unwrap_or_default();
    groups.is_empty() && is_ordinary_user()
}

/// Takes out of a plan the groups that the caller cannot give: an ordinary user's program keeps the
/// user's own groups and cannot join others; in a user namespace a group that is not mapped is
/// nobody.
pub fn limit_groups(plan: &mut Plan) {
    if plan.gids.is_empty() {
        return;
    }
    if is_ordinary_user() {
        plan.gids.clear();
    } else if plan.gids.contains(&OVERFLOW_ID) && in_user_namespace() {
        plan.gids.retain(|gid| *gid != OVERFLOW_ID);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(changes: impl Fn(&mut Value)) -> Spec {
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}},
            "linux": {
                "namespaces": [{"type": "user"}],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
                "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            },
        });
        changes(&mut spec);
        serde_json::from_value(spec).expect("spec")
    }

    #[test]
    fn an_ordinary_user_needs_a_user_namespace() {
        let without = spec(|spec| spec["linux"]["namespaces"] = json!([{"type": "pid"}]));
        assert_eq!(check(&without), Err(RootlessError::NoUserNamespace));
        assert_eq!(check(&spec(|_| {})), Ok(()));
    }

    #[test]
    fn ids_in_mount_options_must_be_mapped() {
        let devpts = |option: &str| {
            spec(|spec| {
                spec["mounts"] = json!([{"destination": "/dev/pts", "options": [option]}]);
            })
        };
        assert_eq!(check(&devpts("gid=0")), Ok(()));
        assert_eq!(check(&devpts("mode=0620")), Ok(()));
        let error = check(&devpts("gid=5")).expect_err("gid 5").to_string();
        assert!(error.contains("cannot specify gid=5 mount option for rootless"), "{error}");
        assert!(check(&devpts("uid=1")).is_err());
    }

    #[test]
    fn groups_need_more_than_the_users_own() {
        let groups = |more: bool| {
            spec(|spec| {
                spec["process"]["user"]["additionalGids"] = json!([1]);
                if more {
                    let range = json!({"containerID": 1, "hostID": 100_000, "size": 10});
                    spec["linux"]["gidMappings"].as_array_mut().expect("list").push(range);
                }
            })
        };
        assert_eq!(check(&groups(false)), Err(RootlessError::Groups));
        assert_eq!(check(&groups(true)), Ok(()));
    }
}
