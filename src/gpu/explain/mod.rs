//! A decision in words (tables for a person) and as JSON (for a program).
//!
//! | file | holds |
//! |---|---|
//! | `alone` | which GPUs the container would have for itself alone |
//! | `page` | a title, and rows with aligned columns |
//! | `files` | files by the directories they come from and go to, each with the links to it |

mod alone;
mod files;
mod page;

use std::path::Path;

pub use alone::Alone;
use serde::Serialize;

use self::page::Page;
use super::Decision;
use super::plan::{FileKind, Plan};
use super::vendor::Summary;
use crate::paint::Paint;

#[derive(Serialize)]
struct Document<'a> {
    request: Vec<Summary>,
    #[serde(skip_serializing_if = "<[Alone]>::is_empty")]
    exclusive: &'a [Alone],
    plan: &'a Plan,
}

/// The request and the plan as one JSON document. The names of its fields are those of [`Plan`].
pub fn json(decision: &Decision, alone: &[Alone]) -> Result<String, serde_json::Error> {
    let request = decision.request.wishes().map(|wish| wish.summary()).collect();
    serde_json::to_string_pretty(&Document { request, exclusive: alone, plan: &decision.plan })
}

/// What is said of a container that asks for no GPU.
pub const NOTHING: &str = "This container asks for no GPU; it is left as it is.\n";

/// The decision as tables, one per kind of change: what, from where, and last in each row why.
pub fn table(decision: &Decision, alone: &[Alone], paint: Paint) -> String {
    let plan = &decision.plan;
    let mut page = Page::new(paint);
    page.section("Request", "", requests(decision));
    page.counted("GPUs", "", grants(plan));
    let rows = alone.iter().map(|one| vec![one.gpu.clone(), format!("by {}", one.by)]);
    page.section("Exclusive", "no other container may have them meanwhile", rows.collect());
    page.counted(
        "Device nodes",
        "the device rules allow these and what the spec allows",
        devices(plan),
    );
    let mut links: Vec<_> = plan.links.iter().collect();
    for (title, what, is_it) in KINDS {
        files::section(&mut page, title, what, plan, is_it, &mut links);
    }
    let rows = links
        .iter()
        .map(|link| vec![files::place(&link.destination), arrow(&link.target), link.why.clone()]);
    page.counted("Links", "", rows.collect());
    page.counted("Mounts", "of CDI files", mounts(plan));
    let generated = plan.generated.iter();
    let generated = generated.map(|file| vec![text(&file.destination), file.why.clone()]);
    page.section("Generated files", "", generated.collect());
    let dirs = plan.library_dirs.iter().map(|dir| vec![text(dir)]);
    page.section("Directories for the loader", "their libraries join its cache", dirs.collect());
    let compatibility = plan.compatibility.iter().map(|asked| {
        let host = asked.host_driver.as_deref().or(asked.host_cuda.as_deref());
        let host = host.unwrap_or("nothing");
        vec![text(&asked.directory), format!("used where newer than the host's {host}")]
    });
    page.section("Newer libraries of the image", "", compatibility.collect());
    let interfaces = plan.net_devices.iter();
    let interfaces = interfaces.map(|(host, name)| vec![name.clone(), format!("<- {host}")]);
    page.section("Network interfaces", "", interfaces.collect());
    let masks = plan.masks.iter().map(|mask| vec![text(&mask.destination), mask.why.clone()]);
    page.section("Masked files", "", masks.collect());
    let filters = plan.filters.iter().map(|filter| {
        let keep = if filter.keep.is_empty() { "nothing".into() } else { filter.keep.join(" ") };
        vec![text(&filter.destination), format!("shows {keep}"), filter.why.clone()]
    });
    page.section("Filtered directories", "", filters.collect());
    let env = plan.env.iter().map(|(name, value)| vec![format!("{name}={value}")]);
    page.section("Environment", "set, whatever the spec says", env.collect());
    let gids = plan.gids.iter().map(|gid| vec![gid.to_string()]);
    page.section("Supplementary groups", "of nodes that are not open to everyone", gids.collect());
    let registers = plan.registers.iter().map(|register| {
        vec![text(&register.file), format!("lists who has {} GPUs", register.vendor)]
    });
    page.section("Entered in", "", registers.collect());
    let run = plan.hooks.iter().map(|(phase, hook)| vec![phase.clone(), text(hook.path())]);
    page.section("Hooks", "of CDI files, run as they are", run.collect());
    let absorbed = plan.absorbed_hooks.iter().map(|hook| {
        // The command, of `nvidia-ctk hook COMMAND` both words.
        let words = hook.args.iter().take_while(|word| !word.starts_with('-')).take(2);
        let command = [text(&hook.path)].into_iter().chain(words.cloned());
        let command = command.collect::<Vec<_>>().join(" ");
        vec![hook.phase.clone(), command, hook.instead.clone()]
    });
    page.section("Hooks not run", "", absorbed.collect());
    let remarks = plan.remarks.iter().map(|remark| vec![remark.clone()]);
    page.section("Remarks", "", remarks.collect());
    page.warnings("Notes", plan.notes.iter().map(|note| vec![note.clone()]).collect());
    let out = page.finish();
    if out.is_empty() { NOTHING.to_owned() } else { out }
}

