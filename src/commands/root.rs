//! Where the containers are remembered: `--root` and its default.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cli::Global;
use crate::container::rootless;
use crate::container::store::Store;

/// The store of the containers.
///
/// # Errors
/// A `--root` that would be the root directory.
pub fn store(global: &Global) -> Result<Store> {
    if let Some(root) = &global.root {
        let root = std::path::absolute(root).context("cannot resolve --root")?;
        let root = clean(&root);
        if root == Path::new("/") {
            bail!("Option --root argument should not be set to /");
        }
        return Ok(Store::new(root));
    }
    // As in runc, an ordinary user's containers are remembered in `XDG_RUNTIME_DIR`, and so are
    // those of the root of a user namespace, unless `USER` says that it plays a machine's root.
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let plays_root = || std::env::var_os("USER").is_some_and(|user| user == "root");
    let own = || rootless::is_ordinary_user() || rootless::in_user_namespace() && !plays_root();
    Ok(match runtime_dir {
        Some(dir) if own() => Store::in_runtime_dir(PathBuf::from(dir).join("gpurun")),
        _ => Store::new(PathBuf::from("/run/gpurun")),
    })
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
