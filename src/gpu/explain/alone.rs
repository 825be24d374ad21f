//! Which GPUs a container would have for itself alone.

use oci_spec::runtime::Spec;
use serde::Serialize;

use crate::gpu::error::GpuError;
use crate::gpu::exclusive::{ANNOTATION, Exclusive};
use crate::gpu::plan::DeviceKind;
use crate::gpu::{Decision, read_machine_for};

/// One GPU or part of one that no other container may have meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alone {
    /// The GPU's name.
    pub gpu: String,
    /// Who says so.
    pub by: String,
}

impl Alone {
    /// Those of the decision. The machine is looked at only where some are asked for.
    ///
    /// # Errors
    /// An annotation that is wrong, or what of the machine cannot be read.
    pub fn of(spec: &Spec, decision: &Decision) -> Result<Vec<Self>, GpuError> {
        let asked = Exclusive::read(spec)?;
        let configured = decision.policy.as_ref().map(|policy| policy.exclusive.clone());
        let both = asked.clone().or(configured.unwrap_or_default());
        if both.is_none() {
            return Ok(Vec::new());
        }
        let machine = read_machine_for(&both)?;
        let devices = &decision.plan.devices;
        let may_open = |major, minor| {
            devices.iter().any(|device| {
                (device.kind, device.major, device.minor) == (DeviceKind::Char, major, minor)
            })
        };
        let claim = machine.claim(&decision.plan.grants, may_open, &both);
        let alone = claim.units.iter().filter(|(_, alone)| *alone).map(|(unit, _)| {
            let device = machine.devices.get(unit.device);
            let is_asked = device.is_some_and(|device| asked.covers(device, machine.part(*unit)));
            Self {
                gpu: machine.name(*unit),
                by: match is_asked {
                    true => format!("the annotation {ANNOTATION}"),
                    false => "gpu.exclusive in the configuration".to_owned(),
                },
            }
        });
        Ok(alone.collect())
    }
}
