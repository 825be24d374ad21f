//! From the ids that a container asks for to the machine's GPUs.

use super::error::Error;
use super::gpus::Gpu;
use super::wish::{AmdWish, Item};
use crate::gpu::request;

/// Finds the GPUs, each once, in the order of their indexes, each with the item that asked for
/// it. An item of a variable that means nothing is noted and left out, as by AMD's runtime.
///
/// # Errors
/// A CDI name that no GPU has.
pub fn select<'a>(
    wish: &AmdWish,
    gpus: &'a [Gpu],
    notes: &mut Vec<String>,
) -> Result<Vec<(&'a Gpu, String)>, Error> {
    if !wish.strict && Item::is_all(&wish.devices) {
        if gpus.is_empty() {
            notes.push(format!("{}: the amdgpu driver serves no GPU", wish.source));
        }
        return Ok(every(gpus));
    }
    let mut selected: Vec<(&Gpu, String)> = Vec::new();
    let (mut unknown, mut too_far): (Vec<&str>, Vec<&str>) = Default::default();
    for item in &wish.devices {
        let found = match Item::parse(item) {
            None if wish.strict && item == "all" => every(gpus),
            Some(Item::Range(..)) if wish.strict => Vec::new(),
            parsed => matching(parsed, item, gpus),
        };
        if found.is_empty() {
            if wish.strict {
                return Err(Error::UnknownGpu { id: item.clone(), present: present(gpus) });
            }
            unknown.push(item);
        } else if let Some(Item::Range(_, last)) = Item::parse(item)
            && usize::try_from(last).is_ok_and(|last| last >= gpus.len())
        {
            too_far.push(item);
        }
        for (gpu, asked_as) in found {
            if selected.iter().all(|(known, _)| known.index != gpu.index) {
                selected.push((gpu, asked_as));
            }
        }
    }
    let reasons = [
        (unknown, "ignored, because there is no such GPU on this machine"),
        (too_far, "goes beyond the last GPU of this machine"),
    ];
    for (items, reason) in reasons.into_iter().filter(|(items, _)| !items.is_empty()) {
        let (source, items, present) = (&wish.source, request::quoted(&items), present(gpus));
        notes.push(format!("{source}: {reason}: {items}; there is {present}"));
    }
    selected.sort_by_key(|(gpu, _)| gpu.index);
    Ok(selected)
}

fn every(gpus: &[Gpu]) -> Vec<(&Gpu, String)> {
    gpus.iter().map(|gpu| (gpu, "all".to_owned())).collect()
}

fn matching<'a>(item: Option<Item>, text: &str, gpus: &'a [Gpu]) -> Vec<(&'a Gpu, String)> {
    let is_meant = |gpu: &&Gpu| match item {
        None => false,
        Some(Item::UniqueId(id)) => gpu.unique_id.as_deref() == Some(format!("{id:#x}").as_str()),
        Some(Item::Range(first, last)) => (first..=last).contains(&gpu.index),
        Some(Item::Index(index)) => gpu.index == index,
    };
    gpus.iter().filter(is_meant).map(|gpu| (gpu, text.to_owned())).collect()
}

/// The most GPUs that an error lists one by one.
const LONGEST_LIST: usize = 8;

fn present(gpus: &[Gpu]) -> String {
    match gpus {
        [] => "none".to_owned(),
        _ if gpus.len() > LONGEST_LIST => format!("0 to {}", gpus.len() - 1),
        _ => gpus.iter().map(|gpu| format!("[{gpu}]")).collect::<Vec<_>>().join(" "),
    }
}
