//! The engines that gpurun can be made a runtime of: where each one's configuration is, and how
//! its text changes.
//!
//! One file per engine holds the pure part: text in, text out. [`places`] says which file is
//! meant, [`configure`] and [`unconfigure`] make a [`Plan`] of changes, [`restart`] has the engine
//! read its configuration again. Comments, order and foreign keys stay byte for byte as they are.

pub mod containerd;
pub mod crio;
pub mod docker;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod json;
pub mod places;
mod plan;
pub mod podman;
pub mod restart;
mod template;
mod toml;

use std::fmt;
use std::path::PathBuf;

pub use plan::{EngineError, Plan, configure, unconfigure};

/// An engine that starts containers with a runtime of the user's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// dockerd, also of the snap and rootless.
    Docker,
    /// containerd with its CRI plugin.
    Containerd,
    /// CRI-O.
    Crio,
    /// podman, also rootless.
    Podman,
    /// The containerd in k3s.
    K3s,
    /// The containerd in RKE2.
    Rke2,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Crio => "CRI-O",
            Self::Podman => "podman",
            Self::K3s => "k3s",
            Self::Rke2 => "RKE2",
        })
    }
}

/// What a configuration shall say afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The names under which containers ask for gpurun; the first is the one that can become the
    /// default.
    pub names: Vec<Name>,
    /// gpurun, an absolute path.
    pub binary: PathBuf,
    /// Whether containers that name no runtime get gpurun.
    pub default: bool,
}

impl Wish {
    /// The binary as configuration files hold it.
    pub fn binary(&self) -> &str {
        // `Wish`es are made from command lines and checked there.
        self.binary.to_str().unwrap_or_default()
    }
}

/// The name of a runtime or runtime handler: letters, digits and `-_.` after the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        match first && text.len() <= 63 && text.chars().all(inner) {
            true => Ok(Self(text.to_owned())),
            false => Err("a runtime's name has up to 63 letters, digits, '-', '_' and '.'"),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a configuration's text cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It is not what the engine would read.
    #[error("line {line}: {reason}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What a parser says.
        reason: String,
    },
    /// A key has a value of another type than the engine's documentation says.
    #[error("{key} is not {expected}")]
    Type {
        /// The path of the key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The engine does not allow it.
    #[error("{0}")]
    Refused(String),
}

/// Whether a configured program is gpurun: the one meant, or another of that name.
#[derive(Debug, Clone)]
pub struct Ours {
    /// The path that was asked for.
    pub binary: PathBuf,
}

impl Ours {
    /// Whether this is gpurun's path.
    pub fn is(&self, program: &str) -> bool {
        let program = std::path::Path::new(program);
        program == self.binary || program.file_name().is_some_and(|name| name == "gpurun")
    }
}
