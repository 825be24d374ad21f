//! AMD's GPU tracker: a file in which AMD's tools keep who has which GPU, and which GPUs one
//! container has for itself (`amd-ctk gpu-tracker`). It is off until an administrator turns it on.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde_json::Value;

use super::error::Error;
use super::gpus::Gpu;
use super::{Amd, config};
use crate::gpu::error::GpuError;
use crate::gpu::plan::Plan;
use crate::gpu::register::{Register, Registers};
use crate::unguessable;

/// The file.
pub const FILE: &str = "/var/log/gpu-tracker.json";

/// A list of all GPUs of a machine with the ids of all containers is never larger.
const MAX_SIZE: u64 = 4 << 20;

/// How long AMD's tools wait for the lock, and how often they try.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// A GPU that one container has for itself.
const EXCLUSIVE: u64 = 1;

/// What is wrong with the tracker.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// GPUs that other containers have for themselves. AMD's words, with the holders.
    #[error(
        "GPUs {gpus:?} are exclusive and already in use by {} ({}); \
         remove that container, or make them shared (amd-ctk gpu-tracker)",
        holders.join(", "), file.display()
    )]
    InUse {
        /// Their indexes.
        gpus: Vec<u32>,
        /// The containers.
        holders: Vec<String>,
        /// The file.
        file: PathBuf,
    },
    /// The GPUs are not those of which the file speaks.
    #[error(
        "GPU info mismatch: {} was written when the GPUs had other nodes; \
         please reset GPU Tracker (amd-ctk gpu-tracker reset)", file.display()
    )]
    Stale {
        /// The file.
        file: PathBuf,
    },
    /// Its content is not what AMD's tools write.
    #[error(
        "{} cannot be used: {reason}; write it anew (amd-ctk gpu-tracker init), or set gpu-tracker \
         = \"none\" in the [amd] table of gpurun's configuration file", file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another program holds the lock.
    #[error("{} is locked for ten seconds already; see who holds it (fuser)", lock.display())]
    Busy {
        /// The lock's file.
        lock: PathBuf,
    },
    /// A file cannot be opened or written.
    #[error(
        "cannot use {}: {source}; or set gpu-tracker = \"none\" in the [amd] table of gpurun's \
         configuration file", file.display()
    )]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Says in the plan that the container is to be entered, if the tracker is on.
///
/// # Errors
/// The file speaks of other GPUs, or cannot be read.
pub fn add(file: &Path, all: &[Gpu], granted: Vec<u32>, plan: &mut Plan) -> Result<(), Error> {
    let Some(list) = read(file)? else { return Ok(()) };
    if !is_enabled(&list) {
        return Ok(());
    }
    let saved = list["gpusInfo"].as_object();
    let is_same = |gpu: &Gpu| {
        let saved = list["gpusInfo"][gpu.index.to_string()]["DrmDevices"].as_array();
        let saved: Option<BTreeSet<&str>> =
            saved.map(|paths| paths.iter().filter_map(Value::as_str).collect());
        let paths: Vec<String> = gpu.nodes.iter().map(|name| format!("/dev/dri/{name}")).collect();
        saved == Some(paths.iter().map(String::as_str).collect())
    };
    if saved.map(serde_json::Map::len) != Some(all.len()) || !all.iter().all(is_same) {
        return Err(TrackerError::Stale { file: file.to_owned() }.into());
    }
    let vendor = config::SECTION.to_owned();
    plan.registers.push(Register { vendor, file: file.to_owned(), gpus: granted });
    Ok(())
}

impl Registers for Amd {
    fn enter(&self, register: &Register, container: &str) -> Result<(), GpuError> {
        Ok(enter(register, container).map_err(Error::from)?)
    }

    fn leave(&self, register: &Register, container: &str) -> Result<(), GpuError> {
        Ok(leave(register, container).map_err(Error::from)?)
    }
}

/// Enters the container, all of its GPUs or none. Entered twice it is there once.
///
/// # Errors
/// Another container has one of the GPUs for itself, or the file cannot be read or written.
pub fn enter(register: &Register, container: &str) -> Result<(), TrackerError> {
    let file = &register.file;
    if register.gpus.is_empty() {
        return Ok(());
    }
    let _lock = lock(file)?;
    let Some(mut list) = read(file)?.filter(is_enabled) else {
        return Ok(());
    };
    add_to(&mut list, register, container)?;
    write(file, &list)
}

