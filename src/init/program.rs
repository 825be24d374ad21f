//! The user's program: everything about it that can be decided and checked on the host.

use std::collections::HashSet;
use std::ffi::CString;
use std::path::PathBuf;

use caps::CapsHashSet;
use libcontainer::capabilities::CapabilityExt;
use oci_spec::runtime::{Capabilities, PosixRlimitType, Process};
use rustix::process::{Resource, Rlimit};

/// A checked `process` object of the spec.
#[derive(Debug)]
pub struct Program {
    /// argv; never empty.
    pub args: Vec<CString>,
    /// The environment in the spec's order; of several entries with one name only the last.
    pub env: Vec<CString>,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
    /// Supplementary groups; an empty list means none.
    pub groups: Vec<u32>,
    /// Whether it keeps the caller's supplementary groups instead.
    pub keep_groups: bool,
    /// The file mode creation mask, where the spec has one.
    pub umask: Option<u32>,
    /// Capabilities.
    pub capabilities: CapabilitySets,
    /// Whether execve may not gain privileges.
    pub no_new_privs: bool,
    /// The AppArmor profile to change to on exec.
    pub apparmor: Option<String>,
    /// The SELinux label to change to on exec.
    pub selinux: Option<String>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// The terminal's size (rows, columns).
    pub console_size: Option<(u16, u16)>,
    /// Resource limits, set by the parent when everything else is done.
    pub rlimits: Vec<(Resource, Rlimit)>,
    /// The OOM killer's score adjustment, set by the parent.
    pub oom_score_adj: Option<i32>,
}

/// The five capability sets as the spec has them.
#[derive(Debug, Default)]
pub struct CapabilitySets {
    /// What can ever be gained.
    pub bounding: CapsHashSet,
    /// What is in force.
    pub effective: CapsHashSet,
    /// What can be put in force.
    pub permitted: CapsHashSet,
    /// What survives exec together with file capabilities.
    pub inheritable: CapsHashSet,
    /// What survives exec of any program.
    pub ambient: CapsHashSet,
}

