//! Telling the container's dynamic loader about the plan's libraries.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::destination::Destinations;
use super::error::ApplyError;
use super::files::{attach_to, fit_for_a_file};
use super::generated::Generated;
use crate::gpu::loader::cache::{self, Entry};
use crate::gpu::loader::layout::Layout;
use crate::gpu::loader::{READ_LIMIT, conf, musl};
use crate::gpu::plan::{Abi, FileKind, Place, Plan};
use crate::init::journal::{Created, Journal};
use crate::init::parent::Parent;
use crate::init::root::Root;

/// glibc's cache.
pub(in crate::init) const CACHE: &str = "/etc/ld.so.cache";

/// Enters the plan's libraries in the loader's files of the image, after those of the image that
/// are `newer` and take their place.
///
/// They stay ordinary files of the rootfs, so that `ldconfig` and package managers can replace
/// them in the running container. Where they cannot be changed, a generated file is mounted over
/// them; where that is not possible either, the loader's built-in directories must do.
///
/// # Errors
/// [`ApplyError::LoaderReadOnly`], [`ApplyError::TooLarge`], [`ApplyError::Destination`].
pub(super) fn update(
    plan: &Plan,
    newer: &[Found],
    destinations: &Destinations,
    root: &Root,
    journal: &mut Journal,
    generated: &mut Generated,
) -> Result<(), ApplyError> {
    let libraries = Libraries::of(plan, newer, destinations);
    if libraries.entries.is_empty() {
        return Ok(());
    }
    let layout = destinations.layout;
    let mut files = LoaderFiles { root, journal, generated };
    let hidden: Vec<&Path> = libraries
        .dirs
        .iter()
        .map(PathBuf::as_path)
        .filter(|dir| !layout.is_built_in(dir))
        .collect();
    let must_be_told = |file: &Path| match hidden.first() {
        None => Ok(()),
        Some(dir) => {
            Err(ApplyError::LoaderReadOnly { dir: (*dir).to_owned(), file: file.to_owned() })
        }
    };

    if layout == Layout::Musl {
        let path = PathBuf::from(musl::path_file());
        let existing = files.read(&path)?;
        let dirs = libraries.dirs.iter().map(PathBuf::as_path);
        if let Some(text) = musl::extended(existing.as_deref(), dirs)
            && files.put(&path, &text, existing.is_none())? == Put::Impossible
        {
            must_be_told(&path)?;
        }
    }
    let cache = Path::new(CACHE);
    let existing = files.read_up_to(cache::READ_LIMIT, cache)?;
    let original = existing.as_deref().and_then(cache::original);
    if original.is_some_and(|file| file.len() as u64 > READ_LIMIT) {
        return Err(ApplyError::TooLarge { path: cache.to_owned() });
    }
    if layout == Layout::Musl && existing.is_none() {
        return Ok(());
    }
    let extended = cache::extend(existing.as_deref(), &libraries.entries);
    if existing.as_ref() != Some(&extended) {
        // It holds the earlier one, so it may go in any case.
        if files.put(cache, &extended, true)? == Put::Impossible {
            return must_be_told(cache);
        }
    }
    if !hidden.is_empty() && layout != Layout::Musl {
        let (path, text) = (Path::new(conf::DROP_IN), conf::drop_in(hidden.iter().copied()));
        if files.read(path)?.as_ref() != Some(&text) {
            files.put(path, &text, true)?;
        }
        let path = Path::new(conf::CONF);
        let existing = files.read(path)?;
        if let Some(text) = conf::including(existing.as_deref()) {
            files.put(path, &text, existing.is_none())?;
        }
    }
    Ok(())
}

/// What the loader has to know.
#[derive(Debug, Default)]
struct Libraries {
    entries: Vec<Entry>,
    /// The directories of the entries, without those below the image's library directory: what
    /// is there (`vdpau`) is opened by path.
    /// In the order in which the loader is to look into them.
    dirs: Vec<PathBuf>,
}

/// A library that is in the container already.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Where.
    pub path: PathBuf,
    /// Its `DT_SONAME`.
    pub soname: Option<String>,
    /// What it is for.
    pub abi: Abi,
}

