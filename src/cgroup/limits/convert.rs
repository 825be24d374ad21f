//! Values of the spec, which has cgroup v1's scales, on the scales of v2. Pure.

use super::{CgroupError, invalid};

/// `cpu.shares` (2–262144, default 1024) → `cpu.weight` (1–10000, default 100): the curve through
/// the two ends and the two defaults that runc, crun and Kubernetes agreed on in 2025,
/// 10 ^ ((l² + 125·l) / 612 − 7/34) with l = log2(shares), rounded up.
pub(in crate::cgroup) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            // At most 262143 here, which a double holds exactly.
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
    }
}

/// `blkio.weight` (10–1000) → `io.weight` (1–10000), linear.
///
/// # Errors
/// For a weight outside of v1's range.
pub(in crate::cgroup) fn io_weight(weight: u16) -> Result<u64, CgroupError> {
    blkio_weight("blockIO.weight", weight)?;
    Ok(1 + (u64::from(weight) - 10) * 9999 / 990)
}

/// Checks a weight against v1's range, which BFQ's files have too.
///
/// # Errors
/// For a weight outside of v1's range.
pub(in crate::cgroup) fn blkio_weight(field: &str, weight: u16) -> Result<(), CgroupError> {
    if (10..=1000).contains(&weight) {
        return Ok(());
    }
    Err(invalid(field, format!("{weight} is not in 10..=1000")))
}

/// The spec's memory+swap → v2's swap alone. `None`: leave it. `Some(-1)`: no limit.
///
/// # Errors
/// When there is no memory limit to subtract, or it is larger.
pub(in crate::cgroup) fn swap(memory_swap: i64, memory: i64) -> Result<Option<i64>, CgroupError> {
    match (memory_swap, memory) {
        // On v1, a memory limit that is lifted takes memory+swap with it.
        (0, -1) | (-1, _) => Ok(Some(-1)),
        (0, _) => Ok(None),
        (both, -1) => Ok(Some(both)),
        (both, 0) => Err(invalid(
            "memory.swap",
            format!("{both} is memory and swap together; it needs memory.limit beside it"),
        )),
        (both, memory) => match both.checked_sub(memory) {
            Some(swap) if swap >= 0 => Ok(Some(swap)),
            _ => Err(invalid(
                "memory.swap",
                format!("{both} is memory and swap together and below memory.limit {memory}"),
            )),
        },
    }
}

/// A limit of v2, where -1 is spelled `max`.
pub(in crate::cgroup) fn or_max(limit: i64) -> String {
    if limit == -1 { "max".to_owned() } else { limit.to_string() }
}

/// Checks a limit in bytes: -1 (none) or a number; 0 is "not set" and gives `None`.
///
/// # Errors
/// For other negative numbers.
pub(in crate::cgroup) fn limit(
    field: &str,
    value: Option<i64>,
) -> Result<Option<i64>, CgroupError> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) if value >= -1 => Ok(Some(value)),
        Some(value) => {
            Err(invalid(field, format!("{value} is neither -1 (no limit) nor positive")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_shares_keep_their_ends_and_the_default() {
        assert_eq!(cpu_weight(0), 1);
        assert_eq!(cpu_weight(2), 1);
        assert_eq!(cpu_weight(1024), 100);
        assert_eq!(cpu_weight(262_144), 10_000);
        assert_eq!(cpu_weight(u64::MAX), 10_000);
        let weights: Vec<u64> = (2..=262_144).step_by(97).map(cpu_weight).collect();
        assert!(weights.is_sorted());
    }

    #[test]
    fn io_weight_is_linear_and_refuses_what_v1_would() {
        assert_eq!(io_weight(10).unwrap(), 1);
        assert_eq!(io_weight(1000).unwrap(), 10_000);
        assert_eq!(io_weight(100).unwrap(), 910);
        assert!(io_weight(9).is_err() && io_weight(1001).is_err());
    }

    #[test]
    fn swap_is_what_is_left_of_memory_and_swap() {
        assert_eq!(swap(300, 100).unwrap(), Some(200));
        assert_eq!(swap(100, 100).unwrap(), Some(0));
        assert_eq!(swap(-1, 100).unwrap(), Some(-1));
        assert_eq!(swap(0, 100).unwrap(), None);
        assert_eq!(swap(0, -1).unwrap(), Some(-1));
        assert_eq!(swap(300, -1).unwrap(), Some(300));
        assert!(swap(300, 0).is_err() && swap(99, 100).is_err());
    }

    #[test]
    fn absurd_limits_are_refused() {
        assert_eq!(limit("memory.limit", Some(-1)).unwrap(), Some(-1));
        assert_eq!(limit("memory.limit", Some(0)).unwrap(), None);
        let err = limit("memory.limit", Some(i64::MIN)).unwrap_err().to_string();
        assert!(err.starts_with("invalid memory.limit: -9223372036854775808"), "{err}");
    }
}