/// Enters the container in the list.
pub(super) fn add_to(
    list: &mut Value,
    register: &Register,
    container: &str,
) -> Result<(), TrackerError> {
    let Register { file, gpus, .. } = register;
    let (mut taken, mut others) = (Vec::new(), BTreeSet::new());
    for gpu in gpus {
        let status = &list["gpusStatus"][gpu.to_string()];
        let holders = status["containerIds"].as_array().into_iter().flatten();
        let holders: Vec<&str> =
            holders.filter_map(Value::as_str).filter(|holder| *holder != container).collect();
        if status["accessibility"].as_u64() == Some(EXCLUSIVE) && !holders.is_empty() {
            taken.push(*gpu);
            others.extend(holders.into_iter().map(str::to_owned));
        }
    }
    if !taken.is_empty() {
        let holders = others.into_iter().collect();
        return Err(TrackerError::InUse { gpus: taken, holders, file: file.clone() });
    }
    for gpu in gpus {
        let damaged =
            || TrackerError::Damaged { file: file.clone(), reason: format!("it has no GPU {gpu}") };
        let status = list["gpusStatus"].get_mut(gpu.to_string()).and_then(Value::as_object_mut);
        let ids = status.ok_or_else(damaged)?.entry("containerIds").or_insert(Value::Null);
        if ids.is_null() {
            *ids = Value::Array(Vec::new());
        }
        let ids = ids.as_array_mut().ok_or_else(damaged)?;
        if ids.iter().all(|id| id != container) {
            ids.push(container.into());
        }
    }
    Ok(())
}

/// Strikes the container off, whether or not the tracker is on by now.
///
/// # Errors
/// The file cannot be read or written.
fn leave(register: &Register, container: &str) -> Result<(), TrackerError> {
    let file = &register.file;
    if !file.exists() {
        return Ok(());
    }
    let _lock = lock(file)?;
    let Some(mut list) = read(file)? else { return Ok(()) };
    if take_from(&mut list, container) { write(file, &list) } else { Ok(()) }
}

/// Strikes the container off the list, if it is there.
pub(super) fn take_from(list: &mut Value, container: &str) -> bool {
    let mut is_changed = false;
    let all = list.get_mut("gpusStatus").and_then(Value::as_object_mut);
    for status in all.into_iter().flat_map(|all| all.values_mut()) {
        if let Some(ids) = status.get_mut("containerIds").and_then(Value::as_array_mut) {
            let before = ids.len();
            ids.retain(|id| id != container);
            is_changed |= ids.len() != before;
        }
    }
    is_changed
}

fn is_enabled(list: &Value) -> bool {
    list["enabled"].as_bool() == Some(true)
}

