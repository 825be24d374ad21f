//! The hooks of a CDI file, which gpurun itself carries out.

use std::path::{Path, PathBuf};

use super::places;
use crate::gpu::cdi::spec::CdiHook;
use crate::gpu::plan::Link;

/// The command that makes links.
pub(super) const LINKS: &str = "create-symlinks";
/// The command that tells the loader about directories.
pub(super) const LOADER: &str = "update-ldcache";

/// The phase: in the container's mount namespace, with the machine's files still there.
const PHASE: &str = "createContainer";

/// Runtimes give a hook without an environment the one of the container's program, which an image
/// can set.
const ENVIRONMENT: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// What the hooks run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookProgram {
    /// The program: gpurun, or one that takes the same commands.
    pub path: PathBuf,
    /// Its words before the command, its name first: `gpurun hook`.
    pub words: Vec<String>,
    /// gpurun's configuration file for them, where it is not the usual one.
    pub config: Option<PathBuf>,
}

impl HookProgram {
    /// gpurun at this path.
    #[must_use]
    pub fn gpurun(path: PathBuf, config: Option<PathBuf>) -> Self {
        Self { path, words: vec!["gpurun".to_owned(), "hook".to_owned()], config }
    }

    /// Another program, called as a vendor's: by its name and the command.
    #[must_use]
    pub fn other(path: PathBuf) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { path, words: vec![name], config: None }
    }

    /// The hook that runs this command.
    pub(super) fn hook(&self, command: &[String]) -> CdiHook {
        let config = self.config.iter().map(|path| format!("--config={}", path.display()));
        CdiHook {
            hook_name: PHASE.to_owned(),
            path: self.path.to_string_lossy().into_owned(),
            args: self.words.iter().chain(command).cloned().chain(config).collect(),
            env: vec![ENVIRONMENT.to_owned()],
            timeout: None,
        }
    }

    /// The hook that makes these links, if there are any.
    pub(super) fn links(&self, links: &[&Link]) -> Option<CdiHook> {
        let pairs = links.iter().flat_map(|link| {
            let (target, path) = (link.target.display(), places::path_of(link).display());
            ["--link".to_owned(), format!("{target}::{path}")]
        });
        self.with(LINKS, pairs)
    }

    /// The hook that tells the loader about these directories, if there are any.
    pub(super) fn loader(&self, dirs: &[impl AsRef<Path>]) -> Option<CdiHook> {
        let options =
            dirs.iter().flat_map(|dir| ["--folder".to_owned(), dir.as_ref().display().to_string()]);
        self.with(LOADER, options)
    }

    fn with(&self, command: &str, options: impl Iterator<Item = String>) -> Option<CdiHook> {
        let words: Vec<String> = std::iter::once(command.to_owned()).chain(options).collect();
        (words.len() > 1).then(|| self.hook(&words))
    }
}
