//! `gpurun cdi generate`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::commands::output;
use crate::gpu::cdi::CdiSpec;
use crate::gpu::cdi::generate::{HookProgram, Options, Strategy, generate};
use crate::gpu::load_settings;
use crate::host::Host;
use crate::host::config::PATH_VARIABLE;
use crate::log;

const EXAMPLES: &str = "EXAMPLES:
   gpurun cdi generate --output /etc/cdi/nvidia.yaml
   gpurun cdi generate --kind amd.com/gpu --device-id 0 --format json";

/// Write a CDI file of this machine's GPUs, for any engine and runtime.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Generate {
    /// The file to write; `-` is the standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// How it looks [default: by the file's extension, else yaml]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// The kind of the devices, such as nvidia.com/gpu, where the machine has several
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The vendor in the file [default: the kind's]
    #[arg(long, value_name = "NAME")]
    vendor: Option<String>,
    /// The class in the file [default: the kind's]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// How devices are called, also several [default: index and uuid]
    #[arg(
        long = "device-name-strategy",
        alias = "device-name-strategies",
        value_name = "STRATEGY",
        value_delimiter = ','
    )]
    strategies: Vec<Named>,
    /// Only this device (index, UUID or PCI bus id), also several
    #[arg(
        long = "device-id",
        aliases = ["device-ids", "device", "devices"],
        value_name = "ID",
        value_delimiter = ','
    )]
    ids: Vec<String>,
    /// Leave out the device `all`
    #[arg(long)]
    no_all_device: bool,
    /// Leave out this hook, also several; `all`: every one
    #[arg(
        long = "disable-hook",
        alias = "disable-hooks",
        value_name = "COMMAND",
        value_delimiter = ','
    )]
    disabled_hooks: Vec<String>,
    /// The program of the hooks, where it is not this one: gpurun, or one called as nvidia-cdi-hook
    #[arg(long, aliases = ["nvidia-cdi-hook-path", "nvidia-ctk-path"], value_name = "FILE")]
    hook_path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Named {
    /// 0, 0:1
    Index,
    /// GPU-5c89..., MIG-9a1b...
    Uuid,
    /// gpu0, mig0:1
    TypeIndex,
}

impl From<Named> for Strategy {
    fn from(named: Named) -> Self {
        match named {
            Named::Index => Self::Index,
            Named::Uuid => Self::Uuid,
            Named::TypeIndex => Self::TypeIndex,
        }
    }
}

impl Generate {
    /// Writes the file.
    ///
    /// # Errors
    /// No device can be described, or the file cannot be written.
    pub fn run(self) -> Result<()> {
        let is_stdout = self.output.as_os_str() == "-";
        let format = self.format(is_stdout)?;
        let settings = load_settings()?;
        let host = Host::from_settings(&settings)?;
        let options = Options {
            of: self.kind,
            vendor: self.vendor,
            class: self.class,
            strategies: self.strategies.into_iter().map(Strategy::from).collect(),
            ids: self.ids,
            no_all: self.no_all_device,
            disabled_hooks: self.disabled_hooks,
            program: program(self.hook_path)?,
        };
        let generated = generate(&options, &settings, &host)?;
        let text = text(&generated.spec, format)?;
        if is_stdout {
            output::print(&text)?;
        } else {
            write(&self.output, &text)
                .with_context(|| format!("cannot write {}", self.output.display()))?;
        }
        for note in generated.notes {
            log::to_stderr(&note);
        }
        Ok(())
    }

    /// Engines read files by their extension: one that contradicts the format would be passed over
    /// or not parsed.
    fn format(&self, is_stdout: bool) -> Result<Format> {
        let extension = self.output.extension().and_then(|extension| extension.to_str());
        let by_name = match extension {
            _ if is_stdout => None,
            Some("json") => Some(Format::Json),
            Some("yaml" | "yml") => Some(Format::Yaml),
            _ => None,
        };
        match (self.format, by_name) {
            (Some(format), Some(named)) if format != named => bail!(
                "--output {}: its extension says another format than --format",
                self.output.display()
            ),
            (format, named) => Ok(format.or(named).unwrap_or(Format::Yaml)),
        }
    }
}

/// This program, by the path that runtimes can call it by.
fn program(path: Option<PathBuf>) -> Result<HookProgram> {
    let config = std::env::var_os(PATH_VARIABLE).filter(|path| !path.is_empty());
    let config = config.map(PathBuf::from).map(std::path::absolute).transpose();
    let config = config.with_context(|| format!("{PATH_VARIABLE} is no path"))?;
    match path {
        Some(path) if !path.is_absolute() => bail!("--hook-path {path:?} must be absolute"),
        Some(path) if path.file_name().is_some_and(|name| name == "nvidia-cdi-hook") => {
            Ok(HookProgram::other(path))
        }
        Some(path) => Ok(HookProgram::gpurun(path, config)),
        None => {
            let own = std::env::current_exe().context("cannot tell this program's path")?;
            Ok(HookProgram::gpurun(own, config))
        }
    }
}

fn text(spec: &CdiSpec, format: Format) -> Result<String> {
    Ok(match format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(spec)?),
        Format::Yaml => {
            // Long words as they are: no reader has to know how YAML folds lines.
            let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
            let text =
                serde_saphyr::to_string_with_options(spec, options).context("cannot write YAML")?;
            format!("---\n{}\n", text.trim_end())
        }
    })
}

/// Puts the file into place in one step, readable for everyone, whatever the umask: engines watch
/// the directory and read at once.
fn write(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().context("it names no file")?;
    if let Ok(meta) = fs::metadata(path)
        && !meta.is_file()
    {
        bail!("it is there and is not a regular file");
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory {
        fs::create_dir_all(directory)?;
    }
    // Without an extension that engines would read.
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let put = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    put().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    Ok(())
}
