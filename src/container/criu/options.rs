//! What the requests for a dump and for a restore have in common.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rust_criu::rust_criu_protobuf::rpc::{Criu_cg_mode, Criu_opts, Ext_mount_map};

use super::directory;
use crate::gpu::authors;

/// The annotation that names another configuration file for criu; empty: none at all. The file can
/// have criu run programs, so an image must not name it.
const CONFIG_ANNOTATION: &str = "org.criu.config";

/// What criu reads where the annotation is absent: runc's file, if it exists.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";

/// criu's most talkative level, as runc sets it.
const LOG_LEVEL: i32 = 4;

/// How criu treats cgroups. The command line's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupsMode {
    /// criu's default, which is `soft`.
    #[default]
    Default,
    /// Restore the properties of cgroups that did not exist.
    Soft,
    /// Restore the properties of all.
    Full,
    /// Fail when one exists.
    Strict,
    /// Leave cgroups alone.
    Ignore,
}

impl CgroupsMode {
    fn value(self) -> Criu_cg_mode {
        match self {
            Self::Default => Criu_cg_mode::DEFAULT,
            Self::Soft => Criu_cg_mode::SOFT,
            Self::Full => Criu_cg_mode::FULL,
            Self::Strict => Criu_cg_mode::STRICT,
            Self::Ignore => Criu_cg_mode::IGNORE,
        }
    }
}

/// Options that `checkpoint` and `restore` share. The names are criu's.
#[derive(Debug, Default)]
pub struct Common {
    /// The directory of the image files.
    pub images: PathBuf,
    /// The directory of logs and statistics; the images' where there is none.
    pub work: Option<PathBuf>,
    /// Established TCP connections go with the container.
    pub tcp_established: bool,
    /// Unix sockets may lead out of the container.
    pub ext_unix_sk: bool,
    /// The container may belong to a session outside it.
    pub shell_job: bool,
    /// File locks go with the container.
    pub file_locks: bool,
    /// Pages that a later image has are punched out of an earlier one.
    pub auto_dedup: bool,
    /// Memory is served on demand (userfaultfd).
    pub lazy_pages: bool,
    /// What happens to cgroups.
    pub manage_cgroups_mode: CgroupsMode,
}

impl Common {
    /// The path of the log that criu writes.
    #[must_use]
    pub fn log(&self, file: &str) -> PathBuf {
        self.work.as_ref().unwrap_or(&self.images).join(file)
    }

    /// Looks at the images before anything is read or made.
    ///
    /// # Errors
    /// A directory that cannot be used.
    pub fn check(&self) -> Result<()> {
        directory::images(&self.images)?;
        Ok(())
    }

    /// The request's options, and the directories that they name. A work directory that does not
    /// exist is made.
    ///
    /// # Errors
    /// A directory that cannot be used.
    pub fn request(
        &self,
        log_file: &str,
        annotations: &HashMap<String, String>,
    ) -> Result<(Criu_opts, Vec<OwnedFd>)> {
        let images = directory::images(&self.images)?;
        let mut options = Criu_opts::new();
        options.set_images_dir_fd(images.as_raw_fd());
        options.set_log_level(LOG_LEVEL);
        options.set_log_file(log_file.to_owned());
        options.set_notify_scripts(true);
        options.set_orphan_pts_master(true);
        // What a bind mount receives from the host it receives again.
        options.set_ext_masters(true);
        options.set_manage_cgroups(true);
        options.set_manage_cgroups_mode(self.manage_cgroups_mode.value());
        options.set_shell_job(self.shell_job);
        options.set_tcp_established(self.tcp_established);
        options.set_ext_unix_sk(self.ext_unix_sk);
        options.set_file_locks(self.file_locks);
        options.set_auto_dedup(self.auto_dedup);
        options.set_lazy_pages(self.lazy_pages);
        // What is in the network is not the runtime's, but for what the spec has it move there: the
        // namespace comes back empty, for hooks or the engine to set up.
        options.set_empty_ns(libc::CLONE_NEWNET.cast_unsigned());
        match authors::trusted(annotations, CONFIG_ANNOTATION) {
            None => options.set_config_file(CONFIG_FILE.to_owned()),
            Some(file) if file.is_empty() => {}
            Some(file) => options.set_config_file(file.clone()),
        }
        let mut directories = vec![images];
        if let Some(path) = &self.work {
            make_directory(path)?;
            let work = directory::work(path)?;
            options.set_work_dir_fd(work.as_raw_fd());
            directories.push(work);
        }
        Ok((options, directories))
    }
}

/// Makes a directory for its owner alone, with those above it. One that exists is fine.
///
/// # Errors
/// It cannot be made.
pub fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// A mount from outside under its name.
///
/// # Errors
/// A path that is not UTF-8, which criu's messages cannot hold.
pub fn external_mount(key: &Path, value: &Path) -> Result<Ext_mount_map> {
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.with_context(|| format!("criu cannot take a path that is not UTF-8: {path:?}"))
    };
    let mut mount = Ext_mount_map::new();
    mount.set_key(text(key)?);
    mount.set_val(text(value)?);
    Ok(mount)
}
