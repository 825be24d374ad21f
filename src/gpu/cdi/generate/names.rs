//! What devices are called in a CDI file.

use super::choose::Chosen;
use crate::gpu::cdi::name;

/// A way to name devices; NVIDIA's words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// `0`, `0:1`.
    Index,
    /// `GPU-…`, `MIG-…`, for devices that have one.
    Uuid,
    /// `gpu0`, `mig0:1`.
    TypeIndex,
}

/// What is used where nothing is chosen.
const DEFAULT: [Strategy; 2] = [Strategy::Index, Strategy::Uuid];

/// The names of one device.
pub(super) fn of(chosen: &Chosen<'_>, strategies: &[Strategy], part_word: &str) -> Vec<String> {
    let id = chosen.id();
    // A machine whose driver offers everything or nothing.
    if id == super::ALL {
        return vec![id.to_owned()];
    }
    let strategies = if strategies.is_empty() { &DEFAULT } else { strategies };
    let names = strategies.iter().filter_map(|strategy| match (strategy, chosen.part) {
        (Strategy::Index, _) => Some(id.to_owned()),
        (Strategy::Uuid, None) => chosen.device.uuid.clone(),
        (Strategy::Uuid, Some(part)) => part.uuid.clone(),
        (Strategy::TypeIndex, None) => Some(format!("gpu{id}")),
        (Strategy::TypeIndex, Some(_)) => Some(format!("{part_word}{id}")),
    });
    names.filter(|name| name::check_device(name).is_ok()).collect()
}
