//! `blkio.*` of v1, `io.*` of v2.
//!
//! Weights are kept by an I/O scheduler. Where it is BFQ its own files have them, and in v1's
//! range on both versions; otherwise v2's `io.weight` is iocost's.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use super::{CgroupError, Knobs, block_device, convert, only_on_v1};

pub(super) fn set(knobs: &Knobs, block: &LinuxBlockIo) -> Result<(), CgroupError> {
    if knobs.v2 { set_v2(knobs, block) } else { set_v1(knobs, block) }
}

fn set_v1(knobs: &Knobs, block: &LinuxBlockIo) -> Result<(), CgroupError> {
    if let Some(weight) = given(block.weight()) {
        convert::blkio_weight("blockIO.weight", weight)?;
        write_either(knobs, "blkio.weight", "blkio.bfq.weight", &weight.to_string())?;
    }
    if let Some(weight) = given(block.leaf_weight()) {
        convert::blkio_weight("blockIO.leafWeight", weight)?;
        knobs.write("blkio.leaf_weight", &weight.to_string())?;
    }
    for device in block.weight_device().iter().flatten() {
        const FIELD: &str = "blockIO.weightDevice";
        let numbers = block_device(FIELD, device.major(), device.minor())?;
        if let Some(weight) = given(device.weight()) {
            convert::blkio_weight(FIELD, weight)?;
            let value = format!("{numbers} {weight}");
            write_either(knobs, "blkio.weight_device", "blkio.bfq.weight_device", &value)?;
        }
        if let Some(weight) = given(device.leaf_weight()) {
            convert::blkio_weight(FIELD, weight)?;
            knobs.write("blkio.leaf_weight_device", &format!("{numbers} {weight}"))?;
        }
    }
    for throttle in throttles(block) {
        for device in throttle.devices {
            let numbers = block_device(throttle.field, device.major(), device.minor())?;
            knobs.write(throttle.v1, &format!("{numbers} {}", device.rate()))?;
        }
    }
    Ok(())
}

fn set_v2(knobs: &Knobs, block: &LinuxBlockIo) -> Result<(), CgroupError> {
    if given(block.leaf_weight()).is_some() {
        return Err(only_on_v1("blockIO.leafWeight"));
    }
    if let Some(weight) = given(block.weight()) {
        let converted = convert::io_weight(weight)?.to_string();
        if !knobs.write_if_present("io.bfq.weight", &weight.to_string())? {
            knobs.write("io.weight", &converted)?;
        }
    }
    for device in block.weight_device().iter().flatten() {
        const FIELD: &str = "blockIO.weightDevice";
        let numbers = block_device(FIELD, device.major(), device.minor())?;
        if given(device.leaf_weight()).is_some() {
            return Err(only_on_v1("blockIO.weightDevice.leafWeight"));
        }
        if let Some(weight) = given(device.weight()) {
            let converted = convert::io_weight(weight)?;
            if !knobs.write_if_present("io.bfq.weight", &format!("{numbers} {weight}"))? {
                knobs.write("io.weight", &format!("{numbers} {converted}"))?;
            }
        }
    }
    // One write per device: the keys that a line does not have keep their value.
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    for throttle in throttles(block) {
        for device in throttle.devices {
            let numbers = block_device(throttle.field, device.major(), device.minor())?;
            let rate = match device.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let line = lines.entry(numbers.clone()).or_insert(numbers);
            line.push_str(&format!(" {}={rate}", throttle.v2));
        }
    }
    lines.values().try_for_each(|line| knobs.write("io.max", line))
}

/// One of the four kinds of throttle.
struct Throttle<'a> {
    field: &'static str,
    devices: &'a [LinuxThrottleDevice],
    /// The file of v1.
    v1: &'static str,
    /// The key in `io.max`.
    v2: &'static str,
}

fn throttles(block: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    fn of<'a>(
        field: &'static str,
        devices: &'a Option<Vec<LinuxThrottleDevice>>,
        v1: &'static str,
        v2: &'static str,
    ) -> Throttle<'a> {
        Throttle { field, devices: devices.as_deref().unwrap_or_default(), v1, v2 }
    }
    [
        of(
            "blockIO.throttleReadBpsDevice",
            block.throttle_read_bps_device(),
            "blkio.throttle.read_bps_device",
            "rbps",
        ),
        of(
            "blockIO.throttleWriteBpsDevice",
            block.throttle_write_bps_device(),
            "blkio.throttle.write_bps_device",
            "wbps",
        ),
        of(
            "blockIO.throttleReadIOPSDevice",
            block.throttle_read_iops_device(),
            "blkio.throttle.read_iops_device",
            "riops",
        ),
        of(
            "blockIO.throttleWriteIOPSDevice",
            block.throttle_write_iops_device(),
            "blkio.throttle.write_iops_device",
            "wiops",
        ),
    ]
}

/// Writes the first of two files that is there.
fn write_either(knobs: &Knobs, first: &str, second: &str, value: &str) -> Result<(), CgroupError> {
    if knobs.write_if_present(first, value)? {
        return Ok(());
    }
    knobs.write(second, value)
}

/// 0 is "not set".
fn given(weight: Option<u16>) -> Option<u16> {
    weight.filter(|weight| *weight != 0)
}
