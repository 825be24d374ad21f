//! `cpuset.*` of v1. runc reports none of v2's.

use serde::Serialize;

use super::{CgroupError, Counters, is_default};

/// The most processors or nodes that a list may name: what the kernel can be built for.
const MOST: u16 = 8192;

/// Where a cgroup may run. All but the lists are v1's switches as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuSet {
    /// Processors.
    #[serde(skip_serializing_if = "is_default")]
    pub cpus: Vec<u16>,
    /// `cpu_exclusive`.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "is_default")]
    pub mems: Vec<u16>,
    /// `mem_hardwall`.
    pub mem_hardwall: u64,
    /// `mem_exclusive`.
    pub mem_exclusive: u64,
    /// `memory_migrate`.
    pub memory_migrate: u64,
    /// `memory_spread_page`.
    pub memory_spread_page: u64,
    /// `memory_spread_slab`.
    pub memory_spread_slab: u64,
    /// `memory_pressure`.
    pub memory_pressure: u64,
    /// `sched_load_balance`.
    pub sched_load_balance: u64,
    /// `sched_relax_domain_level`.
    pub sched_relax_domain_level: i64,
}

pub(super) fn read(counters: &Counters) -> Result<CpuSet, CgroupError> {
    if counters.v2 {
        return Ok(CpuSet::default());
    }
    let number = |name: &str| counters.number_or_0(&format!("cpuset.{name}"));
    let list = |name: &str| {
        let text = counters.text(name)?.unwrap_or_default();
        parse_list(text.trim()).ok_or_else(|| counters.malformed(name, &text))
    };
    let level = counters.text("cpuset.sched_relax_domain_level")?;
    Ok(CpuSet {
        cpus: list("cpuset.cpus")?,
        cpu_exclusive: number("cpu_exclusive")?,
        mems: list("cpuset.mems")?,
        mem_hardwall: number("mem_hardwall")?,
        mem_exclusive: number("mem_exclusive")?,
        memory_migrate: number("memory_migrate")?,
        memory_spread_page: number("memory_spread_page")?,
        memory_spread_slab: number("memory_spread_slab")?,
        memory_pressure: number("memory_pressure")?,
        sched_load_balance: number("sched_load_balance")?,
        sched_relax_domain_level: level.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
    })
}

/// `0-2,7` (cpuset(7), "List format").
pub(super) fn parse_list(text: &str) -> Option<Vec<u16>> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse::<u16>().ok()?, to.parse::<u16>().ok()?);
        if from > to || to >= MOST {
            return None;
        }
        all.extend(from..=to);
    }
    Some(all)
}
