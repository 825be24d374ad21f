//! `gpurun doctor`: what is wrong with this machine, or with one bundle, and what to do.
//!
//! Each file looks at one area and returns [`Finding`]s; nothing is changed. Whether the kernel can
//! do something is found out by trying it, not by its version: distributions add and remove.
//!
//! | file | looks at |
//! |---|---|
//! | [`kernel`] | the calls and namespaces that containers are made of |
//! | [`cgroups`] | hierarchies, controllers, device rules, systemd |
//! | [`cdi`] | files that name what is gone |
//! | [`engines`] | whether they know gpurun, and where |
//! | [`security`] | SELinux, AppArmor |
//! | [`rootless`] | what an ordinary user's containers need |
//! | [`state`] | what earlier containers have left |
//! | [`bundle`] | one bundle: what would fail |
//! | [`report`] | the findings as a page and as JSON |
//!
//! GPUs and drivers are the vendors' own matter ([`crate::gpu::checkup`]).

pub mod bundle;
pub mod cdi;
pub mod cgroups;
pub mod engines;
pub mod kernel;
pub mod report;
pub mod rootless;
pub mod security;
pub mod state;

#[cfg(test)]
mod testing;

use std::path::PathBuf;

use crate::container::store::Store;
use crate::finding::Finding;
use crate::gpu::{self, checkup};
use crate::host::{Host, Settings, Tree};
use report::{Report, Section};

/// What there is to look at.
#[derive(Debug)]
pub struct Machine {
    /// The configuration.
    pub settings: Settings,
    /// `/proc`, `/sys` and `/dev`.
    pub host: Host,
    /// The root of the file system.
    pub root: Tree,
    /// Who asks.
    pub caller: Caller,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user's number.
    pub uid: u32,
    /// The name in `/etc/passwd`.
    pub name: Option<String>,
    /// The home directory, where engines of one user keep their configuration.
    pub home: Option<PathBuf>,
    /// The runtime directory (`XDG_RUNTIME_DIR`).
    pub runtime_dir: Option<PathBuf>,
}

impl Caller {
    /// The user that runs this process.
    #[must_use]
    pub fn of_this_process(root: &Tree) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = root.read_text("etc/passwd", 4 << 20).ok().flatten().unwrap_or_default();
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        let path = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self { uid, name, home: path("HOME"), runtime_dir: path("XDG_RUNTIME_DIR") }
    }

    /// Whether the caller is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// Looks at the whole machine. A configuration that cannot be read is a finding; the rest is then
/// looked at as if there were none.
///
/// # Errors
/// `/proc`, `/sys` or `/dev` cannot be opened.
pub fn machine(store: &Store) -> anyhow::Result<Report> {
    let (settings, host, configuration) = settings()?;
    let root = Tree::open("/".as_ref())?;
    let caller = Caller::of_this_process(&root);
    let machine = Machine { host, settings, root, caller };
    let gpus =
        checkup::Machine { settings: &machine.settings, host: &machine.host, root: &machine.root };
    let sections = vec![
        Section::new("Configuration", vec![configuration]),
        Section::new("Kernel", kernel::check(&machine.caller)),
        Section::new("Cgroups", cgroups::check(&machine)),
        Section::new("GPUs", checkup::all(gpus)),
        Section::new("CDI", cdi::check(&machine)),
        Section::new("Engines", engines::check(&machine)),
        Section::new("Security", security::check(&machine)),
        Section::new("Rootless", rootless::check(&machine)),
        Section::new("State", state::check(store)),
    ];
    Ok(Report { sections })
}

/// The configuration and the machine that it names, and what is to be said of its file.
fn settings() -> anyhow::Result<(Settings, Host, Finding)> {
    let red = |error: String| {
        let remedy = "correct it (docs/configuration.md lists the keys): no container whose request \
                      needs it is created before";
        Finding::red("configuration file", error, remedy)
    };
    let read = gpu::load_settings().map_err(anyhow::Error::from);
    let (settings, host) = match read.and_then(|read| Ok((Host::from_settings(&read)?, read))) {
        Ok((host, settings)) => (settings, host),
        Err(error) => {
            let none = Settings::parse("/".as_ref(), String::new(), &gpu::tables())?;
            let host = Host::from_settings(&none)?;
            return Ok((none, host, red(crate::log::one_line(&error))));
        }
    };
    let finding = match gpu::check_settings(&settings) {
        Err(error) => red(error.to_string()),
        Ok(()) => {
            let path = settings.path();
            let found = match path.exists() {
                true => path.display().to_string(),
                false => format!("none at {}: the defaults hold", path.display()),
            };
            Finding::green("configuration file", found)
        }
    };
    Ok((settings, host, finding))
}
