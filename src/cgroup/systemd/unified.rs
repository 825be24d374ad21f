//! `resources.unified`, files of cgroup v2 by name, as properties where there is one. What has
//! none is still written to its file. Pure.

use std::collections::{BTreeMap, HashMap};

use super::Property;
use super::dbus::Value;
use super::limits::List;
use crate::cgroup::CgroupError;

/// The first systemd whose scopes take `OOMPolicy=`.
const OOM_POLICY: u32 = 253;
/// The kernel's period for CPU quotas, in µs.
const PERIOD: u64 = 100_000;

/// Adds the properties for these files.
///
/// # Errors
/// [`CgroupError::Value`]: a value that its file would not take either.
pub(super) fn add(list: &mut List, files: &HashMap<String, String>) -> Result<(), CgroupError> {
    let idle = files.get("cpu.idle").is_some_and(|value| value.trim() == "1") && list.knows_idle();
    // Sorted, so that the same spec always gives the same first error.
    for (key, value) in files.iter().collect::<BTreeMap<_, _>>() {
        let value = value.trim();
        let refuse = || CgroupError::Value {
            field: format!("unified {key:?}"),
            reason: format!("{value:?} is not what this file takes"),
        };
        let number = || value.parse::<u64>().map_err(|_| refuse());
        let or_max = || if value == "max" { Ok(u64::MAX) } else { number() };
        match key.as_str() {
            "cpu.idle" if idle => list.number("CPUWeight", 0),
            "cpu.weight" if !idle => list.number("CPUWeight", number()?),
            "cpu.max" => {
                let (quota, period) = cpu_max(value).ok_or_else(refuse)?;
                list.cpu_quota(quota, Some(period));
            }
            "cpuset.cpus" => list.cpu_set("AllowedCPUs", "unified \"cpuset.cpus\"", value)?,
            "cpuset.mems" => {
                list.cpu_set("AllowedMemoryNodes", "unified \"cpuset.mems\"", value)?
            }
            "memory.high" => list.number("MemoryHigh", or_max()?),
            "memory.low" => list.number("MemoryLow", or_max()?),
            "memory.min" => list.number("MemoryMin", or_max()?),
            "memory.max" => list.number("MemoryMax", or_max()?),
            "memory.swap.max" => list.number("MemorySwapMax", or_max()?),
            // systemd has no 0.
            "pids.max" => list.number("TasksMax", or_max()?.max(1)),
            _ => {}
        }
    }
    Ok(())
}

/// What `memory.oom.group` means to a scope; it can be said at its start only.
pub(super) fn oom_policy(files: &HashMap<String, String>, version: u32) -> Option<Property> {
    let policy = match files.get("memory.oom.group").map(|value| value.trim())? {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    (version >= OOM_POLICY).then(|| Property::new("OOMPolicy", Value::text(policy)))
}

/// `QUOTA [PERIOD]`; no quota for `max`.
fn cpu_max(value: &str) -> Option<(Option<i64>, u64)> {
    let mut fields = value.split_ascii_whitespace();
    let quota = match fields.next()? {
        "max" => None,
        quota => Some(quota.parse().ok()?),
    };
    let period = match fields.next() {
        None => PERIOD,
        Some(period) => period.parse().ok()?,
    };
    fields.next().is_none().then_some((quota, period))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxResources;

    use super::super::limits;
    use super::*;
    use crate::cgroup::Mode;

    fn properties(files: &[(&str, &str)]) -> Result<Vec<(String, Value)>, String> {
        let files: HashMap<_, _> = files.iter().copied().collect();
        let json = serde_json::json!({"unified": files});
        let resources: LinuxResources = serde_json::from_value(json).unwrap();
        limits::properties(&resources, Mode::V2, 252)
            .map(|(all, _)| all.into_iter().map(|it| (it.name, it.value)).collect())
            .map_err(|err| err.to_string())
    }

    #[test]
    fn files_that_systemd_knows_become_properties() {
        let one = |key, value| properties(&[(key, value)]).unwrap().pop();
        let number = |name: &str, value| Some((name.to_owned(), Value::U64(value)));
        assert_eq!(one("memory.high", "4096\n"), number("MemoryHigh", 4096));
        assert_eq!(one("memory.swap.max", "max"), number("MemorySwapMax", u64::MAX));
        assert_eq!(one("pids.max", "0"), number("TasksMax", 1));
        assert_eq!(one("cpu.max", "20000"), number("CPUQuotaPerSecUSec", 200_000));
        assert_eq!(one("cpu.max", "max 50000"), number("CPUQuotaPerSecUSec", u64::MAX));
        assert_eq!(one("hugetlb.2MB.max", "1"), None);
        let idle = properties(&[("cpu.idle", "1"), ("cpu.weight", "7")]).unwrap();
        assert_eq!(idle, [("CPUWeight".to_owned(), Value::U64(0))]);
    }

    #[test]
    fn a_value_that_is_none_is_refused_with_its_file() {
        for (key, value) in
            [("memory.max", "lots"), ("cpu.max", ""), ("cpu.max", "1 2 3"), ("cpuset.cpus", "x")]
        {
            assert!(properties(&[(key, value)]).unwrap_err().contains(key), "{key} {value}");
        }
    }

    #[test]
    fn the_oom_policy_follows_the_file() {
        let files = HashMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
        assert_eq!(oom_policy(&files, 253).unwrap().value, Value::text("kill"));
        assert_eq!(oom_policy(&files, 252), None);
        assert_eq!(oom_policy(&HashMap::new(), 253), None);
    }
}
