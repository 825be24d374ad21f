//! gpurun's versions on a machine, each in a directory of its own that never changes, and the link
//! to the one that counts.
//!
//! ```text
//! DIR/versions/0.1.0/gpurun
//! DIR/versions/0.1.0-2/gpurun
//! DIR/current -> versions/0.1.0-2
//! ```
//!
//! Engines are given `DIR/current/gpurun`. The link is exchanged by a rename, so that there is a
//! complete program at that path at every moment, also after a crash.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::node::machine::{FileError, Machine};

const PROGRAM: &str = "gpurun";
const CURRENT: &str = "current";
const VERSIONS: &str = "versions";
/// A version that is being written. What an interrupted run left is written over.
const UNFINISHED: &str = ".unfinished";

/// What [`install`] found or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The name of the version's directory.
    pub version: String,
    /// Whether it counts since now.
    pub is_new: bool,
    /// Versions that were removed because nobody uses them.
    pub removed: Vec<String>,
}

/// Why a version could not be installed. The one before still counts.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// A file of the machine.
    #[error(transparent)]
    File(#[from] FileError),
    /// The program does not run where it was put.
    #[error(
        "{} does not run (choose a directory on a file system that is not mounted noexec): {source}",
        path.display()
    )]
    Unusable {
        /// The program's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The program's path in a directory of versions.
pub fn binary(dir: &Path) -> PathBuf {
    dir.join(CURRENT).join(PROGRAM)
}

/// Makes the program at `source` the version that counts.
///
/// # Errors
/// It cannot be written, or does not run there.
pub fn install(machine: &Machine, dir: &Path, source: &Path) -> Result<Installed, VersionError> {
    let place = machine.directory(dir)?;
    let versions = machine.directory(&dir.join(VERSIONS))?;
    let _lock = lock(&place)?;
    let version = match find(&versions, source)? {
        Some(version) => version,
        None => write(&versions, source)?,
    };
    let target = Path::new(VERSIONS).join(&version);
    let before = fs::read_link(place.join(CURRENT)).ok();
    let is_new = before.as_deref() != Some(&*target);
    if is_new {
        let next = place.join(".next");
        let _ = fs::remove_file(&next);
        symlink(&target, &next).map_err(failed("make", &next))?;
        fs::rename(&next, place.join(CURRENT)).map_err(failed("replace", &place.join(CURRENT)))?;
        sync(&place)?;
    }
    // The version before may be about to be executed; the next run finds out.
    let before =
        before.filter(|_| is_new).and_then(|link| link.file_name()?.to_str().map(String::from));
    let keep = [Some(version.clone()), before];
    let removed = sweep(machine, &versions, |name| keep.iter().flatten().any(|kept| kept == name))?;
    Ok(Installed { version, is_new, removed })
}

/// Whether the program at `source` is the version that counts.
///
/// # Errors
/// The files cannot be read.
pub fn is_current(machine: &Machine, dir: &Path, source: &Path) -> Result<bool, VersionError> {
    let Some(found) = machine.tree().find(binary(dir)).map_err(FileError::from)? else {
        return Ok(false);
    };
    Ok(same(&found.path, source).map_err(failed("read", &found.path))?)
}

/// Removes every version that nobody uses, and with the last one the directory.
///
/// # Errors
/// Something cannot be removed.
pub fn remove(machine: &Machine, dir: &Path) -> Result<Vec<String>, VersionError> {
    if !machine.has(dir) {
        return Ok(Vec::new());
    }
    let place = machine.directory(dir)?;
    let versions = machine.directory(&dir.join(VERSIONS))?;
    let lock = lock(&place)?;
    let removed = sweep(machine, &versions, |_| false)?;
    if fs::remove_dir(&versions).is_ok() {
        for name in [CURRENT, LOCK, UNHEARD] {
            let _ = fs::remove_file(place.join(name));
        }
        let _ = fs::remove_dir(&place);
    }
    drop(lock);
    Ok(removed)
}

const LOCK: &str = ".lock";

/// See [`super::Install`]; it goes with the directory.
pub(super) const UNHEARD: &str = ".engine-has-not-heard";

/// Two installers never work on one directory.
fn lock(place: &Path) -> Result<File, FileError> {
    let path = place.join(LOCK);
    let open = || {
        let file = File::options().create(true).append(true).mode(0o600).open(&path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    };
    open().map_err(failed("lock", &path))
}

/// The version that is this very program.
fn find(versions: &Path, source: &Path) -> Result<Option<String>, FileError> {
    for name in names(versions)? {
        let program = versions.join(&name).join(PROGRAM);
        if same(&program, source).map_err(failed("read", &program))? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Writes the program into a directory of its own, tries it there, and gives the directory its
/// name when all of it is on the disk.
fn write(versions: &Path, source: &Path) -> Result<String, VersionError> {
    let unfinished = versions.join(UNFINISHED);
    clear(&unfinished)?;
    fs::DirBuilder::new().mode(0o755).create(&unfinished).map_err(failed("make", &unfinished))?;
    let path = unfinished.join(PROGRAM);
    let copy = || {
        let mut from = File::open(source)?;
        let mut to = File::options().write(true).create_new(true).mode(0o755).open(&path)?;
        io::copy(&mut from, &mut to)?;
        rustix::fs::fchmod(&to, rustix::fs::Mode::from_raw_mode(0o755))?;
        to.sync_all()
    };
    copy().map_err(failed("write", &path))?;
    try_out(&path).map_err(|source| VersionError::Unusable { path: path.clone(), source })?;
    let taken = names(versions)?;
    let version = env!("CARGO_PKG_VERSION");
    let free = |name: &String| !taken.contains(name);
    let numbered = (2..u32::MAX).map(|number| format!("{version}-{number}"));
    let name = std::iter::once(version.to_owned()).chain(numbered).find(free);
    let name = name.unwrap_or_else(|| version.to_owned());
    fs::rename(&unfinished, versions.join(&name)).map_err(failed("name", &unfinished))?;
    sync(versions)?;
    Ok(name)
}

/// Runs the program once. A child of this process that was forked while the file was written has
/// it open until it executes something else.
fn try_out(path: &Path) -> io::Result<()> {
    let run = || {
        let output = Command::new(path).arg("--version").stdin(Stdio::null()).output()?;
        let failed = || io::Error::other(format!("--version: {}", output.status));
        output.status.success().then_some(()).ok_or_else(failed)
    };
    let is_busy = |it: &io::Result<()>| {
        it.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ExecutableFileBusy)
    };
    let mut result = run();
    for _ in 0..20 {
        if !is_busy(&result) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        result = run();
    }
    result
}

/// Removes the versions that are not to be kept and that no process runs.
fn sweep(
    machine: &Machine,
    versions: &Path,
    keep: impl Fn(&str) -> bool,
) -> Result<Vec<String>, FileError> {
    clear(&versions.join(UNFINISHED))?;
    let mut removed = Vec::new();
    for name in names(versions)?.into_iter().filter(|name| !keep(name)) {
        let path = versions.join(&name);
        if !is_running(machine, &path.join(PROGRAM)) {
            clear(&path)?;
            removed.push(name);
        }
    }
    Ok(removed)
}

fn clear(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether a process of the machine runs this program. By the file, because the process may have
/// another root directory.
fn is_running(machine: &Machine, program: &Path) -> bool {
    let Ok(wanted) = fs::metadata(program) else { return false };
    let proc = machine.shown(Path::new("/proc"));
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::metadata(process.path().join("exe")).ok())
        .any(|exe| (exe.dev(), exe.ino()) == (wanted.dev(), wanted.ino()))
}

/// The complete versions.
fn names(versions: &Path) -> Result<Vec<String>, FileError> {
    let list = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(versions)?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    };
    let mut names = list().map_err(failed("list", versions))?;
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

/// Whether two files have the same content. An absent one has none.
fn same(one: &Path, other: &Path) -> io::Result<bool> {
    let open = |path: &Path| match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let (Some(mut one), Some(mut other)) = (open(one)?, open(other)?) else { return Ok(false) };
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut here, mut there) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = one.read(&mut here)?;
        if count == 0 {
            return Ok(true);
        }
        other.read_exact(&mut there[..count])?;
        if here[..count] != there[..count] {
            return Ok(false);
        }
    }
}

/// Has the disk know of names in a directory before anything depends on them.
fn sync(directory: &Path) -> Result<(), FileError> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("write", directory))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError::Io { action, path, source }
}
