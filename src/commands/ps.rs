//! `gpurun ps`.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::list::Format;
use super::output;
use crate::cli::Global;
use crate::container::members;

/// List the processes of a container.
#[derive(Debug, Args)]
pub struct Ps {
    /// How the list looks
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// The container's id
    id: String,
    /// Options for ps(1) [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Ps {
    /// Prints it: as JSON the pids, as a table the lines of ps(1) that are about them.
    ///
    /// # Errors
    /// There is no such container, or no ps(1).
    pub fn run(self, global: &Global) -> Result<()> {
        let pids = members::pids(&super::load(global, &self.id)?)?;
        if self.format == Format::Json {
            let text = serde_json::to_string(&pids).context("cannot print the pids")?;
            return output::print(&format!("{text}\n"));
        }
        let options = if self.options.is_empty() { vec!["-ef".to_owned()] } else { self.options };
        let table = Command::new("ps")
            .args(&options)
            .output()
            .context("cannot run ps(1): install procps, or use --format json")?;
        if !table.status.success() {
            bail!("ps: {}", String::from_utf8_lossy(&table.stderr).trim_end());
        }
        output::print(&lines_of(&String::from_utf8_lossy(&table.stdout), &pids)?)
    }
}

pub(super) fn lines_of(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let heading = lines.next().context("ps printed nothing")?;
    let column = heading
        .split_ascii_whitespace()
        .position(|title| title == "PID")
        .context("couldn't find PID field in ps output")?;
    let mut kept = format!("{heading}\n");
    for line in lines {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|field| field.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::lines_of;

    #[test]
    fn only_the_lines_of_the_containers_processes_are_kept() {
        let table = "UID   PID CMD\nroot    1 init\nroot   12 sleep 1\n";
        assert_eq!(lines_of(table, &[12]).expect("table"), "UID   PID CMD\nroot   12 sleep 1\n");
        assert!(lines_of("A B\n", &[1]).is_err());
        assert!(lines_of("", &[1]).is_err());
    }
}
