//! The names of hooks that dockerd looks for in its `PATH` before it offers `--gpus`. gpurun under
//! such a name is never run: gpurun, as the runtime, does the hook's work.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::machine::{FileError, Machine};
use crate::gpu::toolkit;

/// What became of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is there now.
    Made(PathBuf),
    /// It is gone now.
    Removed(PathBuf),
    /// It was as it should be.
    Kept(PathBuf),
}

/// A name is taken.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file of the machine.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody's program.
    #[error("{} is not a link to gpurun: remove it, or what it belongs to, first", _0.display())]
    Taken(PathBuf),
}

/// Where dockerd looks on most machines.
const DIRECTORIES: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// Whether dockerd finds a program of such a name, whoever's it is.
#[must_use]
pub fn is_any(machine: &Machine) -> bool {
    toolkit::docker_hooks()
        .any(|name| DIRECTORIES.iter().any(|dir| machine.has_program(&Path::new(dir).join(name))))
}

/// Makes the links in `dir` to `binary`.
///
/// # Errors
/// Another program has the name; a link cannot be made.
pub fn make(machine: &Machine, dir: &Path, binary: &Path) -> Result<Vec<Link>, LinkError> {
    let place = machine.directory(dir)?;
    let target = match binary.parent() == Some(dir) {
        true => binary.file_name().map_or(binary, Path::new),
        false => binary,
    };
    each(dir, |name, path| {
        match machine.tree().link(&path).map_err(FileError::from)? {
            Some(text) if text == target => return Ok(Link::Kept(path)),
            Some(text) if is_ours(&text) => remove_file(&place.join(name))?,
            Some(_) => return Err(LinkError::Taken(path)),
            None if machine.has(&path) => return Err(LinkError::Taken(path)),
            None => {}
        }
        symlink(target, place.join(name)).map_err(failed("make", &place.join(name)))?;
        Ok(Link::Made(path))
    })
}

/// Removes the links to gpurun in `dir`.
///
/// # Errors
/// A link cannot be removed.
pub fn remove(machine: &Machine, dir: &Path) -> Result<Vec<Link>, LinkError> {
    each(dir, |_, path| match machine.tree().link(&path).map_err(FileError::from)? {
        Some(text) if is_ours(&text) => {
            remove_file(&machine.shown(&path))?;
            Ok(Link::Removed(path))
        }
        _ => Ok(Link::Kept(path)),
    })
}

fn each(
    dir: &Path,
    act: impl Fn(&str, PathBuf) -> Result<Link, LinkError>,
) -> Result<Vec<Link>, LinkError> {
    toolkit::docker_hooks().map(|name| act(name, dir.join(name))).collect()
}

fn is_ours(target: &Path) -> bool {
    target.file_name().is_some_and(|name| name == "gpurun")
}

fn remove_file(path: &Path) -> Result<(), FileError> {
    std::fs::remove_file(path).map_err(failed("remove", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Scratch;

    #[test]
    fn links_are_made_once_and_never_over_another_program() {
        let scratch = Scratch::new();
        let machine = Machine::open(scratch.path(), None).unwrap();
        let (dir, binary) = (Path::new("/usr/local/bin"), Path::new("/usr/local/bin/gpurun"));
        let first = make(&machine, dir, binary).unwrap();
        let [Link::Made(path), ..] = &first[..] else { panic!("{first:?}") };
        let inside = path.strip_prefix("/").unwrap();
        let text = std::fs::read_link(scratch.path().join(inside)).unwrap();
        assert_eq!(text, Path::new("gpurun"));
        assert_eq!(make(&machine, dir, binary).unwrap()[0], Link::Kept(path.clone()));
        assert_eq!(remove(&machine, dir).unwrap()[0], Link::Removed(path.clone()));
        assert_eq!(remove(&machine, dir).unwrap()[0], Link::Kept(path.clone()));
        scratch.program(inside.to_str().unwrap());
        assert!(matches!(make(&machine, dir, binary), Err(LinkError::Taken(_))));
    }
}
