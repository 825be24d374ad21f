//! Why a plan could not be carried out.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

/// A step of the plan that failed. The texts hold the system's reason, so there is no `source`.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A file of the host cannot be used.
    #[error("cannot take {} ({why}) from the host: {reason}; if the driver was just changed, try again", path.display())]
    Source {
        /// The path on the host.
        path: PathBuf,
        /// What it is for, from the plan.
        why: String,
        /// The system's reason.
        reason: io::Error,
    },
    /// Something else than a file that can be mounted over is at the destination.
    #[error("{} is {found} in the image, but {wanted} must go there: remove it from the image", path.display())]
    InTheWay {
        /// The path in the container.
        path: PathBuf,
        /// What the image has there.
        found: &'static str,
        /// What the plan puts there.
        wanted: &'static str,
    },
    /// A destination cannot be resolved, created or mounted on.
    #[error("cannot put {what} at {} in the container: {reason}", path.display())]
    Destination {
        /// What was to go there.
        what: &'static str,
        /// The path in the container.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The destination does not exist and its filesystem is read-only.
    #[error("{} does not exist in the container and its filesystem is read-only: create it in the image, or use a writable rootfs", path.display())]
    ReadOnly {
        /// The path in the container.
        path: PathBuf,
    },
    /// A read-only directory cannot be given a writable layer.
    #[error("{} is read-only in the container and cannot be given a temporary layer for mount points: {reason}; create the driver's mount points in the image, or use a writable rootfs", path.display())]
    Cover {
        /// The directory in the container.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// A file with generated content cannot be made.
    #[error("cannot make a temporary file for {}: {reason}", path.display())]
    Generate {
        /// The path in the container for which it was.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// A file of the image is larger than any such file should be.
    #[error("{} in the image is larger than {} MiB: replace it", path.display(), crate::gpu::loader::READ_LIMIT >> 20)]
    TooLarge {
        /// The path in the container.
        path: PathBuf,
    },
    /// Libraries are where the container's loader would never look, and it cannot be told.
    #[error("the container's loader cannot be told about {}, because {} is on a read-only filesystem and does not exist: create it in the image, empty", dir.display(), file.display())]
    LoaderReadOnly {
        /// A directory with libraries of the plan.
        dir: PathBuf,
        /// The loader's file.
        file: PathBuf,
    },
}

impl ApplyError {
    /// The error for a destination that failed with `reason`.
    pub(super) fn at(what: &'static str, path: &Path, reason: impl Into<io::Error>) -> Self {
        let (path, reason) = (path.to_owned(), reason.into());
        match Errno::from_io_error(&reason) {
            Some(Errno::ROFS) => Self::ReadOnly { path },
            _ => Self::Destination { what, path, reason },
        }
    }
}

/// The name of a file type, with its article.
pub(super) fn name_of(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device node",
        FileType::Unknown => "something unknown",
    }
}
