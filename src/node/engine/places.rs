//! Which file of the machine an engine's runtimes belong in, and what else it reads.

use std::path::{Path, PathBuf};

use super::{Engine, TextError, containerd};
use crate::node::engine::plan::EngineError;
use crate::node::machine::Machine;
use crate::node::program;

/// Drop-ins are read in the order of their names: after those of the toolkits that gpurun takes
/// names over from (`99-…`).
const DROP_IN: &str = "zz-gpurun";

/// How a file is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// It is the engine's own, and others' keys are in it.
    Main,
    /// The engine merges it with the other files, which are these, in their order.
    DropIn(Vec<PathBuf>),
    /// The main file is made of it. `made`: where that is.
    Template {
        /// The file that the distribution makes.
        made: PathBuf,
    },
}

/// A file, how it is changed, and for which containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path on the machine.
    pub file: PathBuf,
    /// How it is changed.
    pub form: Form,
    /// The version of the containerd that reads it, where there is one that says it.
    pub containerd: Option<Release>,
    /// What a person should know about the choice.
    pub note: Option<String>,
}

/// A program's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

impl Release {
    /// containerd 2.1, which merges the tables of imported files instead of replacing them.
    const MERGES: Self = Self { major: 2, minor: 1 };

    /// The first word of `containerd --version` that is a version: `1.6.20~ds1`, `v2.1.4`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let mut parts = word.trim_start_matches('v').split('.');
            let major = parts.next()?.parse().ok()?;
            Some(Self { major, minor: parts.next()?.parse().ok()? })
        })
    }
}

/// The file to change for an engine on this machine.
///
/// # Errors
/// A file that has to be read first cannot be read, or is not what the engine would read.
pub fn find(engine: Engine, machine: &Machine) -> Result<Place, EngineError> {
    let main = |file: PathBuf| Place { file, form: Form::Main, containerd: None, note: None };
    match engine {
        Engine::Docker => Ok(main(docker(machine))),
        Engine::Crio => Ok(drop_in(machine, "/etc/crio/crio.conf.d", &[crio_main()])),
        Engine::Podman => Ok(podman(machine)),
        Engine::Containerd => {
            let file = containerd_main(machine);
            let programs = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/bin"];
            let release = release(machine, &programs.map(|dir| format!("{dir}/containerd")));
            containerd(machine, file, release)
        }
        Engine::K3s => distribution(machine, "k3s", "data/current/bin/containerd"),
        Engine::Rke2 => distribution(machine, "rke2", "bin/containerd"),
    }
}

/// Every file in which [`find`] may have put gpurun at some time.
///
/// # Errors
/// A file that has to be read first cannot be read, or is not what the engine would read.
pub fn all(engine: Engine, machine: &Machine) -> Result<Vec<Place>, EngineError> {
    let place = find(engine, machine)?;
    let mut all = vec![place.clone()];
    let mut more = |file: PathBuf, form: Form| {
        if all.iter().all(|known| known.file != file) {
            all.push(Place { file, form, ..place.clone() });
        }
    };
    match engine {
        Engine::Docker => {}
        Engine::Crio => more(crio_main(), Form::Main),
        Engine::Podman => more(podman_main(machine), Form::Main),
        Engine::Containerd => {
            let main = containerd_main(machine);
            for file in imported(machine, &main)? {
                more(file, Form::Main);
            }
            more(main, Form::Main);
        }
        Engine::K3s | Engine::Rke2 => {
            let name = if engine == Engine::K3s { "k3s" } else { "rke2" };
            let dir = distribution_dir(name);
            for template in ["config.toml.tmpl", "config-v3.toml.tmpl"] {
                let made = dir.join("config.toml");
                more(dir.join(template), Form::Template { made });
            }
            for drop_ins in ["config.toml.d", "config-v3.toml.d"] {
                more(dir.join(drop_ins).join(format!("{DROP_IN}.toml")), Form::DropIn(Vec::new()));
            }
        }
    }
    Ok(all)
}

/// The systemd units that run the engine; those that are active count.
pub fn units(engine: Engine, machine: &Machine) -> &'static [&'static str] {
    let is_snap = |path: &str| Path::new(path).starts_with("/var/snap");
    match engine {
        Engine::Docker if is_snap(&docker(machine).to_string_lossy()) => {
            &["snap.docker.dockerd.service"]
        }
        Engine::Docker => &["docker.service"],
        Engine::Containerd if is_snap(&containerd_main(machine).to_string_lossy()) => {
            &["snap.microk8s.daemon-containerd.service"]
        }
        Engine::Containerd => &["containerd.service"],
        Engine::Crio => &["crio.service"],
        Engine::Podman => &[],
        Engine::K3s => &["k3s.service", "k3s-agent.service"],
        Engine::Rke2 => &["rke2-server.service", "rke2-agent.service"],
    }
}

fn docker(machine: &Machine) -> PathBuf {
    if let Some(user) = machine.user() {
        return user.config.join("docker/daemon.json");
    }
    let own = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd", "/etc/docker"];
    let snap = Path::new("/var/snap/docker/current");
    if machine.has(snap) && !own.iter().any(|path| machine.has(Path::new(path))) {
        return snap.join("config/daemon.json");
    }
    "/etc/docker/daemon.json".into()
}

fn crio_main() -> PathBuf {
    "/etc/crio/crio.conf".into()
}

fn podman_main(machine: &Machine) -> PathBuf {
    match machine.user() {
        Some(user) => user.config.join("containers/containers.conf"),
        None => "/etc/containers/containers.conf".into(),
    }
}

