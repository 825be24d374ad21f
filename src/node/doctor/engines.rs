//! Whether the installed engines know gpurun, and whether what they start is there.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Machine;
use crate::finding::Finding;

/// The name that every runtime of ours has in an engine's configuration, or its program.
const OWN: &str = "gpurun";

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The largest configuration file that is read.
const LIMIT: usize = 4 << 20;

/// An engine, and where it keeps its configuration: files, and directories whose files it merges.
struct Engine {
    name: &'static str,
    program: &'static str,
    files: &'static [&'static str],
    directories: &'static [&'static str],
    /// Files and such directories below the caller's home.
    own: &'static [&'static str],
}

const ENGINES: [Engine; 6] = [
    Engine {
        name: "docker",
        program: "dockerd",
        files: &["etc/docker/daemon.json", "var/snap/docker/current/config/daemon.json"],
        directories: &[],
        own: &[".config/docker/daemon.json"],
    },
    Engine {
        name: "containerd",
        program: "containerd",
        files: &["etc/containerd/config.toml"],
        directories: &["etc/containerd/conf.d"],
        own: &[],
    },
    Engine {
        name: "crio",
        program: "crio",
        files: &["etc/crio/crio.conf"],
        directories: &["etc/crio/crio.conf.d"],
        own: &[],
    },
    Engine {
        name: "podman",
        program: "podman",
        files: &["usr/share/containers/containers.conf", "etc/containers/containers.conf"],
        directories: &["etc/containers/containers.conf.d"],
        own: &[".config/containers/containers.conf", ".config/containers/containers.conf.d"],
    },
    Engine {
        name: "k3s",
        program: "k3s",
        files: &["var/lib/rancher/k3s/agent/etc/containerd/config.toml"],
        directories: &[],
        own: &[],
    },
    Engine {
        name: "rke2",
        program: "rke2",
        files: &["var/lib/rancher/rke2/agent/etc/containerd/config.toml"],
        directories: &[],
        own: &[],
    },
];

/// Where programs are.
const PROGRAMS: [&str; 5] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "opt/bin"];

/// Looks at every engine that is installed.
#[must_use]
pub fn check(machine: &Machine) -> Vec<Finding> {
    let mut findings: Vec<_> =
        ENGINES.iter().flat_map(|engine| registration(machine, engine)).collect();
    if findings.is_empty() {
        findings.push(Finding::yellow(
            "engines",
            "none of docker, containerd, CRI-O and podman is on this machine",
            "install one; gpurun run works without",
        ));
    }
    findings
}

fn registration(machine: &Machine, engine: &Engine) -> Vec<Finding> {
    let root = &machine.root;
    let is_there = |path: String| matches!(root.status(path), Ok(Some(_)));
    let is_installed = PROGRAMS.iter().any(|dir| is_there(format!("{dir}/{}", engine.program)));
    let mut paths: Vec<PathBuf> = engine.files.iter().map(PathBuf::from).collect();
    let home = machine.caller.home.as_deref();
    paths.extend(engine.own.iter().filter_map(|own| Some(home?.join(own))));
    paths.extend(engine.directories.iter().map(PathBuf::from));
    let paths = paths.into_iter().flat_map(|path| {
        let names = root.names(&path).unwrap_or_default();
        match names.is_empty() {
            true => vec![path],
            false => names.iter().map(|name| path.join(name)).collect(),
        }
    });
    let mut findings = Vec::new();
    let mut knows = false;
    for path in paths {
        let shown = Path::new("/").join(&path);
        let text = match root.read_text(&path, LIMIT) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            // An empty directory.
            Err(_)
                if root.status(&path).is_ok_and(|one| one.is_some_and(|one| one.kind.is_dir())) =>
            {
                continue;
            }
            Err(error) => {
                findings.push(Finding::unseen(engine.name, error.to_string(), "ask root"));
                continue;
            }
        };
        match runtimes(&text, path.extension().is_some_and(|ending| ending == "json")) {
            Ok(found) => {
                for runtime in found.iter().filter(|runtime| runtime.is_own()) {
                    knows = true;
                    findings.push(program(machine, engine.name, &shown, runtime));
                }
            }
            Err(reason) => findings.push(Finding::yellow(
                engine.name,
                format!("{}: {reason}", shown.display()),
                "correct it: the engine does not start with it",
            )),
        }
    }
    if is_installed && !knows {
        findings.push(Finding::yellow(
            engine.name,
            "installed, and its configuration does not mention gpurun",
            format!("gpurun node configure {}", engine.name),
        ));
    }
    findings
}

