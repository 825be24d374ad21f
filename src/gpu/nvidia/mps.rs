//! CUDA's multi-process service: what a client in a container needs of a daemon on the machine.
//!
//! The daemon's directory of pipes, the variable that names it, and where the daemon does not use
//! the container's `/dev/shm` its shared memory. All of it only where the directory exists.

use std::path::Path;

use oci_spec::runtime::MountBuilder;
use rustix::fs::FileType;

use super::config::Config;
use super::error::Error;
use crate::gpu::plan::{FileKind, FileMount, Place, Plan};
use crate::host::Tree;

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
    // The default is in a directory for everyone: a link that another user put there must not be
    // followed.
    let found = match tree.link_status(pipes)? {
        Some(status) if status.kind == FileType::Directory => tree.find(pipes)?,
        _ => None,
    };
    let Some(found) = found else {
        if config.mps_pipe_directory.is_some() {
            plan.notes.push(format!("mps-pipe-directory: {} is no directory", pipes.display()));
        }
        return Ok(());
    };
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