/// `None`: there is no file.
fn read(file: &Path) -> Result<Option<Value>, TrackerError> {
    let failed = |source| TrackerError::File { file: file.to_owned(), source };
    let damaged = |reason| TrackerError::Damaged { file: file.to_owned(), reason };
    let opened = match open(file, OpenOptions::new().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    opened.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(damaged(format!("it is larger than {MAX_SIZE} bytes")));
    }
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(list) if list.is_object() => Ok(Some(list)),
        Ok(_) => Err(damaged("it is no JSON object".to_owned())),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// Replaces the file at once, as AMD's tools do. The new one is made under a name that nobody can
/// have taken before: what is written there by another name would be another's file.
fn write(file: &Path, list: &Value) -> Result<(), TrackerError> {
    let written = unguessable::part().and_then(|part| {
        let new = file.with_extension(format!("json.{part}"));
        let mut out = open(&new, OpenOptions::new().write(true).create_new(true).mode(0o644))?;
        let written = out
            .write_all(list.to_string().as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.sync_all())
            .and_then(|()| fs::rename(&new, file));
        written.inspect_err(|_| drop(fs::remove_file(&new)))
    });
    written.map_err(|source| TrackerError::File { file: file.to_owned(), source })
}

/// The lock that AMD's tools take; it goes when the file is closed.
fn lock(file: &Path) -> Result<File, TrackerError> {
    let path = file.with_extension("lock");
    let failed = |source| TrackerError::File { file: path.clone(), source };
    let lock = open(&path, OpenOptions::new().write(true).create(true).truncate(false).mode(0o644))
        .map_err(failed)?;
    let started = Instant::now();
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK | Errno::INTR) if started.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Err(TrackerError::Busy { lock: path }),
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

/// Opens a regular file, and no link to one; a FIFO must not keep the caller waiting.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;
    use serde_json::json;

    fn tracker(enabled: bool, accessibility: u64, holders: &[&str]) -> (Scratch, Register) {
        let files = Scratch::new();
        let list = json!({
            "enabled": enabled,
            "gpusStatus": {
                "0": {"uuid": "0x1", "accessibility": 0, "containerIds": null, "more": 1},
                "1": {"uuid": "0x2", "accessibility": accessibility, "containerIds": holders},
            },
            "gpusInfo": {}
        });
        files.write("gpu-tracker.json", list.to_string());
        let file = files.path().join("gpu-tracker.json");
        (files, Register { vendor: "amd".to_owned(), file, gpus: vec![0, 1] })
    }

    fn holders(register: &Register) -> [Value; 2] {
        let list = read(&register.file).unwrap().unwrap();
        assert_eq!(list["gpusStatus"]["0"]["more"], 1);
        ["0", "1"].map(|gpu| list["gpusStatus"][gpu]["containerIds"].clone())
    }

    #[test]
    fn a_container_is_entered_once_and_struck_off() {
        let (_files, register) = tracker(true, 0, &["other"]);
        for _ in 0..2 {
            enter(&register, "mine").unwrap();
            assert_eq!(holders(&register), [json!(["mine"]), json!(["other", "mine"])]);
        }
        for _ in 0..2 {
            leave(&register, "mine").unwrap();
            assert_eq!(holders(&register), [json!([]), json!(["other"])]);
        }
    }

    #[test]
    fn a_gpu_that_another_has_for_itself_is_refused_and_nothing_is_entered() {
        let (_files, register) = tracker(true, 1, &["other"]);
        let error = enter(&register, "mine").unwrap_err().to_string();
        assert!(
            error.starts_with("GPUs [1] are exclusive and already in use by other ("),
            "{error}"
        );
        assert_eq!(holders(&register), [Value::Null, json!(["other"])]);
        // Whoever is in the list already, entered by AMD's runtime around this one, is fine.
        enter(&register, "other").unwrap();
        leave(&register, "other").unwrap();
        enter(&register, "mine").unwrap();
        assert_eq!(holders(&register)[1], json!(["mine"]));
    }

    #[test]
    fn a_tracker_that_is_off_or_absent_is_left_alone() {
        let (_files, register) = tracker(false, 1, &["other"]);
        enter(&register, "mine").unwrap();
        assert_eq!(holders(&register), [Value::Null, json!(["other"])]);
        fs::remove_file(&register.file).unwrap();
        enter(&register, "mine").unwrap();
        leave(&register, "mine").unwrap();
        assert!(!register.file.exists());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let (files, register) = tracker(true, 0, &[]);
        for text in
            ["", "[]", "{\"enabled\": true}", "{\"enabled\": true, \"gpusStatus\": {\"0\": 3}}"]
        {
            files.write("gpu-tracker.json", text);
            let error = enter(&register, "mine").unwrap_err().to_string();
            assert!(error.contains("gpu-tracker.json cannot be used: "), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_no_regular_file_of_a_usual_size_is_refused_at_once() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let (files, register) = tracker(true, 0, &[]);
        let (file, lock) = (&register.file, files.path().join("gpu-tracker.lock"));
        let error = || enter(&register, "mine").unwrap_err().to_string();
        mkfifoat(CWD, &lock, Mode::RUSR).unwrap();
        assert!(error().contains("gpu-tracker.lock"), "{}", error());
        // With a reader it can be opened.
        let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&lock);
        assert!(error().contains("no regular file"), "{}", error());
        drop(reader);
        fs::remove_file(&lock).unwrap();
        fs::rename(file, files.path().join("list")).unwrap();
        files.link("list", "gpu-tracker.json");
        assert!(error().contains("gpu-tracker.json"), "{}", error());
        fs::remove_file(file).unwrap();
        mkfifoat(CWD, file, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(error().contains("it is no regular file"), "{}", error());
        let left = leave(&register, "mine").unwrap_err().to_string();
        assert!(left.contains("it is no regular file"), "{left}");
        fs::remove_file(file).unwrap();
        File::create(file).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert!(error().contains("larger than 4194304 bytes"), "{}", error());
    }

    #[test]
    fn what_is_already_at_the_name_of_the_new_file_is_not_written_to() {
        let (files, register) = tracker(true, 0, &[]);
        files.write("victim", "as it was");
        let old = files.path().join("gpu-tracker.json.tmp");
        fs::hard_link(files.path().join("victim"), &old).unwrap();
        enter(&register, "mine").unwrap();
        assert_eq!(fs::read_to_string(files.path().join("victim")).unwrap(), "as it was");
        let names = || fs::read_dir(files.path()).unwrap().count();
        let before = names();
        enter(&register, "yours").unwrap();
        assert_eq!(names(), before);
    }
}
