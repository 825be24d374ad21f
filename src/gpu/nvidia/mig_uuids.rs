//! `MIG-<uuid>`: which MIG device that is.
//!
//! Only NVML knows these UUIDs, so the driver's own `nvidia-smi` is asked, and only for a request
//! with such an id, or for a list of the machine's MIG devices: with `-L`, and for a GPU with several MIG devices with `-q -x -i` as well,
//! because nothing else says for sure which instances an index stands for. Its answer is kept for
//! as long as the machine is up, the driver is the same, and `/proc` shows the same instances on
//! that GPU, none of them made anew meanwhile.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::capabilities::Capabilities;
use super::config::Config;
use super::error::Error;
use super::gpus::{self, Gpu};
use super::smi::{self, Listed};
use super::{driver, files, mig};
use crate::gpu::request::Selection;
use crate::host::program::{Limits, Program, quoted};
use crate::host::{Host, Tree};

/// The program that is asked.
const PROGRAM: &str = "nvidia-smi";

/// Without persistence mode it starts every GPU, which takes seconds. A report on eight GPUs has
/// some hundred kilobytes.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), output: 4 << 20 };

/// How the UUIDs begin.
const PREFIX: &str = "MIG-";

/// The id in errors where no UUID in particular is asked for.
const EVERY: &str = "MIG-…";

/// The cache's file.
const FILE: &str = "nvidia-mig-uuids.json";

/// Which boot this is, below proc.
const BOOT: &str = "sys/kernel/random/boot_id";

/// Where a MIG device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The UUID of its GPU.
    pub gpu: String,
    /// The id of its GPU instance.
    pub gi: u32,
    /// The id of its compute instance.
    pub ci: u32,
}

/// The MIG devices that a request names by UUID, by these in lower case.
pub type Places = BTreeMap<String, Place>;

/// Ids of a GPU instance and of a compute instance in it.
type Ids = (u32, u32);

/// The instances of each GPU that has some, by its UUID in lower case.
type Instances = BTreeMap<String, Vec<Made>>;

/// An instance, and what changes when one with the same ids is made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    ids: Ids,
    at: i128,
}

/// What is kept.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    boot: String,
    driver: String,
    /// By the GPU's UUID.
    gpus: BTreeMap<String, KnownGpu>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownGpu {
    /// The instances that existed.
    instances: Vec<Made>,
    /// Those whose UUID is known, in lower case.
    uuids: BTreeMap<String, Ids>,
}

/// `MIG-` and the groups of a UUID.
pub fn is_uuid(id: &str) -> bool {
    id.strip_prefix(PREFIX).is_some_and(gpus::is_bare_uuid)
}

/// Finds the MIG devices that are asked for by UUID; nothing is asked where none is.
///
/// # Errors
/// A UUID that no MIG device has, and why `nvidia-smi` does not answer.
pub fn find(
    devices: &Selection,
    gpus: &[Gpu],
    host: &Host,
    config: &Config,
    version: &str,
) -> Result<Places, Error> {
    let Selection::Ids(ids) = devices else {
        return Ok(Places::new());
    };
    let asked: Vec<&str> = ids.iter().map(String::as_str).filter(|id| is_uuid(id)).collect();
    let Some(first) = asked.first() else {
        return Ok(Places::new());
    };
    let instances = instances(gpus, host)?;
    if instances.is_empty() {
        let present = "no GPU is divided into MIG devices".to_owned();
        return Err(Error::UnknownMigUuid { id: (*first).to_owned(), present });
    }
    let mut known = Known::read(host, version, &instances)?;
    if let Some(places) = known.places(&asked) {
        return Ok(places);
    }
    let fresh = Smi::locate(first, config, version)?.ask(&asked, &instances)?;
    known.learn(first, fresh, &instances, gpus, host)?;
    known.places(&asked).ok_or_else(|| Error::MigChanged { id: (*first).to_owned() })
}

/// Every MIG device of the machine and its UUID.
///
/// # Errors
/// Why `nvidia-smi` does not answer.
pub fn every(
    gpus: &[Gpu],
    host: &Host,
    config: &Config,
    version: &str,
) -> Result<Vec<(Place, String)>, Error> {
    let instances = instances(gpus, host)?;
    let mut known = Known::read(host, version, &instances)?;
    if instances.keys().any(|gpu| !known.gpus.contains_key(gpu)) {
        let fresh = Smi::locate(EVERY, config, version)?.ask_all(&instances)?;
        known.learn(EVERY, fresh, &instances, gpus, host)?;
    }
    let of_gpu = |(gpu, known): (String, KnownGpu)| {
        known.uuids.into_iter().filter_map(move |(uuid, (gi, ci))| {
            let uuid = format!("{PREFIX}{}", uuid.get(PREFIX.len()..)?);
            is_uuid(&uuid).then(|| (Place { gpu: gpu.clone(), gi, ci }, uuid))
        })
    };
    Ok(known.gpus.into_iter().flat_map(of_gpu).collect())
}

