//! Who has a GPU, over all containers of the machine, whatever `--root` they were made with.
//!
//! ```text
//! HOLDERS/NAME             a link to the state directory of a container with GPUs
//! HOLDERS/exclusive/NAME   the same, of one that has GPUs for itself alone
//! ```
//!
//! A link only says where to look: what its container has, and whether it lives, is read from the
//! state directory each time. A link that leads nowhere is removed when it is met. NAME is a hash
//! of the directory's path.
//!
//! Of two containers that cannot have GPUs at the same time one must notice. Those that want GPUs
//! for themselves alone enter themselves and look at all others under one lock (flock(2) on
//! HOLDERS). All others enter themselves first and then look whether there is a directory
//! `exclusive`, which costs a system call each; only if there is they take the lock as well, and
//! look who is in it. Whoever comes second sees the first.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Access, FlockOperation, access, flock};

use super::gpus::{self, Wanted};
use super::id::ContainerId;
use super::lock::{Lock, LockError, PATIENCE};
use super::process::Liveness;
use super::rootless;
use super::state::{Container, StateError};
use super::store::{Store, StoreError};
use super::traces::Traces;
use crate::cgroup::Cgroup;
use crate::cgroup::devices::DeviceRules;
use crate::gpu;
use crate::gpu::claim::{Claim, Machine};
use crate::log;

/// The directory of those who want GPUs for themselves alone.
const EXCLUSIVE: &str = "exclusive";

/// Where an ordinary user's containers are entered, below `XDG_RUNTIME_DIR`.
const OF_USER: &str = "gpurun-gpus";

/// How often a directory may be taken away before a link is in it.
const LINK_TRIES: u32 = 100;

/// The sticky bit keeps what is in `XDG_RUNTIME_DIR` from being cleaned away (see [`Store`]).
const MODE: u32 = 0o1711;

/// Where a container would be entered, to be remembered in its state before it is.
#[must_use]
pub fn place(holders: &Path, wanted: &Wanted, state: &Path) -> PathBuf {
    let directory = match wanted.alone {
        Some(_) => holders.join(EXCLUSIVE),
        None => holders.to_owned(),
    };
    directory.join(name_of(state))
}

/// Enters a container, whose state has been written, among the holders, unless another one stands
/// in its way.
///
/// # Errors
/// Who stands in the way and what to do; for a container that wants GPUs for itself alone also when
/// it cannot be entered.
pub fn enter(container: &mut Container, wanted: &Wanted) -> Result<()> {
    let Some(mut entry) = container.state.gpus.as_ref().and_then(|gpus| gpus.entry.clone()) else {
        return Ok(());
    };
    let mut holders = wanted.holders.clone();
    let mut made = make_directory(&holders, &entry, container.dir.path());
    if let (Err(error), Some(own)) = (&made, of_user())
        && is_refused(error)
        && own != holders
    {
        // An ordinary user's containers are entered among the user's own.
        entry = place(&own, wanted, container.dir.path());
        holders = own;
        remember(container, Some(entry.clone()))?;
        made = make_directory(&holders, &entry, container.dir.path());
    }
    if let Some((machine, claim)) = &wanted.alone {
        let failed =
            || format!("cannot enter the container as a holder of GPUs: {}", entry.display());
        made.with_context(failed)?;
        let _lock = lock(&holders)?;
        link(&entry, container.dir.path()).with_context(failed)?;
        let places = [&*holders, &holders.join(EXCLUSIVE)];
        return check(&places, container.dir.path(), machine, claim);
    }
    match made {
        Ok(()) => {}
        Err(error) if is_refused(&error) => return remember(container, None),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot enter a holder of GPUs: {}", entry.display()));
        }
    }
    let exclusive = holders.join(EXCLUSIVE);
    if access(&exclusive, Access::EXISTS).is_err() {
        return Ok(());
    }
    let machine = gpu::read_machine()?;
    let claim = claim_of(container, &machine);
    let _lock = lock(&holders)?;
    check(&[&exclusive], container.dir.path(), &machine, &claim)?;
    // Left by one that was killed.
    let _ = fs::remove_dir(&exclusive);
    Ok(())
}

/// Takes a container out from among the holders. `entry`: [`super::gpus::Gpus::entry`].
pub fn leave(entry: Option<&Path>) {
    let Some(entry) = entry else {
        return;
    };
    // One that stays leads nowhere, and is removed by whoever meets it.
    let _ = fs::remove_file(entry);
    if let Some(directory) = entry.parent().filter(|parent| parent.ends_with(EXCLUSIVE)) {
        // Succeeds for the last one.
        let _ = fs::remove_dir(directory);
    }
}

