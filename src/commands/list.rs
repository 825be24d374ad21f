//! `gpurun list`.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use super::output;
use crate::cli::Global;
use crate::container::state::{Container, Report};
use crate::log;

/// How the list looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    Table,
    /// A JSON array
    Json,
}

/// One container: what `state` tells, and its GPUs.
#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gpus: Vec<Value>,
    #[serde(skip)]
    gpu_names: String,
}

impl Entry {
    fn of(container: &Container) -> Self {
        let gpus = container.state.gpus.as_ref();
        Self {
            report: container.report(container.status()),
            gpus: gpus.map(|gpus| gpus.json()).unwrap_or_default(),
            gpu_names: gpus.map(|gpus| gpus.names()).unwrap_or_default(),
        }
    }
}

/// List containers.
#[derive(Debug, Args)]
pub struct List {
    /// How the list looks
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// Print only the ids
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    /// Prints it. A container whose state cannot be read is left out with a warning.
    ///
    /// # Errors
    /// The state root cannot be read.
    pub fn run(self, global: &Global) -> Result<()> {
        let store = super::root::store(global)?;
        let mut entries = Vec::new();
        for id in store.ids()? {
            match Container::load(&store, &id) {
                Ok(container) => entries.push(Entry::of(&container)),
                // stderr is ours here, and a missing line would be a riddle.
                Err(error) => log::to_stderr(&format!("load container {id}: {error}")),
            }
        }
        if self.quiet {
            let ids: String =
                entries.iter().map(|entry| format!("{}\n", entry.report.id)).collect();
            return output::print(&ids);
        }
        match self.format {
            Format::Table => output::print(&table(&entries)),
            Format::Json => {
                let text = serde_json::to_string(&entries).context("cannot print the list")?;
                output::print(&format!("{text}\n"))
            }
        }
    }
}

fn table(entries: &[Entry]) -> String {
    let mut text = String::new();
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER", "GPUS"].map(str::to_owned);
    let rows: Vec<[String; 7]> = entries
        .iter()
        .map(|Entry { report: entry, gpu_names, .. }| {
            [
                entry.id.clone(),
                entry.pid.to_string(),
                entry.status.to_string(),
                entry.bundle.display().to_string(),
                entry.created.clone(),
                entry.owner.clone(),
                gpu_names.clone(),
            ]
        })
        .collect();
    // runc's columns (at least 12 wide, 3 apart), then ours.
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| {
            let cells = rows.iter().chain([&heading]).map(|row| row[column].chars().count() + 3);
            cells.max().unwrap_or(0).max(12)
        })
        .collect();
    for row in [&heading].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}