/// A runtime in an engine's configuration.
#[derive(Debug, PartialEq, Eq)]
struct Runtime {
    name: String,
    /// The programs, of which the engine takes the first that is there.
    programs: Vec<PathBuf>,
}

impl Runtime {
    fn is_own(&self) -> bool {
        let ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(OWN)
        };
        self.name == OWN || self.programs.iter().any(ours)
    }
}

/// The runtimes of a configuration in JSON or TOML: whatever stands in a table `runtimes`, which
/// all engines call so.
fn runtimes(text: &str, json: bool) -> Result<Vec<Runtime>, String> {
    let value: Value = match json {
        true if text.trim().is_empty() => Value::Null,
        true => serde_json::from_str(text).map_err(|error| error.to_string())?,
        false => toml_edit::de::from_str(text)
            .map_err(|error| error.message().trim().replace('\n', ", "))?,
    };
    let mut found = Vec::new();
    collect(&value, 0, &mut found);
    Ok(found)
}

fn collect(value: &Value, depth: usize, found: &mut Vec<Runtime>) {
    let Value::Object(table) = value else { return };
    if depth > 16 {
        return;
    }
    for (key, value) in table {
        match (key.as_str(), value) {
            ("runtimes", Value::Object(all)) => {
                found.extend(all.iter().filter_map(|(name, one)| {
                    let programs = programs(one);
                    (!programs.is_empty()).then(|| Runtime { name: name.clone(), programs })
                }));
            }
            _ => collect(value, depth + 1, found),
        }
    }
}

fn programs(runtime: &Value) -> Vec<PathBuf> {
    // podman: a list of paths.
    if let Value::Array(list) = runtime {
        return list.iter().filter_map(Value::as_str).map(PathBuf::from).collect();
    }
    let option = |name: &str| runtime.get("options").and_then(|options| options.get(name));
    // containerd, CRI-O, docker.
    let found = option("BinaryName").or_else(|| runtime.get("runtime_path"));
    let found = found.or_else(|| runtime.get("path"));
    found
        .and_then(Value::as_str)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .into_iter()
        .collect()
}

/// Whether the program of a runtime is there, can be executed, and is this gpurun.
fn program(machine: &Machine, engine: &str, file: &Path, runtime: &Runtime) -> Finding {
    let root = &machine.root;
    let named = format!("runtime {} in {}", runtime.name, file.display());
    let remedy = format!("gpurun node configure {engine}, or correct the path");
    let mut looked = runtime.programs.iter().flat_map(|path| candidates(path));
    let found = looked.find_map(|path| Some((root.find(&path).ok().flatten()?, path)));
    let Some((found, path)) = found else {
        let paths: Vec<_> =
            runtime.programs.iter().map(|path| path.display().to_string()).collect();
        return Finding::red(engine, format!("{named}: no {}", paths.join(", ")), remedy);
    };
    let shown = Path::new("/").join(path).display().to_string();
    if found.status.mode & 0o111 == 0 {
        return Finding::red(
            engine,
            format!("{named}: {shown} is not executable"),
            format!("chmod 755 {shown}"),
        );
    }
    match ask(machine, &found.path, found.status.uid, found.status.mode) {
        Answer::Version(version) if version != VERSION => Finding::yellow(
            engine,
            format!("{named}: {shown} is version {version}, this is {VERSION}"),
            "install the same version, or configure the engine with this one",
        ),
        Answer::Version(_) | Answer::NotAsked => {
            Finding::green(engine, format!("{named}: {shown}"))
        }
        Answer::Other => Finding::yellow(
            engine,
            format!("{named}: {shown} is another program"),
            "rename the runtime, or correct the path",
        ),
        Answer::Broken(reason) => Finding::red(
            engine,
            format!("{named}: {shown} cannot be executed: {reason}"),
            "install the build for this machine's architecture",
        ),
    }
}

/// Where an engine finds a program that it names without a directory.
fn candidates(path: &Path) -> Vec<PathBuf> {
    match path.is_absolute() {
        true => vec![path.to_owned()],
        false => PROGRAMS.iter().map(|dir| Path::new(dir).join(path)).collect(),
    }
}

/// What a program says to `--version`.
enum Answer {
    /// It is this program itself, or somebody else could have put it there.
    NotAsked,
    Version(String),
    /// Not what gpurun says.
    Other,
    /// The kernel refuses to execute it.
    Broken(String),
}

