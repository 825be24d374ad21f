//! How the kernel schedules and places the program: I/O priority, NUMA memory policy, personality.
//!
//! The calls are libcontainer's; here is what of the spec they can express.

use libcontainer::config::PersonalityDomain;
use libcontainer::process::memory_policy;
use libcontainer::syscall::Syscall;
use libcontainer::syscall::linux::LinuxSyscall;
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, Process,
};

/// The highest NUMA node that a kernel can have (`MAX_NUMNODES`), so that a policy for node four
/// billion does not become a bitmap of that size.
const MAX_NODE: u64 = 1023;

/// A checked part of the spec.
#[derive(Debug, Default)]
pub struct Tuning {
    io_priority: Option<(i64, i64)>,
    memory_policy: Option<LinuxMemoryPolicy>,
    linux32: Option<bool>,
}

/// What cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum TuningError {
    /// Levels go from 0 to 7.
    #[error("process.ioPriority.priority {0} is outside 0..7")]
    IoPriority(i64),
    /// No flag is defined.
    #[error("linux.personality.flags are not supported: the specification defines none")]
    PersonalityFlags,
    /// A node that no kernel has.
    #[error("linux.memoryPolicy.nodes {0:?}: there is no node above {MAX_NODE}")]
    Node(String),
    /// The kernel refuses.
    #[error("cannot set {field}: {reason}")]
    Refused {
        /// The spec's field.
        field: &'static str,
        /// The reason.
        reason: String,
    },
}

impl Tuning {
    /// Of a container's first process.
    ///
    /// # Errors
    /// A value that cannot be set.
    pub fn new(process: &Process, linux: &Linux) -> Result<Self, TuningError> {
        let memory_policy = linux.memory_policy().clone();
        if let Some(nodes) = memory_policy.as_ref().and_then(|policy| policy.nodes().as_ref()) {
            let numbers = nodes.split([',', '-']).map(|part| part.trim().parse::<u64>());
            if numbers.flatten().any(|node| node > MAX_NODE) {
                return Err(TuningError::Node(nodes.clone()));
            }
        }
        Ok(Self { memory_policy, ..Self::joining(process, linux)? })
    }

    /// Of a process that joins a container: the memory policy is the container's first process's.
    ///
    /// # Errors
    /// A value that cannot be set.
    pub fn joining(process: &Process, linux: &Linux) -> Result<Self, TuningError> {
        let io_priority = process.io_priority().as_ref().map(|priority| {
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            (class, priority.priority())
        });
        if let Some((_, level)) = io_priority.filter(|(_, level)| !(0..=7).contains(level)) {
            return Err(TuningError::IoPriority(level));
        }
        let linux32 = match linux.personality() {
            Some(personality) if personality.flags().iter().flatten().next().is_some() => {
                return Err(TuningError::PersonalityFlags);
            }
            Some(personality) => Some(personality.domain() == LinuxPersonalityDomain::PerLinux32),
            None => None,
        };
        Ok(Self { io_priority, memory_policy: None, linux32 })
    }

    /// Sets all of it for the calling process, while that still has its rights.
    ///
    /// # Errors
    /// The kernel's.
    pub fn apply(&self) -> Result<(), TuningError> {
        let refused = |field, reason: String| TuningError::Refused { field, reason };
        if let Some((class, level)) = self.io_priority {
            LinuxSyscall
                .set_io_priority(class, level)
                .map_err(|err| refused("process.ioPriority", err.to_string()))?;
        }
        if self.memory_policy.is_some() {
            memory_policy::setup_memory_policy(&self.memory_policy, &LinuxSyscall)
                .map_err(|err| refused("linux.memoryPolicy", err.to_string()))?;
        }
        if let Some(linux32) = self.linux32 {
            let domain =
                if linux32 { PersonalityDomain::Linux32 } else { PersonalityDomain::Linux };
            LinuxSyscall
                .personality(domain)
                .map_err(|err| refused("linux.personality", err.to_string()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning(process: serde_json::Value, linux: serde_json::Value) -> Result<Tuning, TuningError> {
        let mut json = serde_json::json!({"cwd": "/", "user": {"uid": 0, "gid": 0}});
        json.as_object_mut().expect("object").extend(process.as_object().expect("object").clone());
        let process = serde_json::from_value(json).expect("process");
        Tuning::new(&process, &serde_json::from_value(linux).expect("linux"))
    }

    #[test]
    fn absurd_values_are_refused_before_anything_exists() {
        let level = serde_json::json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}});
        assert!(matches!(tuning(level, serde_json::json!({})), Err(TuningError::IoPriority(8))));
        let nodes =
            serde_json::json!({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-4294967295"}});
        assert!(matches!(tuning(serde_json::json!({}), nodes), Err(TuningError::Node(_))));
        let flags = serde_json::json!({"personality": {"domain": "LINUX32", "flags": ["X"]}});
        assert!(matches!(tuning(serde_json::json!({}), flags), Err(TuningError::PersonalityFlags)));
    }
}
