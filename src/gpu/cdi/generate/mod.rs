//! A CDI file that gives what gpurun gives itself, for engines with any runtime.
//!
//! Each device of the vendor's inventory is resolved as a container's request for it would be; the
//! plans become edits. What all devices bring (control nodes, the driver's files) goes to the
//! file's own edits, the rest to the device's. What a plan does in the container's filesystem is
//! left to hooks, which gpurun carries out when another runtime calls it
//! (`crate::container::as_hook`), and does by itself when it is the runtime (`crate::gpu::absorb`).
//!
//! | file | holds |
//! |---|---|
//! | this one | what devices have in common |
//! | `choose` | which devices |
//! | `names` | what they are called |
//! | `edits` | from a plan's nodes and files to edits |
//! | `places` | where the driver's files go |
//! | `hooks` | links, the loader's cache and the vendor's own hooks |

mod choose;
mod edits;
mod hooks;
mod names;
mod places;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use hooks::HookProgram;
pub use names::Strategy;

use self::choose::{Chosen, Family, choose, usable};
use super::name;
use super::spec::{CdiDevice, CdiSpec, ContainerEdits};
use super::version::Version;
use crate::gpu::error::GpuError;
use crate::gpu::inventory::Device;
use crate::gpu::plan::{Link, Plan};
use crate::gpu::vendor::Wish;
use crate::host::{Host, Settings};

/// The name of the device that has all others.
const ALL: &str = "all";

/// What a vendor says for a CDI file beyond a request for each device.
pub trait Describe {
    /// The wish for one device of this kind and for all that the vendor's driver has to offer with
    /// it: nobody knows what the containers that will use the file are for.
    fn everything(&self, kind: &'static str, device: String) -> Result<Box<dyn Wish>, GpuError>;

    /// Directories of the machine, the innermost first, whose files have the same paths without
    /// them in a container: the driver's roots.
    fn roots(&self, settings: &Settings) -> Result<Vec<PathBuf>, GpuError>;

    /// What a part of a GPU is called in front of its name, as `mig` in `mig0:1`.
    fn part_word(&self) -> &'static str;
}

/// What a part is called where the vendor has no word for it.
const PART: &str = "part";

/// What the file is to hold.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The kind whose devices are described; `None`: the only one that this machine has.
    pub of: Option<String>,
    /// The vendor in the file, where it is not the kind's.
    pub vendor: Option<String>,
    /// The class in the file, where it is not the kind's.
    pub class: Option<String>,
    /// How devices are called; each of several gives every device a name.
    pub strategies: Vec<Strategy>,
    /// Names, UUIDs or PCI bus ids of the devices to describe; none: every one.
    pub ids: Vec<String>,
    /// Whether the device `all` is left out.
    pub no_all: bool,
    /// Hooks that are left out, by their commands; `all`: every one.
    pub disabled_hooks: Vec<String>,
    /// The program of the hooks.
    pub program: HookProgram,
}

/// The file, and what to tell whoever asked for it.
#[derive(Debug)]
pub struct Generated {
    /// The file's content; valid.
    pub spec: CdiSpec,
    /// What was left out, and notes of the plans.
    pub notes: Vec<String>,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A device cannot be resolved.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A kind that no vendor has.
    #[error("--kind {kind:?} is none of {known}")]
    UnknownKind {
        /// As given.
        kind: String,
        /// Those that gpurun knows.
        known: String,
    },
    /// Nothing to describe.
    #[error("no GPU that a CDI file could describe: {reasons}")]
    NoDevices {
        /// What each vendor says of a request for all of its GPUs.
        reasons: String,
    },
    /// Every GPU is in a state in which no container can have it.
    #[error("no GPU can be given to a container: {reasons}")]
    NoneUsable {
        /// Each with its trouble.
        reasons: String,
    },
    /// A file has one kind.
    #[error("this machine has {kinds}: name one of them with --kind")]
    SeveralKinds {
        /// Those with devices.
        kinds: String,
    },
    /// An id that means no device.
    #[error("--device-id {id:?}: no such device; present: {present}")]
    UnknownDevice {
        /// As given.
        id: String,
        /// What there is.
        present: String,
    },
    /// The chosen names give a device none.
    #[error("no device has a name by the chosen --device-name-strategy: choose index")]
    NoNames,
    /// A vendor or class that CDI does not allow, or a device's name.
    #[error("the CDI file would not be valid: {0}")]
    Invalid(String),
}

