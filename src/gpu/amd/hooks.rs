//! AMD's hook: `amd-ctk gpu-tracker release ID`, which AMD's runtime adds to strike a container
//! off its list.

use oci_spec::runtime::{Hook, Spec};

use super::{config, tracker};
use crate::gpu::absorb::Substitute;
use crate::gpu::error::GpuError;
use crate::gpu::plan::Plan;
use crate::gpu::register::Register;
use crate::host::Host;

/// What gpurun does instead of this hook.
#[must_use]
pub fn substitute(hook: &Hook) -> Option<Box<dyn Substitute>> {
    let args = hook.args().as_deref().unwrap_or_default();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let is_it = hook.path().file_name().is_some_and(|name| name == "amd-ctk")
        && matches!(words[..], ["gpu-tracker", "release", _]);
    is_it.then(|| Box::new(Release) as Box<dyn Substitute>)
}

/// Striking the container off.
#[derive(Debug)]
struct Release;

impl Substitute for Release {
    fn instead(&self) -> String {
        "gpurun strikes the container off the GPU tracker's list when it is deleted".to_owned()
    }

    fn is_nothing(&self) -> bool {
        false
    }

    fn plan(&self, _spec: &Spec, _host: &Host, plan: &mut Plan) -> Result<(), GpuError> {
        if plan.registers.iter().all(|known| known.vendor != config::SECTION) {
            plan.registers.push(Register {
                vendor: config::SECTION.to_owned(),
                file: tracker::FILE.into(),
                gpus: Vec::new(),
            });
        }
        Ok(())
    }
}
