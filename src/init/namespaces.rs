//! Which namespaces a container gets, and how the init enters them.
//!
//! New namespaces come with the clone, all in one call. What the kernel demands differently:
//! - a pid or time namespace is entered by the *children* of the caller, so the parent sets it for
//!   the one clone and sets it back; where it could not set it back, because its own namespace
//!   belongs to a user namespace above its own, the init enters it and forks once more;
//! - a cgroup namespace is rooted at the cgroup of the process that makes it, so the init unshares
//!   it when it is in its cgroup;
//! - new namespaces below a joined user namespace must be made by a process in it, and a new pid
//!   namespace there needs one more fork.
//!
//! [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html),
//! [setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{self, CloneFlags};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

/// `CLONE_NEWTIME`, which nix does not name.
pub const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// A namespace to join.
#[derive(Debug)]
struct Join {
    kind: CloneFlags,
    name: &'static str,
    path: PathBuf,
    fd: File,
}

/// The namespaces of one container.
#[derive(Debug)]
pub struct Namespaces {
    new: CloneFlags,
    join: Vec<Join>,
    /// `/proc/self/timens_offsets` lines for a new time namespace.
    time_offsets: String,
    /// The pid namespace to join and the new time namespace, if the init enters them.
    by_init: CloneFlags,
}

/// Namespaces that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The spec names one twice.
    #[error("malformed spec: namespace {0} is listed twice")]
    Duplicate(&'static str),
    /// The path cannot be opened.
    #[error("cannot open the {name} namespace {path}: {source}")]
    Open {
        /// The kind.
        name: &'static str,
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It cannot be entered.
    #[error("cannot join the {name} namespace {path}: {source}")]
    Join {
        /// The kind.
        name: &'static str,
        /// The path.
        path: PathBuf,
        /// The reason.
        source: Errno,
    },
    /// It cannot be made.
    #[error("cannot create new namespaces ({flags:?}): {source}")]
    Unshare {
        /// Which.
        flags: CloneFlags,
        /// The reason.
        source: Errno,
    },
    /// The offsets of a time namespace.
    #[error("cannot set the time namespace's offsets {offsets:?}: {source}")]
    Offsets {
        /// The lines.
        offsets: String,
        /// The reason.
        source: io::Error,
    },
    /// Going back to the runtime's own namespace.
    #[error("cannot return to the runtime's own {name} namespace: {source}")]
    Return {
        /// The kind.
        name: &'static str,
        /// The reason.
        source: io::Error,
    },
}

fn describe(kind: LinuxNamespaceType) -> (CloneFlags, &'static str) {
    match kind {
        LinuxNamespaceType::Mount => (CloneFlags::CLONE_NEWNS, "mount"),
        LinuxNamespaceType::Cgroup => (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
        LinuxNamespaceType::Uts => (CloneFlags::CLONE_NEWUTS, "uts"),
        LinuxNamespaceType::Ipc => (CloneFlags::CLONE_NEWIPC, "ipc"),
        LinuxNamespaceType::User => (CloneFlags::CLONE_NEWUSER, "user"),
        LinuxNamespaceType::Pid => (CloneFlags::CLONE_NEWPID, "pid"),
        LinuxNamespaceType::Network => (CloneFlags::CLONE_NEWNET, "network"),
        LinuxNamespaceType::Time => (NEWTIME, "time"),
    }
}

impl Namespaces {
    /// Reads the spec's list and opens the paths in it. `offsets` are the lines for a new time
    /// namespace.
    ///
    /// # Errors
    /// A namespace listed twice, a path that cannot be opened.
    pub fn new(list: &[LinuxNamespace], offsets: String) -> Result<Self, NamespaceError> {
        let mut all = Self {
            new: CloneFlags::empty(),
            join: Vec::new(),
            time_offsets: offsets,
            by_init: CloneFlags::empty(),
        };
        let mut seen = CloneFlags::empty();
        for namespace in list {
            let (kind, name) = describe(namespace.typ());
            if seen.contains(kind) {
                return Err(NamespaceError::Duplicate(name));
            }
            seen |= kind;
            match namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
                None => all.new |= kind,
                Some(path) => all.join.push(open(kind, name, path)?),
            }
        }
        Ok(all)
    }

    /// Has the init enter what the parent could not return from, if `confined`, which is asked only
    /// where it matters: whether the runtime has no rights in the machine's own namespaces.
    pub fn leave_to_init(&mut self, confined: impl FnOnce() -> bool) {
        let mut special = self.new & NEWTIME;
        if self.joins(CloneFlags::CLONE_NEWPID) {
            special |= CloneFlags::CLONE_NEWPID;
        }
        if !special.is_empty() && confined() {
            self.by_init = special;
        }
    }

    /// Whether a namespace of this kind is made new.
    #[must_use]
    pub fn creates(&self, kind: CloneFlags) -> bool {
        self.new.contains(kind)
    }

    /// Whether the container has a namespace of this kind that is not the runtime's, new or
    /// joined.
    #[must_use]
    pub fn has(&self, kind: CloneFlags) -> bool {
        self.creates(kind) || self.joins(kind)
    }

    /// Whether a namespace of this kind is joined.
    #[must_use]
    pub fn joins(&self, kind: CloneFlags) -> bool {
        self.join.iter().any(|join| join.kind == kind)
    }

    /// Whether there is a namespace among them that others are in already.
    #[must_use]
    pub fn joins_any(&self) -> bool {
        !self.join.is_empty()
    }

    /// Whether the init writes the offsets of a time namespace to a file of its own in /proc.
    #[must_use]
    pub fn shifts_own_clocks(&self) -> bool {
        self.by_init.contains(NEWTIME) && !self.time_offsets.is_empty()
    }

    /// The flags that the clone itself takes.
    #[must_use]
    pub fn clone_flags(&self) -> CloneFlags {
        if self.joins(CloneFlags::CLONE_NEWUSER) {
            return CloneFlags::empty();
        }
        let flags = self.new - CloneFlags::CLONE_NEWCGROUP - NEWTIME;
        if self.by_init.contains(NEWTIME) {
            // The init has yet to fork, and must be the first in its pid namespace.
            return flags - CloneFlags::CLONE_NEWPID;
        }
        flags
    }

    /// In the parent, before the clone: what the next child shall be born in. Undone when the
    /// returned value is handed to [`Return::restore`].
    ///
    /// # Errors
    /// A namespace that cannot be joined or made.
    pub fn before_clone(&self) -> Result<Return, NamespaceError> {
        let mut back = Return(Vec::new());
        if !self.by_init.is_empty() {
            return Ok(back);
        }
        for join in self.join.iter().filter(|join| join.kind == CloneFlags::CLONE_NEWPID) {
            back.remember("pid", CloneFlags::CLONE_NEWPID)?;
            join.enter()?;
        }
        if self.creates(NEWTIME) {
            back.remember("time", NEWTIME)?;
            self.make_time_namespace(CloneFlags::empty())?;
        }
        Ok(back)
    }

    fn make_time_namespace(&self, others: CloneFlags) -> Result<(), NamespaceError> {
        let flags = NEWTIME | others;
        sched::unshare(flags).map_err(|source| NamespaceError::Unshare { flags, source })?;
        if self.time_offsets.is_empty() {
            return Ok(());
        }
        std::fs::write("/proc/self/timens_offsets", &self.time_offsets).map_err(|source| {
            NamespaceError::Offsets { offsets: self.time_offsets.clone(), source }
        })
    }

    /// In the init: joins what is to be joined, and makes what could not come with the clone.
    /// Returns whether one more fork is needed to get into a new pid namespace.
    ///
    /// A namespace may belong to the host's or to the joined user namespace. The first kind needs
    /// the rights that we have before joining it, the second those that joining it gives; so what
    /// is refused before is tried again after.
    ///
    /// # Errors
    /// A namespace that cannot be joined or made.
    pub fn enter(&self) -> Result<bool, NamespaceError> {
        let is_user = |join: &&Join| join.kind == CloneFlags::CLONE_NEWUSER;
        let user = self.join.iter().find(is_user);
        let mut refused = Vec::new();
        for join in &self.join {
            match join.kind {
                CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID => {}
                _ => match join.enter() {
                    Err(NamespaceError::Join { source: Errno::EPERM, .. }) if user.is_some() => {
                        refused.push(join);
                    }
                    done => done?,
                },
            }
        }
        let Some(user) = user else { return self.enter_last(self.new) };
        user.enter()?;
        for join in refused {
            join.enter()?;
        }
        let flags = self.new - CloneFlags::CLONE_NEWCGROUP - NEWTIME;
        sched::unshare(flags).map_err(|source| NamespaceError::Unshare { flags, source })?;
        let forks = flags.contains(CloneFlags::CLONE_NEWPID);
        Ok(self.enter_last(self.new - flags)? || forks)
    }

    /// What takes effect on children only; `new` are the new namespaces that are yet to be made.
    fn enter_last(&self, new: CloneFlags) -> Result<bool, NamespaceError> {
        for join in self.join.iter().filter(|join| self.by_init.contains(join.kind)) {
            join.enter()?;
        }
        if self.by_init.contains(NEWTIME) {
            self.make_time_namespace(new & CloneFlags::CLONE_NEWPID)?;
        }
        Ok(!self.by_init.is_empty())
    }

    /// In the init, when it is in its cgroup: the cgroup namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unshare_cgroup(&self) -> Result<(), NamespaceError> {
        if !self.creates(CloneFlags::CLONE_NEWCGROUP) {
            return Ok(());
        }
        let flags = CloneFlags::CLONE_NEWCGROUP;
        sched::unshare(flags).map_err(|source| NamespaceError::Unshare { flags, source })
    }
}

