//! What a container asks for, and the plan that gives it.
//!
//! [`request`] reads the wishes out of the spec (pure, no host access). A [`vendor`] resolves them
//! against the [`crate::host::Host`] into a [`plan::Plan`] (pure data). The plan's devices, rules,
//! environment and groups join the in-memory spec ([`merge`]); what needs the container's
//! filesystem is carried out by `crate::init::gpu`. Nothing outside this folder names a vendor;
//! each vendor is one folder, listed once, in [`vendor`].

pub mod absorb;
pub mod accel;
pub mod amd;
pub mod authors;
pub mod cdi;
pub mod checkpoint;
pub mod checkup;
pub mod claim;
pub mod compatibility;
pub mod drm;
pub mod error;
pub mod exclusive;
pub mod explain;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod habana;
pub mod intel;
pub mod inventory;
pub mod lexical;
pub mod listing;
pub mod loader;
pub mod merge;
pub mod nodes;
pub mod nvidia;
pub mod pci;
pub mod plan;
pub mod pod;
pub mod presence;
pub mod register;
pub mod request;
pub mod table;
pub mod toolkit;
pub mod variables;
pub mod vendor;

#[cfg(test)]
mod tests;

use std::path::Path;

use oci_spec::runtime::Spec;

pub use error::GpuError;

use crate::host::{self, Host, Modules, Settings};
use absorb::Absorbed;
use claim::Machine;
use exclusive::{Exclusive, Policy};
use plan::Plan;
use request::Request;
use vendor::VENDORS;

/// What was asked for and what will be done.
#[derive(Debug)]
pub struct Decision {
    /// The wishes found in the spec; none when the spec only carried a vendor's hook.
    pub request: Request,
    /// What will be done.
    pub plan: Plan,
    /// What the configuration says of who has which GPU; `None`: it was not opened.
    pub policy: Option<Policy>,
}

/// Decides everything about one container's GPUs. `None`: the spec mentions none, and nothing but
/// the spec was looked at.
///
/// The vendors' hooks are taken out of the in-memory spec; nothing else of it changes until
/// [`Plan::merge_into`]. The configuration and the machine are opened only for a request.
pub fn plan_for(spec: &mut Spec) -> Result<Option<Decision>, GpuError> {
    decide(spec, |host| host)
}

/// As [`plan_for`], for someone who only wants to know: the machine is not changed.
pub fn explain_for(spec: &mut Spec) -> Result<Option<Decision>, GpuError> {
    let modules = |modules| match modules {
        Modules::By(_) => Modules::Named,
        other => other,
    };
    decide(spec, |host| Host { modules: modules(host.modules), ..host })
}

fn decide(spec: &mut Spec, limit: impl FnOnce(Host) -> Host) -> Result<Option<Decision>, GpuError> {
    let absorbed = absorb::from_spec(spec);
    let early = Request::needs_settings(spec).then(load_settings).transpose()?;
    let request = Request::read(spec, early.as_ref())?;
    if request.is_empty() && absorbed.iter().all(|one| one.substitute.is_nothing()) {
        let hooks = absorbed.into_iter().map(|one| one.hook).collect::<Vec<_>>();
        let plan = Plan { absorbed_hooks: hooks, ..Plan::default() };
        let decision = Decision { request, plan, policy: None };
        return Ok((!decision.plan.absorbed_hooks.is_empty()).then_some(decision));
    }
    let settings = match early {
        Some(settings) => settings,
        None => load_settings()?,
    };
    let host = open_host(&settings)?;
    let plan = resolve(&request, absorbed, spec, &settings, &limit(host))?;
    let policy = Some(Policy::read(&settings)?);
    Ok(Some(Decision { request, plan, policy }))
}

/// Reads the configuration file, refusing tables that nobody reads.
pub fn load_settings() -> Result<Settings, GpuError> {
    with_predecessors(Settings::load(&tables())?)
}