fn podman(machine: &Machine) -> Place {
    let main = podman_main(machine);
    let mut dir = main.clone().into_os_string();
    dir.push(".d");
    let own = PathBuf::from(dir);
    let mut others = vec!["/usr/share/containers/containers.conf".into()];
    if machine.user().is_some() {
        others.push("/etc/containers/containers.conf".into());
        others.extend(files(machine, Path::new("/etc/containers/containers.conf.d"), "conf"));
    }
    others.push(main);
    drop_in(machine, &own.to_string_lossy(), &others)
}

/// A drop-in in a directory of files that end with `.conf`.
fn drop_in(machine: &Machine, dir: &str, before: &[PathBuf]) -> Place {
    let dir = Path::new(dir);
    let file = dir.join(format!("{DROP_IN}.conf"));
    let beside = files(machine, dir, "conf").into_iter().filter(|other| *other != file);
    let others = before.iter().cloned().chain(beside).collect();
    Place { file, form: Form::DropIn(others), containerd: None, note: None }
}

fn containerd_main(machine: &Machine) -> PathBuf {
    if let Some(user) = machine.user() {
        return user.config.join("containerd/config.toml");
    }
    let usual = PathBuf::from("/etc/containerd/config.toml");
    let microk8s = PathBuf::from("/var/snap/microk8s/current/args/containerd-template.toml");
    if !machine.has(&usual) && machine.has(&microk8s) { microk8s } else { usual }
}

/// A drop-in where this containerd merges those that the main file imports. Before, an imported
/// file's table of a plugin replaces the main one, so the last that has the table is the one.
fn containerd(
    machine: &Machine,
    main: PathBuf,
    release: Option<Release>,
) -> Result<Place, EngineError> {
    let text = machine.text(&main)?.unwrap_or_default();
    let imports = containerd::imports(&text).map_err(EngineError::in_file(machine, &main))?;
    if release.is_some_and(|release| release >= Release::MERGES)
        && let Some(dir) = imports.iter().find_map(|pattern| pattern.strip_suffix("/*.toml"))
    {
        let file = base(&main).join(dir).join(format!("{DROP_IN}.toml"));
        return Ok(Place { file, form: Form::DropIn(vec![main]), containerd: release, note: None });
    }
    let mut place = Place { file: main, form: Form::Main, containerd: release, note: None };
    for file in imported(machine, &place.file)? {
        let text = machine.text(&file)?.unwrap_or_default();
        let has = containerd::has_plugin(&text).map_err(EngineError::in_file(machine, &file))?;
        if has && release.is_none_or(|release| release < Release::MERGES) {
            let note = format!(
                "{} replaces the CRI plugin's table of the file that imports it",
                file.display()
            );
            place = Place { file, note: Some(note), ..place };
        }
    }
    Ok(place)
}

/// The files that a main file imports, in the order in which they are read.
fn imported(machine: &Machine, main: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let text = machine.text(main)?.unwrap_or_default();
    let patterns: Result<Vec<String>, TextError> = containerd::imports(&text);
    let patterns = patterns.map_err(EngineError::in_file(machine, main))?;
    let mut found = Vec::new();
    for pattern in patterns {
        let path = base(main).join(&pattern);
        match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (Some(dir), Some("*.toml")) => found.extend(files(machine, dir, "toml")),
            _ if machine.has(&path) => found.push(path),
            _ => {}
        }
    }
    Ok(found)
}

fn base(main: &Path) -> &Path {
    main.parent().unwrap_or(Path::new("/"))
}

fn files(machine: &Machine, dir: &Path, ending: &str) -> Vec<PathBuf> {
    let names = machine.tree().names(dir).unwrap_or_default().into_iter();
    let wanted = names.filter(|name| Path::new(name).extension().is_some_and(|it| it == ending));
    wanted.map(|name| dir.join(name)).collect()
}

fn distribution_dir(name: &str) -> PathBuf {
    Path::new("/var/lib/rancher").join(name).join("agent/etc/containerd")
}

fn distribution(machine: &Machine, name: &str, program: &str) -> Result<Place, EngineError> {
    let program = Path::new("/var/lib/rancher").join(name).join(program);
    let release = release(machine, &[program.to_string_lossy().into_owned()]);
    distribution_place(machine, &distribution_dir(name), release)
}

/// k3s and RKE2 make containerd's file at each start: of a template, and with drop-ins where their
/// containerd merges them.
fn distribution_place(
    machine: &Machine,
    dir: &Path,
    release: Option<Release>,
) -> Result<Place, EngineError> {
    let made = dir.join("config.toml");
    let text = machine.text(&made)?.unwrap_or_default();
    let imports = containerd::imports(&text).map_err(EngineError::in_file(machine, &made))?;
    if release.is_some_and(|release| release >= Release::MERGES)
        && let Some(drop_ins) = imports.iter().find_map(|pattern| pattern.strip_suffix("/*.toml"))
    {
        let file = dir.join(drop_ins).join(format!("{DROP_IN}.toml"));
        return Ok(Place { file, form: Form::DropIn(vec![made]), containerd: release, note: None });
    }
    let layout = containerd::layout(&text).map_err(EngineError::in_file(machine, &made))?;
    let is_new = match layout {
        Some(version) => version >= 3,
        None => release.is_none_or(|release| release.major >= 2),
    };
    let file = dir.join(if is_new { "config-v3.toml.tmpl" } else { "config.toml.tmpl" });
    Ok(Place { file, form: Form::Template { made }, containerd: release, note: None })
}

fn release(machine: &Machine, programs: &[String]) -> Option<Release> {
    let program = programs.iter().map(Path::new).find(|path| machine.has_program(path))?;
    Release::parse(&program::output(machine, program, &["--version"]).ok()?)
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
