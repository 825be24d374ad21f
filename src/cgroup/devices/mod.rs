//! Which device nodes a container may create, read and write.
//!
//! One model of the rules ([`DeviceRules`]), two writers. What belongs here: the rules of the OCI
//! spec and their meaning, and how they reach the kernel. What does not: device nodes themselves
//! (the init makes them) and what a GPU needs (the plan names it).
//!
//! | file | holds |
//! |---|---|
//! | [`rule`] | one rule: its fields, from the spec, as text |
//! | [`rules`] | the ordered list of rules, reduced to a default and its exceptions |
//! | `program` | the exceptions as an eBPF program (pure) |
//! | `v1` | `devices.allow` and `devices.deny` |
//! | `v2` | loading, attaching and replacing the program |

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
mod interpreter;
mod program;
pub mod rule;
pub mod rules;
pub(super) mod v1;
pub(super) mod v2;

pub use rule::{Access, DeviceRule, DeviceType};
pub use rules::{DeviceRules, MAX_RULES};

use std::io;
use std::path::PathBuf;

/// Why device rules could not be understood or applied.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A rule of the spec has a value that no device can have.
    #[error("invalid device rule {index}: {reason}")]
    Invalid {
        /// The rule's place in `linux.resources.devices`, from 0.
        index: usize,
        /// The field, its value and what is allowed.
        reason: String,
    },
    /// Taking a part out of a wider exception, which neither version's list can hold.
    #[error(
        "device rule `{rule}` takes a part out of `{wider}`, which came before it; \
         list the devices of `{wider}` one by one instead"
    )]
    Hole {
        /// The later, narrower rule.
        rule: Box<DeviceRule>,
        /// The earlier, wider rule.
        wider: Box<DeviceRule>,
    },
    /// More rules than anybody writes by hand or by device.
    #[error(
        "linux.resources.devices has {0} rules, and {MAX_RULES} is the most; allow whole majors \
         (rules without a minor) instead of single devices"
    )]
    TooMany(usize),
    /// More rules than a program can hold.
    #[error("the device rules need a program of {0} instructions, more than a jump can span")]
    TooLong(usize),
    /// The caller may not use bpf(2): no `CAP_BPF`, or a user namespace. A rootless caller may go
    /// on without device rules, since it cannot open foreign devices anyway.
    #[error("cannot {action} the device program of {}: {source}", cgroup.display())]
    NotPermitted {
        /// What was tried.
        action: &'static str,
        /// The cgroup directory.
        cgroup: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's verifier or loader refused the program.
    #[error("cannot load the device program: {source}{}", verifier_text(log))]
    Load {
        /// The kernel's answer.
        source: io::Error,
        /// What the verifier said; may be empty.
        log: String,
    },
    /// Attaching, listing or detaching failed.
    #[error("cannot {action} the device program of {}: {source}", cgroup.display())]
    Program {
        /// What was tried.
        action: &'static str,
        /// The cgroup directory.
        cgroup: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `devices.list` has a line that is not of the kernel's format.
    #[error("{} has the unknown line {line:?}", file.display())]
    List {
        /// The file.
        file: PathBuf,
        /// The line.
        line: String,
    },
    /// After writing, the kernel's list is not the wanted one.
    #[error("{} does not hold the rules that were written to it: {difference}", file.display())]
    Mismatch {
        /// The file.
        file: PathBuf,
        /// The first rule that is missing or too much.
        difference: String,
    },
}

/// The verifier's text as the tail of a message.
fn verifier_text(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; the verifier says: {log}") }
}
