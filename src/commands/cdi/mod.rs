//! `gpurun cdi`.

mod generate;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};
use clap::{Args, Subcommand};

use crate::gpu::cdi::registry::Problem;
use crate::gpu::cdi::{self, CdiSpec, Config, Registry};
use crate::gpu::load_settings;
use crate::log;
use crate::paint::printable;

/// What is said of a machine without files.
const NOTHING: &str = "No CDI file of this machine defines a device. The GPUs that gpurun gives \
                       without one are those of `gpurun gpu list`.";

/// The Container Device Interface files of this machine.
#[derive(Debug, Args)]
pub struct Cdi {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the devices that files define
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a file of this machine's GPUs, for any engine and runtime
    Generate(Box<generate::Generate>),
    /// Print what containers get by one file and not by another, device by device
    Compare {
        /// The file whose own facts have a `-`
        #[arg(value_name = "FILE")]
        first: PathBuf,
        /// The file whose own facts have a `+`
        #[arg(value_name = "FILE")]
        second: PathBuf,
    },
    /// Check files, or all files of the machine when none is given
    Validate {
        /// The files; `-` is the standard input
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

impl Cdi {
    /// Carries the subcommand out.
    ///
    /// # Errors
    /// A directory that cannot be read; for `validate` also a file that is not valid; for
    /// `generate` no device that can be described.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::List { json } => list(json),
            Command::Compare { first, second } => compare(&first, &second),
            Command::Generate(command) => command.run(),
            Command::Validate { files } if files.is_empty() => validate_machine(),
            Command::Validate { files } => validate(&files),
        }
    }
}

fn registry() -> Result<Registry> {
    let config = Config::read(&load_settings()?)?;
    Ok(Registry::read(&config.dirs)?)
}

fn list(json: bool) -> Result<()> {
    let registry = registry()?;
    let devices = registry.names().filter_map(|name| Some((name, registry.file_of(name)?)));
    if json {
        let devices: Vec<_> = devices
            .map(|(name, file)| serde_json::json!({"name": name.to_string(), "file": file.path}))
            .collect();
        let problems: Vec<_> = registry
            .problems()
            .iter()
            .map(|problem| serde_json::json!({"file": problem.path, "reason": problem.reason}))
            .collect();
        let all = serde_json::json!({"devices": devices, "problems": problems});
        println!("{all:#}");
        return Ok(());
    }
    let rows =
        devices.map(|(name, file)| (name.to_string(), printable(&file.path.display().to_string())));
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    if rows.is_empty() {
        println!("{NOTHING}");
    }
    for (name, file) in rows {
        println!("{name:width$}  {file}");
    }
    for problem in registry.problems() {
        log::to_stderr(&problem.to_string());
    }
    Ok(())
}

fn compare(first: &Path, second: &Path) -> Result<()> {
    let parsed = |path: &Path| {
        let spec = CdiSpec::parse(&read(path)?).map_err(Error::msg);
        spec.with_context(|| format!("{} is no CDI file", path.display()))
    };
    for difference in cdi::compare::compare(&parsed(first)?, &parsed(second)?) {
        println!("{difference}");
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("cannot read the standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn validate_machine() -> Result<()> {
    let registry = registry()?;
    for file in registry.files() {
        say(&file.path, "valid");
    }
    let mut wrong: Vec<&Path> = Vec::new();
    for Problem { path, reason } in registry.problems() {
        say(path, reason);
        if !wrong.contains(&path.as_path()) {
            wrong.push(path);
        }
    }
    if registry.files().next().is_none() && wrong.is_empty() {
        println!("{NOTHING}");
    }
    verdict(wrong.len())
}

fn validate(files: &[PathBuf]) -> Result<()> {
    let mut invalid = 0;
    for path in files {
        let text = read(path)?;
        match CdiSpec::parse(&text).and_then(|spec| spec.validate()) {
            Ok(()) => say(path, "valid"),
            Err(reason) => {
                say(path, &reason);
                invalid += 1;
            }
        }
    }
    verdict(invalid)
}

fn say(path: &Path, verdict: &str) {
    println!("{}", printable(&format!("{}: {verdict}", path.display())));
}

fn verdict(invalid: usize) -> Result<()> {
    match invalid {
        0 => Ok(()),
        1 => bail!("1 CDI file is not valid"),
        count => bail!("{count} CDI files are not valid"),
    }
}
