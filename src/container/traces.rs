//! What a container has on the host, written down by itself: the file `traces`.
//!
//! `delete --force` clears a container away by this where the state file is damaged or of another
//! version. It is written before anything else is made, and again only where that adds something
//! that could not be found otherwise.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::id::ContainerId;
use super::process::ProcessId;
use super::resctrl::Resctrl;
use super::state::{Container, State};
use super::store::{StateDir, StoreError};
use crate::cgroup::{Cgroup, Driver};
use crate::gpu::register::Register;

/// The file's name.
const FILE: &str = "traces";

/// What has to be taken away with a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Traces {
    /// The cgroup, which has all its processes.
    pub cgroup: Cgroup,
    /// The rootfs, where the journal's paths are; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<PathBuf>,
    /// The group in the resctrl filesystem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<Resctrl>,
    /// Without a mount namespace: the id of the mount on the rootfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_root: Option<u64>,
    /// The init process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<ProcessId>,
    /// The lists of vendors' tools in which it was entered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registers: Vec<Register>,
    /// Where it is entered among the holders of GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<PathBuf>,
}

impl Traces {
    /// Those of a container whose state can be read.
    #[must_use]
    pub fn of(state: &State) -> Self {
        Self {
            cgroup: state.cgroup.clone(),
            rootfs: Some(state.rootfs.clone()),
            resctrl: state.resctrl.clone(),
            shared_root: state.shared_root,
            init: state.init,
            registers: state.registers.clone(),
            holder: state.holder_entry().map(Path::to_owned),
        }
    }

    /// Those of a container. Until its `create` has ended, the file knows more than the state.
    #[must_use]
    pub fn of_container(container: &Container) -> Self {
        let written = match container.state.init {
            None => read(&container.dir).unwrap_or_default(),
            Some(_) => None,
        };
        written.unwrap_or_else(|| Self::of(&container.state))
    }

    /// Writes the file before anything else is there: a part of it, from a crash, says as little as
    /// none.
    ///
    /// # Errors
    /// Write errors.
    pub fn save_first(&self, dir: &StateDir) -> Result<(), StoreError> {
        dir.write_first(FILE, &self.json(dir)?)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// Write errors.
    pub fn save(&self, dir: &StateDir) -> Result<(), StoreError> {
        dir.write(FILE, &self.json(dir)?)
    }

    fn json(&self, dir: &StateDir) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|err| StoreError::Io {
            action: "write",
            path: dir.path().join(FILE),
            source: err.into(),
        })
    }

    /// What can be learnt of a container whose state cannot be read: from the file, else from the
    /// spec that lies beside it. `None`: neither can be read.
    ///
    /// # Errors
    /// Read errors, and a cgroup that the spec names and that cannot be.
    pub fn recover(id: &ContainerId, dir: &StateDir) -> anyhow::Result<Option<Self>> {
        if let Some(traces) = read(dir)? {
            return Ok(Some(traces));
        }
        let spec = dir.read("config.json")?;
        let spec = spec.and_then(|json| serde_json::from_slice::<Spec>(&json).ok());
        let Some(linux) = spec.as_ref().and_then(|spec| spec.linux().as_ref()) else {
            return Ok(None);
        };
        let path = linux.cgroups_path().as_deref();
        // slice:prefix:name
        let systemd = path.is_some_and(|path| path.to_string_lossy().matches(':').count() == 2);
        let cgroup = Cgroup::locate(path, id.as_str(), systemd)?;
        Ok(Some(Self {
            cgroup,
            rootfs: None,
            resctrl: None,
            shared_root: None,
            init: None,
            registers: Vec::new(),
            holder: None,
        }))
    }

    /// Writes down which cgroup systemd has made, before anything of the container runs in it.
    ///
    /// # Errors
    /// Write errors.
    pub fn save_recognised(mut self, dir: &StateDir) -> Result<(), StoreError> {
        self.cgroup.recognise();
        self.save(dir)
    }

    /// Whether processes in the cgroup are the container's. Where it is known which cgroup it was
    /// they are, and another's are not seen. Where not, and systemd was to make it, nothing of the
    /// container ever was in it, and who is there now is another's. Otherwise (an older gpurun has
    /// written this): before there is a fifo `create` has not looked whose cgroup it is, and has
    /// started nothing in it; `restore` has another mark. The fifo goes with `start`; by then there
    /// is the spec.
    #[must_use]
    pub fn owns_cgroup(&self, dir: &StateDir) -> bool {
        if self.cgroup.is_recognised() || self.init.is_some() {
            return true;
        }
        let spec = dir.path().join("config.json");
        let marks = [dir.start_fifo(), dir.restore_place(), spec];
        !matches!(self.cgroup.driver(), Driver::Systemd(_))
            && marks.iter().any(|mark| mark.exists())
    }
}

fn read(dir: &StateDir) -> Result<Option<Traces>, StoreError> {
    Ok(dir.read(FILE)?.and_then(|json| serde_json::from_slice(&json).ok()))
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;
    use crate::host::testing::Scratch;

    #[test]
    fn a_file_that_a_crash_cut_off_says_as_little_as_none_and_is_not_written_over() {
        let scratch = Scratch::new();
        let id = ContainerId::parse("a").unwrap();
        let dir = Store::new(scratch.path().to_owned()).claim(&id).unwrap();
        assert!(Traces::recover(&id, &dir).unwrap().is_none());
        dir.write_first(FILE, b"{\"cgroup\":{\"mode").unwrap();
        assert!(Traces::recover(&id, &dir).unwrap().is_none());
        let traces = Traces {
            cgroup: Cgroup::locate(None, "a", false).unwrap(),
            rootfs: Some("/r".into()),
            resctrl: None,
            shared_root: None,
            init: None,
            registers: Vec::new(),
            holder: None,
        };
        assert!(traces.save_first(&dir).is_err());
        traces.save(&dir).unwrap();
        let found = Traces::recover(&id, &dir).unwrap().unwrap();
        assert_eq!((found.cgroup, found.rootfs), (traces.cgroup, traces.rootfs));
    }
}
