//! `gpurun node`.

mod install;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::gpu::{load_settings, presence};
use crate::host::Host;
use crate::log;
use crate::node::engine::restart::{self, Action};
use crate::node::engine::{Engine, Name, Ours, Plan, Wish, configure, unconfigure};
use crate::node::hook_names::{self, Link};
use crate::node::machine::{Machine, User};

/// Where gpurun is if nothing else is said: where a person puts it, or where a package does.
const BINARIES: [&str; 2] = ["/usr/local/bin/gpurun", "/usr/bin/gpurun"];

const EXAMPLES: &str = "EXAMPLES:
   gpurun node configure docker --dry-run
   gpurun node configure containerd --as nvidia --restart";

/// Set this machine up.
#[derive(Debug, Args)]
pub struct Node {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make gpurun a runtime of an engine
    Configure(Configure),
    /// Take gpurun out of an engine's configuration
    Unconfigure(Unconfigure),
    /// Install this program on a machine and make it a runtime of its engine
    Install(Box<install::InstallCommand>),
    /// Make the links by which dockerd offers --gpus
    InstallHookName(InstallHookName),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EngineName {
    Docker,
    Containerd,
    Crio,
    Podman,
    K3s,
    Rke2,
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Docker => Self::Docker,
            EngineName::Containerd => Self::Containerd,
            EngineName::Crio => Self::Crio,
            EngineName::Podman => Self::Podman,
            EngineName::K3s => Self::K3s,
            EngineName::Rke2 => Self::Rke2,
        }
    }
}

/// Which engine, on which machine, and what happens afterwards.
#[derive(Debug, Args)]
struct Target {
    /// The engine
    engine: EngineName,
    /// The file to change instead of the engine's usual one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The machine's root directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// gpurun, as the engine will call it [default: /usr/local/bin/gpurun, else /usr/bin/gpurun]
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// Print the change as a diff, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Restart the engine if something changed
    #[arg(long, conflicts_with = "reload")]
    restart: bool,
    /// Have the engine read its configuration again if something changed
    #[arg(long)]
    reload: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct Configure {
    #[command(flatten)]
    target: Target,
    /// The name under which containers ask for gpurun
    #[arg(long, value_name = "NAME", default_value = "gpurun", visible_alias = "name")]
    runtime_class: String,
    /// Another name for it, such as one that is used already (repeatable)
    #[arg(long = "as", value_name = "NAME")]
    names: Vec<String>,
    /// Also for containers that name no runtime
    #[arg(long)]
    set_as_default: bool,
    /// Also on a machine without a GPU or without gpurun
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct Unconfigure {
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
struct InstallHookName {
    /// The directory for the links, one of those in dockerd's PATH
    #[arg(long, value_name = "DIR", default_value = "/usr/local/bin")]
    dir: PathBuf,
    /// gpurun [default: /usr/local/bin/gpurun, else /usr/bin/gpurun]
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// The machine's root directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Take the links away again
    #[arg(long)]
    remove: bool,
}

impl Node {
    /// Carries the subcommand out.
    ///
    /// # Errors
    /// Why the machine stays, or did not become, as it was asked for.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Configure(command) => command.run(),
            Command::Unconfigure(command) => command.run(),
            Command::Install(command) => command.run(),
            Command::InstallHookName(command) => command.run(),
        }
    }
}

impl Target {
    fn machine(&self) -> Result<Machine> {
        Ok(Machine::open(&self.root, user())?)
    }

    fn engine(&self) -> Engine {
        self.engine.into()
    }

    fn action(&self) -> Option<Action> {
        let restart = self.restart.then_some(Action::Restart);
        restart.or(self.reload.then_some(Action::Reload))
    }

    /// The file, as a path from the machine's root.
    fn file(&self) -> Result<Option<PathBuf>> {
        self.config.as_deref().map(absolute).transpose()
    }

