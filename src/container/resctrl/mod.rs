//! `linux.intelRdt`: the container's group in the kernel's resctrl filesystem
//! (runtime-spec, config-linux.md, "IntelRdt";
//! [resctrl](https://docs.kernel.org/filesystems/resctrl.html)).
//!
//! A group is a directory. It is made with its schemata before the container's first process,
//! which the kernel then makes the parent of all others in it. Only what `create` has made is
//! removed by `delete`: a group that the spec names (`closID`) belongs to whoever set it up, and
//! one that has the container's name without being its own is not touched.
//!
//! Here is the group's life; `stats` is what the kernel counts for it.

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
pub mod stats;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use rustix::fs::{FsWord, statfs};
use serde::{Deserialize, Serialize};

/// Where resctrl is usually mounted.
const USUAL_PLACE: &str = "/sys/fs/resctrl";
/// `RDTGROUP_SUPER_MAGIC` of linux/magic.h.
const RESCTRL_MAGIC: FsWord = 0x0765_5821;

/// The group of one container, as the state file remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resctrl {
    /// The mounted filesystem.
    root: PathBuf,
    /// The directory of the group.
    group: PathBuf,
    /// Whether the group ends with the container.
    ours: bool,
    /// The directory of the container's monitoring group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitoring: Option<PathBuf>,
}

/// A group that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ResctrlError {
    /// No filesystem.
    #[error(
        "intelRdt is specified in config, but Intel RDT is not enabled: there is no resctrl \
         filesystem; mount it (mount -t resctrl resctrl /sys/fs/resctrl) where the CPU has it, \
         or remove linux.intelRdt"
    )]
    NotMounted,
    /// A resource that this machine does not control.
    #[error(
        "intelRdt.{field} is specified in config, but {feature} is not enabled on this machine"
    )]
    NoFeature {
        /// The field of the spec.
        field: &'static str,
        /// What it needs.
        feature: &'static str,
    },
    /// A value that no machine takes.
    #[error("invalid intelRdt.{field} {value:?}: {reason}")]
    Value {
        /// The field of the spec.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A named group that is not there.
    #[error(
        "intelRdt.closID {0:?}: there is no such group; create it, or give its schemata in \
         linux.intelRdt"
    )]
    NoGroup(String),
    /// A named group with other schemata.
    #[error(
        "intelRdt.closID {group:?} exists already and its schemata differ from {wanted:?}: leave \
         the schema out to use the group as it is"
    )]
    Mismatch {
        /// The group.
        group: String,
        /// What the spec asks for.
        wanted: String,
    },
    /// A group of the name that the container's own is to have.
    #[error(
        "the resctrl group {0:?} is there already and may be somebody else's: name it in \
         linux.intelRdt.closID to use it, give the container another id, or remove it (rmdir)"
    )]
    Exists(PathBuf),
    /// The kernel refuses.
    #[error("cannot {doing} {path:?}: {source}{status}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
        /// The kernel's own words, where it has any.
        status: String,
    },
    /// `update` of a container without a group.
    #[error("updating a non-existent Intel RDT configuration is not supported")]
    NotConfigured,
}

impl Resctrl {
    /// Decides on the group of the container `id`; nothing is made yet.
    ///
    /// # Errors
    /// A value that cannot be used, no filesystem, no such group.
    pub fn decide(id: &str, spec: &LinuxIntelRdt) -> Result<Self, ResctrlError> {
        check(spec)?;
        Self::below(mounted_at().ok_or(ResctrlError::NotMounted)?, id, spec)
    }

    fn below(root: PathBuf, id: &str, spec: &LinuxIntelRdt) -> Result<Self, ResctrlError> {
        require(&root, spec.l3_cache_schema().as_deref(), spec.mem_bw_schema().as_deref())?;
        let named = spec.clos_id().as_deref().filter(|name| !name.is_empty());
        let group = match named {
            Some("/") => root.clone(),
            Some(name) => root.join(name),
            None => root.join(id),
        };
        if let Some(name) = named.filter(|_| schemata(spec).is_empty() && !group.is_dir()) {
            return Err(ResctrlError::NoGroup(name.to_owned()));
        }
        let monitoring =
            spec.enable_monitoring().unwrap_or(false).then(|| group.join("mon_groups").join(id));
        Ok(Self { root, group, ours: named.is_none(), monitoring })
    }

