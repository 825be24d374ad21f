//! `io.stat` of v2, `blkio.*` of v1.

use serde::Serialize;

use super::pressure::{self, Pressure};
use super::{CgroupError, Counters, is_default};

/// Block devices, in v1's tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    /// Requests.
    #[serde(skip_serializing_if = "is_default")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    /// Requests that wait.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "is_default")]
    pub io_queued_recursive: Vec<BlockIoEntry>,
    /// Nanoseconds from dispatch to completion.
    #[serde(skip_serializing_if = "is_default")]
    pub io_service_time_recursive: Vec<BlockIoEntry>,
    /// Nanoseconds in the scheduler's queues.
    #[serde(skip_serializing_if = "is_default")]
    pub io_wait_time_recursive: Vec<BlockIoEntry>,
    /// Requests merged into others.
    #[serde(skip_serializing_if = "is_default")]
    pub io_merged_recursive: Vec<BlockIoEntry>,
    /// Milliseconds for which the device was given.
    #[serde(skip_serializing_if = "is_default")]
    pub io_time_recursive: Vec<BlockIoEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "is_default")]
    pub sectors_recursive: Vec<BlockIoEntry>,
    /// Waiting for block devices (v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One number about one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlockIoEntry {
    /// The device's major number.
    #[serde(skip_serializing_if = "is_default")]
    pub major: u64,
    /// The device's minor number.
    #[serde(skip_serializing_if = "is_default")]
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`.
    #[serde(skip_serializing_if = "is_default")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_default")]
    pub value: u64,
}

pub(super) fn read(counters: &Counters) -> Result<BlockIo, CgroupError> {
    if !counters.v2 {
        return read_v1(counters);
    }
    let text = counters.text("io.stat")?.unwrap_or_default();
    let mut stats = BlockIo { psi: pressure::read(counters, "io.pressure")?, ..BlockIo::default() };
    for line in text.lines() {
        add_v2(line, &mut stats).ok_or_else(|| counters.malformed("io.stat", line))?;
    }
    Ok(stats)
}

/// `MAJOR:MINOR KEY=VALUE…`
pub(super) fn add_v2(line: &str, stats: &mut BlockIo) -> Option<()> {
    let (device, values) = line.split_once(' ').unwrap_or((line, ""));
    // A device that is going has no numbers any more.
    let Some((major, minor)) = device.split_once(':') else { return Some(()) };
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    for (key, value) in values.split(' ').filter_map(|item| item.split_once('=')) {
        let (table, op) = match key {
            "rbytes" => (&mut stats.io_service_bytes_recursive, "Read"),
            "wbytes" => (&mut stats.io_service_bytes_recursive, "Write"),
            "rios" => (&mut stats.io_serviced_recursive, "Read"),
            "wios" => (&mut stats.io_serviced_recursive, "Write"),
            _ => continue,
        };
        let value = value.parse().ok()?;
        table.push(BlockIoEntry { major, minor, op: op.to_owned(), value });
    }
    Some(())
}

/// Which scheduler has numbers is seen from its files: BFQ's, CFQ's, or only the throttle's.
fn read_v1(counters: &Counters) -> Result<BlockIo, CgroupError> {
    let table = |name: String| -> Result<Vec<BlockIoEntry>, CgroupError> {
        let text = counters.text(&name)?.unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with("Total "));
        let entries: Option<Vec<_>> = lines.map(parse_v1).collect();
        entries.ok_or_else(|| counters.malformed(&name, &text))
    };
    let mut stats = BlockIo::default();
    for prefix in ["blkio.bfq.", "blkio."] {
        let all = |name: &str| table(format!("{prefix}{name}_recursive"));
        stats.io_serviced_recursive = all("io_serviced")?;
        if stats.io_serviced_recursive.is_empty() {
            continue;
        }
        stats.io_service_bytes_recursive = all("io_service_bytes")?;
        // BFQ has these only where it was built for debugging.
        stats.io_queued_recursive = all("io_queued")?;
        stats.io_service_time_recursive = all("io_service_time")?;
        stats.io_wait_time_recursive = all("io_wait_time")?;
        stats.io_merged_recursive = all("io_merged")?;
        stats.io_time_recursive = all("time")?;
        stats.sectors_recursive = all("sectors")?;
        return Ok(stats);
    }
    for suffix in ["_recursive", ""] {
        stats.io_serviced_recursive = table(format!("blkio.throttle.io_serviced{suffix}"))?;
        if !stats.io_serviced_recursive.is_empty() {
            let bytes = format!("blkio.throttle.io_service_bytes{suffix}");
            stats.io_service_bytes_recursive = table(bytes)?;
            break;
        }
    }
    Ok(stats)
}

/// `MAJOR:MINOR [OP] VALUE`
fn parse_v1(line: &str) -> Option<BlockIoEntry> {
    let mut fields = line.split(' ');
    let (major, minor) = fields.next()?.split_once(':')?;
    let (second, third) = (fields.next()?, fields.next());
    let (op, value) = third.map_or(("", second), |value| (second, value));
    Some(BlockIoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        op: op.to_owned(),
        value: value.parse().ok()?,
    })
}