    /// Carries the plan out, or shows it.
    fn carry_out(&self, plan: &Plan, machine: &Machine) -> Result<()> {
        for note in &plan.notes {
            log::to_stderr(&format!("note: {note}"));
        }
        if self.dry_run {
            for change in &plan.changes {
                print!("{}", change.diff());
            }
            return Ok(());
        }
        if !plan.is_needed() {
            let files: Vec<String> =
                plan.changes.iter().map(|change| change.path.display().to_string()).collect();
            println!("nothing to change in {}", files.join(", "));
            return Ok(());
        }
        if let Some(action) = self.action() {
            restart::check(action, self.engine(), machine)?;
        }
        for change in plan.changes.iter().filter(|change| change.is_needed()) {
            change.apply(machine)?;
            let verb = if change.after.is_some() { "changed" } else { "removed" };
            println!("{verb} {}", change.path.display());
        }
        match self.action() {
            Some(action) => println!("{}", restart::run(action, self.engine(), machine)?),
            None if restart::has_daemon(self.engine(), machine) => {
                println!("{} reads it when it starts again", self.engine());
            }
            None => {}
        }
        Ok(())
    }
}

impl Configure {
    fn run(self) -> Result<()> {
        let machine = self.target.machine()?;
        let wish = self.wish(&machine)?;
        if !self.force {
            if !has_gpu(&self.target.root)? {
                println!("this machine has no GPU: nothing to change (--force: all the same)");
                return Ok(());
            }
            expect_program(&machine, &wish.binary)?;
        }
        let file = self.target.file()?;
        let mut plan = configure(self.target.engine(), &wish, &machine, file.as_deref())?;
        if self.target.engine() == Engine::Docker && !hook_names::is_any(&machine) {
            plan.notes.push("for docker run --gpus: gpurun node install-hook-name".to_owned());
        }
        self.target.carry_out(&plan, &machine)
    }

    fn wish(&self, machine: &Machine) -> Result<Wish> {
        let names = names(std::iter::once(&self.runtime_class).chain(&self.names))?;
        let binary = binary(self.target.path.as_deref(), machine)?;
        Ok(Wish { names, binary, default: self.set_as_default })
    }
}

impl Unconfigure {
    fn run(self) -> Result<()> {
        let machine = self.target.machine()?;
        let it = Ours { binary: binary(self.target.path.as_deref(), &machine)? };
        let file = self.target.file()?;
        let plan = unconfigure(self.target.engine(), &it, &machine, file.as_deref())?;
        if plan.changes.is_empty() {
            println!("{} has no configuration here: nothing to change", self.target.engine());
            return Ok(());
        }
        self.target.carry_out(&plan, &machine)?;
        if !self.target.dry_run {
            for change in &plan.changes {
                change.drop_backup(&machine)?;
            }
        }
        Ok(())
    }
}

impl InstallHookName {
    fn run(self) -> Result<()> {
        let machine = Machine::open(&self.root, None)?;
        let dir = absolute(&self.dir)?;
        let links = if self.remove {
            hook_names::remove(&machine, &dir)?
        } else {
            let binary = binary(self.path.as_deref(), &machine)?;
            expect_program(&machine, &binary)?;
            hook_names::make(&machine, &dir, &binary)?
        };
        for link in links {
            match link {
                Link::Made(path) => println!("made {}", path.display()),
                Link::Removed(path) => println!("removed {}", path.display()),
                Link::Kept(path) => println!("nothing to change at {}", path.display()),
            }
        }
        Ok(())
    }
}

fn expect_program(machine: &Machine, binary: &Path) -> Result<()> {
    match machine.has_program(binary) {
        true => Ok(()),
        false => bail!(
            "there is no program {}: put gpurun there, or name its place with --path",
            machine.shown(binary).display()
        ),
    }
}

/// Each name once.
fn names<'n>(texts: impl IntoIterator<Item = &'n String>) -> Result<Vec<Name>> {
    let mut names = Vec::new();
    for text in texts {
        let name = Name::parse(text)
            .map_err(|reason| anyhow::anyhow!("{text:?} cannot be a name: {reason}"))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether containers could want a GPU of the machine at `root`.
fn has_gpu(root: &Path) -> Result<bool> {
    let settings = load_settings()?;
    let host = match root == Path::new("/") {
        true => Host::from_settings(&settings)?,
        false => Host::at(root.join("proc"), root.join("sys"), root.join("dev"))?,
    };
    Ok(presence::is_any(&settings, &host)?)
}

/// The ordinary user that calls; `None`: root.
fn user() -> Option<User> {
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    config.map(PathBuf::from).or_else(home).map(|config| User { config })
}

/// The path that was given, or the first usual one where a program is.
fn binary(path: Option<&Path>, machine: &Machine) -> Result<PathBuf> {
    let Some(path) = path else {
        let found = BINARIES.iter().find(|path| machine.has_program(Path::new(path)));
        return Ok(found.unwrap_or(&BINARIES[0]).into());
    };
    match path.is_absolute() && path.to_str().is_some() {
        true => Ok(path.to_owned()),
        false => bail!("--path {} is not an absolute path in UTF-8", path.display()),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot use {}", path.display()))
}
