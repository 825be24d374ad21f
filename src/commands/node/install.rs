//! `gpurun node install`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use nix::sys::signal::{SigSet, Signal};

use super::{EngineName, absolute, has_gpu, names};
use crate::node::engine::Engine;
use crate::node::install::environment::{Environment, RestartMode};
use crate::node::install::{Install, detect};
use crate::node::machine::Machine;

/// Where the versions are if nothing else is said.
const DIR: &str = "/usr/local/gpurun";

/// Install this program on a machine and make it a runtime of its engine.
#[derive(Debug, Args)]
pub struct InstallCommand {
    /// The machine's root directory [$HOST_ROOT_MOUNT, default: /]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The directory of gpurun's versions [$TOOLKIT_INSTALL_DIR, default: /usr/local/gpurun]
    #[arg(long, value_name = "DIR")]
    install_dir: Option<PathBuf>,
    /// The engine [$RUNTIME, default: the one that runs Kubernetes' containers there]
    #[arg(long, value_name = "ENGINE")]
    runtime: Option<EngineName>,
    /// Its configuration file [$RUNTIME_CONFIG, $CONTAINERD_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its socket, for --restart-mode signal [$RUNTIME_SOCKET, $CONTAINERD_SOCKET]
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// A name of the runtime (repeatable) [$RUNTIME_NAME, $CONTAINERD_RUNTIME_CLASS, default: gpurun]
    #[arg(long = "as", value_name = "NAME")]
    names: Vec<String>,
    /// Also for containers that name no runtime [$RUNTIME_SET_AS_DEFAULT, $CONTAINERD_SET_AS_DEFAULT]
    #[arg(long)]
    set_as_default: bool,
    /// How the engine learns of a change [$RUNTIME_RESTART_MODE, default: systemd, if that runs there]
    #[arg(long, value_name = "MODE")]
    restart_mode: Option<RestartModeName>,
    /// Put only the program there [$NO_RUNTIME_CONFIG]
    #[arg(long)]
    no_runtime_config: bool,
    /// Then wait for a signal to end [off with $NO_DAEMON]
    #[arg(long)]
    watch: bool,
    /// The file with this process's number while it waits [$TOOLKIT_PID_FILE, $PID_FILE]
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Take everything back: at the end of --watch, or at once without [$CLEANUP]
    #[arg(long)]
    cleanup: bool,
    /// Only say whether everything is in place, by the exit status
    #[arg(long)]
    check: bool,
    /// Also on a machine without a GPU
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RestartModeName {
    None,
    Systemd,
    Signal,
}

impl From<RestartModeName> for RestartMode {
    fn from(name: RestartModeName) -> Self {
        match name {
            RestartModeName::None => Self::None,
            RestartModeName::Systemd => Self::Systemd,
            RestartModeName::Signal => Self::Signal,
        }
    }
}

impl InstallCommand {
    /// Installs, and waits where that was asked for.
    ///
    /// # Errors
    /// What could not be done.
    pub fn run(self) -> Result<()> {
        let environment = Environment::read(|name| std::env::var(name).ok())?;
        let root = self.root.clone().or(environment.root.clone()).unwrap_or_else(|| "/".into());
        let watch = self.watch && !environment.no_daemon;
        let cleanup = self.cleanup || environment.cleanup;
        // Signals that come while the installer works wait for its end.
        let ends = watch.then(block_signals).transpose()?;
        let machine = Machine::open(&root, None)?;
        let source = Path::new("/proc/self/exe");
        if !self.force && !has_gpu(&root)? {
            println!("this machine has no GPU: nothing to install (--force: all the same)");
            return ends.map_or(Ok(()), |ends| wait(&ends, None));
        }
        let install = self.install(&environment, &machine)?;
        if self.check {
            return match install.missing(&machine, source)? {
                None => Ok(()),
                Some(missing) => {
                    bail!("{missing}; gpurun node install, with the same options, sees to it")
                }
            };
        }
        if cleanup && !watch {
            return report(&install.undo(&machine)?);
        }
        report(&install.carry_out(&machine, source)?)?;
        let Some(ends) = ends else { return Ok(()) };
        let pid_file = self.pid_file.clone().or(environment.pid_file);
        wait(&ends, pid_file.as_deref())?;
        match cleanup {
            true => report(&install.undo(&machine)?),
            false => Ok(()),
        }
    }

    fn install(&self, environment: &Environment, machine: &Machine) -> Result<Install> {
        let asked = self.runtime.map(Engine::from).or(environment.engine);
        let engine = match (self.no_runtime_config || environment.no_config, asked) {
            (true, _) => None,
            (false, Some(engine)) => Some(engine),
            (false, None) => Some(detect(machine).context(
                "no engine of Kubernetes is there: name one with --runtime, or use \
                 --no-runtime-config",
            )?),
        };
        let has_systemd = machine.has(Path::new("/run/systemd/system"));
        let usual = if has_systemd { RestartMode::Systemd } else { RestartMode::None };
        let asked = if self.names.is_empty() { &environment.names } else { &self.names };
        let own = vec![String::from("gpurun")];
        let path = |path: &Option<PathBuf>, or: &Option<PathBuf>| {
            path.as_deref().or(or.as_deref()).map(absolute).transpose()
        };
        Ok(Install {
            dir: path(&self.install_dir, &environment.dir)?.unwrap_or_else(|| DIR.into()),
            engine,
            config: path(&self.config, &environment.config)?,
            names: names(if asked.is_empty() { &own } else { asked })?,
            default: self.set_as_default || environment.default.unwrap_or_default(),
            restart: self.restart_mode.map(Into::into).or(environment.restart).unwrap_or(usual),
            socket: path(&self.socket, &environment.socket)?,
        })
    }
}

fn report(done: &[String]) -> Result<()> {
    for line in done {
        println!("{line}");
    }
    if done.is_empty() {
        println!("nothing to change");
    }
    Ok(())
}

/// The signals that end a DaemonSet's container, from now on waited for instead of obeyed.
fn block_signals() -> Result<SigSet> {
    let mut ends = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        ends.add(signal);
    }
    ends.thread_block().context("cannot block signals")?;
    Ok(ends)
}

fn wait(ends: &SigSet, pid_file: Option<&Path>) -> Result<()> {
    let write = |path: &Path| -> Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, format!("{}\n", std::process::id()))?)
    };
    if let Some(path) = pid_file {
        write(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("waiting for the end");
    let signal = ends.wait().context("cannot wait for a signal")?;
    println!("{signal}: ending");
    if let Some(path) = pid_file {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}
