//! Hooks that an engine or a CDI file put there to have a vendor's program do a part of the work.
//!
//! gpurun does that work itself, so they are taken out of the in-memory spec and noted. Which
//! hooks these are and what they do is each vendor's knowledge; hooks that no vendor recognises
//! stay and are run.

use std::fmt;

use oci_spec::runtime::{Hook, Hooks, Spec};

use super::error::GpuError;
use super::plan::{AbsorbedHook, Plan};
use super::vendor::VENDORS;
use crate::host::Host;

/// The phase after the container's end.
const AT_END: &str = "poststop";

/// A vendor's programs for hooks.
pub trait HookPrograms {
    /// What gpurun does instead of running this hook, if it is one whose work gpurun does itself.
    fn absorbs(&self, _hook: &Hook) -> Option<Box<dyn Substitute>> {
        None
    }

    /// The same for a hook that is run after the container's end.
    fn absorbs_at_end(&self, _hook: &Hook) -> Option<Box<dyn Substitute>> {
        None
    }

    /// The programs' names under which gpurun may be started as well.
    fn names(&self) -> &'static [&'static str] {
        &[]
    }

    /// The commands that gpurun carries out when another runtime calls it.
    fn commands(&self) -> &'static [&'static str] {
        &[]
    }

    /// The hooks that do at a container's start what of the plan depends on the container or on
    /// the moment (`masks`, `filters`, `generated`, `compatibility`), each one of
    /// [`HookPrograms::commands`] with its options. They come before the entry in the loader's
    /// cache.
    fn of_plan(&self, _plan: &Plan) -> Vec<Vec<String>> {
        Vec::new()
    }
}

fn programs() -> impl Iterator<Item = &'static dyn HookPrograms> {
    VENDORS.iter().filter_map(|vendor| vendor.hook_programs())
}

/// What gpurun does instead of running a hook.
pub trait Substitute: fmt::Debug {
    /// In a few words.
    fn instead(&self) -> String;

    /// Whether nothing is left to do, because the hook's work is a part of every start.
    fn is_nothing(&self) -> bool;

    /// Adds what the hook would have done to the plan, which has everything else by now.
    ///
    /// # Errors
    /// What of the machine cannot be read.
    fn plan(&self, spec: &Spec, host: &Host, plan: &mut Plan) -> Result<(), GpuError>;
}

/// A hook that was taken out.
#[derive(Debug)]
pub struct Absorbed {
    /// The note of it.
    pub hook: AbsorbedHook,
    /// What is done instead.
    pub substitute: Box<dyn Substitute>,
}

/// Removes the vendors' hooks from the phases in which engines put them.
pub fn from_spec(spec: &mut Spec) -> Vec<Absorbed> {
    let mut absorbed = Vec::new();
    if let Some(hooks) = spec.hooks_mut() {
        take(prestart(hooks), "prestart", &mut absorbed);
        take(hooks.create_runtime_mut(), "createRuntime", &mut absorbed);
        take(hooks.create_container_mut(), "createContainer", &mut absorbed);
        take(hooks.poststop_mut(), AT_END, &mut absorbed);
    }
    absorbed
}

/// Removes the vendors' hooks that came with CDI files.
pub fn from_plan(plan: &mut Plan) -> Vec<Absorbed> {
    let mut absorbed = Vec::new();
    plan.hooks.retain(|(phase, hook)| {
        let found = one(phase, hook);
        let stays = found.is_none();
        absorbed.extend(found);
        stays
    });
    absorbed
}

/// Whether a vendor's program for hooks is called so.
#[must_use]
pub fn is_hook_program(name: &str) -> bool {
    programs().any(|programs| programs.names().contains(&name))
}

/// Whether some vendor has a hook with this command.
#[must_use]
pub fn is_hook_command(command: &str) -> bool {
    programs().any(|programs| programs.commands().contains(&command))
}

/// What gpurun does for this hook of a container's start, if a vendor knows it.
#[must_use]
pub fn substitute(hook: &Hook) -> Option<Box<dyn Substitute>> {
    programs().find_map(|programs| programs.absorbs(hook))
}

// Deprecated in the OCI specification, yet where dockerd puts the NVIDIA hook.
#[allow(deprecated)]
fn prestart(hooks: &mut Hooks) -> &mut Option<Vec<Hook>> {
    hooks.prestart_mut()
}

fn take(hooks: &mut Option<Vec<Hook>>, phase: &str, absorbed: &mut Vec<Absorbed>) {
    let Some(list) = hooks else { return };
    list.retain(|hook| {
        let found = one(phase, hook);
        let stays = found.is_none();
        absorbed.extend(found);
        stays
    });
    if list.is_empty() {
        *hooks = None;
    }
}

/// `None`: no vendor knows the hook.
fn one(phase: &str, hook: &Hook) -> Option<Absorbed> {
    let substitute = match phase {
        AT_END => programs().find_map(|programs| programs.absorbs_at_end(hook))?,
        _ => substitute(hook)?,
    };
    let args = hook.args().as_deref().unwrap_or_default();
    let hook = AbsorbedHook {
        phase: phase.to_owned(),
        path: hook.path().clone(),
        args: args.iter().skip(1).cloned().collect(),
        instead: substitute.instead(),
    };
    Some(Absorbed { hook, substitute })
}