    /// Refuses to take for the container's own what is there already: [`Resctrl::remove`] would take
    /// it away. The name is an id, which containers of other state roots may have as well.
    ///
    /// # Errors
    /// [`ResctrlError::Exists`].
    pub fn refuse_foreign(&self) -> Result<(), ResctrlError> {
        match self.own().find(|directory| directory.exists()) {
            Some(directory) => Err(ResctrlError::Exists(directory.clone())),
            None => Ok(()),
        }
    }

    /// What ends with the container, in the order in which it is removed.
    fn own(&self) -> impl Iterator<Item = &PathBuf> {
        self.monitoring.iter().chain(self.ours.then_some(&self.group))
    }

    /// Makes the group and writes its schemata.
    ///
    /// # Errors
    /// The kernel's, and a group that is there already with other ones.
    pub fn create(&self, spec: &LinuxIntelRdt) -> Result<(), ResctrlError> {
        let made = self.make(&self.group)?;
        let lines = schemata(spec);
        if !made {
            if self.ours {
                return Err(ResctrlError::Exists(self.group.clone()));
            }
            // The members of an existing group share it: theirs is not changed behind their back.
            self.compare(&legacy(spec))?;
        }
        if !lines.is_empty() {
            self.write(&self.group.join("schemata"), &lines.join("\n"))?;
        }
        match &self.monitoring {
            Some(monitoring) if !self.make(monitoring)? => {
                Err(ResctrlError::Exists(monitoring.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Puts process `pid`, and so all that it will start, into the group.
    ///
    /// # Errors
    /// The kernel's.
    pub fn join(&self, pid: i32) -> Result<(), ResctrlError> {
        for directory in [Some(&self.group), self.monitoring.as_ref()].into_iter().flatten() {
            self.write(&directory.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Other schemata for the group of a container that runs (`update`).
    ///
    /// # Errors
    /// The kernel's, a resource that this machine does not control.
    pub fn update(&self, l3: Option<&str>, memory: Option<&str>) -> Result<(), ResctrlError> {
        require(&self.root, l3, memory)?;
        let lines: Vec<&str> = [l3, memory].into_iter().flatten().collect();
        self.write(&self.group.join("schemata"), &lines.join("\n"))
    }

    /// Removes what [`Resctrl::create`] made; what is gone already is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self) -> Result<(), ResctrlError> {
        for directory in self.own() {
            match fs::remove_dir(directory) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                done => done.map_err(|err| self.failed("remove", directory, err))?,
            }
        }
        Ok(())
    }

    /// Whether the directory had to be made.
    fn make(&self, directory: &Path) -> Result<bool, ResctrlError> {
        match fs::create_dir(directory) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(err) => Err(self.failed("create", directory, err)),
        }
    }

    fn write(&self, file: &Path, text: &str) -> Result<(), ResctrlError> {
        fs::write(file, format!("{text}\n")).map_err(|err| self.failed("write", file, err))
    }

    fn compare(&self, wanted: &[&str]) -> Result<(), ResctrlError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let file = self.group.join("schemata");
        let text = fs::read_to_string(&file).map_err(|err| self.failed("read", &file, err))?;
        let has = allocations(text.lines());
        let differs = |(key, value): (&_, &_)| has.get(key) != Some(value);
        let lines = wanted.iter().flat_map(|schema| schema.lines());
        if allocations(lines).iter().any(differs) {
            return Err(ResctrlError::Mismatch {
                group: self.group.display().to_string(),
                wanted: wanted.join("\n"),
            });
        }
        Ok(())
    }

    /// The kernel explains its refusals in a file.
    fn failed(&self, doing: &'static str, path: &Path, source: io::Error) -> ResctrlError {
        let status = fs::read_to_string(self.root.join("info/last_cmd_status"));
        let status = match status.as_deref().map(str::trim) {
            Ok(text) if !text.is_empty() && text != "ok" => format!(" ({text})"),
            _ => String::new(),
        };
        ResctrlError::Io { doing, path: path.to_owned(), source, status }
    }
}

/// What is wrong with a spec whatever the machine is.
pub(super) fn check(spec: &LinuxIntelRdt) -> Result<(), ResctrlError> {
    let invalid = |field, value: &str, reason| {
        Err(ResctrlError::Value { field, value: value.to_owned(), reason })
    };
    if let Some(name) = spec.clos_id().as_deref().filter(|name| *name != "/")
        && (matches!(name, "." | "..") || name.contains(['/', '\0', '\n']))
    {
        return invalid("closID", name, "it must be the name of one directory, or \"/\"");
    }
    let lines = spec.schemata().iter().flatten().map(|line| ("schemata", line));
    for (field, text) in spec.mem_bw_schema().iter().map(|text| ("memBwSchema", text)).chain(lines)
    {
        if text.contains('\n') {
            return invalid(field, text, "it must be one line");
        }
    }
    match spec.mem_bw_schema().as_deref() {
        Some(text) if !text.is_empty() && !text.starts_with("MB:") => {
            invalid("memBwSchema", text, "it must start with MB:")
        }
        _ => Ok(()),
    }
}

/// Whether the machine controls what the schemas are about.
fn require(root: &Path, l3: Option<&str>, memory: Option<&str>) -> Result<(), ResctrlError> {
    let features = [
        ("l3CacheSchema", "Intel RDT/CAT", l3, ["L3", "L3CODE"]),
        ("memBwSchema", "Intel RDT/MBA", memory, ["MB", "MB"]),
    ];
    for (field, feature, schema, names) in features {
        let asked = schema.is_some_and(|schema| !schema.is_empty());
        if asked && !names.iter().any(|name| root.join("info").join(name).exists()) {
            return Err(ResctrlError::NoFeature { field, feature });
        }
    }
    Ok(())
}

/// `l3CacheSchema`, then `memBwSchema`.
fn legacy(spec: &LinuxIntelRdt) -> Vec<&str> {
    let both = [spec.l3_cache_schema().as_deref(), spec.mem_bw_schema().as_deref()];
    both.into_iter().flatten().filter(|schema| !schema.is_empty()).collect()
}

/// All lines, in the order in which they are to be written.
fn schemata(spec: &LinuxIntelRdt) -> Vec<&str> {
    let more = spec.schemata().iter().flatten().map(String::as_str);
    legacy(spec).into_iter().chain(more.filter(|line| !line.is_empty())).collect()
}

/// `L3:0=07f;1=F` as {(L3, 0): 7f, (L3, 1): f}: the kernel reads back in its own notation.
pub(super) fn allocations<'a>(
    lines: impl Iterator<Item = &'a str>,
) -> BTreeMap<(&'a str, &'a str), String> {
    let mut all = BTreeMap::new();
    for (resource, list) in lines.filter_map(|line| line.split_once(':')) {
        for (cache, value) in list.split(';').filter_map(|item| item.split_once('=')) {
            let value = value.trim();
            let digits = value.trim_start_matches('0').to_ascii_lowercase();
            let value = if digits.is_empty() { "0".to_owned() } else { digits };
            all.insert((resource.trim(), cache.trim()), value);
        }
    }
    all
}

/// The mount point of resctrl.
fn mounted_at() -> Option<PathBuf> {
    match statfs(USUAL_PLACE) {
        Ok(stat) if stat.f_type == RESCTRL_MAGIC => return Some(USUAL_PLACE.into()),
        // A kernel without resctrl has no such directory.
        Err(_) => return None,
        Ok(_) => {}
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        (filesystem.split(' ').next() == Some("resctrl")).then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests;
