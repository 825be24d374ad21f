//! AMD's hook: `amd-ctk gpu-tracker release ID`, which AMD's runtime adds to strike a container
//! off its list.

use oci_spec::runtime::{Hook, Spec};

use super::{Amd, config, tracker};
use crate::gpu::absorb::{HookPrograms, Substitute};
use crate::gpu::error::GpuError;
use crate::gpu::plan::Plan;
use crate::gpu::register::Register;
use crate::host::Host;

impl HookPrograms for Amd {
    fn absorbs_at_end(&self, hook: &Hook) -> Option<Box<dyn Substitute>> {
        is_release(hook).then(|| Box::new(Release) as Box<dyn Substitute>)
    }
}

fn is_release(hook: &Hook) -> bool {
    let args = hook.args().as_deref().unwrap_or_default();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    hook.path().file_name().is_some_and(|name| name == "amd-ctk")
        && matches!(words[..], ["gpu-tracker", "release", _])
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
