//! A decision in words (a table for a person) and as JSON (for a program).

use std::fmt::Write;

use serde::Serialize;

use super::Decision;
use super::plan::{Abi, FileKind, Place, Plan};
use super::vendor::Summary;

#[derive(Serialize)]
struct Document<'a> {
    request: Vec<Summary>,
    plan: &'a Plan,
}

/// The request and the plan as one JSON document. The names of its fields are those of [`Plan`].
pub fn json(decision: &Decision) -> Result<String, serde_json::Error> {
    let request = decision.request.wishes().map(|wish| wish.summary()).collect();
    serde_json::to_string_pretty(&Document { request, plan: &decision.plan })
}

/// What is said of a container that asks for no GPU.
pub const NOTHING: &str = "This container asks for no GPU; it is left as it is.\n";

/// The decision as aligned tables, one per kind of change.
pub fn table(decision: &Decision) -> String {
    let mut out = String::new();
    section(&mut out, "Request", &requests(decision));
    let plan = &decision.plan;
    let count = |title: &str, length: usize| format!("{title} ({length})");
    section(&mut out, &count("GPUs", plan.grants.len()), &grants(plan));
    section(&mut out, &count("Device nodes", plan.devices.len()), &devices(plan));
    for (title, is_it) in KINDS {
        let rows = files(plan, is_it);
        section(&mut out, &count(title, rows.len()), &rows);
    }
    section(&mut out, &count("Links", plan.links.len()), &links(plan));
    section(&mut out, &count("Mounts", plan.mounts.len()), &mounts(plan));
    let generated =
        plan.generated.iter().map(|file| vec![text(file.destination.display()), file.why.clone()]);
    section(&mut out, "Generated files", &generated.collect::<Vec<_>>());
    let dirs = plan.library_dirs.iter().map(|dir| vec![text(dir.display())]);
    section(&mut out, "Directories for the loader", &dirs.collect::<Vec<_>>());
    let compatibility = plan.compatibility.iter().map(|asked| {
        let host = asked.host_driver.as_deref().or(asked.host_cuda.as_deref());
        vec![text(asked.directory.display()), format!("host has {}", host.unwrap_or("nothing"))]
    });
    section(&mut out, "Newer libraries of the image", &compatibility.collect::<Vec<_>>());
    let interfaces =
        plan.net_devices.iter().map(|(host, name)| vec![name.clone(), format!("<- {host}")]);
    section(&mut out, "Network interfaces", &interfaces.collect::<Vec<_>>());
    let masks =
        plan.masks.iter().map(|mask| vec![text(mask.destination.display()), mask.why.clone()]);
    section(&mut out, "Masked files", &masks.collect::<Vec<_>>());
    let filters = plan.filters.iter().map(|filter| {
        let keep = if filter.keep.is_empty() { "nothing".into() } else { filter.keep.join(" ") };
        vec![text(filter.destination.display()), format!("shows {keep}"), filter.why.clone()]
    });
    section(&mut out, "Filtered directories", &filters.collect::<Vec<_>>());
    let env = plan.env.iter().map(|(name, value)| vec![format!("{name}={value}")]);
    section(&mut out, "Environment", &env.collect::<Vec<_>>());
    let gids = plan.gids.iter().map(|gid| vec![gid.to_string()]);
    section(&mut out, "Supplementary groups", &gids.collect::<Vec<_>>());
    let registers = plan.registers.iter().map(|register| {
        vec![text(register.file.display()), format!("lists who has {} GPUs", register.vendor)]
    });
    section(&mut out, "Entered in", &registers.collect::<Vec<_>>());
    let hooks = plan.absorbed_hooks.iter().map(|hook| {
        let command = [text(hook.path.display())].into_iter().chain(hook.args.first().cloned());
        let command = command.collect::<Vec<_>>().join(" ");
        vec![hook.phase.clone(), command, hook.instead.clone()]
    });
    let run =
        plan.hooks.iter().map(|(phase, hook)| vec![phase.clone(), text(hook.path().display())]);
    section(&mut out, "Hooks", &run.collect::<Vec<_>>());
    section(&mut out, "Hooks not run", &hooks.collect::<Vec<_>>());
    let notes = plan.notes.iter().map(|note| vec![note.clone()]);
    section(&mut out, "Notes", &notes.collect::<Vec<_>>());
    if out.is_empty() { NOTHING.to_owned() } else { out }
}

type IsKind = fn(&FileKind) -> bool;

const KINDS: [(&str, IsKind); 4] = [
    ("Libraries", |kind| matches!(kind, FileKind::Library { .. })),
    ("Programs", |kind| *kind == FileKind::Binary),
    ("Data", |kind| *kind == FileKind::Data),
    ("Sockets", |kind| *kind == FileKind::Ipc),
];

fn requests(decision: &Decision) -> Vec<Vec<String>> {
    let rows = decision.request.wishes().map(|wish| {
        let Summary { vendor, source, devices, capabilities } = wish.summary();
        let mut row = vec![vendor.into_owned(), source, format!("devices {}", devices.join(","))];
        if !capabilities.is_empty() {
            row.push(format!("capabilities {}", capabilities.join(",")));
        }
        row
    });
    rows.collect()
}

fn grants(plan: &Plan) -> Vec<Vec<String>> {
    let rows = plan.grants.iter().map(|grant| {
        vec![
            grant.asked_as.clone(),
            match &grant.part {
                Some(part) => format!("-> {} {part}", grant.index),
                None => format!("-> {}", grant.index),
            },
            grant.bus_id.clone(),
            grant.uuid.clone(),
            grant.model.clone(),
        ]
    });
    rows.collect()
}

fn devices(plan: &Plan) -> Vec<Vec<String>> {
    let rows = plan.devices.iter().map(|device| {
        vec![
            text(device.destination.display()),
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

fn files(plan: &Plan, is_it: IsKind) -> Vec<Vec<String>> {
    let chosen = plan.files.iter().filter(|file| is_it(&file.kind));
    let rows = chosen.map(|file| {
        vec![place(&file.destination), format!("<- {}", file.source.display()), file.why.clone()]
    });
    rows.collect()
}

fn mounts(plan: &Plan) -> Vec<Vec<String>> {
    let rows = plan.mounts.iter().map(|mount| {
        let source = mount.source().as_deref().unwrap_or(std::path::Path::new("none"));
        let options = mount.options().as_deref().unwrap_or_default().join(",");
        vec![text(mount.destination().display()), format!("<- {}", source.display()), options]
    });
    rows.collect()
}

fn links(plan: &Plan) -> Vec<Vec<String>> {
    let rows = plan.links.iter().map(|link| {
        vec![place(&link.destination), format!("-> {}", link.target.display()), link.why.clone()]
    });
    rows.collect()
}

fn place(place: &Place) -> String {
    match place {
        Place::Path(path) => text(path.display()),
        Place::Library(Abi::Native, path) => format!("{{lib}}/{}", path.display()),
        Place::Library(Abi::I386, path) => format!("{{lib32}}/{}", path.display()),
    }
}

fn text(value: impl ToString) -> String {
    value.to_string()
}

/// Text from an image must not steer the terminal.
fn printable(value: &str) -> String {
    value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A title and rows with aligned columns; nothing when there are no rows.
fn section(out: &mut String, title: &str, rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.push('\n');
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{title}");
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "  {:width$}", printable(cell));
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}
