//! `gpurun list`.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::output;
use crate::cli::Global;
use crate::container::state::{Container, Report};

/// How the list looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    Table,
    /// A JSON array
    Json,
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
                Ok(container) => entries.push(container.report(container.status())),
                // stderr is ours here, and a missing line would be a riddle.
                Err(error) => eprintln!("load container {id}: {error}"),
            }
        }
        if self.quiet {
            let ids: String = entries.iter().map(|entry| format!("{}\n", entry.id)).collect();
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

fn table(entries: &[Report]) -> String {
    let mut text = String::new();
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows: Vec<[String; 6]> = entries
        .iter()
        .map(|entry| {
            [
                entry.id.clone(),
                entry.pid.to_string(),
                entry.status.to_string(),
                entry.bundle.display().to_string(),
                entry.created.clone(),
                entry.owner.clone(),
            ]
        })
        .collect();
    // runc's columns: at least 12 wide, 3 apart.
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
