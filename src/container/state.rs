//! What gpurun remembers of a container between two commands.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::gpus::{self, Gpus};
use super::id::ContainerId;
use super::lock::Lock;
use super::process::{Liveness, ProcessId};
use super::resctrl::Resctrl;
use super::store::{StateDir, Store, StoreError};
use crate::cgroup::Cgroup;
use crate::cgroup::devices::{DeviceRule, DeviceRules};
use crate::gpu::register::Register;

/// The format of `state.json`. A file of another version is refused, not guessed at.
const VERSION: u32 = 1;

/// How long a command that is at work may be without a `state.json`.
const SETTLE: Duration = Duration::from_millis(2);
/// How often that is looked at.
const SETTLE_TRIES: u32 = 50;

/// The content of `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The format's version.
    pub version: u32,
    /// The spec's `ociVersion`.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The rootfs's absolute path.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    /// The user who created it.
    pub owner: u32,
    /// The spec's annotations.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    /// The init process; `None` until `create` has succeeded.
    pub init: Option<ProcessId>,
    /// Where its cgroup is.
    pub cgroup: Cgroup,
    /// Its final device rules, from which every later change starts.
    pub devices: DeviceRules,
    /// An `update` has begun to change the rules and not come to its end: what is in force may be
    /// `devices`, what that update wanted, or something between the two.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub devices_unsettled: bool,
    /// Those of the rules that its GPUs need; no `update` takes them away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpu_rules: Vec<DeviceRule>,
    /// The lists of vendors' tools that it is entered in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registers: Vec<Register>,
    /// Its GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// Its group in the resctrl filesystem (`linux.intelRdt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<Resctrl>,
    /// Without a mount namespace of its own: the id of the mount on its rootfs, which holds all
    /// its mounts and which `delete` takes away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_root: Option<u64>,
    /// Whether it has a pid namespace of its own, so that all its processes end with the init.
    pub own_pid_namespace: bool,
    /// Whether there are poststart or poststop hooks in the spec.
    pub has_late_hooks: bool,
    /// Whether its processes keep the session keyring of whoever starts them.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// How the name of its session keyring ends.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub keyring_suffix: String,
    /// What its stdin, stdout and stderr were at first, if there is a pipe among them: a
    /// checkpoint names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stdio: Vec<String>,
}

/// The container's status as the runtime specification names it, and runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work, or was killed.
    Creating,
    /// Waiting for `start`.
    Created,
    /// The user's program runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// The init process has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A container that is remembered but cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state root.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `create` was killed before it had written anything.
    #[error("container {0} was never finished: remove it with `delete --force`")]
    Unfinished(String),
    /// The file is not what gpurun writes.
    #[error("{name} of container {id} is damaged ({reason}): remove it with `delete --force`")]
    Damaged {
        /// Which file.
        name: &'static str,
        /// Whose.
        id: String,
        /// The parser's reason.
        reason: String,
    },
    /// Another gpurun wrote it.
    #[error(
        "state of container {id} has format {found}, this gpurun reads {VERSION}: use the \
         gpurun that created it, or remove it with `delete --force`"
    )]
    Version {
        /// Whose.
        id: String,
        /// The format found.
        found: u64,
    },
}

/// A container: its directory and what is remembered in it.
#[derive(Debug)]
pub struct Container {
    /// Its directory.
    pub dir: StateDir,
    /// Its state.
    pub state: State,
}

impl State {
    /// A state as `create` first writes it.
    #[must_use]
    pub fn new(
        id: &ContainerId,
        bundle: PathBuf,
        rootfs: PathBuf,
        spec: &Spec,
        cgroup: Cgroup,
        devices: DeviceRules,
    ) -> Self {
        use oci_spec::runtime::LinuxNamespaceType::Pid;
        let own_pid_namespace = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.namespaces().as_ref())
            .is_some_and(|all| all.iter().any(|ns| ns.typ() == Pid && ns.path().is_none()));
        Self {
            version: VERSION,
            oci_version: spec.version().clone(),
            id: id.to_string(),
            bundle,
            rootfs,
            created: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true),
            owner: nix::unistd::getuid().as_raw(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            init: None,
            cgroup,
            devices,
            devices_unsettled: false,
            gpu_rules: Vec::new(),
            registers: Vec::new(),
            gpus: None,
            resctrl: None,
            shared_root: None,
            own_pid_namespace,
            no_new_keyring: false,
            keyring_suffix: String::new(),
            stdio: Vec::new(),
            has_late_hooks: spec.hooks().as_ref().is_some_and(|hooks| {
                let any = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|all| !all.is_empty());
                any(hooks.poststart()) || any(hooks.poststop())
            }),
        }
    }

    /// The name of the session keyring that its processes share; `None`: each keeps that of
    /// whoever starts it.
    #[must_use]
    pub fn keyring(&self) -> Option<String> {
        (!self.no_new_keyring).then(|| format!("_ses.{}{}", self.id, self.keyring_suffix))
    }

    /// Where it is entered among the holders of GPUs.
    #[must_use]
    pub fn holder_entry(&self) -> Option<&Path> {
        self.gpus.as_ref()?.entry.as_deref()
    }
}

