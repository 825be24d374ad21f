//! `gpurun checkpoint`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};

use crate::cli::Global;
use crate::container::criu::dump::{self, Options};
use crate::container::criu::options::{self, CgroupsMode, Common};
use crate::container::delete;
use crate::container::id::ContainerId;
use crate::{log, sys};

/// Options that `checkpoint` and `restore` have in common, as criu names them.
#[derive(Debug, Args)]
pub struct Shared {
    /// The directory of the image files [default: checkpoint]
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,
    /// A directory for logs and statistics [default: that of the images]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Allow unix sockets that lead out of the container
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow a session outside the container
    #[arg(long)]
    shell_job: bool,
    /// Save and restore file locks
    #[arg(long)]
    file_locks: bool,
    /// Serve memory on demand
    #[arg(long)]
    lazy_pages: bool,
    /// How to treat cgroups: soft, full, strict or ignore [default: soft]
    #[arg(long, value_name = "MODE", value_parser = cgroups_mode)]
    manage_cgroups_mode: Option<CgroupsMode>,
    /// A namespace that comes back empty; of the network that is always so
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<EmptyNamespace>,
    /// Remove pages from earlier images that later ones have
    #[arg(long)]
    auto_dedup: bool,
}

/// Namespaces that can come back empty.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum EmptyNamespace {
    /// The network namespace.
    Network,
}

fn cgroups_mode(text: &str) -> Result<CgroupsMode, String> {
    match text {
        "" => Ok(CgroupsMode::Default),
        "soft" => Ok(CgroupsMode::Soft),
        "full" => Ok(CgroupsMode::Full),
        "strict" => Ok(CgroupsMode::Strict),
        "ignore" => Ok(CgroupsMode::Ignore),
        _ => Err("invalid manage-cgroups-mode value: use soft, full, strict or ignore".to_owned()),
    }
}

impl Shared {
    /// In the words of [`crate::container::criu`].
    #[must_use]
    pub fn common(self) -> Common {
        Common {
            images: self.image_path.unwrap_or_else(|| PathBuf::from("checkpoint")),
            work: self.work_path,
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            manage_cgroups_mode: self.manage_cgroups_mode.unwrap_or_default(),
        }
    }
}

/// Save a running container to files with CRIU.
#[derive(Debug, Args)]
pub struct Checkpoint {
    #[command(flatten)]
    shared: Shared,
    /// Earlier images to write the difference to, relative to the new ones
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Let the container go on running
    #[arg(long)]
    leave_running: bool,
    /// Leave out TCP connections that are being established
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Link unlinked files again when possible
    #[arg(long)]
    link_remap: bool,
    /// A descriptor that gets a NUL byte when memory is ready to be served
    #[arg(long, value_name = "FD", allow_hyphen_values = true)]
    status_fd: Option<i32>,
    /// Send memory to the page server there
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Save memory only, and let the container go on running
    #[arg(long)]
    pre_dump: bool,
    /// The container's id
    id: String,
}

impl Checkpoint {
    /// Saves it, and removes the container unless it goes on running.
    ///
    /// # Errors
    /// See [`dump::dump`].
    pub fn run(self, global: &Global) -> Result<()> {
        say_what_is_ignored(global);
        let container = super::load(global, &self.id)?;
        let status_fd = match self.status_fd {
            Some(number) if number >= 0 && self.shared.lazy_pages => {
                Some(sys::fd::inherited(number).with_context(|| {
                    format!("invalid --status-fd argument {number}: not a descriptor of the caller")
                })?)
            }
            _ => None,
        };
        let ends = !self.leave_running && !self.pre_dump;
        let page_server = self.page_server.as_deref().map(address_and_port).transpose()?;
        let common = self.shared.common();
        options::make_directory(&common.images)?;
        if let Some(parent) = &self.parent_path {
            check_parent(&common.images, parent)?;
        }
        let options = Options {
            common,
            parent: self.parent_path,
            leave_running: self.leave_running,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            link_remap: self.link_remap,
            pre_dump: self.pre_dump,
            page_server,
            status_fd,
        };
        dump::dump(&container, options)?;
        if ends {
            let id = ContainerId::parse(&self.id)?;
            match delete::delete(&super::root::store(global)?, &id, true) {
                Ok(left) => left.into_iter().for_each(|left| log::warn(log::one_line(&left))),
                // The images are complete, which is what was asked for.
                Err(error) => log::warn(log::one_line(&error)),
            }
        }
        Ok(())
    }
}

/// runc has no `--criu` any more; engines that still pass it should know.
pub(super) fn say_what_is_ignored(global: &Global) {
    if global.criu.is_some() {
        log::warn("--criu is ignored: criu is looked for in $PATH");
    }
    if !nix::unistd::geteuid().is_root() {
        log::warn("checkpoint and restore are untested with rootless containers");
    }
}

/// The earlier images are found from the new ones, on this machine and the next.
fn check_parent(images: &Path, parent: &Path) -> Result<()> {
    if parent.is_absolute() {
        bail!("--parent-path must be relative");
    }
    let path = images.join(parent);
    let found = std::fs::metadata(&path)
        .with_context(|| format!("invalid --parent-path: {}", path.display()))?;
    if !found.is_dir() {
        bail!("invalid --parent-path: {} is not a directory", path.display());
    }
    Ok(())
}

/// `ADDRESS:PORT`; an IPv6 address stands in brackets.
pub(super) fn address_and_port(text: &str) -> Result<(String, u16)> {
    let form = || anyhow!("Use --page-server ADDRESS:PORT to specify page server");
    let (address, port) = text.rsplit_once(':').ok_or_else(form)?;
    let address = match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(form)?,
        None if address.contains(':') => return Err(form()),
        None => address,
    };
    if address.is_empty() || port.is_empty() {
        return Err(form());
    }
    let port = port.parse().with_context(|| format!("Invalid port number {port:?}"))?;
    Ok((address.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::address_and_port;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        let good = |text: &str| address_and_port(text).expect(text);
        assert_eq!(good("10.0.0.1:27"), ("10.0.0.1".to_owned(), 27));
        assert_eq!(good("[::1]:65535"), ("::1".to_owned(), 65535));
        for bad in ["", ":", "host", "host:", ":1", "::1:2", "[::1:2", "host:65536", "host:x"] {
            assert!(address_and_port(bad).is_err(), "{bad:?}");
        }
    }
}
