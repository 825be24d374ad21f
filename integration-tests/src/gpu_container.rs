//! A container that asks a made-up machine for GPUs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::gpu_host::{MadeUpHost, Node};
use crate::runtime::{self, Output};
use crate::{Config, Container, Runtime, probe};

/// A busybox container with the probe `nodes`, whose runtime sees the made-up machine.
#[derive(Debug)]
pub struct GpuContainer {
    /// The container.
    pub container: Container,
    config: PathBuf,
}

impl GpuContainer {
    /// A bundle; nothing is created yet.
    pub fn new(runtime: Runtime, host: &MadeUpHost, config: Config) -> Self {
        Self::with_configuration(runtime, &host.config(), config)
    }

    /// A bundle whose runtime reads this configuration file.
    pub fn with_configuration(runtime: Runtime, file: &Path, config: Config) -> Self {
        let container = Container::new(runtime, config);
        let nodes = probe::nodes().expect("compile the probe");
        fs::copy(nodes, container.rootfs().join("bin/nodes")).expect("copy the probe");
        Self { container, config: file.to_owned() }
    }

    /// The runtime with `--root`, the configuration and these arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.container.command(args);
        command.env("GPURUN_CONFIG", &self.config);
        command
    }

    /// Calls the runtime.
    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Output {
        runtime::finish(&mut self.command(args), b"")
    }

    /// `run` to the end of the container's process.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.with_bundle(&["run"])
    }

    /// `run --detach`, which must succeed.
    #[track_caller]
    pub fn run_detached(&self) {
        self.with_bundle(&["run", "--detach"]).silent();
    }

    /// `exec` of a command.
    #[track_caller]
    pub fn exec(&self, program: &[&str]) -> Output {
        self.call(&[&["exec", self.container.id()], program].concat())
    }

    #[track_caller]
    fn with_bundle(&self, command: &[&str]) -> Output {
        let bundle = self.container.bundle();
        let bundle = bundle.to_str().expect("UTF-8 path");
        self.call(&[command, &["--bundle", bundle, self.container.id()]].concat())
    }
}

/// An ordinary container's config with these environment variables (`NAME=value`).
pub fn config(env: &[&str], program: &[&str]) -> Config {
    env.iter()
        .fold(Config::args(program), |config, entry| config.push("/process/env", json!(entry)))
}

/// How the paths of nodes begin that only a GPU request brings.
const GPU_PATHS: [&str; 7] = [
    "/dev/nvidia",
    "/dev/dri/",
    "/dev/infiniband/",
    "/dev/gdrdrv",
    "/dev/kfd",
    "/dev/accel/",
    "/dev/davinci",
];

/// The GPU nodes in the output of `nodes nodes`, sorted by path.
pub fn gpu_nodes(listing: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = listing
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, numbers) = (fields.next()?, fields.next()?);
            let path = fields.nth(2)?;
            let (major, minor) = numbers.split_once(':')?;
            Some((path.to_owned(), major.parse().ok()?, minor.parse().ok()?))
        })
        .filter(|(path, ..)| GPU_PATHS.iter().any(|known| path.starts_with(known)))
        .collect();
    nodes.sort();
    nodes
}
