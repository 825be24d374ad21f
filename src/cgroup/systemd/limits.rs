//! Limits as properties of the unit, the same ones that runc sets. Pure.
//!
//! systemd writes what it knows again after a daemon-reload, and its defaults for what it does not
//! know; so a limit is a property wherever there is one. The files are written as well, with the
//! same values: some limits have no property, and some properties came late.

use std::borrow::Cow;

use oci_spec::runtime::{LinuxCpu, LinuxResources};

use super::dbus::Value;
use super::{Property, unified};
use crate::cgroup::limits::convert;
use crate::cgroup::{CgroupError, Mode};

/// `USEC_INFINITY`, and "no limit" of everything else.
const INFINITY: u64 = u64::MAX;
/// The kernel's period for CPU quotas, in µs.
const PERIOD: u64 = 100_000;

/// The systemd versions that brought properties which came late.
mod since {
    pub const CPU_QUOTA_PERIOD: u32 = 242;
    pub const ALLOWED_CPUS: u32 = 244;
    pub const CPU_IDLE: u32 = 252;
}

/// The properties for limits, and the limits as they then have to be in the files: systemd counts
/// CPU quotas in whole percents.
///
/// # Errors
/// [`CgroupError::Value`].
pub(super) fn properties<'r>(
    resources: &'r LinuxResources,
    mode: Mode,
    version: u32,
) -> Result<(Vec<Property>, Cow<'r, LinuxResources>), CgroupError> {
    let v2 = mode == Mode::V2;
    let mut resources = Cow::Borrowed(resources);
    let mut all = List { version, properties: Vec::new() };
    if let Some(memory) = resources.memory() {
        let limit = convert::limit("memory.limit", memory.limit())?;
        let both = convert::limit("memory.swap", memory.swap())?;
        if let Some(limit) = limit {
            all.number(if v2 { "MemoryMax" } else { "MemoryLimit" }, or_infinity(limit));
        }
        if v2 {
            if let Some(low) = convert::limit("memory.reservation", memory.reservation())? {
                all.number("MemoryLow", or_infinity(low));
            }
            if let Some(swap) = convert::swap(both.unwrap_or(0), limit.unwrap_or(0))? {
                all.number("MemorySwapMax", or_infinity(swap));
            }
        }
    }
    if let Some(cpu) = resources.cpu().clone() {
        let shares = cpu.shares().filter(|shares| *shares != 0);
        match (v2, cpu.idle() == Some(1) && version >= since::CPU_IDLE, shares) {
            // 0 is systemd's word for idle.
            (true, true, _) => all.number("CPUWeight", 0),
            (true, false, Some(shares)) => all.number("CPUWeight", convert::cpu_weight(shares)),
            (false, _, Some(shares)) => all.number("CPUShares", shares),
            (_, _, None) => {}
        }
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let period = cpu.period().filter(|period| *period != 0);
        if let Some(rounded) = all.cpu_quota(quota, period) {
            resources.to_mut().set_cpu(Some(with_quota(cpu.clone(), rounded)));
        }
        all.cpu_set("AllowedCPUs", "cpu.cpus", cpu.cpus().as_deref().unwrap_or_default())?;
        all.cpu_set("AllowedMemoryNodes", "cpu.mems", cpu.mems().as_deref().unwrap_or_default())?;
    }
    if let Some(weight) = resources.block_io().as_ref().and_then(|block| block.weight())
        && weight != 0
    {
        convert::blkio_weight("blockIO.weight", weight)?;
        match v2 {
            true => all.number("IOWeight", convert::io_weight(weight)?),
            false => all.number("BlockIOWeight", u64::from(weight)),
        }
    }
    if let Some(pids) = resources.pids() {
        all.number("TasksMax", tasks(pids.limit()));
    }
    if v2 && let Some(files) = resources.unified() {
        unified::add(&mut all, files)?;
    }
    let List { properties, .. } = all;
    Ok((properties, resources))
}

fn with_quota(mut cpu: LinuxCpu, quota: i64) -> LinuxCpu {
    cpu.set_quota(Some(quota));
    cpu
}

/// -1, and any other negative number, is no limit. systemd has no 0, which every runtime takes as
/// "the container's init alone".
fn tasks(limit: i64) -> u64 {
    match limit {
        0 => 1,
        limit => or_infinity(limit),
    }
}

fn or_infinity(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(INFINITY)
}

/// The properties so far.
pub(super) struct List {
    /// systemd's version.
    pub version: u32,
    properties: Vec<Property>,
}

impl List {
    pub fn number(&mut self, name: &str, value: u64) {
        self.properties.push(Property::new(name, Value::U64(value)));
    }

    /// Whether this systemd knows an idle `CPUWeight`.
    pub fn knows_idle(&self) -> bool {
        self.version >= since::CPU_IDLE
    }

    /// A quota in µs per period. systemd keeps it as CPU time per second in whole percents, and
    /// would write its own rounding over the file some time: it is rounded up before, as in runc.
    /// Returns the quota for the file where it is another one than before.
    pub fn cpu_quota(&mut self, quota: Option<i64>, period: Option<u64>) -> Option<i64> {
        if let Some(period) = period
            && self.version >= since::CPU_QUOTA_PERIOD
        {
            self.number("CPUQuotaPeriodUSec", period);
        }
        let limit = match quota {
            None if period.is_none() => return None,
            Some(quota) => u64::try_from(quota).ok(),
            None => None,
        };
        let Some(limit) = limit else {
            self.number("CPUQuotaPerSecUSec", INFINITY);
            return None;
        };
        const PERCENT: u128 = 10_000;
        let period = u128::from(period.unwrap_or(PERIOD).max(1));
        // At least one: 0 would be no quota at all.
        let share = u128::from(limit) * 1_000_000 / period;
        let per_second = share.max(1).next_multiple_of(PERCENT);
        self.number("CPUQuotaPerSecUSec", u64::try_from(per_second).unwrap_or(INFINITY));
        let rounded = i64::try_from(per_second * period / 1_000_000).ok()?;
        (Some(rounded) != quota).then_some(rounded)
    }

