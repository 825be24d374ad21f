//! The installer's settings as environment variables: its own, and those that DaemonSets of
//! vendors' toolkits carry already.

use std::path::PathBuf;

use crate::gpu::toolkit;
use crate::node::engine::Engine;

/// What the environment says; a command line says it louder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `HOST_ROOT_MOUNT`.
    pub root: Option<PathBuf>,
    /// `TOOLKIT_INSTALL_DIR`.
    pub dir: Option<PathBuf>,
    /// `RUNTIME`.
    pub engine: Option<Engine>,
    /// `RUNTIME_CONFIG`, or `CONTAINERD_CONFIG`, ….
    pub config: Option<PathBuf>,
    /// `RUNTIME_SOCKET`, or `CONTAINERD_SOCKET`, ….
    pub socket: Option<PathBuf>,
    /// `RUNTIME_NAME`, `CONTAINERD_RUNTIME_CLASS`, …: several with commas between.
    pub names: Vec<String>,
    /// `RUNTIME_SET_AS_DEFAULT`, `CONTAINERD_SET_AS_DEFAULT`, ….
    pub default: Option<bool>,
    /// `RUNTIME_RESTART_MODE`.
    pub restart: Option<RestartMode>,
    /// `NO_RUNTIME_CONFIG`.
    pub no_config: bool,
    /// `NO_DAEMON`.
    pub no_daemon: bool,
    /// `TOOLKIT_PID_FILE`, `PID_FILE`.
    pub pid_file: Option<PathBuf>,
    /// `CLEANUP`.
    pub cleanup: bool,
}

/// How the engine learns of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartMode {
    /// Not at all.
    None,
    /// By systemctl.
    Systemd,
    /// By SIGHUP.
    Signal,
}

/// A variable has a value that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value:?} is not {expected}")]
pub struct VariableError {
    name: String,
    value: String,
    expected: &'static str,
}

/// The engine of that name.
pub fn engine_named(name: &str) -> Option<Engine> {
    Some(match name {
        "docker" => Engine::Docker,
        "containerd" => Engine::Containerd,
        "crio" | "cri-o" => Engine::Crio,
        "podman" => Engine::Podman,
        "k3s" => Engine::K3s,
        "rke2" => Engine::Rke2,
        _ => return None,
    })
}

impl Environment {
    /// Reads the variables; an empty one is one that is not set.
    ///
    /// # Errors
    /// A value that means nothing.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, VariableError> {
        let first = |names: &[String]| {
            let mut found = names.iter().filter_map(|name| Some((name.clone(), get(name)?)));
            found.find(|(_, value)| !value.is_empty())
        };
        let path = |names: &[String]| first(names).map(|(_, value)| PathBuf::from(value));
        let one = |name: &str| vec![name.to_owned()];
        // A variable of the installer that is replaced counts only for the engine it names.
        let runtime = first(&one("RUNTIME"));
        let engine = match &runtime {
            Some((name, value)) => Some(engine_named(value).ok_or_else(|| VariableError {
                name: name.clone(),
                value: value.clone(),
                expected: "docker, containerd, crio, podman, k3s or rke2",
            })?),
            None => None,
        };
        let prefix = match engine {
            Some(Engine::Docker) => "DOCKER_",
            None | Some(Engine::Containerd | Engine::K3s | Engine::Rke2) => "CONTAINERD_",
            Some(Engine::Crio | Engine::Podman) => "RUNTIME_",
        };
        let vendors = || toolkit::all().map(|toolkit| toolkit.installer_prefix);
        let with = |ending: &str, special: &str| -> Vec<String> {
            let vendors = vendors().map(|vendor| format!("{vendor}RUNTIME_{ending}"));
            let own = std::iter::once(format!("RUNTIME_{ending}"));
            own.chain(vendors).chain([format!("{prefix}{special}")]).collect()
        };
        let class = if prefix == "CONTAINERD_" { "RUNTIME_CLASS" } else { "RUNTIME_NAME" };
        let names = first(&with("NAME", class)).map(|(_, value)| value).unwrap_or_default();
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self {
            root: path(&one("HOST_ROOT_MOUNT")),
            dir: path(&one("TOOLKIT_INSTALL_DIR")),
            engine,
            config: path(&with("CONFIG", "CONFIG")),
            socket: path(&with("SOCKET", "SOCKET")),
            names: names.map(str::to_owned).collect(),
            default: switch(first(&with("SET_AS_DEFAULT", "SET_AS_DEFAULT")))?,
            restart: match first(&one("RUNTIME_RESTART_MODE")) {
                None => None,
                Some((name, value)) => Some(match value.as_str() {
                    "none" => RestartMode::None,
                    "systemd" => RestartMode::Systemd,
                    "signal" => RestartMode::Signal,
                    _ => {
                        let expected = "none, systemd or signal";
                        return Err(VariableError { name, value, expected });
                    }
                }),
            },
            no_config: switch(first(&one("NO_RUNTIME_CONFIG")))?.unwrap_or_default(),
            no_daemon: switch(first(&one("NO_DAEMON")))?.unwrap_or_default(),
            pid_file: path(&["TOOLKIT_PID_FILE", "PID_FILE"].map(str::to_owned)),
            cleanup: switch(first(&one("CLEANUP")))?.unwrap_or_default(),
        })
    }
}

