//! What is wrong with a machine whose driver serves no GPU, or not this one.
//!
//! Looked for only when something is missing; each cause has its own message with its remedy.

use std::path::PathBuf;

use super::error::Error;
use super::gpus::{self, Gpu};
use super::kernel::{self, VERSION_FILE};
use super::select::Selected;
use crate::gpu::pci::Address;
use crate::gpu::request::Selection;
use crate::host::Host;

/// The list of PCI devices, below sys.
const PCI: &str = "bus/pci/devices";

/// The PCI vendor number, as sys shows it.
const VENDOR: &str = "0x10de";

/// The PCI class of display controllers, without the kind and the programming interface.
const DISPLAY_CLASS: &str = "0x03";

/// What a device that is not there any more answers to every read.
const GONE: [u8; 4] = [0xff; 4];

/// Why there is no driver, or no GPU.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The GPU belongs to the free driver.
    #[error(
        "the NVIDIA kernel driver does not serve GPU {gpu}: it is bound to {driver}; keep {driver} \
         from loading (blacklist it in /etc/modprobe.d, rebuild the initramfs), then reboot"
    )]
    Nouveau {
        /// Its PCI address.
        gpu: Address,
        /// The driver's name.
        driver: String,
    },
    /// The GPU belongs to a driver that is not for this machine's own use.
    #[error(
        "the NVIDIA kernel driver does not serve GPU {gpu}: it is bound to {driver}; unbind it \
         there and bind it to nvidia (driverctl, or {driver}'s list of device ids), or ask for no GPU"
    )]
    OtherDriver {
        /// Its PCI address.
        gpu: Address,
        /// The driver's name.
        driver: String,
    },
    /// There is no hardware for the driver.
    #[error(
        "no NVIDIA GPU on this machine: {} lists no display controller of vendor 10de; \
         see whether it is seated and enabled in the firmware, or passed through to this virtual \
         machine", path.display()
    )]
    NoHardware {
        /// The list of PCI devices.
        path: PathBuf,
    },
    /// A module that is loaded and has failed.
    #[error(
        "the nvidia kernel module is loaded ({}) but {} does not exist: it could not start; \
         see the kernel log (dmesg | grep NVRM)", module.display(), version.display()
    )]
    NotStarted {
        /// The module's directory in sys.
        module: PathBuf,
        /// The file that a started driver has.
        version: PathBuf,
    },
    /// One of the GPUs behind Windows.
    #[error(
        "GPU {id:?}: this is WSL2, where containers get all GPUs of the Windows driver or none; \
         ask for all"
    )]
    WslId {
        /// The id as asked.
        id: String,
    },
    /// The node to Windows is something else.
    #[error("{} is no character device: restart WSL (wsl --shutdown)", path.display())]
    WslNode {
        /// The node.
        path: PathBuf,
    },
    /// Windows has no driver of NVIDIA's.
    #[error(
        "this is WSL2, and no driver store in {} has {mark}: install NVIDIA's driver in Windows, \
         then restart WSL (wsl --shutdown)", path.display()
    )]
    WslStore {
        /// What is looked for.
        mark: &'static str,
        /// The directory of the stores.
        path: PathBuf,
    },
    /// The library of WSL itself is missing.
    #[error("this is WSL2, and {} does not exist: update WSL (wsl --update)", path.display())]
    WslDxcore {
        /// The library.
        path: PathBuf,
    },
    /// No list of files on a Tegra.
    #[error(
        "this is a Tegra machine, and none of {names} in {} names a file or device: install the \
         package that has them (nvidia-container, nvidia-l4t-init), or set csv-directory",
        directory.display()
    )]
    TegraLists {
        /// The files looked for.
        names: String,
        /// The directory.
        directory: PathBuf,
    },
    /// A GPU that a Tegra does not have.
    #[error("GPU {id:?}: this is a Tegra machine, with {present}")]
    TegraId {
        /// The id as asked.
        id: String,
        /// What there is.
        present: String,
    },
    /// Not described by NVIDIA's own lists.
    #[error(
        "a Tegra machine with {count} GPUs on the PCI bus besides the integrated one is not \
         supported: one can be served; use CDI files for the others"
    )]
    TegraPci {
        /// How many.
        count: usize,
    },
    /// A GPU that does not answer.
    #[error(
        "GPU {id:?} ({gpu}) has fallen off the bus: {} reads as ones; see the kernel log \
         (dmesg | grep -e NVRM -e Xid -e AER), reset it (nvidia-smi --gpu-reset) or reboot, and \
         check power, cooling and seating", config.display()
    )]
    FallenOff {
        /// The id as asked.
        id: String,
        /// Which GPU that is.
        gpu: String,
        /// The file with its configuration space.
        config: PathBuf,
    },
    /// A GPU that the PCI bus does not list any more.
    #[error(
        "GPU {id:?} ({gpu}) is gone: {} does not exist, though the driver still lists the GPU; \
         rescan the bus (echo 1 > /sys/bus/pci/rescan) or reboot", device.display()
    )]
    Removed {
        /// The id as asked.
        id: String,
        /// Which GPU that is.
        gpu: String,
        /// The device's directory.
        device: PathBuf,
    },
}

/// Why there is no version file.
pub fn no_driver(host: &Host) -> Result<Error, Error> {
    if host.sys.status("module/nvidia")?.is_some() {
        let (module, version) = (host.sys.at("module/nvidia"), host.proc.at(VERSION_FILE));
        return Ok(Trouble::NotStarted { module, version }.into());
    }
    let devices = host.sys.names(PCI)?;
    let displays = displays(host, &devices)?;
    if let Some(trouble) = other_driver(host, &displays)? {
        return Ok(trouble.into());
    }
    if !devices.is_empty() && displays.is_empty() {
        return Ok(Trouble::NoHardware { path: host.sys.at(PCI) }.into());
    }
    Ok(Error::DriverNotLoaded { version: host.proc.at(VERSION_FILE) })
}

