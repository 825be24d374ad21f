//! The files of the machine that is set up: this one, or one that is mounted at a directory.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::host::{HostError, Tree};

/// No configuration file of an engine is longer. In bytes.
const MOST: usize = 4 << 20;

/// A machine's root directory, and whose configuration is meant.
#[derive(Debug)]
pub struct Machine {
    tree: Tree,
    user: Option<User>,
}

/// An ordinary user, whose engines have their configuration below the home directory.
#[derive(Debug, Clone)]
pub struct User {
    /// `$XDG_CONFIG_HOME`, by default `~/.config`.
    pub config: PathBuf,
}

impl Machine {
    /// The machine whose root directory is at `root`. Links in it are resolved inside it.
    ///
    /// # Errors
    /// No such directory.
    pub fn open(root: &Path, user: Option<User>) -> Result<Self, HostError> {
        Ok(Self { tree: Tree::open(root)?, user })
    }

    /// The user whose engines are meant; `None`: the machine's own.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Its root directory.
    pub fn root(&self) -> &Path {
        self.tree.path()
    }

    /// The machine's files.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether there is such a file or directory, links followed.
    pub fn has(&self, path: &Path) -> bool {
        self.tree.status(path).is_ok_and(|status| status.is_some())
    }

    /// Whether there is such a program.
    pub fn has_program(&self, path: &Path) -> bool {
        let status = self.tree.status(path).ok().flatten();
        status.is_some_and(|status| status.kind.is_file() && status.mode & 0o111 != 0)
    }

    /// The text of a file; `None` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, is not UTF-8 or too large to be a configuration.
    pub fn text(&self, path: &Path) -> Result<Option<String>, FileError> {
        let not = |what| FileError::Content { path: self.shown(path), what };
        match self.tree.status(path)?.map(|status| status.kind) {
            Some(kind) if kind.is_dir() => return Err(not("a directory")),
            Some(kind) if !kind.is_file() => return Err(not("not a regular file")),
            _ => {}
        }
        let Some(bytes) = self.tree.read(path, MOST + 1)? else { return Ok(None) };
        if bytes.len() > MOST {
            return Err(not("larger than 4 MiB"));
        }
        String::from_utf8(bytes).map(Some).map_err(|_| not("not UTF-8"))
    }

    /// The path by which a person of the caller's world finds the file.
    pub fn shown(&self, path: &Path) -> PathBuf {
        self.tree.at(path)
    }

    /// Where a file is or would be, as a path of the caller's world free of links, so that writing
    /// there keeps links as they are. Missing directories are made, as root would make them.
    ///
    /// # Errors
    /// A directory that cannot be made; a link that leads nowhere.
    pub fn place(&self, path: &Path) -> Result<PathBuf, FileError> {
        if let Some(found) = self.tree.find(path)? {
            return Ok(found.path);
        }
        if self.tree.link(path)?.is_some() {
            let path = self.shown(path);
            return Err(FileError::Content { path, what: "a link that leads nowhere" });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(FileError::Content { path: path.to_owned(), what: "not a file's path" });
        };
        Ok(self.directory(parent)?.join(name))
    }

    /// A directory, made where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, path: &Path) -> Result<PathBuf, FileError> {
        let mut there = self.tree.find("/")?.map_or_else(|| self.root().to_owned(), |it| it.path);
        let mut walked = PathBuf::from("/");
        for part in path.components() {
            let Component::Normal(part) = part else { continue };
            walked.push(part);
            if let Some(found) = self.tree.find(&walked)? {
                there = found.path;
                continue;
            }
            there.push(part);
            let made = std::fs::create_dir(&there).and_then(|()| {
                std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o755))
            });
            made.map_err(|source| FileError::Io { action: "make", path: there.clone(), source })?;
        }
        Ok(there)
    }
}

/// A file of the machine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] HostError),
    /// It cannot be made, written or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{} is {what}", path.display())]
    Content {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
}
