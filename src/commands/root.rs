//! Where the containers are remembered: `--root` and its default.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cli::Global;
use crate::container::store::Store;

/// The store of the containers.
///
/// # Errors
/// A `--root` that would be the root directory, and a default that cannot be made.
pub fn store(global: &Global) -> Result<Store> {
    if let Some(root) = &global.root {
        let root = std::path::absolute(root).context("cannot resolve --root")?;
        let root = clean(&root);
        if root == Path::new("/") {
            bail!("Option --root argument should not be set to /");
        }
        return Ok(Store::new(root));
    }
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match runtime_dir {
        Some(dir) if !nix::unistd::geteuid().is_root() => of_user(&PathBuf::from(dir)),
        _ => Ok(Store::new(PathBuf::from("/run/gpurun"))),
    }
}

/// Below `$XDG_RUNTIME_DIR`. The sticky bit keeps it from being cleaned up while it is in use
/// (XDG Base Directory Specification).
fn of_user(runtime_dir: &Path) -> Result<Store> {
    let root = runtime_dir.join("gpurun");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&root)
        .and_then(|()| std::fs::set_permissions(&root, Permissions::from_mode(0o1700)))
        .with_context(|| {
            format!(
                "cannot make {}: the path in $XDG_RUNTIME_DIR must be writable by the user",
                root.display()
            )
        })?;
    Ok(Store::new(root))
}

/// Without `.` and `..`, by name alone.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_by_name_alone() {
        for (path, expected) in
            [("/a/./b/../c", "/a/c"), ("/..", "/"), ("/a/..", "/"), ("//a//b/", "/a/b")]
        {
            assert_eq!(clean(Path::new(path)), Path::new(expected));
        }
    }
}