/// The containers that hold GPUs now, sorted by id: those that are entered here or among the
/// user's own, and those of `store`, which may be of a time before there were entries.
///
/// # Errors
/// The entries cannot be read.
pub fn all(holders: &Path, store: &Store) -> Result<Vec<Container>> {
    let mut found: Vec<Container> = Vec::new();
    let own = of_user();
    let mut directories = vec![holders.to_owned(), holders.join(EXCLUSIVE)];
    directories.extend(own.iter().flat_map(|own| [own.clone(), own.join(EXCLUSIVE)]));
    for directory in directories {
        let entries = match entries(&directory) {
            Err(error) if is_refused(&error) => Vec::new(),
            entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
        };
        found.extend(entries.iter().filter_map(|(_, state)| load(state).ok()?));
    }
    let ids = match store.ids() {
        Err(StoreError::Io { source, .. }) if is_refused(&source) => Vec::new(),
        ids => ids?,
    };
    found.extend(ids.iter().filter_map(|id| Container::load(store, id).ok()));
    found.sort_by(|a, b| (&a.state.id, a.dir.path()).cmp(&(&b.state.id, b.dir.path())));
    found.dedup_by(|a, b| a.dir.path() == b.dir.path());
    Ok(found.into_iter().filter_map(holding).collect())
}

/// What a container has.
#[must_use]
pub fn claim_of(container: &Container, machine: &Machine) -> Claim {
    let state = &container.state;
    let gpus = state.gpus.clone().unwrap_or_default();
    machine.claim(&gpus.grants, gpus::may_open(&state.devices), &gpus.exclusive)
}

/// Looks at everybody in these directories but the container with this state directory; to be
/// called with the lock.
fn check(places: &[&Path], own: &Path, machine: &Machine, claim: &Claim) -> Result<()> {
    for place in places {
        let entries = entries(place).with_context(|| format!("cannot read {}", place.display()))?;
        for (entry, state) in entries {
            if state == own {
                continue;
            }
            let other = match load(&state) {
                Ok(Some(other)) => other,
                Ok(None) => {
                    let _ = fs::remove_file(&entry);
                    continue;
                }
                Err(error) => {
                    log::warn(format!("not counted among the holders of GPUs: {error}"));
                    continue;
                }
            };
            stand_aside(other, machine, claim)?;
        }
    }
    Ok(())
}