impl Libraries {
    fn of(plan: &Plan, newer: &[Found], destinations: &Destinations) -> Self {
        let links: BTreeMap<OsString, &Path> = plan
            .links
            .iter()
            .map(|link| (key(&destinations.path(&link.destination)), link.target.as_path()))
            .collect();
        let mut found = Self::default();
        // Every path that is a library, by its own name or through links.
        let mut known: BTreeMap<OsString, u32> = BTreeMap::new();
        let mounted = plan.libraries.iter().map(|library| Found {
            path: library.path.clone(),
            soname: library.soname.clone(),
            abi: library.abi,
        });
        // The loader takes the first of several of one name.
        for library in newer.iter().cloned().chain(mounted) {
            let Some(flags) = cache::flags(library.abi) else {
                continue;
            };
            let path = &library.path;
            found.add_dir(path.parent());
            found.add(path.file_name(), path, flags);
            if let Some(soname) = library.soname.as_deref().map(OsStr::new)
                && Some(soname) != path.file_name()
                && !links.contains_key(&key(&path.with_file_name(soname)))
            {
                found.add(Some(soname), path, flags);
            }
            known.insert(key(path), flags);
        }
        for file in &plan.files {
            let FileKind::Library { soname, abi } = &file.kind else {
                continue;
            };
            let path = destinations.path(&file.destination);
            let is_in_a_directory_of_its_own = match &file.destination {
                Place::Library(_, name) => {
                    name.parent().is_some_and(|dir| !dir.as_os_str().is_empty())
                }
                Place::Path(_) => false,
            };
            if !is_in_a_directory_of_its_own {
                found.add_dir(path.parent());
            }
            let Some(flags) = cache::flags(*abi) else {
                continue;
            };
            found.add(path.file_name(), &path, flags);
            if let Some(soname) = soname.as_deref().map(OsStr::new)
                && Some(soname) != path.file_name()
                && Path::new(soname).file_name() == Some(soname)
                && !links.contains_key(&key(&path.with_file_name(soname)))
            {
                found.add(Some(soname), &path, flags);
            }
            known.insert(key(&path), flags);
        }
        // A link may point to a link, so look until nothing more is found.
        loop {
            let before = known.len();
            for (name, target) in &links {
                let path = Path::new(name);
                let target = path.parent().unwrap_or(Path::new("/")).join(target);
                if let Some(flags) = known.get(&key(&target)).copied()
                    && known.insert(name.clone(), flags).is_none()
                {
                    found.add(path.file_name(), path, flags);
                }
            }
            if known.len() == before {
                return found;
            }
        }
    }

    fn add_dir(&mut self, dir: Option<&Path>) {
        if let Some(dir) = dir.filter(|dir| self.dirs.iter().all(|known| known != dir)) {
            self.dirs.push(dir.to_owned());
        }
    }

    /// Adds a name that ldconfig would take: `lib*.so*`.
    fn add(&mut self, name: Option<&OsStr>, path: &Path, flags: u32) {
        let Some(name) = name.map(OsStr::as_bytes) else {
            return;
        };
        if name.starts_with(b"lib") && name.windows(3).any(|part| part == b".so") {
            let path = path.as_os_str().as_bytes().to_vec();
            self.entries.push(Entry { name: name.to_vec(), path, flags });
        }
    }
}

/// A path as a key: its components in one spelling, compared as bytes and not one by one.
fn key(path: &Path) -> OsString {
    path.components().collect::<PathBuf>().into_os_string()
}

/// Whether a file could be given its content.
#[derive(Debug, PartialEq, Eq)]
enum Put {
    Done,
    Impossible,
}

/// Reads and replaces the image's loader files.
struct LoaderFiles<'a> {
    root: &'a Root,
    journal: &'a mut Journal,
    generated: &'a mut Generated,
}

impl LoaderFiles<'_> {
    /// The content of a regular file of the image.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, ApplyError> {
        self.read_up_to(READ_LIMIT, path)
    }

    fn read_up_to(&self, limit: u64, path: &Path) -> Result<Option<Vec<u8>>, ApplyError> {
        let found = self.root.read(path, limit);
        found.or_else(|err| match Errno::from_io_error(&err) {
            // A link that leads nowhere is replaced.
            Some(Errno::LOOP) => Ok(None),
            Some(Errno::FBIG) => Err(ApplyError::TooLarge { path: path.to_owned() }),
            _ => Err(ApplyError::at("a loader file", path, err)),
        })
    }

    /// Gives the file at `path` this content. `is_ours`: `delete` may take the content away. Its
    /// directory is resolved once: what holds for it must hold for what is done in it.
    fn put(&mut self, path: &Path, content: &[u8], is_ours: bool) -> Result<Put, ApplyError> {
        let at = |err: io::Error| ApplyError::at("a loader file", path, err);
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(at(Errno::INVAL.into()));
        };
        let parent = match self.root.parent(dir, self.journal) {
            Err(err) if Errno::from_io_error(&err) == Some(Errno::ROFS) => {
                return Ok(Put::Impossible);
            }
            parent => parent.map_err(at)?,
        };
        if parent.is_in_image() {
            match self.replace(&parent, path, content, is_ours) {
                Ok(()) => return Ok(Put::Done),
                Err(err) => match Errno::from_io_error(&err) {
                    Some(Errno::ROFS | Errno::BUSY) => {}
                    Some(Errno::ISDIR) => {
                        return Err(ApplyError::InTheWay {
                            path: path.to_owned(),
                            found: "a directory",
                            wanted: "a loader file",
                        });
                    }
                    _ => return Err(at(err)),
                },
            }
        }
        // Not on a volume of the user: that would replace it on the host.
        let target = match parent.open(name) {
            Err(err) if Errno::from_io_error(&err) == Some(Errno::NOENT) => {
                return Ok(Put::Impossible);
            }
            target => fit_for_a_file(target.map_err(at)?, path, "a loader file")?,
        };
        let mount = self
            .generated
            .file(content, self.root)
            .map_err(|reason| ApplyError::Generate { path: path.to_owned(), reason })?;
        attach_to(&mount, &target).map_err(at)?;
        Ok(Put::Done)
    }

    /// Replaces the file in the rootfs itself.
    fn replace(
        &mut self,
        parent: &Parent,
        path: &Path,
        content: &[u8],
        is_ours: bool,
    ) -> io::Result<()> {
        if is_ours {
            self.journal.record(Created::File, path)?;
        }
        parent.replace_file(path.file_name().unwrap_or_default(), content, 0o644, self.journal)
    }
}
