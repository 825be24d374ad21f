//! CUDA's multi-process service: what a client in a container needs of a daemon on the machine.
//!
//! The daemon's directory of pipes, the variable that names it, and where the daemon does not use
//! the container's `/dev/shm` its shared memory. All of it only where the directory exists.

use std::path::Path;

use oci_spec::runtime::MountBuilder;
use rustix::fs::FileType;
use rustix::process::geteuid;

use super::config::Config;
use super::error::Error;
use crate::gpu::plan::{FileKind, FileMount, Place, Plan};
use crate::host::{Status, Tree};

/// Tells CUDA where the pipes are.
pub const PIPE_VARIABLE: &str = "CUDA_MPS_PIPE_DIRECTORY";

/// Where CUDA looks for the pipes without the variable.
const DEFAULT: &str = "/tmp/nvidia-mps";

/// Where CUDA has its shared memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// Adds what the machine's daemon offers. `root` is the driver's; `is_named`: the container sets
/// [`PIPE_VARIABLE`] itself.
pub fn add(root: &Tree, config: &Config, is_named: bool, plan: &mut Plan) -> Result<(), Error> {
    let machine;
    let (tree, pipes) = match &config.mps_pipe_directory {
        Some(path) => {
            machine = Tree::open(Path::new("/"))?;
            (&machine, path.as_path())
        }
        None => (root, Path::new(DEFAULT)),
    };
    // Found by one look, which is what the plan speaks of: a link in its place is none.
    let found = tree.find_unfollowed(pipes)?;
    let fault = match (&found, &config.mps_pipe_directory) {
        (Some(found), chosen) => fault(&found.status, chosen.is_some()),
        (None, Some(_)) => Some("it does not exist".to_owned()),
        (None, None) => None,
    };
    if let Some(fault) = fault {
        plan.notes.push(left_out(&tree.at(pipes), &fault, config.mps_pipe_directory.is_some()));
        return Ok(());
    }
    let Some(found) = found else { return Ok(()) };
    plan.files.push(FileMount {
        source: found.path,
        destination: Place::Path(pipes.to_owned()),
        kind: FileKind::Ipc,
        why: "compute, pipes of the multi-process service".to_owned(),
    });
    if !is_named
        && pipes != Path::new(DEFAULT)
        && let Some(text) = pipes.to_str()
    {
        plan.env.push((PIPE_VARIABLE.to_owned(), text.to_owned()));
    }
    if let Some(memory) = &config.mps_shm_directory {
        let options = ["bind", "rw", "nosuid", "nodev", "noexec"].map(str::to_owned);
        let mount = MountBuilder::default()
            .source(memory)
            .destination(SHARED_MEMORY)
            .typ("bind")
            .options(options)
            .build();
        plan.mounts.extend(mount);
    }
    Ok(())
}

/// What keeps this from being a daemon's directory, if anything does. `is_chosen`: by whoever
/// configured gpurun, who knows which user runs the daemon. The default is in a directory for
/// everyone: what another user made there may be a trap for the daemon's clients.
fn fault(status: &Status, is_chosen: bool) -> Option<String> {
    if status.kind != FileType::Directory {
        return Some("it is no directory".to_owned());
    }
    let trusted = [0, geteuid().as_raw()];
    (!is_chosen && !trusted.contains(&status.uid))
        .then(|| format!("it belongs to user {}, who may not be the daemon", status.uid))
}

fn left_out(pipes: &Path, fault: &str, is_chosen: bool) -> String {
    let remedy = match is_chosen {
        true => "start the daemon, or correct",
        false => "if the daemon made it, name it in",
    };
    format!(
        "the directory of CUDA's multi-process service {} is left out: {fault}; {remedy} \
         nvidia.mps-pipe-directory",
        pipes.display()
    )
}