/// Describes this machine's devices.
///
/// # Errors
/// There are none, or they cannot be given.
pub fn generate(
    options: &Options,
    settings: &Settings,
    host: &Host,
) -> Result<Generated, GenerateError> {
    let Family { vendor, kind: own_kind, devices, mut notes } = choose(options, settings, host)?;
    let kind = renamed(own_kind, options)?;
    let chosen = usable(&devices, options, &mut notes)?;
    let describe = vendor.describe();
    let roots = describe.map_or_else(|| Ok(Vec::new()), |describe| describe.roots(settings))?;
    let roots = places::resolved(roots);

    let mut described = Vec::with_capacity(chosen.len());
    let mut failure = None;
    for one in &chosen {
        let mut plan = Plan::default();
        let wish = choose::everything(vendor, own_kind, one.id().to_owned())?;
        match wish.resolve(settings, host, &mut plan) {
            Ok(()) => described.push(Described::of(one, plan, &roots)),
            Err(error) if !options.ids.is_empty() => return Err(error.into()),
            // It may be this device's trouble alone.
            Err(error) => {
                notes.push(format!("{} left out: {error}", one.id()));
                failure = failure.or(Some(error));
            }
        }
    }
    if let (true, Some(error)) = (described.is_empty(), failure) {
        return Err(error.into());
    }
    for note in described.iter().flat_map(|one| &one.plan.notes) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    let own: BTreeSet<String> = devices.iter().flat_map(own_nodes).collect();
    let shared = Shared::of(&described, &own);

    let program = &options.program;
    let is_wanted =
        |command: &str| options.disabled_hooks.iter().all(|hook| hook != command && hook != ALL);
    let part_word = describe.map_or(PART, |describe| describe.part_word());
    let mut all = ContainerEdits::default();
    let mut spec = CdiSpec { kind, ..CdiSpec::default() };
    for one in &described {
        let mut edits = shared.without(&one.edits);
        let links: Vec<_> = one.links.iter().filter(|link| !shared.has_link(link)).collect();
        if is_wanted(hooks::LINKS) {
            edits.hooks.extend(program.links(&links));
        }
        edits::unite(&mut all, &edits);
        for name in names::of(one.chosen, &options.strategies, part_word) {
            if spec.device(&name).is_none() {
                let container_edits = edits.clone();
                spec.devices.push(CdiDevice { name, container_edits, ..CdiDevice::default() });
            }
        }
    }
    if spec.devices.is_empty() {
        return Err(GenerateError::NoNames);
    }
    if !options.no_all && spec.device(ALL).is_none() {
        spec.devices.push(CdiDevice {
            name: ALL.to_owned(),
            container_edits: all,
            ..CdiDevice::default()
        });
    }
    spec.container_edits = shared.edits.clone();
    let mut commands: Vec<Vec<String>> = Vec::new();
    let programs = vendor.hook_programs();
    let of_plan = |plan| programs.map(|programs| programs.of_plan(plan)).unwrap_or_default();
    for command in described.iter().flat_map(|one| of_plan(&one.plan)) {
        if command.first().is_some_and(|name| is_wanted(name)) && !commands.contains(&command) {
            commands.push(command);
        }
    }
    let hooks = &mut spec.container_edits.hooks;
    if is_wanted(hooks::LINKS) {
        hooks.extend(program.links(&shared.links.iter().collect::<Vec<_>>()));
    }
    hooks.extend(commands.iter().map(|command| program.hook(command)));
    if is_wanted(hooks::LOADER) {
        let mut dirs: Vec<PathBuf> = Vec::new();
        for dir in described.iter().flat_map(|one| &one.library_dirs) {
            if !dirs.contains(dir) {
                dirs.push(dir.clone());
            }
        }
        hooks.extend(program.loader(&dirs));
    }
    spec.cdi_version = Version::required(&spec).to_string();
    spec.validate().map_err(GenerateError::Invalid)?;
    Ok(Generated { spec, notes })
}

