//! Hooks that an engine put into the spec to have a vendor's program give the GPUs.
//!
//! gpurun does their work itself, so they are taken out of the in-memory spec and noted. Which
//! hooks these are is each vendor's knowledge; hooks that no vendor recognises stay and are run.

use oci_spec::runtime::{Hook, Hooks, Spec};

use super::plan::AbsorbedHook;
use super::vendor::VENDORS;

/// Removes the vendors' hooks from the phases in which engines put them.
pub fn absorb(spec: &mut Spec) -> Vec<AbsorbedHook> {
    let mut absorbed = Vec::new();
    if let Some(hooks) = spec.hooks_mut() {
        take(prestart(hooks), "prestart", &mut absorbed);
        take(hooks.create_runtime_mut(), "createRuntime", &mut absorbed);
        take(hooks.create_container_mut(), "createContainer", &mut absorbed);
    }
    absorbed
}

/// What to say when this program is started as a vendor's hook under another runtime: the package
/// provides the hook's name so that engines offer their GPU options.
#[must_use]
pub fn impersonated(name: &str) -> Option<&'static str> {
    VENDORS.iter().find_map(|vendor| vendor.impersonated(name))
}

// Deprecated in the OCI specification, yet where dockerd puts the NVIDIA hook.
#[allow(deprecated)]
fn prestart(hooks: &mut Hooks) -> &mut Option<Vec<Hook>> {
    hooks.prestart_mut()
}

fn take(hooks: &mut Option<Vec<Hook>>, phase: &str, absorbed: &mut Vec<AbsorbedHook>) {
    let Some(list) = hooks else { return };
    list.retain(|hook| {
        let Some(instead) = VENDORS.iter().find_map(|vendor| vendor.absorbs(hook.path())) else {
            return true;
        };
        absorbed.push(AbsorbedHook {
            phase: phase.to_owned(),
            path: hook.path().clone(),
            instead: instead.to_owned(),
        });
        false
    });
    if list.is_empty() {
        *hooks = None;
    }
}
