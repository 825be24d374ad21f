//! Loading kernel modules, by the machine's modprobe.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program::{Limits, Program, ProgramError};
use super::{HostError, Tree};

/// Where modprobe is on every distribution; searched by nobody's `PATH`.
const PROGRAMS: [&str; 3] = ["/sbin/modprobe", "/usr/sbin/modprobe", "/usr/bin/modprobe"];

/// A driver that has to start its GPUs takes seconds to load.
const LIMITS: Limits = Limits { time: Duration::from_secs(60), output: 64 << 10 };

/// Whether modules can be loaded, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Modules {
    /// Not on this machine: it is made up, or has no modprobe.
    None,
    /// Not by this process, and why not.
    Refused(&'static str),
    /// Nothing is to be changed: only say what would be loaded.
    Named,
    /// By this program.
    By(PathBuf),
}

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The kernel would not let us.
    #[error(
        "the kernel module {module} is not loaded and cannot be from here: {reason}; \
         load it before (modprobe {module}, as root)"
    )]
    Refused {
        /// The module.
        module: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// It would be loaded for a container.
    #[error(
        "the kernel module {module} is not loaded; creating the container would load it, \
         looking at it does not (modprobe {module})"
    )]
    Named {
        /// The module.
        module: &'static str,
    },
    /// modprobe did not manage.
    #[error(
        "the kernel module {module} is not loaded, and {reason}; install the driver for the running \
         kernel, or see the kernel log (dmesg)"
    )]
    Failed {
        /// The module.
        module: &'static str,
        /// What happened.
        reason: ModuleFailure,
    },
}

/// Why modprobe did not manage.
#[derive(Debug, thiserror::Error)]
pub enum ModuleFailure {
    /// Its root cannot be opened.
    #[error(transparent)]
    Root(#[from] HostError),
    /// It gave no good answer.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl Modules {
    /// What this process can do: with `program`, or with the machine's own.
    pub fn find(program: Option<PathBuf>) -> Self {
        if crate::sys::process::in_user_namespace().unwrap_or(true) {
            return Self::Refused("no module can be loaded from a user namespace");
        }
        if !rustix::process::geteuid().is_root() {
            return Self::Refused("only root can load a module");
        }
        let well_known = || PROGRAMS.iter().map(PathBuf::from).find(|path| path.exists());
        program.or_else(well_known).map_or(Self::None, Self::By)
    }

    /// Loads a module with those that it needs. `false`: modules are not loaded here.
    ///
    /// # Errors
    /// [`ModuleError`].
    pub fn load(&self, module: &'static str) -> Result<bool, ModuleError> {
        match self {
            Self::None => Ok(false),
            Self::Refused(reason) => Err(ModuleError::Refused { module, reason }),
            Self::Named => Err(ModuleError::Named { module }),
            Self::By(program) => run(program, module)
                .map(|()| true)
                .map_err(|reason| ModuleError::Failed { module, reason }),
        }
    }
}

fn run(program: &Path, module: &str) -> Result<(), ModuleFailure> {
    let root = Tree::open(Path::new("/"))?;
    let program = Program { root: &root, path: program.to_owned(), env: Vec::new() };
    program.output(&[module], LIMITS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_quoted_and_one_that_works_is_believed() {
        let load = |program: &str| Modules::By(program.into()).load("no-such-module");
        assert!(load("/bin/true").unwrap());
        let error = load("/bin/ls").unwrap_err().to_string();
        assert!(error.contains("and /bin/ls no-such-module failed (exit status 2): "), "{error}");
        assert!(error.contains("No such file or directory; install"), "{error}");
        let error = load("/bin/false").unwrap_err().to_string();
        assert!(error.contains("it said nothing"), "{error}");
        let absent = load("/no/such/modprobe").unwrap_err().to_string();
        assert!(absent.contains("No such file"), "{absent}");
    }

    #[test]
    fn what_cannot_or_must_not_be_done_is_said() {
        assert!(!Modules::None.load("m").unwrap());
        let error = Modules::Refused("because").load("m").unwrap_err().to_string();
        assert!(error.contains("because") && error.contains("modprobe m"), "{error}");
        assert!(Modules::Named.load("m").unwrap_err().to_string().contains("would load it"));
    }
}
