//! The state root: one directory per container, private to the runtime's user.
//!
//! ```text
//! ROOT/ID/state.json    what the container is (see `state`)
//!         config.json   the spec with the plan's additions, for exec and update
//!         traces        what `delete` needs when the others cannot be read (see `traces`)
//!         created       what had to be created in the rootfs (see `init::journal`)
//!         start.fifo    there until the container is started
//!         notify/       the container's side of NOTIFY_SOCKET (see `notify_socket`)
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::id::ContainerId;

/// The directory of all containers.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// Whether the root is in a directory that is cleaned of what nobody uses.
    aging: bool,
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// What to do where the caller has no right.
fn refused(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::PermissionDenied => {
            "; use root's rights, or set XDG_RUNTIME_DIR or --root to a directory of your own"
        }
        _ => "",
    }
}

/// What can go wrong with the state root.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `create` of an id that is taken.
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    /// Anything but `create` of an id that nobody has.
    #[error("container does not exist: {0}")]
    Missing(String),
    /// The directory belongs to somebody else, so its content cannot be believed.
    #[error("state directory {path} belongs to user {owner}: use another --root or remove it")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others can change the directory, so its content cannot be believed.
    #[error(
        "others can write to state directory {path} (mode {mode:o}): use another --root, or make \
         it private (chmod go-w)"
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Any other failure.
    #[error("cannot {action} {path}: {source}{}", refused(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn failed<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> StoreError + 'p {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

impl Store {
    /// The containers below `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, aging: false }
    }

    /// The containers below `root`, a directory in `XDG_RUNTIME_DIR`. Files there may be removed
    /// when they are six hours old, but not in a directory with the sticky bit
    /// ([XDG Base Directory Specification]).
    ///
    /// [XDG Base Directory Specification]: https://specifications.freedesktop.org/basedir-spec/latest/
    #[must_use]
    pub fn in_runtime_dir(root: PathBuf) -> Self {
        Self { root, aging: true }
    }

    /// Takes `id` for a new container. Of two callers at once exactly one gets it.
    ///
    /// # Errors
    /// [`StoreError::Exists`], or why the directory cannot be made.
    pub fn claim(&self, id: &ContainerId) -> Result<StateDir, StoreError> {
        let path = self.root.join(id.as_str());
        if !self.check_root()? {
            self.create_root()?;
            self.check_root()?;
        }
        let mut private = DirBuilder::new();
        private.mode(0o700);
        private.create(&path).map_err(|err| match err.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists(id.to_string()),
            _ => failed("create the state directory", &path)(err),
        })?;
        Ok(StateDir { path })
    }

    /// Where the directory of container `id` is, or would be.
    #[must_use]
    pub fn path_of(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Whether the root exists. Nobody else may be able to exchange what is in it; in a directory
    /// with the sticky bit, such as /tmp, they are not.
    fn check_root(&self) -> Result<bool, StoreError> {
        let meta = match fs::metadata(&self.root) {
            Ok(meta) => meta,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(failed("look at", &self.root)(err)),
        };
        let path = || self.root.clone();
        if meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(StoreError::Foreign { path: path(), owner: meta.uid() });
        }
        // A group may be the user's own.
        if meta.mode() & 0o1002 == 0o002 {
            return Err(StoreError::Open { path: path(), mode: meta.mode() & 0o7777 });
        }
        Ok(true)
    }

    fn create_root(&self) -> Result<(), StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.root)
            .map_err(failed("create the state root (choose another with --root)", &self.root))?;
        if self.aging {
            fs::set_permissions(&self.root, fs::Permissions::from_mode(0o1700))
                .map_err(failed("keep from being cleaned", &self.root))?;
        }
        Ok(())
    }

    /// The directory of an existing container.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Foreign`], [`StoreError::Open`].
    pub fn find(&self, id: &ContainerId) -> Result<StateDir, StoreError> {
        let path = self.root.join(id.as_str());
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => meta,
            Ok(_) => return Err(StoreError::Missing(id.to_string())),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing(id.to_string()));
            }
            Err(err) => return Err(failed("look at", &path)(err)),
        };
        if meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(StoreError::Foreign { path, owner: meta.uid() });
        }
        if meta.mode() & 0o022 != 0 {
            return Err(StoreError::Open { path, mode: meta.mode() & 0o7777 });
        }
        self.check_root()?;
        Ok(StateDir { path })
    }

    /// The ids of all containers, sorted; entries that are no container are left out.
    ///
    /// # Errors
    /// When the root exists and cannot be read.
    pub fn ids(&self) -> Result<Vec<ContainerId>, StoreError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(failed("read", &self.root)(err)),
        };
        let mut ids: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| ContainerId::parse(entry.file_name().to_str()?).ok())
            .collect();
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }
}

impl StateDir {
    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The fifo that `start` writes to.
    #[must_use]
    pub fn start_fifo(&self) -> PathBuf {
        self.path.join("start.fifo")
    }

    /// The directory that `restore` builds the container's mounts in.
    #[must_use]
    pub fn restore_place(&self) -> PathBuf {
        self.path.join("restore")
    }

    /// Whether the init reads the fifo still. Its name alone says nothing: a `start` that was
    /// killed may have left it.
    #[must_use]
    pub fn waits_for_start(&self) -> bool {
        // Without a reader that is ENXIO.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(self.start_fifo(), flags, Mode::empty()).is_ok()
    }

    /// Reads one of the directory's files whole. `None`: it is not there.
    ///
    /// # Errors
    /// Read errors.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(failed("read", &path)(err)),
        }
    }

    /// Replaces one of the directory's files in one step, so that a reader (or a crash) sees the
    /// old content or the new, never a part.
    ///
    /// # Errors
    /// Write errors; the old file stays.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.new"));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&temporary)?;
            file.write_all(content)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(failed("write", &path))
    }

    /// Writes a file that is not there yet, not in one step: for what nobody reads before more is
    /// there.
    ///
    /// # Errors
    /// Write errors.
    pub fn write_first(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let write = || {
            let options = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
            options.open(&path)?.write_all(content)
        };
        write().map_err(failed("write", &path))
    }

    /// Opens the journal of created paths for appending.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn journal(&self) -> Result<File, StoreError> {
        let path = self.path.join("created");
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))
    }

    /// Removes the directory with all that is in it; the id is free afterwards.
    ///
    /// # Errors
    /// When something cannot be removed. A directory that is already gone is fine.
    pub fn remove(&self) -> Result<(), StoreError> {
        match fs::remove_dir_all(&self.path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.path)(err))
            }
            _ => Ok(()),
        }
    }
}