type IsKind = fn(&FileKind) -> bool;

const KINDS: [(&str, &str, IsKind); 4] = [
    ("Libraries", "mounted read-only, and entered in the loader's cache", |kind| {
        matches!(kind, FileKind::Library { .. })
    }),
    ("Programs", "mounted read-only", |kind| *kind == FileKind::Binary),
    ("Data", "mounted read-only", |kind| *kind == FileKind::Data),
    ("Sockets", "mounted writable", |kind| *kind == FileKind::Ipc),
];

fn requests(decision: &Decision) -> Vec<Vec<String>> {
    let rows = decision.request.wishes().map(|wish| {
        let Summary { vendor, source, devices, capabilities } = wish.summary();
        let mut row = vec![vendor.to_string(), source, format!("devices {}", devices.join(","))];
        if !capabilities.is_empty() {
            row.push(format!("capabilities {}", capabilities.join(",")));
        }
        row
    });
    rows.collect()
}

/// A cell, or what stands in an empty one's place.
fn or(cell: &str, otherwise: &str) -> String {
    if cell.is_empty() { otherwise.to_owned() } else { cell.to_owned() }
}

fn grants(plan: &Plan) -> Vec<Vec<String>> {
    let rows = plan.grants.iter().map(|grant| {
        vec![
            match &grant.part {
                Some(part) => format!("{} {part}", grant.index),
                None => grant.index.to_string(),
            },
            or(&grant.model, &grant.kind),
            or(&grant.bus_id, "-"),
            or(&grant.uuid, "-"),
            format!("asked for as {}", grant.asked_as),
        ]
    });
    rows.collect()
}

fn devices(plan: &Plan) -> Vec<Vec<String>> {
    let rows = plan.devices.iter().map(|device| {
        vec![
            text(&device.destination),
            format!("{}:{}", device.major, device.minor),
            device.access.clone(),
            format!("{:04o}", device.mode),
            match &device.host_path {
                Some(_) => "on the host".to_owned(),
                None => "made here".to_owned(),
            },
            device.why.clone(),
        ]
    });
    rows.collect()
}

fn mounts(plan: &Plan) -> Vec<Vec<String>> {
    let rows = plan.mounts.iter().map(|mount| {
        let source = mount.source().as_deref().unwrap_or(Path::new("none"));
        let options = mount.options().as_deref().unwrap_or_default().join(",");
        vec![text(mount.destination()), format!("<- {}", source.display()), options]
    });
    rows.collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn arrow(target: &Path) -> String {
    format!("-> {}", target.display())
}