/// What `/proc` shows of MIG.
fn instances(gpus: &[Gpu], host: &Host) -> Result<Instances, Error> {
    let mut found = Instances::new();
    for gpu in gpus {
        let (Some(uuid), Some(minor)) = (&gpu.uuid, gpu.minor) else {
            continue;
        };
        for one in mig::instances(host, minor)? {
            if let Some(status) = host.proc.status(one.access(minor))? {
                let made = Made { ids: (one.gi, one.ci), at: status.changed };
                found.entry(uuid.to_ascii_lowercase()).or_default().push(made);
            }
        }
    }
    Ok(found)
}

impl Known {
    /// What was kept of GPUs whose instances are still these.
    fn read(host: &Host, driver: &str, instances: &Instances) -> Result<Self, Error> {
        let boot = host.proc.read_text(BOOT, 64)?.unwrap_or_default();
        let mut known = match boot.trim() {
            // A machine that does not say which boot this is gets nothing kept.
            "" => Self::default(),
            boot => Self::parse(host.cache.read(FILE).as_deref(), boot, driver),
        };
        known.gpus.retain(|gpu, known| instances.get(gpu) == Some(&known.instances));
        Ok(known)
    }

    /// Keeps what `nvidia-smi` said about these instances, if they are still there.
    fn learn(
        &mut self,
        id: &str,
        fresh: BTreeMap<String, KnownGpu>,
        instances: &Instances,
        gpus: &[Gpu],
        host: &Host,
    ) -> Result<(), Error> {
        if self::instances(gpus, host)? != *instances {
            return Err(Error::MigChanged { id: id.to_owned() });
        }
        self.gpus.extend(fresh);
        if !self.boot.is_empty()
            && let Ok(text) = serde_json::to_vec(self)
        {
            // Without it the next container asks again.
            let _ = host.cache.write(FILE, &text);
        }
        Ok(())
    }

    /// What was kept, or nothing where it is of another boot or driver, or no such file.
    pub(super) fn parse(bytes: Option<&[u8]>, boot: &str, driver: &str) -> Self {
        let known = bytes.and_then(|bytes| serde_json::from_slice::<Self>(bytes).ok());
        known.filter(|known| known.boot == boot && known.driver == driver).unwrap_or_else(|| Self {
            boot: boot.to_owned(),
            driver: driver.to_owned(),
            gpus: BTreeMap::new(),
        })
    }

    /// All of these, or `None`.
    pub(super) fn places(&self, asked: &[&str]) -> Option<Places> {
        let place = |id: &&str| {
            let id = id.to_ascii_lowercase();
            self.gpus.iter().find_map(|(gpu, known)| {
                let (gi, ci) = *known.uuids.get(&id)?;
                Some((id.clone(), Place { gpu: gpu.clone(), gi, ci }))
            })
        };
        asked.iter().map(place).collect()
    }
}

/// The program, ready to be asked.
struct Smi {
    tree: Tree,
    path: PathBuf,
    /// Where its libraries are, for a driver outside the loader's directories.
    libraries: String,
}

impl Smi {
    fn locate(id: &str, config: &Config, version: &str) -> Result<Self, Error> {
        let root = Tree::open(&config.driver_root)?;
        let driver = driver::locate(root, version, Capabilities::UTILITY, config)?;
        let Some((path, _)) = files::program(&driver.tree, PROGRAM, config)? else {
            return Err(Error::NoSmi { id: id.to_owned(), root: driver.tree.path().to_owned() });
        };
        let inside = driver.directories.iter().map(|one| Path::new("/").join(&one.relative));
        let libraries: Vec<String> = inside.map(|path| path.display().to_string()).collect();
        Ok(Self {
            path: Path::new("/").join(path),
            libraries: libraries.join(":"),
            tree: driver.tree,
        })
    }

    /// What is to be known of the GPUs of the MIG devices asked for.
    fn ask(
        &self,
        asked: &[&str],
        instances: &Instances,
    ) -> Result<BTreeMap<String, KnownGpu>, Error> {
        let listed = self.list(asked.first().copied().unwrap_or_default())?;
        let mut found = BTreeMap::new();
        for id in asked {
            let Some(one) = listed.iter().find(|one| one.uuid.eq_ignore_ascii_case(id)) else {
                let names: Vec<&str> = listed.iter().map(|one| one.uuid.as_str()).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let present = format!("{PROGRAM} lists {names}");
                return Err(Error::UnknownMigUuid { id: (*id).to_owned(), present });
            };
            if let Entry::Vacant(gpu) = found.entry(one.gpu.to_ascii_lowercase()) {
                gpu.insert(self.gpu(id, &one.gpu, &listed, instances)?);
            }
        }
        Ok(found)
    }

    /// What is to be known of every GPU with MIG devices.
    fn ask_all(&self, instances: &Instances) -> Result<BTreeMap<String, KnownGpu>, Error> {
        let listed = self.list(EVERY)?;
        let mut found = BTreeMap::new();
        for one in &listed {
            if let Entry::Vacant(gpu) = found.entry(one.gpu.to_ascii_lowercase()) {
                gpu.insert(self.gpu(EVERY, &one.gpu, &listed, instances)?);
            }
        }
        Ok(found)
    }

