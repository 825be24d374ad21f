//! From the ids that a container asks for to the machine's GPUs.

use super::error::Error;
use super::gpus::{self, Gpu};
use super::marker;
use super::mig::{self, Instance};
use crate::gpu::pci::Address;
use crate::gpu::request::Selection;
use crate::host::Host;

/// The class of id that means "as if it stood in the variable alone".
pub const AUTOMATIC: &str = "runtime.nvidia.com/gpu=";

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
    /// The MIG device, when not the whole GPU is meant.
    pub mig: Option<Instance>,
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
            let usable = every(gpus, host, notes)?;
            match usable.is_empty() {
                false => Ok(usable),
                true => Err(no_gpu(host, version)),
            }
        }
        Selection::Ids(_) if gpus.is_empty() => Err(no_gpu(host, version)),
        Selection::Ids(ids) => {
            let mut selected: Vec<Selected<'a>> = Vec::new();
            for id in ids {
                let one = one(id, gpus, host, notes)?;
                let same = |known: &Selected<'_>| {
                    known.gpu.address == one.gpu.address && known.mig == one.mig
                };
                if !selected.iter().any(same) {
                    selected.push(one);
                }
            }
            Ok(selected)
        }
    }
}

/// Every GPU that has an index, and of those that are divided each MIG device.
fn every<'a>(
    gpus: &'a [Gpu],
    host: &Host,
    notes: &mut Vec<String>,
) -> Result<Vec<Selected<'a>>, Error> {
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
        let whole = Selected { gpu, index, minor, mig: None, asked_as: "all".to_owned() };
        let instances = mig::instances(host, minor)?;
        if instances.is_empty() {
            selected.push(whole);
        } else {
            let parts = instances.into_iter();
            selected.extend(parts.map(|one| Selected { mig: Some(one), ..whole.clone() }));
        }
    }
    Ok(selected)
}

fn one<'a>(
    asked: &str,
    gpus: &'a [Gpu],
    host: &Host,
    notes: &mut Vec<String>,
) -> Result<Selected<'a>, Error> {
    let id = asked.strip_prefix(AUTOMATIC).unwrap_or(asked);
    let Some(part) = MigId::parse(id) else {
        let whole = whole(asked, id, gpus, host)?;
        if !mig::instances(host, whole.minor)?.is_empty() {
            notes.push(format!(
                "GPU {asked:?} is divided into MIG devices, and the container may use none of \
                 them: ask for {index}:0, {index}:1, … or all",
                index = whole.index
            ));
        }
        return Ok(whole);
    };
    let gpu = part.gpu().ok_or_else(|| Error::MigUuid { id: asked.to_owned() })?;
    let whole = whole(asked, gpu, gpus, host)?;
    let instances = mig::instances(host, whole.minor)?;
    match instances.iter().find(|one| part.means(one)) {
        Some(one) => Ok(Selected { mig: Some(*one), ..whole }),
        None => {
            let present: Vec<String> = instances.iter().map(ToString::to_string).collect();
            Err(Error::UnknownMig {
                id: asked.to_owned(),
                gpu: whole.gpu.to_string(),
                present: if present.is_empty() { "none".to_owned() } else { present.join(", ") },
            })
        }
    }
}

/// An id of a MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MigId<'a> {
    /// `0:1`: an index on a GPU.
    Index { gpu: &'a str, index: u32 },
    /// `MIG-GPU-<uuid>/<gi>/<ci>`.
    Instance { gpu: &'a str, gi: u32, ci: u32 },
    /// `MIG-…`, whatever follows.
    Uuid,
}

impl<'a> MigId<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        if let Some((gpu, mig)) = id.split_once(':')
            && number(gpu).is_some()
            && let Some(index) = number(mig)
        {
            return Some(Self::Index { gpu, index });
        }
        let rest = id.strip_prefix("MIG-")?;
        let mut parts = rest.split('/');
        let instance = (parts.next(), parts.next(), parts.next(), parts.next());
        if let (Some(gpu), Some(gi), Some(ci), None) = instance
            && gpus::is_uuid(gpu)
            && let (Some(gi), Some(ci)) = (number(gi), number(ci))
        {
            return Some(Self::Instance { gpu, gi, ci });
        }
        Some(Self::Uuid)
    }

    /// The id of its GPU, where it says so.
    fn gpu(self) -> Option<&'a str> {
        match self {
            Self::Index { gpu, .. } | Self::Instance { gpu, .. } => Some(gpu),
            Self::Uuid => None,
        }
    }

    /// Whether this MIG device of that GPU is meant.
    fn means(self, one: &Instance) -> bool {
        match self {
            Self::Index { index, .. } => one.index == index,
            Self::Instance { gi, ci, .. } => (one.gi, one.ci) == (gi, ci),
            Self::Uuid => false,
        }
    }
}

/// The GPU with this id, which is `asked` or a part of it.
fn whole<'a>(asked: &str, id: &str, gpus: &'a [Gpu], host: &Host) -> Result<Selected<'a>, Error> {
    let unsupported = |reason| Error::UnsupportedId { id: asked.to_owned(), reason };
    let found = if let Some(index) = number(id) {
        gpus.iter().find(|gpu| gpu.index == Some(index))
    } else if gpus::is_uuid(id) {
        gpus.iter()
            .find(|gpu| gpu.uuid.as_deref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(id)))
    } else if let Some(address) = Address::parse(id) {
        gpus.iter().find(|gpu| gpu.address == address)
    } else if id == marker::DIRECTORY {
        return Err(unsupported(
            "the devices are named by mounts below it, which count only where \
             accept-nvidia-visible-devices-as-volume-mounts is true",
        ));
    } else if id.contains('/') || id.contains('=') {
        return Err(unsupported("CDI device names cannot be mixed with other ids"));
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
    Ok(Selected { gpu, index, minor, mig: None, asked_as: asked.to_owned() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_mig_devices_are_told_from_those_of_gpus() {
        const UUID: &str = "GPU-00000002-0000-0000-0000-000000000000";
        for (id, expected) in [
            ("0:1".to_owned(), Some(MigId::Index { gpu: "0", index: 1 })),
            (format!("MIG-{UUID}/7/0"), Some(MigId::Instance { gpu: UUID, gi: 7, ci: 0 })),
            ("MIG-00000002-0000-0000-0000-000000000000".to_owned(), Some(MigId::Uuid)),
            (format!("MIG-{UUID}/7"), Some(MigId::Uuid)),
            (format!("MIG-{UUID}/7/0/0"), Some(MigId::Uuid)),
            (format!("MIG-{UUID}/-7/0"), Some(MigId::Uuid)),
            (UUID.to_owned(), None),
            ("0".to_owned(), None),
            ("0:1:0".to_owned(), None),
            ("0:+1".to_owned(), None),
            ("41:00.0".to_owned(), None),
        ] {
            assert_eq!(MigId::parse(&id), expected, "{id}");
        }
    }
}
