//! `memory.*`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::pressure::{self, Pressure};
use super::{CgroupError, Counters, is_default};

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "is_default")]
    pub cache: u64,
    /// Memory without swap.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: MemoryEntry,
    /// Memory and swap together, also on v2.
    #[serde(skip_serializing_if = "is_default")]
    pub swap: MemoryEntry,
    /// The kernel's own (v1).
    #[serde(skip_serializing_if = "is_default")]
    pub kernel: MemoryEntry,
    /// TCP buffers (v1).
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_default")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "is_default")]
    pub raw: BTreeMap<String, u64>,
    /// Waiting for memory (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One of v1's counters, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// The limit; the largest number there is for none.
    pub limit: u64,
    /// What is in use.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// The most that ever was.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// How often the limit was hit (v1).
    pub failcnt: u64,
}

pub(super) fn read(counters: &Counters) -> Result<Memory, CgroupError> {
    let raw = counters.table("memory.stat")?;
    let of = |name: &str| raw.get(name).copied().unwrap_or(0);
    if !counters.v2 {
        return Ok(Memory {
            cache: of("cache"),
            usage: entry_v1(counters, "memory")?,
            swap: entry_v1(counters, "memory.memsw")?,
            kernel: entry_v1(counters, "memory.kmem")?,
            kernel_tcp: entry_v1(counters, "memory.kmem.tcp")?,
            raw,
            psi: None,
        });
    }
    let usage = entry_v2(counters, "memory")?;
    let mut swap = entry_v2(counters, "memory.swap")?;
    swap.usage = swap.usage.saturating_add(usage.usage);
    if swap.limit != u64::MAX {
        swap.limit = swap.limit.saturating_add(usage.limit);
    }
    // The two peaks need not have been at the same time.
    swap.max = 0;
    Ok(Memory {
        cache: of("file"),
        usage,
        swap,
        raw,
        psi: pressure::read(counters, "memory.pressure")?,
        ..Memory::default()
    })
}

fn entry_v1(counters: &Counters, prefix: &str) -> Result<MemoryEntry, CgroupError> {
    let number = |name: &str| counters.number_or_0(&format!("{prefix}.{name}"));
    Ok(MemoryEntry {
        limit: number("limit_in_bytes")?,
        usage: number("usage_in_bytes")?,
        max: number("max_usage_in_bytes")?,
        failcnt: number("failcnt")?,
    })
}

fn entry_v2(counters: &Counters, prefix: &str) -> Result<MemoryEntry, CgroupError> {
    let number = |name: &str| counters.number_or_0(&format!("{prefix}.{name}"));
    let (limit, usage, max) = (number("max")?, number("current")?, number("peak")?);
    Ok(MemoryEntry { limit, usage, max, failcnt: 0 })
}