    /// A list such as `0-2,7` as the bits that systemd wants.
    pub fn cpu_set(&mut self, name: &str, field: &str, list: &str) -> Result<(), CgroupError> {
        if list.trim().is_empty() || self.version < since::ALLOWED_CPUS {
            return Ok(());
        }
        let bits = bits(list).ok_or_else(|| CgroupError::Value {
            field: field.to_owned(),
            reason: format!("{list:?} is no list of numbers such as \"0-2,7\""),
        })?;
        self.properties.push(Property::new(name, Value::bytes(&bits)));
        Ok(())
    }
}

/// One bit per number of a list, the lowest first; empty items are fine, an empty list is not.
pub(super) fn bits(list: &str) -> Option<Vec<u8>> {
    /// More than any kernel counts (`CONFIG_NR_CPUS`, `MAX_NUMNODES`).
    const MAX: usize = 1 << 16;
    let mut bits = Vec::new();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MAX {
            return None;
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        for number in first..=last {
            *bits.get_mut(number / 8)? |= 1 << (number % 8);
        }
    }
    (!bits.is_empty()).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(json: serde_json::Value, mode: Mode, version: u32) -> Vec<(String, String)> {
        let resources: LinuxResources = serde_json::from_value(json).unwrap();
        let (properties, _) = properties(&resources, mode, version).unwrap();
        let show = |property: Property| match property.value {
            Value::U64(number) => (property.name, number.to_string()),
            other => (property.name, format!("{other:?}")),
        };
        properties.into_iter().map(show).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn each_limit_becomes_the_property_of_its_cgroup_version() {
        let json = serde_json::json!({
            "memory": {"limit": 1000, "reservation": 500, "swap": 1500},
            "cpu": {"shares": 1024, "quota": 50_000, "period": 100_000},
            "pids": {"limit": 0},
            "blockIO": {"weight": 500},
        });
        let v2 = pairs(&[
            ("MemoryMax", "1000"),
            ("MemoryLow", "500"),
            ("MemorySwapMax", "500"),
            ("CPUWeight", "100"),
            ("CPUQuotaPeriodUSec", "100000"),
            ("CPUQuotaPerSecUSec", "500000"),
            ("IOWeight", "4950"),
            ("TasksMax", "1"),
        ]);
        assert_eq!(named(json.clone(), Mode::V2, 252), v2);
        let v1 = pairs(&[
            ("MemoryLimit", "1000"),
            ("CPUShares", "1024"),
            ("CPUQuotaPerSecUSec", "500000"),
            ("BlockIOWeight", "500"),
            ("TasksMax", "1"),
        ]);
        assert_eq!(named(json, Mode::Hybrid, 241), v1);
    }

    #[test]
    fn no_limit_is_infinity() {
        let json = serde_json::json!({
            "memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1},
        });
        let all = u64::MAX.to_string();
        let expected = pairs(&[
            ("MemoryMax", &all),
            ("MemorySwapMax", &all),
            ("CPUQuotaPerSecUSec", &all),
            ("TasksMax", &all),
        ]);
        assert_eq!(named(json, Mode::V2, 252), expected);
    }

    #[test]
    fn a_quota_is_rounded_up_to_a_percent_and_the_file_gets_the_same() {
        let json = serde_json::json!({"cpu": {"quota": 12_345}});
        let resources: LinuxResources = serde_json::from_value(json).unwrap();
        let (properties, adjusted) = properties(&resources, Mode::V2, 252).unwrap();
        assert_eq!(properties[0].value, Value::U64(130_000));
        assert_eq!(adjusted.cpu().as_ref().unwrap().quota(), Some(13_000));
        // Absurd numbers do not overflow.
        let mut list = List { version: 252, properties: Vec::new() };
        assert_eq!(list.cpu_quota(Some(i64::MAX), Some(1)), None);
        assert!(list.cpu_quota(Some(1), Some(u64::MAX)).is_some_and(|quota| quota > 0));
    }

    #[test]
    fn an_idle_cgroup_is_a_weight_of_0() {
        let json = serde_json::json!({"cpu": {"idle": 1, "shares": 10}});
        assert_eq!(named(json.clone(), Mode::V2, 252), pairs(&[("CPUWeight", "0")]));
        assert_eq!(named(json, Mode::V2, 251)[0].1, convert::cpu_weight(10).to_string());
    }

    #[test]
    fn cpu_lists_become_bits() {
        assert_eq!(bits("0-2,9").unwrap(), [0b111, 0b10]);
        assert_eq!(bits(" 1 , ,3 ").unwrap(), [0b1010]);
        for bad in ["", ",", "a", "2-1", "0-99999999999", "-1", "70000", "0-"] {
            assert!(bits(bad).is_none(), "{bad:?}");
        }
        let old = serde_json::json!({"cpu": {"cpus": "0"}});
        assert!(named(old, Mode::V2, 243).is_empty());
    }
}
