//! `cpu.stat` of v2; `cpu.stat` and `cpuacct.*` of v1.

use serde::Serialize;

use super::pressure::{self, Pressure};
use super::{CgroupError, Counters, is_default};

/// `USER_HZ`, the unit of `cpuacct.stat`: 100 on every architecture that Linux containers run on.
const NANOSECONDS_PER_TICK: u64 = 1_000_000_000 / 100;

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// What was used.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: CpuUsage,
    /// What the quota held back.
    #[serde(skip_serializing_if = "is_default")]
    pub throttling: Throttling,
    /// Waiting for a processor (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_default")]
    pub total: u64,
    /// By processor (v1).
    #[serde(skip_serializing_if = "is_default")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor (v1).
    #[serde(skip_serializing_if = "is_default")]
    pub percpu_kernel: Vec<u64>,
    /// In user space, by processor (v1).
    #[serde(skip_serializing_if = "is_default")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user space.
    pub user: u64,
}

/// What the quota held back.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that have passed.
    #[serde(skip_serializing_if = "is_default")]
    pub periods: u64,
    /// Those of them in which the quota was used up.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_periods: u64,
    /// How long, in nanoseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub throttled_time: u64,
}

pub(super) fn read(cpu: &Counters, cpuacct: &Counters) -> Result<Cpu, CgroupError> {
    let table = cpu.table("cpu.stat")?;
    let of = |name: &str| table.get(name).copied().unwrap_or(0);
    let (throttled_time, usage) = if cpu.v2 {
        let nanoseconds = |name: &str| of(name).saturating_mul(1000);
        let usage = CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
            ..CpuUsage::default()
        };
        (nanoseconds("throttled_usec"), usage)
    } else {
        (of("throttled_time"), usage_v1(cpuacct)?)
    };
    let (periods, throttled_periods) = (of("nr_periods"), of("nr_throttled"));
    Ok(Cpu {
        usage,
        throttling: Throttling { periods, throttled_periods, throttled_time },
        psi: pressure::read(cpu, "cpu.pressure")?,
    })
}

fn usage_v1(cpuacct: &Counters) -> Result<CpuUsage, CgroupError> {
    let ticks = cpuacct.table("cpuacct.stat")?;
    let of =
        |name: &str| ticks.get(name).copied().unwrap_or(0).saturating_mul(NANOSECONDS_PER_TICK);
    let list = cpuacct.text("cpuacct.usage_percpu")?.unwrap_or_default();
    // A heading, then `CPU USER KERNEL`.
    let table = cpuacct.text("cpuacct.usage_all")?.unwrap_or_default();
    let column = |index: usize| -> Vec<u64> {
        let cell = |line: &str| line.split(' ').nth(index)?.parse().ok();
        table.lines().skip(1).filter_map(cell).collect()
    };
    Ok(CpuUsage {
        total: cpuacct.number_or_0("cpuacct.usage")?,
        percpu: list.split_ascii_whitespace().filter_map(|value| value.parse().ok()).collect(),
        percpu_kernel: column(2),
        percpu_user: column(1),
        kernel: of("system"),
        user: of("user"),
    })
}
