//! `rdma.max`, the same on both versions.

use oci_spec::runtime::LinuxRdma;

use super::{CgroupError, Knobs, invalid};

pub(super) fn set(knobs: &Knobs, device: &str, limit: &LinuxRdma) -> Result<(), CgroupError> {
    if device.is_empty() || device.contains(char::is_whitespace) {
        return Err(invalid("rdma", format!("{device:?} is not a device name")));
    }
    let mut line = device.to_owned();
    if let Some(handles) = limit.hca_handles() {
        line.push_str(&format!(" hca_handle={handles}"));
    }
    if let Some(objects) = limit.hca_objects() {
        line.push_str(&format!(" hca_object={objects}"));
    }
    if line.len() == device.len() {
        return Err(invalid(format!("rdma.{device}"), "it has neither hcaHandles nor hcaObjects"));
    }
    knobs.write("rdma.max", &line)
}