impl Container {
    /// Loads the container `id`.
    ///
    /// # Errors
    /// It does not exist, was never finished, or its state cannot be read.
    pub fn load(store: &Store, id: &ContainerId) -> Result<Self, StateError> {
        let mut tries = 0;
        loop {
            let dir = store.find(id)?;
            match Self::load_from(dir.clone(), id) {
                Err(StateError::Unfinished(_)) => {}
                done => return done,
            }
            // Its `create` has not come to that yet, or its `delete` has.
            tries += 1;
            if tries == SETTLE_TRIES || Lock::try_take(&dir).is_ok() {
                return Err(StateError::Unfinished(id.to_string()));
            }
            std::thread::sleep(SETTLE);
        }
    }

    /// Loads the container `id` from its directory, which was found before.
    ///
    /// # Errors
    /// Its state was not written yet, or cannot be read.
    pub fn load_from(dir: StateDir, id: &ContainerId) -> Result<Self, StateError> {
        let bytes =
            dir.read("state.json")?.ok_or_else(|| StateError::Unfinished(id.to_string()))?;
        let state = parse(&bytes, id)?;
        Ok(Self { dir, state })
    }

    /// Writes the state.
    ///
    /// # Errors
    /// Write errors.
    pub fn save(&self) -> Result<(), StoreError> {
        self.dir.write("state.json", &self.json("state.json", &self.state)?)
    }

    /// Writes the spec that the container was created from.
    ///
    /// # Errors
    /// Write errors.
    pub fn save_spec(&self, spec: &Spec) -> Result<(), StoreError> {
        self.dir.write("config.json", &self.json("config.json", spec)?)
    }

    /// Only a path that is not UTF-8 has no JSON form.
    fn json(&self, name: &str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(value).map_err(|err| StoreError::Io {
            action: "write",
            path: self.dir.path().join(name),
            source: err.into(),
        })
    }

    /// The spec that the container was created from, with the plan's additions.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn spec(&self) -> Result<Spec, StateError> {
        let bytes = self
            .dir
            .read("config.json")?
            .ok_or_else(|| StateError::Unfinished(self.state.id.clone()))?;
        serde_json::from_slice(&bytes).map_err(|err| StateError::Damaged {
            name: "config.json",
            id: self.state.id.clone(),
            reason: err.to_string(),
        })
    }

    /// What the container is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        let Some(init) = self.state.init else { return Status::Creating };
        if init.liveness() == Liveness::Ended {
            return Status::Stopped;
        }
        if self.state.cgroup.is_frozen().unwrap_or(false) {
            return Status::Paused;
        }
        if self.dir.waits_for_start() { Status::Created } else { Status::Running }
    }

    /// The `state` command's answer, also given to hooks: the specification's fields
    /// (runtime.md, "State") and runc's additions.
    #[must_use]
    pub fn report(&self, status: Status) -> Report {
        let ended = matches!(status, Status::Stopped | Status::Creating);
        let mut annotations = self.state.annotations.clone();
        gpus::annotate(self.state.gpus.as_ref(), &mut annotations);
        Report {
            oci_version: self.state.oci_version.clone(),
            id: self.state.id.clone(),
            pid: self.state.init.filter(|_| !ended).map_or(0, |init| init.pid),
            status,
            bundle: self.state.bundle.clone(),
            rootfs: self.state.rootfs.clone(),
            created: self.state.created.clone(),
            annotations,
            owner: owner_name(self.state.owner),
        }
    }
}

/// The `state` command's JSON object.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The spec's version.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// The init's pid, 0 when there is none.
    pub pid: i32,
    /// Its status.
    pub status: Status,
    /// The bundle.
    pub bundle: PathBuf,
    /// The rootfs.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: String,
    /// The spec's annotations, and those that tell the container's GPUs.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// The name of the user who created it; their number where it has no name.
    pub owner: String,
}

pub(super) fn parse(bytes: &[u8], id: &ContainerId) -> Result<State, StateError> {
    let damaged =
        |reason: String| StateError::Damaged { name: "state.json", id: id.to_string(), reason };
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|err| damaged(err.to_string()))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(found) if found != u64::from(VERSION) => {
            return Err(StateError::Version { id: id.to_string(), found });
        }
        _ => {}
    }
    let state: State = serde_json::from_value(value).map_err(|err| damaged(err.to_string()))?;
    if state.id != id.as_str() {
        return Err(damaged(format!("it is of container {:?}", state.id)));
    }
    Ok(state)
}

/// The user's name in /etc/passwd. A static binary has no NSS, and root is the common case.
fn owner_name(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
        .unwrap_or_else(|| format!("#{uid}"))
}