/// Whether another container would stand in the way of one that is not going to be made, of the
/// bundle `own`. Nothing is changed, and who has no right to look sees nobody.
///
/// # Errors
/// Who stands in the way and what to do.
pub fn rehearse(wanted: &Wanted, rules: &DeviceRules, own: &Path) -> Result<()> {
    let exclusive = wanted.holders.join(EXCLUSIVE);
    let (places, machine, claim);
    let (machine, claim) = match &wanted.alone {
        Some((machine, claim)) => {
            places = vec![&wanted.holders, &exclusive];
            (machine, claim)
        }
        None if access(&exclusive, Access::EXISTS).is_err() => return Ok(()),
        None => {
            places = vec![&exclusive];
            machine = gpu::read_machine()?;
            let may_open = gpus::may_open(rules);
            claim = machine.claim(&wanted.gpus.grants, may_open, &wanted.gpus.exclusive);
            (&machine, &claim)
        }
    };
    for (_, state) in places.iter().flat_map(|place| entries(place).unwrap_or_default()) {
        match load(&state) {
            Ok(Some(other)) if other.state.bundle != own => stand_aside(other, machine, claim)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether a container's GPUs leave this claim alone.
fn stand_aside(other: Container, machine: &Machine, claim: &Claim) -> Result<()> {
    let Some(other) = holding(other) else { return Ok(()) };
    match claim.conflict(&claim_of(&other, machine)) {
        Some((unit, own)) => bail!(refusal(&machine.name(unit), own, &other)),
        None => Ok(()),
    }
}

fn refusal(gpu: &str, own: bool, holder: &Container) -> String {
    let id = &holder.state.id;
    let root = holder.dir.path().parent().unwrap_or(Path::new("/")).display();
    let doing = match holder.state.init {
        Some(init) => format!("process {}", init.pid),
        None => "being created".to_owned(),
    };
    let holder = format!("container {id} ({doing}, --root {root})");
    match own {
        true => format!(
            "cannot give GPU {gpu} exclusively: {holder} has it; wait until that one ends, delete \
             it, or ask for another GPU (`gpurun gpu list` shows who has which)"
        ),
        false => format!(
            "cannot give GPU {gpu}: {holder} has it exclusively; wait until that one ends, delete \
             it, or ask for another GPU (`gpurun gpu list` shows who has which)"
        ),
    }
}

/// The container, if it uses its GPUs now: one whose processes have ended does not, deleted or
/// not, nor one whose `create` was killed.
fn holding(container: Container) -> Option<Container> {
    let has_processes =
        |cgroup: &Cgroup| !cgroup.is_refused() && cgroup.pids().is_ok_and(|pids| !pids.is_empty());
    let container = match container.state.init {
        Some(_) => container,
        None => match Lock::try_take(&container.dir) {
            Err(LockError::Busy { .. }) => return Some(container),
            // Its `create` may have ended since its state was read.
            Ok(_lock) => load(container.dir.path()).ok()??,
            Err(_) => return None,
        },
    };
    let holds = match container.state.init {
        Some(init) if init.liveness() == Liveness::Alive => true,
        // Others may outlive the init.
        Some(_) => !container.state.own_pid_namespace && has_processes(&container.state.cgroup),
        None => {
            let traces = Traces::of_container(&container);
            traces.owns_cgroup(&container.dir) && has_processes(&traces.cgroup)
        }
    };
    holds.then_some(container)
}

/// The container with this state directory. `None`: there is none any more.
pub(super) fn load(state: &Path) -> Result<Option<Container>, StateError> {
    let id = state.file_name().and_then(|name| ContainerId::parse(name.to_str()?).ok());
    let (Some(root), Some(id)) = (state.parent(), id) else { return Ok(None) };
    match Container::load(&Store::new(root.to_owned()), &id) {
        Ok(container) => Ok(Some(container)),
        Err(StateError::Store(StoreError::Missing(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The links in a directory, with the state directories that they name.
fn entries(directory: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let links = entries.flatten().filter_map(|entry| {
        let path = entry.path();
        Some((path.clone(), fs::read_link(path).ok()?))
    });
    Ok(links.collect())
}

/// Makes what is missing of the directories, and the link itself where that needs no lock.
fn make_directory(holders: &Path, entry: &Path, state: &Path) -> io::Result<()> {
    let directory = entry.parent().unwrap_or(holders);
    if directory != holders {
        return make(holders).and_then(|()| make(directory));
    }
    match symlink(state, entry) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(holders)?;
            symlink(state, entry)
        }
        // Of a container that had the same directory before. Somebody with the lock may be about to
        // remove it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let _lock = lock(holders).map_err(io::Error::other)?;
            link(entry, state)
        }
        done => done,
    }
}

/// Makes the link, in place of one that is there. With the lock.
fn link(entry: &Path, state: &Path) -> io::Result<()> {
    match fs::remove_file(entry) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Whoever leaves last takes the directory away, without the lock.
    for _ in 0..LINK_TRIES {
        match symlink(state, entry) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                entry.parent().map_or(Ok(()), make)?;
            }
            done => return done,
        }
    }
    symlink(state, entry)
}

/// Makes a directory, or finds that the caller may write in the one that is there.
fn make(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(MODE).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match access(directory, Access::WRITE_OK) {
                // It was there.
                Err(rustix::io::Errno::NOENT) => Ok(()),
                writable => Ok(writable?),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(MODE).create(directory)
        }
        done => done,
    }
}

/// Whether the caller has no right to what was tried.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The user's own place. The machine's root has none, whatever the environment says that su(1) and
/// sudo(8) may have left: in another user's directory anything can stand.
fn of_user() -> Option<PathBuf> {
    if !rootless::is_confined() {
        return None;
    }
    let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    Some(PathBuf::from(directory).join(OF_USER))
}

fn remember(container: &mut Container, entry: Option<PathBuf>) -> Result<()> {
    if let Some(gpus) = &mut container.state.gpus {
        gpus.entry = entry;
    }
    Ok(container.save()?)
}

/// The lock on the directory, until the file is closed.
fn lock(holders: &Path) -> Result<File> {
    let failed = || format!("cannot lock {}", holders.display());
    let directory = File::open(holders).with_context(failed)?;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {}
            Err(rustix::io::Errno::WOULDBLOCK) => bail!(
                "{}: another gpurun has had it for {} s; see /proc/locks for the process",
                failed(),
                PATIENCE.as_secs()
            ),
            Err(errno) => return Err(errno).with_context(failed),
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// FNV-1a of 128 bits: the same from every version of gpurun.
pub(super) fn name_of(state: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = state.as_os_str().as_bytes().iter();
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::host::testing::Scratch;

    #[test]
    fn a_directory_that_its_last_holder_takes_away_is_made_again() {
        let scratch = Scratch::new();
        let holders = scratch.path();
        let directory = holders.join(EXCLUSIVE);
        let (entry, state) = (directory.join("name"), Path::new("/run/gpurun/a"));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = fs::remove_dir(&directory);
                    // Containers do not leave without a pause.
                    sleep(Duration::from_micros(20));
                }
            });
            let results: Vec<io::Result<()>> = (0..300)
                .map(|_| {
                    make_directory(holders, &entry, state)?;
                    link(&entry, state)?;
                    fs::remove_file(&entry)
                })
                .collect();
            done.store(true, Ordering::Relaxed);
            results.into_iter().collect::<io::Result<()>>().expect("linked");
        });
    }

    #[test]
    fn names_do_not_change_between_versions() {
        assert_eq!(name_of(Path::new("")), "6c62272e07bb014262b821756295c58d");
        assert_eq!(name_of(Path::new("a")), "d228cb696f1a8caf78912b704e4a8964");
    }
}
