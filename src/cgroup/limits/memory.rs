//! `memory.*`.
//!
//! v1 has a limit on memory and one on memory and swap together, and refuses a moment at which the
//! first exceeds the second. v2 has one on swap alone. Kernel memory limits are ignored, as the
//! spec says.

use oci_spec::runtime::LinuxMemory;

use super::convert::{limit, or_max, swap};
use super::{CgroupError, Knobs, invalid, only_on_v1};

pub(super) fn set(knobs: &Knobs, memory: &LinuxMemory) -> Result<(), CgroupError> {
    let wanted = check(knobs, memory)?;
    if knobs.v2 { set_v2(knobs, memory, &wanted) } else { set_v1(knobs, memory, &wanted) }
}

/// Checks the numbers, and if that is asked for, that what is in use fits.
pub(super) fn check(knobs: &Knobs, memory: &LinuxMemory) -> Result<Wanted, CgroupError> {
    let wanted = Wanted {
        limit: limit("memory.limit", memory.limit())?,
        swap: limit("memory.swap", memory.swap())?,
        reservation: limit("memory.reservation", memory.reservation())?,
    };
    if memory.check_before_update() == Some(true) {
        refuse_below_usage(knobs, &wanted)?;
    }
    Ok(wanted)
}

/// The limits, checked; `None` is "not set".
pub(super) struct Wanted {
    limit: Option<i64>,
    /// Memory and swap together.
    swap: Option<i64>,
    reservation: Option<i64>,
}

fn set_v1(knobs: &Knobs, memory: &LinuxMemory, wanted: &Wanted) -> Result<(), CgroupError> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    let both = match (wanted.limit, wanted.swap) {
        // Lifting the limit lifts both, where the kernel counts swap.
        (Some(-1), None) if knobs.has(BOTH) => Some(-1),
        (_, swap) => swap,
    };
    match (wanted.limit, both) {
        (Some(limit), Some(both)) => {
            if both != -1 && (limit == -1 || both < limit) {
                return Err(invalid(
                    "memory.swap",
                    format!("{both} is memory and swap together and below memory.limit {limit}"),
                ));
            }
            let now = knobs.read_u64(LIMIT)?;
            // Upwards the outer limit goes first, downwards the inner one.
            if u64::try_from(both).is_ok_and(|both| both <= now) {
                knobs.write(LIMIT, &limit.to_string())?;
                knobs.write(BOTH, &both.to_string())?;
            } else {
                knobs.write(BOTH, &both.to_string())?;
                knobs.write(LIMIT, &limit.to_string())?;
            }
        }
        (Some(limit), None) => {
            knobs.write(LIMIT, &limit.to_string()).map_err(|err| explain(knobs, limit, err))?;
        }
        (None, Some(both)) => knobs.write(BOTH, &both.to_string())?,
        (None, None) => {}
    }
    if let Some(reservation) = wanted.reservation {
        knobs.write("memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if memory.disable_oom_killer() == Some(true) {
        knobs.write("memory.oom_control", "1")?;
    }
    match memory.swappiness() {
        // Docker's "not set", an int64 -1 in an unsigned field.
        None | Some(u64::MAX) => Ok(()),
        Some(value) if value <= 100 => knobs.write("memory.swappiness", &value.to_string()),
        Some(value) => Err(invalid("memory.swappiness", format!("{value} is not in 0..=100"))),
    }
}

/// Says why v1 refuses a limit: one above memory and swap together is a mere `EINVAL`, one below
/// what is in use and cannot be reclaimed an `EBUSY`.
fn explain(knobs: &Knobs, limit: i64, err: CgroupError) -> CgroupError {
    let above = |both: &u64| u64::try_from(limit).is_ok_and(|limit| limit > *both);
    match err.errno() {
        Some(libc::EINVAL) => match knobs.read_u64("memory.memsw.limit_in_bytes") {
            Ok(both) if above(&both) => invalid(
                "memory.limit",
                format!("{limit} is above memory and swap together ({both}); set memory.swap too"),
            ),
            _ => err,
        },
        Some(libc::EBUSY) => match knobs.read_u64("memory.usage_in_bytes") {
            Ok(usage) => invalid(
                "memory.limit",
                format!("{limit} is below the {usage} bytes in use, which cannot be reclaimed"),
            ),
            Err(_) => err,
        },
        _ => err,
    }
}

fn set_v2(knobs: &Knobs, memory: &LinuxMemory, wanted: &Wanted) -> Result<(), CgroupError> {
    if memory.disable_oom_killer() == Some(true) {
        return Err(only_on_v1("memory.disableOOMKiller"));
    }
    if memory.swappiness().is_some_and(|value| value != u64::MAX) {
        return Err(only_on_v1("memory.swappiness"));
    }
    if let Some(swap) = swap(wanted.swap.unwrap_or(0), wanted.limit.unwrap_or(0))? {
        let value = or_max(swap);
        // Without swap accounting there is nothing to forbid or to allow.
        if !knobs.write_if_present("memory.swap.max", &value)? && swap > 0 {
            return Err(CgroupError::NoController {
                limit: "memory swap",
                reason: "the kernel does not count swap (boot with swapaccount=1)".to_owned(),
            });
        }
    }
    if let Some(limit) = wanted.limit {
        knobs.write("memory.max", &or_max(limit))?;
    }
    if let Some(reservation) = wanted.reservation {
        knobs.write("memory.low", &or_max(reservation))?;
    }
    Ok(())
}

/// On v2 a limit below what is in use kills processes; `checkBeforeUpdate` asks for an error.
/// (v1 refuses by itself, but only after it has tried to reclaim.)
fn refuse_below_usage(knobs: &Knobs, wanted: &Wanted) -> Result<(), CgroupError> {
    let file = if knobs.v2 { "memory.current" } else { "memory.usage_in_bytes" };
    // Best effort: without a number there is nothing to compare.
    let Ok(usage) = knobs.read_u64(file) else {
        return Ok(());
    };
    for (field, value) in [("memory.limit", wanted.limit), ("memory.swap", wanted.swap)] {
        if let Some(value) = value
            && u64::try_from(value).is_ok_and(|value| value <= usage)
        {
            return Err(invalid(field, format!("{value} is not above the {usage} bytes in use")));
        }
    }
    Ok(())
}
