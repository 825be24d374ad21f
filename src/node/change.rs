//! What will be written to the machine, as data, and the one place that writes it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::diff;
use super::machine::{FileError, Machine};

/// How the name of a backup ends. No engine reads files of such a name.
const BACKUP: &str = ".before-gpurun";

/// One file, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path on the machine.
    pub path: PathBuf,
    /// Its text now; `None`: there is no such file.
    pub before: Option<String>,
    /// Its text afterwards; `None`: it is removed.
    pub after: Option<String>,
    /// The text now without anything of gpurun's, which is kept as the backup.
    pub backup: Option<String>,
}

impl Change {
    /// Whether there is anything to do.
    pub fn is_needed(&self) -> bool {
        self.before != self.after
    }

    /// The change as a unified diff.
    pub fn diff(&self) -> String {
        let path = self.path.display().to_string();
        diff::unified(&path, self.before.as_deref(), self.after.as_deref())
    }

    /// Carries it out. The file is replaced in one step, with its mode and owner; one that is a
    /// link is replaced where the link leads.
    ///
    /// # Errors
    /// What cannot be written; the file is then as it was.
    pub fn apply(&self, machine: &Machine) -> Result<(), FileError> {
        if !self.is_needed() {
            return Ok(());
        }
        let place = machine.place(&self.path)?;
        if let Some(text) = &self.backup
            && fs::read_to_string(backup_of(&place)).ok().as_ref() != Some(text)
        {
            replace(&backup_of(&place), text, Some(&place))?;
        }
        match &self.after {
            Some(after) => replace(&place, after, None),
            None => fs::remove_file(&place).map_err(|source| FileError::Io {
                action: "remove",
                path: place.clone(),
                source,
            }),
        }
    }

    /// Removes the backup that holds nothing which the file does not hold again.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn drop_backup(&self, machine: &Machine) -> Result<(), FileError> {
        let place = machine.place(&self.path)?;
        let path = backup_of(&place);
        let kept = fs::read_to_string(&path).ok();
        if kept.is_none() || kept != self.after {
            return Ok(());
        }
        fs::remove_file(&path).map_err(|source| FileError::Io { action: "remove", path, source })
    }
}

/// What the file at `path` would say without gpurun, as far as the backup knows it.
///
/// # Errors
/// It cannot be read.
pub fn original(machine: &Machine, path: &Path) -> Result<Option<String>, FileError> {
    let place = machine.tree().find(path)?.map_or_else(|| machine.shown(path), |found| found.path);
    let backup = backup_of(&place);
    match fs::read_to_string(&backup) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(FileError::Io { action: "read", path: backup, source }),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Beside the file; beside the directory of a drop-in, whose every file may be read by its engine.
fn backup_of(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(BACKUP);
    let dir = place.parent().unwrap_or(Path::new("/"));
    let is_read = dir.extension().is_some_and(|ending| ending == "d");
    dir.parent().filter(|_| is_read).unwrap_or(dir).join(name)
}

/// Writes a file by renaming a complete one over it. Mode and owner are those of `like`, by
/// default the file's own.
fn replace(place: &Path, text: &str, like: Option<&Path>) -> Result<(), FileError> {
    let mut name = place.as_os_str().to_owned();
    name.push(format!(".gpurun-{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let write = || {
        // What an earlier process of this number left when it was killed.
        let _ = fs::remove_file(&temporary);
        let options = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
        let mut file = options.open(&temporary)?;
        match fs::metadata(like.unwrap_or(place)) {
            Ok(meta) => {
                fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
                file.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                file.set_permissions(fs::Permissions::from_mode(0o644))?;
            }
            Err(error) => return Err(error),
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, place)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        FileError::Io { action: "write", path: place.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    fn change(before: Option<&str>, after: Option<&str>) -> Change {
        Change {
            path: "/etc/engine/config".into(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
            backup: before.map(str::to_owned),
        }
    }

    #[test]
    fn a_linked_file_is_replaced_where_the_link_leads_with_its_mode() {
        let scratch = Scratch::new();
        scratch.write("data/real", "old\n");
        scratch.link("/data/real", "etc/engine/config");
        let real = scratch.path().join("data/real");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        let machine = Machine::open(scratch.path(), None).unwrap();
        change(Some("old\n"), Some("new\n")).apply(&machine).unwrap();
        assert!(scratch.path().join("etc/engine/config").is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new\n");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
        let path = Path::new("/etc/engine/config");
        assert_eq!(original(&machine, path).unwrap().as_deref(), Some("old\n"));
        let names = machine.tree().names("data").unwrap();
        assert_eq!(names, ["real", "real.before-gpurun"]);
        let back = change(Some("new\n"), Some("old\n"));
        back.drop_backup(&machine).unwrap();
        assert_eq!(machine.tree().names("data").unwrap(), ["real"]);
    }

    #[test]
    fn the_backup_of_a_drop_in_is_not_in_its_directory() {
        let path = Path::new("/etc/crio/crio.conf.d/10-site.conf");
        assert_eq!(backup_of(path), Path::new("/etc/crio/10-site.conf.before-gpurun"));
        let path = Path::new("/etc/docker/daemon.json");
        assert_eq!(backup_of(path), Path::new("/etc/docker/daemon.json.before-gpurun"));
    }

    #[test]
    fn missing_directories_are_made_and_links_to_nowhere_are_not_followed() {
        let scratch = Scratch::new();
        let machine = Machine::open(scratch.path(), None).unwrap();
        change(None, Some("new\n")).apply(&machine).unwrap();
        assert_eq!(fs::read_to_string(scratch.path().join("etc/engine/config")).unwrap(), "new\n");
        assert_eq!(machine.tree().names("etc/engine").unwrap(), ["config"]);
        scratch.link("/outside/nothing", "etc/engine/other");
        let lost = Change { path: "/etc/engine/other".into(), ..change(None, Some("x")) };
        let error = lost.apply(&machine).unwrap_err().to_string();
        assert!(error.ends_with("etc/engine/other is a link that leads nowhere"), "{error}");
    }
}