/// A better reason than that the driver lists no GPU, where there is one.
pub fn better(error: Error, host: &Host) -> Error {
    let Error::NoGpu { .. } = error else {
        return error;
    };
    let found = host.sys.names(PCI).map_err(Error::from).and_then(|devices| {
        let displays = displays(host, &devices)?;
        let other = other_driver(host, &displays)?;
        let is_bare = !devices.is_empty() && displays.is_empty();
        Ok(other.or_else(|| is_bare.then(|| Trouble::NoHardware { path: host.sys.at(PCI) })))
    });
    match found {
        Ok(Some(trouble)) => trouble.into(),
        _ => error,
    }
}

/// Leaves out, or refuses, the GPUs that do not answer: whoever asks for all gets those that work,
/// with a note; whoever names one is told.
pub fn answering<'a>(
    selected: Vec<Selected<'a>>,
    devices: &Selection,
    host: &Host,
    notes: &mut Vec<String>,
) -> Result<Vec<Selected<'a>>, Error> {
    let mut usable = Vec::with_capacity(selected.len());
    let mut last = None;
    for one in selected {
        match silent(one.gpu, &one.asked_as, host)? {
            None => usable.push(one),
            Some(trouble) if matches!(devices, Selection::All) => {
                notes.push(trouble.to_string());
                last = Some(trouble);
            }
            Some(trouble) => return Err(trouble.into()),
        }
    }
    match last {
        Some(trouble) if usable.is_empty() => Err(trouble.into()),
        _ => Ok(usable),
    }
}

/// Whether the PCI bus lists a display controller of the vendor. What cannot be read is none.
pub fn has_hardware(host: &Host) -> bool {
    let devices = host.sys.names(PCI).unwrap_or_default();
    displays(host, &devices).is_ok_and(|displays| !displays.is_empty())
}

/// Why a GPU that the driver lists cannot be given.
pub fn of(gpu: &Gpu, host: &Host) -> Result<Option<Trouble>, Error> {
    silent(gpu, &gpu.address.to_string(), host)
}

/// Whether the device has stopped answering. A GPU that sleeps is not woken up for that.
fn silent(gpu: &Gpu, id: &str, host: &Host) -> Result<Option<Trouble>, Error> {
    let device = format!("{PCI}/{}", gpu.address);
    let named = || (id.to_owned(), gpu.to_string());
    let Some(sleep) = host.sys.read_text(format!("{device}/power/runtime_status"), 64)? else {
        // No such file: an incomplete sys, or the device is gone from one that lists others.
        let is_gone = host.sys.status(&device)?.is_none() && !host.sys.names(PCI)?.is_empty();
        let (id, gpu) = named();
        let device = host.sys.at(device);
        return Ok(is_gone.then_some(Trouble::Removed { id, gpu, device }));
    };
    if sleep.trim() != "active" {
        return Ok(None);
    }
    let config = format!("{device}/config");
    let is_lost = host.sys.read(&config, GONE.len())?.is_some_and(|bytes| bytes == GONE);
    let (id, gpu) = named();
    let config = host.sys.at(config);
    Ok(is_lost.then_some(Trouble::FallenOff { id, gpu, config }))
}

/// The display controllers of the vendor among these devices.
fn displays(host: &Host, devices: &[String]) -> Result<Vec<Address>, Error> {
    let mut found = Vec::new();
    for name in devices {
        let starts = |file: &str, with: &str| {
            let text = host.sys.read_text(format!("{PCI}/{name}/{file}"), 64)?;
            Ok::<_, Error>(text.is_some_and(|text| text.trim().starts_with(with)))
        };
        if let Some(address) = Address::parse(name)
            && starts("vendor", VENDOR)?
            && starts("class", DISPLAY_CLASS)?
        {
            found.push(address);
        }
    }
    Ok(found)
}

/// The first of these that another driver has taken.
fn other_driver(host: &Host, displays: &[Address]) -> Result<Option<Trouble>, Error> {
    for gpu in displays {
        let link = host.sys.link(format!("{PCI}/{gpu}/driver"))?;
        let Some(driver) = link.as_deref().and_then(|link| link.file_name()) else {
            continue;
        };
        let (gpu, driver) = (*gpu, driver.to_string_lossy().into_owned());
        match driver.as_str() {
            "nvidia" => {}
            "nouveau" | "nova" | "nova-core" | "nova_core" | "nvidiafb" => {
                return Ok(Some(Trouble::Nouveau { gpu, driver }));
            }
            _ => return Ok(Some(Trouble::OtherDriver { gpu, driver })),
        }
    }
    Ok(None)
}

/// A note when the GPU system processor's firmware is missing, without which the open kernel
/// module starts no GPU.
pub fn firmware_note(has_firmware: bool, selected: &[Selected<'_>], host: &Host) -> Option<String> {
    let is_asleep = selected.iter().any(|one| one.gpu.uuid.is_none());
    (is_asleep && !has_firmware && kernel::is_open(host)).then(|| {
        format!(
            "the open kernel module has started no GPU ({} has no UUID) and its firmware \
             (gsp_*.bin) is in none of the firmware directories: install the driver's firmware \
             package",
            host.proc.at(gpus::DIRECTORY).display()
        )
    })
}