/// The kind in the file.
fn renamed(kind: &str, options: &Options) -> Result<String, GenerateError> {
    let (vendor, class) = kind.split_once('/').unwrap_or((kind, "gpu"));
    let kind = format!(
        "{}/{}",
        options.vendor.as_deref().unwrap_or(vendor),
        options.class.as_deref().unwrap_or(class)
    );
    name::check_kind(&kind).map_err(GenerateError::Invalid)?;
    Ok(kind)
}

fn own_nodes(device: &Device) -> Vec<String> {
    let nodes = device.nodes.iter().chain(device.parts.iter().flat_map(|part| &part.nodes));
    nodes.map(|node| node.to_string_lossy().into_owned()).collect()
}

/// A device with everything that a container gets with it.
#[derive(Debug)]
struct Described<'a> {
    chosen: &'a Chosen<'a>,
    plan: Plan,
    /// Without those that make links or fill the loader's cache.
    edits: ContainerEdits,
    /// As paths of the container.
    links: Vec<Link>,
    library_dirs: Vec<PathBuf>,
}

impl<'a> Described<'a> {
    fn of(chosen: &'a Chosen<'a>, plan: Plan, roots: &[PathBuf]) -> Self {
        let places = places::Places::of(&plan, roots);
        let edits = edits::of(&plan, &places);
        let links = places.links(&plan);
        let library_dirs = places.library_dirs(&plan);
        Self { chosen, plan, edits, links, library_dirs }
    }
}

/// What every device brings.
#[derive(Debug, Default)]
struct Shared {
    edits: ContainerEdits,
    links: Vec<Link>,
}

impl Shared {
    /// `own`: nodes that belong to one device, though it may be the only one.
    fn of(described: &[Described<'_>], own: &BTreeSet<String>) -> Self {
        let Some((first, others)) = described.split_first() else {
            return Self::default();
        };
        let mut shared = Self { edits: first.edits.clone(), links: first.links.clone() };
        let edits = &mut shared.edits;
        for other in others.iter().map(|other| &other.edits) {
            edits.env.retain(|one| other.env.contains(one));
            edits.device_nodes.retain(|one| other.device_nodes.contains(one));
            edits.mounts.retain(|one| other.mounts.contains(one));
            edits.additional_gids.retain(|one| other.additional_gids.contains(one));
            edits.hooks.retain(|one| other.hooks.contains(one));
        }
        edits.device_nodes.retain(|node| !own.contains(&node.path));
        // CDI allows no device without edits: a machine's only one may have no node that is said to
        // be its own.
        if described.iter().any(|one| shared.without(&one.edits).is_empty()) {
            shared.edits.device_nodes.clear();
        }
        shared.links.retain(|link| others.iter().all(|other| other.links.contains(link)));
        // Where these lead is one device's node.
        shared.links.retain(|link| !places::path_of(link).starts_with("/dev"));
        shared
    }

    /// What of a device's edits is its own.
    fn without(&self, edits: &ContainerEdits) -> ContainerEdits {
        let mut own = edits.clone();
        own.env.retain(|one| !self.edits.env.contains(one));
        own.device_nodes.retain(|one| !self.edits.device_nodes.contains(one));
        own.mounts.retain(|one| !self.edits.mounts.contains(one));
        own.additional_gids.retain(|one| !self.edits.additional_gids.contains(one));
        own.hooks.retain(|one| !self.edits.hooks.contains(one));
        own
    }

    fn has_link(&self, link: &Link) -> bool {
        self.links.contains(link)
    }
}
