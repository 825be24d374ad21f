//! GPUs that a container gets after it was made, by device rules of an `update`.

use anyhow::Result;
use oci_spec::runtime::Spec;

use super::gpus::{self, Gpus};
use super::holders;
use super::state::Container;
use crate::cgroup::devices::DeviceRules;
use crate::gpu::exclusive::Exclusive;

/// Remembers the rules and enters the container among the holders of GPUs as one that has what they
/// cover, before they are in force: whoever comes at the same time sees it. On a failure it is as it
/// was, but for the rules, which are the caller's to put back.
///
/// # Errors
/// Who stands in the way and what to do.
pub fn take(container: &mut Container, spec: &Spec, rules: &DeviceRules) -> Result<()> {
    let before = container.state.gpus.clone();
    container.state.devices = rules.clone();
    enter(container, spec, rules).inspect_err(|_| give_back(container, before))
}

fn enter(container: &mut Container, spec: &Spec, rules: &DeviceRules) -> Result<()> {
    let had = container.state.gpus.clone().unwrap_or_default();
    let now = Gpus { exclusive: Exclusive::None, entry: None, ..had.clone() };
    let Some(wanted) = gpus::settle(spec, now, None, rules)? else {
        return Ok(());
    };
    let entry = holders::place(&wanted.holders, &wanted, container.dir.path());
    container.state.gpus = Some(Gpus { entry: Some(entry), ..wanted.gpus.clone() });
    container.save()?;
    holders::enter(container, &wanted)?;
    // On other terms it has another place.
    if had.entry.as_deref() != container.state.holder_entry() {
        holders::leave(had.entry.as_deref());
    }
    Ok(())
}

fn give_back(container: &mut Container, before: Option<Gpus>) {
    let entry = before.as_ref().and_then(|gpus| gpus.entry.as_deref());
    if entry != container.state.holder_entry() {
        holders::leave(container.state.holder_entry());
    }
    container.state.gpus = before;
    // What failed first is what the caller needs to hear.
    let _ = container.save();
}