/// A `process` object that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// `process` or `process.args` is missing.
    #[error("process.args must not be empty: there is no program to run")]
    NoArgs,
    /// The working directory is not absolute.
    #[error("process.cwd must be an absolute path, not {0:?}")]
    Cwd(PathBuf),
    /// A variable without `=`, or without a name.
    #[error("invalid environment variable {0:?}: must be NAME=VALUE")]
    Env(String),
    /// A NUL byte in the middle.
    #[error("{field} has a NUL byte in {value:?}")]
    Nul {
        /// Which field of the spec.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Ids that mean "no change" to the kernel.
    #[error("{field} {value} cannot be used: the kernel reserves it")]
    Id {
        /// Which field of the spec.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// The same limit twice.
    #[error("process.rlimits names {0} twice")]
    DuplicateRlimit(PosixRlimitType),
    /// A soft limit above the hard one.
    #[error("process.rlimits: soft limit {soft} of {name} is above the hard limit {hard}")]
    RlimitOrder {
        /// Which limit.
        name: PosixRlimitType,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// Outside the kernel's range.
    #[error("process.oomScoreAdj {0} is outside -1000..1000")]
    OomScore(i32),
}

impl Program {
    /// Checks the `process` object and turns it into what the kernel wants.
    ///
    /// # Errors
    /// Names the field that cannot be used.
    pub fn new(process: &Process) -> Result<Self, ProgramError> {
        let args = process.args().as_deref().unwrap_or_default();
        if args.is_empty() {
            return Err(ProgramError::NoArgs);
        }
        let cwd = process.cwd().clone();
        if !cwd.is_absolute() {
            return Err(ProgramError::Cwd(cwd));
        }
        c_string("process.cwd", &cwd.to_string_lossy())?;
        let user = process.user();
        for (field, value) in [("process.user.uid", user.uid()), ("process.user.gid", user.gid())] {
            if value == u32::MAX {
                return Err(ProgramError::Id { field, value });
            }
        }
        let groups = user.additional_gids().clone().unwrap_or_default();
        if groups.contains(&u32::MAX) {
            return Err(ProgramError::Id { field: "process.user.additionalGids", value: u32::MAX });
        }
        if let Some(score) = process.oom_score_adj().filter(|s| !(-1000..=1000).contains(s)) {
            return Err(ProgramError::OomScore(score));
        }
        Ok(Self {
            args: args.iter().map(|arg| c_string("process.args", arg)).collect::<Result<_, _>>()?,
            env: environment(process.env().as_deref().unwrap_or_default())?,
            cwd,
            uid: user.uid(),
            gid: user.gid(),
            groups,
            keep_groups: false,
            umask: user.umask().map(|mask| mask & 0o777),
            capabilities: CapabilitySets::new(process),
            no_new_privs: process.no_new_privileges().unwrap_or(false),
            apparmor: process.apparmor_profile().clone().filter(|name| !name.is_empty()),
            selinux: process.selinux_label().clone().filter(|label| !label.is_empty()),
            terminal: process.terminal().unwrap_or(false),
            console_size: process.console_size().map(|size| {
                let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
                (cells(size.height()), cells(size.width()))
            }),
            rlimits: rlimits(process)?,
            oom_score_adj: process.oom_score_adj(),
        })
    }

    /// Sets an environment variable, which then comes last.
    ///
    /// # Errors
    /// A NUL byte in it.
    pub fn set_env(&mut self, name: &str, value: &str) -> Result<(), ProgramError> {
        let entry = c_string("process.env", &format!("{name}={value}"))?;
        let start = format!("{name}=");
        self.env.retain(|entry| !entry.as_bytes().starts_with(start.as_bytes()));
        self.env.push(entry);
        Ok(())
    }

    /// The value of an environment variable.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&[u8]> {
        self.env
            .iter()
            .find_map(|entry| entry.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}

fn c_string(field: &'static str, value: &str) -> Result<CString, ProgramError> {
    CString::new(value).map_err(|_| ProgramError::Nul { field, value: value.to_owned() })
}

/// runc 1.4's rule: order kept, the last of several entries with one name wins.
fn environment(entries: &[String]) -> Result<Vec<CString>, ProgramError> {
    let mut names = HashSet::with_capacity(entries.len());
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries.iter().rev() {
        let name = match entry.split_once('=') {
            Some((name, _)) if !name.is_empty() => name,
            _ => return Err(ProgramError::Env(entry.clone())),
        };
        if names.insert(name) {
            kept.push(c_string("process.env", entry)?);
        }
    }
    kept.reverse();
    Ok(kept)
}

fn rlimits(process: &Process) -> Result<Vec<(Resource, Rlimit)>, ProgramError> {
    let mut limits: Vec<(Resource, Rlimit)> = Vec::new();
    for limit in process.rlimits().as_deref().unwrap_or_default() {
        let (name, soft, hard) = (limit.typ(), limit.soft(), limit.hard());
        if soft > hard {
            return Err(ProgramError::RlimitOrder { name, soft, hard });
        }
        let resource = resource(name);
        if limits.iter().any(|(other, _)| *other == resource) {
            return Err(ProgramError::DuplicateRlimit(name));
        }
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        limits.push((resource, Rlimit { current: finite(soft), maximum: finite(hard) }));
    }
    Ok(limits)
}

fn resource(name: PosixRlimitType) -> Resource {
    match name {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

impl CapabilitySets {
    /// A spec without capabilities means none.
    fn new(process: &Process) -> Self {
        let Some(wanted) = process.capabilities() else { return Self::default() };
        let set = |names: &Option<Capabilities>| -> CapsHashSet {
            names.iter().flatten().map(CapabilityExt::to_cap).collect()
        };
        Self {
            bounding: set(wanted.bounding()),
            effective: set(wanted.effective()),
            permitted: set(wanted.permitted()),
            inheritable: set(wanted.inheritable()),
            ambient: set(wanted.ambient()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_variables_with_one_name_wins_and_order_is_kept() {
        let entries: Vec<String> =
            ["A=1", "B=2", "A=3", "C="].iter().map(|s| (*s).to_owned()).collect();
        let env = environment(&entries).expect("valid");
        let env: Vec<_> = env.iter().map(|s| s.to_str().expect("utf-8")).collect();
        assert_eq!(env, ["B=2", "A=3", "C="]);
        for bad in ["A", "=x", "", "A=\0"] {
            assert!(environment(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_process_that_cannot_run_is_refused_with_the_field() {
        let process = |json: serde_json::Value| -> Process {
            let mut base =
                serde_json::json!({"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}});
            base.as_object_mut().expect("object").extend(json.as_object().expect("object").clone());
            serde_json::from_value(base).expect("process")
        };
        let fails = |json| Program::new(&process(json)).expect_err("refused").to_string();
        assert!(fails(serde_json::json!({"args": []})).contains("process.args"));
        assert!(fails(serde_json::json!({"cwd": "x"})).contains("process.cwd"));
        assert!(
            fails(serde_json::json!({"user": {"uid": 4_294_967_295u32, "gid": 0}})).contains("uid")
        );
        assert!(fails(serde_json::json!({"oomScoreAdj": 2000})).contains("oomScoreAdj"));
        let limit = serde_json::json!({"type": "RLIMIT_CORE", "soft": 2, "hard": 1});
        assert!(fails(serde_json::json!({"rlimits": [limit]})).contains("above the hard"));
    }
}