fn ask(machine: &Machine, path: &Path, owner: u32, mode: u32) -> Answer {
    let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let own = std::fs::metadata("/proc/self/exe").ok().map(identity);
    let is_own = own.is_some() && own == std::fs::metadata(path).ok().map(identity);
    let is_foreign = (owner != 0 && owner != machine.caller.uid) || mode & 0o022 != 0;
    if is_own || is_foreign {
        return Answer::NotAsked;
    }
    let output = Command::new(path)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        // It is being written: an upgrade.
        Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => Answer::NotAsked,
        Err(error) => Answer::Broken(error.to_string()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text.lines().next().and_then(|line| line.strip_prefix("gpurun version "));
            version.map_or(Answer::Other, |version| Answer::Version(version.trim().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::doctor::testing::{MadeUp, all_green, expect};

    const CONFIGURED: [(&str, &str, &str); 6] = [
        (
            "docker",
            "etc/docker/daemon.json",
            r#"{"runtimes": {"gpurun": {"path": "/usr/bin/gpurun"}}}"#,
        ),
        (
            "containerd",
            "etc/containerd/config.toml",
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpurun]\n\
             runtime_type = 'io.containerd.runc.v2'\n\
             [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpurun.options]\n\
             BinaryName = '/usr/bin/gpurun'\n",
        ),
        (
            "containerd",
            "etc/containerd/conf.d/gpurun.toml",
            "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.nvidia.options]\n\
             BinaryName = '/usr/bin/gpurun'\n",
        ),
        (
            "crio",
            "etc/crio/crio.conf.d/50-gpurun.conf",
            "[crio.runtime.runtimes.gpurun]\nruntime_path = '/usr/bin/gpurun'\n",
        ),
        (
            "podman",
            "etc/containers/containers.conf.d/gpurun.conf",
            "[engine.runtimes]\ngpurun = ['/usr/bin/gpurun']\n",
        ),
        (
            "podman",
            "home/alice/.config/containers/containers.conf",
            "[engine.runtimes]\ngpurun = ['/nowhere/gpurun', '/usr/bin/gpurun']\n",
        ),
    ];

    #[test]
    fn a_machine_without_an_engine_is_told_so() {
        expect(&check(&MadeUp::new().machine()), "engines", "yellow", "none of", "install");
    }

    #[test]
    fn an_engine_that_does_not_know_gpurun_is_to_be_configured() {
        let made_up = MadeUp::new();
        made_up.files.program("root/usr/bin/dockerd");
        made_up
            .files
            .write("root/etc/docker/daemon.json", r#"{"runtimes": {"x": {"path": "/x"}}}"#);
        let found = check(&made_up.machine());
        expect(&found, "docker", "yellow", "does not mention", "gpurun node configure docker");
        made_up.files.write("root/etc/docker/daemon.json", "{");
        expect(&check(&made_up.machine()), "docker", "yellow", "daemon.json", "correct it");
    }

    #[test]
    fn every_engines_configuration_is_understood_and_its_program_looked_at() {
        for (engine, file, text) in CONFIGURED {
            let made_up = MadeUp::new();
            made_up.files.write(&format!("root/{file}"), text);
            let found = check(&made_up.machine());
            expect(&found, engine, "red", "no /", "configure");
            made_up.files.write("root/usr/bin/gpurun", "");
            expect(&check(&made_up.machine()), engine, "red", "not executable", "chmod 755");
            install(&made_up, &format!("#!/bin/sh\necho gpurun version {VERSION}\n"));
            let found = check(&made_up.machine());
            all_green(&found);
            expect(&found, engine, "green", "/usr/bin/gpurun", "");
        }
    }

    fn install(made_up: &MadeUp, program: &str) {
        made_up.files.program("root/usr/bin/gpurun");
        made_up.files.write("root/usr/bin/gpurun", program);
    }

    #[test]
    fn another_version_is_told_and_a_program_that_anybody_may_change_is_not_run() {
        use std::os::unix::fs::PermissionsExt;
        let made_up = MadeUp { uid: rustix::process::geteuid().as_raw(), ..MadeUp::new() };
        let (_, file, text) = CONFIGURED[0];
        made_up.files.write(&format!("root/{file}"), text);
        install(&made_up, "#!/bin/sh\necho runc version 1\n");
        expect(&check(&made_up.machine()), "docker", "yellow", "another program", "rename");
        install(&made_up, "\x7fELF");
        expect(&check(&made_up.machine()), "docker", "red", "cannot be executed", "architecture");
        install(&made_up, "#!/bin/sh\necho gpurun version 0.0.1\n");
        let found = check(&made_up.machine());
        expect(&found, "docker", "yellow", "is version 0.0.1", "the same version");
        let path = made_up.files.path().join("root/usr/bin/gpurun");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        all_green(&check(&made_up.machine()));
    }
}
