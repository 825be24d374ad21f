//! `cpu.*` and `cpuset.*`.
//!
//! Quota, period and burst limit each other and those of the parent, so the kernel may refuse one
//! of them until another is written: it is then written again at the end.

use oci_spec::runtime::LinuxCpu;

use super::{CgroupError, Knobs, convert, invalid, only_on_v1};

pub(super) fn set(knobs: &Knobs, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    if let Some(idle) = cpu.idle().filter(|idle| !(0..=1).contains(idle)) {
        return Err(invalid("cpu.idle", format!("{idle} is neither 0 nor 1")));
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota < -1) {
        return Err(invalid("cpu.quota", format!("{quota} is neither -1 (no limit) nor positive")));
    }
    if knobs.v2 { set_v2(knobs, cpu) } else { set_v1(knobs, cpu) }
}

/// `cpuset.cpus` and `cpuset.mems`, the same on both versions.
pub(super) fn set_cpuset(knobs: &Knobs, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    for (name, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            knobs.write(name, value)?;
        }
    }
    Ok(())
}

fn set_v1(knobs: &Knobs, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    if let Some(shares) = set_to(cpu.shares()) {
        knobs.write("cpu.shares", &shares.to_string())?;
        // The kernel moves a value into its range instead of refusing it.
        let got = knobs.read_u64("cpu.shares")?;
        if got != shares {
            let bound = if got < shares { "highest" } else { "lowest" };
            return Err(invalid("cpu.shares", format!("{shares}; the {bound} allowed is {got}")));
        }
    }
    pair(
        knobs,
        ("cpu.rt_period_us", set_to(cpu.realtime_period()).map(|value| value.to_string())),
        ("cpu.rt_runtime_us", set_to(cpu.realtime_runtime()).map(|value| value.to_string())),
    )?;
    let quota = set_to(cpu.quota()).map(|value| value.to_string());
    let mut late = Vec::new();
    let early = [
        ("cpu.cfs_period_us", set_to(cpu.period()).map(|value| value.to_string())),
        ("cpu.cfs_burst_us", cpu.burst().map(|value| value.to_string())),
    ];
    for (name, value) in early {
        let Some(value) = value else { continue };
        match knobs.write(name, &value) {
            Err(err) if err.errno() == Some(libc::EINVAL) && quota.is_some() => {
                late.push((name, value));
            }
            // Before Linux 5.14 a quota has no burst; asking for none is no request.
            Err(err) if err.is_absent() && name == "cpu.cfs_burst_us" && value == "0" => {}
            done => done?,
        }
    }
    if let Some(quota) = quota {
        knobs.write("cpu.cfs_quota_us", &quota)?;
    }
    for (name, value) in late {
        knobs.write(name, &value)?;
    }
    if let Some(idle) = cpu.idle() {
        let there = knobs.write_if_present("cpu.idle", &idle.to_string())?;
        if !there && idle != 0 {
            return Err(invalid("cpu.idle", "this kernel has no cpu.idle (Linux 5.15)"));
        }
    }
    Ok(())
}

/// Writes two values of which the first may have to wait for the second.
fn pair(
    knobs: &Knobs,
    first: (&str, Option<String>),
    second: (&str, Option<String>),
) -> Result<(), CgroupError> {
    let mut again = None;
    if let Some(value) = first.1 {
        match knobs.write(first.0, &value) {
            Err(err) if err.errno() == Some(libc::EINVAL) && second.1.is_some() => {
                again = Some(value);
            }
            done => done?,
        }
    }
    if let Some(value) = second.1 {
        knobs.write(second.0, &value)?;
    }
    match again {
        Some(value) => knobs.write(first.0, &value),
        None => Ok(()),
    }
}

fn set_v2(knobs: &Knobs, cpu: &LinuxCpu) -> Result<(), CgroupError> {
    for (field, asked) in [
        ("cpu.realtimeRuntime", cpu.realtime_runtime().is_some_and(|value| value != 0)),
        ("cpu.realtimePeriod", cpu.realtime_period().is_some_and(|value| value != 0)),
    ] {
        if asked {
            return Err(only_on_v1(field));
        }
    }
    if let Some(idle) = cpu.idle() {
        knobs.write("cpu.idle", &idle.to_string())?;
    }
    // An idle cgroup has a weight of its own and refuses another one.
    if let Some(shares) = set_to(cpu.shares()).filter(|_| cpu.idle() != Some(1)) {
        knobs.write("cpu.weight", &convert::cpu_weight(shares).to_string())?;
    }
    let max = cpu_max(knobs, set_to(cpu.quota()), set_to(cpu.period()))?;
    pair(knobs, ("cpu.max.burst", cpu.burst().map(|burst| burst.to_string())), ("cpu.max", max))
}

/// The content of `cpu.max`: quota and period. The one that is not given keeps its value.
fn cpu_max(
    knobs: &Knobs,
    quota: Option<i64>,
    period: Option<u64>,
) -> Result<Option<String>, CgroupError> {
    Ok(match (quota, period) {
        (None, None) => None,
        // A single number is the quota.
        (Some(quota), None) => Some(convert::or_max(quota)),
        (Some(quota), Some(period)) => Some(format!("{} {period}", convert::or_max(quota))),
        (None, Some(period)) => {
            let now = match knobs.read("cpu.max") {
                Err(err) if err.is_absent() => return Err(knobs.absent(err)),
                now => now?,
            };
            let quota = now.split_ascii_whitespace().next().unwrap_or("max");
            Some(format!("{quota} {period}"))
        }
    })
}

/// 0 is "not set".
fn set_to<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}
