//! The CPUs that a process may run on: `process.execCPUAffinity`, and the default.
//!
//! Whoever calls the runtime may be pinned to a few CPUs; that is nothing to the container, whose
//! processes may use all of its cpuset. As in runc since 1.3 every process starts with the widest
//! mask, from which the kernel takes what the cpuset allows, now and after later changes.

use std::io;

use oci_spec::runtime::ExecCPUAffinity;

use crate::sys::sched;

/// A mask with more CPUs than any kernel has.
static EVERY_CPU: [u64; 1024] = [u64::MAX; 1024];
/// CPUs in a list go up to this number, as in runc and glibc.
const MAX_CPU: usize = 1023;

/// A set of CPUs, a bit for each.
pub type CpuMask = [u64; (MAX_CPU + 1) / 64];

/// Where a process may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// On all CPUs of the cpuset.
    All,
    /// Wherever it is: what the parent had when it made it, or what its cgroup makes of that.
    Inherited,
    /// On these.
    Only(CpuMask),
}

/// What `process.execCPUAffinity` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecAffinity {
    /// What the runtime runs on while it makes the process; `None` leaves it.
    pub initial: Option<CpuMask>,
    /// What the process runs on once it is in the container's cgroup.
    pub last: Affinity,
}

/// A list of CPUs that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("process.execCPUAffinity.{field} {list:?}: {reason}; use numbers and ranges such as 0-3,7")]
pub struct AffinityError {
    field: &'static str,
    list: String,
    reason: String,
}

impl ExecAffinity {
    /// Reads the spec's object.
    ///
    /// # Errors
    /// A list that is none.
    pub fn new(spec: Option<&ExecCPUAffinity>) -> Result<Self, AffinityError> {
        let list = |field, list: Option<&Option<String>>| {
            let Some(text) = list.and_then(Option::as_deref).filter(|text| !text.is_empty()) else {
                return Ok(None);
            };
            let failed = |reason| AffinityError { field, list: text.to_owned(), reason };
            parse(text).map(Some).map_err(failed)
        };
        let initial = list("initial", spec.map(ExecCPUAffinity::initial))?;
        let last = list("final", spec.map(ExecCPUAffinity::cpu_affinity_final))?;
        let otherwise = if initial.is_some() { Affinity::Inherited } else { Affinity::All };
        Ok(Self { initial, last: last.map_or(otherwise, Affinity::Only) })
    }
}

impl Affinity {
    /// Sets it for the calling process, which must be in its cgroup.
    ///
    /// # Errors
    /// `EINVAL`: none of the CPUs is in the cpuset.
    pub fn apply(&self) -> io::Result<()> {
        match self {
            Self::All => sched::set_affinity(&EVERY_CPU),
            Self::Inherited => Ok(()),
            Self::Only(mask) => sched::set_affinity(mask),
        }
    }
}

/// Runs `then` while this process is on the CPUs of `initial`: a child that it makes starts there.
///
/// # Errors
/// `EINVAL`: this process may run on none of them.
pub fn started_on<T>(initial: Option<&CpuMask>, then: impl FnOnce() -> T) -> io::Result<T> {
    let Some(initial) = initial else { return Ok(then()) };
    let mut before = [0; EVERY_CPU.len()];
    sched::affinity(&mut before)?;
    sched::set_affinity(initial)?;
    let done = then();
    sched::set_affinity(&before)?;
    Ok(done)
}

/// The kernel's list format: numbers and ranges, separated by commas; blanks and empty parts are
/// fine.
pub(super) fn parse(list: &str) -> Result<CpuMask, String> {
    let mut mask = CpuMask::default();
    let number = |text: &str| match text.parse::<u64>() {
        Ok(cpu) => usize::try_from(cpu)
            .ok()
            .filter(|cpu| *cpu <= MAX_CPU)
            .ok_or_else(|| format!("values larger than {MAX_CPU} are not supported")),
        Err(_) => Err(format!("{text:?} is not a number")),
    };
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("invalid range {part}"));
        }
        for cpu in first..=last {
            if let Some(word) = mask.get_mut(cpu / 64) {
                *word |= 1 << (cpu % 64);
            }
        }
    }
    if mask == CpuMask::default() {
        return Err("no members found in the set".to_owned());
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_numbers_and_ranges() {
        assert_eq!(parse("0-3,7").expect("a list")[0], 0b1000_1111);
        assert_eq!(parse(" 64 , ,66").expect("a list")[..2], [0, 0b101]);
        for bad in ["", ",", "a", "3-1", "-1", "1-", "1024", "0-99999999999999999999", "1--2"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_an_initial_list_leaves_the_rest_to_the_kernel() {
        let of = |json: serde_json::Value| {
            let spec: ExecCPUAffinity = serde_json::from_value(json).expect("an object");
            ExecAffinity::new(Some(&spec)).expect("valid")
        };
        assert_eq!(ExecAffinity::new(None).expect("valid").last, Affinity::All);
        assert_eq!(of(serde_json::json!({"initial": "1"})).last, Affinity::Inherited);
        assert!(matches!(of(serde_json::json!({"final": "1"})).last, Affinity::Only(_)));
    }
}