    fn list(&self, id: &str) -> Result<Vec<Listed>, Error> {
        let text = self.run(id, &["-L"])?;
        smi::listed(&text).ok_or_else(|| self.nonsense(id, "-L", &text))
    }

    /// What is to be known of one GPU.
    fn gpu(
        &self,
        id: &str,
        gpu: &str,
        listed: &[Listed],
        instances: &Instances,
    ) -> Result<KnownGpu, Error> {
        let changed = || Error::MigChanged { id: id.to_owned() };
        let existing = instances.get(&gpu.to_ascii_lowercase()).ok_or_else(changed)?;
        let own: Vec<&Listed> = listed.iter().filter(|known| known.gpu == gpu).collect();
        let uuids = self.uuids(id, gpu, &own, existing)?;
        let exists = |ids: &Ids| existing.iter().any(|one| one.ids == *ids);
        if uuids.len() != own.len() || !uuids.values().all(exists) {
            return Err(changed());
        }
        Ok(KnownGpu { instances: existing.clone(), uuids })
    }

    /// The instances of each MIG device that is listed for one GPU.
    fn uuids(
        &self,
        id: &str,
        gpu: &str,
        listed: &[&Listed],
        existing: &[Made],
    ) -> Result<BTreeMap<String, Ids>, Error> {
        if let ([one], [only]) = (listed, existing) {
            return Ok(BTreeMap::from([(one.uuid.to_ascii_lowercase(), only.ids)]));
        }
        let xml = self.run(id, &["-q", "-x", "-i", gpu])?;
        let Some(numbered) = smi::numbered(&xml, gpu) else {
            return Err(self.nonsense(id, "-q -x", &xml));
        };
        let place = |one: &&Listed| {
            let mut same = numbered.iter().filter(|known| known.index == one.index);
            match (same.next(), same.next()) {
                (Some(only), None) => Some((one.uuid.to_ascii_lowercase(), (only.gi, only.ci))),
                _ => None,
            }
        };
        Ok(listed.iter().filter_map(place).collect())
    }

    fn run(&self, id: &str, args: &[&str]) -> Result<String, Error> {
        let env = vec![
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("LC_ALL", "C".to_owned()),
            ("LD_LIBRARY_PATH", self.libraries.clone()),
        ];
        let program = Program { root: &self.tree, path: self.path.clone(), env };
        match program.output(args, LIMITS) {
            Ok(said) => Ok(String::from_utf8_lossy(&said).into_owned()),
            Err(reason) => Err(Error::Smi { id: id.to_owned(), reason: reason.to_string() }),
        }
    }

    fn nonsense(&self, id: &str, option: &str, text: &str) -> Error {
        let program = self.tree.at(&self.path);
        let said = quoted(text.as_bytes());
        let reason = format!("{} {option} lists no GPU: {said}", program.display());
        Error::Smi { id: id.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIG: [&str; 2] =
        ["MIG-ffda444c-c706-57c6-98c9-67c441a0b109", "MIG-fe9bc608-60f5-5479-8cc4-1827021d27a9"];

    #[test]
    fn only_whole_uuids_are_asked_for() {
        assert!(is_uuid(MIG[0]));
        for id in [
            "MIG-",
            "MIG-ffda444c",
            "MIG-GPU-00000002-0000-0000-0000-000000000000/1/0",
            "GPU-00000002-0000-0000-0000-000000000000",
            "MIG-ffda444c-c706-57c6-98c9-67c441a0b109/1",
            "ffda444c-c706-57c6-98c9-67c441a0b109",
        ] {
            assert!(!is_uuid(id), "{id}");
        }
    }

    #[test]
    fn what_was_kept_counts_for_its_boot_its_driver_and_its_instances() {
        let gpu = "gpu-0".to_owned();
        let uuids = BTreeMap::from([(MIG[0].to_ascii_lowercase(), (1, 0))]);
        let instances = vec![Made { ids: (1, 0), at: 7 }, Made { ids: (2, 0), at: 7 }];
        let known = KnownGpu { instances, uuids };
        let known = Known {
            boot: "b".to_owned(),
            driver: "535.1".to_owned(),
            gpus: BTreeMap::from([(gpu.clone(), known)]),
        };
        let bytes = serde_json::to_vec(&known).unwrap();
        let read = |boot, driver| Known::parse(Some(&bytes), boot, driver);
        assert_eq!(read("b", "535.1"), known);
        assert!(read("c", "535.1").gpus.is_empty() && read("b", "550.1").gpus.is_empty());
        let place = Place { gpu, gi: 1, ci: 0 };
        let places = known.places(&[MIG[0]]).unwrap();
        assert_eq!(places.values().collect::<Vec<_>>(), [&place]);
        assert_eq!(known.places(&[MIG[0], MIG[1]]), None);
        for garbage in [&b""[..], b"[]", b"{\"boot\": \"b\"}", b"\xff"] {
            assert!(Known::parse(Some(garbage), "b", "535.1").gpus.is_empty());
        }
    }
}