/// Whether each table but `[host]` can be used, also those that no container needs today.
///
/// # Errors
/// The first key that is wrong, with its line.
pub fn check_settings(settings: &Settings) -> Result<(), GpuError> {
    Policy::read(settings)?;
    cdi::Config::read(settings)?;
    VENDORS.iter().try_for_each(|vendor| vendor.check(settings))
}

/// As [`load_settings`], from this file or the usual one: the environment does not count.
pub fn settings_of(file: Option<&Path>) -> Result<Settings, GpuError> {
    with_predecessors(Settings::of(file, &tables())?)
}

fn with_predecessors(mut settings: Settings) -> Result<Settings, GpuError> {
    for toolkit in toolkit::all() {
        settings = settings.with_predecessor(toolkit.configuration)?;
    }
    Ok(settings)
}

/// Reads what the configuration says of who has which GPU.
pub fn load_policy() -> Result<Policy, GpuError> {
    Ok(Policy::read(&Settings::load(&tables())?)?)
}

/// The machine's GPUs, by the configuration.
pub fn read_machine() -> Result<Machine, GpuError> {
    let settings = load_settings()?;
    Machine::read(&settings, &open_host(&settings)?)
}

/// As [`read_machine`], so that GPUs and parts can be told by these names. A vendor's program is
/// run only for a name of which nothing else knows what it is.
pub fn read_machine_for(names: &Exclusive) -> Result<Machine, GpuError> {
    let settings = load_settings()?;
    let host = open_host(&settings)?;
    let mut machine = Machine::read(&settings, &host)?;
    if names.names_part_ids() {
        inventory::identify(&settings, &host, &mut machine.devices)?;
    }
    Ok(machine)
}

/// What can be seen of the machine's GPUs, for a list: every id that vendors' programs know too,
/// or why they do not answer.
pub fn see_machine() -> Result<(Machine, Result<(), GpuError>), GpuError> {
    let settings = load_settings()?;
    let host = open_host(&settings)?;
    let mut machine = Machine::seen(&settings, &host)?;
    let identified = inventory::identify(&settings, &host, &mut machine.devices);
    Ok((machine, identified))
}

/// Opens the machine that the configuration names.
pub fn open_host(settings: &Settings) -> Result<Host, GpuError> {
    Host::from_settings(settings).map_err(|error| match error {
        host::MachineError::Config(error) => GpuError::Config(error),
        host::MachineError::Host(error) => GpuError::Host(error),
    })
}

/// How the annotations begin that can give a container devices: CDI's own, and what the
/// configuration adds. A configuration that cannot be read adds nothing; a request will say why.
#[must_use]
pub fn annotation_prefixes() -> Vec<String> {
    let mut prefixes = vec![cdi::annotations::PREFIX.to_owned()];
    let configured = load_settings().ok().and_then(|settings| cdi::Config::read(&settings).ok());
    for prefix in configured.into_iter().flat_map(|config| config.prefixes) {
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// The tables of the configuration file: the host's, that of who has which GPU, CDI's and one per
/// vendor.
pub fn tables() -> Vec<&'static str> {
    let own = [host::SECTION, exclusive::SECTION, cdi::SECTION];
    own.into_iter().chain(VENDORS.iter().map(|vendor| vendor.name())).collect()
}

/// Resolves each wish against the machine, then does the work of the hooks that are not run.
pub fn resolve(
    request: &Request,
    mut absorbed: Vec<Absorbed>,
    spec: &Spec,
    settings: &Settings,
    host: &Host,
) -> Result<Plan, GpuError> {
    let mut plan = Plan::default();
    for wish in request.wishes() {
        wish.resolve(settings, host, &mut plan)?;
    }
    absorbed.extend(absorb::from_plan(&mut plan));
    for Absorbed { hook, substitute } in absorbed {
        substitute.plan(spec, host, &mut plan)?;
        plan.absorbed_hooks.push(hook);
    }
    loader::mounted::add(spec, &mut plan)?;
    Ok(plan)
}
