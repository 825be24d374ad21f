//! `gpurun update`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::cli::Global;
use crate::container::id::ContainerId;
use crate::container::{json, update};
use crate::log;

/// The largest resources file that is read.
const RESOURCES_LIMIT: u64 = 1 << 20;

/// Change the limits of a container.
#[derive(Debug, Args)]
pub struct Update {
    /// The limits as JSON (the spec's linux.resources), `-` for stdin; other options are ignored
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// CPU period in microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// CPU time per period in microseconds, -1 for no limit
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// CPU burst in microseconds
    #[arg(long, value_name = "US")]
    cpu_burst: Option<u64>,
    /// CPU shares
    #[arg(long, value_name = "N")]
    cpu_share: Option<u64>,
    /// Real-time period in microseconds
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<u64>,
    /// Real-time CPU time per period in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPUs to use, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// 1: run only when nothing else wants to
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    cpu_idle: Option<i64>,
    /// Memory limit in bytes (k, m, g), -1 for none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = parse_bytes)]
    memory: Option<i64>,
    /// Soft memory limit in bytes
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = parse_bytes)]
    memory_reservation: Option<i64>,
    /// Limit of memory and swap together in bytes, -1 for none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = parse_bytes)]
    memory_swap: Option<i64>,
    /// Without effect: the kernel has dropped it
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true, value_parser = parse_bytes)]
    kernel_memory: Option<i64>,
    /// Without effect: the kernel has dropped it
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true, value_parser = parse_bytes)]
    kernel_memory_tcp: Option<i64>,
    /// How many processes, -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The schema of the L3 cache (Intel RDT/CAT)
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// The schema of the memory bandwidth (Intel RDT/MBA)
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// The container's id
    id: String,
}

impl Update {
    /// Changes the limits.
    ///
    /// # Errors
    /// The container has ended, or a limit is refused.
    pub fn run(self, global: &Global) -> Result<()> {
        let id = ContainerId::parse(&self.id)?;
        let store = super::root::store(global)?;
        let given = self.resources.as_deref().map(read_resources).transpose()?;
        // Held until all is written down.
        let (mut container, _lock) = update::begin(&store, &id)?;
        let (l3, memory) = (self.l3_cache_schema.as_deref(), self.mem_bw_schema.as_deref());
        if [l3, memory].into_iter().flatten().any(|schema| !schema.is_empty()) {
            update::update_rdt(&container, l3, memory)?;
        }
        update::update(&mut container, &given.unwrap_or_else(|| self.limits()))
    }

    fn limits(self) -> LinuxResources {
        let mut cpu = LinuxCpu::default();
        cpu.set_period(self.cpu_period)
            .set_quota(self.cpu_quota)
            .set_burst(self.cpu_burst)
            .set_shares(self.cpu_share)
            .set_realtime_period(self.cpu_rt_period)
            .set_realtime_runtime(self.cpu_rt_runtime)
            .set_cpus(self.cpuset_cpus)
            .set_mems(self.cpuset_mems)
            .set_idle(self.cpu_idle);
        if self.kernel_memory.is_some() || self.kernel_memory_tcp.is_some() {
            log::warn("Kernel memory settings are ignored and will be removed");
        }
        let mut memory = LinuxMemory::default();
        memory
            .set_limit(self.memory)
            .set_reservation(self.memory_reservation)
            .set_swap(self.memory_swap);
        let mut resources = LinuxResources::default();
        resources.set_cpu(Some(cpu)).set_memory(Some(memory));
        // The type's own default asks for device rules that nobody asked for.
        resources.set_devices(None);
        if let Some(limit) = self.pids_limit {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            resources.set_pids(Some(pids));
        }
        if let Some(weight) = self.blkio_weight {
            let mut block_io = LinuxBlockIo::default();
            block_io.set_weight(Some(weight));
            resources.set_block_io(Some(block_io));
        }
        resources
    }
}

fn read_resources(file: &Path) -> Result<LinuxResources> {
    let (name, read) = if file == Path::new("-") {
        ("stdin".to_owned(), json::read_from(std::io::stdin(), RESOURCES_LIMIT))
    } else {
        (file.display().to_string(), json::read(file, RESOURCES_LIMIT))
    };
    let bytes = read.with_context(|| format!("cannot read resources from {name}"))?;
    json::object(&bytes)
        .with_context(|| format!("{name} is not a linux.resources object of an OCI spec"))
}

/// Bytes with an optional binary unit, as `docker update` writes them: `512m`, `1.5 GiB`. -1 is no
/// limit.
pub(super) fn parse_bytes(text: &str) -> Result<i64, String> {
    bytes(text).ok_or_else(|| format!("{text:?} is not a number of bytes"))
}

fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower.strip_prefix(digits)? {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let digits = digits.strip_suffix(' ').unwrap_or(digits);
    let Some((whole, fraction)) = digits.split_once('.') else {
        return digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse::<i64>().ok())??
            .checked_mul(1 << shift);
    };
    if [whole, fraction].iter().any(|part| !part.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let number = digits.parse::<f64>().ok()? * (1_i64 << shift) as f64;
    // Beyond this a double has no whole numbers any more, and no machine has memory.
    (number < 9e15).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn bytes_may_have_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("-1", -1),
            ("512m", 512 << 20),
            ("1GiB", 1 << 30),
            ("2kb", 2048),
            ("1.5k", 1536),
            ("7 b", 7),
            ("1p", 1 << 50),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "m",
            "-2",
            "1x",
            "99999999999t",
            "1.5.2g",
            "1i",
            "1bb",
            ".",
            "1e3",
            "-1.5g",
            "9999999p",
        ] {
            assert!(parse_bytes(bad).is_err(), "{bad:?}");
        }
    }
}
