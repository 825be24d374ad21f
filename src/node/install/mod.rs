//! Putting gpurun on a machine and in front of its engine, as a container of a DaemonSet does that
//! has the machine's root directory mounted.
//!
//! A run that finds everything as it should be writes nothing and restarts nothing. Whoever stops
//! the installer leaves running containers alone: the engine stays configured unless the cleanup
//! was asked for.

pub mod environment;
pub mod signal;
pub mod versions;

use std::path::{Path, PathBuf};

use self::environment::RestartMode;
use self::versions::{Installed, VersionError};
use super::change::Change;
use super::engine::restart::{self, Action, RestartError};
use super::engine::{self, Engine, EngineError, Name, Ours, Wish};
use super::machine::{FileError, Machine};

/// What the machine shall have.
#[derive(Debug, Clone)]
pub struct Install {
    /// The directory of gpurun's versions, on the machine.
    pub dir: PathBuf,
    /// The engine; `None`: only the program is installed.
    pub engine: Option<Engine>,
    /// Its configuration file, where that is not the usual one.
    pub config: Option<PathBuf>,
    /// The names of the runtime.
    pub names: Vec<Name>,
    /// Whether it is the default.
    pub default: bool,
    /// How the engine learns of a change.
    pub restart: RestartMode,
    /// The engine's socket, to find its process.
    pub socket: Option<PathBuf>,
}

/// Why the machine is not as asked for.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The program could not be put there.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The engine's configuration could not be changed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The engine was not told.
    #[error(transparent)]
    Restart(#[from] RestartError),
    /// The engine's process was not found.
    #[error(transparent)]
    Signal(#[from] signal::SignalError),
}

impl Install {
    /// gpurun's path on the machine, which stays the same from version to version.
    pub fn binary(&self) -> PathBuf {
        versions::binary(&self.dir)
    }

    fn wish(&self) -> Wish {
        Wish { names: self.names.clone(), binary: self.binary(), default: self.default }
    }

    /// Makes the machine as asked for; returns what was done, a line each.
    ///
    /// # Errors
    /// What could not be done. The version that was there before still works.
    pub fn carry_out(&self, machine: &Machine, source: &Path) -> Result<Vec<String>, InstallError> {
        let mut done = Vec::new();
        let Installed { version, is_new, removed } = versions::install(machine, &self.dir, source)?;
        if is_new {
            done.push(format!("installed version {version} in {}", self.dir.display()));
        }
        done.extend(removed.iter().map(|old| format!("removed version {old}, which nobody uses")));
        let Some(engine) = self.engine else { return Ok(done) };
        let plan = engine::configure(engine, &self.wish(), machine, self.config.as_deref())?;
        done.extend(plan.notes.iter().map(|note| format!("note: {note}")));
        self.apply(engine, &plan.changes, machine, &mut done)?;
        Ok(done)
    }

    /// What is not as asked for. `None`: everything is in place.
    ///
    /// # Errors
    /// The machine's files cannot be read.
    pub fn missing(
        &self,
        machine: &Machine,
        source: &Path,
    ) -> Result<Option<String>, InstallError> {
        if !versions::is_current(machine, &self.dir, source)? {
            return Ok(Some(format!("{} is not this program", self.binary().display())));
        }
        let Some(engine) = self.engine else { return Ok(None) };
        let plan = engine::configure(engine, &self.wish(), machine, self.config.as_deref())?;
        if let Some(change) = plan.changes.iter().find(|change| change.is_needed()) {
            return Ok(Some(format!("{} is not as asked for", change.path.display())));
        }
        let is_heard = !self.unheard(machine)?.exists();
        Ok((!is_heard).then(|| format!("{engine} has not read its configuration again")))
    }

    /// Takes everything back: the engine's configuration, then the program. Versions that a
    /// process still runs stay.
    ///
    /// # Errors
    /// What could not be undone.
    pub fn undo(&self, machine: &Machine) -> Result<Vec<String>, InstallError> {
        let mut done = Vec::new();
        if let Some(engine) = self.engine {
            let it = Ours { binary: self.binary() };
            let plan = engine::unconfigure(engine, &it, machine, self.config.as_deref())?;
            self.apply(engine, &plan.changes, machine, &mut done)?;
            for change in &plan.changes {
                change.drop_backup(machine)?;
            }
        }
        let removed = versions::remove(machine, &self.dir)?;
        done.extend(removed.iter().map(|old| format!("removed version {old}")));
        Ok(done)
    }

    fn apply(
        &self,
        engine: Engine,
        changes: &[Change],
        machine: &Machine,
        done: &mut Vec<String>,
    ) -> Result<(), InstallError> {
        let needed: Vec<&Change> = changes.iter().filter(|change| change.is_needed()).collect();
        let unheard = self.unheard(machine)?;
        if needed.is_empty() && !unheard.exists() {
            return Ok(());
        }
        if self.restart == RestartMode::Systemd {
            restart::check(Action::Restart, engine, machine)?;
        }
        let failed = |action| {
            let path = unheard.clone();
            move |source| FileError::Io { action, path, source }
        };
        std::fs::write(&unheard, "").map_err(failed("write"))?;
        for change in needed {
            change.apply(machine)?;
            let verb = if change.after.is_some() { "changed" } else { "removed" };
            done.push(format!("{verb} {}", change.path.display()));
        }
        done.push(match self.restart {
            RestartMode::None => format!("{engine} reads it when it starts again"),
            RestartMode::Systemd => restart::run(Action::Restart, engine, machine)?,
            RestartMode::Signal => signal::hang_up(engine, machine, self.socket.as_deref())?,
        });
        std::fs::remove_file(&unheard).map_err(failed("remove"))?;
        Ok(())
    }

    /// The file that is there while the engine has not heard of a change: a run whose restart
    /// failed, or that was killed, leaves it to the next.
    fn unheard(&self, machine: &Machine) -> Result<PathBuf, FileError> {
        Ok(machine.directory(&self.dir)?.join(versions::UNHEARD))
    }
}

/// The engine that runs Kubernetes' containers on this machine.
pub fn detect(machine: &Machine) -> Option<Engine> {
    [
        (Engine::K3s, "/var/lib/rancher/k3s/agent/etc/containerd"),
        (Engine::Rke2, "/var/lib/rancher/rke2/agent/etc/containerd"),
        (Engine::Crio, "/run/crio/crio.sock"),
        (Engine::Containerd, "/run/containerd/containerd.sock"),
        (Engine::Crio, "/etc/crio"),
        (Engine::Containerd, "/etc/containerd"),
    ]
    .into_iter()
    .find_map(|(engine, sign)| machine.has(Path::new(sign)).then_some(engine))
}

#[cfg(test)]
mod tests;