fn switch(variable: Option<(String, String)>) -> Result<Option<bool>, VariableError> {
    let Some((name, value)) = variable else { return Ok(None) };
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        _ => Err(VariableError { name, value, expected: "true or false" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, VariableError> {
        Environment::read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_daemonset_of_the_toolkit_is_understood() {
        let found = read(&[
            ("RUNTIME", "containerd"),
            ("CONTAINERD_CONFIG", "/etc/containerd/config.toml"),
            ("CONTAINERD_SOCKET", "/run/containerd/containerd.sock"),
            ("CONTAINERD_RUNTIME_CLASS", "nvidia"),
            ("CONTAINERD_SET_AS_DEFAULT", "false"),
            ("DOCKER_CONFIG", "/etc/docker/daemon.json"),
            ("RUNTIME_RESTART_MODE", ""),
            ("NO_DAEMON", "true"),
            ("TOOLKIT_PID_FILE", "/run/nvidia/toolkit/toolkit.pid"),
        ]);
        let expected = Environment {
            engine: Some(Engine::Containerd),
            config: Some("/etc/containerd/config.toml".into()),
            socket: Some("/run/containerd/containerd.sock".into()),
            names: vec!["nvidia".to_owned()],
            default: Some(false),
            no_daemon: true,
            pid_file: Some("/run/nvidia/toolkit/toolkit.pid".into()),
            ..Environment::default()
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn the_vendors_general_variables_count_before_those_of_an_engine() {
        let found = read(&[
            ("NVIDIA_RUNTIME_NAME", "nvidia, gpurun"),
            ("CONTAINERD_RUNTIME_CLASS", "other"),
            ("NVIDIA_RUNTIME_SET_AS_DEFAULT", "1"),
            ("CLEANUP", "True"),
        ]);
        let found = found.unwrap();
        assert_eq!(found.names, ["nvidia", "gpurun"]);
        assert_eq!((found.default, found.cleanup, found.engine), (Some(true), true, None));
        assert_eq!(read(&[]), Ok(Environment::default()));
    }

    #[test]
    fn a_value_that_means_nothing_is_refused() {
        for (variable, expected) in [
            (("RUNTIME", "rkt"), "docker, containerd"),
            (("CLEANUP", "yes"), "true or false"),
            (("RUNTIME_RESTART_MODE", "now"), "none, systemd or signal"),
        ] {
            let error = read(&[variable]).unwrap_err().to_string();
            assert!(error.contains(variable.0) && error.contains(expected), "{error}");
        }
    }
}