impl Join {
    fn enter(&self) -> Result<(), NamespaceError> {
        sched::setns(&self.fd, self.kind).map_err(|source| NamespaceError::Join {
            name: self.name,
            path: self.path.clone(),
            source,
        })
    }
}

fn open(kind: CloneFlags, name: &'static str, path: &Path) -> Result<Join, NamespaceError> {
    let fd = File::open(path).map_err(|source| NamespaceError::Open {
        name,
        path: path.to_owned(),
        source,
    })?;
    Ok(Join { kind, name, path: path.to_owned(), fd })
}

/// The runtime's own namespaces, to return to after the clone so that hooks run in them.
#[derive(Debug)]
#[must_use = "the runtime must return to its own namespaces"]
pub struct Return(Vec<(&'static str, CloneFlags, File)>);

impl Return {
    fn remember(&mut self, name: &'static str, kind: CloneFlags) -> Result<(), NamespaceError> {
        let own = File::open(format!("/proc/self/ns/{name}"))
            .map_err(|source| NamespaceError::Return { name, source })?;
        self.0.push((name, kind, own));
        Ok(())
    }

    /// Goes back.
    ///
    /// # Errors
    /// The kernel's.
    pub fn restore(self) -> Result<(), NamespaceError> {
        for (name, kind, own) in self.0 {
            sched::setns(&own, kind)
                .map_err(|source| NamespaceError::Return { name, source: source.into() })?;
        }
        Ok(())
    }
}
