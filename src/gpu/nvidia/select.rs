//! From the ids that a container asks for to the machine's GPUs.

use super::error::Error;
use super::gpus::{self, Gpu};
use crate::gpu::pci::Address;
use crate::gpu::request::Selection;
use crate::host::Host;

/// The class of id that means "as if it stood in the variable alone".
const AUTOMATIC: &str = "runtime.nvidia.com/gpu=";

/// Boards that only drive a display and take no part in `all`.
const DISPLAY_ONLY: [&str; 2] = ["DGX Display", "NVIDIA DGX Display"];

/// A GPU that was asked for and can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected<'a> {
    /// The GPU.
    pub gpu: &'a Gpu,
    /// Its index.
    pub index: u32,
    /// The minor number of its node.
    pub minor: u32,
    /// The id that asked for it.
    pub asked_as: String,
}

/// Finds the GPUs, each once, in the order of the request. `version` is for the error.
pub fn select<'a>(
    devices: &Selection,
    gpus: &'a [Gpu],
    host: &Host,
    version: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<Selected<'a>>, Error> {
    match devices {
        Selection::None => Ok(Vec::new()),
        Selection::All => {
            let usable = every(gpus, host, notes);
            match usable.is_empty() {
                false => Ok(usable),
                true => Err(no_gpu(host, version)),
            }
        }
        Selection::Ids(_) if gpus.is_empty() => Err(no_gpu(host, version)),
        Selection::Ids(ids) => {
            let mut selected: Vec<Selected<'a>> = Vec::new();
            for id in ids {
                let one = one(id, gpus, host)?;
                if selected.iter().all(|known| known.gpu.address != one.gpu.address) {
                    selected.push(one);
                }
            }
            Ok(selected)
        }
    }
}

fn every<'a>(gpus: &'a [Gpu], host: &Host, notes: &mut Vec<String>) -> Vec<Selected<'a>> {
    let mut selected = Vec::new();
    for gpu in gpus {
        let Some(index) = gpu.index else {
            notes.push(format!("GPU {gpu} takes no part in all: the driver excludes it"));
            continue;
        };
        if DISPLAY_ONLY.contains(&gpu.model.as_str()) {
            notes.push(format!("GPU {gpu} takes no part in all: it only drives a display"));
            continue;
        }
        let Some(minor) = gpu.minor else {
            let path = host.proc.at(gpu.information());
            notes.push(format!(
                "GPU {gpu} takes no part in all: {} names no valid Device Minor",
                path.display()
            ));
            continue;
        };
        selected.push(Selected { gpu, index, minor, asked_as: "all".to_owned() });
    }
    selected
}

fn one<'a>(asked: &str, gpus: &'a [Gpu], host: &Host) -> Result<Selected<'a>, Error> {
    let id = asked.strip_prefix(AUTOMATIC).unwrap_or(asked);
    let unsupported = |reason| Error::UnsupportedId { id: asked.to_owned(), reason };
    let found = if let Some(index) = number(id) {
        gpus.iter().find(|gpu| gpu.index == Some(index))
    } else if gpus::is_uuid(id) {
        gpus.iter()
            .find(|gpu| gpu.uuid.as_deref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(id)))
    } else if let Some(address) = Address::parse(id) {
        gpus.iter().find(|gpu| gpu.address == address)
    } else if id.starts_with("MIG-") || is_pair(id) {
        return Err(unsupported("MIG devices are not served"));
    } else if id.contains('/') || id.contains('=') {
        return Err(unsupported("CDI device names are not served in this variable"));
    } else {
        None
    };
    let Some(gpu) = found else {
        return Err(unknown(asked, gpus));
    };
    let Some(index) = gpu.index else {
        return Err(Error::ExcludedGpu { id: asked.to_owned(), gpu: gpu.to_string() });
    };
    let Some(minor) = gpu.minor else {
        return Err(Error::NoMinor {
            id: asked.to_owned(),
            gpu: gpu.to_string(),
            path: host.proc.at(gpu.information()),
        });
    };
    Ok(Selected { gpu, index, minor, asked_as: asked.to_owned() })
}

/// `0:1`, the index of a MIG device on a GPU.
fn is_pair(id: &str) -> bool {
    id.split_once(':').is_some_and(|(gpu, mig)| number(gpu).is_some() && number(mig).is_some())
}

/// A number without a sign.
fn number(text: &str) -> Option<u32> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

fn unknown(asked: &str, gpus: &[Gpu]) -> Error {
    let present: Vec<String> = gpus.iter().map(|gpu| format!("[{gpu}]")).collect();
    let hidden = gpus::is_uuid(asked) && gpus.iter().any(|gpu| gpu.uuid.is_none());
    Error::UnknownGpu {
        id: asked.to_owned(),
        present: present.join(" "),
        hint: if hidden {
            "; a GPU has no UUID until the driver has initialised it \
             (nvidia-smi, nvidia-persistenced)"
        } else {
            ""
        },
    }
}

fn no_gpu(host: &Host, version: &str) -> Error {
    Error::NoGpu { version: version.to_owned(), path: host.proc.at(gpus::DIRECTORY) }
}
